"""CSV files of images: one row per image, with its path, label and optional group."""

from __future__ import annotations

import csv
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kmedclf.datasets.folders import ImageFiles

MOST_BYTES = 1 << 28
"""Maximum size of a table; two million images take about half of it."""

LONGEST_LINE, LONGEST_CELL = 1 << 20, 4096
"""Limits in characters: a NumPy array of text reserves the longest cell for every row."""

ENCODINGS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
"""Encodings by byte order mark."""


class Cells:
    """Columns of a table; the path is for messages."""

    def __init__(self, path: Path, names: list[str]) -> None:
        self.path, self.names = path, names
        self.lines: list[int] = []
        self.columns: dict[str, list[str]] = {}
        self.trimmed: list[tuple[int, str]] = []  # lines and cells whose blanks were cut off


def read_table(path: Path, wanted: Any, encoding: str = "utf-8") -> Cells:
    """Read some columns of a table that is separated by commas, semicolons or tabs.

    ``wanted`` maps the names of all columns to those to read, and raises if one is missing. A byte
    order mark overrides ``encoding``. An empty cell is an error.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    # Cells are kept as Python strings, which take several times the size of the file
    if path.stat().st_size > MOST_BYTES:
        raise ValueError(
            f"{path} must have at most {MOST_BYTES:,} bytes as a table. It has "
            f"{path.stat().st_size:,}."
        )
    with path.open("rb") as file:
        start = file.read(2)
    if encoding.lower().replace("_", "-") == "utf-8":
        encoding = ENCODINGS.get(start, "utf-8-sig")
    with _explained(path, encoding), path.open(newline="", encoding=encoding) as file:
        lines = _lines(path, file)
        first = next(lines, "")
        # The header decides: csv.Sniffer fails on tables of one column
        separator = max(",;\t", key=first.count)
        rows = csv.reader(_and_rest(first, lines), delimiter=separator, skipinitialspace=True)
        cells = Cells(path, [name.strip() for name in next(rows, [])])
        _fill(cells, rows, wanted(cells.names))
    return cells


def _and_rest(first: str, lines: Iterator[str]) -> Iterator[str]:
    yield first
    yield from lines


def _lines(path: Path, file: Any) -> Iterator[str]:
    """Yield the lines of a file; binary data and endless lines are errors."""
    number = 0
    while line := file.readline(LONGEST_LINE):
        number += 1
        # csv accepts zero bytes, but they are a sign of a binary file or a wrong encoding
        if "\0" in line:
            raise ValueError(f"Line {number} of {path} must be text. Got a byte of 0 in it.")
        if len(line) == LONGEST_LINE:
            raise ValueError(
                f"Line {number} of {path} must have fewer than {LONGEST_LINE:,} characters."
            )
        yield line


@contextmanager
def _explained(path: Path, encoding: str) -> Iterator[None]:
    """Turn the errors of decoding and of csv into a ValueError that names the file."""
    try:
        yield
    except UnicodeError as error:
        name = encoding.removesuffix("-sig")
        raise ValueError(
            f"{path} must be text in {name}. It is not: save it as UTF-8, or say what it is in, as "
            f"in encoding='latin-1'."
        ) from error
    except LookupError as error:
        raise ValueError(f"There is no encoding {encoding!r} to read {path} in.") from error
    except csv.Error as error:
        raise ValueError(f"{path} is not a table that can be read ({error}).") from error


def _fill(cells: Cells, rows: Any, names: Sequence[str]) -> None:
    """Read all rows; a row may be longer than the header only by empty cells."""
    width = len(cells.names)
    places = {}
    for name in names:
        if cells.names.count(name) > 1:
            raise ValueError(f"{cells.path} must have one column {name!r}. It has several.")
        places[name] = cells.names.index(name)
        cells.columns[name] = []
    for row in rows:
        if not any(cell.strip() for cell in row):  # empty lines are common at the end
            continue
        # Spreadsheets append empty cells; a filled one means an unquoted separator
        if len(row) > width and any(cell.strip() for cell in row[width:]):
            raise ValueError(
                f"Line {rows.line_num} of {cells.path} must have {width} cells. Got {len(row)}."
            )
        cells.lines.append(rows.line_num)
        for name, place in places.items():
            cell = row[place] if place < len(row) else ""
            if cell != cell.strip():
                cells.trimmed.append((rows.line_num, cell))
            cell = cell.strip()
            if not cell:
                raise ValueError(
                    f"Line {rows.line_num} of {cells.path} must hold a value in {name!r}. Got "
                    "none instead."
                )
            if len(cell) > LONGEST_CELL:
                raise ValueError(
                    f"Line {rows.line_num} of {cells.path} must have at most {LONGEST_CELL:,} "
                    f"characters in {name!r}. It has {len(cell):,}."
                )
            cells.columns[name].append(cell)
    if not cells.lines:
        raise ValueError(f"{cells.path} must hold a row for every image. It holds none.")


def load_csv(
    path: str | os.PathLike[str],
    *,
    image: str = "image",
    label: str | Sequence[str] = "label",
    group: str | None = None,
    folder: str | os.PathLike[str] | None = None,
    suffix: str = "",
    encoding: str = "utf-8",
) -> ImageFiles:
    """Read the paths, labels and groups of images from a CSV file.

    Parameters
    ----------
    path : str or path-like
        The table. Its first line holds the names of the columns; the separator is a comma, a
        semicolon or a tab.
    image : str, default="image"
        Column of the paths of the images.
    label : str or sequence of str, default="label"
        Column of the labels; in a multilabel set, the columns of zeros and ones.
    group : str, optional
        Column of the groups, such as patients.
    folder : str or path-like, optional
        Folder that relative paths start from; by default the folder of the table.
    suffix : str, default=""
        Appended to the paths, such as ".jpg" where the column holds names without it.
    encoding : str, default="utf-8"
        Encoding of the table, such as "latin-1". Byte order marks of UTF-8 and UTF-16 are
        recognised.

    Returns
    -------
    ImageFiles
        ``paths``, ``y``, ``groups`` and ``class_names``, in the order of the table. Classes are
        sorted as numbers if all labels are whole numbers, otherwise as text.

    Raises
    ------
    FileNotFoundError
        If there is no such table. The images themselves are not opened; the estimator reports
        missing ones.
    ValueError
        If a column is missing, a cell is empty, or a multilabel cell is neither 0 nor 1; if a row
        has too many cells, or an image has two labels or groups.

    Warns
    -----
    UserWarning
        If blanks around a cell were removed, labels differ by case only, or an image is listed
        more than once.

    Examples
    --------
    >>> from kmedclf import datasets
    >>> scans = datasets.load_csv("scans.csv", group="patient")  # doctest: +SKIP
    """
    table = Path(path).expanduser()
    labels = [label] if isinstance(label, str) else list(label)
    wanted = {"image": [image], "label": labels, "group": [group] if group else []}

    def check(found: list[str]) -> list[str]:
        for parameter, names in wanted.items():
            for name in names:
                if name not in found:
                    raise ValueError(
                        f"The '{parameter}' parameter of load_csv must name a column of {table}, "
                        f"{', '.join(map(repr, found)) or 'which has none'}. Got {name!r} instead."
                    )
        return [name for names in wanted.values() for name in names]

    cells = read_table(table, check, encoding)
    root = table.parent if folder is None else Path(folder).expanduser()
    paths = [os.fspath(root / f"{name}{suffix}") for name in cells.columns[image]]
    y, names = (
        _encode(cells.columns[label])
        if isinstance(label, str)
        else (_zeros_and_ones(cells, labels), tuple(labels))
    )
    _check_twice(cells, paths, [*labels, *wanted["group"]])
    _warn(cells, names)
    return ImageFiles(np.array(paths), y, np.array(cells.columns[group]) if group else None, names)


def _check_twice(cells: Cells, paths: list[str], columns: list[str]) -> None:
    """Refuse an image with two labels or groups; warn of images that are listed twice."""
    first: dict[str, int] = {}
    twice = []
    for i, path in enumerate(paths):
        # "a/./b.png" and "a/b.png" are one file
        j = first.setdefault(os.path.normpath(path), i)
        if j == i:
            continue
        twice.append(i)
        for name in columns:
            pair = cells.columns[name][j], cells.columns[name][i]
            if pair[0] != pair[1]:
                raise ValueError(
                    f"{cells.path} must give {path} one value of {name!r}. Got {pair[0]!r} in line "
                    f"{cells.lines[j]} and {pair[1]!r} in line {cells.lines[i]}."
                )
    if twice:
        warnings.warn(
            f"{cells.path} lists {len(twice)} of its {len(paths)} images more than once, such as "
            f"{paths[twice[0]]} in line {cells.lines[twice[0]]}.",
            stacklevel=3,
        )


def _warn(cells: Cells, classes: Sequence[str]) -> None:
    """Warn of removed blanks, and of labels that differ by case only."""
    if cells.trimmed:
        line, cell = cells.trimmed[0]
        warnings.warn(
            f"{len(cells.trimmed)} cells of {cells.path} begin or end with blanks, which were cut "
            f"off, such as {cell!r} in line {line}.",
            stacklevel=3,
        )
    spelt: dict[str, str] = {}
    for name in classes:
        other = spelt.setdefault(name.casefold(), name)
        if other != name:
            warnings.warn(
                f"{cells.path} has the labels {other!r} and {name!r}, which differ by case only: "
                "change one if they are the same.",
                stacklevel=3,
            )


def _encode(labels: list[str]) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Encode labels (n,), and return the sorted class names."""
    whole = all(re.fullmatch("-?[0-9]{1,18}", text) for text in set(labels))
    # "1" and "01" are equal numbers: the text decides, since the order of a set is not fixed
    names = sorted(set(labels), key=lambda text: (int(text) if whole else 0, text))
    code = {name: i for i, name in enumerate(names)}
    return np.array([code[text] for text in labels], np.int64), tuple(names)


def _zeros_and_ones(cells: Cells, names: list[str]) -> NDArray[np.int64]:
    """Read the columns of a multilabel set, (n, n_labels)."""
    values = {"0": 0, "0.0": 0, "1": 1, "1.0": 1}
    for name in names:
        for line, text in zip(cells.lines, cells.columns[name], strict=True):
            if text not in values:
                raise ValueError(
                    f"Line {line} of {cells.path} must hold 0 or 1 in {name!r}. Got {text!r} "
                    "instead."
                )
    return np.array([[values[text] for text in cells.columns[name]] for name in names], np.int64).T
