"""scikit-learn's own meta-estimators and functions do their jobs on arrays, rows and paths."""

from inspect import signature

import matplotlib.pyplot as plt
import numpy as np
import pytest
import sklearn
from client_jobs import KINDS, WORDS, case, check, ours, outcome, pair, rows, table_row, y
from sklearn import metrics
from sklearn import model_selection as ms
from sklearn.ensemble import VotingClassifier
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.inspection import permutation_importance
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler
from sklearn.utils import all_estimators

FOLDS = {"cv": 2}
SEEDS = {"random_state": [0, 1]}  # a parameter that every estimator here has
OPTIONS = {  # what keeps them small
    "AdaBoostClassifier": {"n_estimators": 2, "random_state": 0},
    "BaggingClassifier": {"n_estimators": 2, "random_state": 0},
    "CalibratedClassifierCV": FOLDS,
    "ClassifierChain": FOLDS,
    "GridSearchCV": {**FOLDS, "param_grid": SEEDS, "error_score": "raise"},
    "HalvingGridSearchCV": {**FOLDS, "param_grid": SEEDS, "min_resources": 24},
    "HalvingRandomSearchCV": {**FOLDS, "param_distributions": SEEDS, "min_resources": 24},
    "OutputCodeClassifier": {"code_size": 1, "random_state": 0},
    "RandomizedSearchCV": {**FOLDS, "param_distributions": SEEDS, "n_iter": 2},
    "SelfTrainingClassifier": {"criterion": "k_best", "k_best": 4, "max_iter": 2},
    "StackingClassifier": FOLDS,
    "TunedThresholdClassifierCV": {**FOLDS, "scoring": "accuracy", "thresholds": 5},
}
TWO = {"FixedThresholdClassifier", "TunedThresholdClassifierCV"}  # they are for two classes
COLUMNS = {"ClassifierChain", "MultiOutputClassifier"}  # y has a column for each label
# They choose features by an estimator's coefficients or try them out: pixels are no such features.
SELECTORS = {"RFE", "RFECV", "SelectFromModel", "SequentialFeatureSelector"}


def metas():
    """Find what takes an estimator and predicts classes."""
    for name, cls in all_estimators():
        takes = {"estimator", "estimators"} & signature(cls).parameters.keys()
        if takes and "Regressor" not in name and name not in SELECTORS:
            yield name, takes.pop(), cls


def meta_job(name, argument, cls):
    def job(estimator, given):
        labels = given.two if name in TWO else given.columns if name in COLUMNS else given.y
        if name == "SelfTrainingClassifier":
            labels = np.where(np.arange(48) < 40, y, -1)  # -1 is unlabelled
        if name == "AdaBoostClassifier":  # must be better than chance
            longer = {"epochs", "max_iter"} & estimator.get_params().keys()
            estimator.set_params(**dict.fromkeys(longer, 60))
        if name == "ClassifierChain" and given.kind == "rows":  # it adds columns
            estimator.set_params(**dict.fromkeys({"image_shape"} & estimator.get_params().keys()))
        if name == "FrozenEstimator":
            estimator.fit(given.X, labels)
        many = argument == "estimators"
        client = cls(pair(estimator) if many else estimator, **OPTIONS.get(name, {}))
        check(client.fit(given.X, labels), given, labels)

    return job


def cross_val_predict(estimator, given):
    proba = ms.cross_val_predict(estimator, given.X, WORDS, cv=2, method="predict_proba")
    np.testing.assert_allclose(proba.sum(axis=1), 1, atol=1e-6)


def cross_validate(estimator, given):
    groups = np.arange(48) // 4
    scores = ms.cross_validate(
        estimator, given.X, WORDS, groups=groups, cv=ms.StratifiedGroupKFold(2),
        scoring=["accuracy", "neg_log_loss", "roc_auc_ovr"], error_score="raise",
    )  # fmt: skip
    assert all(np.isfinite(scores[f"test_{name}"]).all() for name in ("accuracy", "neg_log_loss"))


def learning_curve(estimator, given):
    sizes, *scores = ms.learning_curve(
        estimator, given.X, WORDS, cv=2, train_sizes=[12, 24], shuffle=True, random_state=0,
        error_score="raise",
    )  # fmt: skip
    assert len(sizes) == 2
    assert np.isfinite(scores).all()


