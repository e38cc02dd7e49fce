"""Schedules of the learning rate: against Keras, by their ends, and through a whole training."""

import keras
import numpy as np
import pytest
from helpers import data, make, same

from kmedclf.training.schedules import Schedule

X, y = data()


def _schedule(name, epochs=6, **options):
    given = {
        "epochs": epochs, "batch_size": 1, "learning_rate": None, "early_stopping": False,
        "monitor": "loss", "n_iter_no_change": 2, "min_epochs": 1, "tol": 0.0,
        "tol_mode": "absolute", "restore_best": True, "lr_schedule": name,
    }  # fmt: skip
    return Schedule(**{**given, **options})


def _curve(schedule, steps=10):
    return np.concatenate([schedule.step_rates(0.5, epoch, steps) for epoch in range(6)])


@pytest.mark.parametrize("warmup", [None, 0.25])
def test_cosine_is_that_of_keras(warmup):
    warm = int(60 * (warmup or 0))
    theirs = keras.optimizers.schedules.CosineDecay(
        *(0.0, 60 - warm) if warm else (0.5, 60),
        warmup_target=0.5 if warm else None,
        warmup_steps=warm,
    )
    expected = [float(theirs(step)) for step in range(60)]
    np.testing.assert_allclose(_curve(_schedule("cosine", lr_warmup=warmup)), expected, atol=1e-6)


def test_one_cycle_rises_and_falls():
    curve = _curve(_schedule("one_cycle"))
    assert curve.shape == (60,)
    assert curve[0] == pytest.approx(0.5 / 25)
    assert curve.argmax() == 60 * 0.25 - 1
    assert curve.max() == pytest.approx(0.5)
    assert curve[-1] == pytest.approx(0.5 / 250_000)
    assert np.all(np.diff(curve[:15]) > 0)
    assert np.all(np.diff(curve[14:]) < 0)
    assert _curve(_schedule("one_cycle", lr_warmup=0.5)).argmax() == 29


@pytest.mark.parametrize("name", ["cosine", "one_cycle"])
@pytest.mark.parametrize("warmup", [None, 0.0, 0.99])
def test_the_shortest_schedules_are_finite(name, warmup):
    for epochs, steps in ((1, 1), (1, 2), (2, 1)):
        schedule = _schedule(name, epochs, lr_warmup=warmup)
        rates = [schedule.step_rates(0.5, epoch, steps) for epoch in range(epochs)]
        assert np.isfinite(rates).all()
        assert 0 <= np.min(rates) <= np.max(rates) <= 0.5


def test_step_is_keras_exponential_decay():
    theirs = keras.optimizers.schedules.ExponentialDecay(0.5, 2, 0.1, staircase=True)
    ours = [_schedule("step", lr_step=2).epoch_rate(0.5, [1.0] * n) for n in range(6)]
    np.testing.assert_allclose(ours, [float(theirs(epoch)) for epoch in range(6)], rtol=1e-6)


@pytest.mark.parametrize("monitor", ["loss", "accuracy"])
def test_plateau_is_keras_reduce_on_plateau(monitor):
    values = np.array([5.0, 4.0, 4.1, 4.2, 4.0, 3.0, 3.0, 3.0, 3.1, 2.0, 2.5, 2.5])
    values = values if monitor == "loss" else -values
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.5), "mse")
    theirs = keras.callbacks.ReduceLROnPlateau(
        monitor="value", factor=0.1, patience=2, min_delta=0, mode="min" if monitor == "loss" else
        "max")  # fmt: skip
    theirs.set_model(model)
    theirs.on_train_begin()
    schedule = _schedule("plateau", 99, monitor=monitor, lr_patience=2)
    for epoch, value in enumerate(values):
        theirs.on_epoch_end(epoch, {"value": value})
        ours = schedule.epoch_rate(0.5, values[: epoch + 1])
        assert ours == pytest.approx(float(model.optimizer.learning_rate), rel=1e-5)
    assert ours < 0.01


def test_plateau_counts_improvements_as_early_stopping_does():
    slow = [1.0, 0.95, 0.92, 0.90, 0.88]
    options = {"lr_patience": 3, "tol": 0.1, "tol_mode": "relative"}
    assert _schedule("plateau", **options).epoch_rate(1.0, slow[:3]) == 1.0
    assert _schedule("plateau", **options).epoch_rate(1.0, [*slow[:3], 0.91]) == 0.1
    assert _schedule("plateau", **{**options, "tol": 0.01}).epoch_rate(1.0, slow) == 1.0


