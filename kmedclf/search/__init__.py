"""Searches over hyperparameters, and the spaces they search.

``n_jobs`` trains in several processes. Each gets a share of the cores and, if there are GPUs, one
of them in turn; the environment variable ``KMEDCLF_GPU_IDS``, such as "0,2", restricts the GPUs.
joblib's other backends run the fits elsewhere, for example Dask::

    with LocalCluster(host="127.0.0.1", dashboard_address=None) as cluster, Client(cluster):
        with joblib.parallel_config(backend="dask"):
            search.fit(X, y)

A cluster of several machines should be in a private network: anyone who can connect to a worker
can run code there. As in any such backend, the data are sent with the fits.
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
