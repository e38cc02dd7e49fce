"""Tables of image files: one row an image, with its label and perhaps its patient."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from kmedclf.datasets.folder import ImageFiles


def load_csv(
    path: str | os.PathLike[str],
    *,
    image: str = "image",
    label: str | Sequence[str] = "label",
    group: str | None = None,
    folder: str | os.PathLike[str] | None = None,
    suffix: str = "",
) -> ImageFiles:
    """Read the paths, labels and groups of images from a CSV file.

    Parameters
    ----------
    path : str or path-like
        The table, UTF-8, its first line the names of its columns; separated by commas, semicolons
        or tabs.
    image : str, default="image"
        Column of the images' paths.
    label : str or sequence of str, default="label"
        Column of the labels; or, in a multi-label set, the columns of zeros and ones.
    group : str, optional
        Column of whom each image is of, such as a patient.
    folder : str or path-like, optional
        Where relative paths begin; by default the folder of the table.
    suffix : str, default=""
        What the paths lack, as ".jpg" where the column holds names of images only.

    Returns
    -------
    ImageFiles
        ``paths``, ``y``, ``groups`` and ``class_names``, in the order of the table. Labels that are
        whole numbers are sorted as numbers, others as text.

    Raises
    ------
    FileNotFoundError
        If there is no such table. Whether the images are there is seen by the estimator.
    ValueError
        If a column is missing, a cell is empty, or a multi-label cell is neither 0 nor 1.

    Examples
    --------
    >>> from kmedclf import datasets
    >>> scans = datasets.load_csv("scans.csv", group="patient")  # doctest: +SKIP
    """
    table = Path(path).expanduser()
    if not table.is_file():
        raise FileNotFoundError(f"There is no file {table}.")
    labels = [label] if isinstance(label, str) else list(label)
    columns = _read(table, {"image": [image], "label": labels, "group": [group] if group else []})
    root = table.parent if folder is None else Path(folder).expanduser()
    y, names = (
        _encode(columns[label])
        if isinstance(label, str)
        else (_zeros_and_ones(table, labels, columns), tuple(labels))
    )
    return ImageFiles(
        np.array([os.fspath(root / f"{name}{suffix}") for name in columns[image]]),
        y,
        np.array(columns[group]) if group else None,
        names,
    )


def _read(table: Path, wanted: dict[str, list[str]]) -> dict[str, list[str]]:
    """Read columns of a table, no cell of which may be empty."""
    with table.open(newline="", encoding="utf-8-sig") as file:
        first = file.readline()
        file.seek(0)
        separator = max(",;\t", key=first.count)
        rows = csv.DictReader(file, delimiter=separator)
        found = list(rows.fieldnames or ())
        for parameter, names in wanted.items():
            for name in names:
                if name not in found:
                    raise ValueError(
                        f"The '{parameter}' parameter of load_csv must name a column of {table}, "
                        f"{', '.join(map(repr, found)) or 'which has none'}. Got {name!r} instead."
                    )
        every = [name for names in wanted.values() for name in names]
        columns: dict[str, list[str]] = {name: [] for name in every}
        for row in rows:
            for name in every:
                if not row[name]:
                    _refuse(table, rows.line_num, name, "a value", "none")
                columns[name].append(row[name])
    if not columns[every[0]]:
        raise ValueError(f"{table} must hold a row for every image. It holds none.")
    return columns


def _encode(labels: list[str]) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Encode labels (n,) and name the classes, in the order of their numbers or names."""
    whole = all(text.lstrip("-").isdecimal() for text in set(labels))
    names = sorted(set(labels), key=int if whole else str)
    code = {name: i for i, name in enumerate(names)}
    return np.array([code[text] for text in labels], np.int64), tuple(names)


def _zeros_and_ones(
    table: Path, names: list[str], columns: dict[str, list[str]]
) -> NDArray[np.int64]:
    values = {"0": 0, "0.0": 0, "1": 1, "1.0": 1}
    for name in names:
        for line, text in enumerate(columns[name], 2):
            if text not in values:
                _refuse(table, line, name, "0 or 1", repr(text))
    return np.array([[values[text] for text in columns[name]] for name in names], np.int64).T


def _refuse(table: Path, line: int, column: str, what: str, got: str) -> NoReturn:
    raise ValueError(f"Line {line} of {table} must hold {what} in {column!r}. Got {got} instead.")
