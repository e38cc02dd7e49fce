"""Our searches against scikit-learn's checks of estimators, its searches on our estimators."""

import numpy as np
import pytest
import sklearn
from searching import X, Y
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV, RandomizedSearchCV
from sklearn.utils.estimator_checks import parametrize_with_checks

from kmedclf import CNNClassifier
from kmedclf.search import SearchSpace, StagedSearchCV, TunerSearchCV


def expected(search):
    # scikit-learn raises what the final fit raises; we stop before it and quote the first failure
    return {"check_dtype_object": "a search in which every fit fails raises ValueError"}


STAGED = StagedSearchCV(LogisticRegression(), [{"C": [0.1, 1.0]}])
TUNER = TunerSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, max_trials=2, random_state=0)


@pytest.mark.filterwarnings("ignore")  # the checks provoke failing fits
@parametrize_with_checks([STAGED], expected_failed_checks=expected)
def test_staged(estimator, check):
    check(estimator)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks([TUNER], expected_failed_checks=expected)
def test_tuner(estimator, check):
    check(estimator)


def test_metadata_is_routed():
    X, y = np.random.default_rng(0).random((60, 3)), np.arange(60) % 2
    weight = np.where(np.arange(60) < 30, 1.0, 5.0)
    with sklearn.config_context(enable_metadata_routing=True):
        estimator = LogisticRegression().set_fit_request(sample_weight=True)
        estimator.set_score_request(sample_weight=True)
        routed = StagedSearchCV(estimator, [{"C": [0.1, 1.0]}]).fit(X, y, sample_weight=weight)
        assert routed.get_metadata_routing().consumes("fit", ["sample_weight"])
    plain = LogisticRegression(**routed.best_params_).fit(X, y, sample_weight=weight)
    np.testing.assert_array_equal(routed.best_estimator_.coef_, plain.coef_)


def test_scikit_learns_searches_work_untouched():
    space = SearchSpace.load("cnn_flat")
    cnn = CNNClassifier(filters=4, epochs=2, early_stopping=False, random_state=0)
    grid = GridSearchCV(cnn, {"kernel_size": [3, 5]}, cv=2, error_score="raise").fit(X, Y)
    assert grid.predict(X).shape == Y.shape
    keep = ("learning_rate", "augment", "class_weight", "pool_size")
    some = {name: one for name, one in space.distributions().items() if name in keep}
    drawn = RandomizedSearchCV(cnn, some, n_iter=2, cv=2, random_state=0, error_score="raise")
    assert set(drawn.fit(X, Y).best_params_) == set(keep)
    halving = HalvingGridSearchCV(
        cnn, {"pool_size": [2, 3, 4]}, resource="epochs", max_resources=3, cv=2, error_score="raise"
    ).fit(X, Y)
    assert halving.n_resources_ == [1, 3]
    assert halving.best_params_["epochs"] == 3
