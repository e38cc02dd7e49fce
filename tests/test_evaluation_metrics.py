"""`kmedclf.evaluation.evaluate`: the numbers, their intervals, their way to JSON."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest
from sklearn import metrics as sk
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, TunedThresholdClassifierCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from kmedclf import MLPClassifier
from kmedclf.datasets import make_blood_cells
from kmedclf.evaluation import (
    Estimate,
    Report,
    choose_threshold,
    evaluate,
    evaluate_predictions,
    mean_std,
)
from kmedclf.evaluation.bootstrap import Outcome, resample, scores_of
from kmedclf.evaluation.intervals import Intervals
from kmedclf.evaluation.report import SCORES

CLOSE = {"rel": 1e-12, "abs": 1e-12}


def simulated(n=200, k=4, seed=0, skill=1.5):
    """Labels, and softmax probabilities that know something of them."""
    generator = np.random.default_rng(seed)
    y = generator.integers(k, size=n)
    logits = generator.normal(size=(n, k))
    logits[np.arange(n), y] += skill
    proba = np.exp(logits)
    return y, proba / proba.sum(axis=1, keepdims=True)


def values(report):
    return {name: one.value for name, one in report.scores.items()}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("k", [2, 3, 8, 100])
def test_agrees_with_scikit_learn(k, weighted):
    y, proba = simulated(600, k)
    weight = np.random.default_rng(1).uniform(0.5, 2, len(y)) if weighted else None
    report = evaluate_predictions(y, proba, sample_weight=weight, n_bootstrap=0)
    pred, found = proba.argmax(axis=1), values(report)
    binary_or_all = proba[:, 1] if k == 2 else proba
    expected = {
        "accuracy": sk.accuracy_score(y, pred, sample_weight=weight),
        "balanced_accuracy": sk.balanced_accuracy_score(y, pred, sample_weight=weight),
        "log_loss": sk.log_loss(y, proba, sample_weight=weight),
        "brier": sk.brier_score_loss(y, proba, sample_weight=weight, labels=np.arange(k)),
    }
    if not (k > 2 and weighted):  # scikit-learn averages over classes only without weights
        expected["auc_macro"] = sk.roc_auc_score(
            y, binary_or_all, multi_class="ovr", sample_weight=weight
        )
    for average in ("macro", "weighted"):
        for name in ("precision", "recall", "f1"):
            score = getattr(sk, f"{name}_score")
            expected[f"{name}_{average}"] = score(
                y, pred, average=average, sample_weight=weight, zero_division=0, labels=np.unique(y)
            )
    assert {name: found[name] for name in expected} == pytest.approx(expected, **CLOSE)
    assert set(found) == set(expected) | {"ece", "auc_macro"}
    assert report.confusion.tolist() == sk.confusion_matrix(y, pred).tolist()


@pytest.mark.parametrize("weighted", [False, True])
def test_each_class_agrees_with_scikit_learn(weighted):
    y, proba = simulated(400, 5)
    weight = np.random.default_rng(1).uniform(0.5, 2, len(y)) if weighted else None
    report = evaluate_predictions(y, proba, sample_weight=weight, n_bootstrap=0)
    pred = proba.argmax(axis=1)
    for i, one in enumerate(report.per_class):
        truth, taken = y == i, pred == i
        options = {"sample_weight": weight}
        assert one.recall.value == pytest.approx(sk.recall_score(truth, taken, **options), **CLOSE)
        assert one.precision.value == pytest.approx(
            sk.precision_score(truth, taken, **options), **CLOSE
        )
        assert one.f1.value == pytest.approx(sk.f1_score(truth, taken, **options), **CLOSE)
        assert one.auc.value == pytest.approx(
            sk.roc_auc_score(truth, proba[:, i], **options), **CLOSE
        )
        assert one.specificity.value == pytest.approx(
            sk.recall_score(~truth, ~taken, **options), **CLOSE
        )
        assert (one.support, one.predicted) == (truth.sum(), taken.sum())


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("positive", ["ill", "well"])
def test_two_classes_agree_with_scikit_learn(positive, weighted):
    index, proba = simulated(300, 2)
    y = np.array(["ill", "well"])[index]
    weight = np.random.default_rng(1).uniform(0.5, 2, len(y)) if weighted else None
    report = evaluate_predictions(
        y, proba, classes=["ill", "well"], pos_label=positive, sample_weight=weight, n_bootstrap=0
    )
    column = ["ill", "well"].index(positive)
    truth, pred = index == column, proba.argmax(axis=1) == column
    options = {"sample_weight": weight}
    found = values(report)
    expected = {
        "sensitivity": sk.recall_score(truth, pred, **options),
        "specificity": sk.recall_score(~truth, ~pred, **options),
        "ppv": sk.precision_score(truth, pred, **options),
        "npv": sk.precision_score(~truth, ~pred, **options),
        "average_precision": sk.average_precision_score(truth, proba[:, column], **options),
        "auc_macro": sk.roc_auc_score(truth, proba[:, column], **options),
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected, **CLOSE)
    assert report.y_true.tolist() == y.tolist()
    assert report.pos_label == positive


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
    found = scores_of(outcome, draws.astype(float))
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
        intervals = Intervals(resample(outcome, 300, 0), 0.95)
        plain = scores_of(outcome, np.ones((300, 1)))
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


def test_a_class_that_does_not_occur_has_no_auc():
    y, proba = simulated(100, 4)
    proba, y = proba[y != 2], y[y != 2]
    report = evaluate_predictions(y, proba, class_names=["a", "b", "c", "d"])
    absent = report.per_class[2]
    assert absent.recall.value is None
    assert absent.auc.value is None
    assert report.to_dict()["per_class"][2][7] == [None, None, None]
    assert any("No image is of c:" in note for note in report.notes)
    others = [report.per_class[i].auc.value for i in (0, 1, 3)]
    assert report.scores["auc_macro"].value == pytest.approx(np.mean(others))
    recalls = [report.per_class[i].recall.value for i in (0, 1, 3)]
    assert report.scores["balanced_accuracy"].value == pytest.approx(np.mean(recalls))


def test_a_class_never_predicted_is_flagged():
    y, proba = simulated(100, 3)
    proba[:, 1] *= 1e-9
    proba /= proba.sum(axis=1, keepdims=True)
    report = evaluate_predictions(y, proba, class_names=["a", "b", "c"])
    assert report.never_predicted == ("b",)
    assert report.per_class[1].precision.value is None
    assert report.per_class[1].f1.value == 0.0
    assert any("No image was taken for b" in note for note in report.notes)
    expected = sk.precision_score(y, proba.argmax(axis=1), average="macro", zero_division=0)
    assert report.scores["precision_macro"].value == pytest.approx(expected)


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


def test_ranks_of_the_true_class():
    proba = [[0.5, 0.3, 0.2], [0.5, 0.3, 0.2], [0.5, 0.3, 0.2], [0.4, 0.4, 0.2]]
    report = evaluate_predictions([0, 1, 2, 1], proba, n_bootstrap=0)
    assert report.ranks.tolist() == [1, 2, 3, 2]  # of equals the first is predicted
    assert report.rank_counts.tolist() == [1, 2, 1]
    assert report.rank_counts[0] == report.right.sum()


def test_reliability_agrees_with_scikit_learn():
    y, proba = simulated(500, 3)
    report = evaluate_predictions(y, proba, n_bootstrap=0)
    right, confidence = proba.argmax(axis=1) == y, proba.max(axis=1)
    accuracy, mean = calibration_curve(right, confidence, n_bins=15)
    filled = [one for one in report.reliability if one.images]
    assert [one.accuracy for one in filled] == pytest.approx(accuracy.tolist())
    assert [one.confidence for one in filled] == pytest.approx(mean.tolist())
    gaps = [one.images * abs(one.accuracy - one.confidence) for one in filled]
    assert report.scores["ece"].value == pytest.approx(sum(gaps) / 500)


def test_certainty_of_right_and_wrong_predictions():
    y, proba = simulated(300, 3)
    report = evaluate_predictions(y, proba, n_bootstrap=0)
    right, confidence = proba.argmax(axis=1) == y, proba.max(axis=1)
    for name, chosen in (("right", right), ("wrong", ~right)):
        found = report.certainty[name]
        assert found.images == chosen.sum()
        assert found.mean == pytest.approx(confidence[chosen].mean())
        assert found.median == pytest.approx(np.median(confidence[chosen]))


@pytest.mark.parametrize("labels", [[0, 1, 2], ["a", "b", "ż"], [True, False], [1.5, 2.5]])
def test_json_keeps_everything(labels, tmp_path):
    index, proba = simulated(80, len(labels))
    y = np.array(labels)[index]
    weight = np.arange(80.0)
    report = evaluate_predictions(y, proba, classes=labels, sample_weight=weight, n_bootstrap=50)
    path = tmp_path / "report.json"
    report.to_json(path)
    back = Report.from_json(path)
    assert back == report
    for name in ("confusion", "true_index", "pred_index", "proba", "rank_counts"):
        assert getattr(back, name).dtype == getattr(report, name).dtype
        np.testing.assert_array_equal(getattr(back, name), getattr(report, name))
    assert back.y_true.tolist() == y.tolist()
    assert os.listdir(tmp_path) == ["report.json"]


def test_json_is_compact(tmp_path):
    y, proba = simulated(3421, 8)
    evaluate_predictions(y, proba, n_bootstrap=0).to_json(tmp_path / "report.json")
    assert (tmp_path / "report.json").stat().st_size < 200_000


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"format": 1}', '{"format": 9}'])
def test_a_broken_file_is_named(text, tmp_path):
    path = tmp_path / "report.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"report\.json is not a whole kmedclf report"):
        Report.from_json(path)


def test_a_thousand_resamples_are_fast():
    """In seconds of processor time, which other programs on the machine do not spend."""
    from time import process_time

    y, proba = simulated(3421, 8)
    start = process_time()
    evaluate_predictions(y, proba)
    assert process_time() - start < 2.0


def test_evaluates_our_own_estimators():
    X, y = make_blood_cells(120, random_state=0)
    model = MLPClassifier(units=8, epochs=2, random_state=0).fit(X[:80], y[:80])
    report = evaluate(model, X[80:], y[80:], n_bootstrap=20)
    assert report.accuracy == model.score(X[80:], y[80:])
    assert report.y_pred.tolist() == model.predict(X[80:]).tolist()
    np.testing.assert_array_equal(report.proba, model.predict_proba(X[80:]).astype(np.float32))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda one: make_pipeline(StandardScaler(), one),
        lambda one: GridSearchCV(one, {"C": [1.0]}),
        TunedThresholdClassifierCV,
    ],
)
def test_evaluates_what_scikit_learn_wraps(wrap):
    generator = np.random.default_rng(0)
    X = generator.normal(size=(200, 4))
    y = (X[:, 0] + generator.normal(size=200) > 1).astype(int)
    model = wrap(LogisticRegression()).fit(X[:100], y[:100])
    report = evaluate(model, X[100:], y[100:], n_bootstrap=0)
    assert report.y_pred.tolist() == model.predict(X[100:]).tolist()


def test_threshold_is_chosen_on_validation_data_and_used():
    y, proba = simulated(400, 2, skill=1.0)
    chosen = choose_threshold(y[:200], proba[:200, 1], sensitivity=0.9)
    assert chosen.sensitivity >= 0.9
    assert chosen.n == 200
    higher = np.sort(proba[:200, 1][proba[:200, 1] > chosen.threshold])[0]
    assert np.mean(proba[:200, 1][y[:200] == 1] >= higher) < 0.9 or chosen.specificity == 1.0
    report = evaluate_predictions(
        y[:200], proba[:200], pos_label=1, threshold=chosen.threshold, n_bootstrap=0
    )
    assert report.scores["sensitivity"].value == pytest.approx(chosen.sensitivity)
    assert report.scores["specificity"].value == pytest.approx(chosen.specificity)
    assert report.threshold == chosen.threshold


def test_curves_agree_with_scikit_learn():
    y, proba = simulated(100, 2)
    report = evaluate_predictions(y, proba.astype(np.float32), n_bootstrap=0)
    recall, precision, _ = report.curve(1, "pr")
    expected = sk.precision_recall_curve(y == 1, report.proba[:, 1])
    np.testing.assert_array_equal(precision, expected[0])
    np.testing.assert_array_equal(recall, expected[1])
    np.testing.assert_array_equal(report.curve(0)[1], sk.roc_curve(y == 0, report.proba[:, 0])[1])
    with pytest.raises(ValueError, match="must have images of it and of others"):
        evaluate_predictions([0], [[0.5, 0.5]], n_bootstrap=0).curve(1)


def test_mean_and_standard_deviation():
    reports = [evaluate_predictions(*simulated(seed=s), n_bootstrap=0) for s in range(5)]
    accuracies = [report.accuracy for report in reports]
    for ddof in (0, 1):
        summary = mean_std(reports, ddof=ddof)
        found = summary.scores["accuracy"]
        assert (summary.ddof, summary.n_reports, found.n) == (ddof, 5, 5)
        assert found.mean == pytest.approx(np.mean(accuracies))
        assert found.std == pytest.approx(np.std(accuracies, ddof=ddof))
        assert f"ddof {ddof}" in str(summary)
        assert summary.to_dict()["ddof"] == ddof
    recalls = [report.per_class[2].recall.value for report in reports]
    assert summary.per_class["2"]["recall"].mean == pytest.approx(np.mean(recalls))
    assert mean_std(reports[:1]).scores["accuracy"].std is None


def test_a_score_undefined_in_one_fold_is_averaged_over_the_others():
    whole = evaluate_predictions(*simulated(50, 2), n_bootstrap=0)
    part = evaluate_predictions([0], [[0.9, 0.1]], n_bootstrap=0)
    assert mean_std([whole, part]).scores["auc_macro"].n == 1
    assert mean_std([part]).scores["auc_macro"] == (None, None, 0)
    assert str(mean_std([part]).scores["auc_macro"]) == "undefined"


def test_text_shows_every_score_and_class():
    y, proba = simulated(100, 2)
    report = evaluate_predictions(y, proba, pos_label=1, class_names=["well", "ill"])
    text = str(report)
    assert all(title in text for title in [*SCORES.values(), "well", "ill"])
    assert str(report.scores["accuracy"]) in repr(report)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"proba": [0.5, 0.5]}, r"must be of shape \(n, k\).*Got shape \(2,\) instead"),
        ({"proba": [[0.5, np.nan]] * 2}, "must be finite and not negative. Got nan among"),
        ({"proba": [[1.5, -0.5]] * 2}, "must be finite and not negative. Got -0.5 among"),
        ({"proba": [[0.5, 0.6]] * 2}, "must sum to 1. Got a row of sum 1.1"),
        ({"y_true": [0, 7]}, "only labels the estimator knows, 0, 1. Got 7 instead"),
        ({"y_true": [0]}, "inconsistent numbers of samples"),
        ({"classes": ["a", "a"]}, "'classes' parameter must hold 2 different labels"),
        ({"class_names": ["a"]}, "'class_names' parameter must hold 2 names"),
        ({"class_names": {0: "a"}}, "'class_names' parameter must name every label.*for 1"),
        ({"pos_label": 5}, "'pos_label' parameter must be one of two classes. Got 5"),
        ({"threshold": 0.5}, "'threshold' parameter must come with a 'pos_label'"),
        ({"threshold": 1.5, "pos_label": 1}, r"'threshold' parameter must be in \[0, 1\]. Got 1.5"),
        ({"n_bootstrap": -1}, "'n_bootstrap' parameter must be an integer of at least 0. Got -1"),
        ({"confidence": 95}, r"'confidence' parameter must be in \(0, 1\). Got 95 instead"),
        ({"sample_weight": [0, 0]}, "'sample_weight' parameter must not be all zero"),
        ({"sample_weight": [1, -1]}, "'sample_weight' parameter must be finite and at least 0"),
    ],
)
def test_wrong_arguments_are_named(change, message):
    right = {"y_true": [0, 1], "proba": [[0.5, 0.5], [0.4, 0.6]]}
    with pytest.raises(ValueError, match=message):
        evaluate_predictions(**{**right, **change})


def test_wrong_arguments_elsewhere_are_named():
    with pytest.raises(ValueError, match=r"with predict_proba\. Got object"):
        evaluate(object(), [], [])
    with pytest.raises(ValueError, match="'sensitivity' parameter must be in"):
        choose_threshold([0, 1], [0.1, 0.2], sensitivity=0)
    with pytest.raises(ValueError, match=r"another label\. Got 2 of 2"):
        choose_threshold([1, 1], [0.1, 0.2])
    with pytest.raises(ValueError, match=r"must hold a report\. Got none"):
        mean_std([])
    two = [evaluate_predictions(*simulated(20, k), n_bootstrap=0) for k in (2, 3)]
    with pytest.raises(ValueError, match="same classes throughout"):
        mean_std(two)


def test_neither_tensorflow_nor_matplotlib_is_loaded(tmp_path):
    code = (
        "import sys, kmedclf.evaluation as e;"
        "e.evaluate_predictions([0, 1], [[.9, .1], [.2, .8]]).to_json(sys.argv[1]);"
        "assert not {'tensorflow', 'keras', 'matplotlib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path / "report.json"], check=True)


MEDMNIST = """
import sys
import numpy as np
from medmnist.evaluator import Evaluator

