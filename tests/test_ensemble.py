"""Ensembles: means of members, honest out of fold, weights that help, one file."""

import numpy as np
import pytest
from helpers import data, make, same
from sklearn.base import clone
from sklearn.ensemble import VotingClassifier
from sklearn.metrics import log_loss
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    RepeatedStratifiedKFold,
    ShuffleSplit,
    StratifiedKFold,
    cross_val_predict,
    cross_validate,
)

from kmedclf import EnsembleClassifier, ensemble
from kmedclf.search import StagedSearchCV
from kmedclf.training import cache

X, y = data(60)


def mlp(**params):
    return make("MLPClassifier", **{"learning_rate": 0.05, **params})


def cnn(**params):
    return make("CNNClassifier", **{"learning_rate": 0.05, **params})


BOTH = [("mlp", mlp()), ("cnn", cnn())]
close = {"rtol": 0, "atol": 2e-7}  # float32


@pytest.fixture(scope="module")
def folds():
    return EnsembleClassifier(BOTH, cv=3).fit(X, y)


def test_one_member_is_itself():
    alone = mlp().fit(X, y)
    for one in (
        EnsembleClassifier([("mlp", mlp())]).fit(X, y),
        EnsembleClassifier.from_fitted([alone]),
        EnsembleClassifier.from_fitted([alone, cnn().fit(X, y)], weights=[2, 0]),
    ):
        np.testing.assert_array_equal(one.predict_proba(X), alone.predict_proba(X))
        np.testing.assert_array_equal(one.predict(X), alone.predict(X))
        assert len(one.estimators_) == 1


@pytest.mark.parametrize("weights", [None, [1, 3]])
def test_probabilities_are_weighted_means(weights):
    ensemble = EnsembleClassifier(BOTH, weights=weights).fit(X, y)
    probas = [clone(one).fit(X, y).predict_proba(X) for _, one in BOTH]
    expected = np.average(probas, axis=0, weights=weights)
    np.testing.assert_allclose(ensemble.predict_proba(X), expected, **close)
    np.testing.assert_allclose(ensemble.predict_proba(X).sum(axis=1), 1, **close)
    assert ensemble.weights_.sum() == pytest.approx(1)


@pytest.mark.parametrize("weights", [None, "greedy"])
def test_the_order_of_members_does_not_matter(weights):
    one = EnsembleClassifier(BOTH, cv=2, weights=weights).fit(X, y)
    other = EnsembleClassifier(BOTH[::-1], cv=2, weights=weights).fit(X, y)
    np.testing.assert_allclose(one.predict_proba(X), other.predict_proba(X), **close)
    np.testing.assert_allclose(one.oof_proba_, other.oof_proba_, **close)
    assert one.oof_log_loss_ == pytest.approx(other.oof_log_loss_)


def test_out_of_fold_is_cross_val_predict(folds):
    expected = [cross_val_predict(one, X, y, cv=3, method="predict_proba") for _, one in BOTH]
    np.testing.assert_allclose(folds.oof_proba_, np.mean(expected, axis=0), **close)
    losses = {name: log_loss(y, p) for (name, _), p in zip(BOTH, expected, strict=True)}
    assert folds.oof_log_loss_ == pytest.approx(losses)
    assert folds.names_ == [f"{name}, fold {k}" for name in ("mlp", "cnn") for k in range(3)]


def test_from_cross_validation(folds):
    found = [
        model
        for _, one in BOTH
        for model in cross_validate(one, X, y, cv=3, return_estimator=True)["estimator"]
    ]
    ensemble = EnsembleClassifier.from_fitted(found)
    np.testing.assert_allclose(ensemble.predict_proba(X), folds.predict_proba(X), **close)
    assert all(map(same, ensemble.estimators_, folds.estimators_))


def test_from_a_search():
    search = StagedSearchCV(mlp(), [{"units": [4, 8]}], cv=2).fit(X, y)
    ensemble = EnsembleClassifier.from_fitted(
        [("best", search.best_estimator_), ("search", search)]
    )
    np.testing.assert_allclose(ensemble.predict_proba(X), search.predict_proba(X), **close)


