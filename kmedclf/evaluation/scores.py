"""Scores of the images themselves, and of all bootstrap resamples at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

SCORES = {
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "auc_macro": "AUC, macro",
    "average_precision_macro": "Average precision, macro",
    "f1_macro": "F1, macro",
    "precision_macro": "Precision, macro",
    "recall_macro": "Recall, macro",
    "specificity_macro": "Specificity, macro",
    "f1_weighted": "F1, weighted",
    "precision_weighted": "Precision, weighted",
    "recall_weighted": "Recall, weighted",
    "f1_micro": "F1, micro",
    "precision_micro": "Precision, micro",
    "recall_micro": "Recall, micro",
    "subset_accuracy": "All labels right",
    "kappa_quadratic": "Kappa, quadratic weights",
    "mean_absolute_error": "Mean absolute error, in classes",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "ppv": "Positive predictive value",
    "npv": "Negative predictive value",
    "average_precision": "Average precision",
    "log_loss": "Log loss",
    "brier": "Brier score",
    "ece": "Expected calibration error",
}
"""Headline scores in the order of print: name in code and printed name."""


class Estimate(NamedTuple):
    """A score and its confidence interval; None means undefined, which is not 0."""

    value: float | None
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        """Write the number with three decimals and its interval in brackets."""
        if self.value is None:
            return "undefined"
        if self.low is None or self.high is None:
            return f"{self.value:.3f}"
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


class ClassScores(NamedTuple):
    """Scores of one class against all others.

    ``support`` counts the images of the class, ``predicted`` the images predicted as it. ``recall``
    is also known as the accuracy of the class.
    """

    name: str
    support: int
    predicted: int
    recall: Estimate
    specificity: Estimate
    precision: Estimate
    f1: Estimate
    auc: Estimate


class Bin(NamedTuple):
    """One bin of the reliability diagram; both means are None if the bin is empty."""

    low: float
    high: float
    images: int
    confidence: float | None
    accuracy: float | None


class Certainty(NamedTuple):
    """Distribution of the confidence of the right, or of the wrong, predictions.

    Confidence is the probability of the predicted class.
    """

    images: int
    mean: float | None
    quartile_1: float | None
    median: float | None
    quartile_3: float | None


class LabelScores(NamedTuple):
    """Scores of one label.

    ``support`` counts the images with the label, ``predicted`` the images it is predicted for.
    ``recall`` is the sensitivity of the label.
    """

    name: str
    support: int
    predicted: int
    recall: Estimate
    specificity: Estimate
    precision: Estimate
    f1: Estimate
    auc: Estimate
    average_precision: Estimate


Samples = dict[str, np.ndarray]
"""Scores by name: those of `SCORES`, and those of each class or label."""

BINS = 15
"""Equal-width bins of the expected calibration error."""
_BLOCK = 250_000  # weights at a time: 2 MB stay in the processor's cache, three times as fast


class Resampled:
    """Base of outcomes: scores of resamples, from scores of weighted images."""

    weight: np.ndarray

    def scores(self, drawn: np.ndarray) -> Samples:
        """Compute every score for each of b weightings (n, b): (b,), or (b, k) per class."""
        raise NotImplementedError

    def resample(self, n_bootstrap: int, seed: Any) -> Samples:
        """Compute every score on bootstrap resamples: (b,), or (b, k) per class.

        Resamples draw whole images, with all their labels, as labels of one image are not
        independent. NaN is undefined; without resamples there is nothing.
        """
        blocks = [self.scores(drawn) for drawn in draws(len(self.weight), n_bootstrap, seed)]
        names = blocks[0] if blocks else ()
        return {name: np.concatenate([block[name] for block in blocks]) for name in names}


@dataclass(frozen=True)
class Outcome(Resampled):
    """True and predicted classes with their probabilities, sorted by content.

    Sorted images are resampled alike in any order of the rows, so that a permutation changes
    neither a score nor an interval.
    """

    true: np.ndarray  # (n,) intp, positions of the true classes
    pred: np.ndarray  # (n,) intp, positions of the predicted classes
    proba: np.ndarray  # (n, k) float64, rows sum to 1
    weight: np.ndarray  # (n,) float64, sample weights
    # (n, k) float64, before rows were made to sum to 1: the division would break ties, which AUC
    # and average precision rank
    given: np.ndarray
    positive: int | None = None  # position of the positive class
    ordinal: bool = False  # whether the classes are grades, in order

    @classmethod
    def of(
        cls,
        true: np.ndarray,
        pred: np.ndarray,
        proba: np.ndarray,
        weight: np.ndarray,
        positive: int | None = None,
        given: np.ndarray | None = None,
        *,
        ordinal: bool = False,
    ) -> Outcome:
        """Sort by true class, then by predicted class, then by everything else."""
        given = proba if given is None else given
        order = np.lexsort((weight, *given.T, pred, true))
        true, pred, proba, weight = true[order], pred[order], proba[order], weight[order]
        return cls(true, pred, proba, weight, given[order], positive, ordinal)

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
        """Negative log probability of the true classes (n,), clipped as in scikit-learn."""
        own = self.proba[np.arange(len(self.true)), self.true]
        eps = np.finfo(np.float64).eps
        return -np.log(np.clip(own, eps, 1 - eps))

    @property
    def brier_losses(self) -> np.ndarray:
        """Squared distance of each row from the one-hot truth (n,), halved for two classes."""
        error = self.proba.copy()
        error[np.arange(len(self.true)), self.true] -= 1.0
        return (error**2).sum(axis=1) * (0.5 if self.k == 2 else 1.0)

    def scores(self, drawn: np.ndarray) -> Samples:
        """Compute every score for each of b weightings (n, b): (b,), or (b, k) per class."""
        weights = drawn * self.weight[:, None]
        total = weights.sum(axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            scores = _from_confusion(self, weights)
            scores["log_loss"] = self.log_losses @ weights / total
            scores["brier"] = self.brier_losses @ weights / total
            scores["ece"] = _calibration_error(self, weights)
            scores["auc"] = _aucs(self, weights)
            scores["auc_macro"] = mean_of_defined(scores["auc"])
            if self.positive is not None:
                scores |= _binary(self, weights, scores)
            if self.ordinal:
                scores |= _of_grades(self, weights)
        return scores

    def class_scores(
        self,
        point: dict[str, np.ndarray],
        confusion: np.ndarray,
        names: Sequence[str],
        intervals: Intervals,
    ) -> tuple[ClassScores, ...]:
        """Score each class against the others.

        ``point`` comes from `scores` for one weighting of ones; ``confusion`` counts images,
        without weights.
        """
        support, predicted = confusion.sum(axis=1), confusion.sum(axis=0)

        def estimate(name: str, i: int, of: np.ndarray | None = None) -> Estimate:
            trials = 0.0 if of is None else effective_size(self.weight[of])
            return intervals.of(name, point[name][0, i], trials=trials, column=i)

        return tuple(
            ClassScores(
                name=names[i],
                support=int(support[i]),
                predicted=int(predicted[i]),
                recall=estimate("recall", i, self.true == i),
                specificity=estimate("specificity_of_class", i, self.true != i),
                precision=estimate("precision", i, self.pred == i),
                f1=estimate("f1", i),
                auc=estimate("auc", i),
            )
            for i in range(self.k)
        )

    def headline(
        self,
        point: dict[str, np.ndarray],
        classes: tuple[ClassScores, ...],
        intervals: Intervals,
    ) -> dict[str, Estimate]:
        """Put intervals around the scores in `SCORES`, in its order."""
        trials = dict.fromkeys(("accuracy", "recall_weighted"), effective_size(self.weight))
        found = {
            name: intervals.of(name, point[name][0], trials=trials.get(name, 0))
            for name in SCORES
            if name in point
        }
        if self.positive is not None:
            hit, miss = classes[self.positive], classes[1 - self.positive]
            found["sensitivity"], found["specificity"] = hit.recall, miss.recall
            found["ppv"], found["npv"] = hit.precision, miss.precision
        return found

    def reliability(self) -> tuple[Bin, ...]:
        """Count the images in each bin of confidence, and average confidence and accuracy."""
        edges, index = np.linspace(0, 1, BINS + 1), bin_index(self.confidence)
        right = self.true == self.pred
        bins = []
        for i in range(BINS):
            inside = index == i
            weight = self.weight[inside]
            means: list[float | None] = [None, None]
            if weight.any():
                both = self.confidence[inside], right[inside]
                means = [float(np.average(values, weights=weight)) for values in both]
            bins.append(Bin(float(edges[i]), float(edges[i + 1]), int(inside.sum()), *means))
        return tuple(bins)

    def certainty(self) -> dict[str, Certainty]:
        """Summarize the confidence of the right and of the wrong predictions."""
        right, found = self.true == self.pred, {}
        for name, chosen in (("right", right), ("wrong", ~right)):
            values = self.confidence[chosen]
            numbers: list[float | None] = [None] * 4
            if len(values):
                numbers = [float(values.mean()), *np.quantile(values, (0.25, 0.5, 0.75)).tolist()]
            found[name] = Certainty(len(values), *numbers)
        return found


def _of_grades(outcome: Outcome, weights: np.ndarray) -> Samples:
    """Score grades by their distance: kappa with quadratic weights, and mean absolute error.

    J. Cohen, "Weighted kappa", Psychological Bulletin 70, 1968.
    """
    true, pred = outcome.true.astype(np.float64), outcome.pred.astype(np.float64)
    total = weights.sum(axis=0)
    # Sums over the confusion matrix, and over the one expected of independent grades.
    found = (true - pred) ** 2 @ weights
    expected = (
        true**2 @ weights + pred**2 @ weights - 2 * (true @ weights) * (pred @ weights) / total
    )
    return {
        "kappa_quadratic": 1 - found / expected,
        "mean_absolute_error": np.abs(true - pred) @ weights / total,
    }


def bin_index(confidence: np.ndarray) -> np.ndarray:
    """Return the reliability bin (low, high] of each confidence (n,), from 0."""
    return np.searchsorted(np.linspace(0, 1, BINS + 1)[1:-1], confidence)


def draws(n: int, n_bootstrap: int, seed: Any) -> Iterator[np.ndarray]:
    """Yield weights (n, b): how often each image occurs in each of b resamples."""
    generator = np.random.default_rng(seed)
    size = max(1, _BLOCK // n)
    for first in range(0, n_bootstrap, size):
        b = min(size, n_bootstrap - first)
        # One row per resample, so that the size of a block does not change the draws
        drawn = generator.integers(n, size=(b, n))
        cells = drawn * b + np.arange(b)[:, None]
        yield np.bincount(cells.ravel(), minlength=n * b).reshape(n, b).astype(np.float64)


def mean_of_defined(values: np.ndarray) -> np.ndarray:
    """Average (b, k) over the columns that are not NaN; NaN if all are."""
    defined = ~np.isnan(values)
    count = defined.sum(axis=1)
    total = np.where(defined, values, 0.0).sum(axis=1)
    return np.divide(total, count, out=np.full(len(values), np.nan), where=count > 0)


def _from_confusion(outcome: Outcome, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Compute the scores that depend on the confusion matrix only."""
    cell = outcome.true * outcome.k + outcome.pred  # ascending, as images are sorted
    cells, starts = np.unique(cell, return_index=True)
    mass = np.add.reduceat(weights, starts, axis=0)  # (cells, b)
    true, pred = np.divmod(cells, outcome.k)
    column = np.arange(outcome.k)[:, None]
    own, taken = true == column, pred == column
    # Separate sums, not differences: an empty set must sum to exactly 0, so that 0 / 0 is NaN
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
        # A class that occurs but is never predicted has precision 0, as in scikit-learn
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
    if k == 2:  # both classes share one AUC: rounding may give 1 - p ties that p does not have
        column = 1 if outcome.positive is None else outcome.positive
        return np.repeat(_auc(outcome, column, weights)[:, None], 2, axis=1)
    return np.stack([_auc(outcome, column, weights) for column in range(k)], axis=1)


