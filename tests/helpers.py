"""What the tests share: estimators found by name, made small, and small data."""

from __future__ import annotations

import functools
import importlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kmedclf import models
from kmedclf.datasets import make_blood_cells
from kmedclf.models._pretrained import PretrainedClassifier
from kmedclf.training import network

ROOT = Path(__file__).parents[1]
PUBLIC = list(models.__all__)
NAMES = [*PUBLIC, "TinyNet"]  # the last one is a user's, installed by conftest.py
DEEP = [name for name in PUBLIC if issubclass(getattr(models, name), PretrainedClassifier)]
# Deep networks take seconds to build, and CNNClassifier stands for a stack of convolutions: what
# holds for every network is tested on these among the slow tests only.
SLOW = [*DEEP, "ConvNetClassifier"]
# TensorFlow rounds the sums of these otherwise in another graph around them: in a loop over batches
# than outside one, with images from files than from memory.
ROUNDED = set(DEEP) - {"ViTClassifier"}
EVERY = [
    pytest.param(name, marks=pytest.mark.slow) if name in SLOW else pytest.param(name)
    for name in PUBLIC
]
ALL = [*EVERY, pytest.param(NAMES[-1])]
QUICK = [name for name in NAMES if name not in SLOW]
# Training, checks and errors know nothing of architectures. Two deep networks stand for all there:
# one with batch normalisation, one with attention and dropout.
_LEFT_OUT = set(SLOW) - {"DeepResNetClassifier", "ViTClassifier"}
ENGINE_EVERY = [one for one in EVERY if one.values[0] not in _LEFT_OUT]
ENGINE = [*ENGINE_EVERY, pytest.param(NAMES[-1])]
# One of them by default, the others slow: for what takes seconds and holds for the engine alone.
ONE = [
    pytest.param(*one.values, marks=[] if one.values[0] == "CNNClassifier" else pytest.mark.slow)
    for one in ENGINE_EVERY
]

SMALL = {
    "block_config": (1, 1),
    "depth": 0.05,
    "blocks": 1,
    "dense_units": 4,
    "filters": 4,
    "growth_rate": 2,
    "hidden_dim": 8,
    "layers_per_block": 1,
    "mlp_dim": 8,
    "num_heads": 2,
    "num_layers": 1,
    "stem_filters": 2,
    "units": 8,
    "width": 0.05,
}  # any parameter of these names is made this small
SMALL_OF = {
    "AlexNetClassifier": {"dense_units": 8},
    "ConvNetClassifier": {"filters": (4, 4), "dense_units": None},
    "DeepResNetClassifier": {"depth": 18, "filters": 2},
    "TinyNet": {"width": 8},
}


def get(name):
    """Find an estimator class by name."""
    if name in PUBLIC:
        return getattr(models, name)
    return getattr(importlib.import_module("mynets"), name)


def small(name):
    """Give the parameters that make a network small."""
    known = get(name)._get_param_names()
    return {key: value for key, value in SMALL.items() if key in known} | SMALL_OF.get(name, {})


def make(name, **params):
    """Make a small estimator: two epochs, no inner split, seeded, unless told otherwise."""
    base = {"epochs": 2, "early_stopping": False, "random_state": 0}
    if name not in PUBLIC:
        base["jit_compile"] = False  # XLA compiles for each size of batch: seconds in every test
    return get(name)(**{**small(name), **base, **params})


def build(name, shape=(8, 8, 3), **params):
    """Build a small network with its initial values for three classes, and train nothing."""
    params = {**small(name), **params}
    architecture = tuple(params.items())
    spec = network.Spec(get(name), architecture, shape, 1.0, 3, "adam", "float32", False)
    model, initializers = network.build(spec, activated=True)
    initializers.assign(np.random.SeedSequence(0))
    return model


def shared(name):
    """Find a file of real data beside the checkout, or skip the test: the project has none."""
    for folder in ROOT.parents:
        if (folder / "shared" / "data" / name).exists():
            return folder / "shared" / "data" / name
    return pytest.skip(f"no shared/data/{name} beside the checkout")


@functools.cache
def _data(n, size, classes):
    X, y = make_blood_cells(n, size, random_state=0)
    y = y % classes
    X.flags.writeable = y.flags.writeable = False
    return X, y


def data(n=48, size=8, classes=3):
    """Give n images (n, size, size, 3), uint8, and labels (n,); nobody may write to them."""
    return _data(n, size, classes)


def same(a, b):
    """Say whether two lists of arrays, or two fitted estimators, are equal bit for bit."""
    a, b = (getattr(one, "weights_", one) for one in (a, b))
    return len(a) == len(b) and all(map(np.array_equal, a, b))


def beside(name):
    """Name the networks that one other process may try together: the fast ones, or the slow."""
    return [other for other in NAMES if (other in SLOW) == (name in SLOW)]


def run(code, **env):
    """Run code in a fresh process and return what it printed."""
    path = os.pathsep.join([str(Path(__file__).parent), os.environ["PYTHONPATH"]])
    env = {**os.environ, "PYTHONPATH": path, "TF_CPP_MIN_LOG_LEVEL": "3", **env}
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(
        command, capture_output=True, text=True, env=env, check=False, timeout=900
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout
