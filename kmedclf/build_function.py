"""`KerasImageClassifier`: a build function of scikeras under the engine of this package."""

from __future__ import annotations

import kmedclf.utils.tensorflow_loaded  # noqa: F401

import inspect
import json
import threading
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from types import SimpleNamespace
from typing import Any, ClassVar, Literal, Self

import joblib
import keras
import numpy as np
import tensorflow as tf
from keras.src.backend.common import global_state
from keras.src.models.functional import Functional
from keras.src.optimizers.base_optimizer import BaseOptimizer
from scikeras.utils import loss_name
from scikeras.wrappers import KerasClassifier

from kmedclf import routing
from kmedclf.base import FitData, ImageClassifier
from kmedclf.inputs.images import Images
from kmedclf.inputs.label_kinds import is_one_hot
from kmedclf.parameters import PositiveFloat, PositiveInt
from kmedclf.recipes import Auto
from kmedclf.training import loop, network, program
from kmedclf.training.heads import Head
from kmedclf.training.schedules import Schedule

_METADATA = (
    "X_dtype_", "X_shape_", "classes_", "feature_encoder_", "n_classes_", "n_features_in_",
    "n_outputs_", "n_outputs_expected_", "target_encoder_", "target_type_", "y_dtype_", "y_ndim_",
    "y_shape_",
)  # fmt: skip
"""What a build function finds in ``meta``."""

_NOT_OF_A_NETWORK = {
    "cache", "callbacks", "checkpoint", "memory", "random_state", "verbose", "warm_start",
}  # fmt: skip
"""Parameters that are not kept with a network, as they may be large."""

_MOST_VARIABLES, _MOST_ELEMENTS = 100_000, 10**11
_LOSSES = {
    "sparse_categorical_crossentropy",
    "categorical_crossentropy",
    "binary_crossentropy",
    "categorical_focal_crossentropy",
    "binary_focal_crossentropy",
}
"""Losses that the heads compute from logits."""


