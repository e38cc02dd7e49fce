"""Weights of classes, as users give them or as counts make them."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np

from kmedclf.validation import listed


def given(class_weight: str | dict[Any, float] | None, labels: list[Any], name: str) -> np.ndarray:
    """Read a dict of weights (k,); ones if it is none."""
    weights = np.ones(len(labels))
    for label, value in (class_weight if isinstance(class_weight, dict) else {}).items():
        if label not in labels:
            raise ValueError(
                f"The 'class_weight' parameter of {name} must name only labels of y, "
                f"{listed(labels)}. Got the label {label!r} instead."
            )
        if not isinstance(value, Real) or not 0 <= float(value) <= float(np.finfo(np.float32).max):
            raise ValueError(
                f"The 'class_weight' parameter of {name} must hold finite weights of at "
                f"least 0. Got {value!r} for {label!r} instead."
            )
        weights[labels.index(label)] = value
    if not np.any(weights.astype(np.float32)):
        raise ValueError(
            f"The 'class_weight' parameter of {name} must give some class a weight above 0. Got "
            f"{class_weight!r} instead."
        )
    return weights


def computed(class_weight: str, count: np.ndarray) -> np.ndarray:
    """Compute weights from the rows of each class; a class without any counts as one row."""
    n, count = count.sum(), np.maximum(count, 1)
    if class_weight == "balanced":
        return n / (len(count) * count)
    weights = 1 / count
    return weights / weights.sum()
