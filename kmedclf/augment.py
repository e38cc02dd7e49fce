"""Seeded, vectorised augmentation of image batches, and the named sets.

Every function maps a batch (b, h, w, c) and an int32 seed pair (2,) to a batch of the same shape;
each image gets a draw of its own. Drawing is stateless: the same seed gives the same batch. Sets
that only move pixels keep their dtype, all others give float32.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from kmedclf import augment_layers, augment_sets
from kmedclf.augment_sets import reflect

Augmentation = Callable[[Any, Any], Any]


def resolve(
    augment: bool | str | keras.layers.Layer | Sequence[str | keras.layers.Layer], name: str
) -> tuple[str | augment_layers.Layer, ...]:
    """Turn an estimator's ``augment`` parameter into a key of what is done, in order.

    Parameters
    ----------
    augment : bool, str, keras.layers.Layer or sequence of them
        True is ``"flip_rotate"``, False nothing.
    name : str
        Class name for messages.

    Returns
    -------
    tuple of str or Layer
        Names out of `NAMES`, and descriptions of layers.
    """
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
        one if isinstance(one, str) else augment_layers.describe(one, name) for one in several
    )


def make(several: Sequence[str | augment_layers.Layer], dtype: Any = tf.float32) -> Augmentation:
    """Compose sets and layers into one function of a batch and a seed.

    Parameters
    ----------
    several : sequence of str or Layer
        As from `resolve`.
    dtype : tf.DType, default=tf.float32
        Of the images: colours are kept in its range.
    """
    bounds = (float(dtype.min), float(dtype.max)) if dtype.is_integer else None
    sets: dict[str, Augmentation] = {
        **_SETS,
        "intensity": functools.partial(augment_sets.intensity, bounds=bounds),
    }
    steps = [sets[one] if isinstance(one, str) else augment_layers.make(one) for one in several]

    def augmentation(images: Any, seed: Any) -> Any:
        for number, step in enumerate(steps):
            images = step(images, _salted(seed, number * 16))
        return images

    return augmentation


def flip_rotate(images: Any, seed: Any, turn: float = 0.2) -> Any:
    """Flip each image left-right and upside-down at random and rotate it by up to ``turn``.

    The distribution is that of Keras' ``RandomFlip("horizontal")``, ``RandomFlip("vertical")`` and
    ``RandomRotation(turn)`` in turn: each flip with probability 1/2, an angle uniform in ±``turn``
    full turns about the centre, bilinear interpolation, reflected borders. Flips and rotation are
    one affine map and one resampling.

    Parameters
    ----------
    images : tf.Tensor of shape (b, h, w, c)
        The batch.
    seed : tf.Tensor of shape (2,), int32
        Seed of the draws.
    turn : float, default=0.2
        Largest rotation, in full turns.

    Returns
    -------
    tf.Tensor of shape (b, h, w, c), float32
        The augmented batch.
    """
    n = tf.shape(images)[0]
    angle = tf.random.stateless_uniform([n], seed, -turn, turn) * (2 * math.pi)
    signs = tf.random.stateless_uniform([2, n], _salted(seed, 1), 0, 2, dtype=tf.int32)
    flip_x, flip_y = tf.unstack(tf.cast(signs * 2 - 1, tf.float32))
    cos, sin = tf.cos(angle), tf.sin(angle)
    zero = tf.zeros_like(angle)
    rows = [cos * flip_x, -sin * flip_x, zero, sin * flip_y, cos * flip_y, zero]
    return affine(images, tf.stack(rows, axis=1))


@functools.partial(tf.function, jit_compile=True, autograph=False)
def affine(images: Any, maps: Any) -> Any:
    """Resample each image under its own affine map: bilinear, borders reflected.

    Compiled by XLA, which makes one loop over the output of it: a third of the time of
    TensorFlow's ``ImageProjectiveTransformV3``, to which it is equal. It compiles once for every
    shape, so a caller with batches of many sizes pads them.

    Parameters
    ----------
    images : tf.Tensor of shape (b, h, w, c)
        The batch, of any dtype; h, w and c static.
    maps : tf.Tensor of shape (b, 6), float32
        (a, b, c, d, e, f): output pixel (x, y) takes input pixel (a x + b y + c, d x + e y + f),
        x to the right and y downwards in pixels from the centre of the image.

    Returns
    -------
    tf.Tensor of shape (b, h, w, c), float32
        The resampled batch.
    """
    height, width, channels = images.shape[1:]
    x = tf.range(width, dtype=tf.float32)[None, None, :] - (width - 1) / 2  # (1, 1, w)
    y = tf.range(height, dtype=tf.float32)[None, :, None] - (height - 1) / 2  # (1, h, 1)
    a, b, c, d, e, f = (maps[:, number, None, None] for number in range(6))  # (b, 1, 1)
    left, right = _cell(a * x + b * y + c, width)
    top, down = _cell(d * x + e * y + f, height)
    start = tf.range(tf.shape(images)[0])[:, None, None] * (height * width)
    corner = start + tf.cast(top, tf.int32) * width + tf.cast(left, tf.int32)  # (b, h, w)
    pixels = tf.reshape(images, [-1, channels])  # (b h w, c)
    next_x, next_y = min(width - 1, 1), width * min(height - 1, 1)
    upper = _mix(pixels, corner, next_x, right)
    lower = _mix(pixels, corner + next_y, next_x, right)
    return upper + (lower - upper) * down[..., None]


def _cell(position: Any, size: int) -> tuple[Any, Any]:
    """Split a position, from the centre, into the pixel before it and the way to the next."""
    position = position + size / 2  # from the outer border
    position -= tf.floor(position / (2 * size)) * (2 * size)
    position = tf.minimum(position, 2 * size - position) - 0.5  # reflected
    position = tf.clip_by_value(position, 0, size - 1)
    before = tf.clip_by_value(tf.floor(position), 0, max(size - 2, 0))
    return before, position - before


def _mix(pixels: Any, index: Any, step: int, way: Any) -> Any:
    one, other = (  # (b, h, w, c)
        tf.cast(tf.gather(pixels, place), tf.float32) for place in (index, index + step)
    )
    return one + (other - one) * way[..., None]


def mirror(images: Any, seed: Any) -> Any:
    """Mirror each image left-right with probability 1/2: safe where up and down differ."""
    return _symmetry(images, _coin(images, seed))


def flips(images: Any, seed: Any) -> Any:
    """Flip each image left-right and upside-down, each with probability 1/2."""
    return _symmetry(images, _coin(images, seed), _coin(images, _salted(seed, 1)))


def dihedral(images: Any, seed: Any) -> Any:
    """Give each image one of the eight symmetries of the square, without resampling.

    Images that are not square get the four symmetries of the rectangle.
    """
    if images.shape[1] != images.shape[2]:
        return flips(images, seed)
    left, up, turned = (_coin(images, _salted(seed, salt)) for salt in range(3))
    return _symmetry(images, left, up, turned)


def _coin(images: Any, seed: Any) -> Any:
    return tf.random.stateless_uniform([tf.shape(images)[0], 1, 1], seed) < 0.5


def _symmetry(images: Any, left: Any, up: Any = None, turned: Any = None) -> Any:
    """Mirror images left-right, upside-down and then along the diagonal, where coins say so.

    One gathering of pixels: a mirrored copy of all images and a choice for each takes three times
    as long.
    """
    height, width, channels = images.shape[1:]
    n = tf.shape(images)[0]
    start = tf.range(n)[:, None, None] * (height * width) + tf.where(left, width - 1, 0)
    down, right = tf.fill([n, 1, 1], width), tf.where(left, -1, 1)  # steps between pixels
    if up is not None:
        start += tf.where(up, (height - 1) * width, 0)
        down = tf.where(up, -width, width)
    if turned is not None:
        down, right = tf.where(turned, right, down), tf.where(turned, down, right)
    rows = start + down * tf.range(height)[None, :, None]  # (b, h, 1)
    places = rows + right * tf.range(width)[None, None, :]  # (b, h, w)
    return tf.gather(tf.reshape(images, [-1, channels]), places)


def shift(images: Any, seed: Any, pixels: int = 2) -> Any:
    """Shift each image by up to ``pixels`` in each direction, borders reflected."""
    n = tf.shape(images)[0]
    offset = tf.random.stateless_uniform([n, 2], seed, -pixels, pixels + 1, dtype=tf.int32)
    return shifted(images, offset)


def mirrored(images: Any) -> Any:
    """Mirror all images left-right."""
    return tf.reverse(images, [2])


def upended(images: Any) -> Any:
    """Mirror all images upside-down."""
    return tf.reverse(images, [1])


def transposed(images: Any) -> Any:
    """Exchange rows and columns of all images."""
    return tf.transpose(images, [0, 2, 1, 3])


def shifted(images: Any, offset: Any) -> Any:
    """Shift images by whole pixels (b, 2), down and to the right negative, borders reflected."""
    height, width = (tf.shape(images)[axis] for axis in (1, 2))
    rows = reflect(tf.range(height)[None, :] + offset[:, :1], height)  # (b, h)
    columns = reflect(tf.range(width)[None, :] + offset[:, 1:], width)  # (b, w)
    images = tf.gather(images, rows, axis=1, batch_dims=1)
    return tf.gather(images, columns, axis=2, batch_dims=1)


def _salted(seed: Any, salt: int) -> Any:
    return seed + tf.constant([0, salt])


_SETS: dict[str, Augmentation] = {
    "basic": functools.partial(flip_rotate, turn=15 / 360),
    "blur": augment_sets.blur,
    "crop": augment_sets.crop,
    "dihedral": dihedral,
    "distortion": augment_sets.distortion,
    "flip_rotate": flip_rotate,
    "flips": flips,
    "intensity": augment_sets.intensity,
    "mirror": mirror,
    "rotate": augment_sets.rotate,
    "shift": shift,
}

NAMES = tuple(_SETS)
"""The named sets that ``augment=`` accepts, alone or in a list applied in order."""
