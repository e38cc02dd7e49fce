"""From paths that a user hands to fit and predict to images that the pipeline reads."""

from __future__ import annotations

from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np

from kmedclf.file_array import FileArray
from kmedclf.image_files import MODES, Form
from kmedclf.image_store import store_of
from kmedclf.pipeline import Images

if TYPE_CHECKING:
    from kmedclf.base import ImageClassifier

_DTYPES = {1 / np.iinfo(dtype).max: dtype for dtype in (np.uint8, np.uint16)}


def check_files(estimator: ImageClassifier, paths: list[str], *, fitted: bool) -> Images:
    """Make images of files, as an estimator's parameters say or as it was fitted on.

    Parameters
    ----------
    estimator : ImageClassifier
        Whose ``image_size``, ``channels``, ``resize``, ``on_error``, ``cache`` and ``cache_limit``.
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
        dtype = _DTYPES.get(estimator._scale)
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
    form = Form(height, width, channels, estimator.resize)
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
