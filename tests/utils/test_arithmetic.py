"""TensorFlow is told how to compute before it loads, whatever of kmedclf loads it."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from helpers import PUBLIC, ROOT, run

import kmedclf
from kmedclf.utils import arithmetic

pays = pytest.mark.skipif(not arithmetic.onednn_pays(), reason="TensorFlow's own choice stands")

# Each module is imported in a child of its own, up to the moment when TensorFlow is asked for.
ENTRIES = """
import importlib, json, os, sys
import joblib, matplotlib.pyplot, numpy, pandas, PIL.Image, sklearn.model_selection, typer, rich.table

class Stop:
    def find_spec(self, name, path, target=None):
        if name in ("tensorflow", "keras", "scikeras", "keras_tuner"):
            told = os.environ.get("TF_ENABLE_ONEDNN_OPTS")
            os.write(1, json.dumps([entry, name, told]).encode() + b"\\n")
            os._exit(0)

for entry in sys.argv[1:]:
    sys.stdout.flush()
    if not os.fork():
        sys.meta_path.insert(0, Stop())
        try:
            exec(entry)
            os.write(1, json.dumps([entry, None, None]).encode() + b"\\n")
        finally:
            os._exit(0)
    os.wait()
"""


def _modules():
    paths = (ROOT / "kmedclf").rglob("*.py")
    names = (".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths)
    return sorted(name.removesuffix(".__init__") for name in names if "__main__" not in name)


def _entries():
    names = [f"import kmedclf; kmedclf.{name}" for name in kmedclf.__all__]
    networks = [f"import pickle; pickle.loads({_pickle(name)!r})" for name in PUBLIC]
    return [*names, *networks, *(f"import {name}" for name in _modules())]


def _pickle(name):
    """What joblib sends to a worker: the worker imports the class's module, and nothing before."""
    import pickle

    return pickle.dumps(getattr(kmedclf, name)())


def _first_loads(entries, **env):
    cleaned = {name: value for name, value in os.environ.items() if name != arithmetic.ONEDNN}
    done = subprocess.run(
        [sys.executable, "-c", ENTRIES, *entries],
        env={**cleaned, **env},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.stderr == ""
    return [json.loads(line) for line in done.stdout.splitlines()]


@pays
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no processes are forked here")
def test_whatever_loads_tensorflow_tells_it_before():
    entries = _entries()
    found = _first_loads(entries)
    assert [entry for entry, _, _ in found] == entries
    loads = {entry: (name, told) for entry, name, told in found if name}
    assert {f"import kmedclf; kmedclf.{name}" for name in PUBLIC} < set(loads)
    assert len(loads) > 60
    assert set(loads.values()) == {("tensorflow", "1")}, loads


STATE = """
import os
{before}
{load}
from kmedclf.training import devices
from kmedclf.utils import arithmetic
devices.gpus()
setting = arithmetic.setting()
print(setting["onednn"], os.environ.get("TF_ENABLE_ONEDNN_OPTS"), arithmetic.reason(), sep=", ")
"""


def _state(before="", load="from kmedclf import CNNClassifier", **env):
    unset = f"os.environ.pop({arithmetic.ONEDNN!r}, None)" if arithmetic.ONEDNN not in env else ""
    return run(STATE.format(before=f"{unset}\n{before}", load=load), **env).strip()


@pays
def test_onednn_is_on_and_the_environment_as_it_was():
    assert _state() == "True, None, kmedclf's choice for CPUs with AVX2"
