"""From an estimator's parameters to a Keras model, and to the model's initial values for a seed."""

from __future__ import annotations

import math
import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf
from keras.src.backend.common import global_state

from kmedclf import recipes
from kmedclf.training import devices
from kmedclf.utils import forks
from kmedclf.utils.random_state import python_random_kept

if TYPE_CHECKING:
    from kmedclf.inputs.images import Rows


_building = threading.RLock()


@dataclass(frozen=True)
class Spec:
    """All that a compiled program depends on: the key of the cache.

    Parameters
    ----------
    estimator : type
        The class whose ``features`` method maps an image tensor to a feature tensor.
    architecture : tuple of (str, hashable)
        The estimator's own parameters, by name.
    image_shape : tuple of int
        (h, w, c).
    scale : float
        What pixels are multiplied by before anything else.
    n_classes : int
        Number of outputs.
    optimizer : str
        Name of the Keras optimizer; its learning rate is a variable and not part of the key.
    precision : str
        Keras dtype policy of everything but the head.
    jit_compile : bool or "auto"
        Whether the training step goes through XLA.
    start : str, default=""
        Content of the weights to start from, where they come from a file.
    options : tuple of (str, hashable), default=()
        What a training step does otherwise than by default; see
        `kmedclf.training.program.step_options`.
    head : str, default="softmax"
        What the last layer is for; a name out of `kmedclf.training.heads.HEADS`.
    """

    estimator: type[Any]
    architecture: tuple[tuple[str, Any], ...]
    image_shape: tuple[int, int, int]
    scale: float
    n_classes: int
    optimizer: str
    precision: str
    jit_compile: bool | str
    start: str = ""
    options: tuple[tuple[str, Any], ...] = ()
    head: str = "softmax"

    @property
    def network(self) -> tuple[Any, ...]:
        """What the weights depend on: fits that agree in it can continue one another."""
        free = self.estimator.changes_no_shape
        shape = tuple(one for one in self.architecture if one[0] not in free)
        return self.estimator, shape, self.image_shape, self.scale, self.n_classes, self.head


def build(spec: Spec, *, activated: bool = False) -> tuple[keras.Model, list[tuple[Any, Any]]]:
    """Build the Keras model of a spec, its variables not yet given their values.

    Parameters
    ----------
    spec : Spec
        What to build.
    activated : bool, default=False
        Whether the model ends in probabilities rather than logits.

    Returns
    -------
    model : keras.Model
        Maps images (b, h, w, c), uint8 or float32 on the scale of the data, to float32 (b, k).
    initializers : list of (variable, initializer)
        How `initialize` makes the variables' values.
    """
    forks.check()
    # Inside the scope no variable is given a value, so that initialisers can be kept and run
    # again for every seed instead of being run once and forgotten. Leaving it gives the values:
    # Keras would hold on to variables that are given theirs in any other way.
    with python_random_kept(), settings(spec.precision):
        random.seed(0)  # so that seeds drawn by Keras are told from those fixed in the network
        with keras.StatelessScope():
            model = _model(spec, activated=activated)
            drawn = _default_seeds(1_000 + 20 * len(model.variables))
            initializers = [
                # A network may give a variable its start itself, say one read from a file.
                (
                    variable,
                    getattr(variable, "start", _without_drawn_seed(variable._initializer, drawn)),
                )
                for variable in model.variables
            ]
    return model, initializers


def activated(spec: Spec, model: keras.Model, **compiled: Any) -> keras.Model:
    """Give a model of the same variables and the same optimizer that ends in probabilities."""
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
    x = hook.features(x)
    if len(x.shape) > 2:
        x = keras.layers.Flatten(name="flatten")(x)  # (b, f)
    x = keras.layers.Dense(spec.n_classes, dtype="float32", name="logits")(x)  # (b, k)
    if activated:
        x = _probabilities(spec)(x)
    return keras.Model(image, x, name=spec.estimator.__name__.lower())


def shapes(spec: Spec, given: list[tuple[int, ...]]) -> list[tuple[tuple[int, ...], str]]:
    """Give the shape and dtype of every weight of a network, whose values are never made.

    Parameters
    ----------
    spec : Spec
        What a stranger says the network is.
    given : list of tuple of int
        The shapes to compare. A network that needs more is given up while it is built, so that
        neither time nor memory is spent on what no file holds.

    Raises
    ------
    ValueError
        If the network has more variables than the file.
    """
    if spec not in _shapes:
        elements = sum(map(math.prod, given))
        with python_random_kept(), settings(spec.precision):
            # and seed generators, whose states are no weights
            with without_values(2 * len(given) + 16, elements + 4 * len(given) + 64):
                weights = _model(spec, activated=False).weights
        if len(_shapes) >= MAX_SHAPES:
            _shapes.clear()
        _shapes[spec] = [(tuple(one.shape), str(one.dtype)) for one in weights]
    return _shapes[spec]


MAX_SHAPES = 256
"""Of how many networks the process remembers the shapes: loading the same again need not build."""

_shapes: dict[Spec, list[tuple[tuple[int, ...], str]]] = {}


class _Declared(list[Any]):
    """Variables that Keras has been told of, up to a number of them and of their elements."""

    def __init__(self, variables: int, elements: int) -> None:
        super().__init__()
        self.variables, self.elements = variables, elements

    def append(self, variable: Any) -> None:
        super().append(variable)
        self.elements -= math.prod(variable.shape)
        if len(self) > self.variables or self.elements < 0:
            raise ValueError("the network that it describes is larger than the weights in it")


