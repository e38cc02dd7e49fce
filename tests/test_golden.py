"""The record of what the package computes is the same twice: a comparison means something."""

import json
import os
import subprocess
import sys
from pathlib import Path

import golden
import numpy as np
import pytest


def test_digests_tell_values_apart():
    one = np.arange(6, dtype=np.float32)
    values = [
        one, one.astype(float), one.reshape(2, 3), one + 1, list(one), {"a": one}, {"b": one},
        "text", None, 0, 0.0, [[0], 0], [0, [0]],
    ]  # fmt: skip
    assert len({golden.digest(value) for value in values}) == len(values)
    assert golden.digest({"score": 1, "fit_time": 2}) == golden.digest({"score": 1, "fit_time": 3})


def test_differences_are_named():
    a, b = {"x": {"weights": "1", "labels": "2"}}, {"x": {"weights": "1", "labels": "3"}, "y": {}}
    assert golden.differences(a, a) == []
    assert golden.differences(a, b) == ["x: labels"]


@pytest.mark.slow
def test_two_processes_record_the_same(tmp_path):
    paths = os.pathsep.join([str(Path(__file__).parent), os.environ["PYTHONPATH"]])
    for name in ("a.json", "b.json"):
        command = [sys.executable, golden.__file__, str(tmp_path / name)]
        subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": paths})
    a, b = (json.loads((tmp_path / name).read_text()) for name in ("a.json", "b.json"))
    assert golden.differences(a, b) == []
    assert sum(map(len, a.values())) > 200
