"""The benchmarks run: their quick forms, in processes of their own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SEVERAL = ("images", "scaling", "train", "transfer")  # these print several tables, of other columns


def run(script, *options):
    return subprocess.run(
        [sys.executable, "-m", f"benchmarks.{script}", "--quick", *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "script",
    [
        "accuracy",
        "arithmetic",
        "auto",
        "export",
        "fused",
        "growth",
        "images",
        "imports",
        "ops",
        "overhead",
        "portfolio",
        "predict",
        "scaling",
        "serve",
        "train",
        "transfer",
        "whole_search",
    ],
)
def test_quick_forms_print_a_table_and_write_json(script, tmp_path):
    out = tmp_path / "figures.json"
    done = run(script, "--out", os.fspath(out))
    assert done.returncode == 0, done.stderr
    rows = [line for line in done.stdout.splitlines() if line.startswith("|")]
    assert len(rows) > 2
    assert len({row.count("|") for row in rows if script not in SEVERAL}) <= 1
    assert " failed: " not in done.stdout
    assert json.loads(out.read_text())["machine"]["cores"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("more", [[], ["--official"], ["--side", "16"]])
def test_accuracy_of_grey_images_with_several_labels(more):
    done = run("accuracy", "--data", "synthetic-findings", "--recipes", "reference", "fast", *more)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("| MLP | ") == 2


@pytest.mark.slow
def test_a_contestant_that_fails_is_reported_and_the_others_go_on(tmp_path):
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho no torch here >&2\nexit 1\n")
    broken.chmod(0o755)
    done = run("train", "--torch-python", os.fspath(broken))
    assert done.returncode == 0, done.stderr
    assert "| torch | failed: no torch here |" in done.stdout
    assert "| ours | failed" not in done.stdout


def test_the_arithmetic_of_networks(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    from benchmarks.train_keras import flops

    multiplications = 2352 * 128 * 2 + 128 * 8 * 3  # the image has no gradient
    assert flops("mlp") == 2 * multiplications
    convolution, dense = 26 * 26 * 9 * 3 * 8, 13 * 13 * 8 * 8
    assert flops("cnn_8") == 2 * (2 * convolution + 3 * dense)
