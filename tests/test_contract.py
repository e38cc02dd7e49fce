"""What every classifier keeps to: networks that stand for all, and a user's own.

`tests/models/test_architectures.py` has the others.
"""

import copy
import pickle

import joblib
import numpy as np
import pandas as pd
import pytest
from helpers import ENGINE, data, make, same
from sklearn.base import clone, is_classifier
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import StackingClassifier, VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score
from sklearn.model_selection import (
    GridSearchCV,
    StratifiedKFold,
    check_cv,
    cross_val_predict,
    cross_validate,
    learning_curve,
)
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler

X, y = data()
FLAT = X.reshape(len(X), -1)
WORDS = np.array(["blast", "basophil", "platelet"])[y]

pytestmark = pytest.mark.parametrize("name", ENGINE)


def test_is_a_classifier_that_predicts_its_labels(name):
    estimator = make(name).fit(X, y)
    assert is_classifier(estimator)
    np.testing.assert_array_equal(estimator.classes_, [0, 1, 2])
    proba = estimator.predict_proba(X)
    assert proba.shape == (48, 3)
    assert proba.dtype.kind == "f"
    np.testing.assert_allclose(proba.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(estimator.predict(X), proba.argmax(axis=1))
    assert estimator.decision_function(X).shape == (48, 3)
    assert estimator.predict_proba(X[:1]).shape == (1, 3)
    assert estimator.score(X, y) == accuracy_score(y, estimator.predict(X))
    assert set(estimator.history_) == {"loss", "accuracy"}


def test_an_integer_cv_stratifies(name):
    estimator = make(name)
    splitter = check_cv(3, y, classifier=is_classifier(estimator))
    assert isinstance(splitter, StratifiedKFold)
    # The labels are sorted: without stratification a fold would miss whole classes.
    order = np.argsort(y, kind="stable")
    result = cross_validate(
        estimator, X[order], y[order], cv=3, return_indices=True, scoring="roc_auc_ovr"
    )
    for test in result["indices"]["test"]:
        assert set(y[order][test]) == {0, 1, 2}
    assert np.all((result["test_score"] >= 0) & (result["test_score"] <= 1))


def test_ends_a_pipeline(name):
    scale = FunctionTransformer(lambda images: images / np.float32(255))
    piped = make_pipeline(scale, make(name)).fit(X, y)
    alone = make(name).fit(X / np.float32(255), y)
    assert same(piped[-1], alone)
    np.testing.assert_array_equal(piped.predict(X), alone.predict(X / np.float32(255)))


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_grid_search(name, n_jobs, as_many_threads):
    grid = {"batch_size": [16, 48], "learning_rate": [0.01, 0.1]}
    search = GridSearchCV(make(name), grid, cv=2, n_jobs=n_jobs, error_score="raise").fit(X, y)
    assert search.best_params_.keys() == grid.keys()
    assert search.cv_results_["mean_test_score"].shape == (4,)
    expected = make(name, **search.best_params_).fit(X, y)
    assert same(search.best_estimator_, expected)
    if n_jobs == 1:
        splits = StratifiedKFold(2).split(X, y)
        first = [make(name, batch_size=16, learning_rate=0.01).fit(X[a], y[a]).score(X[b], y[b])
                 for a, b in splits]  # fmt: skip
        assert search.cv_results_["mean_test_score"][0] == pytest.approx(np.mean(first))


def test_votes_softly(name):
    first, second = make(name).fit(X, WORDS), make(name, random_state=1).fit(X, WORDS)
    vote = VotingClassifier([("a", clone(first)), ("b", clone(second))], voting="soft")
    vote.fit(X, WORDS)
    expected = (first.predict_proba(X) + second.predict_proba(X)) / 2
    np.testing.assert_allclose(vote.predict_proba(X), expected)
    assert set(vote.predict(X)) <= set(WORDS)


def test_stacks(name):
    stack = StackingClassifier([("net", make(name))], LogisticRegression(), cv=2).fit(X, WORDS)
    assert stack.predict_proba(X).shape == (48, 3)


def test_is_calibrated(name):
    calibrated = CalibratedClassifierCV(make(name), cv=2).fit(X, WORDS)
    np.testing.assert_allclose(calibrated.predict_proba(X).sum(axis=1), 1)


def test_learning_curve(name):
    sizes, train, test = learning_curve(
        make(name), X, y, cv=2, train_sizes=[12, 24], shuffle=True, random_state=0
    )
    np.testing.assert_array_equal(sizes, [12, 24])
    assert train.shape == test.shape == (2, 2)
    assert np.all(np.isfinite([train, test]))


def test_cross_val_predict(name):
    proba = cross_val_predict(make(name), X, WORDS, cv=2, method="predict_proba")
    assert proba.shape == (48, 3)


def test_clone_is_unfitted_and_has_the_same_parameters(name):
    estimator = make(name, learning_rate=0.02, class_weight={0: 2.0}).fit(X, y)
    other = clone(estimator)
    assert not hasattr(other, "weights_")
    assert other.get_params() == estimator.get_params()
    assert same(other.fit(X, y), estimator)


@pytest.mark.parametrize(
    "copied",
    [
        lambda estimator, path: pickle.loads(pickle.dumps(estimator)),
        lambda estimator, path: copy.deepcopy(estimator),
        lambda estimator, path: joblib.load(joblib.dump(estimator, path)[0]),
    ],
    ids=["pickle", "deepcopy", "joblib"],
)
def test_copies(name, copied, tmp_path):
    for estimator in (make(name), make(name, warm_start=True).fit(X, WORDS)):
        other = copied(estimator, tmp_path / "estimator.joblib")
        assert other.get_params() == estimator.get_params()
        if estimator.initialized_:
            np.testing.assert_array_equal(other.predict_proba(X), estimator.predict_proba(X))
        assert same(other.fit(X, WORDS), estimator.fit(X, WORDS))  # goes on where it was


@pytest.mark.parametrize("images", [X, X[..., :1], X[:, :5], X / np.float32(255)], ids=np.shape)
def test_flat_images_are_images(name, images):
    if min(images.shape[1:3]) < make(name).smallest_image:
        pytest.skip("smaller than the network takes")
    flat = images.reshape(len(images), -1)
    four, two = make(name), make(name, image_shape=images.shape[1:])
    assert same(four.fit(images, y), two.fit(flat, y))
    np.testing.assert_array_equal(four.predict_proba(images), two.predict_proba(flat))


def test_grey_images_need_no_channel(name):
    three, four = make(name).fit(X[..., 0], y), make(name).fit(X[..., :1], y)
    flat = make(name, image_shape=(8, 8)).fit(X[..., 0].reshape(48, -1), y)
    assert same(three, four)
    assert same(flat, four)
    np.testing.assert_array_equal(three.predict_proba(X[..., 0]), four.predict_proba(X[..., :1]))


def test_plain_vectors(name):
    Z = np.random.default_rng(0).normal(size=(48, 5))
    estimator = make(name).fit(Z, y)
    assert estimator.image_shape_ == (5, 1, 1)
    assert estimator.predict(Z.tolist()).shape == (48,)


def test_labels_of_any_type(name):
    numbers = make(name).fit(X, y)
    order = np.array(["basophil", "blast", "platelet"])  # sorted as 0, 1, 2 are
    for labels in (order, order.astype(object), np.array([-7, 3, 40]), np.array([0.0, 1.0, 2.0])):
        estimator = make(name).fit(X, labels[y])
        assert same(estimator, numbers)
        np.testing.assert_array_equal(estimator.classes_, labels)
        np.testing.assert_array_equal(estimator.predict(X), labels[numbers.predict(X)])
        assert estimator.predict(X).dtype == labels.dtype
    assert same(make(name).fit(X.tolist(), y.tolist()), make(name).fit(X, y))


def test_two_classes(name):
    estimator = make(name).fit(X, y == 1)
    assert estimator.predict(X).dtype == bool
    assert estimator.predict_proba(X).shape == (48, 2)
    logits = estimator.decision_function(X)
    assert logits.shape == (48,)
    np.testing.assert_array_equal(estimator.predict(X), logits > 0)
    expected = 1 / (1 + np.exp(-logits))
    np.testing.assert_allclose(estimator.predict_proba(X)[:, 1], expected, rtol=1e-6)


def test_three_partial_fits_are_three_epochs(name):
    parts = make(name)
    for _ in range(3):
        parts.partial_fit(X, y)
    whole = make(name, epochs=3).fit(X, y)
    assert same(parts, whole)
    assert parts.history_ == whole.history_


def test_warm_start_goes_on(name):
    warm = make(name, epochs=1, warm_start=True).fit(X, y).set_params(epochs=2).fit(X, y)
    cold = make(name, epochs=3).fit(X, y)
    assert same(warm, cold)
    assert warm.history_ == cold.history_
    again = make(name, epochs=1).fit(X, y).set_params(epochs=2).fit(X, y)
    assert same(again, make(name).fit(X, y))
    assert len(again.history_["loss"]) == 2


def test_repr_shows_what_was_changed(name):
    assert repr(make(name, learning_rate=0.5)).startswith(f"{name}(")
    assert "learning_rate=0.5" in repr(make(name, learning_rate=0.5))
    assert "batch_size" not in repr(make(name))


def test_set_params(name):
    estimator = make(name)
    assert estimator.set_params(learning_rate=0.5, epochs=1) is estimator
    assert same(estimator.fit(X, y), make(name, learning_rate=0.5, epochs=1).fit(X, y))
    with pytest.raises(ValueError, match=f"^A parameter of {name} must be one .* Got 'no'"):
        estimator.set_params(no=1)
    piped = Pipeline([("scale", MinMaxScaler()), ("net", estimator)]).set_params(net__epochs=7)
    assert piped["net"].epochs == 7


def test_remembers_the_columns_of_a_data_frame(name):
    frame = pd.DataFrame(FLAT / 255).add_prefix("pixel")
    estimator = make(name, image_shape=(8, 8, 3)).fit(frame, pd.Series(WORDS))
    np.testing.assert_array_equal(estimator.feature_names_in_, frame.columns)
    array = make(name, image_shape=(8, 8, 3)).fit(FLAT / 255, WORDS)
    assert same(estimator, array)
    np.testing.assert_array_equal(estimator.predict(frame), array.predict(FLAT / 255))
    with pytest.raises(ValueError, match="feature names should match"):
        estimator.predict(frame[frame.columns[::-1]])


@pytest.mark.parametrize(("images", "n"), [(X, 8), (X[..., 0], 8), (FLAT, 192)], ids=np.shape)
def test_n_features_in_is_what_scikit_learn_counts(name, images, n):
    estimator = make(name).fit(images, y)
    assert estimator.n_features_in_ == n == images.shape[1]
    assert estimator.predict(np.zeros((1, n))).shape == (1,)  # MAPIE asks so


def test_the_keras_model_says_the_same(name):
    estimator = make(name).fit(X, y)
    model = estimator.model_
    assert model is not estimator.model_
    # Keras' batches round otherwise: float32 logits around 10 differ by some 1e-6.
    np.testing.assert_allclose(
        model.predict(X.astype(np.float32), verbose=0), estimator.predict_proba(X), atol=1e-5
    )
    assert model.count_params() == estimator.n_params_ + estimator.n_non_trainable_params_
