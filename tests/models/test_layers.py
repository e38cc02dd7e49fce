"""Batch normalisation as one operation does what Keras' own does."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from kmedclf.models._layers import BatchNormalization

OPTIONS = [{}, {"scale": False}, {"center": False}, {"momentum": 0.5, "epsilon": 0.1}]


def layers(**options: object) -> tuple[keras.layers.Layer, keras.layers.Layer]:
    """Make one layer of each kind, with the same weights."""
    pair = BatchNormalization(**options), keras.layers.BatchNormalization(**options)
    rng = np.random.default_rng(0)
    for layer in pair:
        layer.build((None, 5, 4, 3))
    values = [rng.uniform(0.5, 2, w.shape).astype("float32") for w in pair[0].weights]
    for layer in pair:
        layer.set_weights(values)
    return pair


def images(n: int = 6) -> tf.Tensor:
    return tf.constant(np.random.default_rng(1).normal(3, 2, (n, 5, 4, 3)), "float32")


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("trainable", [True, False])
def test_outputs_gradients_and_statistics_are_those_of_keras(options, training, trainable):
    found = []
    for layer in layers(**options):
        layer.trainable = trainable
        x = images()
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=training)
            loss = tf.reduce_sum(y**3)
        sources = [x, *(w.value for w in (layer.gamma, layer.beta) if w is not None)]
        found.append([y, *tape.gradient(loss, sources), *layer.get_weights()])
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("n", [1, 2, 7])
def test_statistics_of_few_images_are_finite_and_those_of_keras(n):
    ours, theirs = layers()
    for layer in (ours, theirs):
        layer(images(n), training=True)
    for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_low_precision_goes_in_and_out_and_the_statistics_stay_float32(dtype):
    layer = BatchNormalization(dtype=f"mixed_{dtype}")
    y = layer(tf.cast(images(), dtype), training=True)
    assert y.dtype == dtype
    assert {w.dtype for w in layer.weights} == {"float32"}
    np.testing.assert_allclose(tf.reduce_mean(tf.cast(y, "float32"), (0, 1, 2)), 0, atol=0.02)


def test_a_model_with_it_is_saved_and_read_as_by_keras(tmp_path):
    inside = keras.Input((5, 4, 3))
    model = keras.Model(inside, BatchNormalization()(inside))
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(model(images()), again(images()))
