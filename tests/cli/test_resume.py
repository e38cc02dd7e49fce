"""An interrupted `kmedclf train` goes on with --resume, to the run of one that was not."""

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial

import pytest
from cli_helpers import invoke, read, refused, start
from helpers import same

import kmedclf

NETWORK = "train", "mlp", "-p", "units=16", "-p", "restore_best=false", "--epochs", 400


def kept(folder):
    return folder.with_name(f"{folder.name}.checkpoint")


@pytest.fixture(scope="module")
def whole(npz, tmp_path_factory):
    """A run that nothing has interrupted."""
    out = tmp_path_factory.mktemp("whole") / "run"
    assert invoke(*NETWORK, "--data", npz, "--out", out).exit_code == 0
    assert [path.name for path in out.parent.iterdir()] == ["run"]
    return out


def stop_by(number, npz, out):
    """Start a training, and stop it by a signal when an epoch is kept: what it says then."""
    process = start(*NETWORK, "--quiet", "--data", npz, "--out", out)
    deadline = time.monotonic() + 120
    while not (kept(out) / "fit.checkpoint").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(number)
    _, complaints = process.communicate(timeout=60)
    assert process.returncode == (-9 if number == 9 else 128 + number)
    return complaints.removeprefix("Stopping ...\n")  # said on a slow machine


@pytest.fixture(scope="module")
def interrupted(npz, tmp_path_factory):
    """The folder of a run to be whose training Ctrl-C has stopped, and what was said."""
    out = tmp_path_factory.mktemp("interrupted") / "my run"
    return out, stop_by(signal.SIGINT, npz, out)


def check_resumed(out, whole):
    done = invoke("train", "--resume", out)
    assert done.exit_code == 0, done.output
    assert sorted(os.listdir(out.parent)) == [out.name]
    assert same(*(kmedclf.load(one / "model.kmedclf") for one in (out, whole)))
    for name in ("history", "metrics", "parameters", "evaluation-test"):
        assert read(out / f"{name}.json") == read(whole / f"{name}.json")
    assert read(out / "environment.json")["seconds"] > 0


@pytest.mark.skipif(os.name == "nt", reason="sends SIGINT")
def test_ctrl_c_says_what_is_kept_and_how_to_go_on(interrupted, whole, npz):
    out, said = interrupted
    assert "Traceback" not in said
    assert said.startswith("Interrupted. Epoch ")
    assert said.endswith(f"To go on: kmedclf train --resume '{out}'\n")
    assert sorted(os.listdir(out.parent)) == ["my run.checkpoint"]
    assert sorted(os.listdir(kept(out))) == ["fit.checkpoint", "training.json"]
    # the same command does not begin anew by accident, nor with other settings
    again = refused(*NETWORK, "--data", npz, "--out", out)
    assert "goes on with it, and --force begins anew" in again
    assert "leave out --epochs" in refused("train", "--resume", out, "--epochs", 3)
    settings = kept(out) / "training.json"
    given = settings.read_text()
    settings.write_text(json.dumps({**json.loads(given), "epochs": 401}))
    assert "one with other parameters (epochs)" in refused("train", "--resume", out)
    settings.write_text(given)
    check_resumed(out, whole)


@pytest.mark.skipif(os.name == "nt", reason="sends SIGKILL")
def test_a_killed_training_goes_on_from_the_last_epoch_written(npz, tmp_path, whole):
    assert stop_by(signal.SIGKILL, npz, tmp_path / "run") == ""
    check_resumed(tmp_path / "run", whole)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="sends SIGTERM")
def test_a_terminated_training_goes_on(npz, tmp_path, whole):
    assert "Epoch" in stop_by(signal.SIGTERM, npz, tmp_path / "run")
    check_resumed(tmp_path / "run", whole)


def unfinished(out, npz, **changes):
    """Write the folder of a training without an epoch."""
    given = dict.fromkeys(
        ("epochs", "groups", "learning_rate", "param", "recipe", "seed", "size", "weights")
    )
    settings = {"network": "mlp", "data": str(npz), "calibrate": False, "force": False}
    kept(out).mkdir(parents=True)
    (kept(out) / "training.json").write_text(json.dumps({**given, **settings, **changes}))


def test_resume_finds_the_run_by_either_folder_and_trains_what_is_missing(npz, tmp_path):
    unfinished(tmp_path / "run", npz, epochs=1, param=["units=4"])
    done = invoke("train", "--resume", kept(tmp_path / "run"))
    assert done.exit_code == 0, done.output
    assert os.listdir(tmp_path) == ["run"]
    assert read(tmp_path / "run" / "parameters.json")["parameters"]["units"] == 4


def test_force_begins_anew(npz, tmp_path):
    unfinished(tmp_path / "run", npz, epochs=1)
    line = "train", "mlp", "-p", "units=5", "--epochs", 1, "--data", npz, "--out", tmp_path / "run"
    assert invoke(*line, "--force").exit_code == 0
    assert os.listdir(tmp_path) == ["run"]
    assert read(tmp_path / "run" / "parameters.json")["parameters"]["units"] == 5


def test_what_cannot_go_on_is_refused(npz, tmp_path):
    assert "no unfinished training" in refused("train", "--resume", tmp_path / "run")
    assert "must get NAME, or --resume" in refused("train", "--data", npz)
    line = "train", "mlp", "--data", npz, "--out"
    assert "-p checkpoint must be left out" in refused(*line, tmp_path / "a", "-p", "checkpoint=x")
    several = "strategy=multi_worker"
    assert "-p strategy must be" in refused(*line, tmp_path / "a", "-p", several)
    unfinished(tmp_path / "b", npz, calibrate="yes")
    assert "The 'calibrate' in" in refused("train", "--resume", tmp_path / "b")
    unfinished(tmp_path / "c", npz)
    (kept(tmp_path / "c") / "fit.checkpoint").write_text("a letter")
    assert "fit.checkpoint" in refused("train", "--resume", tmp_path / "c")
    assert (kept(tmp_path / "c") / "fit.checkpoint").read_text() == "a letter"


def test_another_folder_of_that_name_is_refused_and_stays(npz, tmp_path):
    kept(tmp_path / "run").mkdir()
    (kept(tmp_path / "run") / "mine.txt").touch()
    line = "train", "mlp", "--data", npz, "--out", tmp_path / "run", "--force"
    assert "holds something else" in refused(*line)
    assert os.listdir(kept(tmp_path / "run")) == ["mine.txt"]


BUSY = """
import hashlib, sys, threading, time
from kmedclf.cli import console
rounds = int(sys.argv[1])
with console._stoppable(), console._answered(patience=0.2):
    threading.Timer(0.5, print, ["ready"], {"flush": True}).start()
    # C code, which no signal stops, or a sleep, which any does
    hashlib.pbkdf2_hmac("sha256", b"", b"", rounds) if rounds else time.sleep(60)
"""


@pytest.mark.skipif(os.name == "nt", reason="sends SIGINT")
@pytest.mark.parametrize(("rounds", "answered"), [(12_000_000, True), (0, False)])
def test_a_signal_is_answered_where_the_command_cannot_stop_at_once(rounds, answered):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a job in the background does not
    process = subprocess.Popen([sys.executable, "-c", BUSY, str(rounds)], preexec_fn=heed, **pipes)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    complaints = process.communicate(timeout=60)[1]
    assert process.returncode
    assert complaints.startswith("Stopping ...\n") is answered
