"""Training: early stopping, weights of classes and samples, validation, callbacks, precision."""

import keras
import numpy as np
import pytest
from helpers import ENGINE, ENGINE_EVERY, ONE, build, data, make, run, same
from scipy.special import log_softmax

from kmedclf.training.schedules import EarlyStopping, Schedule

X, y = data(96)
X_val, y_val = X[64:], y[64:]
X, y = X[:64], y[:64]

every_estimator = pytest.mark.parametrize("name", ENGINE)


def _stops_after(values, **changes):
    """Feed a curve to early stopping: (epoch of the stop or None, best epoch)."""
    options = {
        "epochs": len(values), "batch_size": 1, "learning_rate": None, "early_stopping": True,
        "monitor": "accuracy", "n_iter_no_change": 2, "min_epochs": 1, "tol": 0.0,
        "tol_mode": "absolute", "restore_best": True,
    }  # fmt: skip
    watch = EarlyStopping(Schedule(**{**options, **changes}))
    for epoch, value in enumerate(values, 1):
        watch.update(epoch, {"val_accuracy": value, "val_loss": value})
        if watch.exhausted(epoch):
            return epoch, watch.best_epoch
    return None, watch.best_epoch


PREVIOUS = {"stop_against": "previous", "n_iter_no_change": 1}


@pytest.mark.parametrize(
    ("values", "options", "expected"),
    [
        ([0.5, 0.6, 0.7, 0.8], {}, (None, 4)),
        ([0.5, 0.7, 0.6, 0.6, 0.9], {}, (4, 2)),
        ([0.5, 0.7, 0.7, 0.7, 0.9], {}, (4, 2)),  # no change is no improvement
        ([0.5, 0.7, 0.6, 0.6, 0.9], {"n_iter_no_change": 3}, (None, 5)),
        ([0.5, 0.7, 0.6, 0.6, 0.6, 0.9], {"min_epochs": 5}, (5, 2)),
        ([0.5, 0.4, 0.4], {"min_epochs": 99}, (3, 1)),  # min_epochs counts at most as epochs
        ([3.0, 2.0, 2.5, 2.5, 1.0], {"monitor": "loss"}, (4, 2)),
        ([0.50, 0.55, 0.60, 0.65], {"tol": 0.08}, (None, 4)),  # small steps add up
        ([0.50, 0.52, 0.54, 0.90], {"tol": 0.1}, (3, 3)),  # the best is the best by any margin
        ([10.0, 9.5, 9.2, 1.0], {"monitor": "loss", "tol": 0.1, "tol_mode": "relative"}, (3, 3)),
        ([10.0, 9.5, 8.9, 8.5], {"monitor": "loss", "tol": 0.1, "tol_mode": "relative"}, (None, 4)),
        ([0.5, 0.6, np.nan, np.nan, 0.9], {}, (4, 2)),
        ([np.nan, 0.5, 0.6, 0.7], {}, (None, 4)),
        ([np.nan, np.nan, np.nan, 1.0], {}, (2, 1)),
        ([0.5, 0.5, 0.6, 0.59, 0.9], {**PREVIOUS, "tol": 0.02}, (None, 5)),  # a small fall
        ([0.5, 0.5, 0.6, 0.59, 0.9], PREVIOUS, (4, 3)),  # no change is no fall
        ([0.9, 0.5, 0.6, 0.7, 0.6], PREVIOUS, (2, 1)),
        ([0.9, 0.5, 0.6, 0.5, 0.4], {**PREVIOUS, "n_iter_no_change": 2}, (5, 1)),  # two in a row
        ([0.9, 0.5, 0.6, 0.5, 0.4], {**PREVIOUS, "min_epochs": 3}, (4, 1)),
        ([3.0, 2.0, 2.5, 1.0], {**PREVIOUS, "monitor": "loss"}, (3, 2)),
        (
            [3.0, 2.0, 2.1, 1.0],
            {**PREVIOUS, "monitor": "loss", "tol": 0.1, "tol_mode": "relative"},
            (None, 4),
        ),
        ([0.5, np.nan, 0.6], PREVIOUS, (2, 1)),
    ],
)
def test_early_stopping(values, options, expected):
    assert _stops_after(values, **options) == expected


