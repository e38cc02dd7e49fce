"""Compiled programs under threads, worker processes and callbacks that predict."""

import os
import threading

import keras
import numpy as np
import pytest
from helpers import ENGINE, ONE, data, make, same
from joblib import Parallel, delayed, parallel_config

X, y = data()


@pytest.mark.parametrize("name", ONE)
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


@pytest.mark.parametrize("name", ENGINE)
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
