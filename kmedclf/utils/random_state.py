"""Preserve the state of Python's global random generator."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def python_random_kept() -> Iterator[None]:
    """Restore the state of Python's generator, from which Keras draws its seeds."""
    state = random.getstate()
    try:
        yield
    finally:
        random.setstate(state)
