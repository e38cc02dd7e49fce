"""Searches on a cluster of real processes: equal to those of one process, and sent once."""

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path

import joblib
import numpy as np
import psutil
import pytest
from cli_helpers import invoke, read, refused, write_npz
from helpers import ROOT, run, same
from searching import ENGINES, PROBED, TASK, X_VAL, Y_VAL, X, Y, check_equal, files, mlp

from kmedclf import programs
from kmedclf.search import cluster, on_cluster
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


def joined(cluster):
    """Wait for two workers, however busy the machine is."""
    return on_cluster(cluster, n_workers=2, timeout=300)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    with running(tmp_path_factory.mktemp("cluster")) as found:
        yield found


@pytest.fixture
def client(workplace):
    with joined(workplace[0]) as client:
        yield client


@pytest.mark.parametrize("engine", ENGINES)
def test_a_cluster_does_not_change_the_result(engine, workplace):
    alone = ENGINES[engine](mlp()).fit(X, Y)
    with joined(workplace[0]):
        check_equal(alone, ENGINES[engine](mlp()).fit(X, Y))


def count():
    """Count the bytes that this worker receives, frame by frame; return those until now."""
    import distributed.comm.tcp as comm

    if not hasattr(comm, "received"):
        read = comm.from_frames

        async def counted(frames, *rest, **options):
            comm.received += [memoryview(one).nbytes for one in frames]
            return await read(frames, *rest, **options)

        comm.from_frames = counted
        comm.received = []
    comm.received, until_now = [], comm.received
    return until_now


def received(client, search, X, **params):
    """Search; give the bytes of each frame that each worker received meanwhile."""
    client.run(count)
    began = time.monotonic()
    search.fit(X, Y, **params)
    frames = list(client.run(count).values())
    # Workers and scheduler talk all the time, and the longer a busy machine takes, the more.
    small = sum(one for frame in frames for one in frame if one < X.nbytes / 2)
    assert small < 24 * TASK + TALK * (time.monotonic() - began)
    return frames


TALK = 20_000  # bytes in a second that workers receive while they do nothing


@pytest.mark.parametrize("engine", PROBED)
def test_data_are_sent_to_each_worker_once(engine, client):
    X = np.repeat(X_VAL, 8, 1)  # 1.8 MB
    for frames in received(client, PROBED[engine](), X):
        assert len([one for one in frames if one >= X.nbytes / 2]) == 1


@pytest.mark.parametrize("engine", PROBED)
def test_memory_maps_are_sent_as_paths(engine, client, tmp_path):
    np.save(tmp_path / "both.npy", np.stack([X, np.repeat(X_VAL, 1, 1)]))
    both = np.load(tmp_path / "both.npy", mmap_mode="r")
    bounded = {"X_val": both[0], "y_val": Y_VAL} if engine != "grid" else {}
    for frames in received(client, PROBED[engine](), both[1], **bounded):
        assert max(frames) < both[1].nbytes / 2


@pytest.mark.parametrize("engine", PROBED)
def test_files_are_sent_as_paths(engine, client, tmp_path):
    paths = files(tmp_path)
    size = sum(os.path.getsize(path) for path in paths)
    for frames in received(client, PROBED[engine](), paths):
        assert len([one for one in frames if one >= paths.nbytes / 2]) == 1 or sum(frames) < size


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["files", "memory map"])
@pytest.mark.parametrize("engine", ENGINES)
def test_files_are_read_where_the_work_is(engine, kind, client, tmp_path):
    if kind == "files":
        there, net = files(tmp_path), mlp(image_size=X.shape[1])
    else:
        np.save(tmp_path / "X.npy", X)
        there, net = np.load(tmp_path / "X.npy", mmap_mode="r"), mlp()
    alone = ENGINES[engine](net).fit(there, Y)
    there_too = ENGINES[engine](net)
    for frames in received(client, there_too, there):
        assert sum(frames) < X.nbytes * 24  # fewer than the pixels of its fits
    check_equal(alone, there_too)


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


FACTS = {"keras": "3", "threads": 1}


@pytest.mark.parametrize(
    ("threads", "facts", "sentence"),
    [
        ([1, 2], [FACTS, FACTS], "one thread each, .* Got 2 at tcp://b"),
        ([1, 1], [FACTS, {**FACTS, "threads": 4}], "Got threads 1 at tcp://a and 4 at tcp://b"),
        ([1, 1], [FACTS, {**FACTS, "keras": "4"}], "Got keras 3 at tcp://a and 4 at tcp://b"),
    ],
)
def test_workers_that_are_not_alike_are_refused(threads, facts, sentence):
    names = ["tcp://a", "tcp://b"]
    pairs = [dict(zip(names, each, strict=True)) for each in (threads, facts)]
    with pytest.raises(ValueError, match=sentence):
        cluster.check_workers(*pairs)


