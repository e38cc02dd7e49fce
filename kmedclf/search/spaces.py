"""Search spaces: ranges, stages and spaces, read from YAML and checked against an estimator.

One long file: what may stand in YAML, in Python, and in a user's dict is one set of rules.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from itertools import product
from pathlib import Path
from typing import Any, Literal, NoReturn, Self, TypeAlias

import numpy as np
import yaml
from sklearn.pipeline import Pipeline
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import InvalidParameterError

from kmedclf import recipes
from kmedclf.utils import annotated, notebook
from kmedclf.utils.text import suggest


@dataclass(frozen=True)
class Range:
    """All numbers from ``low`` to ``high``, both included.

    scikit-learn's random searches take it as a distribution.

    Parameters
    ----------
    low, high : int or float
        Bounds.
    type : {"int", "float"}, default="float"
        Type of the numbers.
    scale : {"linear", "log"}, default="linear"
        Whether the numbers or their logarithms are drawn uniformly.

    Raises
    ------
    ValueError
        If the bounds are not finite, not in order, not whole for "int" or not positive for
        "log".
    """

    low: float
    high: float
    type: Literal["int", "float"] = "float"
    scale: Literal["linear", "log"] = "linear"

    def __post_init__(self) -> None:
        """Check the bounds and convert them to the type of the range."""
        for what, allowed in (("type", ("int", "float")), ("scale", ("linear", "log"))):
            if getattr(self, what) not in allowed:
                names = " or ".join(map(repr, allowed))
                raise ValueError(f"{what!r} must be {names}. Got {getattr(self, what)!r} instead.")
        for what in ("low", "high"):
            end = getattr(self, what)
            number = isinstance(end, int | float) and not isinstance(end, bool)
            if not number or not math.isfinite(end):
                raise ValueError(f"{what!r} must be a finite number. Got {end!r} instead.")
            if self.type == "int" and end != int(end):
                raise ValueError(f"{what!r} must be a whole number. Got {end!r} instead.")
            object.__setattr__(self, what, int(end) if self.type == "int" else float(end))
        if self.low >= self.high:
            raise ValueError(f"'low' must be less than 'high', {self.high}. Got {self.low}.")
        if self.scale == "log" and self.low <= 0:
            raise ValueError(f"'low' must be positive on a log scale. Got {self.low} instead.")

    def values(self) -> list[int] | None:
        """Return all numbers of an "int" range on a linear scale, else None."""
        finite = self.type == "int" and self.scale == "linear"
        return list(range(int(self.low), int(self.high) + 1)) if finite else None

    def rvs(self, size: Any = None, random_state: Any = None) -> Any:
        """Draw numbers, as scipy's distributions do.

        Parameters
        ----------
        size : int or tuple of int, optional
            Shape of the result; None returns a single number.
        random_state : int, RandomState or None, default=None
            Random seed or generator.

        Returns
        -------
        int, float or ndarray
            The random numbers.
        """
        whole = self.type == "int"
        # Widen by 1/2, so that rounding draws the bounds as often as the other integers.
        low, high = (self.low - 0.5, self.high + 0.5) if whole else (self.low, self.high)
        share = check_random_state(random_state).uniform(size=size)
        if self.scale == "log":
            drawn = np.exp(np.log(low) + share * (np.log(high) - np.log(low)))
        else:
            drawn = low + share * (high - low)
        if whole:
            drawn = np.rint(drawn).astype(np.int64) if size is not None else round(float(drawn))
        return np.clip(drawn, self.low, self.high) if size is not None else self._clip(drawn)

    def _clip(self, number: float) -> int | float:
        kind = int if self.type == "int" else float
        return kind(min(max(number, self.low), self.high))


Candidates: TypeAlias = Range | tuple[Any, ...] | list[Any]


@dataclass(frozen=True)
class Stage:
    """Parameters that are searched together."""

    name: str
    # Candidates by parameter; several dicts if not all combinations make sense.
    alternatives: tuple[Mapping[str, Candidates], ...]

    @property
    def names(self) -> list[str]:
        """Names of the parameters, in order."""
        return list(dict.fromkeys(name for one in self.alternatives for name in one))

    def fixed(self, parameters: Mapping[str, Any]) -> Stage:
        """Take parameters out, and drop alternatives whose candidates lack the fixed value.

        If no alternative has the value, all stay. The result may have no alternatives left.
        """
        left = list(self.alternatives)
        for name, value in parameters.items():
            # Alternatives without this parameter accept any value.
            fitting = [one for one in left if name not in one or _has(one[name], value)]
            if any(name in one for one in fitting):
                left = fitting
            left = [{n: c for n, c in one.items() if n != name} for one in left]
        # Alternatives may have become empty or equal.
        unique = [one for i, one in enumerate(left) if one and one not in left[:i]]
        return Stage(self.name, tuple(unique))

    def grids(self) -> list[dict[str, list[Any]]]:
        """Convert each alternative to a parameter grid; raise for a range without a finite list."""
        return [
            {name: listed(name, one) for name, one in parameters.items()}
            for parameters in self.alternatives
        ]

    def distributions(self) -> list[dict[str, Any]]:
        """Convert each alternative to a dict of lists and distributions."""
        return [
            {name: one if hasattr(one, "rvs") else listed(name, one) for name, one in group.items()}
            for group in self.alternatives
        ]

    def hyperparameters(self, hp: Any) -> dict[str, Any]:
        """Register the stage with KerasTuner and return one value for each parameter."""
        if len(self.alternatives) == 1:
            group = self.alternatives[0]
            return {name: _choose(hp, name, one) for name, one in group.items()}
        chosen = hp.Choice(f"alternative of {self.name}", list(range(len(self.alternatives))))
        values: dict[str, Any] = {}
        for index, group in enumerate(self.alternatives):
            with hp.conditional_scope(f"alternative of {self.name}", [index]):
                # The oracles need a distinct name for each condition.
                found = {n: _choose(hp, f"{n} ({index})", one) for n, one in group.items()}
            values = found if index == chosen else values
        return values


def _has(candidates: Candidates, value: Any) -> bool:
    """Check whether a value is among the candidates; 1 is not True."""
    if isinstance(candidates, Range):
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and candidates.low <= value <= candidates.high
    value = tuple(value) if isinstance(value, list) else value
    return any(type(one) is type(value) and one == value for one in listed("", candidates))


def listed(name: str, candidates: Candidates) -> list[Any]:
    """List all candidates of a parameter; a range without a finite list is refused."""
    if isinstance(candidates, Range):
        values = candidates.values()
    else:
        no_list = isinstance(candidates, str) or not hasattr(candidates, "__len__")
        values = None if no_list else list(candidates)
    if values is None:
        raise ValueError(
            f"{name!r} must be a list of values, or whole numbers on a linear scale, for a grid. "
            f"Got {candidates!r} instead."
        )
    return values


def _choose(hp: Any, name: str, candidates: Candidates) -> Any:
    """Register one parameter with KerasTuner and return its value."""
    if isinstance(candidates, Range):
        kind = hp.Int if candidates.type == "int" else hp.Float
        return kind(name, candidates.low, candidates.high, sampling=candidates.scale)
    values = list(candidates)
    if {type(value) for value in values} in ({str}, {int}, {float}):
        return hp.Choice(name, values)
    # Choice takes strings or numbers of one type only and turns True into 1: choose an index.
    position = hp.Choice(name, list(range(len(values))))
    return None if position is None else values[position]  # None: alternative not chosen


_TOP = ("estimator", "subset", "stages", "parameters")
_RANGE = ("low", "high", "type", "scale")


MOST_BYTES = 1 << 20
"""Maximum size of a file; those of the package have a few kilobytes."""

MOST_VALUES, DEEPEST = 20_000, 20
"""Maximum number of values, aliases expanded, and maximum nesting depth of a file."""

LONGEST_MESSAGE = 1000


class _Loader(yaml.SafeLoader):
    """YAML's safe loader, except that ``1e-3`` is a number as in YAML 1.2, not a string."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)$"),
    list("-+.0123456789"),
)