@every_estimator
@pytest.mark.parametrize("monitor", ["accuracy", "loss"])
def test_the_best_epoch_is_restored(name, monitor):
    options = {"epochs": 6, "early_stopping": True, "monitor": monitor, "learning_rate": 0.05}
    held = {"X_val": X_val, "y_val": y_val}
    best = make(name, **options).fit(X, y, **held)
    curve = np.array(best.history_[f"val_{monitor}"])
    found = curve.argmax() if monitor == "accuracy" else curve.argmin()
    assert best.best_epoch_ == found + 1
    assert best.score(X_val, y_val) == pytest.approx(best.history_["val_accuracy"][found])
    # Of the logits: scikit-learn's log_loss takes no probability to be less than 1e-7.
    loss = -log_softmax(best.decision_function(X_val), axis=1)[np.arange(len(y_val)), y_val].mean()
    assert loss == pytest.approx(best.history_["val_loss"][found], rel=1e-4)

    last = make(name, **options, restore_best=False).fit(X, y, **held)
    assert last.history_ == best.history_
    assert last.best_epoch_ == best.best_epoch_
    assert last.score(X_val, y_val) == pytest.approx(best.history_["val_accuracy"][-1])


def test_stops_and_counts():
    options = {"early_stopping": True, "n_iter_no_change": 3, "min_epochs": 1, "tol": 1.0}
    estimator = make("MLPClassifier", epochs=50, **options).fit(X, y, X_val=X_val, y_val=y_val)
    assert {len(values) for values in estimator.history_.values()} == {4}
    options["min_epochs"] = 7
    estimator = make("MLPClassifier", epochs=50, **options).fit(X, y, X_val=X_val, y_val=y_val)
    assert set(estimator.history_) == {"loss", "accuracy", "val_loss", "val_accuracy"}
    assert {len(values) for values in estimator.history_.values()} == {7}


@every_estimator
def test_validation_data_are_watched_only(name):
    alone = make(name).fit(X, y)
    watched = make(name).fit(X, y, X_val=X_val, y_val=y_val)
    other = make(name).fit(X, y, X_val=X_val[:9], y_val=y_val[::-1][:9])
    assert same(alone, watched)
    assert same(alone, other)
    assert watched.history_["loss"] == alone.history_["loss"]
    assert watched.history_["val_loss"] != other.history_["val_loss"]
    assert watched.best_epoch_ <= alone.best_epoch_ == 2


def _marked(n, classes=4):
    """Images that carry their own number, 0 to 255, in every pixel."""
    return np.repeat(np.arange(n, dtype=np.uint8), 64).reshape(n, 8, 8, 1), np.arange(n) % classes


def _split_of(groups=None, **options):
    from kmedclf import base

    images, labels = _marked(200)
    options = {"early_stopping": True, "validation_fraction": 0.2, **options}
    estimator = make("MLPClassifier", **options)
    given = base.FitData(images, labels, groups=groups)
    task = estimator._training_task(estimator._make_schedule(), given, None, keep_optimizer=False)
    return task.rows, task.validation_rows


def test_the_inner_split_is_stratified():
    rows, held = _split_of()
    assert set(rows.index).isdisjoint(held.index)
    assert set(rows.index) | set(held.index) == set(range(200))
    np.testing.assert_array_equal(np.bincount(held.y), [10, 10, 10, 10])
    np.testing.assert_array_equal(held.y, held.index % 4)
    assert set(_split_of(random_state=1)[1].index) != set(held.index)


def test_the_inner_split_keeps_groups_together():
    groups = np.arange(200) // 4
    rows, held = _split_of(groups=groups)
    assert set(groups[rows.index]).isdisjoint(groups[held.index])
    np.testing.assert_array_equal(np.bincount(held.y), [10, 10, 10, 10])


