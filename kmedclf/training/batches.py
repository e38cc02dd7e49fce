"""Batches for training and for scoring.

indices -> shuffle -> chunk of batches -> fetch images -> augment and mix (training only)

All of this runs in graphs whose inputs are tensors, so that a new fit traces nothing again.
"""

from __future__ import annotations

import itertools
import os
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf

from kmedclf.augmentation import make, mixing
from kmedclf.inputs.images import Images, Rows
from kmedclf.training import devices, network
from kmedclf.training.network import count
from kmedclf.utils import forks

Fetch = Callable[[Any], Any]

MAX_AUGMENTED_AT_ONCE = 128
"""Images augmented at once, unless a batch is larger. Without augmentation four times as many."""


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
    """Read a chunk: images (b, h, w, c) and the other columns, (b,) or (b, k).

    ``columns`` starts with the image indices. ``position`` is padded with -1 to a full chunk.
    With ``copies``, only the duplicates of oversampling are augmented.
    """
    size = tf.size(position)  # before the padding is cut off: augmentation is compiled for it
    position = position[: tf.math.count_nonzero(position >= 0)]
    index, *others = (tf.gather(column, position) for column in columns)
    # An index of -1 - i is a duplicate of image i.
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
    """Choose how many rows to read at once: whole batches, about 128 images if augmented."""
    # Each read has a fixed cost. All chunks have one size, as augmentation is compiled for it.
    most = _most(shape) * (1 if augmented else 4)
    return batch_size * max(most // batch_size, 1)


def make_stream(
    load: Callable[[Any, Any], Any], n_rows: Any, size: Any, seed: Any, epochs: Any
) -> tf.data.Dataset:
    """Make the dataset of all chunks of a training; no chunk crosses an epoch.

    ``epochs`` is the number of the first epoch and the one after the last.
    """

    def one_epoch(number: Any) -> tf.data.Dataset:
        given = seed, number, n_rows, size
        position, key = tf.numpy_function(plan, given, (tf.int64, tf.int32))
        position, key = tf.ensure_shape(position, [None, None]), tf.ensure_shape(key, [None, 2])
        return tf.data.Dataset.from_tensor_slices((position, key))

    # One dataset for all epochs: starting one takes longer than a small epoch.
    with tf.device("CPU:0"):
        dataset = tf.data.Dataset.range(*tf.unstack(epochs)).flat_map(one_epoch)
        return plain(dataset.map(load).prefetch(1))


def plan(seed: int, epoch: int, n: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw the rows and the augmentation seed of every chunk, from seed and epoch alone.

    Returns positions (n_chunks, size), padded with -1, and keys (n_chunks, 2).
    """
    generator = np.random.default_rng([seed, 1, epoch])
    n_chunks = -(-n // size)
    position = np.full(n_chunks * size, -1, np.int64)
    position[:n] = generator.permutation(n)
    key = generator.integers(2**30, size=(n_chunks, 2), dtype=np.int32)
    return position.reshape(n_chunks, size), key


def _augmented(images: Any, augment: tuple[Any, ...], key: Any, size: Any) -> Any:
    """Augment a chunk in pieces of about 8 MB, padded so that all have the same shape."""
    # As floats, images take four times the memory of bytes, and an augmentation step may hold
    # several copies.
    shape = images.shape[1:]
    most = max(1, 2**21 // int(np.prod(shape)))
    pieces = 1 if most > MAX_AUGMENTED_AT_ONCE else -(-size // most)
    piece = -(-size // pieces)
    n = tf.shape(images)[0]

    def one(number: Any) -> Any:
        part = images[number * piece : (number + 1) * piece]
        part = tf.pad(part, [[0, piece - tf.shape(part)[0]], [0, 0], [0, 0], [0, 0]])
        augmented = make(augment, images.dtype)(part, key + tf.stack([number, 0]))
        if images.dtype.is_integer:  # back to bytes: a quarter of the memory of float32
            augmented = tf.saturate_cast(tf.round(augmented), images.dtype)
        return tf.ensure_shape(augmented, [None, *shape])

    if most > MAX_AUGMENTED_AT_ONCE:  # one piece needs no loop
        return one(0)[:n]
    kind = images.dtype
    augmented = tf.map_fn(one, tf.range(pieces), fn_output_signature=kind, parallel_iterations=1)
    return tf.reshape(augmented, [-1, *shape])[:n]


def make_dataset(fetch: Fetch, index: tf.Tensor, batch_size: tf.Tensor) -> tf.data.Dataset:
    """Make a dataset of image batches (b, h, w, c) at the indices, in order."""
    with tf.device("CPU:0"):
        dataset = tf.data.Dataset.from_tensor_slices(index).batch(batch_size)
        return plain(dataset.map(fetch).prefetch(2))


def plain(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Turn off tf.data's graph rewriting, which takes longer than a small epoch."""
    # Small pipelines have nothing to fuse or to tune; this saves a third of their starting time.
    options = tf.data.Options()
    options.experimental_optimization.apply_default_optimizations = False
    options.autotune.enabled = False
    return dataset.with_options(options)


def _most(shape: tuple[int, int, int]) -> int:
    """Choose how many images to augment at once: 8 to 128, of about 2 MB."""
    # The last chunk is padded, so that larger chunks would augment more padding.
    return int(np.clip(2**19 // int(np.prod(shape)), 8, MAX_AUGMENTED_AT_ONCE))


def inference_batch_size(shape: tuple[int, int, int]) -> int:
    """Choose how many images to score at once: 64, or fewer if larger than 100 pixels."""
    # More is not faster, and activations of a wide layer take a megabyte per image.
    return int(np.clip(2**21 // int(np.prod(shape)), 8, 64))


_numbers = itertools.count()


class OpenImages:
    """Images that graphs look up by number, because graphs outlive them."""

    def __init__(self) -> None:
        self._known: dict[int, Images] = {}

    def number(self, images: Images) -> int:
        """Register images and return their number."""
        # Training and validation may have different images open at a time.
        for number, known in self._known.items():
            if known is images:
                return number
        # Never reuse a number: a thread may still be reading for a pass that failed, and must not
        # get the images of the next.
        number = next(_numbers)
        self._known[number] = images
        return number

    def close(self) -> None:
        """Forget all images."""
        self._known.clear()

    def fetch(self, tensor: Any, number: Any, on_disk: bool) -> Fetch:
        """Return the function from indices (b,) to images (b, h, w, c), inside a graph."""
        if not on_disk:
            return lambda index: tf.gather(tensor, index)

        def rows(number: int, index: np.ndarray) -> np.ndarray:
            return self._known[number].rows(index)

        def read(index: Any) -> Any:
            batch = tf.numpy_function(rows, [number, index], tensor.dtype)
            return tf.ensure_shape(batch, [None, *tensor.shape[1:]])

        return read


def signature(*tensors: tf.Tensor) -> tuple[tf.TensorSpec, ...]:
    """Return the specs of images and row columns, for any number of rows."""
    return tuple(tf.TensorSpec([None, *t.shape[1:]], t.dtype) for t in tensors)


MAX_GRAPHS = 8
"""Graphs to keep before the least recently used is evicted, here and in each compiled network."""

_COUNT = tf.TensorSpec([], tf.int64)
_POSITION = tf.TensorSpec([None, None], tf.int64), tf.TensorSpec([None, 2], tf.int32)


@dataclass(frozen=True)
class InMemoryBatches:
    """Training batches of images in memory, read by the graph that trains.

    ``read`` is the same object for rows of the same kind, and holds no images.
    """

    read: Any  # (chunk number, *arguments) -> images, labels, weights
    given: tuple[Any, ...]
    n_rows: int  # in an epoch
    size: int  # rows in a chunk
    seed: int
    gather_in_step: bool  # chunks hold indices, and images are gathered batch by batch

    @cached_property
    def prefetch_spec(self) -> tuple[tf.TensorSpec, ...]:
        """Specs of a chunk that the graph reads during the steps of the one before."""
        if self.gather_in_step:
            return ()
        columns = network.traced(self.read.get_concrete_function).outputs
        return tuple(tf.TensorSpec(column.shape, column.dtype) for column in columns)

    @cached_property
    def signature(self) -> tuple[Any, ...]:
        """Specs of `arguments`."""
        return *signature(*self.given), *_POSITION

    def arguments(self, epoch: int) -> tuple[Any, ...]:
        """Return what ``read`` takes in an epoch."""
        # Indices are small: the whole epoch is one chunk.
        size = -(-self.n_rows // self.size) * self.size if self.gather_in_step else self.size
        return *self.given, *plan(self.seed, epoch, self.n_rows, size)

    def chunks(self, epoch: int) -> Iterator[tuple[Any, ...]]:
        """Read an epoch outside a graph."""
        given = [tf.convert_to_tensor(argument) for argument in self.arguments(epoch)]
        if not self.gather_in_step:
            for number in range(-(-self.n_rows // self.size)):
                yield self.read(number, *given)
            return
        columns = self.read(0, *given)
        for start in range(0, self.n_rows, self.size):
            index, *others = (column[start : start + self.size] for column in columns)
            yield tf.gather(given[0], index), *others


@dataclass(frozen=True)
class StreamedBatches:
    """Training batches out of tf.data; same interface as `InMemoryBatches`."""

    iterator: Any
    n_rows: int
    gather_in_step: ClassVar[bool] = False
    prefetch_spec: ClassVar[tuple[tf.TensorSpec, ...]] = ()

    @cached_property
    def signature(self) -> tuple[Any, ...]:
        """Specs of `arguments`."""
        return (tf.data.IteratorSpec(self.iterator.element_spec),)

    @staticmethod
    def read(number: Any, iterator: Any) -> tuple[Any, ...]:
        """Take the next chunk, and copy it to the training device."""
        return tuple(tf.identity(column) for column in iterator.get_next())

    def arguments(self, epoch: int) -> tuple[Any, ...]:
        """Return what ``read`` takes; the iterator keeps the order of epochs."""
        return (self.iterator,)

    def chunks(self, epoch: int) -> Iterator[tuple[Any, ...]]:
        """Read an epoch outside a graph."""
        seen = 0
        while seen < self.n_rows:
            chunk = next(self.iterator)
            yield chunk
            seen += len(chunk[1])


class Feed:
    """Opens the batches of one training at a time, and keeps the graphs for the next."""

    _idle: ClassVar[list[Feed]] = []

    def __init__(self) -> None:
        self._images = OpenImages()
        self._graphs: OrderedDict[tuple[Any, ...], Any] = OrderedDict()

    @classmethod
    @contextmanager
    def borrow(cls) -> Iterator[Feed]:
        """Lend an idle feed or a new one; a feed is dropped after an error."""
        # An error may leave a feed's graphs in any state, and a new feed costs only its graphs.
        try:
            feed = cls._idle.pop()
        except IndexError:
            feed = Feed()
        try:
            yield feed
        finally:
            feed.release()
        cls._idle.append(feed)

    @classmethod
    def clear(cls) -> None:
        """Drop all idle feeds."""
        cls._idle.clear()
        _gather.cache_clear()

    def open(
        self,
        rows: Rows,
        batch_size: int,
        augment: tuple[Any, ...],
        seed: int,
        epochs: tuple[int, int],
        mixes: Mapping[str, float],
        n_classes: int,
    ) -> InMemoryBatches | StreamedBatches:
        """Open the rows of all epochs: shuffled, augmented and mixed.

        ``mixes`` maps each method of `kmedclf.augmentation.mixing` to its alpha.
        """
        images, tensors = rows.images, (rows.images.tensor, *rows.columns)
        methods = tuple(sorted(mixes))
        how = augment, rows.copy is not None, methods, n_classes if methods else 0
        given = *tensors, tf.constant([mixes[name] for name in methods], tf.float32)
        size = chunk_size(images.shape, batch_size, augmented=bool(augment))
        if not (images.on_disk or devices.gpus()):
            gather_in_step = not (augment or methods)
            read = _gather(signature(*given), how, gather_in_step)
            return InMemoryBatches(read, given, len(rows), size, seed, gather_in_step)
        graph = self._graph(signature(*given), images.on_disk, how)
        numbers = self._images.number(images), len(rows), size, seed, epochs
        network.traced(graph.get_concrete_function)  # a no-op after the first call
        return StreamedBatches(graph(*given, *numbers), len(rows))

    def release(self) -> None:
        """Release the images of the last training."""
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
        return iter(make_stream(load, n_rows, size, seed, epochs))


def _chunk(how: tuple[Any, ...], fetch: Any, columns: Any, alphas: Any, *which: Any) -> Any:
    augment, copies, methods, n_classes = how
    named = {name: alphas[number] for number, name in enumerate(methods)}
    options = {"augment": augment, "copies": copies, "n_classes": n_classes, "alphas": named}
    return chunk(fetch, columns, *which, **options)


@lru_cache(maxsize=MAX_GRAPHS)
def _gather(tensors: tuple[Any, ...], how: tuple[Any, ...], gather_in_step: bool) -> Any:
    """Make the graph that reads a chunk of images in memory, or their indices only."""

    def body(number: Any, images: Any, *given: Any) -> Any:
        count("feeds")
        *columns, alphas, position, key = given
        fetch = tf.identity if gather_in_step else partial(tf.gather, images)
        return _chunk(how, fetch, tuple(columns), alphas, position[number], key[number])

    given = tf.TensorSpec([], tf.int32), *tensors, *_POSITION
    return tf.function(body, input_signature=given, autograph=False)


def _after_fork() -> None:
    """Replace feeds and graphs in a child process."""
    # Destroying the parent's objects would crash the child.
    global _gather
    forks.keep(Feed._idle, _gather)
    Feed._idle, _gather = [], lru_cache(maxsize=MAX_GRAPHS)(_gather.__wrapped__)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
