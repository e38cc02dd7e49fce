"""Staged search: what consecutive searches by hand give, and what scikit-learn expects."""

import io
import pickle
import warnings
from itertools import chain

import joblib
import numpy as np
import pytest
from rich.console import Console
from sklearn.base import BaseEstimator, ClassifierMixin, clone, is_classifier
from sklearn.exceptions import FitFailedWarning, NotFittedError
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.metrics import accuracy_score, make_scorer
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    HalvingGridSearchCV,
    RandomizedSearchCV,
    StratifiedKFold,
    cross_val_score,
)
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.tree import DecisionTreeClassifier

from kmedclf import CNNClassifier, MLPClassifier, Unsliced
from kmedclf.datasets import make_blood_cells
from kmedclf.search import Range, SearchSpace, StagedSearchCV, progress

X, Y = make_blood_cells(96, random_state=0)
X_VAL, Y_VAL = make_blood_cells(96, random_state=1)  # as long as X, so that it could be cut
FLAT = X.reshape(len(X), -1)
STAGES = [{"max_depth": [2, 8, None]}, {"criterion": ["gini", "entropy"], "splitter": ["best"]}]
TREE = DecisionTreeClassifier(random_state=0)


def mlp(**params):
    base = {"units": 8, "epochs": 2, "early_stopping": False, "augment": False, "random_state": 0}
    return MLPClassifier(**{**base, **params})


class Probe(ClassifierMixin, BaseEstimator):
    """Scores what its parameters say, and remembers in the class what fit was given."""

    calls: list = []  # noqa: RUF012

    def __init__(self, a=0, b=0, epochs=9, random_state=0):
        self.a = a
        self.b = b
        self.epochs = epochs
        self.random_state = random_state

    def fit(self, X, y, groups=None, sample_weight=None, X_val=None, y_val=None):
        if self.a == "bad":
            raise RuntimeError("a bad a")
        self.classes_ = np.unique(y)
        given = {"groups": groups, "sample_weight": sample_weight, "X_val": X_val, "y_val": y_val}
        Probe.calls.append({"n": len(X), "y": np.array(y), **self.get_params(), **given})
        return self

    def predict(self, X):
        return np.full(len(X), self.classes_[0])

    def score(self, X, y):
        return self.a + self.b / 100 - 1 / self.epochs


@pytest.fixture(autouse=True)
def _forget():
    Probe.calls.clear()


def scores(results):
    return np.array([results[f"split{k}_test_score"] for k in range(3)])


def test_equals_grid_searches_by_hand():
    staged = StagedSearchCV(TREE, STAGES).fit(FLAT, Y)
    first = GridSearchCV(TREE, STAGES[0], cv=3).fit(FLAT, Y)
    second = GridSearchCV(first.best_estimator_, STAGES[1], cv=3).fit(FLAT, Y)
    for stage, by_hand in zip(staged.stage_results_, [first, second], strict=True):
        np.testing.assert_array_equal(
            scores(stage["cv_results"]), scores(by_hand.cv_results_), strict=True
        )
        ranks = stage["cv_results"]["rank_test_score"], by_hand.cv_results_["rank_test_score"]
        np.testing.assert_array_equal(*ranks)
        assert stage["best_params"] == by_hand.best_params_
        assert stage["best_score"] == by_hand.best_score_
    assert staged.best_params_ == {**first.best_params_, **second.best_params_}
    assert staged.best_score_ == second.best_score_
    np.testing.assert_array_equal(staged.predict(FLAT), second.predict(FLAT))


def test_the_table_holds_all_stages_and_all_parameters():
    staged = StagedSearchCV(TREE, STAGES).fit(FLAT, Y)
    table = staged.cv_results_
    assert list(table["stage"]) == ["max_depth"] * 3 + ["criterion, splitter"] * 2
    assert all(set(one) == {"max_depth", "criterion", "splitter"} for one in table["params"])
    assert table["params"][staged.best_index_] == staged.best_params_
    single = GridSearchCV(TREE, STAGES[0], cv=3).fit(FLAT, Y).cv_results_
    assert set(single) <= set(table)
    assert [len(column) for column in table.values()] == [5] * len(table)
    assert len(staged.curves_) == 5
    assert staged.n_splits_ == 3


