"""The base class of all estimators; the only module that imports scikeras."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Self, dataclass_transform

import keras
import numpy as np
import tensorflow as tf
from scikeras.wrappers import KerasClassifier
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import ClassifierTags, InputTags, Tags, TargetTags
from sklearn.utils._param_validation import validate_parameter_constraints
from sklearn.utils.validation import check_is_fitted

from kmedclf import augmentation, parameters, persistence, recipes
from kmedclf.augmentation import test_time
from kmedclf.augmentation.test_time import pool, resolve
from kmedclf.inputs import checks
from kmedclf.inputs.checks import unwrap
from kmedclf.inputs.image_input import ImageInput
from kmedclf.inputs.images import Images, Rows
from kmedclf.parameters import TrainingParameters
from kmedclf.persistence import memory
from kmedclf.persistence.fitted_state import savable
from kmedclf.training import cache, divergence, heads, loop, network, optimizers, program
from kmedclf.training.callbacks import EpochProgress
from kmedclf.training.heads import HEADS, Head, head_of
from kmedclf.training.program import frozen
from kmedclf.training.rows import Labelled, Oversample, Split, arrange, number_groups
from kmedclf.training.schedules import Schedule
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


def _optimizer(spec: network.Spec) -> tuple[Any, ...]:
    # These decide which variables an optimizer has: float16 adds loss scaling, momentum adds slots,
    # and frozen weights have none.
    frozen = (dict(spec.architecture).get(one) for one in ("trainable", "frozen_batch_norm"))
    return spec.optimizer, spec.precision, *frozen, "momentum" in dict(spec.options)


def _plain(value: Any) -> Any:
    """Make a parameter hashable: lists become tuples, and paths text."""
    if isinstance(value, list | tuple):
        return tuple(map(_plain, value))
    return os.fspath(value) if isinstance(value, os.PathLike) else value


@savable("network")
@dataclass_transform(kw_only_default=True, field_specifiers=(field,))
@dataclass(kw_only=True, eq=False, repr=False)
class ImageClassifier(TrainingParameters, ImageInput, KerasClassifier):
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
        dataclass(kw_only=True, eq=False, repr=False)(cls)
        annotated.check_defaults(cls)
        parent = cls.__mro__[1]
        shared = TrainingParameters if parent is ImageClassifier else parent
        cls.__doc__ = annotated.merge_docs(cls, shared.__doc__)

    # scikeras reads parameters from instances, scikit-learn from the constructor's signature.
    @classmethod
    def _get_param_names(cls) -> list[str]:
        return BaseEstimator._get_param_names.__func__(cls)

    set_params = BaseEstimator.set_params
    score = ClassifierMixin.score
    __repr__ = BaseEstimator.__repr__

    if TYPE_CHECKING:  # set by fit; an annotation here would be a parameter
        _spec: network.Spec = field(init=False)
        _seed: int = field(init=False)

    smallest_image: ClassVar[int] = 1
    """Smallest side, in pixels, of an image that the network accepts; flat vectors excepted."""
    changes_no_shape: ClassVar[frozenset[str]] = frozenset()
    """Parameters that a warm start may change, as they do not affect the shapes of weights."""
    outside_graph: ClassVar[frozenset[str]] = frozenset()
    """Parameters of a subclass that do not affect its network."""

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

    # -- fitting -----------------------------------------------------------------------------

    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
        groups: Any = None,
    ) -> Self:
        """Train the network from fresh weights, or continue from the last ones if ``warm_start``.

        Parameters
        ----------
        X : array-like of shape (n, h, w), (n, h, w, c) or (n, d), or n paths
            Images, channels last. Lists of arrays, tensors or Pillow images of one size also work.

            - Integers of any dtype that are all in 0 to 255 are treated as bytes: the network
              scales them to [0, 1].
            - Other integers of up to 16 bits are divided by the maximum of their dtype. Wider
              integers in 0 to 65535 are divided by 65535, like uint16.
            - Floats and all other integers are used unchanged, with a warning if they exceed 2 (or
              20, if some are negative).
            - A flat X needs ``image_shape``. Without it each row is an image of shape (d, 1, 1).
              Its values may be features of any scale: there is no warning, and integers of more
              than 16 bits beyond 255 are used unchanged.
            - More than 4 channels need an ``image_shape`` of three numbers.
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

        Returns
        -------
        self
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter or the data are invalid, or if the training diverges and no earlier epoch
            is restored.
        RuntimeError
            Inside a ``tf.function`` or the scope of a distribution strategy.
        """
        data = FitData(X, y, sample_weight, X_val, y_val, sample_weight_val, groups)
        with annotated.plain_parameters(self):
            start = self._state() if self.warm_start else None
            return self._fit(self._make_schedule(), data, start, keep_optimizer=self.warm_start)

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
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

        Returns
        -------
        self
            The fitted estimator.
        """
        data = FitData(X, y, sample_weight, classes=classes)
        with annotated.plain_parameters(self):
            whole = self._make_schedule()
            schedule = replace(whole, epochs=1, early_stopping=False, cycle=whole.epochs)
            return self._fit(schedule, data, self._state(), keep_optimizer=True)

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
            held = (task.held or task.rows).images
            with task.rows.images.explained(), held.explained():
                state = self._train(task)
        except BaseException:  # an interrupted estimator keeps its earlier fit
            self.__dict__ = before
            raise
        self._spec, self._optimizer_state = task.spec, state.optimizer
        self.weights_, self.history_ = frozen(state.weights), state.history
        self.best_epoch_ = state.best_epoch
        self.n_params_, self.n_non_trainable_params_ = state.n_params
        return self

    def _start_identity(self) -> str:
        """Return a hash of the initial weights if they come from a file."""
        return ""

    def _train(self, task: loop.TrainingTask) -> loop.TrainingState:
        progress = [EpochProgress(type(self).__name__)] if self.verbose else []
        train = partial(loop.train, callbacks=[*(self.callbacks or []), *progress])
        # A fit without a seed never repeats, and a stored fit would call no callbacks.
        if self.memory is None or self.random_state is None or self.callbacks:
            return train(task)
        return memory.recall(self.memory, self.memory_limit, task, train)

    # -- from parameters and data to a training ------------------------------------------------

    def _make_schedule(self) -> Schedule:
        """Check all parameters, and collect those of the training loop."""
        given = self.get_params(deep=False)
        optimizers.check_name(self.optimizer, type(self).__name__)
        validate_parameter_constraints(
            annotated.parameter_constraints(type(self)),
            given,
            caller_name=type(self).__name__,
        )
        annotated.check_float32(type(self), given)
        heads.check_factors(given, type(self).__name__)
        for callback in self.callbacks or ():
            if not isinstance(callback, keras.callbacks.Callback):
                raise TypeError(
                    f"The 'callbacks' parameter of {type(self).__name__} must hold instances of "
                    f"keras.callbacks.Callback. Got {callback!r} instead."
                )
        names = {field.name for field in fields(Schedule)} - {"cycle"}
        chosen = recipes.parameters(self)
        if chosen["recipe"] == "transfer" and chosen.get("weights") is None:
            raise ValueError(
                f"The 'recipe' parameter of {type(self).__name__} must not be 'transfer' without "
                "'weights', as it keeps much of what they have learnt. Got no weights."
            )
        return Schedule(**{name: chosen[name] for name in names})

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
        heads.check_total_weights(weight, f"'sample_weight' of {name}.fit")
        head = head_of(labels) if start is None else HEADS[self._spec.head]
        if start is None:
            if head.several:
                checks.warn_of_one_hot(labels, name)
            self.classes_ = head.classes(data.classes, labels[weight > 0], name)
            self._seed = checks.draw_seed(self.random_state)
        chosen = recipes.applied(self)
        spec = chosen._network_spec(images, head)
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
        split = Split(self.validation_fraction, data.groups, self._seed)
        rows, held = arrange(
            (images, labels, weight),
            self._validation_rows(data),
            head=head,
            classes=self.classes_,
            class_weight=self.class_weight,
            split=split if schedule.early_stopping else None,
            oversample=self._oversampling(head, bool(sets)),
            name=name,
        )
        for part, what in ((rows, "X"), (held, "the validation data")):
            if part is not None:
                heads.check_total_weights(part.weight, f"The weights of {what} of {name}.fit")
        return loop.TrainingTask(
            spec, schedule, rows, held, sets, self._seed, start, keep_optimizer
        )

    def _oversampling(self, head: Head, augmented: bool) -> Oversample | None:
        if self.oversample is None:
            return None
        if head.several:
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
        checks.check_pair(data.X_val, data.y_val, name)
        if data.X_val is None:
            return None
        images = self._check_X(data.X_val, reset=False)
        checked = checks.check_y(data.y_val, data.sample_weight_val, images, name, suffix="_val")
        heads.check_total_weights(checked[1], f"'sample_weight_val' of {name}.fit")
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

    def predict_proba(self, X: Any) -> np.ndarray:
        """Compute class probabilities.

        Parameters
        ----------
        X : array-like
            Images of the kind and shape seen during fit.

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
        return self._head.probabilities(self._logits(X)).astype(np.float32)

    def predict(self, X: Any) -> np.ndarray:
        """Predict labels.

        Parameters
        ----------
        X : array-like
            Images of the kind and shape seen during fit.

        Returns
        -------
        ndarray of shape (n,) or (n, k)
            Labels out of ``classes_``; for multilabel targets zeros and ones, with ones for
            probabilities above 0.5.
        """
        return self._head.predict(self._logits(X), self.classes_)

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
        divergence.check_outputs(logits, type(self).__name__)
        return pool(logits, multilabel=HEADS[self._spec.head].several)

    @property
    def model_(self) -> keras.Model:
        """A new Keras model, from images to probabilities (n, k)."""
        check_is_fitted(self)
        model, _ = network.build(self._spec, activated=True)
        model.set_weights(self.weights_)
        return model

    @property
    def initialized_(self) -> bool:
        """Whether the estimator is fitted."""
        return self.__sklearn_is_fitted__()

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

    def save(self, path: Any) -> None:
        """Save to a single file, without pickle; `kmedclf.load` reads it.

        Parameters
        ----------
        path : path-like
            File to write; by convention ``*.kmedclf``.
        """
        check_is_fitted(self)
        persistence.save(self, path)
