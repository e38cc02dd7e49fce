"""A compiled network: a Keras model, its optimizer and the graphs that train and score."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import cached_property, partial
from operator import is_
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from kmedclf.augmentation import test_time
from kmedclf.inputs.images import Rows
from kmedclf.training import devices, network, optimizers, strategy
from kmedclf.training.batches import (
    MAX_GRAPHS,
    InMemoryBatches,
    OpenImages,
    StreamedBatches,
    inference_batch_size,
    make_dataset,
    signature,
)
from kmedclf.training.heads import HEADS, Head, Loss
from kmedclf.training.network import Spec, count
from kmedclf.training.strategy import Sharing

if TYPE_CHECKING:
    from kmedclf.base import ImageClassifier


ONE = {"parallel_iterations": 1}  # each step needs the weights of the one before


def train_loop(
    step: Callable[..., tuple[Any, Any]],
    read: Callable[[Any], tuple[Any, ...]],
    n_rows: Any,
    batch_size: Any,
    *,
    prefetch_spec: tuple[tf.TensorSpec, ...],
    whole_apart: bool,
) -> tuple[Any, Any]:
    """Run the gradient steps of one epoch; return the sums of loss and hits.

    ``step(number, batch, whole)`` returns the loss and hits of one batch, ``read(number)`` a chunk
    of whole batches. With ``prefetch_spec``, the specs of a chunk, the next chunk is read during
    the steps.
    """
    zero = tf.constant(0, tf.int64)

    def steps(columns: tuple[Any, ...], n: Any, *state: Any) -> tuple[Any, ...]:
        def take(whole: bool, start: Any, number: Any, loss: Any, hits: Any) -> Any:
            batch = [column[start : start + batch_size] for column in columns]
            more, right = step(number, batch, whole)
            return start + batch_size, number + 1, loss + more, hits + right

        # XLA compiles for each batch size, so the smaller last batch gets a step of its own.
        end = n - n % batch_size if whole_apart else n
        done = zero, *state
        done = tf.while_loop(lambda at, *_: at < end, lambda *at: take(True, *at), done, **ONE)
        if whole_apart:
            whole = done
            done = tf.cond(end < n, lambda: take(False, *whole), lambda: whole)
        return done[1:]

    def chunk(place: Any, seen: Any, number: Any, loss: Any, hits: Any, *prefetched: Any) -> Any:
        columns = prefetched or read(place)
        n = tf.shape(columns[2], tf.int64)[0]
        following: tuple[Any, ...] = ()
        if prefetch_spec:
            nothing = tuple(column[:0] for column in columns)
            following = tf.cond(seen + n < n_rows, lambda: read(place), lambda: nothing)
        return place + 1, seen + n, *steps(columns, n, number, loss, hits), *following

    # Start with an empty chunk, so that the graph contains `read` only once: TensorFlow optimises
    # the graph of every network again.
    prefetched = [tf.zeros([0, *column.shape[1:]], column.dtype) for column in prefetch_spec]
    any_rows = [tf.TensorShape([None, *column.shape[1:]]) for column in prefetch_spec]
    done = tf.while_loop(
        lambda _, seen, *rest: seen < n_rows,
        chunk,
        (tf.constant(0), zero, tf.constant(0), tf.zeros(()), tf.zeros(()), *prefetched),
        shape_invariants=(*[tf.TensorShape([])] * 5, *any_rows),
        **ONE,
    )
    return done[3:5]


def score_loop(
    network: Callable[[Any], Any], read: Callable[[Any], Any], n_rows: Any, batch_size: Any
) -> Any:
    """Apply ``network`` batch by batch to ``n_rows`` rows; return outputs (n_rows, k), float32.

    ``read`` maps the number of a batch's first row to its images.
    """
    steps = (n_rows + batch_size - 1) // batch_size

    def body(number: Any, outputs: Any) -> tuple[Any, Any]:
        output = network(read(number * batch_size))
        return number + 1, outputs.write(tf.cast(number, tf.int32), output)

    outputs = tf.TensorArray(tf.float32, tf.cast(steps, tf.int32), infer_shape=False)
    state = tf.constant(0, tf.int64), outputs
    return tf.while_loop(lambda at, _: at < steps, body, state, **ONE)[1].concat()


SCALARS = ("weight_decay", "l2")
"""Parameters that compiled networks read from variables, so that new values need no new graph."""


def step_options(estimator: ImageClassifier) -> tuple[tuple[str, Any], ...]:
    """Collect the training parameters that change the graph of a step, as names and values.

    The result is empty with default parameters, and is part of the cache key of compiled networks.
    """
    # A parameter without effect is left out, so that it causes no further compilation. Numbers
    # that a search varies are variables: only whether they are used belongs here.
    chosen: dict[str, Any] = {}
    if estimator.optimizer == "sgd" and estimator.momentum:
        chosen |= {"momentum": estimator.momentum, "nesterov": estimator.nesterov}
    if estimator.weight_decay is not None:
        chosen["weight_decay"] = True
    if estimator.l2:
        chosen["l2"] = True
    if estimator.clipnorm is not None:
        chosen["clipnorm"] = estimator.clipnorm
    if estimator.accumulate_steps > 1:
        # More parts than rows means one row per part; int32 bounds the number.
        chosen["accumulate_steps"] = min(estimator.accumulate_steps, 2**30)
    shared = Sharing.of(estimator.strategy, type(estimator).__name__)
    if shared is not None:
        chosen["strategy"] = shared
        if estimator.accumulate_steps > 1:
            raise ValueError(
                f"The 'accumulate_steps' parameter of {type(estimator).__name__} must be 1 with "
                f"'strategy', which splits each batch already. Got {estimator.accumulate_steps} "
                "instead."
            )
    if estimator.loss == "focal":
        chosen |= {"focal_alpha": estimator.focal_alpha, "focal_gamma": estimator.focal_gamma}
    if estimator.label_smoothing:
        chosen["label_smoothing"] = estimator.label_smoothing
    return tuple(chosen.items())


def make_loss(spec: Spec) -> Loss:
    """Return the loss of a spec: labels and logits to one loss per weight."""
    chosen = dict(spec.options)
    if "loss" in chosen:
        return chosen["loss"].of(spec.n_classes)
    return HEADS[spec.head].loss(chosen, spec.n_classes)


def compiled_model(
    spec: Spec, scalars: Mapping[str, float], learning_rate: float | None, seed: int
) -> keras.Model:
    """Build a model that others train: of probabilities, compiled, with a seed's weights."""
    model, initializers = network.build(spec, activated=True)
    initializers.assign(np.random.SeedSequence([seed, 0]))
    head, plain = HEADS[spec.head], make_loss(spec)

    def loss(y: Any, shares: Any) -> Any:
        """Compute the estimator's loss from probabilities."""
        shares = tf.clip_by_value(tf.cast(shares, tf.float32), 1e-7, 1 - 1e-7)
        if head.multilabel:
            logits = tf.math.log(shares) - tf.math.log1p(-shares)
            return tf.reduce_mean(plain(tf.cast(y, tf.float32), logits), axis=-1)
        return plain(tf.cast(tf.reshape(y, [-1]), tf.int32), tf.math.log(shares))

    given = head.compiled()
    if {"loss", "label_smoothing", "focal_gamma"} & dict(spec.options).keys():
        given["loss"] = loss
    with network.settings(spec.precision):
        model.compile(optimizer=optimizers.make(spec), **given)
    if learning_rate is not None:
        model.optimizer.learning_rate = learning_rate
    if "weight_decay" in dict(spec.options):
        optimizers.decay_kernels(model, scalars["weight_decay"])
    return model


