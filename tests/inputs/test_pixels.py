"""What numbers in X mean: decided by fit, kept by everything later, said where it looks wrong."""

import json
import warnings

import numpy as np
import pandas as pd
import pytest
from helpers import ENGINE, data, make, same

import kmedclf
from kmedclf import CalibratedClassifier, EnsembleClassifier
from kmedclf.inputs.image_input import read_pixels

X, y = data()
FLAT = X.reshape(48, -1)
DTYPES = ("uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", ">u2", ">i4")
DEEP = X.astype(np.uint16) * 257


def mlp(**params):
    return make("MLPClassifier", **params)


@pytest.fixture(scope="module")
def of_bytes():
    return mlp().fit(X, y)


@pytest.mark.parametrize("name", ENGINE)
def test_integers_of_any_width_are_bytes(name):
    plain = make(name).fit(X, y)
    assert same(plain, make(name).fit(X.astype(np.int64), y))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("form", ["4-D", "flat", "3-D", "memory map"])
def test_bytes_are_bytes_whatever_their_dtype(of_bytes, dtype, form, tmp_path):
    images, model = X.astype(dtype), of_bytes
    if form == "flat":
        images, model = FLAT.astype(dtype), mlp(image_shape=(8, 8, 3)).fit(FLAT, y)
    elif form == "3-D":
        images, model = images[..., 0], mlp().fit(X[..., 0], y)
    elif form == "memory map":
        np.save(tmp_path / "x.npy", images)
        images = np.load(tmp_path / "x.npy", mmap_mode="r")
    other = mlp(**({"image_shape": (8, 8, 3)} if form == "flat" else {})).fit(images, y)
    assert other._scale == 1 / 255
    if form != "memory map":  # whose rows keep their order
        assert same(other, model)
    np.testing.assert_array_equal(
        model.predict_proba(images), model.predict_proba(images.astype(np.uint8))
    )


def test_a_memory_map_of_wide_integers_trains_as_one_of_bytes(tmp_path):
    for dtype in (np.uint8, np.int64, np.uint16):
        np.save(tmp_path / f"{np.dtype(dtype)}.npy", X.astype(dtype))
    first, *others = [
        mlp(augment=True).fit(np.load(path, mmap_mode="r"), y)
        for path in sorted(tmp_path.iterdir(), key=str)
    ]
    for other in others:
        assert same(first, other)


