"""The networks themselves: what is published about them, and what every one of them does."""

import copy

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import DEEP, PUBLIC, build, data, get, make, same
from keras.src.backend.common import global_state
from sklearn.base import clone

import kmedclf
from kmedclf import models, recipes
from kmedclf.models import deep_resnet, efficientnet
from kmedclf.training import network

X, y = data()


def _network(estimator, shape, classes):
    """Build the network without giving its variables values: fast at any size."""
    try:
        with keras.StatelessScope(initialize_variables=False):
            image = keras.Input(shape)
            x = recipes.applied(estimator).features(keras.layers.Rescaling(1 / 255)(image))
            x = keras.layers.Flatten()(x) if len(x.shape) > 2 else x
            return keras.Model(image, keras.layers.Dense(classes)(x))
    finally:  # else Keras would give them values later
        global_state.set_global_attribute("uninitialized_variables", [])


def _count(variables):
    return sum(int(np.prod(variable.shape)) for variable in variables)


@pytest.mark.parametrize(
    ("estimator", "parameters"),
    [
        (models.AlexNetClassifier(), 61_100_840),
        (models.DeepResNetClassifier(depth=18), 11_689_512),
        (models.DeepResNetClassifier(depth=34), 21_797_672),
        (models.DeepResNetClassifier(depth=50), 25_557_032),
        (models.DenseNetClassifier(), 7_978_856),
        (models.EfficientNetClassifier(variant="b0"), 5_288_548),
        (models.EfficientNetClassifier(variant="b1"), 7_794_184),
        (models.EfficientNetClassifier(variant="b2"), 9_109_994),
        (models.EfficientNetClassifier(variant="lite0"), 4_652_008),
        (models.ViTClassifier(), 86_567_656),
    ],
    ids=repr,
)
@pytest.mark.parametrize("channels", [1, 3])
def test_published_numbers_of_parameters(estimator, parameters, channels):
    net = _network(estimator, (224, 224, channels), 1000)
    assert _count(net.trainable_weights) == parameters


STACK = {"filters": (16, 32, 64, 128), "kernel_size": (10, 6, 3, 3), "padding": (0, 2, 2, 2),
         "activation": ("linear", "relu", "relu", "relu"), "pool_size": (1, 2, 2, 2),
         "global_pooling": "none"}  # fmt: skip
# The nine experiments on lung X-rays: parameters, and numbers of layers of each kind.
LUNG = {
    1: ({"filters": (128, 64, 32, 32), "kernel_size": (8, 4, 3, 3), "padding": 2,
         "global_pooling": "none", "batch_norm": "none"}, (4, 0, 4, 0)),
    2: ({**STACK, "batch_norm": "none"}, (3, 0, 3, 0)),
    3: ({**STACK, "batch_norm": "first"}, (3, 1, 3, 0)),
    4: ({**STACK, "batch_norm": "all"}, (3, 4, 3, 0)),
    5: ({**STACK, "batch_norm": "all", "early_stopping": True}, (3, 4, 3, 0)),
    6: ({**STACK, "batch_norm": "none", "dropout": 0.25}, (3, 0, 3, 4)),
    7: ({**STACK, "batch_norm": "none", "dropout": 0.25}, (3, 0, 3, 4)),
    8: ({**STACK, "batch_norm": "all", "dropout": 0.25}, (3, 4, 3, 4)),
    9: ({**STACK, "batch_norm": "all", "dropout": 0.25, "early_stopping": True}, (3, 4, 3, 4)),
}  # fmt: skip


@pytest.mark.parametrize("experiment", LUNG)
def test_a_stack_can_be_any_of_the_nine_lung_experiments(experiment):
    parameters, (relus, norms, pools, dropouts) = LUNG[experiment]
    net = _network(models.ConvNetClassifier(**parameters), (64, 64, 1), 4)
    layers = [layer for layer in net.layers if isinstance(layer, keras.layers.Conv2D)]
    assert tuple(layer.filters for layer in layers) == parameters["filters"]
    assert tuple(layer.kernel_size[0] for layer in layers) == parameters["kernel_size"]
    active = [one for one in net.layers if getattr(one, "activation", None) is keras.ops.relu
              or getattr(getattr(one, "activation", None), "__name__", "") == "relu"]  # fmt: skip
    kinds = keras.layers.BatchNormalization, keras.layers.MaxPooling2D, keras.layers.Dropout
    found = [sum(isinstance(one, kind) for one in net.layers) for kind in kinds]
    assert (len(active), *found) == (relus, norms, pools, dropouts)
    # Side of the image: what padding and kernel leave, halved by a pooling of two pixels.
    side = 64
    padding, pool = parameters["padding"], parameters.get("pool_size", 2)
    for number, size in enumerate(parameters["kernel_size"]):
        one = padding if isinstance(padding, int) else padding[number]
        side = (side + 2 * one - size + 1) // (pool if isinstance(pool, int) else pool[number])
    assert net.layers[-1].kernel.shape[0] == side**2 * parameters["filters"][-1]


