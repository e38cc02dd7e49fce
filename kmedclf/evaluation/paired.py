"""Paired tests: two models on the same images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import binomtest

from kmedclf.evaluation.bootstrap import draws
from kmedclf.evaluation.label_report import MultilabelReport
from kmedclf.evaluation.report import Estimate, Report

N_FLIPS = 10_000
"""Random signs behind a p value of several labels, which is then 1e-4 at least."""


class Pair(NamedTuple):
    """Two models on the same images.

    ``only_first`` and ``only_second`` count the images that only one of them got right, or of which
    it got more labels right; ``difference`` is accuracy of the first less that of the second, ``p``
    comes from McNemar's exact test, or of several labels from flipping signs, and ``p_holm`` is
    corrected for the number of pairs.
    """

    first: str
    second: str
    only_first: int
    only_second: int
    difference: Estimate
    p: float
    p_holm: float


def pair_of(
    first: str, second: str, one: Any, two: Any, n_bootstrap: int, seed: int | None
) -> Pair:
    """Compare two models by their reports, both of one kind."""
    if isinstance(one, MultilabelReport):
        return _of_labels(first, second, one, two, n_bootstrap, seed)
    return _of_classes(first, second, one, two, n_bootstrap, seed)


def _of_classes(
    first: str, second: str, one: Report, two: Report, n_bootstrap: int, seed: int | None
) -> Pair:
    only = int(np.sum(one.right & ~two.right)), int(np.sum(two.right & ~one.right))
    difference = Estimate((only[0] - only[1]) / one.n)
    if n_bootstrap and any(only):
        shares = [only[0] / one.n, only[1] / one.n, 1 - sum(only) / one.n]
        drawn = np.random.default_rng(seed).multinomial(one.n, shares, size=n_bootstrap)
        low, high = _tails((drawn[:, 0] - drawn[:, 1]) / one.n, one.confidence)
        difference = Estimate(difference.value, low, high)
    p = mcnemar(*only)
    return Pair(first, second, *only, difference, p, p)


def _of_labels(
    first: str,
    second: str,
    one: MultilabelReport,
    two: MultilabelReport,
    n_bootstrap: int,
    seed: int | None,
) -> Pair:
    gap = one.right - two.right  # (n,): shares of the labels of an image
    only = int(np.sum(gap > 0)), int(np.sum(gap < 0))
    difference = Estimate(float(gap.mean()))
    if n_bootstrap and any(only):
        means = [gap @ drawn / one.n for drawn in draws(one.n, n_bootstrap, seed)]
        low, high = _tails(np.concatenate(means), one.confidence)
        difference = Estimate(difference.value, low, high)
    p = sign_flips(gap, seed)
    return Pair(first, second, *only, difference, p, p)


def _tails(values: np.ndarray, confidence: float) -> tuple[float, float]:
    low, high = np.quantile(values, ((1 - confidence) / 2, (1 + confidence) / 2)).tolist()
    return low, high


def sign_flips(gap: np.ndarray, seed: int | None = 0) -> float:
    """Test whether paired differences have the mean 0, by flipping their signs at random.

    Parameters
    ----------
    gap : ndarray of shape (n,)
        Differences.
    seed : int or None, default=0
        Seed of the signs.

    Returns
    -------
    float
        Two-sided p; 1 if there is no difference anywhere. Of differences that are -1, 0 and 1 it
        is McNemar's, but for the draw.
    """
    gap = gap[gap != 0]
    if not len(gap):
        return 1.0
    generator, size = np.random.default_rng(seed), max(1, 2_000_000 // len(gap))
    beyond = 0
    for start in range(0, N_FLIPS, size):
        signs = generator.integers(0, 2, (min(size, N_FLIPS - start), len(gap)), dtype=np.int8)
        sums = (2 * signs - 1) @ gap
        beyond += int(np.sum(np.abs(sums) >= abs(gap.sum()) - 1e-9))
    return (beyond + 1) / (N_FLIPS + 1)


def mcnemar(only_first: int, only_second: int) -> float:
    """Test whether two models err equally often, by the images that only one got right.

    Parameters
    ----------
    only_first, only_second : int
        Numbers of those images.

    Returns
    -------
    float
        Two-sided p of the exact, binomial test; 1 if the models agree everywhere.
    """
    n = only_first + only_second
    return float(binomtest(only_first, n, 0.5).pvalue) if n else 1.0


def holm(p: Sequence[float]) -> list[float]:
    """Correct p values for their number, in the given order, by Holm's step-down procedure."""
    values = np.asarray(p, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    factors = np.arange(len(values), 0, -1)
    corrected = np.empty(len(values))
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(values[order] * factors))
    return corrected.tolist()
