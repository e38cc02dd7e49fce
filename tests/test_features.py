"""Features of pretrained networks: what they are, for every kind of X, and where they are used."""

import pickle
import sys
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
from helpers import build, data, get, make, run, shared, small
from PIL import Image
from safetensors.numpy import save_file
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import estimator_checks_generator

from kmedclf import EnsembleClassifier, ImageFeatures
from kmedclf.inputs.file_array import FileArray
from kmedclf.inputs.image_files import Form
from kmedclf.training import cache

X, y = data()
FLAT = X.reshape(len(X), -1)
NAME = "DenseNetClassifier"  # the smallest


def bare(**params):
    """A network without weights."""
    return get(NAME)(**{**small(NAME), **params})


@pytest.fixture(scope="module")
def fitted():
    """A network fitted on small images."""
    return make(NAME).fit(X, y)


@pytest.fixture(scope="module")
def weights(fitted, tmp_path_factory):
    """The file it was saved to."""
    path = tmp_path_factory.mktemp("weights") / "dense.kmedclf"
    fitted.save(path)
    return path


@pytest.fixture
def features(weights):
    """Features of images as they are: 8 pixels, as the network was fitted on."""
    return ImageFeatures(weights=weights)


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """The images as files."""
    folder = tmp_path_factory.mktemp("scans")
    for number, image in enumerate(X):
        Image.fromarray(image).save(folder / f"{number:02}.png")
    return np.array(sorted(map(str, folder.iterdir())))


# -- what they are -------------------------------------------------------------------------------


def test_the_head_of_the_network_makes_its_logits_of_them(fitted, features):
    found = features.fit_transform(X)
    kernel, bias = fitted.weights_[-2:]
    assert found.dtype == np.float32
    assert found.shape == (48, len(kernel))
    np.testing.assert_allclose(found @ kernel + bias, fitted.decision_function(X), atol=1e-5)


def test_a_fitted_network_its_file_and_its_weights_give_the_same(fitted, features, weights):
    expected = features.fit_transform(X)
    np.testing.assert_array_equal(ImageFeatures(fitted).fit_transform(X), expected)
    other = ImageFeatures(bare(), weights=weights, image_size=8)
    np.testing.assert_allclose(other.fit_transform(X), expected, atol=1e-6)
    again = ImageFeatures(bare(weights=weights), image_size=8)
    np.testing.assert_array_equal(again.fit_transform(X), other.transform(X))


@pytest.mark.parametrize("name", ["CNNClassifier", "MLPClassifier", "EfficientNetClassifier"])
def test_any_fitted_network(name):
    estimator = make(name).fit(X, y)
    kernel, bias = estimator.weights_[-2:]
    found = ImageFeatures(estimator, pooling="none").fit_transform(X)
    if name != "EfficientNetClassifier":  # which pools
        np.testing.assert_allclose(found @ kernel + bias, estimator.decision_function(X), atol=1e-4)
    assert np.isfinite(found).all()


def test_pooling_and_layers_are_those_of_the_keras_model(fitted):
    model = fitted.model_
    for layer in ("bn", "conv2_block1_1_bn"):
        name = None if layer == "bn" else layer
        part = keras.Model(model.input, model.get_layer(layer).output)
        maps = part.predict(X.astype(np.float32), verbose=0)
        maps = np.maximum(maps, 0) if name is None else maps  # a ReLU is behind the last
        for pooling, expected in (("avg", maps.mean((1, 2))), ("max", maps.max((1, 2))),
                                  ("none", maps.reshape(48, -1))):  # fmt: skip
            found = ImageFeatures(fitted, layer=name, pooling=pooling).fit_transform(X)
            np.testing.assert_allclose(found, expected, atol=1e-5)


def test_views_are_averaged(features):
    features.fit(X)
    expected = (features.transform(X) + features.transform(X[:, :, ::-1])) / 2
    found = clone(features).set_params(tta="mirror").fit_transform(X)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_arrays_are_resized_like_files(weights):
    large = ImageFeatures(bare(stem="small"), weights=weights, image_size=16)
    expected = np.asarray(keras.ops.image.resize(X.astype(np.float32), (16, 16)))
    one = ImageFeatures(bare(stem="small"), weights=weights, image_size=16)
    found = large.fit_transform(X)
    np.testing.assert_allclose(found, one.fit_transform(expected / 255), atol=1e-4)
    assert found.shape == (48, large.get_feature_names_out().size)


