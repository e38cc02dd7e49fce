"""What a search maximises, and what it says when it cannot."""

import numpy as np
import pytest
from searching import FLAT, STAGES, TREE, X_VAL, Y_VAL, Probe, X, Y, mlp, scores
from sklearn.exceptions import FitFailedWarning
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.metrics import accuracy_score, make_scorer

from kmedclf import MLPClassifier
from kmedclf.search import Range, StagedSearchCV


@pytest.mark.parametrize("scoring", ["val_accuracy", "val_loss"])
def test_validation_curves_as_objective(scoring):
    search = StagedSearchCV(mlp(), [{"units": [4, 8]}], scoring=scoring)
    search.fit(X, Y, X_val=X_VAL, y_val=Y_VAL)
    sign = -1 if scoring == "val_loss" else 1
    last = [[sign * fold[scoring][-1] for fold in folds] for folds in search.curves_]
    np.testing.assert_array_equal(scores(search.cv_results_).T, last)
    # on new data, the same quantity
    logs = search.predict_proba(X_VAL)
    exact = (
        np.mean(search.predict(X_VAL) == Y_VAL)
        if sign > 0
        else np.mean(np.log(logs[np.arange(96), Y_VAL]))
    )
    assert search.score(X_VAL, Y_VAL) == pytest.approx(exact)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"scoring": "acuracy"}, "'scoring' .* Got 'acuracy' instead; did you mean 'accuracy'"),
        ({"scoring": "val_acuracy"}, "did you mean 'val_accuracy'"),
        ({"scoring": ["accuracy"]}, "must be one scorer"),
        ({"scoring": "val_loss"}, "only with validation data"),
        ({"scoring": accuracy_score}, "scorer"),
        ({"stages": [{"unit": [1]}]}, "Got 'unit' instead; did you mean 'units'"),
        ({"stages": [{"units": [0]}]}, "'units' parameter of MLPClassifier must be an int"),
        ({"stages": [{"units": []}]}, "'units' must be a list with at least one value"),
        ({"stages": [{"optimizer": "sgd"}]}, "'optimizer' must be a list"),
        ({"stages": [{"learning_rate": Range(1e-3, 1, "float")}]}, "must be a list of values"),
        ({"stages": []}, "stages of StagedSearchCV must be"),
        ({"stages": 3}, "stages of StagedSearchCV must be"),
        ({"search": "halve"}, "'search' parameter of StagedSearchCV must be one of"),
        ({"subset": 1.5}, "'subset' parameter of StagedSearchCV"),
        ({"subset": ("last", 0.5)}, "'subset' parameter of StagedSearchCV"),
        ({"n_iter": 0}, "'n_iter' parameter"),
        ({"search": "halving", "stages": [{"epochs": [1, 2]}]}, "'epochs' that is not searched"),
    ],
)
def test_errors_come_before_the_first_fit(params, message):
    class Untouched(MLPClassifier):
        def fit(self, *args, **kwargs):
            raise AssertionError("fitted")

    Untouched.__name__ = "MLPClassifier"
    estimator = Untouched(early_stopping=False)
    with pytest.raises(ValueError, match=message):
        StagedSearchCV(estimator, **{"stages": [{"units": [4]}], **params}).fit(X, Y)


def test_a_rescaled_loss_is_no_objective():
    search = StagedSearchCV(mlp(), [{"class_weight": [None, "inverse"]}], scoring="val_loss")
    with pytest.raises(ValueError, match=r"comparable across candidates.*class_weight"):
        search.fit(X, Y, X_val=X_VAL, y_val=Y_VAL)


def test_failing_fits_are_counted():
    with pytest.warns(FitFailedWarning, match="3 of 6 fits failed and score nan, the first with"):
        search = StagedSearchCV(Probe(), [{"a": ["bad", 1]}]).fit(FLAT, Y)
    assert search.best_params_ == {"a": 1}
    assert list(search.cv_results_["rank_test_score"]) == [2, 1]
    with pytest.raises(RuntimeError, match="a bad a"):
        StagedSearchCV(Probe(), [{"a": ["bad", 1]}], error_score="raise").fit(FLAT, Y)
    with (
        pytest.warns(FitFailedWarning),
        pytest.raises(ValueError, match="All 3 fits failed"),
    ):
        StagedSearchCV(Probe(), [{"a": ["bad"]}]).fit(FLAT, Y)


def test_a_callable_scores():
    scorer = make_scorer(accuracy_score)
    one = StagedSearchCV(TREE, STAGES, scoring=scorer).fit(FLAT, Y)
    other = StagedSearchCV(TREE, STAGES, scoring="accuracy").fit(FLAT, Y)
    np.testing.assert_array_equal(scores(one.cv_results_), scores(other.cv_results_))
