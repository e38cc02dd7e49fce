"""What the fits of a search get to see: folds, subsets, validation data, groups."""

import warnings

import numpy as np
import pytest
from searching import FLAT, X_VAL, Y_VAL, Probe, Y
from sklearn.base import clone
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import (
    GroupKFold,
)

from kmedclf import Unsliced
from kmedclf.search import StagedSearchCV


@pytest.fixture(autouse=True)
def _forget():
    Probe.calls.clear()


def test_every_fold_stops_early_on_the_same_images():
    StagedSearchCV(Probe(), [{"a": [1, 2]}]).fit(FLAT, Y, X_val=X_VAL, y_val=Y_VAL)
    assert [len(call["X_val"]) for call in Probe.calls] == [96] * 7
    assert [call["n"] for call in Probe.calls] == [64] * 6 + [96]


@pytest.mark.parametrize("subset", [0.5, ("first", 0.5)])
def test_a_subset_is_searched_and_everything_fitted(subset):
    weight, y = np.arange(96.0), Y % 3
    search = StagedSearchCV(Probe(), [{"a": [1]}], subset=subset, random_state=0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*does not support sample_weight")
        search.fit(FLAT, y, sample_weight=weight, X_val=Unsliced(X_VAL), y_val=Y_VAL)
    *folds, final = Probe.calls
    rounding = 0 if subset == ("first", 0.5) else 2  # every class is rounded on its own
    np.testing.assert_allclose([call["n"] for call in folds], 32, atol=rounding)
    np.testing.assert_allclose([len(call["X_val"]) for call in folds], 48, atol=2 * rounding)
    assert final["n"] == 96
    np.testing.assert_array_equal(final["sample_weight"], weight)
    searched = sorted({row for call in folds for row in call["sample_weight"]})
    if subset == 0.5:  # stratified, seeded
        np.testing.assert_allclose(
            np.bincount(y[np.int64(searched)]), np.bincount(y) / 2, atol=1.01
        )
        Probe.calls.clear()
        clone(search).fit(FLAT, y)
        np.testing.assert_array_equal(Probe.calls[0]["y"], folds[0]["y"])
    else:
        assert searched == list(range(48))
        np.testing.assert_array_equal(folds[0]["X_val"], X_VAL[:48])


def test_groups_reach_the_splitter_and_the_estimator():
    groups = np.arange(96) // 4
    search = StagedSearchCV(Probe(), [{"a": [1]}], cv=GroupKFold(3), subset=("first", 0.5))
    search.fit(FLAT, Y, groups=groups)
    *folds, final = Probe.calls
    assert len(folds) == 3
    assert all(len(call["groups"]) == call["n"] for call in folds)
    together = [set(call["groups"]) for call in folds]
    assert not set.intersection(*together)  # every group is out of one training fold
    np.testing.assert_array_equal(final["groups"], groups)


def test_the_final_fit_may_train_longer():
    search = StagedSearchCV(Probe(), [{"a": [1, 2]}], refit_params={"epochs": 50}).fit(FLAT, Y)
    assert [call["epochs"] for call in Probe.calls] == [9] * 6 + [50]
    assert search.best_params_ == {"a": 2}
    assert search.refit_time_ > 0
