"""Other libraries do their jobs on the estimators unchanged: ``pip install -e '.[test,clients]'``.

Each job runs on arrays, on rows and on paths. What a library itself does not take is in `REFUSED`:
there it fails alike on scikit-learn's own network.
"""

import numpy as np
import pytest
from client_jobs import KINDS, WORDS, case, check, local_store, outcome, pair, rows, table_row, y
from sklearn.base import clone
from sklearn.model_selection import cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline

pytestmark = [
    pytest.mark.clients,
    # The libraries' own affairs with NumPy, pandas and scikit-learn
    pytest.mark.filterwarnings("default"),
]
JOBS = {}


def job(package, words):
    """Register a job of a package; its words stand in the table."""

    def register(function):
        JOBS[function.__name__] = function
        function.package, function.words = package, words
        return function

    return register


@job("cleanlab", "`find_label_issues` on probabilities out of fold")
def label_issues(estimator, given):
    from cleanlab.filter import find_label_issues

    proba = cross_val_predict(estimator, given.X, y, cv=2, method="predict_proba")
    issues = find_label_issues(y, proba, return_indices_ranked_by="self_confidence", n_jobs=1)
    assert set(issues) <= set(range(len(y)))


@job("cleanlab", "`CleanLearning`")
def clean_learning(estimator, given):
    from cleanlab.classification import CleanLearning

    client = CleanLearning(estimator, seed=0, cv_n_folds=2, find_label_issues_kwargs={"n_jobs": 1})
    check(client.fit(given.X, y), given, y)


@job("imbalanced-learn", "pipeline with `RandomUnderSampler`")
def under_sampling(estimator, given):
    from imblearn.pipeline import make_pipeline
    from imblearn.under_sampling import RandomUnderSampler

    check(make_pipeline(RandomUnderSampler(random_state=0), estimator).fit(given.X, WORDS), given)


@job("imbalanced-learn", "pipeline with `SMOTE`")
def smote(estimator, given):
    from imblearn.over_sampling import SMOTE
    from imblearn.pipeline import make_pipeline

    sampler = SMOTE(random_state=0, k_neighbors=2)
    check(make_pipeline(sampler, estimator).fit(given.X, WORDS), given)


@job("imbalanced-learn", "`BalancedBaggingClassifier`")
def balanced_bagging(estimator, given):
    from imblearn.ensemble import BalancedBaggingClassifier

    check(BalancedBaggingClassifier(estimator, 2, random_state=0).fit(given.X, WORDS), given)


@job("imbalanced-learn", "`RUSBoostClassifier`")
def rus_boost(estimator, given):
    from imblearn.ensemble import RUSBoostClassifier

    check(RUSBoostClassifier(estimator, n_estimators=2, random_state=0).fit(given.X, WORDS), given)


@job("imbalanced-learn", "`InstanceHardnessThreshold`")
def instance_hardness(estimator, given):
    from imblearn.under_sampling import InstanceHardnessThreshold

    sampler = InstanceHardnessThreshold(estimator=estimator, cv=2, random_state=0)
    X, labels = sampler.fit_resample(given.X, y)
    assert 0 < len(X) == len(labels) <= len(WORDS)


@job("imbalanced-learn", "`InstanceHardnessCV`")
def hardness_folds(estimator, given):
    from imblearn.model_selection import InstanceHardnessCV

    binary = (y == 1).astype(int)
    splitter = InstanceHardnessCV(estimator=clone(estimator), n_splits=2, pos_label=1)
    assert cross_val_score(estimator, given.X, binary, cv=splitter).shape == (2,)


@job("MAPIE", "`SplitConformalClassifier` of a fitted estimator")
def split_conformal(estimator, given):
    from mapie.classification import SplitConformalClassifier

    estimator.fit(given.X, y)
    client = SplitConformalClassifier(estimator, confidence_level=0.9, prefit=True)
    points, sets = client.conformalize(given.X, y).predict_set(given.X)
    assert points.shape == (48,)
    assert sets.shape[:2] == (48, 3)
    assert sets.sum() >= 0.9 * 48


@job("MAPIE", "`SplitConformalClassifier` that fits")
def split_conformal_fits(estimator, given):
    from mapie.classification import SplitConformalClassifier

    client = SplitConformalClassifier(estimator, confidence_level=0.9, prefit=False)
    client.fit(given.X, y).conformalize(given.X, y)
    assert client.predict_set(given.X)[1].shape[:2] == (48, 3)