def test_batches_do_not_matter(features):
    expected = features.fit_transform(X)
    np.testing.assert_allclose(features.set_params(batch_size=5).transform(X), expected, atol=1e-6)
    np.testing.assert_allclose(features.transform(X[7:9]), expected[7:9], atol=1e-6)


# -- every kind of X -----------------------------------------------------------------------------


def test_arrays_maps_files_and_rows_give_the_same(features, scans, tmp_path):
    expected = features.fit_transform(X)
    file = np.lib.format.open_memmap(tmp_path / "X.npy", "w+", X.dtype, X.shape)
    file[:] = X
    for given in (X.tolist(), np.load(tmp_path / "X.npy", mmap_mode="r"), scans, list(scans)):
        other = clone(features)
        np.testing.assert_allclose(other.fit_transform(given), expected, atol=1e-6)
        np.testing.assert_allclose(other.transform(X), expected, atol=1e-6)
    rows = clone(features).set_params(image_shape=(8, 8, 3))
    np.testing.assert_array_equal(rows.fit_transform(FLAT), expected)
    with pytest.raises(ValueError, match=r"ImageFeatures was fitted on images of shape \(8, 8, 3"):
        features.transform(X[:, :7])


def test_files_are_read_at_224_pixels_unless_said_otherwise(weights, scans):
    few = scans[:3]
    assert ImageFeatures(bare(stem="small"), weights=weights).fit(few).image_shape_ == (224, 224, 3)
    assert ImageFeatures(weights=weights).fit(few).image_shape_ == (8, 8, 3)
    large = ImageFeatures(bare(), weights=weights, image_size=(20, 30), channels=1).fit(few)
    assert large.image_shape_ == (20, 30, 1)
    pixels = FileArray(list(few), Form(20, 30, 1))[np.arange(3)]
    np.testing.assert_allclose(large.transform(few), large.transform(pixels), atol=1e-6)


MAP = """
import numpy as np, psutil
from kmedclf import DenseNetClassifier, ImageFeatures
path, weights = {given!r}
X = np.memmap(path, np.uint8, "r", shape=(100_000, 32, 32, 3))
network = DenseNetClassifier(block_config=(1, 1), growth_rate=2)
features = ImageFeatures(network, weights=weights, image_size=32).fit(X[:200])
features.transform(X[:5000])

def anonymous():
    memory = psutil.Process().memory_info()
    return memory.rss - memory.shared  # pages of the file are the system's

before = anonymous()
found = features.transform(X)
print(found.shape[0], (anonymous() - before - found.nbytes) / 1e6)
"""


@pytest.mark.slow
def test_a_hundred_thousand_images_take_no_more_memory_than_their_features(weights, tmp_path):
    with open(tmp_path / "X.bin", "wb") as file:
        file.truncate(100_000 * 32 * 32 * 3)
    n, megabytes = run(MAP.format(given=(str(tmp_path / "X.bin"), str(weights)))).split()
    assert int(n) == 100_000
    assert float(megabytes) < 60  # the images are 307


# -- in scikit-learn -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "check",
    [check for _, check in estimator_checks_generator(ImageFeatures())],
    ids=lambda check: getattr(check, "func", check).__name__,
)
def test_sklearn(check, weights, float32_tolerance):
    check(ImageFeatures(bare(), weights=weights))


def test_pipelines_searches_and_folds(features):
    model = make_pipeline(features, LogisticRegression())
    assert cross_val_score(model, X, y, cv=3).shape == (3,)
    grid = {"imagefeatures__pooling": ["avg", "max"], "imagefeatures__tta": [None, "mirror"]}
    search = GridSearchCV(model, grid, cv=2, error_score="raise").fit(X, y)
    assert search.predict(X).shape == (48,)


def test_names_and_frames(features):
    pandas = pytest.importorskip("pandas")
    frame = features.set_output(transform="pandas").fit_transform(X)
    assert isinstance(frame, pandas.DataFrame)
    assert list(frame.columns) == [f"imagefeatures{i}" for i in range(frame.shape[1])]


def test_copies(features, fitted):
    expected = features.fit_transform(X)
    stored = pickle.dumps(features)
    assert b"tensorflow" not in stored
    np.testing.assert_array_equal(pickle.loads(stored).transform(X), expected)
    assert clone(features).get_params() == features.get_params()
    assert not hasattr(clone(features), "weights_")
    kept = clone(clone(ImageFeatures(fitted)))  # scikit-learn's clone would forget the fit
    np.testing.assert_array_equal(kept.fit_transform(X), expected)
    parts = ImageFeatures(bare())
    clone(parts).set_params(network__growth_rate=7)
    assert parts.network.growth_rate == 2


