"""Page of a report."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from kmedclf.evaluation.compare import Comparison, amount, p_text
from kmedclf.evaluation.plots import grad_cam, training
from kmedclf.evaluation.plots.images import thumbnail
from kmedclf.evaluation.plots.report import PAGE, accuracies
from kmedclf.evaluation.plots.style import height
from kmedclf.evaluation.report import MultilabelReport, Report
from kmedclf.evaluation.scores import SCORES
from kmedclf.evaluation.wording import epochs_of
from kmedclf.pages import SHADES, SIDE, alone, file_names, flat, png, render, without_folders

CORRECT_SHOWN = 20
"""Number of right predictions shown per class, those of least confidence."""
TOP_K = 5
"""Number of probabilities shown per image, besides that of its true class."""
GRADCAM_IMAGES = 4
"""Number of right, and of wrong, predictions with a Grad-CAM map."""


def write_page(
    path: str | os.PathLike[str],
    report: Report | MultilabelReport,
    *,
    X: Any = None,
    model: Any = None,
    history: Mapping[str, Sequence[float]] | None = None,
    best_epoch: int | None = None,
    parameters: Mapping[str, Any] | None = None,
    environment: Mapping[str, Any] | None = None,
    title: str = "Report",
    note: str = "",
    image_shape: Sequence[int] | None = None,
    lists: Sequence[tuple[str, Sequence[tuple[str, str]]]] = (),
) -> None:
    """Write a report as one HTML file.

    Parameters
    ----------
    path : str or path-like
        The file, which is replaced atomically.
    report : Report or MultilabelReport
        The report.
    X : sequence of n images, optional
        Images in the order of the report. The page then shows all mistakes and some right
        predictions, at most 64 pixels wide; for a MultilabelReport, only Grad-CAM maps. Without X
        it shows numbers only.
    model : fitted estimator, optional
        The classifier. If it has convolutions and X is given, the page shows Grad-CAM maps of
        some images.
    history : mapping of str to sequence of float, optional
        ``history_`` of the estimator.
    best_epoch : int, optional
        ``best_epoch_`` of the estimator.
    parameters, environment : mapping, optional
        Listed in the page; nested names as "outer.inner", and paths as names of files. Parameters
        as returned by `kmedclf.recipes.parameters` also tell whether the weights of the best epoch
        were restored.
    title : str, default="Report"
        Heading.
    note : str, default=""
        Text below the heading, about the images.
    image_shape : sequence of int, optional
        Shape of flat images.
    lists : sequence of (str, sequence of (str, str)), default=()
        More to list, before the parameters: a heading, and pairs of a name and a text.

    Raises
    ------
    ValueError
        If X has not as many images as the report.
    """
    if X is not None and len(X) != report.n:
        raise ValueError(
            f"The 'X' parameter of write_page must hold the {report.n} images of the report. "
            f"Got {len(X)} instead."
        )
    lists = [*lists, ("Parameters", _shown(parameters)), ("Environment", _shown(environment))]
    if isinstance(report, MultilabelReport):
        curves = training_values(history, best_epoch, parameters)
        shown = label_values(report, X, model, curves)
        render(path, "labels.html", title=title, note=note, lists=lists, **shown)
        return
    render(
        path,
        "report.html",
        title=title,
        note=note,
        report=report,
        headline=[(SCORES[name], report.scores[name]) for name in report.headline],
        scores=[(SCORES[name], one) for name, one in report.scores.items()],
        rates=_rates(report),
        figures=training_values(history, best_epoch, parameters)
        + _figures(report)
        + _explained(model, report, X),
        lists=lists,
        browser=None if X is None else _browser(report, X, image_shape),
        right=CORRECT_SHOWN,
        shades=SHADES,
    )


def render_comparison(path: str | os.PathLike[str], comparison: Comparison, title: str) -> None:
    """Write a comparison as one HTML file; see `compare.write_comparison_page`."""
    render(path, "comparison.html", title=title, **comparison_values(comparison))


def comparison_values(comparison: Comparison) -> dict[str, Any]:
    """Return the template values of the tables and the chart of a comparison."""
    rows = len(comparison.models) + len(comparison.published)
    has_interval = any(one.scores["accuracy"].low is not None for one in comparison.models)
    return {
        "comparison": comparison,
        "amount": amount,
        "p_text": p_text,
        "titles": SCORES,
        "alt": "Accuracy of each model"
        + (" with its interval" if has_interval else "")
        + (", and published accuracies." if comparison.published else "."),
        "image": png(lambda fig: accuracies(comparison, ax=fig.add_subplot()), (7, height(rows))),
    }


def _shown(values: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """Flatten nested values for a page, without the folders of this machine."""
    return flat(values, text=without_folders)


def _rates(report: Report) -> np.ndarray:
    """Compute each cell's share of its row (k, k); empty rows are 0."""
    support = report.confusion.sum(axis=1, keepdims=True)
    return report.confusion / np.maximum(support, 1)


def training_values(
    history: Mapping[str, Sequence[float]] | None,
    best_epoch: int | None,
    used: Mapping[str, Any] | None,
) -> list[tuple[str, str, str]]:
    """Draw the training curves, if there are any, and describe the epochs."""
    if not history:
        return []
    # Callers may pass any mapping, not only the parameters of an estimator
    known = {"early_stopping", "restore_best", "monitor"} <= (used or {}).keys()
    epochs = epochs_of(history, best_epoch, used if known else None)
    where = "training and validation" if epochs.validated else "training"
    words = f"Accuracy and loss in {where}, epoch by epoch: {epochs}."
    if not epochs.validated and any(name.startswith("val_") for name in history):
        words += " Validation is left out: it does not have all epochs."
    image = png(lambda fig: training.history(history, best_epoch=best_epoch, fig=fig), (8, 3))
    return [("Training", words, image)]


