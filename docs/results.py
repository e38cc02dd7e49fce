"""Figures and tables out of benchmarks/RESULTS.md, so that nobody types a measured number twice."""

import re
from pathlib import Path

RESULTS = Path(__file__).parents[1] / "benchmarks" / "RESULTS.md"


def section(title: str) -> str:
    """Return the text of a section; raise ValueError if there is none of this title."""
    for part in re.split(r"^## ", RESULTS.read_text(encoding="utf-8"), flags=re.M)[1:]:
        head, _, text = part.partition("\n")
        if head == title:
            return text.strip()
    raise ValueError(f"{RESULTS.name} has no section {title!r}")


def tables(title: str) -> list[str]:
    """Return the tables of a section, as Markdown."""
    return [one.strip() for one in re.findall(r"(?:^\|.*\n?)+", section(title), re.M)]


def rows(table: str) -> list[list[str]]:
    """Return the cells of a table, row by row, without its head."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()][
        2:
    ]