def test_networks_equal_by_hand_and_keep_their_curves():
    stages = [{"units": [4, 8]}, {"optimizer": ["sgd", "adam"]}]
    staged = StagedSearchCV(mlp(), stages).fit(X, Y, X_val=X_VAL, y_val=Y_VAL)
    held_out = {"X_val": Unsliced(X_VAL), "y_val": Unsliced(Y_VAL)}
    first = GridSearchCV(mlp(), stages[0], cv=3).fit(X, Y, **held_out)
    second = GridSearchCV(first.best_estimator_, stages[1], cv=3).fit(X, Y, **held_out)
    by_hand = np.hstack([scores(one.cv_results_) for one in (first, second)])
    np.testing.assert_array_equal(scores(staged.cv_results_), by_hand)
    for ours, theirs in zip(
        staged.best_estimator_.weights_, second.best_estimator_.weights_, strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)
    assert len(staged.curves_) == 4
    for folds in staged.curves_:
        assert len(folds) == 3
        for curves in folds:
            assert set(curves) == {"loss", "accuracy", "val_loss", "val_accuracy"}
            assert all(curve.shape == (2,) for curve in curves.values())


def test_every_fold_stops_early_on_the_same_images():
    StagedSearchCV(Probe(), [{"a": [1, 2]}]).fit(FLAT, Y, X_val=X_VAL, y_val=Y_VAL)
    assert [len(call["X_val"]) for call in Probe.calls] == [96] * 7
    assert [call["n"] for call in Probe.calls] == [64] * 6 + [96]


def test_workers_do_not_change_the_result():
    stages = [{"units": [4, 8]}, {"batch_size": [16, 32]}]
    fits = {"X_val": X_VAL, "y_val": Y_VAL}
    alone = StagedSearchCV(mlp(), stages).fit(X, Y, **fits)
    together = StagedSearchCV(mlp(), stages, n_jobs=2).fit(X, Y, **fits)
    np.testing.assert_array_equal(scores(alone.cv_results_), scores(together.cv_results_))
    assert alone.best_params_ == together.best_params_
    for one, other in zip(chain(*alone.curves_), chain(*together.curves_), strict=True):
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])


def test_halving_equals_scikit_learn():
    grid = {"a": list(range(9))}
    ours = StagedSearchCV(Probe(), [grid], search="halving").fit(FLAT, Y)
    theirs = HalvingGridSearchCV(
        Probe(), grid, resource="epochs", max_resources=9, cv=3, refit=False
    ).fit(FLAT, Y)
    for column in ("n_resources", "iter", "mean_test_score", "param_a"):
        np.testing.assert_array_equal(
            ours.cv_results_[column].astype(float), theirs.cv_results_[column].astype(float)
        )
    assert ours.best_params_ == {"a": 8}
    assert ours.best_estimator_.epochs == 9
    assert ours.best_index_ == theirs.best_index_


@pytest.mark.parametrize(
    ("n", "epochs", "least", "rungs"),
    [(9, 9, 1, [1, 3, 9]), (4, 9, 1, [3, 9]), (2, 9, 1, [9]), (9, 2, 1, [1]), (9, 9, 4, [4])],
)
def test_rungs(n, epochs, least, rungs):
    search = StagedSearchCV(
        Probe(epochs=epochs), [{"a": list(range(n))}], search="halving", min_resources=least
    ).fit(FLAT, Y)
    assert sorted(set(search.cv_results_["n_resources"])) == rungs


def test_random_equals_scikit_learn():
    space = {"a": Range(0, 100, "int"), "b": [1, 2]}
    ours = StagedSearchCV(Probe(), [space], search="random", n_iter=4, random_state=3)
    theirs = RandomizedSearchCV(Probe(), space, n_iter=4, random_state=3, cv=3)
    assert ours.fit(FLAT, Y).cv_results_["params"] == theirs.fit(FLAT, Y).cv_results_["params"]
    again = clone(ours).fit(FLAT, Y)
    assert again.cv_results_["params"] == ours.cv_results_["params"]
    few = StagedSearchCV(Probe(), [{"b": [1, 2]}], search="random", n_iter=9).fit(FLAT, Y)
    assert len(few.cv_results_["params"]) == 2


