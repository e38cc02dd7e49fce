"""The graphs that read what networks train on.

They depend on images and augmentation but on no network, so that all networks of a process share
them: tracing one takes a third of the time that a small network's own graphs take.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import tensorflow as tf

from kmedclf import mixing, passes
from kmedclf.counting import count
from kmedclf.open_images import OpenImages, signature
from kmedclf.pipeline import Rows

MAX_GRAPHS = 8
"""How many graphs a feed keeps, of those used last."""

_idle: list[Feed] = []


class Feed:
    """Opens streams of training rows, one at a time."""

    def __init__(self) -> None:
        self._images = OpenImages()
        self._graphs: OrderedDict[tuple[Any, ...], Any] = OrderedDict()

    def open(
        self,
        rows: Rows,
        batch_size: int,
        augment: tuple[Any, ...],
        seed: int,
        epochs: tuple[int, int],
        mixes: Mapping[str, float],
        n_classes: int,
    ) -> Any:
        """Open the rows of all epochs, shuffled, augmented and mixed.

        Parameters
        ----------
        rows : Rows
            The rows.
        batch_size : int
            Rows in a gradient step.
        augment : tuple
            As from `kmedclf.augment.resolve`.
        seed : int
            Seed of order, augmentation and mixing.
        epochs : tuple of int
            Number of the first epoch, and of the one after the last.
        mixes : mapping of str to float
            Alpha of each method of `kmedclf.mixing` in use.
        n_classes : int
            Length of a one-hot label.

        Returns
        -------
        tf.data iterator
            Of chunks of whole batches: images, labels, weights.
        """
        images, columns = rows.images.tensor, rows.columns
        tensors = signature(images, *columns)
        methods = tuple(sorted(mixes))
        mixed = methods, n_classes if methods else 0
        static = rows.images.on_disk, augment, rows.copy is not None, *mixed
        key = (*tensors, *static)
        if key not in self._graphs:
            scalars = [tf.TensorSpec([], tf.int64)] * 3 + [tf.TensorSpec([2], tf.int64)]
            given = (*tensors, *scalars, tf.TensorSpec([len(methods)], tf.float32))
            body = partial(self._stream, *static)
            self._graphs[key] = tf.function(body, input_signature=given, autograph=False)
            while len(self._graphs) > MAX_GRAPHS:
                self._graphs.popitem(last=False)
        self._graphs.move_to_end(key)
        number = self._images.number(rows.images)
        alphas = [mixes[name] for name in methods]
        return self._graphs[key](images, *columns, number, batch_size, seed, epochs, alphas)

    def release(self) -> None:
        """Let go of the images read."""
        self._images.close()

    def _stream(
        self,
        on_disk: bool,
        augment: tuple[Any, ...],
        copies: bool,
        methods: tuple[str, ...],
        n_classes: int,
        images: Any,
        *given: Any,
    ) -> Any:
        count("feeds")
        *columns, number, batch_size, seed, epochs, alphas = given
        dataset = passes.make_stream(
            self._images.fetch(images, number, on_disk),
            tuple(images.shape[1:]),
            tuple(columns),
            batch_size,
            seed,
            epochs,
            augment=augment,
            copies=copies,
            keys=bool(methods),
        )
        if methods:
            chosen = {name: alphas[place] for place, name in enumerate(methods)}
            dataset = mixing.mixed(dataset, n_classes, chosen)
        return iter(passes.plain(dataset.prefetch(1)))


@contextmanager
def borrow() -> Iterator[Feed]:
    """Lend a feed, made if none is idle, and take it back afterwards."""
    try:
        feed = _idle.pop()
    except IndexError:
        feed = Feed()
    try:
        yield feed
    finally:
        feed.release()
        _idle.append(feed)


def clear() -> None:
    """Forget all idle feeds."""
    _idle.clear()
