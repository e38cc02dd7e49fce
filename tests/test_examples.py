"""Every example runs to its end, small and short."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kmedclf import datasets

EXAMPLES = Path(__file__).parents[1] / "examples"
ITEMS = sorted(path.name for path in EXAMPLES.glob("item_*.py"))


@pytest.fixture(scope="module")
def npz(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "cells.npz"
    arrays = {}
    for seed, (split, n) in enumerate({"train": 96, "val": 40, "test": 40}.items()):
        arrays[f"{split}_images"], labels = datasets.make_blood_cells(n, random_state=seed)
        arrays[f"{split}_labels"] = labels[:, None]
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize("name", ITEMS)
def test_item_runs(name, npz, tmp_path):
    command = [sys.executable, str(EXAMPLES / name), "--data", str(npz), "--quick"]
    env = {**os.environ, "MPLBACKEND": "agg"}
    done = subprocess.run(
        [*command, "--out", str(tmp_path)], capture_output=True, text=True, env=env, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert list(tmp_path.glob("*.png")) or (tmp_path / "comparison.html").exists()
    assert len((EXAMPLES / name).read_text().splitlines()) <= 60


def test_there_is_one_example_per_item():
    assert [name[5] for name in ITEMS] == ["a", "b", "c", "d"]
