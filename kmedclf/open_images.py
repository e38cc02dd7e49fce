"""The images that a program's graphs read: tensors in memory, or numbers of those on disk."""

from __future__ import annotations

from itertools import count
from typing import Any

import numpy as np
import tensorflow as tf

from kmedclf.passes import Fetch
from kmedclf.pipeline import Images

_numbers = count()


class OpenImages:
    """Images known to graphs by a number, because graphs outlive them."""

    def __init__(self) -> None:
        self._known: dict[int, Images] = {}

    def number(self, images: Images) -> int:
        """Make images known; training and validation may have different ones at a time."""
        for number, known in self._known.items():
            if known is images:
                return number
        # Never one that was used before: a thread that still reads for a pass that failed must
        # not find the images of the next.
        number = next(_numbers)
        self._known[number] = images
        return number

    def close(self) -> None:
        """Forget all images."""
        self._known.clear()

    def fetch(self, tensor: Any, number: Any, on_disk: bool) -> Fetch:
        """Make the function from indices (b,) to images (b, h, w, c), inside a graph.

        Parameters
        ----------
        tensor : tf.Tensor of shape (n, h, w, c)
            The images in memory; of those on disk, shape and dtype.
        number : tf.Tensor of shape (), int64
            Their number.
        on_disk : bool
            Whether to read them from disk.
        """
        if not on_disk:
            return lambda index: tf.gather(tensor, index)

        def rows(number: int, index: np.ndarray) -> np.ndarray:
            return self._known[number].rows(index)

        def read(index: Any) -> Any:
            batch = tf.numpy_function(rows, [number, index], tensor.dtype)
            return tf.ensure_shape(batch, [None, *tensor.shape[1:]])

        return read


def signature(*tensors: tf.Tensor) -> tuple[tf.TensorSpec, ...]:
    """Describe images and columns of their rows to a graph, for any number of either."""
    return tuple(tf.TensorSpec([None, *one.shape[1:]], one.dtype) for one in tensors)
