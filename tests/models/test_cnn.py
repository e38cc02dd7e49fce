"""The CNN is convolution, activation, pooling and softmax, in whatever order it computes them."""

from __future__ import annotations

import typing

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import data, make

from kmedclf.parameters import Activation

X, Y = data(12)
LAST = {
    "max": lambda: keras.layers.MaxPooling2D(2),
    "average": lambda: keras.layers.AveragePooling2D(2),
    "global_max": keras.layers.GlobalMaxPooling2D,
    "global_average": keras.layers.GlobalAveragePooling2D,
}


def by_hand(activation: str, pooling: str, classes: int) -> keras.Model:
    image = keras.Input(X.shape[1:])
    x = keras.layers.Conv2D(5, 3, activation=activation)(keras.layers.Rescaling(1 / 255)(image))
    x = keras.layers.Flatten()(LAST[pooling]()(x))
    return keras.Model(image, keras.layers.Dense(classes, activation="softmax")(x))


@pytest.mark.parametrize(
    ("activation", "pooling"),
    [("relu", pooling) for pooling in LAST]
    + [(activation, "max") for activation in typing.get_args(Activation) if activation != "relu"],
)
def test_outputs_and_gradients_are_those_of_the_network_by_hand(activation, pooling):
    options = {"filters": 5, "activation": activation, "pooling": pooling, "epochs": 1}
    estimator = make("CNNClassifier", **options).fit(X, Y)
    models = estimator.model_, by_hand(activation, pooling, len(estimator.classes_))
    rng = np.random.default_rng(0)
    weights = [rng.normal(0, 0.5, w.shape).astype("float32") for w in estimator.weights_]
    found = []
    for model in models:
        model.set_weights(weights)
        with tf.GradientTape() as tape:
            proba = model(X.astype("float32"), training=True)
            loss = -tf.reduce_mean(tf.math.log(proba[:, 0] + 1e-3))
        found.append([proba, *tape.gradient(loss, [w.value for w in model.weights])])
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("activation", "early"), [("relu", True), ("gelu", False)])
def test_pools_before_an_activation_that_never_falls(activation, early):
    estimator = make("CNNClassifier", activation=activation, epochs=1).fit(X, Y)
    kinds = [type(layer).__name__ for layer in estimator.model_.layers]
    assert (kinds.index("MaxPooling2D") < kinds.index("Activation")) == early


def test_the_saved_keras_model_can_be_read(tmp_path):
    estimator = make("CNNClassifier", epochs=1).fit(X, Y)
    estimator.model_.save(tmp_path / "cnn.keras")
    read = keras.models.load_model(tmp_path / "cnn.keras")
    proba = read.predict(X.astype("float32"), verbose=0)
    np.testing.assert_allclose(proba, estimator.predict_proba(X), atol=1e-6)
