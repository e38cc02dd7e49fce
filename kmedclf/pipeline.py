"""X to tf.data: one pipeline for training and inference, over arrays, memory maps and files.

indices -> batch -> fetch the images -> augment (training only) -> prefetch

Shuffling happens to the indices, before they come here. The datasets are made inside the compiled
programs (`kmedclf.programs`), from tensors, so that no fit traces them anew.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import tensorflow as tf

from kmedclf.augment import make
from kmedclf.file_array import FileArray

Fetch = Callable[[Any], Any]


@dataclass(frozen=True)
class Images:
    """Images as the pipeline reads them.

    Parameters
    ----------
    array : ndarray or FileArray of shape (n, h, w, c), uint8, uint16, ... or float32
        The images; memory maps and files stay on disk and are read batch by batch.
    scale : float
        What a pixel is multiplied by inside the network: 1/255 for uint8, 1 for floats.
    """

    array: np.ndarray | FileArray
    scale: float
    failures: list[Exception] = field(default_factory=list, init=False, compare=False)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape (h, w, c) of one image."""
        _, height, width, channels = self.array.shape
        return height, width, channels

    @property
    def on_disk(self) -> bool:
        """Whether the images are read from disk rather than held in memory."""
        return isinstance(self.array, FileArray) or is_memmap(self.array)

    @property
    def broken(self) -> dict[int, Exception]:
        """Positions of images that cannot be read, and why; files are all tried once."""
        return self.array.broken if isinstance(self.array, FileArray) else {}

    @property
    def skipped(self) -> list[str] | None:
        """Files that cannot be read; None of arrays."""
        if not isinstance(self.array, FileArray):
            return None
        return [self.array.paths[i] for i in sorted(self.array.broken)]

    def digests(self, index: np.ndarray) -> np.ndarray | None:
        """Hash images, (m,) -> (m,) uint64; not those of a memory map, all of which it would read.

        The same pixels have the same hash in arrays and in files.
        """
        if isinstance(self.array, FileArray):
            return self.array.digests[index]
        if self.on_disk:
            return None
        digests = (hashlib.blake2b(self.array[i].tobytes(), digest_size=8) for i in index)
        return np.frombuffer(b"".join(digest.digest() for digest in digests), dtype=np.uint64)

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Raise what went wrong while images were read, not what TensorFlow made of it."""
        try:
            yield
        except tf.errors.OpError:
            if not self.failures:
                raise
        if self.failures:
            raise self.failures[0]

    @cached_property
    def tensor(self) -> tf.Tensor:
        """The images as TensorFlow has them, on the CPU whatever the device that trains.

        Images on disk are represented by one empty row: they are read by `Images.rows`.
        """
        with tf.device("CPU:0"):
            return tf.constant(self.array[:0] if self.on_disk else self.array)

    def rows(self, index: np.ndarray) -> np.ndarray:
        """Read the images at the given indices, (m,) -> (m, h, w, c).

        Where that fails there are none, which ends the pass: TensorFlow would write pages about an
        error. `explained` raises it.
        """
        try:
            return np.ascontiguousarray(self.array[index if not self.failures else index[:0]])
        except (OSError, ValueError, ImportError) as error:
            self.failures.append(error)
            return np.empty((0, *self.shape), self.array.dtype)


@dataclass(frozen=True)
class Rows:
    """Some rows of some images: what one pass of training or scoring goes over.

    Parameters
    ----------
    images : Images
        All the images.
    index : ndarray of shape (m,), int64
        Which of them, in order; an index may come several times.
    y : ndarray of shape (m,), int32
        Their classes, 0 to k - 1.
    weight : ndarray of shape (m,), float32
        Their weights in the loss.
    copy : ndarray of shape (m,), bool, or None
        Which rows repeat another and are augmented, where the others are not.
    """

    images: Images
    index: np.ndarray
    y: np.ndarray
    weight: np.ndarray
    copy: np.ndarray | None = None

    def __len__(self) -> int:
        """Return the number of rows, m."""
        return len(self.index)

    @property
    def columns(self) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Indices, classes and weights as TensorFlow has them, on the CPU.

        The index i of a copy is written ~i: a column for one bit would be one more everywhere.
        """
        index = self.index if self.copy is None else np.where(self.copy, ~self.index, self.index)
        with tf.device("CPU:0"):
            return (
                tf.constant(index, tf.int64),
                tf.constant(self.y, tf.int32),
                tf.constant(self.weight, tf.float32),
            )

    def take(self, position: np.ndarray) -> Rows:
        """Return the rows at the given positions, in that order."""
        copy = None if self.copy is None else self.copy[position]
        index, y, weight = (one[position] for one in (self.index, self.y, self.weight))
        return Rows(self.images, index, y, weight, copy)

    def reweighted(self, factor: np.ndarray) -> Rows:
        """Return the rows with their weights multiplied by ``factor``, of shape (m,)."""
        weight = (self.weight * factor).astype(np.float32)
        return replace(self, weight=weight)


