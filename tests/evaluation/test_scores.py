"""The intervals of `kmedclf.evaluation.evaluate`: resampling, coverage, invariance, speed."""

import json

import numpy as np
import pytest
from simulated import simulated, values

from kmedclf.evaluation import Estimate, Report, evaluate_predictions
from kmedclf.evaluation.scores import Intervals, Outcome

CLOSE = {"rel": 1e-12, "abs": 1e-12}


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("k", [2, 4])
def test_resampled_scores_are_the_scores_of_the_resample(k, ties):
    """The arithmetic on weights agrees with evaluating a resample that is really built."""
    y, proba = simulated(90, k)
    if ties:
        proba = np.round(proba, 1) + 0.1
        proba /= proba.sum(axis=1, keepdims=True)
    generator = np.random.default_rng(3)
    pred, weight = proba.argmax(axis=1), generator.uniform(0.5, 2, len(y))
    positive = 1 if k == 2 else None
    outcome = Outcome.of(y, pred, proba, weight, positive)
    draws = np.stack([np.bincount(generator.integers(90, size=90), minlength=90) for _ in "abc"], 1)
    found = outcome.scores(draws.astype(float))
    for b in range(3):
        rows = np.repeat(np.arange(90), draws[:, b])
        report = evaluate_predictions(
            outcome.true[rows],
            outcome.proba[rows],
            y_pred=outcome.pred[rows],
            sample_weight=outcome.weight[rows],
            pos_label=positive,
            n_bootstrap=0,
        )
        built = values(report)
        assert {name: found[name][b] for name in built} == pytest.approx(built, **CLOSE)
        for name in ("recall", "precision", "f1", "auc"):
            each = [getattr(one, name).value for one in report.per_class]
            each = [np.nan if value is None else value for value in each]
            assert found[name][b].tolist() == pytest.approx(each, **CLOSE, nan_ok=True)


def test_intervals_cover():
    """300 test sets of 300 images. Of true 95 % intervals, 91 to 99 % would cover (3 sd)."""
    y, proba = simulated(200_000, 3, seed=99)
    exact = values(evaluate_predictions(y, proba, n_bootstrap=0))
    covered = dict.fromkeys(exact, 0)
    for seed in range(300):
        y, proba = simulated(300, 3, seed)
        outcome = Outcome.of(y, proba.argmax(axis=1), proba, np.ones(300))
        intervals = Intervals(outcome.resample(300, 0), 0.95)
        plain = outcome.scores(np.ones((300, 1)))
        for name in exact:
            one = intervals.of(name, plain[name][0])
            covered[name] += one.low <= exact[name] <= one.high
    assert all(0.91 <= count / 300 <= 0.99 for count in covered.values()), covered


def test_order_of_rows_changes_nothing():
    y, proba = simulated(120, 4)
    weight = np.random.default_rng(5).uniform(0.5, 2, len(y))
    order = np.random.default_rng(6).permutation(len(y))
    one = evaluate_predictions(y, proba, sample_weight=weight).to_dict()
    two = evaluate_predictions(y[order], proba[order], sample_weight=weight[order]).to_dict()
    arrays = ("true_index", "pred_index", "proba")
    assert {k: v for k, v in one.items() if k not in arrays} == {
        k: v for k, v in two.items() if k not in arrays
    }


def test_seed_decides_the_intervals():
    y, proba = simulated()
    assert evaluate_predictions(y, proba) == evaluate_predictions(y, proba)
    assert evaluate_predictions(y, proba) != evaluate_predictions(y, proba, random_state=1)


def test_wider_confidence_is_wider():
    y, proba = simulated()
    narrow, wide = (evaluate_predictions(y, proba, confidence=c).scores for c in (0.8, 0.99))
    for name in narrow:
        assert wide[name].low < narrow[name].low <= narrow[name].value
        assert narrow[name].value <= narrow[name].high < wide[name].high


def test_one_image():
    report = evaluate_predictions([1], [[0.2, 0.5, 0.3]])
    assert report.accuracy == 1.0
    assert report.scores["accuracy"].low == pytest.approx(0.025)  # exact, of one success in one
    assert report.scores["auc_macro"].value is None
    assert report.scores["log_loss"] == Estimate(pytest.approx(-np.log(0.5)))
    assert any(note.startswith("No interval") for note in report.notes)
    assert Report.from_dict(json.loads(json.dumps(report.to_dict(), allow_nan=False))) == report


def test_all_right_is_no_certainty():
    """30 of 30: the rule of three, where a bootstrap would say [1, 1]."""
    y = np.arange(30) % 2
    report = evaluate_predictions(y, np.eye(2)[y] * 0.8 + 0.1)
    assert report.scores["accuracy"].value == 1.0
    assert report.scores["accuracy"].low == pytest.approx(0.025 ** (1 / 30))
    assert report.per_class[0].recall.low == pytest.approx(0.025 ** (1 / 15))


def test_a_thousand_resamples_are_fast():
    """In seconds of processor time, which other programs on the machine do not spend."""
    from time import process_time

    y, proba = simulated(3421, 8)
    start = process_time()
    evaluate_predictions(y, proba)
    assert process_time() - start < 2.0
