"""Test-time views: predictions are means over views, and nothing else changes with them."""

import itertools
import json
import zipfile

import keras
import numpy as np
import pytest
from helpers import ENGINE, data, get, make, same
from PIL import Image
from scipy.special import expit, softmax

import kmedclf
from kmedclf import ImageClassifier
from kmedclf.augmentation import test_time
from kmedclf.training import cache

X, y = data()
CHOICES = [*test_time.NAMES, ["mirror", "shift"], ("dihedral",)]
COUNT = {"mirror": 2, "flips": 4, "dihedral": 8, "shift": 5}


def _by_hand(image, name):
    """The views of an image (h, w, c), from NumPy alone."""
    if name == "shift":
        padded = np.pad(image, ((2, 2), (2, 2), (0, 0)), mode="reflect")
        h, w = image.shape[:2]
        starts = [(2, 2), (0, 2), (4, 2), (2, 0), (2, 4)]
        return [padded[top : top + h, left : left + w] for top, left in starts]
    found = [image, image[:, ::-1]]
    if name != "mirror":
        found += [one[::-1] for one in found]
    if name == "dihedral":
        found += [one.transpose(1, 0, 2) for one in found]
    return found


def _views_by_hand(image, choice):
    found = [image]
    for name in [choice] if isinstance(choice, str) else choice:
        found = [view for one in found for view in _by_hand(one, name)]
    return found


class Orientless(ImageClassifier):
    """Sees colours only."""

    def features(self, x):
        x = keras.layers.Conv2D(4, 1, activation="relu")(x)
        return keras.layers.GlobalAveragePooling2D()(x)


@pytest.fixture(scope="module")
def fitted():
    return make("CNNClassifier", learning_rate=0.05).fit(X, y)


@pytest.fixture(autouse=True)
def _one_view(fitted):
    yield
    fitted.set_params(tta=None)


@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_probabilities_are_means_over_views(choice, fitted):
    several = np.stack([np.stack(_views_by_hand(image, choice)) for image in X])  # (n, v, ...)
    expected = np.mean(
        [fitted.predict_proba(several[:, i]) for i in range(several.shape[1])], axis=0
    )
    proba = fitted.set_params(tta=choice).predict_proba(X)
    np.testing.assert_allclose(proba, expected, atol=1e-6)
    np.testing.assert_allclose(proba.sum(axis=1), 1, atol=2e-7)
    decision = fitted.decision_function(X)
    np.testing.assert_allclose(softmax(decision, axis=1), proba, atol=5e-7)
    np.testing.assert_array_equal(fitted.predict(X), fitted.classes_[proba.argmax(axis=1)])


@pytest.mark.parametrize("name", ENGINE)
def test_mirror_is_the_mean_of_both_for_every_network(name):
    estimator = make(name).fit(X[:24], y[:24])
    expected = (estimator.predict_proba(X[:8]) + estimator.predict_proba(X[:8, :, ::-1])) / 2
    proba = estimator.set_params(tta="mirror").predict_proba(X[:8])
    np.testing.assert_allclose(proba, expected, atol=1e-6)


@pytest.mark.parametrize("name", ["mirror", "flips", "dihedral"])
def test_views_of_any_view_are_the_same(name, fitted):
    fitted.set_params(tta=name)
    turned = X[:, :, ::-1] if name != "dihedral" else X.transpose(0, 2, 1, 3)
    np.testing.assert_allclose(fitted.predict_proba(turned), fitted.predict_proba(X), atol=1e-6)


@pytest.mark.parametrize("choice", ["mirror", "flips", "dihedral"])
def test_a_network_without_orientation_sees_no_difference(choice):
    estimator = Orientless(epochs=3, early_stopping=False, random_state=0).fit(X, y)
    expected = estimator.predict_proba(X)
    proba = estimator.set_params(tta=choice).predict_proba(X)
    np.testing.assert_allclose(proba, expected, atol=1e-6)


@pytest.mark.parametrize("name", test_time.NAMES)
def test_all_views_differ(name):
    image = np.random.default_rng(0).normal(size=(1, 6, 6, 2)).astype(np.float32)
    several = [np.asarray(view(image)) for view in test_time.make([name])]
    assert test_time.count([name]) == len(several) == COUNT[name]
    np.testing.assert_array_equal(several[0], image)
    for one, other in itertools.combinations(several, 2):
        assert not np.array_equal(one, other)


def test_two_classes():
    estimator = make("CNNClassifier").fit(X, y > 0)
    estimator.set_params(tta="flips")
    positive = estimator.predict_proba(X)[:, 1]
    np.testing.assert_allclose(expit(estimator.decision_function(X)), positive, atol=2e-7)
    np.testing.assert_array_equal(estimator.predict(X), positive > 0.5)


