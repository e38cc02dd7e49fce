"""Base of the searches: scores, folds, fits, scikit-learn's table of results and its callbacks."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import time
import traceback
import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from numbers import Integral, Real
from pathlib import Path
from typing import Any, ClassVar, Self

import joblib
import numpy as np
from sklearn.base import clone, is_classifier
from sklearn.exceptions import FitFailedWarning
from sklearn.metrics import check_scoring, get_scorer_names
from sklearn.model_selection import check_cv
from sklearn.model_selection._search import BaseSearchCV
from sklearn.utils import _safe_indexing, check_random_state, indexable
from sklearn.utils._param_validation import Interval
from sklearn.utils.metaestimators import _safe_split
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import _check_method_params, has_fit_parameter

from kmedclf import recipes
from kmedclf.inputs.checks import Params, cut, is_held_out, unwrap
from kmedclf.search import cluster
from kmedclf.search.progress import SearchProgress
from kmedclf.search.spaces import is_network, network_of, stages_for
from kmedclf.utils import annotated
from kmedclf.utils.files import scratch
from kmedclf.utils.text import suggest

try:
    from sklearn.callback import with_callbacks
except ImportError:  # before 1.9 there is no `set_callbacks` either

    def with_callbacks(method: Callable[..., Any]) -> Callable[..., Any]:
        """Return a method as it is."""
        return method


Scorer = Callable[..., float]

_CURVES = {"val_accuracy": (1, "accuracy"), "val_loss": (-1, "neg_log_loss")}


@dataclass(frozen=True)
class CurveScorer:
    """Score a fitted estimator on its own validation set instead of new data.

    Reads the curve at the epoch of the estimator's weights. Losses are negated.
    """

    curve: str  # "val_accuracy" or "val_loss"

    def __call__(self, estimator: Any, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Read the estimator's score; the data are ignored."""
        fitted = network_of(estimator)
        stops = recipes.parameters(fitted)["early_stopping"]
        # Without restored weights, the estimator has those of the last epoch, index -1.
        kept = fitted.best_epoch_ if stops and fitted.restore_best else 0
        return _CURVES[self.curve][0] * fitted.history_[self.curve][kept - 1]


def _resolve_scoring(
    scoring: str | Scorer | None, estimator: Any, owner: str, *, held_out: bool = True
) -> Scorer:
    """Resolve the ``scoring`` parameter of a search, before the first fit.

    ``owner`` is the search's class name, for messages; ``held_out`` says whether fit gets X_val.
    """
    if isinstance(scoring, str) and scoring in _CURVES:
        network = network_of(estimator)
        if not hasattr(network, "early_stopping"):
            raise ValueError(
                f"The 'scoring' parameter of {owner} can be {scoring!r} only for estimators that "
                f"keep learning curves. Got a {type(network).__name__}."
            )
        if not (held_out or recipes.parameters(network)["early_stopping"]):
            raise ValueError(
                f"The 'scoring' parameter of {owner} can be {scoring!r} only with validation "
                "data. Got neither X_val nor early_stopping=True."
            )
        return CurveScorer(scoring)
    names = get_scorer_names()
    if isinstance(scoring, str) and scoring not in names:
        raise ValueError(
            f"The 'scoring' parameter of {owner} must be one of {', '.join(_CURVES)} or a name "
            "out of sklearn.metrics.get_scorer_names(). "
            f"Got {scoring!r} instead{suggest(scoring, [*_CURVES, *names])}"
        )
    if not (scoring is None or isinstance(scoring, str) or callable(scoring)):
        raise ValueError(
            f"The 'scoring' parameter of {owner} must be one scorer: a name, a callable or None. "
            f"Got {scoring!r} instead."
        )
    return check_scoring(estimator, scoring)