def validation_curve(estimator, given):
    options = {"param_name": "random_state", "param_range": [0, 1], "error_score": "raise"}
    assert np.isfinite(ms.validation_curve(estimator, given.X, WORDS, cv=2, **options)).all()


def permutation_test_score(estimator, given):
    options = {"n_permutations": 2, "random_state": 0}
    score, permuted, p = ms.permutation_test_score(estimator, given.X, WORDS, cv=2, **options)
    assert 0 <= score <= 1
    assert len(permuted) == 2
    assert 0 < p <= 1


def permutation_importances(estimator, given):
    found = permutation_importance(
        estimator.fit(given.X, WORDS), given.X, WORDS, n_repeats=1, random_state=0
    )
    assert len(found.importances_mean) == given.X.shape[1]


def displays(estimator, given):
    estimator.fit(given.X, given.two)
    fitted = [name for name in metrics.__all__ if name.endswith("Display")]
    kinds = [getattr(metrics, name) for name in fitted]
    kinds = [one for one in kinds if "Error" not in one.__name__]  # of regressors
    assert len(kinds) >= 4
    for one in kinds:
        one.from_estimator(estimator, given.X, given.two)
        plt.close()


def with_function_transformer(estimator, given):
    piped = make_pipeline(FunctionTransformer(lambda images: images), estimator)
    check(piped.fit(given.X, WORDS), given)


def with_set_output(estimator, given):
    piped = make_pipeline(MinMaxScaler(), estimator).set_output(transform="pandas")
    check(piped.fit(given.X, WORDS), given)


def routed_metadata(estimator, given):
    with sklearn.config_context(enable_metadata_routing=True):
        wanted = {"sample_weight", "groups"} & signature(type(estimator).fit).parameters.keys()
        members = [
            (name, one.set_fit_request(**dict.fromkeys(wanted, True)))
            for name, one in pair(estimator)
        ]
        params = {"sample_weight": np.linspace(0.5, 2, 48), "groups": np.arange(48) // 4}
        found = ms.cross_validate(
            VotingClassifier(members).set_score_request(sample_weight=True),
            given.X, WORDS, cv=ms.GroupKFold(2), params=params, error_score="raise",
        )  # fmt: skip
    assert np.isfinite(found["test_score"]).all()


FUNCTIONS = {
    "`cross_val_predict`": cross_val_predict,
    "`cross_validate`, groups and several scores": cross_validate,
    "`learning_curve`": learning_curve,
    "`validation_curve`": validation_curve,
    "`permutation_test_score`": permutation_test_score,
    "`permutation_importance`": permutation_importances,
    "the displays of `sklearn.metrics`": displays,
    "a pipeline with `FunctionTransformer`": with_function_transformer,
    "a pipeline with `MinMaxScaler` and `set_output`": with_set_output,
    "routed sample weights and groups": routed_metadata,
}
JOBS = {f"`{one[0]}`": meta_job(*one) for one in metas()} | FUNCTIONS
# What each of these does not take: it fails alike on scikit-learn's own network.
ROWS_ALONE = ("arrays", "paths")
REFUSED = {
    "`AdaBoostClassifier`": ("paths",),
    "`BaggingClassifier`": ROWS_ALONE,
    "`ClassifierChain`": ROWS_ALONE,
    "`OneVsOneClassifier`": ROWS_ALONE,
    "`OutputCodeClassifier`": ("arrays",),
    "`SelfTrainingClassifier`": ROWS_ALONE,
    "`permutation_importance`": ROWS_ALONE,
    "a pipeline with `MinMaxScaler` and `set_output`": ROWS_ALONE,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", JOBS)
def test_jobs(name, kind, tmp_path, record_property):
    found = outcome(JOBS[name], case(kind, tmp_path))
    record_property("client", table_row("scikit-learn", name, kind, found))
    assert found == ("client" if kind in REFUSED.get(name, ()) else "ok")


def test_a_fault_of_ours_is_not_the_clients(tmp_path):
    def job(estimator, given):
        if hasattr(estimator, "image_shape"):  # which the control does not have
            raise ValueError("ours")

    with pytest.raises(ValueError, match="ours"):
        outcome(job, case("rows", tmp_path))


def test_the_control_learns_from_the_same_pixels(tmp_path):
    for kind in KINDS:
        given = case(kind, tmp_path)
        np.testing.assert_array_equal(rows(given.X), rows(case("arrays", tmp_path).X))
        assert ours(given).fit(given.X, WORDS).image_shape_ == (8, 8, 3)
