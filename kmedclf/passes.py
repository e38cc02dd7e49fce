"""From rows to the images of a training, or of a pass of scoring.

indices -> shuffle -> chunk of batches -> fetch the images -> augment, mix (training only)

All this happens inside graphs (`kmedclf.feeds`, `kmedclf.program`), from tensors, so that no fit
traces them anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from kmedclf import mixing
from kmedclf.augment import make

Fetch = Callable[[Any], Any]

MOST = 128
"""Images augmented at once, unless a batch is larger; four times as many are only fetched."""


def chunk(
    fetch: Fetch,
    columns: tuple[Any, ...],
    position: Any,
    key: Any,
    *,
    augment: tuple[Any, ...] = (),
    copies: bool = False,
    n_classes: int = 0,
    alphas: Mapping[str, Any] | None = None,
) -> tuple[Any, ...]:
    """Read some batches of a training.

    Parameters
    ----------
    fetch : callable
        Maps image indices (b,) to images (b, h, w, c).
    columns : tuple of tf.Tensor of shape (m,) or (m, k)
        Image indices first, then whatever goes with them (classes, weights).
    position : tf.Tensor of shape (b,), int64
        Which rows, then -1 as often as rows are missing to a chunk of full size.
    key : tf.Tensor of shape (2,), int32
        Seed of augmentation and mixing.
    augment : tuple
        As from `kmedclf.augment.resolve`. Images keep their dtype: what was drawn between two
        integers is rounded.
    copies : bool, default=False
        Whether only copies are augmented; see `kmedclf.pipeline.Rows`.
    n_classes : int
        Length of a one-hot label, where images are mixed.
    alphas : mapping of str to tf.Tensor of shape (), float32, optional
        Alpha of each method of `kmedclf.mixing` in use.

    Returns
    -------
    tuple of tf.Tensor
        Images (b, h, w, c), the other columns (b,) or (b, k).
    """
    size = tf.size(position)
    position = position[: tf.math.count_nonzero(position >= 0)]
    index, *others = (tf.gather(column, position) for column in columns)
    images = fetch(tf.where(index < 0, -1 - index, index) if copies else index)
    if augment:
        augmented = _augmented(images, augment, key, size)
        if copies:
            augmented = tf.where(index[:, None, None, None] < 0, augmented, images)
        images = augmented
    if alphas:
        y, weight = others
        return mixing.mixed(images, y, weight, key, n_classes, alphas)
    return images, *others


def chunk_size(shape: tuple[int, int, int], batch_size: int, *, augmented: bool) -> int:
    """Choose how many rows to read at once: whole batches, of about 128 images if augmented.

    In chunks, because reading takes time however little is read; of one size, because augmentation
    is compiled for it.
    """
    most = _most(shape) * (1 if augmented else 4)
    return batch_size * max(most // batch_size, 1)


def make_stream(
    load: Callable[[Any, Any], Any], n_rows: Any, size: Any, seed: Any, epochs: Any
) -> tf.data.Dataset:
    """Make the dataset of a whole training, epoch after epoch, chunk after chunk.

    One dataset for all epochs, because starting one takes longer than a small epoch. A chunk never
    holds rows of two epochs.

    Parameters
    ----------
    load : callable
        Maps position and key to a chunk, as `chunk` does.
    n_rows, size : tf.Tensor of shape (), int64
        Rows in an epoch, and in a chunk.
    seed : tf.Tensor of shape (), int64
        Seed of order and augmentation.
    epochs : tf.Tensor of shape (2,), int64
        Number of the first epoch, and of the one after the last.

    Returns
    -------
    tf.data.Dataset
        Of chunks.
    """

    def one_epoch(number: Any) -> tf.data.Dataset:
        given = seed, number, n_rows, size
        position, key = tf.numpy_function(plan, given, (tf.int64, tf.int32))
        position, key = tf.ensure_shape(position, [None, None]), tf.ensure_shape(key, [None, 2])
        return tf.data.Dataset.from_tensor_slices((position, key))

    with tf.device("CPU:0"):
        dataset = tf.data.Dataset.range(*tf.unstack(epochs)).flat_map(one_epoch)
        return plain(dataset.map(load).prefetch(1))


def plan(seed: int, epoch: int, n: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw what depends on the epoch alone, and on nothing before it.

    Parameters
    ----------
    seed : int
        Seed of the training.
    epoch : int
        Its number.
    n : int
        Rows.
    size : int
        Rows in a chunk.

    Returns
    -------
    position : ndarray of shape (n_chunks, size), int64
        The rows of each chunk, shuffled; -1 where there are no more.
    key : ndarray of shape (n_chunks, 2), int32
        Seeds of the chunks' augmentation.
    """
    generator = np.random.default_rng([seed, 1, epoch])
    n_chunks = -(-n // size)
    position = np.full(n_chunks * size, -1, np.int64)
    position[:n] = generator.permutation(n)
    key = generator.integers(2**30, size=(n_chunks, 2), dtype=np.int32)
    return position.reshape(n_chunks, size), key


def _augmented(images: Any, augment: tuple[Any, ...], key: Any, size: Any) -> Any:
    """Augment a chunk, padded so that all chunks have the same shape.

    Large images are augmented in pieces of 8 MB: as floats they take four times the memory of
    bytes, and a step of augmentation may hold several of them.
    """
    shape = images.shape[1:]
    most = max(1, 2**21 // int(np.prod(shape)))
    pieces = 1 if most > MOST else -(-size // most)
    piece = -(-size // pieces)
    n = tf.shape(images)[0]

    def one(number: Any) -> Any:
        part = images[number * piece : (number + 1) * piece]
        part = tf.pad(part, [[0, piece - tf.shape(part)[0]], [0, 0], [0, 0], [0, 0]])
        augmented = make(augment, images.dtype)(part, key + tf.stack([number, 0]))
        if images.dtype.is_integer:  # a quarter of the memory of float32, or half of it
            augmented = tf.saturate_cast(tf.round(augmented), images.dtype)
        return tf.ensure_shape(augmented, [None, *shape])

    if most > MOST:  # a loop takes time
        return one(0)[:n]
    kind = images.dtype
    augmented = tf.map_fn(one, tf.range(pieces), fn_output_signature=kind, parallel_iterations=1)
    return tf.reshape(augmented, [-1, *shape])[:n]


def make_dataset(fetch: Fetch, index: tf.Tensor, batch_size: tf.Tensor) -> tf.data.Dataset:
    """Make the dataset of images (b, h, w, c) at the indices (m,), in order."""
    with tf.device("CPU:0"):
        dataset = tf.data.Dataset.from_tensor_slices(index).batch(batch_size)
        return plain(dataset.map(fetch).prefetch(2))


def plain(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Leave a dataset as it was written: rewriting it takes longer than an epoch of small images.

    A third of the time of starting it is saved, and there is nothing here to fuse or to tune.
    """
    options = tf.data.Options()
    options.experimental_optimization.apply_default_optimizations = False
    options.autotune.enabled = False
    return dataset.with_options(options)


def _most(shape: tuple[int, int, int]) -> int:
    """Choose how many images to augment at once: 2 MB of them, 8 to 128.

    The last chunk of an epoch is padded, so more would augment more than there is.
    """
    return int(np.clip(2**19 // int(np.prod(shape)), 8, MOST))


def inference_batch_size(shape: tuple[int, int, int]) -> int:
    """Choose how many images to score at once: 64, fewer of more than 100 pixels a side.

    More would not be faster, and the activations of a wide layer take a megabyte an image.
    """
    return int(np.clip(2**21 // int(np.prod(shape)), 8, 64))
