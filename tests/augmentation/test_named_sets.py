"""The sets of the brain study: each image its own draw, within what the set promises."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import data, make, same

from kmedclf import augmentation
from kmedclf.augmentation import colour, geometry

KEY = tf.constant([3, 4])


def _picture(height=24, width=24, channels=3):
    """A smooth image without symmetry, values from 0 to 255."""
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    planes = [100 + 80 * np.sin(3 * x + 2 * k) + 60 * y * x for k in range(channels)]
    return np.stack(planes, axis=-1).astype(np.float32)


def _repeat(image, n=200):
    return tf.constant(np.repeat(image[None], n, 0))


def test_basic_flips_and_turns_a_little():
    image = _picture()
    drawn = augmentation.make(["basic"])(_repeat(image), KEY).numpy()
    flips = np.stack([image, image[::-1], image[:, ::-1], image[::-1, ::-1]])
    nearest = np.abs(drawn[:, None] - flips[None]).mean(axis=(2, 3, 4)).argmin(axis=1)
    assert np.all(np.abs(np.bincount(nearest, minlength=4) - 50) < 4.5 * np.sqrt(37.5))
    still = geometry.flip_rotate(_repeat(image), KEY, turn=15 / 360).numpy()
    np.testing.assert_array_equal(drawn, still)


def test_rotate_is_within_fifteen_degrees():
    """The direction of a bright spot right of the middle says how far the image was turned."""
    size = 41
    y, x = np.mgrid[:size, :size] - size // 2
    spot = np.exp(-((x - 14) ** 2 + y**2) / 6)[..., None].astype(np.float32)
    drawn = geometry.rotate(_repeat(spot, 500), KEY).numpy()[..., 0]
    total = drawn.sum(axis=(1, 2))
    angle = np.degrees(np.arctan2((drawn * y).sum(axis=(1, 2)) / total,
                                  (drawn * x).sum(axis=(1, 2)) / total))  # fmt: skip
    assert np.abs(angle).max() <= 15.3
    assert np.abs(angle).max() > 14
    assert abs(angle.mean()) < 5 * 15 / np.sqrt(3 * 500)


def test_a_map_that_moves_nothing():
    for shape in ((7, 9, 2), (1, 5, 1), (6, 6, 3)):
        image = _picture(*shape)
        still = geometry.project(_repeat(image, 3), tf.eye(3, batch_shape=[3]))
        np.testing.assert_allclose(still, _repeat(image, 3), atol=1e-2)


def test_crop_shows_a_part_of_the_area():
    """On an image of its own coordinates, the corners say which part is seen."""
    y, x = np.mgrid[-1:1:33j, -1:1:49j].astype(np.float32)
    drawn = geometry.crop(_repeat(np.stack([x, y], axis=-1), 500), KEY).numpy()
    width = (drawn[:, 0, -1, 0] - drawn[:, 0, 0, 0]) / 2
    height = (drawn[:, -1, 0, 1] - drawn[:, 0, 0, 1]) / 2
    assert np.all(width * height <= 1.001)
    assert np.all(width * height >= 0.8 * 0.8)  # cut where it does not fit
    assert np.mean((width * height > 0.79) & (width * height < 1.001)) > 0.5
    assert np.all((width / height > 0.74) & (width / height < 1.35))
    assert np.abs(drawn).max() <= 1.001


def test_perspective_moves_corners_inwards():
    inwards = tf.linalg.inv(geometry._perspective(KEY, 300)).numpy()
    corners = np.array([[-1, -1, 1], [1, -1, 1], [1, 1, 1], [-1, 1, 1]], np.float32)
    moved = np.einsum("bij,kj->bki", inwards, corners)
    moved = moved[..., :2] / moved[..., 2:]
    step = (corners[:, :2] - moved) * np.sign(corners[:, :2])
    assert step.min() >= -1e-3
    assert step.max() <= 0.5 + 1e-3  # of 2: a quarter of the side
    assert step.max() > 0.45
    assert step.std(axis=0).min() > 0.1


def test_distortion_puts_half_the_images_in_perspective_and_turns_half():
    """The other maps are affine: an image of coordinates stays evenly spaced."""
    y, x = np.mgrid[-1:1:33j, -1:1:33j].astype(np.float32)
    drawn = geometry.distortion(_repeat(np.stack([x, y], axis=-1), 400), KEY).numpy()
    coin = geometry.uniform(KEY, 0, [400], 0.0, 1.0).numpy() < 0.5
    inner = drawn[:, 12:21, 12:21]
    bent = sum(np.abs(np.diff(inner, 2, axis=axis)).max(axis=(1, 2, 3)) for axis in (1, 2)) > 1e-4
    assert not bent[~coin].any()
    assert bent[coin].mean() > 0.95
    assert 155 < coin.sum() < 245
    assert np.abs(drawn).max() <= 1.001
    # and half in the affine map, without which a crop is left: columns stay columns
    turned = np.ptp(inner[..., 0], axis=1).max(axis=1) > 1e-3
    second = geometry.uniform(KEY, 3, [400], 0.0, 1.0).numpy() < 0.5
    assert not turned[~coin & ~second].any()
    assert turned[~coin & second].mean() > 0.95
    assert 155 < second.sum() < 245


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_intensity_without_strength_changes_nothing(channels):
    image = _picture(channels=channels)
    still = colour.intensity(_repeat(image, 4), KEY, strength=0.0)
    np.testing.assert_allclose(still, _repeat(image, 4), atol=0.3)


def test_intensity_spans_what_it_promises():
    grey = np.full((4, 4, 1), 100, np.float32)
    drawn = colour.intensity(_repeat(grey, 500), KEY).numpy()[:, 0, 0, 0]
    assert drawn.min() >= 50
    assert drawn.max() <= 150
    assert drawn.min() < 52
    assert drawn.max() > 148
    assert drawn.mean() == pytest.approx(100, abs=5 * 29 / np.sqrt(500))
    # Grey in colour has no hue and no saturation to change.
    drawn = colour.intensity(_repeat(np.repeat(grey, 3, 2), 50), KEY).numpy()
    np.testing.assert_allclose(np.ptp(drawn, axis=3), 0, atol=0.2)


def test_intensity_keeps_the_range_of_pixels():
    image = _picture()
    bright = augmentation.make(["intensity"], tf.uint8)(_repeat(image), KEY).numpy()
    assert bright.min() >= 0
    assert bright.max() == 255
    free = augmentation.make(["intensity"], tf.float32)(_repeat(image), KEY).numpy()
    assert free.max() > 255  # what floats mean is not known
    signed = augmentation.make(["intensity"], tf.int8)(_repeat(image - 128), KEY).numpy()
    assert signed.min() == -128
    assert signed.max() == 127


def test_a_turned_hue_keeps_the_luminance():
    image = _picture()
    turned = tf.einsum("bhwi,bij->bhwj", _repeat(image, 8),
                       colour._hue_matrix(tf.linspace(-3.0, 3.0, 8)))  # fmt: skip
    for one in turned.numpy():
        np.testing.assert_allclose(one @ colour.GREY, image @ colour.GREY, atol=0.5)
    assert np.abs(turned.numpy() - image).max() > 20


def test_blur_is_a_gaussian():
    image = np.zeros((9, 9, 1), np.float32)
    image[4, 4] = 1
    for sigma in (0.5, 1.3):
        drawn = colour.blur(_repeat(image, 2), KEY, sigma, sigma).numpy()[0, ..., 0]
        kernel = np.exp(-(np.arange(-2, 3) ** 2) / (2 * sigma**2))
        expected = np.outer(kernel, kernel) / kernel.sum() ** 2
        np.testing.assert_allclose(drawn[2:7, 2:7], expected, atol=1e-6)
        assert drawn.sum() == pytest.approx(1, abs=1e-5)
    constant = np.full((5, 3, 2), 7, np.float32)
    np.testing.assert_allclose(colour.blur(_repeat(constant), KEY), 7, rtol=1e-5)


# -- layers of Keras -------------------------------------------------------------------------

LAYERS = [
    keras.layers.RandomFlip(),
    keras.layers.RandomRotation(0.1),
    keras.layers.RandomTranslation(0.2, 0.2),
    keras.layers.RandomZoom(0.2),
    keras.layers.RandomContrast(0.5, value_range=(0, 255)),
    keras.layers.RandomBrightness(0.4),
    keras.layers.RandomColorJitter(brightness_factor=0.4, contrast_factor=0.4),
    keras.layers.RandomGaussianBlur((1.0, 1.0), 3, 1.0),
    keras.layers.GaussianNoise(0.9),
]
every_layer = pytest.mark.parametrize("layer", LAYERS, ids=lambda one: one.name)


def _apply(layer, batch, key=KEY):
    several = augmentation.resolve(layer, name="Net")
    apply = tf.function(augmentation.make(several))
    return apply(tf.constant(batch), key).numpy()


@every_layer
def test_a_layer_draws_for_each_image_from_the_seed_alone(layer):
    image = np.random.default_rng(0).permutation(_picture(8, 8))
    batch = np.repeat(image[None], 24, 0)
    drawn = _apply(layer, batch)
    assert drawn.shape == batch.shape
    kinds = len({one.round(2).tobytes() for one in drawn})
    # Keras' flip in two directions flips in both or in none.
    assert kinds == 2 if isinstance(layer, keras.layers.RandomFlip) else kinds >= 12
    np.testing.assert_array_equal(_apply(layer, batch), drawn)
    assert not np.array_equal(_apply(layer, batch, KEY + 1), drawn)
    batch[1:] = 0  # in other company
    np.testing.assert_allclose(_apply(layer, batch)[0], drawn[0], atol=1e-3)


def test_layers_with_the_same_configuration_are_the_same():
    def key(layer):
        return augmentation.resolve([layer], name="Net")

    assert key(keras.layers.RandomFlip()) == key(keras.layers.RandomFlip())
    assert key(keras.layers.RandomFlip()) != key(keras.layers.RandomFlip("vertical"))


def test_a_layer_leaves_random_states_alone():
    import random

    X, y = data()
    random.seed(1)
    expected = random.random()
    random.seed(1)
    make("MLPClassifier", augment=LAYERS[1], epochs=1).fit(X, y)
    assert random.random() == expected


def test_layers_in_training():
    X, y = data()
    flip = keras.layers.RandomFlip("horizontal", seed=5)
    options = {"epochs": 1, "jit_compile": False}
    one = make("MLPClassifier", augment=[flip, "shift"], **options).fit(X, y)
    again = make("MLPClassifier", augment=[keras.layers.RandomFlip("horizontal", seed=5), "shift"],
                 **options).fit(X, y)  # fmt: skip
    assert same(one, again)
    assert not same(one, make("MLPClassifier", augment="shift", **options).fit(X, y))


class Halves(keras.layers.Layer):
    def call(self, images):
        return images[:, ::2]


class Secret(keras.layers.Layer):
    def __init__(self, array):
        super().__init__()
        self.array = array

    def call(self, images):
        return images


def test_layers_that_cannot_be_used():
    X, y = data()
    with pytest.raises(ValueError, match=r"must keep the shape of an image, \(8, 8, 3\)"):
        make("MLPClassifier", augment=Halves()).fit(X, y)
    with pytest.raises(ValueError, match=r"^The 'augment' parameter of MLPClassifier must hold"):
        make("MLPClassifier", augment=[Secret(np.ones(3))]).fit(X, y)
    with pytest.raises(ValueError, match=r"must hold Keras layers, or names out of basic, blur"):
        make("MLPClassifier", augment=["no"]).fit(X, y)
    fitted = make("MLPClassifier", augment=type("Own", (keras.layers.Layer,), {
        "call": lambda self, images: images})(), epochs=1).fit(X, y)  # fmt: skip
    with pytest.raises(TypeError, match=r"register_keras_serializable, to be saved"):
        fitted.save("nowhere.kmedclf")
