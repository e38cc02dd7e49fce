"""Evaluate a classifier: scores with confidence intervals."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from numbers import Integral, Real
from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.metrics import confusion_matrix, multilabel_confusion_matrix
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import check_consistent_length, column_or_1d

from kmedclf.evaluation.report import AnyReport, MultilabelReport, Report, true_ranks
from kmedclf.evaluation.scores import (
    OF_LABEL,
    SCORES,
    WEIGHTED,
    ClassScores,
    Estimate,
    Intervals,
    LabelScores,
    MultilabelOutcome,
    Outcome,
    Samples,
    effective_size,
)
from kmedclf.inputs.array_likes import with_labels
from kmedclf.inputs.label_kinds import check_not_exclusive, check_y, has_columns, is_multilabel
from kmedclf.utils.files import places_below


def check_proba(proba: Any) -> np.ndarray:
    """Check class probabilities: (n, k) float64 whose rows sum to 1."""
    proba = np.asarray(proba, dtype=np.float64)
    if proba.ndim != 2 or proba.shape[0] < 1 or proba.shape[1] < 2:
        raise ValueError(
            "Probabilities must be of shape (n, k), n at least 1 and k at least 2. "
            f"Got shape {proba.shape} instead."
        )
    if not np.isfinite(proba).all() or proba.min() < 0:
        raise ValueError(
            "Probabilities must be finite and not negative. Got "
            f"{proba[~(proba >= 0) | ~np.isfinite(proba)][0]} among them."
        )
    sums = proba.sum(axis=1, keepdims=True)
    worst = float(sums[np.abs(sums - 1).argmax(), 0])
    if abs(worst - 1) > 1e-3:
        raise ValueError(f"Rows of probabilities must sum to 1. Got a row of sum {worst:.4g}.")
    # float32 rows sum to 1 ± 1e-7, and scikit-learn warns about that in float64
    return proba if np.abs(sums - 1).max() < 1e-12 else proba / sums


def check_indicators(y: Any) -> np.ndarray:
    """Check multilabel targets: (n, k) uint8 of zeros and ones."""
    values = np.asarray(y.toarray() if issparse(y) else y)
    if values.ndim != 2 or values.shape[0] < 1 or values.shape[1] < 2:
        raise ValueError(
            "'y' of a multilabel evaluation must be of shape (n, k), n at least 1 and k at "
            f"least 2. Got shape {values.shape} instead."
        )
    wrong = values[(values != 0) & (values != 1)]
    if wrong.size:
        raise ValueError(
            f"'y' of a multilabel evaluation must hold only 0 and 1. Got {wrong[0]} in it instead."
        )
    return values.astype(np.uint8)


def check_shares(proba: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Check multilabel probabilities: float64 of the shape of y."""
    if isinstance(proba, list) and all(np.shape(one)[1:] == (2,) for one in proba):
        # scikit-learn's forests return one (n, 2) array per label
        proba = np.stack([np.asarray(one)[:, 1] for one in proba], axis=1)
    proba = np.asarray(proba, dtype=np.float64)
    if proba.shape != shape:
        raise ValueError(
            f"Probabilities of labels must be of the shape of y, {shape}. Got {proba.shape} "
            "instead."
        )
    if not ((proba >= 0) & (proba <= 1)).all():
        raise ValueError(
            "Probabilities of labels must be in [0, 1]. Got "
            f"{proba[~((proba >= 0) & (proba <= 1))][0]} among them."
        )
    return proba


def check_thresholds(threshold: Any, k: int) -> np.ndarray:
    """Check a threshold, shared or per label: (k,) float64, 0.5 by default."""
    chosen = np.asarray(0.5 if threshold is None else threshold, dtype=np.float64)
    if chosen.shape not in ((), (k,)) or not ((chosen >= 0) & (chosen <= 1)).all():
        raise ValueError(
            f"The 'threshold' parameter must be in [0, 1], one number or one for each of the {k} "
            f"labels. Got {threshold!r} instead."
        )
    return np.broadcast_to(chosen, (k,)).copy()


def check_classes(classes: Any, proba: np.ndarray) -> np.ndarray:
    """Check the class labels (k,) of the columns of `proba`."""
    k = proba.shape[1]
    labels = np.arange(k) if classes is None else np.asarray(classes)
    if labels.shape != (k,) or len(set(labels.tolist())) != k:
        raise ValueError(
            f"The 'classes' parameter must hold {k} different labels, one a column of "
            f"probabilities. Got {labels.tolist()} instead."
        )
    return labels


