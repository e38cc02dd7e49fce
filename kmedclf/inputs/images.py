"""Images in memory, in memory maps and in files, and selections of their rows."""

from __future__ import annotations

import kmedclf.utils.tensorflow_loaded  # noqa: F401

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
    """Images (n, h, w, c) with the scale of their pixels."""

    array: np.ndarray | FileArray  # memory maps and files stay on disk
    scale: float  # factor of pixels in the network: 1/255 for uint8, 1 for floats
    dtype: Any = None  # a memory map is cast to it without loss, batch by batch
    failures: list[Exception] = field(default_factory=list, init=False, compare=False)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape (h, w, c) of one image."""
        _, height, width, channels = self.array.shape
        return height, width, channels

    @property
    def on_disk(self) -> bool:
        """Whether the images are read from disk batch by batch."""
        return isinstance(self.array, FileArray) or is_memmap(self.array)

    @property
    def broken(self) -> dict[int, Exception]:
        """Errors of unreadable images by position; reads all files on first use."""
        return self.array.broken if isinstance(self.array, FileArray) else {}

    @property
    def skipped(self) -> list[str] | None:
        """Paths of unreadable files; None for arrays."""
        if not isinstance(self.array, FileArray):
            return None
        return [self.array.paths[i] for i in sorted(self.array.broken)]

    def digests(self, index: np.ndarray) -> np.ndarray | None:
        """Hash images, (m,) -> (m,) uint64; None for memory maps, which it would read entirely.

        The same pixels have the same hash in arrays and in files.
        """
        if isinstance(self.array, FileArray):
            return self.array.digests[index]
        if self.on_disk:
            return None
        step = max(1, 2**18 // max(1, self.array[:1].nbytes))  # blocks that fit the CPU's cache
        parts = [digests(self.array[index[at : at + step]]) for at in range(0, len(index), step)]
        return np.concatenate([np.zeros(0, np.uint64), *parts])

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Re-raise the original read error in place of TensorFlow's error."""
        try:
            yield
        except tf.errors.OpError:
            if not self.failures:
                raise
        if self.failures:
            raise self.failures[0]

    @cached_property
    def tensor(self) -> tf.Tensor:
        """The images as a tensor on the CPU; one without rows if they are on disk."""
        with tf.device("CPU:0"):
            if self.on_disk:
                return tf.constant(np.empty((0, *self.shape), self.dtype or self.array.dtype))
            return tf.constant(self.array)

    def rows(self, index: np.ndarray) -> np.ndarray:
        """Read the images at the given indices, (m,) -> (m, h, w, c).

        On an error it returns no rows, which ends the pass; `explained` raises the error.
        """
        # Raising inside a graph would make TensorFlow print pages about the error.
        try:
            images = self.array[index if not self.failures else index[:0]]
            return np.ascontiguousarray(images, self.dtype)
        except (OSError, ValueError, ImportError) as error:
            self.failures.append(error)
            return np.empty((0, *self.shape), self.dtype or self.array.dtype)


@dataclass(frozen=True)
class Rows:
    """A selection of images with labels and weights, for one pass of training or scoring."""

    images: Images
    index: np.ndarray  # (m,) int64, possibly with repeats
    y: np.ndarray  # classes (m,) int32, or labels (m, k) float32
    weight: np.ndarray  # (m,), or (m, k) with one weight per label
    copy: np.ndarray | None = None  # (m,) bool: oversampled rows, if only they are augmented

    @classmethod
    def of(cls, images: Images) -> Rows:
        """Select all images in order, for prediction."""
        n = len(images.array)
        return cls(images, np.arange(n), np.zeros(n, np.int32), np.ones(n, np.float32))

    def __len__(self) -> int:
        """Return the number of rows, m."""
        return len(self.index)

    @property
    def columns(self) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Indices, labels and weights as tensors on the CPU; the index of a copy i is ~i."""
        # One bit in the index saves a column everywhere.
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
        index, y, weight = (column[position] for column in (self.index, self.y, self.weight))
        return Rows(self.images, index, y, weight, copy)

    def sample(self, seed: int) -> np.ndarray:
        """Draw up to 512 images, (m, h, w, c); fewer if large, 4 MB as bytes."""
        most = min(512, max(1, 2**22 // int(np.prod(self.images.shape))))
        drawn = np.random.default_rng([seed, 3]).permutation(len(self))[:most]
        return self.images.rows(self.index[np.sort(drawn)])

    def reweighted(self, factor: np.ndarray) -> Rows:
        """Return the rows with weights (m,) multiplied by ``factor``, (m,) or (m, k)."""
        weight = (self.weight.reshape(-1, *[1] * (factor.ndim - 1)) * factor).astype(np.float32)
        return replace(self, weight=weight)


def is_memmap(array: np.ndarray | None) -> bool:
    """Whether an array, or the array that it is a view of, is memory-mapped."""
    return array is not None and any(isinstance(base, np.memmap) for base in _bases(array))


def _bases(array: Any) -> Iterator[Any]:
    while array is not None:
        yield array
        array = getattr(array, "base", None)
