"""What networks train on, chunk by chunk.

Images in memory are gathered by the graph that trains: batch by batch, or, where they are augmented
as well, chunk by chunk during the steps of the chunk before. Images on disk come from tf.data,
whose threads wait for files, and so do all on their way to a GPU. A chunk is the same either way.
The graphs that read depend on no network, so that all of a process share them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from typing import Any, ClassVar

import tensorflow as tf

from kmedclf import devices, forks, network, passes
from kmedclf.counting import count
from kmedclf.open_images import OpenImages, signature
from kmedclf.pipeline import Rows

MAX_GRAPHS = 8
"""How many graphs of either kind are kept, and how many a program keeps, of those used last."""

_COUNT = tf.TensorSpec([], tf.int64)
_POSITION = tf.TensorSpec([None, None], tf.int64), tf.TensorSpec([None, 2], tf.int32)

_idle: list[Feed] = []


@dataclass(frozen=True)
class Gathered:
    """Rows of images in memory, to be read by the graph that trains.

    Attributes
    ----------
    read : callable
        Maps the number of a chunk and `arguments` to images, labels and weights, in a graph or
        outside. It is the same object for rows of the same kind, and holds no images.
    late : bool
        Whether chunks hold the indices of images, which are gathered batch by batch.
    ahead : tuple of tf.TensorSpec
        What a chunk is like, where the graph should read one during the steps of the one before.
    """

    read: Any
    given: tuple[Any, ...]
    n_rows: int
    size: int
    seed: int
    late: bool

    @cached_property
    def ahead(self) -> tuple[tf.TensorSpec, ...]:
        """Describe a chunk."""
        if self.late:
            return ()
        columns = network.traced(self.read.get_concrete_function).outputs
        return tuple(tf.TensorSpec(column.shape, column.dtype) for column in columns)

    @cached_property
    def signature(self) -> tuple[Any, ...]:
        """Describe `arguments` to a graph."""
        return *signature(*self.given), *_POSITION

    def arguments(self, epoch: int) -> tuple[Any, ...]:
        """Return what ``read`` takes in an epoch."""
        # Of nothing but indices an epoch is one chunk.
        size = -(-self.n_rows // self.size) * self.size if self.late else self.size
        return *self.given, *passes.plan(self.seed, epoch, self.n_rows, size)

    def chunks(self, epoch: int) -> Iterator[tuple[Any, ...]]:
        """Read an epoch outside a graph."""
        given = [tf.convert_to_tensor(one) for one in self.arguments(epoch)]
        if not self.late:
            for number in range(-(-self.n_rows // self.size)):
                yield self.read(number, *given)
            return
        columns = self.read(0, *given)
        for start in range(0, self.n_rows, self.size):
            index, *others = (column[start : start + self.size] for column in columns)
            yield tf.gather(given[0], index), *others


@dataclass(frozen=True)
class Streamed:
    """Rows out of tf.data, epoch after epoch; as `Gathered`."""

    iterator: Any
    n_rows: int
    late: ClassVar[bool] = False
    ahead: ClassVar[tuple[tf.TensorSpec, ...]] = ()

    @cached_property
    def signature(self) -> tuple[Any, ...]:
        """Describe `arguments` to a graph."""
        return (tf.data.IteratorSpec(self.iterator.element_spec),)

    @staticmethod
    def read(number: Any, iterator: Any) -> tuple[Any, ...]:
        """Take the next chunk, and bring it to the device that trains."""
        return tuple(tf.identity(column) for column in iterator.get_next())

    def arguments(self, epoch: int) -> tuple[Any, ...]:
        """Return what ``read`` takes; epochs follow one another."""
        return (self.iterator,)

    def chunks(self, epoch: int) -> Iterator[tuple[Any, ...]]:
        """Read an epoch outside a graph."""
        seen = 0
        while seen < self.n_rows:
            chunk = next(self.iterator)
            yield chunk
            seen += len(chunk[1])


class Feed:
    """Opens training rows, those of one training at a time."""

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
    ) -> Gathered | Streamed:
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
        Gathered or Streamed
            Chunks of whole batches: images, labels, weights.
        """
        images, tensors = rows.images, (rows.images.tensor, *rows.columns)
        methods = tuple(sorted(mixes))
        how = augment, rows.copy is not None, methods, n_classes if methods else 0
        given = *tensors, tf.constant([mixes[name] for name in methods], tf.float32)
        size = passes.chunk_size(images.shape, batch_size, augmented=bool(augment))
        if not (images.on_disk or devices.gpus()):
            late = not (augment or methods)
            read = _gather(signature(*given), how, late)
            return Gathered(read, given, len(rows), size, seed, late)
        graph = self._graph(signature(*given), images.on_disk, how)
        numbers = self._images.number(images), len(rows), size, seed, epochs
        network.traced(graph.get_concrete_function)  # unless it is
        return Streamed(graph(*given, *numbers), len(rows))

    def release(self) -> None:
        """Let go of the images read."""
        self._images.close()

    def _graph(self, tensors: tuple[Any, ...], on_disk: bool, how: tuple[Any, ...]) -> Any:
        key = tensors, on_disk, how
        if key not in self._graphs:
            given = *tensors, *[_COUNT] * 4, tf.TensorSpec([2], tf.int64)
            body = partial(self._stream, on_disk, how)
            self._graphs[key] = tf.function(body, input_signature=given, autograph=False)
            while len(self._graphs) > MAX_GRAPHS:
                self._graphs.popitem(last=False)
        self._graphs.move_to_end(key)
        return self._graphs[key]

    def _stream(self, on_disk: bool, how: tuple[Any, ...], *given: Any) -> Any:
        count("feeds")
        images, *columns, alphas, number, n_rows, size, seed, epochs = given
        fetch = self._images.fetch(images, number, on_disk)
        load = partial(_chunk, how, fetch, tuple(columns), alphas)
        return iter(passes.make_stream(load, n_rows, size, seed, epochs))


def _chunk(how: tuple[Any, ...], fetch: Any, columns: Any, alphas: Any, *which: Any) -> Any:
    augment, copies, methods, n_classes = how
    named = {name: alphas[number] for number, name in enumerate(methods)}
    options = {"augment": augment, "copies": copies, "n_classes": n_classes, "alphas": named}
    return passes.chunk(fetch, columns, *which, **options)


@lru_cache(maxsize=MAX_GRAPHS)
def _gather(tensors: tuple[Any, ...], how: tuple[Any, ...], late: bool) -> Any:
    """Make the graph function that reads one chunk of images in memory, or ``late``, of indices."""

    def body(number: Any, images: Any, *given: Any) -> Any:
        count("feeds")
        *columns, alphas, position, key = given
        fetch = tf.identity if late else partial(tf.gather, images)
        return _chunk(how, fetch, tuple(columns), alphas, position[number], key[number])

    given = tf.TensorSpec([], tf.int32), *tensors, *_POSITION
    return tf.function(body, input_signature=given, autograph=False)


@contextmanager
def borrow() -> Iterator[Feed]:
    """Lend a feed, made if none is idle, and take it back unless something went wrong.

    A feed costs nothing to make but its graphs; what an error left of them is not looked into.
    """
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
    _gather.cache_clear()


def after_fork() -> None:
    """Keep the parent's feeds and graphs, of no use in a child: destroying them would crash it."""
    global _idle, _gather
    forks.keep(_idle, _gather)
    _idle, _gather = [], lru_cache(maxsize=MAX_GRAPHS)(_gather.__wrapped__)
