"""Evaluate labels of which an image may have several: each of them by itself, and their means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.metrics import multilabel_confusion_matrix
from sklearn.utils.validation import check_consistent_length

from kmedclf.evaluation import checks
from kmedclf.evaluation.bootstrap import draws, mean_of_defined
from kmedclf.evaluation.intervals import Intervals
from kmedclf.evaluation.label_report import LabelScores, MultilabelReport
from kmedclf.evaluation.report import SCORES, Estimate
from kmedclf.evaluation.scoring import WEIGHTED, effective_size, listed_names

Samples = dict[str, np.ndarray]
_OF_LABEL = ("recall", "specificity", "precision", "f1", "auc", "average_precision")
_MEANS = ("accuracy", "subset_accuracy", "log_loss", "brier")


def evaluate_labels(
    y_true: Any,
    proba: Any,
    *,
    class_names: Sequence[str] | Mapping[Any, str] | None = None,
    sample_weight: Any = None,
    threshold: float | Sequence[float] | None = None,
    n_bootstrap: int = 1000,
    confidence: float = 0.95,
    random_state: int | None = 0,
) -> MultilabelReport:
    """Evaluate the probabilities of labels; `evaluate_predictions` calls it where y has columns.

    Parameters
    ----------
    y_true : array-like of shape (n, k)
        Zeros and ones.
    proba : array-like of shape (n, k)
        Probability of each label.
    class_names, sample_weight, n_bootstrap, confidence, random_state
        As of `evaluate`.
    threshold : float or sequence of k float, optional
        Probability from which on a label is predicted, of all labels or of each; above 0.5 by
        default. See `choose_thresholds`.

    Returns
    -------
    MultilabelReport
        What was found.

    Notes
    -----
    Accuracy is the share of all labels of all images that are right, and the AUC is the mean over
    labels, as in the benchmark of J. Yang et al., "MedMNIST v2", Scientific Data 10, 41, 2023.
    Means run over the labels that define a score: one that no image has, or all have, has no AUC.
    Resamples are of images, with all their labels.
    """
    true = checks.check_indicators(y_true)
    proba = checks.check_shares(proba, true.shape)
    names = checks.check_names(class_names, np.arange(true.shape[1]))
    checks.check_bootstrap(n_bootstrap, confidence)
    check_consistent_length(true, sample_weight)
    weight = checks.check_weight(sample_weight, len(true))
    chosen = checks.check_thresholds(threshold, true.shape[1])
    pred = (proba > 0.5 if threshold is None else proba >= chosen).astype(np.uint8)
    outcome = _Outcomes.of(true, pred, proba, weight)
    found = outcome.scores(np.ones((len(true), 1)))
    blocks = [outcome.scores(one) for one in draws(len(true), n_bootstrap, random_state)]
    samples = {name: np.concatenate([block[name] for block in blocks]) for name in found if blocks}
    intervals = Intervals(samples, confidence)
    confusion = multilabel_confusion_matrix(true, pred)
    per_class = _per_class(found, intervals, names, (true == 1, pred == 1, weight))
    trials = dict.fromkeys(("accuracy", "subset_accuracy"), effective_size(weight))
    return MultilabelReport(
        n=len(true),
        classes=tuple(range(true.shape[1])),
        class_names=names,
        thresholds=tuple(chosen.tolist()),
        scores={
            name: intervals.of(name, found[name][0], trials=trials.get(name, 0))
            for name in SCORES
            if name in found
        },
        per_class=per_class,
        confusion=confusion,
        notes=(*_notes(per_class, found, sample_weight is not None), *intervals.notes),
        confidence=float(confidence),
        n_bootstrap=int(n_bootstrap),
        y_true=true,
        y_pred=pred,
        proba=proba.astype(np.float32),
    )


@dataclass(frozen=True)
class _Label:
    """One label, its images sorted by its probability, so that all scores are sums up to a place.

    Parameters
    ----------
    order : ndarray of shape (n,)
        The images, the least probable first.
    own : ndarray of shape (m,)
        Places of those that have it.
    lower, not_higher : ndarray of shape (m,)
        Numbers of images less probable than each of these, and not more probable.
    own_lower, own_not_higher : ndarray of shape (m,)
        How many of these have it.
    cut, own_cut : int
        Numbers of images it is not predicted of, and of those among them that have it.
    """

    order: np.ndarray
    own: np.ndarray
    lower: np.ndarray
    not_higher: np.ndarray
    own_lower: np.ndarray
    own_not_higher: np.ndarray
    cut: int
    own_cut: int

    @classmethod
    def of(cls, true: np.ndarray, pred: np.ndarray, proba: np.ndarray) -> _Label:
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
        """Compute the scores of `_OF_LABEL` under each of b weightings (n, b)."""
        weights = weights[self.order]
        own = weights[self.own]  # (m, b)
        every, having = _sums(weights), _sums(own)  # of the i first ones
        total, support = every[-1], having[-1]
        predicted, hits = total - every[self.cut], support - having[self.own_cut]
        rejected = every[self.cut] - having[self.own_cut]
        # Pairs of an image with it and a less probable one without, ties counting half. The sums
        # run in one order, so that what no image is left in is exactly 0, and 0 / 0 is NaN
        below = every[self.lower] - having[self.own_lower]
        below += every[self.not_higher] - having[self.own_not_higher]
        wins = np.einsum("ij,ij->j", own, below) / 2
        taken = total - every[self.lower]
        found = support - having[self.own_lower]
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
class _Outcomes:
    """What was predicted.

    Parameters
    ----------
    weight : ndarray of shape (n,)
        Sample weights.
    rows : dict of str to ndarray of shape (n,)
        Numbers of labels of each image, and means over them.
    labels : tuple of _Label
        The labels.
    """

    weight: np.ndarray
    rows: dict[str, np.ndarray]
    labels: tuple[_Label, ...]

    @classmethod
    def of(
        cls, true: np.ndarray, pred: np.ndarray, proba: np.ndarray, weight: np.ndarray
    ) -> _Outcomes:
        """Sort images by content, so that their order changes no interval."""
        order = np.lexsort((weight, *proba.T, *pred.T, *true.T))
        true, pred, proba, weight = (one[order] for one in (true, pred, proba, weight))
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
        labels = tuple(_Label.of(*one) for one in zip(true.T, pred.T, proba.T, strict=True))
        return cls(weight, {name: one.astype(float) for name, one in rows.items()}, labels)

    def scores(self, drawn: np.ndarray) -> Samples:
        """Compute every score under each of b weightings (n, b): (b,), or (b, k) of labels."""
        weights = drawn * self.weight[:, None]
        total = weights.sum(axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            sums = {name: values @ weights for name, values in self.rows.items()}
            parts = [label.scores(weights) for label in self.labels]
            each = {name: np.stack([part[name] for part in parts], axis=1) for name in _OF_LABEL}
            occurs = ~np.isnan(each["recall"])
            found = {name: sums[name] / total for name in _MEANS}
            for name, values in each.items():
                if name in ("precision", "f1"):  # one that occurs and is never predicted has 0
                    values = np.where(occurs, np.nan_to_num(values), np.nan)
                found[f"{name}_macro"] = mean_of_defined(values)
            found["recall_micro"] = sums["both"] / sums["true"]
            found["precision_micro"] = sums["both"] / sums["predicted"]
            found["f1_micro"] = 2 * sums["both"] / (sums["true"] + sums["predicted"])
        return found | {f"{name}_of_label": values for name, values in each.items()}


def _sums(weights: np.ndarray) -> np.ndarray:
    """Sum the first 0, 1, ..., n of n rows (n, b), (n + 1, b)."""
    found = np.zeros((len(weights) + 1, weights.shape[1]))
    np.cumsum(weights, axis=0, out=found[1:])
    return found


def _per_class(
    found: Samples,
    intervals: Intervals,
    names: Sequence[str],
    data: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> tuple[LabelScores, ...]:
    true, pred, weight = data
    listed = []
    for i, (has, found_in) in enumerate(zip(true.T, pred.T, strict=True)):
        chosen = {"recall": has, "specificity": ~has, "precision": found_in}
        trials = {name: effective_size(weight[rows]) for name, rows in chosen.items()}
        scores: list[Estimate] = [
            intervals.of(of, found[of][0, i], trials=trials.get(name, 0), column=i)
            for name in _OF_LABEL
            for of in [f"{name}_of_label"]
        ]
        listed.append(LabelScores(names[i], int(has.sum()), int(found_in.sum()), *scores))
    return tuple(listed)


def _notes(classes: Sequence[LabelScores], found: Samples, weighted: bool) -> list[str]:
    """Say what a reader of the numbers must know."""
    which = "image with a weight" if weighted else "image"
    said = []
    for names, what in (
        ([one.name for one in classes if one.recall.value is None],
         f"No {which} has {{}}: sensitivity and average precision are undefined there, precision "
         "and F1 too unless it is predicted"),
        ([one.name for one in classes if one.specificity.value is None],
         f"Every {which} has {{}}: specificity is undefined there"),
    ):  # fmt: skip
        if names:
            said.append(
                f"{what.format(listed_names(names))}; AUC is not defined there, and macro averages "
                "run over the labels that define a score."
            )
    if ignored := [one.name for one in classes if _never_found(one)]:
        said.append(
            f"Never predicted: {listed_names(ignored)}; precision is undefined there and counts "
            "as 0 in the averages."
        )
    for name, what in (("recall_micro", "has"), ("precision_micro", "is given")):
        if np.isnan(found[name][0]):
            said.append(f"No {which} {what} any label: {SCORES[name]}, is undefined.")
    if weighted:
        said.append(WEIGHTED)
    return said


def _never_found(one: LabelScores) -> bool:
    return one.recall.value is not None and one.precision.value is None