@pytest.mark.parametrize("subset", [0.5, ("first", 0.5)])
def test_a_subset_is_searched_and_everything_fitted(subset):
    weight, y = np.arange(96.0), Y % 3
    search = StagedSearchCV(Probe(), [{"a": [1]}], subset=subset, random_state=0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*does not support sample_weight")
        search.fit(FLAT, y, sample_weight=weight, X_val=Unsliced(X_VAL), y_val=Y_VAL)
    *folds, final = Probe.calls
    rounding = 0 if subset == ("first", 0.5) else 2  # every class is rounded on its own
    np.testing.assert_allclose([call["n"] for call in folds], 32, atol=rounding)
    np.testing.assert_allclose([len(call["X_val"]) for call in folds], 48, atol=2 * rounding)
    assert final["n"] == 96
    np.testing.assert_array_equal(final["sample_weight"], weight)
    searched = sorted({row for call in folds for row in call["sample_weight"]})
    if subset == 0.5:  # stratified, seeded
        np.testing.assert_allclose(
            np.bincount(y[np.int64(searched)]), np.bincount(y) / 2, atol=1.01
        )
        Probe.calls.clear()
        clone(search).fit(FLAT, y)
        np.testing.assert_array_equal(Probe.calls[0]["y"], folds[0]["y"])
    else:
        assert searched == list(range(48))
        np.testing.assert_array_equal(folds[0]["X_val"], X_VAL[:48])


def test_groups_reach_the_splitter_and_the_estimator():
    groups = np.arange(96) // 4
    search = StagedSearchCV(Probe(), [{"a": [1]}], cv=GroupKFold(3), subset=("first", 0.5))
    search.fit(FLAT, Y, groups=groups)
    *folds, final = Probe.calls
    assert len(folds) == 3
    assert all(len(call["groups"]) == call["n"] for call in folds)
    together = [set(call["groups"]) for call in folds]
    assert not set.intersection(*together)  # every group is out of one training fold
    np.testing.assert_array_equal(final["groups"], groups)


def test_candidates_met_before_are_not_fitted_again():
    stages = [{"a": [0, 1]}, {"b": [0, 1]}]
    StagedSearchCV(Probe(), stages, refit=False).fit(FLAT, Y)
    assert len(Probe.calls) == 3 * 3  # a=1, b=0 was the winner of the first stage
    Probe.calls.clear()
    twice = StagedSearchCV(Probe(), [{"a": [1]}, {"b": [0]}], refit=False).fit(FLAT, Y)
    assert len(Probe.calls) == 3  # nothing is left for the second stage
    np.testing.assert_array_equal(twice.cv_results_["mean_test_score"][:1], twice.best_score_)
    Probe.calls.clear()
    StagedSearchCV(Probe(random_state=None), stages, refit=False).fit(FLAT, Y)
    assert len(Probe.calls) == 3 * 4


def test_the_final_fit_may_train_longer():
    search = StagedSearchCV(Probe(), [{"a": [1, 2]}], refit_params={"epochs": 50}).fit(FLAT, Y)
    assert [call["epochs"] for call in Probe.calls] == [9] * 6 + [50]
    assert search.best_params_ == {"a": 2}
    assert search.refit_time_ > 0


def test_it_is_a_scikit_learn_estimator():
    search = StagedSearchCV(TREE, STAGES)
    assert is_classifier(search)
    search.set_params(estimator__max_features=0.5, cv=StratifiedKFold(2))
    assert clone(search).estimator.max_features == 0.5
    with pytest.raises(NotFittedError):
        search.predict(FLAT)
    search.fit(FLAT, Y)
    again = pickle.loads(pickle.dumps(search))
    np.testing.assert_array_equal(again.predict_proba(FLAT), search.predict_proba(FLAT))
    assert not hasattr(search, "decision_function")
    np.testing.assert_array_equal(search.classes_, np.unique(Y))
    assert search.score(FLAT, Y) == accuracy_score(Y, search.predict(FLAT))
    assert cross_val_score(clone(search), FLAT, Y, cv=2).shape == (2,)
    assert not hasattr(StagedSearchCV(TREE, STAGES, refit=False).fit(FLAT, Y), "best_estimator_")


def test_a_space_gets_the_prefix_of_its_step():
    pipeline = make_pipeline(FunctionTransformer(), mlp(epochs=1))
    stages = SearchSpace(MLPClassifier, SearchSpace.load("mlp").stages[:1])
    search = StagedSearchCV(pipeline, stages, subset=0.5, random_state=0, refit=False).fit(X, Y)
    assert set(search.best_params_) == {
        "mlpclassifier__augment",
        "mlpclassifier__class_weight",
    }
    assert search.curves_[0][0]["loss"].shape == (1,)


@pytest.mark.parametrize("scoring", ["val_accuracy", "val_loss"])
def test_validation_curves_as_objective(scoring):
    search = StagedSearchCV(mlp(), [{"units": [4, 8]}], scoring=scoring)
    search.fit(X, Y, X_val=X_VAL, y_val=Y_VAL)
    sign = -1 if scoring == "val_loss" else 1
    last = [[sign * fold[scoring][-1] for fold in folds] for folds in search.curves_]
    np.testing.assert_array_equal(scores(search.cv_results_).T, last)
    # on new data, the same quantity
    logs = search.predict_proba(X_VAL)
    exact = (
        np.mean(search.predict(X_VAL) == Y_VAL)
        if sign > 0
        else np.mean(np.log(logs[np.arange(96), Y_VAL]))
    )
    assert search.score(X_VAL, Y_VAL) == pytest.approx(exact)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"scoring": "acuracy"}, "'scoring' .* Got 'acuracy' instead; did you mean 'accuracy'"),
        ({"scoring": "val_acuracy"}, "did you mean 'val_accuracy'"),
        ({"scoring": ["accuracy"]}, "must be one scorer"),
        ({"scoring": "val_loss"}, "only with validation data"),
        ({"scoring": accuracy_score}, "scorer"),
        ({"stages": [{"unit": [1]}]}, "Got 'unit' instead; did you mean 'units'"),
        ({"stages": [{"units": [0]}]}, "'units' parameter of MLPClassifier must be an int"),
        ({"stages": [{"units": []}]}, "'units' must be a list with at least one value"),
        ({"stages": [{"optimizer": "sgd"}]}, "'optimizer' must be a list"),
        ({"stages": [{"learning_rate": Range(1e-3, 1, "float")}]}, "must be a list of values"),
        ({"stages": []}, "stages of StagedSearchCV must be"),
        ({"stages": 3}, "stages of StagedSearchCV must be"),
        ({"search": "halve"}, "'search' parameter of StagedSearchCV must be a str"),
        ({"subset": 1.5}, "'subset' parameter of StagedSearchCV"),
        ({"subset": ("last", 0.5)}, "'subset' parameter of StagedSearchCV"),
        ({"n_iter": 0}, "'n_iter' parameter"),
        ({"search": "halving", "stages": [{"epochs": [1, 2]}]}, "'epochs' that is not searched"),
    ],
)
def test_errors_come_before_the_first_fit(params, message):
    class Untouched(MLPClassifier):
        def fit(self, *args, **kwargs):
            raise AssertionError("fitted")

    Untouched.__name__ = "MLPClassifier"
    estimator = Untouched(early_stopping=False)
    with pytest.raises(ValueError, match=message):
        StagedSearchCV(estimator, **{"stages": [{"units": [4]}], **params}).fit(X, Y)


