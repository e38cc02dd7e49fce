"""Panels of images: one of each class, and the mistakes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure, SubFigure

from kmedclf.evaluation.pictures import picture
from kmedclf.evaluation.report import Report
from kmedclf.evaluation.style import GREEN, GREY, VERMILION, panel, shorten, styled, subplots


@styled
def samples(
    X: Any,
    y: Any,
    *,
    class_names: Sequence[str] | None = None,
    image_shape: Sequence[int] | None = None,
    fig: Figure | SubFigure | None = None,
) -> Figure | SubFigure:
    """Show the first image of each class.

    Parameters
    ----------
    X : sequence of n images
        As `kmedclf.evaluation.pictures.picture` takes them.
    y : array-like of shape (n,)
        Labels.
    class_names : sequence of str, optional
        Names of the sorted labels.
    image_shape : sequence of int, optional
        Shape of flat images.
    fig : Figure or SubFigure, optional
        Where to draw; a new figure by default.

    Returns
    -------
    Figure or SubFigure
        The panel.
    """
    labels, first = np.unique(np.ravel(y), return_index=True)
    names = named(labels, class_names, "samples")
    columns = min(len(labels), 4 if len(labels) in (4, 7, 8) else 6)
    lines = -(-len(labels) // columns)
    fig = panel(fig, (1.55 * columns, 1.75 * lines))
    grid = subplots(fig, lines, columns)
    for ax, name, index in zip(grid, names, first, strict=False):
        ax.imshow(picture(X[int(index)], image_shape))
        ax.set_title(shorten(name), fontsize=8.5, loc="center")
    for ax in grid:
        ax.axis("off")
    return fig


def named(labels: Any, class_names: Sequence[str] | None, chart: str) -> list[str]:
    """Name the sorted labels; other names than theirs would stand at the wrong ones."""
    names = list(map(str, labels)) if class_names is None else list(class_names)
    if len(names) != len(labels):
        raise ValueError(
            f"The 'class_names' parameter of {chart} must hold {len(labels)} names, one for each "
            f"label of y. Got {len(names)} instead."
        )
    return names


@styled
def mistakes(
    report: Report,
    X: Any,
    *,
    n: int = 5,
    indices: Sequence[int] | None = None,
    image_shape: Sequence[int] | None = None,
    fig: Figure | SubFigure | None = None,
) -> Figure | SubFigure:
    """Show misclassified images, each with its probabilities and the rank of its true class.

    Parameters
    ----------
    report : Report
        What was found on X.
    X : sequence of n images
        In the order of the report.
    n : int, default=5
        How many, the surest mistakes first.
    indices : sequence of int, optional
        Show these images instead.
    image_shape : sequence of int, optional
        Shape of flat images.
    fig : Figure or SubFigure, optional
        Where to draw; a new figure by default.

    Returns
    -------
    Figure or SubFigure
        The panel; the true class is green, the predicted one red, and bars are labelled in words.
    """
    indices = report.surest_mistakes(n) if indices is None else indices
    bars = min(len(report.classes), 8)
    fig = panel(fig, (6.2, max(1.0, (0.35 + 0.15 * bars) * len(indices))))
    if not len(indices):
        fig.text(0.5, 0.5, "No image was misclassified.", ha="center", va="center")
        return fig
    grid = subplots(fig, len(indices), 2, width_ratios=(1, 2.4))
    for left, right, i in zip(grid[::2], grid[1::2], indices, strict=True):
        left.imshow(picture(X[int(i)], image_shape))
        left.axis("off")
        _bars(right, report, int(i), bars)
    return fig


def _bars(ax: Any, report: Report, i: int, n: int) -> None:
    """Draw the largest probabilities of an image, and that of its true class in any case."""
    true, pred, row = int(report.true_index[i]), int(report.pred_index[i]), report.proba[i]
    shown = sorted(np.argsort(-row, kind="stable")[:n].tolist())
    if true not in shown:
        shown[-1] = true
    colours = [VERMILION if j == pred else GREEN if j == true else "#BDBDBD" for j in shown]
    ax.barh(range(len(shown)), row[shown], 0.75, color=colours)
    for place, j in enumerate(shown):
        word = "  predicted" if j == pred else "  true" if j == true else ""
        ax.text(row[j] + 0.01, place, f"{row[j]:.3f}{word}", va="center", size=6.5)
    ax.set_yticks(range(len(shown)), [shorten(report.class_names[j]) for j in shown], size=7)
    ax.set_ylim(len(shown) - 0.4, -0.6)
    ax.set_xlim(0, 1.25)
    ax.set_xticks([])
    ax.tick_params(axis="y", length=0)
    ax.spines[["bottom", "left"]].set_visible(False)
    ax.axvline(0, color=GREY, linewidth=0.8)
    name = shorten(report.class_names[true])
    ax.set_title(f"image {i}: {name}, rank {report.ranks[i]}", fontsize=8, pad=2)
