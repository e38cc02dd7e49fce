"""One class or independent labels: the model is asked, never y alone."""

import numpy as np
import pytest
from helpers import data, make
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.tree import DecisionTreeClassifier

from kmedclf import CalibratedClassifier, EnsembleClassifier
from kmedclf.calibration import evaluate_calibrated
from kmedclf.datasets import make_chest_findings
from kmedclf.evaluation import choose_thresholds, evaluate, evaluate_predictions
from kmedclf.inputs.label_kinds import is_multilabel

X, y = data()
FLAT = X.reshape(48, -1)
ONE_HOT = np.eye(3, dtype=int)[y]
IMAGES, LABELS = make_chest_findings(48, 8, random_state=0)
ROWS = IMAGES.reshape(48, -1)
SILENT = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def mlp(**params):
    return make("MLPClassifier", **params)


def searched(one, parameter="batch_size", values=(16,)):
    return GridSearchCV(one, {parameter: list(values)}, cv=2)


ONE = {
    "network": lambda: mlp(),
    "pipeline": lambda: make_pipeline(FunctionTransformer(), mlp()),
    "search": lambda: searched(mlp()),
    "ensemble": lambda: EnsembleClassifier([("a", mlp()), ("b", mlp(random_state=1))]),
    "calibrated": lambda: CalibratedClassifier(mlp().fit(X, y)),
    "GaussianNB": GaussianNB,
    "forest": lambda: RandomForestClassifier(3, random_state=0),
    "neighbours": KNeighborsClassifier,
    "scikit-learn's network": lambda: MLPClassifier((4,), max_iter=2, random_state=0),
    "one against the rest": lambda: OneVsRestClassifier(GaussianNB()),
}
MANY = {
    name: ONE[name]
    for name in ("network", "pipeline", "ensemble", "scikit-learn's network",
                 "one against the rest", "neighbours", "forest")
}  # fmt: skip


def fitted(name, kinds, images, labels):
    ours = name in ("network", "pipeline", "search", "ensemble", "calibrated")
    images = images if ours else images.reshape(len(images), -1)
    return kinds[name]().fit(images, labels), images


@SILENT
@pytest.mark.parametrize("name", ONE)
def test_columns_of_classes_are_refused_by_a_model_of_one_class(name):
    model, images = fitted(name, ONE, X, y)
    assert not is_multilabel(model, images)
    right = evaluate(model, images, y, n_bootstrap=0)
    assert right.accuracy == pytest.approx(np.mean(model.predict(images) == y))
    with pytest.raises(ValueError, match=r"one class of 3.*\(48, 3\).*argmax\(axis=1\)\] if"):
        evaluate(model, images, ONE_HOT, n_bootstrap=0)
    again = evaluate(model, images, model.classes_[ONE_HOT.argmax(axis=1)], n_bootstrap=0)
    assert again.accuracy == right.accuracy


@SILENT
@pytest.mark.parametrize("name", MANY)
def test_one_column_is_refused_by_a_model_of_labels(name):
    model, images = fitted(name, MANY, IMAGES, LABELS)
    assert is_multilabel(model, images)
    with pytest.raises(ValueError, match=r"column of 0 and 1 for each label.*\(48,\)"):
        evaluate(model, images, LABELS[:, 0], n_bootstrap=0)
    if name not in ("neighbours", "forest"):  # their lists hold one column where a label is sure
        report = evaluate(model, images, LABELS, n_bootstrap=0)
        assert report.accuracy == pytest.approx(np.mean(model.predict(images) == LABELS))


def test_rows_of_one_label_are_labels_to_a_model_of_labels():
    model = mlp().fit(IMAGES, LABELS)
    chosen = np.flatnonzero(LABELS.sum(axis=1) == 1)[:6]
    report = evaluate(model, IMAGES[chosen], LABELS[chosen], n_bootstrap=0)
    assert report.accuracy == np.mean(model.predict(IMAGES[chosen]) == LABELS[chosen])


def test_probabilities_alone_that_sum_to_1_are_of_one_class():
    proba = mlp().fit(X, y).predict_proba(X)
    for given in ({}, {"classes": [0, 1, 2]}):
        with pytest.raises(ValueError, match=r"one label an image where .*\(48, 3\)"):
            evaluate_predictions(ONE_HOT, proba, n_bootstrap=0, **given)
    with pytest.raises(ValueError, match=r"y_val of choose_thresholds .* y\.argmax\(axis=1\)\.$"):
        choose_thresholds(ONE_HOT, proba)
    assert evaluate_predictions(ONE_HOT, proba / 2, n_bootstrap=0).n == 48  # those of labels


