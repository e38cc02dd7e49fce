"""The CNN is convolution, activation, pooling and softmax, in whatever order it computes them."""

from __future__ import annotations

import typing

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import data, make

from kmedclf import network
from kmedclf.params import Activation

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
    trained, _ = network.build(estimator._spec)
    logits = trained.outputs[0]
    trained = keras.Model(trained.inputs[0], keras.layers.Softmax()(logits))
    models = trained, estimator.model_, by_hand(activation, pooling, len(estimator.classes_))
    rng = np.random.default_rng(0)
    weights = [rng.normal(0, 0.5, w.shape).astype("float32") for w in estimator.weights_]
    found = []
    for model in models:
        model.set_weights(weights)
        with tf.GradientTape() as tape:
            proba = model(X.astype("float32"), training=True)
            loss = -tf.reduce_mean(tf.math.log(proba[:, 0] + 1e-3))
        found.append([proba, *tape.gradient(loss, [w.value for w in model.weights])])
    for trained, shown, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(shown, theirs, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(trained, theirs, rtol=1e-4, atol=1e-5)


def test_training_works_on_pooled_pixels_and_users_see_the_usual_order():
    estimator = make("CNNClassifier", epochs=1).fit(X, Y)
    kinds = [type(layer).__name__ for layer in estimator.model_.layers]
    assert kinds.index("Conv2D") < kinds.index("Activation") < kinds.index("MaxPooling2D")
    trained, _ = network.build(estimator._spec)
    kinds = [type(layer).__name__ for layer in trained.layers]
    assert kinds.index("Conv2D") < kinds.index("MaxPooling2D") < kinds.index("Activation")
