"""KerasTuner's oracles over cross-validation: the same trials for the same seed."""

import pickle
import random

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.exceptions import FitFailedWarning
from sklearn.model_selection import GridSearchCV, ParameterGrid, cross_val_score

from kmedclf import MLPClassifier
from kmedclf.datasets import make_blood_cells
from kmedclf.search import Range, TunerSearchCV
from kmedclf.search.spaces import stages_for
from kmedclf.search.tuner import Oracle, hyperband_schedule

X, Y = make_blood_cells(72, random_state=0)
FLAT = X.reshape(len(X), -1)
SPACE = {"a": Range(0, 10, "int"), "b": [None, (1, 2), "x"]}
TUNERS = {
    "random": {"max_trials": 6},
    "bayesian": {"max_trials": 5},
    "hyperband": {},
    "grid": {"max_trials": 6},
}


class Probe(ClassifierMixin, BaseEstimator):
    def __init__(self, a=1, b=None, epochs=9):
        self.a = a
        self.b = b
        self.epochs = epochs

    def fit(self, X, y):
        if self.a == self.b:
            raise RuntimeError("a bad a")
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        return np.full(len(X), self.classes_[0])

    def score(self, X, y):
        return -abs(self.a - 3) + (self.b is None) - 1 / self.epochs + y.mean() / 100


def tuned(tuner, space=SPACE, **params):
    search = TunerSearchCV(Probe(), space, tuner=tuner, random_state=0)
    return search.set_params(**{**TUNERS[tuner], **params}).fit(FLAT, Y)


@pytest.mark.parametrize("tuner", TUNERS)
def test_the_seed_determines_the_trials(tuner):
    state = random.getstate()
    one, other = tuned(tuner), tuned(tuner, n_jobs=1)
    assert one.cv_results_["params"] == other.cv_results_["params"]
    assert one.best_params_ == other.best_params_
    if tuner != "grid":
        third = tuned(tuner, random_state=1)
        assert third.cv_results_["params"] != one.cv_results_["params"]
    assert random.getstate() == state  # KerasTuner draws from it when it has no seed


@pytest.mark.parametrize("tuner", TUNERS)
def test_results_are_scikit_learns(tuner):
    search = tuned(tuner)
    table = search.cv_results_
    n = len(table["params"])
    assert all(len(column) == n for column in table.values())
    means = np.mean([table[f"split{k}_test_score"] for k in range(3)], axis=0)
    np.testing.assert_allclose(table["mean_test_score"], means)
    for row in (0, n - 1):
        by_hand = cross_val_score(Probe(**table["params"][row]), FLAT, Y, cv=3)
        np.testing.assert_array_equal(
            by_hand, [table[f"split{k}_test_score"][row] for k in range(3)]
        )
    assert search.best_score_ == table["mean_test_score"][search.best_index_]
    assert set(search.best_params_) == {"a", "b"}
    assert search.best_estimator_.get_params() == {**search.best_params_, "epochs": 9}
    assert list(table["trial"]) == sorted(set(table["trial"]))
    assert len(search.curves_) == n
    again = pickle.loads(pickle.dumps(search))
    np.testing.assert_array_equal(again.predict(FLAT), search.predict(FLAT))
    assert clone(search).get_params()["tuner"] == tuner


@pytest.mark.parametrize("tuner", ["random", "bayesian", "grid"])
def test_max_trials(tuner):
    assert len(tuned(tuner, max_trials=4).cv_results_["params"]) == 4


def test_a_grid_is_the_whole_grid():
    space = {"a": Range(1, 3, "int"), "b": [None, (1, 2)]}
    search = tuned("grid", space, max_trials=None)
    by_hand = GridSearchCV(Probe(), {"a": [1, 2, 3], "b": [None, (1, 2)]}, cv=3).fit(FLAT, Y)
    ours = sorted(map(repr, (sorted(one.items()) for one in search.cv_results_["params"])))
    assert ours == sorted(map(repr, (sorted(o.items()) for o in by_hand.cv_results_["params"])))
    assert search.best_params_ == by_hand.best_params_
    assert search.best_score_ == by_hand.best_score_


def test_alternatives_are_searched():
    search = tuned("grid", [[{"a": [1, 2]}, {"b": ["x", None]}]], max_trials=None)
    assert search.cv_results_["params"] == [{"a": 1}, {"a": 2}, {"b": "x"}, {"b": None}]
    assert search.best_params_ == {"a": 2}


def test_hyperband_trains_ever_fewer_ever_longer():
    search = tuned("hyperband", {"a": Range(0, 10**6, "int")})
    rounds = hyperband_schedule(9, 3)
    assert rounds == [(9, 1), (3, 3), (1, 9), (5, 3), (2, 9), (3, 9)]
    epochs = search.cv_results_["n_resources"]
    for one in (1, 3, 9):
        assert np.sum(epochs == one) == sum(n for n, of in rounds if of == one)
    assert [one["epochs"] for one in search.cv_results_["params"]] == list(epochs)
    assert epochs[search.best_index_] == 9
    promoted = [one["a"] for one in search.cv_results_["params"] if one["epochs"] == 3]
    first = [one["a"] for one in search.cv_results_["params"] if one["epochs"] == 1]
    assert set(sorted(first, key=lambda a: abs(a - 3))[:3]) <= set(promoted)


