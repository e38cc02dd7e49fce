"""KerasTuner's oracles, with cross-validated objectives and scikit-learn's results."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil, isfinite, log
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
from sklearn.model_selection import ParameterGrid
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval
from threadpoolctl import threadpool_limits

from kmedclf.search.cross_validation import CrossValidatedSearch, Evaluator, Table
from kmedclf.search.spaces import SearchSpace, Stage, check_resource, epochs_of, resource_of
from kmedclf.utils.annotated import Words


@dataclass(frozen=True)
class Trial:
    """One candidate that an oracle proposes."""

    id: str
    params: dict[str, Any]
    epochs: int | None  # None if the oracle does not set them
    handle: Any  # KerasTuner's trial


class Oracle:
    """An oracle of KerasTuner, with its own folder and without its output.

    The same ``seed``, at least 1 because KerasTuner takes 0 for none, and the same scores give the
    same trials, in any number of processes. "hyperband" has no ``max_trials``.
    """

    def __init__(
        self,
        kind: str,
        stages: Sequence[Stage],
        seed: int,
        folder: str,
        *,
        max_trials: int | None = None,
        epochs: int = 1,
        factor: int = 3,
        iterations: int = 1,
    ) -> None:
        self.stages = stages
        self._asked = 0
        self._batch = self._first_batch = max_trials
        with _quiet():
            import kmedclf.utils.tensorflow_loaded  # noqa: F401

            import keras_tuner

            hp = keras_tuner.HyperParameters()
            self._values(hp)
            common = {
                "objective": keras_tuner.Objective("score", "max"),
                "hyperparameters": hp,
                "seed": seed,
                # The search itself counts failures, over all trials.
                "max_consecutive_failed_trials": 10**9,
            }
            if kind == "hyperband":
                self._oracle = keras_tuner.oracles.HyperbandOracle(
                    max_epochs=epochs, factor=factor, hyperband_iterations=iterations, **common
                )
            elif kind == "bayesian":
                # KerasTuner's default, three points per parameter, often exceeds max_trials.
                self._first_batch, self._batch = max(3, (max_trials or 0) // 3), 1
                self._oracle = keras_tuner.oracles.BayesianOptimizationOracle(
                    max_trials=max_trials, num_initial_points=self._first_batch, **common
                )
            else:
                oracles = keras_tuner.oracles
                cls = oracles.GridSearchOracle if kind == "grid" else oracles.RandomSearchOracle
                self._oracle = cls(max_trials=max_trials, **common)
            self._oracle.verbose = 0
            self._oracle._set_project_dir(folder, kind)

    def _values(self, hp: Any) -> dict[str, Any]:
        return {k: v for stage in self.stages for k, v in stage.hyperparameters(hp).items()}

    def ask(self) -> list[Trial]:
        """Return the trials that can run now, in parallel; empty at the end."""
        batch: list[Trial] = []
        limit = self._batch if self._asked else self._first_batch
        with _quiet():
            while limit is None or len(batch) < limit:
                # A worker can run one trial at a time, so every trial gets a new worker name.
                trial = self._oracle.create_trial(f"worker {self._asked}")
                if trial.status != "RUNNING":
                    break
                self._asked += 1
                hp = trial.hyperparameters
                epochs = hp.values.get("tuner/epochs")
                batch.append(Trial(trial.trial_id, self._values(hp), epochs, trial))
        return batch

    def tell(self, trial: Trial, score: float) -> None:
        """Report a trial's score; NaN marks a failure."""
        with _quiet():
            # An oracle cannot rank a trial without a score; it must be told of the failure.
            if isfinite(score):
                self._oracle.update_trial(trial.id, {"score": score})
            trial.handle.status = "COMPLETED" if isfinite(score) else "FAILED"
            self._oracle.end_trial(trial.handle)


def hyperband_schedule(epochs: int, factor: int, iterations: int = 1) -> list[tuple[int, int]]:
    """Compute trials and epochs of every round of every Hyperband bracket.

    Each round keeps 1 / ``factor`` of the candidates for ``factor`` times the epochs.
    """
    brackets = 0
    while factor**brackets <= epochs:
        brackets += 1
    last = ceil(1 + log(epochs, factor))
    rounds = [
        (ceil(last / (b + 1) * factor ** (b - r)), ceil(epochs / factor ** (b - r)))
        for b in reversed(range(brackets))
        for r in range(b + 1)
    ]
    return rounds * iterations


