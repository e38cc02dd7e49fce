"""Parameters given as NumPy's scalars are those given as Python's; optimizers by any name."""

import keras
import numpy as np
import pytest
from helpers import ENGINE_EVERY, data, get, make, same, small
from sklearn.base import clone

from kmedclf import CalibratedClassifier, EnsembleClassifier, load
from kmedclf.parameters import TrainingParameters
from kmedclf.search import StagedSearchCV, TunerSearchCV
from kmedclf.utils import annotated

X, y = data(40)
HELD = {"X_val": X[:16], "y_val": y[:16]}
# Something other than the default for all of a kind at once, in fits that need them
TOGETHER = [
    {"learning_rate": 0.003, "clipnorm": 0.3, "l2": 0.001, "weight_decay": 0.02, "batch_size": 16,
     "optimizer": "adamw", "label_smoothing": 0.1, "mixup": 0.2, "cutmix": 0.3, "epochs": 2,
     "precision": "float32", "recipe": "reference", "monitor": "loss", "tol": 0.1, "verbose": 0,
     "tol_mode": "relative", "stop_against": "previous", "n_iter_no_change": 1, "min_epochs": 1,
     "early_stopping": True, "validation_fraction": 0.2, "restore_best": True, "lr_step": 1,
     "lr_schedule": "step",
     "lr_factor": 0.7, "class_weight": {0: 0.3, 1: 1, 2: 2.0}, "random_state": 3, "channels": 3,
     "augment": ["flips", "shift"], "tta": ["mirror"], "image_shape": (8, 8, 3),
     "jit_compile": False,
     "image_size": (8, 8), "resize": "stretch", "on_error": "raise", "warm_start": False},
    {"optimizer": "sgd", "momentum": 0.5, "nesterov": True, "accumulate_steps": 2, "loss": "focal",
     "focal_alpha": 0.4, "focal_gamma": 1.7, "lr_schedule": "one_cycle", "lr_warmup": 0.4,
     "lr_patience": 3, "validation_split": 0.25, "oversample": "duplicate",
     "augment": True, "class_weight": "balanced",
     "warm_start": True, "memory_limit": 10**9, "cache_limit": 10**9, "max_pixels": 10**6},
]  # fmt: skip
KINDS = {
    bool: [np.bool_],
    int: [np.int64, np.uint8, lambda value: np.array(value)],
    float: [np.float64, np.float32],
    str: [np.str_],
}


def _numpy(value, number):
    """Make a NumPy scalar of a value, or of those in it; of a kind that can hold it."""
    if isinstance(value, list | tuple):
        return type(value)(_numpy(one, number % 2) for one in value)
    if isinstance(value, dict):
        return {key: _numpy(one, number % 2) for key, one in value.items()}
    kinds = KINDS.get(type(value))
    if not kinds or (type(value) is int and value > 255):
        return value if not kinds else np.int64(value)
    return kinds[number % len(kinds)](value)


def test_every_parameter_is_given():
    given = {name for options in TOGETHER for name in options}
    left = {"memory", "callbacks", "cache", "checkpoint", "strategy"}  # no scalars
    assert given | left == set(annotated.parameter_constraints(TrainingParameters))


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("options", TOGETHER, ids=["adamw", "sgd"])
def test_training_parameters(options, number, tmp_path):
    plain, other = (
        make("MLPClassifier", **given)
        for given in (options, {key: _numpy(one, number) for key, one in options.items()})
    )
    given = other.get_params()
    for estimator in (plain, other):
        estimator.fit(X, y)
    assert plain._spec == other._spec
    assert same(plain, other)
    assert plain.history_ == other.history_
    assert all(given[name] is value for name, value in other.get_params().items())
    np.testing.assert_array_equal(plain.predict_proba(X), other.predict_proba(X))
    for estimator in (plain, other):
        estimator.partial_fit(X, y)
    assert same(plain, other)
    other.save(tmp_path / "model.kmedclf")
    assert same(load(tmp_path / "model.kmedclf"), other)
    clone(other)


