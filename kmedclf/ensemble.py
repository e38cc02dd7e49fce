"""Several classifiers as one: folds, seeds or architectures, averaged, equally or as chosen."""

from __future__ import annotations

import os
from collections.abc import Sequence
from numbers import Integral
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import ClassifierMixin, clone
from sklearn.model_selection import check_cv
from sklearn.pipeline import _name_estimators
from sklearn.utils import Tags, get_tags, indexable
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.metaestimators import _BaseComposition
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import _check_sample_weight, check_is_fitted

from kmedclf import annotated, members, persistence
from kmedclf.label_kinds import check_y, is_multilabel


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
        share = members.shares(self, weights)
        if isinstance(weights, str):
            what = f"y_val of {cls.__name__}.from_fitted"
            check_y(y_val, self, multilabel=several, what=what)
            true = members.encode(y_val, self.classes_, cls.__name__)
            probas = [
                members.aligned(one, one.predict_proba(X_val), self.classes_) for _, one in pairs
            ]
            share = members.greedy_weights(members.likelihoods(probas, true), sample_weight_val)
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
        share = np.repeat(members.shares(self, self.weights), self.n_seeds) / self.n_seeds
        y, classes, true = members.check_y(y, type(self).__name__)
        X, y = indexable(X, y)
        if sample_weight is not None:
            params["sample_weight"] = sample_weight = _check_sample_weight(sample_weight, X)
        splits: list[Any] = [(None, None)]
        if self.cv is not None:
            splits = list(check_cv(self.cv, y, classifier=True).split(X, y, groups))
        candidates = members.candidates(self.estimators, self.n_seeds)
        tasks = [(one, split) for _, one in candidates for split in splits]
        found = Parallel(n_jobs=self.n_jobs)(
            delayed(members.fit)(one, X, y, groups, params, split) for one, split in tasks
        )
        rows = [found[i : i + len(splits)] for i in range(0, len(found), len(splits))]
        more: dict[str, Any] = {}
        if self.cv is not None:
            outside = members.out_of_fold(rows, splits, classes, len(y))
            held = ~np.isnan(outside[0, :, 0])
            weight = None if sample_weight is None else sample_weight[held]
            likelihood = members.likelihoods(outside[:, held], true[held])
            if isinstance(self.weights, str):
                share = members.greedy_weights(likelihood, weight)
            losses = members.log_losses(likelihood, weight).tolist()
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
        self._validate_names([name for name, _ in members.check(self)])
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
            members.aligned(model, model.predict_proba(X), self.classes_)
            for model in self.estimators_
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
