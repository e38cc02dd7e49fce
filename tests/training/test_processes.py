"""Two processes on one machine train one network together, and survive the loss of one of them."""

import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from helpers import data, make, same

import kmedclf
from kmedclf.training import strategy

LOST = 60  # seconds within which a process notices that another is lost
HERE = Path(__file__).parent
GIVEN = {
    "network": "MLPClassifier", "epochs": 6, "batch_size": 16, "optimizer": "adam",
    "augment": "mirror", "strategy": "multi_worker",
}  # fmt: skip


def free_ports(n):
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(n)]
    ports = [one.getsockname()[1] for one in held]
    [one.close() for one in held]
    return ports


def start(folder, *changes, seconds=0.0, join=None, **given):
    """Start a process for each of ``changes``; return them and the models that they will write.

    One that is None never starts. The others wait for it for ``join`` seconds.
    """
    workers = [f"127.0.0.1:{port}" for port in free_ports(len(changes))]
    processes, models = [], []
    for number, change in enumerate(changes):
        models.append(folder / f"{number}.kmedclf")
        if change is None:
            continue
        task = {"cluster": {"worker": workers}, "task": {"type": "worker", "index": number}}
        path = os.pathsep.join([str(HERE.parent), os.environ["PYTHONPATH"]])
        env = {**os.environ, "PYTHONPATH": path, "TF_CONFIG": json.dumps(task),
               "TF_CPP_MIN_LOG_LEVEL": "3"}  # fmt: skip
        if join is not None:
            env["KMEDCLF_JOIN_SECONDS"] = str(join)
        text = json.dumps({**GIVEN, **given, **change})
        command = [
            sys.executable,
            "-W",
            "ignore",
            HERE / "worker.py",
            models[-1],
            str(seconds),
            text,
        ]
        processes.append(subprocess.Popen(command, env=env, text=True, stderr=subprocess.PIPE))
    return processes, models


def finish(processes):
    """Wait for the processes, and end all if one does not end: their codes, and what they said."""
    try:
        said = [one.communicate(timeout=300)[1] for one in processes]
    finally:
        [one.kill() for one in processes]  # TensorFlow hears no SIGTERM while it joins
    return [one.returncode for one in processes], said


def alone(**given):
    X, y = data(50)
    given = {**GIVEN, **given, "strategy": None}
    return make(given.pop("network"), **given).fit(X, y, X_val=X[:13], y_val=y[:13])


