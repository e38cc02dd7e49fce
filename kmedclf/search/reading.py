"""Search spaces read from YAML: what is wrong is said with its line, before anything is fitted."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

import yaml
from sklearn.utils._param_validation import (
    InvalidParameterError,
    validate_parameter_constraints,
)

from kmedclf import annotated, models
from kmedclf.search.candidates import Candidates, Range, Stage

_TOP = ("estimator", "subset", "stages", "parameters")
_RANGE = ("low", "high", "type", "scale")


MOST_BYTES = 1 << 20
"""Largest file; the largest that comes with the package has a few kilobytes."""

MOST_VALUES, DEEPEST = 20_000, 20
"""Values of a file, each counted as often as aliases repeat it, and how deep they may be nested."""

LONGEST_MESSAGE = 1000


class _Loader(yaml.SafeLoader):
    """YAML's safe loader, but ``1e-3`` is a number as in YAML 1.2, not a string."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)$"),
    list("-+.0123456789"),
)


def read(path: Path, estimator: type | None) -> tuple[type, tuple[Stage, ...], float | None]:
    """Read and check one file.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    estimator : type or None
        Class whose parameters are searched; None is the one the file names.

    Returns
    -------
    estimator : type
        The class.
    stages : tuple of Stage
        In order; a flat space is one stage.
    subset : float or None
        Share of the images that the space is meant to be searched on.

    Raises
    ------
    ValueError
        With file and line, if anything is not as it must be.
    """
    return _Reader(path).space(estimator)


def check_value(cls: type, name: str, value: Any) -> None:
    """Check one value of one parameter as ``fit`` of the estimator would.

    Raises
    ------
    ValueError
        In the estimator's own words, if it would refuse the value.
    """
    constraints = {name: annotated.parameter_constraints(cls)[name]}
    validate_parameter_constraints(constraints, {name: value}, caller_name=cls.__name__)


def suggest(name: str, known: Iterable[str]) -> str:
    """Say which of the known names may have been meant: "" or "; did you mean 'x' or 'y'?"."""
    near = difflib.get_close_matches(name, list(known), n=2, cutoff=0.5)
    return f"; did you mean {' or '.join(map(repr, near))}?" if near else "."


def by_name() -> dict[str, type]:
    """Give the estimator classes by the names that files use: "cnn" is CNNClassifier."""
    return {
        name.removesuffix("Classifier").lower(): getattr(models, name) for name in models.__all__
    }


class _Reader:
    """One file on its way from YAML nodes, which know their lines, to stages."""

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
        """Read the file, if it is one and not too large."""
        if self.path.exists() and not self.path.is_file():
            raise ValueError(f"{self.path} must be a file. It is none.")
        with self.path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise ValueError(f"{self.path} must have at most {MOST_BYTES:,} bytes. It has more.")
        try:
            return content.decode("utf-8-sig")
        except UnicodeDecodeError:
            raise ValueError(f"{self.path} must be text in UTF-8. It is not.") from None

    def check_size(self, text: str) -> None:
        """Count values, without making any: a few lines of aliases stand for billions."""
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
            # a date of month 13, a number of 5,000 digits
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
        """Read a mapping's nodes, without double keys and, if told, only with known ones."""
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
            # True == 1 and 1 == 1.0 are different values of a parameter
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
    """Say whether a value is none of YAML's sets, bytes, dates and huge numbers."""
    if isinstance(value, int) and not isinstance(value, bool):
        return -(2**63) <= value < 2**63
    if isinstance(value, tuple):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(map(_is_plain, [*value, *value.values()]))
    return value is None or isinstance(value, bool | float | str)


def _tuples(value: Any) -> Any:
    # A list in a list of values is one value, such as an image shape: hashable, as grids want it.
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