def test_without_a_scheduler_or_enough_workers(workplace):
    with pytest.raises(OSError, match="Timed out"), on_cluster("tcp://127.0.0.1:1", timeout=0.2):
        pass
    with pytest.raises(TimeoutError), on_cluster(workplace[0], n_workers=3, timeout=0.2):
        pass


def test_commands_listen_on_this_machine_only(client, workplace):
    mine = [psutil.Process(process.pid) for process in workplace[1]]
    everyone = [*mine, *chain(*(one.children(recursive=True) for one in mine))]
    sockets = [one for process in everyone for one in process.net_connections()]
    heard = {one.laddr.ip for one in sockets if one.status == psutil.CONN_LISTEN}
    assert heard == {"127.0.0.1"}


def test_a_folder_that_a_worker_does_not_see_is_named(client, tmp_path):
    cluster.check_shared(client, [tmp_path])
    with pytest.raises(FileNotFoundError, match=r"nowhere must be in a folder that all workers"):
        cluster.check_shared(client, [tmp_path / "nowhere"])


def remember(folder, seeds, start):
    """Fit, and remember the fits, at the same time as another process."""
    from kmedclf.persistence import memory

    out = []
    writes = memory.Store.keep

    def keep(*given):
        for _ in range(20):  # most of the time, both write
            writes(*given)

    time.sleep(max(0, start - time.time()))
    memory.Store.keep = keep
    try:
        for seed in seeds:
            out.append(mlp(epochs=1, random_state=seed, memory=folder).fit(X, Y).weights_)
    finally:
        memory.Store.keep = writes
    return out


def test_two_processes_write_the_same_entry_at_once(client, tmp_path):
    seeds = range(2)
    workers = list(client.nthreads())
    at = time.time() + 1
    one, other = client.gather(
        [
            client.submit(remember, str(tmp_path), seeds, at, workers=worker, pure=False)
            for worker in workers
        ]
    )
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len([path for path in files if path.suffix == ".kmedclf-fit"]) == len(seeds)
    assert not [path for path in files if "part" in path.name]
    before = [path.stat().st_mtime_ns for path in files]
    read = remember(str(tmp_path), seeds, 0)  # a warning, of a damaged entry, would be an error
    assert [path.stat().st_mtime_ns for path in files] == before
    for fits in zip(one, other, read, strict=True):
        assert same(*fits[:2])
        assert same(*fits[1:])


def test_search_of_the_command_line_on_a_cluster(client, workplace, tmp_path):
    npz = write_npz(tmp_path)
    (tmp_path / "space.yaml").write_text("estimator: mlp\nparameters: {units: [2, 4, 8]}\n")
    options = ["search", "mlp", "--data", npz, "--space", tmp_path / "space.yaml", "--quiet"]
    options += ["--epochs", 1, "--final-epochs", 1, "--subset", 1, "--out", tmp_path / "out"]
    options += ["--scheduler", workplace[0]]
    sentence = refused(*options, "--jobs", 2)
    assert sentence.startswith("--jobs must be left out with --scheduler")
    before = sum(one["borrowed"] for one in client.run(programs.stats).values())
    done = invoke(*options)
    assert done.exit_code == 0, done.output
    assert len([*(tmp_path / "out" / "memory").rglob("*.kmedclf-fit")]) == 9
    assert len(read(tmp_path / "out" / "results.json")["mean_test_score"]) == 3
    after = sum(one["borrowed"] for one in client.run(programs.stats).values())
    assert after >= before + 9  # the workers have trained


