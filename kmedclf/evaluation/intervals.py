"""From resampled scores to confidence intervals."""

from __future__ import annotations

from typing import Any

import numpy as np

from kmedclf.evaluation.report import SCORES, Estimate

MOST_UNDEFINED = 0.5
"""Share of the resamples that may leave a score undefined that is to have an interval."""


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
        self._unmoved: list[str] = []
        self._rare: list[str] = []
        self._samples = samples
        self._n = len(next(iter(samples.values()), ()))
        self._alpha = 1.0 - confidence
        tails = (self._alpha / 2, 0.5, 1.0 - self._alpha / 2)
        # Resamples may lack a class; quantiles are of those that have it
        self._quantiles = {name: _quantiles(values, tails) for name, values in samples.items()}

    @property
    def notes(self) -> list[str]:
        """Say which headline numbers have no interval, or one of fewer resamples, and why."""
        said = []
        if self._unmoved:
            names = ", ".join(self._unmoved)
            said.append(f"No interval, as resampling does not move them: {names}.")
        if self._rare:
            names = ", ".join(self._rare)
            said.append(f"No interval, as they are undefined in most of the resamples: {names}.")
        if lacking := self._lacking():
            said.append(
                f"{lacking:,} of {self._n:,} resamples lack a class that occurs: macro averages "
                "run over the others there, and what is undefined is left out of its interval."
            )
        return said

    def _lacking(self) -> int:
        """Count the resamples without any image of one of the classes that occur."""
        recalls = self._samples.get("recall_of_label", self._samples.get("recall"))
        if recalls is None:
            return 0
        undefined = np.isnan(recalls)
        return int(undefined[:, ~undefined.all(axis=0)].any(axis=1).sum())

    def of(
        self, name: str, value: Any, *, trials: float = 0, column: int | None = None
    ) -> Estimate:
        """Put an interval around a score.

        Parameters
        ----------
        name : str
            Name of the score among the samples.
        value : float
            The score; NaN if undefined.
        trials : float, default=0
            For a proportion, the images it is a proportion of: how many of equal weight would say
            as much.
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
            why = self._rare if np.isnan(low) else self._unmoved
            return self._exact(name, value, trials, why)
        return Estimate(value, low, high)

    def _exact(self, name: str, value: float, trials: float, why: list[str]) -> Estimate:
        """Treat a score for which the resamples give no interval."""
        if trials and min(value, 1.0 - value) < 1e-12:  # sums of weights round
            tail = (self._alpha / 2) ** (1.0 / trials)
            return Estimate(1.0, tail, 1.0) if value > 0.5 else Estimate(0.0, 0.0, 1.0 - tail)
        if name in SCORES:
            why.append(SCORES[name])
        return Estimate(value)


def _quantiles(values: np.ndarray, tails: tuple[float, ...]) -> np.ndarray:
    """Compute quantiles over axis 0; NaN where too many resamples are undefined."""
    undefined = np.isnan(values)
    if not undefined.any():
        return np.quantile(values, tails, axis=0)
    often = undefined.mean(axis=0) > MOST_UNDEFINED
    found = np.nanquantile(np.where(often, 0.0, values), tails, axis=0)
    return np.where(often, np.nan, found)
