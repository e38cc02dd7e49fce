"""The report page: one HTML file that needs nothing else, not even a network."""

from __future__ import annotations

import base64
import hashlib
import io
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kmedclf.evaluation import charts, charts_of_report
from kmedclf.evaluation.charts_of_comparison import accuracies
from kmedclf.evaluation.compare import Comparison, amount, p_text
from kmedclf.evaluation.label_report import MultilabelReport
from kmedclf.evaluation.pictures import thumbnail
from kmedclf.evaluation.report import SCORES, Estimate, Report
from kmedclf.evaluation.scoring import WEIGHTED
from kmedclf.evaluation.sharing import file_names, without_folders
from kmedclf.evaluation.style import height, quiet_about_glyphs, styled
from kmedclf.evaluation.wording import brackets, count, epochs_of
from kmedclf.files import write_text

SIDE = 64
"""Largest height and width of the images in a page, in pixels."""
RIGHT = 20
"""Right predictions shown of each class: those it was least sure of."""
TOP = 5
"""Probabilities shown of an image, besides that of its true class."""
SHADES = 50
"""Shades of the confusion matrix."""
EXPLAINED = 4
"""Right, and wrong, predictions that Grad-CAM explains."""


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
) -> None:
    """Write a report as one HTML file.

    Parameters
    ----------
    path : str or path-like
        The file, written beside first and then put in its place.
    report : Report or MultilabelReport
        What was found.
    X : sequence of n images, optional
        Images of the report, in its order: all mistakes and some right ones go into the page, at
        most 64 pixels wide, but not of a MultilabelReport. Without them the page shows numbers
        only.
    model : fitted estimator, optional
        The network itself: if it has convolutions, Grad-CAM shows what it looked at in some of X.
    history : mapping of str to sequence of float, optional
        ``history_`` of the estimator.
    best_epoch : int, optional
        ``best_epoch_`` of the estimator.
    parameters, environment : mapping, optional
        To be listed; nested ones as "outer.inner", and paths as names of files. Parameters as
        `kmedclf.recipes.parameters` gives them also say whether the best epoch's weights were kept.
    title : str, default="Report"
        Heading.
    note : str, default=""
        What to know of the images, below the heading.
    image_shape : sequence of int, optional
        Shape of flat images.

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
    lists = [("Parameters", _shown(parameters)), ("Environment", _shown(environment))]
    if isinstance(report, MultilabelReport):
        from kmedclf.evaluation.page_of_labels import values

        curves = training(history, best_epoch, parameters)
        shown = values(report, X, model, curves)
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
        figures=training(history, best_epoch, parameters)
        + _figures(report)
        + _explained(model, report, X),
        lists=lists,
        browser=None if X is None else _browser(report, X, image_shape),
        right=RIGHT,
        shades=SHADES,
    )


def render_comparison(path: str | os.PathLike[str], comparison: Comparison, title: str) -> None:
    """Write a comparison as one HTML file; `compare.write_comparison_page` is its public name."""
    render(path, "comparison.html", title=title, **comparison_values(comparison))


def comparison_values(comparison: Comparison) -> dict[str, Any]:
    """Give what the tables and the chart of a comparison need in a template."""
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


def render(path: str | os.PathLike[str], template: str, **values: Any) -> None:
    """Fill one of our templates and write it beside the path, then in its place."""
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["estimate"] = _split
    environment.globals.update(brackets=brackets, count=count, without_folders=without_folders)
    parts = {
        "style": _asset("page.css") + _shades(),
        "script": _asset("page.js"),
    }
    policy = _policy(**parts)
    safe = {name: Markup(text) for name, text in parts.items()}
    text = environment.get_template(template).render(
        page=template.removesuffix(".html"), policy=policy, **safe, **values
    )
    write_text(path, text)


def _asset(name: str) -> str:
    """Read a file of ours that goes into every page."""
    return (Path(__file__).parent / name).read_text(encoding="utf-8")


def _shades() -> str:
    """Write the style of the confusion matrix' cells: as rules, for a policy without attributes."""
    alphas = [0.06 + 0.69 * i / SHADES for i in range(SHADES + 1)]
    rules = [
        f".matrix .shade{i} {{ background: rgba(0,114,178,{a:.3f}); }}"
        for i, a in enumerate(alphas)
    ]
    return "\n".join(rules)