def killing(workers, delay, victims=1):
    """Start a thread that kills workers after some seconds."""

    def kill():
        time.sleep(delay)
        for pid in list(workers.values())[:victims]:
            os.kill(pid, signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    return thread


def search_and_kill(client, engine, within, victims=1):
    """Search, while workers are killed at a random moment of so many seconds; give the search."""
    workers = client.run(os.getpid)
    thread = killing(workers, random.uniform(0, within), victims)
    began = time.monotonic()
    search = ENGINES[engine](mlp(epochs=EPOCHS)).fit(X, Y)
    print(f"{engine} ended {time.monotonic() - began:.1f} s after it began", end=", ")
    assert not thread.is_alive()  # it was killed in mid-search
    assert set(client.run(os.getpid)) != set(workers)
    return search


EPOCHS = 40  # so that a search takes seconds


def timed(engine):
    """Search on the cluster undisturbed; give the search and its seconds."""
    began = time.monotonic()
    search = ENGINES[engine](mlp(epochs=EPOCHS)).fit(X, Y)
    return search, time.monotonic() - began


def outcome_of(work, seconds):
    """Do work that may wait for ever in a thread; give its error, or its result."""
    out = []

    def do():
        try:
            out.append(work())
        except Exception as error:
            out.append(error)

    thread = threading.Thread(target=do, daemon=True)
    thread.start()
    thread.join(seconds)
    assert out, "it waits for ever"
    return out[0]


class Unsendable:
    """Large enough to be sent apart, which fails."""

    def __sizeof__(self):
        return 10_000

    def __reduce__(self):
        raise ValueError("this cannot be sent")


def test_a_fit_that_cannot_be_handed_over_is_an_error(client):
    backend = cluster._backend(client)

    def work():
        with joblib.parallel_config(backend=backend):
            return joblib.Parallel()(joblib.delayed(id)(Unsendable()) for _ in range(3))

    assert isinstance(outcome_of(work, 120), Exception)


@pytest.mark.slow
def test_a_fit_that_ends_its_workers_is_an_error(tmp_path):
    with running(tmp_path) as (address, _), joined(address) as client:
        backend = cluster._backend(client)

        def work():
            with joblib.parallel_config(backend=backend):
                return joblib.Parallel()([joblib.delayed(os._exit)(1)])

        assert type(outcome_of(work, 300)).__name__ == "KilledWorker"


@pytest.mark.slow
@pytest.mark.parametrize("turn", range(3))
def test_a_worker_is_killed_while_data_are_sent(turn, workplace):
    data = np.random.default_rng(turn).random(50_000_000)  # 400 MB, half a second or more
    with joined(workplace[0]) as client:
        killing(client.run(os.getpid), 0.1 + 0.3 * turn)
        future = outcome_of(lambda: client.scatter(data, hash=False), 300)
        assert isinstance(future, distributed.Future), future
        assert client.submit(len, future).result(timeout=120) == len(data)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_a_killed_worker_is_replaced_and_changes_nothing(engine, workplace):
    alone = ENGINES[engine](mlp(epochs=EPOCHS)).fit(X, Y)
    with joined(workplace[0]):
        timed(engine)  # networks are compiled
        undisturbed, seconds = timed(engine)
    check_equal(alone, undisturbed)
    for _ in range(5):
        with joined(workplace[0]) as client:
            check_equal(alone, search_and_kill(client, engine, 0.7 * seconds))


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["staged", "tuner"])
def test_all_workers_may_be_killed(engine, workplace):
    alone = ENGINES[engine](mlp(epochs=EPOCHS)).fit(X, Y)
    with joined(workplace[0]) as client:
        check_equal(alone, search_and_kill(client, engine, 1, victims=2))


@pytest.mark.slow
@pytest.mark.parametrize("turn", range(5))
@pytest.mark.parametrize("engine", ENGINES)
def test_a_search_goes_on_after_its_scheduler_was_killed(engine, turn, tmp_path):
    alone = ENGINES[engine](mlp(epochs=EPOCHS)).fit(X, Y)
    net = mlp(epochs=EPOCHS, memory=str(tmp_path / "memory"))
    after = turn + 2  # fits

    def entries():
        return {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.kmedclf-fit")}

    with running(tmp_path) as (address, (scheduler, _)):

        def kill():
            while len(entries()) < after:
                time.sleep(0.01)
            scheduler.kill()

        thread = threading.Thread(target=kill)
        thread.start()
        with pytest.raises(ConnectionError, match="lost its scheduler"), joined(address):
            ENGINES[engine](net).fit(X, Y)
        thread.join()
    kept = entries()
    assert len(kept) >= after
    with running(tmp_path) as (address, _), joined(address):
        check_equal(alone, ENGINES[engine](net).fit(X, Y))
    assert kept.items() <= entries().items()


def certificates(folder):
    """Write a certificate that signs itself, and its key: the names of Dask's options for them."""
    paths = folder / "cert.pem", folder / "key.pem"
    made = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=127.0.0.1"]
    made += ["-addext", "subjectAltName=IP:127.0.0.1", "-out", paths[0], "-keyout", paths[1]]
    subprocess.run(["openssl", *made], check=True, capture_output=True)
    return {"ca-file": paths[0], "cert": paths[0], "key": paths[1]}


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
def test_connections_may_be_encrypted(tmp_path):
    files = certificates(tmp_path)
    options = chain(*((f"--tls-{name}", path) for name, path in files.items()))
    with running(tmp_path, *options, scheme="tls") as (address, _):
        ca, cert, key = map(str, files.values())
        security = distributed.Security(
            tls_ca_file=ca, tls_client_cert=cert, tls_client_key=key, require_encryption=True
        )
        with distributed.Client(address, security=security, timeout=300) as mine:
            with joined(mine) as client:
                assert client.scheduler.address.startswith("tls://")
                there = ENGINES["staged"](mlp()).fit(X, Y)
        check_equal(ENGINES["staged"](mlp()).fit(X, Y), there)
        code = f"from kmedclf.search import on_cluster\nwith on_cluster('{address}'): print('in')"
        names = {"CA_FILE": ca, "CLIENT__CERT": cert, "CLIENT__KEY": key}
        configured = {f"DASK_DISTRIBUTED__COMM__TLS__{name}": path for name, path in names.items()}
        assert run(code, **configured) == "in\n"
        with pytest.raises(ValueError, match="with certificates"), on_cluster(address):
            pass
        unencrypted = address.replace("tls", "tcp")
        with pytest.raises(OSError, match="closed"), on_cluster(unencrypted, timeout=2):
            pass
