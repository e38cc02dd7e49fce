"""Charts of data, training and searches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import MaxNLocator, NullLocator

from kmedclf.evaluation.plots.images import named
from kmedclf.evaluation.plots.style import (
    BLUE,
    COLOURS,
    GREY,
    ORANGE,
    VERMILION,
    axes,
    height,
    panel,
    rows,
    shorten,
    styled,
    subplots,
)
from kmedclf.evaluation.wording import epochs_of

History = Mapping[str, Sequence[float]]


@styled
def class_counts(
    splits: Mapping[str, Any], *, class_names: Sequence[str] | None = None, ax: Axes | None = None
) -> Axes:
    """Draw the number of images of each class in each split.

    Parameters
    ----------
    splits : mapping of str to array-like of shape (n,)
        Labels of each split by its name, such as "train".
    class_names : sequence of str, optional
        Names of the sorted labels.
    ax : Axes, optional
        Where to draw; a new figure by default.

    Returns
    -------
    Axes
        The chart.

    Raises
    ------
    ValueError
        If there is not one name per label.
    """
    # A class may be missing from one of the splits
    labels = np.unique(np.concatenate([np.ravel(y) for y in splits.values()]))
    names = named(labels, class_names, "class_counts")
    ax = axes(ax, (5.5, height(len(labels), 0.16 + 0.13 * len(splits))))
    thick = 0.8 / len(splits)
    for i, (split, y) in enumerate(splits.items()):
        counts = [int(np.sum(np.ravel(y) == label)) for label in labels]
        place = np.arange(len(labels)) + (i - (len(splits) - 1) / 2) * thick
        bars = ax.barh(place, counts, thick * 0.9, label=f"{shorten(split)} ({sum(counts):,})")
        if len(labels) <= 20:
            ax.bar_label(bars, padding=2, fontsize=6.5, fmt="{:,.0f}")
    rows(ax, names)
    ax.margins(x=0.12)
    ax.set_xlabel("images")
    ax.legend(loc="lower right", ncols=len(splits), bbox_to_anchor=(1, 1), borderaxespad=0)
    return ax


@styled
def class_weights(
    y: Any,
    weights: Sequence[float] | Mapping[Any, float],
    *,
    class_names: Sequence[str] | None = None,
    fig: Figure | SubFigure | None = None,
) -> Figure | SubFigure:
    """Draw the weight of each class beside its number of images.

    Parameters
    ----------
    y : array-like of shape (n,)
        Training labels.
    weights : sequence of float or mapping of label to float
        Weights of the sorted labels.
    class_names : sequence of str, optional
        Names of the sorted labels.
    fig : Figure or SubFigure, optional
        Where to draw; a new figure by default.

    Returns
    -------
    Figure or SubFigure
        The panel.

    Raises
    ------
    ValueError
        If there is not one name per label.
    """
    labels, counts = np.unique(np.ravel(y), return_counts=True)
    listed = [weights[label] for label in labels] if isinstance(weights, Mapping) else list(weights)
    names = named(labels, class_names, "class_weights")
    fig = panel(fig, (6.5, height(len(labels), 0.26)))
    left, right = subplots(fig, 1, 2, sharey=True)
    for ax, values, title, colour, form in (
        (left, counts, "images", BLUE, "{:,.0f}"),
        (right, listed, "class weight", ORANGE, "{:.3g}"),
    ):
        bars = ax.barh(range(len(labels)), values, 0.7, color=colour)
        ax.bar_label(bars, padding=2, fontsize=7, fmt=form)
        ax.margins(x=0.2)
        ax.set_xlabel(title)
        rows(ax, names)
    return fig


@styled
def history(
    history: History, *, best_epoch: int | None = None, fig: Figure | SubFigure | None = None
) -> Figure | SubFigure:
    """Draw training and, if available, validation accuracy and loss over the epochs.

    Parameters
    ----------
    history : mapping of str to sequence of float
        ``history_`` of a fitted estimator.
    best_epoch : int, optional
        Epoch to mark, from 1: ``best_epoch_``. Ignored without validation.
    fig : Figure or SubFigure, optional
        Where to draw; a new figure by default.

    Returns
    -------
    Figure or SubFigure
        The panel.
    """
    fig = panel(fig, (7.0, 2.8))
    for ax, name in zip(subplots(fig, 1, 2), ("accuracy", "loss"), strict=True):
        learning_curve(history, name, best_epoch=best_epoch, ax=ax)
    return fig


@styled
def learning_curve(
    history: History, name: str, *, best_epoch: int | None = None, ax: Axes | None = None
) -> Axes:
    """Draw the accuracy or the loss of a training, and of its validation, over the epochs.

    Parameters
    ----------
    history : mapping of str to sequence of float
        ``history_`` of a fitted estimator.
    name : {"accuracy", "loss"}
        Which curve.
    best_epoch : int, optional
        Epoch to mark, from 1: ``best_epoch_``. Ignored without validation.
    ax : Axes, optional
        Where to draw; a new figure by default.

    Returns
    -------
    Axes
        The chart.
    """
    ax = axes(ax, (4.6, 2.8))
    epochs = epochs_of(history, best_epoch)
    for key, label, colour, dashes in (
        (name, "training", ORANGE, "--"),
        (f"val_{name}", "validation", BLUE, "-"),
    ):
        # The epochs of a shorter curve are unknown
        if len(history.get(key, ())) == epochs.n:
            _curve(ax, history[key], label=label, color=colour, linestyle=dashes)
    if epochs.best is not None:
        ax.axvline(epochs.best, color=GREY, linewidth=0.8, linestyle=":")
        value = history[f"val_{name}"][epochs.best - 1]
        label = f"best epoch {epochs.best}: {value:.3f}"
        ax.plot(epochs.best, value, "o", color=VERMILION, label=label, zorder=3)
    _epochs(ax, name)
    if ax.lines:
        ax.legend()
    return ax


@styled
def curves(lines: Sequence[tuple[str, Sequence[float]]], *, ax: Axes | None = None) -> Axes:
    """Draw accuracies over the epochs of several trainings, given as names and values."""
    ax = axes(ax, (4.6, 3.2))
    for i, (name, values) in enumerate(lines):
        _curve(ax, values, label=shorten(name), color=COLOURS[i % len(COLOURS)])
    _epochs(ax, "accuracy")
    ax.legend()
    return ax


@styled
def folds(
    histories: Sequence[History],
    *,
    names: Sequence[str] | None = None,
    fig: Figure | SubFigure | None = None,
) -> Figure | SubFigure:
    """Draw the curves of every fold: training dashed, validation, if available, solid.

    Parameters
    ----------
    histories : sequence of mapping
        ``history_`` of the estimator of each fold.
    names : sequence of str, optional
        Names of the folds; "fold 1", ... by default.
    fig : Figure or SubFigure, optional
        Where to draw; a new figure by default.

    Returns
    -------
    Figure or SubFigure
        The panel.
    """
    fig = panel(fig, (7.0, 3.0))
    names = names or [f"fold {i}" for i in range(1, len(histories) + 1)]
    both, validated = subplots(fig, 1, 2), False
    for ax, name in zip(both, ("accuracy", "loss"), strict=True):
        for i, one in enumerate(histories):
            colour = COLOURS[i % len(COLOURS)]
            width = 1.5 * (1 + i // len(COLOURS))  # thicker when colours repeat
            _curve(ax, one[name], color=colour, linestyle="--", linewidth=0.9, alpha=0.7)
            if len(one.get(f"val_{name}", ())) == len(one[name]):
                _curve(ax, one[f"val_{name}"], color=colour, linewidth=width)
                validated = True
            ax.plot([], color=colour, linewidth=width, label=shorten(names[i]))
        _epochs(ax, name)
    both[0].plot([], color=GREY, linestyle="--", linewidth=0.9, label="training")
    if validated:
        both[0].plot([], color=GREY, label="validation")
    handles, labels = both[0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 7))
    return fig


@styled
def small_multiples(
    histories: Sequence[History],
    *,
    names: Sequence[str],
    fig: Figure | SubFigure | None = None,
) -> Figure | SubFigure:
    """Draw the curves of several trainings side by side, on common scales.

    Parameters
    ----------
    histories : sequence of mapping
        ``history_`` of the estimator of each training.
    names : sequence of str
        Titles of the trainings.
    fig : Figure or SubFigure, optional
        Where to draw; a new figure by default.

    Returns
    -------
    Figure or SubFigure
        The panel: accuracy above loss, one column a training, six columns at most; training
        dashed, validation, if available, solid.
    """
    columns = min(len(histories), 6)
    blocks = -(-len(histories) // columns)
    fig = panel(fig, (11.0 if columns > 3 else 7.0, 0.4 + 3.4 * blocks))
    grid = subplots(fig, 2 * blocks, columns, sharex=True)
    drawn: dict[str, list[Axes]] = {"accuracy": [], "loss": []}
    for number in range(blocks * columns):
        block, column = divmod(number, columns)
        for row, name in enumerate(drawn):
            ax = grid[(2 * block + row) * columns + column]
            if number >= len(histories):
                ax.set_axis_off()
                continue
            _both(ax, histories[number], name)
            drawn[name].append(ax)
            ax.tick_params(labelbottom=True)
            if column:
                ax.set_ylabel("")
                ax.tick_params(labelleft=False)
            if row == 0:
                ax.set_xlabel("")
                ax.set_title(fill(shorten(names[number], 60), 22), fontsize=9)
    for several in drawn.values():
        _share_y(several)
    lines = {str(line.get_label()): line for ax in drawn["accuracy"] for line in ax.lines}
    fig.legend(list(lines.values()), list(lines), loc="outside lower center", ncols=2)
    return fig


def _both(ax: Axes, history: History, name: str) -> None:
    """Draw training and, if available, validation."""
    _curve(ax, history[name], label="training", color=ORANGE, linestyle="--")
    if len(history.get(f"val_{name}", ())) == len(history[name]):
        _curve(ax, history[f"val_{name}"], label="validation", color=BLUE)
    _epochs(ax, name)


def _share_y(several: Sequence[Axes]) -> None:
    """Give axes one scale, logarithmic if any has one; a single training has its own anyway."""
    log = any(ax.get_yscale() == "log" for ax in several)
    for ax in several:
        ax.set_yscale("log" if log else "linear")
        if log:
            ax.autoscale(axis="y")
    limits = [ax.get_ylim() for ax in several]
    for ax in several:
        # A little room, where the scale of a loss ends with the highest value
        ax.set_ylim(min(low for low, _ in limits), 1.03 * max(high for _, high in limits))


def _curve(ax: Axes, values: Sequence[float], **look: Any) -> None:
    marker = "o" if len(values) == 1 else None
    ax.plot(range(1, len(values) + 1), values, marker=marker, **look)


def _epochs(ax: Axes, name: str) -> None:
    """Label the axes of a curve over epochs, and choose the scale of a loss."""
    ax.set_xlabel("epoch")
    ax.set_ylabel(name)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    ends = [np.asarray(line.get_xdata(), float) for line in ax.lines]
    last = max((one[-1] for one in ends if len(one)), default=1.0)
    ax.set_xlim(1 - 0.03 * last, last + 0.03 * last)  # there is no epoch 0
    ax.grid(axis="y")
    if name == "loss":
        drawn = np.concatenate([np.asarray(line.get_ydata(), np.float64) for line in ax.lines])
        drawn = drawn[np.isfinite(drawn) & (drawn > 0)]
        # A huge loss in the first epochs would flatten the rest of the curve
        if len(drawn) and drawn.max() > 100 * np.median(drawn):
            ax.set_yscale("log")
        else:
            ax.set_ylim(0, 1.08 * drawn.max() if len(drawn) else None)


@styled
def effect(
    cv_results: Mapping[str, Any],
    parameter: str,
    *,
    by: str | None = None,
    log_x: bool = False,
    score: str = "accuracy",
    ax: Axes | None = None,
) -> Axes:
    """Draw the score of a search over one hyperparameter, or two.

    Parameters
    ----------
    cv_results : mapping
        ``cv_results_`` of a scikit-learn search.
    parameter : str
        Hyperparameter on the x axis; "filters" also finds "clf__filters" of a pipeline.
    by : str, optional
        Second hyperparameter: one line per value.
    log_x : bool, default=False
        Whether the x axis is logarithmic.
    score : str, default="accuracy"
        Name of the score, for the label.
    ax : Axes, optional
        Where to draw; a new figure by default.

    Returns
    -------
    Axes
        The chart. Points are means and bars standard deviations (ddof 0) over the folds of all
        candidates with the same values. Failed candidates are left out.

    Raises
    ------
    ValueError
        If a hyperparameter was not searched.
    """
    ax = axes(ax, (4.6, 3.2))
    x, groups = _column(cv_results, parameter), None if by is None else _column(cv_results, by)
    scores = _fold_scores(cv_results)  # (candidates, folds)
    values = _in_order(x)
    numeric = all(type(value) in (int, float) for value in values)
    # Other values than numbers are spaced evenly, and not connected by lines
    places = np.array(values if numeric else range(len(values)), dtype=float)
    lines = [None] if groups is None else _in_order(groups)
    for i, line in enumerate(lines):
        points = []
        for value in values:
            chosen = [
                j for j in range(len(x)) if x[j] == value and (groups is None or groups[j] == line)
            ]
            found = scores[chosen][np.isfinite(scores[chosen])]
            points.append((found.mean(), found.std()) if len(found) else (np.nan, np.nan))
        mean, std = np.transpose(points)
        # Shift the lines a little, so that their error bars do not overlap
        shift = (i - (len(lines) - 1) / 2) * 0.02
        spread = np.ptp(np.log(places)) if log_x else np.ptp(places)
        moved = places * np.exp(shift * spread) if log_x else places + shift * spread
        look: dict[str, Any] = {
            "marker": "osD^vPX*"[i % 8],
            "linestyle": "-" if numeric else "none",
        }
        ax.errorbar(moved, mean, std, label=f"{by} {line}", elinewidth=1, **look)
    if log_x:
        ax.set_xscale("log")
        ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xticks(places, list(map(str, values)))
    ax.set_xlabel(parameter.rpartition("__")[2])
    ax.set_ylabel(f"{score} (mean ± std)")
    ax.grid(axis="y")
    if by is not None:
        ax.legend()
    return ax


def _column(cv_results: Mapping[str, Any], parameter: str) -> list[Any]:
    """Return the values of a hyperparameter, one per candidate."""
    names = [name for name in cv_results if name.startswith("param_")]
    found = [name for name in names if name in (f"param_{parameter}", parameter)]
    found = found or [name for name in names if name.endswith(f"__{parameter}")]
    if len(found) != 1:
        known = ", ".join(sorted(name.removeprefix("param_") for name in names))
        raise ValueError(
            f"The 'parameter' of an effect must be one that was searched, {known}. "
            f"Got {parameter!r} instead."
        )
    # Parameters that a candidate does not have are masked
    plain: Any = np.ma.asarray(cv_results[found[0]], dtype=object).filled(None)
    return [value.item() if isinstance(value, np.generic) else value for value in plain]


def _fold_scores(cv_results: Mapping[str, Any]) -> np.ndarray:
    """Return the scores (candidates, folds), or the means if there are no scores of folds."""
    splits = [k for k in cv_results if k.startswith("split") and k.endswith("_test_score")]
    columns = [cv_results[name] for name in splits or ["mean_test_score"]]
    return np.stack(columns, axis=1).astype(np.float64)


def _in_order(values: Sequence[Any]) -> list[Any]:
    """List distinct values: numbers sorted, others in order of appearance."""
    kinds = list(dict.fromkeys(values))
    return sorted(kinds) if all(type(one) in (int, float) for one in kinds) else kinds
