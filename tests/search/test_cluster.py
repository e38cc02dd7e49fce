"""Searches on a cluster of real processes: equal to those of one process, and sent once."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path

import numpy as np
import psutil
import pytest
from helpers import ROOT
from searching import X_VAL, Y_VAL, Probe, X, Y, mlp
from sklearn.model_selection import GridSearchCV

from kmedclf.search import Range, StagedSearchCV, TunerSearchCV, cluster, on_cluster
from kmedclf.utils import arithmetic

distributed = pytest.importorskip("distributed", reason="the extra 'dask' is not installed")


def started(*words, folder):
    """Start a command of kmedclf in a process of its own, with a log."""
    paths = [str(ROOT / "tests"), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    with (folder / f"{words[0]}.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "kmedclf", *map(str, words)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            stdout=log,
            stderr=log,
            cwd=folder,
        )


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@contextmanager
def running(folder, *options, workers=2, scheme="tcp"):
    """Run a scheduler and workers; give the address and the two processes."""
    port = free_port()
    address = f"{scheme}://127.0.0.1:{port}"
    count = ["--workers", workers, "--threads", arithmetic.threads()]  # fewer round otherwise
    processes = [
        started("scheduler", "--port", port, *options, folder=folder),
        started("worker", address, *count, *options, folder=folder),
    ]
    try:
        yield address, processes
    finally:
        for process in processes:
            end(process)


def end(process):
    """Kill a process that was started here, and those that it started."""
    with suppress(psutil.NoSuchProcess):
        for one in psutil.Process(process.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                one.kill()
    process.kill()
    process.wait()


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    with running(tmp_path_factory.mktemp("cluster")) as found:
        yield found


@pytest.fixture
def client(workplace):
    with on_cluster(workplace[0], n_workers=2) as client:
        yield client


GRID = {"units": [4, 8], "batch_size": [16, 32]}
SPACE = {"batch_size": Range(8, 40, "int"), "learning_rate": Range(1e-3, 0.1, scale="log")}
ENGINES = {
    "grid": lambda net: GridSearchCV(net, GRID, cv=3, refit=False),
    "staged": lambda net: StagedSearchCV(net, [GRID, {"optimizer": ["sgd", "adam"]}], refit=False),
    "tuner": lambda net: TunerSearchCV(
        net, SPACE, tuner="bayesian", max_trials=4, random_state=0, refit=False
    ),
}


def check_equal(one, other):
    for name, column in one.cv_results_.items():
        if not name.endswith("_time"):
            np.testing.assert_array_equal(other.cv_results_[name], column, err_msg=name)
    assert one.best_params_ == other.best_params_
    curves = [list(chain(*getattr(search, "curves_", []))) for search in (one, other)]
    np.testing.assert_equal(*curves)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_cluster_does_not_change_the_result(engine, workplace):
    alone = ENGINES[engine](mlp()).fit(X, Y)
    with on_cluster(workplace[0], n_workers=2):
        check_equal(alone, ENGINES[engine](mlp()).fit(X, Y))


def count():
    """Count the bytes that this worker receives, from now on; return those until now."""
    import distributed.comm.tcp as comm

    if not hasattr(comm, "received"):
        read = comm.from_frames

        async def counted(frames, *rest, **options):
            comm.received += sum(memoryview(one).nbytes for one in frames)
            return await read(frames, *rest, **options)

        comm.from_frames = counted
        comm.received = 0
    comm.received, until_now = 0, comm.received
    return until_now


def received(client, search, X, **params):
    """Search, and count the bytes that all workers received meanwhile."""
    client.run(count)
    search.fit(X, Y, **params)
    return sum(client.run(count).values())


PROBED = {
    "grid": lambda: GridSearchCV(Probe(), {"a": [*range(8)]}, cv=3, refit=False),
    "staged": lambda: StagedSearchCV(Probe(), [{"a": [1, 2]}, {"b": [*range(6)]}], refit=False),
    "tuner": lambda: TunerSearchCV(
        Probe(), {"a": [*range(8)]}, tuner="bayesian", max_trials=8, random_state=0, refit=False
    ),
}
TASK = 15_000  # bytes of a fit without data: parameters, messages of the scheduler, heartbeats


@pytest.mark.parametrize("engine", PROBED)
def test_data_are_sent_to_each_worker_once(engine, client):
    X = np.repeat(X_VAL, 8, 1)  # 1.8 MB
    assert X.nbytes < received(client, PROBED[engine](), X) < 2.1 * X.nbytes + 24 * TASK


@pytest.mark.parametrize("engine", PROBED)
def test_memory_maps_are_sent_as_paths(engine, client, tmp_path):
    np.save(tmp_path / "both.npy", np.stack([X, np.repeat(X_VAL, 1, 1)]))
    both = np.load(tmp_path / "both.npy", mmap_mode="r")
    bounded = {"X_val": both[0], "y_val": Y_VAL} if engine != "grid" else {}
    assert received(client, PROBED[engine](), both[1], **bounded) < 24 * TASK


@pytest.mark.parametrize("change", ["whole", "view", "order", "offset", "copied on write"])
def test_a_memory_map_arrives_as_it_was(change, tmp_path):
    path = tmp_path / "numbers"
    np.arange(10_000, dtype=np.int16).tofile(path)
    options = {"mode": "r", "shape": (50, 100)}
    if change == "order":
        options["order"] = "F"
    if change == "offset":
        options["offset"] = 4098
    if change == "copied on write":
        options["mode"] = "c"
    array = np.memmap(path, np.int16, **options)
    if change == "view":
        array = array[7:, :, None]
    if change == "copied on write":
        array[3] = 7  # the file knows nothing of it
    header, frames = cluster._by_path(array)
    assert bool(frames) == (change == "copied on write")
    np.testing.assert_array_equal(cluster._opened(header, frames), array)


def test_a_memory_map_that_a_worker_does_not_find_is_named(client, tmp_path):
    np.save(tmp_path / "x.npy", X)
    header, frames = cluster._by_path(np.load(tmp_path / "x.npy", mmap_mode="r"))
    for change in (lambda path: path.write_bytes(b"another"), Path.unlink):
        change(tmp_path / "x.npy")
        opened = cluster._opened(header, frames)
        with pytest.raises(FileNotFoundError, match=r"The memory map .*x\.npy must be in a folder"):
            opened[3]


def search_and_kill(client, engine, victims=1):
    """Search while workers are killed; give the search."""
    workers = client.run(os.getpid)

    def kill():
        time.sleep(1)
        for pid in list(workers.values())[:victims]:
            os.kill(pid, signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    search = ENGINES[engine](mlp(epochs=40)).fit(X, Y)
    thread.join()
    assert set(client.run(os.getpid)) != set(workers)
    return search


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_a_killed_worker_is_replaced_and_changes_nothing(engine, workplace):
    alone = ENGINES[engine](mlp(epochs=40)).fit(X, Y)
    for _ in range(5):
        with on_cluster(workplace[0], n_workers=2) as client:
            check_equal(alone, search_and_kill(client, engine))


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["staged", "tuner"])
def test_all_workers_may_be_killed(engine, workplace):
    alone = ENGINES[engine](mlp(epochs=40)).fit(X, Y)
    with on_cluster(workplace[0], n_workers=2) as client:
        check_equal(alone, search_and_kill(client, engine, victims=2))
