"""Evaluate a classifier: every number with its doubt."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.metrics import confusion_matrix
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import check_consistent_length, column_or_1d

from kmedclf.evaluation import checks, scoring
from kmedclf.evaluation.bootstrap import Outcome, resample
from kmedclf.evaluation.intervals import Intervals
from kmedclf.evaluation.label_report import AnyReport
from kmedclf.evaluation.multilabel import evaluate_labels
from kmedclf.evaluation.report import Report, true_ranks
from kmedclf.label_kinds import check_not_exclusive, check_y, has_columns, is_multilabel


def evaluate(
    est: Any,
    X: Any,
    y: Any,
    *,
    class_names: Sequence[str] | Mapping[Any, str] | None = None,
    sample_weight: Any = None,
    exclude: Any = None,
    pos_label: Any = None,
    threshold: float | Sequence[float] | None = None,
    n_bootstrap: int = 1000,
    confidence: float = 0.95,
    random_state: int | None = 0,
) -> AnyReport:
    """Evaluate a fitted classifier on images it has not seen.

    Parameters
    ----------
    est : estimator
        A fitted classifier with ``predict_proba`` and ``classes_``; also a pipeline or a search.
    X : array-like of shape (n, ...)
        Images.
    y : array-like of shape (n,) or (n, k)
        True labels, among the estimator's classes; not all of them need occur. Or zeros and ones,
        where an image may have several labels.
    class_names : sequence of str or mapping of label to str, optional
        Names in print, in the order of ``est.classes_``; labels by default.
    sample_weight : array-like of shape (n,), optional
        Weights of the images in all scores; counts stay counts of images.
    exclude : array-like of shape (n,), bool, optional
        Images to leave out, as those that `kmedclf.datasets.audit` found to have leaked; a note
        in the report says how many.
    pos_label : label, optional
        The positive one of two classes; adds sensitivity, specificity, predictive values and
        average precision.
    threshold : float or sequence of k float, optional
        Predict ``pos_label`` from this probability on; see `choose_threshold`. Of several labels,
        predict all, or each, from it on; see `choose_thresholds`.
    n_bootstrap : int, default=1000
        Resamples behind the intervals; 0 leaves them out.
    confidence : float, default=0.95
        Coverage of the intervals.
    random_state : int or None, default=0
        Seed of the resampling.

    Returns
    -------
    Report or MultilabelReport
        What was found.

    Raises
    ------
    ValueError
        If a parameter or the data are not as described here.

    See Also
    --------
    evaluate_predictions : The same from probabilities.

    Examples
    --------
    >>> from kmedclf import MLPClassifier
    >>> from kmedclf.datasets import make_blood_cells
    >>> from kmedclf.evaluation import evaluate
    >>> X, y = make_blood_cells(300, random_state=0)  # synthetic
    >>> model = MLPClassifier(epochs=5, random_state=0).fit(X[:200], y[:200])
    >>> evaluate(model, X[200:], y[200:]).n
    100
    """
    note: tuple[str, ...] = ()
    if exclude is not None:
        check_consistent_length(X, y, sample_weight)
        kept = _kept(exclude, y)
        note = (f"{len(y) - len(kept):,} of {len(y):,} images were excluded.",)
        X, y = _safe_indexing(X, kept), _safe_indexing(y, kept)
        sample_weight = None if sample_weight is None else _safe_indexing(sample_weight, kept)
    if not hasattr(est, "predict_proba"):
        raise ValueError(
            "The 'est' parameter of evaluate must be a classifier with predict_proba. Got "
            f"{type(est).__name__} instead."
        )
    multilabel = is_multilabel(est, X)
    check_y(y, est, multilabel=multilabel, what="y of evaluate")
    proba = est.predict_proba(X)
    options: dict[str, Any] = {
        "class_names": class_names,
        "sample_weight": sample_weight,
        "threshold": threshold,
        "n_bootstrap": n_bootstrap,
        "confidence": confidence,
        "random_state": random_state,
    }
    report: AnyReport
    if multilabel:
        _refuse_of_several(pos_label=pos_label)
        report = evaluate_labels(y, proba, **options)
    else:
        own = threshold is not None or _predicts_largest(est)
        pred = None if own else est.predict(X)
        options |= {"classes": est.classes_, "y_pred": pred, "pos_label": pos_label}
        report = evaluate_predictions(y, proba, **options)
    return replace(report, notes=(*note, *report.notes))


def evaluate_predictions(
    y_true: Any,
    proba: Any,
    *,
    classes: Any = None,
    y_pred: Any = None,
    class_names: Sequence[str] | Mapping[Any, str] | None = None,
    sample_weight: Any = None,
    pos_label: Any = None,
    threshold: float | Sequence[float] | None = None,
    n_bootstrap: int = 1000,
    confidence: float = 0.95,
    random_state: int | None = 0,
) -> AnyReport:
    """Evaluate probabilities that are there already: of a fold, of an ensemble, from elsewhere.

    Parameters
    ----------
    y_true : array-like of shape (n,) or (n, k)
        True labels; or zeros and ones, where an image may have several.
    proba : array-like of shape (n, k)
        Probabilities; rows sum to 1, but not those of several labels.
    classes : array-like of shape (k,), optional
        Labels of the columns; 0, ..., k - 1 by default.
    y_pred : array-like of shape (n,), optional
        Predicted labels; those of the largest probability by default.
    class_names, sample_weight, pos_label, threshold, n_bootstrap, confidence, random_state
        As of `evaluate`.

    Returns
    -------
    Report
        What was found.

    Raises
    ------
    ValueError
        If a parameter or the data are not as described here.

    Notes
    -----
    Intervals are percentiles of a bootstrap over images (B. Efron, R. Tibshirani, "An introduction
    to the bootstrap", 1993). A proportion that is 0 or 1, which no resample can move, gets the
    exact binomial interval (C. Clopper, E. Pearson, Biometrika 26, 1934). The expected calibration
    error (C. Guo et al., "On calibration of modern neural networks", ICML 2017; 15 bins of equal
    width) comes out too large in a sample, and larger still in a resample of it: its interval is
    moved up to the sample above, and as far beyond it below.

    Macro averages run over the classes that occur; one of them that is never predicted has
    precision 0. A class that does not occur has no recall and no AUC.
    """
    if has_columns(y_true):
        _refuse_exclusive(y_true, proba, classes)
        _refuse_of_several(pos_label=pos_label, y_pred=y_pred)
        return evaluate_labels(
            y_true,
            proba,
            class_names=class_names,
            sample_weight=sample_weight,
            threshold=threshold,
            n_bootstrap=n_bootstrap,
            confidence=confidence,
            random_state=random_state,
        )
    threshold = checks.check_one_threshold(threshold)
    given, proba = np.asarray(proba, dtype=np.float64), checks.check_proba(proba)
    labels = checks.check_classes(classes, proba)
    names = checks.check_names(class_names, labels)
    positive = checks.check_positive(pos_label, threshold, labels)
    checks.check_bootstrap(n_bootstrap, confidence)
    true = checks.encode(column_or_1d(y_true, warn=True), labels, "y")
    check_consistent_length(true, proba, y_pred, sample_weight)
    if y_pred is not None:
        pred = checks.encode(column_or_1d(y_pred), labels, "y_pred")
    elif threshold is None or positive is None:
        pred = given.argmax(axis=1)
    else:
        pred = np.where(given[:, positive] >= threshold, positive, 1 - positive)
    weight = checks.check_weight(sample_weight, len(true))

    outcome = Outcome.of(true, pred, proba, weight, positive, given)
    samples = resample(outcome, n_bootstrap, random_state) if n_bootstrap else {}
    intervals = Intervals(samples, confidence)
    confusion = confusion_matrix(true, pred, labels=np.arange(len(labels)))
    per_class = scoring.per_class(outcome, confusion, names, intervals)
    scores = scoring.headline(outcome, per_class, intervals)
    small = np.min_scalar_type(len(labels) - 1)
    return Report(
        n=len(true),
        classes=tuple(labels.tolist()),
        class_names=names,
        pos_label=None if positive is None else labels[positive].item(),
        threshold=threshold,
        scores=scores,
        per_class=per_class,
        confusion=confusion,
        rank_counts=np.bincount(true_ranks(given, true) - 1, minlength=len(labels)),
        reliability=scoring.reliability(outcome),
        certainty=scoring.certainty(outcome),
        never_predicted=tuple(one.name for one in per_class if not one.predicted),
        notes=(
            *scoring.notes(per_class, sample_weight is not None),
            *scoring.decisions(pred, given, threshold),
            *intervals.notes,
        ),
        confidence=float(confidence),
        n_bootstrap=int(n_bootstrap),
        true_index=true.astype(small),
        pred_index=pred.astype(small),
        proba=given.astype(np.float32),
    )


def _refuse_exclusive(y_true: Any, proba: Any, classes: Any) -> None:
    """Refuse columns that are classes: of shares each, not of one class, would all scores be."""
    true, what = checks.check_indicators(y_true), "y_true of evaluate_predictions"
    if classes is not None:
        raise ValueError(
            f"{what} must hold one label an image where 'classes' is given. Got shape {true.shape} "
            "instead."
        )
    if not isinstance(proba, list):
        check_not_exclusive(true, np.asarray(proba, dtype=np.float64), what)


def _refuse_of_several(**given: Any) -> None:
    for name, value in given.items():
        if value is not None:
            raise ValueError(
                f"The {name!r} parameter must be None where images may have several labels. "
                f"Got {value!r} instead."
            )


def _kept(exclude: Any, y: Any) -> np.ndarray:
    """List the images that are not excluded."""
    mask = np.asarray(exclude)
    if mask.dtype == bool and mask.size and mask.all():
        raise ValueError("The 'exclude' parameter of evaluate must leave some images. Got none.")
    if mask.dtype != bool or mask.shape != (len(y),):
        raise ValueError(
            f"The 'exclude' parameter of evaluate must be a mask (bool) of the {len(y)} images. "
            f"Got dtype {mask.dtype} and shape {mask.shape} instead."
        )
    return np.flatnonzero(~mask)


def _predicts_largest(est: Any) -> bool:
    """Say whether an estimator's predictions are known to be those of largest probability."""
    est = getattr(est, "best_estimator_", est)
    est = getattr(est, "_final_estimator", est)  # of a Pipeline
    ours = {"kmedclf.base": "ImageClassifier", "kmedclf.ensemble": "EnsembleClassifier"}
    known = [module for module in ours if module in sys.modules]  # without it, est is none of ours
    return any(isinstance(est, getattr(sys.modules[one], ours[one])) for one in known)
