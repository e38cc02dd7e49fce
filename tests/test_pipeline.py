"""How images and fit parameters reach the network: pipelines, searches, metadata routing."""

import numpy as np
import pytest
import sklearn
from helpers import ENGINE, data, make, same
from sklearn.model_selection import GridSearchCV, GroupKFold, StratifiedKFold, cross_validate
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer

import kmedclf
from kmedclf import MLPClassifier
from kmedclf.inputs.images import Images

X, y = data(96)
GROUPS = np.arange(len(X)) // 2
X_val, y_val = X[:21], y[:21]
WEIGHT = np.linspace(0.5, 2, len(X))


@pytest.fixture
def routing():
    with sklearn.config_context(enable_metadata_routing=True):
        yield


def halve(images):
    return images // 2


def _requests(name, *, of=None, **options):
    wanted = dict.fromkeys(of or ["X_val", "y_val", "sample_weight"], True)
    return make(name, **options).set_fit_request(**wanted)


@pytest.mark.parametrize("name", ENGINE)
@pytest.mark.usefixtures("routing")
def test_routed_through_a_pipeline(name):
    steps = [("halve", FunctionTransformer(halve)), ("net", _requests(name))]
    piped = Pipeline(steps, transform_input=["X_val"])
    piped.fit(X, y, X_val=X_val, y_val=y_val, sample_weight=WEIGHT)
    alone = make(name).fit(halve(X), y, WEIGHT, X_val=halve(X_val), y_val=y_val)
    assert same(piped["net"], alone)
    assert piped["net"].history_ == alone.history_
    assert not same(alone, make(name).fit(halve(X), y))


@pytest.mark.parametrize("name", ENGINE)
@pytest.mark.usefixtures("routing")
def test_routed_through_a_search(name):
    estimator = _requests(name, of=["X_val", "y_val", "sample_weight", "groups"])
    estimator.set_params(early_stopping=True).set_score_request(sample_weight=False)
    search = GridSearchCV(estimator, {"learning_rate": [0.01]}, cv=GroupKFold(2), refit=True)
    search.fit(X, y, X_val=X_val, y_val=y_val, sample_weight=WEIGHT, groups=GROUPS)
    alone = make(name, learning_rate=0.01, early_stopping=True)
    alone.fit(X, y, WEIGHT, X_val=X_val, y_val=y_val, groups=GROUPS)
    assert same(search.best_estimator_, alone)
    assert search.best_estimator_.history_ == alone.history_


@pytest.mark.usefixtures("routing")
def test_groups_reach_the_inner_split():
    estimator = _requests("MLPClassifier", of=["groups"], early_stopping=True)
    routed = Pipeline([("net", estimator)]).fit(X, y, groups=GROUPS)["net"]
    grouped = make("MLPClassifier", early_stopping=True).fit(X, y, groups=GROUPS)
    assert same(routed, grouped)
    assert not same(grouped, make("MLPClassifier", early_stopping=True).fit(X, y))


@pytest.mark.usefixtures("routing")
def test_what_is_not_requested_is_refused():
    with pytest.raises(sklearn.exceptions.UnsetMetadataPassedError, match="X_val"):
        GridSearchCV(MLPClassifier(), {"units": [2]}).fit(X, y, X_val=X_val)


def test_fit_parameters_of_a_pipeline_without_routing():
    piped = make_pipeline(FunctionTransformer(halve), make("MLPClassifier"))
    piped.fit(X, y, mlpclassifier__sample_weight=WEIGHT)
    assert same(piped[-1], make("MLPClassifier").fit(halve(X), y, WEIGHT))


def test_searches_cut_sample_weights():
    result = cross_validate(
        make("MLPClassifier"), X, y, cv=2, params={"sample_weight": WEIGHT}, return_estimator=True
    )
    for (train, _), fitted in zip(StratifiedKFold(2).split(X, y), result["estimator"], strict=True):
        assert same(fitted, make("MLPClassifier").fit(X[train], y[train], WEIGHT[train]))


