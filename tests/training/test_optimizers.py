"""Muon on kernels of convolutions; that its step is Keras' is in training/test_options.py."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import ENGINE_EVERY, data, make

from kmedclf.training import cache

X, y = data()


def moved(name, optimizer="muon", **options):
    """By how much one step moves each trainable variable, by path."""
    options = {"optimizer": optimizer, "learning_rate": 1e-2, "epochs": 1, **options}
    estimator = make(name, **options).fit(X, y)
    with cache.borrow(estimator._spec) as program:
        program.reset(np.random.SeedSequence(0), 1e-2, {})
        before = [one.numpy() for one in program.model.trainable_variables]
        program.train_step(tf.constant(X), tf.constant(y, tf.int32), tf.ones(len(X)))
        return {
            one.path: one.numpy() - start
            for one, start in zip(program.model.trainable_variables, before, strict=True)
        }


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("name", ["CNNClassifier", "ResNetClassifier"])
def test_a_convolution_moves_by_a_matrix_that_stretches_no_direction_more_than_others(
    name, precision
):
    found = moved(name, precision=precision, weight_decay=0.0)
    kernels = {path: step for path, step in found.items() if path.endswith("/kernel")}
    assert kernels.pop("logits/kernel").ndim == 2
    assert kernels
    for path, step in kernels.items():
        matrix = step.reshape(-1, step.shape[-1])
        stretch = np.linalg.svd(matrix, compute_uv=False) / (1e-2 * 0.2 * max(matrix.shape) ** 0.5)
        assert stretch.max() < 1.4, path  # as five iterations leave them
        assert np.sort(stretch)[-2] > 0.6, path  # where there is a gradient


def test_bfloat16_moves_weights_as_float32_does():
    low, high = (moved("CNNClassifier", precision=p) for p in ("mixed_bfloat16", "float32"))
    for one, other in zip(low.values(), high.values(), strict=True):
        assert (one * other).sum() > 0.95 * np.linalg.norm(one) * np.linalg.norm(other)


@pytest.mark.parametrize("name", ENGINE_EVERY)
def test_what_is_no_kernel_of_a_matrix_moves_as_by_adam(name):
    by_muon, by_adam = (
        moved(name, optimizer, weight_decay=0.0).items() for optimizer in ("muon", "adamw")
    )
    full = []
    for (path, step), (_, expected) in zip(by_muon, by_adam, strict=True):
        if path.split("/")[-1] != "kernel" or path.startswith("logits") or step.shape[-1] == 1:
            largest = abs(step).max()
            assert largest == pytest.approx(abs(expected).max(), rel=1e-2, abs=1e-5), path
            full.append(largest == pytest.approx(1e-2, rel=1e-2))  # the rate: Adam's first step
    assert sum(full) > len(full) / 2  # others have gradients as small as its epsilon, or none


def test_a_model_in_training_is_saved_and_loaded(tmp_path):
    path = tmp_path / "model.keras"
    callback = keras.callbacks.ModelCheckpoint(path)
    make("CNNClassifier", optimizer="muon", callbacks=[callback]).fit(X, y)
    assert type(keras.models.load_model(path).optimizer).__name__ == "Muon"


@pytest.mark.parametrize("name", ["MLPClassifier", "CNNClassifier"])
def test_muon_learns_in_few_epochs(name):
    fits = (
        make(name, optimizer=one, learning_rate=1e-2, epochs=8).fit(X, y) for one in ("muon", "sgd")
    )
    muon, sgd = (fit.history_["loss"][-1] for fit in fits)
    assert muon < sgd