class KerasImageClassifier(ImageClassifier):
    """A Keras network that a function builds, with the parameters of scikeras' ``KerasClassifier``.

    A script for scikeras' class runs after a change of the import. Its network is compiled once
    for all fits of a search, and has what all estimators here have: files as X, augmentation,
    class weights, early stopping, memory of fits, and reports.

    Parameters
    ----------
    model : callable or keras.Model
        Function that returns a Keras model with one input and one output, compiled or not. It is
        called with the parameters that are routed to it, and with ``meta`` (a dict with
        ``n_classes_``, ``X_shape_``, ``target_type_`` and others, as after a fit),
        ``compile_kwargs`` and ``params`` if it takes them. The output has one unit per class or
        label, or one for two classes; its softmax or sigmoid is replaced by the engine's own. The
        weights of a model are the initial weights of every fit. Images reach the network with
        their own numbers: bytes are 0 to 255.
    build_fn : callable or None, default=None
        Former name of ``model``.
    optimizer : str, keras.optimizers.Optimizer or class, default="rmsprop"
        Optimizer of a model that is not compiled. Its parameters are routed:
        ``optimizer__learning_rate``.
    loss : str, keras.losses.Loss, class, callable or None, default=None
        Loss of a model that is not compiled. Cross entropies and focal losses are computed from
        logits, and all others from probabilities.
    metrics : str, list or None, default=None
        Only accuracy, which ``history_`` always has; others are left out with a warning.
    epochs : int, default=1
        Number of epochs.
    batch_size : int or None, default=None
        Images per gradient step. None is 32; -1 is all images.
    learning_rate : float, "auto" or None, default="auto"
        Learning rate in place of the optimizer's, unless "auto" or None.
    callbacks : callback, class, list, dict or None, default=None
        Callbacks, or classes of callbacks with routed parameters.
    early_stopping : bool, default=False
        Stop when the monitored validation value no longer improves.
    augment : bool, str, keras.layers.Layer or list of them, default=False
        Augmentation of the training images, as of other estimators.
    precision : {"float32", "mixed", "mixed_bfloat16", "mixed_float16"}, default="float32"
        Precision of the layers; "mixed" chooses for the device.

    Raises
    ------
    ValueError
        If the network has several inputs or outputs, or another number of outputs than there are
        classes, or trains by a ``train_step`` of its own.

    Notes
    -----
    Parameters named ``model__filters``, or only ``filters``, are the function's. Those with the
    prefixes ``optimizer__``, ``loss__``, ``compile__``, ``fit__`` and ``callbacks__`` go where
    scikeras sends them; a ``predict__batch_size`` changes nothing. One-hot y is learnt as one class
    per image, and predicted as one-hot rows.

    The function is called in every fit. Networks with the same layers share one compiled network,
    whatever the function's parameters were called, so a learning rate costs no compilation.
    Learning rate schedules of Keras and averaged weights (``use_ema``) are refused.

    `kmedclf.load` needs the function as its argument ``model``, since a file holds no code.

    References
    ----------
    scikeras 0.13, https://adriangb.com/scikeras.

    Examples
    --------
    >>> import keras
    >>> from kmedclf import KerasImageClassifier
    >>> from kmedclf.datasets import make_blood_cells
    >>> def build(meta, units=8):
    ...     return keras.Sequential([
    ...         keras.Input(meta["X_shape_"][1:]),
    ...         keras.layers.Rescaling(1 / 255),
    ...         keras.layers.Flatten(),
    ...         keras.layers.Dense(units, activation="relu"),
    ...         keras.layers.Dense(meta["n_classes_"], activation="softmax"),
    ...     ])
    >>> X, y = make_blood_cells(100, random_state=0)  # synthetic
    >>> model = KerasImageClassifier(build, loss="sparse_categorical_crossentropy", model__units=4,
    ...                              optimizer="adam", optimizer__learning_rate=0.01)
    >>> model.fit(X, y, epochs=2).predict_proba(X[:3]).shape
    (3, 8)
    """

    model: object = field(default=None, kw_only=False)  # type: ignore[misc]
    build_fn: object = None  # type: ignore[misc]
    optimizer: object = "rmsprop"  # type: ignore[assignment]
    loss: object = None  # type: ignore[assignment]
    metrics: object = None  # type: ignore[misc]
    epochs: PositiveInt | Auto = 1
    batch_size: int | None = None  # type: ignore[assignment]
    learning_rate: PositiveFloat | Auto | None = "auto"
    callbacks: object = None  # type: ignore[assignment]
    early_stopping: bool | Auto = False
    augment: object = False
    precision: Literal["float32", "mixed", "mixed_bfloat16", "mixed_float16"] = "float32"

    takes_any_parameter: ClassVar[bool] = True
    any_scale: ClassVar[bool] = True
    outside_graph: ClassVar[frozenset[str]] = frozenset({"build_fn", "metrics"})

    # -- parameters --------------------------------------------------------------------------

    def _get_param_names(self) -> list[str]:  # type: ignore[override]
        return list(KerasClassifier._get_param_names(self))

    def set_params(self, **params: Any) -> Self:
        """Set parameters, those routed to the function, optimizer and loss included.

        Parameters
        ----------
        **params
            Values by name.

        Returns
        -------
        self
            The estimator.

        Raises
        ------
        ValueError
            If a name is neither routed nor among ``get_params()``.
        """
        known = set(vars(self))
        for name, value in params.items():
            if name not in known and not routing.is_routed(name):
                if name in routing.NOT_APPLICABLE:
                    routing.check_value(name, value, type(self).__name__)
                    continue
                if name not in self._of_function():
                    raise ValueError(
                        routing.unknown(type(self).__name__, name, known, ", or the function takes")
                    )
            setattr(self, name, value)
        return self

    def _of_function(self) -> set[str]:
        """Names of the function's parameters."""
        function = getattr(self, "_keras_build_fn", self.model or self.build_fn)
        if isinstance(function, keras.Model) or not callable(function):
            return set()
        return set(inspect.signature(function).parameters)

    @property
    def _user_params(self) -> set[str]:
        """Names of parameters that scikeras hands to the function without a prefix."""
        defaults = {one.name: one.default for one in fields(type(self))}
        own = {
            name for name in self._get_param_names()
            if name not in defaults and not routing.is_routed(name)
        }  # fmt: skip
        theirs = _parameters_of_scikeras()
        shared = self._of_function() & defaults.keys() - theirs
        return own | {name for name in shared if getattr(self, name) is not defaults[name]}

    def _check_optimizer(self) -> None:
        """Accept whatever scikeras does."""

    def _callbacks(self) -> list[keras.callbacks.Callback]:
        hook = type(self)(**self.get_params(deep=False))
        hook._initialize_callbacks()
        found: list[Any] = []
        for one in hook._fit_callbacks:
            found += one if isinstance(one, list) else [one]
        return found

    @contextmanager
    def _replaced(self, given: dict[str, Any], data: FitData) -> Iterator[None]:
        routed = {
            name.removeprefix("fit__"): value
            for name, value in self.get_params(deep=False).items()
            if name.startswith("fit__") and not name.startswith("fit__callbacks")
        }
        with super()._replaced({**routed, **given}, data):
            yield

    def _make_schedule(self) -> Schedule:
        schedule = super()._make_schedule()
        size = 32 if self.batch_size is None else self.batch_size
        if size < 1 and size != -1:
            raise ValueError(
                f"The 'batch_size' parameter of {type(self).__name__} must be at least 1, -1 for "
                f"all images, or None. Got {size} instead."
            )
        if not routing.is_accuracy(self.metrics):
            warnings.warn(
                f"{type(self).__name__} computes only loss and accuracy in every epoch; "
                "kmedclf.evaluation.evaluate computes other metrics of the fitted estimator.",
                UserWarning,
                stacklevel=4,
            )
        return replace(schedule, batch_size=2**30 if size == -1 else size)

    # -- the network -------------------------------------------------------------------------

    def _training_task(self, *args: Any, **kwargs: Any) -> loop.TrainingTask:
        task = super()._training_task(*args, **kwargs)
        rate = self._rate(task.schedule, task.spec)
        return replace(task, schedule=replace(task.schedule, learning_rate=rate))

    def _rate(self, schedule: Schedule, spec: network.Spec) -> float | None:
        return dict(spec.architecture)["model"].learning_rate

    def _fit(self, schedule: Schedule, data: FitData, *args: Any, **kwargs: Any) -> Self:
        if _is_one_hot(data.y) and not self._is_binary_loss():
            k = np.shape(data.y)[1]
            shape, data.classes = np.shape(data.y), np.arange(k)
            data.y = np.argmax(data.y, axis=1)
            if data.y_val is not None:
                data.y_val = np.argmax(data.y_val, axis=1)
            super()._fit(schedule, data, *args, **kwargs)
            self._seen = {**self._seen, "y_shape_": shape}
            return self
        return super()._fit(schedule, data, *args, **kwargs)

    def _is_binary_loss(self) -> bool:
        return self.loss is not None and loss_name(self.loss).startswith("binary")

    def _network_spec(self, images: Images, head: Head) -> network.Spec:
        return self._spec_of(images.shape, head)

    def _spec_of(self, shape: tuple[int, int, int], head: Head) -> network.Spec:
        precision = network.resolve_precision(self.precision)
        built = Built.of(self, shape, head.activation, precision)
        options = {**dict(program.step_options(self)), **built.options}
        return network.Spec(
            estimator=type(self),
            architecture=(("model", built),),
            image_shape=shape,
            scale=1.0,
            n_classes=len(self.classes_),
            optimizer=built.optimizer,
            precision=precision,
            jit_compile=self.jit_compile,
            start=built.start,
            options=tuple(options.items()),
            head=head.activation,
        )

    def _to_logits(self, x: Any, spec: network.Spec) -> Any:
        built: Any = self.model
        return logits_of(built.call(), x, spec.n_classes, spec.head, type(self).__name__)

    def _get_metadata(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in _METADATA}

    @property
    def target_type_(self) -> str:
        """Kind of y in scikit-learn's words: "binary", "multiclass", "multilabel-indicator"."""
        return "multilabel-indicator" if self._predicts_rows else super().target_type_

    @property
    def _predicts_rows(self) -> bool:
        """Whether y was one-hot."""
        columns = self._of_data("y_shape_")[1:]
        return not self._head.multilabel and bool(columns) and columns[0] > 1

    @property
    def network_(self) -> keras.Model:
        """A new model as the function returns it, with the fitted weights, compiled."""
        spec = self._spec if self.initialized_ else None
        if spec is None:
            return super().network_  # raises
        built = dict(spec.architecture)["model"]
        with network.outside_scopes(), network.settings(spec.precision):
            model = built.call()
            image = keras.Input(spec.image_shape, dtype="float32")
            if not model.built:
                model(_fitting(model, image))
            last, before = _output_layer(model)
            x = logits_of(model, image, spec.n_classes, spec.head, type(self).__name__)
            keras.Model(image, x).set_weights(self.weights_)
            if last is not None:
                last.activation = before
            if not model.compiled:
                model.compile(**built.hook()._get_compile_kwargs())
        return model

    def predict(self, X: Any, **predict_params: Any) -> np.ndarray:
        """Predict labels.

        Parameters
        ----------
        X : array-like
            Images of the kind and shape seen during fit.
        **predict_params
            As in `predict_proba`.

        Returns
        -------
        ndarray of shape (n,) or (n, k)
            Labels out of ``classes_``; for multilabel targets zeros and ones, with ones for
            probabilities above 0.5; one-hot rows if y was one-hot.
        """
        labels = super().predict(X, **predict_params)
        return np.eye(len(self.classes_), dtype=int)[labels] if self._predicts_rows else labels