def test_seeds_are_those_that_follow():
    ensemble = EnsembleClassifier([("mlp", mlp(random_state=5))], n_seeds=3).fit(X, y)
    alone = [mlp(random_state=seed).fit(X, y) for seed in (5, 6, 7)]
    assert all(map(same, ensemble.estimators_, alone))
    assert ensemble.names_ == ["mlp, seed 0", "mlp, seed 1", "mlp, seed 2"]
    np.testing.assert_allclose(
        ensemble.predict_proba(X), np.mean([one.predict_proba(X) for one in alone], axis=0), **close
    )


def test_seeds_share_the_weight_of_their_estimator():
    ensemble = EnsembleClassifier(BOTH, n_seeds=2, cv=2, weights=[3, 1]).fit(X, y)
    np.testing.assert_allclose(ensemble.weights_, [3 / 16] * 4 + [1 / 16] * 4)


def test_members_of_one_architecture_share_a_program():
    mlp().fit(X, y)
    before = cache.stats()["builds"]
    EnsembleClassifier([("mlp", mlp())], n_seeds=2, cv=2).fit(X, y).predict(X)
    assert cache.stats()["builds"] == before


# -- greedy ----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_greedy_is_never_worse_than_the_best(seed):
    generator = np.random.default_rng(seed)
    likelihood = generator.beta(generator.uniform(0.5, 4, size=(6, 1)), 1, size=(6, 40))
    weight = generator.uniform(size=40) if seed % 2 else None
    shares = ensemble.greedy_weights(likelihood, weight)
    chosen = ensemble.log_losses((shares @ likelihood)[None], weight)[0]
    assert chosen <= ensemble.log_losses(likelihood, weight).min() + 1e-12
    assert shares.sum() == pytest.approx(1)
    assert np.all(shares >= 0)


def test_greedy_finds_the_best_mixture():
    likelihood = np.array([[0.9] * 30 + [0.1] * 10, [0.1] * 30 + [0.9] * 10, [0.2] * 40])
    shares = ensemble.greedy_weights(likelihood)
    grid = np.linspace(0, 1, 1001)[:, None]
    best = ensemble.log_losses(grid * likelihood[0] + (1 - grid) * likelihood[1], None).min()
    assert ensemble.log_losses((shares @ likelihood)[None], None)[0] == pytest.approx(
        best, abs=1e-3
    )
    assert shares[2] == 0


def test_greedy_leaves_out_what_does_not_help():
    bad = mlp(epochs=1, learning_rate=1e-6)
    good = cnn(epochs=30, learning_rate=0.01, augment=False)
    marked = X.copy()  # a white corner tells the class, so that the CNN is good
    for code, corner in enumerate([np.s_[:4, :4], np.s_[:4, 4:], np.s_[4:, :4]]):
        marked[(y == code, *corner)] = 255
    ensemble = EnsembleClassifier([("bad", bad), ("cnn", good)], cv=2, weights="greedy")
    ensemble.fit(marked, y)
    assert (
        log_loss(y, ensemble.oof_proba_) <= min(ensemble.oof_log_loss_.values()) + 1e-6
    )  # scikit-learn computes it in float32
    assert not [name for name in ensemble.names_ if name.startswith("bad")]


def test_greedy_on_validation_images():
    models = [mlp().fit(X[:40], y[:40]), cnn(epochs=8).fit(X[:40], y[:40])]
    ensemble = EnsembleClassifier.from_fitted(models, weights="greedy", X_val=X[40:], y_val=y[40:])
    single = [log_loss(y[40:], one.predict_proba(X[40:])) for one in models]
    assert (
        log_loss(y[40:], ensemble.predict_proba(X[40:])) <= min(single) + 1e-6
    )  # scikit-learn computes it in float32


# -- data ------------------------------------------------------------------------------------


def test_groups_and_fit_parameters_reach_folds_and_members():
    groups = np.arange(60) // 3
    ensemble = EnsembleClassifier(
        [("mlp", mlp(early_stopping=True, validation_fraction=0.4))], cv=GroupKFold(3)
    )
    ensemble.fit(X, y, groups=groups)
    for (train, _), model in zip(
        GroupKFold(3).split(X, y, groups), ensemble.estimators_, strict=True
    ):
        expected = mlp(early_stopping=True, validation_fraction=0.4).fit(
            X[train], y[train], groups=groups[train]
        )
        assert same(model, expected)
    held = {"X_val": X[:9], "y_val": y[:9]}
    ensemble.set_params(cv=2).fit(X, y, **held)
    train, _ = next(StratifiedKFold(2).split(X, y))
    assert same(
        ensemble.estimators_[0],
        mlp(early_stopping=True, validation_fraction=0.4).fit(X[train], y[train], **held),
    )


