"""The cache of compiled programs: little is ever built twice, and memory stays flat."""

import json
import re
import statistics
import weakref

import keras
import numpy as np
import pytest
from helpers import ENGINE, ENGINE_EVERY, data, make, run, same
from sklearn.model_selection import GridSearchCV

from kmedclf.training import batches, cache, program

X, y = data()


class WatchesBatches(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        self.model.optimizer.learning_rate = 0.25


@pytest.mark.parametrize("name", ENGINE)
def test_a_search_builds_once(name):
    cache.clear()
    before = cache.stats()
    grid = {
        "learning_rate": [0.01, 0.1],
        "batch_size": [8, 16],
        "class_weight": [None, "balanced"],
    }
    GridSearchCV(make(name, epochs=1), grid, cv=2, error_score="raise").fit(X, y)
    after = cache.stats()
    assert after["builds"] - before["builds"] == 1
    assert after["borrowed"] - before["borrowed"] == 2 * 16 + 1
    assert after["traces"] - before["traces"] <= 3
    assert after["idle"] == 1


@pytest.mark.parametrize("name", ENGINE)
def test_later_fits_trace_nothing(name):
    def fit(n, batch_size, **given):
        make(name, batch_size=batch_size).fit(X[:n], y[:n], **given).predict(X[:n])

    fit(48, 16)
    before = cache.stats()["traces"]
    for n, batch_size in ((48, 16), (47, 16), (30, 7), (25, 48), (48, 1)):
        fit(n, batch_size)
    fit(30, 16, sample_weight=np.linspace(1, 2, 30), X_val=X[30:], y_val=y[30:])
    assert cache.stats()["traces"] == before


@pytest.mark.parametrize("name", ENGINE_EVERY)
def test_batches_that_are_watched_trace_no_more_each_time(name):
    def fit(n):
        make(name, callbacks=[WatchesBatches()]).fit(X[:n], y[:n])

    for n in (48, 47, 30):
        fit(n)
    before = cache.stats()["traces"]
    for n in (48, 41, 35, 20):
        fit(n)
    assert cache.stats()["traces"] == before


def test_idle_programs_are_bounded(monkeypatch):
    monkeypatch.setattr(cache, "MAX_PROGRAMS", 4)
    cache.clear()
    fits = {units: make("MLPClassifier", units=units, epochs=1).fit(X, y) for units in range(1, 5)}
    assert cache.stats()["idle"] == 4
    fits[1].predict(X)
    kept = weakref.ref(cache._idle[fits[1]._spec][0])
    gone = weakref.ref(cache._idle[fits[2]._spec][0])
    make("MLPClassifier", units=5, epochs=1).fit(X, y)
    assert cache.stats()["idle"] == 2  # 5 and 1, used last
    assert kept() is not None
    assert gone() is None  # not only out of the cache: its memory is free
    builds = cache.stats()["builds"]
    fits[1].predict(X)
    assert cache.stats()["builds"] == builds
    fits[2].predict(X)
    assert cache.stats()["builds"] == builds + 1


def test_idle_programs_are_bounded_in_bytes(monkeypatch):
    monkeypatch.setattr(cache, "MAX_BYTES", 100_000)
    cache.clear()
    small = [make("MLPClassifier", units=units, epochs=1).fit(X, y) for units in (1, 2)]
    assert cache.stats()["idle"] == 2
    large = make("MLPClassifier", units=1000, epochs=1).fit(X, y)
    assert cache.stats()["idle"] == 1  # the one just used, whatever its size
    kept = weakref.ref(cache._idle[large._spec][0])
    builds = cache.stats()["builds"]
    large.predict(X)
    assert cache.stats()["builds"] == builds
    small[0].predict(X)
    assert kept() is None  # gone before the other was built
    assert cache.stats()["idle"] == 1


SYSTEM = {"TF_ONEDNN_USE_SYSTEM_ALLOCATOR": "1"}
"""Otherwise TensorFlow keeps what it once had, and what is in use cannot be seen."""

TOO_LARGE = """
import json, pathlib, warnings
import numpy as np
from sklearn.model_selection import GridSearchCV
from helpers import data, make
from kmedclf.training import devices
X, y = data()
devices.MEMINFO = pathlib.Path({path!r})
try:
    make("MLPClassifier", units=1000, optimizer="adam").fit(X, y)
except MemoryError as error:
    message = str(error)
warnings.simplefilter("ignore")
grid = GridSearchCV(make("MLPClassifier", optimizer="adam"), {{"units": [4, 1000]}}, cv=2)
scores = grid.fit(X, y).cv_results_["mean_test_score"]
print(json.dumps([message, np.isnan(scores).tolist()]))
"""


@pytest.mark.slow
def test_what_does_not_fit_into_memory_fails_in_time_and_a_search_goes_on(tmp_path):
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 9000 kB\nMemAvailable: 900 kB\nSwapFree: 100 kB\n")
    printed = run(TOO_LARGE.format(path=str(meminfo)), **SYSTEM)
    message, failed = json.loads(printed.splitlines()[-1])
    assert re.search("must have fewer .* takes 0.0031 GB more at least. Got 0.001 GB", message)
    assert failed == [False, True]


FORGOTTEN = """
import gc, json, psutil
from helpers import data, make
from kmedclf.training import cache
X, y = data(600)
sizes = []
for optimizer in ("sgd", "adam") * 2:  # 46 MB of weights, slots besides
    made = make("MLPClassifier", units=60_000, epochs=1, batch_size=600, optimizer=optimizer)
    made.fit(X, y)
    del made
    cache.clear()
    gc.collect()
    sizes.append(psutil.Process().memory_info().rss / 2**20)
print(json.dumps(sizes))
"""


@pytest.mark.slow
def test_forgotten_programs_leave_nothing_behind():
    sizes = json.loads(run(FORGOTTEN, **SYSTEM).splitlines()[-1])
    assert max(sizes) - min(sizes) < 40


@pytest.mark.parametrize("on_disk", [False, True])
def test_networks_share_the_graph_that_reads_images(on_disk, tmp_path, monkeypatch):
    monkeypatch.setattr(batches, "MAX_GRAPHS", 2)
    images = X
    if on_disk:
        np.save(tmp_path / "X.npy", X)
        images = np.load(tmp_path / "X.npy", mmap_mode="r")
    cache.clear()
    before = cache.stats()["feeds"]
    for units in (3, 4):
        make("MLPClassifier", units=units, epochs=1).fit(images, y)
    make("CNNClassifier", epochs=1, mixup=0.1).fit(images, y)
    make("CNNClassifier", epochs=1, mixup=0.2).fit(images[:20], y[:20])
    assert cache.stats()["feeds"] == before + 2  # with mixing, and without
    for augment in ("flip_rotate", "dihedral", "shift"):
        make("MLPClassifier", epochs=1, augment=augment).fit(images, y)
    if on_disk:
        assert len(batches.Feed._idle[0]._graphs) == 2
    else:
        assert batches._gather.cache_info().currsize == 4  # flips and turns were there
    cache.clear()
    assert batches.Feed._idle == []
    assert batches._gather.cache_info().currsize == 0


def test_a_program_keeps_few_graphs_of_many_augmentations(monkeypatch):
    monkeypatch.setattr(program, "MAX_GRAPHS", 3)
    cache.clear()
    turns = [keras.layers.RandomRotation(share / 10) for share in range(1, 6)]
    first, *_ = [make("MLPClassifier", epochs=1, augment=one).fit(X, y) for one in turns]
    with cache.borrow(first._spec) as compiled:
        assert len(compiled._graphs) == 3
    assert same(first, make("MLPClassifier", epochs=1, augment=turns[0]).fit(X, y))


def test_fitted_estimators_outlive_the_cache():
    estimator = make("CNNClassifier").fit(X, y)
    proba = estimator.predict_proba(X)
    cache.clear()
    assert cache.stats()["idle"] == 0
    np.testing.assert_array_equal(estimator.predict_proba(X), proba)


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


FOLDS = """
import json, psutil
from helpers import data, make
X, y = data(600)
grown = []
for filters in (16, 32, 48, 64):
    estimator = make("CNNClassifier", epochs=1, filters=filters, kernel_size=5, augment=True)
    for fold in range(3):
        before = psutil.Process().memory_info().rss
        estimator.fit(X[: 400 + fold], y[: 400 + fold]).score(X[400 + fold :], y[400 + fold :])
        grown.append((psutil.Process().memory_info().rss - before) / 2**20)
print(json.dumps(grown))
"""


@pytest.mark.slow
def test_further_folds_of_a_candidate_grow_no_memory():
    grown = np.reshape(json.loads(run(FOLDS).splitlines()[-1]), (4, 3))
    assert grown[1:, 1:].mean() < 0.5  # the first network's also start TensorFlow's threads


@pytest.mark.slow  # a plain network, one with statistics, and one with attention
@pytest.mark.parametrize("name", ["CNNClassifier", "DeepResNetClassifier", "ViTClassifier"])
def test_a_hundred_fits_in_flat_memory(name):
    _watch_fits(name, 100)
