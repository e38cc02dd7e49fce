"""Training and validation rows of a fit: their order, split, repetition and weights."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from scipy.sparse import csr_array
from sklearn.model_selection import StratifiedShuffleSplit

from kmedclf.inputs import array_likes
from kmedclf.inputs.checks import check_length
from kmedclf.inputs.images import Images, Rows
from kmedclf.training import group_split
from kmedclf.training.heads import Head

REPEATS = 20
"""Whole-number sample weights up to this repeat rows; larger ones weight the loss."""

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
    """Arrange the training set and the validation set, if any, of a fit.

    Class weights are computed from the training set and applied to both.
    """
    rows = make_rows(*train, head, classes, name)
    held = None if held_out is None else make_rows(*held_out, head, classes, name)
    if held is None and split is not None:
        rows, held = split(rows, head, name, classes)
    rows = repeat_rows(rows)
    if oversample is not None:
        rows = oversample(rows)
    weigh = head.weigher(class_weight, rows.y, classes, name)
    if held is not None:
        held = held.reweighted(weigh(held.y))
    return rows.reweighted(weigh(rows.y)), held


@dataclass(frozen=True)
class Split:
    """Splits a validation set off the training rows, for early stopping."""

    fraction: float
    groups: Any  # (n,) groups of all images, which stay on one side of the split
    seed: int
    parameter: str = "validation_fraction"  # that set the fraction

    def __call__(
        self, rows: Rows, head: Head, name: str, classes: np.ndarray | None = None
    ) -> tuple[Rows, Rows]:
        """Split rows, stratified by class or rarest label; no class is lost for training."""
        try:
            if self.groups is None:
                y = head.strata(rows.y, self.fraction)
                split = StratifiedShuffleSplit(1, test_size=self.fraction, random_state=self.seed)
                train, held = next(split.split(y, y))
            else:
                train, held = self._by_groups(rows)
        except ValueError as error:
            raise ValueError(self._failed(rows, name, classes, error)) from error
        if not head.multilabel and len(lost := np.setdiff1d(rows.y, rows.y[train])):
            raise ValueError(
                f"{self._what(rows, name)} and train on every class: none of class "
                f"{_label(lost[0], classes)!r} would be left{_INSTEAD}"
            )
        self._warn(rows, held, name)
        return rows.take(train), rows.take(held)

    def _by_groups(self, rows: Rows) -> tuple[np.ndarray, np.ndarray]:
        y = rows.y
        if y.ndim == 1:
            marks: Any = csr_array((np.ones(len(y)), (np.arange(len(y)), y)))
        else:  # keep both ones and zeros of each label in the training set
            marks = np.concatenate([y > 0, y == 0], axis=1)
        _, group = np.unique(self._groups[rows.index], return_inverse=True)
        return group_split.split(marks, group, self.fraction, self.seed)

    @cached_property
    def _groups(self) -> np.ndarray:
        """Numbers of the groups of all images."""
        return number_groups(self.groups)[0]

    def _what(self, rows: Rows, name: str) -> str:
        return f"{name} cannot split off {self.parameter!r}={self.fraction} of {len(rows)} images"

    def _failed(self, rows: Rows, name: str, classes: Any, error: ValueError) -> str:
        if not isinstance(error, group_split.NoSplitError):
            n_classes = len(np.unique(rows.y, axis=0))
            return f"{self._what(rows, name)} in {n_classes} classes for early stopping{_INSTEAD}"
        if error.n_groups < 2:
            return (
                f"{self._what(rows, name)} by groups for early stopping: all of them are in one "
                f"group{_INSTEAD}"
            )
        numbers = np.unique(self._groups[rows.index])
        names = number_groups(self.groups)[1]
        shown = [
            f"{_label(mark, classes)!r} in group {names[numbers[group]]!r} only"
            for group, mark in sorted(error.sole.items())[:3]
        ]
        return (
            f"{self._what(rows, name)} by groups for early stopping: each of the {error.n_groups} "
            f"groups has all images of a class, {', '.join(shown)}{_INSTEAD}"
        )

    def _warn(self, rows: Rows, held: np.ndarray, name: str) -> None:
        """Warn if large groups make the validation set much larger or smaller than wanted."""
        share = len(held) / len(rows)
        if self.groups is not None and not self.fraction / 2 <= share <= 2 * self.fraction:
            warnings.warn(
                f"{name} holds out {share:.0%} of the images for early stopping, as the groups "
                f"allow no share nearer to {self.parameter!r}={self.fraction}.",
                UserWarning,
                stacklevel=2,
            )


def number_groups(
    groups: Any, name: str = "It", n: int | None = None
) -> tuple[np.ndarray, list[Any]]:
    """Return the number of each row's group and the sorted names of the groups.

    Raises ValueError if a row has no group, or if there are not ``n`` rows.
    """
    values = array_likes.plain_labels(groups, f"'groups' of {name}.fit", "group")
    if n is not None:
        check_length(values, n, "groups", name)
    unique = set(values)
    try:
        names = sorted(unique)
    except TypeError:  # numbers and text
        names = sorted(unique, key=lambda group: (type(group).__name__, str(group)))
    number = {group: i for i, group in enumerate(names)}
    return np.array([number[group] for group in values], np.int64), names


_INSTEAD = "; pass X_val and y_val, or set early_stopping=False."


def _label(mark: int, classes: np.ndarray | None) -> Any:
    """Return the class of a column of marks; multilabel marks are ones, then zeros."""
    if classes is None:
        return mark
    label = classes[mark % len(classes)]
    return label.item() if isinstance(label, np.generic) else label


@dataclass(frozen=True)
class Oversample:
    """Repeats rows of small classes until all classes are as large as the largest."""

    seed: int
    augment: bool  # augment the copies, and only them

    def __call__(self, rows: Rows) -> Rows:
        """Append the copies; each row of a class is repeated equally often, give or take one."""
        generator = np.random.default_rng([self.seed, 2])
        count = np.bincount(rows.y)
        drawn = []
        for code in np.flatnonzero(count):
            missing = count.max() - count[code]
            mine = generator.permutation(np.flatnonzero(rows.y == code))
            drawn.append(np.resize(mine, missing))  # repeats the permutation
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
    """Make rows of all images with nonzero weight, ordered by content.

    The same images in another order then give the same split, shuffles and weights for a seed.
    """
    index = np.flatnonzero(weight)
    codes = head.encode(labels[index], classes, name)
    digests = images.digests(index)
    if digests is None:  # memory maps keep their order: hashing would read all of them
        order = np.arange(len(index))
    else:
        order = np.lexsort((*np.atleast_2d(codes.T), digests))
    return Rows(images, index, codes, weight[index].astype(np.float32)).take(order)


def repeat_rows(rows: Rows) -> Rows:
    """Repeat rows by their sample weights, if all are small whole numbers."""
    # Unlike a factor of the loss, repeated rows have the right share of batches and of batch
    # normalisation's statistics.
    weight = rows.weight
    if weight.max() > REPEATS or np.any(weight != np.round(weight)):
        return rows
    repeated = rows.take(np.repeat(np.arange(len(rows)), weight.astype(np.int64)))
    return repeated.reweighted(1 / repeated.weight)
