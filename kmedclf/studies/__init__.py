"""Studies: whole experiments, each reproduced by one command into one folder and one page.

A study is a module of this package with a `STUDY`. Its name is in `NAMES`, where tests, command
line and help find it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kmedclf.studies.section import Figure, Section, Table
    from kmedclf.studies.study import Lab, Study, remember, reproduce, settings_of


__all__ = [
    "NAMES",
    "Figure",
    "Lab",
    "Section",
    "Study",
    "Table",
    "get",
    "remember",
    "reproduce",
    "settings_of",
]

NAMES = ("blood", "lung", "chest", "brain", "bone")
"""Names of the studies; each is a module of this package."""

_HOMES = {"Figure": "section", "Section": "section", "Table": "section"}


def get(name: str) -> Study:
    """Find a study by its name.

    Raises
    ------
    ValueError
        If there is none of that name.
    """
    if name not in NAMES:
        raise ValueError(f"STUDY must be one of {', '.join(NAMES)}. Got {name!r} instead.")
    return import_module(f"kmedclf.studies.{name}").STUDY


def __getattr__(name: str) -> Any:
    """Import lazily, because help needs the names only."""
    if name in __all__:
        return getattr(import_module(f"kmedclf.studies.{_HOMES.get(name, 'study')}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