def _parameters_of_scikeras() -> set[str]:
    return set(inspect.signature(KerasClassifier).parameters)


def _is_one_hot(y: Any) -> bool:
    return np.ndim(y) == 2 and np.shape(y)[1] > 1 and bool(is_one_hot(np.asarray(y)))


@dataclass(eq=False)
class Built:
    """A call of a build function, and what it returned: the key of a compiled network.

    Two are equal if the networks have the same layers, whatever built them.
    """

    cls: type[KerasImageClassifier]
    params: dict[str, Any]
    data: dict[str, Any]  # attributes of the estimator that ``meta`` is made of
    head: str
    key: tuple[Any, ...] = ()
    optimizer: str = ""
    learning_rate: float | None = None
    options: dict[str, Any] = field(default_factory=dict)
    start: str = ""  # hash of the weights that the function sets

    @classmethod
    def of(
        cls, estimator: KerasImageClassifier, shape: tuple[int, int, int], head: str, precision: str
    ) -> Built:
        """Call an estimator's function without allocating a weight, and read what it returns."""
        params = estimator.get_params(deep=False)
        kept = {name: one for name, one in params.items() if name not in _NOT_OF_A_NETWORK}
        data = {
            "classes_": estimator.classes_,
            "n_features_in_": estimator.n_features_in_,
            "_seen": dict(estimator._seen),
        }
        built = cls(type(estimator), kept, data, head)
        with (
            network.outside_scopes(),
            network.python_random_kept(),
            network.settings(precision),
            network.without_values(_MOST_VARIABLES, _MOST_ELEMENTS) as scope,
        ):
            model = built.call()
            _check_model(model, estimator)
            optimizer, loss = built._compiled(model)
            image = keras.Input(shape, dtype="float32")
            logits_of(model, image, len(estimator.classes_), head, type(estimator).__name__)
            built.key = _key(model, kept)
            set_values = [scope.get_current_value(v) for v in model.weights]
            if any(one is not None for one in set_values):
                built.start = joblib.hash([_numbers(one) for one in set_values])
            built._read_optimizer(optimizer, estimator)
            built._read_loss(loss, model)
        return built

    def hook(self) -> KerasImageClassifier:
        """Make an estimator that looks fitted, as far as build functions look at it."""
        hook = self.cls(**self.params)
        hook.__dict__ |= {**self.data, "weights_": [], "_spec": SimpleNamespace(head=self.head)}
        hook._random_state = None
        return hook

    def call(self) -> keras.Model:
        """Call the function; its layers get the same names every time."""
        with _state_of_keras("object_name_uids"), _optimizers_with_values():
            given = self.params.get("model") or self.params.get("build_fn")
            if isinstance(given, keras.Model):
                return _copied(given)
            return self.hook()._build_keras_model()

    def _compiled(self, model: keras.Model) -> tuple[Any, Any]:
        """Return optimizer and loss, of a compiled model or of the parameters."""
        given = self.params.get("model")
        source = given if isinstance(given, keras.Model) else model
        if source.compiled:
            optimizer, loss = source.optimizer, source.loss
        else:
            with _optimizers_with_values():
                compiled = self.hook()._get_compile_kwargs()
                optimizer = keras.optimizers.get(compiled["optimizer"] or "")
            loss = compiled["loss"]
        if not loss or not optimizer:
            raise ValueError(
                f"The 'loss' parameter of {self.cls.__name__} must be a loss of Keras, such as "
                "'sparse_categorical_crossentropy', where the model is not compiled. Got "
                f"{loss!r} instead."
            )
        return optimizer, loss

    def _read_optimizer(self, optimizer: Any, estimator: KerasImageClassifier) -> None:
        name, config = self.cls.__name__, dict(optimizer.get_config())
        rate = config.pop("learning_rate")
        if isinstance(rate, dict) or config.get("use_ema"):
            what = "a learning rate schedule" if isinstance(rate, dict) else "averaged weights"
            raise ValueError(
                f"The optimizer of {name} must have a number as learning rate, which 'lr_schedule' "
                f"changes, and no averaged weights. Got {what}."
            )
        own = estimator.learning_rate
        self.learning_rate = float(rate) if own in (None, "auto") else float(own)
        config.pop("name", None)
        config.pop("is_legacy_optimizer", None)
        self.optimizer = type(optimizer).__name__.lower()
        self.options["optimizer_config"] = tuple(
            (key, _hashable(value)) for key, value in sorted(config.items()) if value is not None
        )
        if not type(optimizer).__module__.startswith("keras."):
            self.options["optimizer_class"] = type(optimizer)

    def _read_loss(self, loss: Any, model: keras.Model) -> None:
        if isinstance(loss, dict | list | tuple):
            [loss] = loss.values() if isinstance(loss, dict) else loss
        loss = keras.losses.get(loss() if inspect.isclass(loss) else loss)
        try:
            name = loss_name(loss)
        except TypeError:
            name = ""
        config = loss.get_config() if isinstance(loss, keras.losses.Loss) else {}
        if name not in _LOSSES:
            self.options["loss"] = OwnLoss(loss, self.head, model.output_shape[-1])
            return
        if config.get("label_smoothing"):
            self.options["label_smoothing"] = config["label_smoothing"]
        if "focal" in name:
            binary = name.startswith("binary")
            self.options["focal_gamma"] = config.get("gamma", 2.0)
            self.options["focal_alpha"] = 1.0 if binary else config.get("alpha", 0.25)

    def __eq__(self, other: object) -> bool:
        """Compare the networks."""
        return isinstance(other, Built) and self._identity == other._identity

    def __hash__(self) -> int:
        """Hash the network."""
        return hash(self._identity)

    @property
    def _identity(self) -> tuple[Any, ...]:
        return self.cls, self.key, self.start

    @property
    def digest(self) -> str:
        """Hash of the layers, the same in every process."""
        return str(joblib.hash(self.key[0]))


