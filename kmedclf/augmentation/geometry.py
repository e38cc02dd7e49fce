"""Where pixels go: flips, turns, shifts, crops, perspective.

All geometry of a set is one map and one resampling.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import tensorflow as tf


def salted(seed: Any, salt: int) -> Any:
    """Return another seed for each salt."""
    return seed + tf.constant([0, salt])


def uniform(seed: Any, salt: int, shape: list[Any], low: float, high: float) -> Any:
    """Draw float32 numbers; every salt gives others."""
    return tf.random.stateless_uniform(shape, salted(seed, salt), low, high)


def reflect(index: Any, size: Any) -> Any:
    """Bring indices that lie beyond a border back inside, as far as the image goes."""
    return tf.maximum(size - 1 - tf.abs(size - 1 - tf.abs(index)), 0)


def crop(images: Any, seed: Any, low: float = 0.8, high: float = 1.0) -> Any:
    """Cut a random part out of each image and resize it to the whole.

    The part has a share of the area uniform from ``low`` to ``high`` and sides in a proportion
    log-uniform from 3/4 to 4/3, as far as that fits.
    """
    return affine(images, _in_pixels(images, _crop(seed, tf.shape(images)[0], low, high)))


def rotate(images: Any, seed: Any, degrees: float = 15.0) -> Any:
    """Turn each image by an angle uniform in ± ``degrees``."""
    largest = math.radians(degrees)
    angle = uniform(seed, 12, [tf.shape(images)[0]], -largest, largest)
    aspect = images.shape[2] / images.shape[1]
    cos, sin, zero, one = tf.cos(angle), tf.sin(angle), tf.zeros_like(angle), tf.ones_like(angle)
    turn = [cos, -sin / aspect, zero, sin * aspect, cos, zero, zero, zero, one]
    return affine(images, _in_pixels(images, _matrix(*turn)))


def distortion(images: Any, seed: Any) -> Any:
    """Distort each image: a perspective and an affine map, each with probability 1/2, and a crop.

    The perspective draws each corner inwards by up to a quarter of the side. The affine map turns
    and shears by up to 10 degrees, shifts by up to 10 % and scales by 0.9 to 1.1. The crop is
    `crop`.
    """
    n = tf.shape(images)[0]
    identity = tf.eye(3, batch_shape=[n])
    coins = [uniform(seed, salt, [n, 1, 1], 0.0, 1.0) < 0.5 for salt in (0, 3)]
    perspective = tf.where(coins[0], _perspective(seed, n), identity)
    # From the output back to the input: the crop is made last, so it is undone first.
    crops = _crop(seed, n, 0.8, 1.0)
    aspect = images.shape[2] / images.shape[1]
    affine_map = tf.where(coins[1], _affine(seed, n, aspect), identity)
    return project(images, perspective @ affine_map @ crops)


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


def _in_pixels(images: Any, maps: Any) -> Any:
    """Turn maps of `project` (b, 3, 3) that are affine into those of `affine` (b, 6)."""
    # `affine` is one loop that XLA compiled: less than half the time of a projective map
    y, x = (max((side - 1) / 2, 0.5) for side in images.shape[1:3])
    scales = tf.constant([[1.0, x / y, x], [y / x, 1.0, y]])
    return tf.reshape(maps[:, :2] * scales, [-1, 6])


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
    signs = tf.random.stateless_uniform([2, n], salted(seed, 1), 0, 2, dtype=tf.int32)
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
    return _symmetry(images, _coin(images, seed), _coin(images, salted(seed, 1)))


def dihedral(images: Any, seed: Any) -> Any:
    """Give each image one of the eight symmetries of the square, without resampling.

    Images that are not square get the four symmetries of the rectangle.
    """
    if images.shape[1] != images.shape[2]:
        return flips(images, seed)
    left, up, turned = (_coin(images, salted(seed, salt)) for salt in range(3))
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


def shifted(images: Any, offset: Any) -> Any:
    """Shift images by whole pixels (b, 2), down and to the right negative, borders reflected."""
    height, width = (tf.shape(images)[axis] for axis in (1, 2))
    rows = reflect(tf.range(height)[None, :] + offset[:, :1], height)  # (b, h)
    columns = reflect(tf.range(width)[None, :] + offset[:, 1:], width)  # (b, w)
    images = tf.gather(images, rows, axis=1, batch_dims=1)
    return tf.gather(images, columns, axis=2, batch_dims=1)
