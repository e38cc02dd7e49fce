"""Counts of what this process built, traced and lent: what tests of the cache look at."""

from __future__ import annotations

import threading
from collections import Counter

_counts: Counter[str] = Counter()
_counting = threading.Lock()


def count(what: str) -> None:
    """Count an event of this process: a build, a trace, a loan."""
    with _counting:
        _counts[what] += 1


def counts() -> dict[str, int]:
    """Return how often what was counted so far."""
    with _counting:
        return {name: _counts[name] for name in ("builds", "traces", "borrowed", "feeds")}