def _check_comparable(scorer: Scorer, searched: Iterable[str], owner: str) -> None:
    """Refuse to compare candidates by a loss that searched parameters rescale."""
    # In a pipeline, names have the prefix of their step.
    leaves = {name.rsplit("__", 1)[-1] for name in searched}
    rescaling = sorted(leaves & {"class_weight", "label_smoothing", "loss"})
    if scorer == CurveScorer("val_loss") and rescaling:
        raise ValueError(
            f"The 'scoring' parameter of {owner} must be comparable across candidates, such as "
            f"'neg_log_loss'. Got 'val_loss' while {', '.join(rescaling)} is searched, which "
            "rescales it."
        )


def _for_new_data(scorer: Scorer, estimator: Any) -> Scorer:
    """Return a scorer for new data that measures what the search maximised."""
    if isinstance(scorer, CurveScorer):
        return check_scoring(estimator, _CURVES[scorer.curve][1])
    return scorer


class Tasks:
    """Reports the fits of a search to scikit-learn's callbacks, if it has any.

    ``total`` is the number of fits, None if it is unknown beforehand.
    """

    def __init__(self, search: Any, X: Any, y: Any, total: int | None) -> None:
        self._search, self._given, self._number = search, {"X": X, "y": y}, 0
        self._root: Any = None
        self._fits: Any = None
        if getattr(search, "_skl_callbacks", None) or hasattr(search, "_parent_callback_ctx"):
            self._root = search._init_callback_context(max_subtasks=1 + bool(search.refit))
            self._root.call_on_fit_task_begin(estimator=search, **self._given)
            options = {"max_subtasks": total, "sequential_subtasks": False}
            self._fits = self._root.subcontext(task_name="search", **options)
            self._fits.call_on_fit_task_begin(estimator=search)

    def one(self) -> Task:
        """Announce one fit of one candidate, here or in another process."""
        if self._fits is None:
            return Task()
        self._number += 1
        name = "candidate-split-evaluation"
        return Task(self._search, self._fits.subcontext(name, task_id=self._number - 1))

    def end_search(self) -> None:
        """End the part that tries candidates."""
        if self._fits is not None:
            self._fits.call_on_fit_task_end(estimator=self._search)

    def refit(self) -> Task:
        """Announce the fit of the winner on all rows."""
        if self._root is None:
            return Task()
        return Task(self._search, self._root.subcontext("refit-with-best-params"))

    def end(self) -> None:
        """End the whole search."""
        if self._root is not None:
            self._root.call_on_fit_task_end(estimator=self._search, **self._given)


class Task:
    """One fit, as callbacks see it; does nothing without callbacks."""

    def __init__(self, search: Any = None, context: Any = None) -> None:
        self._search, self._context = search, context

    @contextmanager
    def around(self, estimator: Any, X: Any, y: Any) -> Iterator[None]:
        """Propagate callbacks to an estimator and call them before and after its fit."""
        if self._context is None:
            yield
            return
        given = {"estimator": self._search, "X": X, "y": y}
        with self._context.propagate_callback_context(estimator):
            self._context.call_on_fit_task_begin(**given)
            yield
        self._context.call_on_fit_task_end(**given)


RESENT = 3
"""How often a search sends its data again after all workers that had them were lost."""

_DISK = [getattr(errno, name, None) for name in ("ENOSPC", "EDQUOT", "EROFS", "EFBIG")]
Split = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Data:
    """Data that a search fits and scores on."""

    X: Any
    y: Any
    splits: Sequence[Split]  # row numbers (train, test) of every fold
    fit_params: Params  # arguments of fit; those of length n are indexed with X
    score_params: Params  # arguments of the scorer, likewise


@dataclass(frozen=True)
class Fit:
    """Result of one candidate on one fold."""

    score: float  # NaN if the fit failed
    fit_time: float  # seconds
    score_time: float
    curves: Mapping[str, np.ndarray]  # learning curves of shape (epochs,)
    error: str = ""  # traceback


