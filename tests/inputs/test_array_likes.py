"""X and y of the kinds that people hand over: they work, or a sentence says what to do."""

import io
import types
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from helpers import PUBLIC, SLOW, data, make
from PIL import Image

import kmedclf
from kmedclf import CalibratedClassifier, EnsembleClassifier, KerasImageClassifier
from kmedclf.datasets.sources import read_data

X, y = data(24)
FLAT = X.reshape(24, -1)
WORDS = np.array(["blast", "basophil", "platelet"])[y]


def dense(meta):
    """Build a small network, as for scikeras."""
    return keras.Sequential([
        keras.Input(meta["X_shape_"][1:]), keras.layers.Flatten(),
        keras.layers.Dense(meta["n_classes_"], activation="softmax"),
    ])  # fmt: skip


def estimators():
    """Give a maker of every public estimator that is quick to fit."""
    made = {}
    for name in kmedclf.__all__:
        cls = getattr(kmedclf, name)
        if name in PUBLIC:
            made[name] = None if name in SLOW else lambda name=name: make(name, epochs=1)
        elif isinstance(cls, type) and hasattr(cls, "predict_proba") and hasattr(cls, "fit"):
            made[name] = {
                "EnsembleClassifier": lambda: EnsembleClassifier([("m", make("MLPClassifier"))]),
                "CalibratedClassifier": lambda: CalibratedClassifier(
                    make("MLPClassifier").fit(X, y)
                ),
                "KerasImageClassifier": lambda: KerasImageClassifier(
                    dense, loss="sparse_categorical_crossentropy", random_state=0
                ),
                "AutoClassifier": None,  # not quick; it checks X and y as the others do
                "ImageClassifier": None,
                "PretrainedClassifier": None,
            }[name]
    return {name: maker for name, maker in made.items() if maker}


EVERY = estimators()
assert {"MLPClassifier", "CNNClassifier", "EnsembleClassifier"} <= set(EVERY)


class Tensor:
    """What can be seen of PyTorch's tensors: an array behind detach, cpu and numpy."""

    def __init__(self, value, steps=("detach", "cpu")):
        self._value, self._steps = np.asarray(value), steps
        self.shape, self.ndim = self._value.shape, self._value.ndim

    def __len__(self):
        return len(self._value)

    def __getitem__(self, index):
        return Tensor(self._value[index], self._steps)

    def detach(self):
        return Tensor(self._value, self._steps[1:])

    cpu = detach

    def numpy(self):
        if self._steps:
            raise RuntimeError(f"Can't call numpy() before {self._steps[0]}().")
        return self._value


class Lazy:
    """An array of another library, such as dask's, that is computed when it is asked for."""

    def __init__(self, value):
        self._value = value
        self.shape, self.ndim, self.dtype = value.shape, value.ndim, value.dtype

    def __len__(self):
        return len(self._value)

    def __getitem__(self, index):
        return Lazy(self._value[index])

    def __array__(self, dtype=None, copy=None):
        return np.array(self._value, dtype)


def objects(values):
    found = np.empty(len(values), object)
    found[:] = list(values)
    return found


def pictures(images, mode="RGB"):
    return [Image.fromarray(one).convert(mode) for one in images]


WORKS = {
    "list of arrays": lambda: list(X),
    "tuple of arrays": lambda: tuple(X),
    "nested lists": lambda: X.tolist(),
    "pictures": lambda: pictures(X),
    "pictures with a palette": lambda: [one.quantize(256) for one in pictures(X)],
    "object array of arrays": lambda: objects(X),
    "object array of numbers": lambda: X.astype(object),
    "Series of arrays": lambda: pd.Series(list(X), index=range(24, 0, -1)),
    "table with a column of arrays": lambda: pd.DataFrame({"image": list(X)}),
    "table": lambda: pd.DataFrame(FLAT),
    "table of objects": lambda: pd.DataFrame(FLAT.astype(object)),
    "tf.Tensor": lambda: tf.constant(X),
    "list of tf.Tensor": lambda: [tf.constant(one) for one in X],
    "torch": lambda: Tensor(X),
    "list of torch": lambda: [Tensor(one) for one in X],
    "lazy": lambda: Lazy(X),
    "big endian": lambda: X.astype(">i2"),
    "memory view": lambda: memoryview(X.copy()),
}