@job("MAPIE", "`CrossConformalClassifier`")
def cross_conformal(estimator, given):
    from mapie.classification import CrossConformalClassifier

    client = CrossConformalClassifier(estimator, confidence_level=0.9, cv=2)
    client.fit_conformalize(given.X, y)
    assert client.predict_set(given.X)[1].shape[:2] == (48, 3)


@job("MAPIE", "`BinaryClassificationController`")
def risk_control(estimator, given):
    from mapie.risk_control import BinaryClassificationController, precision

    binary = (y == 1).astype(int)
    estimator.fit(given.X, binary)
    client = BinaryClassificationController(
        estimator.predict_proba,
        precision,
        target_level=0.1,
        confidence_level=0.5,
        list_predict_params=np.array([0.2, 0.3, 0.4]),
    )
    client.calibrate(given.X, binary)
    assert client.predict(given.X).shape == (48,)


@job("Optuna", "a study over parameters")
def optuna_study(estimator, given):
    import optuna

    def objective(trial):
        state = trial.suggest_int("random_state", 0, 3)
        one = clone(estimator).set_params(random_state=state)
        return cross_val_score(one, given.X, WORDS, cv=2, error_score="raise").mean()

    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0))
    study.optimize(objective, n_trials=3)
    assert study.best_params.keys() == {"random_state"}


@job("Optuna", "pruning by `partial_fit`")
def optuna_pruning(estimator, given):
    import optuna

    def objective(trial):
        one = clone(estimator).set_params(random_state=trial.suggest_int("random_state", 0, 3))
        for epoch in range(3):
            one.partial_fit(given.X, WORDS, classes=np.unique(WORDS))
            trial.report(one.score(given.X, WORDS), epoch)
            if trial.should_prune():
                raise optuna.TrialPruned
        return one.score(given.X, WORDS)

    study = optuna.create_study(direction="maximize", pruner=optuna.pruners.MedianPruner(1, 0))
    study.optimize(objective, n_trials=3)
    assert len(study.trials) == 3


@job("Optuna", "`OptunaSearchCV`")
def optuna_search(estimator, given):
    import optuna
    from optuna_integration import OptunaSearchCV

    space = {"random_state": optuna.distributions.IntDistribution(0, 3)}
    search = OptunaSearchCV(estimator, space, cv=2, n_trials=2, random_state=0, error_score="raise")
    check(search.fit(given.X, WORDS), given)


@job("skops", "`dump` and `load` with trusted types")
def skops_file(estimator, given):
    from skops import io

    estimator.fit(given.X, WORDS)
    path = given.folder / "model.skops"
    io.dump(estimator, path)
    again = io.load(path, trusted=io.get_untrusted_types(file=path))
    np.testing.assert_array_equal(again.predict_proba(given.X), estimator.predict_proba(given.X))


@job("skops", "a model card")
def skops_card(estimator, given):
    from skops import card

    estimator.fit(given.X, WORDS)
    page = card.Card(estimator)
    page.add_metrics(accuracy=estimator.score(given.X, WORDS))
    page.save(given.folder / "README.md")
    assert "random_state" in (given.folder / "README.md").read_text(encoding="utf-8")


@job("mlxtend", "`EnsembleVoteClassifier`")
def vote(estimator, given):
    from mlxtend.classifier import EnsembleVoteClassifier

    members = [one for _, one in pair(estimator)]
    check(EnsembleVoteClassifier(members, voting="soft").fit(given.X, WORDS), given)


@job("mlxtend", "`StackingCVClassifier`")
def stack(estimator, given):
    from mlxtend.classifier import StackingCVClassifier
    from sklearn.naive_bayes import GaussianNB

    members = [one for _, one in pair(estimator)]
    client = StackingCVClassifier(members, GaussianNB(), use_probas=True, cv=2, random_state=0)
    check(client.fit(given.X, y), given, y)


@job("mlxtend", "`bootstrap_point632_score`")
def bootstrap(estimator, given):
    from mlxtend.evaluate import bootstrap_point632_score

    scores = bootstrap_point632_score(estimator, given.X, y, n_splits=2, random_seed=0)
    assert scores.shape == (2,)


