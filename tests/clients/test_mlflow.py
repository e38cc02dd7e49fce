"""MLflow is told what there is to know of a fit or a search; nothing leaves this machine."""

import json
from pathlib import Path

import mlflow
import numpy as np
import pytest
from client_jobs import local_store
from helpers import data, make
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV

import kmedclf
from kmedclf.evaluation import evaluate
from kmedclf.search import StagedSearchCV
from kmedclf.trackers import log_to_mlflow

pytestmark = [pytest.mark.clients, pytest.mark.filterwarnings("default")]

X, y = data()
HELD = {"X_val": X[:16], "y_val": y[:16]}


@pytest.fixture(autouse=True)
def _store():
    with local_store():
        yield


def curve(run, name):
    found = mlflow.MlflowClient().get_metric_history(run, name)
    return {one.step: one.value for one in found}


def test_a_fit_with_its_report():
    estimator = make("MLPClassifier", epochs=3).fit(X, y, **HELD)
    report = evaluate(estimator, X, y, random_state=0)
    run = log_to_mlflow(estimator, report)
    assert mlflow.active_run() is None
    found = mlflow.get_run(run).data
    assert found.params["estimator"] == "MLPClassifier"
    for name, value in estimator.get_params().items():
        assert name == "callbacks" or found.params[name] == str(value)
    for name, values in estimator.history_.items():
        np.testing.assert_allclose(list(curve(run, name).values()), values)
        assert list(curve(run, name)) == [1, 2, 3]
    scored = report.scores["accuracy"]
    assert found.metrics["test_accuracy"] == scored.value
    assert found.metrics["test_accuracy_low"] == scored.low
    assert found.metrics["best_epoch"] == estimator.best_epoch_
    page = Path(mlflow.artifacts.download_artifacts(run_id=run, artifact_path="report/test.html"))
    assert "<html" in page.read_text(encoding="utf-8")
    again = Path(mlflow.artifacts.download_artifacts(run_id=run, artifact_path="report/test.json"))
    assert json.loads(again.read_text(encoding="utf-8"))["n"] == len(X)
    model = mlflow.artifacts.download_artifacts(run_id=run, artifact_path="model.kmedclf")
    np.testing.assert_array_equal(kmedclf.load(model).predict_proba(X), estimator.predict_proba(X))


def test_it_goes_into_the_active_run():
    with mlflow.start_run() as active:
        assert log_to_mlflow(make("MLPClassifier").fit(X, y), model=False) == active.info.run_id
        assert mlflow.active_run().info.run_id == active.info.run_id


@pytest.mark.parametrize("cls", [GridSearchCV, StagedSearchCV])
def test_a_search_with_its_candidates(cls):
    search = cls(make("MLPClassifier"), {"units": [2, 4, 8]}, cv=2).fit(X, y)
    run = log_to_mlflow(search)
    found = mlflow.get_run(run).data
    assert found.params["units"] == str(search.best_params_["units"])
    assert found.metrics["best_score"] == pytest.approx(search.best_score_)
    below = mlflow.search_runs(
        search_all_experiments=True,
        filter_string=f"tags.mlflow.parentRunId = '{run}'",
        output_format="list",
    )
    assert sorted(one.data.params["units"] for one in below) == ["2", "4", "8"]
    for one in below:
        row = [str(p["units"]) for p in search.cv_results_["params"]].index(
            one.data.params["units"]
        )
        expected = search.cv_results_["mean_test_score"][row]
        assert one.data.metrics["mean_test_score"] == pytest.approx(expected)
        if cls is StagedSearchCV:
            losses = search.curves_[row][1]["loss"]
            np.testing.assert_allclose(list(curve(one.info.run_id, "split1_loss").values()), losses)


def test_what_is_not_fitted_is_refused_before_a_run_begins():
    before = len(mlflow.search_runs(search_all_experiments=True))
    with pytest.raises(NotFittedError):
        log_to_mlflow(make("MLPClassifier"))
    assert len(mlflow.search_runs(search_all_experiments=True)) == before


def test_mlflows_own_callback():
    with mlflow.start_run() as run:
        callback = mlflow.tensorflow.MlflowCallback()
        estimator = make("MLPClassifier", callbacks=[callback]).fit(X, y, **HELD)
    mlflow.flush_async_logging()
    np.testing.assert_allclose(
        list(curve(run.info.run_id, "val_loss").values()), estimator.history_["val_loss"], rtol=1e-6
    )