@pytest.mark.parametrize("name", ENGINE_EVERY)
def test_parameters_of_networks(name):
    cls = get(name)
    own = set(annotated.parameter_constraints(cls)) - set(
        annotated.parameter_constraints(TrainingParameters)
    )
    options = {key: small(name).get(key, getattr(cls(), key)) for key in own}
    plain = make(name, epochs=1, **options).fit(X, y)
    made = {key: _numpy(one, 0) for key, one in options.items()}
    other = make(name, epochs=1, **made).fit(X, y)
    assert plain._spec == other._spec
    assert same(plain, other)


def test_remembered_fits_are_shared(tmp_path):
    options = {"learning_rate": 0.125, "random_state": 0, "memory": tmp_path}
    plain = make("MLPClassifier", **options).fit(X, y)
    entries = sorted(tmp_path.rglob("*output*"))
    other = make("MLPClassifier", **{**options, "learning_rate": np.float32(0.125)}).fit(X, y)
    assert same(plain, other)
    assert sorted(tmp_path.rglob("*output*")) == entries


@pytest.mark.parametrize(
    ("cls", "more"),
    [
        (StagedSearchCV, {"n_iter": 2, "factor": 2, "min_resources": 1, "search": "random"}),
        (
            TunerSearchCV,
            {"max_trials": 2, "factor": 2, "hyperband_iterations": 1, "tuner": "random"},
        ),
    ],
)
def test_searches(cls, more):
    shared = {"cv": 2, "n_jobs": 1, "subset": 0.9, "refit": True, "error_score": 0.0}
    options = {**shared, **more, "random_state": 3, "verbose": 0}
    grid = {"units": [2, 4], "learning_rate": [0.01, 0.1]}
    found = []
    for made in (lambda value: value, lambda value: _numpy(value, 0)):
        space = [{key: [made(value) for value in values] for key, values in grid.items()}]
        mlp = make("MLPClassifier", epochs=1)
        search = cls(mlp, space, **{key: made(value) for key, value in options.items()})
        given = search.get_params(deep=False)
        found.append(search.fit(X, y))
        assert all(given[key] is value for key, value in search.get_params(deep=False).items())
    plain, other = found
    assert plain.best_params_ == other.best_params_
    np.testing.assert_array_equal(
        plain.cv_results_["mean_test_score"], other.cv_results_["mean_test_score"]
    )
    assert same(plain.best_estimator_, other.best_estimator_)


def test_ensembles_and_calibration():
    pairs = [("a", make("MLPClassifier", epochs=1))]
    plain = EnsembleClassifier(pairs, n_seeds=2, n_jobs=1).fit(X, y)
    other = EnsembleClassifier(pairs, n_seeds=np.int64(2), n_jobs=np.int64(1)).fit(X, y)
    np.testing.assert_array_equal(plain.predict_proba(X), other.predict_proba(X))
    binary = make("MLPClassifier", epochs=1).fit(X, y % 2)
    calibrated = [
        CalibratedClassifier(binary, sensitivity=made(0.9), pos_label=made(1), priors=[0.4, 0.6])
        for made in (lambda value: value, lambda value: _numpy(value, 0))
    ]
    one, two = (each.fit(X, y % 2).predict(X) for each in calibrated)
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("word", ["Adam", "SGD", "AdamW", "RMSprop", "sgd"])
def test_names_of_optimizers_as_in_keras(word):
    plain = make("MLPClassifier", optimizer=word.lower()).fit(X, y)
    other = make("MLPClassifier", optimizer=word).fit(X, y)
    assert same(plain, other)
    assert other.optimizer == word


def test_instances_of_optimizers():
    given = keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True)
    for optimizer, text in [
        (given, "optimizer='sgd', learning_rate=0.1, momentum=0.9, nesterov=True"),
        (
            keras.optimizers.Adam(global_clipnorm=2.0),
            "optimizer='adam', learning_rate=0.001, clipnorm=2.0",
        ),
        (keras.optimizers.AdamW, "optimizer='adamw'"),
    ]:
        with pytest.raises(ValueError, match=r"^The 'optimizer' parameter of CNN") as caught:
            make("CNNClassifier", optimizer=optimizer).fit(X, y)
        assert text in str(caught.value)