def read_space(path: Path, estimator: type | None) -> tuple[type, tuple[Stage, ...], float | None]:
    """Read and check one file; errors name file and line.

    Without ``estimator`` the file must name the class. Returns class, stages and subset.
    """
    return _Reader(path).space(estimator)


def check_value(cls: type, name: str, value: Any) -> None:
    """Check one value of one parameter as ``fit`` would, with the estimator's own message."""
    constraints = {name: annotated.parameter_constraints(cls)[name]}
    annotated.check(constraints, {name: value}, cls.__name__)


def by_name() -> dict[str, type]:
    """Map the names that files use to estimator classes: "cnn" is CNNClassifier."""
    from kmedclf import NETWORKS, models  # imports TensorFlow

    return {name.removesuffix("Classifier").lower(): getattr(models, name) for name in NETWORKS}


class _Reader:
    """Converts one file from YAML nodes, which know their lines, to stages."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.cls: type = object
        self.known: list[str] = []
        self.seen: dict[str, tuple[int, yaml.Node]] = {}  # line and stage, by parameter
        text = self.text()
        try:
            self.check_size(text)
            self.loader = _Loader(text)
            self.root = self.loader.get_single_node()
        except yaml.YAMLError as error:
            self.refuse(error)

    def text(self) -> str:
        """Read the file as UTF-8, unless it is too large."""
        if self.path.exists() and not self.path.is_file():
            raise ValueError(f"{self.path} must be a file. It is not.")
        with self.path.open("rb") as file:
            # Do not trust the file's size: it may grow, or be endless.
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise ValueError(f"{self.path} must have at most {MOST_BYTES:,} bytes. It has more.")
        try:
            return content.decode("utf-8-sig")
        except UnicodeDecodeError:
            raise ValueError(f"{self.path} must be text in UTF-8. It is not.") from None

    def check_size(self, text: str) -> None:
        """Count the values without constructing any."""
        # A few lines of nested aliases can expand to billions of values.
        anchors: dict[str, int] = {}
        open_ones: list[tuple[str | None, int]] = []
        total = 0
        for event in yaml.parse(text, Loader=_Loader):
            line = event.start_mark.line + 1
            if isinstance(event, yaml.CollectionStartEvent):
                open_ones.append((event.anchor, total))
                total += 1
            elif isinstance(event, yaml.CollectionEndEvent):
                anchor, before = open_ones.pop()
                if anchor:
                    anchors[anchor] = total - before
            elif isinstance(event, yaml.ScalarEvent):
                total += 1
                if event.anchor:
                    anchors[event.anchor] = 1
            elif isinstance(event, yaml.AliasEvent):
                if event.anchor in {anchor for anchor, _ in open_ones}:
                    raise ValueError(
                        f"{self.path}, line {line}: a value must not hold itself. "
                        f"Got *{event.anchor} in it."
                    )
                total += anchors.get(event.anchor, 1)
            if total > MOST_VALUES or len(open_ones) > DEEPEST:
                raise ValueError(
                    f"{self.path}, line {line}: the file must hold at most {MOST_VALUES:,} values, "
                    f"nested at most {DEEPEST} deep. It holds more."
                )

    def refuse(self, error: yaml.YAMLError) -> NoReturn:
        mark = getattr(error, "problem_mark", None)
        reason = getattr(error, "problem", None) or getattr(error, "reason", None)
        reason = str(reason or type(error).__name__)[:LONGEST_MESSAGE]
        raise ValueError(
            f"{self.path}, line {mark.line + 1 if mark else 1}: the file must be YAML. Got a part "
            f"that is not: {' '.join(reason.split())}."
        ) from error

    def fail(self, node: yaml.Node | None, text: str) -> NoReturn:
        line = node.start_mark.line + 1 if node else 1
        text = " ".join(text.split())
        if len(text) > LONGEST_MESSAGE:
            text = f"{text[:LONGEST_MESSAGE]} ..."
        raise ValueError(f"{self.path}, line {line}: {text}")

    def value(self, node: yaml.Node) -> Any:
        try:
            value = _tuples(self.loader.construct_object(node, deep=True))
        except yaml.YAMLError as error:
            self.refuse(error)
        except (ValueError, TypeError, LookupError, ArithmeticError) as error:
            # For instance a date in month 13, or a number with 5,000 digits.
            self.fail(node, f"the value must be one that YAML knows. Got one that is not: {error}.")
        if not _is_plain(value):
            self.fail(
                node,
                "the value must be made of numbers of up to 64 bits, text, lists and mappings. Got "
                f"{type(value).__name__} instead.",
            )
        return value

    def mapping(
        self, node: yaml.Node | None, what: str, keys: tuple[str, ...] = ()
    ) -> dict[str, tuple[yaml.Node, yaml.Node]]:
        """Return the nodes of a mapping; refuse duplicate keys and keys not in ``keys``."""
        if not isinstance(node, yaml.MappingNode) or not node.value:
            self.fail(node, f"{what} must be a mapping with at least one entry.")
        entries: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        for key_node, value_node in node.value:
            key = str(self.value(key_node))
            if keys and key not in keys:
                allowed = ", ".join(map(repr, keys))
                self.fail(
                    key_node,
                    f"{what} must have keys out of {allowed}. "
                    f"Got {key!r} instead{suggest(key, keys)}",
                )
            if key in entries:
                self.fail(key_node, f"{what} must name {key!r} once. Got it a second time.")
            entries[key] = key_node, value_node
        return entries

    def space(self, estimator: type | None) -> tuple[type, tuple[Stage, ...], float | None]:
        top = self.mapping(self.root, "A search space", _TOP)
        self.cls = estimator or self.estimator(top)
        self.known = sorted(annotated.parameter_constraints(self.cls))
        if ("stages" in top) == ("parameters" in top):
            self.fail(self.root, "A search space must have either 'stages' or 'parameters'.")
        subset = self.subset(top["subset"][1]) if "subset" in top else None
        if "parameters" in top:
            return self.cls, (Stage("all", self.alternatives(top["parameters"][1])),), subset
        node = top["stages"][1]
        if not isinstance(node, yaml.SequenceNode) or not node.value:
            self.fail(node, "'stages' must be a list of at least one stage.")
        return self.cls, tuple(self.stage(one) for one in node.value), subset

    def subset(self, node: yaml.Node) -> float:
        value = self.value(node)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not 0 < value <= 1:
            self.fail(node, f"'subset' must be a share in (0, 1]. Got {value!r} instead.")
        return float(value)

    def estimator(self, top: dict[str, tuple[yaml.Node, yaml.Node]]) -> type:
        classes = by_name()
        names = ", ".join(map(repr, classes))
        if "estimator" not in top:
            self.fail(self.root, f"'estimator' must name one of {names}. Got none.")
        node = top["estimator"][1]
        name = self.value(node)
        if not isinstance(name, str) or name not in classes:
            near = suggest(str(name), classes)
            self.fail(node, f"'estimator' must be one of {names}. Got {name!r} instead{near}")
        return classes[name]

    def stage(self, node: yaml.Node) -> Stage:
        entries = self.mapping(node, "A stage", ("name", "parameters"))
        for key in ("name", "parameters"):
            if key not in entries:
                self.fail(node, f"A stage must have a {key!r}. Got none.")
        name = self.value(entries["name"][1])
        return Stage(str(name), self.alternatives(entries["parameters"][1]))

    def alternatives(self, node: yaml.Node) -> tuple[dict[str, Candidates], ...]:
        several = isinstance(node, yaml.SequenceNode) and node.value
        return tuple(self.parameters(one, node) for one in (node.value if several else [node]))

    def parameters(self, node: yaml.Node, stage: yaml.Node) -> dict[str, Candidates]:
        found: dict[str, Candidates] = {}
        for name, (key_node, value_node) in self.mapping(node, "'parameters'").items():
            if name not in self.known:
                self.fail(
                    key_node,
                    f"a parameter must be one of {self.cls.__name__}'s: {', '.join(self.known)}. "
                    f"Got {name!r} instead{suggest(name, self.known)}",
                )
            line, other = self.seen.setdefault(name, (key_node.start_mark.line + 1, stage))
            if other is not stage:
                self.fail(
                    key_node,
                    f"{name!r} must be searched in one stage only. Got it also in line {line}.",
                )
            found[name] = self.candidates(name, value_node)
        return found

    def candidates(self, name: str, node: yaml.Node) -> Candidates:
        if isinstance(node, yaml.MappingNode):
            return self.range(name, node)
        if not isinstance(node, yaml.SequenceNode):
            self.fail(
                node,
                f"{name!r} must be a list of values or a range {{low: ..., high: ...}}. "
                f"Got {self.value(node)!r} instead.",
            )
        if not node.value:
            self.fail(node, f"{name!r} must have at least one value. Got an empty list instead.")
        values: list[Any] = []
        for one in node.value:
            value = self.value(one)
            self.check(one, name, value)
            # True, 1 and 1.0 compare equal, but are different values of a parameter.
            if any(type(value) is type(other) and value == other for other in values):
                self.fail(one, f"{name!r} must list {value!r} once. Got it a second time.")
            values.append(value)
        return tuple(values)

    def range(self, name: str, node: yaml.Node) -> Range:
        entries = self.mapping(node, f"The range of {name!r}", _RANGE)
        for key in ("low", "high"):
            if key not in entries:
                self.fail(node, f"The range of {name!r} must have {key!r}. Got none.")
        given = {key: self.value(value) for key, (_, value) in entries.items()}
        whole = isinstance(given["low"], int) and isinstance(given["high"], int)
        given.setdefault("type", "int" if whole else "float")
        try:
            found = Range(**given)
        except ValueError as error:
            self.fail(node, f"the range of {name!r}: {error}")
        for key, end in (("low", found.low), ("high", found.high)):
            self.check(entries[key][1], name, end)
        return found

    def check(self, node: yaml.Node, name: str, value: Any) -> None:
        try:
            check_value(self.cls, name, value)
        except InvalidParameterError as error:
            self.fail(node, str(error))
        if isinstance(value, float) and not math.isfinite(value):
            self.fail(node, f"{name!r} must be finite. Got {value} instead.")


def _is_plain(value: Any) -> bool:
    """Check that a value has no YAML sets, bytes or dates, and no integers beyond 64 bits."""
    if isinstance(value, int) and not isinstance(value, bool):
        return -(2**63) <= value < 2**63
    if isinstance(value, tuple):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(map(_is_plain, [*value, *value.values()]))
    return value is None or isinstance(value, bool | float | str)


def _tuples(value: Any) -> Any:
    # A list within a list of values is one value, such as an image shape; grids need it hashable.
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


Grid: TypeAlias = dict[str, Any] | list[dict[str, Any]]


@dataclass(frozen=True)
class SearchSpace:
    """The parameters of an estimator to search, in ordered stages.

    Parameters
    ----------
    estimator : type
        Class of the estimator that has these parameters.
    stages : tuple of Stage
        What to search, in order; a flat space is one stage.
    subset : float or None, default=None
        Share of the images to search on, None for all. ``kmedclf search`` uses it by default;
        elsewhere pass it as the ``subset`` parameter of a search.

    Examples
    --------
    >>> from kmedclf.search import SearchSpace
    >>> space = SearchSpace.load("cnn")
    >>> [stage.name for stage in space.stages]
    ['data', 'kernels', 'pooling', 'training']
    >>> space.stage_grids()[1]
    {'kernel_size': [3, 5, 7], 'filters': [8, 16, 32, 64, 128]}
    """

    estimator: type
    stages: tuple[Stage, ...]
    subset: float | None = None

    def _repr_html_(self) -> str:
        """Show the stages and their candidates in a notebook."""
        rows = [
            (stage.name, name, _candidates_text(one))
            for stage in self.stages
            for group in stage.alternatives
            for name, one in group.items()
        ]
        share = "" if self.subset is None else f", on {self.subset:.0%} of the images"
        title = f"Search space of {self.estimator.__name__}: {len(self.stages)} stage"
        title += f"{'s' if len(self.stages) != 1 else ''}{share}"
        return notebook.block(title, [], notebook.table(("Stage", "Parameter", "Candidates"), rows))

    @classmethod
    def load(cls, name: str | Path, estimator: type | None = None) -> Self:
        """Read a space that comes with the package, or your own file.

        Parameters
        ----------
        name : str or path-like
            One of `names`, or the path of a YAML file.
        estimator : type, optional
            Class whose parameters are searched; by default the one that the file names. An
            estimator that is not part of kmedclf must be given here.

        Returns
        -------
        SearchSpace
            The space. The estimator accepts every value in it.

        Raises
        ------
        ValueError
            With file and line, if the file is not a space of the estimator.
        FileNotFoundError
            If there is no such file or name.
        """
        path = cls.find(name)

        return cls(*read_space(path, estimator))

    @classmethod
    def find(cls, name: str | Path) -> Path:
        """Find the file of a space, by its name or path.

        Raises
        ------
        FileNotFoundError
            If there is no such file or name.
        """
        path = Path(name)
        if path.suffix not in (".yaml", ".yml") and not path.is_file():
            path = _shipped().get(str(name), path)
        if not path.is_file():
            raise FileNotFoundError(
                f"A search space must be one of {', '.join(cls.names())} or the path of a YAML "
                f"file. Got {str(name)!r} instead{suggest(str(name), cls.names())}"
            )
        return path

    @staticmethod
    def names() -> list[str]:
        """List the spaces that come with the package."""
        return sorted(_shipped())

    def fixed(self, parameters: Mapping[str, Any]) -> Self:
        """Take parameters out of the space, so that they are not searched.

        A search sets every parameter of its space, whatever the estimator's own value is, as
        scikit-learn's searches do. Use this method to keep the estimator's own value.

        Parameters
        ----------
        parameters : mapping of str to object
            Names and values. Names that the space does not have change nothing.

        Returns
        -------
        SearchSpace
            A space without these parameters, and without stages that had no others. Alternatives
            whose candidates lack the value are dropped, unless all of them lack it.

        Examples
        --------
        >>> from kmedclf.search import SearchSpace
        >>> space = SearchSpace.load("cnn").fixed({"augment": False, "pooling": "max"})
        >>> space.stage_grids()[0], space.stage_grids()[2]
        ({'class_weight': [None, 'inverse']}, {'pool_size': [2, 3, 4, 5]})
        """
        stages = [stage.fixed(parameters) for stage in self.stages]
        return replace(self, stages=tuple(stage for stage in stages if stage.alternatives))

    def flat(self) -> Stage:
        """Merge all stages into one."""
        # Combine every alternative of each stage with those of all others.
        groups = product(*(stage.alternatives for stage in self.stages))
        return Stage(
            "all", tuple({k: v for one in group for k, v in one.items()} for group in groups)
        )

    def param_grid(self) -> Grid:
        """Convert all stages to one grid, as GridSearchCV takes it.

        Returns
        -------
        dict of str to list, or list of such dicts
            A list if a stage has alternatives.

        Raises
        ------
        ValueError
            If a range has no finite list of values.
        """
        return _single(self.flat().grids())

    def stage_grids(self) -> list[Grid]:
        """Convert each stage to a grid.

        Returns
        -------
        list of dict of str to list
            In the order of the stages; a list of dicts for a stage with alternatives.

        Raises
        ------
        ValueError
            If a range has no finite list of values.
        """
        return [_single(stage.grids()) for stage in self.stages]

    def distributions(self) -> Grid:
        """Convert all stages to lists and distributions, as RandomizedSearchCV takes them.

        Returns
        -------
        dict of str to list or Range, or list of such dicts
            A list if a stage has alternatives.
        """
        return _single(self.flat().distributions())

    def hyperparameters(self, hp: Any) -> dict[str, Any]:
        """Register all parameters with KerasTuner and return their values.

        Parameters
        ----------
        hp : keras_tuner.HyperParameters
            Container to register them with.

        Returns
        -------
        dict
            One value for each parameter of the estimator.
        """
        return {k: v for stage in self.stages for k, v in stage.hyperparameters(hp).items()}


def _candidates_text(candidates: Candidates) -> str:
    """Write a range as its bounds, and a list as its first values."""
    if isinstance(candidates, Range):
        scale = ", log scale" if candidates.scale == "log" else ""
        return f"{candidates.low} to {candidates.high}{scale}"
    values = [str(one) for one in candidates]
    return ", ".join(values[:12]) + (f" and {len(values) - 12} more" if len(values) > 12 else "")


def _single(grids: list[dict[str, Any]]) -> Grid:
    return grids[0] if len(grids) == 1 else grids


def _shipped() -> dict[str, Path]:
    # An editable installation does not map the checkout's folder into the package.
    checkout = Path(__file__).parents[2]
    folder: Any = checkout / "search_spaces"
    if not (folder.is_dir() and (checkout / "setup.cfg").is_file()):
        folder = resources.files("kmedclf") / "search_spaces"
    return {Path(file.name).stem: file for file in folder.iterdir() if file.name.endswith(".yaml")}


def stages_for(estimator: Any, given: Any, owner: str) -> list[Stage]:
    """Convert a space in any form to stages, and check every value before the first fit.

    ``given`` is a space, its name or path, a dict of candidates, or a list with one dict (or a
    list of alternative dicts) for each stage. ``owner`` is the search's class name, for messages.
    """
    if isinstance(given, str | os.PathLike):
        given = SearchSpace.load(os.fspath(given))
    stages = _of_space(given, estimator) if isinstance(given, SearchSpace) else _of_list(given)
    if not stages or not all(
        isinstance(group, Mapping) and group for one in stages for group in one.alternatives
    ):
        raise ValueError(
            f"The stages of {owner} must be a SearchSpace, its name or path, or a list of "
            f"non-empty dicts of candidates. Got {given!r} instead."
        )
    for stage in stages:
        for group in stage.alternatives:
            for name, candidates in group.items():
                _check(estimator, name, candidates, {n for one in stages for n in one.names})
    return stages


def prefix_of(estimator: Any) -> str:
    """Return the prefix of the network's parameters: "" or, in a pipeline, "step__"."""
    return f"{estimator.steps[-1][0]}__" if isinstance(estimator, Pipeline) else ""


