"""Subsets of a study's data: new splits, without duplicates, or a small sample."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.model_selection import StratifiedKFold, train_test_split

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
    names = list(data.splits)
    sizes = [len(data.splits[name][1]) for name in names]
    X, y = (np.concatenate(one) for one in zip(*data.splits.values(), strict=True))
    found = audit(X, y, splits=np.repeat(names, sizes), near=False)
    # In each group of duplicates keep the first one, in the order of splits.
    rank = found.split_index
    kept = np.ones(len(y), bool)
    for group in found.identical:
        kept[sorted(group, key=lambda row: (rank[row], row))[1:]] = False
    parts = np.split(kept, np.cumsum(sizes)[:-1])
    splits = {
        name: (data.splits[name][0][part], data.splits[name][1][part])
        for name, part in zip(names, parts, strict=True)
    }
    return resplit(data, splits, copies_left_out=int((~kept).sum()))


def folds(data: sources.Data, n_folds: int, seed: int) -> list[sources.Data]:
    """Split all but the test images into stratified folds; each is the validation set once."""
    parts = [data.splits[split] for split in data.splits if split != "test"]
    X, y = (np.concatenate(one) for one in zip(*parts, strict=True))
    cut = StratifiedKFold(n_folds, shuffle=True, random_state=seed).split(np.zeros(len(y)), y)
    return [
        resplit(
            data,
            {
                "train": (X[train], y[train]),
                "val": (X[val], y[val]),
                "test": data.splits["test"],
            },
            fold=f"{number} of {n_folds}, seed {seed}",
        )
        for number, (train, val) in enumerate(cut, 1)
    ]


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
