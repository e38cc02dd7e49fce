"""Data sets as the command line takes them: a name, an npz file, a folder, or synthetic cells."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from kmedclf import datasets
from kmedclf.datasets import _download, _subjects
from kmedclf.datasets.findings import FINDINGS
from kmedclf.datasets.folder import ImageFiles, load_folder, split_folders

SYNTHETIC = {"train": (2000, 0), "val": (400, 1), "test": (1000, 2)}
"""Number of images and seed of each split of a synthetic set."""

DRAWN: dict[str, tuple[str, Callable[..., Any], tuple[str, ...]]] = {
    "synthetic": (
        "synthetic blood cells",
        datasets.make_blood_cells,
        datasets.info("bloodmnist").class_names,
    ),
    "synthetic-findings": ("synthetic findings", datasets.make_chest_findings, FINDINGS),
}
"""Title, program and class names of each synthetic set; an image of findings may have several."""

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
    skipped : dict of str to list of str
        Files that could not be read and were left out of a split.
    """

    splits: dict[str, Split]
    class_names: tuple[str, ...]
    description: dict[str, Any]
    parameters: dict[str, Any] = field(default_factory=dict)
    skipped: dict[str, list[str]] = field(default_factory=dict)

    def names_of(self, labels: Sequence[Any]) -> list[str]:
        """Give the name of each label; a set without names has its labels as names."""
        if {str(label) for label in labels} <= set(self.class_names):
            return [str(label) for label in labels]
        return [self.class_names[label] for label in labels]


def read_data(
    source: str, size: int | None = None, only: str | None = None, groups: str | None = None
) -> Data:
    """Read a data set by name or path.

    Parameters
    ----------
    source : str
        A name out of `kmedclf.datasets.names`, the path of an ``.npz`` file or of a folder with a
        folder for every class, or a name out of `DRAWN`.
    size : int, optional
        Height and width of the images, where the set comes in several sizes: 28 by default, 64 for
        a folder.
    only : str, optional
        The one split that is needed.
    groups : str, optional
        Whom the images of a folder without splits are of, as `kmedclf.datasets._subjects` reads it:
        each group is in one split.

    Notes
    -----
    A folder without folders of splits is split by hashes of the paths in it: of each class 15 % to
    test and 15 % to validate, always the same, and nearly the same once images are added. "all"
    is all of it.
    """
    if groups is not None and not is_whole(source):
        raise ValueError(
            f"--groups must go with a folder that is yet to be split. {source} has splits."
        )
    if Path(source).expanduser().is_dir():
        return _read_folder(Path(source).expanduser(), size or SIDE, only, groups)
    size = size or 28
    if source in DRAWN:
        return _drawn(source, size, only)
    info = datasets.info(source)
    wanted = [only] if only else list(info.n_samples)
    splits = {split: datasets.load(source, split, size=size) for split in wanted}
    file = cached(info.name, size) if info.md5 else Path(source).expanduser()
    description = {
        "name": info.name,
        "source": source if info.md5 else str(file.absolute()),
        "size": size,
        "file": file.name,
        "sha256": _sha256(file),
        "image_shape": list(splits[wanted[0]][0].shape[1:]),
        "n": {split: len(y) for split, (_, y) in splits.items()},
    }
    return Data(splits, info.class_names, description)


def cached(name: str, size: int) -> Path:
    """Return where the file of a set known by name lies once it is downloaded."""
    return _download.cache_folder(None) / _download.file_name(datasets.info(name), size)


def is_whole(data: str) -> bool:
    """Say whether data are a folder without splits."""
    root = Path(data).expanduser()
    return root.is_dir() and not split_folders(root)


def _read_folder(root: Path, size: int, only: str | None, groups: str | None) -> Data:
    if folders := split_folders(root):
        found = {split: load_folder(root, split) for split in folders}
    else:
        whole = _subjects.load_grouped(root, None, groups)
        parts = {ALL: np.arange(len(whole.y))} if only == ALL else draw_splits(whole, root)
        if empty := [split for split, rows in parts.items() if not len(rows)]:
            raise ValueError(
                f"{root} has too few images to be split: {len(whole.y)} in "
                f"{len(whole.class_names)} classes leave none to {empty[0]!r}; add images, or "
                "folders 'train', 'val' and 'test'."
            )
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
    if groups is not None:
        table = groups.endswith(".csv")
        description["groups"] = str(Path(groups).absolute()) if table else groups
    return Data(splits, names, description, {"image_size": size})


def draw_splits(files: ImageFiles, root: Path) -> dict[str, np.ndarray]:
    """Split the files of a folder: rows of train, val and test, in the order of the files.

    A group goes where each of its classes lacks images still, so that splits are a little larger
    than `SHARES` where groups are large. The last group of a class is left to train.
    """
    places = [Path(path).relative_to(root).as_posix() for path in files.paths]
    whose = places if files.groups is None else files.groups.tolist()
    names, group = np.unique(whose, return_inverse=True)
    count = np.zeros((len(names), len(files.class_names)), np.int64)
    np.add.at(count, (group, files.y), 1)
    lacking = {
        split: np.maximum(1, [round(share * int(n)) for n in count.sum(axis=0)])
        for split, share in SHARES.items()
    }
    left = (count > 0).sum(axis=0)  # groups of each class that have no split yet
    split_of = np.full(len(names), "train")
    rank = [hashlib.sha256(os.fsencode(str(name))).digest() for name in names]
    for i in sorted(range(len(names)), key=rank.__getitem__):
        mine = count[i] > 0
        fits = [split for split, needed in lacking.items() if np.all(needed[mine] > 0)]
        if fits and np.all(left[mine] > 1):
            split_of[i] = fits[0]
            lacking[fits[0]] -= count[i]
        left -= mine
    return {
        split: np.flatnonzero(split_of[group] == split) for split in ("train", *reversed(SHARES))
    }


def _take(files: ImageFiles, rows: np.ndarray) -> ImageFiles:
    return files._replace(paths=files.paths[rows], y=files.y[rows])


def _drawn(source: str, size: int, only: str | None) -> Data:
    title, draw, names = DRAWN[source]
    if only and only not in SYNTHETIC:
        raise ValueError(f"The synthetic set has no {only!r} split, only {list(SYNTHETIC)}.")
    wanted = {only: SYNTHETIC[only]} if only else SYNTHETIC
    splits = {split: draw(n, size, random_state=seed) for split, (n, seed) in wanted.items()}
    description = {
        "name": title,
        "source": source,
        "size": size,
        "file": None,
        "sha256": None,
        "image_shape": list(next(iter(splits.values()))[0].shape[1:]),
        "n": {split: len(y) for split, (_, y) in splits.items()},
    }
    return Data(splits, names, description)


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
    return hashlib.sha256(os.fsencode("".join(sorted(lines)))).hexdigest()
