"""The same random_state gives the same weights, bit for bit, whatever happened before."""

import functools
import hashlib
import json
import random

import keras
import numpy as np
import pytest
from helpers import ALL, ENGINE, beside, data, make, run, same
from sklearn.model_selection import cross_validate

from kmedclf import ImageClassifier
from kmedclf.training import cache

X, y = data()

every_estimator = pytest.mark.parametrize("name", ALL)
engine = pytest.mark.parametrize("name", ENGINE)  # what no architecture can change


@every_estimator
def test_fresh_reused_and_after_others(name):
    cache.clear()
    fresh = make(name).fit(X, y)
    assert same(make(name).fit(X, y), fresh)
    make(name, random_state=5, learning_rate=0.9, batch_size=5, epochs=3).fit(X[:30], y[:30])
    make(name, optimizer="lion", class_weight="balanced").fit(np.repeat(X, 2, axis=1), y)
    make(name, early_stopping=True, epochs=3).fit(X / np.float32(255), y)
    fresh.predict(X[:5])
    assert same(make(name).fit(X, y), fresh)
    assert same(fresh.fit(X, y), make(name).fit(X, y))


@every_estimator
def test_every_kernel_depends_on_the_seed_and_on_nothing_else(name):
    first, again = (_starts(name, seed=0) for _ in range(2))
    other = _starts(name, seed=1)
    assert sum(kind == "kernel" for kind, _ in first) > 1
    for (kind, start), (_, same_seed), (_, other_seed) in zip(first, again, other, strict=True):
        np.testing.assert_array_equal(same_seed, start)
        assert kind != "kernel" or not np.array_equal(other_seed, start)


def _starts(name, seed):
    """The initial value of every weight, in a network built anew, and what kind it is."""
    cache.clear()
    estimator = make(name, random_state=seed, epochs=1, learning_rate=1e-30, optimizer="sgd")
    with cache.borrow(estimator.fit(X[:8], y[:8])._spec) as program:
        kinds = [one.path.split("/")[-1] for one in program.model.weights]
    return list(zip(kinds, estimator.weights_, strict=True))


class Fixed(ImageClassifier):
    """A network whose layers write the seeds that Keras draws into their initialisers."""

    def features(self, x):
        x = keras.layers.Flatten()(x)
        x = keras.layers.EinsumDense("bf,fu->bu", 8, name="free")(x)
        fixed = keras.initializers.GlorotUniform(seed=5)
        return keras.layers.EinsumDense("bf,fu->bu", 8, kernel_initializer=fixed, name="fixed")(x)


def test_a_seed_fixed_in_the_network_stays_fixed():
    starts = []
    for seed in (0, 1):
        net = Fixed(random_state=seed, epochs=1, learning_rate=1e-30, optimizer="sgd")
        starts.append(net.set_params(early_stopping=False, augment=False).fit(X, y).weights_)
    assert not np.array_equal(starts[0][0], starts[1][0])
    np.testing.assert_array_equal(starts[0][1], starts[1][1])


@engine
def test_a_longer_training_begins_with_a_shorter(name):
    short, long = make(name, epochs=2).fit(X, y), make(name, epochs=4).fit(X, y)
    assert long.history_["loss"][:2] == short.history_["loss"]


@every_estimator
def test_seeds_matter(name):
    assert not same(make(name, random_state=1).fit(X, y), make(name).fit(X, y))
    drawn = [make(name, random_state=None).fit(X, y) for _ in range(2)]
    assert not same(*drawn)


def test_a_random_state_is_drawn_from():
    first = make("MLPClassifier", random_state=np.random.RandomState(3)).fit(X, y)
    second = make("MLPClassifier", random_state=np.random.RandomState(3)).fit(X, y)
    assert same(first, second)
    assert not same(make("MLPClassifier", random_state=first.random_state).fit(X, y), first)


def digest(name):
    weights = make(name, early_stopping=True).fit(X, y).weights_
    return hashlib.sha256(b"".join(array.tobytes() for array in weights)).hexdigest()


@functools.cache
def digests_elsewhere(*names):
    """Train in another process, which takes seconds to start: all at once."""
    code = f"""
import json
from test_reproducibility import digest
print(json.dumps({{name: digest(name) for name in {names}}}))
"""
    return json.loads(run(code, PYTHONHASHSEED="77").splitlines()[-1])


@every_estimator
def test_in_another_process(name):
    assert digests_elsewhere(*beside(name))[name] == digest(name)


@engine
def test_in_workers_with_as_many_threads(name, as_many_threads):
    serial, parallel = (
        cross_validate(make(name), X, y, cv=2, n_jobs=n_jobs, return_estimator=True)
        for n_jobs in (1, 2)
    )
    for one, other in zip(serial["estimator"], parallel["estimator"], strict=True):
        assert same(one, other)
        assert one.history_ == other.history_
    np.testing.assert_array_equal(serial["test_score"], parallel["test_score"])


@every_estimator
@pytest.mark.parametrize("early_stopping", [False, True])
def test_the_order_of_the_images_does_not_matter(name, early_stopping):
    order = np.random.default_rng(0).permutation(len(X))
    weight = np.linspace(1, 2, len(X))
    one = make(name, early_stopping=early_stopping).fit(X, y, weight)
    other = make(name, early_stopping=early_stopping).fit(X[order], y[order], weight[order])
    assert same(one, other)
    assert one.history_ == other.history_


def _global_state():
    return json.dumps(
        [random.getstate(), [str(part) for part in np.random.get_state()], keras.config.floatx()]
    ), keras.config.dtype_policy().name


@engine
@pytest.mark.parametrize("seed", [0, None])
def test_global_random_state_is_left_alone(name, seed):
    cache.clear()
    before = _global_state()
    estimator = make(name, random_state=seed, early_stopping=True).fit(X, y)
    estimator.predict_proba(X)
    estimator.model_  # noqa: B018  (building is the point)
    assert _global_state() == before


def test_global_random_state_has_no_say():
    cache.clear()
    random.seed(1), np.random.seed(1), keras.utils.set_random_seed(1)
    first = make("TinyNet").fit(X, y)
    cache.clear()
    random.seed(2), np.random.seed(2), keras.utils.set_random_seed(2)
    assert same(make("TinyNet").fit(X, y), first)


class Breaks(ImageClassifier):
    def features(self, x):
        raise RuntimeError(keras.config.dtype_policy().name)


def test_the_dtype_policy_survives_an_exception():
    before = _global_state()
    with pytest.raises(RuntimeError, match="mixed_bfloat16"):
        Breaks(precision="mixed_bfloat16", early_stopping=False).fit(X, y)
    assert _global_state() == before


def test_each_estimator_has_a_policy_of_its_own():
    low = make("MLPClassifier", precision="mixed_bfloat16").fit(X, y)
    high = make("MLPClassifier").fit(X, y)
    assert {layer.dtype_policy.name for layer in low.model_.layers[2:-2]} == {"mixed_bfloat16"}
    assert {layer.dtype_policy.name for layer in high.model_.layers} == {"float32"}
    assert low.model_.layers[-2].compute_dtype == "float32"  # the head
    assert {weight.dtype.name for weight in low.weights_} == {"float32"}