def test_class_weights_come_from_the_rows_trained_on():
    rows, held = _split_of(groups=np.arange(200) // 4, class_weight="balanced")
    count = np.bincount(rows.y)
    np.testing.assert_allclose(rows.weight, (len(rows) / (4 * count))[rows.y], rtol=1e-6)
    np.testing.assert_allclose(held.weight, (len(rows) / (4 * count))[held.y], rtol=1e-6)


def _fit_weighted(class_weight, labels=y, **options):
    options = {"epochs": 1, "batch_size": 64, **options}
    return make("MLPClassifier", class_weight=class_weight, **options).fit(X, labels)


def test_class_weight_values():
    count = np.bincount(y)
    inverse = 1 / count / (1 / count).sum()
    assert inverse.sum() == pytest.approx(1)
    for word, weights in (("balanced", len(y) / (3 * count)), ("inverse", inverse)):
        as_dict = _fit_weighted(dict(enumerate(weights)))
        for one, other in zip(_fit_weighted(word).weights_, as_dict.weights_, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)
    words = np.array(["a", "b", "c"])[y]
    assert same(_fit_weighted({"b": 5.0}, words), _fit_weighted({1: 5.0}))
    assert not same(_fit_weighted({1: 5.0}), _fit_weighted(None))
    assert same(_fit_weighted({0: 1.0}), _fit_weighted(None))


@every_estimator
def test_class_weight_is_a_sample_weight(name):
    weights = np.array([0.5, 1.5, 3.25])
    by_class = make(name, class_weight=dict(enumerate(weights))).fit(X, y)
    by_sample = make(name).fit(X, y, sample_weight=weights[y])
    both = make(name, class_weight={2: 2.0}).fit(X, y, np.array([0.5, 1.5, 1.625])[y])
    assert same(by_class, by_sample)
    assert same(by_class, both)


@every_estimator
def test_whole_weights_repeat_and_zeros_remove(name):
    weight = np.random.default_rng(0).integers(0, 4, len(X))
    weighted = make(name).fit(X, y, sample_weight=weight)
    repeated = make(name).fit(np.repeat(X, weight, axis=0), np.repeat(y, weight))
    assert same(weighted, repeated)
    assert weighted.history_ == repeated.history_
    weight = np.where(weight > 0, weight + 0.5, 0)
    weighted = make(name).fit(X, y, sample_weight=weight)
    removed = make(name).fit(X[weight > 0], y[weight > 0], sample_weight=weight[weight > 0])
    assert same(weighted, removed)


def test_weights_of_a_class_that_is_removed():
    estimator = make("MLPClassifier").fit(X, y, sample_weight=(y != 2))
    np.testing.assert_array_equal(estimator.classes_, [0, 1])


def test_validation_weights():
    weight = np.linspace(0.1, 3, len(y_val))
    held = {"X_val": X_val, "y_val": y_val, "sample_weight_val": weight}
    estimator = make("MLPClassifier", epochs=1).fit(X, y, **held)
    own = -np.log(estimator.predict_proba(X_val)[np.arange(len(y_val)), y_val])
    assert estimator.history_["val_loss"][-1] == pytest.approx(np.mean(own * weight), rel=1e-4)
    assert estimator.history_["val_accuracy"][-1] == estimator.score(X_val, y_val)


def test_the_callers_arrays_are_left_alone():
    arrays = [X.copy(), y.copy(), np.linspace(0, 2, len(X)), X_val.copy(), y_val.copy()]
    before = [array.copy() for array in arrays]
    make("CNNClassifier", class_weight="balanced", augment=True).fit(
        *arrays[:3], X_val=arrays[3], y_val=arrays[4]
    )
    assert all(map(np.array_equal, arrays, before))


@pytest.mark.parametrize("name", ENGINE_EVERY)
def test_learns(name):
    # Which half is bright: hard to miss, for a network of any kind that trains at all.
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 100, (200, 8, 8, 1), np.uint8), np.arange(200) % 2
    images[labels == 1] += 100
    fit = make(name, epochs=25, learning_rate=0.02).fit(images[:120], labels[:120])
    assert fit.score(images[120:], labels[120:]) > 0.9
    assert fit.history_["loss"][-1] < fit.history_["loss"][0]


