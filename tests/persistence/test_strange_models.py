"""Model files that somebody made on purpose: each attack is one sentence, and nothing happens."""

import io
import json
import os
import re
import socket
import time
import warnings
import zipfile
from pathlib import Path

import fuzzing
import keras
import numpy as np
import old_models
import pytest
from helpers import PUBLIC, data, get, make
from sklearn.base import clone

import kmedclf
from kmedclf import EnsembleClassifier
from kmedclf.models._pretrained import PretrainedClassifier
from kmedclf.persistence import fitted_state, safe_keras
from tests.models.test_weights import _legacy, _published

X, y = data(24)
MODELS = sorted(old_models.recorded())


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The file of a small network: its JSON, and its arrays as bytes."""
    path = tmp_path_factory.mktemp("model") / "m.kmedclf"
    make("MLPClassifier", epochs=1, jit_compile=False, augment=["mirror"]).fit(X, y).save(path)
    with zipfile.ZipFile(path) as file:
        entries = {name: file.read(name) for name in file.namelist()}
    return entries


def write(path, entries, change=None, method=zipfile.ZIP_STORED):
    """Write entries, a dict or a list of pairs, the JSON changed by a function."""
    pairs = list(entries.items()) if isinstance(entries, dict) else entries
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a name that comes twice
        with zipfile.ZipFile(path, "w", method) as file:
            for name, content in pairs:
                if name == "estimator.json" and change is not None:
                    tree = json.loads(content)
                    change(tree)
                    content = json.dumps(tree).encode()
                file.writestr(name, content)
    return path


def refused(path, match=None, seconds=5.0, megabytes=120):
    """The sentence in which a file is refused, at once and in little memory."""
    start, before = time.perf_counter(), fuzzing._reset_peak()
    with pytest.raises(ValueError, match=match) as caught:
        kmedclf.load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert time.perf_counter() - start < seconds
    assert fuzzing._status("VmHWM") - before < megabytes << 20
    return str(caught.value)


# -- old files -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_files_of_earlier_versions_are_read(name, tmp_path):
    get("TinyNet")
    content, expected = old_models.write(name, tmp_path / "old.kmedclf")
    model = kmedclf.load(tmp_path / "old.kmedclf")
    np.testing.assert_allclose(model.predict_proba(data(24)[0][:4]), expected, atol=2e-3)
    assert type(model).__name__ == content["class"].rpartition(".")[2]
    model.save(tmp_path / "new.kmedclf")
    again = kmedclf.load(tmp_path / "new.kmedclf")
    np.testing.assert_array_equal(again.predict_proba(X[:4]), model.predict_proba(X[:4]))


def test_every_class_was_recorded():
    assert set(PUBLIC) <= set(MODELS)


# -- names -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_no_file_sets_anything_of_a_class(name, tmp_path):
    """Every attribute of the class, methods and properties, and some that Python looks for."""
    get("TinyNet")
    content, _ = old_models.write(name, tmp_path / "old.kmedclf")
    cls = type(kmedclf.load(tmp_path / "old.kmedclf"))
    known = set(cls.__init__.__kwdefaults__ or ()) | {"estimator", "estimators"}
    own = set(content["state"])
    wrong = [one for one in dir(cls) if one not in known | own | set(cls._get_param_names())]
    assert {"predict", "__class__", "save", "score"} <= set(wrong)
    one = old_models.recorded()[name]
    step = 1 if name == "MLPClassifier" else 12
    for attribute in [*wrong[::step], "predict", "__dict__", "_x", "x", "__x__", "best_estimator_"]:
        changed = json.loads(one["json"])
        changed["state"][attribute] = "abc"
        old_models.archive(tmp_path / "m.kmedclf", json.dumps(changed), one["arrays"])
        if attribute == "best_estimator_" and not cls.__module__.startswith("kmedclf."):
            continue  # may be a user's own
        refused(tmp_path / "m.kmedclf", "has no ")


@pytest.mark.parametrize(
    "name", ["os.system", "builtins.eval", "kmedclf.load", "x", "", 3, "a b.C"]
)
def test_classes_that_are_no_estimators(name, model, tmp_path):
    write(tmp_path / "m.kmedclf", model, lambda tree: tree.update({"class": name}))
    sentence = refused(tmp_path / "m.kmedclf")
    assert "import it first" in sentence or "names no class" in sentence


# -- the archive -----------------------------------------------------------------------------------


def test_entries_are_stored_once_and_known(model, tmp_path):
    path, pairs = tmp_path / "m.kmedclf", list(model.items())
    refused(write(path, model, method=zipfile.ZIP_DEFLATED), "neither compressed")
    refused(write(path, model, method=zipfile.ZIP_LZMA), "neither compressed")
    refused(write(path, [*pairs, pairs[0]]), "each once")
    refused(write(path, [*pairs, pairs[-1]]), "each once")
    refused(write(path, [*pairs, ("x.npy", b"")]), "numbered arrays")
    refused(write(path, [*pairs, ("../../x", b"")]), "numbered arrays")
    refused(write(path, pairs[1:]), "must hold estimator.json")
    refused(write(path, [*pairs, ("9999.npy", pairs[-1][1])]), "numbered arrays")
    extra = f"{len(pairs) - 1}.npy"
    refused(write(path, [*pairs, (extra, pairs[-1][1])]), "nothing wants")


def test_bombs_take_no_memory(model, tmp_path):
    zeros = bytes(300 << 20)
    bomb = {**model, "0.npy": zeros}
    refused(write(tmp_path / "m.kmedclf", bomb, method=zipfile.ZIP_DEFLATED), megabytes=50)
    path = write(tmp_path / "m.kmedclf", model)
    content = bytearray(path.read_bytes())
    at = content.rindex(b"PK\x01\x02")  # the directory says that the last entry is large
    content[at + 20 : at + 28] = (2**31).to_bytes(4, "little") * 2
    path.write_bytes(content)
    refused(path, "larger than the file", megabytes=50)


def test_a_hundred_thousand_entries(tmp_path):
    with zipfile.ZipFile(tmp_path / "m.kmedclf", "w") as file:
        for number in range(100_000):
            file.writestr(f"{number}.npy", b"")
    refused(tmp_path / "m.kmedclf", "directory is too large", megabytes=30)


@pytest.mark.parametrize(
    "text",
    [b"[" * 100_000, b'{"a":' * 100_000, b"[" * 9_000_000, b"[[],[],[]," * 400_000, b"1" * 10_000,
     b"[" + b"{}," * 1_000_000 + b"1]", b"\xff\xfe", b"null", b"[]", b'{"format": 1}'],
    ids=range(10),
)  # fmt: skip
def test_json_that_blows_up(text, model, tmp_path):
    refused(write(tmp_path / "m.kmedclf", {**model, "estimator.json": text}), megabytes=100)


def header(descr="'<f4'", order="False", shape="(8, 3)", more=""):
    text = f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, {more}}}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


@pytest.mark.parametrize(
    "content",
    [header(shape="(100000, 100000)"), header(shape="(0, 1000000000000)"), header("'|O'"),
     header("'<U0'", shape="(1000000000000,)"), header("[('a', '<f4')]"), header(shape="(-1,)"),
     header(shape="(__import__('os').system('true'),)"), header(shape="(" * 4000), header("'<f4'"),
     header(shape="(1e9,)"), header("'<V8'"), header("'<c8'"), b"",
     b"\x93NUMPY\x02\x00" + b"\xff" * 9, header("'<f99999'"),
     header("'<M8[x]'", shape="(1,)") + bytes(8)],
    ids=range(16),
)  # fmt: skip
def test_headers_of_arrays(content, model, tmp_path):
    refused(write(tmp_path / "m.kmedclf", {**model, "0.npy": content}))


@pytest.mark.parametrize("kind", ["device", "pipe", "folder", "socket", "link to a device"])
def test_no_regular_files(kind, tmp_path, monkeypatch):
    path = tmp_path / "m.kmedclf"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "socket":
        monkeypatch.chdir(tmp_path)  # names of sockets are short
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(path.name)
    elif kind == "device":
        path = Path("/dev/zero")
    else:
        path.symlink_to("/dev/zero")
    refused(path, f"must be a kmedclf model file. Got a {kind.split()[-1]} instead")


# -- the network -----------------------------------------------------------------------------------


def _set(tree, name, value):
    """Set a parameter, in the estimator and in the description of its network."""
    if name in tree["state"]:
        tree["state"][name] = value
    described = dict(tree["state"]["_spec"]["spec"]["dict"])
    if name in described:
        described[name] = value
    assert name in tree["state"] or name in described
    for pair in described["architecture"]["tuple"]:
        if pair["tuple"][0] == name:
            pair["tuple"][1] = value
    tree["state"]["_spec"]["spec"]["dict"] = [list(one) for one in described.items()]


@pytest.mark.parametrize(
    ("name", "parameter", "value"),
    [
        ("MLPClassifier", "units", 10**9),
        ("MLPClassifier", "units", 10**30),
        ("MLPClassifier", "n_classes", 10**9),
        ("MLPClassifier", "image_shape", {"tuple": [10**6, 10**6, 3]}),
        ("CNNClassifier", "filters", 10**8),
        ("ConvNetClassifier", "filters", {"tuple": [4] * 100_000}),
        ("ResNetClassifier", "stem_filters", 10**8),
        ("ViTClassifier", "num_layers", 10**6),
        ("ViTClassifier", "mlp_dim", 10**9),
        ("DenseNetClassifier", "block_config", {"tuple": [10**7, 10**7]}),
        ("EfficientNetClassifier", "depth", 1e6),
        ("TinyNet", "width", 10**9),
    ],
)
def test_a_network_larger_than_its_weights(name, parameter, value, tmp_path):
    get("TinyNet")
    one = old_models.recorded()[name]
    tree = json.loads(one["json"])
    _set(tree, parameter, value)
    old_models.archive(tmp_path / "m.kmedclf", json.dumps(tree), one["arrays"])
    refused(tmp_path / "m.kmedclf", seconds=20)


@pytest.mark.parametrize("wrong", ["shape", "dtype", "order", "fewer"])
def test_weights_of_another_network(wrong, model, tmp_path):
    def change(tree):
        weights = tree["state"]["weights_"]
        if wrong == "order":
            weights.reverse()
        if wrong == "fewer":
            weights[1:] = []

    entries = dict(model)
    if wrong in ("shape", "dtype"):
        array = np.load(io.BytesIO(model["1.npy"]))
        buffer = io.BytesIO()
        np.save(buffer, array.T if wrong == "shape" and array.ndim > 1 else array.astype("f8"))
        entries["1.npy"] = buffer.getvalue()
    refused(write(tmp_path / "m.kmedclf", entries, change))


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite(number, tmp_path):
    estimator = make("MLPClassifier", epochs=1, jit_compile=False).fit(X, y)
    estimator.save(tmp_path / "m.kmedclf")
    whole = (tmp_path / "m.kmedclf").read_bytes()
    estimator.weights_[0] = estimator.weights_[0].copy()
    estimator.weights_[0][0, 0] = number
    with pytest.raises(ValueError, match="weights_ of MLPClassifier must be finite"):
        estimator.save(tmp_path / "m.kmedclf")
    assert (tmp_path / "m.kmedclf").read_bytes() == whole
    with zipfile.ZipFile(tmp_path / "m.kmedclf") as file:
        entries = {name: file.read(name) for name in file.namelist()}
    for name, content in entries.items():
        if name.endswith(".npy") and np.load(io.BytesIO(content)).shape == (192, 8):
            entries[name] = content[:-4] + np.float32(number).tobytes()
    refused(write(tmp_path / "m.kmedclf", entries), "weights_ of MLPClassifier must be finite")


# -- layers ----------------------------------------------------------------------------------------


def layer(name, config=None, module="keras.layers", registered=None, **more):
    return {"module": module, "class_name": name, "config": config or {},
            "registered_name": registered, **more}  # fmt: skip


LAYERS = {
    "lambda": layer("Lambda", {"function": layer("__lambda__", {"value": "4wEA"})}),
    "floatx": layer("function", "set_floatx", "keras.config"),
    "a function's result": layer("set_floatx", {"value": "float16"}, "keras.config"),
    "unsafe": layer("enable_unsafe_deserialization", {}, "keras.config"),
    "os": layer("system", {"command": "true"}, "os"),
    "activation": layer("Activation", {"activation": layer("function", "system", "os")}),
    "file": layer("get_file", {"fname": "x", "origin": "http://127.0.0.1:9/x"}, "keras.utils"),
    "nested": layer("Pipeline", {"layers": [layer("TFSMLayer", {"filepath": "/x"})]}),
    "large": layer(
        "Sequential",
        {"layers": [layer("InputLayer", {"batch_shape": [None, 10**5]}),
                    layer("Dense", {"units": 10**5})]}, "keras",
    ),
    "an array's type": layer(
        "Rescaling", {"scale": layer("__numpy__", {"value": [1], "dtype": "U9"})}
    ),
    "nothing": {},
    "text": "abc",
    "deep": json.loads('{"config":' * 500 + "1" + "}" * 500),
    **{name: layer(name) for name in sorted(safe_keras.REFUSED)},
}  # fmt: skip


@pytest.mark.parametrize("name", LAYERS)
def test_layers_that_files_must_not_name(name, model, tmp_path):
    before = keras.config.floatx(), keras.config.dtype_policy().name
    content = json.dumps(LAYERS[name])

    def change(tree):
        tree["state"]["augment"] = [{"layer": content}]

    refused(write(tmp_path / "m.kmedclf", model, change))
    assert (keras.config.floatx(), keras.config.dtype_policy().name) == before


def test_a_layer_is_not_built_as_the_file_says(model, tmp_path):
    flip = keras.saving.serialize_keras_object(keras.layers.Dense(3))
    flip["build_config"] = {"input_shape": [None, 4 * 10**8]}

    def change(tree):
        tree["state"]["augment"] = [{"layer": json.dumps(flip)}]

    before = fuzzing._reset_peak()
    (loaded,) = kmedclf.load(write(tmp_path / "m.kmedclf", model, change)).augment
    assert fuzzing._status("VmHWM") - before < 50 << 20
    assert not loaded.built


@keras.saving.register_keras_serializable("tests")
class Darker(keras.layers.Layer):
    def call(self, x):
        return 0.5 * x


@pytest.mark.parametrize(
    "made",
    [Darker, lambda: keras.layers.RandomFlip("horizontal"), lambda: keras.layers.Activation("relu"),
     lambda: keras.Sequential([keras.layers.RandomFlip(), keras.layers.GaussianNoise(0.1)]),
     lambda: keras.layers.RandAugment((0, 1)), lambda: keras.layers.RandomColorJitter((0, 1), 0.1)],
)  # fmt: skip
def test_layers_of_users_and_of_keras_stay(made, tmp_path):
    estimator = make("MLPClassifier", epochs=1, jit_compile=False, augment=[made()]).fit(X, y)
    estimator.save(tmp_path / "m.kmedclf")
    (loaded,) = kmedclf.load(tmp_path / "m.kmedclf").augment
    assert type(loaded) is type(estimator.augment[0])
    mine, theirs = (
        json.dumps(one.get_config(), default=str) for one in (estimator.augment[0], loaded)
    )
    assert re.sub(r'"name": "\w+"', "", mine) == re.sub(r'"name": "\w+"', "", theirs)


# -- paths -----------------------------------------------------------------------------------------


def _with_paths(folder, name="MLPClassifier"):
    return make(
        name, epochs=1, jit_compile=False, cache=folder / "c", memory=str(folder / "m"),
        callbacks=None, image_size=8,
    )  # fmt: skip


def test_no_path_is_written_to_a_model(tmp_path):
    one = _with_paths(tmp_path)
    for estimator in (one, EnsembleClassifier([("one", one)])):
        estimator.fit(X, y).save(tmp_path / "m.kmedclf")
        assert str(tmp_path).encode() not in (tmp_path / "m.kmedclf").read_bytes()
        loaded = kmedclf.load(tmp_path / "m.kmedclf")
        member = loaded if estimator is one else loaded.estimators[0][1]
        assert member.cache is member.memory is member.callbacks is None


@pytest.mark.parametrize("name", PUBLIC)
def test_no_path_is_taken_from_a_model(name, tmp_path):
    """All parameters that can be a path, found by their types."""
    cls = get(name)
    local = fitted_state.local_parameters(cls)
    assert {"cache", "memory", "callbacks"} <= local
    assert ("weights" in local) == issubclass(cls, PretrainedClassifier)
    one = old_models.recorded()[name]
    tree = json.loads(one["json"])
    for parameter in local:
        tree["state"][parameter] = str(tmp_path / "planted")
    old_models.archive(tmp_path / "m.kmedclf", json.dumps(tree), one["arrays"])
    loaded = kmedclf.load(tmp_path / "m.kmedclf")
    for parameter in local:
        expected = "elsewhere" if parameter == "weights" else getattr(cls(), parameter)
        assert getattr(loaded, parameter) == expected
    loaded.predict(X)
    assert os.listdir(tmp_path) == ["m.kmedclf"]


@pytest.mark.parametrize("suffix", [".kmedclf", ".h5"])
def test_weights_from_a_file_are_elsewhere(suffix, tmp_path):
    """Which changes the first kernel: the model loads, predicts and trains on all the same."""
    params = {"epochs": 1, "stem": "small", "trainable": "head"}
    path = tmp_path / f"start{suffix}"
    if suffix == ".h5":
        theirs, _, _ = _published("DenseNetClassifier")
        _legacy(theirs, path)
        params |= {"block_config": (1, 1, 1, 1), "growth_rate": 32}
    else:
        make("DenseNetClassifier", **params).fit(X, y).save(path)
    estimator = make("DenseNetClassifier", **params, weights=str(path)).fit(X, y)
    estimator.save(tmp_path / "m.kmedclf")
    path.unlink()
    loaded = kmedclf.load(tmp_path / "m.kmedclf")
    assert loaded.weights == ("elsewhere" if suffix == ".h5" else "elsewhere.kmedclf")
    np.testing.assert_array_equal(loaded.predict_proba(X), estimator.predict_proba(X))
    loaded.partial_fit(X, y)
    assert len(loaded.history_["loss"]) == 2
    loaded.save(tmp_path / "m.kmedclf")
    for again in (loaded, clone(loaded), kmedclf.load(tmp_path / "m.kmedclf")):
        with pytest.raises(ValueError, match=r"'weights' .* must be set again"):
            again.fit(X, y)


def test_the_name_of_published_weights_stays(tmp_path):
    one = old_models.recorded()["ViTClassifier"]
    tree = json.loads(one["json"])
    tree["state"]["weights"] = "imagenet"
    old_models.archive(tmp_path / "m.kmedclf", json.dumps(tree), one["arrays"])
    assert kmedclf.load(tmp_path / "m.kmedclf").weights == "imagenet"


def test_loading_the_same_network_again_builds_nothing(tmp_path, monkeypatch):
    from kmedclf.training import network

    old_models.write("ResNetClassifier", tmp_path / "m.kmedclf")
    kmedclf.load(tmp_path / "m.kmedclf")
    monkeypatch.delattr(network, "_model")
    kmedclf.load(tmp_path / "m.kmedclf")
