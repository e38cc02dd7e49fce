"""Networks that start from given weights: which are trained, which are kept, what is refused."""

import keras
import numpy as np
import pytest
from helpers import build, data, make, same

from kmedclf.training import cache

X, y = data()
GREY = X[..., :1]
NAME = "DenseNetClassifier"  # the smallest


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A fitted network on colour images, and the file it was saved to."""
    estimator = make(NAME).fit(X, y)
    path = tmp_path_factory.mktemp("weights") / "source.kmedclf"
    estimator.save(path)
    return estimator, path


def _backbone(estimator):
    return estimator.weights_[:-2]  # all but kernel and bias of the last layer


def test_a_frozen_backbone_keeps_its_weights_and_statistics(source):
    estimator, path = source
    head = make(NAME, weights=path, trainable="head").fit(X, y == 1)
    assert same(_backbone(head), _backbone(estimator))
    assert head.n_params_ == head.weights_[-1].size + head.weights_[-2].size
    everything = sum(weight.size for weight in head.weights_)
    assert head.n_params_ + head.n_non_trainable_params_ == everything
    assert head.history_["loss"][1] < head.history_["loss"][0]


def test_a_frozen_backbone_predicts_in_training():
    # With statistics of the batch, or dropout, the loss before the first step would differ.
    images = X[:8] / np.float32(255)
    for trainable, same_ in (("head", True), ("all", False)):
        model = build("EfficientNetClassifier", trainable=trainable)
        training, predicting = model(images, training=True), model(images, training=False)
        assert np.array_equal(training, predicting) == same_


def test_every_fit_starts_from_the_weights(source):
    _, path = source
    cache.clear()
    fresh = make(NAME, weights=path).fit(X, y)
    scratch = make(NAME).fit(X, y)
    warm = make(NAME, weights=path).fit(X, y)
    assert same(warm, fresh)
    assert not same(warm, scratch)
    assert not same(make(NAME, weights=path, random_state=1).fit(X, y), fresh)  # a new last layer


def test_grey_images_start_from_colour(source):
    estimator, path = source
    # One batch: the order within an epoch depends on the pixels.
    options = {"weights": path, "trainable": "head", "augment": False, "batch_size": 48}
    grey = make(NAME, **options).fit(GREY, y)
    assert same(_backbone(grey), _backbone(estimator))
    repeated = np.repeat(GREY, 3, axis=-1)
    colour = make(NAME, **options).fit(repeated, y)
    np.testing.assert_allclose(grey.predict_proba(GREY), colour.predict_proba(repeated), atol=1e-5)


def test_other_content_at_the_same_path_is_another_start(source, tmp_path):
    estimator, path = source
    copy, store = tmp_path / "copy.kmedclf", tmp_path / "memory"
    copy.write_bytes(path.read_bytes())
    options = {"weights": str(copy), "trainable": "head", "memory": store}
    first = make(NAME, **options).fit(X, y)
    make(NAME, random_state=5).fit(X, y).save(copy)
    second = make(NAME, **options).fit(X, y)
    assert not same(_backbone(second), _backbone(first))
    estimator.save(copy)
    assert same(make(NAME, **options).fit(X, y), first)


def test_predicting_needs_no_file(source, tmp_path):
    _, path = source
    copy = tmp_path / "copy.kmedclf"
    copy.write_bytes(path.read_bytes())
    estimator = make(NAME, weights=copy).fit(X, y)
    expected = estimator.predict_proba(X)
    estimator.save(tmp_path / "tuned.kmedclf")
    copy.unlink()
    cache.clear()
    from kmedclf import load

    np.testing.assert_array_equal(load(tmp_path / "tuned.kmedclf").predict_proba(X), expected)
    np.testing.assert_array_equal(estimator.predict_proba(X), expected)


@pytest.mark.parametrize("blocks", [1, 2])
def test_the_last_blocks_alone_are_trained(source, blocks):
    estimator, path = source
    tuned = make(NAME, weights=path, trainable=blocks).fit(X, y)
    layers = [layer for layer in tuned.model_.layers if layer.weights]
    before = dict(zip((v.path for v in estimator.model_.weights), estimator.weights_, strict=True))
    first = {1: "conv3_block1_0_bn", 2: "conv2_block1_0_bn"}[blocks]
    start = [layer.name for layer in layers].index(first)
    for number, layer in enumerate(layers):
        kept = all(np.array_equal(v, before.get(v.path)) for v in layer.weights)
        assert kept == (number < start), layer.name


def test_more_blocks_than_there_are():
    with pytest.raises(ValueError, match=f"^The 'trainable' parameter of {NAME} must be at most t"):
        make(NAME, trainable=3).fit(X, y)


def test_the_head_goes_first(source):
    _, path = source
    head = make(NAME, weights=path, trainable="head", epochs=2, augment=False).fit(X, y)
    assert same(make(NAME, weights=path, head_epochs=2, epochs=2).fit(X, y), head)
    assert same(make(NAME, weights=path, head_epochs=5, epochs=2).fit(X, y), head)
    both = make(NAME, weights=path, head_epochs=2, epochs=4).fit(X, y)
    assert both.history_["loss"][:2] == head.history_["loss"]
    assert len(both.history_["loss"]) == 4
    assert both.n_params_ > head.n_params_
    assert not same(_backbone(both), _backbone(head))
    parts = make(NAME, weights=path, head_epochs=2)
    for _ in range(4):
        parts.partial_fit(X, y)
    assert same(parts, both)
    stopped = make(NAME, weights=path, head_epochs=2, epochs=4, early_stopping=True)
    assert stopped.fit(X, y, X_val=X, y_val=y).best_epoch_ in (3, 4)


def _norms(estimator):
    """Its weights of batch normalisation, and all others but those of the last layer."""
    layers = estimator.model_.layers[:-2]
    kinds = [isinstance(one, keras.layers.BatchNormalization) for one in layers]
    parts = [[w for one, norm in zip(layers, kinds, strict=True) if norm == which
              for w in one.get_weights()] for which in (True, False)]  # fmt: skip
    return parts


def test_frozen_batch_norm_keeps_what_it_has_learnt(source):
    estimator, path = source
    kept = make(NAME, weights=path, frozen_batch_norm=True).fit(X, y)
    trained = make(NAME, weights=path).fit(X, y)
    (norms, others), (before, earlier), (free, _) = map(_norms, (kept, estimator, trained))
    assert same(norms, before)
    assert not same(others, earlier)
    assert not same(free, before)
    assert kept.n_params_ < trained.n_params_


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "muon"])
def test_layers_below_the_head_take_smaller_steps(source, optimizer):
    estimator, path = source
    moved = []
    for rate in (1.0, 0.25):
        one = {"weights": path, "optimizer": optimizer, "weight_decay": 0.0, "epochs": 1,
               "batch_size": 48, "augment": False, "learning_rate": 1e-3}  # fmt: skip
        fit = make(NAME, **one, backbone_rate=rate, frozen_batch_norm=True).fit(X, y)
        moved.append([a - b for a, b in zip(fit.weights_, estimator.weights_, strict=True)])
    for whole, part in zip(_trained(moved[0][:-2]), _trained(moved[1][:-2]), strict=True):
        np.testing.assert_allclose(part, whole / 4, rtol=2e-2, atol=1e-6)
    np.testing.assert_array_equal(moved[0][-1], moved[1][-1])  # the bias of the head


def test_transfer_of_two_images_a_class(source):
    _, path = source
    few = np.concatenate([np.flatnonzero(y == label)[:2] for label in range(3)])
    net = make(NAME, weights=path, recipe="transfer", head_epochs=1).fit(X[few], y[few])
    assert len(net.history_["loss"]) == 2
    assert set(net.predict(X)) <= {0, 1, 2}
    with pytest.raises(ValueError, match=r"must hold at least 2 classes"):
        net.fit(X[:5], np.zeros(5, int))


def _trained(steps):
    return [step for step in steps if step.any()]


def test_unfreezing_goes_on_with_the_same_weights(source):
    _, path = source
    estimator = make(NAME, weights=path, trainable="head", warm_start=True).fit(X, y)
    estimator.set_params(trainable="all", head_epochs=0).fit(X, y)
    assert len(estimator.history_["loss"]) == 4
    assert estimator.n_params_ > 100


@pytest.mark.parametrize("missing", ["no/such.h5", "nothing.kmedclf"])
def test_a_file_that_is_not_there(missing):
    with pytest.raises(FileNotFoundError, match=f"^The 'weights' parameter of {NAME}.*{missing}"):
        make(NAME, weights=missing).fit(X, y)


def test_a_file_of_another_network(source, tmp_path):
    _, path = source
    for change in ({"growth_rate": 3}, {"block_config": (1, 2)}):
        with pytest.raises(ValueError, match=f"^The 'weights' parameter of {NAME} must hold the "):
            make(NAME, weights=path, **change).fit(X, y)


@pytest.mark.parametrize("suffix", [".h5", ".safetensors", ".kmedclf"])
def test_half_a_file(suffix, tmp_path):
    path = tmp_path / f"half{suffix}"
    path.write_bytes(b"\x10\0\0\0\0\0\0\0half")
    with pytest.raises(ValueError, match=r"half\.\w+ is not a whole "):
        make(NAME, weights=path).fit(X, y)


def test_a_file_of_another_kind(tmp_path):
    path = tmp_path / "weights.pth"
    path.touch()
    with pytest.raises(ValueError, match=rf"must be a file of one of the kinds .*{path}"):
        make(NAME, weights=path).fit(X, y)


def test_images_of_many_channels_have_no_published_start(source):
    with pytest.raises(ValueError, match=r"must be None for images .* Got images of 2 channels"):
        make(NAME, weights=source[1]).fit(X[..., :2], y)
    assert make(NAME).fit(X[..., :2], y).predict(X[..., :2]).shape == (48,)


def test_networks_that_nobody_trained_on_imagenet():
    with pytest.raises(ValueError, match="no ImageNet weights are published for it"):
        make(NAME, weights="imagenet").fit(X, y)