def check_names(
    class_names: Sequence[str] | Mapping[Any, str] | None, labels: np.ndarray
) -> tuple[str, ...]:
    """Return one printable name per class."""
    listed = labels.tolist()
    if class_names is None:
        return tuple(map(str, listed))
    if isinstance(class_names, Mapping):
        if missing := [label for label in listed if label not in class_names]:
            raise ValueError(
                f"The 'class_names' parameter must name every label. Got none for {missing[0]!r}."
            )
        return tuple(str(class_names[label]) for label in listed)
    if isinstance(class_names, str) or len(class_names) != len(listed):
        raise ValueError(
            f"The 'class_names' parameter must hold {len(listed)} names, one a class. "
            f"Got {class_names!r} instead."
        )
    return tuple(map(str, class_names))


def check_positive(pos_label: Any, threshold: Any, labels: np.ndarray) -> int | None:
    """Return the column of the positive class, None if there is none."""
    if pos_label is None:
        # It would be unclear which class the threshold applies to
        if threshold is not None:
            raise ValueError("The 'threshold' parameter must come with a 'pos_label'. Got none.")
        return None
    listed = labels.tolist()
    if len(listed) != 2 or pos_label not in listed:
        raise ValueError(
            "The 'pos_label' parameter must be one of two classes. "
            f"Got {pos_label!r} with the classes {listed} instead."
        )
    return listed.index(pos_label)


def check_one_threshold(threshold: Any) -> float | None:
    """Check the threshold of the positive class."""
    if threshold is None:
        return None
    if not (isinstance(threshold, Real) and 0 <= float(threshold) <= 1):
        raise ValueError(f"The 'threshold' parameter must be in [0, 1]. Got {threshold!r} instead.")
    return float(threshold)


def check_bootstrap(n_bootstrap: Any, confidence: Any) -> None:
    """Check the parameters of the bootstrap."""
    if not isinstance(n_bootstrap, Integral) or int(n_bootstrap) < 0:
        raise ValueError(
            f"The 'n_bootstrap' parameter must be an integer of at least 0. Got {n_bootstrap!r} "
            "instead."
        )
    if not isinstance(confidence, Real) or not 0 < float(confidence) < 1:
        raise ValueError(
            f"The 'confidence' parameter must be in (0, 1). Got {confidence!r} instead."
        )


def check_weight(sample_weight: Any, n: int) -> np.ndarray:
    """Check sample weights: (n,) float64, ones by default."""
    if sample_weight is None:
        return np.ones(n)
    weight = np.asarray(sample_weight, dtype=np.float64)
    if weight.shape != (n,) or not np.isfinite(weight).all() or weight.min() < 0:
        raise ValueError(
            f"The 'sample_weight' parameter must be {n} finite numbers of at least 0. "
            f"Got shape {weight.shape} instead."
            if weight.shape != (n,)
            else "The 'sample_weight' parameter must be finite and at least 0. "
            f"Got {weight.min()} among it."
        )
    if not weight.any():
        raise ValueError("The 'sample_weight' parameter must not be all zero. Got only zeros.")
    return weight


def encode(values: np.ndarray, labels: np.ndarray, what: str) -> np.ndarray:
    """Encode labels as positions in `labels`, (n,) intp; `what` names them in errors."""
    position = {label: i for i, label in enumerate(labels.tolist())}
    try:
        return np.array([position[value] for value in values.tolist()], dtype=np.intp)
    except KeyError as error:
        raise ValueError(
            f"{what!r} of an evaluation must hold only labels the estimator knows, "
            f"{', '.join(map(repr, list(position)[:12]))}. Got {error.args[0]!r} instead."
        ) from None


