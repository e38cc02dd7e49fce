"""Figures: charts take and return an Axes, panels a Figure or SubFigure."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kmedclf.evaluation.plots.diagram import network
    from kmedclf.evaluation.plots.grad_cam import explanations, gradcam, gradcam_map
    from kmedclf.evaluation.plots.images import mistakes, samples
    from kmedclf.evaluation.plots.report import (
        accuracies,
        confusion_matrix,
        per_class,
        precision_recall,
        ranks,
        reliability,
        roc,
    )
    from kmedclf.evaluation.plots.training import (
        class_counts,
        class_weights,
        effect,
        folds,
        history,
    )

_HOME = {
    "accuracies": "report",
    "class_counts": "training",
    "class_weights": "training",
    "confusion_matrix": "report",
    "effect": "training",
    "explanations": "grad_cam",
    "folds": "training",
    "gradcam": "grad_cam",
    "gradcam_map": "grad_cam",
    "history": "training",
    "mistakes": "images",
    "network": "diagram",
    "per_class": "report",
    "precision_recall": "report",
    "ranks": "report",
    "reliability": "report",
    "roc": "report",
    "samples": "images",
}

__all__ = [
    "accuracies",
    "class_counts",
    "class_weights",
    "confusion_matrix",
    "effect",
    "explanations",
    "folds",
    "gradcam",
    "gradcam_map",
    "history",
    "mistakes",
    "network",
    "per_class",
    "precision_recall",
    "ranks",
    "reliability",
    "roc",
    "samples",
]


def __getattr__(name: str) -> Any:
    """Import a figure on first use."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value
