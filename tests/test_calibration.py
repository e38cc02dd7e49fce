"""Calibration: temperature, priors and thresholds, chosen on validation images and kept."""

import numpy as np
import pytest
from helpers import data, make
from sklearn.calibration import CalibratedClassifierCV
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV

import kmedclf
from kmedclf import CalibratedClassifier, EnsembleClassifier
from kmedclf.calibration import TemperatureLoss, correct_priors, evaluate_calibrated, scaled

X, y = data(120)
WORDS = np.array(["a", "b", "c"])[y]
FIT, VAL, TEST = slice(0, 48), slice(48, 84), slice(84, 120)
close = {"rtol": 0, "atol": 2e-7}  # float32


def net(**params):
    return make("MLPClassifier", **{"learning_rate": 0.05, "epochs": 20, "units": 32, **params})


def _fitted(labels=y):
    """A network that is far too sure, as after memorising its images."""
    fitted = net().fit(X[FIT], labels[FIT])
    *others, kernel, bias = fitted.weights_
    fitted.weights_ = [*others, 8 * kernel, 8 * bias]
    return fitted


@pytest.fixture(scope="module")
def model():
    return _fitted()


@pytest.fixture(scope="module")
def calibrated(model):
    return CalibratedClassifier(model).fit(X[VAL], y[VAL])


def _rows(seed, n=400, k=3, sharpness=3.0):
    """Draw probabilities and labels that follow them, and the same too sharp."""
    generator = np.random.default_rng(seed)
    proba = generator.dirichlet(np.full(k, 0.7), size=n)
    true = (generator.uniform(size=(n, 1)) > proba.cumsum(axis=1)).sum(axis=1)
    return proba, np.minimum(true, k - 1), scaled(proba, 1 / sharpness)


# -- temperature -------------------------------------------------------------------------------


def test_predictions_stay_and_the_loss_falls(model, calibrated):
    np.testing.assert_array_equal(calibrated.predict(X), model.predict(X))
    before, after = (log_loss(y[VAL], one.predict_proba(X[VAL])) for one in (model, calibrated))
    assert after < before
    assert calibrated.temperature_ > 2
    np.testing.assert_allclose(calibrated.predict_proba(X).sum(axis=1), 1, **close)
    expected = scaled(model.predict_proba(X), calibrated.temperature_)
    np.testing.assert_array_equal(calibrated.predict_proba(X), expected.astype(np.float32))


@pytest.mark.parametrize("sharpness", [0.4, 1.0, 3.0])
def test_the_temperature_is_found(sharpness):
    _, true, sharp = _rows(0, n=20_000, sharpness=sharpness)
    found = TemperatureLoss(sharp, true, np.ones(len(true))).best()
    assert found == pytest.approx(sharpness, rel=0.05)


@pytest.mark.parametrize("seed", range(5))
def test_never_worse_where_it_was_chosen(seed):
    proba, true, sharp = _rows(seed, n=30)
    for given in (proba, sharp):
        found = scaled(given, TemperatureLoss(given, true, np.ones(30)).best())
        assert log_loss(true, found) <= log_loss(true, given) + 1e-12


@pytest.mark.parametrize("n", [25, 400])
def test_the_interval_holds_the_true_temperature_19_times_in_20(n):
    held = 0
    for seed in range(200):
        _, true, sharp = _rows(seed, n, sharpness=2.0)
        loss = TemperatureLoss(sharp, true, np.ones(n))
        low, high = loss.interval(best := loss.best())
        assert low <= best <= high
        held += low <= 2.0 <= high
    assert 180 <= held <= 198  # 190 expected, standard deviation 3.1


def test_few_images_do_not_tell_whether_calibration_helps(calibrated, model):
    sure = evaluate_calibrated(calibrated, X[84:], y[84:], n_bootstrap=0).notes[-1]
    assert "too few" not in sure
    assert calibrated.temperature_interval_[0] > 1
    right = np.flatnonzero(model.predict(X) == y)[:2]
    few = CalibratedClassifier(model).fit(X[right], y[right])
    assert few.temperature_interval_[0] <= 1 <= few.temperature_interval_[1]
    assert "too few images" in evaluate_calibrated(few, X[84:], y[84:], n_bootstrap=0).notes[-1]


