"""Both searches against scikit-learn's own checks of estimators."""

import numpy as np
import pytest
import sklearn
from sklearn.linear_model import LogisticRegression
from sklearn.utils.estimator_checks import parametrize_with_checks

from kmedclf.search import StagedSearchCV, TunerSearchCV


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
