"""The scores themselves, by scikit-learn wherever it has them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    brier_score_loss,
    log_loss,
    precision_recall_fscore_support,
    roc_auc_score,
)

from kmedclf.evaluation.bootstrap import BINS, Outcome, bin_index
from kmedclf.evaluation.intervals import Intervals
from kmedclf.evaluation.report import SCORES, Bin, Certainty, ClassScores, Estimate

WEIGHTED = (
    "Scores are weighted by sample_weight; counts, curves, ranks and confidences are of images."
)
"""Note of a report whose images have weights."""


def per_class(
    outcome: Outcome, confusion: np.ndarray, names: Sequence[str], intervals: Intervals
) -> tuple[ClassScores, ...]:
    """Score each class against the others; None where its images leave a score undefined.

    Parameters
    ----------
    outcome : Outcome
        What was predicted.
    confusion : ndarray of shape (k, k)
        Numbers of images.
    names : sequence of str
        One name a class.
    intervals : Intervals
        Where the intervals come from.

    Returns
    -------
    tuple of ClassScores
        One entry a class.
    """
    precision, recall, f1, _ = precision_recall_fscore_support(
        outcome.true,
        outcome.pred,
        labels=np.arange(outcome.k),
        average=None,
        sample_weight=outcome.weight,
        zero_division=np.nan,
    )
    aucs = _aucs(outcome)
    support, predicted = confusion.sum(axis=1), confusion.sum(axis=0)

    def trials(chosen: np.ndarray) -> float:
        return effective_size(outcome.weight[chosen])

    return tuple(
        ClassScores(
            name=names[i],
            support=int(support[i]),
            predicted=int(predicted[i]),
            recall=intervals.of("recall", recall[i], trials=trials(outcome.true == i), column=i),
            specificity=intervals.of(
                "specificity_of_class", _specificity(outcome, i), trials=trials(outcome.true != i),
                column=i,
            ),
            precision=intervals.of(
                "precision", precision[i], trials=trials(outcome.pred == i), column=i
            ),
            f1=intervals.of("f1", f1[i], column=i),
            auc=intervals.of("auc", aucs[i], column=i),
        )
        for i in range(outcome.k)
    )  # fmt: skip


def effective_size(weight: np.ndarray) -> float:
    """Count how many equal weights would say as much: L. Kish, "Survey sampling", 1965."""
    return float(weight.sum() ** 2 / (weight**2).sum()) if weight.any() else 0.0


def headline(
    outcome: Outcome, classes: tuple[ClassScores, ...], intervals: Intervals
) -> dict[str, Estimate]:
    """Compute the scores of `SCORES`, in its order.

    Parameters
    ----------
    outcome : Outcome
        What was predicted.
    classes : tuple of ClassScores
        What `per_class` gave.
    intervals : Intervals
        Where the intervals come from.

    Returns
    -------
    dict of str to Estimate
        By name.
    """
    true, pred, weight = outcome.true, outcome.pred, outcome.weight
    every, occurring = np.arange(outcome.k), np.unique(true[weight > 0])
    aucs = [one.auc.value for one in classes if one.auc.value is not None]
    values = {
        "accuracy": accuracy_score(true, pred, sample_weight=weight),
        "auc_macro": np.mean(aucs) if aucs else np.nan,
        "log_loss": log_loss(true, outcome.proba, labels=every, sample_weight=weight),
        "brier": brier_score_loss(true, outcome.proba, labels=every, sample_weight=weight),
        "ece": _calibration_error(outcome),
    }
    for average in ("macro", "weighted"):
        three = precision_recall_fscore_support(
            true, pred, labels=occurring, average=average, sample_weight=weight, zero_division=0.0
        )[:3]
        names = [f"{name}_{average}" for name in ("precision", "recall", "f1")]
        values.update(zip(names, three, strict=True))
    values["balanced_accuracy"] = values["recall_macro"]
    trials = dict.fromkeys(("accuracy", "recall_weighted"), effective_size(weight))
    found = {
        name: intervals.of(name, value, trials=trials.get(name, 0))
        for name, value in values.items()
    }
    if outcome.positive is not None:
        found |= _binary(outcome, classes, outcome.positive, intervals)
    return {name: found[name] for name in SCORES if name in found}


def reliability(outcome: Outcome) -> tuple[Bin, ...]:
    """Count and average the images of each bin of confidence."""
    edges, index = np.linspace(0, 1, BINS + 1), bin_index(outcome.confidence)
    right = outcome.true == outcome.pred
    bins = []
    for i in range(BINS):
        inside = index == i
        weight = outcome.weight[inside]
        means: list[float | None] = [None, None]
        if weight.any():
            both = outcome.confidence[inside], right[inside]
            means = [float(np.average(values, weights=weight)) for values in both]
        bins.append(Bin(float(edges[i]), float(edges[i + 1]), int(inside.sum()), *means))
    return tuple(bins)


def certainty(outcome: Outcome) -> dict[str, Certainty]:
    """Summarise the confidence of right and of wrong predictions."""
    right, found = outcome.true == outcome.pred, {}
    for name, chosen in (("right", right), ("wrong", ~right)):
        values = outcome.confidence[chosen]
        numbers: list[float | None] = [None] * 4
        if len(values):
            numbers = [float(values.mean()), *np.quantile(values, (0.25, 0.5, 0.75)).tolist()]
        found[name] = Certainty(len(values), *numbers)
    return found


def notes(classes: tuple[ClassScores, ...], weighted: bool) -> list[str]:
    """Say what a reader of the numbers must know: every score that is undefined, and why."""
    which, said = "image with a weight" if weighted else "image", []
    if absent := [one.name for one in classes if one.recall.value is None]:
        said.append(
            f"No {which} is of {listed_names(absent)}: recall and AUC are undefined there, "
            "precision and F1 too unless it is predicted, and macro averages run over the classes "
            f"that occur, {len(classes) - len(absent)}."
        )
    if alone := [one.name for one in classes if one.specificity.value is None]:
        said.append(
            f"Every {which} is of {alone[0]}: its specificity is undefined, as is every AUC."
        )
    if ignored := [one.name for one in classes if _never_found(one)]:
        said.append(
            f"No {which} was taken for {listed_names(ignored)}: precision is undefined there and "
            "counts as 0 in the averages."
        )
    if weighted:
        said.append(WEIGHTED)
    return said


def decisions(pred: np.ndarray, proba: np.ndarray, threshold: float | None) -> list[str]:
    """Say how often the class predicted is not the most probable one, where no threshold says it.

    Ranks and curves are of probabilities, and then do not tell what was predicted.
    """
    most = proba.max(axis=1)
    others = int(np.sum(proba[np.arange(len(pred)), pred] < most))
    if threshold is not None or not others:
        return []
    return [
        f"{others:,} of {len(pred):,} predictions are not of the most probable class: the "
        "classifier decides in another way. Ranks and curves are of probabilities."
    ]


def listed_names(names: Sequence[str]) -> str:
    """Name the first ten, and count the others."""
    shown = ", ".join(names[:10])
    return shown if len(names) <= 10 else f"{shown} and {len(names) - 10} more"


def _never_found(one: ClassScores) -> bool:
    return one.recall.value is not None and one.precision.value is None


def _specificity(outcome: Outcome, column: int) -> float:
    others = outcome.true != column
    if not outcome.weight[others].any():
        return float("nan")
    kept = outcome.pred[others] != column
    return float(np.average(kept, weights=outcome.weight[others]))


def _aucs(outcome: Outcome) -> list[float]:
    """Compute one-vs-rest AUCs; NaN for a class that is absent, or the only one."""
    columns = list(range(outcome.k))
    if outcome.k == 2:  # one number: 1 - p may have ties that p has not
        columns = [1 if outcome.positive is None else outcome.positive] * 2
    values = []
    for column in columns:
        truth = outcome.true == column
        defined = outcome.weight[truth].any() and outcome.weight[~truth].any()
        score = outcome.given[:, column]
        auc = roc_auc_score(truth, score, sample_weight=outcome.weight) if defined else np.nan
        values.append(float(auc))
    return values


def _calibration_error(outcome: Outcome) -> float:
    gap = outcome.weight * (outcome.confidence - (outcome.true == outcome.pred))
    in_bins = np.bincount(bin_index(outcome.confidence), gap, minlength=BINS)
    return float(np.abs(in_bins).sum() / outcome.weight.sum())


def _binary(
    outcome: Outcome, classes: tuple[ClassScores, ...], positive: int, intervals: Intervals
) -> dict[str, Estimate]:
    """Give the scores of a positive class against a negative one."""
    hit, miss = classes[positive], classes[1 - positive]
    truth, weight = outcome.true == positive, outcome.weight
    precision = np.nan
    if weight[truth].any():
        score = outcome.given[:, positive]
        precision = average_precision_score(truth, score, sample_weight=weight)
    return {
        "sensitivity": hit.recall,
        "specificity": miss.recall,
        "ppv": hit.precision,
        "npv": miss.precision,
        "average_precision": intervals.of("average_precision", precision),
    }