def test_independent_labels_are_averaged_one_by_one():
    logits = np.random.default_rng(0).normal(scale=30, size=(5, 4, 3)).astype(np.float32)
    pooled = test_time.pool(logits, multilabel=True)
    np.testing.assert_allclose(expit(pooled), expit(logits.astype(float)).mean(axis=1), atol=1e-12)
    assert np.isfinite(test_time.pool(logits * 100)).all()


def test_several_labels_an_image():
    labels = np.stack([y == 0, y < 2], axis=1).astype(int)
    estimator = make("CNNClassifier", learning_rate=0.05).fit(X, labels)
    expected = (estimator.predict_proba(X) + estimator.predict_proba(X[:, :, ::-1])) / 2
    estimator.set_params(tta="mirror")
    np.testing.assert_allclose(estimator.predict_proba(X), expected, atol=1e-6)
    np.testing.assert_allclose(expit(estimator.decision_function(X)), expected, atol=1e-6)
    np.testing.assert_array_equal(estimator.predict(X), estimator.predict_proba(X) > 0.5)


def test_views_change_no_training_no_program_and_no_memory(tmp_path):
    params = {"early_stopping": True, "memory": tmp_path, "optimizer": "adam"}
    one = make("CNNClassifier", **params).fit(X, y)
    builds, stored = cache.stats()["builds"], len(list(tmp_path.glob("**/*.kmedclf-fit")))
    other = make("CNNClassifier", tta="dihedral", **params).fit(X, y)
    assert same(one, other)
    assert one.history_ == other.history_
    other.predict(X)
    assert cache.stats()["builds"] == builds
    assert len(list(tmp_path.glob("**/*.kmedclf-fit"))) == stored == 1


def test_saved_and_loaded(fitted, tmp_path):
    fitted.set_params(tta=["mirror", "shift"]).save(tmp_path / "m.kmedclf")
    loaded = kmedclf.load(tmp_path / "m.kmedclf")
    assert loaded.tta == ["mirror", "shift"]
    np.testing.assert_array_equal(loaded.predict_proba(X), fitted.predict_proba(X))


def test_models_saved_before_there_were_views(fitted, tmp_path):
    fitted.save(tmp_path / "new.kmedclf")
    with (
        zipfile.ZipFile(tmp_path / "new.kmedclf") as new,
        zipfile.ZipFile(tmp_path / "old.kmedclf", "w") as old,
    ):
        for name in new.namelist():
            content = new.read(name)
            if name == "estimator.json":
                content = json.loads(content)
                assert content["state"].pop("tta", "not there") is None
                content = json.dumps(content)
            old.writestr(name, content)
    loaded = kmedclf.load(tmp_path / "old.kmedclf")
    assert loaded.tta is None
    np.testing.assert_array_equal(loaded.predict_proba(X), fitted.predict_proba(X))


def test_files_and_memory_maps_have_the_same_views(fitted, tmp_path):
    paths = [tmp_path / f"{i}.png" for i in range(len(X))]
    for path, image in zip(paths, X, strict=True):
        Image.fromarray(image).save(path)
    np.save(tmp_path / "X.npy", X)
    expected = fitted.set_params(tta="flips").predict_proba(X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    np.testing.assert_array_equal(fitted.predict_proba(paths), expected)
    np.testing.assert_array_equal(fitted.predict_proba(mapped), expected)


@pytest.mark.parametrize(
    ("images", "choice", "facts"),
    [
        (X[:, :6], "dihedral", ["'dihedral'", "6 × 8", "'flips'"]),
        (X.reshape(48, -1), "mirror", ["flat", "image_shape"]),
        (X, ["mirror", "spin"], ["'mirror'", "'shift'", "'spin'"]),
    ],
    ids=["not square", "flat", "unknown"],
)
@pytest.mark.parametrize("when", ["fit", "predict"])
def test_what_cannot_be_is_refused(images, choice, facts, when):
    estimator = make("MLPClassifier")
    if when == "predict":
        estimator.fit(images, y)
    estimator.set_params(tta=choice)
    with pytest.raises(ValueError, match=r"^The 'tta' parameter of MLPClassifier must ") as caught:
        estimator.fit(images, y) if when == "fit" else estimator.predict_proba(images)
    assert all(fact in str(caught.value) for fact in facts)


def test_every_estimator_has_the_parameter():
    assert all("tta" in get(name)().get_params() for name in kmedclf.models.__all__)
