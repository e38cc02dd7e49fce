"""Panels of images, for any dtype and shape that estimators accept."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure, SubFigure

from kmedclf.evaluation.plots.style import GREEN, GREY, VERMILION, panel, shorten, styled, subplots
from kmedclf.evaluation.report import Report
from kmedclf.inputs.image_files import open_image


def picture(image: Any, image_shape: Sequence[int] | None = None) -> np.ndarray:
    """Convert an image (h, w), (h, w, c) or (d,), or a path, to RGB (h, w, 3), uint8.

    Other integers are scaled by the maximum of their dtype, floats in [0, 1] by 255, other floats
    from their minimum to their maximum. Flat images need ``image_shape`` unless they are square.
    """
    if isinstance(image, str | os.PathLike):
        return np.asarray(open_image(os.fspath(image)))
    pixels = np.asarray(image)
    if pixels.ndim == 1:
        pixels = pixels.reshape(tuple(image_shape) if image_shape else _square(len(pixels)))
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    pixels = _eight_bits(pixels)
    if pixels.shape[2] in (1, 2):  # grey, perhaps with transparency
        return np.repeat(pixels[..., :1], 3, axis=2)
    return pixels[..., :3]


def _square(d: int) -> tuple[int, ...]:
    """Guess the shape of a flat image of d values: a square, grey or RGB, or else one row."""
    for channels in (1, 3):
        side = round((d / channels) ** 0.5)
        if side * side * channels == d:
            return side, side, channels
    return 1, d, 1


def _eight_bits(pixels: np.ndarray) -> np.ndarray:
    """Scale pixels of any dtype to uint8."""
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype == bool:
        return pixels.astype(np.uint8) * 255
    if pixels.dtype.kind in "iu" and pixels.dtype.itemsize <= 2:
        scaled = pixels / np.iinfo(pixels.dtype).max
    else:
        # Integers of more than 16 bits and floats rarely use their whole range
        scaled = np.nan_to_num(pixels.astype(np.float64))
        low, high = scaled.min(), scaled.max()
        if low < 0 or high > 1:
            scaled = (scaled - low) / max(high - low, 1e-12)
    return np.round(np.clip(scaled, 0, 1) * 255).astype(np.uint8)


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
        Arrays of shape (h, w), (h, w, c) or (d,), or paths.
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

    Raises
    ------
    ValueError
        If there is not one name per label.
    """
    labels, first = np.unique(np.ravel(y), return_index=True)
    names = named(labels, class_names, "samples")
    # Four columns fill the last row for these numbers of classes, or nearly so
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
    """Return one name per sorted label."""
    names = list(map(str, labels)) if class_names is None else list(class_names)
    # A wrong number of names would put some of them at the wrong labels
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
        The report on X.
    X : sequence of n images
        Images in the order of the report.
    n : int, default=5
        Number of images; the most confident mistakes come first.
    indices : sequence of int, optional
        Show these images instead.
    image_shape : sequence of int, optional
        Shape of flat images.
    fig : Figure or SubFigure, optional
        Where to draw; a new figure by default.

    Returns
    -------
    Figure or SubFigure
        The panel. Bars of the true class are green and those of the predicted class orange; words
        beside them say so, too. A title says which image it is and how probable the network found
        its true class, as its rank among all classes.
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
    """Draw the n largest probabilities of an image, always including its true class."""
    true, pred, row = int(report.true_index[i]), int(report.pred_index[i]), report.proba[i]
    # In the order of the classes, so that the bars of different images can be compared
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
    rank = f"rank {report.ranks[i]} of {len(report.classes)}"
    ax.set_title(f"image {i}: the true class {name} has {rank}", fontsize=8, pad=2)
