"""Augmentation: drawn for each image, seeded, safe for the labels, and only in training."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import data, make, same

from kmedclf import augmentation
from kmedclf.augmentation import geometry
from kmedclf.training import batches

every_set = pytest.mark.parametrize("name", augmentation.NAMES)
SHAPES = [(8, 8, 3), (7, 7, 1), (6, 9, 3), (1, 5, 1), (28, 28, 3)]


def _image(height=8, width=8, channels=3):
    """An image without symmetry, all pixels different, values from 0 to 255."""
    size = height * width * channels
    pixels = np.random.default_rng(0).permutation(np.linspace(0, 255, size))
    return pixels.reshape(height, width, channels).astype(np.float32)


def _draw(names, image, n=64, seed=(1, 2), dtype=tf.float32):
    batch = tf.constant(np.repeat(image[None], n, axis=0))
    names = [names] if isinstance(names, str) else names
    return augmentation.make(names, dtype)(batch, tf.constant(seed, tf.int32)).numpy()


@every_set
@pytest.mark.parametrize("shape", SHAPES)
def test_shape_dtype_and_range(name, shape):
    images = _draw(name, _image(*shape), dtype=tf.uint8)
    assert images.shape == (64, *shape)
    assert images.dtype == np.float32
    assert images.min() >= -1e-3
    assert images.max() <= 255.001
    assert np.isfinite(images).all()


@every_set
def test_each_image_gets_a_draw_of_its_own(name):
    images = _draw(name, _image())
    different = {image.round(3).tobytes() for image in images}
    assert len(different) >= 2 if name == "mirror" else len(different) >= 4
    # And not one draw at a time for the whole batch, nor the same one in turn.
    first = [np.array_equal(image, images[0]) for image in images]
    assert 1 <= sum(first) < 60


@every_set
def test_seeds(name):
    one, again, other, later = (
        _draw(name, _image(), seed=seed) for seed in ((1, 2), (1, 2), (2, 2), (1, 1026))
    )
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)
    assert not np.array_equal(one, later)  # the next batch's number adds 1024


@every_set
def test_an_image_is_augmented_alike_in_whatever_company(name):
    image = _image()
    batch = np.concatenate([image[None], np.zeros((63, 8, 8, 3), np.float32)])
    alone = _draw(name, image)[0]
    among = augmentation.make([name])(tf.constant(batch), tf.constant([1, 2])).numpy()
    np.testing.assert_array_equal(among[0], alone)
    np.testing.assert_allclose(among[1:], 0, atol=1e-5)  # nothing bleeds over


@pytest.mark.parametrize("batch_size", [7, 40])
def test_large_images_are_augmented_in_pieces(batch_size):
    """In a chunk of several pieces, the last one padded, every image is drawn for and none lost."""
    shape = (224, 224, 3)
    images = np.random.default_rng(0).integers(0, 256, (90, *shape), np.uint8)
    columns = tf.range(90, dtype=tf.int64), tf.range(90)
    size = batches.chunk_size(shape, batch_size, augmented=True)
    chunks = [
        batches.chunk(lambda index: tf.gather(images, index), columns, *which, augment=("flips",))
        for which in zip(*batches.plan(3, 0, 90, size), strict=True)
    ]
    seen, kinds = [], []
    for augmented, place in chunks:
        assert augmented.dtype == tf.uint8
        of_chunk = []
        for image, i in zip(augmented.numpy(), place.numpy(), strict=True):
            views = [images[i][::up, ::left] for up in (1, -1) for left in (1, -1)]
            of_chunk.append(next(n for n, one in enumerate(views) if np.array_equal(one, image)))
            seen.append(i)
        kinds.append(of_chunk)
    assert sorted(seen) == list(range(90))
    assert [len(set(one)) for one in kinds[:2]] == [4, 4] or batch_size == 7
    pieces = kinds[0][:10], kinds[0][10:20]
    assert batch_size == 7 or pieces[0] != pieces[1]  # each drawn anew


@pytest.mark.parametrize("name", ["mirror", "flips", "dihedral"])
@pytest.mark.parametrize("shape", SHAPES)
def test_symmetries_move_pixels_and_change_none(name, shape):
    image = _image(*shape)
    for drawn in _draw(name, image):
        np.testing.assert_array_equal(np.sort(drawn.reshape(-1, shape[2]), axis=0),
                                      np.sort(image.reshape(-1, shape[2]), axis=0))  # fmt: skip


def _symmetries(image, name):
    square = image.shape[0] == image.shape[1]
    up, left = image[::-1], image[:, ::-1]
    flips = [image, up, left, up[:, ::-1]]
    both = flips + ([one.transpose(1, 0, 2) for one in flips] if square else [])
    return {"mirror": [image, left], "flips": flips, "dihedral": both}[name]


@pytest.mark.parametrize("name", ["mirror", "flips", "dihedral"])
@pytest.mark.parametrize("shape", [(8, 8, 3), (6, 9, 3)])
def test_symmetries_are_equally_likely(name, shape):
    image = _image(*shape)
    drawn = _draw(name, image, n=4000)
    expected = _symmetries(image, name)
    count = [np.all(drawn == one, axis=(1, 2, 3)).sum() for one in expected]
    assert sum(count) == 4000
    p = 1 / len(expected)
    assert np.all(np.abs(np.array(count) - 4000 * p) < 4.5 * np.sqrt(4000 * p * (1 - p)))


def test_shift_reflects():
    image = _image(8, 8, 1)
    padded = np.pad(image, [(2, 2), (2, 2), (0, 0)], mode="reflect")
    windows = [padded[i : i + 8, j : j + 8] for i in range(5) for j in range(5)]
    drawn = _draw("shift", image, n=5000)
    count = np.array([np.all(drawn == one, axis=(1, 2, 3)).sum() for one in windows])
    assert count.sum() == 5000
    assert np.all(np.abs(count - 200) < 4.5 * np.sqrt(200))


def test_flip_rotate_is_distributed_as_keras_layers():
    """Mean and spread of every pixel over many draws of one image, against Keras' own layers."""
    n, size = 6000, 12
    ramp = np.linspace(0, 1, size)
    image = (ramp[:, None] + 3 * ramp[None] ** 2)[..., None] * np.array([60, 40], np.float32)
    image[2:5, 7:9] = 10  # a mark off the centre
    image = image.astype(np.float32)
    ours = _draw("flip_rotate", image, n=n)
    # Two layers: RandomFlip() alone flips both ways or not at all (Keras 3.15), one draw for both.
    layers = [
        keras.layers.RandomFlip("horizontal", seed=1),
        keras.layers.RandomFlip("vertical", seed=2),
        keras.layers.RandomRotation(0.2, fill_mode="reflect", seed=3),
    ]
    theirs = np.repeat(image[None], n, 0)
    for layer in layers:
        theirs = np.asarray(layer(theirs, training=True))
    spread = theirs.std(axis=0)
    error = spread * np.sqrt(2 / n)
    assert np.all(np.abs(ours.mean(axis=0) - theirs.mean(axis=0)) < 5 * error + 1e-3)
    np.testing.assert_allclose(ours.std(axis=0), spread, rtol=0.15, atol=0.3)


