"""Any Keras layer as a stateless augmentation with a separate draw for each image.

Called on a batch, many layers draw once for the whole batch, and their generators count calls. So
each image passes through the layer alone, with generators set from the seed.
"""

from __future__ import annotations

import functools
import json
from typing import Any

import keras
import tensorflow as tf

from kmedclf.utils.random_state import python_random_kept

Layer = tuple[type[keras.layers.Layer], str]
"""Hashable description of a layer: its class, and its configuration as JSON without the name."""


def describe(layer: keras.layers.Layer, name: str) -> Layer:
    """Return a hashable description of a layer, equal for layers that do the same."""
    try:
        config = keras.saving.serialize_keras_object(layer)["config"]
        if "data_format" in config:  # whatever keras.json says
            config["data_format"] = "channels_last"
        text = json.dumps({**config, "name": None}, sort_keys=True)
    except (TypeError, ValueError, NotImplementedError) as error:
        raise ValueError(
            f"The 'augment' parameter of {name} must hold layers with a configuration "
            f"(get_config). Got {layer!r}, which has none."
        ) from error
    return type(layer), text


@functools.lru_cache(maxsize=32)
def _build(layer: Layer, shape: tuple[int, ...]) -> keras.layers.Layer:
    cls, text = layer
    # Built outside the graph that is being traced, since the cache shares layers between graphs.
    with tf.init_scope(), python_random_kept():
        built = cls.from_config(json.loads(text))
        before = tf.zeros((1, *shape))
        after = built(before, training=True)
    if after.shape != before.shape:
        raise ValueError(
            f"A layer of 'augment' must keep the shape of an image, {shape}. "
            f"Got {tuple(after.shape[1:])} from {cls.__name__}."
        )
    return built


def make(layer: Layer) -> Any:
    """Make a function of a batch and a seed out of a layer."""

    def augmentation(images: Any, seed: Any) -> Any:
        built = _build(layer, tuple(images.shape[1:]))
        generators = [v for v in built.variables if v.name == "seed_generator_state"]
        keys = tf.random.stateless_uniform(
            [tf.shape(images)[0], max(len(generators), 1)], seed, 0, 2**31 - 1, dtype=tf.int32
        )

        def draw(given: Any) -> Any:
            image, key = given
            states = [
                (state, tf.cast(tf.stack([key[number], 0]), state.dtype))
                for number, state in enumerate(generators)
            ]
            with keras.StatelessScope(state_mapping=states, initialize_variables=False):
                return tf.ensure_shape(built(image[None], training=True)[0], image.shape)

        images = tf.cast(images, tf.float32)
        return tf.map_fn(draw, (images, keys), fn_output_signature=tf.float32)

    return augmentation
