"""When a model says that it does not know: a threshold, chosen on the run's validation images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import binomtest

from kmedclf.evaluation.wording import count, percent

ACCURACY = 0.95
"""Share of right answers that a chosen threshold had on the validation images."""

FEWEST = 30
"""Least number of answers that the share is taken of."""

EVEN = 0.5
"""Threshold where none can be chosen: below it, the model itself holds its answer for wrong."""


class Abstention(NamedTuple):
    """The least probability of an answer, and a sentence or two on where it comes from."""

    threshold: float
    reason: str

    @classmethod
    def choose(cls, reports: Mapping[str, Any]) -> Abstention:
        """Choose the threshold by the report on "val" or "nested"; say what it does on "test"."""
        val, test, images = reports.get("val"), reports.get("test"), "validation image"
        if val is None and "nested" in reports:  # of an AutoClassifier, which trains on "val", too
            val, images = reports["nested"], "training image"
        if val is None:
            return cls(
                EVEN,
                f"No validation images are known to choose a threshold on, so it is {EVEN}.",
            )
        confidence, right = _outcomes(val)
        threshold = lowest_threshold(confidence, right)
        if threshold is None:
            return cls(
                EVEN,
                f"On {count(val.n, images)}, no threshold leaves {FEWEST} or more answers "
                f"with {percent(ACCURACY)} of them right, so the threshold is {EVEN}.",
            )
        without = ", each predicted without it," if images == "training image" else ""
        chosen = (
            f"The lowest at which {percent(ACCURACY)} of the answers on {count(val.n, images)}"
            f"{without} were right."
        )
        return cls(threshold, " ".join([chosen, *([_on_test(test, threshold)] if test else [])]))


def lowest_threshold(confidence: np.ndarray, right: np.ndarray) -> float | None:
    """Find the lowest threshold that leaves enough answers, and enough of them right.

    ``confidence`` (n,) are the probabilities of the predicted classes, ``right`` (n,) whether
    these were the true ones.

    References
    ----------
    Y. Geifman, R. El-Yaniv, "Selective classification for deep neural networks", NeurIPS 2017.
    """
    order = np.argsort(-confidence, kind="stable")
    sure = confidence[order]
    n = np.arange(1, len(sure) + 1)
    share = np.cumsum(right[order]) / n
    last = np.append(sure[1:] < sure[:-1], True)  # equal probabilities are answered together
    fits = np.flatnonzero(last & (n >= FEWEST) & (share >= ACCURACY))
    return float(sure[fits[-1]]) if len(fits) else None


def _outcomes(report: Any) -> tuple[np.ndarray, np.ndarray]:
    rows = np.arange(report.n)
    confidence = np.asarray(report.proba)[rows, report.pred_index]
    return confidence, report.pred_index == report.true_index


def _on_test(report: Any, threshold: float) -> str:
    confidence, right = _outcomes(report)
    answered = confidence >= threshold
    n, k = int(answered.sum()), int(right[answered].sum())
    if not n:
        return f"It answers none of {count(report.n, 'test image')}."
    ends = binomtest(k, n).proportion_ci()
    answers, right_ones = percent(round(n / report.n, 2)), percent(round(k / n, 3))
    return (
        f"It answers {answers} of {count(report.n, 'test image')}, of which {right_ones} "
        f"[{100 * ends.low:.1f}, {100 * ends.high:.1f}] are right."
    )
