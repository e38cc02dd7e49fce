"""Keras callbacks: what they see, what they add, and what is left of them after a fit."""

import copy
import inspect
import itertools
import pickle
import subprocess
import sys

import keras
import numpy as np
import pytest
from helpers import NAMES, data, make, same
from keras import callbacks as kc
from sklearn.base import clone

X, y = data()
HELD = {"X_val": X[:20], "y_val": y[:20]}
Y2 = np.stack([y == 0, y < 2], axis=1).astype(int)  # multilabel


def _saved():
    """List networks, labels and precisions: what a network adds to a file is its layers.

    Labels and precision change the head and the policy, which all have in common: they are tried
    on a plain network, and among the slow tests on one with batch normalisation.
    """
    both = list(itertools.product(("one class", "several labels"), ("float32", "mixed_float16")))
    for name in NAMES:
        for labels, precision in (
            both if name in ("CNNClassifier", "DeepResNetClassifier") else both[:1]
        ):
            marks = [] if name == "CNNClassifier" else [pytest.mark.slow]
            yield pytest.param(name, labels, precision, marks=marks)


@pytest.mark.parametrize(("name", "labels", "precision"), list(_saved()))
def test_saved_models_predict_probabilities(name, labels, precision, tmp_path):
    labels = y if labels == "one class" else Y2
    whole = kc.ModelCheckpoint(tmp_path / "best.keras")
    weights = kc.ModelCheckpoint(tmp_path / "best.weights.h5", save_weights_only=True)
    estimator = make(name, callbacks=[whole, weights], precision=precision).fit(X, labels)
    model = keras.models.load_model(tmp_path / "best.keras")
    proba = estimator.predict_proba(X)
    np.testing.assert_allclose(model.predict(X, verbose=0), proba, atol=1e-3)
    alone = estimator.model_
    alone.set_weights([np.zeros_like(one) for one in alone.get_weights()])
    alone.load_weights(tmp_path / "best.weights.h5")
    np.testing.assert_allclose(alone.predict(X, verbose=0), proba, atol=1e-3)
    accuracy = np.mean((proba > 0.5) == labels) if labels.ndim == 2 else estimator.score(X, y)
    loss, found = model.evaluate(X, labels, verbose=0)
    assert found == pytest.approx(accuracy, abs=0.05)
    assert np.isfinite(loss)


def test_the_model_in_training_gives_probabilities():
    seen = []
    callback = kc.LambdaCallback(
        on_epoch_end=lambda *_: seen.append(callback.model.predict(X, verbose=0))
    )
    estimator = make("MLPClassifier", callbacks=[callback]).fit(X, y)
    assert same(estimator, make("MLPClassifier").fit(X, y))
    np.testing.assert_allclose(seen[-1], estimator.predict_proba(X), atol=1e-6)
    assert np.abs(seen[0] - seen[-1]).max() > 1e-4


