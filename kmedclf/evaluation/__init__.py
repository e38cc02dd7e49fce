"""Evaluation: scores with confidence intervals, figures, comparisons.

Pages are imported on first use, so that `evaluate` alone does not load matplotlib.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kmedclf.evaluation.compare import Comparison, compare, write_comparison_page
from kmedclf.evaluation.evaluate import evaluate, evaluate_predictions
from kmedclf.evaluation.report import MultilabelReport, Report, Summary, mean_std
from kmedclf.evaluation.scores import Estimate
from kmedclf.evaluation.thresholds import Threshold, choose_threshold, choose_thresholds

if TYPE_CHECKING:
    from kmedclf.pages.report import write_page

__all__ = [
    "Comparison",
    "Estimate",
    "MultilabelReport",
    "Report",
    "Summary",
    "Threshold",
    "choose_threshold",
    "choose_thresholds",
    "compare",
    "evaluate",
    "evaluate_predictions",
    "mean_std",
    "write_comparison_page",
    "write_page",
]


def __getattr__(name: str) -> Any:
    """Import `write_page` on first use."""
    if name == "write_page":
        from kmedclf.pages.report import write_page

        return write_page
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
