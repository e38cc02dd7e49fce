"""Evaluation: scores with intervals, figures, the report page, comparisons.

Figures and pages are imported when they are first used: `evaluate` alone does not load matplotlib.
"""

from kmedclf.evaluation.metrics import evaluate, evaluate_predictions
from kmedclf.evaluation.report import Estimate, Report
from kmedclf.evaluation.summary import Summary, mean_std
from kmedclf.evaluation.thresholds import Threshold, choose_threshold

__all__ = [
    "Estimate",
    "Report",
    "Summary",
    "Threshold",
    "choose_threshold",
    "evaluate",
    "evaluate_predictions",
    "mean_std",
]
