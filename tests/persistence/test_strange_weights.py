"""Weights files that somebody made on purpose, and Keras and keras-hub would open."""

import io
import json
import os
import zipfile

import fuzzing
import h5py
import keras
import numpy as np
import pytest
from safetensors.numpy import save_file

from kmedclf.models import DeepResNetClassifier, _weights
from tests.models.test_weights import _legacy, _published, _shaken
from tests.persistence.test_fuzz_models import _variables

CANARY = b"SECRET-of-another-file-" * 100_000


@pytest.fixture(scope="module")
def theirs():
    return _shaken(_published("DenseNetClassifier")[0])


@pytest.fixture
def h5(theirs, tmp_path):
    _legacy(theirs, tmp_path / "w.h5")
    return tmp_path / "w.h5"


@pytest.fixture
def canary(tmp_path):
    (tmp_path / "secret").write_bytes(CANARY)
    return tmp_path / "secret"


def read(path):
    _weights.read.cache_clear()
    return _weights.read(str(path), "", _variables()[path.suffix], "Network")


def refused(path, megabytes=100):
    """The sentence, without the other file's content, at once and in little memory."""
    before = fuzzing._reset_peak()
    with pytest.raises(ValueError, match=path.name) as caught:
        read(path)
    text = str(caught.value)
    assert str(path) in text
    assert "\n" not in text
    assert "SECRET" not in text
    assert fuzzing._status("VmHWM") - before < megabytes << 20
    return text


def first(file):
    """The group and the name of the first array."""
    layer = file.attrs["layer_names"][0]
    return file[layer], file[layer].attrs["weight_names"][0]


def test_whole_files_are_read(h5, theirs, tmp_path):
    theirs.save(tmp_path / "w.keras")
    both = read(h5), read(tmp_path / "w.keras")
    for name, value in both[0].items():
        np.testing.assert_array_equal(value, both[1][name])


def _external(file, canary):
    group, name = first(file)
    shape = group[name].shape
    del group[name]
    group.create_dataset(name, shape, "f4", external=[(str(canary), 0, h5py.h5f.UNLIMITED)])


def _virtual(file, canary):
    group, name = first(file)
    shape = group[name].shape
    del group[name]
    with h5py.File(canary.with_suffix(".h5"), "w") as other:
        other["x"] = np.ones(shape, "f4")
    layout = h5py.VirtualLayout(shape, "f4")
    layout[...] = h5py.VirtualSource(str(canary.with_suffix(".h5")), "x", shape)
    group.create_virtual_dataset(name, layout)


def _external_link(file, canary):
    group, name = first(file)
    with h5py.File(canary.with_suffix(".h5"), "w") as other:
        other["x"] = np.ones(group[name].shape, "f4")
    del group[name]
    group[name] = h5py.ExternalLink(str(canary.with_suffix(".h5")), "x")


def _soft_link(file, canary):
    group, name = first(file)
    group.move(name, "elsewhere")
    group[name] = h5py.SoftLink(f"{group.name}/elsewhere")


def _linked_layer(file, canary):
    layer = file.attrs["layer_names"][0]
    file.move(layer, "elsewhere")
    file[layer] = h5py.SoftLink("/elsewhere")


def _huge(file, canary):
    group, name = first(file)
    del group[name]
    group.create_dataset(name, (10**5, 10**5), "f4", chunks=(100, 100), compression="gzip")


def _other_type(kind):
    def change(file, canary):
        group, name = first(file)
        shape = group[name].shape
        del group[name]
        group.create_dataset(name, shape, kind)

    return change


def _names(value):
    def change(file, canary):
        file.attrs["layer_names"] = value

    return change


def _nan(file, canary):
    group, name = first(file)
    group[name][...] = np.nan


def _up(file, canary):
    group, name = first(file)
    group.attrs["weight_names"] = [b"../" + name.encode()]


CHANGES = {
    "external storage": _external,
    "virtual": _virtual,
    "external link": _external_link,
    "soft link": _soft_link,
    "linked layer": _linked_layer,
    "huge": _huge,
    "texts": _other_type(h5py.string_dtype()),
    "references": _other_type(h5py.ref_dtype),
    "compound": _other_type([("a", "f4"), ("b", "f8")]),
    "not finite": _nan,
    "up": _up,
    "no names": _names(3),
    "many names": _names(np.zeros((8_000,), "S8")),
    "other names": _names([b"nothing"]),
    "a path as name": _names([b"/../../etc"]),
}


@pytest.mark.parametrize("change", CHANGES)
def test_h5(change, h5, canary):
    with h5py.File(h5, "a") as file:
        CHANGES[change](file, canary)
    refused(h5)


