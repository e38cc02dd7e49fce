"""Data sets of the medmnist package as X, where it is installed."""

from __future__ import annotations

from typing import Any

import numpy as np


def is_medmnist(X: Any) -> bool:
    """Whether X is a data set of the medmnist package, which need not be installed."""
    return all(hasattr(X, name) for name in ("imgs", "labels", "info", "split", "as_rgb"))


def of_medmnist(data: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return images (n, h, w), (n, h, w, 3) or (n, d, h, w) and labels (n,) or (n, k) of one."""
    name = type(data).__name__
    for what in ("transform", "target_transform"):
        if getattr(data, what, None) is not None:
            raise ValueError(
                f"The {what!r} of {name} must be None, as all of its images are read at once; "
                "'augment' of an estimator changes training images. Got a function."
            )
    images, labels = np.asanyarray(data.imgs), np.asarray(data.labels).astype(np.int64)
    if data.as_rgb and images.ndim == 3:
        images = np.repeat(images[..., None], 3, axis=-1)
    return images, labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels


def with_labels(X: Any, y: Any) -> tuple[Any, Any]:
    """Take images and, unless y is given, labels out of a data set of medmnist."""
    if not is_medmnist(X):
        return X, y
    found, labels = of_medmnist(X)
    return found, labels if y is None else y
