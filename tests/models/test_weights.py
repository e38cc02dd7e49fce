"""Weights from elsewhere: files in each format that is read, found or downloaded."""

import functools
import http.server
import os
import threading

import h5py
import keras
import numpy as np
import pytest
from helpers import build, data, get, make, same, shared
from safetensors.numpy import load_file, save_file

from kmedclf import models
from kmedclf.models import _weights
from kmedclf.models._weights import Published
from kmedclf.utils import download
from kmedclf.utils.download import md5_of

X, y = data()
GREY = X[..., :1]


def _features(model, images):
    """What the backbone computes of images, before the last layer."""
    return keras.Model(model.input, model.get_layer("logits").input).predict(images, verbose=0)


def _legacy(model, path):
    """Write weights as keras.applications publishes them."""
    with h5py.File(path, "w") as file:
        layers = [layer for layer in model.layers if layer.weights]
        file.attrs["layer_names"] = [layer.name.encode() for layer in layers]
        for layer in layers:
            group = file.create_group(layer.name)
            names = [f"{layer.name}/{weight.name}:0" for weight in layer.weights]
            group.attrs["weight_names"] = [name.encode() for name in names]
            for name, weight in zip(names, layer.weights, strict=True):
                group[name] = np.asarray(weight)


def _shaken(model):
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if not isinstance(layer, keras.layers.Normalization):
            layer.set_weights([w + 0.1 * rng.random(w.shape) for w in layer.get_weights()])
    return model


SHAPE = (50, 36, 3)


def _published(name):
    """Keras' own networks, tiny, and the same of ours."""
    if name == "DenseNetClassifier":
        from keras.src.applications.densenet import DenseNet

        theirs = DenseNet([1, 1, 1, 1], False, None, input_shape=SHAPE)
        return theirs, {"block_config": (1, 1, 1, 1), "growth_rate": 32}, 1
    from keras.src.applications.efficientnet import EfficientNet

    theirs = EfficientNet(0.1, 0.1, 32, include_top=False, weights=None, input_shape=SHAPE)
    return theirs, {"width": 0.1, "depth": 0.1}, 255


@pytest.mark.parametrize(
    ("name", "kind"),
    [("DenseNetClassifier", "h5"), ("DenseNetClassifier", "keras"),
     ("EfficientNetClassifier", "h5"),
     pytest.param("EfficientNetClassifier", "keras", marks=pytest.mark.slow)],
)  # fmt: skip
def test_weights_of_keras_applications(name, kind, tmp_path):
    theirs, parameters, scale = _published(name)
    path = tmp_path / f"weights.{kind}"
    _shaken(theirs)
    _legacy(theirs, path) if kind == "h5" else theirs.save(path)
    images = np.random.default_rng(0).random((4, *SHAPE), np.float32)
    ours = build(name, SHAPE, **parameters, stem="imagenet", weights=str(path))
    normalized = _normalized(name, images)
    expected = theirs.predict(normalized * scale, verbose=0).mean(axis=(1, 2))
    np.testing.assert_allclose(_features(ours, images), expected, rtol=1e-3, atol=1e-4)


def _normalized(name, images):
    return (images - np.float32(get(name).mean)) / np.float32(get(name).std)


def _torch_names(model):
    """Random weights under torchvision's and timm's names for a network of ours."""
    rng = np.random.default_rng(0)
    names = {"gamma": "weight", "beta": "bias", "bias": "bias", "moving_mean": "running_mean",
             "moving_variance": "running_var", "kernel": "weight"}  # fmt: skip
    tensors = {}
    for variable in model.weights:
        layer, _, kind = variable.path.rpartition("/")
        if layer and layer != "logits" and "attn" not in layer and layer != "tokens":
            shape = tuple(variable.shape)
            shape = shape[::-1][:2] + shape[:2] if len(shape) == 4 else shape[::-1]
            tensors[f"{layer}.{names[kind]}"] = rng.random(shape, np.float32)
    return tensors


