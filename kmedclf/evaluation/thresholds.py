"""Choose decision thresholds on validation data."""

from __future__ import annotations

from numbers import Real
from typing import Any, NamedTuple

import numpy as np
from sklearn.metrics import roc_curve
from sklearn.utils.validation import check_consistent_length, column_or_1d

from kmedclf.evaluation.evaluate import check_indicators, check_shares
from kmedclf.inputs.label_kinds import check_not_exclusive


class Threshold(NamedTuple):
    """A threshold, and its sensitivity and specificity on the n images it was chosen on."""

    threshold: float
    sensitivity: float
    specificity: float
    n: int


def choose_threshold(
    y_val: Any, scores: Any, *, sensitivity: float = 0.95, pos_label: Any = 1
) -> Threshold:
    """Choose the highest threshold that reaches a given sensitivity.

    Parameters
    ----------
    y_val : array-like of shape (n,)
        Labels of validation images; never of the images that the result is reported on.
    scores : array-like of shape (n,)
        Probability of the positive class.
    sensitivity : float, default=0.95
        Least share of the positive images to find, in (0, 1].
    pos_label : label, default=1
        The positive class.

    Returns
    -------
    Threshold
        The threshold with the highest specificity of all that reach the sensitivity. Pass it to
        `evaluate` as ``threshold``.

    Raises
    ------
    ValueError
        If ``sensitivity`` is out of range, or not both positive and other images are given.

    Examples
    --------
    >>> choose_threshold([0, 0, 1, 1], [0.1, 0.6, 0.4, 0.9], sensitivity=0.5)
    Threshold(threshold=0.9, sensitivity=0.5, specificity=1.0, n=4)
    """
    truth = column_or_1d(y_val) == pos_label
    scores = column_or_1d(scores).astype(np.float64)
    check_consistent_length(truth, scores)
    if not isinstance(sensitivity, Real) or not 0 < sensitivity <= 1:
        raise ValueError(
            f"The 'sensitivity' parameter must be in (0, 1]. Got {sensitivity!r} instead."
        )
    if not truth.any() or truth.all():
        raise ValueError(
            f"'y_val' of choose_threshold must hold {pos_label!r} and another label. Got "
            f"{int(truth.sum())} of {len(truth)} images of {pos_label!r} instead."
        )
    false_rate, true_rate, thresholds = roc_curve(truth, scores, drop_intermediate=False)
    first = int(np.argmax(true_rate >= sensitivity - 1e-12))  # rates rise as thresholds fall
    return Threshold(
        float(thresholds[first]), float(true_rate[first]), float(1 - false_rate[first]), len(truth)
    )


def choose_thresholds(
    y_val: Any, proba: Any, *, sensitivity: float = 0.95
) -> tuple[Threshold | None, ...]:
    """Choose a threshold for each label of a multilabel task; see `choose_threshold`.

    Parameters
    ----------
    y_val : array-like of shape (n, k)
        Zeros and ones of validation images; never of the images that the result is reported on.
    proba : array-like of shape (n, k)
        Probability of each label.
    sensitivity : float, default=0.95
        Least share of the images with a label to find, in (0, 1].

    Returns
    -------
    tuple of k Threshold or None
        None for a label that all images have, or none, so that nothing can be chosen.

    Raises
    ------
    ValueError
        If a parameter or the data are not as described here, or the columns of ``y_val`` are
        exclusive classes.

    Examples
    --------
    >>> y_val, proba = [[0, 1], [1, 1]], [[0.2, 0.5], [0.3, 0.5]]
    >>> chosen = choose_thresholds(y_val, proba)
    >>> chosen[1] is None
    True
    >>> [0.5 if one is None else one.threshold for one in chosen]  # for evaluate
    [0.3, 0.5]
    """
    true = check_indicators(y_val)
    shares = check_shares(proba, true.shape)
    check_not_exclusive(true, shares, "y_val of choose_thresholds")
    return tuple(
        choose_threshold(t, p, sensitivity=sensitivity) if 0 < t.sum() < len(t) else None
        for t, p in zip(true.T, shares.T, strict=True)
    )
