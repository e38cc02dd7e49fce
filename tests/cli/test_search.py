"""kmedclf search: what it writes, and that an interruption costs nothing that was finished."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from searching import FLAT, Probe, Y
from typer.testing import CliRunner

from kmedclf import datasets
from kmedclf.cli import app
from kmedclf.runs import searches
from kmedclf.search import StagedSearchCV

SPACE = """
estimator: mlp
stages:
  - name: neurons
    parameters: {units: [2, 4, 8]}
  - name: training
    parameters: {optimizer: [sgd, adam], batch_size: [16, 32]}
"""
TIMES = {"mean_fit_time", "std_fit_time", "mean_score_time", "std_score_time"}


@pytest.fixture
def files(tmp_path):
    X, y = datasets.make_blood_cells(160, random_state=0)
    rows = {"train": slice(0, 96), "val": slice(96, 128), "test": slice(128, 160)}
    arrays = {f"{split}_images": X[part] for split, part in rows.items()}
    arrays |= {f"{split}_labels": y[part, None] for split, part in rows.items()}
    np.savez(tmp_path / "cells.npz", **arrays)
    (tmp_path / "tiny.yaml").write_text(SPACE)
    return tmp_path


def command(files, *more, out="out"):
    settings = ["--epochs", "2", "--final-epochs", "2", "--subset", "1", "-p", "augment=false"]
    data = ["--data", str(files / "cells.npz"), "--space", str(files / "tiny.yaml")]
    return ["search", "mlp", *data, "--out", str(files / out), *settings, *more]


def results(folder):
    content = json.loads((folder / "results.json").read_text())
    return {name: column for name, column in content.items() if name not in TIMES}


def run(*args):
    done = CliRunner().invoke(app, list(args))
    assert done.exit_code == 0, done.output
    return done.output


def test_search_writes_results_curves_plots_and_the_winner(files):
    output = run(*command(files))
    out = files / "out"
    with (out / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["stage"] for row in rows] == ["neurons"] * 3 + ["training"] * 4
    curves = json.loads((out / "curves.json").read_text())
    assert len(curves) == 7
    assert {len(fold["val_accuracy"]) for folds in curves for fold in folds} == {2}
    plots = {path.name for path in out.glob("*.png")}
    assert plots == {"effect-units.png", "effect-batch_size-optimizer.png"}
    best = json.loads((out / "best" / "parameters.json").read_text())["parameters"]
    assert best["epochs"] == 2
    assert f"units={best['units']}" in output
    assert "test accuracy" in output
    assert "Faster: '--engine halving' " in output


@pytest.mark.parametrize("search", ["grid", "halving"])
def test_alternatives_have_charts_of_their_own(search):
    stages = [[{"a": [1, 2, 4], "b": [1, 2]}, {"b": [3, 4]}], {"random_state": [0]}]
    fitted = StagedSearchCV(Probe(), stages, search=search, refit=False).fit(FLAT, Y)
    charts = searches.effects(fitted)
    assert list(charts) == ["a-b", "b"]  # and none of the stage with one candidate
    (two, one) = (figure.axes[0] for figure in charts.values())
    assert [text.get_text() for text in two.get_legend().get_texts()] == ["b 1", "b 2"]
    assert [label.get_text() for label in one.get_xticklabels()] == ["3", "4"]
    heights = [container.lines[0].get_ydata() for container in two.containers]
    epochs = fitted.cv_results_.get("n_resources", [9])[0]
    np.testing.assert_allclose(heights[0], np.array([1, 2, 4]) + 0.01 - 1 / epochs)


def test_finished_search_resumes_without_a_fit(files):
    run(*command(files))
    before = results(files / "out")
    began = sorted(path.stat().st_mtime_ns for path in files.glob("out/memory/**/*.kmedclf-fit"))
    run("search", "--resume", str(files / "out"))
    after = sorted(path.stat().st_mtime_ns for path in files.glob("out/memory/**/*.kmedclf-fit"))
    assert results(files / "out") == before
    assert began == after


@pytest.mark.slow
def test_killed_search_ends_as_if_undisturbed(files):
    run(*command(files, out="undisturbed"))
    code = "import sys; from kmedclf.cli import main; sys.exit(main())"
    args = [sys.executable, "-c", code, *command(files)]
    process = subprocess.Popen(args, stdout=subprocess.DEVNULL, env={**os.environ})
    deadline = time.monotonic() + 120
    while len(list(files.glob("out/memory/**/*.kmedclf-fit"))) < 4:
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (files / "out" / "results.json").exists()
    run("search", "--resume", str(files / "out"))
    assert results(files / "out") == results(files / "undisturbed")


@pytest.mark.parametrize("engine", ["halving", "random", "bayesian", "hyperband"])
def test_every_engine_runs(files, engine):
    space = "estimator: mlp\nparameters: {units: {low: 2, high: 8, type: int}}\n"
    (files / "tiny.yaml").write_text(SPACE if engine == "halving" else space)
    trials = ["--trials", "2"] if engine in ("random", "bayesian") else []
    assert "--engine halving" not in run(*command(files, "--engine", engine, *trials))
    assert (files / "out" / "best" / "model.kmedclf").is_file()


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["search"], "kmedclf search must get NAME, or --resume DIR. Got none."),
        (["search", "--resume", "nowhere"], "nowhere must be a folder that 'kmedclf search' wrote"),
        (["search", "mpl", "--data", "synthetic", "--out", "o"], "did you mean 'mlp'?"),
    ],
)
def test_wrong_use_is_one_sentence(args, sentence):
    done = CliRunner().invoke(app, args)
    assert done.exit_code == 2
    assert sentence in " ".join(done.output.split())


def test_another_search_is_not_overwritten(files):
    (files / "out").mkdir()
    (files / "out" / "notes.txt").write_text("mine")
    done = CliRunner().invoke(app, command(files))
    assert done.exit_code == 2
    assert "is not empty" in done.output