def test_a_rescaled_loss_is_no_objective():
    search = StagedSearchCV(mlp(), [{"class_weight": [None, "inverse"]}], scoring="val_loss")
    with pytest.raises(ValueError, match=r"comparable across candidates.*class_weight"):
        search.fit(X, Y, X_val=X_VAL, y_val=Y_VAL)


def test_failing_fits_are_counted():
    with pytest.warns(FitFailedWarning, match="3 of 6 fits failed and score nan, the first with"):
        search = StagedSearchCV(Probe(), [{"a": ["bad", 1]}]).fit(FLAT, Y)
    assert search.best_params_ == {"a": 1}
    assert list(search.cv_results_["rank_test_score"]) == [2, 1]
    with pytest.raises(RuntimeError, match="a bad a"):
        StagedSearchCV(Probe(), [{"a": ["bad", 1]}], error_score="raise").fit(FLAT, Y)
    with (
        pytest.warns(FitFailedWarning),
        pytest.raises(ValueError, match="All 3 fits failed"),
    ):
        StagedSearchCV(Probe(), [{"a": ["bad"]}]).fit(FLAT, Y)


def test_a_callable_scores():
    scorer = make_scorer(accuracy_score)
    one = StagedSearchCV(TREE, STAGES, scoring=scorer).fit(FLAT, Y)
    other = StagedSearchCV(TREE, STAGES, scoring="accuracy").fit(FLAT, Y)
    np.testing.assert_array_equal(scores(one.cv_results_), scores(other.cv_results_))


