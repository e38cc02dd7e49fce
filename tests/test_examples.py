"""Every example of the assignment runs to its end, small and short."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

import kmedclf
from kmedclf import datasets

EXAMPLES = Path(__file__).parents[1] / "examples"
ITEMS = {path.name[5]: path for path in sorted(EXAMPLES.glob("item_*.py"))}


@pytest.fixture(scope="module")
def npz(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "cells.npz"
    arrays = {}
    for seed, (split, n) in enumerate({"train": 96, "val": 40, "test": 40}.items()):
        arrays[f"{split}_images"], labels = datasets.make_blood_cells(n, random_state=seed)
        arrays[f"{split}_labels"] = labels[:, None]
    np.savez(path, **arrays)
    return path


@pytest.fixture
def script(monkeypatch, capsys):
    """Run a script, in this process: importing TensorFlow takes longer than most of them."""

    def script(path, *options):
        monkeypatch.setattr(sys, "argv", [str(path), *map(str, options)])
        monkeypatch.setattr(sys, "path", [str(EXAMPLES), *sys.path])
        runpy.run_path(str(path), run_name="__main__")
        return capsys.readouterr().out

    return script


@pytest.fixture
def run(script, npz, tmp_path):
    """Run the example of an item."""

    def run(item):
        printed = script(ITEMS[item], "--data", npz, "--quick", "--out", tmp_path)
        assert f"({item}) " in printed
        return printed

    return run


def test_there_is_one_example_per_item():
    assert list(ITEMS) == ["a", "b", "c", "d"]
    for path in ITEMS.values():
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 60


def test_kernels_are_searched_once(run, tmp_path):
    first = run("b")
    fits = {path: path.stat().st_mtime_ns for path in tmp_path.glob("memory/**/*.kmedclf-fit")}
    assert len(fits) == 2 * 2 * 3
    assert (tmp_path / "kernels.png").is_file()
    table = first[first.index("Accuracy over") :]
    again = run("b")
    assert again[again.index("Accuracy over") :] == table
    assert {path: path.stat().st_mtime_ns for path in fits} == fits


def test_networks_are_trained_once(run, tmp_path):
    """The last item compares all three, of which two are there: the same choices, spelt out."""
    models = {}
    for item, name in {"a": "mlp", "c": "cnn", "d": "resnet"}.items():
        printed = run(item)
        assert "Test accuracy 0." in printed
        assert (tmp_path / name / "report.html").is_file()
        assert (tmp_path / f"{name}-confusion.png").is_file()
        models[name] = (tmp_path / name / "model.kmedclf").stat().st_mtime_ns
    for name, stamp in models.items():
        assert (tmp_path / name / "model.kmedclf").stat().st_mtime_ns == stamp
    assert "In order of test accuracy: " in printed
    assert "McNemar" in (tmp_path / "comparison.html").read_text(encoding="utf-8")
    assert (tmp_path / "cnn-mistakes.png").is_file()


def test_ensemble_calibrated(script, npz, tmp_path):
    path, out = EXAMPLES / "ensemble_calibrated.py", tmp_path / "both.kmedclf"
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 120
    printed = script(path, "--quick", "--data", npz, "--out", out)
    rows = [line for line in printed.splitlines() if line.count("[") == 3]
    assert len(rows) == 5
    X, y = datasets.load(str(npz), "test")
    assert f"{kmedclf.load(out).score(X, y):.3f} [" in rows[-1]
