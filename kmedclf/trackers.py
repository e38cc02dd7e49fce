"""Records fits where trackers of experiments show them: MLflow and TensorBoard."""

from __future__ import annotations

import kmedclf.utils.tensorflow_loaded  # noqa: F401

import re
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
from sklearn.utils.validation import check_is_fitted

from kmedclf.pages.report import write_page
from kmedclf.utils import annotated

if TYPE_CHECKING:
    from kmedclf.evaluation import MultilabelReport, Report

LONGEST_NAME = 120
"""Characters of a folder's name; file systems allow 255 bytes."""
MOST_METRICS = 1000
"""Metrics in one call; MLflow refuses more."""


class TensorBoard(keras.callbacks.TensorBoard):
    """Keras' callback for TensorBoard, with a folder of its own for every fit.

    Searches and cross-validation copy an estimator's callbacks for each of their fits. With Keras'
    own class all of them would write to one folder, which TensorBoard shows as one curve.

    Parameters
    ----------
    log_dir : path-like
        Folder for ``tensorboard --logdir``. Each fit gets ``<parameters>/<number>`` in it: the
        estimator's parameters that are no defaults, and 1, 2, ... for the fits that have them in
        common, such as the folds.
    **options
        As in `keras.callbacks.TensorBoard`. ``write_graph`` is False by default.

    Examples
    --------
    >>> from kmedclf import CNNClassifier, trackers
    >>> cnn = CNNClassifier(callbacks=[trackers.TensorBoard("logs")])
    """

    def __init__(self, log_dir: Any = "logs", *, write_graph: bool = False, **options: Any) -> None:
        super().__init__(log_dir=str(log_dir), write_graph=write_graph, **options)
        self._root, self._label = str(log_dir), "fit"

    def set_estimator(self, estimator: Any) -> None:
        """Note the parameters of the estimator that is about to be fitted."""
        names = [
            name for name in annotated.changed(estimator) if name not in ("callbacks", "verbose")
        ]
        shown = ",".join(f"{name}={getattr(estimator, name)}" for name in names)
        label = f"{type(estimator).__name__} {shown}".strip()
        self._label = re.sub(r"[^\w.,=+-]+", "_", label)[:LONGEST_NAME]

    def set_model(self, model: Any) -> None:
        """Make the folder of this fit."""
        fits = Path(self._root, self._label)
        fits.mkdir(parents=True, exist_ok=True)
        number = 1 + sum(1 for _ in fits.iterdir())
        while True:
            try:  # another process may take the number
                (fits / str(number)).mkdir()
                break
            except FileExistsError:
                number += 1
        self.log_dir = str(fits / str(number))
        super().set_model(model)


def log_to_mlflow(
    fitted: Any,
    report: Report | MultilabelReport | None = None,
    *,
    split: str = "test",
    model: bool = True,
) -> str:
    """Log a fitted estimator or search to MLflow: into the active run, or into a new one.

    Logs the parameters, the learning curves epoch by epoch, and the model. Of a search it logs the
    best estimator, and every candidate as a nested run with its parameters, its scores and, where
    the search keeps them, the curves of every fold. `mlflow.sklearn.autolog` logs scikit-learn's
    own classes only.

    Parameters
    ----------
    fitted : estimator or search
        A fitted estimator of this package; or a fitted search, of this package or of scikit-learn.
    report : Report or MultilabelReport, optional
        What `kmedclf.evaluation.evaluate` returned. Its scores become metrics such as
        "test_accuracy", with "test_accuracy_low" and "test_accuracy_high", the ends of the
        interval. The report itself is an artifact, as JSON and as a page.
    split : str, default="test"
        What the names of these metrics and artifacts begin with.
    model : bool, default=True
        Whether to log the model: the file that `save` writes, for `kmedclf.load`.

    Returns
    -------
    str
        ID of the run.

    Raises
    ------
    ImportError
        If mlflow is not installed.
    sklearn.exceptions.NotFittedError
        If ``fitted`` is not fitted.
    """
    mlflow = _mlflow()
    check_is_fitted(fitted)
    best = getattr(fitted, "best_estimator_", fitted)
    is_search = hasattr(fitted, "cv_results_")
    with _run(mlflow, type(best).__name__) as run:
        _log_estimator(mlflow, best, run, model=model and hasattr(best, "save"))
        if report is not None:
            _log_report(mlflow, best, report, run, split)
        if is_search:
            mlflow.set_tag("search", type(fitted).__name__)
            _log_metrics(mlflow, run, {"best_score": fitted.best_score_})
            _log_candidates(mlflow, fitted)
        return run