class Rates(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.epochs = []

    def on_epoch_end(self, epoch, logs=None):
        self.epochs.append(float(self.model.optimizer.learning_rate))


class Steps(Rates):
    def __init__(self):
        super().__init__()
        self.steps = []

    def on_train_batch_end(self, batch, logs=None):
        self.steps.append(float(self.model.optimizer.learning_rate))


SCHEDULED = {"epochs": 4, "batch_size": 20, "learning_rate": 0.05, "lr_step": 1, "lr_patience": 1}
every_schedule = pytest.mark.parametrize("name", ["step", "plateau", "cosine", "one_cycle"])


@every_schedule
@pytest.mark.parametrize("jit", [True, False])
def test_a_training_follows_its_schedule(name, jit):
    watch, epochs = Steps(), Rates()
    options = {**SCHEDULED, "lr_schedule": name, "tol": 9.0, "jit_compile": jit}
    watched = make("MLPClassifier", **options, callbacks=[watch]).fit(X, y)
    alone = make("MLPClassifier", **options, callbacks=[epochs]).fit(X, y)
    assert same(watched, alone)  # one graph call an epoch, or batch by batch
    assert alone.history_["learning_rate"] == epochs.epochs == watch.steps[2::3]
    if name in ("cosine", "one_cycle"):
        schedule = _schedule(name, 4)
        expected = np.concatenate([schedule.step_rates(0.05, epoch, 3) for epoch in range(4)])
    else:
        falls = {"step": [0, 1, 2, 3], "plateau": [0, 0, 1, 2]}[name]
        expected = 0.05 * 0.1 ** np.repeat(falls, 3)
    np.testing.assert_allclose(watch.steps, expected, rtol=1e-5)
    plain = make("MLPClassifier", **{**options, "lr_schedule": None}).fit(X, y)
    assert not same(plain, alone)
    assert "learning_rate" not in plain.history_


@every_schedule
def test_fits_start_anew_and_partial_fits_go_through(name):
    options = {**SCHEDULED, "lr_schedule": name, "tol": 9.0, "random_state": 3}
    whole = make("MLPClassifier", **options, warm_start=True).fit(X, y)
    parts = make("MLPClassifier", **options)
    for _ in range(4):
        parts.partial_fit(X, y)
    assert same(parts, whole)
    rates = list(whole.history_["learning_rate"])
    assert whole.fit(X, y).history_["learning_rate"] == [*rates, *rates]
    assert parts.partial_fit(X, y).history_["learning_rate"] == [*rates, rates[0]]


@every_schedule
def test_plateau_watches_validation_where_there_is_one(name):
    options = {**SCHEDULED, "lr_schedule": name, "monitor": "loss", "epochs": 5}
    fit = make("MLPClassifier", **options).fit(X[:32], y[:32], X_val=X[32:], y_val=y[32:])
    schedule = _schedule(name, 5, lr_step=1, lr_patience=1)
    values = fit.history_["val_loss"]
    if name in ("step", "plateau"):
        expected = [schedule.epoch_rate(0.05, values[:n]) for n in range(5)]
        np.testing.assert_allclose(fit.history_["learning_rate"], expected, rtol=1e-5)


def test_the_default_rate_is_the_optimizers():
    options = {"lr_schedule": "step", "lr_step": 1, "lr_factor": 0.5, "optimizer": "sgd"}
    rates = make("MLPClassifier", **options).fit(X, y).history_["learning_rate"]
    np.testing.assert_allclose(rates, [0.01, 0.005])


def test_early_stopping_of_the_brain_study():
    """Validation loss, patience 3, at least 10 % better: as if computed by hand."""
    from kmedclf.training.schedules import EarlyStopping

    options = {"n_iter_no_change": 3, "tol": 0.1, "tol_mode": "relative"}
    watch = EarlyStopping(_schedule(None, 20, early_stopping=True, **options))
    curve = [1.0, 0.85, 0.80, 0.79, 0.76, 0.755, 0.70, 0.69, 0.688, 0.687]
    # .85 is 15 % better than 1; .76 then 10.6 % better than .85; nothing is below .684 after it
    stops = []
    for epoch, value in enumerate(curve, 1):
        watch.update(epoch, {"val_loss": value})
        stops.append(watch.exhausted(epoch))
    assert stops.index(True) + 1 == 8
