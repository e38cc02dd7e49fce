"""From an estimator's parameters to a Keras model, and from a seed to its initial weights."""

from __future__ import annotations

import functools
import math
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, TypeVar

import keras
import numpy as np
import tensorflow as tf
from keras.src.backend.common import global_state
from tensorflow.python.eager import context  # TensorFlow 2.21; there is no public API

from kmedclf import recipes
from kmedclf.training import devices
from kmedclf.utils import forks
from kmedclf.utils.random_state import python_random_kept

if TYPE_CHECKING:
    from kmedclf.inputs.images import Rows


S = TypeVar("S", bound="Spec")

_building = threading.RLock()

counted: Counter[str] = Counter()
"""Builds, traces and uses of compiled networks in this process, for tests of the cache."""

_counting = threading.Lock()


def count(what: str) -> None:
    """Count an event of this process."""
    with _counting:
        counted[what] += 1


@dataclass(frozen=True)
class Spec:
    """What a compiled network depends on; the key of its cache."""

    estimator: type[Any]
    architecture: tuple[tuple[str, Any], ...]  # the estimator's own parameters
    image_shape: tuple[int, int, int]  # (h, w, c)
    scale: float  # factor for pixels, before the first layer
    n_classes: int  # outputs
    optimizer: str  # name; the learning rate is a variable, hence not part of the key
    precision: str  # Keras dtype policy of all layers but the head
    jit_compile: bool | str
    start: str = ""  # hash of the initial weights, if they come from a file
    options: tuple[tuple[str, Any], ...] = ()  # from `program.step_options`
    head: str = "softmax"  # key of `heads.HEADS`

    @property
    def network(self) -> tuple[Any, ...]:
        """What the weights depend on: a warm start needs the same."""
        free = self.estimator.changes_no_shape
        shape = tuple(one for one in self.architecture if one[0] not in free)
        return self.estimator, shape, self.image_shape, self.scale, self.n_classes, self.head

    def turned_into(self, kind: type[S], **changes: Any) -> S:
        """Copy what describes this network into a spec of another kind, with changes."""
        given = {field.name: getattr(self, field.name) for field in fields(Spec)}
        return kind(**given | changes)

    def outputs(self, estimator: Any, x: Any) -> Any:
        """Map images (b, h, w, c) to what the network returns: logits (b, k), float32."""
        return estimator._to_logits(x, self)


class Initializers(list[tuple[Any, Any]]):
    """The variables of a model, each with its initializer."""

    def assign(self, seed: np.random.SeedSequence) -> None:
        """Assign every variable its initial value for a seed, without global random state.

        An initializer with a seed of its own keeps it.
        """
        seeds = seed.generate_state(len(self)) >> np.uint32(1)
        for (variable, initializer), number in zip(self, seeds, strict=True):
            variable.assign(_initial_value(variable, initializer, int(number)))

    def reseed(self, seed: int) -> None:
        """Seed dropout and similar layers; leave all other variables."""
        generators = [variable for variable, _ in self if is_generator(variable)]
        for number, variable in enumerate(generators):
            variable.assign(np.array([seed, number], dtype=variable.dtype))


def build(spec: Spec, *, activated: bool = False) -> tuple[keras.Model, Initializers]:
    """Build the Keras model of a spec, without initial values, and their initializers.

    With ``activated`` the model returns probabilities instead of logits.
    """
    forks.check()
    # Inside a stateless scope variables get no values, so that their initializers can be kept and
    # run again for every seed. Leaving the scope initializes them: Keras would keep a reference to
    # variables that are initialized in any other way.
    with outside_scopes(), python_random_kept(), settings(spec.precision):
        random.seed(0)  # makes the seeds that Keras draws known, unlike those set in a network
        with keras.StatelessScope() as scope:
            model = _model(spec, activated=activated)
            drawn = _default_seeds(1_000 + 20 * len(model.variables))
            initializers = Initializers(
                # A network may set a variable's initial value itself, such as one from a file.
                (
                    variable,
                    getattr(variable, "start", None)
                    or _set_value(variable, scope)
                    or _without_drawn_seed(variable._initializer, drawn),
                )
                for variable in model.variables
            )
    return model, initializers


def _set_value(variable: Any, scope: keras.StatelessScope) -> Callable[..., Any] | None:
    """Return an initializer of the value that was assigned while the network was built."""
    value = None if is_generator(variable) else scope.get_current_value(variable)
    if value is None:
        return None
    array = keras.ops.convert_to_numpy(value)
    return lambda shape, dtype: array


def activated(spec: Spec, model: keras.Model, **compiled: Any) -> keras.Model:
    """Make a model that returns probabilities, with the same variables and optimizer."""
    with python_random_kept(), settings(spec.precision):
        outputs = _probabilities(spec)(model.output)
        whole = keras.Model(model.input, outputs, name=model.name)
    whole.compile(optimizer=model.optimizer, **compiled)
    return whole


