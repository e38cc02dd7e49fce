"""The portfolio: what is tried, in which order, as data learnt from measurements."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

DEFAULT = Path(__file__).parent / "portfolio.yaml"
FEW = 500
"""Images up to which candidates that need few are tried; they take too long with more."""
FIELDS = {"name", "estimator", "parameters", "needs", "seconds", "measured"}
"""What an entry may hold; "measured" is what its place rests on, and not read."""


@dataclass(frozen=True)
class Entry:
    """One way to train a classifier."""

    name: str
    estimator: str  # class, from `kmedclf.auto.linear` or `kmedclf.models`
    parameters: dict[str, Any]
    needs: tuple[str, ...] = ()  # of "weights", "images" and "few"; see `FEW`
    seconds: float = 0.0  # to build and compile, as measured

    def suits(self, n: int, shape: tuple[int, int, int] | None, *, weights: bool) -> bool:
        """Whether to try it on n images of a shape, None of files, with weights or without."""
        if ("weights" in self.needs and not weights) or ("few" in self.needs and n > FEW):
            return False
        if "images" not in self.needs or shape is None:
            return True
        height, width, channels = shape
        return width > 1 and min(height, width) >= 8 and channels in (1, 3)


@functools.cache
def read(path: str | os.PathLike[str] = DEFAULT) -> tuple[Entry, ...]:
    """Read a portfolio; entries stand in the order in which they are tried.

    Raises ValueError if it does not have the form of the one in the package.
    """
    content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    listed = content.get("candidates") if isinstance(content, dict) else None
    if not isinstance(listed, list) or not listed:
        raise ValueError(f"{path} must be a portfolio with a list of 'candidates'. Got none.")
    entries = tuple(_entry(one, path) for one in listed)
    if len({one.name for one in entries}) < len(entries):
        raise ValueError(f"{path} must name every candidate once. Got a name twice.")
    return entries


def _entry(given: Any, path: Any) -> Entry:
    names = set(given) if isinstance(given, dict) else set()
    if not {"name", "estimator"} <= names <= FIELDS:
        raise ValueError(
            f"{path} must give every candidate a name, an estimator and no more than "
            f"{', '.join(sorted(FIELDS))}. Got {given!r:.80} instead."
        )
    return Entry(
        str(given["name"]),
        str(given["estimator"]),
        dict(given.get("parameters") or {}),
        tuple(given.get("needs") or ()),
        float(given.get("seconds") or 0.0),
    )
