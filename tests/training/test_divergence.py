"""Trainings that diverge, parameters at their ends, weights and outputs that are not finite."""

import pickle
import sys
import warnings
from numbers import Integral

import numpy as np
import pytest
from helpers import ENGINE, PUBLIC, data, get, make, same
from sklearn.model_selection import GridSearchCV
from sklearn.utils._param_validation import Interval

from kmedclf import CalibratedClassifier, EnsembleClassifier, ImageClassifier, load
from kmedclf.search import StagedSearchCV, TunerSearchCV
from kmedclf.utils import annotated

X, y = data(40)
HELD = {"X_val": X[:16], "y_val": y[:16]}
DIVERGES = {"optimizer": "sgd", "learning_rate": 1e30}


def _message(action):
    with pytest.raises(ValueError, match=r"\w") as caught:
        action()
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(".")
    assert len(message) < 400
    return message


@pytest.mark.parametrize("name", ENGINE)
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("batch_size", [8, 40])
def test_a_diverged_fit_raises(name, optimizer, batch_size):
    estimator = make(name, **{**DIVERGES, "optimizer": optimizer}, batch_size=batch_size)
    for action in (estimator.fit, estimator.partial_fit):
        message = _message(lambda: action(X, y))  # noqa: B023
        assert message.startswith(f"The training of {name} diverged in epoch ")
        if batch_size == 8:  # else the first epoch is one step, and its loss that before it
            assert "epoch 1 (" in message
        assert "lower 'learning_rate' (now 1e+30)" in message
        assert "'clipnorm'" in message
    assert not hasattr(estimator, "weights_")


def test_the_epoch_is_named_and_the_last_fit_stays():
    estimator = make("MLPClassifier", warm_start=True, epochs=3).fit(X, y)
    before = [weight.copy() for weight in estimator.weights_]
    estimator.set_params(learning_rate=1e30)
    for action in (estimator.fit, estimator.partial_fit):
        assert "diverged in epoch 4 (loss nan" in _message(lambda: action(X, y))  # noqa: B023
        assert same(before, estimator.weights_)
    assert len(estimator.history_["loss"]) == 3


class Spoils:
    """Makes the weights of one epoch too large to go on with."""

    def __new__(cls, epoch):
        import keras

        def spoil(number, logs):
            if number == epoch:
                callback.model.optimizer.learning_rate = 1e30

        callback = keras.callbacks.LambdaCallback(on_epoch_begin=spoil)
        return callback


@pytest.mark.parametrize("monitor", ["accuracy", "loss"])
def test_the_best_epoch_before_is_restored(monitor):
    options = {"early_stopping": True, "monitor": monitor, "epochs": 9, "optimizer": "sgd"}
    estimator = make("MLPClassifier", callbacks=[Spoils(3)], **options)
    with pytest.warns(RuntimeWarning, match=r"MLPClassifier diverged in epoch 4 .* is restored: "):
        estimator.fit(X, y, **HELD)
    assert len(estimator.history_["loss"]) == 4  # there is no use in going on
    assert 1 <= estimator.best_epoch_ <= 3
    assert np.isfinite(estimator.predict_proba(X)).all()
    best = estimator.history_["val_accuracy"][estimator.best_epoch_ - 1]
    assert estimator.score(HELD["X_val"], HELD["y_val"]) == pytest.approx(best)
    for change in ({"restore_best": False}, {"early_stopping": False}):
        other = make("MLPClassifier", callbacks=[Spoils(3)], **{**options, **change})
        assert "diverged in epoch 4" in _message(lambda: other.fit(X, y, **HELD))  # noqa: B023


def test_steps_left_out_in_float16_are_no_divergence():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        estimator = make("MLPClassifier", precision="mixed_float16", optimizer="adam")
        estimator.fit(X, y, sample_weight=np.full(40, 1e6))  # the scale of the loss falls
    assert np.isfinite(estimator.predict_proba(X)).all()
    start = make("MLPClassifier", precision="mixed_float16", epochs=1, learning_rate=1e-12).fit(
        X, y
    )
    assert not same(start, estimator)
    estimator = make("MLPClassifier", precision="mixed_float16", **DIVERGES)
    assert "precision='mixed_bfloat16'" in _message(lambda: estimator.fit(X, y))


