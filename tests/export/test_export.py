"""Exported files compute what the estimator does, in the runtimes of others."""

import json
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from helpers import ALL, NAMES, data, make, run

from kmedclf import (
    CalibratedClassifier,
    EnsembleClassifier,
    KerasImageClassifier,
    MLPClassifier,
)
from kmedclf.export import FORMATS, PACKAGES, formats
from kmedclf.export.formats import NAMES as CLASS_NAMES

X, y = data()
NAMED = ["basophil", "Zelle ä"]


def written(estimator, path, format, **options):
    """Export, and return what was exported with the file's outputs for X."""
    for package in PACKAGES.get(format, ()):
        pytest.importorskip(package)
    exported = estimator.export(path, format, **options)
    return exported, formats.FORMATS[format].run(Path(path), X)


def agrees(outputs, estimator, atol=1e-6):
    """Compare a file's outputs with the estimator's, but labels of near ties."""
    proba = estimator.predict_proba(X)
    np.testing.assert_allclose(outputs["probabilities"], proba, atol=atol)
    assert outputs["probabilities"].dtype == np.float32
    assert outputs["label"].dtype == np.int64
    labels = estimator.predict(X)
    ours = labels if labels.ndim == 2 else estimator.classes_[outputs["label"]]
    agree = labels == (outputs["label"] if labels.ndim == 2 else ours)
    if labels.ndim == 1:
        second, first = np.sort(proba, axis=1)[:, -2:].T
        agree |= first - second <= 10 * atol
    assert agree.mean() > 0.95


@pytest.mark.parametrize("name", ALL)
def test_every_network_is_exported_to_keras(name, tmp_path):
    estimator = make(name).initialize(X, y)
    exported, outputs = written(estimator, tmp_path / "model.keras", "keras")
    agrees(outputs, estimator)
    assert 0 <= exported.difference < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("format", [one for one in FORMATS if one != "keras"])
@pytest.mark.parametrize("name", NAMES)
def test_every_network_is_exported_to_every_format(name, format, tmp_path):
    estimator = make(name, tta="mirror").initialize(X, y)
    exported, outputs = written(estimator, tmp_path / "model", format)
    agrees(outputs, estimator)
    assert 0 <= exported.difference < 1e-5


@pytest.fixture(scope="module")
def whole():
    """A calibrated ensemble: views, members that miss a class, temperature, priors, threshold."""
    both = np.array(["a", "b"])[y % 2]
    members = [
        make("CNNClassifier", tta=("dihedral", "shift")).fit(X, both),
        make("MLPClassifier", epochs=1).fit(X, both),
    ]
    ensemble = EnsembleClassifier.from_fitted(members, weights=[3, 1])
    options = {"priors": {"a": 0.8, "b": 0.2}, "sensitivity": 0.7, "pos_label": "a"}
    return CalibratedClassifier(ensemble, **options).fit(X, both)


def metadata_of(path, format):
    if format == "onnx":
        onnxruntime = pytest.importorskip("onnxruntime")
        entries = onnxruntime.InferenceSession(path).get_modelmeta().custom_metadata_map
        return {name: json.loads(value) for name, value in entries.items()}
    if format == "litert":
        return json.loads(zipfile.ZipFile(path).read(CLASS_NAMES))
    if format == "saved_model":
        return json.loads((path / "assets.extra" / CLASS_NAMES).read_text(encoding="utf-8"))
    return keras.saving.load_model(path).get_layer("label").settings


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_holds_the_whole_estimator(format, whole, tmp_path):
    path = tmp_path / f"whole.{format}"
    exported, outputs = written(whole, path, format, class_names=NAMED)
    agrees(outputs, whole)
    assert len(np.unique(outputs["label"])) == 2
    assert (exported.format, exported.path) == (format, path)
    assert str(exported).startswith(f"{path} ({format}): probabilities of 8 images differ")
    found = metadata_of(path, format)
    assert (found["class_names"], found["multilabel"]) == (NAMED, False)
    assert [one.name for one in tmp_path.iterdir()] == [f"whole.{format}"]


@pytest.fixture(scope="module")
def small():
    return make("MLPClassifier", epochs=1).fit(X, y)


@pytest.mark.parametrize("format", ["keras", "saved_model"])
def test_what_is_there_stays_without_force(format, small, tmp_path):
    path = tmp_path / f"small{formats.FORMATS[format].suffix}"
    small.export(path, format)
    before = sorted((one, one.stat().st_mtime_ns) for one in tmp_path.rglob("*"))
    with pytest.raises(FileExistsError, match="force"):
        small.export(path, format)
    assert before == sorted((one, one.stat().st_mtime_ns) for one in tmp_path.rglob("*"))
    small.export(path, format, force=True)
    assert before != sorted((one, one.stat().st_mtime_ns) for one in tmp_path.rglob("*"))