@pytest.mark.parametrize(
    ("name", "precision"),
    [
        *(pytest.param(*one.values, "mixed", marks=one.marks) for one in ENGINE_EVERY),
        *(
            pytest.param(*one.values, precision, marks=one.marks)
            for one in ONE
            for precision in ("mixed_bfloat16", "mixed_float16")
        ),
    ],
)
def test_low_precision_trains(name, precision):
    low, high = (make(name, precision=one, epochs=3).fit(X, y) for one in (precision, "float32"))
    proba = low.predict_proba(X)
    np.testing.assert_allclose(proba.sum(axis=1), 1, atol=1e-6)
    # In float16 these leave out first steps, until the scale of their loss is found.
    if precision != "mixed_float16" or name not in ("DeepResNetClassifier", "ViTClassifier"):
        np.testing.assert_allclose(proba, high.predict_proba(X), atol=0.15)
    high.weights_ = low.weights_
    np.testing.assert_allclose(proba, high.predict_proba(X), atol=0.05)
    assert np.isfinite(low.history_["loss"]).all()
    head = low.model_.layers[-2]
    assert (head.name, head.compute_dtype) == ("logits", "float32")


@pytest.mark.parametrize("name", ONE)  # dropout draws other numbers under XLA
def test_xla_computes_the_same(name):
    if any(isinstance(layer, keras.layers.Dropout) for layer in build(name).layers):
        pytest.skip("drops out")
    on, off = (make(name, jit_compile=jit).fit(X, y) for jit in (True, False))
    np.testing.assert_allclose(on.predict_proba(X), off.predict_proba(X), atol=2e-3)


@pytest.mark.parametrize("shape", [(64, 8, 8, 3), (64, 192)])
@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
def test_memory_maps(shape, dtype, tmp_path):
    array = X.astype(dtype).reshape(shape) / (1 if dtype == "uint8" else 255)
    np.save(tmp_path / "X.npy", array.astype(dtype))
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    options = {"image_shape": (8, 8, 3), "early_stopping": True, "validation_fraction": 0.2}
    one, other = (make("CNNClassifier", **options).fit(mapped, y) for _ in range(2))
    assert same(one, other)
    held_in_memory = make("CNNClassifier", **options).fit(array.astype(dtype), y)
    for fitted in (one, held_in_memory):
        np.testing.assert_allclose(
            fitted.predict_proba(mapped), fitted.predict_proba(array.astype(dtype)), atol=1e-6
        )


def test_memory_maps_are_not_loaded(tmp_path):
    big = np.lib.format.open_memmap(tmp_path / "X.npy", "w+", "uint8", (3600, 160, 160, 3))
    big[::20] = 100
    big.flush()
    code = f"""
import numpy as np, psutil
from helpers import make
X = np.load({str(tmp_path / "X.npy")!r}, mmap_mode="r")
y = np.arange(len(X)) % 2
estimator = make("MLPClassifier", units=4, epochs=1, batch_size=8)

def held():  # pages of the file itself are the kernel's to drop
    memory = psutil.Process().memory_info()
    return (memory.rss - memory.shared) / 2**20

# The C library keeps some of what its threads once had, so few images are read several times
# before; how much that is does not depend on their number.
for _ in range(3):
    estimator.fit(X[:256], y[:256]).predict(X[:256])
before = held()
estimator.fit(X, y).predict(X)
print(held() - before)
"""
    grown = float(run(code).split()[-1])
    size = big.nbytes / 2**20
    print(f"{size:.0f} MB on disk, memory grew by {grown:.0f} MB")
    assert grown < size / 4


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_the_fused_step_is_that_of_keras(name):
    import tensorflow as tf

    from kmedclf.training import optimizers
    from kmedclf.training.network import Spec

    spec = Spec(type(make("MLPClassifier")), (), (8, 8, 3), 1.0, 3, name, "float32", "auto")
    ours, theirs = optimizers.make(spec), keras.optimizers.get(name)
    generator = np.random.default_rng(0)
    start = generator.normal(size=(5, 3)).astype(np.float32)
    variables = [keras.Variable(start), keras.Variable(start)]
    for _ in range(20):
        gradient = tf.constant(generator.normal(size=(5, 3)).astype(np.float32))
        for optimizer, variable in zip((ours, theirs), variables, strict=True):
            optimizer.apply([gradient], [variable])
    np.testing.assert_allclose(variables[0], variables[1], rtol=1e-6, atol=1e-7)
