"""Mutants of models, weights, remembered fits and run folders: data, whatever is in them.

Each is read or refused by one sentence with its path; a remembered fit that is wrong is a miss with
a warning. Nothing runs, is written or is replaced, and memory and time are bounded.
"""

import functools
import itertools
import json
import shutil
import warnings

import fuzzing
import numpy as np
import old_models
import pytest
from helpers import data, get, make

from tests.models.test_weights import _legacy, _published, _shaken, _torch_names
from tests.models.test_weights import build as build_network

SEED = 20261130
fuzzing.LONGEST = 300  # the first cases load TensorFlow; `faults` bounds all the others
KEY = "0" * 32 + " 1"
DENSE = {"growth_rate": 32, "block_config": (1, 1, 1, 1), "stem": "imagenet"}
X, y = data(24)
_numbers = itertools.count()


def _globals():
    import keras

    config = keras.config
    custom = tuple(sorted(keras.saving.get_custom_objects()))
    return (
        config.floatx(), config.epsilon(), config.image_data_format(), config.backend(),
        config.dtype_policy().name, config.is_traceback_filtering_enabled(), custom,
    )  # fmt: skip


# -- what the child does with a mutant -------------------------------------------------------------


def read_model(path):
    """Load a model: nothing of its class is hidden, nothing of Keras changed."""
    import kmedclf

    get("TinyNet")
    before = _globals()
    try:
        model = kmedclf.load(path)
    finally:
        assert _globals() == before
    stack = [model]
    while stack:
        one = stack.pop()
        known = set(one.get_params(deep=False))
        hidden = [name for name in vars(one) if name not in known and hasattr(type(one), name)]
        assert not hidden, hidden
        assert getattr(one, "memory", None) is getattr(one, "cache", None) is None
        stack += getattr(one, "estimators_", [])
        stack += [one.estimator] if hasattr(one, "estimator") else []
    return path.stat().st_size


def read_model_json(path):
    """Load a model of which the JSON alone is a mutant."""
    one = old_models.recorded()[path.stem]
    whole = path.with_suffix(".json.kmedclf")
    old_models.archive(whole, path.read_bytes(), one["arrays"])
    return read_model(whole)


@functools.cache
def _variables():
    from kmedclf.models._weights import Variable

    made = {}
    for suffix, name, params in (
        (".h5", "DenseNetClassifier", DENSE),
        (".keras", "DenseNetClassifier", DENSE),
        (".safetensors", "ViTClassifier", {"patch_size": 4}),
    ):
        model = build_network(name, (32, 32, 3), **params)
        own = [one for one in model.weights if not one.path.startswith("logits")]
        made[suffix] = tuple(
            Variable(one.path, tuple(one.shape), getattr(one, "grid", None)) for one in own
        )
    return made


def read_weights(path):
    """Read a file of weights for the network that it was written for."""
    from kmedclf.models import _weights

    before = _globals()
    try:
        _weights.read(str(path), str(next(_numbers)), _variables()[path.suffix], "Network")
    finally:
        assert _globals() == before
        _weights.read.cache_clear()
    return path.stat().st_size


@functools.cache
def _task():
    from kmedclf import base

    estimator = make("MLPClassifier", epochs=1, warm_start=True, units=4, batch_size=8)
    return estimator._training_task(
        estimator._make_schedule(), base.FitData(X, y), None, keep_optimizer=True
    )


def read_memory(path):
    """Look for a remembered fit: what is wrong is no fit, and a warning."""
    from kmedclf.persistence import fitted_state, memory

    store = memory.Store(path.parent / "made")
    shutil.copyfile(path, store._path(KEY))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        state = store.load(KEY, _task())
    if state is None:
        assert "trained again" in str(caught[0].message)
        raise ValueError(f"{path}: a miss")
    assert all(map(fitted_state.is_finite, state.weights))
    return path.stat().st_size


def read_run_folder(path):
    """Read a run of which one file is a mutant."""
    from kmedclf import runs

    place = path.parent / "made" / "run" / path.name
    whole = place.read_bytes()
    try:
        shutil.copyfile(path, place)
        runs.read_run(place.parent)
    finally:
        place.write_bytes(whole)
    return path.stat().st_size


def read_search_folder(path):
    """Read the settings of a search, as --resume does."""
    from kmedclf.runs.searches import SearchFolder

    SearchFolder.read(path.parent)
    return path.stat().st_size


# -- samples ---------------------------------------------------------------------------------------


def _models(folder):
    samples = {}
    for name in old_models.recorded():
        old_models.write(name, folder / f"{name}.kmedclf")
        samples[f"{name}.kmedclf"] = (folder / f"{name}.kmedclf").read_bytes()
    return samples


def _model_json(folder):
    return {f"{name}.json": one["json"].encode() for name, one in old_models.recorded().items()}


