"""Searches on the workers of a Dask cluster: what is sent to them, and how often.

joblib's Dask backend does the work. Here are what it leaves open: the data of a search go to every
worker once, memory maps go as paths, and workers are checked before the first fit.
"""

from __future__ import annotations

import asyncio
import importlib
import mmap
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import joblib
import numpy as np
from joblib.parallel import get_active_backend

if TYPE_CHECKING:
    from distributed import Client

ATTEMPTS = 30
"""How often data are sent, a second apart, while workers are lost."""
GLANCE = 2.0
"""Seconds after which workers are counted while data are sent."""


@contextmanager
def on_cluster(cluster: Any, *, n_workers: int = 1, timeout: float = 60) -> Iterator[Client]:
    """Run the fits of searches on the workers of a Dask cluster.

    For the searches of this package, those of scikit-learn and whatever else uses joblib.
    Arrays are sent to every worker once; memory maps are sent as paths.

    Parameters
    ----------
    cluster : str, dask cluster or distributed.Client
        Address of a scheduler, as "tcp://127.0.0.1:8786"; a cluster, as ``LocalCluster``; or a
        client. TLS is set up by the client, or by Dask's configuration.
    n_workers : int, default=1
        Number of workers to wait for. Those that come later work as well, but a search keeps only
        two fits ready for each of the workers that it found when it, or its current stage, began.
    timeout : float, default=60
        Seconds to wait for the scheduler and the workers.

    Yields
    ------
    distributed.Client
        The client, which is closed at the end.

    Raises
    ------
    ImportError
        If Dask is not installed.
    OSError
        If no scheduler answers, or if it is lost; `ConnectionError` then.
    TimeoutError
        If there are too few workers.
    ValueError
        If a worker has several threads, other versions or another arithmetic than the first, or
        if the address begins with tls:// and there are no certificates.

    Notes
    -----
    Anyone who can connect to a scheduler or a worker can run code there. `kmedclf scheduler` and
    `kmedclf worker` listen on this machine only, unless told otherwise.

    Examples
    --------
    >>> from kmedclf.search import on_cluster
    >>> with on_cluster("tcp://127.0.0.1:8786"):  # doctest: +SKIP
    ...     search.fit(X, y)
    """
    client = _client(cluster, timeout)
    try:
        client.wait_for_workers(n_workers, timeout=timeout)
        client.register_plugin(_plugin())
        check_workers(client.nthreads(), client.run(facts))
        with _all_copies(client), joblib.parallel_config(backend=_backend(client)):
            yield client
    except Exception as error:
        # Named, not imported, as in `is_lost`.
        if type(error).__name__ in ("FutureCancelledError", "CommClosedError"):
            raise ConnectionError(
                "The search lost its scheduler, or all workers that had its data. Start both "
                "again: finished fits are loaded, if the estimator has 'memory'."
            ) from error
        raise
    finally:
        client.close()


def _client(cluster: Any, timeout: float) -> Client:
    """Connect to a cluster, with a client that sends data to all workers."""
    find_dask()
    from distributed import Client

    class Broadcasting(Client):
        def scatter(self, data: Any, asynchronous: bool | None = None, **options: Any) -> Any:
            # joblib sends an array to one worker. If that one is lost, the search would be, too.
            options["broadcast"] = True
            return self.sync(self._patiently, data, options, asynchronous=asynchronous)

        async def _patiently(self, data: Any, options: dict[str, Any]) -> Any:
            for attempt in range(ATTEMPTS):
                try:
                    return await self._unless_one_is_lost(data, options)
                except OSError:
                    if attempt == ATTEMPTS - 1 or self.status != "running":
                        raise
                    await asyncio.sleep(1)

        async def _unless_one_is_lost(self, data: Any, options: dict[str, Any]) -> Any:
            # A worker that is lost meanwhile breaks this off, with errors of several kinds, or the
            # scheduler tries to reach it for ever.
            before = set(await self.nthreads(asynchronous=True))
            sending = asyncio.ensure_future(super().scatter(data, asynchronous=True, **options))
            is_done = False
            while not is_done:
                is_done = bool((await asyncio.wait({sending}, timeout=GLANCE))[0])
                if lost := before - set(await self.nthreads(asynchronous=True)):
                    sending.cancel()
                    raise ConnectionError(f"Lost {', '.join(lost)} while data were sent.")
            return sending.result()

    options = {"set_as_default": False, "timeout": timeout}
    if isinstance(cluster, Client):
        options["security"] = cluster.security
        cluster = cluster.scheduler.address
    try:
        return Broadcasting(cluster, **options)
    except TypeError as error:  # what Dask says is about its own insides
        raise ValueError(
            f"The scheduler at {cluster} must be reached with certificates, those of Dask's "
            f"configuration or of a client. {error}."
        ) from error


