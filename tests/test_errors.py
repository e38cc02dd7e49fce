"""Errors: one sentence that names the class, the parameter and what came."""

import numpy as np
import pytest
from helpers import ENGINE, PUBLIC, data, get, make
from sklearn.exceptions import NotFittedError

from kmedclf import augmentation

X, y = data()
FLAT = X.reshape(48, -1)
WITH_NAN = np.where(np.arange(48)[:, None, None, None] == 5, np.nan, X / np.float32(255))
WITH_INF = np.where(np.isnan(WITH_NAN), -np.inf, WITH_NAN)
STOP = {"early_stopping": True}
COUNT = np.arange(48)


def _message(error, action):
    """Run what must fail and return its message, one sentence."""
    with pytest.raises(error) as caught:
        action()
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(".")
    assert len(message) < 400  # room for the names of all augmentation sets
    return message


# (parameters, what fit gets, what the message says besides the class)
BAD_DATA = {
    "NaN": ({}, (WITH_NAN, y), ["X", "finite", "NaN", "image 5"]),
    "infinity": ({}, (WITH_INF, y), ["X", "finite", "infinity", "image 5"]),
    "no image": ({}, (X[:0], y[:0]), ["0 sample(s)"]),
    "no pixels": ({}, (X[:, :0], y), ["(0, 8, 3)"]),
    "five dimensions": ({}, (X[None], y), ["(1, 48, 8, 8, 3)"]),
    "too few labels": ({}, (X, y[:-1]), ["'y'", "48", "47"]),
    "no labels": ({}, (X, None), ["y", "None"]),
    "one class": ({}, (X, y * 0), ["2 classes", "Got 1"]),
    "one class of any weight": ({}, (X, y, y == 1), ["2 classes", "Got 1"]),
    "a weight that float32 rounds to 0": (
        {}, (X, y, np.full(48, 1e-300)), ["'sample_weight'", "float32", "1e-300"]),
    "a weight beyond float32": ({}, (X, y, np.full(48, 1e300)), ["'sample_weight'", "1e+300"]),
    "all class weights zero": (
        {"class_weight": {0: 0.0, 1: 0, 2: 1e-300}}, (X, y), ["'class_weight'", "above 0"]),
    "a class weight beyond float32": (
        {"class_weight": {1: 1e300}}, (X, y), ["'class_weight'", "1e+300"]),
    "too few weights": ({}, (X, y, np.ones(3)), ["'sample_weight'", "48", "3"]),
    "a negative weight": ({}, (X, y, y - 1.5), ["'sample_weight'", "negative", "-1.5"]),
    "no weight at all": ({}, (X, y, y * 0), ["'sample_weight'", "zero"]),
    "X_val alone": ({}, (X, y, None, {"X_val": X}), ["X_val", "no y_val"]),
    "y_val alone": ({}, (X, y, None, {"y_val": y}), ["y_val", "no X_val"]),
    "X_val of another size": (
        {}, (X, y, None, {"X_val": X[:, :5], "y_val": y}), ["(8, 8, 3)", "(5, 8, 3)"]),
    "X_val of another kind": (
        {}, (X, y, None, {"X_val": X / 255.0, "y_val": y}), ["8-bit", "float"]),
    "too few y_val": (
        {}, (X, y, None, {"X_val": X, "y_val": y[:9]}), ["'y_val'", "48", "9"]),
    "too few sample_weight_val": (
        {}, (X, y, None, {"X_val": X, "y_val": y, "sample_weight_val": [1.0]}),
        ["'sample_weight_val'", "48", "1"]),
    "an unknown y_val": (
        {}, (X, y, None, {"X_val": X, "y_val": y + 1}), ["0, 1, 2", "Got 3"]),
    "y_val of another type": (
        {}, (X, y, None, {"X_val": X, "y_val": y.astype(str)}), ["0, 1, 2", "Got '"]),
    "numbers for words": (
        {}, (X, y.astype(str).astype(object), None, {"X_val": X, "y_val": y}), ["'0'", "Got "]),
    "too few images": (STOP, (X[:4], [0, 0, 1, 1]), ["0.1", "4 images", "X_val", "early_stopping"]),
    "a rare class": (STOP, (X, np.minimum(COUNT, 1)), ["48 images", "2 classes", "X_val"]),
    "too few groups": (STOP, (X, y, None, {"groups": y * 0}), ["48 images", "X_val"]),
    "groups of another length": (
        STOP, (X, y, None, {"groups": y[:7]}), ["'groups'", "48", "7"]),
    "an image_shape of another size": (
        {"image_shape": (8, 9, 3)}, (FLAT, y), ["'image_shape'", "192", "(8, 9, 3)"]),
    "an image_shape of other images": (
        {"image_shape": (9, 8)}, (X, y), ["'image_shape'", "(8, 8, 3)", "(9, 8)"]),
    "an image_shape of one side": (
        {"image_shape": (8,)}, (X, y), ["'image_shape'", "(h, w)", "(8,)"]),
    "a negative image_shape": (
        {"image_shape": (-8, -8, 3)}, (FLAT, y), ["'image_shape'", "(-8, -8, 3)"]),
    "words in image_shape": (
        {"image_shape": ("a", "b")}, (FLAT, y), ["'image_shape'", "('a', 'b')"]),
    "weights of unknown labels": (
        {"class_weight": {7: 1.0}}, (X, y), ["'class_weight'", "0, 1, 2", "label 7"]),
    "a negative class weight": (
        {"class_weight": {1: -2}}, (X, y), ["'class_weight'", "-2", "for 1"]),
    "a word as class weight": (
        {"class_weight": {1: "two"}}, (X, y), ["'class_weight'", "'two'", "for 1"]),
    "an unknown set in a list": (
        {"augment": ["flips", "spin"]}, (X, y), ["'augment'", *augmentation.NAMES, "'spin'"]),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_DATA)