def test_sixteen_bits_in_any_integer_dtype():
    model = mlp().fit(DEEP, y)
    assert model._scale == 1 / 65535
    for dtype in ("int32", "int64", "uint32", ">u2"):
        assert same(model, mlp().fit(DEEP.astype(dtype), y))
    for dtype in ("int32", "uint64", ">u2", "float32", "float64"):
        images = DEEP.astype(dtype)
        np.testing.assert_array_equal(model.predict_proba(images), model.predict_proba(DEEP))
    dark = (DEEP // 300).astype(np.uint16)  # fits a byte, and is none
    expected = model.predict_proba(dark)
    for dtype in ("int64", "float32"):
        np.testing.assert_array_equal(model.predict_proba(dark.astype(dtype)), expected)
    with pytest.raises(ValueError, match=r"16-bit integer images \(uint16\), got 8-bit .* scale"):
        model.predict(X)


@pytest.mark.parametrize("name", ["MLPClassifier", "CNNClassifier", "ensemble", "calibrated"])
def test_what_other_tools_hand_over(name):
    kinds = {
        "ensemble": lambda: EnsembleClassifier([("mlp", mlp())]),
        "calibrated": lambda: CalibratedClassifier(mlp().fit(X, y)),
    }
    model = kinds.get(name, lambda: make(name))().fit(X, y)
    expected = model.predict_proba(X)
    for images in (
        X.astype(np.float64),  # LIME
        X.astype(np.float32),
        X.astype(np.float16),
        json.loads(json.dumps(X.tolist())),  # a JSON body
        json.loads(json.dumps(X.astype(float).tolist())),
        FLAT,
        pd.DataFrame(FLAT.astype(np.int64)),  # a CSV
        FLAT.astype(float),
    ):
        np.testing.assert_array_equal(model.predict_proba(images), expected)
    n = model.n_features_in_
    assert n == X.shape[1]  # MAPIE compares them
    assert model.predict(np.zeros((1, n))).shape == (1,)  # and asks this


def refused(model, images, *words):
    with pytest.raises(ValueError, match="was fitted on") as error:
        model.predict(images)
    message = str(error.value)
    assert all(word in message for word in words), message
    assert message.endswith(".")
    assert "\n" not in message


def test_what_no_cast_keeps_is_refused(of_bytes, tmp_path):
    refused(of_bytes, X / 255, "8-bit integer", "float", "at most 1", "0 to 255")
    refused(of_bytes, X > 128, "8-bit integer", "at most 1")
    refused(of_bytes, X + 0.5, "8-bit integer", "255.5", "round and clip")
    refused(of_bytes, X - 99.0, "8-bit integer", "round and clip")
    refused(of_bytes, X.astype(int) - 9, "8-bit integer", "int64")
    refused(of_bytes, DEEP, "8-bit integer", "16-bit integer", "65535")
    np.save(tmp_path / "x.npy", X / 255)
    refused(of_bytes, np.load(tmp_path / "x.npy", mmap_mode="r"), "at most 1")
    signed = mlp().fit(X.astype(np.int16) - 99, y)
    refused(signed, X, "16-bit integer images (int16)", "8-bit")
    refused(signed, X / 255, "16-bit integer", "float")
    scaled = mlp().fit(X / 255, y)
    refused(scaled, X, "float (unscaled)", "at most 1", "8-bit integer", "255")
    refused(scaled, X.astype(np.int64), "float (unscaled)", "64-bit integer")
    refused(scaled, X.astype(float), "float (unscaled)", "float ones up to 255")
    refused(scaled, X.tolist(), "64-bit integer")
    with pytest.warns(UserWarning, match="used as given"):
        unscaled = mlp().fit(X + 0.5, y)
    refused(unscaled, X / 255, "float (unscaled)", "at most 256", "float ones up to 1")
    assert unscaled.predict(X * 100.0).shape == (48,)  # rare values are no other scale
    assert unscaled.predict(X * 0.0).shape == (48,)


def test_the_content_of_a_batch_does_not_change_what_pixels_mean(of_bytes):
    dark = X // 128  # zeros and ones
    expected = of_bytes.predict_proba(dark)
    for dtype in ("int64", "uint16"):
        np.testing.assert_array_equal(of_bytes.predict_proba(dark.astype(dtype)), expected)
    together = of_bytes.predict_proba(np.concatenate([dark, X]).astype(np.int64))
    np.testing.assert_allclose(together[:48], expected, atol=1e-6)
    refused(of_bytes, dark.astype(float), "at most 1")  # may be floats in [0, 1]


def test_values_used_as_given_may_come_in_any_dtype():
    with pytest.warns(UserWarning, match="used as given"):
        model = mlp().fit(X.astype(float), y)
    expected = model.predict_proba(X.astype(np.float32))
    for images in (X, X.astype(np.int64), X.tolist()):
        np.testing.assert_array_equal(model.predict_proba(images), expected)


def said(images, **params):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        X_val = images if params.pop("twice", False) else None
        mlp(**params).fit(images, y, X_val=X_val, y_val=None if X_val is None else y)
    return [str(one.message) for one in caught if "used as given" in str(one.message)]


@pytest.mark.parametrize(
    ("images", "do"),
    [
        (X.astype(float), "X.astype('uint8')"),
        (X + 0.5, "divide them by 255.5"),
        (X / 64, "divide them by"),
        (X.astype(np.int64) * 4000, "divide them by"),
        (X.astype(np.int32) - 1000 * (X > 9), "divide them by"),  # Hounsfield units
        (X.astype(float) - 128, "divide them by"),
    ],
)
@pytest.mark.parametrize("twice", [False, True])
def test_one_warning_says_what_to_do(images, do, twice):
    (sentence,) = said(images, twice=twice)
    assert do in sentence
    assert sentence.startswith("X of MLPClassifier.fit holds values up to ")
    assert sentence.endswith(".")
    assert len(said(images.reshape(48, -1), image_shape=(8, 8, 3))) == 1


@pytest.mark.parametrize(
    "images",
    [X, X / 255, X / 128, (X / 255 - 0.45) / 0.22, X > 128, DEEP, X.astype(np.int64), -X / 255],
    ids=lambda one: str(one.dtype),
)
def test_no_warning_of_what_looks_scaled(images):
    assert not said(images)


def test_no_warning_of_features_in_units_of_their_own():
    for rows in (FLAT * 3.5, FLAT.astype(np.int64) * 1000, -FLAT.astype(float)):
        assert not said(rows)
    model = mlp().fit(FLAT * 3.5, y)
    assert model.predict(FLAT.astype(np.int64)).shape == (48,)


def test_predict_warns_of_nothing():
    with pytest.warns(UserWarning, match="used as given"):
        model = mlp().fit(X.astype(float), y)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        model.predict(X.astype(float))
        model.partial_fit(X.astype(float), y)


def test_a_saved_model_reads_pixels_as_before(tmp_path):
    for images in (X, X / 255, DEEP):
        model = mlp().fit(images, y)
        model.save(tmp_path / "m.kmedclf")
        loaded = kmedclf.load(tmp_path / "m.kmedclf")
        np.testing.assert_array_equal(loaded.predict(images), model.predict(images))
        with pytest.raises(ValueError, match="was fitted on"):
            loaded.predict(X if images.dtype != np.uint8 else X / 255)


def test_models_of_earlier_versions_predict(tmp_path):
    model = mlp().fit(X / 255, y)
    model.n_features_in_ = 192
    del model._largest
    assert model.predict(X / 255).shape == (48,)
    refused(model, X, "8-bit")


def test_checks_read_a_memory_map_no_more_than_they_need(tmp_path):
    class Counting(np.memmap):
        read = 0

        def __getitem__(self, index):
            found = super().__getitem__(index)
            Counting.read += np.size(found) if np.ndim(found) == 4 else 0
            return found

    np.save(tmp_path / "x.npy", np.repeat(DEEP, 400, axis=0))
    images = np.load(tmp_path / "x.npy", mmap_mode="r").view(Counting)
    found, _ = read_pixels(images, "It", flat=False)
    assert found.scale == 1 / 65535
    assert Counting.read < images.size / 10  # the first block is no byte
    np.save(tmp_path / "u8.npy", np.repeat(X, 400, axis=0))
    Counting.read = 0
    read_pixels(np.load(tmp_path / "u8.npy", mmap_mode="r").view(Counting), "It", flat=False)
    assert Counting.read == 0


# -- shapes ----------------------------------------------------------------------------------------

SHAPES = {
    "volumes": (np.zeros((48, 8, 8, 8), np.uint8), {}, ["volumes", "image_shape=(8, 8, 8)"]),
    "volumes, height and width given": (
        np.zeros((48, 8, 8, 8), np.uint8), {"image_shape": (8, 8)}, ["volumes"]),
    "volumes with channels": (np.zeros((48, 8, 8, 8, 1), np.uint8), {}, ["volumes", "slices"]),
    "channels first": (X.transpose(0, 3, 1, 2), {}, ["(3, 8, 8)", "X.transpose(0, 2, 3, 1)"]),
    "grey, channels first": (X[:, None, :, :, 0], {}, ["(1, 8, 8)", "X.transpose(0, 2, 3, 1)"]),
    "channels first, as given": (
        X.transpose(0, 3, 1, 2), {"image_shape": (3, 8, 8)}, ["X.reshape(-1, 3, 8, 8).transpose("]),
    "flat, channels first": (
        X.transpose(0, 3, 1, 2).reshape(48, -1), {"image_shape": (3, 8, 8)},
        ["X.reshape(-1, 3, 8, 8).transpose(0, 2, 3, 1)"]),
}  # fmt: skip


@pytest.mark.parametrize("case", SHAPES)
@pytest.mark.parametrize("name", ENGINE)
def test_shapes_that_are_no_images_are_refused(name, case):
    images, params, words = SHAPES[case]
    with pytest.raises(ValueError, match=name) as error:
        make(name, **params).fit(images, y)
    message = str(error.value)
    assert all(word in message for word in words), message
    assert "\n" not in message


def test_what_the_message_says_works():
    first = X.transpose(0, 3, 1, 2)
    assert same(mlp().fit(first.transpose(0, 2, 3, 1), y), mlp().fit(X, y))
    model = mlp().fit(X, y)
    with pytest.raises(ValueError, match=r"\(3, 8, 8\); write X\.transpose\(0, 2, 3, 1\)"):
        model.predict(first)
    with pytest.raises(ValueError, match=r"Got one image of shape \(8, 8, 3\); write X\[None\]"):
        model.predict(X[0])
    np.testing.assert_allclose(model.predict_proba(X[0][None]), model.predict_proba(X)[:1], 1e-5)
    grey = mlp().fit(X[..., 0], y)
    for one in (X[0, ..., 0], X[0, ..., :1]):
        with pytest.raises(ValueError, match=r"Got one image"):
            grey.predict(one)


def test_more_channels_are_taken_where_they_are_meant():
    many = np.random.default_rng(0).integers(0, 256, (48, 8, 8, 6)).astype(np.uint8)
    assert mlp(image_shape=(8, 8, 6)).fit(many, y).image_shape_ == (8, 8, 6)
    assert mlp(image_shape=(8, 8, 6)).fit(many.reshape(48, -1), y).image_shape_ == (8, 8, 6)
    signals = many.reshape(48, 1, 32, 12)  # of twelve leads
    assert mlp(image_shape=(1, 32, 12)).fit(signals, y).image_shape_ == (1, 32, 12)
    assert mlp().fit(X[..., [0, 1, 2, 0]], y).image_shape_ == (8, 8, 4)
