"""From an estimator's parameters and a user's data to a training task."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import keras
from sklearn.utils._param_validation import validate_parameter_constraints

from kmedclf import (
    annotated,
    augment,
    class_weights,
    inputs,
    network,
    optimizers,
    params,
    recipes,
    step,
    training,
    validation,
    views,
)
from kmedclf.heads import HEADS, Head, head_of
from kmedclf.rows import Labelled, Oversample, Split, arrange, number_groups
from kmedclf.schedules import Schedule
from kmedclf.validation import unwrap

if TYPE_CHECKING:
    from kmedclf.base import ImageClassifier
    from kmedclf.pipeline import Images


@dataclass
class Data:
    """What a user hands to ``fit``; see `kmedclf.ImageClassifier.fit`."""

    X: Any
    y: Any
    sample_weight: Any = None
    X_val: Any = None
    y_val: Any = None
    sample_weight_val: Any = None
    groups: Any = None
    classes: Any = None

    def __post_init__(self) -> None:
        """Take data out of `kmedclf.Unsliced`."""
        for field in fields(self):
            setattr(self, field.name, unwrap(getattr(self, field.name)))


def schedule(estimator: ImageClassifier) -> Schedule:
    """Check all parameters of an estimator, and collect those of the training loop."""
    given = estimator.get_params(deep=False)
    optimizers.check_name(estimator.optimizer, type(estimator).__name__)
    validate_parameter_constraints(
        annotated.parameter_constraints(type(estimator)),
        given,
        caller_name=type(estimator).__name__,
    )
    annotated.check_float32(type(estimator), given)
    class_weights.check_factors(given, type(estimator).__name__)
    for callback in estimator.callbacks or ():
        if not isinstance(callback, keras.callbacks.Callback):
            raise TypeError(
                f"The 'callbacks' parameter of {type(estimator).__name__} must hold instances of "
                f"keras.callbacks.Callback. Got {callback!r} instead."
            )
    names = {field.name for field in fields(Schedule)} - {"cycle"}
    chosen = recipes.parameters(estimator)
    return Schedule(**{name: chosen[name] for name in names})


def state(estimator: ImageClassifier) -> training.State | None:
    """Collect what an estimator has learnt so far, if it is fitted."""
    if not estimator.__sklearn_is_fitted__():
        return None
    return training.State(
        estimator.weights_,
        estimator.history_,
        estimator.best_epoch_,
        optimizer=estimator._optimizer_state,
    )


def task(
    estimator: ImageClassifier,
    schedule: Schedule,
    data: Data,
    start: training.State | None,
    *,
    keep_optimizer: bool,
) -> training.Task:
    """Check the data and arrange the training.

    Parameters
    ----------
    estimator : ImageClassifier
        Whose parameters; a fresh start sets its ``classes_`` and what it knows of X.
    schedule : Schedule
        How long and how to train.
    data : Data
        The user's.
    start : State or None
        Where to go on.
    keep_optimizer : bool
        Whether training may go on afterwards.

    Returns
    -------
    Task
        Complete, down to the order of the rows.
    """
    name = type(estimator).__name__
    images = inputs.check(estimator, data.X, reset=start is None)
    labels, weight = validation.check_y(data.y, data.sample_weight, images, name)
    if data.groups is not None:  # wrong ones are wrong where nothing is split off, too
        number_groups(data.groups, name, len(images.array))
    class_weights.check(weight, f"'sample_weight' of {name}.fit")
    head = head_of(labels) if start is None else HEADS[estimator._spec.head]
    if start is None:
        if head.several:
            validation.warn_of_one_hot(labels, name)
        estimator.classes_ = head.classes(data.classes, labels[weight > 0], name)
        estimator._seed = validation.draw_seed(estimator.random_state)
    chosen = recipes.applied(estimator)
    spec = _spec(chosen, images, head)
    if start is not None and spec.network != estimator._spec.network:
        raise ValueError(
            f"{name} can only go on training the network it was fitted with; set "
            "warm_start=False, or the parameters of the architecture back."
        )
    if start is not None and _optimizer(spec) != _optimizer(estimator._spec):
        start = replace(start, optimizer=None)  # the weights go on, under a fresh optimizer
    # the recipe's augmentation is for images, and a flat vector is none
    flat = images.shape[1] == 1 and estimator.augment == recipes.AUTO
    sets = () if flat else augment.resolve(chosen.augment, name)
    views.resolve(estimator.tta, images.shape, name)  # before the training, not after it
    split = Split(estimator.validation_fraction, data.groups, estimator._seed)
    rows, held = arrange(
        (images, labels, weight),
        _held_out(estimator, data),
        head=head,
        classes=estimator.classes_,
        class_weight=estimator.class_weight,
        split=split if schedule.early_stopping else None,
        oversample=_oversample(estimator, head, bool(sets)),
        name=name,
    )
    for part, what in ((rows, "X"), (held, "the validation data")):
        if part is not None:
            class_weights.check(part.weight, f"The weights of {what} of {name}.fit")
    return training.Task(spec, schedule, rows, held, sets, estimator._seed, start, keep_optimizer)


def _oversample(estimator: ImageClassifier, head: Head, augmented: bool) -> Oversample | None:
    if estimator.oversample is None:
        return None
    if head.several:
        raise ValueError(
            f"The 'oversample' parameter of {type(estimator).__name__} must be None where images "
            f"may have several labels, which go along. Got {estimator.oversample!r} instead."
        )
    if estimator.oversample == "augment" and not augmented:
        raise ValueError(
            f"The 'oversample' parameter of {type(estimator).__name__} must be 'duplicate' or None "
            "where 'augment' is off. Got 'augment' instead."
        )
    return Oversample(estimator._seed, estimator.oversample == "augment")


def _held_out(estimator: ImageClassifier, data: Data) -> Labelled | None:
    name = type(estimator).__name__
    validation.check_pair(data.X_val, data.y_val, name)
    if data.X_val is None:
        return None
    images = inputs.check(estimator, data.X_val, reset=False)
    checked = validation.check_y(data.y_val, data.sample_weight_val, images, name, suffix="_val")
    class_weights.check(checked[1], f"'sample_weight_val' of {name}.fit")
    return images, *checked


def _optimizer(spec: network.Spec) -> tuple[Any, ...]:
    # float16 adds variables for the scale of the loss, momentum its own; what is frozen has none
    trainable = dict(spec.architecture).get("trainable")
    return spec.optimizer, spec.precision, trainable, "momentum" in dict(spec.options)


def _spec(estimator: ImageClassifier, images: Images, head: Head) -> network.Spec:
    shared = {field.name for field in fields(params.TrainingParameters)}
    outside = shared | type(estimator).outside_graph
    own = [field.name for field in fields(estimator) if field.name not in outside]
    return network.Spec(
        estimator=type(estimator),
        architecture=tuple((name, _plain(getattr(estimator, name))) for name in own),
        image_shape=images.shape,
        scale=images.scale,
        n_classes=len(estimator.classes_),
        optimizer=estimator.optimizer,
        precision=network.resolve_precision(estimator.precision),
        jit_compile=estimator.jit_compile,
        start=estimator._start_identity(),
        options=step.options(estimator),
        head=head.activation,
    )


def _plain(value: Any) -> Any:
    """Make a parameter hashable: lists, and paths, which are saved as text."""
    if isinstance(value, list | tuple):
        return tuple(map(_plain, value))
    return os.fspath(value) if isinstance(value, os.PathLike) else value
