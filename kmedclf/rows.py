"""Which rows a fit trains on and validates on, in which order, and with which weights."""

from __future__ import annotations

from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold, StratifiedShuffleSplit

from kmedclf.pipeline import Images, Rows
from kmedclf.validation import check_length, listed

REPEATS = 20
"""Whole-number sample weights up to this mean repeat rows; larger ones weigh the loss."""

Labelled = tuple[Images, np.ndarray, np.ndarray]
"""Images with their original labels (n,) and sample weights (n,)."""


def arrange(
    train: Labelled,
    held_out: Labelled | None,
    *,
    classes: np.ndarray,
    class_weight: str | dict[Any, float] | None,
    split: Split | None,
    oversample: Oversample | None = None,
    name: str,
) -> tuple[Rows, Rows | None]:
    """Arrange the rows of a fit.

    Parameters
    ----------
    train, held_out : tuple of (Images, labels, sample weights)
        What to train on and, if the user has it, what to validate on.
    classes : ndarray of shape (k,)
        Original labels, sorted.
    class_weight : {"balanced", "inverse"}, dict or None
        Weights of classes, computed from the rows trained on and applied to both parts.
    split : Split or None
        How to split validation rows off where there are none.
    oversample : Oversample or None, default=None
        How to repeat rows of small classes.
    name : str
        Class name for messages.

    Returns
    -------
    rows, held : Rows
        What to train on, and what to validate on if anything.
    """
    rows = make_rows(*train, classes, name)
    held = None if held_out is None else make_rows(*held_out, classes, name)
    if held is None and split is not None:
        rows, held = split(rows, name)
    rows = repeat_rows(rows)
    if oversample is not None:
        rows = oversample(rows)
    of_class = class_weights(class_weight, rows.y, classes, name)
    if held is not None:
        held = held.reweighted(of_class[held.y])
    return rows.reweighted(of_class[rows.y]), held


@dataclass(frozen=True)
class Split:
    """How validation rows are split off for early stopping.

    Parameters
    ----------
    fraction : float
        Share of the rows.
    groups : array-like of shape (n,) or None
        Groups of all images; whole groups go to one side.
    seed : int
        Seed of the draw.
    """

    fraction: float
    groups: Any
    seed: int

    def __call__(self, rows: Rows, name: str) -> tuple[Rows, Rows]:
        """Split rows in two, stratified by class."""
        y = rows.y
        if self.groups is not None:
            check_length(self.groups, len(rows.images.array), "groups", name)
        try:
            if self.groups is None:
                split = StratifiedShuffleSplit(1, test_size=self.fraction, random_state=self.seed)
                train, held = next(split.split(y, y))
            else:
                groups = np.asarray(self.groups)[rows.index]
                folds = min(max(2, round(1 / self.fraction)), len(np.unique(groups)))
                grouped = StratifiedGroupKFold(folds, shuffle=True, random_state=self.seed)
                train, held = next(grouped.split(y, y, groups))
        except ValueError as error:
            raise ValueError(
                f"{name} cannot split off 'validation_fraction'={self.fraction} of {len(y)} images "
                f"in {len(np.unique(y))} classes for early stopping; pass X_val and y_val, or set "
                "early_stopping=False."
            ) from error
        return rows.take(train), rows.take(held)


@dataclass(frozen=True)
class Oversample:
    """How rows of small classes are repeated until every class has as many as the largest.

    Parameters
    ----------
    seed : int
        Seed of the draw: all rows of a class are taken equally often, but for one.
    augment : bool
        Whether the copies, and only they, are augmented.
    """

    seed: int
    augment: bool

    def __call__(self, rows: Rows) -> Rows:
        """Append the copies."""
        generator = np.random.default_rng([self.seed, 2])
        count = np.bincount(rows.y)
        drawn = []
        for code in np.flatnonzero(count):
            missing = count.max() - count[code]
            mine = generator.permutation(np.flatnonzero(rows.y == code))
            drawn.append(np.resize(mine, missing))  # over and over again
        copies = np.concatenate(drawn)
        both = rows.take(np.concatenate([np.arange(len(rows)), copies]))
        return replace(both, copy=np.arange(len(both)) >= len(rows)) if self.augment else both


def make_rows(
    images: Images, labels: np.ndarray, weight: np.ndarray, classes: np.ndarray, name: str
) -> Rows:
    """Make rows of those images that have any weight, in an order that is theirs alone.

    Ordered by content, the same images that come in another order give, with a given seed, the same
    inner split, the same shuffles and the same weights. Memory maps keep their order: hashing
    would read all of them.

    Returns
    -------
    Rows
        Each with its sample weight.
    """
    index = np.flatnonzero(weight)
    codes = _encode(labels[index], classes, name)
    digests = images.digests(index)
    order = np.arange(len(index)) if digests is None else np.lexsort((codes, digests))
    return Rows(images, index, codes, weight[index].astype(np.float32)).take(order)


def repeat_rows(rows: Rows) -> Rows:
    """Let whole-number sample weights repeat rows.

    A weight of k means "as if the row stood there k times", and for small whole numbers that is
    what happens, so that batches and batch-normalisation statistics agree too. Other weights
    multiply the loss.
    """
    weight = rows.weight
    if weight.max() > REPEATS or np.any(weight != np.round(weight)):
        return rows
    repeated = rows.take(np.repeat(np.arange(len(rows)), weight.astype(np.int64)))
    return repeated.reweighted(1 / repeated.weight)


def class_weights(
    class_weight: str | dict[Any, float] | None, y: np.ndarray, classes: np.ndarray, name: str
) -> np.ndarray:
    """Compute one weight per class from the rows being trained on.

    Parameters
    ----------
    class_weight : {"balanced", "inverse"}, dict or None
        "balanced": n / (k count). "inverse": proportional to 1 / count, summing to 1. A dict maps
        original labels to weights; labels it leaves out weigh 1.
    y : ndarray of shape (m,), int32
        Class indices of the training rows.
    classes : ndarray of shape (k,)
        Original labels.
    name : str
        Class name for messages.

    Returns
    -------
    ndarray of shape (k,), float64
        The weights.
    """
    weights = np.ones(len(classes))
    if isinstance(class_weight, dict):
        labels = list(classes)
        for label, value in class_weight.items():
            if label not in labels:
                raise ValueError(
                    f"The 'class_weight' parameter of {name} must name only labels of y, "
                    f"{listed(labels)}. Got the label {label!r} instead."
                )
            if not isinstance(value, Real) or not np.isfinite(value) or value < 0:
                raise ValueError(
                    f"The 'class_weight' parameter of {name} must hold finite weights of at "
                    f"least 0. Got {value!r} for {label!r} instead."
                )
            weights[labels.index(label)] = value
    elif class_weight is not None:
        count = np.maximum(np.bincount(y, minlength=len(classes)), 1)
        weights = len(y) / (len(classes) * count) if class_weight == "balanced" else 1 / count
        if class_weight == "inverse":
            weights = weights / weights.sum()
    return weights


def _encode(labels: np.ndarray, classes: np.ndarray, name: str) -> np.ndarray:
    """Turn original labels into class indices, int32."""
    codes = {label: code for code, label in enumerate(classes.tolist())}
    index = np.array([codes.get(label, -1) for label in labels.tolist()], np.int32)
    if np.any(index < 0):
        raise ValueError(
            f"Labels given to {name}.fit must be among its classes, {listed(classes)}. "
            f"Got {listed(labels[index < 0][:1])} instead."
        )
    return index
