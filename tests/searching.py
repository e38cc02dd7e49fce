"""What the tests of searches share: images, and estimators that are quickly fitted."""

from itertools import chain

import numpy as np
from PIL import Image
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import GridSearchCV
from sklearn.tree import DecisionTreeClassifier

from kmedclf import MLPClassifier
from kmedclf.datasets import make_blood_cells
from kmedclf.search import Range, StagedSearchCV, TunerSearchCV

X, Y = make_blood_cells(96, random_state=0)
X_VAL, Y_VAL = make_blood_cells(96, random_state=1)  # as long as X, so that it could be cut
FLAT = X.reshape(len(X), -1)
STAGES = [{"max_depth": [2, 8, None]}, {"criterion": ["gini", "entropy"], "splitter": ["best"]}]
TREE = DecisionTreeClassifier(random_state=0)


def mlp(**params):
    base = {"units": 8, "epochs": 2, "early_stopping": False, "augment": False, "random_state": 0}
    return MLPClassifier(**{**base, **params})


class Probe(ClassifierMixin, BaseEstimator):
    """Scores what its parameters say, and remembers in the class what fit was given."""

    calls: list = []  # noqa: RUF012

    def __init__(self, a=0, b=0, epochs=9, random_state=0):
        self.a = a
        self.b = b
        self.epochs = epochs
        self.random_state = random_state

    def fit(self, X, y, groups=None, sample_weight=None, X_val=None, y_val=None):
        if self.a == "bad":
            raise RuntimeError("a bad a")
        self.classes_ = np.unique(y)
        given = {"groups": groups, "sample_weight": sample_weight, "X_val": X_val, "y_val": y_val}
        Probe.calls.append({"n": len(X), "y": np.array(y), **self.get_params(), **given})
        return self

    def predict(self, X):
        return np.full(len(X), self.classes_[0])

    def score(self, X, y):
        return self.a + self.b / 100 - 1 / self.epochs


def files(folder):
    """Write X as files, and give their paths."""
    paths = [folder / f"{number:02}.png" for number in range(len(X))]
    for path, image in zip(paths, X, strict=True):
        Image.fromarray(image).save(path)
    return np.array([str(path) for path in paths])


def scores(results):
    return np.array([results[f"split{k}_test_score"] for k in range(3)])


GRID = {"units": [4, 8], "batch_size": [16, 32]}
SPACE = {"batch_size": Range(8, 40, "int"), "learning_rate": Range(1e-3, 0.1, scale="log")}
ENGINES = {
    "grid": lambda net: GridSearchCV(net, GRID, cv=3, refit=False),
    "staged": lambda net: StagedSearchCV(net, [GRID, {"optimizer": ["sgd", "adam"]}], refit=False),
    "tuner": lambda net: TunerSearchCV(
        net, SPACE, tuner="bayesian", max_trials=4, random_state=0, refit=False
    ),
}


def check_equal(one, other):
    for name, column in one.cv_results_.items():
        if not name.endswith("_time"):
            np.testing.assert_array_equal(other.cv_results_[name], column, err_msg=name)
    assert one.best_params_ == other.best_params_
    curves = [list(chain(*getattr(search, "curves_", []))) for search in (one, other)]
    np.testing.assert_equal(*curves)


PROBED = {
    "grid": lambda: GridSearchCV(Probe(), {"a": [*range(8)]}, cv=3, refit=False),
    "staged": lambda: StagedSearchCV(Probe(), [{"a": [1, 2]}, {"b": [*range(6)]}], refit=False),
    "tuner": lambda: TunerSearchCV(
        Probe(), {"a": [*range(8)]}, tuner="bayesian", max_trials=8, random_state=0, refit=False
    ),
}
TASK = 15_000  # bytes of a fit without data: parameters, messages of the scheduler, heartbeats
