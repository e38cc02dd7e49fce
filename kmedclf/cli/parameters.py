"""Parameters on the command line, checked before TensorFlow is imported.

Importing a network imports TensorFlow, which takes seconds. Names and most constraints of
parameters are parsed from the source of the network's module instead; `fit` checks the rest.
"""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import kmedclf
from kmedclf.utils.text import parse_parameter, suggest

if TYPE_CHECKING:
    from kmedclf.base import ImageClassifier


NETWORKS = {name.removesuffix("Classifier").lower(): name for name in kmedclf.NETWORKS}
_LIGHT = frozenset({"collections", "numbers", "numpy", "os", "pathlib", "sklearn", "typing"})
"""Packages that are imported to evaluate a type; types of other packages stay unknown."""


def network_class(name: str) -> str:
    """Return the class name of a network by its short name."""
    if name.lower() in NETWORKS:
        return NETWORKS[name.lower()]
    known, near = ", ".join(NETWORKS), suggest(name.lower(), NETWORKS, n=1)
    raise ValueError(f"NAME must be one of {known}. Got {name!r} instead{near}")


def parameters(
    texts: Sequence[str] | None, classes: Sequence[str], **options: tuple[str, Any]
) -> dict[str, Any]:
    """Read all of -p, and the options that set parameters; duplicates are refused.

    Each of ``texts`` is NAME=VALUE, for a parameter of one of ``classes``. ``options`` maps a
    parameter to an option and its value, None if not given.
    """
    found: dict[str, Any] = {}
    for text in texts or ():
        name, value = parse_parameter(text)
        if name in found:
            raise ValueError(f"-p {name} must be given once. Got it also as {found[name]!r}.")
        found[name] = value
    check_names(found, classes)
    for name, (option, value) in options.items():
        if name in found and value is not None:
            raise ValueError(f"{option} and -p {name} set the same; give one of them.")
    found |= {name: value for name, (_, value) in options.items() if value is not None}
    check_values(found, classes)
    return found


def check_names(given: Mapping[str, Any], classes: Sequence[str]) -> None:
    """Refuse a name that is no parameter of the classes."""
    known = {cls: _annotations(cls) for cls in classes}
    # Without sources, `make` checks the names.
    if not all(known.values()):
        return
    names = sorted({name for one in known.values() for name in one})
    owner = classes[0] if len(classes) == 1 else "some network"
    for name in given:
        if name not in names:
            _refuse(name, names, owner)


def check_values(given: Mapping[str, Any], classes: Sequence[str]) -> None:
    """Refuse a value that all classes with this parameter refuse, with the error of ``fit``."""
    for name, value in given.items():
        refusals = [_refusal(cls, name, value) for cls in classes if name in _annotations(cls)]
        if refusals and all(refusals):
            assert refusals[0] is not None
            raise refusals[0]


def make(cls: type[Any], given: dict[str, Any]) -> ImageClassifier:
    """Create an estimator; the error for an unknown parameter lists the known ones."""
    valid = sorted(cls().get_params())
    for name in given:
        if name not in valid:
            _refuse(name, valid, cls.__name__)
    return cls(**given)


def _refuse(name: str, valid: Sequence[str], owner: str) -> None:
    near = suggest(name.lower(), valid, n=1)
    # Without a similar name, list all of them.
    if not near.startswith(";"):
        near = f"; there are {', '.join(valid)}."
    raise ValueError(f"-p must name a parameter of {owner}. Got {name!r} instead{near}")


# -- the text of modules ---------------------------------------------------------------------------


def _refusal(cls: str, name: str, value: Any) -> ValueError | None:
    """Return the error with which a class would refuse a value; None if valid or unknown."""
    from sklearn.utils._param_validation import (
        InvalidParameterError,
        validate_parameter_constraints,
    )

    from kmedclf.utils import annotated

    expression, module = _annotations(cls)[name]
    try:
        known = annotated.constraints(_evaluated(expression, module))
        validate_parameter_constraints({name: known}, {name: value}, caller_name=cls)
        # An estimator may accept "Adam" for "adam".
    except InvalidParameterError as error:
        lower = value.lower() if isinstance(value, str) else value
        return None if lower != value and _refusal(cls, name, lower) is None else error
    except (LookupError, NameError, TypeError, ValueError, AttributeError):
        return None  # a type of TensorFlow or Keras, or one that scikit-learn cannot check
    return None


@cache
def _annotations(cls: str) -> dict[str, tuple[ast.expr, str]]:
    """Return annotation and module of each parameter of a class; empty without sources."""
    return dict(_collect(*_names("kmedclf.models").get(cls, ("kmedclf.models", cls))))


def _collect(module: str, cls: str) -> Iterator[tuple[str, tuple[ast.expr, str]]]:
    names = _names(module)
    node = names.get(cls)
    if not isinstance(node, ast.ClassDef):
        return
    # Bases first, last one first, so that later annotations override them as in Python.
    for base in reversed(node.bases):
        origin = names.get(base.id) if isinstance(base, ast.Name) else None
        if isinstance(base, ast.Name) and isinstance(origin, ast.ClassDef):
            yield from _collect(module, base.id)
        elif isinstance(origin, tuple) and origin[0].startswith("kmedclf."):
            yield from _collect(*origin)
    for line in node.body:
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
            if line.value is not None and "ClassVar" not in ast.unparse(line.annotation):
                yield line.target.id, (line.annotation, module)


@cache
def _names(module: str) -> dict[str, Any]:
    """Map names that a module defines or imports to a node, or to (module, name)."""
    path = Path(kmedclf.__file__).parent.joinpath(*module.split(".")[1:])
    # A package that imports lazily lists its names in a stub.
    stub = path / "__init__.pyi"
    if stub.is_file():
        path = stub
    else:
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    if not path.is_file():
        return {}
    found: dict[str, Any] = {}
    for line in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(line, ast.ClassDef):
            found[line.name] = line
        elif isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
            found[line.target.id] = line.value
        elif isinstance(line, ast.Assign) and isinstance(line.targets[0], ast.Name):
            found[line.targets[0].id] = line.value
        elif isinstance(line, ast.ImportFrom):
            origin = ".".join(filter(None, (module if line.level else "", line.module)))
            for one in line.names:
                found[one.asname or one.name] = (origin, one.name)
        elif isinstance(line, ast.Import):
            for one in line.names:
                found[one.asname or one.name] = (one.name, "")
    return found


class _Scope(dict[str, Any]):
    """The names of a module, evaluated lazily."""

    def __init__(self, module: str) -> None:
        super().__init__()
        self.module = module

    def __missing__(self, name: str) -> Any:
        """Evaluate a name; raise LookupError for builtins and types of heavy packages."""
        origin = _names(self.module)[name]
        if isinstance(origin, tuple):
            module, inner = origin
            if module.startswith("kmedclf."):
                return _Scope(module)[inner]
            if module.partition(".")[0] not in _LIGHT:
                raise LookupError(name)
            found = importlib.import_module(module)
            return getattr(found, inner) if inner else found
        if not isinstance(origin, ast.expr):
            raise LookupError(name)
        return _evaluated(origin, self.module)


def _evaluated(expression: ast.expr, module: str) -> Any:
    code = compile(ast.fix_missing_locations(ast.Expression(expression)), module, "eval")
    return eval(code, {}, _Scope(module))  # source of this package
