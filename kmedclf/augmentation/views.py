"""The choice of one of several views of an image that were computed before."""

from __future__ import annotations

from typing import Any

import tensorflow as tf


def one_of(images: Any, seed: Any) -> Any:
    """Put a view, drawn for each image, in the first place of views (b, v, 1, d)."""
    n, views = tf.shape(images)[0], images.shape[1]
    drawn = tf.random.stateless_uniform([n], seed, maxval=views, dtype=tf.int32)
    first = tf.gather(images, drawn, batch_dims=1)  # (b, 1, d)
    return tf.concat([first[:, None], images[:, 1:]], axis=1)