def resource_of(estimator: Any) -> str:
    """Return the name of the parameter that sets the number of epochs."""
    return f"{prefix_of(estimator)}epochs"


def is_network(estimator: Any) -> bool:
    """Whether an estimator is one of this package's networks."""
    from kmedclf.base import ImageClassifier  # imports TensorFlow; listing spaces must not

    return isinstance(estimator, ImageClassifier)


def network_of(estimator: Any) -> Any:
    """Return the last estimator of a pipeline, or the estimator itself."""
    return estimator.steps[-1][1] if isinstance(estimator, Pipeline) else estimator


def epochs_of(estimator: Any) -> int:
    """Return the number of epochs that an estimator trains for."""
    network = network_of(estimator)
    ours = is_network(network)
    epochs: int = (recipes.parameters(network) if ours else network.get_params())["epochs"]
    return epochs


def check_resource(estimator: Any, searched: list[str], what: str) -> None:
    """Check that the search itself may set the epochs: they exist and are not searched."""
    name = resource_of(estimator)
    if name in searched or name not in estimator.get_params():
        got = "it among the searched ones" if name in searched else "none"
        raise ValueError(
            f"{type(estimator).__name__} must have a parameter {name!r} that is not searched, for "
            f"{what} to set it. Got {got}."
        )