flag, root, scores = sys.argv[1:]
evaluator = Evaluator(flag, "test", root=root)
auc, accuracy = evaluator.evaluate(np.load(scores))
print(repr(float(auc)), repr(float(accuracy)))
"""


@pytest.mark.parametrize(("flag", "k"), [("bloodmnist", 8), ("breastmnist", 2)])
def test_agrees_with_the_evaluator_of_medmnist(flag, k, tmp_path):
    python = os.environ.get("KMEDCLF_MEDMNIST_PYTHON")
    if python is None and find_spec("medmnist") is None:
        pytest.skip(
            "medmnist is not installed here, and KMEDCLF_MEDMNIST_PYTHON names no interpreter that "
            "has it"
        )
    y, proba = simulated(500, k)
    np.savez(tmp_path / f"{flag}.npz", test_labels=y[:, None])
    np.save(tmp_path / "scores.npy", proba)
    arguments = [flag, str(tmp_path), str(tmp_path / "scores.npy")]
    done = subprocess.run(
        [python or sys.executable, "-c", MEDMNIST, *arguments],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "HOME": str(tmp_path)},  # importing medmnist makes a folder
    )
    auc, accuracy = map(float, done.stdout.split()[-2:])
    report = evaluate_predictions(y, proba, n_bootstrap=0)
    assert report.accuracy == pytest.approx(accuracy, abs=1e-12)
    assert report.scores["auc_macro"].value == pytest.approx(auc, abs=1e-12)
