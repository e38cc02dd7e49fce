"""Whatever a user calls stages, turned into stages of one estimator and checked against it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from sklearn.base import clone
from sklearn.pipeline import Pipeline

from kmedclf import recipes
from kmedclf.base import ImageClassifier
from kmedclf.search.candidates import Range, Stage
from kmedclf.search.objectives import network_of
from kmedclf.search.reading import check_value, suggest
from kmedclf.search.space import SearchSpace


def stages_for(estimator: Any, given: Any, owner: str) -> list[Stage]:
    """Turn a space in any form into stages, and check every value before anything is fitted.

    Parameters
    ----------
    estimator : estimator
        What is searched.
    given : SearchSpace, str, path-like, dict or list
        A space, its name or path, one dict of candidates, or a list with one dict (or a list of
        alternative dicts) for each stage. The names in a `SearchSpace` of the last estimator of a
        pipeline get the prefix of its step.
    owner : str
        Class name of the search, for messages.

    Returns
    -------
    list of Stage
        In order.

    Raises
    ------
    ValueError
        If it is no such thing, or the estimator has no such parameter or refuses a value.
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
    """Give what precedes the parameters of the network: "" or, in a pipeline, "step__"."""
    return f"{estimator.steps[-1][0]}__" if isinstance(estimator, Pipeline) else ""


def resource_of(estimator: Any) -> str:
    """Name the parameter that says how long an estimator trains."""
    return f"{prefix_of(estimator)}epochs"


def epochs_of(estimator: Any) -> int:
    """Say how long an estimator trains."""
    network = network_of(estimator)
    ours = isinstance(network, ImageClassifier)
    epochs: int = (recipes.parameters(network) if ours else network.get_params())["epochs"]
    return epochs


def on_rungs(estimator: Any) -> Any:
    """Clone an estimator for fits of ever more epochs.

    With ``memory`` each goes on from the one before instead of from the start, which changes no
    result; without early stopping, that is, see `kmedclf.memory`.
    """
    copy = clone(estimator)
    network = network_of(copy)
    if isinstance(network, ImageClassifier) and network.memory is not None:
        network.set_params(warm_start=True)
    return copy


def check_resource(estimator: Any, searched: list[str], what: str) -> None:
    """Check that a search may set the epochs itself.

    Raises
    ------
    ValueError
        If there is no such parameter, or it is searched.
    """
    name = resource_of(estimator)
    if name in searched or name not in estimator.get_params():
        got = "it among the searched ones" if name in searched else "none"
        raise ValueError(
            f"{type(estimator).__name__} must have a parameter {name!r} that is not searched, for "
            f"{what} to set it. Got {got}."
        )


def _of_space(space: SearchSpace, estimator: Any) -> list[Stage]:
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
    # a step that is itself searched brings parameters that are not there yet
    step, nested, _ = name.partition("__")
    if name not in known and not (nested and step in searched):
        raise ValueError(
            f"A searched parameter must be one of {type(estimator).__name__}'s: "
            f"{', '.join(sorted(known))}. Got {name!r} instead{suggest(name, known)}"
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
        if isinstance(target, ImageClassifier):
            for value in values:
                check_value(type(target), leaf, value)
