"""Checks of the labels and weights that users pass to fit and predict."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    _check_method_params,
    _check_sample_weight,
    assert_all_finite,
    column_or_1d,
)

from kmedclf.inputs import array_likes
from kmedclf.inputs.images import Images
from kmedclf.inputs.label_kinds import is_one_hot


class Unsliced:
    """Wrapper for data that searches and cross-validation must pass to ``fit`` whole.

    scikit-learn slices every fit parameter of the length of X to the rows of the training fold.
    This wrapper hides the length.

    Parameters
    ----------
    value : array-like
        For instance ``X_val``.
    """

    def __init__(self, value: Any) -> None:
        self.value = value


def unwrap(value: Any) -> Any:
    """Unwrap data in `Unsliced`; return anything else unchanged."""
    return value.value if isinstance(value, Unsliced) else value


def check_y(
    y: Any, sample_weight: Any, images: Images, name: str, *, suffix: str = ""
) -> tuple[np.ndarray, np.ndarray]:
    """Check labels and sample weights against the images.

    Returns labels (n,), or zeros and ones (n, k), and float64 weights (n,), 0 for unreadable files.
    """
    if y is None:
        raise ValueError(f"{name} requires y to be passed, but the target y is None.")
    if not issparse(y):
        y = array_likes.labels(y, f"y{suffix} of {name}.fit")
    if y.ndim == 2 and y.shape[1] > 1:
        labels = _check_indicators(y, f"y{suffix}", name)
    else:
        labels = column_or_1d(y, warn=True)
        assert_all_finite(labels, input_name="y", estimator_name=name)
        check_classification_targets(labels)
    check_length(labels, len(images.array), f"y{suffix}", name)
    weight = check_weights(sample_weight, images.array, f"sample_weight{suffix}", name)
    return labels, _without_broken(weight, images, name, suffix)


def _check_indicators(y: Any, what: str, name: str) -> np.ndarray:
    """Check multilabel targets: zeros and ones, returned as int8 (n, k)."""
    values = np.asarray(y.toarray() if issparse(y) else y)
    wrong = values[(values != 0) & (values != 1)]
    if wrong.size:
        raise ValueError(
            f"{what} of {name}.fit must hold only 0 and 1 where it has several columns, one a "
            f"label. Got {listed(wrong[:1])} instead."
        )
    return values.astype(np.int8)


def warn_of_one_hot(labels: np.ndarray, name: str) -> None:
    """Warn that columns that look one-hot are learnt as independent labels."""
    # Real multilabel targets may look like this, so it is no error.
    if is_one_hot(labels):
        warnings.warn(
            f"y of {name}.fit has exactly one 1 in each row, and {labels.shape[1]} independent "
            "labels are learnt, several or none of which an image may get; give y.argmax(axis=1) "
            "to learn one class.",
            UserWarning,
            stacklevel=2,
        )


def _without_broken(weight: np.ndarray, images: Images, name: str, suffix: str) -> np.ndarray:
    """Set the weights (n,) of unreadable files to 0."""
    # A weight of 0 leaves a file out, like any other row without weight.
    broken = images.broken
    if not broken:
        return weight
    weight = weight.copy()
    weight[list(broken)] = 0
    if not weight.any():
        raise ValueError(
            f"X{suffix} of {name}.fit must hold files that can be read. None can: "
            f"{broken[min(broken)]}"
        )
    part = "validation" if suffix else "training"
    message = left_out(broken, f"{len(weight)} files of the {part} images")
    warnings.warn(message, UserWarning, stacklevel=2)
    return weight


def left_out(broken: Mapping[int, Exception], whole: str) -> str:
    """Say how many files of ``whole`` are left out, and what is wrong with the first three."""
    verb = "is" if len(broken) == 1 else "are"
    said = [f"{len(broken)} of the {whole} cannot be read and {verb} left out."]
    said += [str(broken[i]) for i in sorted(broken)[:3]]
    said += [f"There are {len(broken) - 3} more."] if len(broken) > 3 else []
    return " ".join(said)


def check_weights(sample_weight: Any, X: Any, what: str, name: str) -> np.ndarray:
    """Check sample weights: one finite, non-negative number per image, not all zero."""
    if hasattr(sample_weight, "__len__"):
        check_length(sample_weight, len(X), what, name)
    weight = _check_sample_weight(sample_weight, X, dtype=np.float64, allow_all_zero_weights=True)
    if np.any(weight < 0):
        raise ValueError(
            f"{what!r} of {name}.fit must not be negative. Got {weight.min():g} among them."
        )
    if not np.any(weight > 0):
        raise ValueError(f"{what!r} of {name}.fit must not be all zero. Got only zeros.")
    # The network computes in float32, where larger weights are infinite and smaller ones 0.
    limits = np.finfo(np.float32)
    if not limits.tiny <= weight.max() <= limits.max:
        raise ValueError(
            f"{what!r} of {name}.fit must be numbers that float32 can hold. Got {weight.max():g} "
            "as the largest of them."
        )
    return weight


def check_length(values: Any, n: int, what: str, name: str) -> None:
    """Check that there is one value per image."""
    if len(values) != n:
        raise ValueError(
            f"{what!r} of {name}.fit must have one entry for each of the {n} images. "
            f"Got {len(values)} instead."
        )


def draw_seed(random_state: int | np.random.RandomState | None) -> int:
    """Convert ``random_state`` to a seed; None is fresh entropy, not NumPy's global state."""
    if random_state is None:
        return int(np.random.default_rng().integers(2**31))
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(2**31 - 1))
    return int(random_state)


def positions(labels: Any, classes: np.ndarray, receiver: str) -> np.ndarray:
    """Convert labels (n,) to int32 positions in ``classes``; refuse unknown labels."""
    codes = {label: code for code, label in enumerate(classes.tolist())}
    index = np.array([codes.get(label, -1) for label in labels.tolist()], np.int32)
    if np.any(index < 0):
        raise ValueError(
            f"Labels given to {receiver} must be among its classes, {listed(classes)}. "
            f"Got {listed(labels[index < 0][:1])} instead."
        )
    return index


def listed(labels: Any) -> str:
    """Format up to twelve labels for an error message."""
    plain = [label.item() if isinstance(label, np.generic) else label for label in labels]
    return ", ".join(map(repr, plain[:12])) + (", ..." if len(plain) > 12 else "")


HELD_OUT = ("X_val", "y_val", "sample_weight_val")
"""Fit parameters that are never sliced, also as ``step__X_val`` in a pipeline."""

Params = Mapping[str, Any]


def is_held_out(name: str) -> bool:
    """Whether a fit parameter is validation data."""
    return name.rsplit("__", 1)[-1] in HELD_OUT


def cut(X: Any, fit_params: Params, rows: np.ndarray | None) -> dict[str, Any]:
    """Slice fit parameters like X, except validation data."""
    whole = {name: value for name, value in fit_params.items() if is_held_out(name)}
    rest = {name: value for name, value in fit_params.items() if name not in whole}
    return {**_check_method_params(X, rest, rows), **whole}
