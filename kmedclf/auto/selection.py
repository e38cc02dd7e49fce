"""Choices between candidates by their out-of-fold probabilities, and what these choices cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from kmedclf.calibration import fit_temperature, scaled
from kmedclf.ensemble import greedy_weights, likelihoods

T = TypeVar("T")


def cross_fitted(
    choose: Callable[[np.ndarray], T],
    apply: Callable[[T, np.ndarray], np.ndarray],
    parts: np.ndarray,
) -> np.ndarray:
    """Predict each part (a number a row) by what was chosen on the others: an honest estimate.

    ``choose`` and ``apply`` get masks of rows; ``apply`` returns probabilities of its rows.
    """
    found: np.ndarray | None = None
    for part in np.unique(parts):
        inside = parts == part
        # A single part has no others.
        proba = apply(choose(~inside if not inside.all() else inside), inside)
        if found is None:
            found = np.empty((len(parts), proba.shape[1]), proba.dtype)
        found[inside] = proba
    assert found is not None
    return found


@dataclass(frozen=True)
class Mixture:
    """Weights of candidates, and a temperature of their mean."""

    shares: np.ndarray  # (m,)
    temperature: float

    def __call__(self, probas: np.ndarray) -> np.ndarray:
        """Mix probabilities (m, n, k) to (n, k)."""
        mean = np.tensordot(self.shares, probas, 1)
        return mean if self.temperature == 1 else scaled(mean, self.temperature)


@dataclass(frozen=True)
class Selector:
    """Chooses mixtures of candidates from their out-of-fold probabilities."""

    probas: np.ndarray  # (m, r, k)
    true: np.ndarray  # (r,) positions of classes, or (r, k) zeros and ones
    weight: np.ndarray  # (r,)
    parts: np.ndarray  # (r,)

    def choose(self, rows: Any = slice(None)) -> Mixture:
        """Choose weights greedily, and a temperature, on some rows."""
        probas, true, weight = self.probas[:, rows], self.true[rows], self.weight[rows]
        shares = greedy_weights(likelihoods(probas, true), weight)
        if true.ndim == 2:
            return Mixture(shares, 1.0)
        mean = np.tensordot(shares, probas, 1)
        return Mixture(shares, fit_temperature(mean, true, weight))

    def nested(self) -> np.ndarray:
        """Predict every row by the mixture that was chosen without its part, (r, k)."""
        return cross_fitted(
            self.choose, lambda mixture, rows: mixture(self.probas[:, rows]), self.parts
        )