@pytest.mark.parametrize("name", ["network", "pipeline", "search", "ensemble", "calibrated"])
def test_score_takes_no_columns_of_classes(name):
    with pytest.raises(ValueError, match="mix of multilabel-indicator"):  # scikit-learn's words
        ONE[name]().fit(X, y).score(X, ONE_HOT)


def test_calibration_is_of_one_class():
    model = CalibratedClassifier(mlp().fit(X, y))
    with pytest.raises(ValueError, match=r"y_val of CalibratedClassifier\.fit .*\(48, 3\)"):
        model.fit(X, ONE_HOT)
    with pytest.raises(ValueError, match=r"y of evaluate_calibrated .*\(48, 3\)"):
        evaluate_calibrated(model.fit(X, y), X, ONE_HOT)
    many = CalibratedClassifier(mlp().fit(IMAGES, LABELS))
    with pytest.raises(ValueError, match=r"Got a multilabel MLPClassifier"):
        many.fit(IMAGES, LABELS[:, 0])


def test_ensembles_ask_their_members():
    one, many = mlp().fit(X[..., :1], y), mlp().fit(IMAGES, LABELS)
    with pytest.raises(ValueError, match=r"Got multilabel b among others"):
        EnsembleClassifier.from_fitted([("a", one), ("b", many)])
    greedy = {"weights": "greedy", "X_val": X[..., :1]}
    with pytest.raises(ValueError, match=r"y_val of EnsembleClassifier\.from_fitted .*\(48, 3\)"):
        EnsembleClassifier.from_fitted([one], y_val=ONE_HOT, **greedy)
    with pytest.raises(ValueError, match=r"column of 0 and 1"):
        EnsembleClassifier.from_fitted([many], weights="greedy", X_val=IMAGES, y_val=LABELS[:, 0])


@SILENT
@pytest.mark.parametrize(
    "member",
    [MLPClassifier((4,), max_iter=2, random_state=0), OneVsRestClassifier(GaussianNB()),
     RandomForestClassifier(5, random_state=0), DecisionTreeClassifier(random_state=0)],
    ids=lambda one: type(one).__name__,
)  # fmt: skip
def test_ensembles_of_others_predict_labels(member):
    ensemble = EnsembleClassifier([("a", member)]).fit(ROWS, LABELS)
    np.testing.assert_array_equal(ensemble.predict(ROWS), ensemble.predict_proba(ROWS) > 0.5)
    np.testing.assert_array_equal(ensemble.predict(ROWS), ensemble.estimators_[0].predict(ROWS))
    again = EnsembleClassifier.from_fitted(ensemble.estimators_)
    np.testing.assert_array_equal(again.predict(ROWS), ensemble.predict(ROWS))


@pytest.mark.parametrize("name", ["MLPClassifier", "CNNClassifier", "TinyNet"])
@pytest.mark.parametrize(
    "form", [np.array, list, lambda a: a.astype(bool), lambda a: a.astype("f4")]
)
def test_fit_says_what_it_learns_from_columns_of_classes(name, form):
    with pytest.warns(UserWarning, match=rf"y of {name}\.fit .* give y\.argmax\(axis=1\)") as said:
        model = make(name).fit(X, form(ONE_HOT))
    assert len([one for one in said if "argmax" in str(one.message)]) == 1
    assert is_multilabel(model)
    mixed = ONE_HOT.copy()
    mixed[0] = 0
    make(name).fit(X, mixed)  # one image of none: labels


def test_a_model_of_others_is_asked_by_its_predictions():
    class Wrapped:
        classes_ = np.arange(3)

        def predict(self, X):
            return np.zeros((len(X), 3), int)

        def predict_proba(self, X):
            return np.full((len(X), 3), 0.2)

    assert evaluate(Wrapped(), X, ONE_HOT, n_bootstrap=0).accuracy == pytest.approx(2 / 3)
    forest = LogisticRegression(max_iter=5)
    assert not is_multilabel(searched(forest, "C", [1.0]), None)