def _keras(path, theirs, config=None, change=None, method=zipfile.ZIP_STORED, more=()):
    """Write a file of Keras, its configuration or its weights changed."""
    theirs.save(path)
    with zipfile.ZipFile(path) as file:
        entries = {name: file.read(name) for name in file.namelist()}
    if config is not None:
        tree = json.loads(entries["config.json"])
        config(tree)
        entries["config.json"] = json.dumps(tree).encode()
    if change is not None:
        weights = io.BytesIO(entries["model.weights.h5"])
        with h5py.File(weights, "a") as file:
            change(file)
        entries["model.weights.h5"] = weights.getvalue()
    with zipfile.ZipFile(path, "w", method) as file:
        for name, content in [*entries.items(), *more]:
            file.writestr(name, content)
    return path


def _first_of_keras(file):
    found = []
    file.visititems(lambda name, one: found.append(name) if isinstance(one, h5py.Dataset) else None)
    return found[0]


def _stored_elsewhere(canary):
    def change(file):
        name = _first_of_keras(file)
        shape = file[name].shape
        del file[name]
        file.create_dataset(name, shape, "f4", external=[(str(canary), 0, h5py.h5f.UNLIMITED)])

    return change


def _linked(file):
    name = _first_of_keras(file)
    file.move(name, "elsewhere")
    file[name] = h5py.SoftLink("/elsewhere")


def _empty_chunks(file):
    name = _first_of_keras(file)
    del file[name]
    file.create_dataset(name, (10**5, 10**5), "f4", chunks=(100, 100), compression="gzip")


def test_keras_files_with_foreign_weights(theirs, canary, tmp_path):
    path = tmp_path / "w.keras"
    for change in (_stored_elsewhere(canary), _linked, _empty_chunks):
        refused(_keras(path, theirs, change=change))


# Keras' own saving, against NumPy 2.4
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_keras_files_are_as_keras_writes_them(theirs, tmp_path):
    path = tmp_path / "w.keras"
    refused(_keras(path, theirs, method=zipfile.ZIP_DEFLATED))
    refused(_keras(path, theirs, more=[("assets/x", b"x")]))
    refused(_keras(path, theirs, more=[("../../x", b"x")]))
    with pytest.warns(UserWarning, match="Duplicate"):
        _keras(path, theirs, more=[("config.json", b"{}")])
    refused(path)
    assert not (tmp_path.parent / "x").exists()


def _lambda(tree):
    tree["config"]["layers"][1]["class_name"] = "Lambda"


def _dense(tree):
    tree["config"]["layers"][1] |= {"class_name": "Dense", "config": {"units": 10**9}}
    tree["config"]["layers"][1]["build_config"] = {"input_shape": [None, 10**9]}


def _saved_model(tree):
    tree["config"]["layers"][1] |= {"class_name": "TFSMLayer", "config": {"filepath": "/x"}}


def _system(tree):
    tree |= {"module": "os", "class_name": "system", "config": {"command": "true"}}


def _deep(tree):
    inner = tree["config"]
    for _ in range(200):
        inner["x"] = {}
        inner = inner["x"]


@pytest.mark.parametrize("config", [_lambda, _dense, _saved_model, _system, _deep])
def test_keras_files_with_foreign_configurations(config, theirs, tmp_path):
    before = keras.config.floatx()
    refused(_keras(tmp_path / "w.keras", theirs, config=config))
    assert keras.config.floatx() == before


@pytest.mark.parametrize(
    "content",
    [(2**60).to_bytes(8, "little") + b"{}", (2**24).to_bytes(8, "little") + b"{}" + bytes(2**24),
     b"", b"\x02\0\0\0\0\0\0\0{}", (7 * 10**6).to_bytes(8, "little") + b"[[]," * (7 * 10**6 // 4)],
    ids=["far", "long", "empty", "no tensors", "many parts"],
)  # fmt: skip
def test_safetensors(content, tmp_path):
    (tmp_path / "w.safetensors").write_bytes(content)
    refused(tmp_path / "w.safetensors")


def test_safetensors_of_other_shapes(tmp_path):
    save_file({"cls_token": np.zeros((3000, 3000), "f4")}, tmp_path / "w.safetensors")
    refused(tmp_path / "w.safetensors")


@pytest.mark.parametrize(
    "name", ["pipe.h5", "pipe.keras", "pipe.safetensors", "pipe.kmedclf", "pipe"]
)
def test_what_is_no_file(name, tmp_path):
    os.mkfifo(tmp_path / name)
    for path in (tmp_path / name, "/dev/zero"):
        with pytest.raises(
            ValueError, match=r"must be None, 'imagenet'.* a device or pipe, instead"
        ):
            _weights.find(str(path), None, "Network")
        net = DeepResNetClassifier(epochs=1, weights=str(path))
        with pytest.raises(ValueError, match="a device or pipe"):
            net.fit(np.zeros((4, 8, 8, 3), np.uint8), [0, 1, 0, 1])