def test_progress_says_where_it_is(monkeypatch):
    text = io.StringIO()
    monkeypatch.setattr("rich.console.Console", lambda: Console(file=text, width=200))
    monkeypatch.setattr(progress.SearchProgress.__init__, "__defaults__", (0, 0.0))
    stages = [{"a": [1, 2]}, {"b": [1, 2]}]
    with joblib.parallel_config(backend="threading", n_jobs=2):
        StagedSearchCV(Probe(), stages, verbose=1).fit(FLAT, Y)
    lines = text.getvalue().splitlines()
    assert len(lines) == 12 + 1
    assert "stage 1/2 a · candidate 1/2, fold" in lines[0]
    assert lines[0].endswith(" left")
    assert "best 2.0" not in lines[0]
    assert "stage 2/2 b" in lines[-1]
    assert lines[-1].endswith("0:00 left")


def test_progress_is_a_bar_on_a_terminal(monkeypatch):
    text = io.StringIO()
    terminal = Console(file=text, force_terminal=True, width=200)
    monkeypatch.setattr("rich.console.Console", lambda: terminal)
    StagedSearchCV(Probe(), [{"a": [1, 2]}], verbose=1).fit(FLAT, Y)
    assert "candidate 2/2, fold 3/3" in text.getvalue()


def test_scikit_learns_searches_work_untouched():
    space = SearchSpace.load("cnn_flat")
    cnn = CNNClassifier(filters=4, epochs=2, early_stopping=False, random_state=0)
    grid = GridSearchCV(cnn, {"kernel_size": [3, 5]}, cv=2, error_score="raise").fit(X, Y)
    assert grid.predict(X).shape == Y.shape
    keep = ("learning_rate", "augment", "class_weight", "pool_size")
    some = {name: one for name, one in space.distributions().items() if name in keep}
    drawn = RandomizedSearchCV(cnn, some, n_iter=2, cv=2, random_state=0, error_score="raise")
    assert set(drawn.fit(X, Y).best_params_) == set(keep)
    halving = HalvingGridSearchCV(
        cnn, {"pool_size": [2, 3, 4]}, resource="epochs", max_resources=3, cv=2, error_score="raise"
    ).fit(X, Y)
    assert halving.n_resources_ == [1, 3]
    assert halving.best_params_["epochs"] == 3
    assert isinstance(make_pipeline(FunctionTransformer(), cnn), Pipeline)


@pytest.mark.slow
def test_the_study_in_small():
    """The whole protocol: staged, first 40 %, fixed validation images, then a longer final fit."""
    mlp_ = MLPClassifier(epochs=3, min_epochs=1, n_iter_no_change=1, random_state=0)
    search = StagedSearchCV(
        mlp_, "mlp", subset=("first", 0.4), refit_params={"epochs": 4, "n_iter_no_change": 2}
    )
    X_train, y_train = make_blood_cells(300, random_state=2)
    search.fit(X_train, y_train, X_val=X_VAL, y_val=Y_VAL)
    assert len(search.cv_results_["params"]) == 4 + 5 + 24
    assert search.best_estimator_.epochs == 4
    assert set(search.best_params_) == {
        "augment", "class_weight", "units", "optimizer", "activation", "batch_size"
    }  # fmt: skip
