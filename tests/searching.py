"""What the tests of searches share: images, and estimators that are quickly fitted."""

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.tree import DecisionTreeClassifier

from kmedclf import MLPClassifier
from kmedclf.datasets import make_blood_cells

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


def scores(results):
    return np.array([results[f"split{k}_test_score"] for k in range(3)])