def test_a_stack_can_be_the_chest_baseline():
    baseline = models.ConvNetClassifier(filters=(8, 16), padding=1, global_pooling="max")
    net = _network(baseline, (224, 224, 3), 3)
    convolutions = (27 + 1) * 8 + (72 + 1) * 16
    assert _count(net.trainable_weights) == convolutions + 2 * (8 + 16) + (16 + 1) * 3
    kinds = [type(layer).__name__ for layer in net.layers[2:]]
    block = ["ZeroPadding2D", "Conv2D", "BatchNormalization", "Activation", "MaxPooling2D"]
    assert kinds == [*block, *block, "GlobalMaxPooling2D", "Dense"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kernel_size": (3,)}, "'kernel_size' .* must have one entry for each of the 2 layers"),
        ({"filters": ()}, "'filters' .* must have one entry for each of the layers"),
        ({"filters": (4, 0)}, "'filters' .* must be an int in the range"),
        ({"padding": (1, -1)}, "'padding' .* must be .*'same'.* Got -1 instead"),
        ({"activation": ("relu", "step")}, "'activation' .* must be one of .*Got 'step'"),
        ({"pool_size": (4, 4)}, "'pool_size' .* must be at most 2, "),
    ],
)
def test_a_wrong_entry_is_one_sentence(change, message):
    with pytest.raises(ValueError, match=message):
        make("ConvNetClassifier", **change).fit(X, y)


@pytest.mark.parametrize("name", PUBLIC)
@pytest.mark.parametrize("stem", ["small", "imagenet"])
def test_the_smallest_image(name, stem):
    given = {"stem": stem} if "stem" in get(name)._get_param_names() else {}
    estimator = make(name, **given)
    side = estimator.smallest_image
    assert _network(estimator, (side, side + 1, 3), 4).output_shape == (None, 4)
    if side > 2:  # less wide than 2 pixels is a flat vector
        with pytest.raises(ValueError, match=rf"{name} .*must .* Got .* instead\."):
            _network(estimator, (side + 1, side - 1, 3), 4)


@pytest.mark.parametrize("name", DEEP)
def test_a_small_image_is_one_sentence(name):
    estimator = make(name, **({"patch_size": 9} if name == "ViTClassifier" else {}))
    side = estimator.smallest_image
    message = f"^{name} of these parameters must get images of at least {side} × {side} pixels. Got"
    with pytest.raises(ValueError, match=message):
        estimator.fit(X[:, : side - 1], y)


@pytest.mark.parametrize("name", DEEP)
@pytest.mark.parametrize("side", [28, 64, 100, 130])
def test_images_of_any_size(name, side):
    net = _network(make(name), (side, side - 3, 1), 4)
    assert net.output_shape == (None, 4)
    assert all(None not in layer.output.shape[1:] for layer in net.layers)


@pytest.mark.parametrize("side", [28, 96, 224])
def test_published_weights_fit_images_of_any_size(side):
    # AlexNet is the one whose dense layers see the whole image.
    net = _network(models.AlexNetClassifier(weights="alexnet.safetensors"), (side, side, 1), 1000)
    assert _count(net.trainable_weights) == 61_100_840


@pytest.mark.parametrize("name", DEEP)
def test_does_what_an_estimator_does(name, tmp_path):
    estimator = make(name).fit(X, y)
    proba = estimator.predict_proba(X)
    assert np.isfinite(proba).all()
    np.testing.assert_allclose(proba.sum(axis=1), 1, atol=1e-6)
    assert same(clone(estimator).fit(X, y), estimator)
    assert not same(make(name, random_state=1).fit(X, y), estimator)
    assert same(make(name, image_shape=(8, 8, 3)).fit(X.reshape(len(X), -1), y), estimator)
    assert same(copy.deepcopy(estimator).fit(X, y), estimator)
    estimator.save(tmp_path / "a.kmedclf")
    loaded = kmedclf.load(tmp_path / "a.kmedclf")
    np.testing.assert_array_equal(loaded.predict_proba(X), proba)
    np.testing.assert_allclose(
        estimator.model_.predict(X.astype(np.float32), verbose=0), proba, atol=1e-5
    )


