"""Scores of small and awkward sets: as scikit-learn has them, or undefined and said to be so."""

import itertools
import json
import warnings

import numpy as np
import pytest
from sklearn import metrics as sk

from kmedclf.evaluation import MultilabelReport, Report, evaluate_predictions
from kmedclf.evaluation.scores import SCORES, MultilabelOutcome, Outcome, draws

CLOSE = {"rel": 1e-12, "abs": 1e-12}
CASES = 60
NAMES = ("zebra", "yak", "xerus", "wolf", "vole")


def awkward(seed, several):
    """Draw a small set: few images, perhaps missing classes, ties, saturation, weights of 0."""
    rng = np.random.default_rng(seed)
    n, k = int(rng.integers(1, 12)), int(rng.integers(2, 5))
    some = rng.permutation(k)[: rng.integers(1, k + 1)]  # classes that may occur
    y = rng.integers(0, 2, (n, k)) * np.isin(range(k), some) if several else rng.choice(some, n)
    logits = rng.normal(size=(n, k)) * rng.choice([0.0, 1.0, 40.0])
    logits = logits.round(int(rng.integers(0, 3)))
    if several:
        proba = 1 / (1 + np.exp(-logits))
    else:
        proba = np.exp(logits - logits.max(axis=1, keepdims=True))
        proba /= proba.sum(axis=1, keepdims=True)
    proba = proba.astype(rng.choice([np.float32, np.float64]))
    weight = rng.choice([0.0, 0.3, 1.7], n) if seed % 3 == 0 else None
    if weight is not None and not weight.any():
        weight = None
    return y, proba, weight