@job("mlxtend", "`paired_ttest_5x2cv`")
def paired_test(estimator, given):
    from mlxtend.evaluate import paired_ttest_5x2cv

    one, two = (member for _, member in pair(estimator))
    _, p = paired_ttest_5x2cv(one, two, given.X, y, random_seed=0)
    assert np.isnan(p) or 0 <= p <= 1


@job("dask-ml", "`GridSearchCV`")
def dask_grid(estimator, given):
    from dask_ml.model_selection import GridSearchCV

    search = GridSearchCV(estimator, {"random_state": [0, 1]}, cv=2, scheduler="threads")
    check(search.fit(given.X, WORDS), given)


@job("dask-ml", "`ParallelPostFit`")
def parallel_post_fit(estimator, given):
    import dask.array
    from dask_ml.wrappers import ParallelPostFit

    client = ParallelPostFit(estimator.fit(given.X, y), predict_meta=np.zeros(1, int))
    blocks = dask.array.from_array(given.X, chunks=(24, *given.X.shape[1:]))
    np.testing.assert_array_equal(client.predict(blocks).compute(), estimator.predict(given.X))


@job("dask-ml", "`Incremental`")
def incremental(estimator, given):
    import dask.array
    from dask_ml.wrappers import Incremental

    blocks = dask.array.from_array(given.X, chunks=(24, *given.X.shape[1:]))
    labels = dask.array.from_array(y, chunks=24)
    client = Incremental(estimator, predict_meta=np.zeros(1, int), shuffle_blocks=False)
    client.fit(blocks, labels, classes=[0, 1, 2])
    assert client.predict(given.X).shape == (48,)


@job("LIME", "`LimeImageExplainer`")
def lime(estimator, given):
    from lime.lime_image import LimeImageExplainer

    estimator.fit(given.X, y)

    def score(images):  # what LIME gives are images (m, h, w, 3)
        if given.kind == "rows":
            images = images.reshape(len(images), -1)
        return estimator.predict_proba(images)

    image = rows(given.X)[0].reshape(8, 8, 3) * 255
    explained = LimeImageExplainer(random_state=0).explain_instance(
        image.astype(np.uint8), score, num_samples=20
    )
    assert explained.top_labels is None or len(explained.local_exp) > 0


@job("MLflow", "`sklearn.log_model`, loaded again as `pyfunc`")
def mlflow_model(estimator, given):
    import mlflow

    estimator.fit(given.X, y)
    with local_store(), mlflow.start_run():
        logged = mlflow.sklearn.log_model(
            estimator, name="model", serialization_format="cloudpickle", pip_requirements=[]
        )
        again = mlflow.pyfunc.load_model(logged.model_uri)
        np.testing.assert_array_equal(again.predict(given.X), estimator.predict(given.X))


@job("MLflow", "`sklearn.autolog` of a pipeline")
def mlflow_autolog(estimator, given):
    import mlflow

    with local_store():
        mlflow.sklearn.autolog(log_models=False, silent=True)
        try:
            with mlflow.start_run() as run:
                make_pipeline(estimator).fit(given.X, y)
        finally:
            mlflow.sklearn.autolog(disable=True, silent=True)
        found = mlflow.get_run(run.info.run_id).data
        assert any(name.endswith("random_state") for name in found.params)
        assert "training_accuracy_score" in found.metrics or "training_score" in found.metrics


# What no estimator of scikit-learn's can do with these either.
ROWS_ALONE = ("arrays", "paths")
REFUSED = {
    "balanced_bagging": ROWS_ALONE,
    "bootstrap": ROWS_ALONE,
    "incremental": ("arrays",),
    "instance_hardness": ROWS_ALONE,
    "parallel_post_fit": ROWS_ALONE,
    "rus_boost": ROWS_ALONE,
    "smote": ROWS_ALONE,
    "split_conformal": ("paths",),
    "split_conformal_fits": ("paths",),
    "under_sampling": ROWS_ALONE,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", JOBS)
def test_jobs(name, kind, tmp_path, record_property):
    function = JOBS[name]
    found = outcome(function, case(kind, tmp_path))
    record_property("client", table_row(function.package, function.words, kind, found))
    assert found == ("client" if kind in REFUSED.get(name, ()) else "ok")
