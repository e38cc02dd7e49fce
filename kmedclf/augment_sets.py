"""The augmentation sets of a brain study: rotation, colour, perspective, blur; each image its own.

As in `kmedclf.augment`, a set maps a batch (b, h, w, c) of any dtype and an int32 seed pair (2,) to
a float32 batch of the same shape. All geometry of a set is one map and one resampling.
"""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf

GREY = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in the luminance (ITU-R BT.601)."""


def uniform(seed: Any, salt: int, shape: list[Any], low: float, high: float) -> Any:
    """Draw float32 numbers; every salt gives others."""
    return tf.random.stateless_uniform(shape, seed + tf.constant([0, salt]), low, high)


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


def reflect(index: Any, size: Any) -> Any:
    """Bring indices that lie beyond a border back inside, as far as the image goes."""
    return tf.maximum(size - 1 - tf.abs(size - 1 - tf.abs(index)), 0)


def crop(images: Any, seed: Any, low: float = 0.8, high: float = 1.0) -> Any:
    """Cut a random part out of each image and resize it to the whole.

    The part has a share of the area uniform from ``low`` to ``high`` and sides in a proportion
    log-uniform from 3/4 to 4/3, as far as that fits.
    """
    return project(images, _crop(seed, tf.shape(images)[0], low, high))


def rotate(images: Any, seed: Any, degrees: float = 15.0) -> Any:
    """Turn each image by an angle uniform in ± ``degrees``."""
    largest = math.radians(degrees)
    angle = uniform(seed, 12, [tf.shape(images)[0]], -largest, largest)
    aspect = images.shape[2] / images.shape[1]
    cos, sin, zero, one = tf.cos(angle), tf.sin(angle), tf.zeros_like(angle), tf.ones_like(angle)
    turn = [cos, -sin / aspect, zero, sin * aspect, cos, zero, zero, zero, one]
    return project(images, _matrix(*turn))


def distortion(images: Any, seed: Any) -> Any:
    """Distort each image: a perspective with probability 1/2, an affine map, a resized crop.

    The perspective draws each corner inwards by up to a quarter of the side. The affine map turns
    and shears by up to 10 degrees, shifts by up to 10 % and scales by 0.9 to 1.1. The crop is
    `crop`.
    """
    n = tf.shape(images)[0]
    identity = tf.eye(3, batch_shape=[n])
    coin = uniform(seed, 0, [n, 1, 1], 0.0, 1.0) < 0.5
    perspective = tf.where(coin, _perspective(seed, n), identity)
    # From the output back to the input: the crop is made last, so it is undone first.
    crops = _crop(seed, n, 0.8, 1.0)
    aspect = images.shape[2] / images.shape[1]
    return project(images, perspective @ _affine(seed, n, aspect) @ crops)


def _matrix(*entries: Any) -> Any:
    """Make matrices (b, 3, 3) out of nine entries of shape (b,)."""
    return tf.reshape(tf.stack(entries, axis=1), [-1, 3, 3])


def _crop(seed: Any, n: Any, low: float, high: float) -> Any:
    area = uniform(seed, 8, [n], low, high)
    ratio = tf.exp(uniform(seed, 9, [n], math.log(3 / 4), math.log(4 / 3)) / 2)
    width, height = (tf.minimum(tf.sqrt(area) * part, 1.0) for part in (ratio, 1 / ratio))
    x = uniform(seed, 10, [n], -1.0, 1.0) * (1 - width)
    y = uniform(seed, 11, [n], -1.0, 1.0) * (1 - height)
    zero, one = tf.zeros_like(x), tf.ones_like(x)
    return _matrix(width, zero, x, zero, height, y, zero, zero, one)


def _affine(seed: Any, n: Any, aspect: float) -> Any:
    """Make maps that keep angles in images ``aspect`` times as wide as high."""
    largest = math.radians(10)
    angle, shear = tf.unstack(uniform(seed, 4, [2, n], -largest, largest))
    scale = uniform(seed, 5, [n], 0.9, 1.1)
    x, y = tf.unstack(uniform(seed, 6, [2, n], -0.2, 0.2))  # of half the side
    cos, sin, tan = tf.cos(angle) / scale, tf.sin(angle) / scale, tf.tan(shear)
    zero, one = tf.zeros_like(x), tf.ones_like(x)
    a, b, d, e = cos, cos * tan - sin, sin, sin * tan + cos
    return _matrix(a, b / aspect, x, d * aspect, e, y, zero, zero, one)


def _perspective(seed: Any, n: Any, scale: float = 0.5) -> Any:
    """Make maps from quadrilaterals, each corner of the square moved inwards, to the square.

    References
    ----------
    P. Heckbert, "Fundamentals of texture mapping and image warping", 1989, section 2.2.3.
    """
    inwards = uniform(seed, 2, [n, 4, 2], 0.0, scale / 2)  # of the whole side
    corner = tf.constant([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    quad = corner + inwards * (1 - 2 * corner)  # (b, 4, 2)
    (x0, y0), (x1, y1), (x2, y2), (x3, y3) = (
        (quad[:, number, 0], quad[:, number, 1]) for number in range(4)
    )
    dx1, dx2, dx3 = x1 - x2, x3 - x2, x0 - x1 + x2 - x3
    dy1, dy2, dy3 = y1 - y2, y3 - y2, y0 - y1 + y2 - y3
    area = dx1 * dy2 - dx2 * dy1
    g, h = (dx3 * dy2 - dx2 * dy3) / area, (dx1 * dy3 - dx3 * dy1) / area
    one = tf.ones_like(g)
    from_square = _matrix(
        x1 - x0 + g * x1, x3 - x0 + h * x3, x0, y1 - y0 + g * y1, y3 - y0 + h * y3, y0, g, h, one
    )  # (0..1) squared to the quadrilateral
    centred = tf.constant([[2.0, 0.0, -1.0], [0.0, 2.0, -1.0], [0.0, 0.0, 1.0]])
    return centred @ tf.linalg.inv(from_square) @ tf.linalg.inv(centred)


def project(images: Any, maps: Any) -> Any:
    """Resample each image under its own projective map: bilinear, borders reflected.

    Parameters
    ----------
    images : tf.Tensor of shape (b, h, w, c), float32
        The batch.
    maps : tf.Tensor of shape (b, 3, 3), float32
        From the output's places to the input's, x before y, both from -1 to 1 between the middles
        of the outermost pixels.

    Returns
    -------
    tf.Tensor of shape (b, h, w, c), float32
        The resampled batch.
    """
    height, width = images.shape[1:3]
    x, y = (width - 1) / 2, (height - 1) / 2
    to_pixels = tf.constant([[max(x, 0.5), 0, x], [0, max(y, 0.5), y], [0, 0, 1]])
    maps = to_pixels @ maps @ tf.linalg.inv(to_pixels)
    flat = tf.reshape(maps / maps[:, 2:, 2:], [-1, 9])[:, :8]
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.cast(images, tf.float32),
        transforms=flat,
        output_shape=tf.constant([height, width]),
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="REFLECT",
    )
