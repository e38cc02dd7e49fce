"""HTML of results in a notebook: a verdict and small tables, with all text escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any, NamedTuple

MOST_ROWS = 30
"""Maximum number of rows of a table; notebooks keep every output."""


class Remark(NamedTuple):
    """A sentence of a verdict; ``kind`` is "good", "plain" or "warning"."""

    kind: str
    text: str


_MARKS = {"good": "✓", "plain": "•", "warning": "⚠"}


def block(title: str, remarks: Iterable[Remark], *parts: str) -> str:
    """Put a title, the sentences of a verdict and tables into one element."""
    lines = "".join(
        f"<li style='list-style:none'>{_MARKS[one.kind]} {escape(one.text)}</li>" for one in remarks
    )
    listed = f"<ul style='margin:.3em 0;padding:0'>{lines}</ul>" if lines else ""
    inside = f"<strong>{escape(title)}</strong>{listed}{''.join(parts)}"
    return f"<div class='kmedclf' style='max-width:60em'>{inside}</div>"


def table(head: Sequence[str], rows: Sequence[Sequence[Any]], *, closed: str = "") -> str:
    """Write a table; with ``closed``, its title, it opens on a click."""
    side = "text-align:left;padding:.1em .8em .1em 0"
    cells = "".join(f"<th style='{side}'>{escape(one)}</th>" for one in head)
    lines = [f"<tr>{cells}</tr>"]
    for row in rows[:MOST_ROWS]:
        cells = "".join(f"<td style='{side}'>{escape(str(one))}</td>" for one in row)
        lines.append(f"<tr>{cells}</tr>")
    more = f"<p>and {len(rows) - MOST_ROWS:,} more</p>" if len(rows) > MOST_ROWS else ""
    whole = f"<table>{''.join(lines)}</table>{more}"
    return f"<details><summary>{escape(closed)}</summary>{whole}</details>" if closed else whole
