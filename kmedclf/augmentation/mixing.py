"""MixUp and CutMix: each image of a chunk is mixed with the next one, and so are their labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from kmedclf.augmentation.geometry import uniform


def mixed(
    images: Any, y: Any, weight: Any, seed: Any, n_classes: int, alphas: Mapping[str, Any]
) -> tuple[Any, Any, Any]:
    """Mix a chunk of a training.

    Parameters
    ----------
    images : tf.Tensor of shape (b, h, w, c)
        The images.
    y : tf.Tensor of shape (b,), int32, or (b, k), float32
        Their classes, or labels.
    weight : tf.Tensor of shape (b,) or (b, k), float32
        Their weights.
    seed : tf.Tensor of shape (2,), int32
        Seed of the chunk.
    n_classes : int
        Length of a one-hot label.
    alphas : mapping of str to tf.Tensor of shape (), float32
        Alpha by method, at least one.

    Returns
    -------
    images, labels, weight : tf.Tensor
        Images (b, h, w, c), labels (b, k) and weights, all float32.
    """
    labels = y if len(y.shape) == 2 else tf.one_hot(y, n_classes)
    # Another first half than that of the augmentation
    seed += tf.constant([1, 0])
    return mix(tf.cast(images, tf.float32), labels, weight, seed, **alphas)


def mix(
    images: Any,
    labels: Any,
    weight: Any,
    seed: Any,
    *,
    mixup: Any | None = None,
    cutmix: Any | None = None,
) -> tuple[Any, Any, Any]:
    """Mix every image with the next in the batch, the last with the first.

    Batches are shuffled, so the next image is any image. The larger share is the image's own and
    Beta(alpha, alpha) distributed; with both methods each image draws one. The loss of a mixture is
    the mixture of both losses, each with its own weight.

    Parameters
    ----------
    images : tf.Tensor of shape (b, h, w, c), float32
        The batch.
    labels : tf.Tensor of shape (b, k), float32
        One-hot or multi-label.
    weight : tf.Tensor of shape (b,), or (b, k) where every label has its own, float32
        Sample weights, those of classes included.
    seed : tf.Tensor of shape (2,), int32
        Seed of the draws.
    mixup, cutmix : tf.Tensor of shape () or None, default=None
        Alpha of each method; None leaves the method out.

    Returns
    -------
    images, labels, weight : tf.Tensor
        Of the same shapes.

    References
    ----------
    H. Zhang et al., "mixup: beyond empirical risk minimization", ICLR 2018. S. Yun et al.,
    "CutMix: regularization strategy to train strong classifiers", ICCV 2019.
    """
    n = tf.shape(images)[0]
    masks = []  # each (b, h or 1, w or 1, 1): the share of an image itself
    if mixup is not None:
        masks.append(_larger_share(seed, 0, n, mixup)[:, None, None, None])
    if cutmix is not None:
        masks.append(_outside_boxes(seed, _larger_share(seed, 2, n, cutmix), images.shape))
    mask = masks[0]
    if len(masks) == 2:
        mask = tf.where(uniform(seed, 4, [n, 1, 1, 1], 0.0, 1.0) < 0.5, *masks)
    mixed = mask * images + (1 - mask) * tf.roll(images, -1, axis=0)
    share = tf.reduce_mean(mask, axis=[1, 2, 3])  # (b,)
    by_row = len(weight.shape) == 1
    if by_row:
        weight = weight[:, None]
    own, other = share[:, None] * weight, (1 - share)[:, None] * tf.roll(weight, -1, axis=0)
    both = own * labels + other * tf.roll(labels, -1, axis=0)
    total = own + other
    return mixed, tf.math.divide_no_nan(both, total), total[:, 0] if by_row else total


def _larger_share(seed: Any, salt: int, n: Any, alpha: Any) -> Any:
    """Draw (b,) numbers, the larger of x and 1 - x with x from Beta(alpha, alpha)."""
    one, other = (
        tf.random.stateless_gamma([n], seed + tf.constant([0, salt + number]), alpha)
        for number in range(2)
    )
    share = tf.math.divide_no_nan(one, one + other)  # small alphas underflow: the image alone
    return tf.maximum(share, 1 - share)


def _outside_boxes(seed: Any, share: Any, shape: Any) -> Any:
    """Make masks (b, h, w, 1), 0 in a box of 1 - ``share`` of the image and 1 around it."""
    side = tf.sqrt(1 - share)
    inside = []
    for salt, axis in ((5, 1), (6, 2)):
        length = side * shape[axis]
        start = uniform(seed, salt, [tf.size(share)], 0.0, 1.0) * (shape[axis] - length)
        place = tf.range(shape[axis], dtype=tf.float32)[None] + 0.5  # (1, h or w)
        inside.append((place >= start[:, None]) & (place < (start + length)[:, None]))
    box = inside[0][:, :, None] & inside[1][:, None, :]  # (b, h, w)
    return 1 - tf.cast(box, tf.float32)[..., None]
