"""Python's own generator, left as it was."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def python_random_kept() -> Iterator[None]:
    """Leave Python's global generator alone, from which Keras seeds what it constructs."""
    state = random.getstate()
    try:
        yield
    finally:
        random.setstate(state)