def _probabilities(spec: Spec) -> keras.layers.Layer:
    return keras.layers.Activation(spec.head, dtype="float32", name="probabilities")


def _model(spec: Spec, *, activated: bool) -> keras.Model:
    hook = recipes.applied(spec.estimator(**dict(spec.architecture)))
    image = keras.Input(spec.image_shape, dtype="float32", name="image")  # (b, h, w, c)
    x = keras.layers.Rescaling(spec.scale, dtype="float32", name="scale")(image)
    x = spec.outputs(hook, x)
    if activated:
        x = _probabilities(spec)(x)
    return keras.Model(image, x, name=spec.estimator.__name__.lower())


def shapes(spec: Spec, given: list[tuple[int, ...]]) -> list[tuple[tuple[int, ...], str]]:
    """Return shape and dtype of every weight of a network without allocating any.

    Raises ValueError if the network has more weights than ``given``, the shapes in a file.
    """
    if spec not in _shapes:
        elements = sum(map(math.prod, given))
        with python_random_kept(), settings(spec.precision):
            # The margins are for seed generators, whose states are variables but no weights. A
            # network beyond the limits fails while it is built, before it takes time and memory.
            with without_values(2 * len(given) + 16, elements + 4 * len(given) + 64):
                weights = _model(spec, activated=False).weights
        if len(_shapes) >= MAX_SHAPES:
            _shapes.clear()
        _shapes[spec] = [(tuple(weight.shape), str(weight.dtype)) for weight in weights]
    return _shapes[spec]


MAX_SHAPES = 256
"""Networks whose shapes are cached, so that loading the same again builds nothing."""

_shapes: dict[Spec, list[tuple[tuple[int, ...], str]]] = {}


class _Declared(list[Any]):
    """Keras' list of uninitialized variables, limited in length and in total elements."""

    def __init__(self, variables: int, elements: int) -> None:
        super().__init__()
        self.variables, self.elements = variables, elements

    def append(self, variable: Any) -> None:
        super().append(variable)
        self.elements -= math.prod(variable.shape)
        if len(self) > self.variables or self.elements < 0:
            raise ValueError("the network that it describes is larger than the weights in it")


@contextmanager
def without_values(variables: int, elements: int) -> Iterator[keras.StatelessScope]:
    """Have Keras create variables without values; raise ValueError beyond the limits."""
    # Keras registers uninitialized variables in this list, and offers no other hook.
    name = "uninitialized_variables"
    before = global_state.get_global_attribute(name, [])
    global_state.set_global_attribute(name, _Declared(variables, elements))
    try:
        with keras.StatelessScope(initialize_variables=False) as scope:
            yield scope
    finally:
        global_state.set_global_attribute(name, before)


def adapt(model: keras.Model, rows: Rows, scale: float, seed: int) -> None:
    """Call ``adapt_to`` of the layers that need training images before the first step."""
    # Not named `adapt`: Keras layers of that method store statistics as constants of the graph.
    layers = [layer for layer in model.layers if hasattr(layer, "adapt_to")]
    if layers:
        images = rows.sample(seed).astype(np.float32) * np.float32(scale)
        for layer in layers if len(images) else ():
            layer.adapt_to(images)


def is_generator(variable: Any) -> bool:
    """Whether a variable is the state of random numbers."""
    return bool(variable.name == "seed_generator_state")  # of dropout and similar layers


def _default_seeds(n: int) -> set[int]:
    """Draw the first seeds that Keras draws after ``random.seed(0)``."""
    generator = random.Random(0)
    return {generator.randint(1, 10**9) for _ in range(n)}


def _without_drawn_seed(initializer: Any, drawn: set[int]) -> Any:
    """Remove a seed that Keras drew, as if the network had not set one."""
    # `EinsumDense` stores the drawn seed in its initializer's config, like one set by the user.
    if isinstance(initializer, keras.initializers.Initializer):
        config = initializer.get_config()
        if isinstance(config.get("seed"), int) and config["seed"] in drawn:
            return type(initializer).from_config({**config, "seed": None})
    return initializer


def _initial_value(variable: Any, initializer: Any, seed: int) -> Any:
    if is_generator(variable):
        return np.array([seed, 0], dtype=variable.dtype)
    if isinstance(initializer, keras.initializers.Initializer):
        config = initializer.get_config()
        if "seed" in config and config["seed"] is None:
            initializer = type(initializer).from_config({**config, "seed": seed})
    return initializer(variable.shape, dtype=variable.dtype)


