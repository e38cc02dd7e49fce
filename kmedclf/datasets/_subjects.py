"""What an audit is made of: a data set with all its splits, and whom its images are of."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kmedclf.datasets import _npz, _table, folder


class Subject(NamedTuple):
    """All splits of a data set, one behind the other.

    Parameters
    ----------
    name : str
        What to call it.
    X : sequence of n images, or of n paths
        Its images.
    y : ndarray of shape (n,) or (n, n_labels)
        Their labels.
    splits, groups : ndarray of shape (n,), or None
        Their splits, and whom they are of.
    class_names : sequence of str
        Names of the sorted labels, or of the columns of y.
    note : str
        What to say of the splits, if they are not the data set's own.
    """

    name: str
    X: Any
    y: NDArray[Any]
    splits: NDArray[np.str_]
    groups: NDArray[Any] | None
    class_names: list[str]
    note: str = ""


def read(source: str, size: int | None, groups: str | None) -> Subject:
    """Read a data set to audit.

    Parameters
    ----------
    source : str
        A folder of images, or what `kmedclf.runs.read_data` takes.
    size : int or None
        Height and width of the images, where the set comes in several sizes.
    groups : str or None
        For an ``.npz`` file the KEY of its arrays ``train_KEY``, ``val_KEY``, ``test_KEY``; for a
        folder a regular expression, as `kmedclf.datasets.load_folder` takes it, or a CSV file with
        the columns "path", below the folder, and "group".

    Raises
    ------
    ValueError
        If the groups are not there, or not those of the images.
    """
    root = Path(source).expanduser()
    return _folder(root, groups) if root.is_dir() else _arrays(source, size, groups)


def _arrays(source: str, size: int | None, groups: str | None) -> Subject:
    from kmedclf import runs

    content = runs.read_data(source, size)
    images, labels = zip(*content.splits.values(), strict=True)
    y = np.concatenate(labels)
    found = [content.class_names] if y.ndim == 2 else [content.names_of(np.unique(y).tolist())]
    return Subject(
        content.description["name"],
        [image for split in images for image in split],  # splits may differ in shape
        y,
        np.repeat(list(content.splits), [len(split) for split in labels]),
        None if groups is None else _of_file(source, groups, list(content.splits)),
        list(found[0]),
    )


def _of_file(source: str, key: str, splits: list[str]) -> NDArray[Any]:
    path = Path(source).expanduser()
    if path.suffix != ".npz":
        raise ValueError(f"--groups must go with a file or a folder. Got {source!r} instead.")
    known = _npz.read_headers(path)
    missing = [f"{split}_{key}" for split in splits if f"{split}_{key}" not in known]
    if missing:
        raise ValueError(
            f"--groups must be the KEY of arrays {', '.join(f'{one}_KEY' for one in splits)} in "
            f"{path}. Got {key!r}, and there is no {missing[0]!r}."
        )
    return np.concatenate([_npz.read_array(path, f"{split}_{key}").ravel() for split in splits])


def _folder(root: Path, groups: str | None) -> Subject:
    from kmedclf import run_data

    note = ""
    if folders := folder.split_folders(root):
        parts = [load_grouped(root, split, groups) for split in folders]
        where = np.repeat(list(folders), [len(part.paths) for part in parts])
    else:
        parts = [load_grouped(root, None, groups)]
        rows = run_data.draw_splits(parts[0], root)
        where = np.full(len(parts[0].paths), "train")
        for split in rows:
            where[rows[split]] = split
        same = "" if groups is None else " with these --groups"
        note = f"The folder has no splits of its own: these are what 'kmedclf train'{same} draws."
    y, names = np.concatenate([part.y for part in parts]), parts[0].class_names
    whose = [part.groups for part in parts if part.groups is not None]
    return Subject(
        root.absolute().name,
        [str(path) for part in parts for path in part.paths],
        y,
        where,
        np.concatenate(whose) if whose else None,
        [names[label] for label in np.unique(y)],
        note,
    )


def load_grouped(root: Path, split: str | None, groups: str | None) -> folder.ImageFiles:
    """List the images of a folder, or of a split in it, as `load_folder`; groups as in `read`."""
    if groups is None or not groups.endswith(".csv"):
        return folder.load_folder(root, split, group=groups)
    found = folder.load_folder(root, split)
    return found._replace(groups=_of_table(Path(groups), root, found.paths.tolist()))


def _of_table(path: Path, root: Path, images: list[str]) -> NDArray[np.str_]:
    def check(found: list[str]) -> list[str]:
        if not {"path", "group"} <= set(found):
            raise ValueError(f"{path} must have the columns path and group, and rows.")
        return ["path", "group"]

    cells = _table.read(path, check)
    group: dict[str, str] = {}
    rows = zip(cells.lines, cells.columns["path"], cells.columns["group"], strict=True)
    for line, place, name in rows:
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
