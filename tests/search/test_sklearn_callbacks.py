"""scikit-learn's own callbacks: `set_callbacks` of searches does what it does in scikit-learn's."""

import numpy as np
import pytest
from helpers import data, make
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV

from kmedclf.search import StagedSearchCV, TunerSearchCV

callback = pytest.importorskip("sklearn.callback")

X, y = data(40)
GRID = {"units": [2, 4]}


class Notes:
    """Notes down what it is told of, in order."""

    def __init__(self):
        self.calls = []

    def _note(self, hook, context):
        self.calls.append((hook, context.task_name, context.task_id))

    def setup(self, estimator, context):
        self.calls.append(("setup", type(estimator).__name__))

    def teardown(self, estimator, context):
        self.calls.append(("teardown", type(estimator).__name__))

    def on_fit_task_begin(self, estimator, context):
        self._note("begin", context)

    def on_fit_task_end(self, estimator, context):
        self._note("end", context)


def _search(cls, estimator, grid, **options):
    if cls is TunerSearchCV:
        return cls(estimator, [grid], cv=2, tuner=options.pop("tuner", "grid"), **options)
    return cls(estimator, grid if cls is GridSearchCV else [grid], cv=2, **options)


@pytest.mark.parametrize("refit", [True, False])
@pytest.mark.parametrize("cls", [StagedSearchCV, TunerSearchCV])
def test_the_tasks_are_those_of_a_grid_search(cls, refit):
    notes = [Notes(), Notes()]
    for one, kind in zip(notes, (cls, GridSearchCV), strict=True):
        search = _search(kind, make("MLPClassifier", epochs=1), GRID, refit=refit)
        search.set_callbacks(one).fit(X, y)
    ours, theirs = ([call for call in one.calls if call[:2] != ("end", "search")] for one in notes)
    names = [(call[0], call[1].replace(cls.__name__, "GridSearchCV"), *call[2:]) for call in ours]
    assert names == theirs
    assert ours[0][0] == "setup"
    assert ours[-1][0] == "teardown"


@pytest.mark.parametrize(
    ("cls", "options"),
    [(StagedSearchCV, {"search": "halving", "factor": 2}), (TunerSearchCV, {"tuner": "hyperband"})],
)
def test_searches_by_rungs(cls, options):
    notes = Notes()
    search = _search(cls, make("MLPClassifier", epochs=4), GRID, **options)
    search.set_callbacks(notes).fit(X, y)
    begun = [call[2] for call in notes.calls if call[:2] == ("begin", "candidate-split-evaluation")]
    assert begun == list(range(len(begun)))
    assert len(begun) >= 4


@pytest.mark.parametrize("cls", [StagedSearchCV, TunerSearchCV])
def test_a_failed_search_tears_down(cls):
    notes = Notes()
    grid = {"learning_rate": [0.01, 1e30]}
    search = _search(cls, make("MLPClassifier"), grid, error_score="raise")
    with pytest.raises(ValueError, match="diverged"):
        search.set_callbacks(notes).fit(X, y)
    assert notes.calls[-1] == ("teardown", cls.__name__)
    assert not hasattr(search, "_callback_fit_ctx")


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_the_progress_bar_of_scikit_learn(n_jobs, capsys, as_many_threads):
    flat, grid = X.reshape(40, -1) / 255, {"C": [0.1, 1.0]}
    search = _search(StagedSearchCV, LogisticRegression(max_iter=2000), grid, n_jobs=n_jobs)
    plain = _search(StagedSearchCV, LogisticRegression(max_iter=2000), grid).fit(flat, y)
    search.set_callbacks(callback.ProgressBar())
    search.fit(flat, y)
    assert "StagedSearchCV" in capsys.readouterr().out
    np.testing.assert_array_equal(
        search.cv_results_["mean_test_score"], plain.cv_results_["mean_test_score"]
    )