def test_weights_of_torchvision(tmp_path):
    tensors = _torch_names(build("DeepResNetClassifier"))
    known = {"conv1.weight", "bn1.running_mean", "layer1.0.conv1.weight", "layer1.1.bn2.bias",
             "layer2.0.downsample.0.weight", "layer2.0.downsample.1.running_var",
             "layer4.1.conv2.weight"}  # fmt: skip
    assert known <= set(tensors)
    size = tensors["conv1.weight"].shape[:2]
    tensors["conv1.weight"] = np.random.default_rng(1).random((*size, 7, 7), np.float32)
    tensors["bn1.num_batches_tracked"] = np.array(7)
    save_file(tensors, tmp_path / "resnet.safetensors")
    found = build("DeepResNetClassifier", weights=str(tmp_path / "resnet.safetensors"))
    assert found.get_layer("conv1").strides == (1, 1)  # kept on images of 8 pixels
    for layer in ("conv1", "layer3.0.downsample.0"):
        kernel, tensor = np.asarray(found.get_layer(layer).kernel), tensors[f"{layer}.weight"]
        np.testing.assert_array_equal(kernel[0, 0, 2, 1], tensor[1, 2, 0, 0])
        np.testing.assert_array_equal(kernel[-1, 0, 0, 1], tensor[1, 0, -1, 0])
    norm = found.get_layer("layer2.0.bn1")
    for kind, tensor in (("gamma", "weight"), ("moving_variance", "running_var")):
        np.testing.assert_array_equal(getattr(norm, kind), tensors[f"layer2.0.bn1.{tensor}"])


LITE0 = {  # what the original implementation computes: classes, and their logits
    "black": ((111, 644, 530, 854, 650), (3.3446, 2.9949, 2.6680, 2.3044, 2.0842)),
    "ramp": ((644, 418, 769, 767, 111), (5.9911, 4.9678, 4.3820, 4.1985, 4.0581)),
    "board": ((905, 807, 858, 789, 402), (8.0318, 5.4316, 5.3469, 4.3131, 3.8413)),
}


