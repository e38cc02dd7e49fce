"""Searches on workers of Ray, which the tests start and stop: equal, sent once, lost workers back.

``pip install -e '.[test,ray]'``
"""

import os
import random
import threading
import time
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import chain

import joblib
import numpy as np
import psutil
import pytest
from helpers import ROOT, run
from searching import ENGINES, PROBED, TASK, X_VAL, X, Y, check_equal, files, mlp

from kmedclf.search import on_ray
from kmedclf.utils import arithmetic

pytestmark = [
    # Not imported here, or it would listen on all addresses.
    pytest.mark.skipif(find_spec("ray") is None, reason="the extra 'ray' is not installed"),
    pytest.mark.clients,
    # Ray's own affairs: sockets and files that it leaves to the collector
    pytest.mark.filterwarnings("default"),
]
EPOCHS = 200  # so that a search takes seconds


@pytest.fixture(scope="module", autouse=True)
def workplace():
    """Start Ray with two workers that find the tests' modules, and end it."""
    patch = pytest.MonkeyPatch()
    known = [str(ROOT / "tests"), str(ROOT), os.environ["PYTHONPATH"]]
    patch.setenv("PYTHONPATH", os.pathsep.join(known))
    before = variables()
    with on_ray(n_workers=2, threads=arithmetic.threads()):
        yield
    assert variables() == before
    patch.undo()
    assert not children()


def variables():
    """Give the environment but for what pytest writes there."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}


def children():
    """Find the processes of Ray that belong to the tests."""
    mine = psutil.Process().children(recursive=True)
    return [one for one in mine if "ray" in " ".join(one.cmdline())]


def workers():
    """Find the processes that train, by what Ray calls them."""
    return [one for one in children() if "PoolActor" in " ".join(one.cmdline())]


def alone(search, *given):
    """Search in this process."""
    with joblib.parallel_config("sequential", n_jobs=1):
        return search.fit(*given)


@pytest.mark.parametrize("engine", ENGINES)
def test_ray_does_not_change_the_result(engine):
    check_equal(alone(ENGINES[engine](mlp()), X, Y), ENGINES[engine](mlp()).fit(X, Y))


def test_ray_listens_on_this_machine_only():
    everyone = [psutil.Process(), *children()]
    assert len(everyone) > 3
    sockets = chain(*(one.net_connections() for one in everyone))
    heard = {one.laddr.ip for one in sockets if one.status == psutil.CONN_LISTEN}
    assert heard <= {"127.0.0.1", "::ffff:127.0.0.1", "::1"}


def test_workers_stay_for_all_trials_and_searches():
    found = []
    for engine in PROBED:
        PROBED[engine]().fit(X, Y)
        found.append({one.pid for one in workers()})
    assert len(found[0]) == 2
    assert found == found[:1] * len(found)


@contextmanager
def counted(monkeypatch):
    """Count the bytes of what goes into Ray's store, and of each batch of fits."""
    import ray
    from ray.util.multiprocessing import Pool

    put, apply, found = ray.put, Pool.apply_async, {"put": [], "sent": []}

    def bytes_of(value):
        context = ray._private.worker.global_worker.get_serialization_context()
        return context.serialize(value).total_bytes

    def counting(value, **options):
        found["put"].append(bytes_of(value))
        return put(value, **options)

    def sending(pool, func, *rest, **options):
        found["sent"].append(bytes_of(func))
        return apply(pool, func, *rest, **options)

    with monkeypatch.context() as patch:
        patch.setattr(ray, "put", counting)
        patch.setattr(Pool, "apply_async", sending)
        yield found
    print(found)


@pytest.mark.parametrize("engine", PROBED)
def test_data_are_put_into_the_store_once(engine, monkeypatch):
    X = np.repeat(X_VAL, 8, 1)  # 1.8 MB
    with counted(monkeypatch) as found:
        PROBED[engine]().fit(X, Y)
    assert X.nbytes < sum(found["put"]) < 1.1 * X.nbytes
    assert len(found["sent"]) >= 8
    assert max(found["sent"]) < 3 * TASK  # a batch has up to three fits


@pytest.mark.parametrize("engine", PROBED)
@pytest.mark.parametrize("kind", ["files", "memory map"])
def test_files_are_sent_as_paths(engine, kind, monkeypatch, tmp_path):
    if kind == "files":
        there = files(tmp_path)
        most = 2 * there.nbytes
    else:
        np.save(tmp_path / "X.npy", X)
        there, most = np.load(tmp_path / "X.npy", mmap_mode="r"), X.nbytes / 4
    with counted(monkeypatch) as found:
        PROBED[engine]().fit(there, Y)
    assert sum(found["put"]) < most
    assert max(found["sent"]) < 3 * TASK


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["files", "memory map"])
@pytest.mark.parametrize("engine", ENGINES)
def test_files_are_read_where_the_work_is(engine, kind, tmp_path):
    if kind == "files":
        there, net = files(tmp_path), mlp(image_size=X.shape[1])
    else:
        np.save(tmp_path / "X.npy", X)
        there, net = np.load(tmp_path / "X.npy", mmap_mode="r"), mlp()
    check_equal(alone(ENGINES[engine](net), there, Y), ENGINES[engine](net).fit(there, Y))


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_a_killed_worker_is_replaced_and_changes_nothing(engine):
    expected = alone(ENGINES[engine](mlp(epochs=EPOCHS)), X, Y)
    ENGINES[engine](mlp(epochs=EPOCHS)).fit(X, Y)  # networks are compiled
    began = time.monotonic()
    ENGINES[engine](mlp(epochs=EPOCHS)).fit(X, Y)
    seconds = time.monotonic() - began
    for _ in range(5):
        victim = random.choice(workers())

        def kill(victim=victim):
            time.sleep(random.uniform(0, 0.7 * seconds))
            victim.kill()

        thread = threading.Thread(target=kill)
        thread.start()
        began = time.monotonic()
        search = ENGINES[engine](mlp(epochs=EPOCHS)).fit(X, Y)
        print(f"{engine} took {time.monotonic() - began:.1f} s instead of {seconds:.1f}", end=", ")
        assert not thread.is_alive()  # it was killed in mid-search
        check_equal(expected, search)
        assert victim not in workers()
        assert len(workers()) == 2


def test_what_cannot_be_is_refused():
    with pytest.raises(RuntimeError, match=r"on_ray must connect to Ray itself"), on_ray():
        pass
    code = """
import ray
from kmedclf.search import on_ray
try:
    with on_ray(n_workers=1):
        pass
except RuntimeError as error:
    print(error)
"""
    assert "on_ray must import Ray itself" in run(code, RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="1")
