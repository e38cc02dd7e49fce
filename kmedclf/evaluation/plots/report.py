"""Charts of a report or a comparison."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter
from sklearn.metrics import average_precision_score

from kmedclf.evaluation.compare import GRID, Comparison
from kmedclf.evaluation.plots.style import (
    BLUE,
    COLOURS,
    GREY,
    SKY,
    VERMILION,
    axes,
    height,
    rows,
    shorten,
    styled,
    ticked,
)
from kmedclf.evaluation.report import FEW, MultilabelReport, Report
from kmedclf.evaluation.scores import WEIGHTED
from kmedclf.evaluation.wording import count, percent

Draw = TypeVar("Draw", bound=Callable[..., Axes])
EITHER = (Report, MultilabelReport)


@dataclass(frozen=True)
class PageFigure:
    """A chart as the page of a report shows it."""

    title: str
    words: Callable[[Any], str]  # a sentence about the chart of a report
    height: Callable[[Any], float]  # in inches; all charts of a page have one width
    draw: Callable[..., Axes]
    is_shown: Callable[[Any], bool]


PAGE: dict[type, list[PageFigure]] = {kind: [] for kind in EITHER}
"""The charts on the page of each kind of report, in their order."""


def figure(
    title: str,
    words: str | Callable[[Any], str],
    high: float | Callable[[Any], float],
    of: Sequence[type] = (Report,),
    is_shown: Callable[[Any], bool] = lambda report: True,
    **options: Any,
) -> Callable[[Draw], Draw]:
    """Put a chart, drawn with ``options``, on the pages of these kinds of reports."""

    def register(draw: Draw) -> Draw:
        described = words if callable(words) else lambda report: words
        measured = high if callable(high) else lambda report: high
        entry = PageFigure(title, described, measured, partial(draw, **options), is_shown)
        for kind in of:
            PAGE[kind].append(entry)
        return draw

    return register


def _rows_high(report: Report | MultilabelReport) -> float:
    return height(len(report.classes), 0.28)


def _square_high(report: Report | MultilabelReport) -> float:
    """Return the height of a square chart above a legend of the classes."""
    n = min(sum(one.auc.value is not None for one in report.per_class), 8)
    return 4.0 + 0.2 * (4 if n > 8 else n)


def _with_intervals(words: str, score: str) -> Callable[[Any], str]:
    """End a sentence about one score per class; the report knows if there are intervals."""

    def sentence(report: Report | MultilabelReport) -> str:
        has_intervals = any(getattr(one, score).low is not None for one in report.per_class)
        return f"{words}, with intervals." if has_intervals else f"{words}."

    return sentence


def _of_curves(words: str) -> Callable[[Any], str]:
    """End a sentence with the classes, or labels, that have a curve."""

    def sentence(report: Report | MultilabelReport) -> str:
        n = sum(one.auc.value is not None for one in report.per_class)
        # Curves ignore sample weights, unlike the scores beside them
        weightless = ", every image counting once" if WEIGHTED in report.notes else ""
        if isinstance(report, Report) and len(report.classes) == 2:
            column = 1 if report.pos_label is None else report.classes.index(report.pos_label)
            return f"{words}, of {report.class_names[column]}{weightless}."
        coloured = f", the four of lowest AUC in colour and all {n} in grey" if n > 8 else ""
        kind = "class" if isinstance(report, Report) else "label"
        return f"{words}, {kind} by {kind}{coloured}{weightless}."

    return sentence


def _has_curves(report: Report | MultilabelReport) -> bool:
    return report.scores["auc_macro"].value is not None


@styled
def confusion_matrix(report: Report, *, ax: Axes | None = None) -> Axes:
    """Draw the confusion matrix: counts of images, with colours and shares by row.

    Parameters
    ----------
    report : Report
        The report.
    ax : Axes, optional
        Where to draw; a new figure by default.

    Returns
    -------
    Axes
        The chart; without numbers if there are more than 20 classes.
    """
    k = len(report.classes)
    size = float(np.clip(0.55 * k + 1.6, 3.0, 9.0))
    ax = axes(ax, (size + 0.6, size))
    support = report.confusion.sum(axis=1, keepdims=True)
    rates = np.divide(report.confusion, support, out=np.zeros((k, k)), where=support > 0)
    image = ax.imshow(rates, cmap="Blues", vmin=0, vmax=1)
    bar = ax.figure.colorbar(image, ax=ax, shrink=0.7, pad=0.02)
    ticked(bar.ax)
    bar.ax.yaxis.set_major_formatter(PercentFormatter(1))
    bar.set_label("share of the true class")
    bar.outline.set_visible(False)
    if k <= 20:
        for (i, j), count in np.ndenumerate(report.confusion):
            if count:
                colour = "white" if rates[i, j] > 0.55 else "black"
                ax.text(j, i - 0.12, f"{count}", ha="center", va="center", color=colour, size=9)
                share = f"{rates[i, j]:.0%}" if rates[i, j] >= 0.005 else "<1%"
                ax.text(j, i + 0.25, share, ha="center", va="center", color=colour, size=8)
    step = -(-k // 40)  # at most 40 names are legible
    names = [shorten(name) for name in report.class_names[::step]]
    turn = (
        {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if k <= 20 else {"rotation": 90}
    )
    ax.set_xticks(range(0, k, step), names, **turn)
    ax.set_yticks(range(0, k, step), names)
    ax.tick_params(labelsize=8 if k <= 20 else 6)
    if k <= 40:
        ax.set_xticks(np.arange(k + 1) - 0.5, minor=True)
        ax.set_yticks(np.arange(k + 1) - 0.5, minor=True)
        ax.grid(which="minor")
    ax.tick_params(which="both", length=0)
    ax.spines[:].set_visible(False)
    ax.set_xlabel("predicted")
    ax.set_ylabel("true")
    return ax


@figure(
    "Sensitivity of each label",
    _with_intervals("Share of the images with a label that were found", "recall"),
    _rows_high,
    of=[MultilabelReport],
)
@figure(
    "AUC of each label",
    _with_intervals("How well each label is told from its absence", "auc"),
    _rows_high,
    of=[MultilabelReport],
    score="auc",
)
@figure(
    "Recall of each class",
    _with_intervals("Share of each class that was recognised", "recall"),
    _rows_high,
)
@styled
def per_class(
    report: Report | MultilabelReport, *, score: str = "recall", ax: Axes | None = None
) -> Axes:
    """Draw one score of every class with its interval.

    Parameters
    ----------
    report : Report or MultilabelReport
        The report.
    score : {"recall", "specificity", "precision", "f1", "auc"}, default="recall"
        The score; recall is the accuracy of a class.
    ax : Axes, optional
        Where to draw; a new figure by default.

    Returns
    -------
    Axes
        The chart; undefined scores are marked "undefined".
    """
    ax = axes(ax, (5.5, height(len(report.classes))))
    for i, one in enumerate(report.per_class):
        value, low, high = getattr(one, score)
        if value is None:
            ax.text(1.02, i, "undefined", va="center", color="#666666")
            continue
        ax.barh(i, value, 0.7, color=SKY)
        if low is not None and high is not None:
            # Rounding may put the score slightly outside its interval, which errorbar refuses
            reach = [[max(0.0, value - low)], [max(0.0, high - value)]]
            ax.errorbar(value, i, xerr=reach, fmt="none", ecolor="#333333", elinewidth=1)
        ax.text(1.02, i, f"{value:.3f}", va="center")
    rows(ax, [f"{one.name[:24]} ({one.support})" for one in report.per_class])
    ax.set_xlim(0, 1)
    has_intervals = any(getattr(one, score).low is not None for one in report.per_class)
    around = f" with {percent(report.confidence)} interval" if has_intervals else ""
    ax.set_xlabel({"auc": "AUC", "f1": "F1"}.get(score, score) + around)
    return ax


@figure("Rank of the true class", "How often the true class was the second, third, ... choice.", 3)
@styled
def ranks(report: Report, *, ax: Axes | None = None) -> Axes:
    """Draw the ranks of the true class among the probabilities, for misclassified images.

    Parameters
    ----------
    report : Report
        The report.
    ax : Axes, optional
        Where to draw; a new figure by default.

    Returns
    -------
    Axes
        The chart: ranks from 2 on, as shares of all images.
    """
    ax = axes(ax, (4.6, 2.8))
    last = min(len(report.classes), 12)
    counts = report.rank_counts[1:last].tolist()
    names = [str(rank) for rank in range(2, last + 1)]
    if len(report.classes) > last:
        counts.append(int(report.rank_counts[last:].sum()))
        names.append(f"> {last}")
    shares = np.array(counts) / report.n
    bars = ax.bar(range(len(counts)), shares, 0.75, color=BLUE)
    ax.bar_label(bars, [str(count) for count in counts], padding=1, fontsize=9)
    ax.set_xticks(range(len(counts)), names)
    ax.margins(y=0.15)
    if not any(counts):  # matplotlib would show negative shares
        ax.set_ylim(0, 0.01)
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    ax.grid(axis="y")
    ax.set_xlabel("rank of the true class")
    ax.set_ylabel("share of all images")
    ax.set_title(f"Rank 1: {report.rank_counts[0] / report.n:.1%} of {count(report.n, 'image')}")
    return ax


@figure("Reliability", "How often predictions of each confidence are right.", 4.4)
@styled
def reliability(report: Report, *, ax: Axes | None = None) -> Axes:
    """Draw the reliability diagram: the accuracy of predictions by confidence.

    Parameters
    ----------
    report : Report
        The report.
    ax : Axes, optional
        Where to draw; a new figure by default.

    Returns
    -------
    Axes
        The diagram; the bars at the bottom are shares of the images.
    """
    ax = axes(ax, (3.8, 4.0))
    ax.plot([0, 1], [0, 1], "--", color=GREY, linewidth=1, label="perfectly calibrated")
    left = [one.low for one in report.reliability]
    shares = [one.images / report.n for one in report.reliability]
    width = report.reliability[0].high
    ax.bar(left, shares, width, align="edge", color=SKY, alpha=0.5, label="share of images")
    # Empty bins have no accuracy, and that of a bin of few images is mostly chance
    filled = [one for one in report.reliability if one.confidence is not None]
    sure = [(one.confidence, one.accuracy) for one in filled if one.images >= FEW]
    unsure = [(one.confidence, one.accuracy) for one in filled if one.images < FEW]
    look: dict[str, Any] = {"color": VERMILION, "zorder": 3}
    if sure:
        ax.plot(*zip(*sure, strict=True), "o-", label="accuracy", **look)
    if unsure:
        label = f"fewer than {FEW} images"
        ax.plot(*zip(*unsure, strict=True), "o", fillstyle="none", label=label, **look)
    ax.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="confidence", ylabel="accuracy", aspect="equal")
    ax.set_title(f"Calibration error {report.scores['ece']}")
    _legend_below(ax, ncols=2)
    return ax


@figure("Confidence", "How sure the network is where it is right, and where it is wrong.", 3.4)
@styled
def confidence(report: Report, *, ax: Axes | None = None) -> Axes:
    """Draw how sure right and wrong predictions are.

    Parameters
    ----------
    report : Report
        The report.
    ax : Axes, optional
        Where to draw; a new figure by default.

    Returns
    -------
    Axes
        The chart: of the right and of the wrong predictions, the share with each probability of
        the predicted class.
    """
    ax = axes(ax, (4.6, 3.0))
    sure = report.proba.max(axis=1)
    edges = np.linspace(1 / len(report.classes), 1, 21)
    for words, mask, colour, dashes in (
        ("right", report.right, BLUE, "-"),
        ("wrong", ~report.right, VERMILION, "--"),
    ):
        if mask.any():
            # The edges of a histogram are rounded; a probability of float32 may lie below them
            shares = np.histogram(np.clip(sure[mask], edges[0], 1), edges)[0] / mask.sum()
            label = f"{words} ({int(mask.sum()):,})"
            ax.stairs(shares, edges, color=colour, linestyle=dashes, linewidth=1.5, label=label)
    ax.set(xlim=(edges[0], 1), xlabel="probability of the predicted class")
    ax.set_ylabel("share of the predictions")
    ax.set_ylim(bottom=0)
    ax.legend(loc="best")
    return ax


@figure(
    "ROC",
    _of_curves("Sensitivity against false alarms"),
    _square_high,
    of=EITHER,
    is_shown=_has_curves,
)
@styled
def roc(report: Report | MultilabelReport, *, ax: Axes | None = None) -> Axes:
    """Draw the ROC curve of each class against the others.

    Parameters
    ----------
    report : Report or MultilabelReport
        The report.
    ax : Axes, optional
        Where to draw; a new figure by default.

    Returns
    -------
    Axes
        The chart. If there are more than eight classes, only the four with the lowest AUC have
        colours.

    Raises
    ------
    ValueError
        If no class has an AUC.
    """
    ax = axes(ax, (4.6, _square_high(report)))
    ax.plot([0, 1], [0, 1], "--", color=GREY, linewidth=0.8)
    for i, look in _shown(report):
        x, y, _ = report.curve(i, "roc")
        auc = report.per_class[i].auc.value
        ax.plot(x, y, label=f"{look.pop('label')} {auc:.3f}", **look)
    ax.set(xlabel="1 - specificity", ylabel="sensitivity", aspect="equal")
    _unit_square(ax, "AUC")
    return ax


@figure(
    "Precision and recall",
    _of_curves("Precision against recall"),
    _square_high,
    of=EITHER,
    is_shown=_has_curves,
)
@styled
def precision_recall(report: Report | MultilabelReport, *, ax: Axes | None = None) -> Axes:
    """Draw the precision-recall curve of each class against the others.

    Parameters
    ----------
    report : Report or MultilabelReport
        The report.
    ax : Axes, optional
        Where to draw; a new figure by default.

    Returns
    -------
    Axes
        The chart. If there are more than eight classes, only the four with the lowest AUC have
        colours.

    Raises
    ------
    ValueError
        If no class has an AUC.
    """
    ax = axes(ax, (4.6, _square_high(report)))
    for i, look in _shown(report):
        x, y, _ = report.curve(i, "pr")
        known: Any = report.per_class[i]
        if hasattr(known, "average_precision"):
            precision = known.average_precision.value
        else:
            precision = average_precision_score(report.truth(i), report.proba[:, i])
        ax.step(x, y, where="post", label=f"{look.pop('label')} {precision:.3f}", **look)
    ax.set(xlabel="recall", ylabel="precision", aspect="equal")
    _unit_square(ax, "average precision")
    return ax


def _unit_square(ax: Axes, title: str) -> None:
    ax.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    ax.grid()
    _legend_below(ax, title=title, alignment="left")


def _legend_below(ax: Axes, **options: Any) -> None:
    """Put the legend below the chart, where it hides nothing."""
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), borderaxespad=0, **options)


def _shown(report: Report | MultilabelReport) -> list[tuple[int, dict[str, Any]]]:
    """List the classes whose curves to draw, and their styles."""
    classes: Sequence[Any] = report.per_class
    found = [(one.auc.value, i) for i, one in enumerate(classes)]
    known = [(auc, i) for auc, i in found if auc is not None]
    if isinstance(report, Report) and len(report.classes) == 2:  # the other curve mirrors it
        only = 1 if report.pos_label is None else list(report.classes).index(report.pos_label)
        known = [(auc, i) for auc, i in known if i == only]
    if not known:
        raise ValueError("Curves must have images of two classes or more. Got those of one.")
    # More than eight colours are hard to tell apart; the worst classes matter most
    named = [i for _, i in (sorted(known)[:4] if len(known) > 8 else known)]
    pale = {"color": "#BBBBBB", "linewidth": 0.6}
    # Matplotlib leaves labels that begin with "_" out of the legend
    shown = [(i, {**pale, "label": "_"}) for _, i in known if i not in named]
    for place, i in enumerate(named):
        look = {"color": COLOURS[place], "linestyle": "-" if place < 4 else "--"}
        label = shorten(report.class_names[i])
        shown.append((i, {**look, "label": label, "linewidth": 1.2, "zorder": 3}))
    return shown


@styled
def accuracies(comparison: Comparison, *, ax: Axes | None = None) -> Axes:
    """Draw the accuracy of each model with its interval, and published accuracies below.

    Parameters
    ----------
    comparison : Comparison
        Result of `kmedclf.evaluation.compare`.
    ax : Axes, optional
        Where to draw; a new figure by default.

    Returns
    -------
    Axes
        The chart.
    """
    names = [shorten(one.name) for one in comparison.models]
    names += [f"{one.model}, {one.resolution.partition(',')[0]}" for one in comparison.published]
    ax = axes(ax, (7, height(len(names))))
    for i, one in enumerate(comparison.models):
        value, low, high = one.scores["accuracy"]
        if value is None:
            continue
        around = None if low is None or high is None else [[value - low], [high - value]]
        label = "ours" if i == 0 else None
        ax.errorbar(value, i, xerr=around, fmt="o", color=BLUE, elinewidth=1.2, label=label)
    first = len(comparison.models)
    if comparison.published:
        found = [one.accuracy for one in comparison.published]
        places = range(first, len(names))
        ax.plot(found, places, "D", color=VERMILION, fillstyle="none", label="published")
        ax.legend(loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0, ncols=2)
    rows(ax, names)
    ax.set_xlabel("accuracy")
    return ax


@styled
def mean_roc(comparison: Comparison, *, ax: Axes | None = None) -> Axes:
    """Draw the ROC curve of each model, averaged over the classes.

    Parameters
    ----------
    comparison : Comparison
        Result of `kmedclf.evaluation.compare`.
    ax : Axes, optional
        Where to draw; a new figure by default.

    Returns
    -------
    Axes
        The chart; of more than eight models, the eight most accurate.
    """
    shown = list(comparison.curves.items())[:8]
    ax = axes(ax, (4.6, 4.0 + 0.2 * len(shown)))
    ax.plot([0, 1], [0, 1], "--", color=GREY, linewidth=0.8)
    for place, (name, curve) in enumerate(shown):
        dashes = "-" if place < 4 else "--"
        ax.plot(GRID, curve, color=COLOURS[place], linestyle=dashes, label=shorten(name, 40))
    ax.set(xlabel="1 - specificity", ylabel="sensitivity", aspect="equal")
    _unit_square(ax, "Mean of all classes")
    return ax
