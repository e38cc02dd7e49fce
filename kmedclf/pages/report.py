"""Page of a report, and of a comparison."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from markupsafe import Markup

from kmedclf.evaluation import plots
from kmedclf.evaluation.compare import Comparison, amount, p_text
from kmedclf.evaluation.plots import grad_cam, training
from kmedclf.evaluation.plots.report import PAGE
from kmedclf.evaluation.plots.style import height
from kmedclf.evaluation.report import MultilabelReport, Report
from kmedclf.evaluation.scores import SCORES
from kmedclf.evaluation.wording import epochs_of, verdict
from kmedclf.pages import SHADES, chart, csv_link, flat, render, spaced, without_folders
from kmedclf.pages.gallery import CORRECT_SHOWN, gallery
from kmedclf.utils.files import places_below

MOST_CELLS = 100_000
"""A table with more probabilities keeps only those of the true and the predicted class."""
CONFUSIONS = 8
"""Number of frequent mistakes listed beside the matrix."""

Chart = tuple[str, str, Markup]


def write_page(
    path: str | os.PathLike[str],
    report: Report | MultilabelReport,
    *,
    X: Any = None,
    model: Any = None,
    history: Mapping[str, Sequence[float]] | None = None,
    best_epoch: int | None = None,
    parameters: Mapping[str, Any] | None = None,
    chosen: Collection[str] | None = None,
    environment: Mapping[str, Any] | None = None,
    title: str = "Report",
    note: str = "",
    image_shape: Sequence[int] | None = None,
    tables: Sequence[tuple[str, Sequence[str], Sequence[Sequence[str]]]] = (),
    links: Mapping[str, str] | None = None,
    twins: int | None = None,
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
        predictions; for a MultilabelReport, the images with most wrong labels. Without X it shows
        numbers only.
    model : fitted estimator, optional
        The classifier. If it has convolutions and X is given, the pictures have Grad-CAM maps.
    history : mapping of str to sequence of float, optional
        ``history_`` of the estimator.
    best_epoch : int, optional
        ``best_epoch_`` of the estimator.
    parameters, environment : mapping, optional
        Listed in the page; nested names as "outer.inner", and paths as names of files. Parameters
        as returned by `kmedclf.recipes.parameters` also tell whether the weights of the best epoch
        were restored.
    chosen : collection of str, optional
        Names of the parameters that differ from their defaults, which come first; all by default.
    title : str, default="Report"
        Heading.
    note : str, default=""
        Text below the heading, about the images.
    image_shape : sequence of int, optional
        Shape of flat images.
    tables : sequence of (str, sequence of str, sequence of sequence of str), default=()
        Tables before the parameters: heading, names of the columns, and rows.
    links : mapping of str to str, optional
        Addresses of other pages by their words, such as a comparison.
    twins : int, optional
        Number of images that are also training images, if that was looked for.

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
    shown, listed = _in_words(report), _shown(parameters)
    first = [pair for pair in listed if chosen is None or pair[0].partition(".")[0] in chosen]
    values: dict[str, Any] = {
        "title": title,
        "note": note,
        "report": report,
        "remarks": verdict(shown, twins),
        "notes": shown.notes,
        "links": dict(links or {}),
        "headline": [(SCORES[name], report.scores[name]) for name in report.headline],
        "scores": [(SCORES[name], one) for name, one in report.scores.items()],
        "figures": training_values(history, best_epoch, parameters) + _figures(shown),
        "parameters": first,
        "defaults": [pair for pair in listed if pair not in first],
        "environment": _environment(environment),
        "tables": [table for table in tables if table[2]],
        "browser": None if X is None else gallery(report, X, model, image_shape),
        "cam_words": "",
        "downloads": _downloads(report, places_below(X) if X is not None else None),
    }
    if X is not None and model is not None and grad_cam.has_convolutions(model):
        values["cam_words"] = cam_words(model, "class" if report.exclusive else "label")
    if isinstance(report, MultilabelReport):
        render(path, "labels.html", **values)
        return
    render(
        path,
        "report.html",
        rates=_rates(report),
        confusions=_confusions(report),
        right=CORRECT_SHOWN,
        shades=SHADES,
        **values,
    )


def render_comparison(
    path: str | os.PathLike[str],
    comparison: Comparison,
    title: str,
    links: Mapping[str, str] | None = None,
) -> None:
    """Write a comparison as one HTML file; see `compare.write_comparison_page`."""
    names = list(comparison.models[0].scores)
    head = ["model", *(f"{name}{end}" for name in names for end in ("", "_low", "_high"))]
    rows = [
        [one.name, *("" if value is None else value for score in one.scores.values()
                     for value in score)]
        for one in comparison.models
    ]  # fmt: skip
    pairs = [
        [one.first, one.second, one.only_first, one.only_second, *one.difference, one.p, one.p_holm]
        for one in comparison.pairs
    ]
    columns = "first,second,only_first,only_second,difference,low,high,p,p_holm".split(",")
    downloads = [("Scores", "scores.csv", csv_link(head, rows))]
    if pairs:
        downloads.append(("Pairs of models", "pairs.csv", csv_link(columns, pairs)))
    values = comparison_values(comparison)
    links = dict(links or {})
    render(path, "comparison.html", title=title, links=links, downloads=downloads, **values)


def comparison_values(comparison: Comparison) -> dict[str, Any]:
    """Return the template values of the tables and the charts of a comparison."""
    rows = len(comparison.models) + len(comparison.published)
    has_interval = any(one.scores["accuracy"].low is not None for one in comparison.models)
    words = "Accuracy of each model" + (" with its interval" if has_interval else "")
    words += ", and published accuracies." if comparison.published else "."
    draw = partial(plots.accuracies, comparison)
    charts = [("Accuracy", words, chart(draw, height(rows), words))]
    if comparison.curves:
        words = "Sensitivity against false alarms, the mean of the ROC curves of all "
        words += "labels." if comparison.multilabel else "classes."
        high = 4.0 + 0.2 * min(len(comparison.curves), 8)
        charts.append(("ROC", words, chart(partial(plots.mean_roc, comparison), high, words)))
    return {
        "comparison": comparison,
        "amount": amount,
        "p_text": p_text,
        "titles": SCORES,
        "drawings": charts,
    }


NAMES = {
    "data.name": "Data set",
    "data.source": "Data, folder or file",
    "data.file": "File",
    "data.size": "Image size, pixels",
    "data.image_shape": "Image shape",
    "data.sha256": "Checksum of the data, SHA-256",
    "data.n.train": "Training images",
    "data.n.val": "Validation images",
    "data.n.test": "Test images",
    "data.groups": "Groups, such as patients",
    "n_params": "Weights",
    "seconds": "Training, seconds",
    "images_per_second": "Training images per second",
    "cpu_count": "Processors",
    "platform": "Platform",
    "processor": "Processor",
    "device": "Device",
    "temperature": "Temperature of the calibration",
    "versions.python": "Python",
    "versions.kmedclf": "kmedclf",
    "versions.tensorflow": "TensorFlow",
    "versions.keras": "Keras",
    "versions.scikit-learn": "scikit-learn",
    "versions.numpy": "NumPy",
    "arithmetic.onednn": "oneDNN",
    "arithmetic.instruction_set": "Instruction set",
    "arithmetic.threads": "Threads",
}
"""Words for the facts that a run records of its data and its training."""


def _shown(values: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """Flatten nested values for a page, without the folders of this machine."""
    pairs = flat(values, text=without_folders)
    # The page has the class names elsewhere
    return [(_words(k), v) for k, v in pairs if k != "data.class_names"]


def _words(name: str) -> str:
    """Return the words for a fact; of data that a run was scored on later, as of its own."""
    of = name.removeprefix("scored_on.")
    return NAMES.get(name, name) if of == name else f"Scored on: {NAMES.get(f'data.{of}', of)}"


def _environment(values: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    return [pair for pair in _shown(values) if pair[1] != "None"]


def _in_words(report: Any) -> Any:
    """Return a report whose classes have names in words, as tables have them."""
    per_class = tuple(one._replace(name=spaced(one.name)) for one in report.per_class)
    names = tuple(map(spaced, report.class_names))
    notes = report.notes
    for name in sorted(report.class_names, key=len, reverse=True):
        notes = tuple(note.replace(name, spaced(name)) for note in notes)
    return replace(report, class_names=names, per_class=per_class, notes=notes)


def _rates(report: Report) -> np.ndarray:
    """Compute each cell's share of its row (k, k); empty rows are 0."""
    support = report.confusion.sum(axis=1, keepdims=True)
    return report.confusion / np.maximum(support, 1)


