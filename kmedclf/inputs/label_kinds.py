"""Whether labels are one class of several, or independent: a model knows, y alone does not."""

from __future__ import annotations

from typing import Any

import numpy as np


def is_multilabel(model: Any, X: Any = None) -> bool:
    """Say whether a fitted classifier has learnt independent labels.

    Parameters
    ----------
    model : estimator
        Ours, scikit-learn's or another; also in a pipeline or a search.
    X : array-like of shape (n, ...), optional
        Rows, the first of which a model predicts that says nothing else of it.
    """
    inner = getattr(model, "best_estimator_", model)
    inner = getattr(inner, "_final_estimator", inner)  # of a Pipeline
    head = getattr(inner, "_head", None)
    if head is not None:
        return bool(head.several)
    if hasattr(inner, "_several"):
        return bool(inner._several)
    if isinstance(getattr(inner, "classes_", None), list):  # as scikit-learn's forests have
        return True
    if X is None:
        binarizer = getattr(inner, "_label_binarizer", None)  # of its networks
        kind = getattr(binarizer, "y_type_", "")
        return bool(getattr(inner, "multilabel_", False)) or kind.startswith("multilabel")
    return has_columns(model.predict(X[:1]))


def has_columns(y: Any) -> bool:
    """Say whether y has several columns."""
    shape = y.shape if hasattr(y, "shape") else np.shape(y)
    return len(shape) == 2 and shape[1] > 1


def check_y(y: Any, model: Any, *, multilabel: bool, what: str) -> None:
    """Check that labels are of the kind that a model has learnt.

    Raises
    ------
    ValueError
        If they have columns and should not, or the reverse.
    """
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
    """Say whether each row of zeros and ones (n, k) has exactly one 1."""
    return bool(len(y) and (np.asarray(y).sum(axis=1) == 1).all())


def check_not_exclusive(y: np.ndarray, proba: np.ndarray, what: str) -> None:
    """Refuse labels and probabilities (n, k) that are those of one class of several.

    Raises
    ------
    ValueError
        If all rows of both sum to 1.
    """
    if is_one_hot(y) and np.abs(proba.sum(axis=1) - 1).max() < 1e-3:
        raise ValueError(
            f"{what} must hold one label an image where the probabilities of each sum to 1. Got "
            f"shape {y.shape} with one 1 in each row; write y.argmax(axis=1)."
        )
