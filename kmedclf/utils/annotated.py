"""Parameters as annotated fields: constructor argument, type, constraint and default in one line.

``units: PositiveInt = 128`` in the body of an estimator becomes a keyword of its constructor, a
type for the type checker, and a constraint that ``fit`` checks with scikit-learn's validation.
"""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, fields
from numbers import Integral, Real
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints
from weakref import WeakKeyDictionary

import numpy as np
from sklearn.utils._param_validation import (
    Interval,
    InvalidParameterError,
    Options,
    StrOptions,
    validate_parameter_constraints,
)

from kmedclf.utils.text import suggest


class Words(StrOptions):
    """The words that a parameter accepts; messages list them in order."""

    def __str__(self) -> str:
        """Write the words as a part of "must be ..."."""
        words = ", ".join(map(repr, sorted(self.options)))
        return words if len(self.options) == 1 else f"one of {words}"


def constraints(annotation: Any) -> list[Any]:
    """Convert a type annotation to scikit-learn's list of alternative constraints."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return [get_args(annotation)[1]]
    if origin in (Union, types.UnionType):
        return [one for part in get_args(annotation) for one in constraints(part)]
    if origin is Literal:
        values = set(get_args(annotation))
        text = all(isinstance(value, str) for value in values)
        return [Words(values) if text else Options(type(next(iter(values))), values)]
    if annotation is type(None):
        return [None]
    if annotation is bool:
        return ["boolean"]
    if annotation in (int, float):
        return [Interval(Integral if annotation is int else Real, None, None, closed="neither")]
    return [origin or annotation]


_known: WeakKeyDictionary[type, dict[str, list[Any]]] = WeakKeyDictionary()


def parameter_constraints(cls: type) -> dict[str, list[Any]]:
    """Return the constraints of every parameter of an estimator class, by name."""
    # Resolving annotations takes milliseconds, and every fit needs them.
    if cls not in _known:
        hints = get_type_hints(cls, include_extras=True)
        _known[cls] = {field.name: constraints(hints[field.name]) for field in fields(cls)}
    return _known[cls]


def check(allowed: Mapping[str, Any], values: Mapping[str, Any], owner: str) -> None:
    """Check parameters as scikit-learn does; suggest the word that a misspelt one may mean."""
    for name, value in values.items():
        try:
            validate_parameter_constraints(allowed, {name: value}, owner)
        except InvalidParameterError as error:
            words = [w for one in allowed[name] if isinstance(one, StrOptions) for w in one.options]
            near = suggest(value, words) if isinstance(value, str) else "."
            raise InvalidParameterError(str(error).removesuffix(".") + near) from None


def check_parameters(estimator: Any) -> None:
    """Check all parameters of an estimator that lists its constraints, as scikit-learn's do."""
    given = estimator.get_params(deep=False)
    check(estimator._parameter_constraints, given, type(estimator).__name__)


def check_float32(cls: type, values: dict[str, Any]) -> None:
    """Refuse numbers that violate their parameter's bounds when rounded to float32."""
    # Networks compute in float32, where 1e-300 is 0, 1e300 infinite and 1 - 1e-9 is 1.
    for name, allowed in parameter_constraints(cls).items():
        value = values[name]
        if not isinstance(value, Real) or isinstance(value, Integral):
            continue
        with np.errstate(over="ignore", under="ignore"):
            low = float(np.float32(value))
        # Huge numbers become infinite, and no interval contains infinity.
        if not any(one.is_satisfied_by(low) for one in allowed if isinstance(one, Interval)):
            bounds = " or ".join(str(one) for one in allowed if isinstance(one, Interval))
            raise ValueError(
                f"The {name!r} parameter of {cls.__name__} must be {bounds} in float32, too. "
                f"Got {value!r} instead, which is {low:g} there."
            )


def plain(value: Any, *, deep: bool = True) -> Any:
    """Convert NumPy scalars to Python's, also inside lists, tuples and dicts if ``deep``.

    A float32 becomes the float with the same repr: 0.2, not 0.20000000298.
    """
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if isinstance(value, np.floating) and not isinstance(value, float):
        return float(str(value))
    if isinstance(value, np.generic):
        return value.item()
    if deep and type(value) in (list, tuple):
        made = type(value)(map(plain, value))
        # Return the same object if nothing changed, so that callers can compare identity.
        return made if any(a is not b for a, b in zip(made, value, strict=True)) else value
    if deep and type(value) is dict:
        whole = {key: plain(one) for key, one in value.items()}
        return whole if any(whole[key] is not one for key, one in value.items()) else value
    return value


@contextmanager
def plain_parameters(estimator: Any, *, deep: bool = True) -> Iterator[None]:
    """Make an estimator's parameters `plain` during a fit, and restore them afterwards."""
    given, used = {}, {}
    for name, value in estimator.get_params(deep=False).items():
        made = plain(value, deep=deep)
        if name == "optimizer" and isinstance(made, str):
            made = made.lower()  # as Keras does
        if made is not value:
            given[name], used[name] = value, made
    vars(estimator).update(used)
    try:
        yield
    finally:
        vars(estimator).update(given)


def check_defaults(cls: type) -> None:
    """Refuse a parameter without a default, which grids, ``clone`` and ``repr`` need."""
    for field in fields(cls):
        if field.default is MISSING:
            raise TypeError(
                f"The {field.name!r} parameter of {cls.__name__} must have an immutable default. "
                "Got none instead."
            )


def merge_docs(cls: type, shared: str | None) -> str | None:
    """Append the shared parameters to the ``Parameters`` section of a subclass.

    ``shared`` is the docstring of the base class; the subclass' defaults are filled in.
    """
    section = re.compile(r"Parameters\n-{10}\n(.*?)(?=\n\n[A-Z][a-z]+(?: [A-Z]\w+)?\n---|\Z)", re.S)
    inherited = section.search(inspect.cleandoc(shared or ""))
    if not cls.__doc__ or inherited is None:
        return cls.__doc__
    theirs = inherited[1]
    for field in fields(cls):
        value = f'"{field.default}"' if isinstance(field.default, str) else repr(field.default)
        theirs = re.sub(rf"^({field.name} : .*default=).*$", rf"\g<1>{value}", theirs, flags=re.M)
    text = inspect.cleandoc(cls.__doc__)
    mine = section.search(text)
    for name in re.findall(r"^(\w+) : ", mine[1] if mine else "", re.M):  # overridden
        theirs = re.sub(rf"^{name} : .*\n?(?:    .*\n?)*", "", theirs, flags=re.M)
    if mine is None:
        return f"{text}\n\nParameters\n----------\n{theirs}\n"
    return text[: mine.end()] + "\n" + theirs + text[mine.end() :]


def changed(estimator: Any) -> list[str]:
    """Name the parameters of an estimator that differ from their defaults."""
    defaults = inspect.signature(type(estimator)).parameters
    given = estimator.get_params(deep=False)
    return sorted(n for n, value in given.items() if repr(value) != repr(defaults[n].default))