@pytest.fixture(scope="module")
def fitted():
    return {name: maker().fit(X, y) for name, maker in EVERY.items()}


@pytest.mark.parametrize("kind", WORKS)
@pytest.mark.parametrize("name", EVERY)
def test_predict_takes(name, kind, fitted):
    if name != "MLPClassifier" and kind == "pictures with a palette":
        pytest.skip("colours are chosen anew")
    found, expected = fitted[name].predict_proba(WORKS[kind]()), fitted[name].predict_proba(X)
    if kind == "pictures with a palette":
        colours = np.stack([np.asarray(one.convert("RGB")) for one in WORKS[kind]()])
        expected = fitted[name].predict_proba(colours)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("kind", WORKS)
@pytest.mark.parametrize("name", ["MLPClassifier", "EnsembleClassifier"])
def test_fit_takes(name, kind, fitted):
    if kind in ("table", "table of objects", "pictures with a palette"):
        pytest.skip("others images than X without image_shape")
    if name == "EnsembleClassifier" and kind in ("memory view", "torch", "lazy"):
        pytest.skip("scikit-learn's indexable decides")
    model = EVERY[name]().fit(WORKS[kind](), y)
    expected = EVERY[name]().fit(X, y)
    np.testing.assert_array_equal(model.predict_proba(X), expected.predict_proba(X))


@pytest.mark.parametrize("mode", ["L", "1", "LA", "RGB", "RGBA", "CMYK", "P", "HSV", "I;16"])
def test_pictures_of_every_mode(mode):
    given = pictures(X[..., 0] if mode in ("L", "1", "I;16") else X, mode)
    channels = {"L": 1, "1": 1, "I;16": 1, "LA": 2, "RGBA": 4}.get(mode, 3)
    model = make("MLPClassifier").fit(given, y)
    assert model.image_shape_ == (8, 8, channels)
    assert model._scale in (1 / 255, 1 / 65535)
    if mode == "1":
        black_or_white = (np.stack([np.asarray(one) for one in given]) * 255).astype(np.uint8)
        np.testing.assert_array_equal(
            model.predict_proba(given), model.predict_proba(black_or_white)
        )


def test_pictures_are_turned_upright_as_files_are(tmp_path):
    images, paths = X[:, :, :6], [str(tmp_path / f"{i}.png") for i in range(24)]
    for path, one in zip(paths, images, strict=True):
        exif = Image.Exif()
        exif[0x0112] = 6  # a quarter turn
        Image.fromarray(one).save(path, exif=exif)
    model = make("MLPClassifier", image_size=(6, 8)).fit(paths, y)
    expected = model.predict_proba(paths)
    opened = [Image.open(path) for path in paths]
    np.testing.assert_array_equal(model.predict_proba(opened), expected)
    np.testing.assert_array_equal(model.predict_proba(np.rot90(images, -1, (1, 2))), expected)


def frames():
    """Make a picture of two frames, as stacks of slices in TIFF are."""
    file = io.BytesIO()
    first, second = pictures(X[:2])
    first.save(file, "TIFF", save_all=True, append_images=[second])
    return [Image.open(file)]


