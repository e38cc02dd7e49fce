"""Two processes on one machine train one network together, and survive the loss of one of them."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from helpers import data, make, same

import kmedclf

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


def start(folder, *changes, seconds=0.0, **given):
    """Start a process for each of ``changes``; return them and the models that they will write."""
    workers = [f"127.0.0.1:{port}" for port in free_ports(len(changes))]
    processes, models = [], []
    for number, change in enumerate(changes):
        models.append(folder / f"{number}.kmedclf")
        task = {"cluster": {"worker": workers}, "task": {"type": "worker", "index": number}}
        path = os.pathsep.join([str(HERE.parent), os.environ["PYTHONPATH"]])
        env = {**os.environ, "PYTHONPATH": path, "TF_CONFIG": json.dumps(task),
               "TF_CPP_MIN_LOG_LEVEL": "3"}  # fmt: skip
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
        [one.kill() for one in processes]
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
@pytest.mark.parametrize("killed", [0, 1])
def test_a_process_is_killed_and_all_go_on_from_the_checkpoint(tmp_path, killed):
    file = tmp_path / "fit.checkpoint"
    given = {"checkpoint": str(file), "early_stopping": True}
    processes, _ = start(tmp_path, {}, {}, seconds=0.4, **given)
    while not file.exists() and all(one.poll() is None for one in processes):
        time.sleep(0.02)
    time.sleep(0.5)
    processes[killed].send_signal(signal.SIGKILL)
    codes, said = finish(processes)
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
def test_processes_with_other_data_or_parameters_are_refused(tmp_path):
    for change in ({"n": 49}, {"random_state": 1}):
        codes, said = finish(start(tmp_path, {}, change)[0])
        assert codes == [1, 1]
        assert all("must get the same images, labels and parameters" in one for one in said)


def test_what_several_processes_cannot_do_is_refused(monkeypatch):
    from kmedclf.training import strategy

    X, y = data()
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(ValueError, match=r"environment variable TF_CONFIG\. It is not set"):
        make("MLPClassifier", strategy="multi_worker").fit(X, y)
    two = strategy.Sharing(("CPU:0",), 2)
    monkeypatch.setattr(strategy, "sharing", lambda given, name: two)
    with pytest.raises(ValueError, match="'random_state' parameter of MLPClassifier"):
        make("MLPClassifier", random_state=None).fit(X, y)
    with pytest.raises(ValueError, match="'memory' parameter of MLPClassifier"):
        make("MLPClassifier", memory="fits").fit(X, y)
