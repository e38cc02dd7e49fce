"""Members of an ensemble: fitting them, what they say out of fold, and how much they count."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.base import clone
from sklearn.utils import _safe_indexing
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import assert_all_finite, column_or_1d, has_fit_parameter

from kmedclf.array_likes import labels
from kmedclf.label_kinds import has_columns
from kmedclf.search.evaluation import cut
from kmedclf.validation import positions

ROUNDS = 100
"""Most members that `greedy_weights` adds, repeats counted."""

Split = tuple[Any, Any]


def check(ensemble: Any) -> list[tuple[str, Any]]:
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


def check_y(y: Any, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
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


def shares(ensemble: Any, weights: Any) -> np.ndarray:
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


def candidates(pairs: Sequence[tuple[str, Any]], n_seeds: int) -> list[tuple[str, Any]]:
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


def fit(
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
        More arguments of ``fit``; see `kmedclf.search.evaluation.cut`.
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
