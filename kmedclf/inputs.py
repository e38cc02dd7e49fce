"""From what a user hands to fit and predict as X to images that the pipeline reads."""

from __future__ import annotations

from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils.validation import check_array, validate_data

from kmedclf import array_likes, pixels, validation
from kmedclf.file_array import FileArray, as_paths
from kmedclf.image_files import MODES, Form
from kmedclf.image_store import store_of
from kmedclf.pipeline import Images

if TYPE_CHECKING:
    from kmedclf.base import ImageClassifier

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
    name = type(estimator).__name__
    X = array_likes.images(X, name)
    paths = as_paths(X, name)
    if paths is not None:
        images, largest = _check_files(estimator, paths, fitted=not reset), None
    elif reset:
        images, largest = _read_array(estimator, X)
    else:
        images, largest = _array_like_fitted(estimator, X), None
    if reset:
        estimator.image_shape_, estimator._scale = images.shape, images.scale
        estimator._largest = largest
        columns = getattr(X, "shape", ())[1:2] if paths is None else ()
        estimator.n_features_in_ = int(columns[0] if columns else np.prod(images.shape))
        estimator.skipped_ = images.skipped
    validation.check_same_shape(images, estimator.image_shape_, name)
    return images


def _read_array(estimator: ImageClassifier, X: Any) -> tuple[Images, float | None]:
    """Check an array to fit on; with the largest of its floats, as from `pixels.read`."""
    X, name = _checked(estimator, X, reset=True), type(estimator).__name__
    flat = X.ndim == 2 and estimator.image_shape is None
    return pixels.read(validation.check_images(X, estimator.image_shape, name), name, flat=flat)


def _array_like_fitted(estimator: ImageClassifier, X: Any) -> Images:
    """Check an array against the one that an estimator was fitted on."""
    name, shape = type(estimator).__name__, estimator.image_shape_
    validation.check_batch(tuple(getattr(X, "shape", ())), shape, name)
    X = _checked(estimator, X, reset=False)
    if X.shape == (1, estimator.n_features_in_) and X.shape[1] < np.prod(shape) and not X.any():
        X = np.zeros((1, *shape), np.float32)  # tools such as MAPIE ask so whether it is fitted
    flat = X.ndim == 2 and estimator.image_shape is None and shape[1:] == (1, 1)
    X = validation.check_images(X, estimator.image_shape, name, shape)
    validation.check_same_shape(Images(X, 1.0), shape, name)  # before anything is cast
    largest = getattr(estimator, "_largest", None)  # not known to models of earlier versions
    return pixels.like(X, estimator._scale, largest, name, flat=flat)


def _checked(estimator: ImageClassifier, X: Any, *, reset: bool) -> np.ndarray:
    """Have scikit-learn check an array-like, and make an array of numbers of it."""
    given: dict[str, Any] = {"dtype": None, "ensure_all_finite": False}
    rows = reset or estimator.n_features_in_ == np.prod(estimator.image_shape_)
    if getattr(X, "ndim", 2) < 3 and rows:  # remembers and compares names and number of columns
        X = validate_data(estimator, X, reset=reset, **given)
    else:
        X = check_array(X, allow_nd=True, estimator=type(estimator).__name__, **given)
    return array_likes.numbers(X, type(estimator).__name__)


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