def gradient_step(
    model: keras.Model,
    head: Head,
    loss: Loss,
    chosen: Mapping[str, Any],
    scalars: Mapping[str, tf.Variable],
    batch: tuple[Any, Any, Any],
    on: Sharing | None = None,
) -> tuple[Any, Any]:
    """Take one gradient step on a batch of images, labels and weights, shared by devices ``on``.

    Returns the summed loss and the number of images that the head counts as right.
    """
    parts = chosen.get("accumulate_steps", 1)
    l2 = scalars["l2"] if "l2" in chosen else None
    n = tf.shape(batch[0])[0]
    rows = tf.cast(n, tf.float32)
    if on:
        value, hits, gradients = _on_devices(model, head, loss, l2, batch, on)
    elif parts == 1:
        value, hits, gradients = _gradient(model, head, loss, l2, batch, None)
    else:
        value, hits, gradients = _in_parts(model, head, loss, l2, batch, parts)
    model.optimizer.apply(gradients, model.trainable_variables)
    return value * rows, hits


def _gradient(
    model: keras.Model,
    head: Head,
    loss: Loss,
    l2: Any,
    batch: tuple[Any, Any, Any],
    rows: Any,
    weights: list[Any] | None = None,
) -> tuple[Any, Any, list[Any]]:
    """Compute loss, hits and gradients of a batch.

    With ``rows``, they are scaled to the batch's share of ``rows`` rows, for accumulation.
    ``weights`` are what the trainable variables stand for, if not for themselves.
    """
    x, y, weight = batch
    with tf.GradientTape() as tape:
        tape.watch(weights or [])
        logits = model(tf.cast(x, tf.float32), training=True)  # (b, k)
        # Like Keras, divide by the number of rows, not by the sum of weights.
        value = tf.reduce_mean(loss(y, logits) * weight) + sum(model.losses)
        goal = value
        if l2 is not None:
            kernels = [v for v in model.trainable_variables if len(v.shape) > 1]
            goal += l2 * tf.add_n([tf.reduce_sum(tf.square(kernel)) for kernel in kernels])
        if rows is not None:
            share = tf.cast(tf.shape(x)[0], tf.float32) / rows
            value, goal = value * share, goal * share
        scaled = model.optimizer.scale_loss(goal)  # changes nothing but in float16
    hits = tf.reduce_sum(head.right(y, logits))
    return value, hits, tape.gradient(scaled, weights or model.trainable_variables)