def test_lite0_with_its_published_weights_is_the_original():
    path = shared("efficientnet_lite0_imagenet.safetensors")
    side = np.arange(224)
    diagonal = np.add.outer(side, side)[..., None]
    images = np.stack([0 * diagonal * [1, 1, 1], diagonal * [1, 2, 3] % 256,
                       diagonal // 16 % 2 * [255, 128, 64]]).astype(np.uint8)  # fmt: skip
    model = build("EfficientNetClassifier", (224, 224, 3), variant="lite0", width=1.0, depth=1.0,
                  weights=str(path))  # fmt: skip
    head = load_file(path)
    logits = _features(model, images / np.float32(255)) @ head["_fc.weight"].T + head["_fc.bias"]
    for row, (classes, expected) in zip(logits, LITE0.values(), strict=True):
        assert tuple(np.argsort(-row)[:5]) == classes
        np.testing.assert_allclose(row[list(classes)], expected, atol=1e-3)


@pytest.mark.parametrize("port", [0, 1], ids=["original", "timm"])
def test_lite0_takes_the_names_of_both_ports(port, tmp_path):
    parameters = {"variant": "lite0", "depth": 0.5}
    ours = _torch_names(build("EfficientNetClassifier", **parameters))
    names = get("EfficientNetClassifier")(**parameters).torch_names
    tensors = {}
    for name, value in ours.items():
        layer, _, kind = name.rpartition(".")
        tensors[f"{names(layer)[port]}.{kind}"] = value
    # fmt: off
    known = {"_conv_stem.weight", "_blocks.0._depthwise_conv.weight", "_bn1.weight",
             "_blocks.0._bn1.running_mean", "_blocks.1._expand_conv.weight", "_blocks.1._bn0.bias"}
    timm = {"conv_stem.weight", "blocks.0.0.conv_dw.weight", "blocks.0.0.conv_pw.weight",
            "blocks.1.0.conv_pwl.weight", "blocks.0.0.bn1.bias", "blocks.1.0.bn3.bias", "bn2.bias"}
    # fmt: on
    assert (known, timm)[port] <= set(tensors)
    save_file(tensors, tmp_path / "lite0.safetensors")
    found = build("EfficientNetClassifier", **parameters, weights=tmp_path / "lite0.safetensors")
    for layer in found.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            np.testing.assert_array_equal(layer.gamma, ours[f"{layer.name}.weight"])


def _attention(x, tensors, block, heads):
    """timm's attention in NumPy: one matrix for queries, keys and values, tokens in rows."""
    qkv = x @ tensors[f"{block}.attn.qkv.weight"].T + tensors[f"{block}.attn.qkv.bias"]
    q, k, v = qkv.reshape(len(x), 3, heads, -1).transpose(1, 2, 0, 3)
    scores = q @ k.transpose(0, 2, 1) / np.sqrt(q.shape[-1])
    weight = np.exp(scores) / np.exp(scores).sum(axis=-1, keepdims=True)
    out = (weight @ v).transpose(1, 0, 2).reshape(len(x), -1)
    return out @ tensors[f"{block}.attn.proj.weight"].T + tensors[f"{block}.attn.proj.bias"]


@pytest.mark.parametrize("grid", [2, 3])
def test_weights_of_timm(grid, tmp_path):
    d, block = 8, "blocks.0"
    tensors = _torch_names(build("ViTClassifier", patch_size=4))
    rng = np.random.default_rng(2)
    for name, shape in {
        "cls_token": (1, 1, d), "pos_embed": (1, 1 + grid**2, d),
        "blocks.0.attn.qkv.weight": (3 * d, d), "blocks.0.attn.qkv.bias": (3 * d,),
        "blocks.0.attn.proj.weight": (d, d), "blocks.0.attn.proj.bias": (d,),
    }.items():  # fmt: skip
        tensors[name] = rng.random(shape, np.float32)
    save_file(tensors, tmp_path / "vit.safetensors")
    model = build("ViTClassifier", patch_size=4, weights=str(tmp_path / "vit.safetensors"))
    position = np.asarray(model.get_layer("tokens").pos_embed)
    assert position.shape == (1, 5, d)
    np.testing.assert_array_equal(position[0, 0], tensors["pos_embed"][0, 0])
    if grid == 2:  # else resampled
        np.testing.assert_array_equal(position, tensors["pos_embed"])
    attention = model.get_layer(f"{block}.attn")
    rows = rng.random((1, 5, d), np.float32)
    expected = _attention(rows[0], tensors, block, heads=2)
    np.testing.assert_allclose(attention(rows, rows)[0], expected, rtol=1e-4)


@pytest.mark.parametrize("depth", [18, 50, None])
def test_presets_of_keras_hub(depth, tmp_path):
    hub = pytest.importorskip("keras_hub").models
    name = "DeepResNetClassifier" if depth else "ViTClassifier"
    if not depth:
        backbone = hub.ViTBackbone((32, 32, 3), 16, 2, 2, 8, 16)
        parameters = {"num_layers": 2, "hidden_dim": 8, "num_heads": 2, "mlp_dim": 16}
    else:
        backbone = hub.ResNetBackbone(
            [64], [7], [64, 128, 256, 512], {18: [2] * 4, 50: [3, 4, 6, 3]}[depth], [1, 2, 2, 2],
            {18: "basic_block", 50: "bottleneck_block"}[depth], image_shape=(32, 32, 3),
        )  # fmt: skip
        parameters = {"depth": depth, "filters": 64, "stem": "imagenet"}
    _shaken(backbone).save_to_preset(str(tmp_path / "preset"))
    images = np.random.default_rng(0).random((4, 32, 32, 3), np.float32)
    ours = build(name, (32, 32, 3), **parameters, weights=str(tmp_path / "preset"))
    expected = backbone.predict(_normalized(name, images), verbose=0)
    expected = expected[:, 0] if expected.ndim == 3 else expected.mean(axis=(1, 2))
    np.testing.assert_allclose(_features(ours, images), expected, rtol=1e-3, atol=1e-3)


def test_a_preset_without_keras_hub_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "keras_hub", None)
    with pytest.raises(ImportError, match=r"'resnet_18_imagenet'.*kmedclf\[hub\]"):
        make("DeepResNetClassifier", weights="resnet_18_imagenet").fit(X, y)
    with pytest.raises(ValueError, match=r"must be a file, .* Got 'densenet_121_imagenet'"):
        make("DenseNetClassifier", weights="densenet_121_imagenet").fit(X, y)


@pytest.mark.parametrize(
    "estimator",
    [
        *(models.DeepResNetClassifier(depth=depth) for depth in (18, 34, 50)),
        *(models.EfficientNetClassifier(variant=one) for one in ("b0", "b1", "b2", "lite0")),
        models.DenseNetClassifier(), models.ViTClassifier(), models.AlexNetClassifier(),
    ],
    ids=repr,
)  # fmt: skip
def test_without_a_network_it_says_which_file_goes_where(estimator, monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setenv("KMEDCLF_MIRROR", "http://127.0.0.1:9")
    monkeypatch.setattr(download, "RETRIES", 0)
    published = estimator.published()
    with pytest.raises(FileNotFoundError) as caught:
        estimator.set_params(weights="imagenet").fit(X, y)
    source = published.url or published.how
    for fact in (type(estimator).__name__, published.name, source, str(tmp_path / "models")):
        assert fact in str(caught.value)
    assert published.md5 is None or published.md5 in str(caught.value)
    assert os.listdir(tmp_path) == []


def test_weights_that_nobody_offers_are_not_asked_for(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.delenv("KMEDCLF_MIRROR", raising=False)
    alexnet = models.AlexNetClassifier(weights="imagenet")
    with pytest.raises(FileNotFoundError, match=r"nobody offers them .*save_file\(torchvision"):
        alexnet.fit(X, y)
    assert models.AlexNetClassifier(filters=8).published() is None


class PublishedNet(models.DenseNetClassifier):
    """A network whose weights are on a server."""

    md5 = None

    def published(self):
        return Published("tiny.h5", "http://127.0.0.1:9/tiny.h5", type(self).md5)


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A folder served over HTTP on this machine, an empty cache, and what was asked for."""
    asked, folder = [], tmp_path / "served"
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            asked.append(self.path)

    handler = functools.partial(Handler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as served:
        threading.Thread(target=served.serve_forever, daemon=True).start()
        monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
        monkeypatch.setenv("KMEDCLF_MIRROR", f"http://127.0.0.1:{served.server_port}")
        monkeypatch.setattr(download, "RETRIES", 0)
        yield folder, asked
        served.shutdown()


def test_published_weights_are_downloaded_once(server, tmp_path, monkeypatch):
    folder, asked = server
    tiny = {"block_config": (1, 1, 1, 1), "epochs": 1, "early_stopping": False, "random_state": 0}
    net = PublishedNet(**tiny, weights="imagenet", trainable="head")
    with pytest.raises(FileNotFoundError, match=r"tiny\.h5, are not in .*could not be downloaded"):
        net.fit(X, y)
    theirs, _, _ = _published("DenseNetClassifier")
    _legacy(theirs, folder / "tiny.h5")
    monkeypatch.setattr(PublishedNet, "md5", "0" * 32)
    with pytest.raises(FileNotFoundError, match=f"check that its md5 is {'0' * 32}"):
        net.fit(X, y)
    assert not (tmp_path / "home").exists()
    monkeypatch.setattr(PublishedNet, "md5", md5_of(folder / "tiny.h5"))
    first, second = net.fit(X, y).weights_, net.fit(GREY, y).weights_
    assert same(first[:-2], second[:-2])
    assert same(first[:-2], [np.asarray(weight) for weight in theirs.weights])
    assert len(asked) == 4 and _weights.cache_folder() == tmp_path / "home" / "models"  # noqa: PT018
    assert os.listdir(tmp_path / "home" / "models") == ["tiny.h5"]
