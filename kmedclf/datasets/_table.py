"""CSV files as tables of text: bounded, and never shifted by a cell."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

MOST_BYTES = 1 << 28
"""Largest table; two million images take about half of it."""

LONGEST_LINE, LONGEST_CELL = 1 << 20, 4096
"""In characters: an array of text has room for its longest cell in every row."""

ENCODINGS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
"""By the marks that files in them begin with."""


class Cells:
    """Columns of a table.

    Parameters
    ----------
    path : Path
        The table, for messages.
    names : list of str
        Its columns.
    """

    def __init__(self, path: Path, names: list[str]) -> None:
        self.path, self.names = path, names
        self.lines: list[int] = []
        self.columns: dict[str, list[str]] = {}
        self.trimmed: list[tuple[int, str]] = []  # lines and cells whose blanks were cut off


def read(path: Path, wanted: Any, encoding: str = "utf-8") -> Cells:
    """Read some columns of a table; an empty cell is an error.

    Parameters
    ----------
    path : Path
        The file; separated by commas, semicolons or tabs.
    wanted : callable
        From the names of the columns to those that are read; raises an error if one is missing.
    encoding : str
        Of the file, if it does not begin with a mark of its own.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        In one sentence, if it is no table, or too large.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
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
        separator = max(",;\t", key=first.count)
        rows = csv.reader(_and_rest(first, lines), delimiter=separator, skipinitialspace=True)
        cells = Cells(path, [name.strip() for name in next(rows, [])])
        _fill(cells, rows, wanted(cells.names))
    return cells


def _and_rest(first: str, lines: Iterator[str]) -> Iterator[str]:
    yield first
    yield from lines


def _lines(path: Path, file: Any) -> Iterator[str]:
    number = 0
    while line := file.readline(LONGEST_LINE):
        number += 1
        if "\0" in line:
            raise ValueError(f"Line {number} of {path} must be text. Got a byte of 0 in it.")
        if len(line) == LONGEST_LINE:
            raise ValueError(
                f"Line {number} of {path} must have fewer than {LONGEST_LINE:,} characters."
            )
        yield line


@contextmanager
def _explained(path: Path, encoding: str) -> Iterator[None]:
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
    """Read all rows: each as wide as the first, but for empty cells at its end."""
    width = len(cells.names)
    places = {}
    for name in names:
        if cells.names.count(name) > 1:
            raise ValueError(f"{cells.path} must have one column {name!r}. It has several.")
        places[name] = cells.names.index(name)
        cells.columns[name] = []
    for row in rows:
        if not any(cell.strip() for cell in row):  # an empty line
            continue
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