def _weights(folder):
    from safetensors.numpy import save_file

    theirs, _, _ = _published("DenseNetClassifier")
    _shaken(theirs)
    _legacy(theirs, folder / "w.h5")
    theirs.save(folder / "w.keras")
    tensors = _torch_names(build_network("ViTClassifier", (32, 32, 3), patch_size=4))
    d, rng = 8, np.random.default_rng(2)
    for name, shape in {
        "cls_token": (1, 1, d), "pos_embed": (1, 1 + 64, d),
        "blocks.0.attn.qkv.weight": (3 * d, d), "blocks.0.attn.qkv.bias": (3 * d,),
        "blocks.0.attn.proj.weight": (d, d), "blocks.0.attn.proj.bias": (d,),
    }.items():  # fmt: skip
        tensors[name] = rng.random(shape, np.float32)
    save_file(tensors, folder / "w.safetensors")
    return {path.name: path.read_bytes() for path in folder.glob("w.*")}


def _fits(folder):
    from kmedclf.persistence import memory
    from kmedclf.training import loop

    store = memory.Store(folder)
    store.make()
    store.keep(KEY, loop.train(_task()), "Network")
    return {store._path(KEY).name: store._path(KEY).read_bytes()}


def _checkpoint(folder):
    from kmedclf.persistence import checkpoint
    from kmedclf.training import loop

    weights = [np.arange(6, dtype=np.float32).reshape(2, 3), np.zeros(3, np.float32)]
    history = {"loss": [1.0, 0.5], "val_loss": [2.0, 1.5]}
    best = [one + 1 for one in weights]
    snapshot = loop.Snapshot(0, history, weights, weights[:1], [1, -2.0, 1, -2.0], best, None)
    file = checkpoint.File(folder / "fit.checkpoint", _task(), {})
    file.keep(snapshot)
    return {"fit.checkpoint": (folder / "fit.checkpoint").read_bytes()}


def read_checkpoint(path):
    """Read the checkpoint of an unfinished fit."""
    from kmedclf.persistence import checkpoint

    kept = checkpoint.read(path)
    assert len(kept.snapshot.history["loss"]) > kept.snapshot.first
    return path.stat().st_size


def _run_folder(folder):
    from cli_helpers import train_mlp, write_npz

    train_mlp(write_npz(folder), folder / "run")
    return {
        path.name: path.read_bytes()
        for path in (folder / "run").iterdir()
        if path.name in ("environment.json", "evaluation-test.json", "model.kmedclf")
    }


def _settings(folder):
    settings = {"network": "MLPClassifier", "data": "x.npz", "size": None, "parameters": {},
                "engine": "staged", "epochs": 2, "final_epochs": 2, "space": None, "subset": None,
                "folds": 2, "first": False, "seed": 0, "trials": 3}  # fmt: skip
    return {"search.json": json.dumps(settings).encode()}


KINDS = {
    "model": (_models, read_model, 600),
    "json": (_model_json, read_model_json, 800),
    "weights": (_weights, read_weights, 800),
    "memory": (_fits, read_memory, 2500),
    "checkpoint": (_checkpoint, read_checkpoint, 1000),
    "run": (_run_folder, read_run_folder, 600),
    "search": (_settings, read_search_folder, 2000),
}
"""What makes the whole files, what reads a mutant, and how many mutants of each file are tried."""

SLOW = 30_000
QUICK = 6


def read_any(path):
    """Read a mutant of any kind, by its name."""
    if path.suffix == ".kmedclf":
        return (read_run_folder if path.name == "model.kmedclf" else read_model)(path)
    if path.suffix == ".kmedclf-fit":
        return read_memory(path)
    if path.suffix == ".checkpoint":
        return read_checkpoint(path)
    if path.suffix == ".json" and path.stem in old_models.recorded():
        return read_model_json(path)
    if path.suffix == ".json":
        return (read_search_folder if path.name == "search.json" else read_run_folder)(path)
    return read_weights(path)


def _faults(samples, target, n, folder):
    outcomes = fuzzing.survey(
        f"tests.persistence.test_fuzz_models:{target}", samples, n, SEED, folder
    )
    growth = max(one.growth for one in outcomes if one.number >= 0)
    print(target, fuzzing.counts(outcomes), growth >> 20, "MB")
    return fuzzing.faults(outcomes, ("ValueError", "_NotImported"))


def test_mutants_of_every_kind(tmp_path):
    folder = tmp_path / "made"
    folder.mkdir()
    samples = {}
    for make_samples, _, _ in KINDS.values():
        samples |= make_samples(folder)
    assert _faults(samples, "read_any", QUICK, tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_many_mutants(kind, tmp_path):
    make_samples, target, n = KINDS[kind]
    (tmp_path / "made").mkdir()
    assert _faults(make_samples(tmp_path / "made"), target.__name__, n, tmp_path) == []


def test_many_are_thirty_thousand():
    files = {"model": len(old_models.recorded()), "weights": 3, "memory": 1, "run": 3, "search": 1,
             "checkpoint": 1}  # fmt: skip
    files["json"] = files["model"]
    assert sum(files[kind] * n for kind, (_, _, n) in KINDS.items()) >= SLOW
