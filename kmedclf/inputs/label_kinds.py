"""Multilabel or multiclass: a fitted model knows, y alone does not."""

from __future__ import annotations

from typing import Any

import numpy as np


def is_multilabel(model: Any, X: Any = None) -> bool:
    """Whether a fitted classifier is multilabel: ours, scikit-learn's, a pipeline or a search.

    A model without any sign of it predicts the first row of X.
    """
    # Attributes first: a prediction takes time.
    inner = getattr(model, "best_estimator_", model)
    inner = getattr(inner, "_final_estimator", inner)  # the last step of a Pipeline
    head = getattr(inner, "_head", None)
    if head is not None:
        return bool(head.multilabel)
    if hasattr(inner, "_several"):
        return bool(inner._several)
    if isinstance(getattr(inner, "classes_", None), list):  # as in scikit-learn's forests
        return True
    if X is None:
        binarizer = getattr(inner, "_label_binarizer", None)  # scikit-learn's MLPClassifier
        kind = getattr(binarizer, "y_type_", "")
        return bool(getattr(inner, "multilabel_", False)) or kind.startswith("multilabel")
    return has_columns(model.predict(X[:1]))


def has_columns(y: Any) -> bool:
    """Whether y has several columns."""
    shape = y.shape if hasattr(y, "shape") else np.shape(y)
    return len(shape) == 2 and shape[1] > 1


def check_y(y: Any, model: Any, *, multilabel: bool, what: str) -> None:
    """Raise ValueError if y is multilabel and the model is not, or the reverse."""
    if has_columns(y) == multilabel:
        return
    name = type(model).__name__
    shape = y.shape if hasattr(y, "shape") else np.shape(y)
    if multilabel:
        raise ValueError(
            f"{what} must have a column of 0 and 1 for each label, as {name} has learnt "
            f"independent labels. Got shape {tuple(shape)} instead."
        )
    raise ValueError(
        f"{what} must hold one label an image, as {name} has learnt one class of "
        f"{len(model.classes_)}. Got shape {tuple(shape)}; write classes_[y.argmax(axis=1)] if its "
        "columns are the classes in their order."
    )


def is_one_hot(y: np.ndarray) -> bool:
    """Whether each row of zeros and ones (n, k) has exactly one 1."""
    return bool(len(y) and (np.asarray(y).sum(axis=1) == 1).all())


def check_not_exclusive(y: np.ndarray, proba: np.ndarray, what: str) -> None:
    """Raise ValueError if labels and probabilities (n, k) are those of exclusive classes."""
    if is_one_hot(y) and np.abs(proba.sum(axis=1) - 1).max() < 1e-3:
        raise ValueError(
            f"{what} must hold one label an image where the probabilities of each sum to 1. Got "
            f"shape {y.shape} with one 1 in each row; write y.argmax(axis=1)."
        )
