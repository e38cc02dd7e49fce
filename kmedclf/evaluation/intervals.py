"""From resampled scores to confidence intervals."""

from __future__ import annotations

from typing import Any

import numpy as np

from kmedclf.evaluation.report import SCORES, Estimate


class Intervals:
    """Confidence intervals out of resampled scores.

    Parameters
    ----------
    samples : dict of str to ndarray of shape (b,) or (b, k)
        Resampled scores; empty for no intervals.
    confidence : float
        Coverage.

    """

    def __init__(self, samples: dict[str, np.ndarray], confidence: float) -> None:
        self._without: list[str] = []
        self._samples = samples
        self._alpha = 1.0 - confidence
        tails = (self._alpha / 2, 0.5, 1.0 - self._alpha / 2)
        # Resamples may lack a class; quantiles are of those that have it
        self._quantiles = {name: _quantiles(values, tails) for name, values in samples.items()}

    @property
    def notes(self) -> list[str]:
        """Say which headline numbers have no interval, and why."""
        if not self._without:
            return []
        return [f"No interval, as resampling does not move them: {', '.join(self._without)}."]

    def of(self, name: str, value: Any, *, trials: int = 0, column: int | None = None) -> Estimate:
        """Put an interval around a score.

        Parameters
        ----------
        name : str
            Name of the score among the samples.
        value : float
            The score; NaN if undefined.
        trials : int, default=0
            For a proportion, the images it is a proportion of.
        column : int, optional
            The class.

        Returns
        -------
        Estimate
            None for what is undefined.
        """
        value = float(value)
        if np.isnan(value):
            return Estimate(None)
        if not self._samples:
            return Estimate(value)
        found = self._quantiles[name] if column is None else self._quantiles[name][:, column]
        low, middle, high = map(float, found)
        if name == "ece":  # it is biased upwards; see the notes of evaluate_predictions
            low, high = max(0.0, 2 * value - high), min(1.0, high - middle + value)
        if np.isnan(low) or high - low < 1e-12:
            return self._unmoved(name, value, trials)
        return Estimate(value, low, high)

    def _unmoved(self, name: str, value: float, trials: int) -> Estimate:
        """Treat a score that the resamples do not move."""
        if trials and value in (0.0, 1.0):
            tail = (self._alpha / 2) ** (1.0 / trials)
            return Estimate(value, *((tail, 1.0) if value else (0.0, 1.0 - tail)))
        if name in SCORES:
            self._without.append(SCORES[name])
        return Estimate(value)


def _quantiles(values: np.ndarray, tails: tuple[float, ...]) -> np.ndarray:
    """Compute quantiles over axis 0; NaN where more than half the resamples are undefined."""
    undefined = np.isnan(values)
    if not undefined.any():
        return np.quantile(values, tails, axis=0)
    often = undefined.mean(axis=0) > 0.5
    found = np.nanquantile(np.where(often, 0.0, values), tails, axis=0)
    return np.where(often, np.nan, found)