BAD_X = {
    "a stack in a picture": (frames, ["one image each", "2"]),
    "a path": (lambda: "x.png", ["one path, 'x.png'", "write [X]"]),
    "a pathlib.Path": (lambda: Path("x.png"), ["one path, 'x.png'", "write [X]"]),
    "a picture": (lambda: pictures(X)[0], ["one picture", "write [X]"]),
    "arrays of two sizes": (
        lambda: [X[0], X[1], X[2][:5]], ["one shape", "(8, 8, 3) at 0", "(5, 8, 3) at 2", "paths"]),
    "pictures of two sizes": (
        lambda: [*pictures(X[:2]), pictures(X)[0].resize((4, 8))], ["one shape", "(8, 4, 3) at 2"]),
    "pictures of two modes": (
        lambda: [*pictures(X[:1]), pictures(X)[1].convert("L")], ["(8, 8, 3) at 0", "(8, 8) at 1"]),
    "objects of two sizes": (lambda: objects([X[0], X[1][:5]]), ["(5, 8, 3) at 1"]),
    "a Series of two sizes": (lambda: pd.Series([X[0], X[1][:5]]), ["(5, 8, 3) at 1"]),
    "lists of two lengths": (lambda: [X[0].tolist(), X[1][:5].tolist()], ["one shape"]),
    "tf.data": (
        lambda: tf.data.Dataset.from_tensor_slices((X, y)), ["Dataset", "np.concatenate("]),
    "a generator": (lambda: (one for one in X), ["generator", "list(X)"]),
    "an iterator": (lambda: iter(X), ["iterator", "list(X)"]),
    "a set": (lambda: {"x.png"}, ["set", "list(X)"]),
    "a dict": (lambda: {"image": X, "label": y}, ["dict", "X['image']"]),
    "a loader": (
        lambda: types.new_class("Loader", (), exec_body=lambda body: body.update(
            __len__=lambda self: 3, __getitem__=lambda self, i: (X[i], y[i])))(),
        ["Loader", "np.stack("]),
    "a masked array": (lambda: np.ma.masked_equal(X, X[0, 0, 0, 0]), ["masked", "X.filled(0)"]),
    "None": (lambda: None, ["NoneType"]),
    "a number": (lambda: 3, ["int"]),
    "an empty list": (lambda: [], ["empty list"]),
    "an empty array": (lambda: np.array([]), ["empty ndarray"]),
    "no paths": (lambda: np.array([], str), ["empty ndarray"]),
    "text": (lambda: np.array([["a", "b"]] * 24), ["numbers", "path"]),
    "bytes": (lambda: [b"x.png"] * 24, ["numbers", "path", "S5"]),
    "one flat image": (lambda: FLAT[0], ["batch", "(192,)", "X[None]"]),
    "a list of numbers": (lambda: FLAT[0].tolist(), ["batch", "(192,)", "X[None]"]),
    "a Series of numbers": (lambda: pd.Series(FLAT[0]), ["batch", "(192,)", "X[None]"]),
    "dates": (lambda: np.zeros((24, 4), "M8[s]"), ["numbers", "datetime64"]),
    "a table of paths and labels": (
        lambda: pd.DataFrame({"label": y, "path": ["x.png"] * 24}), ["'path'", "X['path']"]),
    "arrays among paths": (lambda: ["x.png", X[0]], ["paths only", "a ndarray at 1"]),
    "bytes among paths": (lambda: ["x.png", b"y.png"], ["paths only", "b'y.png' at 1"]),
    "a key of dask": (lambda: ("from-value-12ab", 0, 0, 0), ["paths only", "dask", "compute()"]),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD_X)
@pytest.mark.parametrize("method", ["fit", "predict"])
@pytest.mark.parametrize("name", ["MLPClassifier", "CNNClassifier"])
def test_x_that_is_no_batch_of_images(name, method, kind, fitted):
    images, words = BAD_X[kind]
    model = fitted[name] if method == "predict" else make(name)
    with pytest.raises((ValueError, TypeError)) as error:
        model.predict(images()) if method == "predict" else model.fit(images(), y)
    message = str(error.value)
    assert all(word in message for word in words), message
    assert "\n" not in message
    assert name in message


GOOD_Y = {
    "list": (list(WORDS), WORDS),
    "Series": (pd.Series(WORDS), WORDS),
    "categories": (pd.Series(WORDS, dtype="category"), WORDS),
    "objects": (WORDS.astype(object), WORDS),
    "column": (y[:, None].tolist(), y),
    "floats": (y + 1.0, y + 1.0),
    "a list of floats": ((y + 1.0).tolist(), y + 1.0),
    "truths": (y == 1, y == 1),
    "a list of truths": ((y == 1).tolist(), y == 1),
    "objects of numbers": (y.astype(object), y),
    "tf.Tensor": (tf.constant(y), y),
    "torch": (Tensor(y), y),
    "a table": (pd.DataFrame({"label": y}), y),
    "blanks inside": (np.char.replace(WORDS, "a", " a "), np.char.replace(WORDS, "a", " a ")),
    "blanks around": (np.char.add(WORDS, " "), np.char.add(WORDS, " ")),
}


@pytest.mark.filterwarnings("ignore:A column-vector y was passed")
@pytest.mark.parametrize("kind", GOOD_Y)
@pytest.mark.parametrize("name", ["MLPClassifier", "EnsembleClassifier"])
def test_y_of_every_kind(name, kind):
    given, plain = GOOD_Y[kind]
    model = EVERY[name]().fit(X, given)
    np.testing.assert_array_equal(model.classes_, np.unique(plain))
    expected = EVERY[name]().fit(X, np.unique(plain, return_inverse=True)[1])
    np.testing.assert_array_equal(model.predict_proba(X), expected.predict_proba(X))