@pytest.mark.parametrize(("epochs", "factor"), [(1, 3), (8, 2), (27, 3), (10, 4)])
def test_hyperbands_schedule_is_keras_tuners(tmp_path, epochs, factor):
    stages = stages_for(Probe(), {"a": Range(0, 10**6, "int")}, "")
    oracle = Oracle("hyperband", stages, 1, str(tmp_path), epochs=epochs, factor=factor)
    asked = []
    while batch := oracle.ask():
        asked += [trial.epochs for trial in batch]
        for trial in batch:
            oracle.tell(trial, -trial.params["a"])
    expected = [of for n, of in hyperband_schedule(epochs, factor) for _ in range(n)]
    assert sorted(asked) == sorted(expected)


def test_bayesian_search_learns(tmp_path):
    stages = stages_for(Probe(), {"a": Range(0, 1000, "int")}, "")
    oracle = Oracle("bayesian", stages, 5, str(tmp_path), max_trials=12)
    batches = []
    while batch := oracle.ask():
        batches.append([trial.params["a"] for trial in batch])
        for trial in batch:
            oracle.tell(trial, -((trial.params["a"] - 700) ** 2) / 1e6)
    assert [len(batch) for batch in batches] == [4] + [1] * 8
    assert min(abs(batch[0] - 700) for batch in batches[1:]) < 20


@pytest.mark.parametrize("tuner", ["random", "bayesian"])
def test_failures_do_not_stop_a_search(tuner):
    space = {"a": [1, 2, 3, 4], "b": [1, 2]}
    with pytest.warns(FitFailedWarning):
        search = tuned(tuner, space, max_trials=8)
    failed = [one["a"] == one["b"] for one in search.cv_results_["params"]]
    np.testing.assert_array_equal(np.isnan(search.cv_results_["mean_test_score"]), failed)
    assert not failed[search.best_index_]
    with pytest.warns(FitFailedWarning), pytest.raises(ValueError, match="All 3 fits failed"):
        tuned(tuner, {"a": [1], "b": [1]})


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"tuner": "greedy"}, "'tuner' parameter of TunerSearchCV must be one of"),
        ({"tuner": "hyperband", "max_trials": 3}, "'max_trials' parameter of TunerSearchCV"),
        ({"tuner": "hyperband", "space": {"epochs": [1, 2]}}, "'epochs' that is not searched"),
        ({"tuner": "grid", "space": {"a": Range(0.0, 1.0)}}, "'a' must be a list of values"),
        ({"scoring": "val_accuracy"}, "only for estimators that keep learning curves"),
        ({"scoring": "acc"}, "Got 'acc' instead"),
        ({"space": {"c": [1]}}, "Got 'c' instead"),
        ({"space": 3}, "stages of TunerSearchCV"),
    ],
)
def test_errors_come_before_the_first_fit(params, message):
    search = TunerSearchCV(Probe(), **{"space": SPACE, **params})
    with pytest.raises(ValueError, match=message):
        search.fit(FLAT, Y)


@pytest.mark.parametrize("scoring", ["accuracy", "val_loss"])
def test_networks(scoring):
    mlp = MLPClassifier(units=4, epochs=3, augment=False, early_stopping=False, random_state=0)
    space = {"units": Range(4, 16, "int", "log"), "learning_rate": Range(1e-3, 0.1, scale="log")}
    search = TunerSearchCV(
        mlp, space, tuner="hyperband", scoring=scoring, cv=2, random_state=0, subset=0.9
    ).fit(X, Y, X_val=X[:20], y_val=Y[:20])
    epochs = search.cv_results_["n_resources"]
    lengths = [len(fold["val_loss"]) for folds in search.curves_ for fold in folds]
    np.testing.assert_array_equal(lengths, np.repeat(epochs, 2))
    assert len(search.best_estimator_.history_["loss"]) == 3
    assert set(epochs) == {1, 3}


def test_a_shipped_space_is_searched():
    mlp = MLPClassifier(epochs=1, early_stopping=False, random_state=0)
    search = TunerSearchCV(mlp, "mlp_flat", max_trials=2, cv=2, random_state=0).fit(X, Y)
    assert len(search.best_params_) == 7


def test_grid_size_is_known():
    search = TunerSearchCV(Probe(), [{"a": [1, 2]}, {"b": [1, 2, 3]}], tuner="grid")
    search._stages = stages_for(search.estimator, search.space, "")
    assert search._prepare(3) == 3 * len(ParameterGrid({"a": [1, 2], "b": [1, 2, 3]}))
