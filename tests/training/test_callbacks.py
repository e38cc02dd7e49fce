"""Keras callbacks, and the progress bar."""

import io
import os
import re
import subprocess
import sys

import keras
import numpy as np
import pytest
from helpers import ENGINE, ROUNDED, data, make, same
from keras import callbacks as kc

from kmedclf.training.callbacks import EpochProgress

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


def test_verbose_says_how_many_epochs_it_was(capsys):
    make("CNNClassifier", verbose=1).fit(X, y)
    (line,) = capsys.readouterr().out.splitlines()  # a log gets no line for each epoch
    assert re.fullmatch(r"CNNClassifier 2/2 loss \d\.\d+ in 0:\d\d", line)
    early = {"epochs": 60, "early_stopping": True, "n_iter_no_change": 1, "tol": 9.0}
    fitted = make("CNNClassifier", verbose=1, **early).fit(X, y, **HELD)
    (line,) = capsys.readouterr().out.splitlines()
    n = len(fitted.history_["loss"])
    assert n < 60
    assert line.startswith(f"CNNClassifier {n}/60, stopped early: loss ")
    make("CNNClassifier", verbose=0).fit(X, y)
    assert capsys.readouterr().out == ""


class Screen(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_shows_one_line_that_changes(monkeypatch):
    monkeypatch.setattr("sys.stdout", screen := Screen())
    progress = EpochProgress("Net", stops_early=True)
    progress.set_params({"epochs": 50})
    progress.on_train_begin()
    for epoch in range(3):
        progress._written -= 1  # a second later
        progress.on_epoch_end(epoch, {"loss": 0.5, "val_accuracy": 0.25, "accuracy": 1})
    progress.on_train_end()
    *shown, last = screen.getvalue().split("\r")[1:]
    assert [line.split()[1] for line in shown] == ["1/50", "2/50", "3/50"]
    assert all("at most" in line for line in shown)
    assert last.startswith("Net 3/50, stopped early: loss 0.500 val_accuracy 0.250 in ")
    assert screen.getvalue().count("\n") == 1


QUIET = """
import os
before = dict(os.environ)
import numpy as np
from kmedclf import MLPClassifier
X, y = np.zeros((16, 8, 8, 1), np.uint8), np.arange(16) % 2
MLPClassifier(units=2, epochs=1, verbose=1, random_state=0).fit(X, y)
assert dict(os.environ) == before
"""


def test_a_fresh_process_starts_without_tensorflows_messages():
    env = {name: one for name, one in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    done = subprocess.run(
        [sys.executable, "-c", QUIET], env=env, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    assert done.stdout.startswith("MLPClassifier 1/1 ")


def test_two_copies_of_one_estimator_do_not_mix():
    import copy

    first = make("CNNClassifier").fit(X, y)
    expected = first.predict_proba(X)
    second = copy.copy(first)
    second.partial_fit(X, y)
    np.testing.assert_array_equal(first.predict_proba(X), expected)
    assert not same(first, second)
