"""Parameters on the command line, checked before TensorFlow is imported.

Importing a network imports TensorFlow, which takes seconds. Names and most constraints of
parameters are parsed from the source of the network's module instead; `fit` checks the rest.
"""

from __future__ import annotations

import ast
import importlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

import kmedclf
from kmedclf import recipes
from kmedclf.cli.console import console, say_next
from kmedclf.utils.text import parse_parameter, suggest

if TYPE_CHECKING:
    from kmedclf.base import ImageClassifier


NETWORKS = {name.removesuffix("Classifier").lower(): name for name in kmedclf.NETWORKS}
_LIGHT = frozenset({"collections", "numbers", "numpy", "os", "pathlib", "sklearn", "typing"})
"""Packages that are imported to evaluate a type; types of other packages stay unknown."""


_VIT = ("num_layers", "hidden_dim", "num_heads", "mlp_dim", "patch_size")
_SIZES = {
    "tiny": (12, 192, 3, 768),
    "small": (12, 384, 6, 1536),
    "base": (12, 768, 12, 3072),
    "large": (24, 1024, 16, 4096),
}
ALIASES: dict[str, tuple[str, dict[str, Any]]] = {
    "perceptron": ("MLPClassifier", {}),
    "visiontransformer": ("ViTClassifier", {}),
    **{f"resnet{depth}": ("DeepResNetClassifier", {"depth": depth}) for depth in (18, 34, 50)},
    **{
        f"densenet{depth}": ("DenseNetClassifier", {"block_config": blocks})
        for depth, blocks in {
            121: (6, 12, 24, 16), 169: (6, 12, 32, 32), 201: (6, 12, 48, 32)
        }.items()
    },
    **{
        f"efficientnet{variant}": ("EfficientNetClassifier", {"variant": variant})
        for variant in ("b0", "b1", "b2", "lite0")
    },
    **{
        f"vit{name}{patch or ''}": ("ViTClassifier", dict(zip(_VIT, (*size, patch), strict=True)))
        for word, size in _SIZES.items()
        for name in (word, word[0])
        for patch in (None, 16, 32)
    },
}  # fmt: skip
"""Names that papers and other libraries give networks: class and parameters."""


def find_network(name: str) -> tuple[str, dict[str, tuple[str, Any]]]:
    """Return the class of a network, and the parameters that its name means.

    Names are those of `NETWORKS`, of classes and of `ALIASES`, in any case and with any hyphens.
    Parameters are options of `parameters`: each with ``name``, and its value.
    """
    word = re.sub("[^a-z0-9]", "", name.lower()).removesuffix("classifier").removeprefix("tf")
    word = re.sub(r"patch(\d\d)224$", r"\1", word)  # timm's vit_base_patch16_224
    if word in NETWORKS:
        return NETWORKS[word], {}
    if word in ALIASES:
        cls, meant = ALIASES[word]
        return cls, {key: (name, value) for key, value in meant.items() if value is not None}
    known, near = ", ".join(NETWORKS), suggest(word, [*NETWORKS, *ALIASES], n=1)
    raise ValueError(
        f"NAME must be one of {known}, or a name such as resnet18. Got {name!r} instead{near}"
    )


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
    for name, (option, value) in options.items():
        if value is not None and not any(name in _annotations(cls) for cls in classes):
            able = [short for short, cls in NETWORKS.items() if name in _annotations(cls)]
            raise ValueError(
                f"{option} must go with one of {', '.join(able)}. {classes[0]} has no such "
                "parameter."
            )
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


class Command(TyperCommand):
    """Tells users of an option that does not exist how -p sets it, if it is a parameter."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the options."""
        try:
            return super().parse_args(ctx, args)
        except Exception as error:
            option = str(getattr(error, "option_name", ""))
            name = option.lstrip("-").replace("-", "_")
            if "param" in {one.name for one in self.params} and any(
                name in _annotations(cls) for cls in NETWORKS.values()
            ):
                raise ValueError(f"There is no option {option}; -p {name}=VALUE sets it.") from None
            raise


# -- the command -----------------------------------------------------------------------------------


def params(
    network: Annotated[
        str | None, typer.Argument(metavar="NETWORK", help="Network, as for 'kmedclf train'.")
    ] = None,
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="One parameter, to explain in full.")
    ] = None,
) -> None:
    """List the parameters of a network, or explain one; without NETWORK, list the networks."""
    if network is None:
        for short, cls in NETWORKS.items():
            doc = ast.get_docstring(_classes(cls)[-1][0]) or ""
            console.print(f"{short:<14}{doc.splitlines()[0]}", markup=False, highlight=False)
        say_next("params", network="cnn", parameter="filters", value=64)
        return
    cls, meant = find_network(network)
    known = {one.name: one for one in _described(cls)}
    own = {key: value for key, (_, value) in meant.items()}
    if name is None:
        _list(cls, list(known.values()), own)
        first = next(iter(known.values()))
    else:
        if name not in known:
            near = suggest(name.lower(), known, n=1)
            near = near if near.startswith(";") else f"; there are {', '.join(known)}."
            raise ValueError(f"NAME must be a parameter of {cls}. Got {name!r} instead{near}")
        first = known[name]
        _detail(cls, first, own)
    value = own.get(first.name, first.default)
    value = value if isinstance(value, str) else json.dumps(value)
    short = next(short for short, one in NETWORKS.items() if one == cls)
    say_next("params", network=short, parameter=first.name, value=value)


