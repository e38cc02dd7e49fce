"""Other settings and scopes of Keras and TensorFlow around a fit, and warnings that are errors."""

import contextlib
import json
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import data, make, run, same

from kmedclf.training import cache

X, y = data(40)
HELD = {"X_val": X[:16], "y_val": y[:16]}
SLOWER = [
    pytest.param(name, marks=pytest.mark.slow) for name in ("MLPClassifier", "ResNetClassifier")
]
OPTIONS = {"augment": ["flips", "rotate"], "batch_size": 16, "loss": "focal", "weight_decay": 0.01}


def _fit(name, **options):
    return make(name, **{**OPTIONS, **options}).fit(X, y, **HELD)


def _equal(one, other):
    np.testing.assert_array_equal(one.predict_proba(X), other.predict_proba(X))
    return same(one, other) and one.history_ == other.history_


@contextlib.contextmanager
def _tape(**options):
    with tf.GradientTape(**options) as tape:
        one = tf.Variable(3.0)
        yield
        two = one * one
    assert float(tape.gradient(two, one)) == 6.0  # the user's own gradients are still taken


SCOPES = {
    "tape": _tape,
    "persistent tape": lambda: _tape(persistent=True),
    "CPU": lambda: tf.device("CPU:0"),
    "GPU": lambda: tf.device("GPU:0"),
    "init_scope": tf.init_scope,
    "name_scope": lambda: tf.name_scope("outer"),
    "Keras' name_scope": lambda: keras.name_scope("outer"),
}


@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize(
    "name", ["MLPClassifier", pytest.param("CNNClassifier", marks=pytest.mark.slow)]
)
# Muon treats the last layer apart, and knows it by its name.
@pytest.mark.parametrize("optimizer", ["adam", "muon"])
def test_scopes(name, scope, traced, optimizer):
    expected = _fit(name, optimizer=optimizer)
    if not traced:
        cache.clear()
    with SCOPES[scope]():
        inside = _fit(name, optimizer=optimizer)
        proba = inside.predict_proba(X)
    np.testing.assert_array_equal(proba, expected.predict_proba(X))
    assert _equal(inside, expected)
    assert _equal(_fit(name, optimizer=optimizer), expected)


REFUSED = {
    "a tf.function": lambda action: tf.function(action, autograph=False)(),
    "the scope of a tf.distribute strategy": lambda action: _within(
        tf.distribute.OneDeviceStrategy("CPU:0").scope(), action
    ),
}


def _within(scope, action):
    with scope:
        action()


@pytest.mark.parametrize("scope", REFUSED)
def test_scopes_that_are_refused(scope):
    expected = _fit("MLPClassifier")
    fitted = _fit("MLPClassifier")
    actions = [lambda: _fit("MLPClassifier"), lambda: fitted.partial_fit(X, y)]
    actions += [lambda: fitted.predict(X), lambda: fitted.predict_proba(X)]
    for action in actions:
        with pytest.raises(RuntimeError, match=f"^MLPClassifier must be .* outside of {scope}"):
            REFUSED[scope](action)
    assert _equal(fitted, expected)
    assert _equal(_fit("MLPClassifier"), expected)


CONFIG = keras.config
SETTINGS = {
    "floatx float64": (CONFIG.set_floatx, CONFIG.floatx, "float64"),
    "floatx float16": (CONFIG.set_floatx, CONFIG.floatx, "float16"),
    "channels_first": (CONFIG.set_image_data_format, CONFIG.image_data_format, "channels_first"),
    "epsilon": (CONFIG.set_epsilon, CONFIG.epsilon, 1e-2),
    "policy float64": (CONFIG.set_dtype_policy, CONFIG.dtype_policy, "float64"),
    "policy mixed": (CONFIG.set_dtype_policy, CONFIG.dtype_policy, "mixed_bfloat16"),
}


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("name", ["CNNClassifier", *SLOWER])
def test_settings_of_keras(name, setting, tmp_path):
    put, get, value = SETTINGS[setting]
    layer = keras.layers.RandomTranslation(0.1, 0.1)
    expected = _fit(name, augment=["flips", layer])
    cache.clear()
    before = get()
    put(value)
    given = get()
    try:
        layer = keras.layers.RandomTranslation(0.1, 0.1, dtype="float32")
        found = _fit(name, augment=["flips", layer], callbacks=[keras.callbacks.History()])
        if name == "CNNClassifier":
            found.partial_fit(X, y)
        assert get() == given
        proba, model = found.predict_proba(X), found.model_
    finally:
        put(before)
    if name == "CNNClassifier":
        expected.partial_fit(X, y)
    assert same(found, expected)
    np.testing.assert_array_equal(proba, expected.predict_proba(X))
    np.testing.assert_allclose(model.predict(X, verbose=0), proba, atol=1e-6)


def test_keras_json(tmp_path):
    config = {"floatx": "float64", "epsilon": 1e-3, "image_data_format": "channels_first"}
    (tmp_path / "keras.json").write_text(json.dumps({**config, "backend": "tensorflow"}))
    code = """
import keras
from test_surroundings import sums
print(keras.config.floatx(), keras.config.image_data_format(), keras.config.epsilon())
print(sums())
"""
    *_, settings, printed = run(code, KERAS_HOME=str(tmp_path)).splitlines()
    assert settings == "float64 channels_first 0.001"
    assert printed == str(sums())


def sums():
    """Fit two networks, and sum their weights."""
    fitted = [make(name, augment=True).fit(X, y) for name in ("CNNClassifier", "MLPClassifier")]
    return [float(abs(weight).sum()) for one in fitted for weight in one.weights_]


@pytest.mark.parametrize("name", ["CNNClassifier", *SLOWER])
def test_warnings_are_errors(name, tmp_path):
    """The suite's own filters are off: users run python -W error."""
    from kmedclf import load
    from kmedclf.evaluation import evaluate

    cache.clear()
    with warnings.catch_warnings():
        warnings.resetwarnings()
        warnings.simplefilter("error")
        options = {"early_stopping": True, "validation_fraction": 0.3, "warm_start": True}
        # Of those that save models Keras itself warns.
        callbacks = [keras.callbacks.EarlyStopping("loss"), keras.callbacks.History()]
        estimator = make(name, callbacks=callbacks, **options).fit(X, y)
        estimator.partial_fit(X, y).fit(X, y)
        estimator.predict_proba(X)
        estimator.save(tmp_path / "model.kmedclf")
        loaded = load(tmp_path / "model.kmedclf")
        np.testing.assert_array_equal(loaded.predict(X), estimator.predict(X))
        estimator.model_  # noqa: B018
        str(evaluate(estimator, X, y, n_bootstrap=10))
