"""What the report page shows where images may have several labels."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from kmedclf.evaluation import charts_of_report, gradcam, page
from kmedclf.evaluation.label_report import MultilabelReport
from kmedclf.evaluation.report import SCORES
from kmedclf.evaluation.style import height


def values(
    report: MultilabelReport,
    X: Any,
    model: Any,
    curves: list[tuple[str, str, str]],
) -> dict[str, Any]:
    """Give what the template ``labels.html`` needs besides title and lists.

    Parameters
    ----------
    report : MultilabelReport
        What was found.
    X, model
        As of `kmedclf.evaluation.write_page`.
    curves : list of (title, description, PNG)
        Of the training.
    """
    return {
        "report": report,
        "headline": [(SCORES[name], report.scores[name]) for name in report.headline],
        "scores": [(SCORES[name], one) for name, one in report.scores.items()],
        "figures": curves + _figures(report) + _seen(model, report, X),
    }


def _figures(report: MultilabelReport) -> list[tuple[str, str, str]]:
    """Draw all figures: title, description, PNG as base64."""
    tall = (6.0, height(len(report.classes), 0.28))
    auc = partial(charts_of_report.per_class, score="auc")
    wanted: list[tuple[str, str, Any, tuple[float, float]]] = [
        ("AUC of each label",
         page.with_intervals(report, "How well each label is told from its absence", "auc"), auc,
         tall),
        ("Sensitivity of each label",
         page.with_intervals(report, "Share of the images with a label that were found", "recall"),
         charts_of_report.per_class, tall),
    ]  # fmt: skip
    if report.scores["auc_macro"].value is not None:
        curves = charts_of_report.roc, charts_of_report.precision_recall
        of = page.curves_of(report, "label")
        wanted += [
            ("ROC", f"Sensitivity against false alarms, {of}.", curves[0], (6.2, 3.6)),
            ("Precision and recall", f"Precision against recall, {of}.", curves[1], (6.2, 3.6)),
        ]  # fmt: skip
    return [
        (title, words, page.png(partial(page.alone, draw, report), size))
        for title, words, draw, size in wanted
    ]


def _seen(model: Any, report: MultilabelReport, X: Any) -> list[tuple[str, str, str]]:
    """Draw Grad-CAM maps of the image that has each of some labels most probably."""
    if model is None or X is None or not gradcam.has_convolutions(model):
        return []
    probable = report.proba.max(axis=0)
    labels = np.argsort(-probable, kind="stable")[: page.EXPLAINED].tolist()
    rows = report.proba.argmax(axis=0)[labels].tolist()
    draw = partial(gradcam.explained_labels, model, report, X, labels=labels, indices=rows)
    image = page.png(lambda fig: draw(fig=fig), (1.7 * len(labels), 3.5))
    words = f"The image where each of these is most probable. {page.cam_words(model, 'label')}"
    return [("Grad-CAM", words, image)]
