"""Subsets of a study's data: new splits, without copies, or a small sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold, train_test_split

from kmedclf.datasets import audit, sources
from kmedclf.datasets.folders import split_folders
from kmedclf.datasets.sources import ALL

QUICK_IMAGES = 200
"""Maximum number of images of a split in a quick study."""


def read(
    source: str, size: int | None, shares: Mapping[str, float] | None = None, seed: int = 0
) -> sources.Data:
    """Read data, and split a folder without splits by the fractions in ``shares``.

    ``shares`` maps splits other than "train" to fractions of each class. With None,
    `kmedclf.runs.read_data` splits the folder.
    """
    root = Path(source).expanduser()
    if shares is None or not root.is_dir() or split_folders(root):
        return sources.read_data(source, size)
    data = sources.read_data(source, size, only=ALL)
    X, y = data.splits[ALL]
    rows = shared_out(y, shares, seed)
    return resplit(data, {split: (X[i], y[i]) for split, i in rows.items()}, split_seed=seed)


def shared_out(y: np.ndarray, shares: Mapping[str, float], seed: int) -> dict[str, np.ndarray]:
    """Draw rows for stratified splits; "train" is the remainder."""
    found, rest, left = {}, np.arange(len(y)), 1.0
    for split, share in shares.items():
        rest, rows = train_test_split(
            rest, test_size=share / left, stratify=y[rest], random_state=seed
        )
        found[split], left = np.sort(rows), left - share
    return {"train": np.sort(rest), **found}


def resplit(data: sources.Data, splits: dict[str, sources.Split], **facts: Any) -> sources.Data:
    """Replace the splits of data, and update the description."""
    n = {split: len(y) for split, (_, y) in splits.items()}
    return replace(data, splits=splits, description={**data.description, "n": n, **facts})


def without_copies(data: sources.Data) -> sources.Data:
    """Remove images that are identical to one in an earlier split, or earlier in their own."""
    X, y, where = _together(data)
    found = audit(X, y, splits=where, near=False)
    # In each group of duplicates keep the first one, in the order of splits.
    rank = found.split_index
    kept = np.ones(len(y), bool)
    for group in found.identical:
        kept[sorted(group, key=lambda row: (rank[row], row))[1:]] = False
    splits = {
        name: (data.splits[name][0][kept[where == name]], data.splits[name][1][kept[where == name]])
        for name in data.splits
    }
    return resplit(data, splits, copies_left_out=int((~kept).sum()))


def _together(
    data: sources.Data, names: Sequence[str] | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Concatenate splits: images (n, ...), labels (n,) and the name of each one's split (n,)."""
    names = list(data.splits if names is None else names)
    X, y = (np.concatenate(one) for one in zip(*(data.splits[name] for name in names), strict=True))
    return X, y, np.repeat(names, [len(data.splits[name][1]) for name in names])


@dataclass(frozen=True, eq=False)
class Copies:
    """Identical and nearly identical images among those to fold, and between these and the test.

    Rows are those of `pool`, then those of the test split.

    Attributes
    ----------
    first : ndarray of shape (n,)
        The first image that is identical to each one; itself, if there is no other.
    near : ndarray of shape (m, 2)
        Pairs of nearly identical images, such as neighbouring slices of one patient.
    n_pool : int
        Number of images that are not in the test split.
    """

    first: np.ndarray
    near: np.ndarray
    n_pool: int

    @classmethod
    def of(cls, data: sources.Data) -> Copies:
        """Find identical and nearly identical images by `kmedclf.datasets.audit`."""
        names = _pool_names(data)
        X, y, where = _together(data, [*names, "test"])
        found = audit(X, y)
        first = np.arange(len(y))
        for group in found.identical:
            first[list(group)] = min(group)
        near = np.array([pair[:2] for pair in found.near], np.int64).reshape(-1, 2)
        return cls(first, first[near], int((where != "test").sum()))

    def copied(self, rows: np.ndarray, among: np.ndarray) -> np.ndarray:
        """Return a mask of ``rows``, (n,), that have a copy in the rows ``among``."""
        there = np.zeros(len(self.first), bool)
        there[self.first[among]] = True
        reached = there.copy()
        for one, other in (self.near.T, self.near.T[::-1]):
            np.logical_or.at(reached, one, there[other])
        return reached[self.first[rows]]

    @cached_property
    def test(self) -> np.ndarray:
        """Mask of the test images that have a copy among the others."""
        n = len(self.first)
        return self.copied(np.arange(self.n_pool, n), np.arange(self.n_pool))

    @cached_property
    def groups(self) -> np.ndarray:
        """Number of each group of images, not of the test, that copies hold together, (n_pool,)."""
        near = self.near[(self.near < self.n_pool).all(axis=1)]
        shape = (self.n_pool, self.n_pool)
        graph = csr_array((np.ones(len(near), bool), tuple(near.T)), shape=shape)
        return connected_components(graph, directed=False)[1][self.first[: self.n_pool]]

    @property
    def grouped(self) -> np.ndarray:
        """Mask of the images, not of the test, that have a copy among them, (n_pool,)."""
        return np.asarray(np.bincount(self.groups)[self.groups] > 1)

    def folds(
        self, data: sources.Data, n_folds: int, seed: int, *, grouped: bool = False
    ) -> list[Fold]:
        """Split all but the test images into stratified folds; each is the validation set once.

        With ``grouped``, copies stay together. The description counts those of the training images.
        """
        X, y = pool(data)
        way = StratifiedGroupKFold if grouped else StratifiedKFold
        groups = self.groups if grouped else None
        cut = way(n_folds, shuffle=True, random_state=seed).split(np.zeros(len(y)), y, groups)
        test = np.arange(self.n_pool, len(self.first))
        several = []
        for number, (train, val) in enumerate(cut, 1):
            parts = {"train": (X[train], y[train]), "val": (X[val], y[val])}
            copied = {name: self.copied(i, train) for name, i in (("val", val), ("test", test))}
            made = resplit(
                data,
                {**parts, "test": data.splits["test"]},
                fold=f"{number} of {n_folds}, seed {seed}" + ", copies together" * grouped,
                n_copies_of_train={name: int(mask.sum()) for name, mask in copied.items()},
            )
            several.append(Fold(made, val, copied))
        return several


def pool(data: sources.Data) -> sources.Split:
    """Return all but the test images, and their labels."""
    return _together(data, _pool_names(data))[:2]


def _pool_names(data: sources.Data) -> list[str]:
    return [split for split in data.splits if split != "test"]


class Fold(NamedTuple):
    """A fold: its splits, and what of them is a copy of something that it trains on.

    ``rows`` are the images of "val", as rows of `pool`. ``copied`` has a mask of the images of
    "val", and one of "test".
    """

    data: sources.Data
    rows: np.ndarray
    copied: dict[str, np.ndarray]


def subsample(data: sources.Data) -> sources.Data:
    """Keep a few images of each split, in order: the first ones of each class."""
    return resplit(data, {split: _few(X, y) for split, (X, y) in data.splits.items()})


def _few(X: np.ndarray, y: np.ndarray) -> sources.Split:
    # Number the images within their class, and take the lowest numbers of all classes.
    code = np.unique(y, axis=0, return_inverse=True)[1].ravel()
    order = np.argsort(code, kind="stable")
    starts = np.unique(code[order], return_index=True)[1]
    nth = np.empty(len(code), np.int64)  # position within its class
    nth[order] = np.arange(len(code)) - starts[code[order]]
    kept = np.sort(np.argsort(nth, kind="stable")[:QUICK_IMAGES])
    return X[kept], y[kept]
