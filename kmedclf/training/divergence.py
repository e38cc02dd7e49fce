"""Detects divergence: weights and outputs that are not finite."""

from __future__ import annotations

import numpy as np


class Diverged(ValueError):
    """A training diverged, and would do so again."""


def largest(weights: list[np.ndarray]) -> float:
    """Return the largest magnitude among arrays; NaN or infinity if a value is not finite."""
    # Extremes take a tenth of the time of `isfinite`, and no boolean array.
    floats = [array for array in weights if array.size and array.dtype.kind == "f"]
    ends = [float(end(array)) for array in floats for end in (np.min, np.max)]
    return float(np.max(np.abs(ends))) if ends else 0.0


def check_weights(weights: list[np.ndarray], name: str) -> None:
    """Raise ValueError if a network's weights are not finite."""
    if np.isfinite(largest(weights)):
        return
    wrong = [number for number, one in enumerate(weights) if not np.isfinite(largest([one]))]
    raise ValueError(
        f"The weights_ of {name} must be finite. Got NaN or infinity in {len(wrong)} of the "
        f"{len(weights)} arrays, the first in array {wrong[0]}; fit it again."
    )


def check_outputs(logits: np.ndarray, name: str) -> None:
    """Refuse outputs (n, ...) that are not finite."""
    if np.isfinite(logits).all():
        return
    wrong = np.flatnonzero(~np.isfinite(logits).reshape(len(logits), -1).all(axis=1))
    raise ValueError(
        f"{name} must predict finite numbers. Got NaN or infinity for {len(wrong)} of "
        f"{len(logits)} images, the first of them image {wrong[0]}; its weights or these pixels "
        "are too large."
    )