def _in_parts(
    model: keras.Model, head: Head, loss: Loss, l2: Any, batch: tuple[Any, Any, Any], parts: int
) -> tuple[Any, Any, list[Any]]:
    """Like `_gradient`, but accumulate over ``parts`` parts of the batch to save memory."""
    n = tf.shape(batch[0])[0]
    size = (n + parts - 1) // parts

    def add(start: Any, value: Any, hits: Any, *sums: Any) -> tuple[Any, ...]:
        x, y, weight = (column[start : start + size] for column in batch)
        part = _gradient(model, head, loss, l2, (x, y, weight), tf.cast(n, tf.float32))
        more, right, gradients = part
        both = zip(sums, gradients, strict=True)
        added = [total + tf.cast(gradient, total.dtype) for total, gradient in both]
        return start + size, value + more, hits + right, *added

    start = [tf.zeros(v.shape, v.dtype) for v in model.trainable_variables]
    _, value, hits, *gradients = tf.while_loop(
        lambda at, *_: at < n,
        add,
        (tf.constant(0), tf.zeros(()), tf.zeros(()), *start),
        parallel_iterations=1,
    )
    return value, hits, gradients


def _on_devices(
    model: keras.Model,
    head: Head,
    loss: Loss,
    l2: Any,
    batch: tuple[Any, Any, Any],
    on: Sharing,
) -> tuple[Any, Any, list[Any]]:
    """Like `_gradient`, with a part of the batch on each device.

    As with Keras' MirroredStrategy, batch normalisation sees the part of its device, and its moving
    statistics become the mean over all devices.
    """
    n, first = tf.shape(batch[0])[0], strategy.number() * len(on.devices)
    rows, found = tf.cast(n, tf.float32), []
    for number, device in enumerate(on.devices, first if on.processes > 1 else 0):
        start, end = n * number // on.parts, n * (number + 1) // on.parts
        with tf.device(device):
            x, y, weight = (tf.identity(column[start:end]) for column in batch)
            with _copied(model, number) as scope:
                weights = [scope.get_current_value(v) for v in model.trainable_variables]
                value, hits, gradients = _gradient(
                    model, head, loss, l2, (x, y, weight), rows, weights
                )
            gradients = [
                tf.zeros_like(v) if one is None else tf.convert_to_tensor(one)
                for v, one in zip(weights, gradients, strict=True)
            ]
            states = [scope.get_current_value(v) for v in model.non_trainable_variables]
            found.append((value, hits, *gradients, *states))
    kinds = [tf.as_dtype(one.dtype).is_floating for one in found[0]]
    sums = [
        tf.add_n(one) for one, kind in zip(zip(*found, strict=True), kinds, strict=True) if kind
    ]
    if on.processes > 1:
        sums = strategy.reduce(sums, on.processes)
    (value, hits), sums = sums[:2], sums[2:]
    k = len(model.trainable_variables)
    gradients, means = sums[:k], iter(sums[k:])
    for variable, new in zip(model.non_trainable_variables, found[0][2 + k :], strict=True):
        if network.is_generator(variable):  # without the number of the device
            variable.assign(tf.stack([variable.value[0], new[1]]))
        elif tf.as_dtype(new.dtype).is_floating:
            variable.assign(next(means) / on.parts)
        else:
            variable.assign(new)
    return value, hits, gradients


