"""The image sets that `auto` and `portfolio` measure on: files that are given, and drawn ones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from sklearn.model_selection import StratifiedKFold

from kmedclf import datasets
from kmedclf.auto.material import grouped
from kmedclf.datasets.folders import load_folder

DRAWN = {
    "synthetic cells": lambda: datasets.make_blood_cells(400, random_state=0),
    "synthetic brains": lambda: datasets.make_brain_slices(300, 64, random_state=0),
}


class Set(NamedTuple):
    """A set of images: what to train on, and, if it has one, what to test on."""

    name: str
    X: Any
    y: np.ndarray
    X_test: Any = None
    y_test: np.ndarray | None = None


def read(paths: list[str]) -> list[Set]:
    """Read npz files in MedMNIST's form, folders of classes, and names in `DRAWN`."""
    return [_read(path) for path in paths]


def _read(path: str) -> Set:
    if path in DRAWN:
        return Set(path, *DRAWN[path]())
    place = Path(path)
    if place.is_dir():
        files = load_folder(place)
        return Set(place.name, np.array(files.paths), np.array(files.y))
    with np.load(place) as content:
        parts = [
            (content[f"{split}_images"], content[f"{split}_labels"].reshape(-1).astype(int))
            for split in ("train", "val", "test")
        ]
    X, y = (np.concatenate([parts[0][i], parts[1][i]]) for i in (0, 1))
    return Set(place.stem, X, y, *parts[2])


def halves(one: Set, folds: int, seed: int) -> Iterator[tuple[Any, Any, Any, Any]]:
    """Yield X, y, X_test, y_test: the set's own test, or folds of a set without.

    Copies of a picture, which some sets have on both sides, are left out of a set's own test.
    """
    if one.X_test is not None:
        new = _unseen(one)
        yield one.X, one.y, one.X_test[new], one.y_test[new]  # type: ignore[index]
        return
    for train, test in StratifiedKFold(folds, shuffle=True, random_state=seed).split(one.y, one.y):
        yield one.X[train], one.y[train], one.X[test], one.y[test]


def _unseen(one: Set) -> np.ndarray:
    """Return the positions of test images of which no copy or near copy is trained on."""
    both = np.concatenate([one.X, one.X_test])
    group = grouped(both, None, np.inf, "benchmark", lambda words: None)
    if group is None:
        return np.arange(len(one.X_test))
    n = len(one.X)
    return np.flatnonzero(~np.isin(group[n:], group[:n]))
