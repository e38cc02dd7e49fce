"""What the tests of the command line share."""

import json
import os
import shutil
import signal
import subprocess
import sys
from functools import partial

import numpy as np
from typer.testing import CliRunner

import kmedclf
from kmedclf.cli import app
from kmedclf.datasets import make_blood_cells

NAMES = kmedclf.datasets.info("bloodmnist").class_names

SCRIPT = shutil.which("kmedclf", path=os.path.dirname(sys.executable))


def start(*command, **pipes):
    """Start a command as a process of its own; its output is read, unless pipes say otherwise."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("TF_")}
    pipes = pipes or {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    # Jobs in the background of a shell ignore interruptions, and so would what they start.
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    command = [SCRIPT, *map(str, command)]
    return subprocess.Popen(command, env=env, text=True, preexec_fn=heed, **pipes)


def invoke(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def refused(*arguments):
    """The one sentence a user gets, who must get nothing else."""
    done = invoke(*arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr.strip()


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def write_npz(folder):
    """Write a data set of 96 synthetic cells to a file like MedMNIST's."""
    path = folder / "tiny cells.npz"
    content = {"class_names": np.array(NAMES)}
    for seed, (split, n) in enumerate({"train": 48, "val": 20, "test": 28}.items()):
        X, y = make_blood_cells(n, random_state=seed)
        content |= {f"{split}_images": X, f"{split}_labels": y[:, None]}
    np.savez(path, **content)
    return path


def train_mlp(npz, folder):
    """Train a small network from the command line: its folder, and what was printed."""
    done = invoke(
        "train", "mlp", "--data", npz, "--out", folder, "--epochs", 3, "--seed", 7,
        "-p", "units=16", "-p", "learning_rate=1e-2", "-p", "class_weight=balanced",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    return folder, done.stdout
