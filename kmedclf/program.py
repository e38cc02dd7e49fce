"""One compiled network: a Keras model, its optimizer and the graph functions that use them.

Every public parameter of an estimator either is in the program's `Spec`, or is a variable that
`Program.reset` sets, or never reaches the graph.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import cached_property, partial
from operator import is_
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kmedclf import devices, divergence, feeds, loops, network, optimizers, passes, step, views
from kmedclf.counting import count
from kmedclf.feeds import Gathered, Streamed
from kmedclf.heads import HEADS
from kmedclf.network import Spec
from kmedclf.open_images import OpenImages, signature
from kmedclf.pipeline import Rows

Weights = list[np.ndarray]
NO_RATES = np.zeros(0, np.float32)
_INDEX = tf.TensorSpec([], tf.int64)


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
    nbytes : int
        Memory of the weights and, once there has been a training, of the optimizer's variables.
    growing : int
        How many things that make the program larger are under way, or were interrupted. No other
        state outlives a borrower, as `reset` and `load` set every variable.
    """

    def __init__(self, spec: Spec) -> None:
        devices.gpus()
        self.spec = spec
        self.model, self._initializers = network.build(spec)
        self.head = HEADS[spec.head]
        with network.settings(spec.precision):
            self.model.compile(optimizer=optimizers.make(spec))
            self.loss = step.make_loss(spec)
        self._options = dict(spec.options)
        self._knobs = {name: tf.Variable(0.0, trainable=False) for name in step.KNOBS}
        if "weight_decay" in self._options:
            optimizers.decay_kernels(self.model, self._knobs["weight_decay"])
        self._default_learning_rate = float(self.model.optimizer.learning_rate)
        self._optimizer_start: list[Any] | None = None
        self.nbytes = _size(self.model.weights)
        self._loaded: tuple[np.ndarray, ...] = ()
        self.growing = 0
        self._images = OpenImages()
        jit = devices.xla_pays() if spec.jit_compile == "auto" else spec.jit_compile
        self._jit_compile = bool(jit) and "accumulate_steps" not in self._options
        self._graphs: dict[tuple[Any, ...], Any] = {}
        count("builds")

    @cached_property
    def activated(self) -> keras.Model:
        """The model as callbacks see and save it: the same variables, but probabilities."""
        return network.activated(self.spec, self.model, **self.head.compiled())

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
            Numbers for `kmedclf.step.KNOBS`; 0 where none is given.

        Raises
        ------
        MemoryError
            If training takes more memory than is free.
        """
        self._loaded = ()
        optimizer = self.model.optimizer
        optimizer.learning_rate = self._default_learning_rate
        if self._optimizer_start is None:
            self._check_memory()
            with self._grows():
                self._optimizer_start = optimizers.start(optimizer, self.model.trainable_variables)
                self.nbytes += _size(optimizer.variables)
        optimizers.assign(optimizer, self._optimizer_start)
        if learning_rate is not None:
            optimizer.learning_rate = learning_rate
        for name, knob in self._knobs.items():
            knob.assign(knobs.get(name, 0.0))
        network.initialize(self._initializers, seed)

    def _check_memory(self) -> None:
        copies = 2 + optimizers.slots(self.spec)  # gradients, and the weights that are the result
        needed, free = copies * _size(self.model.trainable_weights), devices.free_memory()
        if free is not None and needed > free:
            raise MemoryError(
                f"{self.spec.estimator.__name__} must have fewer parameters: training "
                f"{self.n_params[0]:,} takes {needed / 1e9:.2g} GB more at least. Got "
                f"{free / 1e9:.2g} GB of free memory instead."
            )

    def reseed(self, seed: int) -> None:
        """Seed the stochastic layers, so that an epoch's draws depend on nothing before it."""
        network.reseed(self._initializers, seed)

    def load(self, weights: Weights) -> None:
        """Put a fitted estimator's weights into the model, unless they are there already.

        They are known to be there only if nobody can have changed them: if they are the same
        arrays, and read-only.
        """
        if len(weights) == len(self._loaded) and all(map(is_, weights, self._loaded)):
            return
        divergence.check_weights(weights, self.spec.estimator.__name__)
        self._loaded = ()  # while some are set and others not, they are nobody's
        self.model.set_weights(weights)
        if not any(one.flags.writeable for one in weights):
            self._loaded = tuple(weights)

    @contextmanager
    def _grows(self) -> Iterator[None]:
        """Mark the program as not whole until what is done within is complete."""
        self.growing += 1
        yield
        self.growing -= 1  # not after an error: the program is not whole then

    @property
    def n_params(self) -> tuple[int, int]:
        """Numbers of trainable and of other weights."""
        kinds = self.model.trainable_weights, self.model.non_trainable_weights
        trainable, other = (sum(int(np.prod(v.shape)) for v in kind) for kind in kinds)
        return trainable, other

    def weights(self) -> Weights:
        """Copy the model's weights out, trainable or not, in Keras' order."""
        return [np.asarray(variable.numpy()) for variable in self.model.weights]

    def optimizer_state(self) -> Weights:
        """Copy the optimizer's variables out."""
        return [np.asarray(variable.numpy()) for variable in self.model.optimizer.variables]

    def load_optimizer(self, state: Sequence[np.ndarray]) -> None:
        """Continue with the optimizer's variables of an earlier fit, its learning rate excepted."""
        learning_rate = float(self.model.optimizer.learning_rate)
        optimizers.assign(self.model.optimizer, state)
        self.model.optimizer.learning_rate = learning_rate

    def release(self) -> None:
        """Let go of the images read."""
        self._images.close()

    # -- graph functions ---------------------------------------------------------------------

    def train_epoch(
        self,
        chunks: Gathered | Streamed,
        epoch: int,
        batch_size: int,
        rates: np.ndarray | None = None,
    ) -> tuple[float, float]:
        """Train one pass over rows, in one graph call.

        Parameters
        ----------
        chunks : Gathered or Streamed
            As from `kmedclf.feeds.Feed.open`.
        epoch : int
            Number of the epoch.
        batch_size : int
            Rows in a gradient step.
        rates : ndarray of shape (steps,), float32, optional
            Learning rate of each step, where it changes within the epoch.

        Returns
        -------
        loss, accuracy : float
            Means over the rows, as seen during training; the loss is weighted.
        """
        given = _INDEX, _INDEX, tf.TensorSpec([None], tf.float32), *chunks.signature
        static = chunks.read, chunks.ahead, chunks.late, rates is not None
        graph = self._graph(self._train_epoch, (*static, *chunks.signature), given, static)
        rates = NO_RATES if rates is None else rates
        with network.alone():
            loss, hits = graph(chunks.n_rows, batch_size, rates, *chunks.arguments(epoch))
        return float(loss) / chunks.n_rows, float(hits) / chunks.n_rows

    def logits(self, rows: Rows, tta: tuple[str, ...] = ()) -> np.ndarray:
        """Compute the logits of rows, float32 (m, k), or with ``tta`` of their views (m, v, k)."""
        images, number = rows.images.tensor, self._images.number(rows.images)
        static = rows.images.on_disk, tta
        index = rows.columns[0]
        given = (*signature(images, index), _INDEX, _INDEX)
        graph = self._graph(self._all_logits, (images.dtype, *static), given, static)
        size = max(1, passes.inference_batch_size(self.spec.image_shape) // views.count(tta))
        with network.alone():
            return graph(images, index, number, size).numpy()

    def train_step(
        self, x: tf.Tensor, y: tf.Tensor, weight: tf.Tensor, *, whole: bool = True
    ) -> tuple[Any, Any]:
        """Take one gradient step; the same graph within `train_epoch` and outside it.

        Parameters
        ----------
        x : tf.Tensor of shape (b, h, w, c)
            Images.
        y : tf.Tensor of shape (b,), int32, or (b, k), float32
            Their classes, or shares in each, or labels.
        weight : tf.Tensor of shape (b,) or (b, k), float32
            Their weights in the loss.
        whole : bool, default=True
            Whether this is a batch of full size. XLA compiles once for every size, and for the
            few rows at the end of an epoch that would take longer than it saves.

        Returns
        -------
        loss, hits : tf.Tensor of shape ()
            Sum of the losses, and number of images that were right.
        """
        jit = self._jit_compile and whole
        given = (
            tf.TensorSpec([None, *self.spec.image_shape], x.dtype),
            tf.TensorSpec([None, *y.shape[1:]], y.dtype),
            tf.TensorSpec([None, *weight.shape[1:]], tf.float32),
        )
        graph = self._graph(self._train_step, (*given, jit), given, jit_compile=jit)
        with network.alone() if tf.executing_eagerly() else nullcontext():
            return graph(x, y, weight)

    def _graph(
        self,
        body: Callable[..., Any],
        key: tuple[Any, ...],
        given: tuple[Any, ...],
        static: tuple[Any, ...] = (),
        **options: Any,
    ) -> Any:
        """Return ``body`` as a graph function, traced once for any number of rows."""
        key = (body.__name__, *key)
        if key not in self._graphs:
            bound = partial(body, *static)
            graph = tf.function(bound, input_signature=given, autograph=False, **options)
            with self._grows():  # Keras layers build things when they are first called
                # The one there is: choosing it in every call takes half a millisecond.
                found = network.traced(graph.get_concrete_function, self.spec.precision)
                self._graphs[key] = found
        self._graphs[key] = self._graphs.pop(key)  # the last one used
        while len(self._graphs) > feeds.MAX_GRAPHS:  # every augmentation has one of its own
            del self._graphs[next(iter(self._graphs))]
        return self._graphs[key]

    def _train_step(self, x: tf.Tensor, y: tf.Tensor, weight: tf.Tensor) -> tuple[Any, Any]:
        count("traces")
        batch = x, y, weight
        return step.take(self.model, self.head, self.loss, self._options, self._knobs, batch)

    def set_rate(self, rate: Any) -> None:
        """Set the learning rate, in a graph or outside."""
        self.model.optimizer.learning_rate = rate

    def _train_epoch(
        self,
        read: Callable[..., Any],
        ahead: tuple[tf.TensorSpec, ...],
        late: bool,
        scheduled: bool,
        n_rows: Any,
        batch_size: Any,
        rates: Any,
        *given: Any,
    ) -> tuple[Any, Any]:
        def take(number: Any, batch: list[Any], whole: bool) -> tuple[Any, Any]:
            if scheduled:
                self.set_rate(rates[number])
            if late:
                batch[0] = tf.gather(given[0], batch[0])
            return self.train_step(*batch, whole=whole)

        return loops.train(
            take,
            lambda number: read(number, *given),
            n_rows,
            batch_size,
            ahead=ahead,
            whole_apart=self._jit_compile,
        )

    def _all_logits(self, on_disk: bool, tta: tuple[str, ...], images: Any, *given: Any) -> Any:
        count("traces")
        index, number, batch_size = given
        fetch = self._images.fetch(images, number, on_disk)
        if on_disk:  # reading overlaps with scoring; for memory, starting that would take longer
            batches = iter(passes.make_dataset(fetch, index, batch_size))

        def read(start: Any) -> Any:
            return batches.get_next() if on_disk else fetch(index[start : start + batch_size])

        def apply(x: Any) -> Any:
            return views.logits(lambda x: self.model(x, training=False), x, tta)

        return loops.score(apply, read, tf.size(index, tf.int64), batch_size)


def frozen(weights: Weights) -> Weights:
    """Make arrays read-only, so that a change of them cannot go unseen; see `Program.load`."""
    for one in weights:
        one.flags.writeable = False
    return weights


def _size(variables: Sequence[Any]) -> int:
    return sum(int(np.prod(one.shape)) * np.dtype(one.dtype).itemsize for one in variables)
