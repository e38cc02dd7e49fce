"""Studies: whole experiments, each reproduced by one command into one folder and one page.

A study is a module of this package with a `STUDY`, and its name in `NAMES`.
"""

from __future__ import annotations

from importlib import import_module

from kmedclf.studies.lab import Lab
from kmedclf.studies.section import Figure, Section, Table
from kmedclf.studies.study import Study, remember, reproduce, settings_of

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

NAMES = ("blood",)
"""Names of the studies; each is a module here."""


def get(name: str) -> Study:
    """Find a study by its name.

    Raises
    ------
    ValueError
        If there is none of that name.
    """
    if name not in NAMES:
        raise ValueError(f"A study must be one of {', '.join(NAMES)}. Got {name!r} instead.")
    return import_module(f"kmedclf.studies.{name}").STUDY