def is_memmap(array: np.ndarray | None) -> bool:
    """Say whether an array, or what it is a view of, is mapped from a file."""
    return array is not None and any(isinstance(base, np.memmap) for base in _bases(array))


def _bases(array: Any) -> Iterator[Any]:
    while array is not None:
        yield array
        array = getattr(array, "base", None)


def make_stream(
    fetch: Fetch,
    shape: tuple[int, int, int],
    columns: tuple[tf.Tensor, ...],
    batch_size: tf.Tensor,
    seed: tf.Tensor,
    epochs: tf.Tensor,
    *,
    augment: tuple[Any, ...] = (),
    copies: bool = False,
) -> tf.data.Dataset:
    """Make the dataset of a whole training, epoch after epoch, in chunks of whole batches.

    One dataset for all epochs, because starting one takes longer than a small epoch; in chunks,
    because asking for one takes as long as the step of a small network; of one size, because
    augmentation is compiled for it. A chunk never holds rows of two epochs.

    Parameters
    ----------
    fetch : callable
        Maps image indices (b,) to images (b, h, w, c).
    shape : tuple of int
        (h, w, c).
    columns : tuple of tf.Tensor of shape (m,)
        Image indices first, then whatever goes with them (classes, weights).
    batch_size : tf.Tensor of shape (), int64
        Rows in a batch.
    seed : tf.Tensor of shape (), int64
        Seed of order and augmentation.
    epochs : tf.Tensor of shape (2,), int64
        Number of the first epoch, and of the one after the last.
    augment : tuple
        As from `kmedclf.augment.resolve`; without any, images keep their dtype.
    copies : bool, default=False
        Whether only copies are augmented; see `Rows`.

    Returns
    -------
    tf.data.Dataset
        Of tuples (images (b, h, w, c), the other columns (b,), seed of the chunk (2,)).
    """
    size = batch_size * tf.maximum(_chunk_size(shape) // batch_size, 1)

    def one_epoch(number: Any) -> tf.data.Dataset:
        given = seed, number, tf.size(columns[0], tf.int64), size
        position, key = tf.numpy_function(plan, given, (tf.int64, tf.int32))
        position, key = tf.ensure_shape(position, [None, None]), tf.ensure_shape(key, [None, 2])
        return tf.data.Dataset.from_tensor_slices((position, key))

    def load(position: Any, key: Any) -> Any:
        position = position[: tf.math.count_nonzero(position >= 0)]
        index, *others = (tf.gather(column, position) for column in columns)
        if not augment:
            return fetch(index), *others, key
        images = fetch(tf.where(index < 0, -1 - index, index) if copies else index)
        augmented = _augmented(images, augment, key, tf.cast(size, tf.int32))
        if copies:
            chosen = index[:, None, None, None] < 0
            augmented = tf.where(chosen, augmented, tf.cast(images, tf.float32))
        return augmented, *others, key

    with tf.device("CPU:0"):
        return tf.data.Dataset.range(*tf.unstack(epochs)).flat_map(one_epoch).map(load)


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
    """Augment a chunk padded to its full size, so that all chunks have the same shape."""
    n = tf.shape(images)[0]
    whole = tf.pad(tf.cast(images, tf.float32), [[0, size - n], [0, 0], [0, 0], [0, 0]])
    return make(augment, images.dtype)(whole, key)[:n]


def make_dataset(fetch: Fetch, index: tf.Tensor, batch_size: tf.Tensor) -> tf.data.Dataset:
    """Make the dataset of images (b, h, w, c) at the indices (m,), in order."""
    with tf.device("CPU:0"):
        dataset = tf.data.Dataset.from_tensor_slices(index).batch(batch_size)
        return dataset.map(fetch).prefetch(2)


def _chunk_size(shape: tuple[int, int, int]) -> int:
    """Choose how many images to fetch and augment at once: 2 MB of them, 8 to 128."""
    return int(np.clip(2**19 // int(np.prod(shape)), 8, 128))


def inference_batch_size(shape: tuple[int, int, int]) -> int:
    """Choose how many images to score at once: 64, fewer of more than 100 pixels a side.

    More would not be faster, and the activations of a wide layer take a megabyte an image.
    """
    return int(np.clip(2**21 // int(np.prod(shape)), 8, 64))