@dataclass
class Evaluator:
    """Cross-validates candidates and remembers their results."""

    estimator: Any  # cloned for every fit
    data: Data
    scorer: Scorer
    progress: SearchProgress
    n_jobs: int | None = None
    error_score: float | str = np.nan  # score of a fit that fails, or "raise"
    tasks: Tasks | None = None
    _known: dict[str, list[Fit]] = field(default_factory=dict)
    _sent: Any = None  # the data, or what stands for them on a cluster

    def __call__(
        self, candidates: Sequence[Params], work: Callable[[Params], float] = lambda _: 1.0
    ) -> list[list[Fit]]:
        """Fit and score every candidate on every fold; one list per candidate.

        ``work`` returns the weight of one fit of a candidate in the estimated time.
        """
        folds = len(self.data.splits)
        fits: list[list[Any]] = [self._recall(one, folds) for one in candidates]
        todo = [(i, k) for i in range(len(fits)) for k in range(folds) if fits[i][k] is None]
        part = self.progress.parts[-1]
        earlier, part.folds = part.candidates, folds  # a tuner calls this repeatedly
        part.candidates += len(candidates)
        for i, row in enumerate(fits):
            if None not in row:
                self.progress.skip(folds * work(candidates[i]))
                part.take(earlier + i, candidates[i], [fit.score for fit in row])
        done = self._train(candidates, todo)
        for i, k, fit in done:
            fits[i][k] = replace(fit, score=float(self.error_score)) if fit.error else fit
            if None not in fits[i]:
                part.take(earlier + i, candidates[i], [one.score for one in fits[i]])
            self.progress.advance(work(candidates[i]), earlier + i + 1, k + 1)
        self._report_failures(fits)
        for one, row in zip(candidates, fits, strict=True):
            self._known[_key(one)] = row
        return fits

    def _train(
        self, candidates: Sequence[Params], todo: list[tuple[int, int]]
    ) -> Iterator[tuple[int, int, Fit]]:
        """Fit candidates on folds, by their numbers, in any order; again where a cluster failed."""
        left = list(todo)
        for attempt in range(RESENT + 1):
            try:
                for i, k, fit in self._fits(candidates, left.copy()):
                    left.remove((i, k))
                    yield i, k, fit
                return
            except Exception as error:
                if attempt == RESENT or not cluster.is_lost(error):
                    raise
                self._sent = None

    def _fits(
        self, candidates: Sequence[Params], todo: list[tuple[int, int]]
    ) -> Iterator[tuple[int, int, Fit]]:
        folds = len(self.data.splits)
        strict = self.error_score == "raise"
        jobs = joblib.effective_n_jobs(self.n_jobs)
        # With many candidates, one worker gets all folds of each, so that it compiles once.
        batch = folds if jobs > 1 and len(todo) >= 2 * jobs * folds else 1
        parallel = Parallel(
            n_jobs=self.n_jobs,
            return_as="generator_unordered",
            batch_size=batch,
            pre_dispatch=2 * jobs * batch,
        )
        if self._sent is None:
            # Once for all calls, and not with each of its fits.
            self._sent = cluster.sent(
                {one.name: getattr(self.data, one.name) for one in fields(Data)}
            )
        tasks = (
            delayed(_fit_and_score)(
                task,
                clone(self.estimator),
                candidates[task[0]],
                self._sent,
                self.scorer,
                strict,
                self.tasks.one() if self.tasks else Task(),
            )
            for task in todo
        )
        yield from parallel(tasks)

    def _recall(self, candidate: Params, folds: int) -> list[Any]:
        # If every seed is fixed, fitting a candidate of an earlier stage again changes nothing.
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
    given: dict[str, Any],
    scorer: Scorer,
    strict: bool,
    task: Task,
) -> tuple[int, int, Fit]:
    i, k = which
    data = Data(**given)
    train, test = data.splits[k]
    start = time.perf_counter()
    try:
        # Clone candidates such as optimizers, so that fits do not share state.
        estimator.set_params(**clone(dict(params), safe=False))
        X_train, y_train = _safe_split(estimator, data.X, data.y, train)
        X_test, y_test = _safe_split(estimator, data.X, data.y, test, train)
        with task.around(estimator, X_train, y_train):
            estimator.fit(X_train, y_train, **cut(data.X, data.fit_params, train))
        fitted = time.perf_counter()
        score_params = _check_method_params(data.X, data.score_params, test)
        score = float(scorer(estimator, X_test, y_test, **score_params))
    except Exception as error:
        # A full disk is not the candidate's fault.
        if strict or (isinstance(error, OSError) and error.errno and error.errno in _DISK):
            raise
        seconds = time.perf_counter() - start
        return i, k, Fit(np.nan, seconds, 0.0, {}, traceback.format_exc())
    learnt = getattr(network_of(estimator), "history_", None) or {}
    curves = {name: np.array(values) for name, values in learnt.items()}
    return i, k, Fit(score, fitted - start, time.perf_counter() - fitted, curves)


