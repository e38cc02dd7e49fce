"""Evaluation of several labels an image: scores, thresholds, comparisons and pages."""

import numpy as np
import pytest
from helpers import make
from page_parts import data_of
from sklearn import metrics
from sklearn.ensemble import RandomForestClassifier

from kmedclf.datasets import make_chest_findings
from kmedclf.datasets.synthetic import FINDINGS
from kmedclf.evaluation import (
    MultilabelReport,
    choose_threshold,
    choose_thresholds,
    compare,
    evaluate,
    evaluate_predictions,
    mean_std,
    write_comparison_page,
    write_page,
)
from kmedclf.evaluation.compare import mcnemar, sign_flips


def simulated(n=200, k=4, seed=0):
    """Labels of very different frequencies, and probabilities with ties."""
    rng = np.random.default_rng(seed)
    y = (rng.random((n, k)) < np.geomspace(0.5, 0.08, k)).astype(int)
    proba = np.clip(rng.normal(0.3 + 0.25 * y, 0.2), 0, 1).round(2)
    return y, proba


Y, PROBA = simulated()
PRED = (PROBA > 0.5).astype(int)
NAMES = ("nodule", "effusion", "mass & more", "edema")


@pytest.fixture(scope="module")
def report():
    return evaluate_predictions(Y, PROBA, class_names=NAMES, n_bootstrap=200)


def test_scores_are_scikit_learns(report):
    expected = {
        "accuracy": np.mean(Y == PRED),
        "auc_macro": metrics.roc_auc_score(Y, PROBA),
        "average_precision_macro": metrics.average_precision_score(Y, PROBA),
        "subset_accuracy": metrics.accuracy_score(Y, PRED),
        "log_loss": np.mean(
            [metrics.log_loss(t, np.clip(p, 1e-15, 1)) for t, p in zip(Y.T, PROBA.T, strict=True)]
        ),
        "brier": np.mean((Y - PROBA) ** 2),
        "specificity_macro": metrics.recall_score(1 - Y, 1 - PRED, average="macro"),
    }
    for average in ("macro", "micro"):
        for name in ("f1", "precision", "recall"):
            score = getattr(metrics, f"{name}_score")
            expected[f"{name}_{average}"] = score(Y, PRED, average=average, zero_division=0)
    assert report.scores.keys() == expected.keys()
    for name, value in expected.items():
        assert report.scores[name].value == pytest.approx(value, rel=1e-6), name
    assert report.accuracy == report.scores["accuracy"].value
    np.testing.assert_array_equal(report.confusion, metrics.multilabel_confusion_matrix(Y, PRED))


@pytest.mark.parametrize("weighted", [False, True])
def test_each_label_is_scored_as_if_it_were_alone(weighted):
    weight = np.random.default_rng(1).random(len(Y)) if weighted else None
    whole = evaluate_predictions(Y, PROBA, sample_weight=weight, n_bootstrap=0)
    for j, one in enumerate(whole.per_class):
        pair = np.stack([1 - PROBA[:, j], PROBA[:, j]], axis=1)
        alone = evaluate_predictions(
            Y[:, j], pair, pos_label=1, y_pred=PRED[:, j], sample_weight=weight, n_bootstrap=0
        )
        names = {
            "recall": "sensitivity",
            "specificity": "specificity",
            "precision": "ppv",
            "auc": "auc_macro",
            "average_precision": "average_precision",
        }
        for name, other in names.items():
            expected = alone.scores[other].value
            assert getattr(one, name).value == pytest.approx(expected, rel=1e-9), name
        assert one.f1.value == pytest.approx(alone.per_class[1].f1.value)
        assert (one.support, one.predicted) == (Y[:, j].sum(), PRED[:, j].sum())


def test_it_is_what_medmnists_own_evaluator_computes(report):
    evaluator = pytest.importorskip("medmnist.evaluator")
    assert report.scores["auc_macro"].value == evaluator.getAUC(
        Y, PROBA, "multi-label, binary-class"
    )
    assert report.accuracy == evaluator.getACC(Y, PROBA, "multi-label, binary-class")


def test_permuted_labels_give_permuted_scores(report):
    order = [2, 0, 3, 1]
    names = [NAMES[j] for j in order]
    other = evaluate_predictions(Y[:, order], PROBA[:, order], class_names=names, n_bootstrap=200)
    by_name = {one.name: one for one in report.per_class}
    for one in other.per_class:
        assert one.auc.value == pytest.approx(by_name[one.name].auc.value)
    for name, score in report.scores.items():
        assert other.scores[name].value == pytest.approx(score.value)


