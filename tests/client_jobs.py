"""Jobs that other libraries do on an estimator: on arrays, on flat rows and on paths of files.

A job is a function of an estimator and a `Case`. It raises, or asserts, if it is not done. Where it
fails on ours, the `Control` shows whose fault that is.
"""

from __future__ import annotations

import functools
import json
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from helpers import data, make
from PIL import Image
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

KINDS = ("arrays", "rows", "paths")
X, y = data(48)
WORDS = np.array(["blast", "basophil", "platelet"])[y]


@dataclass
class Case:
    """Images of one kind, labels of three classes, of two, and of two columns; a folder."""

    kind: str
    X: np.ndarray
    folder: Path
    y: ClassVar = WORDS
    two: ClassVar = WORDS == "blast"
    columns: ClassVar = np.stack([WORDS == "blast", WORDS == "platelet"], axis=1).astype(int)

    @property
    def image_shape(self) -> Any:
        """What the estimator must be told."""
        return X.shape[1:] if self.kind == "rows" else None


def case(kind: str, folder: Path) -> Case:
    """Give the same 48 images as one kind of X."""
    if kind == "rows":
        return Case(kind, X.reshape(len(X), -1), folder)
    if kind == "arrays":
        return Case(kind, X, folder)
    paths = [folder / f"{number:02}.png" for number in range(len(X))]
    for path, image in zip(paths, X, strict=True):
        Image.fromarray(image).save(path)
    return Case(kind, np.array([str(path) for path in paths]), folder)


def ours(given: Case, **params: Any) -> Any:
    """Make a small network for a case."""
    size = X.shape[1] if given.kind == "paths" else "auto"
    options = {"image_shape": given.image_shape, "image_size": size, "learning_rate": 0.01}
    return make("MLPClassifier", **{**options, **params})


def rows(X: Any) -> np.ndarray:
    """Make rows of numbers of images of any kind."""
    X = np.asarray(X)
    if X.dtype.kind not in "uifb":
        if not Path(X.ravel()[0]).is_file():  # in the words of ours, to be compared with them
            found = tuple(X.ravel().tolist())
            raise ValueError(f"X of Control must hold paths only, or none. Got {found}.")
        X = np.stack([np.asarray(Image.open(path)) for path in X.ravel()])
    return X.reshape(len(X), -1) / np.float32(255)


class Control(MLPClassifier):
    """scikit-learn's own network, which reads images of all three kinds."""

    def fit(self, X, y, sample_weight=None):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            return super().fit(rows(X), y, sample_weight)

    def partial_fit(self, X, y, sample_weight=None, classes=None):
        return super().partial_fit(rows(X), y, sample_weight, classes)

    def predict(self, X):
        return super().predict(rows(X))

    def predict_proba(self, X):
        return super().predict_proba(rows(X))


def control() -> Control:
    """Make a small network of scikit-learn's."""
    return Control((4,), max_iter=2, random_state=0)


def outcome(job: Any, given: Case) -> str:
    """Do a job on ours: "ok", or "client" if it fails and fails alike on the control."""
    try:
        job(ours(given), given)
    except Exception as mine:
        try:
            job(control(), given)
        except Exception as theirs:
            if not alike(mine, theirs):
                raise AssertionError(f"The control fails otherwise: {theirs!r}") from mine
            return "client"
        raise
    return "ok"


def alike(mine: Exception, theirs: Exception) -> bool:
    """Compare two errors but for the names of the estimators."""
    words = [str(one).replace("Control", "MLPClassifier")[:60] for one in (mine, theirs)]
    return type(mine) is type(theirs) and words[0] == words[1]


def check(fitted: Any, given: Case, labels: Any = None) -> None:
    """Check that a fitted client predicts labels for all images."""
    labels = given.y if labels is None else labels
    predicted = fitted.predict(given.X)
    assert predicted.shape == labels.shape
    assert set(np.ravel(predicted)) <= set(np.ravel(labels))


def pair(estimator: Any) -> list[tuple[str, Any]]:
    """Make two named estimators of one."""
    return [("a", clone(estimator)), ("b", clone(estimator).set_params(random_state=1))]


def table_row(package: str, job: str, kind: str, found: str) -> str:
    """Make what `docs/clients.py` reads: a job's outcome, and the version that did it."""
    return json.dumps({"client": f"{package} {version(package)}", "job": job, kind: found})


@functools.cache
def _store() -> str:
    folder = Path(tempfile.mkdtemp(prefix="kmedclf-mlflow-"))
    import mlflow

    mlflow.set_tracking_uri(f"sqlite:///{folder / 'mlflow.db'}")
    mlflow.create_experiment("tests", artifact_location=(folder / "artifacts").as_uri())
    return mlflow.get_tracking_uri()


@contextmanager
def local_store() -> Iterator[None]:
    """Let MLflow write into one new database of this process; nothing is sent anywhere."""
    import mlflow

    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(_store())
    mlflow.set_experiment("tests")
    try:
        yield
    finally:
        mlflow.set_tracking_uri(before)
