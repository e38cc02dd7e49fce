"""Searches over hyperparameters, and the spaces they search.

``n_jobs`` trains in several processes, each with its share of the cores and, where there are GPUs,
one of them: all in turn, or those whose numbers stand in the environment variable
``KMEDCLF_GPU_IDS``, as in "0,2". joblib's other backends take the fits elsewhere, Dask for one::

    with LocalCluster(host="127.0.0.1", dashboard_address=None) as cluster, Client(cluster):
        with joblib.parallel_config(backend="dask"):
            search.fit(X, y)

A cluster of several machines should be in a network where nobody else can reach it: whoever can
talk to a worker can run code there. Data, as in any such backend, travel with the fits.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kmedclf.search.spaces import Range, SearchSpace
    from kmedclf.search.staged import StagedSearchCV
    from kmedclf.search.tuner import TunerSearchCV


_HOME = {
    "Range": "spaces",
    "SearchSpace": "spaces",
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
