"""Text helpers: suggestions for misspelt names, NAME=VALUE, aligned tables, CSV."""

from __future__ import annotations

import csv
import difflib
import os
import re
from collections.abc import Iterable, Sequence
from typing import Any, TextIO


def suggest(name: str, known: Iterable[str], n: int = 2) -> str:
    """Return the end of a sentence: "; did you mean 'x' or 'y'?", of ``n`` at most, or "."."""
    near = difflib.get_close_matches(name, list(known), n=n, cutoff=0.5)
    return f"; did you mean {' or '.join(map(repr, near))}?" if near else "."


def parse_parameter(text: str) -> tuple[str, Any]:
    """Parse NAME=VALUE; values are YAML, and therefore also JSON."""
    import yaml

    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise ValueError(f"-p must be NAME=VALUE, as in -p batch_size=32. Got {text!r} instead.")
    # YAML 1.1 reads 1e-3 as a string.
    if re.fullmatch(r"[-+]?\d+(\.\d*)?e[-+]?\d+", value, re.I):
        return name.strip(), float(value)
    try:
        return name.strip(), yaml.safe_load(value)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(f"-p {text} must have a value that YAML can read ({error}).") from error


def table(rows: Sequence[Sequence[str]], *, numbers: bool = False) -> str:
    """Align columns to the left; with ``numbers``, all but the first to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    align = [str.ljust, *[str.rjust if numbers else str.ljust] * (len(widths) - 1)]
    return "\n".join(
        "  ".join(
            put(cell, width) for put, cell, width in zip(align, row, widths, strict=True)
        ).rstrip()
        for row in rows
    )


def write_csv(file: TextIO, rows: Iterable[Iterable[Any]], *, lineterminator: str = "\r\n") -> None:
    """Write a table as CSV in which no name of a file or class is a formula of a spreadsheet."""
    writer = csv.writer(file, lineterminator=lineterminator)
    writer.writerows([_cell(value) for value in row] for row in rows)


def _cell(value: Any) -> Any:
    """Put "./" before a path, or an apostrophe before a text, that a spreadsheet would compute."""
    is_path = isinstance(value, os.PathLike)
    text = os.fspath(value) if is_path else value
    if not isinstance(text, str) or not text.startswith(("=", "+", "-", "@", "\t", "\r")):
        return text
    if is_path:  # which still names the file
        return os.path.join(os.curdir, text)
    try:
        float(text)  # such as "-0.5"
    except ValueError:
        return f"'{text}"
    return text


def clock(seconds: float) -> str:
    """Write a time as "1:02:03", or "2:03" below an hour."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