def _confusions(report: Report) -> list[tuple[int, int, int, float]]:
    """List the most frequent mistakes: true class, predicted class, images, share of the class."""
    wrong, rates = report.confusion.copy(), _rates(report)
    np.fill_diagonal(wrong, 0)
    most = np.argsort(-wrong.ravel(), kind="stable")[:CONFUSIONS]
    pairs = (divmod(int(one), len(report.classes)) for one in most)
    return [(i, j, int(wrong[i, j]), float(rates[i, j])) for i, j in pairs if wrong[i, j]]


def training_values(
    history: Mapping[str, Sequence[float]] | None,
    best_epoch: int | None,
    used: Mapping[str, Any] | None,
) -> list[Chart]:
    """Draw the training curves, if there are any, and describe the epochs."""
    if not history:
        return []
    # Callers may pass any mapping, not only the parameters of an estimator
    known = {"early_stopping", "restore_best", "monitor"} <= (used or {}).keys()
    epochs = epochs_of(history, best_epoch, used if known else None)
    where = "training and validation" if epochs.validated else "training"
    left_out = not epochs.validated and any(name.startswith("val_") for name in history)
    charts = []
    for name in ("accuracy", "loss"):
        words = f"In {where}, epoch by epoch: {epochs}."
        if left_out:
            words += " Validation is left out: it does not have all epochs."
        draw = partial(training.learning_curve, history, name, best_epoch=best_epoch)
        title = f"Training: {name}"
        charts.append((title, words, chart(draw, 3, f"{title}. {words}")))
    return charts