class OwnLoss:
    """Any loss of Keras or function, of probabilities."""

    def __init__(self, loss: Any, head: str, outputs: int) -> None:
        self.loss, self.head, self.outputs = loss, head, outputs
        config = loss.get_config() if isinstance(loss, keras.losses.Loss) else loss
        self._key = type(loss), repr(config), head, outputs

    def __eq__(self, other: object) -> bool:
        """Compare class and configuration."""
        return isinstance(other, OwnLoss) and self._key == other._key

    def __hash__(self) -> int:
        """Hash class and configuration."""
        return hash(self._key)

    def of(self, n_classes: int) -> Any:
        """Make the loss: labels and logits to one value per row, or per label."""
        value = self.loss.call if isinstance(self.loss, keras.losses.Loss) else self.loss

        def loss(labels: Any, logits: Any) -> Any:
            if self.head == "sigmoid":
                return value(labels[..., None], tf.sigmoid(logits)[..., None])
            if len(labels.shape) == 1:
                labels = tf.one_hot(labels, n_classes)
            shares = tf.nn.softmax(logits)
            if self.outputs == 1:  # of two classes, the second
                labels, shares = labels[:, 1:], shares[:, 1:]
            return value(labels, shares)

        return loss


def _check_model(model: Any, estimator: KerasImageClassifier) -> None:
    name = type(estimator).__name__
    if not isinstance(model, keras.Model):
        raise TypeError(
            f"The 'model' parameter of {name} must return a keras.Model. Got "
            f"{type(model).__name__} instead."
        )
    own = type(model).train_step is not keras.Model.train_step
    several = any(len(getattr(model, one, None) or [0]) > 1 for one in ("inputs", "outputs"))
    if own or several:
        what = "a train_step of its own" if own else "several inputs or outputs"
        raise ValueError(
            f"The 'model' parameter of {name} must build a network of one input and one output "
            f"that trains by its loss. Got one with {what}."
        )


