"""`kmedclf.evaluation.evaluate`: the numbers, and who else agrees with them."""

import os
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest
from simulated import simulated, values
from sklearn import metrics as sk
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, TunedThresholdClassifierCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from kmedclf import MLPClassifier
from kmedclf.datasets import make_blood_cells
from kmedclf.evaluation import evaluate, evaluate_predictions

CLOSE = {"rel": 1e-12, "abs": 1e-12}


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
    assert any("No image was predicted as b" in note for note in report.notes)
    expected = sk.precision_score(y, proba.argmax(axis=1), average="macro", zero_division=0)
    assert report.scores["precision_macro"].value == pytest.approx(expected)


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
