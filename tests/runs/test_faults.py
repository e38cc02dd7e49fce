"""Each write and each rename of a command fails once: nothing finished is lost, again is equal."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parents[1]
ALL = ("train", "train --force", "report", "evaluate", "predict", "compare", "audit", "study")
SHARES = 6
"""A search writes most: its points are shared out, so that processes can try them side by side."""


def failures(folder, which, *commands):
    paths = [str(HERE.parent), str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, HERE / "faults.py", folder / "faults", which, *commands],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    results = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert {one["command"] for one in results} == set(commands)
    assert {one["how"] for one in results} == {"refused", "full", "killed"}
    return [one for one in results if one["wrong"]]


@pytest.mark.skipif(os.name == "nt", reason="limits the size of files")
def test_a_write_that_fails_loses_nothing(tmp_path):
    assert failures(tmp_path, "few", "train --force", "predict") == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "which"),
    [*((one, "0/1") for one in ALL), *(("search", f"{i}/{SHARES}") for i in range(SHARES))],
)
def test_any_write_of_any_command_that_fails_loses_nothing(command, which, tmp_path):
    assert failures(tmp_path, which, command) == []
