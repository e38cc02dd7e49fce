"""All figures: charts take an Axes, panels a Figure or SubFigure, and return it."""

from kmedclf.evaluation.charts import class_counts, class_weights, folds, history
from kmedclf.evaluation.charts_of_comparison import accuracies
from kmedclf.evaluation.charts_of_report import (
    confusion_matrix,
    per_class,
    precision_recall,
    ranks,
    reliability,
    roc,
)
from kmedclf.evaluation.charts_of_search import effect
from kmedclf.evaluation.diagram import network
from kmedclf.evaluation.gradcam import explanations, gradcam, gradcam_map
from kmedclf.evaluation.panels import mistakes, samples

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
