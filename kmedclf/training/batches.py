"""From rows to the images of a training, or of a pass of scoring.

indices -> shuffle -> chunk of batches -> fetch the images -> augment, mix (training only)

All this happens inside graphs, from tensors, so that no fit traces them anew.
"""

from __future__ import annotations

import itertools
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
from kmedclf.training.counting import count
from kmedclf.utils import forks

Fetch = Callable[[Any], Any]

MAX_AUGMENTED_AT_ONCE = 128
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
        As from `kmedclf.augmentation.resolve`. Images keep their dtype: what was drawn between two
        integers is rounded.
    copies : bool, default=False
        Whether only copies are augmented; see `kmedclf.inputs.images.Rows`.
    n_classes : int
        Length of a one-hot label, where images are mixed.
    alphas : mapping of str to tf.Tensor of shape (), float32, optional
        Alpha of each method of `kmedclf.augmentation.mixing` in use.

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
    pieces = 1 if most > MAX_AUGMENTED_AT_ONCE else -(-size // most)
    piece = -(-size // pieces)
    n = tf.shape(images)[0]

    def one(number: Any) -> Any:
        part = images[number * piece : (number + 1) * piece]
        part = tf.pad(part, [[0, piece - tf.shape(part)[0]], [0, 0], [0, 0], [0, 0]])
        augmented = make(augment, images.dtype)(part, key + tf.stack([number, 0]))
        if images.dtype.is_integer:  # a quarter of the memory of float32, or half of it
            augmented = tf.saturate_cast(tf.round(augmented), images.dtype)
        return tf.ensure_shape(augmented, [None, *shape])

    if most > MAX_AUGMENTED_AT_ONCE:  # a loop takes time
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
    return int(np.clip(2**19 // int(np.prod(shape)), 8, MAX_AUGMENTED_AT_ONCE))


def inference_batch_size(shape: tuple[int, int, int]) -> int:
    """Choose how many images to score at once: 64, fewer of more than 100 pixels a side.

    More would not be faster, and the activations of a wide layer take a megabyte an image.
    """
    return int(np.clip(2**21 // int(np.prod(shape)), 8, 64))


_numbers = itertools.count()


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


MAX_GRAPHS = 8
"""How many graphs of either kind are kept, and how many a program keeps, of those used last."""

_COUNT = tf.TensorSpec([], tf.int64)
_POSITION = tf.TensorSpec([None, None], tf.int64), tf.TensorSpec([None, 2], tf.int32)

_idle: list[Feed] = []


@dataclass(frozen=True)
class InMemoryBatches:
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
        return *self.given, *plan(self.seed, epoch, self.n_rows, size)

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
class StreamedBatches:
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
    ) -> InMemoryBatches | StreamedBatches:
        """Open the rows of all epochs, shuffled, augmented and mixed.

        Parameters
        ----------
        rows : Rows
            The rows.
        batch_size : int
            Rows in a gradient step.
        augment : tuple
            As from `kmedclf.augmentation.resolve`.
        seed : int
            Seed of order, augmentation and mixing.
        epochs : tuple of int
            Number of the first epoch, and of the one after the last.
        mixes : mapping of str to float
            Alpha of each method of `kmedclf.augmentation.mixing` in use.
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
        size = chunk_size(images.shape, batch_size, augmented=bool(augment))
        if not (images.on_disk or devices.gpus()):
            late = not (augment or methods)
            read = _gather(signature(*given), how, late)
            return InMemoryBatches(read, given, len(rows), size, seed, late)
        graph = self._graph(signature(*given), images.on_disk, how)
        numbers = self._images.number(images), len(rows), size, seed, epochs
        network.traced(graph.get_concrete_function)  # unless it is
        return StreamedBatches(graph(*given, *numbers), len(rows))

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
        return iter(make_stream(load, n_rows, size, seed, epochs))


def _chunk(how: tuple[Any, ...], fetch: Any, columns: Any, alphas: Any, *which: Any) -> Any:
    augment, copies, methods, n_classes = how
    named = {name: alphas[number] for number, name in enumerate(methods)}
    options = {"augment": augment, "copies": copies, "n_classes": n_classes, "alphas": named}
    return chunk(fetch, columns, *which, **options)


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
