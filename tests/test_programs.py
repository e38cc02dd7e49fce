"""The cache of compiled programs: nothing leaks through it, and little is ever built twice."""

import functools
import json
import os
import statistics
import threading
import weakref

import keras
import numpy as np
import pytest
from helpers import ALL, DEEP, EVERY, NAMES, data, get, make, run, same
from joblib import Parallel, delayed, parallel_config
from sklearn.model_selection import GridSearchCV

from kmedclf import programs

X, y = data()


class FasterLearning(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        self.model.optimizer.learning_rate = 0.5


class WatchesBatches(FasterLearning):
    def on_train_batch_end(self, batch, logs=None):
        self.model.optimizer.learning_rate = 0.25


class Rotation(keras.layers.RandomRotation):
    """A layer of a user's own."""


# For each parameter, values to change it to.
VALUES = {
    "activation": ["tanh"],
    "accumulate_steps": [3],
    "augment": [
        False,
        "dihedral",
        "intensity",
        ["mirror", "shift"],
        ["mirror", keras.layers.RandomRotation(0.1)],
        Rotation(0.1),
    ],
    "batch_norm": ["first"],
    "batch_size": [7],
    "block_config": [(1,), (2, 1)],
    "blocks": [2],
    "cache": ["memory"],
    "cache_limit": ["1M"],
    "callbacks": [[FasterLearning()], [WatchesBatches()]],
    "channels": [1],
    "class_weight": ["balanced", {1: 7.0}],
    "clipnorm": [0.01],
    "cutmix": [0.5],
    "dense_dropout": [0.1],
    "dense_units": [None],
    "dropout": [0.6],
    "early_stopping": [True],
    "epochs": [1],
    "filters": [3],
    "focal_alpha": [0.5],
    "focal_gamma": [0.5],
    "global_pooling": ["max"],
    "growth_rate": [3],
    "head_epochs": [1],
    "hidden_dim": [4],
    "image_shape": [(8, 8)],
    "image_size": [5],
    "jit_compile": [True, "auto"],
    "kernel_size": [2],
    "l2": [0.1],
    "label_smoothing": [0.2],
    "layers_per_block": [2],
    "learning_rate": [0.3],
    "loss": ["focal"],
    "lr_factor": [0.3],
    "lr_patience": [1],
    "lr_schedule": ["step", "plateau", "cosine", "one_cycle"],
    "lr_step": [1],
    "lr_warmup": [0.5],
    "memory": [None],
    "memory_limit": [None],
    "min_epochs": [1],
    "mixup": [0.5],
    "mlp_dim": [5],
    "momentum": [0.5],
    "monitor": ["loss"],
    "n_iter_no_change": [1],
    "nesterov": [True],
    "num_heads": [1],
    "num_layers": [2],
    "on_error": ["skip"],
    "optimizer": ["sgd", "lion", "ftrl", "adamw"],
    "oversample": ["duplicate", "augment"],
    "padding": [1],
    "patch_size": [2],
    "pool_size": [3],
    "pooling": ["average", "global_max"],
    "precision": ["mixed_bfloat16", "mixed_float16"],
    "random_state": [1],
    "resize": ["pad"],
    "restore_best": [False],
    "stem": ["small"],
    "stem_filters": [3],
    "stem_kernel_size": [2],
    "stem_pooling": [True],
    "tol": [0.5],
    "tol_mode": ["relative"],
    "trainable": ["head", 1],
    "units": [5],
    "validation_fraction": [0.4],
    "variant": ["b1"],
    "verbose": [1],
    "warm_start": [True],
    "weight_decay": [0.1],
    "weights": [None],  # others are tested in test_pretrained.py
    "width": [5],
}
VALUES_OF = {
    ("AlexNetClassifier", "dense_units"): [5],
    ("ConvNetClassifier", "activation"): [("linear", "relu")],
    ("ConvNetClassifier", "dense_units"): [(5, 3)],
    ("ConvNetClassifier", "filters"): [(3, 4, 4)],
    ("ConvNetClassifier", "kernel_size"): [(3, 1)],
    ("ConvNetClassifier", "pool_size"): [(1, 2)],
    ("ConvNetClassifier", "pooling"): ["average"],
    ("DeepResNetClassifier", "depth"): [34],
    ("EfficientNetClassifier", "depth"): [0.3],
    ("EfficientNetClassifier", "width"): [0.2],
}
# Some do something only beside others: these are set in both fits.
STOPPING = {"early_stopping": True, "epochs": 4, "min_epochs": 2, "n_iter_no_change": 2, "tol": 0.1}
FALLING = {"lr_schedule": "plateau", "epochs": 4, "lr_patience": 2, "tol": 0.5}
BESIDE = {
    **dict.fromkeys(
        (
            "min_epochs",
            "monitor",
            "n_iter_no_change",
            "restore_best",
            "tol",
            "tol_mode",
            "validation_fraction",
        ),
        STOPPING,
    ),
    "focal_alpha": {"loss": "focal"},
    "focal_gamma": {"loss": "focal"},
    "lr_factor": FALLING,
    "lr_patience": FALLING,
    "lr_step": {"lr_schedule": "step", "epochs": 4},
    "lr_warmup": {"lr_schedule": "one_cycle"},
    "momentum": {"optimizer": "sgd"},
    "nesterov": {"optimizer": "sgd", "momentum": 0.9},
}


def _changes():
    """Every parameter of every estimator; the shared ones of all but the last are slow."""
    shared = set.intersection(*(set(get(name)._get_param_names()) for name in NAMES))
    for name in NAMES:
        for parameter in get(name)._get_param_names():
            again = parameter in shared and name != NAMES[-1]
            marks = [pytest.mark.slow] if again or name in DEEP else []
            listed = VALUES_OF.get((name, parameter)) or VALUES.get(parameter, ["no value listed"])
            for value in listed:
                yield pytest.param(name, parameter, value, marks=marks)


def _fit(name, **params):
    return make(name, **{"optimizer": "adam", "jit_compile": False, **params}).fit(X, y)


@functools.cache
def _fresh(name, **base):
    """Weights of a base configuration from a program of its own."""
    programs.clear()
    return _fit(name, **base).weights_


@pytest.mark.parametrize(("name", "parameter", "value"), list(_changes()))
def test_no_parameter_leaks(name, parameter, value):
    assert parameter in VALUES, f"List values to try for {parameter!r} of {name} in VALUES."
    base = BESIDE.get(parameter, {})
    change = {**base, parameter: value}
    base_fresh = _fresh(name, **base)
    programs.clear()
    changed_fresh = _fit(name, **change)
    assert same(_fit(name, **base), base_fresh)
    changed_warm = _fit(name, **change)
    assert same(changed_warm, changed_fresh)
    assert changed_warm.history_ == changed_fresh.history_


# Without effect on the weights of a plain fit, or by chance none here.
IDLE = {
    "cache",
    "cache_limit",
    "channels",
    "early_stopping",
    "image_shape",
    "image_size",
    "jit_compile",
    "memory",
    "memory_limit",
    "min_epochs",
    "monitor",
    "n_iter_no_change",
    "on_error",
    "resize",
    "restore_best",
    "tol",
    "tol_mode",
    "verbose",
    "warm_start",
}


@pytest.mark.parametrize("parameter", sorted(set(get(NAMES[-1])._get_param_names()) - IDLE))
def test_changes_change_something(parameter):
    for value in VALUES[parameter]:
        base = BESIDE.get(parameter, {})
        base_fresh = _fresh(NAMES[-1], **base)
        if value in ("step", "plateau"):  # whose defaults do nothing in two epochs
            base = {"tol": 9.0, "lr_patience": 1, "lr_step": 1, "epochs": 3}
            base_fresh = _fresh(NAMES[-1], **base)
        assert not same(_fit(NAMES[-1], **{**base, parameter: value}), base_fresh), value


@pytest.mark.parametrize("name", ALL)
def test_a_search_builds_once(name):
    programs.clear()
    before = programs.stats()
    grid = {
        "learning_rate": [0.01, 0.1],
        "batch_size": [8, 16],
        "class_weight": [None, "balanced"],
    }
    GridSearchCV(make(name, epochs=1), grid, cv=2, error_score="raise").fit(X, y)
    after = programs.stats()
    assert after["builds"] - before["builds"] == 1
    assert after["borrowed"] - before["borrowed"] == 2 * 16 + 1
    assert after["traces"] - before["traces"] <= 3
    assert after["idle"] == 1


@pytest.mark.parametrize("name", ALL)
def test_later_fits_trace_nothing(name):
    def fit(n, batch_size, **given):
        make(name, batch_size=batch_size).fit(X[:n], y[:n], **given).predict(X[:n])

    fit(48, 16)
    before = programs.stats()["traces"]
    for n, batch_size in ((48, 16), (47, 16), (30, 7), (25, 48), (48, 1)):
        fit(n, batch_size)
    fit(30, 16, sample_weight=np.linspace(1, 2, 30), X_val=X[30:], y_val=y[30:])
    assert programs.stats()["traces"] == before


@pytest.mark.parametrize("name", EVERY)
def test_batches_that_are_watched_trace_no_more_each_time(name):
    def fit(n):
        make(name, callbacks=[WatchesBatches()]).fit(X[:n], y[:n])

    for n in (48, 47, 30):
        fit(n)
    before = programs.stats()["traces"]
    for n in (48, 41, 35, 20):
        fit(n)
    assert programs.stats()["traces"] == before


def test_idle_programs_are_bounded(monkeypatch):
    monkeypatch.setattr(programs, "MAX_PROGRAMS", 4)
    programs.clear()
    fits = {units: make("MLPClassifier", units=units, epochs=1).fit(X, y) for units in range(1, 5)}
    assert programs.stats()["idle"] == 4
    fits[1].predict(X)
    kept = weakref.ref(programs._idle[fits[1]._spec][0])
    gone = weakref.ref(programs._idle[fits[2]._spec][0])
    make("MLPClassifier", units=5, epochs=1).fit(X, y)
    assert programs.stats()["idle"] == 2  # 5 and 1, used last
    assert kept() is not None
    assert gone() is None  # not only out of the cache: its memory is free
    builds = programs.stats()["builds"]
    fits[1].predict(X)
    assert programs.stats()["builds"] == builds
    fits[2].predict(X)
    assert programs.stats()["builds"] == builds + 1


def test_fitted_estimators_outlive_the_cache():
    estimator = make("CNNClassifier").fit(X, y)
    proba = estimator.predict_proba(X)
    programs.clear()
    assert programs.stats()["idle"] == 0
    np.testing.assert_array_equal(estimator.predict_proba(X), proba)


@pytest.mark.parametrize("name", ALL)
def test_threads(name):
    seeds = [0, 1, 2, 3]
    alone = [make(name, random_state=seed).fit(X, y) for seed in seeds]
    together = [make(name, random_state=seed) for seed in seeds]
    start = threading.Barrier(len(seeds))

    def fit(estimator):
        start.wait()
        estimator.proba = estimator.fit(X, y).predict_proba(X)

    threads = [threading.Thread(target=fit, args=(one,)) for one in together]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    for one, other in zip(alone, together, strict=True):
        assert same(one, other)
        np.testing.assert_array_equal(one.predict_proba(X), other.proba)


class Predicts(keras.callbacks.Callback):
    """Predicts with another estimator of the same network while one trains."""

    def __init__(self, other):
        super().__init__()
        self.other = other
        self.seen = []

    def on_epoch_end(self, epoch, logs=None):
        self.seen.append(self.other.predict_proba(X))


@pytest.mark.parametrize("name", ALL)
def test_predicting_in_mid_fit_disturbs_nothing(name):
    other = make(name, random_state=7).fit(X, y)
    expected = other.predict_proba(X)
    alone = make(name).fit(X, y)
    callback = Predicts(other)
    assert same(make(name, callbacks=[callback]).fit(X, y), alone)
    for seen in callback.seen:
        np.testing.assert_array_equal(seen, expected)


def _weights(seed):
    return make("CNNClassifier", random_state=seed).fit(X, y).weights_


@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_workers(backend):
    threads = {"inner_max_num_threads": os.cpu_count()} if backend == "loky" else {}
    with parallel_config(backend, **threads):
        results = Parallel(n_jobs=2)(delayed(_weights)(seed) for seed in (0, 1, 0))
    assert same(results[0], _weights(0))
    assert same(results[1], _weights(1))
    assert same(results[0], results[2])


def test_spawned_workers():
    import multiprocessing

    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert same(pool.apply(_weights, (0,)), _weights(0))


def test_a_forked_child_says_what_to_do_instead():
    code = """
import os
from helpers import data, make
estimator = make("MLPClassifier", epochs=1).fit(*data())
if os.fork() == 0:
    try:
        estimator.predict(data()[0])
    except RuntimeError as error:
        print(error, flush=True)
    os._exit(0)
os.wait()
"""
    assert "loky" in run(code)


MEMORY = """
import json, time, psutil
from helpers import data, make
X, y = data(32)
sizes, seconds = [], []
for number in range({fits}):
    start = time.perf_counter()
    estimator = make({name!r}, epochs=1, learning_rate=0.001 * (number + 1), random_state=number)
    estimator.fit(X, y).predict(X)
    seconds.append(time.perf_counter() - start)
    sizes.append(psutil.Process().memory_info().rss / 2**20)
print(json.dumps([sizes, seconds]))
"""


def _watch_fits(name, fits):
    sizes, seconds = json.loads(run(MEMORY.format(fits=fits, name=name)).splitlines()[-1])
    grown, later = sizes[-1] - sizes[4], statistics.median(seconds[1:])
    print(f"{name}: {fits} fits, RSS +{grown:.1f} MB, first {seconds[0]:.2f} s, then {later:.3f} s")
    assert grown < 20
    assert later < 0.5 * seconds[0]


def test_forty_fits_in_flat_memory():
    _watch_fits("CNNClassifier", 40)


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_a_hundred_fits_in_flat_memory(name):
    _watch_fits(name, 100)
