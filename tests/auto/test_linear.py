"""Networks with a linear head: the same as logistic regression, and estimators like all others."""

import numpy as np
import pytest
from helpers import data
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import kmedclf
from kmedclf import ImageFeatures
from kmedclf.auto.linear import EfficientNetProbe, HeadProblem, PixelClassifier

X, y = data(48)


@pytest.mark.parametrize("classes", [2, 3])
def test_a_head_is_logistic_regression(classes):
    """Also with more features than rows, where the problem is rotated."""
    Z = np.random.default_rng(0).normal(3, [0.1, *[2.0] * 69], (48, 70)).astype(np.float32)
    codes, weight = y % classes, np.random.default_rng(1).uniform(0.5, 2, 48)
    head = HeadProblem(Z[:, None], codes, weight, classes).solve(0.1)
    scaler = StandardScaler().fit(Z, sample_weight=weight)
    model = LogisticRegression(C=0.1, tol=1e-8, max_iter=5000)
    model.fit(scaler.transform(Z), codes, sample_weight=weight)
    logits = head.logits(Z).astype(np.float64)
    proba = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(proba, model.predict_proba(scaler.transform(Z)), atol=5e-3)


def test_classes_without_rows_are_never_predicted():
    head = HeadProblem(X.reshape(48, 1, -1) / 255, np.where(y == 2, 0, y), np.ones(48), 3).solve(1)
    assert set(head.logits(X.reshape(48, -1) / 255).argmax(axis=1)) == {0, 1}


def test_pixels_learn_and_are_saved(tmp_path):
    model = PixelClassifier(C=1, random_state=0).fit(X, y)
    assert model.score(X, y) > 0.9
    assert model.history_["accuracy"] == [model.score(X, y)]
    model.save(tmp_path / "pixels.kmedclf")
    loaded = kmedclf.load(tmp_path / "pixels.kmedclf")
    np.testing.assert_array_equal(loaded.predict_proba(X), model.predict_proba(X))


TINY = {"variant": "lite0", "width": 0.1, "depth": 0.1, "side": 16}


def test_a_probe_is_a_pipeline_of_features_and_logistic_regression():
    probe = EfficientNetProbe(**TINY, views="one", C=0.1, random_state=0).fit(X, y)
    features = ImageFeatures(clone(probe).initialize(X, y))
    linear = LogisticRegression(C=0.1, max_iter=1000)
    piped = make_pipeline(features, StandardScaler(), linear).fit(X, y)
    np.testing.assert_allclose(probe.predict_proba(X), piped.predict_proba(X), atol=5e-3)


def test_views_are_averaged():
    probe = EfficientNetProbe(**TINY, views="mirror", random_state=0).fit(X, y)
    mirrored = probe.predict_proba(X[:, :, ::-1])
    np.testing.assert_allclose(mirrored, probe.predict_proba(X), atol=1e-4)