def _copied(model: keras.Model) -> keras.Model:
    """Copy a model with its weights, as initial weights."""
    layers = {type(layer).__name__: type(layer) for layer in model._flatten_layers()}
    with keras.saving.CustomObjectScope(layers):
        copied = type(model).from_config(model.get_config())
    copied.set_weights(model.get_weights())
    return copied


def _output_layer(model: keras.Model) -> tuple[Any, Any]:
    """Return the layer with the network's last activation, and the activation; None if unknown."""
    inner: Any = model
    while isinstance(inner, keras.Model):
        if isinstance(inner, keras.Sequential):
            inner = inner.layers[-1]
        elif isinstance(inner, Functional):
            inner = inner.outputs[0]._keras_history.operation
        else:
            return None, None
    return (inner, inner.activation) if hasattr(inner, "activation") else (None, None)


def logits_of(model: keras.Model, x: Any, n_classes: int, head: str, name: str) -> Any:
    """Connect a user's network to images (b, h, w, c); return logits (b, n_classes)."""
    x = _fitting(model, x)
    output = model(x)  # builds what has no input shape yet
    if len(output.shape) != 2:
        raise ValueError(
            f"The 'model' parameter of {name} must build a network with an output of shape (b, k). "
            f"Got {tuple(output.shape)} instead."
        )
    n = output.shape[1]
    if n != n_classes and not (n == 1 and n_classes == 2 and head == "softmax"):
        raise ValueError(
            f"The 'model' parameter of {name} must build a network with {n_classes} outputs, one "
            f"for each class or label{', or with one' if n_classes == 2 else ''}. Got {n} instead."
        )
    last, activation = _output_layer(model)
    kind = getattr(activation, "__name__", None)
    if head == "softmax" and n > 1 and kind == "sigmoid":
        raise ValueError(
            f"The 'model' parameter of {name} must build a network that ends with softmax where an "
            f"image has one class of {n_classes}. Got sigmoid instead."
        )
    if kind in ("softmax", "sigmoid", "linear"):
        last.activation = keras.activations.linear
        flat = isinstance(model, keras.Sequential | Functional)
        # Its layers become layers of the network around it, where Grad-CAM finds them.
        logits = model.call(x) if flat else model(x)
    else:  # an unknown output is a probability: its logarithm has the same softmax or sigmoid
        shares = keras.ops.clip(keras.ops.cast(output, "float32"), 1e-7, 1 - 1e-7)
        single = head == "sigmoid" or n == 1
        logits = keras.ops.log(shares) - (keras.ops.log(1 - shares) if single else 0.0)
    logits = keras.layers.Activation("linear", dtype="float32", name="logits_of_output")(logits)
    if n < n_classes:  # the softmax of (0, z) is the sigmoid of z
        logits = keras.ops.concatenate([keras.ops.zeros_like(logits), logits], axis=-1)
    return logits