def _figures(report: Report | MultilabelReport) -> list[tuple[str, str, str]]:
    """Draw the figures of a report: title, description, PNG as base64."""
    return [
        (one.title, one.words(report), png(partial(alone, one.draw, report), one.size(report)))
        for one in PAGE[type(report)]
        if one.is_shown(report)
    ]


def _explained(model: Any, report: Report, X: Any) -> list[tuple[str, str, str]]:
    """Draw Grad-CAM maps of some right and some wrong predictions, the most confident ones."""
    from kmedclf.evaluation.plots.grad_cam import explanations, has_convolutions

    if model is None or X is None or not has_convolutions(model):
        return []
    sure = np.argsort(-report.proba[np.arange(report.n), report.pred_index], kind="stable")
    sure = sure[report.right[sure]]
    firsts = np.sort(np.unique(report.true_index[sure], return_index=True)[1])  # one per class
    figures = []
    for kind, words, indices in (
        ("right", "the surest of each of these classes", sure[firsts][:GRADCAM_IMAGES].tolist()),
        ("wrong", "the surest of all", report.surest_mistakes(GRADCAM_IMAGES)),
    ):
        if indices:
            size = (1.5 * len(indices), 3.3 if kind == "right" else 4.95)
            draw = partial(explanations, model, report, X, indices=indices)
            image = png(lambda fig, draw=draw: draw(fig=fig), size)  # type: ignore[misc]
            words = f"{words.capitalize()}. {cam_words(model, 'class')}"
            figures.append((f"Grad-CAM, {kind} predictions", words, image))
    return figures


def cam_words(model: Any, kind: str) -> str:
    """Explain what Grad-CAM maps show, and what they do not show."""
    from kmedclf.evaluation.plots.grad_cam import n_convolutions

    words = (
        f"Bright is where features lie that raise the score of the {kind}, each map up to its own "
        "maximum. This is no proof of what the prediction rests on."
    )
    # With one layer, the map is no more than a weighted sum of edge filters
    if n_convolutions(model) > 1:
        return words
    return f"{words} Features of a single convolution are edges and areas, the background's too."


def _browser(
    report: Report, X: Any, image_shape: Sequence[int] | None
) -> dict[str, dict[str, list[Any]] | list[str]]:
    """Collect the data of the error browser: the names of the classes, and the images of each cell.

    Keys of "cells" are "true,predicted". An image is its number, its WebP picture as base64, pairs
    of class and probability, and its file name if it has one.
    """
    files = file_names(X)
    sure = report.proba[np.arange(report.n), report.pred_index]
    cells: dict[str, list[Any]] = {}
    for i, j in zip(*np.nonzero(report.confusion), strict=True):
        inside = np.flatnonzero((report.true_index == i) & (report.pred_index == j))
        order = np.argsort(sure[inside], kind="stable")
        # Show what needs a look first: doubtful right predictions, confident mistakes
        shown = inside[order][:CORRECT_SHOWN] if i == j else inside[order[::-1]]
        cells[f"{i},{j}"] = [
            [*_entry(report, X, int(index), image_shape), *([files[index]] if files else [])]
            for index in shown
        ]
    return {"names": list(report.class_names), "cells": cells}


def _entry(report: Report, X: Any, index: int, image_shape: Sequence[int] | None) -> list[Any]:
    """Return the number, the picture and the largest probabilities of an image."""
    row = report.proba[index]
    top = np.argsort(-row, kind="stable")[:TOP_K].tolist()
    true = int(report.true_index[index])
    listed = top if true in top else [*top, true]
    buffer = io.BytesIO()
    thumbnail(X[index], SIDE, image_shape).save(buffer, "WEBP", quality=80, method=2)
    picture = base64.b64encode(buffer.getvalue()).decode("ascii")
    return [index, picture, [[j, round(float(row[j]), 3)] for j in listed]]


def label_values(
    report: MultilabelReport,
    X: Any,
    model: Any,
    curves: list[tuple[str, str, str]],
) -> dict[str, Any]:
    """Return the values of the template ``labels.html`` besides title and lists.

    ``curves`` are figures of the training: title, description, PNG as base64.
    """
    return {
        "report": report,
        "headline": [(SCORES[name], report.scores[name]) for name in report.headline],
        "scores": [(SCORES[name], one) for name, one in report.scores.items()],
        "figures": curves + _figures(report) + _seen_of_label(model, report, X),
    }


def _seen_of_label(model: Any, report: MultilabelReport, X: Any) -> list[tuple[str, str, str]]:
    """Draw Grad-CAM maps of the most probable labels, each in its most probable image."""
    if model is None or X is None or not grad_cam.has_convolutions(model):
        return []
    probable = report.proba.max(axis=0)
    labels = np.argsort(-probable, kind="stable")[:GRADCAM_IMAGES].tolist()
    rows = report.proba.argmax(axis=0)[labels].tolist()
    draw = partial(grad_cam.explained_labels, model, report, X, labels=labels, indices=rows)
    image = png(lambda fig: draw(fig=fig), (1.7 * len(labels), 3.5))
    words = f"The image where each of these is most probable. {cam_words(model, 'label')}"
    return [("Grad-CAM", words, image)]