def test_a_pickle_needs_no_file(fitted, tmp_path):
    path = tmp_path / "gone.kmedclf"
    fitted.save(path)
    features = ImageFeatures(bare(), weights=path, image_size=8)
    expected = features.fit_transform(X)
    pickled = pickle.dumps(features)
    path.unlink()
    cache.clear()
    np.testing.assert_array_equal(pickle.loads(pickled).transform(X), expected)


def test_threads(features):
    expected = features.fit_transform(X)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(features.transform, [X] * 8):
            np.testing.assert_array_equal(found, expected)


# -- memory --------------------------------------------------------------------------------------


def entries(folder):
    return sorted((folder / "kmedclf-features-v1").rglob("*.npy"))


def test_features_are_remembered_image_by_image(features, scans, tmp_path):
    features.set_params(memory=tmp_path)
    expected = features.fit_transform(X[:30])
    kept = entries(tmp_path)
    assert len(kept) == 30
    order = np.arange(30)[::-1]
    np.testing.assert_array_equal(features.transform(X[order]), expected[order])
    np.testing.assert_array_equal(features.transform(scans[:30]), expected)
    assert entries(tmp_path) == kept
    np.testing.assert_allclose(features.transform(X)[:30], expected, atol=1e-6)
    assert len(entries(tmp_path)) == 48
    clone(features).set_params(pooling="max").fit_transform(X)
    clone(features).set_params(tta="mirror").fit_transform(X)
    assert len(entries(tmp_path)) == 3 * 48
    # They are what is returned, and not computed beside.
    for path in kept:
        content = path.read_bytes()
        values = np.frombuffer(content, np.float32, 4, 128) + 1
        path.write_bytes(content[:128] + values.tobytes() + content[144:])
    np.testing.assert_allclose(features.transform(X[:30])[:, :4], expected[:, :4] + 1, atol=1e-5)


@pytest.mark.parametrize("content", [b"", b"x" * 300, None], ids=["empty", "foreign", "half"])
def test_a_damaged_entry_is_computed_again(content, features, tmp_path):
    features.set_params(memory=tmp_path)
    expected = features.fit_transform(X)
    for path in entries(tmp_path):
        path.write_bytes(path.read_bytes()[:-20] if content is None else content)
    np.testing.assert_allclose(features.transform(X), expected, atol=1e-6)


def test_memory_is_bounded(features, tmp_path):
    features.set_params(memory=tmp_path, memory_limit=2000)
    expected = clone(features).set_params(memory=None).fit_transform(X)
    np.testing.assert_allclose(features.fit_transform(X), expected, atol=1e-6)
    assert 0 < sum(path.stat().st_size for path in entries(tmp_path)) <= 2000


