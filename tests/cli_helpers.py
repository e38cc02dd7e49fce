"""What the tests of the command line share."""

import json

import numpy as np
from typer.testing import CliRunner

import kmedclf
from kmedclf.cli import app
from kmedclf.datasets import make_blood_cells

NAMES = kmedclf.datasets.info("bloodmnist").class_names


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