@pytest.mark.parametrize("name", ["MLPClassifier", "TinyNet"])
def test_data(name, case):
    params, (images, labels, *more), facts = BAD_DATA[case]
    weight, given = (more + [None, {}][len(more) :])[:2]
    estimator = make(name, **params)
    message = _message(ValueError, lambda: estimator.fit(images, labels, weight, **given))
    for fact in [name, *facts]:
        assert fact in message
    with pytest.raises(NotFittedError):
        estimator.predict(X)
    assert not [key for key in vars(estimator) if key.endswith("_")]


# Values that no estimator takes, by parameter
BAD_VALUES = {
    "activation": "cubic",
    "augment": "spin",
    "batch_size": 0,
    "class_weight": "fair",
    "dropout": "much",
    "epochs": 0,
    "filters": -1,
    "jit_compile": "never",
    "learning_rate": 0,
    "monitor": "auc",
    "n_iter_no_change": 0,
    "optimizer": "magic",
    "pooling": "median",
    "precision": "int4",
    "random_state": -3,
    "stop_against": "mean",
    "tol": -0.5,
    "tol_mode": "log",
    "tta": "spin",
    "units": 0.5,
    "validation_fraction": 1.0,
    "validation_split": 1.0,
    "warm_start": "yes",
}
LISTED = {
    "augment": list(augmentation.NAMES),
    "optimizer": ["adam", "sgd", "lion"],
    "activation": ["relu", "tanh"],
    "pooling": ["max", "average"],
    "precision": ["float32", "mixed"],
    "tta": ["mirror", "shift"],
    "monitor": ["loss", "accuracy"],
}
CASES = [
    (name, parameter)
    for name in PUBLIC
    for parameter in BAD_VALUES
    if parameter in get(name)._get_param_names()
]


@pytest.mark.parametrize(("name", "parameter"), CASES)
def test_parameters(name, parameter):
    value = BAD_VALUES[parameter]
    for action in ("fit", "partial_fit"):
        estimator = make(name, **{parameter: value})
        message = _message(ValueError, lambda: getattr(estimator, action)(X, y))  # noqa: B023
        assert message.startswith(f"The {parameter!r} parameter of {name} must be ")
        assert message.endswith(f"Got {value!r} instead.")
        for valid in LISTED.get(parameter, []):
            assert repr(valid) in message


@pytest.mark.parametrize(
    ("name", "parameter"),
    [
        ("CNNClassifier", "kernel_size"),
        ("CNNClassifier", "pool_size"),
        ("ResNetClassifier", "stem_kernel_size"),
    ],
)
def test_windows_larger_than_the_image(name, parameter):
    message = _message(ValueError, lambda: make(name, **{parameter: 9}).fit(X, y))
    assert message.startswith(f"The {parameter!r} parameter of {name} must be at most ")
    assert message.endswith("Got 9 instead.")