def _policy(style: str, script: str) -> Markup:
    """Write the policy of a page: our style and our script run, known by hash, and nothing else.

    An element or attribute that a name smuggled in would be another text, and have another hash.
    """
    style_hash, script_hash = (
        base64.b64encode(hashlib.sha256(one.encode()).digest()).decode("ascii")
        for one in (style, script)
    )
    return Markup(
        f"default-src 'none'; img-src data:; style-src 'sha256-{style_hash}'; "
        f"script-src 'sha256-{script_hash}'; base-uri 'none'; form-action 'none'"
    )


def _split(one: Estimate) -> tuple[str, str]:
    """Write an estimate as a number and the interval behind it, which may be empty."""
    number, _, interval = str(one).partition(" ")
    return number, interval


def flat(
    values: Mapping[str, Any] | None, prefix: str = "", text: Callable[[Any], str] = str
) -> list[tuple[str, str]]:
    """List nested values as pairs of a dotted name and text."""
    pairs: list[tuple[str, str]] = []
    for name, value in (values or {}).items():
        if isinstance(value, Mapping):
            pairs += flat(value, f"{prefix}{name}.", text)
        elif isinstance(value, list | tuple):
            pairs.append((f"{prefix}{name}", ", ".join(map(text, value))))
        else:
            pairs.append((f"{prefix}{name}", text(value)))
    return pairs


