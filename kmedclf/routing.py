"""scikeras' names for the estimators' parameters: routed ones, and those without a use here.

scikeras sends ``optimizer__learning_rate`` to the optimizer and ``fit__epochs`` to Keras' ``fit``.
The estimators have one flat parameter for each of these, and take the routed name for it, too.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from kmedclf.utils.text import suggest

PREFIXES = ("model", "fit", "compile", "predict", "optimizer", "loss", "metrics", "callbacks")
"""First parts of routed names."""

RENAMED = {
    "optimizer__global_clipnorm": "clipnorm",
    "loss__alpha": "focal_alpha",
    "loss__gamma": "focal_gamma",
}
"""Routed names whose last part has another name here."""

NOT_APPLICABLE: dict[str, tuple[Any, str]] = {
    "model": (None, "the class is the network; KerasImageClassifier takes a build function"),
    "build_fn": (None, "the class is the network; KerasImageClassifier takes a build function"),
    "metrics": (None, "loss and accuracy are in history_, all others in evaluation.evaluate"),
    "shuffle": (True, "the training images are shuffled in every epoch"),
    "run_eagerly": (False, "an epoch is one graph; callbacks see each of its batches"),
    "validation_batch_size": (None, "the size of these batches does not change a score"),
}
"""Parameters of scikeras that have no use here: their only value, and the reason."""

NO_RESULT = frozenset({"batch_size", "verbose", "validation_batch_size"})
"""Arguments of Keras' ``predict`` and validation that change no result: any value is taken."""

_PARAMETERS_OF_FIT = {
    "batch_size", "callbacks", "class_weight", "epochs", "validation_split", "verbose",
}  # fmt: skip
_OF_FIT: dict[str, Any] = {
    "initial_epoch": 0,
    "steps_per_epoch": None,
    "validation_steps": None,
    "validation_freq": 1,
}
"""Arguments of Keras' ``fit`` that are taken with this value only."""


def is_routed(name: str) -> bool:
    """Whether a name begins with one of scikeras' prefixes."""
    return name.partition("__")[0] in PREFIXES and "__" in name


def check_value(name: str, value: Any, cls: str) -> None:
    """Refuse a parameter without a use here, unless it has its only value."""
    only, reason = NOT_APPLICABLE[name]
    accepted = name in NO_RESULT or (name == "metrics" and is_accuracy(value))
    if value is not only and value != only and not accepted:
        raise ValueError(
            f"The {name!r} parameter of scikeras must be {only!r} for {cls}: {reason}. Got "
            f"{value!r} instead."
        )


def is_accuracy(metrics: Any) -> bool:
    """Whether Keras' metrics are none, or accuracy alone."""
    if metrics is None:
        return True
    listed = metrics if isinstance(metrics, list | tuple) else [metrics]
    return all(one in ("acc", "accuracy") for one in listed if isinstance(one, str)) and all(
        isinstance(one, str) for one in listed
    )


def unknown(owner: str, name: str, known: Iterable[str], more: str = "") -> str:
    """Write that an estimator has no parameter of that name; ``more`` says what else it takes."""
    return (
        f"A parameter of {owner} must be one that get_params() lists{more}. Got {name!r} "
        f"instead{suggest(name, known)}"
    )


class RoutedNames:
    """Base of estimators that take scikeras' names of parameters and arguments, too."""

    if TYPE_CHECKING:  # a subclass' own

        @classmethod
        def _get_param_names(cls) -> list[str]: ...

    def _flat(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Replace scikeras' names of parameters by the estimator's own; leave all others.

        Raises ValueError for a routed name that has no counterpart, or a value of
        `NOT_APPLICABLE` other than its own.
        """
        known, cls = set(self._get_param_names()), type(self).__name__
        found: dict[str, Any] = {}
        for name, value in parameters.items():
            prefix, _, last = name.partition("__")
            if name not in known and name in NOT_APPLICABLE:
                check_value(name, value, cls)
            elif not is_routed(name):
                found[name] = value
            elif prefix in ("fit", "compile") and last in NOT_APPLICABLE:
                check_value(last, value, cls)
            elif prefix != "predict" or last not in NO_RESULT:
                own = RENAMED.get(name, last)
                if prefix == "predict" or own not in known:
                    raise ValueError(
                        f"The {name!r} parameter of {cls} must be one that scikeras sends to a "
                        f"parameter of {cls}, and there is none for it; get_params() lists them "
                        "all."
                    )
                found[own] = value
        return found

    def _fit_arguments(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Check the arguments of Keras' ``fit``; return the parameters that they replace."""
        known, cls = _PARAMETERS_OF_FIT & set(self._get_param_names()), type(self).__name__
        found = {}
        for name, value in given.items():
            if name in known:
                found[name] = value
            elif name in NOT_APPLICABLE:
                check_value(name, value, cls)
            elif name not in _OF_FIT:
                raise TypeError(
                    f"{cls}.fit must get its own arguments or those of scikeras: epochs, "
                    "batch_size, callbacks, verbose, class_weight, validation_split or "
                    f"validation_data. Got {name!r} instead."
                )
            elif value != _OF_FIT[name]:
                raise ValueError(
                    f"The {name!r} argument of {cls}.fit must be {_OF_FIT[name]!r}: an epoch is "
                    "every image once, and is followed by all of the validation set. Got "
                    f"{value!r} instead."
                )
        return found

    def _check_predict(self, given: Mapping[str, Any]) -> None:
        """Refuse arguments of Keras' ``predict`` that would change its result."""
        for name in given:
            if name not in NO_RESULT:
                raise TypeError(
                    f"{type(self).__name__}.predict must get X alone, or with batch_size and "
                    f"verbose, which change no result. Got {name!r} instead."
                )

    @staticmethod
    def _accepting(init: Callable[..., None], *, free: bool = False) -> Callable[..., None]:
        """Let a generated constructor take scikeras' names, too; its signature stays the same.

        With ``free`` it takes all others as well, which become attributes.
        """
        known = set(inspect.signature(init).parameters)

        @functools.wraps(init)
        def __init__(self: Any, *args: Any, **given: Any) -> None:
            theirs = [n for n in given if n not in known and (is_routed(n) or n in NOT_APPLICABLE)]
            extra = {name: given.pop(name) for name in theirs}
            own = {name: given.pop(name) for name in list(given) if free and name not in known}
            for name in given:
                if name not in known:
                    raise TypeError(unknown(type(self).__name__, name, known))
            init(self, *args, **given)
            vars(self).update(own)
            if extra:
                self.set_params(**extra)

        return __init__