def defined(score, *args, **options):
    """Give what scikit-learn computes; None where it says that there is nothing to compute."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            value = score(*args, **options)
        except (ValueError, sk._classification.UndefinedMetricWarning):
            return None
    return None if np.isnan(value) else value


def of_truth(truth, pred, score, weight):
    """Score one class or label against its absence; what has no image to count is None."""
    weight = np.ones(len(truth)) if weight is None else weight
    rows = weight > 0
    one = {"sample_weight": weight[rows]}
    truth, pred, score = truth[rows], pred[rows], score[rows]
    rates = {
        "recall": defined(sk.recall_score, truth, pred, zero_division=np.nan, **one),
        "specificity": defined(sk.recall_score, ~truth, ~pred, zero_division=np.nan, **one),
        "precision": defined(sk.precision_score, truth, pred, zero_division=np.nan, **one),
        "f1": defined(sk.f1_score, truth, pred, zero_division=np.nan, **one),
        "auc": None,
        "average_precision": None,
    }
    if truth.any() and not truth.all():
        rates["auc"] = sk.roc_auc_score(truth, score, **one)
    if truth.any():
        rates["average_precision"] = sk.average_precision_score(truth, score, **one)
    return rates


def mean(values):
    values = [value for value in values if value is not None]
    return float(np.mean(values)) if values else None


def macro(each, name):
    """Average over the classes that occur, where one that is never predicted counts as 0."""
    if name in ("precision", "f1"):
        return mean([(one[name] or 0.0) for one in each if one["recall"] is not None])
    return mean([one[name] for one in each])


def expected_of_classes(y, proba, pred, weight, positive):
    k = proba.shape[1]
    each = [of_truth(y == i, pred == i, proba[:, i], weight) for i in range(k)]
    if k == 2:  # one curve
        column = 1 if positive is None else positive
        one = of_truth(y == column, pred == column, proba[:, column], weight)["auc"]
        each = [{**of_class, "auc": one} for of_class in each]
    shares = proba.astype(float) / proba.astype(float).sum(axis=1, keepdims=True)
    labels, given = np.arange(k), np.ones(len(y)) if weight is None else weight
    found = {
        "accuracy": sk.accuracy_score(y, pred, sample_weight=weight),
        "log_loss": sk.log_loss(y, shares, labels=labels, sample_weight=weight),
        "brier": sk.brier_score_loss(y, shares, labels=labels, sample_weight=weight),
        "balanced_accuracy": macro(each, "recall"),
    }
    occurring = np.unique(y[given > 0])
    for name in ("auc", "recall", "precision", "f1"):
        found[f"{name}_macro"] = macro(each, name)
        if name != "auc":
            found[f"{name}_weighted"] = getattr(sk, f"{name}_score")(
                y, pred, labels=occurring, average="weighted", sample_weight=weight, zero_division=0
            )
    edges = np.linspace(0, 1, 16)
    sure = shares[np.arange(len(y)), pred]
    inside = [(sure > low) & (sure <= high) for low, high in itertools.pairwise(edges)]
    gaps = [abs(np.sum((given * (sure - (y == pred)))[one])) for one in inside]
    found["ece"] = sum(gaps) / given.sum()
    if positive is not None:
        hit, miss = each[positive], each[1 - positive]
        found |= {"sensitivity": hit["recall"], "specificity": miss["recall"],
                  "ppv": hit["precision"], "npv": miss["precision"],
                  "average_precision": hit["average_precision"]}  # fmt: skip
    return found, each


def expected_of_labels(y, proba, pred, weight):
    shares = proba.astype(float)
    each = [
        of_truth(y[:, i] == 1, pred[:, i] == 1, shares[:, i], weight) for i in range(y.shape[1])
    ]
    given = np.ones(len(y)) if weight is None else weight
    rows = given > 0
    right = np.clip(np.where(y == 1, shares, 1 - shares), np.finfo(float).eps, 1 - 2.3e-16)
    micro = {"average": "micro", "sample_weight": given[rows], "zero_division": np.nan}
    found = {
        "accuracy": np.average((y == pred).mean(axis=1), weights=given),
        "subset_accuracy": sk.accuracy_score(y, pred, sample_weight=weight),
        "log_loss": np.average(-np.log(right).mean(axis=1), weights=given),
        "brier": np.average(((shares - y) ** 2).mean(axis=1), weights=given),
        **{
            f"{name}_micro": defined(getattr(sk, f"{name}_score"), y[rows], pred[rows], **micro)
            for name in ("recall", "precision", "f1")
        },
        **{f"{name}_macro": macro(each, name) for name in each[0]},
    }
    return found, each


def check(estimate, expected, what):
    if expected is None:
        assert estimate == (None, None, None), what
        return
    assert estimate.value == pytest.approx(expected, **CLOSE), what
    for bound in estimate[1:]:
        assert bound is None or np.isfinite(bound), what
    if estimate.low is not None:
        assert estimate.low <= estimate.high, what


def check_said(report):
    """Every undefined score of a class is explained by a note that names the class."""
    notes = " ".join(report.notes)
    for one in report.per_class:
        if one.recall.value is None:
            assert one.name in notes
            assert ("No image" in notes) or ("Every image" in notes)
        if one.precision.value is None:
            assert one.name in notes
        if one.specificity.value is None:
            assert one.name in notes
            assert "specificity is undefined" in notes
    for name, score in report.scores.items():
        if score.value is None:
            assert "undefined" in notes, name
            assert "undefined" in str(report), name


@pytest.mark.parametrize("several", [False, True], ids=["classes", "labels"])
def test_every_score_is_scikit_learns_or_undefined_and_said_to_be(several):
    seen = set()
    for seed in range(CASES):
        y, proba, weight = awkward(seed, several)
        k = proba.shape[1]
        positive = seed % 2 if k == 2 and not several and seed % 4 else None
        options = {"class_names": NAMES[:k], "sample_weight": weight, "n_bootstrap": 20}
        report = evaluate_predictions(y, proba, pos_label=positive, **options)
        if several:
            pred = (proba > 0.5).astype(int)
            found, each = expected_of_labels(y, proba, pred, weight)
        else:
            pred = proba.argmax(axis=1)
            found, each = expected_of_classes(y, proba, pred, weight, positive)
        assert report.y_pred.tolist() == pred.tolist()
        assert report.scores.keys() == found.keys()
        for name, score in report.scores.items():
            check(score, found[name], (seed, name))
            seen.add((name, score.value is None))
        for one, of_class in zip(report.per_class, each, strict=True):
            for name in one._fields[3:]:
                check(getattr(one, name), of_class[name], (seed, one.name, name))
        check_said(report)
        kind = MultilabelReport if several else Report
        assert kind.from_dict(json.loads(json.dumps(report.to_dict(), allow_nan=False))) == report
    every = {name for name, _ in seen}
    assert every <= SCORES.keys()
    if several:
        assert {name for name in SCORES if name.endswith("_micro")} <= every
    else:
        assert {"sensitivity", "npv", "ece", "balanced_accuracy"} <= every
    undefined = {name for name, missing in seen if missing}
    assert "auc_macro" in undefined


def test_every_registered_score_is_of_one_kind_of_report():
    """The property above compares all scores of a report; together they are all there are."""
    two = evaluate_predictions([0, 1], [[0.9, 0.1], [0.2, 0.8]], pos_label=1, n_bootstrap=0)
    labels = evaluate_predictions([[0, 1]], [[0.9, 0.1]], n_bootstrap=0)
    grades = evaluate_predictions([0, 1], [[0.9, 0.1], [0.2, 0.8]], ordinal=True, n_bootstrap=0)
    assert {*two.scores, *labels.scores, *grades.scores} == set(SCORES)


@pytest.mark.parametrize("several", [False, True], ids=["classes", "labels"])
def test_resamples_that_lack_a_class_are_undefined_whatever_the_weights(several):
    """Weights round: what is left of a class that was not drawn must not be a number."""
    for seed in range(30):
        rng = np.random.default_rng(seed)
        n, k = int(rng.integers(2, 7)), int(rng.integers(2, 4))
        weight = rng.uniform(0.1, 2, n)
        drawn = next(draws(n, 40, seed))
        if several:
            y, proba = rng.integers(0, 2, (n, k)), rng.random((n, k)).round(1)
            found = MultilabelOutcome.of(y, (proba > 0.5).astype(int), proba, weight)
            order = np.lexsort((weight, *proba.T, *(proba > 0.5).astype(int).T, *y.T))
            truth, names = y[order] == 1, ("auc_of_label", "specificity_of_label")
            scores = found.scores(drawn)
        else:
            y, proba = rng.integers(0, k, n), rng.dirichlet(np.ones(k), n)
            outcome = Outcome.of(y, proba.argmax(axis=1), proba, weight)
            truth, names = outcome.true[:, None] == np.arange(k), ("auc", "specificity_of_class")
            scores = outcome.scores(drawn)
        has, lacks = (drawn.T @ one > 0 for one in (truth, ~truth))
        for name, expected in zip(names, (has & lacks, lacks), strict=True):
            values = scores[name]
            np.testing.assert_array_equal(~np.isnan(values), expected, str((seed, name)))
            assert np.all((values[expected] >= 0) & (values[expected] <= 1))


def test_equal_probabilities_stay_equal():
    """Saturated float32 probabilities sum to 1 ± 1e-7; scaled to 1 they would be ranked."""
    rng = np.random.default_rng(0)
    y, logits = rng.integers(0, 3, 300), rng.normal(size=(300, 3)) * 20
    proba = np.exp(logits - logits.max(axis=1, keepdims=True)).astype(np.float32)
    proba /= proba.sum(axis=1, keepdims=True)
    report = evaluate_predictions(y, proba, n_bootstrap=0)
    for i, one in enumerate(report.per_class):
        assert one.auc.value == pytest.approx(sk.roc_auc_score(y == i, proba[:, i]), **CLOSE)


def test_a_chosen_threshold_keeps_the_sensitivity_that_it_was_chosen_for():
    from kmedclf.evaluation import choose_threshold

    for seed in range(20):
        rng = np.random.default_rng(seed)
        y, logits = rng.integers(0, 2, 50), rng.normal(size=(50, 2)).astype(np.float32) * 3
        proba = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        chosen = choose_threshold(y, proba[:, 1], sensitivity=0.9)
        report = evaluate_predictions(
            y, proba, pos_label=1, threshold=chosen.threshold, n_bootstrap=0
        )
        assert report.scores["sensitivity"].value == pytest.approx(chosen.sensitivity)
        assert report.scores["specificity"].value == pytest.approx(chosen.specificity)


def test_an_exact_interval_counts_weights_and_not_rows():
    """One image with all the weight says as much as one image, whatever stands beside it."""
    y, proba = np.zeros(20, int), np.tile([0.9, 0.1], (20, 1))
    weight = np.r_[1.0, np.zeros(19)]
    one = evaluate_predictions(y, proba, sample_weight=weight).scores["accuracy"]
    assert one.low == pytest.approx(0.025)
    equal = evaluate_predictions(y, proba, sample_weight=np.full(20, 0.1)).scores["accuracy"]
    assert equal.low == pytest.approx(0.025 ** (1 / 20))


def test_why_there_is_no_interval_is_said_as_it_is():
    y = np.r_[np.zeros(40, int), 1]  # most resamples of one positive image and few draws lack it
    proba = np.tile([0.7, 0.3], (41, 1))
    proba[-1] = [0.2, 0.8]
    notes = " ".join(evaluate_predictions(y, proba, n_bootstrap=200).notes)
    assert "resamples lack a class that occurs" in notes
    y, proba = y[[0, 40]], proba[[0, 40]]
    found = evaluate_predictions(y, proba, n_bootstrap=200)
    missing = found.scores["auc_macro"]
    assert (missing.value, missing.low) == (1.0, None)
    assert "No interval" in " ".join(found.notes)
