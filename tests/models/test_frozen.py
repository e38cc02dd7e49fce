"""A head that is trained alone: the frozen network runs once an image, and all else is the same."""

import keras
import numpy as np
import pytest
from helpers import data, make, same

from kmedclf.models import _features, _frozen
from kmedclf.training.program import CompiledNetwork

X, y = data()
NAME = "DenseNetClassifier"  # the smallest


class Whole(keras.callbacks.Callback):
    """A user's callback, whose model is the whole network: the head is trained on images."""


@pytest.fixture
def scored(monkeypatch):
    """Numbers of images that frozen networks are run on, one for each pass."""
    numbers, logits = [], CompiledNetwork.logits

    def counting(program, rows, *given):
        if isinstance(program.spec, _features.FeatureSpec):
            numbers.append(len(rows))
        return logits(program, rows, *given)

    monkeypatch.setattr(CompiledNetwork, "logits", counting)
    return numbers


def on_features_and_on_images(**options):
    """Continue from the same initial weights on features, and on images."""
    both = []
    for callbacks in (None, [Whole()]):
        start = make(NAME, **options, warm_start=True, callbacks=callbacks).initialize(X, y)
        both.append(start.fit(X, y))
    return both


@pytest.mark.parametrize(
    "options",
    [
        {"augment": False},
        {"augment": False, "early_stopping": True, "epochs": 4, "validation_fraction": 0.3},
        {"augment": False, "lr_schedule": "one_cycle", "optimizer": "adamw", "l2": 1e-3},
        {"augment": False, "class_weight": "balanced", "label_smoothing": 0.1, "batch_size": 7},
    ],
    ids=["plain", "early_stopping", "schedule", "weights"],
)
def test_training_on_features_is_training_on_images(options, scored):
    features, images = on_features_and_on_images(trainable="head", **options)
    assert scored  # else both would be the same way
    for name, values in images.history_.items():
        np.testing.assert_allclose(features.history_[name], values, rtol=1e-4, err_msg=name)
    for one, other in zip(features.weights_, images.weights_, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    assert features.best_epoch_ == images.best_epoch_
    assert features.n_params_ == images.n_params_
    assert features.n_non_trainable_params_ == images.n_non_trainable_params_


def test_each_image_is_computed_once(scored):
    fit = make(NAME, trainable="head", augment=False, epochs=5, early_stopping=True).fit(X, y)
    assert len(fit.history_["loss"]) > 1
    assert sum(scored) == len(X)


def test_copies_of_oversampling_are_computed_once(scored):
    few = np.r_[np.flatnonzero(y == 0)[:3], np.flatnonzero(y == 1)]
    fit = make(NAME, trainable="head", augment=False, early_stopping=False, oversample="duplicate")
    fit.fit(X[few], y[few])
    assert sum(scored) == len(few)


def test_views_of_an_augmentation_are_trained_on():
    """A mirrored image has other features, unless the image is symmetric."""
    options = {"trainable": "head", "epochs": 8, "early_stopping": False, "batch_size": 48}
    plain, mirrored = (make(NAME, augment=one, **options).fit(X, y) for one in (False, "mirror"))
    assert same(plain.weights_[:-2], mirrored.weights_[:-2])
    assert not same(plain.weights_[-2:], mirrored.weights_[-2:])
    symmetric = np.concatenate([X, X[:, :, ::-1]], axis=2)
    plain, mirrored = (
        make(NAME, augment=one, **options).fit(symmetric, y) for one in (False, "mirror")
    )
    for one, other in zip(plain.weights_, mirrored.weights_, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_one_of_the_views_is_drawn_for_each_image():
    import tensorflow as tf

    from kmedclf.augmentation import make as make_augmentation

    views = np.arange(64 * 4, dtype=np.float32).reshape(64, 4, 1, 1)
    augment = make_augmentation(("one_of",))
    first, again, other = (
        np.asarray(augment(tf.constant(views), tf.constant([seed, 0])))[:, 0, 0, 0]
        for seed in (0, 0, 1)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert np.array_equal(first // 4, np.arange(64))  # of the same image
    assert set(first % 4) == {0, 1, 2, 3}


@pytest.mark.parametrize(
    "options",
    [{"augment": True}, {"augment": "shift"}, {"augment": False, "mixup": 0.2}],
    ids=["flip_rotate", "shift", "mixup"],
)
def test_images_that_differ_in_every_epoch_are_seen_in_every_epoch(options, scored):
    make(NAME, trainable="head", **options).fit(X, y)
    assert not scored


def test_features_beyond_the_limit_are_not_kept(scored, monkeypatch):
    monkeypatch.setattr(_frozen, "MOST_BYTES", 100)
    make(NAME, trainable="head", augment=False).fit(X, y)
    assert not scored


def test_memory_keeps_features_for_other_fits(scored, tmp_path):
    options = {"trainable": "head", "augment": False, "early_stopping": False}
    alone = make(NAME, **options, learning_rate=0.01).fit(X, y)
    scored.clear()
    make(NAME, **options, memory=tmp_path).fit(X[:30], y[:30])
    assert sum(scored) == 30
    scored.clear()
    found = make(NAME, **options, memory=tmp_path, learning_rate=0.01).fit(X, y)
    assert sum(scored) == len(X) - 30
    np.testing.assert_allclose(found.predict_proba(X), alone.predict_proba(X), atol=1e-5)


def test_first_epochs_of_the_head_use_features(scored):
    fit = make(NAME, head_epochs=3, epochs=4, early_stopping=False).fit(X, y)
    assert sum(scored) == len(X)
    assert len(fit.history_["loss"]) == 4