def evaluate_labels(
    y_true: Any,
    proba: Any,
    *,
    class_names: Sequence[str] | Mapping[Any, str] | None = None,
    sample_weight: Any = None,
    threshold: float | Sequence[float] | None = None,
    n_bootstrap: int = 1000,
    confidence: float = 0.95,
    random_state: int | None = 0,
) -> MultilabelReport:
    """Evaluate multilabel probabilities; `evaluate_predictions` calls it if y has columns.

    Accuracy is the share of right entries of y, and the AUC is the mean over labels, as in the
    benchmark of J. Yang et al., "MedMNIST v2", Scientific Data 10, 41, 2023.
    """
    true = check_indicators(y_true)
    proba = check_shares(proba, true.shape)
    names = check_names(class_names, np.arange(true.shape[1]))
    check_bootstrap(n_bootstrap, confidence)
    check_consistent_length(true, sample_weight)
    weight = check_weight(sample_weight, len(true))
    chosen = check_thresholds(threshold, true.shape[1])
    # The default excludes 0.5 itself; a given threshold is included, as `choose_thresholds` assumes
    pred = (proba > 0.5 if threshold is None else proba >= chosen).astype(np.uint8)
    outcome = MultilabelOutcome.of(true, pred, proba, weight)
    found = outcome.scores(np.ones((len(true), 1)))
    samples = outcome.resample(n_bootstrap, random_state)
    intervals = Intervals(samples, confidence)
    confusion = multilabel_confusion_matrix(true, pred)
    per_class = _per_class(found, intervals, names, (true == 1, pred == 1, weight))
    # Exact binomial intervals need the number of images, not of labels, which are dependent
    trials = dict.fromkeys(("accuracy", "subset_accuracy"), effective_size(weight))
    return MultilabelReport(
        n=len(true),
        classes=tuple(range(true.shape[1])),
        class_names=names,
        thresholds=tuple(chosen.tolist()),
        scores={
            name: intervals.of(name, found[name][0], trials=trials.get(name, 0))
            for name in SCORES
            if name in found
        },
        per_class=per_class,
        confusion=confusion,
        notes=(*_notes(per_class, found, sample_weight is not None), *intervals.notes),
        confidence=float(confidence),
        n_bootstrap=int(n_bootstrap),
        y_true=true,
        y_pred=pred,
        proba=proba.astype(np.float32),
    )