def test_sample_weights():
    weight = np.random.default_rng(0).uniform(0.5, 1.5, 60)
    ensemble = EnsembleClassifier([("mlp", mlp())], cv=2).fit(X, y, weight)
    train, _ = next(StratifiedKFold(2).split(X, y))
    assert same(ensemble.estimators_[0], mlp().fit(X[train], y[train], weight[train]))
    expected = log_loss(y, ensemble.oof_proba_, sample_weight=weight)
    assert ensemble.oof_log_loss_["mlp"] == pytest.approx(expected)


SPLITTERS = [
    ShuffleSplit(2, test_size=0.3, random_state=0),
    RepeatedStratifiedKFold(n_splits=2, n_repeats=2, random_state=0),
]


@pytest.mark.parametrize("splitter", SPLITTERS, ids=["shuffle", "repeated"])
def test_rows_out_of_fold_never_or_often(splitter):
    ensemble = EnsembleClassifier([("mlp", mlp())], cv=splitter).fit(X, y)
    times = np.bincount(np.concatenate([test for _, test in splitter.split(X, y)]), minlength=60)
    np.testing.assert_array_equal(np.isnan(ensemble.oof_proba_[:, 0]), times == 0)
    np.testing.assert_allclose(ensemble.oof_proba_[times > 0].sum(axis=1), 1, **close)


def test_a_class_that_a_fold_lacks():
    labels = np.array(["a", "b", "c"])[y]
    rows = np.flatnonzero(labels != "c")
    ensemble = EnsembleClassifier([("mlp", mlp())], cv=[(rows, np.arange(60))]).fit(X, labels)
    proba = ensemble.predict_proba(X)
    assert list(ensemble.classes_) == ["a", "b", "c"]
    np.testing.assert_array_equal(proba[:, 2], 0)
    np.testing.assert_array_equal(proba[:, :2], ensemble.estimators_[0].predict_proba(X))
    assert set(ensemble.predict(X)) <= {"a", "b"}


def test_files(tmp_path):
    from PIL import Image

    paths = [str(tmp_path / f"{i}.png") for i in range(60)]
    for path, image in zip(paths, X, strict=True):
        Image.fromarray(image).save(path)
    ensemble = EnsembleClassifier([("mlp", mlp(image_size=8))], cv=2)
    expected = clone(ensemble).fit(X, y).predict_proba(X)
    np.testing.assert_array_equal(ensemble.fit(np.array(paths), y).predict_proba(paths), expected)
    np.testing.assert_array_equal(ensemble.fit(paths, y).predict_proba(paths), expected)
    assert ensemble.skipped_ == []


@pytest.mark.slow
def test_processes_make_the_same(folds):
    both = EnsembleClassifier(BOTH, cv=3, n_jobs=2).fit(X, y)
    np.testing.assert_allclose(both.predict_proba(X), folds.predict_proba(X), atol=1e-4)


# -- scikit-learn ------------------------------------------------------------------------------


def test_voting_takes_networks_and_ensembles():
    inner = EnsembleClassifier([("mlp", mlp())], n_seeds=2)
    voting = VotingClassifier([("ensemble", inner), ("cnn", cnn())], voting="soft").fit(X, y)
    expected = [one.fit(X, y).predict_proba(X) for one in (inner, cnn())]
    np.testing.assert_allclose(voting.predict_proba(X), np.mean(expected, axis=0), **close)


def test_parameters_of_members_are_searched():
    ensemble = EnsembleClassifier(BOTH)
    assert ensemble.get_params()["mlp__units"] == 8
    grid = GridSearchCV(ensemble, {"mlp__units": [4, 6], "weights": [None, [1, 2]]}, cv=2)
    best = grid.fit(X, y).best_estimator_
    assert best.estimators_[0].units == grid.best_params_["mlp__units"]
    assert BOTH[0][1].units == 8  # a search changes copies
    assert ensemble.set_params(cnn=mlp(units=3)).estimators[1][1].units == 3


def test_fitting_leaves_what_was_given():
    estimators = [("mlp", mlp())]
    ensemble = EnsembleClassifier(estimators, n_seeds=2).fit(X, y)
    assert ensemble.estimators is estimators
    assert not hasattr(estimators[0][1], "weights_")
    assert not hasattr(clone(ensemble), "estimators_")