@contextmanager
def _quiet() -> Iterator[None]:
    # KerasTuner calls deprecated functions, and its Gaussian process warns about few points. It
    # also works on tiny matrices, where several BLAS threads only slow it down.
    with warnings.catch_warnings(), threadpool_limits(limits=1, user_api="blas"):
        warnings.simplefilter("ignore")
        yield


class TunerSearchCV(CrossValidatedSearch):
    """Let KerasTuner choose the candidates, and cross-validate each of them.

    Parameters
    ----------
    estimator : estimator
        Estimator to search.
    space : SearchSpace, str, path-like, dict or list of dict
        What to search: a space, its name or path, or lists and `Range` by parameter. Stages are
        searched together.
    tuner : {"random", "bayesian", "hyperband", "grid"}, default="random"
        KerasTuner's oracle.
    max_trials : int or None, default=None
        Most candidates. None is 10 for "random" and "bayesian" and all for "grid"; "hyperband"
        has its own schedule.
    cv : int, splitter, iterable or None, default=None
        Folds, as in scikit-learn; None is StratifiedKFold(3). The objective is the mean over them.
    scoring : str, callable or None, default=None
        Score to maximise: the name of a scorer, "val_accuracy" or "val_loss" of the estimator's
        own validation data, a callable, or None for the estimator's ``score``.
    factor : int, default=3
        For "hyperband": each round keeps 1 / ``factor`` of the candidates for ``factor`` times the
        epochs, up to the estimator's ``epochs``.
    hyperband_iterations : int, default=1
        Number of times that "hyperband" runs its whole schedule.
    n_jobs : int or None, default=None
        Number of fits in parallel; it does not change which candidates are tried.
    subset : float, ("first", float) or None, default=None
        Part of the rows, and of X_val, to search on: a stratified random share, or the first rows
        as they come. None is all. The final fit gets everything.
    refit : bool, default=True
        Whether to fit the winner on all rows.
    refit_params : dict or None, default=None
        Parameters of the final fit only, such as more epochs.
    error_score : float or "raise", default=nan
        Score of a fit that fails.
    random_state : int, RandomState or None, default=None
        Seed of the oracle and the subset; the estimator has its own.
    verbose : int, default=0
        1 shows progress and the time left.

    Attributes
    ----------
    best_params_ : dict
        The winner's parameters; for "hyperband" the best candidate of those with the most epochs,
        without the epochs.
    best_score_ : float
        Mean score of the winner.
    best_index_ : int
        Row of the winner in ``cv_results_``.
    best_estimator_ : estimator
        The winner, fitted on all rows; with ``refit``.
    cv_results_ : dict of str to ndarray
        As scikit-learn's, one row a trial, with the column "trial"; "hyperband" adds
        "n_resources", the epochs.
    curves_ : list of list of dict
        ``curves_[row][fold]["val_accuracy"]`` is a learning curve, one number an epoch.
    n_splits_ : int
        Number of folds.
    refit_time_ : float
        Seconds of the final fit.
    scorer_ : callable
        The scorer.

    Notes
    -----
    Searched parameters are set in every candidate and override the estimator's own; use
    `SearchSpace.fixed` to take a parameter out of a space and keep the estimator's value.

    The same seeds give the same trials, whatever ``n_jobs`` is. To resume a killed search, start
    it again with the same seeds and the estimator's ``memory``: finished fits are loaded.
    "hyperband" continues from a candidate's earlier fits under the same conditions as "halving" of
    `StagedSearchCV`, with the same results as from scratch.

    Examples
    --------
    >>> from kmedclf import MLPClassifier
    >>> from kmedclf.datasets import make_blood_cells
    >>> from kmedclf.search import Range, TunerSearchCV
    >>> X, y = make_blood_cells(200, random_state=0)  # synthetic
    >>> mlp = MLPClassifier(epochs=2, early_stopping=False, random_state=0)
    >>> space = {"units": Range(4, 8, "int"), "optimizer": ["sgd", "adam"]}
    >>> search = TunerSearchCV(mlp, space, max_trials=2, random_state=0).fit(X, y)
    >>> len(search.cv_results_["mean_test_score"])
    2
    """

    _parameter_constraints: ClassVar[dict] = {
        **CrossValidatedSearch._parameter_constraints,
        "tuner": [Words({"random", "bayesian", "hyperband", "grid"})],
        "max_trials": [Interval(Integral, 1, None, closed="left"), None],
        "factor": [Interval(Integral, 2, None, closed="left")],
        "hyperband_iterations": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        estimator: Any,
        space: SearchSpace | Any,
        *,
        tuner: str = "random",
        max_trials: int | None = None,
        cv: Any = None,
        scoring: str | Callable[..., float] | None = None,
        factor: int = 3,
        hyperband_iterations: int = 1,
        n_jobs: int | None = None,
        subset: float | tuple[str, float] | None = None,
        refit: bool = True,
        refit_params: dict[str, Any] | None = None,
        error_score: float | str = np.nan,
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
    ) -> None:
        self.estimator = estimator
        self.space = space
        self.tuner = tuner
        self.max_trials = max_trials
        self.cv = cv
        self.scoring = scoring
        self.factor = factor
        self.hyperband_iterations = hyperband_iterations
        self.n_jobs = n_jobs
        self.subset = subset
        self.refit = refit
        self.refit_params = refit_params
        self.error_score = error_score
        self.random_state = random_state
        self.verbose = verbose

    @property
    def _by_rungs(self) -> bool:
        return self.tuner == "hyperband"

    def _given(self) -> Any:
        return self.space

    def _prepare(self, n_splits: int) -> float | None:
        if self._by_rungs:
            check_resource(self.estimator, self._searched, f"tuner={self.tuner!r}")
            if self.max_trials is not None:
                raise ValueError(
                    f"The 'max_trials' parameter of {type(self).__name__} must be None for "
                    f"tuner='hyperband', whose schedule 'factor' and 'hyperband_iterations' set. "
                    f"Got {self.max_trials} instead."
                )
            rounds = hyperband_schedule(self._epochs, self.factor, self.hyperband_iterations)
            return n_splits * sum(n * epochs / self._epochs for n, epochs in rounds)
        if self.tuner == "grid":
            # Integer ranges become lists; other ranges have no grid and raise.
            self._stages = [Stage(stage.name, tuple(stage.grids())) for stage in self._stages]
            sizes = [len(ParameterGrid(stage.grids())) for stage in self._stages]
            return n_splits * min(int(np.prod(sizes)), self.max_trials or np.inf)
        return n_splits * (self.max_trials or 10)

    @property
    def _epochs(self) -> int:
        return epochs_of(self.estimator)

    def _oracle(self, folder: str) -> Oracle:
        seed = 1 + check_random_state(self.random_state).randint(2**31 - 2)
        if self._by_rungs:
            schedule = {"epochs": self._epochs, "factor": self.factor}
            schedule["iterations"] = self.hyperband_iterations
            return Oracle(self.tuner, self._stages, seed, folder, **schedule)
        most = self.max_trials or (None if self.tuner == "grid" else 10)
        return Oracle(self.tuner, self._stages, seed, folder, max_trials=most)

    def _run(self, evaluate: Evaluator, table: Table) -> tuple[int, dict[str, Any]]:
        banded = self._by_rungs
        resource = resource_of(self.estimator) if banded else ""
        most = self._epochs if banded else 1
        with tempfile.TemporaryDirectory() as folder:
            oracle = self._oracle(folder)
            while batch := oracle.ask():
                if banded or not table.params:
                    evaluate.progress.begin(self.tuner, self._searched)
                candidates = [trial.params for trial in batch]
                columns: dict[str, list[Any]] = {"trial": [trial.id for trial in batch]}
                if banded:
                    columns["n_resources"] = [trial.epochs for trial in batch]
                    candidates = [{**trial.params, resource: trial.epochs} for trial in batch]
                fits = evaluate(candidates, lambda one: one.get(resource, most) / most)
                table.add(candidates, fits, **columns)
                for row, trial in enumerate(batch, len(table.params) - len(batch)):
                    oracle.tell(trial, table.mean(row))
        epochs = table.more.get("n_resources", [most] * len(table.params))
        # Scores are comparable only among trials with the most epochs.
        best = table.best([row for row, one in enumerate(epochs) if one == max(epochs)])
        return best, {k: v for k, v in table.params[best].items() if k != resource}
