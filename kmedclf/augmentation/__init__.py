"""Seeded, vectorised augmentation of image batches: the named sets, and their composition.

Every function maps a batch (b, h, w, c) and an int32 seed pair (2,) to a batch of the same shape,
with a separate draw for each image. Draws are stateless: the same seed gives the same batch. Sets
that only move pixels keep their dtype; all others return float32.
"""

from __future__ import annotations

import kmedclf.utils.tensorflow_loaded  # noqa: F401

import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from kmedclf.augmentation import colour, geometry, keras_layers
from kmedclf.augmentation.geometry import dihedral, flip_rotate, flips, mirror, salted, shift

Augmentation = Callable[[Any, Any], Any]


def resolve(
    augment: bool | str | keras.layers.Layer | Sequence[str | keras.layers.Layer], name: str
) -> tuple[str | keras_layers.Layer, ...]:
    """Convert the ``augment`` parameter to a hashable tuple of names and layer descriptions."""
    if isinstance(augment, bool):
        return ("flip_rotate",) if augment else ()
    several = (augment,) if isinstance(augment, str | keras.layers.Layer) else tuple(augment)
    for one in several:
        if not isinstance(one, keras.layers.Layer) and one not in NAMES:
            raise ValueError(
                f"The 'augment' parameter of {name} must hold Keras layers, or names out of "
                f"{', '.join(NAMES)}. Got {one!r} instead."
            )
    return tuple(
        one if isinstance(one, str) else keras_layers.describe(one, name) for one in several
    )


def make(several: Sequence[str | keras_layers.Layer], dtype: Any = tf.float32) -> Augmentation:
    """Compose sets and layers into one function; integer images keep the range of ``dtype``."""
    bounds = (float(dtype.min), float(dtype.max)) if dtype.is_integer else None
    sets: dict[str, Augmentation] = {
        **_SETS,
        "intensity": functools.partial(colour.intensity, bounds=bounds),
        ONE_OF: _one_of,
    }
    steps = [sets[one] if isinstance(one, str) else keras_layers.make(one) for one in several]

    def augmentation(images: Any, seed: Any) -> Any:
        for number, step in enumerate(steps):
            images = step(images, salted(seed, number * 16))
        return images

    return augmentation


def _one_of(images: Any, seed: Any) -> Any:
    """Put a view, drawn for each image, in the first place of views (b, v, 1, d)."""
    n, views = tf.shape(images)[0], images.shape[1]
    drawn = tf.random.stateless_uniform([n], seed, maxval=views, dtype=tf.int32)
    first = tf.gather(images, drawn, batch_dims=1)  # (b, 1, d)
    return tf.concat([first[:, None], images[:, 1:]], axis=1)


_SETS: dict[str, Augmentation] = {
    "basic": functools.partial(flip_rotate, turn=15 / 360),
    "blur": colour.blur,
    "crop": geometry.crop,
    "dihedral": dihedral,
    "distortion": geometry.distortion,
    "flip_rotate": flip_rotate,
    "flips": flips,
    "intensity": colour.intensity,
    "mirror": mirror,
    "rotate": geometry.rotate,
    "shift": shift,
}

ONE_OF = "one_of"
"""The choice of one of several computed views; users choose augmentations that have views."""

NAMES = tuple(_SETS)
"""The named sets that ``augment=`` accepts, alone or in a list applied in order."""
