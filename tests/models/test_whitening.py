"""Patches whitened by what is measured on training images."""

import keras
import numpy as np
import pytest
from helpers import data, make, same
from PIL import Image

from kmedclf.models._layers import PatchWhitening

X, y = data(size=12)
IMAGES = X.astype(np.float32) / 255
OPTIONS = {"normalize": "whiten", "augment": False}


def layer(images=IMAGES, size=(3, 3)):
    made = PatchWhitening(size)
    made.build((None, *images.shape[1:]))
    made.adapt_to(images)
    return made


def patches(images, size=3):
    """Whitened numbers of the patches that were measured, which do not overlap."""
    n = size * size * images.shape[-1]
    both = np.asarray(layer(images, (size, size))(images))
    np.testing.assert_allclose(both[..., :n], -both[..., n:], atol=1e-3)
    return both[:, ::size, ::size, :n].reshape(-1, n)


@pytest.mark.parametrize("size", [1, 3, 4])
@pytest.mark.parametrize("channels", [1, 3])
def test_whitened_patches_are_uncorrelated_and_none_varies_more_than_others(size, channels):
    found = patches(IMAGES[..., :channels], size)
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-3)
    covariance = found.T @ found / len(found)
    variance = np.diag(covariance)
    np.testing.assert_allclose(covariance, np.diag(variance), atol=1e-3)
    assert variance.max() < 1  # but for the noise floor, all would be 1
    assert variance.max() > 0.9
    assert (variance > 0).all()


def test_brightness_and_contrast_of_all_images_make_no_difference():
    one, other = patches(IMAGES), patches(4 * IMAGES + 64)
    np.testing.assert_allclose(abs(one), abs(other), atol=1e-2)


def test_images_of_one_colour_give_finite_numbers():
    assert np.isfinite(patches(np.full_like(IMAGES, 0.3))).all()
    assert np.isfinite(make("CNNClassifier", **OPTIONS).fit(X * 0, y).predict_proba(X)).all()


def test_the_kernels_come_from_the_training_images_and_are_never_trained():
    short, long = (make("CNNClassifier", epochs=n, **OPTIONS).fit(X, y) for n in (1, 3))
    assert same(short.weights_[:2], long.weights_[:2])
    assert not same(short.weights_[2:], long.weights_[2:])
    assert long.n_non_trainable_params_ == 3 * 3 * 3 * 54 + 54
    expected = layer().get_weights()  # of all 48 images, which are fewer than it looks at
    np.testing.assert_allclose(abs(short.weights_[0]), abs(expected[0]), atol=1e-2)
    watched = make("CNNClassifier", **OPTIONS).fit(X, y, X_val=255 - X[:9], y_val=y[:9])
    assert same(watched.weights_[:2], short.weights_[:2])
    half = make("CNNClassifier", early_stopping=True, validation_fraction=0.5, **OPTIONS).fit(X, y)
    assert not same(half.weights_[:2], short.weights_[:2])


def test_a_warm_start_keeps_the_kernels_on_other_images():
    estimator = make("CNNClassifier", warm_start=True, **OPTIONS).fit(X, y)
    kernels = estimator.weights_[:2]
    for fit in (estimator.fit, estimator.partial_fit):
        assert same(fit(255 - X, y).weights_[:2], kernels)
    assert not same(make("CNNClassifier", **OPTIONS).fit(255 - X, y).weights_[:2], kernels)


def test_a_program_used_before_measures_anew():
    make("CNNClassifier", **OPTIONS).fit(255 - X, y)
    again = make("CNNClassifier", **OPTIONS).fit(X, y)
    make("CNNClassifier", **OPTIONS).fit(255 - X, y)
    assert same(again, make("CNNClassifier", **OPTIONS).fit(X, y))


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_the_keras_model_is_saved_with_its_kernels(precision, tmp_path):
    estimator = make("CNNClassifier", precision=precision, **OPTIONS).fit(X, y)
    estimator.model_.save(tmp_path / "model.keras")
    model = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(model.predict(X, verbose=0), estimator.predict_proba(X), atol=1e-2)
    assert model.get_layer("whiten").compute_dtype == "float32"


def test_files_are_whitened_as_arrays_are(tmp_path):
    paths = [tmp_path / f"{number}.png" for number in range(len(X))]
    for path, image in zip(paths, X, strict=True):
        Image.fromarray(image).save(path)
    options = {**OPTIONS, "image_size": 12}
    assert same(*(make("CNNClassifier", **options).fit(one, y) for one in (paths, X)))


def test_flat_vectors_and_kernels_that_do_not_fit():
    flat = X.reshape(len(X), -1)
    assert make("CNNClassifier", **OPTIONS).fit(flat, y).predict(flat).shape == (48,)
    with pytest.raises(ValueError, match="'kernel_size' parameter of CNNClassifier must"):
        make("CNNClassifier", kernel_size=13, **OPTIONS).fit(X, y)


def test_samples_of_large_images_are_few():
    from kmedclf.inputs.images import Images, Rows

    for shape, n in (((600, 28, 28, 3), 512), ((60, 224, 224, 3), 27), ((2, 2000, 2000, 3), 1)):
        rows = Rows.of(Images(np.zeros(shape, np.uint8), 1 / 255))
        assert rows.sample(0).shape == (n, *shape[1:])