def _fitting(model: keras.Model, x: Any) -> Any:
    """Reshape images to what the network takes, such as (h, w) or flat vectors."""
    try:
        wanted = tuple(model.input_shape[1:])
    except (AttributeError, ValueError):
        return x
    size = int(np.prod(x.shape[1:]))
    if wanted != tuple(x.shape[1:]) and None not in wanted and int(np.prod(wanted)) == size:
        return keras.layers.Reshape(wanted, name="as_given")(x)
    return x


def _key(model: keras.Model, params: dict[str, Any]) -> tuple[Any, ...]:
    """Describe a network: its layers as text, and the classes that are not Keras' own."""
    classes = {type(layer) for layer in model._flatten_layers()} | {type(model)}
    own = tuple(sorted((c for c in classes if not c.__module__.startswith("keras.")), key=str))
    try:
        text = json.dumps(model.get_config(), default=repr, sort_keys=True)
    except (NotImplementedError, TypeError, ValueError):
        text = ""
    given = params.get("model") or params.get("build_fn")
    function = None if text else given
    # A layer of the user's may leave out of its configuration what decides about it.
    if own or not text:
        text += joblib.hash({n: v for n, v in params.items() if n not in ("model", "build_fn")})
    return text, own, function


@contextmanager
def _state_of_keras(name: str) -> Iterator[None]:
    """Begin without a value in Keras' state of this thread, and restore it."""
    before = global_state.get_global_attribute(name)
    global_state.set_global_attribute(name, None)
    try:
        yield
    finally:
        global_state.set_global_attribute(name, before)


