"""Data sets of the command line: a name, an npz file, a folder, a table, or synthetic images."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kmedclf import datasets
from kmedclf.datasets import loading, tables
from kmedclf.datasets.folders import SPLIT_NAMES, ImageFiles, load_folder, split_folders
from kmedclf.datasets.npz import NpzFile
from kmedclf.datasets.synthetic import FINDINGS
from kmedclf.datasets.synthetic_brains import TUMOURS
from kmedclf.datasets.synthetic_xrays import XRAYS
from kmedclf.utils.text import suggest

SYNTHETIC = {"train": (2000, 0), "val": (400, 1), "test": (1000, 2)}
"""Number of images and seed of each split of a synthetic set."""

DRAWN: dict[str, tuple[str, Callable[..., Any], tuple[str, ...]]] = {
    "synthetic": (
        "synthetic blood cells",
        datasets.make_blood_cells,
        datasets.info("bloodmnist").class_names,
    ),
    "synthetic-findings": ("synthetic findings", datasets.make_chest_findings, FINDINGS),
    "synthetic-brains": ("synthetic brain slices", datasets.make_brain_slices, TUMOURS),
    **{
        f"synthetic-{kind}s": (
            f"synthetic {kind} X-rays",
            partial(datasets.make_xrays, kind),
            XRAYS[kind].class_names,
        )
        for kind in XRAYS
    },
}
"""Title, function and class names of each synthetic set; "synthetic-findings" is multilabel."""

SIDE = 64
"""Height and width to which the images of folders are resized by default."""

SHARES = {"test": 0.15, "val": 0.15}
"""Share of each class that goes to these splits if a folder has none of its own."""

ALL = "all"
"""Name of the split that holds all images of such a folder."""

TABLES = frozenset({".csv", ".tsv"})
"""Suffixes of tables of images."""

COLUMNS = {
    "image": ("path", "image", "file", "filename", "file_name", "image_path"),
    "label": ("label", "class", "diagnosis", "target", "y"),
    "split": ("split", "subset"),
    "group": ("patient", "group", "patient_id", "subject"),
}
"""Names of the columns of a table of images, the likeliest first."""

Split = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Data:
    """A data set: its splits, class names, and the facts that a run records about it."""

    splits: dict[str, Split]  # images, or paths of images, and labels
    class_names: tuple[str, ...]
    description: dict[str, Any]  # written to environment.json
    parameters: dict[str, Any] = field(default_factory=dict)  # of an estimator that reads them
    skipped: dict[str, list[str]] = field(default_factory=dict)  # unreadable files, by split
    ordinal: bool = False  # whether the classes are grades, in order
    groups: dict[str, np.ndarray] = field(default_factory=dict)  # of each image, by split

    def joined(self) -> Data:
        """Return the same data with "val" as a part of "train"."""
        if not {"train", "val"} <= set(self.splits):
            return self
        (X, y), (X_val, y_val) = self.splits["train"], self.splits["val"]
        both = np.concatenate([X, X_val]), np.concatenate([y, y_val])
        rest = {name: one for name, one in self.splits.items() if name != "val"}
        n = {name: len(one[1]) for name, one in {**rest, "train": both}.items()}
        groups = {name: one for name, one in self.groups.items() if name != "val"}
        if groups:
            groups["train"] = np.concatenate([self.groups["train"], self.groups["val"]])
        description = {**self.description, "n": n}
        return replace(self, splits={**rest, "train": both}, description=description, groups=groups)

    def names_of(self, labels: Sequence[Any]) -> list[str]:
        """Return the names of labels; labels that are class names already stay as they are."""
        if {str(label) for label in labels} <= set(self.class_names):
            return [str(label) for label in labels]
        return [self.class_names[label] for label in labels]


def read_data(
    source: str, size: int | None = None, only: str | None = None, groups: str | None = None
) -> Data:
    """Read a data set: a MedMNIST name, a name in `DRAWN`, or the path of a file or folder.

    The file is an npz file, or a CSV table of image files. ``size`` is 28 by default, and 64 for a
    folder or table. ``only`` is the one split to read. ``groups`` keep the groups of a folder or
    table without splits in one split each; see `read_audit_input`.
    """
    check_source(source)
    if groups is not None and not is_whole(source):
        raise ValueError(f"--groups must go with a folder without splits. {source} has splits.")
    if is_of_files(source):
        return _read_files(Path(source).expanduser(), size or SIDE, only, groups)
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
    return Data(splits, info.class_names, description, ordinal=info.task == "ordinal")


def cached(name: str, size: int) -> Path:
    """Return the path of the downloaded file of a MedMNIST set."""
    return loading.cache_folder(None) / loading.file_name(datasets.info(name), size)


def is_of_files(data: str) -> bool:
    """Check whether `data` is a folder or a table of image files."""
    root = Path(data).expanduser()
    return root.is_dir() or root.suffix.lower() in TABLES


def is_whole(data: str) -> bool:
    """Check whether `data` is a folder or table without splits."""
    root = Path(data).expanduser()
    if root.is_dir():
        return not split_folders(root)
    return is_of_files(data) and _columns(root).split is None


def check_source(source: str) -> None:
    """Refuse what is neither a known name nor a path of data, without reading images."""
    if is_of_files(source):
        is_whole(source)
    elif os.sep in source or Path(source).suffix == ".npz":
        datasets.info(source)
    elif source not in {*DRAWN, *datasets.names()}:
        beside = Path(source).expanduser().absolute().parent
        near = [str(Path(source).with_name(one.name)) for one in beside.glob("*")]
        hint = suggest(source, [*datasets.names(), *DRAWN, *near], n=1)
        raise ValueError(
            "--data must be a folder of images, an .npz file, a CSV table, or a name that 'kmedclf "
            f"datasets' lists. Got {source!r} instead{hint}"
        )


class Columns(NamedTuple):
    """Names of the columns of a table of images."""

    image: str
    label: str
    split: str | None
    group: str | None


def _columns(table: Path, group: str | None = None) -> Columns:
    """Find the columns of a table by their names; ``group`` is the column of groups."""
    header = tables.read_table(table, lambda names: []).names
    known = {name.lower().replace(" ", "_"): name for name in reversed(header)}
    image, label, split, own = (
        next((known[name] for name in names if name in known), None) for names in COLUMNS.values()
    )
    if image is None or label is None:
        kind, names = ("paths of images", COLUMNS["image"]) if image is None else (
            "classes", COLUMNS["label"])  # fmt: skip
        raise ValueError(
            f"{table} must have a column of the {kind}, named {' or '.join(names[:3])}. It has "
            f"{', '.join(map(repr, header)) or 'none'}: rename the column that holds the {kind}."
        )
    if group is not None and group not in header:
        raise ValueError(
            f"--groups must be a column of {table}, {', '.join(map(repr, header))}. Got {group!r} "
            "instead."
        )
    return Columns(image, label, split, group or own)


def _listed(root: Path, groups: str | None) -> dict[str, ImageFiles]:
    """List the images of each split of a folder or table; all under `ALL` if it has no splits."""
    if root.is_dir():
        folders = split_folders(root)
        return {split or ALL: load_grouped(root, split, groups) for split in folders or [None]}
    image, label, split, group = _columns(root, groups)
    files = tables.load_csv(root, image=image, label=label, group=group)
    for path in files.paths:
        if not os.path.isfile(path):
            raise FileNotFoundError(
                f"{root} must name image files, relative to its own folder. There is no {path}."
            )
    if split is None:
        return {ALL: files}
    cells = tables.read_table(root, lambda names: [split])
    named = {word: one for one, words in SPLIT_NAMES.items() for word in words}
    for line, cell in zip(cells.lines, cells.columns[split], strict=True):
        if cell.lower() not in named:
            raise ValueError(
                f"Line {line} of {root} must hold train, val or test in {split!r}. Got {cell!r} "
                "instead."
            )
    where = np.array([named[cell.lower()] for cell in cells.columns[split]])
    return {one: _take(files, np.flatnonzero(where == one)) for one in SPLIT_NAMES if one in where}


def _check_classes(root: Path, names: Sequence[str]) -> None:
    """Refuse to train on one class, in words of folders."""
    if len(names) < 2:
        what = "folders of images of" if root.is_dir() else "images of"
        raise ValueError(
            f"{root} must hold {what} two classes or more, to train on. It holds one, {names[0]}."
        )


def _read_files(root: Path, size: int, only: str | None, groups: str | None) -> Data:
    """Read a folder or table of images, with its own splits or with drawn ones."""
    found = _listed(root, groups)
    if only is None:
        _check_classes(root, next(iter(found.values())).class_names)
    if ALL in found:
        whole = found[ALL]
        parts = {ALL: np.arange(len(whole.y))} if only == ALL else draw_splits(whole, root)
        # Small folders leave a split without images, which an estimator would reject less clearly
        if empty := [split for split, rows in parts.items() if not len(rows)]:
            raise ValueError(
                f"{root} has too few images to be split: {len(whole.y)} in "
                f"{len(whole.class_names)} classes leave none to {empty[0]!r}; add images, or "
                "folders 'train', 'val' and 'test'."
            )
        found = {split: _take(whole, rows) for split, rows in parts.items()}
    if only and only not in found:
        raise ValueError(f"{root} has no {only!r} split, only {', '.join(map(repr, found))}.")
    # The hash covers all splits, also if only one is read
    every = [path for part in found.values() for path in part.paths]
    wanted = [only] if only else list(found)
    splits = {split: (found[split].paths, found[split].y) for split in wanted}
    names = next(iter(found.values())).class_names
    itself = [] if root.is_dir() else [str(root)]  # a table: its labels count as well
    description = {
        "name": root.absolute().name,
        "source": str(root.absolute()),
        "size": size,
        "file": root.name if itself else None,
        "sha256": _sha256_of_all(root.parent if itself else root, [*itself, *every]),
        "image_shape": [size, size, 3],
        "n": {split: len(y) for split, (_, y) in splits.items()},
    }
    if groups is not None:
        table = groups.endswith(".csv")
        description["groups"] = str(Path(groups).absolute()) if table else groups
    known = {split: found[split].groups for split in wanted}
    kept = {split: one for split, one in known.items() if one is not None}
    return Data(splits, names, description, {"image_size": size}, groups=kept)


def draw_splits(files: ImageFiles, root: Path) -> dict[str, np.ndarray]:
    """Draw train, val and test from the files of a folder; each group is in one split.

    A group goes to a split in which each of its classes still lacks images, so that splits exceed
    `SHARES` a little if groups are large. The last group of a class is left to train.
    """
    # Without groups, each file is its own group
    keys = _places(root, files.paths.tolist()) if files.groups is None else files.groups.tolist()
    names, group = np.unique(keys, return_inverse=True)
    count = np.zeros((len(names), len(files.class_names)), np.int64)
    np.add.at(count, (group, files.y), 1)
    lacking = {
        split: np.maximum(1, [round(share * int(n)) for n in count.sum(axis=0)])
        for split, share in SHARES.items()
    }
    left = (count > 0).sum(axis=0)  # groups of each class without a split yet
    split_of = np.full(len(names), "train")
    # The order of hashes needs no seed, and hardly changes when images are added
    rank = [hashlib.sha256(os.fsencode(str(name))).digest() for name in names]
    for i in sorted(range(len(names)), key=rank.__getitem__):
        mine = count[i] > 0
        # Test is filled before validation, in the order of SHARES
        fits = [split for split, needed in lacking.items() if np.all(needed[mine] > 0)]
        if fits and np.all(left[mine] > 1):
            split_of[i] = fits[0]
            lacking[fits[0]] -= count[i]
        left -= mine
    return {
        split: np.flatnonzero(split_of[group] == split) for split in ("train", *reversed(SHARES))
    }


def _places(root: Path, paths: Sequence[str]) -> list[str]:
    """Return paths relative to a folder, or to that of a table."""
    start = root if root.is_dir() else root.parent
    return [Path(os.path.relpath(path, start)).as_posix() for path in paths]


def _take(files: ImageFiles, rows: np.ndarray) -> ImageFiles:
    groups = None if files.groups is None else files.groups[rows]
    return files._replace(paths=files.paths[rows], y=files.y[rows], groups=groups)


def _drawn(source: str, size: int, only: str | None) -> Data:
    """Draw the splits of a synthetic set."""
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
    """Hash files together with their paths relative to a folder."""
    from kmedclf.inputs.file_array import in_threads

    # The format of sha256sum; sorted, so that the hash does not depend on the order of files
    lines = [
        f"{digest}  {place}\n"
        for place, digest in zip(_places(root, paths), in_threads(_sha256, paths), strict=True)
    ]
    return hashlib.sha256(os.fsencode("".join(sorted(lines)))).hexdigest()


class AuditInput(NamedTuple):
    """All splits of a data set, concatenated."""

    name: str
    X: Any  # sequence of n images, or of n paths
    y: NDArray[Any]  # (n,) or (n, n_labels)
    splits: NDArray[np.str_]  # (n,)
    groups: NDArray[Any] | None  # (n,)
    class_names: list[str]  # of the sorted labels, or of the columns of y
    note: str = ""  # on splits that are not the data set's own


def read_audit_input(source: str, size: int | None, groups: str | None) -> AuditInput:
    """Read any source of `read_data`, to audit it.

    ``groups`` is, for an npz file, the KEY of its arrays ``train_KEY``, ``val_KEY``, ``test_KEY``;
    for a folder a regular expression, or a CSV file with the columns "path" and "group"; for a
    table a column, by default that called group or patient.
    """
    root = Path(source).expanduser()
    return _files(root, groups) if is_of_files(source) else _arrays(source, size, groups)


def _arrays(source: str, size: int | None, groups: str | None) -> AuditInput:
    """Read the splits of a data set of arrays."""
    content = read_data(source, size)
    images, labels = zip(*content.splits.values(), strict=True)
    y = np.concatenate(labels)
    found = [content.class_names] if y.ndim == 2 else [content.names_of(np.unique(y).tolist())]
    return AuditInput(
        content.description["name"],
        [image for split in images for image in split],  # splits may differ in shape
        y,
        np.repeat(list(content.splits), [len(split) for split in labels]),
        None if groups is None else _of_file(source, groups, list(content.splits)),
        list(found[0]),
    )


def _of_file(source: str, key: str, splits: list[str]) -> NDArray[Any]:
    """Read the groups of all splits from the arrays ``SPLIT_KEY`` of an npz file."""
    path = Path(source).expanduser()
    if path.suffix != ".npz":
        raise ValueError(f"--groups must go with a file or a folder. Got {source!r} instead.")
    file = NpzFile(path)
    missing = [f"{split}_{key}" for split in splits if f"{split}_{key}" not in file.headers]
    if missing:
        raise ValueError(
            f"--groups must be the KEY of arrays {', '.join(f'{one}_KEY' for one in splits)} in "
            f"{path}. Got {key!r}, and there is no {missing[0]!r}."
        )
    return np.concatenate([file.read(f"{split}_{key}").ravel() for split in splits])


def _files(root: Path, groups: str | None) -> AuditInput:
    """Read the splits of a folder or table; without any, draw them as training does."""
    note, found = "", _listed(root, groups)
    parts = list(found.values())
    where = np.repeat(list(found), [len(part.paths) for part in parts])
    if ALL in found:
        # Audit the splits that training would use
        rows = draw_splits(parts[0], root)
        where = np.full(len(parts[0].paths), "train")
        for split in rows:
            where[rows[split]] = split
        same = "" if groups is None else " with these --groups"
        kind = "folder" if root.is_dir() else "table"
        note = f"The {kind} has no splits of its own: these are what 'kmedclf train'{same} draws."
    y, names = np.concatenate([part.y for part in parts]), parts[0].class_names
    given = [part.groups for part in parts if part.groups is not None]
    return AuditInput(
        root.absolute().name,
        [str(path) for part in parts for path in part.paths],
        y,
        where,
        np.concatenate(given) if given else None,
        [names[label] for label in np.unique(y)],
        note,
    )


def load_grouped(root: Path, split: str | None, groups: str | None) -> ImageFiles:
    """List the images of a folder or split, with the groups of `read_audit_input`."""
    if groups is None or not groups.endswith(".csv"):
        return load_folder(root, split, group=groups)
    found = load_folder(root, split)
    return found._replace(groups=_of_table(Path(groups), root, found.paths.tolist()))


def _of_table(path: Path, root: Path, images: list[str]) -> NDArray[np.str_]:
    """Read the group of each image from a CSV file; paths in it are relative to `root`."""

    def check(found: list[str]) -> list[str]:
        if not {"path", "group"} <= set(found):
            raise ValueError(f"{path} must have the columns path and group, and rows.")
        return ["path", "group"]

    cells = tables.read_table(path, check)
    group: dict[str, str] = {}
    rows = zip(cells.lines, cells.columns["path"], cells.columns["group"], strict=True)
    for line, place, name in rows:
        # "./a.png" and "a.png" are one path
        other = group.setdefault(Path(place).as_posix(), name)
        if other != name:
            raise ValueError(
                f"{path} must give {place} one group. Got {other!r}, and {name!r} in line {line}."
            )
    places = [Path(image).relative_to(root).as_posix() for image in images]
    for place in places:
        if place not in group:
            raise ValueError(f"{path} must name the group of every image. {place} is not in it.")
    return np.array([group[place] for place in places])
