"""The base class of all estimators.

One long file: whatever reads or sets a private attribute of an estimator is its method.
"""

from __future__ import annotations

import kmedclf.utils.tensorflow_loaded  # noqa: F401

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Self, dataclass_transform

import keras
import numpy as np
import tensorflow as tf
from scikeras.utils.transformers import ClassifierLabelEncoder
from scikeras.wrappers import KerasClassifier
from sklearn.base import BaseEstimator
from sklearn.utils import ClassifierTags, InputTags, Tags, TargetTags
from sklearn.utils.validation import check_is_fitted

from kmedclf import augmentation, parameters, recipes, routing
from kmedclf.augmentation import test_time
from kmedclf.augmentation.test_time import pool, resolve
from kmedclf.export import ExportMixin, graph
from kmedclf.inputs import array_likes, checks
from kmedclf.inputs.array_likes import with_labels
from kmedclf.inputs.checks import HELD_OUT, unwrap
from kmedclf.inputs.image_input import ImageInput
from kmedclf.inputs.images import Images, Rows
from kmedclf.parameters import LEAST, MOST, TrainingParameters
from kmedclf.persistence import SaveMixin, checkpoint, memory
from kmedclf.persistence.fitted_state import savable
from kmedclf.routing import RoutedNames
from kmedclf.training import cache, loop, network, program
from kmedclf.training.callbacks import EpochProgress
from kmedclf.training.heads import HEADS, Head, head_of
from kmedclf.training.program import check_outputs, frozen
from kmedclf.training.rows import Labelled, Oversample, Split, arrange, number_groups
from kmedclf.training.schedules import Schedule
from kmedclf.training.strategy import Sharing
from kmedclf.utils import annotated


@dataclass
class FitData:
    """The arguments of `kmedclf.ImageClassifier.fit`."""

    X: Any
    y: Any
    sample_weight: Any = None
    X_val: Any = None
    y_val: Any = None
    sample_weight_val: Any = None
    groups: Any = None
    classes: Any = None

    def __post_init__(self) -> None:
        """Unwrap data in `kmedclf.Unsliced`."""
        for argument in fields(self):
            setattr(self, argument.name, unwrap(getattr(self, argument.name)))
        self.X, self.y = with_labels(self.X, self.y)
        self.X_val, self.y_val = with_labels(self.X_val, self.y_val)


def _optimizer(spec: network.Spec) -> tuple[Any, ...]:
    # These decide which variables an optimizer has: float16 adds loss scaling, momentum adds slots,
    # and frozen weights have none.
    frozen = (dict(spec.architecture).get(one) for one in ("trainable", "frozen_batch_norm"))
    chosen = dict(spec.options)
    own = chosen.get("optimizer_config"), chosen.get("optimizer_class")
    return spec.optimizer, spec.precision, *frozen, "momentum" in chosen, own


def _check_total_weights(weight: np.ndarray, what: str) -> None:
    """Refuse row weights that scale gradients out of the range of float32."""
    largest = float(weight.max(initial=0.0))
    if not LEAST <= largest <= MOST:
        raise ValueError(
            f"{what} must reach {LEAST:g} and not exceed {MOST:g}, those of classes included, so "
            f"that float32 holds the squares of gradients. Got {largest:g} as the largest."
        )


_OF_ROWS = ("channels", "class_weight", "image_size", "on_error", "oversample", "resize",
            "validation_fraction", "validation_split")  # fmt: skip
"""Parameters that decide which rows a training has, and with which pixels and weights."""


def _only_watches(callback: keras.callbacks.Callback) -> bool:
    return getattr(callback, "only_watches", False)


def _plain(value: Any) -> Any:
    """Make a parameter hashable: lists become tuples, and paths text."""
    if isinstance(value, list | tuple):
        return tuple(map(_plain, value))
    return os.fspath(value) if isinstance(value, os.PathLike) else value