_PLAIN = BaseOptimizer.__init__
_building: Counter[int] = Counter()  # threads that run a build function, and how deep
_patching = threading.Lock()


def _init_with_values(self: Any, *args: Any, **kwargs: Any) -> None:
    """Make an optimizer, of a build function outside of its stateless scope."""
    if _building[threading.get_ident()]:
        with _state_of_keras("stateless_scope"):
            _PLAIN(self, *args, **kwargs)
    else:  # another thread's
        _PLAIN(self, *args, **kwargs)


@contextmanager
def _optimizers_with_values() -> Iterator[None]:
    """Let a build function make optimizers where variables get no values."""
    # Inside a stateless scope Keras refuses the counter of steps, which has no initializer. Several
    # threads may build at once: the last one puts Keras' own way back.
    thread = threading.get_ident()
    with _patching:
        _building[thread] += 1
        BaseOptimizer.__init__ = _init_with_values
    try:
        yield
    finally:
        with _patching:
            _building[thread] -= 1
            if not +_building:
                BaseOptimizer.__init__ = _PLAIN


def _numbers(value: Any) -> Any:
    return None if value is None else keras.ops.convert_to_numpy(value)


def _hashable(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return tuple(map(_hashable, value))
    if isinstance(value, dict):
        return tuple(sorted((key, _hashable(one)) for key, one in value.items()))
    return value
