"""Several classifiers as one: folds, seeds or architectures, averaged, equally or as chosen."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any, ClassVar, Self

import numpy as np
from scipy.sparse import issparse
from sklearn.base import ClassifierMixin, clone
from sklearn.model_selection import check_cv
from sklearn.pipeline import _name_estimators
from sklearn.utils import Tags, _safe_indexing, get_tags, indexable
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.metaestimators import _BaseComposition
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import (
    _check_sample_weight,
    assert_all_finite,
    check_is_fitted,
    column_or_1d,
    has_fit_parameter,
)

from kmedclf import persistence
from kmedclf.inputs.array_likes import labels
from kmedclf.inputs.checks import cut, positions
from kmedclf.inputs.label_kinds import check_y, has_columns, is_multilabel
from kmedclf.persistence.fitted_state import savable
from kmedclf.utils import annotated

ROUNDS = 100
"""Most members that `greedy_weights` adds, repeats counted."""

Split = tuple[Any, Any]


def check_members(ensemble: Any) -> list[tuple[str, Any]]:
    """Check that an ensemble's estimators are classifiers with names and probabilities."""
    pairs, owner = ensemble.estimators, type(ensemble).__name__
    wrong = [one for one in pairs if not isinstance(one, tuple) or len(one) != 2]
    if wrong or not pairs:
        raise ValueError(
            f"The 'estimators' parameter of {owner} must be a list of (name, estimator), at least "
            f"one. Got {f'a {type(wrong[0]).__name__} in it' if wrong else 'none'}."
        )
    for name, one in pairs:
        if isinstance(one, type) or not hasattr(one, "predict_proba"):
            kind = one if isinstance(one, type) else type(one).__name__
            raise ValueError(
                f"The 'estimators' parameter of {owner} must hold classifiers with predict_proba. "
                f"Got {kind} as {name!r} instead."
            )
    return list(pairs)


