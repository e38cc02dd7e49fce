"""`kmedclf.evaluation.Report`: JSON, text, curves, thresholds, means over reports, errors."""

import os

import numpy as np
import pytest
from simulated import simulated
from sklearn import metrics as sk

from kmedclf.evaluation import Report, choose_threshold, evaluate, evaluate_predictions, mean_std
from kmedclf.evaluation.scores import SCORES


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
    assert all(title in text for title in [*map(SCORES.get, report.scores), "well", "ill"])
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
