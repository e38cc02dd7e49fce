"""Parameters written once: an annotated field is constructor, type, check and default in one line.

``units: PositiveInt = 128`` in the body of an estimator becomes an explicit keyword of its
constructor, a type for the type checker, and the constraint that ``fit`` checks. The check and its
error sentence are scikit-learn's own.
"""

from __future__ import annotations

import inspect
import re
import types
from dataclasses import MISSING, fields
from numbers import Integral, Real
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints
from weakref import WeakKeyDictionary

from sklearn.utils._param_validation import Interval, Options, StrOptions


def constraints(annotation: Any) -> list[Any]:
    """Turn one type annotation into the list of constraints scikit-learn checks.

    Parameters
    ----------
    annotation : type
        A type, ``None``, ``Literal``, ``Annotated`` with a scikit-learn constraint, or a union.

    Returns
    -------
    list
        The alternatives, any of which a value may satisfy.
    """
    origin = get_origin(annotation)
    if origin is Annotated:
        return [get_args(annotation)[1]]
    if origin in (Union, types.UnionType):
        return [one for part in get_args(annotation) for one in constraints(part)]
    if origin is Literal:
        values = set(get_args(annotation))
        text = all(isinstance(value, str) for value in values)
        return [StrOptions(values) if text else Options(type(next(iter(values))), values)]
    if annotation is type(None):
        return [None]
    if annotation is bool:
        return ["boolean"]
    if annotation in (int, float):
        return [Interval(Integral if annotation is int else Real, None, None, closed="neither")]
    return [origin or annotation]


_known: WeakKeyDictionary[type, dict[str, list[Any]]] = WeakKeyDictionary()


def parameter_constraints(cls: type) -> dict[str, list[Any]]:
    """Give the constraints of every parameter of an estimator class, by name."""
    if cls not in _known:  # reading annotations takes milliseconds, and every fit asks
        hints = get_type_hints(cls, include_extras=True)
        _known[cls] = {field.name: constraints(hints[field.name]) for field in fields(cls)}
    return _known[cls]


def check_defaults(cls: type) -> None:
    """Refuse a parameter without a default: grids, ``clone`` and ``repr`` would all need one."""
    for field in fields(cls):
        if field.default is MISSING:
            raise TypeError(
                f"The {field.name!r} parameter of {cls.__name__} must have an immutable default. "
                "Got none instead."
            )


def merge_docs(cls: type, shared: str | None) -> str | None:
    """Write the shared parameters into a subclass' numpydoc, behind its own.

    Parameters
    ----------
    cls : type
        The subclass, a dataclass already.
    shared : str or None
        Docstring of the class whose ``Parameters`` section it inherits.

    Returns
    -------
    str or None
        The subclass' docstring with one complete ``Parameters`` section, its own defaults in it.
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
    for name in re.findall(r"^(\w+) : ", mine[1] if mine else "", re.M):  # said anew
        theirs = re.sub(rf"^{name} : .*\n?(?:    .*\n?)*", "", theirs, flags=re.M)
    if mine is None:
        return f"{text}\n\nParameters\n----------\n{theirs}\n"
    return text[: mine.end()] + "\n" + theirs + text[mine.end() :]
