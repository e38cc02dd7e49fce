"""Checks of what users pass to an evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
from scipy.sparse import issparse


def check_proba(proba: Any) -> np.ndarray:
    """Check probabilities; (n, k) float64, rows summing to 1 exactly."""
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
    # What came as float32 sums to 1 ± 1e-7, which scikit-learn warns of in float64
    return proba if np.abs(sums - 1).max() < 1e-12 else proba / sums


def check_indicators(y: Any) -> np.ndarray:
    """Check labels of which an image may have several; (n, k) uint8."""
    values = np.asarray(y.toarray() if issparse(y) else y)
    if values.ndim != 2 or values.shape[0] < 1 or values.shape[1] < 2:
        raise ValueError(
            "'y' of an evaluation of several labels must be of shape (n, k), n at least 1 and k at "
            f"least 2. Got shape {values.shape} instead."
        )
    wrong = values[(values != 0) & (values != 1)]
    if wrong.size:
        raise ValueError(
            "'y' of an evaluation must hold only 0 and 1 where it has several columns. "
            f"Got {wrong[0]} among it."
        )
    return values.astype(np.uint8)


def check_shares(proba: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Check probabilities of labels; float64 of the shape of y."""
    if isinstance(proba, list) and all(np.shape(one)[1:] == (2,) for one in proba):
        # as scikit-learn's forests give: (n, 2) for each label
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
    """Check the threshold of all labels, or of each; (k,) float64, 0.5 by default."""
    chosen = np.asarray(0.5 if threshold is None else threshold, dtype=np.float64)
    if chosen.shape not in ((), (k,)) or not ((chosen >= 0) & (chosen <= 1)).all():
        raise ValueError(
            f"The 'threshold' parameter must be in [0, 1], one number or one for each of the {k} "
            f"labels. Got {threshold!r} instead."
        )
    return np.broadcast_to(chosen, (k,)).copy()


def check_classes(classes: Any, proba: np.ndarray) -> np.ndarray:
    """Check the labels of the columns; (k,)."""
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
    """Give every class a name."""
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
    """Find the column of the positive class."""
    if pos_label is None:
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
    """Check the threshold of one positive class."""
    if threshold is None:
        return None
    if not (isinstance(threshold, Real) and 0 <= float(threshold) <= 1):
        raise ValueError(f"The 'threshold' parameter must be in [0, 1]. Got {threshold!r} instead.")
    return float(threshold)


def check_bootstrap(n_bootstrap: Any, confidence: Any) -> None:
    """Check how intervals are to be made."""
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
    """Check sample weights; (n,) float64, ones if there are none."""
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
    """Turn labels into positions among the classes; (n,) intp."""
    position = {label: i for i, label in enumerate(labels.tolist())}
    try:
        return np.array([position[value] for value in values.tolist()], dtype=np.intp)
    except KeyError as error:
        raise ValueError(
            f"{what!r} of an evaluation must hold only labels the estimator knows, "
            f"{', '.join(map(repr, list(position)[:12]))}. Got {error.args[0]!r} instead."
        ) from None
