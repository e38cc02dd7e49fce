"""Ensembles of classifiers: average over folds, seeds or architectures, optionally weighted."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from scipy.sparse import issparse
from sklearn.base import ClassifierMixin, clone
from sklearn.model_selection import check_cv
from sklearn.pipeline import _name_estimators
from sklearn.utils import Tags, _safe_indexing, get_tags, indexable
from sklearn.utils._param_validation import Interval
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

from kmedclf.export import ExportMixin
from kmedclf.inputs.array_likes import labels
from kmedclf.inputs.checks import cut, positions
from kmedclf.inputs.label_kinds import check_y, has_columns, is_multilabel
from kmedclf.persistence import SaveMixin
from kmedclf.persistence.fitted_state import savable
from kmedclf.utils import annotated

if TYPE_CHECKING:
    from kmedclf.export.graph import Graph

ROUNDS = 100
"""Maximum number of members that `greedy_weights` adds, with repeats."""

Split = tuple[Any, Any]


def check_members(ensemble: Any) -> list[tuple[str, Any]]:
    """Check that an ensemble's estimators are named classifiers with predict_proba."""
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
    """Check labels; return y, the sorted classes, and y encoded as positions in them.

    Multilabel y of shape (n, k) is returned as it is; its classes are 0 to k - 1.
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
    """Encode labels (n,) as positions in ``classes``; multilabel y is returned as it is."""
    y = np.asarray(y)
    if has_columns(y):
        return y
    return positions(column_or_1d(y), classes, name)


def member_shares(ensemble: Any, weights: Any) -> np.ndarray:
    """Return the normalised weights (n,) of an ensemble's estimators, equal for "greedy"."""
    n = len(ensemble.estimators)
    equal = weights is None or isinstance(weights, str)
    given = np.ones(n) if equal else np.asarray(weights, dtype=np.float64)
    if given.shape != (n,) or not np.isfinite(given).all() or min(given) < 0 or not any(given):
        raise ValueError(
            f"The 'weights' parameter of {type(ensemble).__name__} must hold {n} numbers of at "
            f"least 0, one per estimator, not all 0. Got {weights!r} instead."
        )
    return given / given.sum()


def seeded_members(pairs: Sequence[tuple[str, Any]], n_seeds: int) -> list[tuple[str, Any]]:
    """Clone every estimator ``n_seeds`` times, with consecutive random seeds and new names."""
    members = []
    for (name, estimator), step in itertools.product(pairs, range(n_seeds)):
        one = clone(estimator)
        seeds = {
            key: int(value) + step
            for key, value in one.get_params().items()
            if key.split("__")[-1] == "random_state" and isinstance(value, Integral)
        }
        text = name if n_seeds == 1 else f"{name}, seed {step}"
        members.append((text, one.set_params(**seeds)))
    return members


def fit_member(
    estimator: Any, X: Any, y: np.ndarray, groups: Any, params: Mapping[str, Any], split: Split
) -> tuple[Any, np.ndarray | None]:
    """Fit a clone on the training rows; return it and its probabilities on the test rows.

    ``split`` is (train, test), or (None, None) to fit on all rows and predict none.
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
    """Reorder a member's probabilities to all classes; classes it has not seen get 0."""
    # scikit-learn's multilabel forests return one array per label.
    if isinstance(proba, list):
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
    """Average the out-of-fold probabilities of m candidates: (m, n, k).

    Rows that no split tests are NaN. ``fitted`` holds what `fit_member` returned, by candidate
    and split.
    """
    found = np.zeros((len(fitted), n, len(classes)))
    times = np.zeros((n, 1))
    # Repeated splits may test a row several times.
    for k, (_, test) in enumerate(splits):
        times[test] += 1
        for total, row in zip(found, fitted, strict=True):
            total[test] += aligned(*row[k], classes)
    found[:, times[:, 0] == 0] = np.nan
    kinds = [proba.dtype for row in fitted for _, proba in row]
    return (found / np.maximum(times, 1)).astype(np.result_type(*kinds))


def greedy_weights(likelihood: np.ndarray, sample_weight: Any = None) -> np.ndarray:
    """Choose weights by greedy forward selection on the log loss: (m, n) -> (m,).

    ``likelihood`` holds the probability that each of m candidates gave to the true class of each
    of n rows. Additions after the best log loss are undone, so that the result is never worse
    than the best candidate.

    References
    ----------
    R. Caruana, A. Niculescu-Mizil, G. Crew, A. Ksikes, "Ensemble selection from libraries of
    models", ICML 2004: selection with replacement, here from an empty ensemble.
    """
    likelihood = np.asarray(likelihood, dtype=np.float64)
    # Adding with replacement turns counts into weights; the mean is updated incrementally.
    count, total = np.zeros(len(likelihood)), np.zeros(likelihood.shape[1])
    best, chosen = np.inf, count
    for step in range(1, ROUNDS + 1):
        losses = log_losses((total + likelihood) / step, sample_weight)
        index = int(np.argmin(losses))
        count[index] += 1
        total = total + likelihood[index]
        # Later additions may be worse: remember the best prefix.
        if losses[index] < best:
            best, chosen = losses[index], count.copy()
    return chosen / chosen.sum()