@dataclass(frozen=True)
class _Parameter:
    """A parameter as its class documents it."""

    name: str
    owner: str
    allowed: str
    default: Any
    text: str


def _list(cls: str, known: Sequence[_Parameter], own: Mapping[str, Any]) -> None:
    for owner in dict.fromkeys(one.owner for one in known):
        title = f"Parameters of {owner}" if owner == cls else f"Shared ones, of {owner}"
        console.print(f"{title}:", style="bold", markup=False)
        for one in known:
            if one.owner == owner:
                value = json.dumps(own.get(one.name, one.default))
                first = re.split(r"(?<=[.;])\s", one.text, maxsplit=1)[0].rstrip(";.")
                console.print(f"  {one.name}={value}  ({one.allowed})", markup=False,
                              highlight=False, soft_wrap=True)  # fmt: skip
                console.print(f"      {first}.", markup=False, highlight=False, soft_wrap=True)
        console.print()


def _detail(cls: str, one: _Parameter, own: Mapping[str, Any]) -> None:
    value = json.dumps(own.get(one.name, one.default))
    console.print(f"{one.name} of {cls}: {one.allowed}, default {value}.", markup=False,
                  style="bold", soft_wrap=True)  # fmt: skip
    console.print(one.text, markup=False, highlight=False)
    if one.default != recipes.AUTO:
        return
    bases = [node.name for node, _ in _classes(cls)]
    for recipe in recipes.RECIPES:
        usual = recipes.values_of(recipe, bases).get(one.name)
        shown: dict[str, Any] = {recipe: usual}
        if "trainable" in _annotations(cls):
            shown[f"{recipe}, trainable=head"] = recipes.values_of(recipe, bases, "head").get(
                one.name
            )
        for words, value in shown.items():
            if words == recipe or value != usual:
                console.print(f"  {words:<10} {json.dumps(value)}", markup=False, highlight=False)


# -- the text of modules ---------------------------------------------------------------------------


def _refusal(cls: str, name: str, value: Any) -> ValueError | None:
    """Return the error with which a class would refuse a value; None if valid or unknown."""
    from sklearn.utils._param_validation import InvalidParameterError

    from kmedclf.utils import annotated

    expression, module = _annotations(cls)[name]
    try:
        known = annotated.constraints(_evaluated(expression, module))
        annotated.check({name: known}, {name: value}, cls)
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
    return {
        name: (line.annotation, module)
        for node, module in _classes(cls)
        for name, line in _fields(node)
    }


@cache
def _described(cls: str) -> list[_Parameter]:
    """Return the parameters of a class with their documentation, its own first."""
    found: dict[str, _Parameter] = {}
    docs: dict[str, tuple[str, str, str]] = {}
    for node, module in _classes(cls):
        section = (ast.get_docstring(node) or "").partition("Parameters\n----------\n")[2]
        section = re.split(r"\n\n[A-Z]\w+\n---", section, maxsplit=1)[0]
        for entry in re.split(r"^(?=\w+ : )", section, flags=re.M)[1:]:
            head, _, text = entry.partition("\n")
            name, _, kind = head.partition(" : ")
            docs[name] = node.name, kind.rpartition(", default=")[0] or kind, " ".join(text.split())
        for name, line in _fields(node):
            value = _evaluated(line.value, module)
            owner, allowed, text = docs.get(name, (node.name, ast.unparse(line.annotation), ""))
            found[name] = _Parameter(name, owner, allowed, value, text)
    order = [node.name for node, _ in _classes(cls)]
    return sorted(found.values(), key=lambda one: -order.index(one.owner))


def _fields(node: ast.ClassDef) -> Iterator[tuple[str, Any]]:
    """Yield the parameters that a class defines itself."""
    for line in node.body:
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
            if line.value is not None and "ClassVar" not in ast.unparse(line.annotation):
                yield line.target.id, line


@cache
def _classes(cls: str) -> list[tuple[ast.ClassDef, str]]:
    """Return a class and its bases with their modules, bases first."""
    return list(_collect(*_names("kmedclf.models").get(cls, ("kmedclf.models", cls))))


def _collect(module: str, cls: str) -> Iterator[tuple[ast.ClassDef, str]]:
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
    yield node, module


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
    """Evaluate an expression of a module."""
    code = compile(ast.fix_missing_locations(ast.Expression(expression)), module, "eval")
    return eval(code, {}, _Scope(module))  # source of this package
