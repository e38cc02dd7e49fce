"""Searches on the workers of a Ray cluster: its backend for joblib, and what that leaves open.

Data are put into Ray's store once, lost workers come back, and nothing listens beyond this machine.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import joblib
import numpy as np
from joblib.parallel import BatchedCalls
from joblib.pool import PicklingPool

from kmedclf.search import cluster
from kmedclf.utils.arithmetic import usable_cores

LEAST = 1000
"""Bytes of an array that is put into the store; a smaller one goes with its fit."""

LOOPBACK = "127.0.0.1"

SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",  # tells nobody
    # Its name is not what it does on Linux: without it, Ray listens on all addresses.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    # Ray's own token would be written into the user's home.
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": secrets.token_hex(32),
}
"""Environment of a cluster of Ray that is started here."""


@contextmanager
def on_ray(
    address: str | None = None,
    *,
    n_workers: int | None = None,
    threads: int | None = None,
    gpus: float = 0,
) -> Iterator[None]:
    """Run the fits of searches on the workers of a Ray cluster.

    For the searches of this package, those of scikit-learn and whatever else uses joblib. Arrays
    are put into Ray's store once, from which all workers of a machine read them; memory maps are
    sent as paths.

    Parameters
    ----------
    address : str or None, default=None
        Address of a cluster, such as "10.0.0.5:6379", or "auto" for that of this machine.
        None starts one on this machine, which listens on 127.0.0.1 only, and ends it.
    n_workers : int or None, default=None
        Number of workers, each on one of the cluster's CPUs. None is all of them. A single one is
        this process.
    threads : int or None, default=None
        Threads of TensorFlow in each worker. None is its share of this machine's cores.
    gpus : float, default=0
        GPUs of each worker. Ray hides them from workers that ask for none.

    Yields
    ------
    None

    Raises
    ------
    ImportError
        If Ray is not installed.
    ConnectionError
        If there is no cluster at ``address``.
    RuntimeError
        If this process has connected to a cluster already, or has imported Ray so that a cluster
        started here would listen on all addresses.

    Notes
    -----
    A worker that is lost is replaced, and its fit is repeated, with the same result. Anyone who can
    connect to a cluster can run code there: use Ray's own tokens and TLS.

    Examples
    --------
    >>> from kmedclf.search import on_ray
    >>> with on_ray(n_workers=2):  # doctest: +SKIP
    ...     search.fit(X, y)
    """
    settings = SETTINGS if address is None else {}
    with _environment(settings):  # some are read while Ray is imported
        ray = find_ray()
    from ray._private.ray_constants import ENABLE_RAY_CLUSTER  # Ray 2.60; there is no public API

    if address is None and ENABLE_RAY_CLUSTER:
        raise RuntimeError(
            "on_ray must import Ray itself, to tell it to stay on this machine. Import it later, "
            "or give the address of a cluster."
        )
    if ray.is_initialized():
        raise RuntimeError(
            "on_ray must connect to Ray itself, to tell the workers how to compute. Call "
            "ray.shutdown() first."
        )
    share = threads or max(1, usable_cores() // (n_workers or usable_cores()))
    # TensorFlow reads these when a worker first uses it. One more, as in `kmedclf worker`.
    variables = {"TF_NUM_INTRAOP_THREADS": str(share), "TF_NUM_INTEROP_THREADS": str(share + 1)}
    options: dict[str, Any] = {"runtime_env": {"env_vars": variables}, "log_to_driver": False}
    if address is None:
        own = {"num_cpus": n_workers or usable_cores(), "include_dashboard": False}
        options |= {"_node_ip_address": LOOPBACK, **own}
    bases = PicklingPool.__bases__
    with _environment(settings):
        ray.init(address or "local", **options)
        try:
            ray.util.register_serializer(
                np.memmap, serializer=cluster.described, deserializer=cluster.opened
            )
            backend = _backend(ray, {"max_restarts": -1, "max_task_retries": -1, "num_gpus": gpus})
            with closing(backend), joblib.parallel_config(backend=backend, n_jobs=n_workers or -1):
                yield
        finally:
            ray.util.deregister_serializer(np.memmap)
            ray.shutdown()
            PicklingPool.__bases__ = bases  # Ray makes joblib's pool one of its own, for good


def find_ray() -> Any:
    """Import Ray; raises ImportError that says how to install it."""
    try:
        import ray
        import ray.util.joblib
    except ImportError as error:
        raise ImportError("A search on Ray needs it: pip install 'kmedclf[ray]'.") from error
    return ray


@contextmanager
def _environment(settings: dict[str, str]) -> Iterator[None]:
    """Set what Ray's processes read; afterwards restore it, and what Ray itself sets here."""
    names = {*settings, "PYTHONBREAKPOINT", "RAY_CLIENT_MODE"}
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


class _Put:
    """Stands for a value in Ray's store."""

    def __init__(self, reference: Any, get: Callable[[Any], Any]) -> None:
        self._reference, self._get = reference, get

    def value(self) -> Any:
        """Read the value, without a copy of its arrays."""
        return self._get(self._reference)


class _Call:
    """Calls a function with values from the store."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        args = tuple(one.value() if isinstance(one, _Put) else one for one in args)
        found = {k: one.value() if isinstance(one, _Put) else one for k, one in kwargs.items()}
        return self._function(*args, **found)


def _backend(ray: Any, options: dict[str, Any]) -> Any:
    """Make Ray's backend, with one pool of workers and one copy of the data for a whole search."""
    from ray.util.joblib.ray_backend import RayBackend

    class Backend(RayBackend):
        # joblib does not say so of pools; its reasons are those of processes that are forked.
        supports_return_generator = True
        _size = 0
        _known: dict[int, tuple[Any, _Put]]

        # A pool for each call, each stage and trial of a search, would import TensorFlow each time.
        def configure(self, n_jobs: int = 1, parallel: Any = None, **given: Any) -> int:
            if self._pool is None:
                given.pop("context", None)  # how to fork
                self._size = super().configure(n_jobs, parallel, **given)
            self.parallel = parallel
            return self._size

        def terminate(self) -> None:
            self.reset_batch_stats()

        def abort_everything(self, ensure_ready: bool = True) -> None:
            """End what still runs, with the workers."""
            self.close()
            if ensure_ready:
                parallel = self.parallel
                self.configure(parallel.n_jobs, parallel, **parallel._backend_kwargs)

        def close(self) -> None:
            """End the workers."""
            super().terminate()

        def start_call(self) -> None:
            super().start_call()
            self._known = {}  # arrays may change between two searches

        def put(self, value: Any) -> _Put:
            """Put a value into the store."""
            return _Put(ray.put(value), ray.get)

        def submit(self, func: Any, callback: Any = None) -> Any:
            if isinstance(func, BatchedCalls):
                func.items = [self._light(*one) for one in func.items]
            return super().submit(func, callback)

        def _light(self, call: Any, args: Any, kwargs: dict[str, Any]) -> Any:
            named = {name: self._once(value) for name, value in kwargs.items()}
            return _Call(call), [self._once(value) for value in args], named

        def _once(self, value: Any) -> Any:
            if not isinstance(value, np.ndarray) or value.nbytes < LEAST:
                return value
            if id(value) not in self._known:
                self._known[id(value)] = value, self.put(value)
            return self._known[id(value)][1]

    return Backend(ray_remote_args=options)