@pytest.mark.parametrize("n", [21, 96])
def test_unsliced_is_not_cut(n):
    """96 is the length of X: without the wrapper each fold would validate on its own part."""
    held = X[::-1][:n], y[::-1][:n]
    result = cross_validate(
        make("MLPClassifier"),
        X,
        y,
        cv=2,
        params={"X_val": kmedclf.Unsliced(held[0]), "y_val": kmedclf.Unsliced(held[1])},
        return_estimator=True,
        error_score="raise",
    )
    for (train, _), fitted in zip(StratifiedKFold(2).split(X, y), result["estimator"], strict=True):
        alone = make("MLPClassifier").fit(X[train], y[train], X_val=held[0], y_val=held[1])
        assert fitted.history_ == alone.history_


def test_as_long_as_x_is_cut():
    held = {"X_val": X[::-1], "y_val": y[::-1]}
    fits = [
        cross_validate(make("MLPClassifier"), X, y, cv=2, params=params, return_estimator=True)
        for params in (held, {key: kmedclf.Unsliced(value) for key, value in held.items()})
    ]
    cut, whole = (result["estimator"][0].history_["val_loss"] for result in fits)
    assert cut != whole


@pytest.mark.slow
def test_unsliced_survives_workers():
    held = {"X_val": kmedclf.Unsliced(X[::-1]), "y_val": kmedclf.Unsliced(y[::-1])}
    one, two = (
        cross_validate(
            make("MLPClassifier"), X, y, cv=2, n_jobs=n, params=held, return_estimator=True
        )
        for n in (1, 2)
    )
    assert [e.history_ for e in one["estimator"]] == [e.history_ for e in two["estimator"]]


DTYPES = {  # what images from `low` on are divided by
    ("uint8", 0): 255,
    ("uint16", 300): 65535,
    ("int8", -9): 127,
    ("int16", -9): 32767,
    ("int16", 300): 32767,
    ("int32", 300): 65535,
    ("int64", 300): 65535,
    ("uint64", 300): 65535,
    ("int64", -9): 1,
    ("int32", 70_000): 1,
    ("float32", 0): 1,
    ("float64", 0): 1,
    ("bool", 0): 1,
}


@pytest.mark.filterwarnings("ignore:X of MLPClassifier.fit holds values up to:UserWarning")
@pytest.mark.parametrize(("dtype", "low"), DTYPES)
def test_integers_are_scaled_by_their_maximum(dtype, low):
    images = (X.astype(np.int64) % 100 + low).astype(dtype)
    scaled = images.astype(np.float32) / DTYPES[dtype, low]
    estimator = make("MLPClassifier").fit(images, y)
    other = make("MLPClassifier").fit(scaled, y)
    other.weights_ = estimator.weights_
    np.testing.assert_allclose(
        estimator.predict_proba(images), other.predict_proba(scaled), atol=1e-5
    )


def test_many_images_are_scored_in_any_number():
    estimator = make("CNNClassifier").fit(X, y)
    many = np.concatenate([X] * 12)
    proba = estimator.predict_proba(many)
    assert proba.shape == (1152, 3)
    np.testing.assert_allclose(proba[:96], estimator.predict_proba(X), atol=1e-6)
    np.testing.assert_allclose(proba[-1:], estimator.predict_proba(X[-1:]), atol=1e-6)


@pytest.mark.parametrize("view", [np.asfortranarray, lambda a: a[::-1][::-1], lambda a: a[:, ::1]])
def test_memory_layout_does_not_matter(view):
    assert same(make("CNNClassifier").fit(view(X), y), make("CNNClassifier").fit(X, y))


@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 5, 3), (28, 28, 1), (300, 300, 1)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_hashes_tell_images_apart_by_a_single_byte(shape, dtype):
    one = np.random.default_rng(0).integers(0, 256, (*shape, np.dtype(dtype).itemsize))
    byte = np.linspace(0, one.size - 1, min(one.size, 40)).astype(int)
    images = np.repeat(one.astype(np.uint8).reshape(1, -1), len(byte) + 1, axis=0)
    images[np.arange(len(byte)), byte] ^= 128  # the last image stays as it was
    images = images.view(dtype).reshape(-1, *shape)
    found = Images(images, 1.0).digests(np.arange(len(images)))
    assert len(np.unique(found)) == len(images)
    again = Images(images[::-1].copy(), 1.0).digests(np.arange(len(images)))
    np.testing.assert_array_equal(again, found[::-1])
