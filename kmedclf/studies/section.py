"""Sections of a study: text, tables and figures, for the page and the terminal."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from markupsafe import Markup

from kmedclf import evaluation, runs
from kmedclf.evaluation import Comparison
from kmedclf.evaluation.compare import p_text
from kmedclf.evaluation.plots.style import quiet_about_glyphs
from kmedclf.pages import svg
from kmedclf.utils import text
from kmedclf.utils.files import written_beside

CHOSEN = "Left open by the report, chosen here"
"""Heading of the choices of a section."""

DPI = 160
"""Pixels an inch of a rendered figure."""

NUMBER = re.compile(r"[\d\s.,:%±–\[\]<+†-]*|undefined")
"""A number in a table, with or without interval, deviation or a mark, or a dash."""


class Table(NamedTuple):
    """A table: title, column heads and rows; cells are formatted by `str`."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[Any]]

    def parted(self) -> list[list[tuple[str, str]]]:
        """Return each cell as its text and its interval or deviation, which stands below it."""
        return [[_parted(str(cell)) for cell in row] for row in self.rows]

    def columns(self) -> list[str]:
        """Return "number" for each column that holds numbers only, else "name"."""
        columns = zip(*self.rows, strict=True)
        is_number = [all(NUMBER.fullmatch(str(cell)) for cell in cells) for cells in columns]
        return ["number" if one else "name" for one in is_number]


class Choice(NamedTuple):
    """What a report leaves open, what was taken for it, and why."""

    what: str
    taken: str
    why: str

    def __str__(self) -> str:
        """Say all of it in one line."""
        return f"{self.what}: {self.taken}. {self.why}"


class Figure(NamedTuple):
    """A rendered figure: file name, caption, PNG for a file, and SVG for the page."""

    name: str
    words: str
    png: bytes
    svg: Markup

    @classmethod
    def of(cls, name: str, words: str, drawn: Any) -> Figure:
        """Render the result of a function of `kmedclf.evaluation.plots`, and close it."""
        figure = getattr(drawn, "figure", drawn)
        buffer = io.BytesIO()
        with quiet_about_glyphs():
            figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
        inline = svg(figure, words)
        # matplotlib keeps open figures in memory.
        plt.close(figure)
        return cls(name, words, buffer.getvalue(), inline)


@dataclass(frozen=True)
class Section:
    """One item of a study.

    Attributes
    ----------
    title : str
        Heading.
    method : str
        What was done and why; an empty line separates paragraphs.
    findings : sequence of str
        Results, in sentences; shown last.
    tables : sequence of Table
        Shown after the method.
    figures : sequence of Figure
        Shown after the tables.
    comparison : Comparison, optional
        Comparison of several networks.
    pages : mapping of str to str
        Link text and address, relative to the study's folder, of related pages.
    choices : sequence of Choice
        What the report leaves open, and what was taken; marked as such, after the method.
    """

    title: str
    method: str
    findings: Sequence[str] = ()
    tables: Sequence[Table] = ()
    figures: Sequence[Figure] = ()
    comparison: Comparison | None = None
    pages: Mapping[str, str] = field(default_factory=dict)
    choices: Sequence[Choice] = ()

    def save_figures(self, folder: str | os.PathLike[str]) -> list[Path]:
        """Write the figures as PNG into a folder, and return their paths."""
        paths = [Path(folder, f"{one.name}.png") for one in self.figures]
        for path, one in zip(paths, self.figures, strict=True):
            with written_beside(path) as beside:
                beside.write_bytes(one.png)
        return paths

    def __str__(self) -> str:
        """Format everything but the figures as text."""
        parts = [self.title, "=" * len(self.title), "", self.method]
        if self.choices:
            parts += ["", f"{CHOSEN}:", *(f"- {one}" for one in self.choices)]
        for table in self.tables:
            lines = [list(table.head), *([str(cell) for cell in row] for row in table.rows)]
            parts += ["", table.title, text.table(lines)]
        if self.comparison is not None:
            parts += ["", self.comparison.to_markdown()]
        parts += ["", *self.findings]
        return "\n".join(parts).rstrip() + "\n"


def _parted(text: str) -> tuple[str, str]:
    """Part a number from the interval or deviation behind it."""
    found = re.fullmatch(r"([\d.,+-]+(?: †)?) (\[[^\]]*\]|± ?[\d.,]+)", text)
    return (found[1], found[2]) if found else (text, "")


def spread(values: Sequence[float], digits: int = 4) -> str:
    """Format mean and standard deviation (ddof 0)."""
    return f"{np.mean(values):.{digits}f} ± {np.std(values):.{digits}f}"


def score(run: runs.Run, name: str = "accuracy", split: str = "test") -> str:
    """Format a score of a run with four decimals; a dash if it has no such split or score."""
    found = run.reports[split].scores.get(name) if split in run.reports else None
    return "–" if found is None or found.value is None else f"{found.value:.4f}"


def verdict(first: str, a: runs.Run, second: str, b: runs.Run) -> str:
    """Say whether the test set shows a difference between two networks."""
    pair = evaluation.compare({first: a.reports["test"], second: b.reports["test"]}).pairs[0]
    ahead = f"{pair.first} minus {pair.second} {pair.difference}"
    told = "differ" if pair.p < 0.05 else "cannot be told apart on these images"
    return (
        f"{first} and {second} {told}: accuracy {a.reports['test'].accuracy:.3f} and "
        f"{b.reports['test'].accuracy:.3f}, {ahead} (McNemar's p, not "
        f"corrected: {p_text(pair.p)})."
    )