@contextmanager
def without_values(variables: int, elements: int) -> Iterator[None]:
    """Have Keras make variables without values, and raise ValueError where there are too many."""
    # Keras notes here which variables still want their values, and has no other place to ask.
    name = "uninitialized_variables"
    before = global_state.get_global_attribute(name, [])
    global_state.set_global_attribute(name, _Declared(variables, elements))
    try:
        with keras.StatelessScope(initialize_variables=False):
            yield
    finally:
        global_state.set_global_attribute(name, before)


def initialize(initializers: list[tuple[Any, Any]], seed: np.random.SeedSequence) -> None:
    """Give every variable the initial value that belongs to a seed.

    An initialiser whose own seed was fixed in the network keeps it. No global random state is
    read or changed.
    """
    seeds = seed.generate_state(len(initializers)) >> np.uint32(1)
    for (variable, initializer), number in zip(initializers, seeds, strict=True):
        variable.assign(_initial_value(variable, initializer, int(number)))


def adapt(model: keras.Model, rows: Rows, scale: float, seed: int) -> None:
    """Let layers that look at training images before the first step do so: by ``adapt_to``.

    Not by ``adapt``, the name in Keras, whose layers keep what they find as constants of the graph.
    """
    layers = [layer for layer in model.layers if hasattr(layer, "adapt_to")]
    if layers:
        images = rows.sample(seed).astype(np.float32) * np.float32(scale)
        for layer in layers if len(images) else ():
            layer.adapt_to(images)


def reseed(initializers: list[tuple[Any, Any]], seed: int) -> None:
    """Seed dropout and its like, and leave all other variables as they are."""
    generators = [variable for variable, _ in initializers if _is_generator(variable)]
    for number, variable in enumerate(generators):
        variable.assign(np.array([seed, number], dtype=variable.dtype))


def _is_generator(variable: Any) -> bool:
    return bool(variable.name == "seed_generator_state")  # of dropout and its like


def _default_seeds(n: int) -> set[int]:
    """Draw the first seeds that Keras draws after ``random.seed(0)``."""
    generator = random.Random(0)
    return {generator.randint(1, 10**9) for _ in range(n)}


def _without_drawn_seed(initializer: Any, drawn: set[int]) -> Any:
    """Take out a seed that Keras has drawn: `EinsumDense` writes it where a fixed one would be."""
    if isinstance(initializer, keras.initializers.Initializer):
        config = initializer.get_config()
        if isinstance(config.get("seed"), int) and config["seed"] in drawn:
            return type(initializer).from_config({**config, "seed": None})
    return initializer


def _initial_value(variable: Any, initializer: Any, seed: int) -> Any:
    if _is_generator(variable):
        return np.array([seed, 0], dtype=variable.dtype)
    if isinstance(initializer, keras.initializers.Initializer):
        config = initializer.get_config()
        if "seed" in config and config["seed"] is None:
            initializer = type(initializer).from_config({**config, "seed": seed})
    return initializer(variable.shape, dtype=variable.dtype)


def resolve_precision(precision: str) -> str:
    """Turn an estimator's ``precision`` parameter into a Keras dtype policy."""
    return devices.low_precision() if precision == "mixed" else precision


@contextmanager
def settings(precision: str = "float32") -> Iterator[None]:
    """Build or trace under Keras' own defaults, whatever keras.json or the user has set.

    They are those of the process, so that nothing else happens under them: a network of the same
    parameters must be the same network, and the user's own layers the user's.
    """
    config = keras.config
    wanted: tuple[tuple[Any, Any, Any], ...] = (
        (config.floatx, config.set_floatx, "float32"),
        (config.image_data_format, config.set_image_data_format, "channels_last"),
        (config.epsilon, config.set_epsilon, 1e-7),
        (config.dtype_policy, config.set_dtype_policy, precision),
    )
    with _building:
        before = [(put, get()) for get, put, _ in wanted]
        try:
            for _, put, value in wanted:
                put(value)
            yield
        finally:
            for put, value in before:
                put(value)


def traced(make: Callable[[], Any], precision: str = "float32") -> Any:
    """Make a graph under Keras' defaults, and away from the scopes around the caller.

    In a thread of its own, as those belong to threads: a gradient tape would change the graph, also
    for later fits, and in ``tf.init_scope`` it would have no gradients.
    """
    if not tf.executing_eagerly():  # a graph within a graph
        return make()

    def run() -> Any:
        with settings(precision):
            return make()

    with ThreadPoolExecutor(1) as pool:  # which waits for it, even if the caller is interrupted
        return pool.submit(run).result()


def check_surroundings(name: str) -> None:
    """Refuse to train or predict where TensorFlow would record it instead of doing it.

    Raises
    ------
    RuntimeError
        Inside a graph, in the scope of a distribution strategy, or in a forked process.
    """
    forks.check()
    devices.gpus()  # TensorFlow can be set up only before anything else uses it
    if tf.executing_eagerly() and not tf.distribute.has_strategy():
        return
    where = "the scope of a tf.distribute strategy" if tf.executing_eagerly() else "a tf.function"
    raise RuntimeError(
        f"{name} must be fitted and used outside of {where}, as it makes graphs of its own; call "
        "it before or after."
    )


@contextmanager
def alone() -> Iterator[None]:
    """Call a graph so that no gradient tape around it records all its steps."""
    with tf.init_scope(), tf.device(None):
        yield
