"""Seeded, vectorised augmentation of image batches, and the named sets.

Every function maps a float32 batch (b, h, w, c) and an int32 seed pair (2,) to a batch of the same
shape; each image gets a draw of its own. Drawing is stateless: the same seed gives the same batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

Augmentation = Callable[[Any, Any], Any]


def resolve(
    augment: bool | str | Sequence[str] | None, *, image: bool, name: str
) -> tuple[str, ...]:
    """Turn an estimator's ``augment`` parameter into the names of sets, in order.

    Parameters
    ----------
    augment : bool, str, sequence of str or None
        True is ``"flip_rotate"``, False nothing, None ``"flip_rotate"`` for images and nothing
        for flat vectors.
    image : bool
        Whether the data are images rather than flat vectors.
    name : str
        Class name for messages.

    Returns
    -------
    tuple of str
        Names out of `NAMES`.
    """
    if augment is None:
        augment = image
    if isinstance(augment, bool):
        return ("flip_rotate",) if augment else ()
    names = (augment,) if isinstance(augment, str) else tuple(augment)
    for one in names:
        if one not in _SETS:
            raise ValueError(
                f"The 'augment' parameter of {name} must hold names out of {', '.join(NAMES)}. "
                f"Got {one!r} instead."
            )
    return names


def make(names: Sequence[str]) -> Augmentation:
    """Compose named sets into one function of a batch and a seed."""
    steps = [_SETS[name] for name in names]

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
    images : tf.Tensor of shape (b, h, w, c), float32
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
    n, height, width = (tf.shape(images)[axis] for axis in range(3))
    angle = tf.random.stateless_uniform([n], seed, -turn, turn) * (2 * math.pi)
    signs = tf.random.stateless_uniform([2, n], _salted(seed, 1), 0, 2, dtype=tf.int32)
    flip_x, flip_y = tf.unstack(tf.cast(signs * 2 - 1, tf.float32))
    cos, sin = tf.cos(angle), tf.sin(angle)
    # Output pixel (x, y) takes input pixel (a x + b y + c, d x + e y + f), about the centre.
    a, b, d, e = cos * flip_x, -sin * flip_x, sin * flip_y, cos * flip_y
    centre_x = tf.cast(width - 1, tf.float32) / 2
    centre_y = tf.cast(height - 1, tf.float32) / 2
    c = centre_x - a * centre_x - b * centre_y
    f = centre_y - d * centre_x - e * centre_y
    zero = tf.zeros_like(angle)
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=tf.stack([a, b, c, d, e, f, zero, zero], axis=1),
        output_shape=tf.stack([height, width]),
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="REFLECT",
    )


def mirror(images: Any, seed: Any) -> Any:
    """Mirror each image left-right with probability 1/2: safe where up and down differ."""
    return _flip_some(images, seed, axis=2)


def flips(images: Any, seed: Any) -> Any:
    """Flip each image left-right and upside-down, each with probability 1/2."""
    return _flip_some(_flip_some(images, seed, axis=2), _salted(seed, 1), axis=1)


def dihedral(images: Any, seed: Any) -> Any:
    """Give each image one of the eight symmetries of the square, without resampling.

    Images that are not square get the four symmetries of the rectangle.
    """
    images = flips(images, seed)
    if images.shape[1] != images.shape[2]:
        return images
    return tf.where(
        _coin(images, _salted(seed, 2)), tf.transpose(images, [0, 2, 1, 3]), images
    )  # (b, w, h, c) = (b, h, w, c)


def shift(images: Any, seed: Any, pixels: int = 2) -> Any:
    """Shift each image by up to ``pixels`` in each direction, borders reflected."""
    n, height, width = (tf.shape(images)[axis] for axis in range(3))
    offset = tf.random.stateless_uniform([n, 2], seed, -pixels, pixels + 1, dtype=tf.int32)
    rows = _reflect(tf.range(height)[None, :] + offset[:, :1], height)  # (b, h)
    columns = _reflect(tf.range(width)[None, :] + offset[:, 1:], width)  # (b, w)
    images = tf.gather(images, rows, axis=1, batch_dims=1)
    return tf.gather(images, columns, axis=2, batch_dims=1)


def _reflect(index: Any, size: Any) -> Any:
    index = tf.abs(index)
    return tf.maximum(size - 1 - tf.abs(size - 1 - index), 0)


def _salted(seed: Any, salt: int) -> Any:
    return seed + tf.constant([0, salt])


def _coin(images: Any, seed: Any) -> Any:
    return tf.random.stateless_uniform([tf.shape(images)[0], 1, 1, 1], seed) < 0.5


def _flip_some(images: Any, seed: Any, axis: int) -> Any:
    return tf.where(_coin(images, seed), tf.reverse(images, [axis]), images)


_SETS: dict[str, Augmentation] = {
    "dihedral": dihedral,
    "flip_rotate": flip_rotate,
    "flips": flips,
    "mirror": mirror,
    "shift": shift,
}

NAMES = tuple(_SETS)
"""The named sets that ``augment=`` accepts, alone or in a list applied in order."""
