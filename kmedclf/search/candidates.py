"""What a parameter may be: a list of values, or a range of numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from sklearn.utils import check_random_state


@dataclass(frozen=True)
class Range:
    """All numbers from ``low`` to ``high``, both included.

    scikit-learn's random searches take it as a distribution.

    Parameters
    ----------
    low, high : int or float
        Ends.
    type : {"int", "float"}, default="float"
        Kind of the numbers.
    scale : {"linear", "log"}, default="linear"
        Whether the numbers or their logarithms are drawn uniformly.

    Raises
    ------
    ValueError
        If the ends are not finite, not in order, not whole for "int" or not positive for "log".
    """

    low: float
    high: float
    type: Literal["int", "float"] = "float"
    scale: Literal["linear", "log"] = "linear"

    def __post_init__(self) -> None:
        """Check the ends and give them the range's own type."""
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
        """Give every number, or None where that is no finite list of equal weights."""
        finite = self.type == "int" and self.scale == "linear"
        return list(range(int(self.low), int(self.high) + 1)) if finite else None

    def rvs(self, size: Any = None, random_state: Any = None) -> Any:
        """Draw numbers, as scipy's distributions do.

        Parameters
        ----------
        size : int or tuple of int, optional
            Shape of the draws; None is one plain number.
        random_state : int, RandomState or None, default=None
            Source of randomness.

        Returns
        -------
        int, float or ndarray
            The draws.
        """
        whole = self.type == "int"
        # every whole number gets the same room on both sides, the ends too
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
    """Parameters that are searched together.

    Parameters
    ----------
    name : str
        What the stage is about.
    alternatives : tuple of dict of str to tuple or Range
        What each parameter may be; more than one dict where not all combinations make sense.
    """

    name: str
    alternatives: tuple[Mapping[str, Candidates], ...]

    @property
    def names(self) -> list[str]:
        """Names of the parameters, in order."""
        return list(dict.fromkeys(name for one in self.alternatives for name in one))

    def fixed(self, parameters: Mapping[str, Any]) -> Stage:
        """Take parameters out; an alternative that cannot have their values goes, if one can.

        Returns
        -------
        Stage
            Without alternatives, if they had nothing else.
        """
        left = list(self.alternatives)
        for name, value in parameters.items():
            fitting = [one for one in left if name not in one or _has(one[name], value)]
            if any(name in one for one in fitting):
                left = fitting
            left = [{n: c for n, c in one.items() if n != name} for one in left]
        unique = [one for i, one in enumerate(left) if one and one not in left[:i]]
        return Stage(self.name, tuple(unique))

    def grids(self) -> list[dict[str, list[Any]]]:
        """Give the stage as parameter grids, one for each alternative.

        Raises
        ------
        ValueError
            If a range has no finite list of values.
        """
        return [
            {name: listed(name, one) for name, one in parameters.items()}
            for parameters in self.alternatives
        ]

    def distributions(self) -> list[dict[str, Any]]:
        """Give the stage as lists and distributions to draw from, one dict an alternative."""
        return [
            {name: one if hasattr(one, "rvs") else listed(name, one) for name, one in group.items()}
            for group in self.alternatives
        ]

    def hyperparameters(self, hp: Any) -> dict[str, Any]:
        """Register the stage with KerasTuner's hyperparameters and read values back.

        Parameters
        ----------
        hp : keras_tuner.HyperParameters
            Where to.

        Returns
        -------
        dict
            Parameters of the estimator, with one value each.
        """
        if len(self.alternatives) == 1:
            group = self.alternatives[0]
            return {name: _choose(hp, name, one) for name, one in group.items()}
        chosen = hp.Choice(f"alternative of {self.name}", list(range(len(self.alternatives))))
        values: dict[str, Any] = {}
        for index, group in enumerate(self.alternatives):
            with hp.conditional_scope(f"alternative of {self.name}", [index]):
                # the oracles need one name for each condition
                found = {n: _choose(hp, f"{n} ({index})", one) for n, one in group.items()}
            values = found if index == chosen else values
        return values


def _has(candidates: Candidates, value: Any) -> bool:
    """Say whether a value is among candidates; 1 is not True."""
    if isinstance(candidates, Range):
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and candidates.low <= value <= candidates.high
    value = tuple(value) if isinstance(value, list) else value
    return any(type(one) is type(value) and one == value for one in listed("", candidates))


def listed(name: str, candidates: Candidates) -> list[Any]:
    """List all candidates of a parameter.

    Raises
    ------
    ValueError
        If there is no finite list of them.
    """
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
    """Register one parameter with KerasTuner and read its value back."""
    if isinstance(candidates, Range):
        kind = hp.Int if candidates.type == "int" else hp.Float
        return kind(name, candidates.low, candidates.high, sampling=candidates.scale)
    values = list(candidates)
    if {type(value) for value in values} in ({str}, {int}, {float}):
        return hp.Choice(name, values)
    # Choice knows only strings and numbers of one type, and makes True a 1: choose a position.
    position = hp.Choice(name, list(range(len(values))))
    return None if position is None else values[position]  # None: of an alternative not chosen
