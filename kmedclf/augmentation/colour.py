"""Intensity, colours and blur, drawn for each image."""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf

from kmedclf.augmentation.geometry import reflect, uniform

GREY = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in the luminance (ITU-R BT.601)."""


def intensity(
    images: Any, seed: Any, bounds: tuple[float, float] | None = None, strength: float = 0.5
) -> Any:
    """Jitter brightness, contrast, saturation and hue of each image.

    Brightness, contrast and saturation are multiplied by factors uniform in 1 ± ``strength``, the
    hue is turned by up to ± ``strength`` of the colour circle, in YIQ, where that is linear. Only
    colour images have saturation and hue. Subtracting ImageNet's means is no augmentation: networks
    with pretrained weights do it themselves.

    Parameters
    ----------
    images : tf.Tensor of shape (b, h, w, c), float32
        The batch.
    seed : tf.Tensor of shape (2,), int32
        Seed of the draws.
    bounds : tuple of float or None, default=None
        Least and largest value of a pixel, where results are cut: 0 and 255 for 8 bits. None, for
        floats, whose range is not known, cuts nothing.
    strength : float, default=0.5
        Of all four.

    Returns
    -------
    tf.Tensor of shape (b, h, w, c), float32
        The augmented batch.
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
    turn = uniform(seed, 1, [n], -strength, strength) * (2 * math.pi)
    return _cut(tf.einsum("bhwi,bij->bhwj", images, _hue_matrix(turn)), bounds)


def _cut(images: Any, bounds: tuple[float, float] | None) -> Any:
    return images if bounds is None else tf.clip_by_value(images, *bounds)


def _hue_matrix(angle: Any) -> Any:
    """Make the matrices, (b, 3, 3), that turn the plane of I and Q by angles (b,)."""
    to_yiq = tf.constant([[0.299, 0.596, 0.211], [0.587, -0.274, -0.523], [0.114, -0.322, 0.312]])
    cos, sin, one = tf.cos(angle), tf.sin(angle), tf.ones_like(angle)
    zero = tf.zeros_like(angle)
    turn = tf.stack([one, zero, zero, zero, cos, sin, zero, -sin, cos], axis=1)
    return to_yiq @ tf.reshape(turn, [-1, 3, 3]) @ tf.linalg.inv(to_yiq)


def blur(images: Any, seed: Any, low: float = 0.1, high: float = 2.0) -> Any:
    """Blur each image with a Gaussian on 5 × 5 pixels, its sigma uniform from ``low`` to ``high``.

    Borders are reflected, as far as the image goes.
    """
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
