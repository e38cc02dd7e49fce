"""A run that several files of tests serve."""

import numpy as np
import pytest
from helpers import make

import kmedclf
from kmedclf import runs
from kmedclf.datasets import sources

CLASSES = ("round cell", "other <b>cell</b>")


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory):
    """A calibrated run on 100 drawn cells to train on, 60 to validate and 60 to test."""
    folder = tmp_path_factory.mktemp("served")
    content = {"class_names": np.array(CLASSES)}
    for seed, (split, n) in enumerate({"train": 100, "val": 60, "test": 60}.items()):
        images, labels = kmedclf.datasets.make_blood_cells(n, 8, random_state=seed)
        content |= {f"{split}_images": images, f"{split}_labels": labels % 2}
    np.savez(folder / "cells.npz", **content)
    out = folder / "run"
    data = sources.read_data(str(folder / "cells.npz"))
    runs.train(make("CNNClassifier", filters=8, epochs=8), data, out, calibrate=True)
    return out