# -- what cannot be --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"weights": "no/such.safetensors"}, FileNotFoundError,
         r"'weights' parameter of EfficientNetClassifier .*no/such.safetensors.*not exist"),
        ({"weights": "nothing.kmedclf"}, FileNotFoundError,
         r"'weights' parameter of ImageFeatures .*nothing\.kmedclf.*not exist"),
        ({"network": "ResNet5"}, ValueError, r"'network' parameter .* did you mean 'ResNet50'"),
        ({"network": "EfficientNetB0"}, ValueError, r"kmedclf, such as EfficientNetClassifier"),
        ({"network": make("CNNClassifier")}, ValueError, r"Got an unfitted CNNClassifier"),
        ({"pooling": "mean"}, ValueError, r"'pooling' parameter of ImageFeatures must be"),
        ({"memory_limit": "many", "memory": "x"}, ValueError, r"'memory_limit' parameter of Image"),
        ({"layer": "conv1_con"}, ValueError, r"'layer' parameter .* did you mean 'conv1_conv'"),
        ({"tta": "upside"}, ValueError, r"'tta' parameter of ImageFeatures must be"),
        ({"image_size": (8, 8, 3)}, ValueError, r"'image_size' parameter of ImageFeatures must be"),
    ],
    ids=str,
)  # fmt: skip
def test_a_wrong_parameter_is_one_sentence(given, error, message, weights, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if not {"network", "weights"} & set(given):
        given = {"network": bare(), "weights": weights, "image_size": 8, **given}
    with pytest.raises(error, match=message) as caught:
        ImageFeatures(**given).fit(X).transform(X)
    assert str(caught.value).count(". ") <= 1


def test_weights_of_another_network(weights, tmp_path):
    for other in (bare(growth_rate=3), bare(block_config=(1, 2))):
        with pytest.raises(
            ValueError, match=rf"'weights' parameter of {NAME} must hold the weight"
        ):
            ImageFeatures(other, weights=weights).fit(X)
    save_file({"conv_stem.weight": np.zeros((2, 2), np.float32)}, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match=r"Got .*a\.safetensors, which lacks conv1_conv\.weight"):
        ImageFeatures(bare(), weights=tmp_path / "a.safetensors").fit(X)
    make_ensemble = EnsembleClassifier([("one", make("MLPClassifier"))]).fit(X, y)
    make_ensemble.save(tmp_path / "several.kmedclf")
    with pytest.raises(
        ValueError, match=r"must be the file of one network. Got a EnsembleClassifi"
    ):
        ImageFeatures(weights=tmp_path / "several.kmedclf").fit(X)


def test_images_of_another_kind_than_those_of_the_fitted_network(fitted, weights):
    with pytest.raises(
        ValueError, match=rf"the given {NAME} was fitted on.* Got images of the fac"
    ):
        ImageFeatures(fitted).fit(X / np.float32(255))
    with pytest.raises(
        ValueError, match=r"must have the 3 channels that its network was fitted on"
    ):
        ImageFeatures(fitted).fit(X[..., :1])
    with pytest.raises(
        ValueError, match=r"'weights' parameter .* must be None where 'network' is f"
    ):
        ImageFeatures(fitted, weights=weights).fit(X)
    mlp = make("MLPClassifier").fit(X, y)
    with pytest.raises(
        ValueError, match=r"'image_size' parameter .* must be None for this MLPClas"
    ):
        ImageFeatures(mlp, image_size=12).fit(X)


def test_a_file_that_cannot_be_read_is_named(features, scans, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"broken\.png"):
        features.fit_transform([*scans[:3], broken])
    features.fit(scans)
    with pytest.raises(ValueError, match=r"broken\.png"):
        features.transform([*scans[:3], broken])


def test_two_images_a_class_are_enough_and_one_class_is_too_few(features):
    few = np.concatenate([np.flatnonzero(y == label)[:2] for label in range(3)])
    model = make_pipeline(features, LogisticRegression()).fit(X[few], y[few])
    assert set(model.predict(X)) <= {0, 1, 2}
    with pytest.raises(ValueError, match=r"at least 2 classes"):
        model.fit(X[:5], np.zeros(5, int))


def test_a_failed_fit_keeps_the_earlier_one(features):
    expected = features.fit_transform(X)
    with pytest.raises(ValueError, match=r"'layer'"):
        features.set_params(layer="nothing").fit(X)
    np.testing.assert_array_equal(features.transform(X), expected)


# -- networks and weights of others ----------------------------------------------------------------


@pytest.mark.parametrize("name", ["MobileNetV2", pytest.param("ResNet50", marks=pytest.mark.slow)])
def test_keras_applications_with_a_file(name, tmp_path):
    theirs = getattr(keras.applications, name)(include_top=False, weights=None, pooling="avg")
    theirs.save(tmp_path / "theirs.keras")
    images = X[:4].repeat(5, axis=1).repeat(5, axis=2)
    features = ImageFeatures(name, weights=tmp_path / "theirs.keras", image_size=40)
    module = sys.modules[getattr(keras.applications, name).__module__]
    expected = theirs.predict(module.preprocess_input(images.astype(np.float32)), verbose=0)
    np.testing.assert_allclose(features.fit_transform(images), expected, rtol=1e-3, atol=1e-4)


def test_keras_applications_without_a_network_say_where_the_file_goes(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    message = r"^The ImageNet weights of MobileNet are not in .*could not be downloaded"
    with pytest.raises(FileNotFoundError, match=message):
        ImageFeatures("MobileNet").fit(X)


def test_lite0_is_the_default_and_tells_pictures_apart():
    path = shared("efficientnet_lite0_imagenet.safetensors")
    found = ImageFeatures(weights=path, image_size=96).fit(X).transform(X[:2])
    model = build("EfficientNetClassifier", (96, 96, 3), variant="lite0", width=1.0, depth=1.0,
                  weights=str(path))  # fmt: skip
    images = keras.ops.image.resize(X[:2].astype(np.float32), (96, 96)) / 255
    pooled = keras.Model(model.input, model.get_layer("logits").input)
    np.testing.assert_allclose(found, pooled.predict(images, verbose=0), atol=1e-3)