def test_intervals_cover_and_do_not_depend_on_the_order(report):
    order = np.random.default_rng(0).permutation(len(Y))
    again = evaluate_predictions(Y[order], PROBA[order], class_names=NAMES, n_bootstrap=200)
    assert again.scores == report.scores
    assert again.per_class == report.per_class
    for one in [*report.scores.values(), *(score.auc for score in report.per_class)]:
        assert one.low <= one.value <= one.high
        assert one.low < one.high


def test_intervals_are_percentiles_over_resampled_images(report):
    rng = np.random.default_rng(5)
    drawn = [rng.integers(len(Y), size=len(Y)) for _ in range(150)]
    aucs = [metrics.roc_auc_score(Y[rows], PROBA[rows]) for rows in drawn]
    auc = report.scores["auc_macro"]
    np.testing.assert_allclose([auc.low, auc.high], np.quantile(aucs, [0.025, 0.975]), atol=0.015)


def test_what_is_not_defined_is_said_and_left_out():
    nobody = np.concatenate([Y, np.zeros((len(Y), 1)), np.ones((len(Y), 1))], axis=1)
    proba = np.concatenate([PROBA, PROBA[:, :2]], axis=1)
    found = evaluate_predictions(nobody, proba, n_bootstrap=20)
    *known, never, always = found.per_class
    assert never.auc.value is never.recall.value is never.average_precision.value is None
    assert always.auc.value is always.specificity.value is None
    assert found.scores["auc_macro"].value == pytest.approx(metrics.roc_auc_score(Y, PROBA))
    assert all(one.auc.value is not None for one in known)
    assert sum("AUC is not defined" in note for note in found.notes) == 2
    assert "undefined" in str(found)
    empty = evaluate_predictions(nobody * 0, proba, n_bootstrap=20)
    assert empty.scores["auc_macro"].value is None


def test_thresholds_are_chosen_for_each_label():
    chosen = choose_thresholds(Y, PROBA, sensitivity=0.9)
    for j, one in enumerate(chosen):
        assert one == choose_threshold(Y[:, j], PROBA[:, j], sensitivity=0.9)
    assert choose_thresholds(Y * 0, PROBA) == (None,) * 4
    used = evaluate_predictions(
        Y, PROBA, threshold=[one.threshold for one in chosen], n_bootstrap=0
    )
    assert used.thresholds == tuple(one.threshold for one in chosen)
    for one, of_label in zip(chosen, used.per_class, strict=True):
        assert of_label.recall.value == pytest.approx(one.sensitivity)
        assert of_label.specificity.value == pytest.approx(one.specificity)
    every = evaluate_predictions(Y, PROBA, threshold=0.3, n_bootstrap=0)
    np.testing.assert_array_equal(every.y_pred, PROBA >= 0.3)


def test_reports_are_written_and_read(report, tmp_path):
    report.to_json(tmp_path / "report.json")
    assert MultilabelReport.from_json(tmp_path / "report.json") == report
    with pytest.raises(ValueError, match="not a whole kmedclf report"):
        type(evaluate_predictions([0, 1], np.eye(2), n_bootstrap=0)).from_json(
            tmp_path / "report.json"
        )


def test_any_classifier_is_evaluated():
    X, y = make_chest_findings(60, 8, random_state=0)
    ours = make("MLPClassifier").fit(X, y)
    found = evaluate(ours, X, y, class_names=FINDINGS, n_bootstrap=20)
    np.testing.assert_array_equal(found.y_pred, ours.predict(X))
    kept = evaluate(ours, X, y, exclude=np.arange(60) < 10, n_bootstrap=20)
    assert (kept.n, kept.notes[0]) == (50, "10 of 60 images were excluded.")
    flat = X.reshape(60, -1)
    forest = RandomForestClassifier(5, random_state=0).fit(flat, y)  # a list of (n, 2)
    assert evaluate(forest, flat, y, n_bootstrap=0).accuracy == np.mean(forest.predict(flat) == y)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"y_true": Y + 0.5}, ["only 0 and 1", "0.5"]),
        ({"proba": PROBA[:, :3]}, ["(200, 4)", "(200, 3)"]),
        ({"proba": PROBA * 2}, ["[0, 1]"]),
        ({"threshold": [0.5, 0.5]}, ["'threshold'", "4 labels"]),
        ({"threshold": 2}, ["'threshold'", "Got 2"]),
        ({"pos_label": 1}, ["'pos_label'", "None", "Got 1"]),
        ({"class_names": ["a"]}, ["'class_names'", "4 names"]),
    ],
    ids=str,
)
def test_what_cannot_be_evaluated_is_refused(given, words):
    given = {"y_true": Y, "proba": PROBA, **given}
    with pytest.raises(ValueError, match="must") as error:
        evaluate_predictions(given.pop("y_true"), given.pop("proba"), n_bootstrap=0, **given)
    assert all(word in str(error.value) for word in words), error.value