def _figures(report: Report | MultilabelReport) -> list[Chart]:
    """Draw the charts of a report: title, description, SVG."""
    charts = []
    for one in PAGE[type(report)]:
        if one.is_shown(report):
            words = one.words(report)
            draw: Callable[..., Any] = partial(one.draw, report)
            drawn = chart(draw, one.height(report), f"{one.title}. {words}")
            charts.append((one.title, words, drawn))
    return charts


def cam_words(model: Any, kind: str) -> str:
    """Explain what Grad-CAM maps show, and what they do not show."""
    words = (
        f"Bright is where features lie that raise the score of the {kind}, each map up to its own "
        "maximum. This is no proof of what the prediction rests on."
    )
    # With one layer, the map is no more than a weighted sum of edge filters
    if _n_convolutions(model) > 1:
        return words
    return f"{words} Features of a single convolution are edges and areas, the background's too."


def _n_convolutions(model: Any) -> int:
    """Count the convolutions of a network, also inside nested layers."""
    import keras

    # Depthwise convolutions are no subclass of Conv2D
    layers = getattr(model, "network_", model)._flatten_layers(include_self=False)
    return sum(isinstance(layer, keras.layers.Conv2D | keras.layers.DepthwiseConv2D)
               for layer in layers)  # fmt: skip


def _downloads(report: Any, files: Sequence[str] | None) -> list[tuple[str, str, str]]:
    """Return the tables of a report as links: words, name of the file, data URI."""
    scores = [
        [name, *("" if value is None else value for value in one)]
        for name, one in report.scores.items()
    ]
    kind = "class" if report.exclusive else "label"
    fields = report.per_class[0]._fields
    estimates = [name for name in fields if isinstance(getattr(report.per_class[0], name), tuple)]
    head = [kind, "images", "predicted"]
    head += [f"{name}{end}" for name in estimates for end in ("", "_low", "_high")]
    rows = [
        [one.name, one.support, one.predicted]
        + ["" if value is None else value for name in estimates for value in getattr(one, name)]
        for one in report.per_class
    ]
    return [
        ("Predictions", "predictions.csv", _predictions(report, report.paths or files)),
        ("Scores", "scores.csv", csv_link(["score", "value", "low", "high"], scores)),
        (f"Scores of each {kind}", f"{kind}_scores.csv", csv_link(head, rows)),
    ]


def _predictions(report: Any, files: Sequence[str] | None) -> str:
    """Return a table of all predictions as a data URI: image, classes and probabilities."""
    names, (n, k) = report.class_names, report.proba.shape
    image = files or [str(i) for i in range(n)]
    if report.exclusive:
        true, pred = ([names[i] for i in of] for of in (report.true_index, report.pred_index))
    else:
        true, pred = (
            [" + ".join(name for name, has in zip(names, row, strict=True) if has) for row in y]
            for y in (report.y_true, report.y_pred)
        )
    head = ["path" if files else "image", "true", "predicted"]
    if n * k <= MOST_CELLS or not report.exclusive:
        head += [f"p {name}" for name in names]
        cells = [[f"{one:.3f}".lstrip("0") or "0" for one in row] for row in report.proba.tolist()]
    else:
        head += ["p of the true class", "p of the predicted class"]
        rows = np.arange(n)
        both = zip(report.proba[rows, report.true_index], report.proba[rows, report.pred_index],
                   strict=True)  # fmt: skip
        cells = [[f"{one:.3f}" for one in pair] for pair in both]
    return csv_link(
        head, ([*row, *more] for *row, more in zip(image, true, pred, cells, strict=True))
    )
