"""Confidence intervals by resampling images, all resamples at once.

A resample is a column of weights: how often each image was drawn. Every score is then arithmetic on
the (n, b) matrix of weights, and no resample is ever built.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

BINS = 15
"""Equal-width bins of the expected calibration error."""
_BLOCK = 250_000  # weights at a time: 2 MB stay in the cache, and take a third of the time


@dataclass(frozen=True)
class Outcome:
    """What was predicted, in an order that is the content's own.

    Sorted by content, the same images in any order are drawn alike: a permutation of the rows
    changes neither a score nor an interval.

    Parameters
    ----------
    true, pred : ndarray of shape (n,), intp
        Positions of true and predicted classes.
    proba : ndarray of shape (n, k), float64
        Class probabilities, rows summing to 1.
    weight : ndarray of shape (n,), float64
        Sample weights.
    given : ndarray of shape (n, k), float64
        The same as they came: where rows are made to sum to 1, equal numbers become different
        ones, which AUC and average precision would rank.
    positive : int or None
        Position of the positive class, where there is one.
    """

    true: np.ndarray
    pred: np.ndarray
    proba: np.ndarray
    weight: np.ndarray
    given: np.ndarray
    positive: int | None = None

    @classmethod
    def of(
        cls,
        true: np.ndarray,
        pred: np.ndarray,
        proba: np.ndarray,
        weight: np.ndarray,
        positive: int | None = None,
        given: np.ndarray | None = None,
    ) -> Outcome:
        """Sort by true class, then predicted class, then everything else."""
        given = proba if given is None else given
        order = np.lexsort((weight, *given.T, pred, true))
        return cls(true[order], pred[order], proba[order], weight[order], given[order], positive)

    @property
    def k(self) -> int:
        """Number of classes."""
        return self.proba.shape[1]

    @property
    def confidence(self) -> np.ndarray:
        """Probability of the predicted class (n,)."""
        return self.proba[np.arange(len(self.pred)), self.pred]

    @property
    def log_losses(self) -> np.ndarray:
        """Negative log probability of each true class (n,), clipped as scikit-learn does."""
        own = self.proba[np.arange(len(self.true)), self.true]
        eps = np.finfo(np.float64).eps
        return -np.log(np.clip(own, eps, 1 - eps))

    @property
    def brier_losses(self) -> np.ndarray:
        """Squared distance of each row from the truth (n,), halved for two classes."""
        error = self.proba.copy()
        error[np.arange(len(self.true)), self.true] -= 1.0
        return (error**2).sum(axis=1) * (0.5 if self.k == 2 else 1.0)


def bin_index(confidence: np.ndarray) -> np.ndarray:
    """Find the reliability bin (low, high] of each confidence (n,), from 0."""
    return np.searchsorted(np.linspace(0, 1, BINS + 1)[1:-1], confidence)


def resample(outcome: Outcome, n_bootstrap: int, seed: Any) -> dict[str, np.ndarray]:
    """Compute every score on ``n_bootstrap`` resamples.

    Parameters
    ----------
    outcome : Outcome
        What was predicted.
    n_bootstrap : int
        Number of resamples.
    seed : int, Generator or None
        Passed to `numpy.random.default_rng`.

    Returns
    -------
    dict of str to ndarray of shape (n_bootstrap,) or (n_bootstrap, k)
        Scores by the names of `report.SCORES`, and those of each class by the names of
        `report.ClassScores`; NaN where a resample leaves one undefined.
    """
    drawn = draws(len(outcome.true), n_bootstrap, seed)
    blocks = [scores_of(outcome, weights) for weights in drawn]
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}


def draws(n: int, n_bootstrap: int, seed: Any) -> Iterator[np.ndarray]:
    """Yield weights (n, b): how often each image is in each of b resamples."""
    generator = np.random.default_rng(seed)
    size = max(1, _BLOCK // n)
    for first in range(0, n_bootstrap, size):
        b = min(size, n_bootstrap - first)
        drawn = generator.integers(n, size=(b, n))  # by resample: blocks do not change the draws
        cells = drawn * b + np.arange(b)[:, None]
        yield np.bincount(cells.ravel(), minlength=n * b).reshape(n, b).astype(np.float64)


def scores_of(outcome: Outcome, draws: np.ndarray) -> dict[str, np.ndarray]:
    """Compute every score under each of b weightings.

    Parameters
    ----------
    outcome : Outcome
        What was predicted.
    draws : ndarray of shape (n, b), float64
        What the sample weights are multiplied by.

    Returns
    -------
    dict of str to ndarray of shape (b,) or (b, k)
        As from `resample`.
    """
    weights = draws * outcome.weight[:, None]  # (n, b)
    with np.errstate(divide="ignore", invalid="ignore"):
        scores = _from_confusion(outcome, weights)
        total = weights.sum(axis=0)
        scores["log_loss"] = outcome.log_losses @ weights / total
        scores["brier"] = outcome.brier_losses @ weights / total
        scores["ece"] = _calibration_error(outcome, weights)
        scores["auc"] = _aucs(outcome, weights)
        scores["auc_macro"] = mean_of_defined(scores["auc"])
        if outcome.positive is not None:
            scores |= _binary(outcome, weights, scores)
    return scores


def mean_of_defined(values: np.ndarray) -> np.ndarray:
    """Average (b, k) over the columns that are not NaN; NaN if there is none."""
    defined = ~np.isnan(values)
    count = defined.sum(axis=1)
    total = np.where(defined, values, 0.0).sum(axis=1)
    return np.divide(total, count, out=np.full(len(values), np.nan), where=count > 0)


def _from_confusion(outcome: Outcome, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Compute what depends on the confusion matrix alone."""
    cell = outcome.true * outcome.k + outcome.pred  # ascending: rows are sorted
    cells, starts = np.unique(cell, return_index=True)
    mass = np.add.reduceat(weights, starts, axis=0)  # (cells, b)
    true, pred = np.divmod(cells, outcome.k)
    column = np.arange(outcome.k)[:, None]
    own, taken = true == column, pred == column
    # Sums of their own, not differences: what has no image must be exactly 0, or 0 / 0 is a number
    support, predicted, hits, others, rejected = (
        (chosen.astype(float) @ mass).T  # (b, k)
        for chosen in (own, taken, own & taken, ~own, ~own & ~taken)
    )
    total = mass.sum(axis=0)[:, None]
    recall, precision = hits / support, hits / predicted
    f1 = 2 * hits / (support + predicted)
    scores = {
        "recall": recall,
        "precision": precision,
        "f1": f1,
        "specificity_of_class": rejected / others,
        "accuracy": hits.sum(axis=1) / total[:, 0],
        "balanced_accuracy": mean_of_defined(recall),
    }
    present = support > 0
    for name, values in (("recall", recall), ("precision", precision), ("f1", f1)):
        # A class that occurs and is never predicted counts with precision 0
        values = np.where(present, np.nan_to_num(values), np.nan)
        scores[f"{name}_macro"] = mean_of_defined(values)
        scores[f"{name}_weighted"] = (np.nan_to_num(values) * support).sum(axis=1) / total[:, 0]
    return scores


