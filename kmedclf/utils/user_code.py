"""What a user's functions and classes compute, as text to hash.

Pickle names a function by its module, so that another function of the same name would pass for it.
"""

from __future__ import annotations

import functools
import site
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import joblib
import numpy as np

_WRAPPERS = staticmethod, classmethod, MethodType
_LEFT_OUT = {
    "__annotations__", "__dict__", "__doc__", "__firstlineno__", "__module__",
    "__static_attributes__", "__weakref__",
}  # fmt: skip


def described(*things: Any) -> list[str]:
    """Describe all code of the user's that can be reached from classes, functions and values.

    Of installed packages and of kmedclf only names are given: their versions are hashed elsewhere.
    """
    walk = _Walk()
    return [line for thing in things for line in walk.of(thing)]


class _Walk:
    """Follows references, each object once."""

    def __init__(self) -> None:
        self._seen: dict[int, Any] = {}  # holds the objects, so that no id is used again

    def of(self, thing: Any) -> Iterator[str]:
        if thing is None or isinstance(thing, bool | int | float | complex | str | bytes):
            yield repr(thing)
        elif id(thing) in self._seen:
            yield type(thing).__name__
        else:
            self._seen[id(thing)] = thing
            yield from self._new(thing)

    def _new(self, thing: Any) -> Iterator[str]:
        if isinstance(thing, np.ndarray | np.generic):
            yield str(joblib.hash(thing))
        elif isinstance(thing, dict):
            for key in sorted(thing, key=repr):
                yield from self._all(key, thing[key])
        elif isinstance(thing, set | frozenset):
            yield from self._all(*sorted(thing, key=repr))
        elif isinstance(thing, list | tuple):
            yield from self._all(*thing)
        elif isinstance(thing, _WRAPPERS):
            yield from self.of(thing.__func__)
        elif isinstance(thing, property):
            yield from self._all(thing.fget, thing.fset, thing.fdel)
        elif isinstance(thing, functools.cached_property):
            yield from self.of(thing.func)
        elif isinstance(thing, functools.partial):
            yield from self._all(thing.func, thing.args, thing.keywords)
        elif isinstance(thing, FunctionType):
            yield from self._function(thing)
        elif isinstance(thing, type):
            yield from self._class(thing)
        elif isinstance(thing, CodeType):
            yield from self._code(thing)
        elif isinstance(thing, ModuleType):
            yield thing.__name__
        else:
            yield from self.of(type(thing))
            if not _installed(type(thing).__module__):
                yield from self.of(vars(thing) if hasattr(thing, "__dict__") else None)

    def _all(self, *things: Any) -> Iterator[str]:
        yield str(len(things))
        for thing in things:
            yield from self.of(thing)

    def _function(self, function: FunctionType) -> Iterator[str]:
        yield f"{function.__module__}.{function.__qualname__}"
        yield from self.of(getattr(function, "__wrapped__", None))
        if _installed(function.__module__):
            return
        yield from self._all(function.__code__, function.__defaults__, function.__kwdefaults__)
        for cell in function.__closure__ or ():
            try:
                yield from self.of(cell.cell_contents)
            except ValueError:  # empty
                yield "empty"
        names = _names(function.__code__)
        for name in sorted(names & function.__globals__.keys()):
            value = function.__globals__[name]
            yield name
            yield from self.of(value)
            if isinstance(value, ModuleType) and not _installed(value.__name__):
                used = sorted(names & vars(value).keys())
                yield from self._all(*(getattr(value, one) for one in used))

    def _class(self, cls: type) -> Iterator[str]:
        yield f"{cls.__module__}.{cls.__qualname__}"
        if _installed(cls.__module__):
            return
        yield from self._all(*cls.__bases__)
        for name, member in sorted(vars(cls).items()):
            if name not in _LEFT_OUT:
                yield name
                yield from self.of(member)

    def _code(self, code: CodeType) -> Iterator[str]:
        yield code.co_code.hex()
        yield repr((code.co_names, code.co_varnames, code.co_freevars))
        yield from self._all(*code.co_consts)


def _names(code: CodeType) -> set[str]:
    """Collect the names that code and the functions within it use."""
    inner = (_names(one) for one in code.co_consts if isinstance(one, CodeType))
    return set(code.co_names).union(*inner)


@functools.cache
def _installed(module: str | None) -> bool:
    """Check whether a module belongs to kmedclf, Python or an installed package."""
    top = (module or "__main__").partition(".")[0]
    if top == "__main__":  # of exec, a prompt or a program
        return False
    if top == "kmedclf" or top in sys.stdlib_module_names:
        return True
    file = getattr(sys.modules.get(str(module)), "__file__", None)
    return file is not None and any(Path(file).is_relative_to(one) for one in _folders())


@functools.cache
def _folders() -> tuple[str, ...]:
    """Return where packages are installed."""
    paths = sysconfig.get_paths()
    return paths["purelib"], paths["platlib"], site.getusersitepackages()