def test_models_are_compared_by_their_labels(report, tmp_path):
    worse = evaluate_predictions(Y, PROBA[::-1], class_names=NAMES, n_bootstrap=200)
    found = compare({"bad": worse, "good": report}, dataset="chestmnist", protocol="synthetic")
    (pair,) = found.pairs
    assert [one.name for one in found.models] == ["good", "bad"]
    assert pair.difference.value == pytest.approx(report.accuracy - worse.accuracy)
    assert pair.only_first == np.sum(report.right > worse.right)
    assert pair.difference.low < pair.difference.value < pair.difference.high
    assert pair.p < 0.01
    assert "McNemar" not in found.to_markdown()
    assert "0.947" in found.to_markdown()  # as published
    write_comparison_page(tmp_path / "page.html", found)
    assert "more labels right" in (tmp_path / "page.html").read_text(encoding="utf-8")
    same = compare({"a": report, "b": report}).pairs[0]
    assert (same.p, same.only_first, same.difference.value) == (1.0, 0, 0.0)


def test_reports_of_seeds_are_averaged(report):
    other = evaluate_predictions(Y, PROBA**2, class_names=NAMES, n_bootstrap=0)
    found = mean_std([report, other])
    values = [one.scores["auc_macro"].value for one in (report, other)]
    assert found.scores["auc_macro"].mean == pytest.approx(np.mean(values))
    assert found.per_class["edema"]["recall"].n == 2


@pytest.mark.parametrize(("b", "c"), [(9, 2), (5, 5), (12, 1), (1, 0)])
def test_flipping_signs_is_mcnemars_test_where_that_applies(b, c):
    gap = np.array([1.0] * b + [-1.0] * c + [0.0] * 30)
    assert sign_flips(gap) == pytest.approx(mcnemar(b, c), abs=0.02)


def test_pages_show_every_label(report, tmp_path):
    X, y = make_chest_findings(40, 16, random_state=2)
    model = make("CNNClassifier").fit(X, y)
    found = evaluate(model, X, y, class_names=NAMES, n_bootstrap=20)
    write_page(
        tmp_path / "page.html", found, X=X, model=model, history=model.history_, title="Labels"
    )
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    for words in ("nodule", "mass &amp; more", "Grad-CAM", "ROC", "Average precision", "Found"):
        assert words in text, words
    assert text.count('<svg class="chart"') == 6
    assert text.count('"g":') == min(96, len(data_of(tmp_path / "page.html")["images"])) > 0
    two = evaluate_predictions(Y[:, :2], PROBA[:, :2], n_bootstrap=0)
    write_page(tmp_path / "two.html", two)  # both labels have a curve
    nobody = evaluate_predictions(Y * 0, PROBA, n_bootstrap=0)
    write_page(tmp_path / "empty.html", nobody)
    assert "undefined" in (tmp_path / "empty.html").read_text(encoding="utf-8")


def test_synthetic_findings_are_the_same_for_a_seed():
    X, y = make_chest_findings(300, 16, random_state=4)
    again, labels = make_chest_findings(300, 16, random_state=4)
    np.testing.assert_array_equal(X, again)
    np.testing.assert_array_equal(y, labels)
    assert (X.shape, X.dtype, y.shape) == ((300, 16, 16), np.uint8, (300, len(FINDINGS)))
    assert (y.sum(axis=1) == 0).any()
    assert (y.sum(axis=1) > 1).any()
    with pytest.raises(ValueError, match="'image_size' parameter of make_chest_findings"):
        make_chest_findings(3, 2)