def _copied(model: keras.Model, number: int) -> keras.StatelessScope:
    """Let a model compute with copies of its variables on the current device."""
    copies = []
    for variable in model.variables:
        copy = tf.identity(variable.value)
        if network.is_generator(variable):  # other dropout on each device
            copy += tf.constant([number * 2_654_435_761 % 2**32, 0], copy.dtype)
        copies.append((variable, copy))
    return keras.StatelessScope(copies, collect_losses=True, initialize_variables=False)


Weights = list[np.ndarray]
NO_RATES = np.zeros(0, np.float32)
_INDEX = tf.TensorSpec([], tf.int64)


class CompiledNetwork:
    """A Keras model built and compiled for a spec; the cache reuses it for many fits.

    `reset` and `load` set every variable, so no state of one fit reaches the next.
    """

    def __init__(self, spec: Spec) -> None:
        devices.gpus()
        self.spec = spec
        self.model, self._initializers = network.build(spec)
        self.head = HEADS[spec.head]
        with network.settings(spec.precision):
            self.model.compile(optimizer=optimizers.make(spec))
            self.loss = make_loss(spec)
        self._options = dict(spec.options)
        self._scalars = {name: tf.Variable(0.0, trainable=False) for name in SCALARS}
        if "weight_decay" in self._options:
            optimizers.decay_kernels(self.model, self._scalars["weight_decay"])
        self._default_learning_rate = float(self.model.optimizer.learning_rate)
        self._optimizer_start: list[Any] | None = None
        self.nbytes = _size(self.model.weights)  # later with the optimizer's variables
        self._loaded: tuple[np.ndarray, ...] = ()
        self.growing = 0  # changes that enlarge the network and have not completed
        self._images = OpenImages()
        # On GPUs, XLA fuses operations between convolutions. On CPUs it slows convolutions down,
        # and does not help dense networks with a fused optimizer (``benchmarks/xla.py``).
        jit = bool(devices.gpus()) if spec.jit_compile == "auto" else spec.jit_compile
        self.on: Sharing | None = self._options.get("strategy")
        self._jit_compile = (
            bool(jit) and self.on is None and "accumulate_steps" not in self._options
        )
        # Where there is none, fusing gains nothing, and takes its time in the first call.
        normalises = keras.layers.BatchNormalization
        self._fuses = any(isinstance(layer, normalises) for layer in self.model.layers)
        self._graphs: dict[tuple[Any, ...], Any] = {}
        count("builds")

    @cached_property
    def activated(self) -> keras.Model:
        """The model with probabilities as output, for callbacks; it shares all variables."""
        return network.activated(self.spec, self.model, **self.head.compiled())

    # -- state ------------------------------------------------------------------------------

    def reset(
        self,
        seed: np.random.SeedSequence | None,
        learning_rate: float | None,
        scalars: Mapping[str, float],
    ) -> None:
        """Set weights, statistics, optimizer and seed generators to their initial values.

        Without a seed, weights and generators are left to those who set them next.
        """
        self._loaded = ()
        optimizer = self.model.optimizer
        optimizer.learning_rate = self._default_learning_rate
        self._set_optimizer(self._start_optimizer())
        if learning_rate is not None:
            optimizer.learning_rate = learning_rate
        for name, scalar in self._scalars.items():
            scalar.assign(scalars.get(name, 0.0))
        if seed is not None:
            self._initializers.assign(seed)

    def _start_optimizer(self) -> list[Any]:
        """Create the optimizer's variables, unless they are there; return their initial values."""
        if self._optimizer_start is None:
            optimizer = self.model.optimizer
            self._check_memory()
            with self._grows():
                with network.settings():
                    optimizer.build(self.model.trainable_variables)
                self._optimizer_start = [_compact(one.numpy()) for one in optimizer.variables]
                self.nbytes += _size(optimizer.variables)
        return self._optimizer_start

    def _check_memory(self) -> None:
        # Linux would kill the process instead of refusing the allocation.
        with network.settings():
            optimizer = optimizers.make(self.spec)
            variable = keras.Variable(np.zeros(2, np.float32))
            optimizer.build([variable])
        slots = sum(slot.shape == variable.shape for slot in optimizer.variables)
        copies = 2 + slots  # gradients, and the weights returned
        needed, free = copies * _size(self.model.trainable_weights), devices.free_memory()
        if free is not None and needed > free:
            raise MemoryError(
                f"{self.spec.estimator.__name__} must have fewer parameters: training "
                f"{self.n_params[0]:,} takes {needed / 1e9:.2g} GB more at least. Got "
                f"{free / 1e9:.2g} GB of free memory instead."
            )

    def reseed(self, seed: int) -> None:
        """Seed the stochastic layers, so that an epoch does not depend on earlier draws."""
        self._initializers.reseed(seed)

    def load(self, weights: Weights) -> None:
        """Set the model's weights to those of a fitted estimator.

        Skipped if they are loaded already: if the arrays are identical and read-only.
        """
        if len(weights) == len(self._loaded) and all(map(is_, weights, self._loaded)):
            return
        check_weights(weights, self.spec.estimator.__name__)
        self._loaded = ()  # an interruption may leave only some of them set
        self.model.set_weights(weights)
        if not any(one.flags.writeable for one in weights):
            self._loaded = tuple(weights)

    @contextmanager
    def _grows(self) -> Iterator[None]:
        """Count a change that enlarges the network; an error leaves it counted."""
        self.growing += 1
        yield
        self.growing -= 1  # not in a finally: after an error the network is incomplete

    @property
    def n_params(self) -> tuple[int, int]:
        """Numbers of trainable and non-trainable weights."""
        kinds = self.model.trainable_weights, self.model.non_trainable_weights
        trainable, other = (sum(int(np.prod(v.shape)) for v in kind) for kind in kinds)
        return trainable, other

    def weights(self) -> Weights:
        """Copy the model's weights, trainable or not, in Keras' order."""
        return [np.asarray(variable.numpy()) for variable in self.model.weights]

    def optimizer_state(self) -> Weights:
        """Copy the optimizer's variables."""
        return [np.asarray(variable.numpy()) for variable in self.model.optimizer.variables]

    def optimizer_shapes(self) -> list[tuple[tuple[int, ...], np.dtype]]:
        """Return shape and dtype of the optimizer's variables."""
        self._start_optimizer()
        return [(tuple(v.shape), np.dtype(v.dtype)) for v in self.model.optimizer.variables]

    def _set_optimizer(self, values: Sequence[Any]) -> None:
        for variable, value in zip(self.model.optimizer.variables, values, strict=True):
            variable.assign(np.broadcast_to(value, variable.shape))

    def load_optimizer(self, state: Sequence[np.ndarray]) -> None:
        """Restore the optimizer's variables of an earlier fit, except the learning rate."""
        learning_rate = float(self.model.optimizer.learning_rate)
        self._set_optimizer(state)
        self.model.optimizer.learning_rate = learning_rate

    def restore(self, weights: Weights, optimizer: Weights) -> None:
        """Set all weights, and all of the optimizer's variables with the learning rate."""
        own = [*self.model.weights, *self.model.optimizer.variables]
        wanted = [(tuple(one.shape), np.dtype(one.dtype)) for one in own]
        if wanted != [(one.shape, one.dtype) for one in (*weights, *optimizer)]:
            raise ValueError(
                f"The kept weights of {self.spec.estimator.__name__} must be those of its network. "
                "Got others instead."
            )
        self.model.set_weights(weights)
        self._set_optimizer(optimizer)

    def release(self) -> None:
        """Release the images of the last pass."""
        self._images.close()

    # -- graph functions ---------------------------------------------------------------------

    def train_epoch(
        self,
        chunks: InMemoryBatches | StreamedBatches,
        epoch: int,
        batch_size: int,
        rates: np.ndarray | None = None,
    ) -> tuple[float, float]:
        """Train one epoch in a single graph call; return mean loss, weighted, and accuracy.

        ``rates`` holds one learning rate per step if the rate changes within the epoch.
        """
        given = _INDEX, _INDEX, tf.TensorSpec([None], tf.float32), *chunks.signature
        static = chunks.read, chunks.prefetch_spec, chunks.gather_in_step, rates is not None
        graph = self._graph(self._train_epoch, (*static, *chunks.signature), given, static)
        rates = NO_RATES if rates is None else rates
        with network.alone():
            loss, hits = graph(chunks.n_rows, batch_size, rates, *chunks.arguments(epoch))
        return float(loss) / chunks.n_rows, float(hits) / chunks.n_rows

    def logits(
        self, rows: Rows, tta: tuple[str, ...] = (), batch_size: int | None = None
    ) -> np.ndarray:
        """Compute float32 logits of shape (m, k), or whatever else the spec's network returns.

        With test-time augmentation, return those of all views, of shape (m, views, k).
        """
        images, number = rows.images.tensor, self._images.number(rows.images)
        static = rows.images.on_disk, tta
        index = rows.columns[0]
        given = (*signature(images, index), _INDEX, _INDEX)
        graph = self._graph(self._all_logits, (images.dtype, *static), given, static)
        batch_size = batch_size or inference_batch_size(self.spec.image_shape)
        size = max(1, batch_size // test_time.count(tta))
        with network.alone(fused=self._fuses):
            return graph(images, index, number, size).numpy()

    def train_step(
        self, x: tf.Tensor, y: tf.Tensor, weight: tf.Tensor, *, whole: bool = True
    ) -> tuple[Any, Any]:
        """Take one gradient step; return the summed loss and the number of images that were right.

        Labels are int32 classes (b,) or float32 shares or labels (b, k).
        """
        # XLA compiles for each batch size: for a few last rows that takes longer than it saves.
        jit = self._jit_compile and whole
        given = (
            tf.TensorSpec([None, *self.spec.image_shape], x.dtype),
            tf.TensorSpec([None, *y.shape[1:]], y.dtype),
            tf.TensorSpec([None, *weight.shape[1:]], tf.float32),
        )
        on = self.on if whole else None  # a few last rows are not shared
        graph = self._graph(self._train_step, (*given, jit, on), given, (on,), jit_compile=jit)
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
        """Return ``body`` as a graph, traced once for any number of rows."""
        key = (body.__name__, *key)
        if key not in self._graphs:
            bound = partial(body, *static)
            graph = tf.function(bound, input_signature=given, autograph=False, **options)
            with self._grows():  # Keras layers may build more when they are first called
                # Keep the concrete function: choosing it in every call takes half a millisecond.
                concrete = network.traced(graph.get_concrete_function, self.spec.precision)
                self._graphs[key] = concrete
        self._graphs[key] = self._graphs.pop(key)  # most recently used last, for eviction
        while len(self._graphs) > MAX_GRAPHS:  # each augmentation has its own graph
            del self._graphs[next(iter(self._graphs))]
        return self._graphs[key]

    def _train_step(self, on: Sharing | None, *batch: tf.Tensor) -> tuple[Any, Any]:
        count("traces")
        fixed = self.model, self.head, self.loss, self._options, self._scalars
        return gradient_step(*fixed, batch, on)

    def set_rate(self, rate: Any) -> None:
        """Set the learning rate, inside a graph or outside."""
        self.model.optimizer.learning_rate = rate

    def _train_epoch(
        self,
        read: Callable[..., Any],
        prefetch_spec: tuple[tf.TensorSpec, ...],
        gather_in_step: bool,
        scheduled: bool,
        n_rows: Any,
        batch_size: Any,
        rates: Any,
        *given: Any,
    ) -> tuple[Any, Any]:
        def take(number: Any, batch: list[Any], whole: bool) -> tuple[Any, Any]:
            if scheduled:
                self.set_rate(rates[number])
            if gather_in_step:
                batch[0] = tf.gather(given[0], batch[0])
            return self.train_step(*batch, whole=whole)

        return train_loop(
            take,
            lambda number: read(number, *given),
            n_rows,
            batch_size,
            prefetch_spec=prefetch_spec,
            whole_apart=self._jit_compile or self.on is not None,
        )

    def _all_logits(self, on_disk: bool, tta: tuple[str, ...], images: Any, *given: Any) -> Any:
        count("traces")
        index, number, batch_size = given
        fetch = self._images.fetch(images, number, on_disk)
        # Reading from disk overlaps with scoring. In memory, starting a dataset takes longer.
        if on_disk:
            batches = iter(make_dataset(fetch, index, batch_size))

        def read(start: Any) -> Any:
            return batches.get_next() if on_disk else fetch(index[start : start + batch_size])

        def apply(x: Any) -> Any:
            return test_time.logits(lambda x: self.model(x, training=False), x, tta)

        return score_loop(apply, read, tf.size(index, tf.int64), batch_size)


def frozen(weights: Weights) -> Weights:
    """Make arrays read-only: `CompiledNetwork.load` relies on it to detect loaded weights."""
    for array in weights:
        array.flags.writeable = False
    return weights


def largest(weights: list[np.ndarray]) -> float:
    """Return the largest magnitude among arrays; NaN or infinity if a value is not finite."""
    # Extremes take a tenth of the time of `isfinite`, and no boolean array.
    floats = [array for array in weights if array.size and array.dtype.kind == "f"]
    ends = [float(end(array)) for array in floats for end in (np.min, np.max)]
    return float(np.max(np.abs(ends))) if ends else 0.0


def check_weights(weights: list[np.ndarray], name: str) -> None:
    """Raise ValueError if a network's weights are not finite."""
    if np.isfinite(largest(weights)):
        return
    wrong = [number for number, one in enumerate(weights) if not np.isfinite(largest([one]))]
    raise ValueError(
        f"The weights_ of {name} must be finite. Got NaN or infinity in {len(wrong)} of the "
        f"{len(weights)} arrays, the first in array {wrong[0]}; fit it again."
    )


def check_outputs(logits: np.ndarray, name: str) -> None:
    """Refuse outputs (n, ...) that are not finite."""
    if np.isfinite(logits).all():
        return
    wrong = np.flatnonzero(~np.isfinite(logits).reshape(len(logits), -1).all(axis=1))
    raise ValueError(
        f"{name} must predict finite numbers. Got NaN or infinity for {len(wrong)} of "
        f"{len(logits)} images, the first of them image {wrong[0]}; its weights or these pixels "
        "are too large."
    )


def _size(variables: Sequence[Any]) -> int:
    return sum(int(np.prod(v.shape)) * np.dtype(v.dtype).itemsize for v in variables)


def _compact(value: np.ndarray) -> np.ndarray:
    """Replace a constant array by one number, such as Adam's zeros."""
    first = value.reshape(-1)[:1]
    return first[0] if value.size and np.all(value == first) else value
