"""Decides whether numbers in an image array are bytes, 16-bit integers, or values to use unchanged.

A fit decides by dtype and range, and later images are read the same way. The content of a later
batch never changes its scale: it can only be refused.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np

from kmedclf.inputs.images import Images, is_memmap

BYTE, DEEP = 1 / 255, 1 / 65535
"""Scales of uint8 and uint16."""

UNSCALED = 2.0
"""Largest value of floats that look scaled to [0, 1], even after augmentation."""

CENTRED = 20.0
"""Largest magnitude of floats that look standardised, if some are negative."""

_OWN = {1 / np.iinfo(dtype).max: np.dtype(dtype) for dtype in ("u1", "u2", "i1", "i2")}


def read(X: np.ndarray, name: str, *, flat: bool) -> tuple[Images, float | None]:
    """Choose the scale of images (n, h, w, c) to fit on; if unscaled, find their largest value.

    ``flat`` rows without ``image_shape`` may be features in any unit, so there is no warning.
    """
    # Bytes come first: many tools return int64 or int32 arrays of 8-bit pixels.
    if X.dtype.kind in "iu":
        if X.dtype == np.uint8 or _fits(X, np.uint8):
            return _cast(X, np.uint8, BYTE), None
        if X.dtype.itemsize <= 2:
            return _cast(X, X.dtype.newbyteorder("="), 1 / np.iinfo(X.dtype).max), None
        if not flat and _fits(X, np.uint16):
            return _cast(X, np.uint16, DEEP), None
    images, low, high = _as_given(X, name)
    largest = max(abs(low), abs(high))
    if flat:
        return images, None
    if high > UNSCALED and not (low < 0 and largest <= CENTRED):
        _warn(X, high, name)
    return images, largest


def like(X: np.ndarray, scale: float, largest: float | None, name: str, *, flat: bool) -> Images:
    """Read images the way an estimator's fit did; raise ValueError if they are on another scale."""
    if scale == 1.0:
        return _like_floats(X, largest, name, flat=flat)
    own = _OWN[scale]
    kind = f"{name} was fitted on {8 * own.itemsize}-bit integer images"
    if X.dtype.kind not in "iu":
        _, low, high = _as_given(X, name)
        # Floats in [0, 1] are scaled pixels, which a cast would turn into zeros and ones.
        if high <= 1 and (low, high) != (0, 0):
            raise ValueError(
                f"{kind}, got float ones of at most {high:.3g}; give their pixels from "
                f"{np.iinfo(own).min} to {np.iinfo(own).max}, as uint8 or another integer dtype."
            )
        if not _fits(X, own, whole=True):
            raise ValueError(
                f"{kind}, got float ones from {low:.6g} to {high:.6g} that no cast to {own} keeps "
                "as they are; round and clip them first."
            )
        return _cast(X, own, scale)
    # Other integers of up to 16 bits have a scale of their own, that of their dtype.
    wide = X.dtype.itemsize > 2 or own == np.uint8
    if X.dtype.newbyteorder("=") != own and not (wide and _fits(X, own)):
        low, high = limits(X)
        raise ValueError(
            f"{kind} ({own}), got {8 * X.dtype.itemsize}-bit integer ones ({X.dtype}) from "
            f"{low:.0f} to {high:.0f}; scale them as those fitted on."
        )
    return _cast(X, own, scale)


def dtype_of(scale: float) -> str:
    """Name the dtype of the pixels that a network of this scale takes."""
    return "float32" if scale == 1.0 else _OWN[scale].name


def limits(X: np.ndarray) -> tuple[float, float]:
    """Find the smallest and the largest value, or NaN; memory maps stay on disk."""
    low, high = np.inf, -np.inf
    for block in _blocks(X):
        low, high = np.minimum(low, block.min()), np.maximum(high, block.max())
    return float(low), float(high)


def _like_floats(X: np.ndarray, largest: float | None, name: str, *, flat: bool) -> Images:
    kind = f"{name} was fitted on float (unscaled) images"
    images, low, high = _as_given(X, name)
    whole, most = X.dtype.kind in "iu", max(abs(low), abs(high))
    if largest is None:  # flat rows, or a model of an earlier version
        if whole and X.dtype.itemsize <= 2:
            raise ValueError(
                f"{kind}, got {8 * X.dtype.itemsize}-bit integer ones; give floats on the scale of "
                "those fitted on."
            )
        return images
    # Only clear differences of scale are refused, as a batch may be darker than those of fit.
    other = (
        (whole and largest <= UNSCALED and most > 1)
        or (largest <= CENTRED and most > max(CENTRED, 10 * largest))
        or (largest > CENTRED and not whole and 0 < most <= 1)
    )
    if other and not flat:
        what = f"{8 * X.dtype.itemsize}-bit integer" if whole else "float"
        raise ValueError(
            f"{kind} of at most {largest:.3g}, got {what} ones up to {most:.6g}; scale them as "
            "those fitted on."
        )
    return images


def _as_given(X: np.ndarray, name: str) -> tuple[Images, float, float]:
    """Use values unchanged, as float32 if in memory; check that all are finite."""
    if X.dtype != np.float32 and not is_memmap(X):
        X = X.astype(np.float32)
    low, high = limits(X)
    if not np.isfinite([low, high]).all():
        for number, image in enumerate(X):
            wrong = image[~np.isfinite(image)]
            if wrong.size:
                what = "NaN" if np.isnan(wrong[0]) else "infinity"
                raise ValueError(f"X of {name} must be finite. Got {what} in image {number}.")
    native = X.dtype.newbyteorder("=")
    return Images(X, 1.0, None if X.dtype == native else native), low, high


def _warn(X: np.ndarray, high: float, name: str) -> None:
    """Warn that values look unscaled, and say how to scale them."""
    do = f"divide them by {high:.6g}, or by the largest value there can be"
    if X.dtype.kind == "f" and _fits(X, np.uint8, whole=True):
        do = "give whole pixels from 0 to 255 as X.astype('uint8'), which are scaled to [0, 1]"
    warnings.warn(
        f"X of {name}.fit holds values up to {high:.6g}, which are used as given; {do}.",
        UserWarning,
        stacklevel=2,
    )


def _fits(X: np.ndarray, dtype: type | np.dtype, *, whole: bool = False) -> bool:
    """Whether a cast keeps all values; stop at the first block that it would change."""
    info = np.iinfo(dtype)
    return all(
        block.min() >= info.min
        and block.max() <= info.max
        and not (whole and np.any(block != np.rint(block)))
        for block in _blocks(X)
    )


def _cast(X: np.ndarray, dtype: type | np.dtype, scale: float) -> Images:
    """Cast images to another dtype: arrays at once, memory maps batch by batch."""
    if X.dtype == dtype:
        return Images(X, scale)
    return Images(X, scale, np.dtype(dtype)) if is_memmap(X) else Images(X.astype(dtype), scale)


def _blocks(X: np.ndarray) -> Iterator[np.ndarray]:
    """Split images into blocks that fit the CPU's cache."""
    step = max(1, 2**18 // max(1, X[:1].nbytes))
    return (X[start : start + step] for start in range(0, len(X), step))