def test_building_leaves_keras_as_it_was():
    make("MLPClassifier", units=9, epochs=1).fit(X, y)
    assert not global_state.get_global_attribute("uninitialized_variables")
    with keras.StatelessScope():  # which any call of a layer on a symbol enters
        pass


@pytest.mark.parametrize("name", DEEP)
def test_a_gradient_reaches_every_weight(name):
    model = build(name, (8, 8, 1))
    with tf.GradientTape() as tape:
        proba = model(X[..., :1] / np.float32(255), training=True)
        loss = tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(y, proba))
    for variable, slope in zip(
        model.trainable_weights, tape.gradient(loss, model.trainable_weights), strict=True
    ):
        assert slope is not None, variable.path
        # A softmax does not change with what is added to all keys alike.
        assert variable.path.endswith("key/bias") or np.any(slope), variable.path


def test_the_saved_keras_model_of_a_transformer_can_be_read(tmp_path):
    estimator = make("ViTClassifier").fit(X, y)
    estimator.model_.save(tmp_path / "vit.keras")
    read = keras.models.load_model(tmp_path / "vit.keras")
    np.testing.assert_allclose(
        read.predict(X.astype(np.float32), verbose=0), estimator.predict_proba(X), atol=1e-6
    )


def _efficient(side=32):
    image = keras.Input((side, side, 3))
    estimator = models.EfficientNetClassifier(width=0.1, depth=0.1)
    return keras.Model(image, estimator.features(image))


def test_the_activation_of_efficientnet_is_silu_and_its_gradient():
    x = keras.Input((3,))
    net = keras.Model(x, efficientnet._activated(x, lite=False))
    values = tf.constant(np.random.default_rng(0).normal(0, 4, (5, 3)), tf.float32)
    found = []
    for function in (net, tf.nn.silu):
        with tf.GradientTape() as tape:
            tape.watch(values)
            y = function(values)
        found.append([y, tape.gradient(y, values)])
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_what_is_slow_in_bfloat16_on_cpus_is_float32():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        net = _efficient()
    finally:
        keras.config.set_dtype_policy("float32")
    kinds = {type(layer).__name__: layer.compute_dtype for layer in net.layers}
    assert kinds["Activation"] == kinds["DepthwiseConv2D"] == "float32"
    assert kinds["Conv2D"] == kinds["BatchNormalization"] == kinds["Multiply"] == "bfloat16"


@pytest.mark.parametrize("strides", [1, 2])
@pytest.mark.parametrize("size", [1, 3, 7])
def test_residual_networks_pad_as_torchvision(size, strides):
    if size == 1 and strides == 2:
        pytest.skip("the networks take every second pixel before")
    image = keras.Input((10, 8, 3))
    net = keras.Model(image, deep_resnet._conv(image, 4, size, "conv", "norm", strides))
    x = np.random.default_rng(0).normal(size=(2, 10, 8, 3)).astype("float32")
    border = size // 2
    wide = np.pad(x, ((0, 0), (border, border), (border, border), (0, 0)))
    kernel = net.get_layer("conv").kernel
    expected = tf.nn.conv2d(wide, kernel, strides, "VALID") / np.sqrt(1 + 1e-5)
    np.testing.assert_allclose(net(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("precision", ["float32", "mixed"])
@pytest.mark.parametrize("name", ["DeepResNetClassifier", "EfficientNetClassifier"])
def test_fused_scoring_computes_what_the_network_does(name, precision, monkeypatch):
    fitted = make(name, precision=precision).fit(X, y)
    fused = fitted.decision_function(X)
    plain = network.alone
    monkeypatch.setattr(network, "alone", lambda **_: plain())
    separate = fitted.decision_function(X)
    atol = 1e-5 if precision == "float32" else 0.02
    np.testing.assert_allclose(fused, separate, rtol=atol, atol=atol)


def test_heads_must_share_the_width_of_a_token():
    with pytest.raises(ValueError, match=r"'hidden_dim' .* must be a multiple of the 3 of"):
        make("ViTClassifier", num_heads=3).fit(X, y)