MOST_TEMPORARY = 2 * 2**30
"""Most bytes of fits in a temporary folder, which may be memory; what lacks is trained again."""


@contextmanager
def _on_rungs(estimator: Any) -> Iterator[Any]:
    """Prepare an estimator for fits of more and more epochs; each continues the one before.

    The results are those from scratch; see `kmedclf.persistence.memory`. An estimator without
    ``memory`` gets a temporary folder, where fits can be continued at all.
    """
    network = network_of(estimator)
    with ExitStack() as stack:
        if is_network(network):
            if network.memory is None and _continues(network):
                temporary = stack.enter_context(scratch(Path(tempfile.gettempdir()), "rungs"))
                room = min(MOST_TEMPORARY, shutil.disk_usage(temporary).free // 2)
                network.set_params(memory=os.fspath(temporary), memory_limit=max(1, room))
            if network.memory is not None:
                network.set_params(warm_start=True)
        yield estimator


def _continues(network: Any) -> bool:
    """Whether a longer fit begins with the epochs of a shorter one, on a disk that is shared."""
    chosen = recipes.parameters(network)
    plain = not chosen["early_stopping"] and chosen["lr_schedule"] is None
    own = isinstance(network.random_state, Integral) and network.checkpoint is None
    # Workers of a cluster may have another disk, and processes that train together no memory.
    return plain and own and network.strategy is None and not cluster.in_use()


@dataclass
class Table:
    """Candidates and their fits, in the order they were tried."""

    params: list[Params] = field(default_factory=list)
    fits: list[list[Fit]] = field(default_factory=list)  # by candidate, then by fold
    more: dict[str, list[Any]] = field(default_factory=dict)  # additional columns

    def add(self, params: Sequence[Params], fits: list[list[Fit]], **more: list[Any]) -> None:
        """Append candidates; every call must pass the same columns."""
        self.params += params
        self.fits += fits
        for name, column in more.items():
            self.more.setdefault(name, []).extend(column)

    def mean(self, row: int) -> float:
        """Average a candidate's scores; NaN if a fold failed."""
        return float(np.mean([fit.score for fit in self.fits[row]]))

    def best(self, rows: Sequence[int]) -> int:
        """Return the best of some rows, the first in case of a tie; raise if every fit failed."""
        errors = [fit.error for row in rows for fit in self.fits[row]]
        if all(errors):
            raise ValueError(f"All {len(errors)} fits failed, the first with:\n{errors[0]}")
        return max(rows, key=self.rank)

    def rank(self, row: int) -> float:
        """Return the mean score to sort candidates by, -inf for failures."""
        return np.nan_to_num(self.mean(row), nan=-np.inf, neginf=-np.inf)


class CrossValidatedSearch(BaseSearchCV):
    """Base of the searches: a scikit-learn search that also returns learning curves.

    A subclass implements ``_prepare``, which checks its parameters and counts the work, and
    ``_run``, which tries candidates and returns the winner.
    """

    _parameter_constraints: ClassVar[dict] = {
        "estimator": BaseSearchCV._parameter_constraints["estimator"],
        "cv": ["cv_object"],
        "n_jobs": [Integral, None],
        "subset": [Interval(Real, 0, 1, closed="right"), tuple, list, None],
        "refit": ["boolean"],
        "refit_params": [dict, None],
        "error_score": BaseSearchCV._parameter_constraints["error_score"],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }
    return_train_score = False  # read by scikit-learn; training curves are in curves_

    # Set by the constructors of the subclasses.
    subset: Any
    refit_params: dict[str, Any] | None
    random_state: Any

    @property
    @abstractmethod
    def _by_rungs(self) -> bool:
        """Whether candidates are fitted repeatedly, with more epochs each time."""

    @abstractmethod
    def _given(self) -> Any:
        """Return the space as the user passed it."""

    @abstractmethod
    def _prepare(self, n_splits: int) -> float | None:
        """Check the subclass' parameters; return the number of fits, None if unknown."""

    @abstractmethod
    def _run(self, evaluate: Evaluator, table: Table) -> tuple[int, dict[str, Any]]:
        """Fill the table; return the winner's row and its parameters."""

    @with_callbacks
    def fit(self, X: Any, y: Any, **params: Any) -> Self:
        """Search, then fit the winner on all rows.

        Parameters
        ----------
        X : array-like of shape (n, ...)
            Images, in any form the estimator takes.
        y : array-like of shape (n,)
            Labels.
        **params : dict
            Other arguments of the estimator's ``fit``. Those of length n are indexed with X, but
            ``X_val``, ``y_val`` and ``sample_weight_val`` stay whole, so that early stopping uses
            the same images in every fold. ``groups`` go to ``cv`` and, if it takes them, to the
            estimator.

        Returns
        -------
        self
            The fitted search.

        Raises
        ------
        ValueError
            Before the first fit, if a parameter, the space, the scorer or the data are invalid.
        """
        with annotated.plain_parameters(self, deep=False):
            return self._fit(X, y, params)

    def _fit(self, X: Any, y: Any, params: dict[str, Any]) -> Self:
        annotated.check_parameters(self)
        X, y = indexable(X, y)
        whole, split_params = self._route(X, y, params)
        self.scorer_, _ = self._get_scorers(held_out=any(map(is_held_out, whole.fit_params)))
        # Search on the subset, but refit on the whole data.
        part = self._part(whole, split_params)
        self.n_splits_ = len(part.splits)
        self._stages = stages_for(self.estimator, self._given(), type(self).__name__)
        _check_comparable(self.scorer_, self._searched, type(self).__name__)
        total = self._prepare(self.n_splits_)
        table = Table()
        # Halving and Hyperband refit the survivors, so their fits cannot be counted beforehand.
        known = None if self._by_rungs or total is None else int(total)
        tasks = Tasks(self, X, y, known)
        prepared = (_on_rungs if self._by_rungs else nullcontext)(clone(self.estimator))
        name = type(self).__name__
        with SearchProgress(name, total, int(self.verbose)) as progress, prepared as estimator:
            evaluate = Evaluator(
                estimator, part, self.scorer_, progress, self.n_jobs, self.error_score, tasks
            )
            self.best_index_, self.best_params_ = self._run(evaluate, table)
        tasks.end_search()
        del self._stages
        self.multimetric_ = False
        self.cv_results_ = self._format(table)
        self.best_score_ = float(self.cv_results_["mean_test_score"][self.best_index_])
        self.curves_ = [[dict(fit.curves) for fit in fits] for fits in table.fits]
        # A curve scorer ignores its data; `score` of the fitted search must not.
        self.scorer_ = _for_new_data(self.scorer_, self.estimator)
        if self.refit:
            self._refit(whole, tasks.refit())
        tasks.end()
        return self

    @property
    def _searched(self) -> list[str]:
        return list(dict.fromkeys(name for stage in self._stages for name in stage.names))

    def _get_scorers(self, held_out: bool = True) -> tuple[Scorer, str]:
        owner = type(self).__name__
        scorer = _resolve_scoring(self.scoring, self.estimator, owner, held_out=held_out)
        return scorer, "score"

    def _route(self, X: Any, y: Any, params: dict[str, Any]) -> tuple[Data, Params]:
        """Split the arguments of fit into those of estimator, scorer and splitter."""
        routed = self._get_routed_params_for_fit(cut(X, params, None))
        fit_params = dict(routed.estimator.fit)
        groups = routed.splitter.split.get("groups")
        # The estimator needs groups as well, to split off its own validation set.
        if groups is not None and has_fit_parameter(self.estimator, "groups"):
            fit_params["groups"] = groups
        return Data(X, y, [], fit_params, routed.scorer.score), routed.splitter.split

    def _part(self, whole: Data, split_params: Params) -> Data:
        """Take the subset of the data to search on, and split it into folds."""
        X, y, fit_params, score_params = whole.X, whole.y, whole.fit_params, whole.score_params
        rows = self._rows(y)
        if rows is not None:
            fit_params = self._part_of_held_out(cut(X, fit_params, rows))
            score_params = cut(X, score_params, rows)
            split_params = cut(X, split_params, rows)
            X, y = _safe_indexing(X, rows), _safe_indexing(y, rows)
        cv = 3 if self.cv is None else self.cv
        cv = check_cv(cv, y, classifier=is_classifier(self.estimator))
        # Split once, so that even a random splitter gives all candidates the same folds.
        return Data(X, y, list(cv.split(X, y, **split_params)), fit_params, score_params)

    def _part_of_held_out(self, fit_params: Params) -> dict[str, Any]:
        """Subsample the validation set by the same rule as the rows."""
        found = {name: unwrap(value) for name, value in fit_params.items() if is_held_out(name)}
        for name in [name for name in found if name.endswith("y_val")]:
            prefix = name.removesuffix("y_val")
            rows = self._rows(found[name])
            for one in ("X_val", "sample_weight_val", "y_val"):
                if found.get(prefix + one) is not None:
                    found[prefix + one] = _safe_indexing(found[prefix + one], rows)
        return {**fit_params, **found}

    def _rows(self, y: Any) -> Any:
        """Return the rows to search on: None for all, a slice for the first ones."""
        subset = self.subset
        first = isinstance(subset, tuple | list)
        if first:
            shaped = len(subset) == 2 and subset[0] == "first" and isinstance(subset[1], Real)
            if not shaped or not 0 < subset[1] <= 1:
                raise ValueError(
                    f"The 'subset' parameter of {type(self).__name__} must be a fraction, "
                    f"('first', fraction) or None. Got {subset!r} instead."
                )
            return slice(0, max(1, int(subset[1] * len(y))))
        if subset is None or subset == 1:
            return None
        # Stratify, but keep at least one row of each class: validation sets may be small.
        codes = np.zeros(len(y), int)
        if is_classifier(self.estimator):
            codes = np.unique(np.asarray(y), return_inverse=True)[1]
        # A random order; the first rows of each class in it are the sample.
        order = check_random_state(self.random_state).permutation(len(y))
        members = [order[codes[order] == code] for code in range(codes.max() + 1)]
        return np.sort(np.hstack([of[: max(1, round(subset * len(of)))] for of in members]))

    def _format(self, table: Table) -> dict[str, Any]:
        """Build scikit-learn's table of results."""
        out = [
            {"test_scores": fit.score, "fit_time": fit.fit_time, "score_time": fit.score_time}
            for fits in table.fits
            for fit in fits
        ]
        # _report_failures has already warned.
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "One or more of the test scores are non-finite")
            return self._format_results(table.params, self.n_splits_, out, table.more)

    def _refit(self, whole: Data, task: Task) -> None:
        best = clone(self.estimator).set_params(**clone(self.best_params_, safe=False))
        best.set_params(**(self.refit_params or {}))
        start = time.perf_counter()
        with task.around(best, whole.X, whole.y):
            best.fit(whole.X, whole.y, **whole.fit_params)
        self.refit_time_ = time.perf_counter() - start
        self.best_estimator_ = best
        if hasattr(best, "feature_names_in_"):
            self.feature_names_in_ = best.feature_names_in_
