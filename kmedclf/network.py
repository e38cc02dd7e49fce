"""From an estimator's parameters to a Keras model, and to the model's initial values for a seed."""

from __future__ import annotations

import math
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras.src.backend.common import global_state

from kmedclf import devices, recipes

if TYPE_CHECKING:
    from kmedclf.pipeline import Rows

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
        What a training step does otherwise than by default; see `kmedclf.step.options`.
    head : str, default="softmax"
        What the last layer is for; a name out of `kmedclf.heads.HEADS`.
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
    # Inside the scope no variable is given a value, so that initialisers can be kept and run
    # again for every seed instead of being run once and forgotten. Leaving it gives the values:
    # Keras would hold on to variables that are given theirs in any other way.
    with _building, python_random_kept(), _dtype_policy(spec.precision):
        random.seed(0)  # so that seeds drawn by Keras are told from those fixed in the network
        with keras.StatelessScope():
            model = _model(spec, activated=activated)
            drawn = _default_seeds(1_000 + 20 * len(model.variables))
            initializers = [
                # A network may give a variable its start itself, say one read from a file.
                (variable, getattr(variable, "start", _open(variable._initializer, drawn)))
                for variable in model.variables
            ]
    return model, initializers


def _model(spec: Spec, *, activated: bool) -> keras.Model:
    hook = recipes.applied(spec.estimator(**dict(spec.architecture)))
    image = keras.Input(spec.image_shape, dtype="float32", name="image")  # (b, h, w, c)
    x = keras.layers.Rescaling(spec.scale, dtype="float32", name="scale")(image)
    x = hook.features(x)
    if len(x.shape) > 2:
        x = keras.layers.Flatten(name="flatten")(x)  # (b, f)
    x = keras.layers.Dense(spec.n_classes, dtype="float32", name="logits")(x)  # (b, k)
    if activated:
        last = keras.layers.Activation(spec.head, dtype="float32", name="probabilities")
        x = last(x)
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
        with _building, python_random_kept(), _dtype_policy(spec.precision):
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


def _open(initializer: Any, drawn: set[int]) -> Any:
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
def python_random_kept() -> Iterator[None]:
    """Leave Python's global generator alone, from which Keras seeds what it constructs."""
    state = random.getstate()
    try:
        yield
    finally:
        random.setstate(state)


@contextmanager
def _dtype_policy(name: str) -> Iterator[None]:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
