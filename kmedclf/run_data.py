"""Data sets as the command line takes them: a name, an npz file, a folder, or synthetic cells."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from kmedclf import datasets
from kmedclf.datasets import _download
from kmedclf.datasets.folder import ImageFiles, load_folder, split_folders

SYNTHETIC = {"train": (2000, 0), "val": (400, 1), "test": (1000, 2)}
"""Number of images and seed of each split of the set named "synthetic"."""

SIDE = 64
"""Side at which the images of folders are read."""

SHARES = {"test": 0.15, "val": 0.15}
"""Parts of each class that are split off a folder without folders of splits."""

ALL = "all"
"""Name of the one split that holds all images of such a folder."""

Split = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Data:
    """A data set: its splits, one name per label, and what to write down of it.

    Parameters
    ----------
    splits : dict of str to (X, y)
        Images, or paths of images, and labels.
    class_names : tuple of str
        One name a label.
    description : dict
        Goes into ``environment.json``.
    parameters : dict
        What an estimator needs to know to read them.
    """

    splits: dict[str, Split]
    class_names: tuple[str, ...]
    description: dict[str, Any]
    parameters: dict[str, Any] = field(default_factory=dict)

    def names_of(self, labels: Sequence[Any]) -> list[str]:
        """Give the name of each label; a set without names has its labels as names."""
        if {str(label) for label in labels} <= set(self.class_names):
            return [str(label) for label in labels]
        return [self.class_names[label] for label in labels]


def read_data(source: str, size: int | None = None, only: str | None = None) -> Data:
    """Read a data set by name or path.

    Parameters
    ----------
    source : str
        A name out of `kmedclf.datasets.names`, the path of an ``.npz`` file or of a folder with a
        folder for every class, or "synthetic".
    size : int, optional
        Height and width of the images, where the set comes in several sizes: 28 by default, 64 for
        a folder.
    only : str, optional
        The one split that is needed.

    Notes
    -----
    A folder without folders of splits is split by hashes of the paths in it: of each class 15 % to
    test and 15 % to validate, always the same, and nearly the same once images are added. "all"
    is all of it.
    """
    if Path(source).expanduser().is_dir():
        return _read_folder(Path(source).expanduser(), size or SIDE, only)
    size = size or 28
    synthetic = source == "synthetic"
    info = datasets.info("bloodmnist" if synthetic else source)
    wanted = [only] if only else list(SYNTHETIC if synthetic else info.n_samples)
    read = _draw if synthetic else datasets.load
    splits = {split: read(source, split, size=size) for split in wanted}
    file = cached(info.name, size) if info.md5 else Path(source).expanduser()
    description = {
        "name": "synthetic blood cells" if synthetic else info.name,
        "source": source if synthetic or info.md5 else str(file.absolute()),
        "size": size,
        "file": None if synthetic else file.name,
        "sha256": None if synthetic else _sha256(file),
        "image_shape": list(splits[wanted[0]][0].shape[1:]),
        "n": {split: len(y) for split, (_, y) in splits.items()},
    }
    return Data(splits, info.class_names, description)


def cached(name: str, size: int) -> Path:
    """Return where the file of a set known by name lies once it is downloaded."""
    return _download.cache_folder(None) / _download.file_name(datasets.info(name), size)


def other_folder(source: str, data: str) -> bool:
    """Say whether ``data`` is a folder without splits, and another than that trained on."""
    root = Path(data).expanduser()
    return root.is_dir() and not split_folders(root) and root.absolute() != Path(source)


def _read_folder(root: Path, size: int, only: str | None) -> Data:
    if folders := split_folders(root):
        found = {split: load_folder(root, split) for split in folders}
    else:
        whole = load_folder(root)
        parts = {ALL: np.arange(len(whole.y))} if only == ALL else _split(whole, root)
        found = {split: _take(whole, rows) for split, rows in parts.items()}
    if only and only not in found:
        raise ValueError(f"{root} has no {only!r} split, only {', '.join(map(repr, found))}.")
    every = [path for part in found.values() for path in part.paths]
    wanted = [only] if only else list(found)
    splits = {split: (found[split].paths, found[split].y) for split in wanted}
    names = next(iter(found.values())).class_names
    description = {
        "name": root.absolute().name,
        "source": str(root.absolute()),
        "size": size,
        "file": None,
        "sha256": _sha256_of_all(root, every),
        "image_shape": [size, size, 3],
        "n": {split: len(y) for split, (_, y) in splits.items()},
    }
    return Data(splits, names, description, {"image_size": size})


def _split(files: ImageFiles, root: Path) -> dict[str, np.ndarray]:
    """Split files into train, val and test by class; at least one each where there are three."""
    places = [Path(path).relative_to(root).as_posix() for path in files.paths]
    rank = np.array([hashlib.sha256(os.fsencode(place)).hexdigest() for place in places])
    parts: dict[str, list[np.ndarray]] = {"train": [], "val": [], "test": []}
    for label in range(len(files.class_names)):
        rows = np.flatnonzero(files.y == label)
        rows = rows[np.argsort(rank[rows])]
        for split, share in SHARES.items():
            n = max(1, round(share * np.sum(files.y == label))) if len(rows) > 1 else 0
            parts[split].append(rows[:n])
            rows = rows[n:]
        parts["train"].append(rows)
    return {split: np.sort(np.concatenate(rows)) for split, rows in parts.items()}


def _take(files: ImageFiles, rows: np.ndarray) -> ImageFiles:
    return files._replace(paths=files.paths[rows], y=files.y[rows])


def _draw(_: str, split: str, size: int) -> Split:
    if split not in SYNTHETIC:
        raise ValueError(f"The synthetic set has no {split!r} split, only {list(SYNTHETIC)}.")
    n_samples, seed = SYNTHETIC[split]
    return datasets.make_blood_cells(n_samples, size, random_state=seed)


def _sha256(path: str | Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sha256_of_all(root: Path, paths: Sequence[str]) -> str:
    """Hash files together with their places in a folder."""
    from kmedclf.file_array import in_threads

    lines = [
        f"{digest}  {Path(path).relative_to(root).as_posix()}\n"
        for path, digest in zip(paths, in_threads(_sha256, paths), strict=True)
    ]
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()