def test_flip_rotate_without_an_angle_is_a_flip():
    image = _image()
    drawn = geometry.flip_rotate(np.repeat(image[None], 50, 0), tf.constant([3, 4]), turn=0.0)
    for one in drawn.numpy():
        assert any(np.allclose(one, other, atol=1e-3) for other in _symmetries(image, "flips"))


def test_sets_in_a_list_apply_in_order():
    image = _image()
    both = _draw(["mirror", "shift"], image)
    assert not np.array_equal(both, _draw("shift", image))
    np.testing.assert_array_equal(_draw(["mirror"], image), _draw("mirror", image))
    twice = _draw(["mirror", "mirror"], image, n=400)
    still = np.all(twice == image, axis=(1, 2, 3)).mean()
    assert 0.35 < still < 0.65  # two draws, not one draw twice


def test_names_of_the_default():
    assert augmentation.NAMES == tuple(sorted(augmentation.NAMES))
    X, y = data()
    default = make("CNNClassifier").fit(X, y)
    assert same(make("CNNClassifier", augment=True).fit(X, y), default)
    assert same(make("CNNClassifier", augment="flip_rotate").fit(X, y), default)
    assert not same(make("CNNClassifier", augment=False).fit(X, y), default)
    flat = X.reshape(48, -1)
    plain = make("MLPClassifier").fit(flat, y)
    assert same(make("MLPClassifier", augment=False).fit(flat, y), plain)


@pytest.mark.parametrize("name", [*augmentation.NAMES, list(augmentation.NAMES)], ids=str)
def test_in_training_only_and_seeded(name):
    X, y = data()
    one, again = (make("CNNClassifier", augment=name).fit(X, y) for _ in range(2))
    assert same(one, again)
    assert not same(one, make("CNNClassifier", augment=False).fit(X, y))
    np.testing.assert_array_equal(one.predict_proba(X), one.predict_proba(X))
    plain = make("CNNClassifier", augment=False).fit(X, y)
    plain.weights_ = one.weights_  # predict knows of no augmentation
    np.testing.assert_array_equal(plain.predict_proba(X), one.predict_proba(X))
    held = make("CNNClassifier", augment=name, epochs=1).fit(X, y, X_val=X, y_val=y)
    assert held.history_["val_accuracy"][-1] == held.score(X, y)
