"""Random intensity, colour and blur per image."""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf

from kmedclf.augmentation.geometry import reflect, uniform

GREY = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in the luma (ITU-R BT.601)."""


def intensity(
    images: Any, seed: Any, bounds: tuple[float, float] | None = None, strength: float = 0.5
) -> Any:
    """Jitter brightness, contrast, saturation and hue of each image, by up to ``strength``.

    ``bounds`` clip the values, such as 0 and 255 for 8 bits; None, for floats, clips nothing.
    """
    n = tf.shape(images)[0]
    shape = [3, n, 1, 1, 1]
    brightness, contrast, saturation = tf.unstack(
        uniform(seed, 0, shape, 1 - strength, 1 + strength)
    )
    colour = images.shape[3] == 3
    images = _cut(tf.cast(images, tf.float32) * brightness, bounds)
    grey = tf.tensordot(images, tf.constant(GREY), 1)[..., None] if colour else images
    mean = tf.reduce_mean(grey, axis=[1, 2], keepdims=True)  # (b, 1, 1, 1 or c)
    images = _cut(mean + (images - mean) * contrast, bounds)
    if not colour:
        return images
    grey = tf.tensordot(images, tf.constant(GREY), 1)[..., None]
    images = _cut(grey + (images - grey) * saturation, bounds)
    # A rotation of the hue is linear in YIQ.
    turn = uniform(seed, 1, [n], -strength, strength) * (2 * math.pi)
    return _cut(tf.einsum("bhwi,bij->bhwj", images, _hue_matrix(turn)), bounds)


def _cut(images: Any, bounds: tuple[float, float] | None) -> Any:
    return images if bounds is None else tf.clip_by_value(images, *bounds)


def _hue_matrix(angle: Any) -> Any:
    """Make the matrices (b, 3, 3) that rotate the plane of I and Q by angles (b,)."""
    to_yiq = tf.constant([[0.299, 0.596, 0.211], [0.587, -0.274, -0.523], [0.114, -0.322, 0.312]])
    cos, sin, one = tf.cos(angle), tf.sin(angle), tf.ones_like(angle)
    zero = tf.zeros_like(angle)
    turn = tf.stack([one, zero, zero, zero, cos, sin, zero, -sin, cos], axis=1)
    return to_yiq @ tf.reshape(turn, [-1, 3, 3]) @ tf.linalg.inv(to_yiq)


def blur(images: Any, seed: Any, low: float = 0.1, high: float = 2.0) -> Any:
    """Blur each image with a Gaussian of uniform sigma on 5 × 5 pixels; borders are reflected."""
    images, n = tf.cast(images, tf.float32), tf.shape(images)[0]
    sigma = uniform(seed, 0, [n, 1], low, high)
    kernel = tf.nn.softmax(-(tf.range(-2.0, 3.0) ** 2) / (2 * sigma**2))  # (b, 5)
    for axis in (1, 2):
        size = images.shape[axis]
        places = [reflect(tf.range(size) + step, size) for step in range(-2, 3)]
        images = tf.add_n(
            [
                tf.gather(images, place, axis=axis) * kernel[:, number, None, None, None]
                for number, place in enumerate(places)
            ]
        )
    return images
