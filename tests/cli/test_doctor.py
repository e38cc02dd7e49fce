"""kmedclf doctor: the facts of this machine and process, and what would be faster."""

import json
import os
import subprocess
import sys
from importlib.metadata import version

import pytest
from cli_helpers import invoke

from kmedclf.runs.machine import Machine
from kmedclf.utils import arithmetic


def test_the_facts_are_those_of_this_process():
    found = json.loads(invoke("doctor", "--json").stdout)
    here = Machine.examine()
    assert found["onednn"] == arithmetic.has_onednn()
    assert found["threads"] == arithmetic.threads() >= 1
    assert found["cores"] == len(os.sched_getaffinity(0))
    assert found["memory"] > found["free_memory"] > 0
    for package in ("kmedclf", "tensorflow", "keras", "scikit-learn", "numpy"):
        assert found["versions"][package] == version(package)
    assert found["precision"] == "float32"
    assert set(found) == set(vars(here))


def test_the_words_name_every_fact():
    shown = " ".join(invoke("doctor").stdout.split())
    found = Machine.examine()
    state = "on" if found.onednn else "off"
    for text in (
        found.processor, found.instruction_set, f"oneDNN {state}: {found.onednn_reason}",
        f"threads {found.threads}", "GB in all", *found.versions.values(), *found.faster,
    ):  # fmt: skip
        assert text in shown, shown


@pytest.mark.skipif(not arithmetic.onednn_pays(), reason="TensorFlow's own choice stands")
def test_what_slows_a_process_down_is_said():
    slow = {
        "TF_ENABLE_ONEDNN_OPTS": "0",
        "ONEDNN_MAX_CPU_ISA": "AVX",
        "TF_NUM_INTRAOP_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, "-m", "kmedclf", "doctor", "--json"],
        env={**os.environ, **slow},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert (found["onednn"], found["instruction_set"], found["threads"]) == (False, "AVX", 1)
    assert found["mixed_precision"] == "float32"
    named = {name for name in slow if any(name in one for one in found["faster"])}
    expected = set(slow) if found["cores"] > 1 else set(slow) - {"TF_NUM_INTRAOP_THREADS"}
    assert named == expected, found["faster"]
