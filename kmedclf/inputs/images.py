"""Images as the pipeline reads them, from arrays, memory maps and files, and rows of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import tensorflow as tf

from kmedclf.inputs.file_array import FileArray, digests


@dataclass(frozen=True)
class Images:
    """Images as the pipeline reads them.

    Parameters
    ----------
    array : ndarray or FileArray of shape (n, h, w, c), uint8, uint16, ... or float32
        The images; memory maps and files stay on disk and are read batch by batch.
    scale : float
        What a pixel is multiplied by inside the network: 1/255 for uint8, 1 for floats.
    dtype : numpy dtype, optional
        What a memory map of another dtype is cast to as it is read, without loss.
    """

    array: np.ndarray | FileArray
    scale: float
    dtype: Any = None
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
        step = max(1, 2**18 // max(1, self.array[:1].nbytes))  # copies that fit a cache
        parts = [digests(self.array[index[at : at + step]]) for at in range(0, len(index), step)]
        return np.concatenate([np.zeros(0, np.uint64), *parts])

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
            if self.on_disk:
                return tf.constant(np.empty((0, *self.shape), self.dtype or self.array.dtype))
            return tf.constant(self.array)

    def rows(self, index: np.ndarray) -> np.ndarray:
        """Read the images at the given indices, (m,) -> (m, h, w, c).

        Where that fails there are none, which ends the pass: TensorFlow would write pages about an
        error. `explained` raises it.
        """
        try:
            found = self.array[index if not self.failures else index[:0]]
            return np.ascontiguousarray(found, self.dtype)
        except (OSError, ValueError, ImportError) as error:
            self.failures.append(error)
            return np.empty((0, *self.shape), self.dtype or self.array.dtype)


@dataclass(frozen=True)
class Rows:
    """Some rows of some images: what one pass of training or scoring goes over.

    Parameters
    ----------
    images : Images
        All the images.
    index : ndarray of shape (m,), int64
        Which of them, in order; an index may come several times.
    y : ndarray of shape (m,), int32, or (m, k), float32
        Their classes, 0 to k - 1; or zeros and ones of k labels.
    weight : ndarray of shape (m,), or (m, k) where every label has its own, float32
        Their weights in the loss.
    copy : ndarray of shape (m,), bool, or None
        Which rows repeat another and are augmented, where the others are not.
    """

    images: Images
    index: np.ndarray
    y: np.ndarray
    weight: np.ndarray
    copy: np.ndarray | None = None

    @classmethod
    def of(cls, images: Images) -> Rows:
        """Make the rows of all images, to predict their classes."""
        n = len(images.array)
        return cls(images, np.arange(n), np.zeros(n, np.int32), np.ones(n, np.float32))

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
                tf.constant(self.y, tf.int32 if self.y.ndim == 1 else tf.float32),
                tf.constant(self.weight, tf.float32),
            )

    def take(self, position: np.ndarray) -> Rows:
        """Return the rows at the given positions, in that order."""
        copy = None if self.copy is None else self.copy[position]
        index, y, weight = (one[position] for one in (self.index, self.y, self.weight))
        return Rows(self.images, index, y, weight, copy)

    def sample(self, seed: int) -> np.ndarray:
        """Read some of the images, (m, h, w, c): 512, or of large ones what takes 4 MB a byte."""
        most = min(512, max(1, 2**22 // int(np.prod(self.images.shape))))
        drawn = np.random.default_rng([seed, 3]).permutation(len(self))[:most]
        return self.images.rows(self.index[np.sort(drawn)])

    def reweighted(self, factor: np.ndarray) -> Rows:
        """Return the rows with their weights (m,) multiplied by ``factor``, (m,) or (m, k)."""
        weight = (self.weight.reshape(-1, *[1] * (factor.ndim - 1)) * factor).astype(np.float32)
        return replace(self, weight=weight)


def is_memmap(array: np.ndarray | None) -> bool:
    """Say whether an array, or what it is a view of, is mapped from a file."""
    return array is not None and any(isinstance(base, np.memmap) for base in _bases(array))


def _bases(array: Any) -> Iterator[Any]:
    while array is not None:
        yield array
        array = getattr(array, "base", None)
