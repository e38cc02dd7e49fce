"""KerasTuner's own tuners take a space and an estimator's Keras model, unchanged."""

import warnings

import keras
import numpy as np
import pytest
from helpers import ALL, data, make

from kmedclf import CNNClassifier, KerasImageClassifier
from kmedclf.search import SearchSpace

X, y = data(24)
LABELS = np.stack([y == 0, y < 2], axis=1).astype(int)

every = pytest.mark.parametrize("name", ALL)


def test_a_random_search_of_keras_tuner(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # KerasTuner's own
        import keras_tuner

        space = SearchSpace.load("cnn").fixed({"filters": 8, "augment": False})

        def build(hp):
            found = {**space.hyperparameters(hp), "filters": 2, "pool_size": 2}
            return CNNClassifier(**found, random_state=0).build_model((8, 8, 3), 3)

        tuner = keras_tuner.RandomSearch(
            build, objective="val_accuracy", max_trials=2, seed=1, directory=tmp_path
        )
        tuner.search(X, y, epochs=1, validation_data=(X, y), verbose=0)
        found = tuner.get_best_hyperparameters(2)
        assert {"kernel_size", "optimizer"} <= found[0].values.keys()
        assert tuner.get_best_models(1)[0].predict(X, verbose=0).shape == (24, 3)


@every
def test_the_model_is_what_fit_trains(name):
    estimator = make(name)
    model = estimator.build_model((8, 8, 3), 3)
    assert not estimator.initialized_
    started = make(name, augment=False).initialize(X, y)
    if name != "CNNClassifier":  # its weights may be measured on the images
        for one, other in zip(model.get_weights(), started.weights_, strict=True):
            np.testing.assert_array_equal(one, other)
    assert np.isfinite(model.fit(X, y, verbose=0).history["loss"]).all()


@pytest.mark.parametrize("options", [
    {}, {"loss": "focal"}, {"label_smoothing": 0.1}, {"weight_decay": 0.1, "optimizer": "adamw"},
    {"learning_rate": 0.3, "optimizer": "sgd", "momentum": 0.5}, {"clipnorm": 0.01},
], ids=str)  # fmt: skip
@pytest.mark.parametrize("target", [y, pytest.param(LABELS, marks=pytest.mark.slow)])
def test_optimizer_and_loss_are_the_estimators(options, target):
    """One step on all images, without augmentation, gives the weights of the estimator's step."""
    options = {"augment": False, "epochs": 1, "batch_size": 24, **options}
    several = target.ndim == 2
    estimator = make("CNNClassifier", **options)
    k = target.shape[1] if several else 3
    model = estimator.build_model((8, 8, 3), k, multilabel=several)
    model.fit(X, target, batch_size=24, epochs=1, shuffle=False, verbose=0)
    estimator.fit(X, target)
    for one, other in zip(model.get_weights(), estimator.weights_, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=2e-4)


def test_a_build_function_has_one_too():
    def build(meta, units=4):
        return keras.Sequential([
            keras.Input(meta["X_shape_"][1:]), keras.layers.Flatten(), keras.layers.Dense(units),
            keras.layers.Dense(meta["n_classes_"], activation="softmax"),
        ])  # fmt: skip

    net = KerasImageClassifier(
        build, loss="sparse_categorical_crossentropy", optimizer__learning_rate=0.25
    )
    model = net.build_model((8, 8, 3), 3, dtype="float32")
    assert float(model.optimizer.learning_rate) == 0.25
    assert np.isfinite(model.evaluate(X.astype("float32"), y, verbose=0)).all()