def _searches():
    mlp, grid = make("MLPClassifier", optimizer="sgd"), {"learning_rate": [1e30, 3e-3]}
    options = {"error_score": np.nan, "cv": 2}
    yield GridSearchCV(mlp, grid, **options)
    yield StagedSearchCV(mlp, [grid], **options)
    yield TunerSearchCV(mlp, [grid], tuner="grid", **options)


@pytest.mark.parametrize("search", list(_searches()), ids=lambda one: type(one).__name__)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.FitFailedWarning")
@pytest.mark.filterwarnings("ignore:One or more of the test scores:UserWarning")
def test_error_score(search):
    labels = (np.arange(40) % 9 == 0).astype(int)  # 87 % of one class: a guess scores well
    search.fit(X, labels)
    rates = [one["learning_rate"] for one in search.cv_results_["params"]]
    scores = dict(zip(rates, search.cv_results_["mean_test_score"], strict=True))
    assert np.isnan(scores[1e30])
    assert np.isfinite(scores[3e-3])
    assert search.best_params_ == {"learning_rate": 3e-3}
    search.set_params(error_score="raise")
    assert "diverged in epoch 1" in _message(lambda: search.fit(X, labels))


def test_ensembles_and_calibration():
    ensemble = EnsembleClassifier([("a", make("MLPClassifier", **DIVERGES))])
    assert "MLPClassifier diverged in epoch 1" in _message(lambda: ensemble.fit(X, y))
    good = make("MLPClassifier").fit(X, y)
    good.weights_ = [np.full_like(one, np.nan) for one in good.weights_]
    for other in (EnsembleClassifier.from_fitted([good]), good):
        assert "must be finite" in _message(lambda: other.predict(X))  # noqa: B023
    assert "must be finite" in _message(lambda: CalibratedClassifier(good).fit(X, y))


@pytest.mark.parametrize("name", ["MLPClassifier", "CNNClassifier"])
@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite(name, wrong, tmp_path):
    estimator = make(name, warm_start=True).fit(X, y)
    path = tmp_path / "model.kmedclf"
    estimator.save(path)
    content = path.read_bytes()
    for number in range(len(estimator.weights_)):
        bad = pickle.loads(pickle.dumps(estimator))
        bad.weights_ = [weight.copy() for weight in estimator.weights_]
        bad.weights_[number].flat[0] = wrong
        actions = [lambda: bad.save(path), lambda: bad.fit(X, y), lambda: bad.partial_fit(X, y)]  # noqa: B023
        actions += [lambda m=m: getattr(bad, m)(X) for m in ("predict", "predict_proba")]  # noqa: B023
        actions += [lambda: bad.decision_function(X), lambda: bad.score(X, y)]  # noqa: B023
        for action in actions:
            message = _message(action)
            assert message.startswith(f"The weights_ of {name} must be finite.")
            assert f"array {number}" in message
    assert path.read_bytes() == content
    assert same(load(path), estimator)


def test_outputs_that_overflow():
    features = X.reshape(len(X), -1) / np.float32(255)
    estimator = make("MLPClassifier").fit(features, y)
    images = features.copy()
    images[7] = 3e38
    message = _message(lambda: estimator.predict(images))
    assert message.startswith(
        "MLPClassifier must predict finite numbers. Got NaN or infinity for 1 "
    )
    assert "image 7" in message


ROWS = {
    "tiny weights": {"sample_weight": np.full(40, 1e-300)},
    "weights that are no float32": {"sample_weight": np.full(40, 1e-30)},
    "huge weights": {"sample_weight": np.full(40, 1e30)},
    "infinite in float32": {"sample_weight": np.full(40, 1e300)},
    "tiny validation weights": {**HELD, "sample_weight_val": np.full(16, 1e-300)},
}