def _per_class(
    found: Samples,
    intervals: Intervals,
    names: Sequence[str],
    data: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> tuple[LabelScores, ...]:
    """Score each label; `data` are y, predictions (both bool) and sample weights."""
    true, pred, weight = data
    listed = []
    for i, (has, found_in) in enumerate(zip(true.T, pred.T, strict=True)):
        chosen = {"recall": has, "specificity": ~has, "precision": found_in}
        trials = {name: effective_size(weight[rows]) for name, rows in chosen.items()}
        scores: list[Estimate] = [
            intervals.of(of, found[of][0, i], trials=trials.get(name, 0), column=i)
            for name in OF_LABEL
            for of in [f"{name}_of_label"]
        ]
        listed.append(LabelScores(names[i], int(has.sum()), int(found_in.sum()), *scores))
    return tuple(listed)


def _notes(classes: Sequence[LabelScores], found: Samples, weighted: bool) -> list[str]:
    """List what a reader of the scores must know, such as undefined scores."""
    which = "image with a weight" if weighted else "image"
    said = []
    for names, what in (
        ([one.name for one in classes if one.recall.value is None],
         f"No {which} has {{}}: sensitivity and average precision are undefined there, precision "
         "and F1 too unless it is predicted"),
        ([one.name for one in classes if one.specificity.value is None],
         f"Every {which} has {{}}: specificity is undefined there"),
    ):  # fmt: skip
        if names:
            said.append(
                f"{what.format(_listed_names(names))}; AUC is not defined there, and macro "
                "averages run over the labels that define a score."
            )
    if ignored := [one.name for one in classes if _never_predicted(one)]:
        said.append(
            f"Never predicted: {_listed_names(ignored)}; precision is undefined there and counts "
            "as 0 in the averages."
        )
    for name, what in (("recall_micro", "has"), ("precision_micro", "is given")):
        if np.isnan(found[name][0]):
            said.append(f"No {which} {what} any label: {SCORES[name]}, is undefined.")
    if weighted:
        said.append(WEIGHTED)
    return said


def evaluate(
    est: Any,
    X: Any,
    y: Any = None,
    *,
    class_names: Sequence[str] | Mapping[Any, str] | None = None,
    sample_weight: Any = None,
    exclude: Any = None,
    pos_label: Any = None,
    threshold: float | Sequence[float] | None = None,
    ordinal: bool = False,
    n_bootstrap: int = 1000,
    confidence: float = 0.95,
    random_state: int | None = 0,
) -> AnyReport:
    """Evaluate a fitted classifier on images it has not seen.

    Parameters
    ----------
    est : estimator
        A fitted classifier with ``predict_proba`` and ``classes_``; also a pipeline or a search.
    X : array-like of shape (n, ...), or a data set of the medmnist package
        Images; such a data set has its labels in it.
    y : array-like of shape (n,) or (n, k)
        True labels, all among the estimator's classes; not every class needs to occur. In a
        multilabel task, zeros and ones.
    class_names : sequence of str or mapping of label to str, optional
        Printed names, in the order of ``est.classes_``; the labels by default.
    sample_weight : array-like of shape (n,), optional
        Weights of the images in all scores. Counts remain counts of images.
    exclude : array-like of shape (n,), bool, optional
        Images to leave out, for example those that `kmedclf.datasets.audit` reports as leaked. A
        note in the report gives their number.
    pos_label : label, optional
        The positive class of a binary task; adds sensitivity, specificity, predictive values and
        average precision.
    threshold : float or sequence of k float, optional
        Predict ``pos_label`` if its probability is at least this; see `choose_threshold`. In a
        multilabel task, the threshold of all labels, or one per label; see `choose_thresholds`.
    ordinal : bool, default=False
        Whether the classes are grades, in the order of ``est.classes_``, as in RetinaMNIST; adds
        kappa with quadratic weights and the mean absolute error in grades.
    n_bootstrap : int, default=1000
        Number of bootstrap resamples; 0 gives no intervals.
    confidence : float, default=0.95
        Coverage of the intervals.
    random_state : int or None, default=0
        Seed of the resampling.

    Returns
    -------
    Report or MultilabelReport
        Scores, counts and predictions.

    Raises
    ------
    ValueError
        If a parameter or the data are not as described here.

    See Also
    --------
    evaluate_predictions : Evaluate given probabilities.

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
    X, y = with_labels(X, y)
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
    # Before any prediction, which may take long
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
        _refuse_of_several(pos_label=pos_label, ordinal=ordinal or None)
        report = evaluate_labels(y, proba, **options)
    else:
        # Other classifiers, such as SVC, may predict another class than the most probable one
        own = threshold is not None or _predicts_largest(est)
        pred = None if own else est.predict(X)
        options |= {"classes": est.classes_, "y_pred": pred, "pos_label": pos_label}
        options["ordinal"] = ordinal
        report = evaluate_predictions(y, proba, **options)
    paths = tuple(places_below(X) or ())
    return replace(report, notes=(*note, *report.notes), paths=paths)


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
    ordinal: bool = False,
    n_bootstrap: int = 1000,
    confidence: float = 0.95,
    random_state: int | None = 0,
) -> AnyReport:
    """Evaluate given probabilities, such as those of a fold, an ensemble or another program.

    Parameters
    ----------
    y_true : array-like of shape (n,) or (n, k)
        True labels; in a multilabel task, zeros and ones.
    proba : array-like of shape (n, k)
        Probabilities. Rows sum to 1, except in a multilabel task.
    classes : array-like of shape (k,), optional
        Labels of the columns; 0, ..., k - 1 by default.
    y_pred : array-like of shape (n,), optional
        Predicted labels; those of the largest probability by default.
    class_names, sample_weight, pos_label, threshold, ordinal, n_bootstrap, confidence, random_state
        As in `evaluate`.

    Returns
    -------
    Report or MultilabelReport
        Scores, counts and predictions.

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
    width) is biased upwards in a sample, and again in a resample of it. The upper end of its
    interval is therefore shifted, so that the median of the resamples falls on the sample's value;
    the lower end lies as far below that value as the unshifted upper end lies above it.

    Macro averages run over the classes that occur; a class that occurs but is never predicted has
    precision 0. A class that does not occur has no recall and no AUC.

    In a multilabel task, accuracy is the share of right entries of y, and macro averages run over
    the labels for which a score is defined. Resamples draw whole images with all their labels.
    """
    if has_columns(y_true):
        _refuse_exclusive(y_true, proba, classes)
        _refuse_of_several(pos_label=pos_label, y_pred=y_pred, ordinal=ordinal or None)
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
    threshold = check_one_threshold(threshold)
    # Ranks use the given values: dividing rows by their sums could break ties
    given, proba = np.asarray(proba, dtype=np.float64), check_proba(proba)
    labels = check_classes(classes, proba)
    names = check_names(class_names, labels)
    positive = check_positive(pos_label, threshold, labels)
    check_bootstrap(n_bootstrap, confidence)
    true = encode(column_or_1d(y_true, warn=True), labels, "y")
    check_consistent_length(true, proba, y_pred, sample_weight)
    pred = _predicted(y_pred, given, labels, positive, threshold)
    weight = check_weight(sample_weight, len(true))

    outcome = Outcome.of(true, pred, proba, weight, positive, given, ordinal=ordinal)
    samples = outcome.resample(n_bootstrap, random_state)
    intervals = Intervals(samples, confidence)
    confusion = confusion_matrix(true, pred, labels=np.arange(len(labels)))
    point = outcome.scores(np.ones((len(true), 1)))
    per_class = outcome.class_scores(point, confusion, names, intervals)
    scores = outcome.headline(point, per_class, intervals)
    # One byte per image is enough for 256 classes, and reports are written to JSON
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
        reliability=outcome.reliability(),
        certainty=outcome.certainty(),
        never_predicted=tuple(one.name for one in per_class if not one.predicted),
        notes=(
            *_class_notes(per_class, sample_weight is not None),
            *_decisions(pred, given, threshold),
            *intervals.notes,
        ),
        confidence=float(confidence),
        n_bootstrap=int(n_bootstrap),
        true_index=true.astype(small),
        pred_index=pred.astype(small),
        proba=given.astype(np.float32),
    )


def _predicted(
    y_pred: Any, proba: np.ndarray, labels: np.ndarray, positive: int | None, threshold: Any
) -> np.ndarray:
    """Return the positions (n,) of the predicted classes: as given, or by their probabilities."""
    if y_pred is not None:
        return encode(column_or_1d(y_pred), labels, "y_pred")
    if threshold is None or positive is None:
        return proba.argmax(axis=1)
    return np.where(proba[:, positive] >= threshold, positive, 1 - positive)


def _refuse_exclusive(y_true: Any, proba: Any, classes: Any) -> None:
    """Raise if the columns of y are exclusive classes: every score would mean something else."""
    true, what = check_indicators(y_true), "y_true of evaluate_predictions"
    # Labels of a multilabel task are columns of y, and have no codes
    if classes is not None:
        raise ValueError(
            f"{what} must hold one label an image where 'classes' is given. Got shape {true.shape} "
            "instead."
        )
    # A list of (n, 2) arrays, as of a forest, is multilabel in any case
    if not isinstance(proba, list):
        check_not_exclusive(true, np.asarray(proba, dtype=np.float64), what)


def _refuse_of_several(**given: Any) -> None:
    """Raise if a parameter is given that has no meaning in a multilabel task."""
    for name, value in given.items():
        if value is not None:
            raise ValueError(
                f"The {name!r} parameter must be None in a multilabel task. Got {value!r} instead."
            )


def _kept(exclude: Any, y: Any) -> np.ndarray:
    """Return the positions of the images that are not excluded."""
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
    """Check whether `predict` is known to return the class of the largest probability."""
    est = getattr(est, "best_estimator_", est)
    est = getattr(est, "_final_estimator", est)  # of a Pipeline
    ours = {"kmedclf.base": "ImageClassifier", "kmedclf.ensemble": "EnsembleClassifier"}
    # If a module is not loaded, est is not of its class; importing it would load TensorFlow
    known = [module for module in ours if module in sys.modules]
    return any(isinstance(est, getattr(sys.modules[one], ours[one])) for one in known)


def _class_notes(classes: tuple[ClassScores, ...], weighted: bool) -> list[str]:
    """Explain every undefined score."""
    which, said = "image with a weight" if weighted else "image", []
    if absent := [one.name for one in classes if one.recall.value is None]:
        said.append(
            f"No {which} is of {_listed_names(absent)}: recall and AUC are undefined there, "
            "precision and F1 too unless it is predicted, and macro averages run over the classes "
            f"that occur, {len(classes) - len(absent)}."
        )
    if alone := [one.name for one in classes if one.specificity.value is None]:
        said.append(
            f"Every {which} is of {alone[0]}: its specificity is undefined, as is every AUC."
        )
    if ignored := [one.name for one in classes if _never_predicted(one)]:
        said.append(
            f"No {which} was predicted as {_listed_names(ignored)}: precision is undefined there "
            "and counts as 0 in the averages."
        )
    if weighted:
        said.append(WEIGHTED)
    return said


def _decisions(pred: np.ndarray, proba: np.ndarray, threshold: float | None) -> list[str]:
    """Note how often the prediction is not the most probable class, unless a threshold explains it.

    Ranks and curves are based on probabilities, and then do not describe the predictions.
    """
    most = proba.max(axis=1)
    others = int(np.sum(proba[np.arange(len(pred)), pred] < most))
    if threshold is not None or not others:
        return []
    return [
        f"{others:,} of {len(pred):,} predictions are not the most probable class: the classifier "
        "decides in another way. Ranks and curves are based on probabilities."
    ]


def _listed_names(names: Sequence[str]) -> str:
    """List the first ten names, and count the others."""
    shown = ", ".join(names[:10])
    return shown if len(names) <= 10 else f"{shown} and {len(names) - 10} more"


def _never_predicted(one: ClassScores | LabelScores) -> bool:
    """Check whether a class or label occurs, but no image was predicted as such."""
    return one.recall.value is not None and one.precision.value is None