def _of_space(space: SearchSpace, estimator: Any) -> list[Stage]:
    # A space of the last estimator of a pipeline gets the prefix of its step.
    prefix = prefix_of(estimator) if isinstance(network_of(estimator), space.estimator) else ""
    return [
        Stage(
            stage.name,
            tuple({prefix + k: v for k, v in one.items()} for one in stage.alternatives),
        )
        for stage in space.stages
    ]


def _of_list(given: Any) -> list[Stage]:
    entries = [given] if isinstance(given, Mapping) else given
    if not isinstance(entries, Sequence):
        return []
    groups = [(one,) if isinstance(one, Mapping) else tuple(one) for one in entries]
    return [Stage(", ".join(dict.fromkeys(k for g in one for k in g)), one) for one in groups]


def _check(estimator: Any, name: str, candidates: Any, searched: set[str]) -> None:
    known = estimator.get_params()
    # If a step is itself searched, the parameters of its candidates are not known yet.
    step, nested, _ = name.partition("__")
    if name not in known and not (nested and step in searched):
        raise ValueError(
            f"A searched parameter must be one that get_params() of {type(estimator).__name__} "
            f"lists. Got {name!r} instead{suggest(name, known)}"
        )
    if isinstance(candidates, Range) or not hasattr(candidates, "rvs"):
        values = [candidates.low, candidates.high] if isinstance(candidates, Range) else candidates
        if isinstance(values, str) or not hasattr(values, "__len__") or len(values) == 0:
            raise ValueError(
                f"The candidates of {name!r} must be a list with at least one value, or a "
                f"distribution. Got {candidates!r} instead."
            )
        parent, _, leaf = name.rpartition("__")
        target = known.get(parent) if parent else estimator
        if is_network(target):
            for value in values:
                check_value(type(target), leaf, value)