@pytest.mark.parametrize("case", ROWS)
def test_weights_of_rows(case):
    message = _message(lambda: make("MLPClassifier").fit(X, y, **ROWS[case]))
    assert "'sample_weight" in message
    assert "MLPClassifier" in message


@pytest.mark.parametrize("classes", [{0: 0, 1: 0, 2: 0}, {0: 1e-30, 1: 0, 2: 0}, {0: 1e30}])
def test_weights_of_classes(classes):
    message = _message(lambda: make("MLPClassifier", class_weight=classes).fit(X, y))
    assert "MLPClassifier" in message
    assert "1e+19" in message or "above 0" in message
    # a row of no weight beside others is right
    weight = np.where(np.arange(40) < 30, 1.0, 1e-300)
    one, other = (make("MLPClassifier", augment=False) for _ in range(2))
    one.fit(X, y, sample_weight=weight)
    assert np.isfinite(one.predict_proba(X)).all()
    assert other.fit(X, y, sample_weight=weight).history_ == one.history_


# Where a parameter alone has no effect
TOGETHER = {
    "momentum": {"optimizer": "sgd"},
    "weight_decay": {"optimizer": "adamw"},
    "focal_alpha": {"loss": "focal"},
    "focal_gamma": {"loss": "focal"},
    "lr_step": {"lr_schedule": "step"},
    "lr_factor": {"lr_schedule": "step", "lr_step": 1},
    "lr_patience": {"lr_schedule": "plateau"},
    "lr_warmup": {"lr_schedule": "one_cycle"},
    "padding": {"pool_size": 1},  # without padding, one pixel is left
    **{
        name: {"early_stopping": True, "validation_fraction": 0.3}
        for name in ("tol", "n_iter_no_change", "min_epochs", "validation_fraction")
    },
}
HUGE = 2**40


def _ends(one):
    if one.type is Integral:
        return [one.left, HUGE]
    low = one.left if one.closed in ("left", "both") else float(np.nextafter(one.left, 1))
    high = one.right
    if high is None:
        return [low, 1e-30, 1e10, 1e30, sys.float_info.max, np.nan, np.inf]
    return [low, 1e-30, high if one.closed in ("right", "both") else float(np.nextafter(high, 0))]


def _cases():
    shared = set(annotated.parameter_constraints(ImageClassifier))
    tried = set()  # a parameter of several networks with the same bounds is tried on the first
    for cls in map(get, PUBLIC):
        for name, allowed in annotated.parameter_constraints(cls).items():
            if name in shared and cls.__name__ != "MLPClassifier":
                continue
            for value in [v for one in allowed if isinstance(one, Interval) for v in _ends(one)]:
                # So long a training, or so large a network, nobody waits for
                large = value == HUGE or (name in ("width", "depth") and value > 1)
                new = (name, repr(value)) not in tried
                tried.add((name, repr(value)))
                if new and (not large or (name in shared and name != "epochs")):
                    quick = cls.__name__ in ("MLPClassifier", "CNNClassifier")
                    marks = [] if quick else [pytest.mark.slow]
                    yield pytest.param(cls.__name__, name, value, marks=marks)


@pytest.mark.parametrize(("name", "parameter", "value"), list(_cases()))
def test_parameters_at_their_ends(name, parameter, value):
    """Each trains to a finite network, or is refused in one sentence."""
    options = {"batch_size": 8, **TOGETHER.get(parameter, {}), parameter: value}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            estimator = make(name, **options).fit(X, y)
    except ValueError as error:
        message = str(error)
    else:
        message = ""
    if message:
        assert message.endswith(".")
        assert "\n" not in message
        assert repr(parameter) in message
        return
    assert np.isfinite(estimator.predict_proba(X)).all()
    assert all(map(np.isfinite, estimator.history_["loss"]))