def test_saved_models_load_after_import_alone(tmp_path):
    callback = kc.ModelCheckpoint(tmp_path / "best.keras")
    options = {"optimizer": "muon", "normalize": "whiten", "batch_norm": True}
    estimator = make("CNNClassifier", callbacks=[callback], **options).fit(X, y)
    np.savez(tmp_path / "X.npz", X=X, proba=estimator.predict_proba(X))
    code = f"""
import keras
import kmedclf
import numpy as np
given = np.load({str(tmp_path / "X.npz")!r})
model = keras.models.load_model({str(tmp_path / "best.keras")!r})
np.testing.assert_allclose(model.predict(given["X"], verbose=0), given["proba"], atol=1e-5)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


class Adds(kc.Callback):
    """Adds metrics of its own, of several types."""

    def on_epoch_end(self, epoch, logs=None):
        logs["mine"] = np.float32(epoch)
        logs["tensor"] = keras.ops.convert_to_tensor(2.0)
        if epoch:
            logs["later"] = 1
        logs["accuracy"] = 0.25


@pytest.mark.parametrize("later", [[], [kc.History()], [kc.LambdaCallback()]])
def test_metrics_of_callbacks_reach_the_history(later, tmp_path):
    estimator = make("MLPClassifier", callbacks=[Adds(), *later]).fit(X, y, **HELD)
    assert estimator.history_["mine"] == [0.0, 1.0]
    assert estimator.history_["tensor"] == [2.0, 2.0]
    assert estimator.history_["later"] == [1.0]
    assert estimator.history_["accuracy"] == [0.25, 0.25]
    assert all(type(one) is float for row in estimator.history_.values() for one in row)
    estimator.save(tmp_path / "model.kmedclf")
    assert same(estimator.fit(X, y, **HELD), make("MLPClassifier").fit(X, y))


class Notes(kc.Callback):
    """Notes down every hook that is called, with the names in its logs."""

    def __init__(self):
        super().__init__()
        self.calls = []


def _noting(name):
    def hook(self, *given, **named):
        logs = named.get("logs", given[-1] if given else None) or {}
        step = given[:1] if "batch" in name or "epoch" in name else ()
        self.calls.append((name, *step, *sorted(logs)))

    return hook


for _hook in [name for name in vars(kc.Callback) if name.startswith("on_")]:
    setattr(Notes, _hook, _noting(_hook))


@pytest.mark.parametrize("held", [HELD, {}], ids=["validated", "alone"])
@pytest.mark.parametrize("labels", [y, Y2], ids=["one class", "several labels"])
def test_hooks_are_called_as_by_keras(held, labels):
    ours, theirs = Notes(), Notes()
    estimator = make("MLPClassifier", batch_size=16, callbacks=[ours], augment=False)
    model = estimator.fit(X, labels, **({**held, "y_val": labels[:20]} if held else {})).model_
    loss = "binary_crossentropy" if labels.ndim == 2 else "sparse_categorical_crossentropy"
    model.compile("sgd", loss, metrics=["accuracy"])
    given = (held["X_val"], labels[:20]) if held else None
    model.fit(X, labels, 16, 2, verbose=0, callbacks=[theirs], validation_data=given)
    assert ours.calls == theirs.calls
    assert same(estimator, make("MLPClassifier", batch_size=16, augment=False).fit(X, labels))


def test_validation_logs():
    seen = []
    callback = kc.LambdaCallback()
    callback.on_test_batch_end = lambda step, logs=None: seen.append((step, logs))
    estimator = make("MLPClassifier", batch_size=16, callbacks=[callback]).fit(X, y, **HELD)
    alone = make("MLPClassifier", batch_size=16).fit(X, y, **HELD)
    assert [step for step, _ in seen] == [0, 1] * 2
    for epoch, logs in ((0, seen[1][1]), (1, seen[3][1])):
        assert logs["loss"] == pytest.approx(estimator.history_["val_loss"][epoch])
        assert logs["accuracy"] == pytest.approx(estimator.history_["val_accuracy"][epoch])
    np.testing.assert_allclose(estimator.history_["val_loss"], alone.history_["val_loss"], 1e-5)


NEEDS = {
    "BackupAndRestore": lambda path: {"backup_dir": str(path / "backup")},
    "CSVLogger": lambda path: {"filename": path / "log.csv"},
    "LearningRateScheduler": lambda path: {"schedule": abs_rate},
    "ModelCheckpoint": lambda path: {"filepath": path / "m.keras"},
    "RemoteMonitor": None,  # sends to a server
    "OrbaxCheckpoint": None,  # needs a package of its own
    "SwapEMAWeights": None,  # needs an optimizer with use_ema
    "TensorBoard": lambda path: {"log_dir": str(path / "logs"), "update_freq": 1},
    "CallbackList": None,  # no callback of a user
    "Callback": lambda path: {},
}


def abs_rate(epoch, rate):
    return 0.5 * rate


def _all_of_keras():
    names = [name for name in dir(kc) if inspect.isclass(getattr(kc, name))]
    return [name for name in names if NEEDS.get(name, len) is not None]


def _raise(*_):
    raise KeyError("stop")


@pytest.mark.parametrize("fails", [False, True], ids=["fits", "fails"])
@pytest.mark.parametrize("name", _all_of_keras())
def test_estimators_can_be_copied_afterwards(name, fails, tmp_path):
    callback = getattr(kc, name)(**NEEDS.get(name, lambda _: {})(tmp_path))
    callbacks = [callback]
    if fails:
        callbacks.append(kc.LambdaCallback(on_epoch_end=_raise))
    estimator = make("MLPClassifier", callbacks=callbacks)
    for _ in range(2):
        if fails:
            with pytest.raises(KeyError, match="stop"):
                estimator.fit(X, y, **HELD)
        else:
            estimator.fit(X, y, **HELD)
        assert estimator.callbacks is callbacks
        assert callbacks[0] is callback
        assert callback.model is None
        assert len(pickle.dumps(callback)) < 100_000
        for copied in (copy.deepcopy(estimator), pickle.loads(pickle.dumps(estimator))):
            assert type(copied.callbacks[0]) is type(callback)
        if not fails:
            clone(estimator).fit(X, y, **HELD)


def test_results_stay_in_the_users_callback(tmp_path):
    class Writes(kc.Callback):
        def on_train_begin(self, logs=None):
            self.file = open(tmp_path / "own.txt", "w")
            self.rows = []

        def on_epoch_end(self, epoch, logs=None):
            self.rows.append(logs["loss"])
            self.file.write(f"{epoch}\n")

    history, stop, own = kc.History(), kc.EarlyStopping("loss", restore_best_weights=True), Writes()
    estimator = make("MLPClassifier", callbacks=[history, stop, own]).fit(X, y)
    assert history.history["loss"] == estimator.history_["loss"] == own.rows
    assert len(stop.best_weights) == len(estimator.weights_)
    own.file.close()  # left open by its owner, so it is the owner's
    assert (tmp_path / "own.txt").read_text() == "0\n1\n"


def test_a_bar_ends_with_a_fit_that_fails(capsys):
    estimator = make("MLPClassifier", callbacks=[kc.LambdaCallback(on_epoch_end=_raise)], verbose=1)
    for _ in range(2):  # rich has one bar at a time
        with pytest.raises(KeyError, match="stop"):
            estimator.fit(X, y)
    make("MLPClassifier", verbose=1).fit(X, y)
    assert "2/2" in capsys.readouterr().out
