"""Staged search: what consecutive searches by hand give, and what scikit-learn expects."""

import pickle
import tempfile

import numpy as np
import pytest
from searching import FLAT, STAGES, TREE, X_VAL, Y_VAL, Probe, X, Y, mlp, scores
from sklearn.base import clone, is_classifier
from sklearn.exceptions import NotFittedError
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.metrics import accuracy_score
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    RandomizedSearchCV,
    StratifiedKFold,
    cross_val_score,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from kmedclf import MLPClassifier, Unsliced
from kmedclf.datasets import make_blood_cells
from kmedclf.search import Range, SearchSpace, StagedSearchCV
from kmedclf.training import loop


@pytest.fixture(autouse=True)
def _forget():
    Probe.calls.clear()


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


def test_halving_equals_scikit_learn():
    grid = {"a": list(range(9))}
    ours = StagedSearchCV(Probe(), [grid], search="halving", factor=3).fit(FLAT, Y)
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
    ("n", "epochs", "least", "rungs", "factor"),
    [
        (9, 9, 1, [1, 3, 9], 3),
        (9, 26, 1, [2, 6, 26], 3),
        (4, 9, 1, [3, 9], 3),
        (2, 9, 1, [9], 3),
        (9, 2, 1, [1, 2], 3),
        (9, 9, 4, [4, 9], 3),
        (9, 9, 20, [9], 3),
        (9, 10, 1, [1, 2, 4, 10], 2),
        (24, 10, 1, [1, 2, 4, 10], 2),
        (24, 16, 1, [1, 2, 4, 8, 16], 2),
    ],
)
def test_rungs(n, epochs, least, rungs, factor):
    options = {"search": "halving", "min_resources": least, "factor": factor}
    search = StagedSearchCV(Probe(epochs=epochs), [{"a": list(range(n))}], **options).fit(FLAT, Y)
    assert sorted(set(search.cv_results_["n_resources"])) == rungs


@pytest.fixture
def trained(monkeypatch):
    """Epochs of every training, in the order they began."""
    epochs, train = [], loop.train

    def watched(task, callbacks=()):
        epochs.append(task.schedule.epochs)
        return train(task, callbacks)

    monkeypatch.setattr(loop, "train", watched)
    return epochs


@pytest.mark.parametrize("kept", [None, "fits"])
def test_rungs_go_on_from_earlier_ones_and_nothing_changes(kept, trained, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    memory = kept and str(tmp_path / kept)
    space = [{"batch_size": [8, 16, 32]}]
    options = {"search": "halving", "factor": 3, "refit": False}
    halving = StagedSearchCV(mlp(epochs=9, memory=memory), space, **options).fit(X, Y)
    assert sorted(trained) == [3] * 9 + [6] * 3
    assert [path.name for path in tmp_path.iterdir()] == ([kept] if kept else [])
    first = StagedSearchCV(mlp(epochs=3), space, refit=False).fit(X, Y)
    best = mlp(epochs=9, batch_size=halving.best_params_["batch_size"])
    last = cross_val_score(best, X, Y, cv=3)
    by_hand = np.hstack([scores(first.cv_results_), last[:, None]])
    np.testing.assert_array_equal(scores(halving.cv_results_), by_hand)
    np.testing.assert_equal(halving.curves_[:3], first.curves_)
    assert len(halving.curves_[3][0]["loss"]) == 9
    assert not halving.estimator.warm_start  # the user's own is left as it was
    assert halving.estimator.memory == memory


@pytest.mark.parametrize(
    "given", [{"early_stopping": True}, {"lr_schedule": "cosine"}, {"random_state": None}]
)
def test_rungs_that_cannot_go_on_keep_nothing(given, trained, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    network = mlp(epochs=3, **given)
    options = {"cv": 2, "search": "halving", "factor": 3, "refit": False}
    halving = StagedSearchCV(network, [{"units": [2, 3, 4]}], **options)
    halving.fit(X, Y, X_val=X_VAL, y_val=Y_VAL)
    assert sorted(trained) == [1] * 6 + [3] * 2


def test_random_equals_scikit_learn():
    space = {"a": Range(0, 100, "int"), "b": [1, 2]}
    ours = StagedSearchCV(Probe(), [space], search="random", n_iter=4, random_state=3)
    theirs = RandomizedSearchCV(Probe(), space, n_iter=4, random_state=3, cv=3)
    assert ours.fit(FLAT, Y).cv_results_["params"] == theirs.fit(FLAT, Y).cv_results_["params"]
    again = clone(ours).fit(FLAT, Y)
    assert again.cv_results_["params"] == ours.cv_results_["params"]
    few = StagedSearchCV(Probe(), [{"b": [1, 2]}], search="random", n_iter=9).fit(FLAT, Y)
    assert len(few.cv_results_["params"]) == 2


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