def _calibration_error(outcome: Outcome, weights: np.ndarray) -> np.ndarray:
    gap = outcome.confidence - (outcome.true == outcome.pred)  # (n,)
    in_bin = np.arange(BINS)[:, None] == bin_index(outcome.confidence)  # (bins, n)
    return np.abs((in_bin * gap) @ weights).sum(axis=0) / weights.sum(axis=0)


def _aucs(outcome: Outcome, weights: np.ndarray) -> np.ndarray:
    """Compute one-vs-rest AUCs (b, k) as the weighted Mann-Whitney statistic."""
    k = outcome.k
    if k == 2:  # one number: 1 - p may have ties that p has not
        column = 1 if outcome.positive is None else outcome.positive
        return np.repeat(_auc(outcome, column, weights)[:, None], 2, axis=1)
    return np.stack([_auc(outcome, column, weights) for column in range(k)], axis=1)


def _auc(outcome: Outcome, column: int, weights: np.ndarray) -> np.ndarray:
    score, is_positive = outcome.given[:, column], outcome.true == column
    if not is_positive.any() or is_positive.all():
        return np.full(weights.shape[1], np.nan)
    order = np.argsort(score, kind="stable")
    order = order[~is_positive[order]]
    below = np.zeros((len(order) + 1, weights.shape[1]))
    np.cumsum(weights[order], axis=0, out=below[1:])  # weight of the i lowest negatives
    ranked, own = score[order], weights[is_positive]
    left = below[np.searchsorted(ranked, score[is_positive], "left")]
    right = below[np.searchsorted(ranked, score[is_positive], "right")]  # ties count half
    wins = np.einsum("ij,ij->j", own, left + right) / 2
    # 0 / 0, which is NaN, in a resample that lacks either
    return np.minimum(wins / (own.sum(axis=0) * below[-1]), 1.0)


def _binary(
    outcome: Outcome, weights: np.ndarray, scores: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Compute what needs a positive class."""
    positive = int(outcome.positive or 0)
    precision = scores["precision"]
    return {
        "sensitivity": scores["recall"][:, positive],
        "specificity": scores["recall"][:, 1 - positive],
        "ppv": precision[:, positive],
        "npv": precision[:, 1 - positive],
        "average_precision": _average_precision(outcome, positive, weights),
    }


def _average_precision(outcome: Outcome, positive: int, weights: np.ndarray) -> np.ndarray:
    score, is_positive = outcome.given[:, positive], outcome.true == positive
    order = np.argsort(-score, kind="stable")
    ends = np.flatnonzero(np.diff(score[order], append=np.nan))  # last of equal scores
    hits = np.cumsum(weights[order] * is_positive[order][:, None], axis=0)[ends]
    taken = np.cumsum(weights[order], axis=0)[ends]
    precision = np.divide(hits, taken, out=np.zeros_like(hits), where=taken > 0)
    gained = np.diff(hits, axis=0, prepend=0.0)
    return (gained * precision).sum(axis=0) / hits[-1]
