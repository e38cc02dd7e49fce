"""Cross-validation of candidates: every fold of every candidate is one task, results are numbers.

scikit-learn's searches run the same fits, but hand out neither learning curves nor progress.
"""

from __future__ import annotations

import errno
import time
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from numbers import Integral
from typing import Any

import joblib
import numpy as np
from sklearn.base import clone
from sklearn.exceptions import FitFailedWarning
from sklearn.utils.metaestimators import _safe_split
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import _check_method_params

from kmedclf.search.objectives import Scorer, curves_of
from kmedclf.search.progress import SearchProgress
from kmedclf.search.tasks import Task, Tasks

HELD_OUT = ("X_val", "y_val", "sample_weight_val")
"""Fit parameters that stay whole, however long they are; in a pipeline, ``step__X_val``."""

_DISK = [getattr(errno, name, None) for name in ("ENOSPC", "EDQUOT", "EROFS", "EFBIG")]

Params = Mapping[str, Any]
Split = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Data:
    """What a search fits and scores on.

    Parameters
    ----------
    X, y : array-like of shape (n, ...)
        Rows and labels.
    splits : list of (train, test)
        Row numbers of every fold.
    fit_params, score_params : dict
        More arguments of ``fit`` and of the scorer; those of length n are cut with X.
    """

    X: Any
    y: Any
    splits: Sequence[Split]
    fit_params: Params
    score_params: Params


@dataclass(frozen=True)
class Fit:
    """One candidate on one fold.

    Parameters
    ----------
    score : float
        NaN if the fit failed.
    fit_time, score_time : float
        Seconds.
    curves : dict of str to ndarray of shape (epochs,)
        Learning curves.
    error : str
        Traceback of a failure.
    """

    score: float
    fit_time: float
    score_time: float
    curves: Mapping[str, np.ndarray]
    error: str = ""


def is_held_out(name: str) -> bool:
    """Say whether a fit parameter is validation data."""
    return name.rsplit("__", 1)[-1] in HELD_OUT


@dataclass
class Evaluator:
    """Cross-validates candidates, and remembers them all in order.

    Parameters
    ----------
    estimator : estimator
        Cloned for every fit.
    data : Data
        What to fit and score on.
    scorer : callable
        Maps ``(estimator, X, y)`` to a number.
    progress : SearchProgress
        Told of every fit.
    n_jobs : int or None
        Fits at the same time.
    error_score : float or "raise"
        Score of a fit that fails.
    tasks : Tasks, optional
        Tells scikit-learn's callbacks.
    """

    estimator: Any
    data: Data
    scorer: Scorer
    progress: SearchProgress
    n_jobs: int | None = None
    error_score: float | str = np.nan
    tasks: Tasks | None = None
    _known: dict[str, list[Fit]] = field(default_factory=dict)

    def __call__(
        self, candidates: Sequence[Params], work: Callable[[Params], float] = lambda _: 1.0
    ) -> list[list[Fit]]:
        """Fit and score every candidate on every fold.

        Parameters
        ----------
        candidates : sequence of dict
            Parameters to set.
        work : callable, optional
            Tells what a fit of a candidate counts for in the estimated time.

        Returns
        -------
        list of list of Fit
            One list a candidate, one entry a fold.
        """
        folds = len(self.data.splits)
        fits: list[list[Any]] = [self._recall(one, folds) for one in candidates]
        todo = [(i, k) for i in range(len(fits)) for k in range(folds) if fits[i][k] is None]
        part = self.progress.parts[-1]
        earlier, part.folds = part.candidates, folds  # a tuner asks for them bit by bit
        part.candidates += len(candidates)
        for i, row in enumerate(fits):
            if None not in row:
                self.progress.skip(folds * work(candidates[i]))
                part.take(earlier + i, candidates[i], [fit.score for fit in row])
        strict = self.error_score == "raise"
        jobs = joblib.effective_n_jobs(self.n_jobs)
        # Where there are many, all folds of a candidate go to one worker, which builds it once.
        batch = folds if jobs > 1 and len(todo) >= 2 * jobs * folds else 1
        parallel = Parallel(
            n_jobs=self.n_jobs,
            return_as="generator_unordered",
            batch_size=batch,
            pre_dispatch=2 * jobs * batch,
        )
        tasks = (
            delayed(_fit_and_score)(
                task,
                clone(self.estimator),
                candidates[task[0]],
                self.data,
                self.scorer,
                strict,
                self.tasks.one() if self.tasks else Task(),
            )
            for task in todo
        )
        for i, k, fit in parallel(tasks):
            fits[i][k] = replace(fit, score=float(self.error_score)) if fit.error else fit
            if None not in fits[i]:
                part.take(earlier + i, candidates[i], [one.score for one in fits[i]])
            self.progress.advance(work(candidates[i]), earlier + i + 1, k + 1)
        self._report_failures(fits)
        for one, row in zip(candidates, fits, strict=True):
            self._known[_key(one)] = row
        return fits

    def _recall(self, candidate: Params, folds: int) -> list[Any]:
        # With every seed fixed, a candidate that an earlier stage has met would only be repeated.
        known = self._known.get(_key(candidate)) if self._repeats else None
        return list(known) if known else [None] * folds

    @cached_property
    def _repeats(self) -> bool:
        params = self.estimator.get_params()
        seeds = [params[name] for name in params if name.split("__")[-1] == "random_state"]
        return all(isinstance(seed, Integral) for seed in seeds)

    def _report_failures(self, fits: list[list[Fit]]) -> None:
        errors = [fit.error for row in fits for fit in row if fit.error]
        total = sum(map(len, fits))
        if errors:
            first = errors[0].strip().splitlines()[-1]
            warnings.warn(
                f"{len(errors)} of {total} fits failed and score {self.error_score}, the first "
                f"with {first!r}.",
                FitFailedWarning,
                stacklevel=2,
            )


def _key(params: Params) -> str:
    return joblib.hash(sorted(params.items()))


def _fit_and_score(
    which: tuple[int, int],
    estimator: Any,
    params: Params,
    data: Data,
    scorer: Scorer,
    strict: bool,
    task: Task,
) -> tuple[int, int, Fit]:
    i, k = which
    train, test = data.splits[k]
    start = time.perf_counter()
    try:
        estimator.set_params(**clone(dict(params), safe=False))
        X_train, y_train = _safe_split(estimator, data.X, data.y, train)
        X_test, y_test = _safe_split(estimator, data.X, data.y, test, train)
        with task.around(estimator, X_train, y_train):
            estimator.fit(X_train, y_train, **cut(data.X, data.fit_params, train))
        fitted = time.perf_counter()
        score_params = _check_method_params(data.X, data.score_params, test)
        score = float(scorer(estimator, X_test, y_test, **score_params))
    except Exception as error:
        # of a full disk no candidate is the worse
        if strict or (isinstance(error, OSError) and error.errno and error.errno in _DISK):
            raise
        seconds = time.perf_counter() - start
        return i, k, Fit(np.nan, seconds, 0.0, {}, traceback.format_exc())
    curves = {name: np.array(values) for name, values in curves_of(estimator).items()}
    return i, k, Fit(score, fitted - start, time.perf_counter() - fitted, curves)


def cut(X: Any, fit_params: Params, rows: np.ndarray | None) -> dict[str, Any]:
    """Cut fit parameters to rows like X; validation data stay whole."""
    whole = {name: value for name, value in fit_params.items() if is_held_out(name)}
    rest = {name: value for name, value in fit_params.items() if name not in whole}
    return {**_check_method_params(X, rest, rows), **whole}
