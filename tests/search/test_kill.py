"""Searches killed at random moments and started again: they end as if nothing had happened."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from helpers import data, make
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV, RandomizedSearchCV

from kmedclf.search import Range, StagedSearchCV, TunerSearchCV

X, Y = data()
GRID = {"batch_size": [8, 16, 24], "class_weight": [None, "inverse"]}
SPACE = {"batch_size": Range(4, 40, "int"), "learning_rate": Range(1e-3, 0.1, scale="log")}
STAGES = [{"batch_size": [8, 16, 24]}, {"class_weight": [None, "inverse"], "tol": [0.0, 0.1]}]
FOLDS = {"cv": 2, "refit": False}
TUNED = {**FOLDS, "random_state": 0}
ENGINES = {
    "grid": lambda net: GridSearchCV(net, GRID, **FOLDS),
    "randomized": lambda net: RandomizedSearchCV(net, SPACE, n_iter=6, **TUNED),
    "halving": lambda net: HalvingGridSearchCV(
        net, GRID, resource="epochs", max_resources=4, **TUNED
    ),
    "staged": lambda net: StagedSearchCV(net, STAGES, **FOLDS),
    "staged, two jobs": lambda net: StagedSearchCV(net, STAGES, n_jobs=2, **FOLDS),
    "staged halving": lambda net: StagedSearchCV(net, STAGES, search="halving", **FOLDS),
    "random": lambda net: TunerSearchCV(net, SPACE, max_trials=6, **TUNED),
    "bayesian": lambda net: TunerSearchCV(net, SPACE, tuner="bayesian", max_trials=6, **TUNED),
    "hyperband": lambda net: TunerSearchCV(net, SPACE, tuner="hyperband", **TUNED),
    "grid of trials": lambda net: TunerSearchCV(net, GRID, tuner="grid", **TUNED),
}


def search(engine, folder):
    net = make("MLPClassifier", epochs=4, augment=False, jit_compile=False, memory=str(folder))
    return ENGINES[engine](net).fit(X, Y)


def entries(folder):
    """Give the times when fits were remembered."""
    return sorted(
        path.stat().st_mtime for path in Path(folder).glob("kmedclf-fits-v1/*.kmedclf-fit")
    )


def killed(engine, folder, after, delay):
    """Search in a process of its own; kill it some time after it has remembered so many fits."""
    code = "import sys, tests.search.test_kill as here; here.search(*sys.argv[1:])"
    tests = Path(__file__).parents[1]
    paths = [str(tests), str(tests.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", code, engine, folder],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        start_new_session=True,  # its workers are killed with it
    )
    deadline = time.monotonic() + 120
    while len(entries(folder)) < after:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.001)
    time.sleep(delay)
    os.killpg(process.pid, signal.SIGKILL)
    return process.wait()


def check(engine, folder, kills):
    dice = random.Random(engine)
    whole = search(engine, folder / "undisturbed")
    times = entries(folder / "undisturbed")
    for after in sorted(dice.sample(range(1, len(times) - 2), kills)):
        delay = dice.uniform(0, np.median(np.diff(times)))  # somewhere within the next fit
        assert killed(engine, folder / "killed", after, delay) == -signal.SIGKILL
    resumed = search(engine, folder / "killed")
    assert len(entries(folder / "killed")) == len(times)
    assert set(resumed.cv_results_) == set(whole.cv_results_)
    for name, column in whole.cv_results_.items():
        if not name.endswith("_time"):
            np.testing.assert_array_equal(resumed.cv_results_[name], column, err_msg=name)
    assert resumed.best_params_ == whole.best_params_
    np.testing.assert_equal(getattr(resumed, "curves_", 0), getattr(whole, "curves_", 0))


@pytest.mark.parametrize(
    "engine",
    ["staged", *(pytest.param(one, marks=pytest.mark.slow) for one in ("grid", "hyperband"))],
)
def test_a_killed_search_goes_on(engine, tmp_path):
    check(engine, tmp_path, kills=1)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_a_search_killed_five_times_goes_on(engine, tmp_path):
    check(engine, tmp_path, kills=5)
