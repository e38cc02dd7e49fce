"""What an audit keeps of every image, so that it opens each once and holds none."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kmedclf.image_files import open_image

SIDE = 32
"""Height and width at which images are compared, in pixels."""


class Looks(NamedTuple):
    """What is kept of n images.

    Parameters
    ----------
    numbers : ndarray of shape (n,), int64
        The same for images of the same shape and pixels, from 0.
    blank : ndarray of shape (n,), bool
        Whether an image shows nothing: no pixel, one colour only, or a pixel that is NaN.
    shapes : list of str
        Their shapes.
    small : ndarray of shape (n, 32, 32), float32
        Grey thumbnails, each pixel the mean of the area it covers; 0 for blank images.
    """

    numbers: NDArray[np.int64]
    blank: NDArray[np.bool_]
    shapes: list[str]
    small: NDArray[np.float32]


def look(X: Any) -> Looks:
    """Look at images (h, w) or (h, w, c), given as arrays or as paths of files, one by one."""
    if isinstance(X, np.ndarray) and X.dtype.kind in "buif" and X.ndim not in (3, 4):
        raise ValueError(
            "The 'X' parameter of audit must be of shape (n, h, w) or (n, h, w, c). "
            f"Got {X.shape} instead."
        )
    if not len(X):
        raise ValueError("The 'X' parameter of audit must hold images. Got none.")
    known: dict[bytes, int] = {}
    looks = Looks(np.empty(len(X), np.int64), np.zeros(len(X), bool), [],
                  np.zeros((len(X), SIDE, SIDE), np.float32))  # fmt: skip
    for i in range(len(X)):
        image = _array(X, i)
        head = f"{image.shape}{image.dtype.str}".encode()
        digest = hashlib.blake2b(head + np.ascontiguousarray(image).tobytes()).digest()
        looks.numbers[i] = known.setdefault(digest, len(known))
        looks.blank[i] = _is_blank(image)
        looks.shapes.append(str(image.shape))
        if not looks.blank[i]:
            looks.small[i] = thumbnail(image)
    return looks


def _array(X: Sequence[Any], i: int) -> NDArray[Any]:
    if isinstance(X[i], str | os.PathLike):
        return np.asarray(open_image(os.fspath(X[i])))
    image = np.asarray(X[i])
    if image.ndim not in (2, 3) or image.dtype.kind not in "buif":
        raise ValueError(
            "The 'X' parameter of audit must hold images of shape (h, w) or (h, w, c), or paths. "
            f"Got shape {image.shape} and dtype {image.dtype} at {i}."
        )
    return image


def _is_blank(image: NDArray[Any]) -> bool:
    if image.size == 0 or not np.isfinite(image).all():
        return True
    return bool((image == image[:1, :1]).all())


def thumbnail(image: NDArray[Any]) -> NDArray[np.float32]:
    """Shrink an image (h, w) or (h, w, c) to a grey one (32, 32)."""
    grey = image.astype(np.float32)
    grey = grey.mean(axis=2) if grey.ndim == 3 else grey
    return _area(grey.shape[0]) @ grey @ _area(grey.shape[1]).T


@functools.cache
def _area(n: int) -> NDArray[np.float32]:
    """Make the matrix (32, n) that takes means over n / 32 pixels."""
    edges, pixels = np.arange(SIDE + 1) * n / SIDE, np.arange(n)
    right = np.minimum(edges[1:, None], pixels + 1)
    left = np.maximum(edges[:-1, None], pixels)
    return (np.clip(right - left, 0, None) * SIDE / n).astype(np.float32)
