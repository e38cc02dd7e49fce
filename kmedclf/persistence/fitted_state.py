"""The state of a fitted estimator: what is saved of it, and what a file may set.

The same checks of names and values run before writing and after reading, so that every saved
estimator can be loaded, and every loaded one can be used.
"""

from __future__ import annotations

import inspect
import math
import os
import re
from collections.abc import Callable
from dataclasses import fields
from numbers import Integral, Real
from typing import Any, Literal, TypeVar, get_args
from weakref import WeakKeyDictionary

import joblib
import numpy as np

from kmedclf import parameters
from kmedclf.training.heads import HEADS
from kmedclf.training.network import Spec
from kmedclf.utils import annotated

LOCAL = {
    "build_fn",
    "cache",
    "callbacks",
    "checkpoint",
    "max_pixels",
    "memory",
    "model",
    "strategy",
}
"""Parameters that are not saved: files, folders, code, and limits on files."""

ELSEWHERE = "elsewhere", "elsewhere.kmedclf"
"""Values of ``weights`` in a saved model whose weights came from a file or preset."""

MOST_TEXTS = 1_000_000
"""Maximum size of a string array; Python strings take ten times the memory."""

Test = Callable[[Any], bool]
T = TypeVar("T")

_roots: dict[type, dict[str, Test]] = {}
"""Savable classes, and a test for each of their fitted attributes."""

_local: WeakKeyDictionary[type, set[str]] = WeakKeyDictionary()


def local_parameters(cls: type) -> set[str]:
    """Find the parameters that name files or hold code; those of a network by their types."""
    if kinds(cls) is _AUTO:
        return {"memory", "portfolio", "weights"}
    if kinds(cls) is not _NETWORK:
        return set()
    if cls not in _local:
        known = annotated.parameter_constraints(cls)
        paths = {name for name, one in known.items() if os.PathLike in one or joblib.Memory in one}
        _local[cls] = LOCAL & set(known) | paths
    return _local[cls]


def portable(cls: type, name: str, value: Any) -> Any:
    """Replace paths by a placeholder or None, so that a saved parameter names no path."""
    if name not in local_parameters(cls):
        return value
    if name == "model":  # a build function stays with its user; its network can be recognized
        return value if isinstance(value, str) else getattr(value, "digest", None)
    if not isinstance(value, str | os.PathLike) or name != "weights":
        return None
    # These name no path.
    if value in ("imagenet", *ELSEWHERE):
        return value
    # The stem kernel depends on whether the weights came from a .kmedclf file.
    return ELSEWHERE[os.fspath(value).endswith(".kmedclf")]


def portable_spec(spec: Spec) -> dict[str, Any]:
    """Return the fields of a spec, without its class and without paths."""
    plain = {field.name: getattr(spec, field.name) for field in fields(Spec)}
    architecture = tuple(
        (name, portable(spec.estimator, name, value)) for name, value in spec.architecture
    )
    # A model predicts on any machine, whatever it was trained on.
    options = tuple(one for one in spec.options if one[0] != "strategy")
    plain |= {"estimator": None, "architecture": architecture, "options": options}
    if spec.estimator.takes_any_parameter:  # of the user's optimizer, which may be any object
        shared = {field.name for field in fields(parameters.TrainingParameters)} - {"loss"}
        plain["options"] = tuple(one for one in options if one[0] in shared)
    return plain


# -- kinds of values -----------------------------------------------------------------------------