def log_losses(likelihood: np.ndarray, sample_weight: Any) -> np.ndarray:
    """Compute the log loss of each candidate, (m, n) -> (m,)."""
    # Multilabel likelihoods have k columns for each row.
    if sample_weight is not None:
        sample_weight = np.repeat(sample_weight, likelihood.shape[1] // len(sample_weight))
    # Clip as scikit-learn's log_loss does.
    cut_off = np.maximum(likelihood, np.finfo(np.float64).eps)
    return np.average(-np.log(cut_off), axis=1, weights=sample_weight)


def likelihoods(probas: Sequence[np.ndarray] | np.ndarray, true: np.ndarray) -> np.ndarray:
    """Select the probabilities of the true classes, m times (n, k) -> (m, n).

    Multilabel targets (n, k) give the probability of each true 0 or 1: (m, n k).
    """
    if true.ndim == 2:
        return np.stack([np.where(true > 0, proba, 1 - proba).ravel() for proba in probas])
    return np.stack([proba[np.arange(len(true)), true] for proba in probas])


def take_over_input(estimator: Any, member: Any) -> None:
    """Give an estimator the attributes that say what X its member was fitted on."""
    for name in ("n_features_in_", "feature_names_in_", "image_shape_", "skipped_"):
        if hasattr(member, name):
            setattr(estimator, name, getattr(member, name))


@savable("ensemble")
class EnsembleClassifier(ClassifierMixin, ExportMixin, SaveMixin, _BaseComposition):
    """Average the probabilities of several classifiers: of architectures, seeds, or folds.

    Parameters
    ----------
    estimators : list of (str, estimator)
        Classifiers with ``predict_proba``, and their names; cloned, and fitted by ``fit``.
    weights : "greedy", array-like of shape (n_estimators,) or None, default=None
        Weights of the estimators in the mean. "greedy" chooses them by the out-of-fold log loss
        and needs ``cv``; None weights all equally.
    cv : int, splitter, iterable or None, default=None
        Folds, as in scikit-learn. Every estimator is fitted on the training part of each fold, and
        all of these models are members; the test parts give ``oof_proba_``. None fits every
        estimator once, on all rows.
    n_seeds : int, default=1
        How often every estimator is fitted: with its own ``random_state``, then with the
        following integers. A ``random_state`` of None stays None, so each fit differs.
    n_jobs : int or None, default=None
        Number of fits in parallel.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Labels, sorted.
    estimators_ : list of fitted estimators
        The members; members with weight 0 are dropped.
    names_ : list of str
        Names of the members: "cnn", or with seeds and folds "cnn, seed 1, fold 0".
    weights_ : ndarray of shape (n_members,)
        Weights of the members; they sum to 1.
    oof_proba_ : ndarray of shape (n, n_classes)
        With ``cv``: mean probabilities over the members that were not trained on the row; NaN for
        rows in no test fold.
    oof_log_loss_ : dict of str to float
        With ``cv``: out-of-fold log loss of every estimator, or of each of its seeds.
    n_features_in_, feature_names_in_, image_shape_, skipped_ : int, ndarray, tuple and list
        Attributes of the first member, if it has them.

    See Also
    --------
    sklearn.ensemble.VotingClassifier : Without folds, seeds, chosen weights and saving.

    Notes
    -----
    Members of the same architecture share one compiled network. Early stopping inside a fold
    validates on a part of the training rows, so the test rows of the fold remain unseen. With
    "greedy", the log loss of ``oof_proba_`` is slightly optimistic, because the weights were
    chosen on it: report scores on images that were not in X.

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
        "weights": [annotated.Words({"greedy"}), "array-like", None],
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
        """Build a fitted ensemble from fitted classifiers, without training.

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
            Weights of these images.

        Returns
        -------
        EnsembleClassifier
            A fitted ensemble. Its own ``fit`` trains clones of the estimators from scratch.
        """
        named = all(isinstance(one, tuple) for one in estimators)
        pairs = list(estimators) if named else _name_estimators(list(estimators))
        for _, estimator in pairs:
            check_is_fitted(estimator)
        # "greedy" would need cv in the ensemble's own fit.
        whole = None if isinstance(weights, str) else weights
        self = cls([(name, clone(one)) for name, one in pairs], weights=whole)
        self._check(weights, greedy=X_val is not None and y_val is not None)
        kinds = {name: is_multilabel(one, X_val) for name, one in pairs}
        if len(set(kinds.values())) > 1:
            raise ValueError(
                f"The 'estimators' parameter of {cls.__name__}.from_fitted must hold classifiers "
                "that are all multiclass or all multilabel. Got multilabel "
                f"{', '.join(name for name, many in kinds.items() if many)} among others."
            )
        multilabel = any(kinds.values())
        if multilabel:
            self.classes_ = np.arange(len(pairs[0][1].classes_))
        else:
            self.classes_ = np.unique(np.concatenate([one.classes_ for _, one in pairs]))
        share = member_shares(self, weights)
        if isinstance(weights, str):
            what = f"y_val of {cls.__name__}.from_fitted"
            check_y(y_val, self, multilabel=multilabel, what=what)
            true = encode(y_val, self.classes_, cls.__name__)
            probas = [aligned(one, one.predict_proba(X_val), self.classes_) for _, one in pairs]
            share = greedy_weights(likelihoods(probas, true), sample_weight_val)
        members = [(*pair, weight) for pair, weight in zip(pairs, share, strict=True)]
        return self._keep(members, multilabel)

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
            Weights of the rows, for the fits and for "greedy".
        groups : array-like of shape (n,), optional
            Groups, such as patients, for ``cv`` and for estimators whose ``fit`` takes them.
        **params : dict
            Other arguments of the estimators' ``fit``. With ``cv``, those of length n are indexed
            with X; ``X_val``, ``y_val`` and ``sample_weight_val`` stay whole.

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
        annotated.check_parameters(self)
        self._check(self.weights, greedy=self.cv is not None)
        # Seeds share the weight of their estimator equally, and folds that of their seed.
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
            # Rows in no test fold have no probabilities to score.
            held = ~np.isnan(outside[0, :, 0])
            weight = None if sample_weight is None else sample_weight[held]
            likelihood = likelihoods(outside[:, held], true[held])
            if isinstance(self.weights, str):
                share = greedy_weights(likelihood, weight)
            losses = log_losses(likelihood, weight).tolist()
            more["oof_log_loss_"] = dict(zip(dict(candidates), losses, strict=True))
            more["oof_proba_"] = np.tensordot(share, outside, 1).astype(outside.dtype)
        # Remove what an earlier fit with cv has set.
        for name in ("oof_log_loss_", "oof_proba_"):
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
        # Members without weight would only cost memory and time.
        found = [one for one in found if one[2] > 0]
        self.names_ = [name for name, _, _ in found]
        self.estimators_ = [model for _, model, _ in found]
        self.weights_ = np.array([weight for _, _, weight in found])
        self._several = several
        take_over_input(self, self.estimators_[0])
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Compute class probabilities as the weighted mean over the members.

        Parameters
        ----------
        X : array-like
            Images of the kind and shape that was passed to fit.

        Returns
        -------
        ndarray of shape (n, k)
            Probabilities, in the order of ``classes_``; rows sum to 1. float32 if the members'
            are, else float64.
        """
        check_is_fitted(self)
        probas = [
            aligned(model, model.predict_proba(X), self.classes_) for model in self.estimators_
        ]
        return np.average(probas, axis=0, weights=self.weights_).astype(np.result_type(*probas))

    def predict(self, X: Any) -> np.ndarray:
        """Predict the most probable class (n,), or the labels with probability above 1/2 (n, k)."""
        proba = self.predict_proba(X)
        if self._several:
            return (proba > 0.5).astype(np.int64)
        return self.classes_[proba.argmax(axis=1)]

    def connect(self, images: Any = None) -> Graph:
        """Connect all members to a Keras tensor of images, or to a new input; for `export`."""
        from kmedclf.export import graph

        check_is_fitted(self)
        members: list[Graph] = []
        for model in self.estimators_:
            members.append(graph.connect(model, images))
            images = members[0].images
        columns = [
            np.searchsorted(self.classes_, one.classes_).tolist() for one in self.estimators_
        ]
        return graph.Graph.mean(members, self.weights_.tolist(), columns, len(self.classes_))

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters; with ``deep`` also the estimators', as name__parameter."""
        return self._get_params("estimators", deep=deep)

    def set_params(self, **params: Any) -> Self:
        """Set parameters: own ones, estimators by name, and theirs as name__parameter."""
        return self._set_params("estimators", **params)

    def __sklearn_is_fitted__(self) -> bool:
        """Tell scikit-learn whether the ensemble is fitted."""
        return hasattr(self, "estimators_")

    def __sklearn_tags__(self) -> Tags:
        """Tell scikit-learn which inputs all estimators accept."""
        tags = super().__sklearn_tags__()
        theirs = [get_tags(one).input_tags for _, one in self.estimators]
        tags.input_tags.three_d_array = all(one.three_d_array for one in theirs)
        return tags
