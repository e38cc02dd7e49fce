"""Weights of classes, as users give them or as counts make them."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from typing import Any

import numpy as np

from kmedclf.validation import listed

LEAST, MOST = 1e-19, 1e19
"""What may multiply a gradient: optimizers square it, and float32 ends at 1e-38 and 3e38."""

FACTORS = {"clipnorm": LEAST, "focal_alpha": LEAST, "l2": 0.0}
"""Parameters that do so, and how small they may be."""


def check_factors(parameters: Mapping[str, Any], name: str) -> None:
    """Refuse parameters that make gradients so large or small that nothing would be learnt."""
    for key, least in FACTORS.items():
        value = parameters[key]
        if value is not None and not least <= value <= MOST:
            raise ValueError(
                f"The {key!r} parameter of {name} must be between {least:g} and {MOST:g}, so that "
                f"float32 holds the squares of gradients. Got {value!r} instead."
            )


def check(weight: np.ndarray, what: str) -> None:
    """Refuse weights of rows with which, all in all, nothing would be learnt."""
    largest = float(weight.max(initial=0.0))
    if not LEAST <= largest <= MOST:
        raise ValueError(
            f"{what} must reach {LEAST:g} and not exceed {MOST:g}, those of classes included, so "
            f"that float32 holds the squares of gradients. Got {largest:g} as the largest."
        )


def given(class_weight: str | dict[Any, float] | None, labels: list[Any], name: str) -> np.ndarray:
    """Read a dict of weights (k,); ones if it is none."""
    weights = np.ones(len(labels))
    for label, value in (class_weight if isinstance(class_weight, dict) else {}).items():
        if label not in labels:
            raise ValueError(
                f"The 'class_weight' parameter of {name} must name only labels of y, "
                f"{listed(labels)}. Got the label {label!r} instead."
            )
        if not isinstance(value, Real) or not 0 <= value <= MOST:
            raise ValueError(
                f"The 'class_weight' parameter of {name} must hold weights of at least 0 and at "
                f"most {MOST:g}. Got {value!r} for {label!r} instead."
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