def check_like(model, expected):
    for key, curve in expected.history_.items():
        np.testing.assert_allclose(model.history_[key], curve, rtol=2e-5, atol=2e-6)
    for one, other in zip(model.weights_, expected.weights_, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_two_processes_give_what_one_gives(tmp_path):
    processes, models = start(tmp_path, {}, {})
    codes, said = finish(processes)
    assert codes == [0, 0], said
    first, second = map(kmedclf.load, models)
    assert same(first, second)  # bit for bit
    assert first.history_ == second.history_
    check_like(first, alone())


@pytest.mark.slow
@pytest.mark.parametrize("turn", range(5))
@pytest.mark.parametrize("killed", [0, 1])
def test_a_process_is_killed_and_all_go_on_from_the_checkpoint(tmp_path, killed, turn):
    file = tmp_path / "fit.checkpoint"
    given = {"checkpoint": str(file), "early_stopping": True}
    processes, _ = start(tmp_path, {}, {}, seconds=0.4, **given)
    while not file.exists() and all(one.poll() is None for one in processes):
        time.sleep(0.02)
    time.sleep(random.Random(10 * killed + turn).uniform(0, 1.6))  # within the epochs that follow
    processes[killed].send_signal(signal.SIGKILL)
    began = time.monotonic()
    codes, said = finish(processes)
    assert time.monotonic() - began < LOST
    assert codes[1 - killed] not in (0, -9)
    assert "ConnectionError: MLPClassifier lost one of the 2 processes" in said[1 - killed]
    assert file.exists()
    processes, models = start(tmp_path, {}, {}, **given)
    codes, said = finish(processes)
    assert codes == [0, 0], said
    assert same(*map(kmedclf.load, models))
    check_like(kmedclf.load(models[0]), alone(early_stopping=True))
    assert not file.exists()


@pytest.mark.slow
@pytest.mark.parametrize("turn", range(5))
@pytest.mark.parametrize("absent", [0, 1])
def test_a_process_that_is_killed_before_it_joins_is_named_in_time(tmp_path, absent, turn):
    file = tmp_path / "fit.checkpoint"
    file.write_bytes(b"of an earlier part")
    changes = [{}, {}]
    if not turn:  # never started
        changes[absent] = None
    processes, _ = start(tmp_path, *changes, join=1.0, checkpoint=str(file))
    if turn:  # while Python imports
        time.sleep(random.Random(10 * absent + turn).uniform(0, 1))
        processes[absent].kill()
    codes, said = finish(processes)
    assert codes[-1 if absent == 0 else 0] == 1
    last = said[-1 if absent == 0 else 0].strip().splitlines()[-1]
    port = r"127\.0\.0\.1:\d+"
    assert re.match(
        rf"TimeoutError: MLPClassifier must find all 2 processes of TF_CONFIG within 1 seconds\. "
        rf"No answer came from {port}: check that each process runs",
        last,
    )
    assert file.read_bytes() == b"of an earlier part"


@pytest.mark.slow
@pytest.mark.parametrize("turn", range(5))
@pytest.mark.parametrize("killed", [0, 1])
def test_a_process_that_is_killed_after_training_harms_no_other(tmp_path, killed, turn):
    file = tmp_path / "fit.checkpoint"
    # TensorFlow notices a loss after ten seconds.
    changes = [{"stay": 15 if turn == 0 else 1}] * 2
    changes[killed] = {"stay": 1000}
    processes, models = start(tmp_path, *changes, checkpoint=str(file))
    done = models[killed].with_suffix(".fitted")
    while not done.exists() and all(one.poll() is None for one in processes):
        time.sleep(0.02)
    time.sleep(random.Random(10 * killed + turn).uniform(0, 0.5))
    processes[killed].kill()
    codes, said = finish(processes)
    assert codes[1 - killed] == 0, said
    check_like(kmedclf.load(models[1 - killed]), alone())
    assert not file.exists()


@pytest.fixture
def two(monkeypatch):
    """Two addresses, of which this process has the first."""
    workers = [f"127.0.0.1:{port}" for port in free_ports(2)]
    task = {"cluster": {"worker": workers}, "task": {"type": "worker", "index": 0}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(task))
    monkeypatch.setenv("KMEDCLF_JOIN_SECONDS", "0.2")
    return workers


def test_waiting_for_processes_ends(two, monkeypatch):
    X, y = data()
    model = make("MLPClassifier", strategy="multi_worker")
    with pytest.raises(TimeoutError, match=rf"within 0\.2 seconds\. No answer came from {two[1]}:"):
        model.fit(X, y)
    host, port = two[0].split(":")
    with socket.create_server((host, int(port))):
        with pytest.raises(OSError, match=f"must listen on {two[0]}, its own address .* in use"):
            model.fit(X, y)
    monkeypatch.setenv("KMEDCLF_JOIN_SECONDS", "soon")
    with pytest.raises(ValueError, match="KMEDCLF_JOIN_SECONDS must be a number of seconds"):
        model.fit(X, y)


def test_processes_that_start_late_are_found(two, monkeypatch):
    monkeypatch.setenv("KMEDCLF_JOIN_SECONDS", "30")
    host, port = two[1].split(":")

    def late():
        time.sleep(0.3)
        with socket.create_server((host, int(port))) as other:
            other.accept()[0].close()

    thread = threading.Thread(target=late)
    thread.start()
    strategy._await_processes("Any")
    thread.join()


@pytest.mark.slow
def test_processes_with_other_data_or_parameters_are_refused(tmp_path):
    for change in ({"n": 49}, {"random_state": 1}):
        codes, said = finish(start(tmp_path, {}, change)[0])
        assert codes == [1, 1]
        assert all("must get the same images, labels and parameters" in one for one in said)


def test_what_several_processes_cannot_do_is_refused(monkeypatch):
    X, y = data()
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(ValueError, match=r"environment variable TF_CONFIG\. It is not set"):
        make("MLPClassifier", strategy="multi_worker").fit(X, y)
    two = strategy.Sharing(("CPU:0",), 2)
    monkeypatch.setattr(strategy.Sharing, "of", lambda given, name: two)
    with pytest.raises(ValueError, match="'random_state' parameter of MLPClassifier"):
        make("MLPClassifier", random_state=None).fit(X, y)
    with pytest.raises(ValueError, match="'memory' parameter of MLPClassifier"):
        make("MLPClassifier", memory="fits").fit(X, y)
