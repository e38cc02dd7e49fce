"""Keras callbacks, and the progress bar."""

import keras
import numpy as np
import pytest
from helpers import ENGINE, ROUNDED, data, make, same
from keras import callbacks as kc

X, y = data()
HELD = {"X_val": X[:16], "y_val": y[:16]}


class Batches(kc.Callback):
    """Looks at every batch."""

    def on_train_begin(self, logs=None):
        self.steps, self.losses = [], []

    def on_train_batch_end(self, batch, logs=None):
        self.steps.append(batch)
        self.losses.append(logs["loss"])


@pytest.mark.parametrize("name", ENGINE)
@pytest.mark.parametrize("augment", [False, True])
def test_batches_can_be_watched_without_a_difference(name, augment):
    watcher = Batches()
    options = {"augment": augment, "batch_size": 20}
    watched = make(name, callbacks=[watcher], **options).fit(X, y)
    alone = make(name, **options).fit(X, y)
    assert watcher.steps == [0, 1, 2] * 2
    if name in ROUNDED:
        proba = watched.predict_proba(X)
        np.testing.assert_allclose(proba, alone.predict_proba(X), atol=1e-4)
    else:
        assert same(watched, alone)
    assert watched.history_["accuracy"] == alone.history_["accuracy"]
    np.testing.assert_allclose(watched.history_["loss"], alone.history_["loss"], rtol=1e-5)
    assert watcher.losses[-1] == pytest.approx(watched.history_["loss"][-1])


def test_lambda_callbacks():
    calls = []
    callback = kc.LambdaCallback(
        on_train_begin=lambda logs: calls.append("train"),
        on_epoch_begin=lambda epoch, logs: calls.append(epoch),
        on_train_batch_begin=lambda batch, logs: calls.append("batch"),
        on_train_batch_end=lambda batch, logs: calls.append("done"),
        on_epoch_end=lambda epoch, logs: calls.append(sorted(logs)),
        on_train_end=lambda logs: calls.append("end"),
    )
    make("MLPClassifier", batch_size=24, callbacks=[callback]).fit(X, y, **HELD)
    logs = ["accuracy", "loss", "val_accuracy", "val_loss"]
    epoch = ["batch", "done"] * 2
    assert calls == ["train", 0, *epoch, logs, 1, *epoch, logs, "end"]


@pytest.mark.parametrize("hook", ["on_train_batch_begin", "on_train_batch_end"])
def test_a_lambda_for_one_hook_alone(hook):
    seen = []
    callback = kc.LambdaCallback(**{hook: lambda batch, logs: seen.append(batch)})
    make("MLPClassifier", batch_size=24, callbacks=[callback]).fit(X, y)
    assert seen == [0, 1, 0, 1]


def test_model_checkpoint(tmp_path):
    path = tmp_path / "{epoch}.weights.h5"
    callback = kc.ModelCheckpoint(path, monitor="val_loss", save_weights_only=True)
    estimator = make("CNNClassifier", callbacks=[callback]).fit(X, y, **HELD)
    assert {file.name for file in tmp_path.iterdir()} == {"1.weights.h5", "2.weights.h5"}
    model = estimator.model_
    model.load_weights(tmp_path / "2.weights.h5", skip_mismatch=True)
    whole = kc.ModelCheckpoint(tmp_path / "whole.keras", save_best_only=True, monitor="val_loss")
    make("CNNClassifier", callbacks=[whole]).fit(X, y, **HELD)
    proba = keras.models.load_model(tmp_path / "whole.keras").predict(X, verbose=0)
    np.testing.assert_allclose(proba.sum(axis=1), 1, atol=1e-5)


def test_reduce_on_plateau():
    options = {"monitor": "val_loss", "factor": 0.1, "patience": 1, "min_delta": 99.0}
    rates = []
    note = kc.LambdaCallback(
        on_epoch_end=lambda epoch, logs: rates.append(float(note.model.optimizer.learning_rate))
    )
    callbacks = [kc.ReduceLROnPlateau(**options), note]
    make("MLPClassifier", epochs=4, learning_rate=0.1, callbacks=callbacks).fit(X, y, **HELD)
    np.testing.assert_allclose(rates, [0.1, 0.01, 0.001, 0.0001], rtol=1e-5)
    rates.clear()
    make("MLPClassifier", epochs=1, learning_rate=0.1, callbacks=[note]).fit(X, y)
    np.testing.assert_allclose(rates, [0.1], rtol=1e-6)


def test_keras_early_stopping():
    callback = kc.EarlyStopping(monitor="loss", patience=1, min_delta=99)
    estimator = make("MLPClassifier", epochs=9, callbacks=[callback])
    for _ in range(2):
        assert len(estimator.fit(X, y).history_["loss"]) == 2
    assert len(make("MLPClassifier", epochs=9).fit(X, y).history_["loss"]) == 9


def test_tensorboard_and_csv(tmp_path):
    callbacks = [kc.TensorBoard(tmp_path / "logs"), kc.CSVLogger(tmp_path / "log.csv")]
    make("MLPClassifier", callbacks=callbacks).fit(X, y, **HELD)
    assert any((tmp_path / "logs").rglob("events*"))
    assert (tmp_path / "log.csv").read_text().startswith("epoch,accuracy,loss,val_accuracy")


class Fails(kc.Callback):
    def on_epoch_end(self, epoch, logs=None):
        if epoch >= 1:
            raise KeyboardInterrupt


@pytest.mark.parametrize("name", ENGINE)
def test_an_interrupted_fit_leaves_the_last_one(name):
    estimator = make(name, warm_start=True).fit(X, y)
    expected = estimator.predict_proba(X)
    for action in (estimator.fit, estimator.partial_fit):
        estimator.callbacks = [Fails()]
        with pytest.raises(KeyboardInterrupt):
            action(X, y)
        np.testing.assert_array_equal(estimator.predict_proba(X), expected)
    estimator.callbacks = None
    assert same(estimator.fit(X, y), make(name, epochs=4).fit(X, y))


def test_verbose_draws_a_bar(capsys):
    make("CNNClassifier", verbose=1).fit(X, y)
    shown = capsys.readouterr().out
    assert "CNNClassifier" in shown
    assert "2/2" in shown
    assert "loss" in shown
    make("CNNClassifier", verbose=0).fit(X, y)
    assert capsys.readouterr().out == ""


def test_two_copies_of_one_estimator_do_not_mix():
    import copy

    first = make("CNNClassifier").fit(X, y)
    expected = first.predict_proba(X)
    second = copy.copy(first)
    second.partial_fit(X, y)
    np.testing.assert_array_equal(first.predict_proba(X), expected)
    assert not same(first, second)