@savable("network")
@dataclass_transform(kw_only_default=True, field_specifiers=(field,))
@dataclass(kw_only=True, eq=False, repr=False)
class ImageClassifier(
    ExportMixin, SaveMixin, TrainingParameters, RoutedNames, ImageInput, KerasClassifier
):
    """Base class of all image classifiers: a Keras network with the interface of scikit-learn.

    A subclass declares its architecture's parameters as annotated fields with defaults, and maps
    an image tensor to a feature tensor in ``features``. Everything else is here.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Sorted labels; 0 to k - 1 for multilabel targets.
    history_ : dict of str to list of float
        "loss", "accuracy" and, with validation data, "val_loss" and "val_accuracy": one number per
        epoch. Losses are weighted; accuracies are not. For multilabel targets, accuracies count
        labels.
    best_epoch_ : int
        Epoch with the best monitored value, counted from 1; the last epoch without validation
        data.
    weights_ : list of ndarray
        The network's weights, in Keras' order. The arrays are read-only: replace them instead of
        changing them.
    n_params_, n_non_trainable_params_ : int
        Numbers of trainable and of non-trainable weights.
    image_shape_ : tuple of int
        Shape (h, w, c) of the images seen during fit.
    n_features_in_ : int
        ``X.shape[1]`` of the X seen during fit, as in scikit-learn; h * w * c for files.
    skipped_ : list of str or None
        Files of X that could not be read and were skipped; None if X was an array.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Generate the subclass's constructor, and add the shared parameters to its docstring."""
        super().__init_subclass__(**kwargs)
        for name in cls.own_encoding & vars(cls).keys():
            raise TypeError(
                f"{cls.__name__} must not define {name!r}, which scikeras would call: the "
                "estimator encodes X and y itself; put a transformer before it in a Pipeline."
            )
        generated = "__init__" not in vars(cls)
        dataclass(kw_only=True, eq=False, repr=False)(cls)
        if generated:
            free = cls.takes_any_parameter
            cls.__init__ = cls._accepting(cls.__init__, free=free)  # type: ignore[method-assign]
        annotated.check_defaults(cls)
        parent = cls.__mro__[1]
        shared = TrainingParameters if parent is ImageClassifier else parent
        cls.__doc__ = annotated.merge_docs(cls, shared.__doc__)

    # scikeras reads parameters from instances, scikit-learn from the constructor's signature.
    @classmethod
    def _get_param_names(cls) -> list[str]:
        return BaseEstimator._get_param_names.__func__(cls)

    def set_params(self, **params: Any) -> Self:
        """Set parameters, by their own names or by those of scikeras.

        Parameters
        ----------
        **params
            Values by name. Routed names of scikeras such as ``optimizer__learning_rate``,
            ``fit__epochs`` or ``model__filters`` set the parameter of that meaning.

        Returns
        -------
        self
            The estimator.

        Raises
        ------
        ValueError
            If there is no such parameter.
        """
        found, known = self._flat(params), self._get_param_names()
        for name in found:
            if name.partition("__")[0] not in known:
                raise ValueError(routing.unknown(type(self).__name__, name, known))
        return BaseEstimator.set_params(self, **found)

    __repr__ = BaseEstimator.__repr__

    # Parameters of scikeras that have one value here; as annotated fields they would be parameters.
    model: ClassVar[Any] = None
    build_fn: ClassVar[Any] = None
    metrics: ClassVar[Any] = None
    validation_batch_size: ClassVar[Any] = None
    shuffle: ClassVar[bool] = True
    run_eagerly: ClassVar[bool] = False

    if TYPE_CHECKING:  # set by fit; an annotation here would be a parameter
        _spec: network.Spec = field(init=False)
        _seen: dict[str, Any] = field(init=False)
        _seed: int = field(init=False)

    smallest_image: ClassVar[int] = 1
    """Smallest side, in pixels, of an image that the network accepts; flat vectors excepted."""
    changes_no_shape: ClassVar[frozenset[str]] = frozenset()
    """Parameters that a warm start may change, as they do not affect the shapes of weights."""
    outside_graph: ClassVar[frozenset[str]] = frozenset()
    """Parameters of a subclass that do not affect its network."""
    takes_any_parameter: ClassVar[bool] = False
    """Whether a user's function builds the network, of any parameters."""
    own_encoding: ClassVar[frozenset[str]] = frozenset({"feature_encoder", "target_encoder"})
    """Hooks of scikeras that a subclass must not define."""

    def features(self, x: Any) -> Any:
        """Map images to features; the one method that a subclass must define.

        Parameters
        ----------
        x : KerasTensor of shape (b, h, w, c)
            Images, scaled to [0, 1] if they were small integers.

        Returns
        -------
        KerasTensor of shape (b, ...)
            Features; the head flattens and classifies them.
        """
        raise NotImplementedError(f"{type(self).__name__} must define features(self, x).")

    def _to_logits(self, x: Any, spec: network.Spec) -> Any:
        """Map images (b, h, w, c) to logits (b, k): the features, and one dense layer."""
        return self._classify(self.features(x), spec)

    def _classify(self, x: Any, spec: network.Spec) -> Any:
        """Map features (b, ...) to logits (b, k)."""
        if len(x.shape) > 2:
            x = keras.layers.Flatten(name="flatten")(x)  # (b, f)
        return keras.layers.Dense(spec.n_classes, dtype="float32", name="logits")(x)

    # -- fitting -----------------------------------------------------------------------------

    def fit(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        *,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
        groups: Any = None,
        **fit_params: Any,
    ) -> Self:
        """Train the network from fresh weights, or continue from the last ones if ``warm_start``.

        Parameters
        ----------
        X : array-like of shape (n, h, w), (n, h, w, c) or (n, d), or n paths
            Images, channels last. Lists of arrays, tensors or Pillow images of one size also work,
            and a data set of the medmnist package, with its labels as y.

            - Integers of any dtype that are all in 0 to 255 are treated as bytes: the network
              scales them to [0, 1].
            - Other integers of up to 16 bits are divided by the maximum of their dtype. Wider
              integers in 0 to 65535 are divided by 65535, like uint16.
            - Floats and all other integers are used unchanged, with a warning if they exceed 2 (or
              20, if some are negative).
            - A flat X needs ``image_shape``. Without it each row is an image of shape (d, 1, 1).
              Its values may be features of any scale: there is no warning, and integers of more
              than 16 bits beyond 255 are used unchanged.
            - More than 4 channels need an ``image_shape`` of three numbers, which also takes the
              slices along the last axis of volumes (n, h, w, d) as channels.
            - Files are read batch by batch, with ``image_size`` and ``channels``.

            Later X, for validation and `predict`, may be of any dtype that can be cast to the
            dtype of this X without loss. Floats in [0, 1] cannot be cast to bytes.
        y : array-like of shape (n,) or (n, k)
            Labels, text or numbers. For multilabel targets: one column of 0 and 1 per label.
            One-hot columns are treated as multilabel targets, with a warning.
        sample_weight : array-like of shape (n,), optional
            Sample weights. Whole numbers up to 20 repeat a row, others multiply its loss. Both are
            multiplied by the class weights.
        X_val, y_val : array-like, optional
            Images and labels to validate on; never trained on. Searches slice them like X if they
            have the length of X; wrap them in `kmedclf.Unsliced` to prevent it.
        sample_weight_val : array-like, optional
            Weights of the validation loss.
        groups : array-like of shape (n,), optional
            Groups, such as patients, that the split for early stopping does not separate. The split
            leaves images of every class in the training set. It comes as close to
            ``validation_fraction`` as the groups allow, to within 5 % of it, to keep the class
            shares even.
        **fit_params
            Arguments of Keras' ``fit``, as scikeras takes them, for this fit alone: epochs,
            batch_size, callbacks, verbose, class_weight and validation_split replace the
            parameters of these names; validation_data, a tuple, is X_val, y_val and
            sample_weight_val.

        Returns
        -------
        self
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter or the data are invalid, or if the training diverges and no earlier epoch
            is restored.
        TypeError
            If there is no such argument.
        RuntimeError
            Inside a ``tf.function`` or the scope of a distribution strategy.
        """
        data = FitData(X, y, sample_weight, X_val, y_val, sample_weight_val, groups)
        with self._replaced(fit_params, data), annotated.plain_parameters(self):
            start = self._state() if self.warm_start else None
            return self._fit(self._make_schedule(), data, start, keep_optimizer=self.warm_start)

    def partial_fit(
        self,
        X: Any,
        y: Any,
        classes: Any = None,
        sample_weight: Any = None,
        **fit_params: Any,
    ) -> Self:
        """Train for one more epoch.

        Keeps weights and history, and the optimizer of an earlier partial fit.

        Parameters
        ----------
        X, y : array-like
            As in `fit`.
        classes : array-like of shape (n_classes,), optional
            All labels, for the first call if y lacks some.
        sample_weight : array-like of shape (n,), optional
            As in `fit`.
        **fit_params
            As in `fit`, but without a number of epochs.

        Returns
        -------
        self
            The fitted estimator.

        Raises
        ------
        TypeError
            If epochs are given.
        """
        data = FitData(X, y, sample_weight, classes=classes)
        for argument in {"epochs", "initial_epoch"} & fit_params.keys():
            raise TypeError(
                f"{type(self).__name__}.partial_fit must get no {argument!r}, as it trains for one "
                f"more epoch. Got {fit_params[argument]!r}."
            )
        with self._replaced(fit_params, data), annotated.plain_parameters(self):
            whole = self._make_schedule()
            schedule = replace(whole, epochs=1, early_stopping=False, cycle=whole.epochs)
            return self._fit(schedule, data, self._state(), keep_optimizer=True)

    def initialize(self, X: Any, y: Any) -> Self:
        """Build the network with the initial weights of ``random_state``, and train nothing.

        The estimator can then predict and be saved. `fit` begins anew; `partial_fit`, and `fit`
        with ``warm_start``, continue from these weights.

        Parameters
        ----------
        X, y : array-like
            As in `fit`.

        Returns
        -------
        self
            The estimator.
        """
        with annotated.plain_parameters(self):
            schedule = replace(self._make_schedule(), epochs=0)
            return self._fit(schedule, FitData(X, y), None, keep_optimizer=False)

    @contextmanager
    def _replaced(self, given: dict[str, Any], data: FitData) -> Iterator[None]:
        """Replace parameters by the arguments of one fit, as scikeras does, and restore them."""
        name = type(self).__name__
        held = given.pop("validation_data", None)
        if held is not None:
            if data.X_val is not None or not isinstance(held, tuple | list) or len(held) > 3:
                raise ValueError(
                    f"The 'validation_data' argument of {name}.fit must be a tuple of X_val, y_val "
                    f"and perhaps their weights, in place of X_val. Got {type(held).__name__} "
                    "instead."
                )
            for argument, value in zip(HELD_OUT, held, strict=False):
                setattr(data, argument, unwrap(value))
        used = self._fit_arguments(given)
        before = {parameter: vars(self)[parameter] for parameter in used}
        self.__dict__.update(used)
        try:
            yield
        finally:
            self.__dict__.update(before)

    def _fit(
        self,
        schedule: Schedule,
        data: FitData,
        start: loop.TrainingState | None,
        *,
        keep_optimizer: bool,
    ) -> Self:
        network.check_surroundings(type(self).__name__)
        before = self.__dict__.copy()
        try:
            task = self._training_task(schedule, data, start, keep_optimizer=keep_optimizer)
            held = (task.validation_rows or task.rows).images
            with task.rows.images.explained(), held.explained(), self._kept(task) as task:
                state = self._train(task)
        except BaseException:  # an interrupted estimator keeps its earlier fit
            self.__dict__ = before
            raise
        self._spec, self._optimizer_state = task.spec, state.optimizer
        self.weights_, self.history_ = frozen(state.weights), state.history
        self.best_epoch_ = state.best_epoch
        self.n_params_, self.n_non_trainable_params_ = state.n_params
        return self

    @contextmanager
    def _kept(self, task: loop.TrainingTask) -> Iterator[loop.TrainingTask]:
        """Give a training its checkpoint, unless it is one epoch of several calls."""
        if self.checkpoint is None or task.schedule.epochs < 2:
            yield task
            return
        outside = *_OF_ROWS, *type(self).outside_graph
        more = {name: getattr(self, name) for name in outside}
        with checkpoint.kept(self.checkpoint, task, more) as file:
            callbacks = [one for one in self._callbacks() if not _only_watches(one)]
            if file.epoch and callbacks:
                warnings.warn(
                    f"{type(self).__name__} goes on after epoch {file.epoch}; "
                    f"{type(callbacks[0]).__name__} and other callbacks see the next epochs only.",
                    RuntimeWarning,
                    stacklevel=5,
                )
            yield replace(task, checkpoint=file)

    def _start_identity(self) -> str:
        """Return a hash of the initial weights if they come from a file."""
        return ""

    def _train(self, task: loop.TrainingTask) -> loop.TrainingState:
        if not task.schedule.epochs:
            return loop.train(task)
        later = task.checkpoint.later(task) if task.checkpoint else None
        if later is not None:
            return later
        early = bool(task.schedule.early_stopping and task.validation_rows is not None)
        shown = EpochProgress(type(self).__name__, stops_early=early)
        progress = [shown] if self.verbose else []
        own = self._callbacks()
        for one in own:
            if hasattr(one, "set_estimator"):  # it cannot tell by the model which parameters it is
                one.set_estimator(self)
        train = partial(self._run, callbacks=[*own, *progress])
        # A fit without a seed never repeats, and a stored fit would call no callbacks.
        called = not all(map(_only_watches, own))
        if self.memory is None or self.random_state is None or called:
            return train(task)
        return memory.recall(self.memory, self.memory_limit, task, train)

    def _run(self, task: loop.TrainingTask, callbacks: Any) -> loop.TrainingState:
        return loop.train(task, callbacks)

    # -- from parameters and data to a training ------------------------------------------------

    def _make_schedule(self) -> Schedule:
        """Check all parameters, and collect those of the training loop."""
        given = self.get_params(deep=False)
        others = vars(self).keys() - {one.name for one in fields(self)}
        for name in others & routing.NOT_APPLICABLE.keys():
            routing.check_value(name, getattr(self, name), type(self).__name__)
        self._check_optimizer()
        annotated.check(annotated.parameter_constraints(type(self)), given, type(self).__name__)
        annotated.check_float32(type(self), given)
        self._check_factors()
        self._callbacks()
        names = {field.name for field in fields(Schedule)} - {"cycle"}
        chosen = recipes.parameters(self)
        if chosen["recipe"] == "transfer" and chosen.get("weights") is None:
            raise ValueError(
                f"The 'recipe' parameter of {type(self).__name__} must not be 'transfer' without "
                "'weights', as it keeps much of what they have learnt. Got no weights."
            )
        return Schedule(**{name: chosen[name] for name in names})

    def _check_optimizer(self) -> None:
        """Refuse a Keras optimizer in place of its name, and say how to write it."""
        # An object would carry its state from one fit to the next, and fits in no grid or file.
        optimizer: Any = self.optimizer
        cls = optimizer if isinstance(optimizer, type) else type(optimizer)
        if not issubclass(cls, keras.optimizers.Optimizer):
            return
        given: dict[str, Any] = {"optimizer": cls.__name__.lower()}
        if not isinstance(optimizer, type):
            config = optimizer.get_config()
            config["clipnorm"] = config.get("global_clipnorm") or config.get("clipnorm")
            known = ("learning_rate", "weight_decay", "clipnorm", "momentum", "nesterov")
            given |= {key: config[key] for key in known if isinstance(config.get(key), int | float)}
        if "learning_rate" in given:  # a variable in float32
            given["learning_rate"] = annotated.plain(np.float32(given["learning_rate"]))
        text = ", ".join(f"{key}={value!r}" for key, value in given.items() if value)
        kind = "class" if optimizer is cls else "object"
        raise ValueError(
            f"The 'optimizer' parameter of {type(self).__name__} must be the name of an optimizer, "
            f"with its numbers as parameters: {text}. Got the {kind} {cls.__name__} instead."
        )

    def _callbacks(self) -> list[keras.callbacks.Callback]:
        """Check the callbacks, and return those of the next training."""
        for callback in self.callbacks or ():
            if not isinstance(callback, keras.callbacks.Callback):
                raise TypeError(
                    f"The 'callbacks' parameter of {type(self).__name__} must hold instances of "
                    f"keras.callbacks.Callback. Got {callback!r} instead."
                )
        return list(self.callbacks or ())

    def _state(self) -> loop.TrainingState | None:
        """Return the learnt state so far, or None before the first fit."""
        if not self.__sklearn_is_fitted__():
            return None
        return loop.TrainingState(
            self.weights_,
            self.history_,
            self.best_epoch_,
            optimizer=self._optimizer_state,
        )

    def _training_task(
        self,
        schedule: Schedule,
        data: FitData,
        start: loop.TrainingState | None,
        *,
        keep_optimizer: bool,
    ) -> loop.TrainingTask:
        """Check the data, and arrange the training and validation sets."""
        name = type(self).__name__
        images = self._check_X(data.X, reset=start is None)
        labels, weight = checks.check_y(data.y, data.sample_weight, images, name)
        if data.groups is not None:  # checked even if there is no split
            number_groups(data.groups, name, len(images.array))
        _check_total_weights(weight, f"'sample_weight' of {name}.fit")
        head = head_of(labels) if start is None else HEADS[self._spec.head]
        if start is None:
            if head.multilabel:
                checks.warn_of_one_hot(labels, name)
            self.classes_ = head.classes(data.classes, labels[weight > 0], name)
            self._seen |= array_likes.form(data.y, "y")
            self._seed = self._draw_seed()
        chosen = recipes.applied(self)
        spec = chosen._network_spec(images, head)
        self._check_sharing(dict(spec.options).get("strategy"), schedule.batch_size)
        if start is not None and spec.network != self._spec.network:
            raise ValueError(
                f"{name} can only continue to train the network it was fitted with; set "
                "warm_start=False, or restore the parameters of the architecture."
            )
        if start is not None and _optimizer(spec) != _optimizer(self._spec):
            start = replace(start, optimizer=None)  # keep the weights, with a fresh optimizer
        # A recipe's augmentation is for images, not for flat vectors.
        flat = images.shape[1] == 1 and self.augment == recipes.AUTO
        sets = () if flat else augmentation.resolve(chosen.augment, name)
        test_time.resolve(self.tta, images.shape, name)  # fail before the training
        named = "validation_split" if self.validation_split else "validation_fraction"
        split = Split(getattr(self, named), data.groups, self._seed, named)
        rows, held = arrange(
            (images, labels, weight),
            self._validation_rows(data),
            head=head,
            classes=self.classes_,
            class_weight=self.class_weight,
            split=split if schedule.early_stopping or self.validation_split else None,
            oversample=self._oversampling(head, bool(sets)),
            name=name,
        )
        for part, what in ((rows, "X"), (held, "the validation data")):
            if part is not None:
                _check_total_weights(part.weight, f"The weights of {what} of {name}.fit")
        return loop.TrainingTask(
            spec, schedule, rows, held, sets, self._seed, start, keep_optimizer
        )

    def _check_sharing(self, shared: Sharing | None, batch_size: int) -> None:
        """Refuse what several devices or processes cannot train together."""
        name = type(self).__name__
        if shared is not None and batch_size < shared.parts:
            raise ValueError(
                f"The 'batch_size' parameter of {name} must be at least the number of devices that "
                f"share a batch, {shared.parts}. Got {batch_size} instead."
            )
        if shared is None or shared.processes == 1:
            return
        if self.random_state is None:
            raise ValueError(
                f"The 'random_state' parameter of {name} must be an integer for several processes, "
                "which draw the same numbers from it. Got None instead."
            )
        if self.memory is not None:
            raise ValueError(
                f"The 'memory' parameter of {name} must be None for several processes, which train "
                f"together or not at all. Got {self.memory!r} instead."
            )

    def _draw_seed(self) -> int:
        """Draw the seed of a fit; one without a seed goes on with that of its checkpoint."""
        if self.random_state is None and self.checkpoint is not None:
            seed = checkpoint.seed_of(self.checkpoint)
            if seed is not None:
                return seed
        return checks.draw_seed(self.random_state)

    def _oversampling(self, head: Head, augmented: bool) -> Oversample | None:
        if self.oversample is None:
            return None
        if head.multilabel:
            raise ValueError(
                f"The 'oversample' parameter of {type(self).__name__} must be None for multilabel "
                f"y, as a repeated image repeats all its labels. Got {self.oversample!r} instead."
            )
        if self.oversample == "augment" and not augmented:
            raise ValueError(
                f"The 'oversample' parameter of {type(self).__name__} must be 'duplicate' or None "
                "where 'augment' is off. Got 'augment' instead."
            )
        return Oversample(self._seed, self.oversample == "augment")

    def _validation_rows(self, data: FitData) -> Labelled | None:
        name = type(self).__name__
        if (data.X_val is None) != (data.y_val is None):
            missing = "y_val" if data.y_val is None else "X_val"
            raise ValueError(f"{name}.fit must get X_val and y_val together. Got no {missing}.")
        if data.X_val is None:
            return None
        images = self._check_X(data.X_val, reset=False)
        checked = checks.check_y(data.y_val, data.sample_weight_val, images, name, suffix="_val")
        _check_total_weights(checked[1], f"'sample_weight_val' of {name}.fit")
        return images, *checked

    def feature_network(
        self, scale: float | None
    ) -> tuple[type[Any], dict[str, Any], str, list[np.ndarray] | None]:
        """Describe the network below its head, for `kmedclf.ImageFeatures`.

        ``scale`` is the scale of the pixels to come, which must be that of fit. Returns the class,
        its parameters, the hash of the initial weights if they come from a file, and the learnt
        weights if there are any.
        """
        if not self.initialized_:
            self._make_schedule()  # checks all parameters
            chosen = recipes.applied(self)
            return type(self), dict(chosen._architecture()), chosen._start_identity(), None
        if scale not in (None, self._scale):
            raise ValueError(
                f"X must be images like those that the given {type(self).__name__} was fitted on, "
                f"whose pixels were multiplied by {self._scale:.3g}. Got images of the factor "
                f"{scale:.3g}; give the same dtype and range."
            )
        architecture = dict(self._spec.architecture)
        return type(self), architecture, self._spec.start, self.weights_[:-2]

    def _architecture(self) -> tuple[tuple[str, Any], ...]:
        shared = {field.name for field in fields(parameters.TrainingParameters)}
        outside = shared | type(self).outside_graph
        own = [one.name for one in fields(self) if one.name not in outside]
        return tuple((name, _plain(getattr(self, name))) for name in own)

    def _network_spec(self, images: Images, head: Head) -> network.Spec:
        return network.Spec(
            estimator=type(self),
            architecture=self._architecture(),
            image_shape=images.shape,
            scale=images.scale,
            n_classes=len(self.classes_),
            optimizer=self.optimizer,
            precision=network.resolve_precision(self.precision),
            jit_compile=self.jit_compile,
            start=self._start_identity(),
            options=program.step_options(self),
            head=head.activation,
        )

    @property
    def _file_size(self) -> Any:
        return recipes.parameters(self)["image_size"]

    # -- predicting -------------------------------------------------------------------------------

    def decision_function(self, X: Any) -> np.ndarray:
        """Compute logits.

        Parameters
        ----------
        X : array-like
            Images of the kind and shape seen during fit.

        Returns
        -------
        ndarray of shape (n, k), or (n,) for two classes, float32
            Logits; for two classes, the logit of the second class minus that of the first.
        """
        return self._head.decision(self._logits(X)).astype(np.float32)

    def predict_proba(self, X: Any, **predict_params: Any) -> np.ndarray:
        """Compute class probabilities.

        Parameters
        ----------
        X : array-like
            Images of the kind and shape seen during fit.
        **predict_params
            ``batch_size`` and ``verbose`` of Keras' ``predict``, as scikeras takes them; they
            change no result.

        Returns
        -------
        ndarray of shape (n, k), float32
            Probabilities, in the order of ``classes_``. Rows sum to 1 unless the target is
            multilabel.

        Notes
        -----
        float32 is the precision of the network's last layer. The same images in the same order
        give the same bits on one kind of CPU, with the same number of threads and the same
        TensorFlow settings. In another order or number, the probability of an image may differ by
        float32's rounding, about 1e-6.
        """
        self._check_predict(predict_params)
        return self._head.probabilities(self._logits(X)).astype(np.float32)

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
            probabilities above 0.5.
        """
        self._check_predict(predict_params)
        return self._head.predict(self._logits(X), self.classes_)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Compute the accuracy, or what a subclass' ``scorer(y_true, y_pred)`` computes.

        Parameters
        ----------
        X : array-like
            Images of the kind and shape seen during fit.
        y : array-like of shape (n,) or (n, k)
            True labels.
        sample_weight : array-like of shape (n,), optional
            Sample weights.

        Returns
        -------
        float
            Score.
        """
        return self.scorer(y, self.predict(X), sample_weight=sample_weight)

    @property
    def _head(self) -> Head:
        check_is_fitted(self)
        return HEADS[self._spec.head]

    def _logits(self, X: Any) -> np.ndarray:
        network.check_surroundings(type(self).__name__)
        images = self._check_X(X, reset=False)
        tta = resolve(self.tta, images.shape, type(self).__name__)
        with images.explained(), tf.device(None), cache.borrow(self._spec) as program:
            program.load(self.weights_)
            logits = program.logits(Rows.of(images), tta)
        check_outputs(logits, type(self).__name__)
        return pool(logits, multilabel=HEADS[self._spec.head].multilabel)

    def build_model(
        self,
        image_shape: tuple[int, int, int],
        n_classes: int,
        *,
        multilabel: bool = False,
        dtype: str = "uint8",
    ) -> keras.Model:
        """Build and compile the Keras model that `fit` would train; the estimator stays unfitted.

        For code that trains a Keras model itself, such as a tuner of KerasTuner. Optimizer,
        learning rate, weight decay, loss and precision are the estimator's. What belongs to `fit`
        is not in the model: augmentation, ``l2``, class weights, schedules and early stopping.

        Parameters
        ----------
        image_shape : tuple of int
            Shape (h, w, c) of an image.
        n_classes : int
            Number of classes, or of labels.
        multilabel : bool, default=False
            Whether an image may have several labels.
        dtype : {"uint8", "uint16", "float32"}, default="uint8"
            Dtype of the images; the model scales integers to [0, 1].

        Returns
        -------
        keras.Model
            The compiled model, from images (b, h, w, c) to probabilities (b, n_classes). Its labels
            are integers (b,), or zeros and ones (b, n_classes). Its initial weights are those of
            ``random_state``.

        Raises
        ------
        ValueError
            If a parameter of the estimator is invalid.

        Examples
        --------
        >>> from kmedclf import CNNClassifier
        >>> CNNClassifier(filters=8).build_model((28, 28, 3), 8).output_shape
        (None, 8)
        """
        network.check_surroundings(type(self).__name__)
        integer = np.issubdtype(np.dtype(dtype), np.integer)
        scale = 1 / np.iinfo(dtype).max if integer else 1.0
        images = Images(np.empty((0, *image_shape), dtype), scale)
        head = HEADS["sigmoid" if multilabel else "softmax"]
        with annotated.plain_parameters(self):
            schedule, chosen = self._make_schedule(), recipes.applied(self)
            chosen.classes_ = np.arange(n_classes)
            chosen.n_features_in_ = image_shape[0]
            y_shape = (0, n_classes) if multilabel else (0,)
            chosen._seen = {"X_shape_": images.array.shape, "X_dtype_": dtype,
                            "y_shape_": y_shape, "y_dtype_": "int64"}  # fmt: skip
            spec = chosen._network_spec(images, head)
            seed = checks.draw_seed(self.random_state)
        return program.compiled_model(spec, schedule.scalars, chosen._rate(schedule, spec), seed)

    def _rate(self, schedule: Schedule, spec: network.Spec) -> float | None:
        """Return the learning rate; None is the optimizer's default."""
        return schedule.learning_rate

    @property
    def network_(self) -> keras.Model:
        """A new Keras model of the network, from images to probabilities (n, k)."""
        check_is_fitted(self)
        model, _ = network.build(self._spec, activated=True)
        model.set_weights(self.weights_)
        return model

    @property
    def model_(self) -> keras.Model:
        """A new Keras model of what predict computes, from images to probabilities (n, k).

        It is that of ``network_``, and with ``tta`` the mean over its views.
        """
        check_is_fitted(self)
        return graph.probabilities_model(self) if self.tta else self.network_

    def connect(self, images: Any = None) -> graph.Graph:
        """Connect the network to a Keras tensor of images, or to a new input; for `export`."""
        check_is_fitted(self)
        dtype = self._pixel_dtype
        if images is None:
            images = keras.Input(self.image_shape_, dtype=dtype, name="images")
        if tuple(images.shape[1:]) != self.image_shape_ or images.dtype not in (dtype, "float32"):
            raise ValueError(
                f"{type(self).__name__} must have been fitted on images like those of the members "
                f"before it to be exported with them, {tuple(images.shape[1:])} of {images.dtype}. "
                f"Got {self.image_shape_} of {dtype}."
            )
        # Weights are float32 in any precision, and few formats have bfloat16.
        model, _ = network.build(replace(self._spec, precision="float32"))
        model.set_weights(self.weights_)
        views = resolve(self.tta, self.image_shape_, type(self).__name__)
        whole = np.issubdtype(dtype, np.integer)
        largest = float(np.iinfo(dtype).max) if whole else getattr(self, "_largest", None) or 1.0
        exact = self._spec.precision == "float32"
        return graph.Graph(images, largest, exact).scored(model, views, self._spec.head)

    @property
    def initialized_(self) -> bool:
        """Whether the estimator is fitted."""
        return self.__sklearn_is_fitted__()

    # -- what scikeras calls metadata ----------------------------------------------------------

    @property
    def target_encoder(self) -> ClassifierLabelEncoder:
        """A new, unfitted encoder of y in scikeras' form; the network has its own encoding."""
        classes = getattr(self, "classes_", None)
        return ClassifierLabelEncoder(categories="auto" if classes is None else [classes])

    @property
    def target_encoder_(self) -> ClassifierLabelEncoder:
        """An encoder from labels to what the network learns, and from probabilities to labels."""
        if self._head.multilabel:
            both = np.tile([[0], [1]], len(self.classes_))
            return ClassifierLabelEncoder().fit(both)
        return self.target_encoder.fit(self.classes_)

    @property
    def feature_encoder_(self) -> Any:
        """A transformer that leaves X as it is."""
        check_is_fitted(self)
        return self.feature_encoder.fit(np.zeros((1, self.n_features_in_)))

    @property
    def target_type_(self) -> str:
        """Kind of y in scikit-learn's words: "binary", "multiclass", "multilabel-indicator"."""
        if self._head.multilabel:
            return "multilabel-indicator"
        return "binary" if len(self.classes_) == 2 else "multiclass"

    @property
    def n_classes_(self) -> int:
        """Number of classes, or of labels."""
        check_is_fitted(self)
        return len(self.classes_)

    @property
    def n_outputs_(self) -> int:
        """Number of targets, and of the network's output tensors: 1."""
        check_is_fitted(self)
        return 1

    n_outputs_expected_ = n_outputs_

    def _of_data(self, name: str) -> Any:
        check_is_fitted(self)
        if name not in getattr(self, "_seen", {}):  # models of earlier versions
            raise AttributeError(f"{type(self).__name__} was saved without {name!r}.")
        return self._seen[name]

    @property
    def X_shape_(self) -> tuple[int, ...]:
        """Shape of the X seen during fit; (n,) for files."""
        return self._of_data("X_shape_")

    @property
    def X_dtype_(self) -> np.dtype:
        """Dtype of the X seen during fit."""
        return np.dtype(self._of_data("X_dtype_"))

    @property
    def y_shape_(self) -> tuple[int, ...]:
        """Shape of the y seen during fit."""
        return self._of_data("y_shape_")

    @property
    def y_ndim_(self) -> int:
        """Number of dimensions of the y seen during fit."""
        return len(self.y_shape_)

    @property
    def y_dtype_(self) -> np.dtype:
        """Dtype of the y seen during fit."""
        return np.dtype(self._of_data("y_dtype_"))

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Make the weights read-only again, as copies and pickles are writeable."""
        super().__setstate__(state)
        frozen(vars(self).get("weights_", []))

    def __sklearn_is_fitted__(self) -> bool:
        """Tell scikit-learn whether the estimator is fitted."""
        return hasattr(self, "weights_")

    def __sklearn_tags__(self) -> Tags:
        """Return scikit-learn's tags; those of scikeras are incomplete."""
        return Tags(
            estimator_type="classifier",
            target_tags=TargetTags(required=True),
            classifier_tags=ClassifierTags(multi_label=True),
            # Not one_d_array, though paths are one: scikit-learn's checks would then flatten X.
            input_tags=InputTags(three_d_array=True),
        )