def _mlflow() -> Any:
    try:
        import mlflow
    except ImportError as error:
        raise ImportError(
            "log_to_mlflow needs mlflow; install it with pip install 'kmedclf[mlflow]'."
        ) from error
    return mlflow


@contextmanager
def _run(mlflow: Any, name: str) -> Iterator[str]:
    """Give the ID of the active run, or of a new one that ends here."""
    active = mlflow.active_run()
    if active is not None:
        yield active.info.run_id
        return
    with mlflow.start_run(run_name=name) as run:
        yield run.info.run_id


def _log_estimator(mlflow: Any, estimator: Any, run: str, *, model: bool) -> None:
    params = estimator.get_params(deep=False)
    params.pop("callbacks", None)  # objects, whose text is an address
    mlflow.log_params({"estimator": type(estimator).__name__, **params})
    numbers = ("n_params_", "n_non_trainable_params_", "best_epoch_")
    found = {one.rstrip("_"): getattr(estimator, one) for one in numbers if hasattr(estimator, one)}
    _log_metrics(mlflow, run, found)
    _log_curves(mlflow, run, getattr(estimator, "history_", {}))
    if model:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "model.kmedclf")
            estimator.save(path)
            mlflow.log_artifact(path)


def _log_report(mlflow: Any, estimator: Any, report: Any, run: str, split: str) -> None:
    for name, estimate in report.scores.items():
        ends = {"": estimate.value, "_low": estimate.low, "_high": estimate.high}
        known = {f"{split}_{name}{end}": value for end, value in ends.items() if value is not None}
        _log_metrics(mlflow, run, known)
    with tempfile.TemporaryDirectory() as folder:
        report.to_json(Path(folder, f"{split}.json"))
        write_page(
            Path(folder, f"{split}.html"),
            report,
            history=getattr(estimator, "history_", None),
            parameters=estimator.get_params(deep=False),
        )
        mlflow.log_artifacts(folder, "report")


def _log_candidates(mlflow: Any, search: Any) -> None:
    """Log every candidate of a search as a run below the active one."""
    results = search.cv_results_
    scores = [name for name in results if name.startswith(("mean_", "std_", "split"))]
    curves = getattr(search, "curves_", None)
    for number, params in enumerate(results["params"]):
        with mlflow.start_run(run_name=f"candidate {number}", nested=True) as run:
            mlflow.log_params(params)
            name = run.info.run_id
            _log_metrics(mlflow, name, {one: results[one][number] for one in scores})
            for fold, of_fold in enumerate(curves[number] if curves else ()):
                of_fold = {f"split{fold}_{one}": values for one, values in of_fold.items()}
                _log_curves(mlflow, name, of_fold)


def _log_metrics(mlflow: Any, run: str, values: Mapping[str, Any]) -> None:
    _log_curves(mlflow, run, {name: [value] for name, value in values.items()}, first=0)


def _log_curves(mlflow: Any, run: str, curves: Mapping[str, Any], *, first: int = 1) -> None:
    """Log curves, one step for each epoch; epochs are counted from 1."""
    now = int(time.time() * 1000)
    metrics = [
        mlflow.entities.Metric(name, float(value), now, step)
        for name, values in curves.items()
        for step, value in enumerate(values, first)
    ]
    client = mlflow.MlflowClient()
    for start in range(0, len(metrics), MOST_METRICS):
        client.log_batch(run, metrics=metrics[start : start + MOST_METRICS])
