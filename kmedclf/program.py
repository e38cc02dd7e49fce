"""One compiled network: a Keras model, its optimizer and the graph functions that use them.

Every public parameter of an estimator either is in the program's `Spec`, or is a variable that
`Program.reset` sets, or never reaches the graph.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kmedclf import devices, mixing, network, optimizers, pipeline, step
from kmedclf.counting import count
from kmedclf.network import Spec
from kmedclf.pipeline import Rows

Weights = list[np.ndarray]
NO_SEED = np.zeros(2, np.int32)
NO_RATES = np.zeros(0, np.float32)


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
            optimizer=optimizers.make(spec),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
        self.loss = step.make_loss(spec)
        self._options = dict(spec.options)
        self._knobs = {name: tf.Variable(0.0, trainable=False) for name in step.KNOBS}
        if "weight_decay" in self._options:
            optimizers.decay_kernels(self.model, self._knobs["weight_decay"])
        self._default_learning_rate = float(self.model.optimizer.learning_rate)
        self._optimizer_start: list[Any] | None = None
        self._loaded: Weights | None = None
        self._images: pipeline.Images | None = None
        jit = devices.xla_pays(self.model) if spec.jit_compile == "auto" else spec.jit_compile
        self._jit_compile = jit and "accumulate_steps" not in self._options
        self._steps: dict[Any, Any] = {}
        self._graphs: dict[tuple[Any, ...], Any] = {}
        count("builds")

    # -- state ------------------------------------------------------------------------------

    def reset(
        self, seed: np.random.SeedSequence, learning_rate: float | None, knobs: Mapping[str, float]
    ) -> None:
        """Set every variable to its start: weights, statistics, optimizer, seed generators.

        Parameters
        ----------
        seed : numpy.random.SeedSequence
            Determines the initial weights and the seeds of stochastic layers.
        learning_rate : float or None
            Learning rate; None is Keras' default for the optimizer.
        knobs : mapping of str to float
            A number for each of `kmedclf.step.KNOBS`, by default 0.
        """
        self._loaded = None
        optimizer = self.model.optimizer
        optimizer.learning_rate = self._default_learning_rate
        if self._optimizer_start is None:
            self._optimizer_start = optimizers.start(optimizer, self.model.trainable_variables)
        optimizers.assign(optimizer, self._optimizer_start)
        if learning_rate is not None:
            optimizer.learning_rate = learning_rate
        for name, knob in self._knobs.items():
            knob.assign(knobs.get(name, 0.0))
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
        optimizers.assign(self.model.optimizer, state)
        self.model.optimizer.learning_rate = learning_rate

    def release(self) -> None:
        """Let go of the last images read."""
        self._images = None

    # -- graph functions ---------------------------------------------------------------------

    def train_epoch(
        self,
        rows: Rows,
        batch_size: int,
        augment: tuple[Any, ...],
        seed: np.ndarray,
        rates: np.ndarray | None = None,
    ) -> tuple[float, float]:
        """Train one pass over the rows, in their order, in one graph call.

        Parameters
        ----------
        rows : Rows
            The rows, shuffled.
        batch_size : int
            Rows in a gradient step.
        augment : tuple
            As from `kmedclf.augment.resolve`.
        seed : ndarray of shape (2,), int32
            Seed of the augmentation.
        rates : ndarray of shape (steps,), float32, optional
            Learning rate of each step, where it changes within the epoch.

        Returns
        -------
        loss, accuracy : float
            Means over the rows, as seen during training; the loss is weighted.
        """
        images = self._read(rows)
        static = rows.images.on_disk, augment, rows.copy is not None, rates is not None
        graph = self._graph(self._train_epoch, images, *static)
        size = tf.constant(batch_size, tf.int64)
        rates = NO_RATES if rates is None else rates
        loss, hits = graph(images, *rows.columns, rates, size, seed)
        return float(loss) / len(rows), float(hits) / len(rows)

    def batches(
        self, rows: Rows, batch_size: int, augment: tuple[Any, ...], seed: np.ndarray
    ) -> tf.data.Dataset:
        """Give the batches `train_epoch` sees, for those who must look at each."""
        size = tf.constant(batch_size, tf.int64)
        fetch = self._fetch(self._read(rows), rows.images.on_disk)
        copies = rows.copy is not None
        return self._batches(fetch, rows.columns, size, augment, copies, tf.constant(seed))

    def logits(self, rows: Rows) -> np.ndarray:
        """Compute the logits of rows, float32 (m, k)."""
        images = self._read(rows)
        graph = self._graph(self._all_logits, images, rows.images.on_disk)
        size = pipeline.inference_batch_size(self.spec.image_shape)
        return graph(images, *rows.columns, NO_RATES, tf.constant(size, tf.int64), NO_SEED).numpy()

    def train_step(
        self, x: tf.Tensor, y: tf.Tensor, weight: tf.Tensor, *, whole: bool = True
    ) -> tuple[Any, Any]:
        """Take one gradient step; the same graph within `train_epoch` and outside it.

        Parameters
        ----------
        x : tf.Tensor of shape (b, h, w, c)
            Images.
        y : tf.Tensor of shape (b,), int32, or (b, k), float32
            Their classes, or shares in each.
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
                tf.TensorSpec([None, *y.shape[1:]], y.dtype),
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
                tf.TensorSpec([None], tf.float32),  # learning rates
                tf.TensorSpec([], tf.int64),  # batch size
                tf.TensorSpec([2], tf.int32),  # seed
            )
            self._graphs[key] = tf.function(partial(body, *static), input_signature=signature)
        return self._graphs[key]

    def _train_step(self, x: tf.Tensor, y: tf.Tensor, weight: tf.Tensor) -> tuple[Any, Any]:
        count("traces")
        return step.take(self.model, self.loss, self._options, self._knobs, (x, y, weight))

    def set_rate(self, rate: Any) -> None:
        """Set the learning rate, in a graph or outside."""
        self.model.optimizer.learning_rate = rate

    def _train_epoch(
        self, on_disk: bool, augment: Any, copies: bool, scheduled: bool, images: Any, *given: Any
    ) -> tuple[Any, Any]:
        *columns, rates, batch_size, seed = given
        fetch = self._fetch(images, on_disk)
        dataset = self._batches(fetch, tuple(columns), batch_size, augment, copies, seed)
        batches = iter(dataset)
        loss, hits = tf.zeros(()), tf.zeros(())
        rows = tf.size(columns[0], tf.int64)
        whole, steps = rows // batch_size, (rows + batch_size - 1) // batch_size
        for number in tf.range(whole if self._jit_compile else steps):
            if scheduled:
                self.set_rate(rates[number])
            step_loss, step_hits = self.train_step(*next(batches))
            loss, hits = loss + step_loss, hits + step_hits
        if self._jit_compile and whole < steps:
            if scheduled:
                self.set_rate(rates[-1])
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
        for number in tf.range(steps):
            (x,) = next(batches)
            logits = logits.write(number, self.model(tf.cast(x, tf.float32), training=False))
        return logits.concat()

    def _dataset(self, fetch: pipeline.Fetch, *arguments: Any) -> tf.data.Dataset:
        return pipeline.make_dataset(fetch, self.spec.image_shape, *arguments)

    def _batches(self, *arguments: Any) -> tf.data.Dataset:
        alphas = {name: self._knobs[name] for name in mixing.METHODS if name in self._options}
        dataset, seed = self._dataset(*arguments), arguments[-1]
        return mixing.mixed(dataset, self.spec.n_classes, seed, alphas) if alphas else dataset

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
