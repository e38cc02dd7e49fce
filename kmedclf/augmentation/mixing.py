"""MixUp and CutMix: each image of a chunk is mixed with the next one, with its labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from kmedclf.augmentation.geometry import uniform


def mixed(
    images: Any, y: Any, weight: Any, seed: Any, n_classes: int, alphas: Mapping[str, Any]
) -> tuple[Any, Any, Any]:
    """Mix a chunk of a training; labels are int32 classes (b,) or float32 labels (b, k).

    Returns images, labels (b, k) and weights, all float32.
    """
    labels = y if len(y.shape) == 2 else tf.one_hot(y, n_classes)
    # Differs from the augmentation's seed in the first half.
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

    The larger share, from Beta(alpha, alpha), is the image's own. With both methods each image
    draws one. Weights are (b,), or (b, k) with one per label, and include class weights.
    """
    # H. Zhang et al., "mixup: beyond empirical risk minimization", ICLR 2018. S. Yun et al.,
    # "CutMix: regularization strategy to train strong classifiers", ICCV 2019.
    # Batches are shuffled, so the next image is a random one.
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
    # The loss of a mixture is the mixture of both losses, each with its own weight.
    own, other = share[:, None] * weight, (1 - share)[:, None] * tf.roll(weight, -1, axis=0)
    both = own * labels + other * tf.roll(labels, -1, axis=0)
    total = own + other
    return mixed, tf.math.divide_no_nan(both, total), total[:, 0] if by_row else total


def _larger_share(seed: Any, salt: int, n: Any, alpha: Any) -> Any:
    """Draw (b,) numbers: the larger of x and 1 - x with x from Beta(alpha, alpha)."""
    one, other = (
        tf.random.stateless_gamma([n], seed + tf.constant([0, salt + number]), alpha)
        for number in range(2)
    )
    share = tf.math.divide_no_nan(one, one + other)  # small alphas underflow: the image alone
    return tf.maximum(share, 1 - share)


def _outside_boxes(seed: Any, share: Any, shape: Any) -> Any:
    """Make masks (b, h, w, 1): 0 in a box of 1 - ``share`` of the image, 1 around it."""
    side = tf.sqrt(1 - share)
    inside = []
    for salt, axis in ((5, 1), (6, 2)):
        length = side * shape[axis]
        start = uniform(seed, salt, [tf.size(share)], 0.0, 1.0) * (shape[axis] - length)
        place = tf.range(shape[axis], dtype=tf.float32)[None] + 0.5  # (1, h or w)
        inside.append((place >= start[:, None]) & (place < (start + length)[:, None]))
    box = inside[0][:, :, None] & inside[1][:, None, :]  # (b, h, w)
    return 1 - tf.cast(box, tf.float32)[..., None]