@pytest.mark.parametrize("labels", [y, WORDS], ids=["numbers", "words"])
def test_the_same_as_scikit_learn(labels):
    fitted = _fitted(labels)
    ours = CalibratedClassifier(fitted).fit(X[VAL], labels[VAL])
    theirs = CalibratedClassifierCV(FrozenEstimator(fitted), method="temperature", cv=3)
    theirs.fit(X[VAL], labels[VAL])
    np.testing.assert_allclose(
        ours.predict_proba(X), theirs.predict_proba(X), atol=1e-4
    )  # in float32


def test_labels_of_any_kind_and_a_class_that_is_not_there(calibrated):
    labels = np.array([3, 7, 40])[y]
    other = CalibratedClassifier(_fitted(labels)).fit(X[VAL], labels[VAL])
    np.testing.assert_array_equal(other.predict_proba(X), calibrated.predict_proba(X))
    some = np.flatnonzero(y < 2)
    fewer = CalibratedClassifier(_fitted()).fit(X[some], y[some])
    assert fewer.predict_proba(X).shape == (120, 3)


def test_sample_weights_count_as_rows(model):
    weight = np.random.default_rng(0).integers(0, 4, 36)
    rows = np.repeat(np.arange(48, 84), weight)
    one = CalibratedClassifier(model).fit(X[VAL], y[VAL], weight)
    other = CalibratedClassifier(model).fit(X[rows], y[rows])
    assert one.temperature_ == pytest.approx(other.temperature_, rel=1e-5)
    np.testing.assert_allclose(one.validation_priors_, other.validation_priors_)


@pytest.mark.parametrize("method", ["sigmoid", "isotonic", "temperature"])
def test_networks_in_scikit_learns_own(method):
    found = CalibratedClassifierCV(net(epochs=3), method=method, cv=2).fit(X, y)
    proba = found.predict_proba(X)
    assert proba.shape == (120, 3)
    np.testing.assert_allclose(proba.sum(axis=1), 1, **close)
    assert len({tuple(row) for row in proba.round(6)}) > 3


def test_around_ensembles_and_searches():
    ensemble = EnsembleClassifier([("net", net(epochs=3))], n_seeds=2).fit(X[FIT], y[FIT])
    search = GridSearchCV(net(epochs=2), {"units": [4, 8]}, cv=2).fit(X[FIT], y[FIT])
    for one in (ensemble, search):
        found = CalibratedClassifier(one).fit(X[VAL], y[VAL])
        np.testing.assert_array_equal(found.predict(X), one.predict(X))


# -- priors ------------------------------------------------------------------------------------


def test_the_same_priors_change_nothing(model, calibrated):
    proba = _rows(1)[0]
    np.testing.assert_allclose(correct_priors(proba, [0.2, 0.3, 0.5], [2, 3, 5]), proba, **close)
    same = CalibratedClassifier(model, priors=calibrated.validation_priors_)
    same.fit(X[VAL], y[VAL])
    np.testing.assert_allclose(same.predict_proba(X), calibrated.predict_proba(X), **close)


def test_priors_there_and_back():
    proba, old, new = _rows(2)[0], [0.2, 0.3, 0.5], [0.7, 0.2, 0.1]
    there = correct_priors(proba, old, new)
    np.testing.assert_allclose(there.sum(axis=1), 1, **close)
    np.testing.assert_allclose(correct_priors(there, new, old), proba, **close)


def test_priors_follow_from_bayes():
    """Two normal densities, whose posterior is known for any mix of classes."""
    x = np.linspace(-3, 3, 50)
    densities = np.stack([np.exp(-((x + 1) ** 2) / 2), np.exp(-((x - 1) ** 2) / 2)], axis=1)

    def posterior(priors):
        joint = densities * priors
        return joint / joint.sum(axis=1, keepdims=True)

    old, new = np.array([0.5, 0.5]), np.array([0.95, 0.05])
    np.testing.assert_allclose(correct_priors(posterior(old), old, new), posterior(new), **close)