def check_labels(y: Any, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Check labels, and find the classes.

    Returns
    -------
    y : ndarray of shape (n,), or (n, k) of 0 and 1 where a row may have several labels
        Original labels.
    classes : ndarray of shape (k,)
        Sorted, or 0 to k - 1.
    true : ndarray of shape (n,) or (n, k)
        Labels as positions in ``classes``, or as they were.
    """
    if y is None:
        raise ValueError(f"{name} requires y to be passed, but the target y is None.")
    y = y.toarray() if issparse(y) else labels(y, f"y of {name}.fit")
    if not has_columns(y):
        y = column_or_1d(y, warn=True)
    assert_all_finite(y, input_name="y", estimator_name=name)
    check_classification_targets(y)
    classes = np.unique(y) if y.ndim == 1 else np.arange(y.shape[1])
    return y, classes, encode(y, classes, name)


def encode(y: Any, classes: np.ndarray, name: str) -> np.ndarray:
    """Turn labels (n,) into positions in ``classes``; columns of 0 and 1 stay as they are."""
    y = np.asarray(y)
    if has_columns(y):
        return y
    return positions(column_or_1d(y), classes, name)


def member_shares(ensemble: Any, weights: Any) -> np.ndarray:
    """Give every estimator of an ensemble its weight, where that is not to be chosen; (n,)."""
    n = len(ensemble.estimators)
    equal = weights is None or isinstance(weights, str)
    given = np.ones(n) if equal else np.asarray(weights, dtype=np.float64)
    if given.shape != (n,) or not np.isfinite(given).all() or min(given) < 0 or not any(given):
        raise ValueError(
            f"The 'weights' parameter of {type(ensemble).__name__} must hold {n} numbers of at "
            f"least 0, one an estimator, not all 0. Got {weights!r} instead."
        )
    return given / given.sum()


def seeded_members(pairs: Sequence[tuple[str, Any]], n_seeds: int) -> list[tuple[str, Any]]:
    """Repeat every estimator with the numbers that follow its ``random_state``, with new names."""
    found = []
    for (name, estimator), step in itertools.product(pairs, range(n_seeds)):
        one = clone(estimator)
        seeds = {
            key: int(value) + step
            for key, value in one.get_params().items()
            if key.split("__")[-1] == "random_state" and isinstance(value, Integral)
        }
        text = name if n_seeds == 1 else f"{name}, seed {step}"
        found.append((text, one.set_params(**seeds)))
    return found


def fit_member(
    estimator: Any, X: Any, y: np.ndarray, groups: Any, params: Mapping[str, Any], split: Split
) -> tuple[Any, np.ndarray | None]:
    """Fit one member, and let it classify the rows held out.

    Parameters
    ----------
    estimator : estimator
        Fitted in a copy.
    X, y : array-like of shape (n, ...)
        All rows.
    groups : array-like of shape (n,) or None
        For estimators whose ``fit`` takes them.
    params : mapping
        More arguments of ``fit``; see `kmedclf.inputs.checks.cut`.
    split : tuple of (train, test)
        Rows to fit on and rows held out; (None, None) are all rows and none.

    Returns
    -------
    estimator
        Fitted.
    proba : ndarray of shape (n_test, k), or None
        Probabilities of the rows held out.
    """
    train, test = split
    estimator = clone(estimator)
    if groups is not None and has_fit_parameter(estimator, "groups"):
        params = {**params, "groups": groups}
    if train is None:
        return estimator.fit(X, y, **params), None
    estimator.fit(_safe_indexing(X, train), y[train], **cut(X, params, train))
    return estimator, estimator.predict_proba(_safe_indexing(X, test))


def aligned(model: Any, proba: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Put a member's probabilities into the columns of all classes, of which it may lack some."""
    if isinstance(proba, list):  # of labels, as scikit-learn's forests give them
        return np.stack([one[:, 1] for one in proba], axis=1)
    if np.array_equal(model.classes_, classes):
        return proba
    whole = np.zeros((len(proba), len(classes)), proba.dtype)
    whole[:, np.searchsorted(classes, model.classes_)] = proba
    return whole


def out_of_fold(
    fitted: Sequence[Sequence[tuple[Any, Any]]],
    splits: Sequence[Split],
    classes: np.ndarray,
    n: int,
) -> np.ndarray:
    """Average what the models of each candidate say of rows they have not seen.

    Parameters
    ----------
    fitted : sequence of m sequences
        What `fit` gave for each candidate and split.
    splits : sequence of (train, test)
        The splits.
    classes : ndarray of shape (k,)
        All labels.
    n : int
        Number of rows.

    Returns
    -------
    ndarray of shape (m, n, k)
        NaN for rows that no split holds out.
    """
    found = np.zeros((len(fitted), n, len(classes)))
    times = np.zeros((n, 1))
    for k, (_, test) in enumerate(splits):
        times[test] += 1
        for total, row in zip(found, fitted, strict=True):
            total[test] += aligned(*row[k], classes)
    found[:, times[:, 0] == 0] = np.nan
    kinds = [proba.dtype for row in fitted for _, proba in row]
    return (found / np.maximum(times, 1)).astype(np.result_type(*kinds))


def greedy_weights(likelihood: np.ndarray, sample_weight: Any = None) -> np.ndarray:
    """Choose weights by adding, again and again, the candidate that helps the log loss most.

    Parameters
    ----------
    likelihood : array-like of shape (m, n)
        Probability that each of m candidates gave to the true class of each of n rows.
    sample_weight : array-like of shape (n,), optional
        Weights of the rows.

    Returns
    -------
    ndarray of shape (m,)
        Shares of up to `ROUNDS` additions, those after the best log loss undone; never worse than
        the best candidate alone.

    References
    ----------
    R. Caruana, A. Niculescu-Mizil, G. Crew, A. Ksikes, "Ensemble selection from libraries of
    models", ICML 2004: selection with replacement, here from an empty ensemble.
    """
    likelihood = np.asarray(likelihood, dtype=np.float64)
    count, total = np.zeros(len(likelihood)), np.zeros(likelihood.shape[1])
    best, chosen = np.inf, count
    for step in range(1, ROUNDS + 1):
        losses = log_losses((total + likelihood) / step, sample_weight)
        index = int(np.argmin(losses))
        count[index] += 1
        total = total + likelihood[index]
        if losses[index] < best:
            best, chosen = losses[index], count.copy()
    return chosen / chosen.sum()


def log_losses(likelihood: np.ndarray, sample_weight: Any) -> np.ndarray:
    """Compute the log loss of each candidate, (m, n) -> (m,)."""
    if sample_weight is not None:  # of rows that may have several labels each
        sample_weight = np.repeat(sample_weight, likelihood.shape[1] // len(sample_weight))
    cut_off = np.maximum(likelihood, np.finfo(np.float64).eps)  # as scikit-learn's log_loss
    return np.average(-np.log(cut_off), axis=1, weights=sample_weight)


def likelihoods(probas: Sequence[np.ndarray] | np.ndarray, true: np.ndarray) -> np.ndarray:
    """Pick the probabilities of the true classes, m times (n, k) -> (m, n).

    Of rows with several labels, ``true`` of shape (n, k), those of what each label is: (m, n k).
    """
    if true.ndim == 2:
        return np.stack([np.where(true > 0, proba, 1 - proba).ravel() for proba in probas])
    return np.stack([proba[np.arange(len(true)), true] for proba in probas])


@savable("ensemble")
class EnsembleClassifier(ClassifierMixin, _BaseComposition):
    """Average the probabilities of several classifiers: of architectures, seeds, or folds.

    Parameters
    ----------
    estimators : list of (str, estimator)
        Classifiers with ``predict_proba``, and their names; cloned, and fitted by ``fit``.
    weights : "greedy", array-like of shape (n_estimators,) or None, default=None
        Weights of the estimators in the mean. "greedy" chooses them by the log loss out of fold,
        for which it needs ``cv``; None weighs all alike.
    cv : int, splitter, iterable or None, default=None
        With folds, as in scikit-learn, every estimator is fitted on the training part of each, and
        all of these models are members; the parts held out give ``oof_proba_``. None fits every
        estimator once, on all rows.
    n_seeds : int, default=1
        How often every estimator is fitted: with its own ``random_state``, then with the numbers
        that follow it. None stays None, fresh every time.
    n_jobs : int or None, default=None
        Fits at the same time.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Labels, sorted.
    estimators_ : list of fitted estimators
        The members; those that "greedy" gave no weight are not kept.
    names_ : list of str
        What they are: "cnn", or with seeds and folds "cnn, seed 1, fold 0".
    weights_ : ndarray of shape (n_members,)
        Their weights, which sum to 1.
    oof_proba_ : ndarray of shape (n, n_classes)
        With ``cv``: mean probabilities by those members that have not seen the row; NaN for rows
        that no fold holds out.
    oof_log_loss_ : dict of str to float
        With ``cv``: log loss of every estimator, or of each of its seeds, out of fold.
    n_features_in_, feature_names_in_, image_shape_, skipped_ : int, ndarray, tuple and list
        Of the first member, if it has them.

    See Also
    --------
    sklearn.ensemble.VotingClassifier : Without folds, seeds, chosen weights and saving.

    Notes
    -----
    Members of one architecture share one compiled program. Early stopping inside a fold watches a
    part of its training rows, so that probabilities out of fold are of rows never seen. Weights
    chosen on them make the log loss of ``oof_proba_`` itself a little too good: report scores of
    images that were not in X.

    Examples
    --------
    >>> from kmedclf import EnsembleClassifier, MLPClassifier
    >>> from kmedclf.datasets import make_blood_cells
    >>> X, y = make_blood_cells(150, 12, random_state=0)  # synthetic
    >>> mlp = MLPClassifier(units=8, epochs=2, early_stopping=False, random_state=0)
    >>> folds = EnsembleClassifier([("mlp", mlp)], cv=3).fit(X, y)
    >>> folds.names_
    ['mlp, fold 0', 'mlp, fold 1', 'mlp, fold 2']
    >>> folds.oof_proba_.shape
    (150, 8)
    """

    _required_parameters: ClassVar[list[str]] = ["estimators"]
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "estimators": [list],
        "weights": [StrOptions({"greedy"}), "array-like", None],
        "cv": ["cv_object"],
        "n_seeds": [Interval(Integral, 1, None, closed="left")],
        "n_jobs": [Integral, None],
    }

    def __init__(
        self,
        estimators: Any,
        *,
        weights: Any = None,
        cv: Any = None,
        n_seeds: int = 1,
        n_jobs: int | None = None,
    ) -> None:
        self.estimators = estimators
        self.weights = weights
        self.cv = cv
        self.n_seeds = n_seeds
        self.n_jobs = n_jobs

    @classmethod
    def from_fitted(
        cls,
        estimators: Sequence[Any],
        *,
        weights: Any = None,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
    ) -> Self:
        """Make a fitted ensemble of fitted classifiers, without training anything.

        Parameters
        ----------
        estimators : sequence of estimators, or of (str, estimator)
            For instance ``cross_validate(cnn, X, y, return_estimator=True)["estimator"]``, or the
            ``best_estimator_`` of several searches.
        weights : "greedy", array-like of shape (n_estimators,) or None, default=None
            Weights; "greedy" chooses them by the log loss on ``X_val``.
        X_val, y_val : array-like, optional
            For "greedy": images and labels that none of the estimators was trained on.
        sample_weight_val : array-like, optional
            Their weights.

        Returns
        -------
        EnsembleClassifier
            Fitted. Its own ``fit`` trains clones of the estimators anew.
        """
        named = all(isinstance(one, tuple) for one in estimators)
        pairs = list(estimators) if named else _name_estimators(list(estimators))
        for _, estimator in pairs:
            check_is_fitted(estimator)
        whole = None if isinstance(weights, str) else weights
        self = cls([(name, clone(one)) for name, one in pairs], weights=whole)
        self._check(weights, greedy=X_val is not None and y_val is not None)
        kinds = {name: is_multilabel(one, X_val) for name, one in pairs}
        if len(set(kinds.values())) > 1:
            raise ValueError(
                f"The 'estimators' parameter of {cls.__name__}.from_fitted must hold classifiers "
                "that all have learnt one class, or all independent labels. Got "
                f"{', '.join(name for name, many in kinds.items() if many)} with labels among "
                "others."
            )
        several = any(kinds.values())
        if several:
            self.classes_ = np.arange(len(pairs[0][1].classes_))
        else:
            self.classes_ = np.unique(np.concatenate([one.classes_ for _, one in pairs]))
        share = member_shares(self, weights)
        if isinstance(weights, str):
            what = f"y_val of {cls.__name__}.from_fitted"
            check_y(y_val, self, multilabel=several, what=what)
            true = encode(y_val, self.classes_, cls.__name__)
            probas = [aligned(one, one.predict_proba(X_val), self.classes_) for _, one in pairs]
            share = greedy_weights(likelihoods(probas, true), sample_weight_val)
        found = [(*pair, weight) for pair, weight in zip(pairs, share, strict=True)]
        return self._keep(found, several)

    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, *, groups: Any = None, **params: Any
    ) -> Self:
        """Fit all members.

        Parameters
        ----------
        X : array-like of shape (n, ...)
            Images, in any form the estimators take.
        y : array-like of shape (n,), or (n, k) of 0 and 1
            Labels, as the estimators take them.
        sample_weight : array-like of shape (n,), optional
            Weights of the rows: in the fits, and in choosing weights.
        groups : array-like of shape (n,), optional
            Groups, such as patients, for ``cv``, and for those estimators that take them.
        **params : dict
            More arguments of the estimators' ``fit``. In folds, those of length n are cut with X;
            ``X_val``, ``y_val`` and ``sample_weight_val`` stay whole.

        Returns
        -------
        self
            The fitted ensemble.

        Raises
        ------
        ValueError
            If a parameter or the data are not as described here.
        """
        with annotated.plain_parameters(self, deep=False):
            return self._fit(X, y, sample_weight, groups, params)

    def _fit(self, X: Any, y: Any, sample_weight: Any, groups: Any, params: dict[str, Any]) -> Self:
        self._validate_params()
        self._check(self.weights, greedy=self.cv is not None)
        share = np.repeat(member_shares(self, self.weights), self.n_seeds) / self.n_seeds
        y, classes, true = check_labels(y, type(self).__name__)
        X, y = indexable(X, y)
        if sample_weight is not None:
            params["sample_weight"] = sample_weight = _check_sample_weight(sample_weight, X)
        splits: list[Any] = [(None, None)]
        if self.cv is not None:
            splits = list(check_cv(self.cv, y, classifier=True).split(X, y, groups))
        candidates = seeded_members(self.estimators, self.n_seeds)
        tasks = [(one, split) for _, one in candidates for split in splits]
        found = Parallel(n_jobs=self.n_jobs)(
            delayed(fit_member)(one, X, y, groups, params, split) for one, split in tasks
        )
        rows = [found[i : i + len(splits)] for i in range(0, len(found), len(splits))]
        more: dict[str, Any] = {}
        if self.cv is not None:
            outside = out_of_fold(rows, splits, classes, len(y))
            held = ~np.isnan(outside[0, :, 0])
            weight = None if sample_weight is None else sample_weight[held]
            likelihood = likelihoods(outside[:, held], true[held])
            if isinstance(self.weights, str):
                share = greedy_weights(likelihood, weight)
            losses = log_losses(likelihood, weight).tolist()
            more["oof_log_loss_"] = dict(zip(dict(candidates), losses, strict=True))
            more["oof_proba_"] = np.tensordot(share, outside, 1).astype(outside.dtype)
        for name in ("oof_log_loss_", "oof_proba_"):  # of an earlier fit
            self.__dict__.pop(name, None)
        self.__dict__.update(classes_=classes, **more)
        return self._keep(
            [
                (name if self.cv is None else f"{name}, fold {k}", model, weight / len(splits))
                for (name, _), row, weight in zip(candidates, rows, share, strict=True)
                for k, (model, _) in enumerate(row)
            ],
            y.ndim == 2,
        )

    def _check(self, weights: Any, *, greedy: bool) -> None:
        self._validate_names([name for name, _ in check_members(self)])
        if isinstance(weights, str) and not greedy:
            raise ValueError(
                f"The 'weights' parameter of {type(self).__name__} can be 'greedy' only with 'cv' "
                "in fit, or X_val and y_val in from_fitted. Got neither."
            )

    def _keep(self, found: list[tuple[str, Any, float]], several: bool) -> Self:
        found = [one for one in found if one[2] > 0]
        self.names_ = [name for name, _, _ in found]
        self.estimators_ = [model for _, model, _ in found]
        self.weights_ = np.array([weight for _, _, weight in found])
        self._several = several
        for name in ("n_features_in_", "feature_names_in_", "image_shape_", "skipped_"):
            if hasattr(self.estimators_[0], name):
                setattr(self, name, getattr(self.estimators_[0], name))
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Compute class probabilities: the weighted mean of the members'.

        Parameters
        ----------
        X : array-like
            Images of the kind and shape that fit got.

        Returns
        -------
        ndarray of shape (n, k)
            Probabilities, in the order of ``classes_``; rows sum to 1. float32 if the members'
            are, else float64.
        """
        check_is_fitted(self)
        found = [
            aligned(model, model.predict_proba(X), self.classes_) for model in self.estimators_
        ]
        return np.average(found, axis=0, weights=self.weights_).astype(np.result_type(*found))

    def predict(self, X: Any) -> np.ndarray:
        """Predict labels (n,): the most probable; of several labels those above 1/2, (n, k)."""
        proba = self.predict_proba(X)
        if self._several:
            return (proba > 0.5).astype(np.int64)
        return self.classes_[proba.argmax(axis=1)]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save all members to one file, without pickle; `kmedclf.load` reads it.

        Parameters
        ----------
        path : str or path-like
            Where to; by convention ``*.kmedclf``.

        Raises
        ------
        TypeError
            If a member is none of kmedclf's own.
        """
        check_is_fitted(self)
        persistence.save(self, path)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Give the parameters, with ``deep`` those of the estimators as name__parameter."""
        return self._get_params("estimators", deep=deep)

    def set_params(self, **params: Any) -> Self:
        """Set parameters, estimators by their names, and theirs as name__parameter."""
        return self._set_params("estimators", **params)

    def __sklearn_is_fitted__(self) -> bool:
        """Tell scikit-learn whether the ensemble is fitted."""
        return hasattr(self, "estimators_")

    def __sklearn_tags__(self) -> Tags:
        """Tell scikit-learn what the ensemble takes: what all estimators take."""
        tags = super().__sklearn_tags__()
        theirs = [get_tags(one).input_tags for _, one in self.estimators]
        tags.input_tags.three_d_array = all(one.three_d_array for one in theirs)
        return tags
