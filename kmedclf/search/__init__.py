"""Searches over hyperparameters, and the spaces they search."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kmedclf.search.candidates import Range
    from kmedclf.search.space import SearchSpace
    from kmedclf.search.staged import StagedSearchCV
    from kmedclf.search.tuner import TunerSearchCV

_HOME = {
    "Range": "candidates",
    "SearchSpace": "space",
    "StagedSearchCV": "staged",
    "TunerSearchCV": "tuner",
}

__all__ = ["Range", "SearchSpace", "StagedSearchCV", "TunerSearchCV"]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in _HOME:
        raise AttributeError(f"module 'kmedclf.search' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"kmedclf.search.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List public names, imported or not."""
    return sorted([*globals(), *__all__])