def test_force_replaces_no_folder_of_the_user(small, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="more than a SavedModel"):
        small.export(tmp_path, "saved_model", force=True)
    assert [one.name for one in tmp_path.iterdir()] == ["thesis.txt"]


def test_other_pixels_and_several_labels(tmp_path):
    """Floats of any scale, 16 bits, multilabel: the file takes what fit got."""
    floats = make("MLPClassifier", epochs=1)
    with pytest.warns(UserWarning, match="used as given"):
        floats.fit(X.astype(np.float32) + 0.5, y)
    several = (np.eye(3)[y] + np.eye(3)[(y + 1) % 3]).astype(int)
    deep = make("MLPClassifier", epochs=1).fit(X.astype(np.uint16) * 257, several)
    for estimator, dtype in ((floats, "float32"), (deep, "uint16")):
        path = tmp_path / f"{dtype}.keras"
        estimator.export(path, "keras")
        model = keras.saving.load_model(path)
        assert model.input.dtype == dtype
        pixels = X.astype(dtype) * (257 if dtype == "uint16" else 1)
        outputs = model(pixels)
        np.testing.assert_allclose(
            outputs["probabilities"], estimator.predict_proba(pixels), atol=1e-6
        )
    np.testing.assert_array_equal(outputs["label"], deep.predict(pixels))


def test_a_network_of_a_build_function(tmp_path):
    def build(meta):
        layers = [keras.layers.Flatten(), keras.layers.Dense(3, activation="softmax")]
        return keras.Sequential(layers)

    loss = "sparse_categorical_crossentropy"
    estimator = KerasImageClassifier(model=build, loss=loss, epochs=1, tta="mirror").fit(X, y)
    _, outputs = written(estimator, tmp_path / "built.keras", "keras")
    agrees(outputs, estimator)


def test_members_over_fewer_classes(tmp_path):
    few = make("MLPClassifier", epochs=1).fit(X[y > 0], y[y > 0])
    all_of_them = make("MLPClassifier", epochs=1).fit(X, y)
    ensemble = EnsembleClassifier.from_fitted([few, all_of_them])
    _, outputs = written(ensemble, tmp_path / "few.keras", "keras")
    agrees(outputs, ensemble)


def test_the_keras_model_is_what_predict_computes(whole):
    """With views and calibration, too."""
    tta = whole.estimator.estimators_[0]
    for estimator in (tta, CalibratedClassifier(tta).fit(X, tta.predict(X)), whole):
        model = estimator.model_
        np.testing.assert_allclose(
            model(X.astype(np.float32)), estimator.predict_proba(X), atol=1e-6
        )


@pytest.mark.slow
def test_keras_loads_the_file_in_another_process(whole, tmp_path):
    whole.export(tmp_path / "whole.keras", "keras")
    code = "import keras, kmedclf; print(keras.saving.load_model({!r}).input.shape)"
    assert run(code.format(str(tmp_path / "whole.keras"))).strip() == "(None, 8, 8, 3)"


def test_low_precision_exports_in_float32(tmp_path):
    low = make("CNNClassifier", precision="mixed_bfloat16", epochs=1).fit(X, y)
    exported, outputs = written(low, tmp_path / "low.keras", "keras")
    assert 0 < exported.difference < 0.1
    agrees(outputs, low, atol=0.1)


def test_what_cannot_be_exported_says_what_to_do(small, tmp_path):
    from sklearn.dummy import DummyClassifier

    foreign = DummyClassifier().fit(X.reshape(len(X), -1), y)
    foreign = EnsembleClassifier.from_fitted([("other", foreign), ("mlp", small)])
    with pytest.raises(TypeError, match="Got DummyClassifier; export the network in it"):
        foreign.export(tmp_path / "model.keras", "keras")
    with pytest.raises(ValueError, match="'format' parameter of export must be one of 'onnx'"):
        small.export(tmp_path / "model.h5", "h5")
    with pytest.raises(ValueError, match=r"a name for each of the 3 classes\. Got 1"):
        small.export(tmp_path / "model.keras", "keras", class_names=["a"])
    assert not list(tmp_path.iterdir())


class Inverted(MLPClassifier):
    """A user's network that changes its probabilities afterwards, which no file can know."""

    def predict_proba(self, X, **params):
        return 1 - super().predict_proba(X, **params)


def test_a_file_that_computes_something_else_is_not_written(tmp_path):
    inverted = Inverted(units=4, epochs=1, early_stopping=False).fit(X, y)
    with pytest.raises(ValueError, match="must give the probabilities of predict_proba"):
        inverted.export(tmp_path / "model.keras", "keras")
    assert not list(tmp_path.iterdir())
