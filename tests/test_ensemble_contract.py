"""Ensembles in one file, what they refuse, and scikit-learn's own checks of them."""

import numpy as np
import pytest
from helpers import data, make
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedKFold
from sklearn.naive_bayes import GaussianNB
from sklearn.svm import LinearSVC
from sklearn.utils.estimator_checks import parametrize_with_checks

import kmedclf
from kmedclf import EnsembleClassifier

X, y = data(60)


def mlp(**params):
    return make("MLPClassifier", **{"learning_rate": 0.05, **params})


def cnn():
    return make("CNNClassifier")


BOTH = [("mlp", mlp()), ("cnn", cnn())]


@parametrize_with_checks(
    [
        EnsembleClassifier(
            [
                (
                    "mlp",
                    kmedclf.MLPClassifier(
                        units=32, epochs=20, early_stopping=False, random_state=0
                    ),
                )
            ]
        )
    ]
)
def test_sklearn(estimator, check, float32_tolerance):
    check(estimator)


@pytest.mark.slow
@parametrize_with_checks(
    [EnsembleClassifier(
        [("mlp", kmedclf.MLPClassifier(units=32, epochs=20, early_stopping=False, random_state=0))],
        cv=2, weights="greedy", n_seeds=2,
    )]
)  # fmt: skip
def test_sklearn_in_folds(estimator, check, float32_tolerance):
    check(estimator)


@pytest.mark.parametrize("cv", [None, 2, StratifiedKFold(2, shuffle=True, random_state=1)])
def test_saved_and_loaded(cv, tmp_path):
    ensemble = EnsembleClassifier(BOTH, cv=cv, weights="greedy" if cv else [1, 2])
    ensemble.fit(X, np.array(["é", "b", "c"])[y]).save(tmp_path / "e.kmedclf")
    loaded = kmedclf.load(tmp_path / "e.kmedclf")
    assert repr(loaded) == repr(ensemble)
    np.testing.assert_array_equal(loaded.predict_proba(X), ensemble.predict_proba(X))
    np.testing.assert_array_equal(loaded.predict(X), ensemble.predict(X))
    assert loaded.names_ == ensemble.names_
    again = clone(loaded).fit(X, np.array(["é", "b", "c"])[y])
    np.testing.assert_array_equal(again.predict_proba(X), ensemble.predict_proba(X))


def test_an_ensemble_of_ensembles_is_saved(tmp_path):
    inner = EnsembleClassifier([("mlp", mlp())], n_seeds=2)
    outer = EnsembleClassifier([("inner", inner), ("cnn", cnn())]).fit(X, y)
    outer.save(tmp_path / "e.kmedclf")
    loaded = kmedclf.load(tmp_path / "e.kmedclf")
    np.testing.assert_array_equal(loaded.predict_proba(X), outer.predict_proba(X))


def test_what_cannot_be_saved(tmp_path):
    ensemble = EnsembleClassifier([("mlp", mlp())])
    with pytest.raises(NotFittedError):
        ensemble.save(tmp_path / "e.kmedclf")
    flat = X.reshape(60, -1)
    foreign = EnsembleClassifier([("bayes", GaussianNB())]).fit(flat, y)
    with pytest.raises(TypeError, match=r"must be a plain value to be saved\. Got GaussianNB"):
        foreign.save(tmp_path / "e.kmedclf")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("estimators", "params", "message"),
    [
        ([], {}, "'estimators' parameter .* at least one. Got"),
        ([mlp()], {}, r"'estimators' parameter .* list of \(name, estimator\)"),
        ([("mlp", kmedclf.MLPClassifier)], {}, "predict_proba. Got <class"),
        ([("a", mlp()), ("a", mlp())], {}, "not unique"),
        ([("cv", mlp())], {}, "conflict"),
        (BOTH, {"weights": [1]}, "'weights' parameter .* must hold 2 numbers"),
        (BOTH, {"weights": [0, 0]}, "'weights' parameter .* not all 0"),
        (BOTH, {"weights": [1, -1]}, "'weights' parameter .* at least 0"),
        (BOTH, {"weights": "greedy"}, "'greedy' only with 'cv'"),
        (BOTH, {"weights": "best"}, "'weights' parameter of EnsembleClassifier must be"),
        (BOTH, {"n_seeds": 0}, "'n_seeds' parameter of EnsembleClassifier must be"),
    ],
)
def test_errors(estimators, params, message):
    with pytest.raises(ValueError, match=message) as caught:
        EnsembleClassifier(estimators, **params).fit(X, y)
    assert "\n" not in str(caught.value)


def test_what_has_no_probabilities_is_named():
    with pytest.raises(ValueError, match=r"predict_proba\. Got LinearSVC as 'svc'"):
        EnsembleClassifier([("svc", LinearSVC())]).fit(X.reshape(60, -1), y)


@pytest.mark.parametrize(
    ("params", "labels"), [({"weights": [1]}, y), ({}, y * 0), ({"mlp__epochs": 0}, y + 1)], ids=str
)
def test_a_failed_fit_leaves_the_last_one(params, labels):
    ensemble = EnsembleClassifier(BOTH, cv=2).fit(X, y)
    expected, state = ensemble.predict_proba(X), vars(ensemble).copy()
    given = ensemble.get_params()
    with pytest.raises(ValueError, match=r"\w"):
        ensemble.set_params(**params).fit(X, labels)
    ensemble.set_params(**{name: given[name] for name in params})
    assert vars(ensemble).keys() == state.keys()
    np.testing.assert_array_equal(ensemble.predict_proba(X), expected)
    assert not hasattr(ensemble.set_params(cv=None).fit(X, y), "oof_proba_")


def test_errors_of_fitted_members():
    with pytest.raises(NotFittedError):
        EnsembleClassifier.from_fitted([mlp()])
    with pytest.raises(ValueError, match="'greedy' only with"):
        EnsembleClassifier.from_fitted([mlp().fit(X, y)], weights="greedy")
    with pytest.raises(NotFittedError):
        EnsembleClassifier(BOTH).predict(X)


# -- several labels ------------------------------------------------------------------------------


LABELS = np.stack([y == 0, y < 2, np.arange(60) % 3 == 0], axis=1).astype(int)


@pytest.mark.parametrize("weights", [None, "greedy"])
def test_several_labels(weights, tmp_path):
    ensemble = EnsembleClassifier(BOTH, cv=2, weights=weights).fit(X, LABELS)
    probas = [one.predict_proba(X) for one in ensemble.estimators_]
    expected = np.average(probas, axis=0, weights=ensemble.weights_)
    np.testing.assert_allclose(ensemble.predict_proba(X), expected, atol=2e-7)  # float32
    np.testing.assert_array_equal(ensemble.predict(X), expected > 0.5)
    assert ensemble.predict(X).shape == LABELS.shape
    loss = np.mean([log_loss(LABELS[:, i], ensemble.oof_proba_[:, i]) for i in range(3)])
    assert (
        loss <= np.mean(list(ensemble.oof_log_loss_.values())) + 1e-6
    )  # scikit-learn computes it in float32
    ensemble.save(tmp_path / "e.kmedclf")
    loaded = kmedclf.load(tmp_path / "e.kmedclf")
    np.testing.assert_array_equal(loaded.predict(X), ensemble.predict(X))
    again = EnsembleClassifier.from_fitted(
        ensemble.estimators_, weights="greedy", X_val=X, y_val=LABELS
    )
    assert again.predict(X).shape == LABELS.shape
    assert kmedclf.evaluation.evaluate(ensemble, X, LABELS, n_bootstrap=0).n == 60
