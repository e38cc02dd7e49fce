"""Searches in several processes: the same results, and what every process gets for itself."""

import os
import time
from itertools import chain

import joblib
import numpy as np
import pytest
from searching import FLAT, X_VAL, Y_VAL, Probe, X, Y, mlp, scores

from kmedclf.search import Range, StagedSearchCV, TunerSearchCV
from kmedclf.training import devices


def test_workers_do_not_change_the_result(as_many_threads):
    stages = [{"units": [4, 8]}, {"batch_size": [16, 32]}]
    fits = {"X_val": X_VAL, "y_val": Y_VAL}
    alone = StagedSearchCV(mlp(), stages).fit(X, Y, **fits)
    together = StagedSearchCV(mlp(), stages, n_jobs=2).fit(X, Y, **fits)
    np.testing.assert_array_equal(scores(alone.cv_results_), scores(together.cv_results_))
    assert alone.best_params_ == together.best_params_
    for one, other in zip(chain(*alone.curves_), chain(*together.curves_), strict=True):
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])


@pytest.mark.slow
def test_workers_with_fewer_threads_differ_by_rounding():
    alone, together = (
        StagedSearchCV(mlp(), [{"units": [4, 8]}], n_jobs=n_jobs).fit(X, Y) for n_jobs in (1, 2)
    )
    for one, other in zip(chain(*alone.curves_), chain(*together.curves_), strict=True):
        np.testing.assert_allclose(one["loss"], other["loss"], rtol=1e-4)


def _process(estimator, X, y):
    time.sleep(0.1)  # or one worker would do it all
    return os.getpid()


def test_all_folds_of_a_candidate_go_to_one_worker_which_builds_it_once(as_many_threads):
    stages = [{"a": list(range(8))}]
    search = StagedSearchCV(Probe(), stages, scoring=_process, n_jobs=2, refit=False)
    found = scores(search.fit(FLAT, Y).cv_results_)
    assert (found == found[:1]).all()
    assert len(np.unique(found)) == 2


@pytest.mark.parametrize("tuner", ["hyperband", pytest.param("bayesian", marks=pytest.mark.slow)])
def test_workers_do_not_change_the_trials(tuner, as_many_threads):
    space = {"batch_size": Range(8, 40, "int"), "learning_rate": Range(1e-3, 0.1, scale="log")}
    most = None if tuner == "hyperband" else 5
    search = TunerSearchCV(mlp(), space, tuner=tuner, max_trials=most, random_state=0, refit=False)
    alone = search.fit(X, Y).cv_results_
    together = search.set_params(n_jobs=2).fit(X, Y).cv_results_
    assert alone["params"] == together["params"]
    np.testing.assert_array_equal(scores(alone), scores(together))


@pytest.mark.slow
def test_each_worker_has_a_gpu_of_its_own(monkeypatch):
    parallel = joblib.Parallel(n_jobs=2)
    numbers = set(parallel(joblib.delayed(_number_after)(0.2) for _ in range(8)))
    assert len(numbers) == 2
    assert len({devices.gpu_of(number, 4) for number in numbers}) == 2
    assert devices.worker_number() is None
    assert [devices.gpu_of(number, 2) for number in range(4)] == [0, 1, 0, 1]
    monkeypatch.setenv("KMEDCLF_GPU_IDS", "1, 3")
    assert [devices.gpu_of(number, 4) for number in range(4)] == [1, 3, 1, 3]


@pytest.mark.parametrize("wanted", ["4", "0,-1", "first", "0,,1"])
def test_gpus_that_are_not_there(monkeypatch, wanted):
    monkeypatch.setenv("KMEDCLF_GPU_IDS", wanted)
    with pytest.raises(ValueError, match=f"numbers of GPUs below 4.* Got {wanted!r}"):
        devices.gpu_of(0, 4)


def _number_after(seconds):
    time.sleep(seconds)  # or one worker would do it all
    return devices.worker_number()
