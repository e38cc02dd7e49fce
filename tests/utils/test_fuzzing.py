"""The fuzz tests' own tools: mutants come again, and what must not be is seen."""

import subprocess
import sys
from pathlib import Path

import fuzzing
import numpy as np
import pytest
from file_samples import EXACT


def misbehave(path):
    """Do what the name of the file says, if it is a mutant."""
    if path.read_bytes() == b"sample":
        return
    match path.stem:
        case "memory":
            np.ones(200 << 20, np.uint8)
        case "declared":
            return np.ones(200 << 20, np.uint8).nbytes
        case "program":
            subprocess.run([sys.executable, "--version"], check=True, capture_output=True)
        case "elsewhere":
            with Path(path.parent.parent, "elsewhere").open("w"):
                pass
        case "other":
            raise KeyError(str(path))
        case "silent":
            raise ValueError("no")
        case "lines":
            raise ValueError(f"{path}\n.")
        case "fine":
            raise ValueError(f"{path} is broken.")


EXPECTED = {
    "memory": "MB",
    "declared": None,
    "program": "it did something",
    "elsewhere": "it did something",
    "other": "another error",
    "silent": "no sentence with the path",
    "lines": "no sentence with the path",
    "fine": None,
}


def test_faults_are_seen(tmp_path):
    samples = {f"{name}.x": b"sample" for name in EXPECTED}
    folder = tmp_path / "inner"
    folder.mkdir()
    found = fuzzing.faults(
        fuzzing.survey("tests.utils.test_fuzzing:misbehave", samples, 1, 0, folder)
    )
    seen = {one.sample.removesuffix(".x"): what.lstrip("0123456789 ") for what, one in found}
    assert {name: seen.get(name) for name in EXPECTED} == EXPECTED


def die(path):
    """End the process, as a crash in C does."""
    import os

    if path.read_bytes() != b"sample":
        os.abort()


def test_a_crash_names_the_last_case(tmp_path):
    with pytest.raises(AssertionError, match=r"ended with -6 after 1 of 2 cases"):
        fuzzing.survey("tests.utils.test_fuzzing:die", {"a.x": b"sample"}, 1, 0, tmp_path)


@pytest.mark.parametrize("name", ["rgb.png", "rgb.tif", "grey.dcm", "text.pgm"])
def test_mutants_come_again_and_differ(name):
    content = EXACT[name][0]
    made = [fuzzing.mutant(content, 0, i) for i in range(50)]
    assert made == [fuzzing.mutant(content, 0, i) for i in range(50)]
    assert len({*made, content}) > 40
