"""Oversampling: small classes evened out in the part trained on, and only there."""

import keras
import numpy as np
import pytest
from helpers import data, make

from kmedclf import base

X, y = data()


def _rows(**options):
    estimator = make("MLPClassifier", **options)
    few = np.flatnonzero((y == 0) | (np.arange(48) % 3 == 0))
    given = base.FitData(X[few], y[few])
    return estimator._training_task(estimator._make_schedule(), given, None, keep_optimizer=False)


@pytest.mark.parametrize("oversample", ["duplicate", "augment"])
@pytest.mark.parametrize("early_stopping", [True, False])
def test_oversampling_evens_the_classes_trained_on(oversample, early_stopping):
    options = {"early_stopping": early_stopping, "validation_fraction": 0.3}
    plain, task = _rows(**options), _rows(**options, oversample=oversample)
    count = np.bincount(task.rows.y)
    assert set(count) == {np.bincount(plain.rows.y).max()}
    times = np.bincount(task.rows.index, minlength=48)
    for code in range(3):
        mine = times[np.unique(plain.rows.index[plain.rows.y == code])]
        assert mine.max() - mine.min() <= 1
    originals = task.rows.take(np.arange(len(plain.rows)))
    np.testing.assert_array_equal(originals.index, plain.rows.index)
    if early_stopping:
        np.testing.assert_array_equal(task.validation_rows.index, plain.validation_rows.index)
        assert set(task.validation_rows.index).isdisjoint(task.rows.index)
    expected = np.arange(len(task.rows)) >= len(plain.rows) if oversample == "augment" else None
    np.testing.assert_array_equal(task.rows.copy, expected)
    weights = _rows(**options, oversample=oversample, class_weight="balanced").rows.weight
    np.testing.assert_allclose(weights, 1, rtol=1e-6)  # copies count


def test_duplicates_are_rows_that_come_twice():
    rows = _rows(oversample="duplicate").rows
    few = np.flatnonzero((y == 0) | (np.arange(48) % 3 == 0))
    one = make("CNNClassifier", oversample="duplicate", augment=False).fit(X[few], y[few])
    again = few[rows.index]
    other = make("CNNClassifier", augment=False).fit(X[again], y[again])
    # The same rows in another order: batches differ, the rows do not.
    assert one.history_["loss"][0] == pytest.approx(other.history_["loss"][0], rel=0.2)
    whole = {"batch_size": len(rows), "epochs": 1, "optimizer": "sgd", "augment": False}
    one = make("CNNClassifier", oversample="duplicate", **whole).fit(X[few], y[few])
    other = make("CNNClassifier", **whole).fit(X[again], y[again])
    for a, b in zip(one.weights_, other.weights_, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_only_copies_are_augmented():
    task = _rows(oversample="augment", augment="mirror", batch_size=99)

    class Black(keras.layers.Layer):
        def call(self, images, training=None):
            return 0 * images

    few = np.flatnonzero((y == 0) | (np.arange(48) % 3 == 0))
    ones = np.full_like(X[few], 200)
    # A set that blackens images: what stays bright was not augmented.
    options = {"oversample": "augment", "augment": Black(), "batch_size": 99, "epochs": 1}
    options |= {"optimizer": "sgd", "learning_rate": 1e-30}
    fit = make("CNNClassifier", **options).fit(ones, y[few])
    proba = {value: fit.predict_proba(np.full_like(X[:1], value))[0] for value in (0, 200)}
    rows = task.rows
    seen = [
        -np.log(proba[0 if copy else 200][code])
        for copy, code in zip(rows.copy, rows.y, strict=True)
    ]
    assert fit.history_["loss"][0] == pytest.approx(np.mean(seen), rel=1e-4)


def test_augmented_copies_need_an_augmentation():
    with pytest.raises(ValueError, match=r"^The 'oversample' parameter of CNNClassifier must be"):
        make("CNNClassifier", oversample="augment", augment=False).fit(X, y)
