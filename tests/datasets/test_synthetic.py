"""The drawn blood cells: seeded, in proportion, and worth learning."""

import time

import numpy as np
import pytest

from kmedclf import datasets
from kmedclf.datasets import make_blood_cells


@pytest.mark.parametrize("size", [28, 8, 33, 64])
@pytest.mark.parametrize("n", [1, 40, 300])
def test_shapes_and_dtypes(n, size):
    X, y = make_blood_cells(n, size, random_state=0)
    assert (X.shape, X.dtype) == ((n, size, size, 3), np.uint8)
    assert (y.shape, y.dtype) == ((n,), np.int64)


@pytest.mark.parametrize(
    "seed", [lambda: 3, lambda: np.random.RandomState(3), lambda: np.random.default_rng(3)]
)
def test_same_seed_same_set(seed):
    (X, y), (X2, y2) = (
        make_blood_cells(300, random_state=seed()),
        make_blood_cells(300, random_state=seed()),
    )
    np.testing.assert_array_equal(X, X2)
    np.testing.assert_array_equal(y, y2)


def test_seeds_differ():
    seen = [make_blood_cells(20, random_state=seed)[0] for seed in (0, 1, None, None)]
    assert len({X.tobytes() for X in seen}) == 4
    state = np.random.RandomState(0)
    assert (
        make_blood_cells(20, random_state=state)[0] != make_blood_cells(20, random_state=state)[0]
    ).any()


@pytest.mark.parametrize("seed", [0, None])
def test_global_random_state_is_left_alone(seed):
    np.random.seed(7)
    expected = np.random.rand(3)
    np.random.seed(7)
    make_blood_cells(20, random_state=seed)
    np.testing.assert_array_equal(np.random.rand(3), expected)


@pytest.mark.parametrize("n", [15, 1000, 11959])
def test_classes_in_proportion(n):
    # BloodMNIST's training split, class by class
    counts = np.array([852, 2181, 1085, 2026, 849, 993, 2330, 1643])
    assert counts.sum() == datasets.info("bloodmnist").n_samples["train"]
    _, y = make_blood_cells(n, 8, random_state=0)
    drawn = np.bincount(y, minlength=8)
    assert np.all(np.abs(drawn - n * counts / counts.sum()) < 1)
    assert drawn.min() >= 1
    assert (np.diff(y) < 0).any()  # shuffled


def test_every_image_is_another_and_has_contrast():
    X, _ = make_blood_cells(500, random_state=0)
    assert len({x.tobytes() for x in X}) == len(X)
    assert X.astype(float).std((1, 2)).mean(1).min() > 5


def test_a_larger_image_shows_the_same_kind_of_cell():
    small, y = make_blood_cells(400, 28, random_state=0)
    large, y_large = make_blood_cells(400, 56, random_state=0)
    for label in range(8):
        mean = [X[z == label].mean((0, 1, 2)) for X, z in ((small, y), (large, y_large))]
        np.testing.assert_allclose(*mean, atol=8)


def test_fast():
    # 1.2 s for 10,000 on two cores; the bound leaves room for a busy machine.
    start = time.perf_counter()
    make_blood_cells(2000, random_state=0)
    assert time.perf_counter() - start < 4


def test_mean_colour_is_not_enough():
    from sklearn.ensemble import RandomForestClassifier

    X, y = make_blood_cells(1500, random_state=0)
    colour = X.mean((1, 2))
    forest = RandomForestClassifier(100, random_state=0).fit(colour[:1000], y[:1000])
    assert 0.2 < forest.score(colour[1000:], y[1000:]) < 0.6


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"n_samples": 0}, "n_samples"),
        ({"n_samples": 10.0}, "n_samples"),
        ({"n_samples": True}, "n_samples"),
        ({"image_size": 7}, "image_size"),
        ({"image_size": (28, 28)}, "image_size"),
        ({"random_state": -1}, "random_state"),
        ({"random_state": "0"}, "random_state"),
        ({"random_state": True}, "random_state"),
    ],
)
def test_wrong_parameters(options, name):
    with pytest.raises(ValueError, match=f"'{name}' parameter of make_blood_cells .* instead"):
        make_blood_cells(**options)


def _network(kind):
    import keras

    layers = keras.layers
    inputs = keras.Input((28, 28, 3))
    x = layers.Rescaling(1 / 255)(inputs)
    if kind == "mlp":
        x = layers.Dense(128, "relu")(layers.Flatten()(x))
    elif kind == "cnn":
        x = layers.MaxPooling2D(2)(layers.Conv2D(128, 3, activation="relu")(x))
        x = layers.Flatten()(x)
    else:
        x = layers.Conv2D(64, 3, padding="same")(x)
        x = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))
        for filters in (128, 256):
            shortcut = layers.Conv2D(filters, 1, strides=2)(x)
            x = layers.Conv2D(filters, 3, strides=2, padding="same")(x)
            x = layers.BatchNormalization(momentum=0.9)(x)
            for _ in range(2):
                x = layers.Conv2D(filters, 3, padding="same")(layers.ReLU()(x))
                x = layers.BatchNormalization(momentum=0.9)(x)
            x = layers.ReLU()(layers.Add()([x, shortcut]))
        x = layers.Dense(256, "relu")(layers.GlobalAveragePooling2D()(x))
    return keras.Model(inputs, layers.Dense(8, "softmax")(x))


@pytest.mark.slow
def test_deeper_networks_see_more():
    import keras

    X, y = make_blood_cells(3000, random_state=0)
    accuracy = {}
    for kind in ("mlp", "cnn", "resnet"):
        keras.utils.set_random_seed(0)
        model = _network(kind)
        rate = keras.optimizers.schedules.CosineDecay(1e-3, 12 * 63)
        model.compile(
            keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"]
        )
        model.fit(X[:2000], y[:2000], batch_size=32, epochs=12, verbose=0)
        accuracy[kind] = model.evaluate(X[2000:], y[2000:], verbose=0)[1]
    assert 0.5 < accuracy["mlp"] < accuracy["cnn"] - 0.05 < accuracy["resnet"] - 0.10, accuracy
    assert accuracy["resnet"] > 0.9, accuracy
