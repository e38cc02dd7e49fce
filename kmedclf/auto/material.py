"""What there is to learn from: images, labels, pictures that belong together, folds."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.model_selection import (
    GroupKFold,
    GroupShuffleSplit,
    KFold,
    ShuffleSplit,
    StratifiedGroupKFold,
    StratifiedKFold,
    StratifiedShuffleSplit,
)

from kmedclf.datasets.similarity import near_duplicates, summarize
from kmedclf.training.heads import Head, head_of
from kmedclf.training.rows import number_groups

FOLDS = ((3_000, 0.2, 5), (20_000, 0.1, 3))
"""Most images, and least seconds an image, for a number of folds; otherwise one split."""
HELD_SHARE, MOST_HELD = 0.2, 10_000
"""Share of many images that is held out to score on, and its limit."""
FEWEST = 100
"""Images that one split needs; fewer are always tested in folds."""
PARTS = 5
"""Parts of the scored images, each judged by what was chosen on the others."""
SIMILARITY = 0.95
"""Least correlation of near copies; see `kmedclf.datasets.audit`."""
MOST_COMPARED = 20_000
"""Images beyond which near copies are not searched, as that is quadratic."""


@dataclass
class Material:
    """Images and labels, checked, with the folds on which every candidate is scored."""

    X: Any
    y: np.ndarray  # the user's labels (n,), or zeros and ones (n, k)
    weight: np.ndarray | None  # sample weights (n,)
    groups: np.ndarray | None  # number of the group (n,), copies of a picture in one
    is_files: bool
    shape: tuple[int, int, int] | None  # of an image; None for files
    seed: int
    classes: np.ndarray
    seconds: float  # time limit
    place: np.ndarray  # (n,) positions in the user's X, which may hold images without weight

    @cached_property
    def head(self) -> Head:
        """What differs between one class and several labels."""
        return head_of(self.y)

    @cached_property
    def true(self) -> np.ndarray:
        """Labels as positions of classes (n,), or zeros and ones (n, k)."""
        return self.head.encode(self.y, self.classes, "AutoClassifier")

    @property
    def n(self) -> int:
        """Number of images."""
        return len(self.y)

    @cached_property
    def weight_or_ones(self) -> np.ndarray:
        """Sample weights (n,), which are 1 where none were given."""
        return np.ones(self.n) if self.weight is None else self.weight

    @cached_property
    def splits(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Row numbers (train, test) of every fold; the same for all candidates."""
        wanted = (
            folds for most, pace, folds in FOLDS if self.n <= most and self.seconds >= pace * self.n
        )
        return _splits(self._strata, self.groups, self.seed, next(wanted, 1))

    @cached_property
    def scored(self) -> np.ndarray:
        """Rows that a fold tests, ascending."""
        return np.sort(np.concatenate([test for _, test in self.splits]))

    @cached_property
    def parts(self) -> np.ndarray:
        """Number of the part of each scored row: its fold, or drawn where there is one fold."""
        part = np.zeros(self.n, np.int64)
        if len(self.splits) > 1:
            for number, (_, test) in enumerate(self.splits):
                part[test] = number
            return part[self.scored]
        groups = np.arange(self.n) if self.groups is None else self.groups
        drawn = np.random.default_rng([self.seed, 5]).integers(PARTS, size=groups.max() + 1)
        return drawn[groups[self.scored]]

    @cached_property
    def _strata(self) -> np.ndarray:
        return self.head.strata(self.true, 1 / PARTS)


def _splits(
    strata: np.ndarray, groups: np.ndarray | None, seed: int, wanted: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Split rows into folds, or once where there are many; groups stay whole."""
    n = len(strata)
    keys = np.arange(n) if groups is None else groups
    # As many folds as the rarest class has groups, as far as possible.
    pairs = np.unique(np.stack([strata, keys]), axis=1)
    rarest = np.unique(pairs[0], return_counts=True)[1].min()
    stratified = rarest >= 2
    given: dict[str, Any] = {"shuffle": True, "random_state": seed}
    if wanted == 1 and n >= FEWEST:
        share = min(HELD_SHARE, MOST_HELD / n)
        once = {"n_splits": 1, "test_size": share, "random_state": seed}
        if groups is not None:
            return list(GroupShuffleSplit(**once).split(strata, strata, groups))
        once_only = StratifiedShuffleSplit if stratified else ShuffleSplit
        return list(once_only(**once).split(strata, strata))
    wanted = wanted if wanted > 1 else PARTS
    folds = int(max(2, min(wanted, rarest if stratified else wanted, len(np.unique(keys)))))
    splitter: Any
    if groups is None:
        splitter = StratifiedKFold(folds, **given) if stratified else KFold(folds, **given)
    elif stratified:
        splitter = StratifiedGroupKFold(folds, **given)
    else:
        splitter = GroupKFold(folds)
    return list(splitter.split(strata, strata, groups))


def grouped(
    X: Any, groups: Any, seconds: float, name: str, say: Callable[[str], None]
) -> np.ndarray | None:
    """Give images (n,) the numbers of their groups; copies and near copies are in one.

    None where every image stands alone. Searches for about ``seconds`` at most.
    """
    n = len(X)
    own = None if groups is None else number_groups(groups, name, n)[0]
    pairs = _copies(X, n, seconds, say)
    if own is None and not len(pairs):
        return None
    links = [pairs]
    if own is not None:
        first = np.unique(own, return_index=True)[1]
        links.append(np.stack([first[own], np.arange(n)], axis=1))
    row, column = np.concatenate(links).T
    graph = coo_array((np.ones(len(row), np.int8), (row, column)), (n, n))
    return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int64)


def _copies(X: Any, n: int, seconds: float, say: Callable[[str], None]) -> np.ndarray:
    """Find pairs (m, 2) of images that are equal or nearly so."""
    none = np.empty((0, 2), np.int64)
    if getattr(X, "ndim", 1) == 2:
        return none  # vectors are no pictures
    few = np.linspace(0, n - 1, min(n, 20)).astype(int)
    began = time.perf_counter()
    summarize([X[int(row)] for row in few])
    needed = (time.perf_counter() - began) / len(few) * n
    if needed > seconds:
        say(
            f"Copies of a picture were not looked for: that would take {needed:,.0f} s. Give "
            "'groups' where images belong together."
        )
        return none
    looks = summarize(X)
    first, numbers = np.unique(looks.numbers, return_index=True)[1], looks.numbers
    pairs = np.stack([first[numbers], np.arange(n)], axis=1)
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    identical = len(pairs)
    kept = first[~looks.blank[first]]
    near = none
    if n > MOST_COMPARED:
        say(f"Near copies were not looked for among more than {MOST_COMPARED:,} images.")
    elif len(kept) > 1:
        near = kept[near_duplicates(looks.small[kept], SIMILARITY)[0]]
    if identical or len(near):
        say(
            f"{identical:,} images are copies of another, and {len(near):,} pairs are near copies: "
            "each picture with its copies is in one fold."
        )
    return np.concatenate([pairs, near])