def test_callbacks_that_are_none():
    message = _message(TypeError, lambda: make("MLPClassifier", callbacks=[print]).fit(X, y))
    assert message.startswith("The 'callbacks' parameter of MLPClassifier must hold")


PREDICT = {
    "another size": (X[:, :5], ["(8, 8, 3)", "(5, 8, 3)"]),
    "grey": (X[..., 0], ["(8, 8, 3)", "(8, 8, 1)"]),
    "floats": (X / 255.0, ["8-bit integer", "float"]),
    "16 bits": (X.astype(np.uint16) * 257, ["8-bit integer", "16-bit integer", "65535"]),
    "NaN": (WITH_NAN, ["NaN", "image 5"]),
    "nothing": (X[:0], ["0 sample(s)"]),
}


@pytest.mark.parametrize("case", PREDICT)
@pytest.mark.parametrize("method", ["predict", "predict_proba", "decision_function"])
def test_predict(method, case):
    images, facts = PREDICT[case]
    estimator = make("MLPClassifier").fit(X, y)
    message = _message(ValueError, lambda: getattr(estimator, method)(images))
    for fact in ["MLPClassifier", *facts]:
        assert fact in message


def test_floats_were_fitted_and_integers_come():
    estimator = make("CNNClassifier").fit(X / 255.0, y)
    message = _message(ValueError, lambda: estimator.predict(X))
    assert message == (
        "CNNClassifier was fitted on float (unscaled) images of at most 1, got 8-bit integer ones "
        "up to 255; scale them as those fitted on."
    )


def test_other_columns():
    estimator = make("MLPClassifier", image_shape=(8, 8, 3)).fit(FLAT, y)
    with pytest.raises(ValueError, match="X has 64 features, but MLPClassifier is expecting 192"):
        estimator.predict(FLAT[:, :64])


@pytest.mark.parametrize("name", ENGINE)
@pytest.mark.parametrize("method", ["predict", "predict_proba", "decision_function", "score"])
def test_before_fit(name, method):
    given = (X, y) if method == "score" else (X,)
    with pytest.raises(NotFittedError, match=f"This {name} instance is not fitted yet"):
        getattr(make(name), method)(*given)
    with pytest.raises(NotFittedError):
        make(name).model_  # noqa: B018


@pytest.mark.parametrize("name", ENGINE)
def test_a_failed_fit_leaves_the_last_one(name):
    estimator = make(name).fit(X, y)
    expected, state = estimator.predict_proba(X), dict(vars(estimator))
    for images, labels in ((X[:, :5], y[:-1]), (X / 255.0, y + 7.5), (X[:, :4], y * 0)):
        with pytest.raises(ValueError, match=r"\w"):
            estimator.fit(images, labels)
    assert vars(estimator) == state
    np.testing.assert_array_equal(estimator.predict_proba(X), expected)


def test_going_on_needs_the_same_network():
    estimator = make("MLPClassifier", warm_start=True).fit(X, y)
    action = estimator.set_params(units=9).fit
    message = _message(ValueError, lambda: action(X, y))
    assert "MLPClassifier" in message
    assert "warm_start=False" in message
    message = _message(ValueError, lambda: make("MLPClassifier").fit(X, y).partial_fit(X, y + 5))
    assert "0, 1, 2" in message
    message = _message(ValueError, lambda: make("MLPClassifier").partial_fit(X, y, classes=[0, 1]))
    assert "0, 1" in message


@pytest.mark.parametrize("change", [{"optimizer": "sgd"}, {"precision": "mixed_float16"}])
def test_going_on_under_another_optimizer(change):
    estimator = make("MLPClassifier", warm_start=True, optimizer="adam").fit(X, y)
    assert len(estimator.set_params(**change).fit(X, y).history_["loss"]) == 4


def test_a_network_without_features():
    from kmedclf import ImageClassifier

    class Empty(ImageClassifier):
        pass

    message = _message(NotImplementedError, lambda: Empty(early_stopping=False).fit(X, y))
    assert message == "Empty must define features(self, x)."