def _auc(outcome: Outcome, column: int, weights: np.ndarray) -> np.ndarray:
    """Compute the AUC of a column for each of b weightings, (b,)."""
    score, is_positive = outcome.given[:, column], outcome.true == column
    if not is_positive.any() or is_positive.all():
        return np.full(weights.shape[1], np.nan)
    order = np.argsort(score, kind="stable")
    order = order[~is_positive[order]]
    below = np.zeros((len(order) + 1, weights.shape[1]))
    np.cumsum(weights[order], axis=0, out=below[1:])  # weight of the i least probable negatives
    ranked, own = score[order], weights[is_positive]
    left = below[np.searchsorted(ranked, score[is_positive], "left")]
    right = below[np.searchsorted(ranked, score[is_positive], "right")]  # ties count half
    wins = np.einsum("ij,ij->j", own, left + right) / 2
    # A resample without positives or without negatives gives 0 / 0, which is NaN
    return np.minimum(wins / (own.sum(axis=0) * below[-1]), 1.0)


def _binary(
    outcome: Outcome, weights: np.ndarray, scores: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Compute the scores that need a positive class."""
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
    """Compute the average precision of the positive class for each of b weightings, (b,)."""
    score, is_positive = outcome.given[:, positive], outcome.true == positive
    order = np.argsort(-score, kind="stable")
    # Thresholds lie between different scores, so that ties are taken together
    ends = np.flatnonzero(np.diff(score[order], append=np.nan))
    hits = np.cumsum(weights[order] * is_positive[order][:, None], axis=0)[ends]
    taken = np.cumsum(weights[order], axis=0)[ends]
    precision = np.divide(hits, taken, out=np.zeros_like(hits), where=taken > 0)
    gained = np.diff(hits, axis=0, prepend=0.0)
    return (gained * precision).sum(axis=0) / hits[-1]


OF_LABEL = ("recall", "specificity", "precision", "f1", "auc", "average_precision")
_MEANS = ("accuracy", "subset_accuracy", "log_loss", "brier")


@dataclass(frozen=True)
class LabelRanks:
    """One label with its images sorted by probability, so that every score is a prefix sum.

    m is the number of images that have the label.
    """

    order: np.ndarray  # (n,) images, least probable first
    own: np.ndarray  # (m,) sorted positions of the images with the label
    lower: np.ndarray  # (m,) number of images that are less probable than each of these
    not_higher: np.ndarray  # (m,) number of images that are not more probable
    own_lower: np.ndarray  # (m,) as lower, of images with the label only
    own_not_higher: np.ndarray  # (m,) as not_higher, of images with the label only
    cut: int  # number of images for which the label is not predicted
    own_cut: int  # how many of them have the label: false negatives

    @classmethod
    def of(cls, true: np.ndarray, pred: np.ndarray, proba: np.ndarray) -> LabelRanks:
        """Sort the images of one column (n,) of y."""
        order = np.argsort(proba, kind="stable")
        ranked, own = proba[order], np.flatnonzero(true[order])
        return cls(
            order,
            own,
            np.searchsorted(ranked, ranked[own], "left"),
            np.searchsorted(ranked, ranked[own], "right"),
            np.searchsorted(ranked[own], ranked[own], "left"),
            np.searchsorted(ranked[own], ranked[own], "right"),
            int(np.sum(pred == 0)),
            int(np.sum((pred == 0) & (true == 1))),
        )

    def scores(self, weights: np.ndarray) -> Samples:
        """Compute the scores in `OF_LABEL` for each of b weightings (n, b)."""
        weights = weights[self.order]
        own = weights[self.own]  # (m, b)
        every, having = _sums(weights), _sums(own)  # of the first i images
        total, support = every[-1], having[-1]
        predicted, hits = total - every[self.cut], support - having[self.own_cut]
        rejected = every[self.cut] - having[self.own_cut]
        # AUC counts pairs of a positive and a less probable negative image; ties count half. All
        # sums run in the same order, so that an empty set sums to exactly 0, and 0 / 0 is NaN
        below = every[self.lower] - having[self.own_lower]
        below += every[self.not_higher] - having[self.own_not_higher]
        wins = np.einsum("ij,ij->j", own, below) / 2
        taken = total - every[self.lower]
        found = support - having[self.own_lower]
        # Average precision is the mean, over the positives, of the precision down to each of them
        precisions = np.divide(found, taken, out=np.zeros_like(found), where=taken > 0)
        return {
            "recall": hits / support,
            "specificity": np.minimum(rejected / (total - support), 1.0),
            "precision": hits / predicted,
            "f1": 2 * hits / (support + predicted),
            "auc": np.minimum(wins / (support * (total - support)), 1.0),
            "average_precision": np.einsum("ij,ij->j", own, precisions) / support,
        }


@dataclass(frozen=True)
class MultilabelOutcome(Resampled):
    """True and predicted labels with their probabilities, reduced to what the scores need."""

    weight: np.ndarray  # (n,) sample weights
    rows: dict[str, np.ndarray]  # (n,) per image: numbers of labels, and means over labels
    labels: tuple[LabelRanks, ...]

    @classmethod
    def of(
        cls, true: np.ndarray, pred: np.ndarray, proba: np.ndarray, weight: np.ndarray
    ) -> MultilabelOutcome:
        """Sort the images by content, so that their order does not change the intervals."""
        order = np.lexsort((weight, *proba.T, *pred.T, *true.T))
        true, pred, proba, weight = (one[order] for one in (true, pred, proba, weight))
        # Clipped as in scikit-learn's log_loss, which would be infinite at 0
        eps = np.finfo(np.float64).eps
        right = np.clip(np.where(true == 1, proba, 1 - proba), eps, 1 - eps)
        rows = {
            "true": true.sum(axis=1),
            "predicted": pred.sum(axis=1),
            "both": (true & pred).sum(axis=1),
            "subset_accuracy": (true == pred).all(axis=1),
            "accuracy": (true == pred).mean(axis=1),
            "log_loss": -np.log(right).mean(axis=1),
            "brier": ((proba - true) ** 2).mean(axis=1),
        }
        labels = tuple(LabelRanks.of(*one) for one in zip(true.T, pred.T, proba.T, strict=True))
        return cls(weight, {name: one.astype(float) for name, one in rows.items()}, labels)

    def scores(self, drawn: np.ndarray) -> Samples:
        """Compute every score for each of b weightings (n, b): (b,), or (b, k) per label."""
        weights = drawn * self.weight[:, None]
        total = weights.sum(axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            sums = {name: values @ weights for name, values in self.rows.items()}
            parts = [label.scores(weights) for label in self.labels]
            each = {name: np.stack([part[name] for part in parts], axis=1) for name in OF_LABEL}
            occurs = ~np.isnan(each["recall"])
            found = {name: sums[name] / total for name in _MEANS}
            for name, values in each.items():
                # A label that occurs but is never predicted counts as 0, as in scikit-learn
                if name in ("precision", "f1"):
                    values = np.where(occurs, np.nan_to_num(values), np.nan)
                found[f"{name}_macro"] = mean_of_defined(values)
            found["recall_micro"] = sums["both"] / sums["true"]
            found["precision_micro"] = sums["both"] / sums["predicted"]
            found["f1_micro"] = 2 * sums["both"] / (sums["true"] + sums["predicted"])
        return found | {f"{name}_of_label": values for name, values in each.items()}


def _sums(weights: np.ndarray) -> np.ndarray:
    """Return the sums (n + 1, b) of the first 0, 1, ..., n rows of (n, b)."""
    found = np.zeros((len(weights) + 1, weights.shape[1]))
    np.cumsum(weights, axis=0, out=found[1:])
    return found


MOST_UNDEFINED = 0.5
"""A score that is undefined in a larger share of the resamples has no interval."""


class Intervals:
    """Confidence intervals from resampled scores (b,) or (b, k) per class.

    Without samples there are no intervals. Scores that get none are collected for `notes`.
    """

    def __init__(self, samples: dict[str, np.ndarray], confidence: float) -> None:
        self._unmoved: list[str] = []  # not changed by resampling
        self._rare: list[str] = []  # undefined in most resamples
        self._samples = samples
        self._n = len(next(iter(samples.values()), ()))
        self._alpha = 1.0 - confidence
        tails = (self._alpha / 2, 0.5, 1.0 - self._alpha / 2)
        # A resample may lack a class; quantiles are taken over the others
        self._quantiles = {name: _quantiles(values, tails) for name, values in samples.items()}

    @property
    def notes(self) -> list[str]:
        """Explain which headline scores have no interval, or one from fewer resamples."""
        said = []
        if self._unmoved:
            names = ", ".join(self._unmoved)
            said.append(f"No interval, as resampling does not change them: {names}.")
        if self._rare:
            names = ", ".join(self._rare)
            said.append(f"No interval, as they are undefined in most of the resamples: {names}.")
        if lacking := self._lacking():
            said.append(
                f"{lacking:,} of {self._n:,} resamples lack a class that occurs: macro averages "
                "run over the others there, and undefined scores are left out of the intervals."
            )
        return said

    def _lacking(self) -> int:
        """Count the resamples that miss one of the classes that occur."""
        recalls = self._samples.get("recall_of_label", self._samples.get("recall"))
        if recalls is None:
            return 0
        undefined = np.isnan(recalls)
        return int(undefined[:, ~undefined.all(axis=0)].any(axis=1).sum())

    def of(
        self, name: str, value: Any, *, trials: float = 0, column: int | None = None
    ) -> Estimate:
        """Put an interval around a score; NaN becomes ``Estimate(None)``.

        ``trials`` is for proportions: the effective number of images in the denominator.
        """
        value = float(value)
        if np.isnan(value):
            return Estimate(None)
        if not self._samples:
            return Estimate(value)
        found = self._quantiles[name] if column is None else self._quantiles[name][:, column]
        low, middle, high = map(float, found)
        if name == "ece":  # biased upwards; see the notes of evaluate_predictions
            low, high = max(0.0, 2 * value - high), min(1.0, high - middle + value)
        if np.isnan(low) or high - low < 1e-12:
            why = self._rare if np.isnan(low) else self._unmoved
            return self._exact(name, value, trials, why)
        return Estimate(value, low, high)

    def _exact(self, name: str, value: float, trials: float, why: list[str]) -> Estimate:
        """Use the exact binomial interval for a proportion of 0 or 1, none for other scores."""
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


WEIGHTED = "Scores are weighted by sample_weight; counts, curves, ranks and confidences are not."
"""Note in a report with sample weights."""


def effective_size(weight: np.ndarray) -> float:
    """Return the equivalent number of equal weights: L. Kish, "Survey sampling", 1965."""
    return float(weight.sum() ** 2 / (weight**2).sum()) if weight.any() else 0.0
