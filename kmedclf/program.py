"""One compiled network: a Keras model, its optimizer and the graph functions that use them.

Every public parameter of an estimator either is in the program's `Spec`, or is a variable that
`Program.reset` sets, or never reaches the graph.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kmedclf import devices, network, pipeline
from kmedclf.network import Spec
from kmedclf.pipeline import Rows

Weights = list[np.ndarray]
NO_SEED = np.zeros(2, np.int32)

_counts: Counter[str] = Counter()
_counting = threading.Lock()


def count(what: str) -> None:
    """Count an event of this process: a build, a trace, a loan."""
    with _counting:
        _counts[what] += 1


def counts() -> dict[str, int]:
    """Return how often what was counted so far."""
    with _counting:
        return {name: _counts[name] for name in ("builds", "traces", "borrowed")}


class Program:
    """One compiled network.

    Parameters
    ----------
    spec : Spec
        What to build.

    Attributes
    ----------
    model : keras.Model
        Maps images to logits; compiled, so that callbacks find ``model.optimizer``.
    """

    def __init__(self, spec: Spec) -> None:
        devices.gpus()
        self.spec = spec
        self.model, self._initializers = network.build(spec)
        self.model.compile(
            optimizer=spec.optimizer,
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
        self.loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=None)
        self._default_learning_rate = float(self.model.optimizer.learning_rate)
        self._optimizer_start: list[Any] | None = None
        self._loaded: Weights | None = None
        self._images: pipeline.Images | None = None
        jit = devices.xla_pays(self.model) if spec.jit_compile == "auto" else spec.jit_compile
        self._jit_compile = jit
        self._steps: dict[Any, Any] = {}
        self._graphs: dict[tuple[Any, ...], Any] = {}
        count("builds")

    # -- state ------------------------------------------------------------------------------

    def reset(self, seed: np.random.SeedSequence, learning_rate: float | None) -> None:
        """Set every variable to its start: weights, statistics, optimizer, seed generators.

        Parameters
        ----------
        seed : numpy.random.SeedSequence
            Determines the initial weights and the seeds of stochastic layers.
        learning_rate : float or None
            Learning rate; None is Keras' default for the optimizer.
        """
        self._loaded = None
        optimizer = self.model.optimizer
        optimizer.learning_rate = self._default_learning_rate
        if self._optimizer_start is None:
            optimizer.build(self.model.trainable_variables)
            self._optimizer_start = [_compact(variable.numpy()) for variable in optimizer.variables]
        for variable, value in zip(optimizer.variables, self._optimizer_start, strict=True):
            variable.assign(np.broadcast_to(value, variable.shape))
        if learning_rate is not None:
            optimizer.learning_rate = learning_rate
        network.initialize(self._initializers, seed)
        self.model.stop_training = False

    def reseed(self, seed: int) -> None:
        """Seed the stochastic layers, so that an epoch's draws depend on nothing before it."""
        network.reseed(self._initializers, seed)

    def load(self, weights: Weights) -> None:
        """Put a fitted estimator's weights into the model, unless they are there already."""
        if self._loaded is not weights:
            self.model.set_weights(weights)
            self._loaded = weights

    @property
    def n_params(self) -> tuple[int, int]:
        """Numbers of trainable and of other weights."""
        kinds = self.model.trainable_weights, self.model.non_trainable_weights
        trainable, other = (sum(int(np.prod(v.shape)) for v in kind) for kind in kinds)
        return trainable, other

    def weights(self) -> Weights:
        """Copy the model's weights out, trainable or not, in Keras' order."""
        return [np.array(variable) for variable in self.model.weights]

    def optimizer_state(self) -> Weights:
        """Copy the optimizer's variables out."""
        return [np.array(variable) for variable in self.model.optimizer.variables]

    def load_optimizer(self, state: Sequence[np.ndarray]) -> None:
        """Continue with the optimizer's variables of an earlier fit, its learning rate excepted."""
        learning_rate = float(self.model.optimizer.learning_rate)
        for variable, value in zip(self.model.optimizer.variables, state, strict=True):
            variable.assign(value)
        self.model.optimizer.learning_rate = learning_rate

    def release(self) -> None:
        """Let go of the last images read."""
        self._images = None

    # -- graph functions ---------------------------------------------------------------------

    def train_epoch(
        self, rows: Rows, batch_size: int, augment: tuple[str, ...], seed: np.ndarray
    ) -> tuple[float, float]:
        """Train one pass over the rows, in their order, in one graph call.

        Parameters
        ----------
        rows : Rows
            The rows, shuffled.
        batch_size : int
            Rows in a gradient step.
        augment : tuple of str
            Names of augmentation sets.
        seed : ndarray of shape (2,), int32
            Seed of the augmentation.

        Returns
        -------
        loss, accuracy : float
            Means over the rows, as seen during training; the loss is weighted.
        """
        images = self._read(rows)
        graph = self._graph(self._train_epoch, images, rows.images.on_disk, augment)
        loss, hits = graph(images, *rows.columns, tf.constant(batch_size, tf.int64), seed)
        return float(loss) / len(rows), float(hits) / len(rows)

    def batches(
        self, rows: Rows, batch_size: int, augment: tuple[str, ...], seed: np.ndarray
    ) -> tf.data.Dataset:
        """Give the batches `train_epoch` sees, for those who must look at each."""
        size = tf.constant(batch_size, tf.int64)
        fetch = self._fetch(self._read(rows), rows.images.on_disk)
        return self._dataset(fetch, rows.columns, size, augment, tf.constant(seed))

    def logits(self, rows: Rows) -> np.ndarray:
        """Compute the logits of rows, float32 (m, k)."""
        images = self._read(rows)
        graph = self._graph(self._all_logits, images, rows.images.on_disk)
        size = pipeline.inference_batch_size(self.spec.image_shape)
        return graph(images, *rows.columns, tf.constant(size, tf.int64), NO_SEED).numpy()

    def train_step(
        self, x: tf.Tensor, y: tf.Tensor, weight: tf.Tensor, *, whole: bool = True
    ) -> tuple[Any, Any]:
        """Take one gradient step; the same graph within `train_epoch` and outside it.

        Parameters
        ----------
        x : tf.Tensor of shape (b, h, w, c)
            Images.
        y : tf.Tensor of shape (b,), int32
            Their classes.
        weight : tf.Tensor of shape (b,), float32
            Their weights in the loss.
        whole : bool, default=True
            Whether this is a batch of full size. XLA compiles once for every size, and for the
            few rows at the end of an epoch that would take longer than it saves.

        Returns
        -------
        loss, hits : tf.Tensor of shape ()
            Sum of the losses, and number of images whose class was right.
        """
        jit = self._jit_compile and whole
        if (x.dtype, jit) not in self._steps:
            signature = (
                tf.TensorSpec([None, *self.spec.image_shape], x.dtype),
                tf.TensorSpec([None], tf.int32),
                tf.TensorSpec([None], tf.float32),
            )
            self._steps[x.dtype, jit] = tf.function(
                self._train_step, input_signature=signature, jit_compile=jit
            )
        return self._steps[x.dtype, jit](x, y, weight)

    def _read(self, rows: Rows) -> tf.Tensor:
        self._images = rows.images
        return rows.images.tensor

    def _graph(self, body: Callable[..., Any], images: tf.Tensor, *static: Any) -> Any:
        """Return ``body`` as a graph function, traced once for any number of rows."""
        key = (body.__name__, images.dtype, *static)
        if key not in self._graphs:
            signature = (
                tf.TensorSpec([None, *self.spec.image_shape], images.dtype),  # images
                tf.TensorSpec([None], tf.int64),  # index
                tf.TensorSpec([None], tf.int32),  # y
                tf.TensorSpec([None], tf.float32),  # weight
                tf.TensorSpec([], tf.int64),  # batch size
                tf.TensorSpec([2], tf.int32),  # seed
            )
            self._graphs[key] = tf.function(partial(body, *static), input_signature=signature)
        return self._graphs[key]

    def _train_step(self, x: tf.Tensor, y: tf.Tensor, weight: tf.Tensor) -> tuple[Any, Any]:
        count("traces")
        optimizer = self.model.optimizer
        with tf.GradientTape() as tape:
            logits = self.model(tf.cast(x, tf.float32), training=True)  # (b, k)
            # Divided by the number of rows, not by the sum of weights: as Keras does.
            loss = tf.reduce_mean(self.loss(y, logits) * weight) + sum(self.model.losses)
            scaled = optimizer.scale_loss(loss)
        variables = self.model.trainable_variables
        optimizer.apply(tape.gradient(scaled, variables), variables)
        rows = tf.cast(tf.shape(y)[0], tf.float32)
        hits = tf.reduce_sum(tf.cast(tf.argmax(logits, -1, tf.int32) == y, tf.float32))
        return loss * rows, hits

    def _train_epoch(
        self, on_disk: bool, augment: tuple[str, ...], images: Any, *given: Any
    ) -> tuple[Any, Any]:
        *columns, batch_size, seed = given
        fetch = self._fetch(images, on_disk)
        dataset = self._dataset(fetch, tuple(columns), batch_size, augment, seed)
        batches = iter(dataset)
        loss, hits = tf.zeros(()), tf.zeros(())
        rows = tf.size(columns[0], tf.int64)
        whole, steps = rows // batch_size, (rows + batch_size - 1) // batch_size
        for _ in tf.range(whole if self._jit_compile else steps):
            step_loss, step_hits = self.train_step(*next(batches))
            loss, hits = loss + step_loss, hits + step_hits
        if self._jit_compile and whole < steps:
            step_loss, step_hits = self.train_step(*next(batches), whole=False)
            loss, hits = loss + step_loss, hits + step_hits
        return loss, hits

    def _all_logits(self, on_disk: bool, images: Any, index: Any, *given: Any) -> Any:
        count("traces")
        batch_size = given[-2]
        dataset = self._dataset(self._fetch(images, on_disk), (index,), batch_size)
        batches = iter(dataset)
        steps = tf.cast((tf.size(index, tf.int64) + batch_size - 1) // batch_size, tf.int32)
        logits = tf.TensorArray(tf.float32, steps, infer_shape=False)
        for step in tf.range(steps):
            (x,) = next(batches)
            logits = logits.write(step, self.model(tf.cast(x, tf.float32), training=False))
        return logits.concat()

    def _dataset(self, fetch: pipeline.Fetch, *arguments: Any) -> tf.data.Dataset:
        return pipeline.make_dataset(fetch, self.spec.image_shape, *arguments)

    def _fetch(self, images: Any, on_disk: bool) -> pipeline.Fetch:
        if not on_disk:
            return lambda index: tf.gather(images, index)

        def rows(index: np.ndarray) -> np.ndarray:
            assert self._images is not None  # no graph runs but between `_read` and `release`
            return self._images.rows(index)

        def read(index: Any) -> Any:
            batch = tf.numpy_function(rows, [index], images.dtype)
            return tf.ensure_shape(batch, [None, *self.spec.image_shape])

        return read


def _compact(value: np.ndarray) -> np.ndarray:
    """Keep one number where all are alike: Adam's zeros need not be held in full."""
    first = value.reshape(-1)[:1]
    return first[0] if value.size and np.all(value == first) else value
