"""MixUp and CutMix: images, labels and weights mixed alike, drawn for each image."""

import numpy as np
import pytest
import tensorflow as tf
from helpers import data, make, same

from kmedclf.augmentation import mixing

X, y = data()
METHODS = [{"mixup": 0.5}, {"cutmix": 0.5}, {"mixup": 0.5, "cutmix": 0.5}]
every_method = pytest.mark.parametrize("alphas", METHODS, ids=str)


def _mix(alphas, n=64, seed=(1, 2), shape=(8, 6, 1)):
    """Mix n images that hold their own number, each of a class of its own."""
    images = np.ones((n, *shape), np.float32) * np.arange(n, dtype="f")[:, None, None, None]
    weight = np.linspace(1, 3, n).astype(np.float32)
    alphas = {name: tf.constant(alpha) for name, alpha in alphas.items()}
    mixed = mixing.mix(
        tf.constant(images), tf.eye(n), tf.constant(weight), tf.constant(seed), **alphas
    )
    return *(one.numpy() for one in mixed), weight


@every_method
@pytest.mark.parametrize("shape", [(8, 6, 1), (5, 1, 1), (1, 1, 3)])
def test_labels_say_what_is_in_the_image(alphas, shape):
    images, labels, weight, given = _mix(alphas, shape=shape)
    n = len(images)
    following = (np.arange(n) + 1) % n
    # The share of the image's own pixels, read off its mean.
    share = 1 - (images.mean(axis=(1, 2, 3)) - np.arange(n)) / (following - np.arange(n))
    own, other = share * given, (1 - share) * given[following]
    np.testing.assert_allclose(weight, own + other, rtol=1e-3)
    np.testing.assert_allclose(labels[np.arange(n), np.arange(n)], own / weight, atol=2e-3)
    np.testing.assert_allclose(labels[np.arange(n), following], other / weight, atol=2e-3)
    np.testing.assert_allclose(labels.sum(axis=1), 1, rtol=1e-5)


def test_the_loss_of_a_mixture_is_the_mixture_of_losses():
    _, labels, weight, given = _mix({"mixup": 0.5}, n=8)
    logits = tf.random.stateless_normal([8, 8], [3, 4])
    losses = -tf.nn.log_softmax(logits).numpy()
    following = (np.arange(8) + 1) % 8
    total = labels * weight[:, None]
    np.testing.assert_allclose(
        weight * tf.nn.softmax_cross_entropy_with_logits(labels, logits).numpy(),
        [total[i, i] * losses[i, i] + total[i, following[i]] * losses[i, following[i]]
         for i in range(8)], rtol=1e-4)  # fmt: skip
    assert np.all((total.sum(axis=1) >= given.min()) & (total.sum(axis=1) <= given.max()))


@every_method
def test_each_image_has_a_draw_of_its_own(alphas):
    images, labels, _, _ = _mix(alphas)
    shares = labels.max(axis=1).round(4)
    assert len(set(shares)) > (8 if "mixup" in alphas else 4)
    again, other, later = (_mix(alphas, seed=seed)[0] for seed in ((1, 2), (2, 2), (1, 1026)))
    np.testing.assert_array_equal(images, again)
    assert not np.array_equal(images, other)
    assert not np.array_equal(images, later)


def test_mixup_blends_and_cutmix_cuts_one_rectangle():
    images = _mix({"mixup": 1.0})[0]
    assert all(np.ptp(image) == 0 for image in images)
    n = len(images)
    for number, image in enumerate(_mix({"cutmix": 1.0})[0]):
        assert set(image.ravel()) <= {number, (number + 1) % n}
        other = image[..., 0] != number
        rows, columns = np.flatnonzero(other.any(axis=1)), np.flatnonzero(other.any(axis=0))
        if other.any():
            box = other[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            assert box.all()
    both = _mix({"mixup": 1.0, "cutmix": 1.0})[0]
    blended = sum(bool(np.any(image % 1)) for image in both)
    assert 15 < blended < 49  # of 64, one half each


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_shares_are_beta_distributed(alpha):
    labels = _mix({"mixup": alpha}, n=2000, shape=(1, 1, 1))[0]
    n = len(labels)
    share = 1 - (labels.ravel() - np.arange(n))[:-1]
    expected = np.random.default_rng(0).beta(alpha, alpha, 100_000)
    expected = np.maximum(expected, 1 - expected)
    assert np.all(share >= 0.5 - 1e-3)
    assert share.mean() == pytest.approx(expected.mean(), abs=5 * expected.std() / np.sqrt(n))
    assert share.std() == pytest.approx(expected.std(), rel=0.15)


@pytest.mark.parametrize("alpha", [1e-6, 1e-3, 1e3])
def test_extreme_alphas_are_finite(alpha):
    for alphas in ({"mixup": alpha}, {"cutmix": alpha}):
        assert all(np.isfinite(part).all() for part in _mix(alphas))


@every_method
def test_a_batch_of_one_and_zero_weights(alphas):
    alphas = {name: tf.constant(alpha) for name, alpha in alphas.items()}
    one = tf.ones([1, 4, 4, 1])
    images, labels, weight = mixing.mix(
        one, tf.eye(1), tf.zeros([1]), tf.constant([1, 2]), **alphas
    )
    np.testing.assert_allclose(images, one, rtol=1e-6)
    assert np.isfinite(labels).all()
    assert np.asarray(weight).tolist() == [0.0]


@every_method
@pytest.mark.parametrize("name", ["MLPClassifier", "CNNClassifier"])
def test_in_training_only_and_seeded(alphas, name):
    one, again = (make(name, **alphas, augment=False).fit(X, y) for _ in range(2))
    plain = make(name, augment=False).fit(X, y)
    assert same(one, again)
    assert not same(one, plain)
    held = make(name, **alphas, epochs=1).fit(X, y, X_val=X, y_val=y)
    assert held.history_["val_accuracy"][-1] == held.score(X, y)


def test_searching_an_alpha_builds_once():
    from kmedclf.training import cache

    cache.clear()
    before = cache.stats()
    for alpha in (0.1, 0.2, 0.3):
        make("CNNClassifier", mixup=alpha, weight_decay=alpha, l2=alpha, epochs=1).fit(X, y)
    after = cache.stats()
    assert after["builds"] - before["builds"] == 1
    assert after["traces"] - before["traces"] <= 2
