"""Studies: whole experiments, each reproduced by one command into one folder and one page.

A study is a module of this package with a `STUDY`. Its name is in `NAMES`, where tests, command
line and help find it.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import lazy_loader

# Help needs the names only.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__all__ += ["NAMES", "get"]

NAMES = ("blood", "lung", "chest", "brain", "bone")
"""Names of the studies; each is a module of this package."""


def get(name: str) -> Any:
    """Find a study by its name.

    Raises
    ------
    ValueError
        If there is none of that name.
    """
    if name not in NAMES:
        raise ValueError(f"STUDY must be one of {', '.join(NAMES)}. Got {name!r} instead.")
    return import_module(f"kmedclf.studies.{name}").STUDY
