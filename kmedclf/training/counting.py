"""Counts of builds, traces and uses of compiled networks, for tests of the cache."""

from __future__ import annotations

import threading
from collections import Counter

_counts: Counter[str] = Counter()
_counting = threading.Lock()


def count(what: str) -> None:
    """Count an event of this process."""
    with _counting:
        _counts[what] += 1


def counts() -> dict[str, int]:
    """Return the counts so far."""
    with _counting:
        return {name: _counts[name] for name in ("builds", "traces", "borrowed", "feeds")}