def test_priors_by_label():
    fitted = _fitted(WORDS)
    by_label = CalibratedClassifier(fitted, priors={"c": 0.1, "a": 0.6, "b": 0.3})
    in_order = CalibratedClassifier(fitted, priors=[6, 3, 1])
    found = [one.fit(X[VAL], WORDS[VAL]).predict_proba(X) for one in (by_label, in_order)]
    np.testing.assert_allclose(*found, **close)


# -- threshold ---------------------------------------------------------------------------------


@pytest.mark.parametrize("sensitivity", [0.6, 0.9, 1.0])
def test_the_threshold_finds_the_wanted_share(sensitivity):
    labels = np.array(["well", "ill"])[(y == 0).astype(int)]
    model = _fitted(labels)
    found = CalibratedClassifier(model, sensitivity=sensitivity, pos_label="ill")
    found.fit(X[VAL], labels[VAL])
    ill = labels[VAL] == "ill"
    assert np.mean(found.predict(X[VAL])[ill] == "ill") >= sensitivity
    column = list(found.classes_).index("ill")
    above = found.predict_proba(X)[:, column] >= found.threshold_
    np.testing.assert_array_equal(found.predict(X) == "ill", above)


# -- report and file ---------------------------------------------------------------------------


def test_the_report_says_what_it_was_before(model, calibrated):
    report = evaluate_calibrated(calibrated, X[TEST], y[TEST], n_bootstrap=20)
    plain = kmedclf.evaluation.evaluate(model, X[TEST], y[TEST], n_bootstrap=0)
    assert report.scores["accuracy"].value == plain.scores["accuracy"].value
    assert report.scores["log_loss"].value < plain.scores["log_loss"].value
    note = report.notes[-1]
    for fact in (f"{plain.scores['ece'].value:.3f} before", "36 validation images"):
        assert fact in note
    assert f"log loss {report.scores['log_loss'].value:.3f}, " in note


@pytest.mark.parametrize(
    "params",
    [{}, {"priors": {0: 0.2, 1: 0.8}}, {"priors": [1, 2]}, {"sensitivity": 0.9, "pos_label": 0}],
    ids=str,
)
def test_saved_and_loaded(params, tmp_path):
    labels = (y > 0).astype(int)
    model = _fitted(labels)
    found = CalibratedClassifier(model, **params).fit(X[VAL], labels[VAL])
    found.save(tmp_path / "c.kmedclf")
    loaded = kmedclf.load(tmp_path / "c.kmedclf")
    np.testing.assert_array_equal(loaded.predict_proba(X), found.predict_proba(X))
    np.testing.assert_array_equal(loaded.predict(X), found.predict(X))
    assert loaded.history_ == model.history_
    assert loaded.get_params(deep=False).keys() == found.get_params(deep=False).keys()


@pytest.mark.parametrize(
    ("params", "labels", "message"),
    [
        ({}, np.array(["a", "b"])[y % 2], "must be among its classes, 0, 1, 2. Got 'a|Got 'b"),
        ({"priors": {0: 0.5}}, y, "'priors' parameter of CalibratedClassifier must have a share"),
        ({"priors": [0.5, 0.5]}, y, "Priors must be 3 positive shares"),
        ({"priors": [0.5, 0.5, 0]}, y, "Priors must be 3 positive shares"),
        ({"sensitivity": 0.9}, y, "'sensitivity' parameter .* needs two classes"),
    ],
)
def test_errors(params, labels, message, model):
    with pytest.raises(ValueError, match=message) as caught:
        CalibratedClassifier(model, **params).fit(X[VAL], labels[VAL])
    assert "\n" not in str(caught.value)
    again = CalibratedClassifier(model).fit(X[VAL], y[VAL])
    expected = again.predict_proba(X)
    with pytest.raises(ValueError, match=message):
        again.set_params(**params).fit(X[VAL], labels[VAL])
    again.set_params(priors=None, sensitivity=None)
    np.testing.assert_array_equal(again.predict_proba(X), expected)


def test_what_is_not_fitted():
    with pytest.raises(NotFittedError):
        CalibratedClassifier(net()).fit(X, y)
    with pytest.raises(NotFittedError):
        CalibratedClassifier(_fitted()).predict(X)