def resolve_precision(precision: str) -> str:
    """Convert the ``precision`` parameter to a Keras dtype policy."""
    return devices.low_precision() if precision == "mixed" else precision


@contextmanager
def settings(precision: str = "float32") -> Iterator[None]:
    """Build or trace under Keras' default settings, whatever keras.json or the user set."""
    config = keras.config
    wanted: tuple[tuple[Any, Any, Any], ...] = (
        (config.floatx, config.set_floatx, "float32"),
        (config.image_data_format, config.set_image_data_format, "channels_last"),
        (config.epsilon, config.set_epsilon, 1e-7),
        (config.dtype_policy, config.set_dtype_policy, precision),
    )
    # Keras' settings are global to the process, hence the lock.
    with _building:
        before = [(put, get()) for get, put, _ in wanted]
        try:
            for _, put, value in wanted:
                put(value)
            yield
        finally:
            for put, value in before:
                put(value)


_SCOPES = (
    "stateless_scope", "symbolic_scope", "autocast_scope", "name_scope_stack", "current_call_ctx",
    "remat_scope_stack",
)  # fmt: skip
"""Names of Keras' scopes in its state of this thread."""


@contextmanager
def outside_scopes() -> Iterator[None]:
    """Leave all scopes of Keras in this thread, and enter them again afterwards."""
    # Ctrl-C between two lines of Keras' own code leaves a scope open: weights would be set in it,
    # not be tracked, or get other names, by which an optimizer knows the last layer, in all
    # networks from then on.
    before = {name: global_state.get_global_attribute(name) for name in _SCOPES}
    try:
        global_state.set_global_attribute("tracking_on", True)
        for name in _SCOPES:
            global_state.set_global_attribute(name, None)
        yield
    finally:
        for name, scope in before.items():
            global_state.set_global_attribute(name, scope)
        global_state.set_global_attribute("tracking_on", True)


def traced(make: Callable[[], Any], precision: str = "float32") -> Any:
    """Trace a graph in a thread, apart from the caller's tapes, scopes and Keras settings."""
    if not tf.executing_eagerly():  # already inside a graph
        return make()

    # Tapes and scopes belong to threads. A gradient tape around the caller would change the graph,
    # also for later fits; under ``tf.init_scope`` it would have no gradients.

    def run() -> Any:
        with settings(precision), _plain_graphs():
            return make()

    with ThreadPoolExecutor(1) as pool:  # waits, even if the caller is interrupted
        return pool.submit(run).result()


def check_surroundings(name: str) -> None:
    """Raise RuntimeError inside a graph, a distribution strategy's scope or a forked process.

    TensorFlow would record a training there instead of running it.
    """
    forks.check()
    devices.gpus()  # TensorFlow must be configured before anything else uses it
    if tf.executing_eagerly() and not tf.distribute.has_strategy():
        return
    where = "the scope of a tf.distribute strategy" if tf.executing_eagerly() else "a tf.function"
    raise RuntimeError(
        f"{name} must be fitted and used outside of {where}, as it makes graphs of its own; call "
        "it before or after."
    )


@contextmanager
def alone(*, fused: bool = False) -> Iterator[None]:
    """Run graphs apart from the caller's tapes and scopes: a tape would record all their steps.

    With ``fused``, a convolution and what follows it, such as batch normalisation in inference and
    an activation, become one operation.
    """
    with tf.init_scope(), tf.device(None), _plain_graphs(fused=fused):
        yield


@contextmanager
def _plain_graphs(*, fused: bool = False) -> Iterator[None]:
    """Leave graphs as they were traced, where TensorFlow's optimizer of graphs does not pay."""
    if graph_optimizer_pays():
        yield
        return
    eager = context.context()
    before = eager.function_call_options  # of this thread
    options = _plain(before.executor_type, before.config_proto_serialized, fused)
    eager.function_call_options = options
    try:
        yield
    finally:
        eager.function_call_options = before


def graph_optimizer_pays() -> bool:
    """Whether networks run faster once TensorFlow's optimizer of graphs, Grappler, has run."""
    # On GPUs it chooses the layout of images. On CPUs it takes a third of a small network's first
    # fit, and no network is faster afterwards (``benchmarks/graphs.py``).
    return bool(devices.gpus())


@functools.cache
def _plain(executor_type: str | None, config: bytes, fused: bool) -> Any:
    """Return TensorFlow's options of a call with its optimizer of graphs, or all but one, off."""
    proto = tf.compat.v1.ConfigProto.FromString(config)
    rewrites = proto.graph_options.rewrite_options
    if fused:
        rewrites.optimizers[:] = ["remap"]
        rewrites.meta_optimizer_iterations = rewrites.ONE
    else:
        rewrites.disable_meta_optimizer = True
    return context.FunctionCallOptions(executor_type, proto)
