"""Which rows a fit trains on and validates on, in which order, and with which weights."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold, StratifiedShuffleSplit

from kmedclf.heads import Head
from kmedclf.pipeline import Images, Rows
from kmedclf.validation import check_length

REPEATS = 20
"""Whole-number sample weights up to this mean repeat rows; larger ones weigh the loss."""

Labelled = tuple[Images, np.ndarray, np.ndarray]
"""Images with their original labels, (n,) or (n, k), and sample weights (n,)."""


def arrange(
    train: Labelled,
    held_out: Labelled | None,
    *,
    head: Head,
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
    head : Head
        What the network's last layer is for.
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
    rows = make_rows(*train, head, classes, name)
    held = None if held_out is None else make_rows(*held_out, head, classes, name)
    if held is None and split is not None:
        rows, held = split(rows, head, name)
    rows = repeat_rows(rows)
    if oversample is not None:
        rows = oversample(rows)
    weigh = head.weigher(class_weight, rows.y, classes, name)
    if held is not None:
        held = held.reweighted(weigh(held.y))
    return rows.reweighted(weigh(rows.y)), held


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

    def __call__(self, rows: Rows, head: Head, name: str) -> tuple[Rows, Rows]:
        """Split rows in two, stratified by class or by rarest label."""
        y = head.strata(rows.y, self.fraction)
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
    images: Images,
    labels: np.ndarray,
    weight: np.ndarray,
    head: Head,
    classes: np.ndarray,
    name: str,
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
    codes = head.encode(labels[index], classes, name)
    digests = images.digests(index)
    if digests is None:
        order = np.arange(len(index))
    else:
        order = np.lexsort((*np.atleast_2d(codes.T), digests))
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