def _count(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and 0 <= int(value) < 2**63


def _positive(value: Any) -> bool:
    number = isinstance(value, Real) and not isinstance(value, bool)
    return number and math.isfinite(value) and value > 0


def _interval(value: Any) -> bool:
    is_pair = isinstance(value, tuple) and len(value) == 2
    return is_pair and all(map(_positive, value)) and value[0] <= value[1]


def _at_least_zero(value: Any) -> bool:
    return value == 0 or _positive(value)


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


def _shape(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) == 3 and all(_count(n) and n for n in value)


def _labels(value: Any) -> bool:
    if not isinstance(value, np.ndarray) or value.ndim != 1 or not len(value):
        return False
    return bool(np.array_equal(np.unique(value), value))


def _texts(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        value = value.tolist() if value.ndim == 1 else [None]
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _numbers(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(one, Real) and not isinstance(one, bool) for one in value
    )


def are_curves(value: Any) -> bool:
    """Check that a value is a history: one number per epoch by name, including the loss."""
    known = isinstance(value, dict) and all(isinstance(name, str) for name in value)
    return known and "loss" in value and all(map(_numbers, value.values()))


def _seen(value: Any) -> bool:
    """Check shapes and dtypes, as text, of the data seen during fit."""
    return (
        isinstance(value, dict)
        and set(value) <= {"X_shape_", "X_dtype_", "y_shape_", "y_dtype_"}
        and all(
            _is_dtype(one)
            if name.endswith("dtype_")
            else isinstance(one, tuple) and all(map(_count, one))
            for name, one in value.items()
        )
    )


def _is_dtype(value: Any) -> bool:
    try:
        return isinstance(value, str) and np.dtype(value) is not None
    except TypeError:
        return False


def _arrays(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(one, np.ndarray) and one.dtype.kind in "biuf" for one in value
    )


def _finite_arrays(value: Any) -> bool:
    return _arrays(value) and bool(value) and all(map(is_finite, value))


def _matrix(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind == "f" and value.ndim == 2


def _shares(value: Any) -> bool:
    array = isinstance(value, np.ndarray) and value.dtype.kind == "f" and value.ndim == 1
    return array and bool(np.isfinite(value).all()) and value.min(initial=0) >= 0


def _rows(value: Any) -> bool:
    """Check a table: a list of dicts of text and numbers."""
    return isinstance(value, list) and all(
        isinstance(row, dict)
        and all(isinstance(name, str) for name in row)
        and all(one is None or isinstance(one, str | Real) for one in row.values())
        for row in value
    )


def _positions(value: Any) -> bool:
    array = isinstance(value, np.ndarray) and value.dtype.kind == "i" and value.ndim == 1
    return array and bool((value >= 0).all())


def _scores(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(name, str) and isinstance(one, Real) for name, one in value.items()
    )


def _or_none(test: Test) -> Test:
    return lambda value: value is None or test(value)


def is_finite(array: np.ndarray) -> bool:
    """Check that all numbers are finite."""
    if array.dtype.kind != "f":
        return True
    # A finite sum implies finite numbers, and is much faster to compute.
    with np.errstate(all="ignore"):
        return bool(np.isfinite(array.sum()) or np.isfinite(array).all())


_OF_DATA: dict[str, Test] = {
    "n_features_in_": _count,
    "feature_names_in_": _texts,
    "image_shape_": _shape,
    "skipped_": _or_none(_texts),
}
_NETWORK: dict[str, Test] = {
    **_OF_DATA,
    "_largest": _or_none(_at_least_zero),
    "_optimizer_state": _or_none(_arrays),
    "_scale": _positive,
    "_seed": _count,
    "_seen": _seen,
    "_spec": lambda value: isinstance(value, Spec),
    "best_epoch_": _count,
    "classes_": _labels,
    "history_": are_curves,
    "n_non_trainable_params_": _count,
    "n_params_": _count,
    "weights_": _finite_arrays,
}
_ENSEMBLE: dict[str, Test] = {
    **_OF_DATA,
    "_several": _flag,
    "classes_": _labels,
    "estimators_": lambda value: isinstance(value, list) and bool(value),
    "names_": _texts,
    "oof_log_loss_": _scores,
    "oof_proba_": _matrix,
    "weights_": _shares,
}
_CALIBRATED: dict[str, Test] = {
    "classes_": _labels,
    "n_val_": _count,
    "temperature_": _positive,
    "temperature_interval_": _interval,
    "threshold_": _or_none(lambda value: isinstance(value, Real) and math.isfinite(value)),
    "validation_priors_": _shares,
}
_AUTO: dict[str, Test] = {
    **_OF_DATA,
    "_several": _flag,
    "classes_": _labels,
    "leaderboard_": _rows,
    "classifier_": lambda value: value is not None,
    "notes_": _texts,
    "oof_proba_": _matrix,
    "oof_parts_": _positions,
    "oof_rows_": _positions,
    "seconds_": _positive,
}
_OPTIONAL = {"_largest", "_optimizer_state", "_seen", "oof_log_loss_", "oof_proba_",
             "temperature_interval_", *_OF_DATA}  # fmt: skip
"""Attributes that fit does not always set, or that older files lack."""


def kinds(cls: type) -> dict[str, Test]:
    """Return a test for each fitted attribute of a class."""
    return next((kind for root, kind in _roots.items() if issubclass(cls, root)), _ENSEMBLE)


def savable(
    kind: Literal["network", "ensemble", "calibrated", "auto"],
) -> Callable[[type[T]], type[T]]:
    """Register a class, with its subclasses, as savable; ``kind`` selects its fitted attributes."""
    known = {"network": _NETWORK, "ensemble": _ENSEMBLE, "calibrated": _CALIBRATED, "auto": _AUTO}

    def register(cls: type[T]) -> type[T]:
        _roots[cls] = known[kind]
        return cls

    return register


def roots() -> tuple[type, ...]:
    """Return the registered classes; only they and their subclasses can be saved."""
    return tuple(_roots)


def check_names(cls: type, names: Any) -> tuple[list[str], list[str]]:
    """Separate parameters from fitted attributes, and refuse all other names.

    A user's class may have fitted attributes of its own: names that end in an underscore and do
    not exist on the class.
    """
    parameters, learnt = set(inspect.signature(cls).parameters), []
    for name in names:
        if name not in parameters and not _is_free(cls, name):
            own = re.fullmatch(r"[a-z]\w*[a-z0-9]_", name) and not cls.__module__.startswith(
                "kmedclf."
            )
            if name not in kinds(cls) and (not own or hasattr(cls, name)):
                raise ValueError(f"{cls.__name__} has no {name!r:.60}")
            learnt.append(name)
    return [name for name in names if name not in learnt], learnt


def _is_free(cls: type, name: str) -> bool:
    """Whether a name is a parameter of a build function, or routed by scikeras."""
    plain = bool(re.fullmatch(r"[A-Za-z]\w{0,98}[A-Za-z0-9]|[A-Za-z]", name))
    return plain and getattr(cls, "takes_any_parameter", False)


def check(estimator: Any) -> None:
    """Refuse an estimator with an invalid parameter or fitted attribute; the error names it."""
    cls = type(estimator)
    state = vars(estimator)
    _, learnt = check_names(cls, list(state))
    if learnt:
        for name in kinds(cls):
            if name not in state and name not in _OPTIONAL:
                raise ValueError(f"{cls.__name__} must have {name!r}")
    for name in learnt:
        test = kinds(cls).get(name)
        if test is not None and not test(state[name]):
            kind = "finite" if name == "weights_" else "of the kind that fit gives it"
            raise ValueError(f"the {name} of {cls.__name__} must be {kind}")
    if kinds(cls) is _NETWORK:
        _check_network(estimator, learnt)
    elif learnt:
        _check_others(estimator)


def _check_network(estimator: Any, learnt: list[str]) -> None:
    cls = type(estimator)
    for name, value in estimator.get_params(deep=False).items():
        if not _is_free(cls, name) or name in annotated.parameter_constraints(cls):
            _check_parameter(cls, name, value, annotated.parameter_constraints(cls)[name])
    if not learnt:
        return
    spec, weights = estimator._spec, estimator.weights_
    check_spec(spec, cls)
    # Each attribute is valid on its own; they must also be consistent.
    agree = (
        estimator.image_shape_ == spec.image_shape
        and len(estimator.classes_) == spec.n_classes
        and (estimator._scale == spec.scale or cls.takes_any_parameter)
        and estimator.best_epoch_ <= len(estimator.history_["loss"])
    )
    size = sum(weight.size for weight in weights)
    if not agree or size != estimator.n_params_ + estimator.n_non_trainable_params_:
        raise ValueError(f"what {cls.__name__} has learnt does not go together")


def check_spec(spec: Spec, cls: type) -> None:
    """Refuse a spec that no estimator of the class can have."""
    known = annotated.parameter_constraints(cls)
    given = dict(spec.architecture)
    options = {name: one for name, one in spec.options if name != "strategy"}
    shared = {field.name for field in fields(parameters.TrainingParameters)}
    own = set(known) - shared - cls.outside_graph  # type: ignore[attr-defined]
    if cls.takes_any_parameter:  # type: ignore[attr-defined]
        options = {name: value for name, value in options.items() if name in shared - {"loss"}}
    if set(given) - own or not set(options) <= shared or len(given) != len(spec.architecture):
        raise ValueError(f"the network must have parameters of {cls.__name__} only")
    for name, value in (*given.items(), *options.items()):
        if name not in local_parameters(cls):
            _check_parameter(cls, name, value, known[name])
    whole = (
        _shape(spec.image_shape)
        and _positive(spec.scale)
        and _count(spec.n_classes)
        and spec.n_classes > 0
        and spec.optimizer in get_args(parameters.Optimizer)
        and spec.precision in ("float32", "mixed_bfloat16", "mixed_float16")
        and (isinstance(spec.jit_compile, bool) or spec.jit_compile == "auto")
        and isinstance(spec.start, str)
        and isinstance(spec.head, str)
        and spec.head in HEADS
    )
    if not whole:
        raise ValueError(f"the network of {cls.__name__} is not described as it must be")


def _check_parameter(cls: type, name: str, value: Any, constraints: list[Any]) -> None:
    # Normalise as fit does.
    if isinstance(value, np.generic) or (name == "optimizer" and isinstance(value, str)):
        value = value.lower() if isinstance(value, str) else value.item()
    try:
        annotated.check({name: constraints}, {name: value}, cls.__name__)
    except ValueError:
        if not isinstance(value, tuple):
            raise
        # A spec is hashable and has tuples; a user's class may require lists.
        annotated.check({name: constraints}, {name: list(value)}, cls.__name__)


def _check_others(estimator: Any) -> None:
    name, classes = type(estimator).__name__, estimator.classes_
    members = getattr(estimator, "estimators_", None)
    if kinds(type(estimator)) is _AUTO:
        members = [estimator.classifier_]
        agree = len(estimator.oof_proba_) == len(estimator.oof_rows_) == len(estimator.oof_parts_)
    elif members is None:
        members = [estimator.estimator]
        agree = estimator.validation_priors_.shape == classes.shape
    else:
        agree = len(estimator.names_) == len(members) == len(estimator.weights_)
    for member in members:
        fitted = isinstance(getattr(member, "classes_", None), np.ndarray)
        if not fitted or not np.isin(member.classes_, classes).all():
            raise ValueError(f"the members of {name} must be fitted, on its classes")
    if not agree:
        raise ValueError(f"what {name} has learnt does not go together")


def check_shapes(cls: type, expected: list[tuple[tuple[int, ...], str]], found: list[Any]) -> None:
    """Refuse weights, as (shape, dtype), that do not match the network."""
    if len(found) != len(expected):
        raise ValueError(f"{cls.__name__} must have {len(expected)} weights, not {len(found)}")
    for number, ((shape, dtype), (other, kind)) in enumerate(zip(expected, found, strict=True)):
        if shape != other or np.dtype(dtype) != kind:
            raise ValueError(
                f"weight {number} of {cls.__name__} must be {dtype} of shape {shape}, "
                f"not {kind} of shape {other}"
            )