def _shown(values: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """List nested values as a page may show them: without the folders of this machine."""
    return flat(values, text=without_folders)


def _rates(report: Report) -> np.ndarray:
    """Compute each cell's share of its row (k, k); empty rows are 0."""
    support = report.confusion.sum(axis=1, keepdims=True)
    return report.confusion / np.maximum(support, 1)


def training(
    history: Mapping[str, Sequence[float]] | None,
    best_epoch: int | None,
    used: Mapping[str, Any] | None,
) -> list[tuple[str, str, str]]:
    """Draw the curves of a training, if there are any, and say what they are of."""
    if not history:
        return []
    known = {"early_stopping", "restore_best", "monitor"} <= (used or {}).keys()
    epochs = epochs_of(history, best_epoch, used if known else None)
    where = "training and validation" if epochs.validated else "training"
    words = f"Accuracy and loss in {where}, epoch by epoch: {epochs}."
    if not epochs.validated and any(name.startswith("val_") for name in history):
        words += " Validation is left out: it does not have all epochs."
    image = png(lambda fig: charts.history(history, best_epoch=best_epoch, fig=fig), (8, 3))
    return [("Training", words, image)]


def with_intervals(report: Report | MultilabelReport, words: str, score: str) -> str:
    """End a sentence about a chart of one score of each class."""
    several = any(getattr(one, score).low is not None for one in report.per_class)
    return f"{words}, with intervals." if several else f"{words}."


def _figures(report: Report) -> list[tuple[str, str, str]]:
    """Draw all figures of a report: title, description, PNG as base64."""
    figures = []
    wanted: list[tuple[str, str, Callable[..., Axes], tuple[float, float]]] = [
        (
            "Recall of each class",
            with_intervals(report, "Share of each class that was recognised", "recall"),
            charts_of_report.per_class, (6, height(len(report.classes), 0.28)),
        ),
        (
            "Rank of the true class", "How often the true class was the second, third, ... choice.",
            charts_of_report.ranks, (5, 3),
        ),
        (
            "Reliability", "How often predictions of each confidence are right.",
            charts_of_report.reliability, (4, 3.8),
        ),
    ]  # fmt: skip
    if report.scores["auc_macro"].value is not None:
        curves = charts_of_report.roc, charts_of_report.precision_recall
        of = curves_of(report, "class")
        wanted += [
            ("ROC", f"Sensitivity against false alarms, {of}.", curves[0], (6.2, 3.6)),
            ("Precision and recall", f"Precision against recall, {of}.", curves[1], (6.2, 3.6)),
        ]  # fmt: skip
    for title, words, draw, size in wanted:
        figures.append((title, words, png(partial(alone, draw, report), size)))
    return figures


def curves_of(report: Report | MultilabelReport, kind: str) -> str:
    """Say which classes, or labels, the curves of a report are of."""
    n = sum(one.auc.value is not None for one in report.per_class)
    weightless = ", every image counting once" if WEIGHTED in report.notes else ""
    if isinstance(report, Report) and len(report.classes) == 2:
        column = 1 if report.pos_label is None else report.classes.index(report.pos_label)
        return f"of {report.class_names[column]}{weightless}"
    coloured = f", the four of lowest AUC in colour and all {n} in grey" if n > 8 else ""
    return f"{kind} by {kind}{coloured}{weightless}"


def _explained(model: Any, report: Report, X: Any) -> list[tuple[str, str, str]]:
    """Draw Grad-CAM maps of a few mistakes and of a few right predictions, the surest of each."""
    from kmedclf.evaluation.gradcam import explanations, has_convolutions

    if model is None or X is None or not has_convolutions(model):
        return []
    sure = np.argsort(-report.proba[np.arange(report.n), report.pred_index], kind="stable")
    sure = sure[report.right[sure]]
    firsts = np.sort(np.unique(report.true_index[sure], return_index=True)[1])  # one of a class
    figures = []
    for kind, words, indices in (
        ("right", "the surest of each of these classes", sure[firsts][:EXPLAINED].tolist()),
        ("wrong", "the surest of all", report.surest_mistakes(EXPLAINED)),
    ):
        if indices:
            size = (1.5 * len(indices), 3.3 if kind == "right" else 4.95)
            draw = partial(explanations, model, report, X, indices=indices)
            image = png(lambda fig, draw=draw: draw(fig=fig), size)  # type: ignore[misc]
            words = f"{words.capitalize()}. {cam_words(model, 'class')}"
            figures.append((f"Grad-CAM, {kind} predictions", words, image))
    return figures


def cam_words(model: Any, kind: str) -> str:
    """Say what the maps of a network show, and what they do not."""
    from kmedclf.evaluation.gradcam import n_convolutions

    words = (
        f"Bright is where features lie that raise the score of the {kind}, each map up to its own "
        "maximum. This is no proof of what the prediction rests on."
    )
    if n_convolutions(model) > 1:
        return words
    return f"{words} Features of a single convolution are edges and areas, the background's too."


def alone(draw: Callable[..., Axes], report: Any, fig: Figure) -> None:
    """Draw a chart as the only one of a figure."""
    draw(report, ax=fig.add_subplot())


@styled
def png(draw: Callable[[Figure], Any], size: tuple[float, float]) -> str:
    """Draw into a figure of ``size`` inches; its PNG as base64."""
    fig = Figure(figsize=size, layout="constrained")
    draw(fig)
    buffer = io.BytesIO()
    with quiet_about_glyphs():
        fig.savefig(buffer, format="png", dpi=160, metadata={"Software": None})
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def _browser(
    report: Report, X: Any, image_shape: Sequence[int] | None
) -> dict[str, dict[str, list[Any]] | list[str]]:
    """Collect what the error browser shows.

    Returns
    -------
    dict
        "names" of the classes, and "cells": for each "true,predicted" a list of images, each as
        its number, its picture as base64 of WebP, pairs of class and probability, and the name of
        its file, if it is one.
    """
    files = file_names(X)
    sure = report.proba[np.arange(report.n), report.pred_index]
    cells: dict[str, list[Any]] = {}
    for i, j in zip(*np.nonzero(report.confusion), strict=True):
        inside = np.flatnonzero((report.true_index == i) & (report.pred_index == j))
        order = np.argsort(sure[inside], kind="stable")
        shown = inside[order][:RIGHT] if i == j else inside[order[::-1]]  # surest mistakes first
        cells[f"{i},{j}"] = [
            [*_entry(report, X, int(index), image_shape), *([files[index]] if files else [])]
            for index in shown
        ]
    return {"names": list(report.class_names), "cells": cells}


def _entry(report: Report, X: Any, index: int, image_shape: Sequence[int] | None) -> list[Any]:
    row = report.proba[index]
    top = np.argsort(-row, kind="stable")[:TOP].tolist()
    true = int(report.true_index[index])
    listed = top if true in top else [*top, true]
    buffer = io.BytesIO()
    thumbnail(X[index], SIDE, image_shape).save(buffer, "WEBP", quality=80, method=2)
    picture = base64.b64encode(buffer.getvalue()).decode("ascii")
    return [index, picture, [[j, round(float(row[j]), 3)] for j in listed]]