def replaced(values, i, value):
    changed = list(values)
    changed[i] = value
    return changed


CAFE = ["caf\u00e9", "cafe\u0301"]
BAD_Y = {
    "None": (replaced(WORDS, 3, None), ["every image", "None at 3"]),
    "None among objects": (objects(replaced(WORDS, 3, None)), ["None at 3"]),
    "None among numbers": (replaced(y, 3, None), ["None at 3"]),
    "NaN among words": (objects(replaced(WORDS, 3, np.nan)), ["nan at 3"]),
    "pandas' NA": (pd.Series(replaced(WORDS, 3, pd.NA)), ["at 3"]),
    "NaN": (np.where(np.arange(24) == 3, np.nan, y), ["NaN"]),
    "stray blanks": (replaced(WORDS, 3, WORDS[3] + " "), ["look the same", "strip"]),
    "other blanks": (replaced(WORDS, 3, "\u00a0" + WORDS[3]), ["look the same", "strip"]),
    "blanks in a Series": (pd.Series(replaced(WORDS, 3, WORDS[3] + "\t")), ["look the same"]),
    "accents": (CAFE * 12, ["look the same"]),
    "words and numbers": (replaced(WORDS, 3, 3), ["not both", "3"]),
    "words and numbers as objects": (objects(replaced(WORDS, 3, 3)), ["not both", "3"]),
    "bytes": ([b"a", b"b"] * 12, ["bytes", "decode()"]),
    "an array of bytes": (np.array([b"a", b"b"] * 12), ["bytes", "decode()"]),
    "a generator": (lambda: (one for one in y), ["generator"]),
    "a dict": ({"label": y}, ["dict"]),
    "tf.data": (lambda: tf.data.Dataset.from_tensor_slices(y), ["Dataset"]),
    "shares": (y + 0.5 * (y == 1) + 0.25, ["continuous"]),
    "a number": (3, ["()"]),
}


@pytest.mark.parametrize("kind", BAD_Y)
@pytest.mark.parametrize("name", ["MLPClassifier", "CNNClassifier", "EnsembleClassifier"])
def test_y_that_holds_no_labels(name, kind):
    given, words = BAD_Y[kind]
    with pytest.raises((ValueError, TypeError)) as error:
        EVERY[name]().fit(X, given() if callable(given) else given)
    message = str(error.value)
    assert all(word in message for word in words), message
    assert "\n" not in message


@pytest.mark.parametrize("n", [3, 16])
def test_one_image_a_class(n):
    for name in ("MLPClassifier", "CNNClassifier"):
        with pytest.raises(ValueError, match=rf"{n} images in {n} classes .* X_val and y_val"):
            make(name, early_stopping=True).fit(X[:n], np.arange(n))
        assert make(name).fit(X[:n], np.arange(n)).predict(X[:n]).shape == (n,)
        with pytest.raises(ValueError, match=rf"X of {name} must hold images. Got an empty list"):
            make(name).fit(X[:n], np.arange(n), X_val=[], y_val=[])


def test_a_folder_of_one_image_a_class(tmp_path):
    for name, one in zip("abc", pictures(X), strict=False):
        (tmp_path / name).mkdir()
        one.save(tmp_path / name / "x.png")
    with pytest.raises(ValueError, match=r"too few images to be split: 3 in 3 classes leave none"):
        read_data(str(tmp_path))
    assert read_data(str(tmp_path), only="all").description["n"] == {"all": 3}


def test_a_large_transformer_on_few_images_is_warned_of(monkeypatch):
    from kmedclf import ViTClassifier
    from kmedclf.training import loop

    class StopError(Exception):
        pass

    def stop(*args, **options):
        raise StopError

    monkeypatch.setattr(loop, "train", stop)
    with (
        pytest.warns(UserWarning, match=r"85 million weights .* on 24 images, .*'num_layers'"),
        pytest.raises(StopError),
    ):
        ViTClassifier(early_stopping=False).fit(X, y)
    with pytest.raises(StopError):  # without a word
        make("ViTClassifier").fit(X, y)