@contextmanager
def _all_copies(client: Client) -> Iterator[None]:
    """Keep Dask from dropping the data on all workers but one, which happens every two seconds.

    They would be sent again, and be lost with that one.
    """
    drops = client.amm.running()
    client.amm.stop()
    try:
        yield
    finally:
        if drops and client.status == "running":
            with suppress(OSError):  # the scheduler may be lost
                client.amm.start()


def find_dask() -> None:
    """Import Dask's distributed; raises ImportError that says how to install it."""
    try:
        importlib.import_module("distributed")
    except ImportError as error:
        raise ImportError(
            "A search on several machines needs Dask: pip install 'kmedclf[dask]'."
        ) from error


def _backend(client: Client) -> Any:
    """Make joblib's backend, without three faults.

    It would use this process instead of a cluster's only worker. And it would wait for ever for a
    fit that cannot be handed over, or that is lost with its workers.
    """
    from joblib._dask import DaskDistributedBackend, _TracebackCapturingWrapper  # imports Dask

    class Backend(DaskDistributedBackend):
        def effective_n_jobs(self, n_jobs: int) -> int:
            return max(2, super().effective_n_jobs(n_jobs))

        def submit(self, func: Any, callback: Any = None) -> Any:
            job: Any = Future()
            job.get = job.result
            self.client.loop.add_callback(self._hand_over, func, callback, job)
            return job

        async def _hand_over(self, func: Any, callback: Any, job: Any) -> None:
            try:
                batch, tasks = await self._to_func_args(func)
                future = self.client.submit(
                    _TracebackCapturingWrapper(batch), tasks=tasks,
                    key=f"{batch!r}-{uuid.uuid4().hex}", **self.submit_kwargs,
                )  # fmt: skip
            except Exception as error:
                callback(error)  # which joblib raises
                return
            self.waiting_futures.add(future)
            self._callbacks[future], self._results[future] = callback, job

        async def _collect(self) -> None:
            while self._continue:
                async for future, result in self.waiting_futures:
                    if future.status == "error":
                        _, result, _ = result
                    self._results.pop(future).set_result(result)
                    self._callbacks.pop(future)(result)
                await asyncio.sleep(0.01)

    return Backend(client=client)


def _plugin() -> Any:
    """Make the plugin that prepares every worker, including those that come later."""
    from distributed import WorkerPlugin

    class Prepared(WorkerPlugin):
        name = "kmedclf"

        async def setup(self, worker: Any) -> None:
            memory_maps_by_path()
            # Imports TensorFlow, told how to compute here, while the worker goes on to answer.
            await asyncio.to_thread(facts)

    memory_maps_by_path()
    return Prepared()


def facts() -> dict[str, Any]:
    """Return what the bits of a result depend on, in this process."""
    from kmedclf.persistence import versions
    from kmedclf.utils import arithmetic

    return {**versions(), **arithmetic.setting()}


