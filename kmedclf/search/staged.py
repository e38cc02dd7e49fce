"""Staged search: search subsets of parameters in order, keeping the winners of earlier stages."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
from sklearn.model_selection import ParameterGrid, ParameterSampler
from sklearn.utils._param_validation import Interval

from kmedclf.inputs.checks import Params
from kmedclf.search.cross_validation import CrossValidatedSearch, Evaluator, Table
from kmedclf.search.spaces import Stage, check_resource, epochs_of, resource_of
from kmedclf.utils.annotated import Words


class StagedSearchCV(CrossValidatedSearch):
    """Search hyperparameters stage by stage, with cross-validation.

    Every stage searches its own parameters. The others keep the estimator's values or, once their
    stage is done, those of the winner. Four stages of ten candidates cost 40 candidates, while a
    full grid would cost 10,000. The price is that interactions across stages are missed.

    Parameters
    ----------
    estimator : estimator
        Estimator to search.
    stages : SearchSpace, str, path-like or list of dict
        What to search, in order: a space, its name or path, or one dict of candidates (or a list
        of alternative dicts) for each stage.
    cv : int, splitter, iterable or None, default=None
        Folds, as in scikit-learn; None is StratifiedKFold(3). Split once for the whole search.
    scoring : str, callable or None, default=None
        Score to maximise: the name of a scorer, "val_accuracy" or "val_loss" of the estimator's
        own validation data, a callable, or None for the estimator's ``score``.
    search : {"grid", "halving", "random"}, default="grid"
        How to search a stage: all candidates; all candidates with few epochs, then ever fewer
        with more epochs; or a random sample.
    n_iter : int, default=10
        For "random": number of candidates per stage.
    factor : int, default=2
        For "halving": each round keeps 1 / ``factor`` of the candidates for ``factor`` times the
        epochs. As rounds go on from earlier ones, 2 trained about as many epochs as
        scikit-learn's 3, and lost the best candidate less often (``benchmarks/whole_search.py``).
    min_resources : int, default=1
        For "halving": minimum number of epochs of the first round. It gets
        ``epochs // factor**(n_rounds - 1)`` if that is more, as the last round has all ``epochs``.
    n_jobs : int or None, default=None
        Number of fits in parallel.
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
        Seed of the subset and of "random"; the estimator has its own.
    verbose : int, default=0
        1 shows progress and the time left.

    Attributes
    ----------
    best_params_ : dict
        The winners of all stages.
    best_score_ : float
        Mean score of the last stage's winner.
    best_index_ : int
        Row of that winner in ``cv_results_``.
    best_estimator_ : estimator
        The winner, fitted on all rows; with ``refit``.
    cv_results_ : dict of str to ndarray
        As scikit-learn's, over all stages, with the column "stage"; "halving" adds "iter" and
        "n_resources". Ranks are over all rows.
    stage_results_ : list of dict
        For each stage "name", "parameters", "best_params" (its own), "best_score", "best_index"
        (in its own table) and "cv_results", its table.
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

    A candidate of an earlier stage is not fitted again if every ``random_state`` of the estimator
    is an integer. To resume a killed search, start it again with the same seeds and the
    estimator's ``memory``. With integer seeds, and without early stopping and ``lr_schedule``,
    "halving" continues from a candidate's earlier fits, with the same results as from scratch. They
    are in ``memory`` or, without it, in a temporary folder; the workers of a cluster need
    ``memory``.

    Examples
    --------
    >>> from kmedclf import MLPClassifier
    >>> from kmedclf.datasets import make_blood_cells
    >>> from kmedclf.search import StagedSearchCV
    >>> X, y = make_blood_cells(200, random_state=0)  # synthetic
    >>> mlp = MLPClassifier(epochs=2, early_stopping=False, random_state=0)
    >>> search = StagedSearchCV(mlp, [{"units": [4, 8]}, {"optimizer": ["sgd", "adam"]}])
    >>> sorted(search.fit(X, y).best_params_)
    ['optimizer', 'units']
    """

    _parameter_constraints: ClassVar[dict] = {
        **CrossValidatedSearch._parameter_constraints,
        "search": [Words({"grid", "halving", "random"})],
        "n_iter": [Interval(Integral, 1, None, closed="left")],
        "factor": [Interval(Integral, 2, None, closed="left")],
        "min_resources": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        estimator: Any,
        stages: Any,
        *,
        cv: Any = None,
        scoring: str | Callable[..., float] | None = None,
        search: str = "grid",
        n_iter: int = 10,
        factor: int = 2,
        min_resources: int = 1,
        n_jobs: int | None = None,
        subset: float | tuple[str, float] | None = None,
        refit: bool = True,
        refit_params: dict[str, Any] | None = None,
        error_score: float | str = np.nan,
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
    ) -> None:
        self.estimator = estimator
        self.stages = stages
        self.cv = cv
        self.scoring = scoring
        self.search = search
        self.n_iter = n_iter
        self.factor = factor
        self.min_resources = min_resources
        self.n_jobs = n_jobs
        self.subset = subset
        self.refit = refit
        self.refit_params = refit_params
        self.error_score = error_score
        self.random_state = random_state
        self.verbose = verbose

    @property
    def _by_rungs(self) -> bool:
        return self.search == "halving"

    def _given(self) -> Any:
        return self.stages

    def _prepare(self, n_splits: int) -> float:
        if self._by_rungs:
            check_resource(self.estimator, self._searched, f"search={self.search!r}")
        return n_splits * sum(self._work(stage) for stage in self._stages)

    def _run(self, evaluate: Evaluator, table: Table) -> tuple[int, dict[str, Any]]:
        known = self.estimator.get_params()
        # Parameters of steps that are themselves searched are not known yet.
        current = {name: known[name] for name in self._searched if name in known}
        self.stage_results_: list[dict[str, Any]] = []
        row, winners = 0, dict[str, Any]()
        for number, stage in enumerate(self._stages, 1):
            label = f"{number}/{len(self._stages)} {stage.name}"
            part = Table()
            runs = self._halving if self._by_rungs else self._all_at_once
            best = runs(label, stage, current, evaluate, part)
            row = len(table.params) + best
            winners |= {n: part.params[best][n] for n in stage.names if n in part.params[best]}
            current |= winners
            results = self._format(part)
            self.stage_results_.append(
                {
                    "name": stage.name,
                    "parameters": stage.names,
                    "best_params": {n: winners[n] for n in stage.names if n in winners},
                    "best_score": float(results["mean_test_score"][best]),
                    "best_index": best,
                    "cv_results": results,
                }
            )
            table.add(part.params, part.fits, stage=[stage.name] * len(part.params), **part.more)
        return row, winners

    def _candidates(self, stage: Stage) -> list[dict[str, Any]]:
        if self.search != "random":
            return list(ParameterGrid(stage.grids()))
        groups = stage.distributions()
        # ParameterSampler warns if a finite grid has fewer than n_iter candidates.
        finite = all(not hasattr(one, "rvs") for group in groups for one in group.values())
        n_iter = min(self.n_iter, len(ParameterGrid(groups))) if finite else self.n_iter
        return list(ParameterSampler(groups, n_iter, random_state=self.random_state))

    def _all_at_once(
        self, label: str, stage: Stage, current: Params, evaluate: Evaluator, table: Table
    ) -> int:
        candidates = [{**current, **one} for one in self._candidates(stage)]
        evaluate.progress.begin(label, stage.names)
        table.add(candidates, evaluate(candidates))
        return table.best(range(len(candidates)))

    def _halving(
        self, label: str, stage: Stage, current: Params, evaluate: Evaluator, table: Table
    ) -> int:
        candidates = [{**current, **one} for one in self._candidates(stage)]
        resource, most = self._resource()
        for number, epochs in enumerate(self._rungs(len(candidates))):
            start = len(table.params)
            candidates = [{**one, resource: epochs} for one in candidates]
            evaluate.progress.begin(f"{label}, epochs {epochs}", stage.names)
            fits = evaluate(candidates, lambda one: one[resource] / most)
            table.add(
                candidates,
                fits,
                iter=[number] * len(candidates),
                n_resources=[epochs] * len(candidates),
            )
            rows = range(start, len(table.params))
            # Round up, so that at least one candidate survives.
            keep = sorted(rows, key=table.rank, reverse=True)[: -(-len(rows) // self.factor)]
            # Keep the original order, which decides ties.
            candidates = [dict(table.params[row]) for row in sorted(keep)]
        return table.best(rows)

    def _rungs(self, n: int) -> list[int]:
        return rungs(n, self._resource()[1], self.factor, self.min_resources)

    def _work(self, stage: Stage) -> float:
        left = len(self._candidates(stage))
        if not self._by_rungs:
            return left
        # In units of a full training.
        work = 0.0
        for epochs in self._rungs(left):
            work += left * epochs / self._resource()[1]
            left = -(-left // self.factor)
        return work

    def _resource(self) -> tuple[str, int]:
        return resource_of(self.estimator), epochs_of(self.estimator)


def rungs(n: int, most: int, factor: int, least: int = 1) -> list[int]:
    """Return the epochs of every round of halving; the last one has all, as the final fit."""
    # The shorter rounds leave at least one candidate for the last one.
    shorter = 0
    while factor ** (shorter + 1) <= n:
        shorter += 1
    least = max(least, most // factor**shorter)
    epochs = [least * factor**number for number in range(shorter)]
    found = [number for number in epochs if number < most]
    # With few epochs in all, a round shortly before the end would save less than it costs.
    if len(found) > 1 and found[-1] * factor > most:
        found.pop()
    return [*found, most]
