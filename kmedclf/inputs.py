"""From what a user hands to fit and predict as X to images that the pipeline reads."""

from __future__ import annotations

from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils.validation import check_array, validate_data

from kmedclf import validation
from kmedclf.file_array import FileArray, as_paths
from kmedclf.image_files import MODES, Form
from kmedclf.image_store import store_of
from kmedclf.pipeline import Images, is_memmap

if TYPE_CHECKING:
    from kmedclf.base import ImageClassifier

_ARRAYS = ("float32", "uint8", "uint16", "int8", "int16", "int32", "int64")
_FILES = {1 / np.iinfo(dtype).max: dtype for dtype in (np.uint8, np.uint16)}


def check(estimator: ImageClassifier, X: Any, *, reset: bool) -> Images:
    """Check X, and remember its kind in the estimator or compare it with what that was fitted on.

    Parameters
    ----------
    estimator : ImageClassifier
        Whose parameters and fitted attributes.
    X : array-like
        As of `kmedclf.ImageClassifier.fit`.
    reset : bool
        Whether to remember.
    """
    paths = as_paths(X, type(estimator).__name__)
    if paths is not None:
        images = _check_files(estimator, paths, fitted=not reset)
    else:
        images = _check_array(estimator, X, reset=reset)
    if reset:
        estimator.image_shape_, estimator._scale = images.shape, images.scale
        estimator.n_features_in_ = int(np.prod(images.shape))
        estimator.skipped_ = images.skipped
    name = type(estimator).__name__
    validation.check_same_kind(images, estimator.image_shape_, estimator._scale, name)
    return images


def _check_array(estimator: ImageClassifier, X: Any, *, reset: bool) -> Images:
    name = type(estimator).__name__
    X = np.asarray(X) if isinstance(X, list | tuple) else X
    dtypes = [*_ARRAYS, "float64"] if is_memmap(X) else list(_ARRAYS)
    if getattr(X, "ndim", 2) < 3:  # remembers and compares names and number of columns
        X = validate_data(estimator, X, reset=reset, dtype=dtypes, ensure_all_finite=False)
    else:
        X = check_array(X, dtype=dtypes, allow_nd=True, estimator=name, ensure_all_finite=False)
    return validation.check_images(X, estimator.image_shape, name)


def _check_files(estimator: ImageClassifier, paths: list[str], *, fitted: bool) -> Images:
    """Make images of files, as an estimator's parameters say or as it was fitted on.

    Parameters
    ----------
    estimator : ImageClassifier
        Whose ``image_size``, ``channels``, ``resize``, ``on_error``, ``max_pixels``, ``cache`` and
        ``cache_limit``.
    paths : list of str
        The files.
    fitted : bool
        Whether size, channels and depth are those it was fitted on. Files and arrays of unsigned
        integers are the same to it.

    Returns
    -------
    Images
        Read batch by batch.

    Raises
    ------
    FileNotFoundError
        If a file is not there.
    ValueError
        If a file cannot be read, or the estimator cannot use files.
    """
    name, dtype = type(estimator).__name__, None
    if fitted:
        height, width, channels = shape = estimator.image_shape_
        dtype = _FILES.get(estimator._scale)
        if channels not in MODES or width == 1:
            raise ValueError(f"A model of images of shape {shape} cannot be used on image files.")
        if dtype is None:
            raise ValueError(
                f"{name} was fitted on arrays of numbers that are neither uint8 nor uint16, and "
                "cannot be used on image files."
            )
    else:
        height, width = _size(estimator, name)
        channels = estimator.channels
    form = Form(height, width, channels, estimator.resize, estimator.max_pixels)
    try:
        store = store_of(estimator.cache, estimator.cache_limit)
    except ValueError:
        raise ValueError(
            f"The 'cache_limit' parameter of {name} must be a number of bytes, or one with K, M or "
            f"G, as in '4G'. Got {estimator.cache_limit!r} instead."
        ) from None
    files = FileArray(paths, form, dtype, store, skip=estimator.on_error == "skip")
    return Images(files, 1 / np.iinfo(files.dtype).max)


def _size(estimator: ImageClassifier, name: str) -> tuple[int, int]:
    if estimator.image_shape is not None:
        raise ValueError(
            f"The 'image_shape' parameter of {name} must be None for files, which take "
            f"'image_size' and 'channels'. Got {estimator.image_shape} instead."
        )
    given: Any = estimator.image_size
    sides = (given, given) if isinstance(given, Integral) else tuple(given)
    if len(sides) != 2 or not all(isinstance(side, Integral) and int(side) > 1 for side in sides):
        raise ValueError(
            f"The 'image_size' parameter of {name} must be (h, w) or one side of a square, whole "
            f"numbers of at least 2. Got {given!r} instead."
        )
    return int(sides[0]), int(sides[1])
