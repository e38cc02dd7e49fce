"""What programs that draw images share: checks, seeds, noise."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]


def check_count(name: str, value: int, least: int, caller: str) -> None:
    """Check a whole number that a function was given."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise ValueError(
            f"The '{name}' parameter of {caller} must be an int of at least {least}. "
            f"Got {value!r} instead."
        )


def generator(
    random_state: int | np.random.RandomState | np.random.Generator | None,
    caller: str,
) -> np.random.Generator:
    """Turn any seed into a Generator; a RandomState is advanced by one draw, as in sklearn."""
    if isinstance(random_state, np.random.RandomState):
        return np.random.default_rng(random_state.randint(2**31))
    if isinstance(random_state, bool) or not (
        random_state is None
        or isinstance(random_state, np.random.Generator)
        or (isinstance(random_state, (int, np.integer)) and random_state >= 0)
    ):
        raise ValueError(
            f"The 'random_state' parameter of {caller} must be an int of at least 0, a "
            f"RandomState, a Generator or None. Got {random_state!r} instead."
        )
    return np.random.default_rng(random_state)


def normal(rng: np.random.Generator, *shape: int) -> Floats:
    """Draw standard normal numbers, float32."""
    return rng.standard_normal(shape, np.float32)


def column(values: NDArray[Any]) -> Floats:
    """One number per image, shaped to broadcast over its pixels: (n,) to (n, 1, 1)."""
    return np.asarray(values, np.float32)[:, None, None]


def field(rng: np.random.Generator, n: int, cells: int, size: int) -> Floats:
    """Smooth noise of shape (n, size, size), as fine as `cells` knots per side at any size."""
    place = np.linspace(0, cells - 1, size, dtype=np.float32)
    weights = np.maximum(0, 1 - np.abs(place[:, None] - np.arange(cells, dtype=np.float32)))
    return weights @ normal(rng, n, cells, cells) @ weights.T