def check_workers(threads: Mapping[str, int], found: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse workers that would train at once in one process, or that compute otherwise.

    Both are given by the address of the worker: ``threads`` as Dask's, ``found`` as `facts`.
    """
    for address, number in threads.items():
        if number != 1:
            raise ValueError(
                "The workers of a cluster must have one thread each, as 'kmedclf worker' or 'dask "
                f"worker --nthreads 1' start them. Got {number} at {address}."
            )
    first, *others = sorted(found)
    for other in others:
        for name, value in found[first].items():
            if found[other].get(name) != value:
                raise ValueError(
                    "The workers of a cluster must compute alike, or results would depend on who "
                    f"did what. Got {name} {value} at {first} and {found[other].get(name)} at "
                    f"{other}."
                )


def in_use() -> bool:
    """Whether fits run on the workers of a cluster, of Dask or of Ray, instead of here."""
    backend, _ = get_active_backend()
    return hasattr(backend, "client") or hasattr(backend, "put")


def sent(values: Mapping[str, Any]) -> Any:
    """Send data to the workers, if fits run on a cluster; else return them as they are.

    The values of mappings in ``values`` are sent one by one to Dask. What comes back stands for the
    data in the arguments of fits.
    """
    backend, _ = get_active_backend()
    if hasattr(backend, "put"):  # Ray's, see `on_ray`
        return backend.put(dict(values))
    client = getattr(backend, "client", None)
    # With one thread in all, joblib's own backend for Dask does not use it.
    if client is None or backend.effective_n_jobs(-1) == 1:
        return dict(values)
    places = [
        (name, key)
        for name, value in values.items()
        for key in (value if isinstance(value, Mapping) else [None])
    ]
    parts = [values[name] if key is None else values[name][key] for name, key in places]
    # Without names by content, as the data may change between two searches.
    futures = client.scatter(parts, broadcast=True, hash=False)
    out: dict[str, Any] = {name: {} for name in values}
    for (name, key), future in zip(places, futures, strict=True):
        if key is None:
            out[name] = future
        else:
            out[name][key] = future
    return out


def is_lost(error: BaseException) -> bool:
    """Whether a fit did not run because all workers that had its data were lost."""
    # Named, not imported: Dask need not be installed.
    return type(error).__name__ == "FutureCancelledError" and "scheduler" not in str(error)


def check_shared(client: Client, paths: Sequence[Path]) -> None:
    """Raise FileNotFoundError if a worker does not see one of the files or folders."""
    for path in paths:
        for address, there in client.run(os.path.exists, os.fspath(path)).items():
            if not there:
                raise FileNotFoundError(
                    f"{path} must be in a folder that all workers see under the same path. The "
                    f"worker at {address} does not."
                )


def memory_maps_by_path() -> None:
    """Let Dask send memory maps as paths, in this process, instead of what they hold."""
    from distributed.protocol import dask_deserialize, dask_serialize

    dask_serialize.register(np.memmap)(_by_path)
    dask_deserialize.register(np.memmap)(_opened)


def _by_path(array: np.memmap, context: Any = None) -> tuple[dict[str, Any], list[Any]]:
    """Describe a memory map to Dask; other arrays of this type go with their numbers."""
    from distributed.protocol.numpy import serialize_numpy_ndarray

    found = described(array)
    if isinstance(found, np.ndarray):
        header, frames = serialize_numpy_ndarray(found, context)
        return {"array": header}, frames
    return found, []


def _opened(header: dict[str, Any], frames: list[Any]) -> Any:
    """Open what `_by_path` described."""
    from distributed.protocol.numpy import deserialize_numpy_ndarray

    if "array" in header:
        return deserialize_numpy_ndarray(header["array"], frames)
    return opened(header)


def described(array: np.memmap) -> Any:
    """Describe a memory map, or a view of one, as a dict; return others of this type as arrays."""
    mapped = getattr(array, "_mmap", None)
    order = "C" if array.flags.c_contiguous else "F" if array.flags.f_contiguous else None
    name = array.filename
    if mapped is None or name is None or order is None or array.mode == "c" or not array.size:
        return np.asarray(array)
    if array.mode != "r":
        array.flush()
    # A view keeps the offset of the whole, so that only its address tells where it begins.
    begins = np.frombuffer(mapped, np.uint8).ctypes.data
    whole = array.offset - array.offset % mmap.ALLOCATIONGRANULARITY
    return {
        "path": os.path.abspath(name),
        "mark": _mark(name),
        "dtype": array.dtype.str,
        "offset": int(whole + array.ctypes.data - begins),
        "shape": list(array.shape),
        "order": order,
    }


def opened(header: Any) -> Any:
    """Open a described memory map, read-only."""
    if isinstance(header, np.ndarray):
        return header
    path = header["path"]
    try:
        if _mark(path) == tuple(header["mark"]):
            shape = tuple(header["shape"])
            options = {"mode": "r", "offset": header["offset"], "order": header["order"]}
            return np.memmap(path, np.dtype(header["dtype"]), shape=shape, **options)
        found = "another file"
    except (OSError, ValueError) as error:
        found = str(error)
    return _Unopened(
        f"The memory map {path} must be in a folder that all workers see under the same path, and "
        f"must not change during a search. Got {found}."
    )


class _Unopened:
    """Stands for a memory map that a worker cannot open; whoever uses it gets the reason."""

    # Raised while Dask unpacks a message, an error would leave the search waiting for ever.
    def __init__(self, reason: str) -> None:
        self.reason = reason

    def _fail(self, *_: Any) -> Any:
        raise FileNotFoundError(self.reason)

    shape = property(_fail)
    __len__ = __getitem__ = __array__ = _fail


def _mark(path: Any) -> tuple[int, int]:
    """Return the size and the time of the last change of a file."""
    found = os.stat(path)
    return found.st_size, found.st_mtime_ns
