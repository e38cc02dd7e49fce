"""What estimators of images do with X: they check it in fit, and later X against that of fit.

A fit decides by dtype and range whether numbers are bytes, 16-bit integers, or values to use
unchanged, and later images are read the same way. The content of a later batch never changes its
scale: it can only be refused.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from sklearn.utils.validation import check_array, validate_data

from kmedclf.inputs import array_likes
from kmedclf.inputs.file_array import FileArray, Store
from kmedclf.inputs.image_files import MODES, Form
from kmedclf.inputs.images import Images, is_memmap

BYTE, DEEP = 1 / 255, 1 / 65535
"""Scales of uint8 and uint16."""

UNSCALED = 2.0
"""Largest value of floats that look scaled to [0, 1], even after augmentation."""

CENTRED = 20.0
"""Largest magnitude of floats that look standardised, if some are negative."""

_OWN = {1 / np.iinfo(dtype).max: np.dtype(dtype) for dtype in ("u1", "u2", "i1", "i2")}

_FILES = {1 / np.iinfo(dtype).max: dtype for dtype in (np.uint8, np.uint16)}

MAX_CHANNELS = 4
"""More channels need an ``image_shape``: the last axis may be slices or a side of the image."""


class ImageInput:
    """Base of estimators whose X are images: arrays, memory maps, or paths of files.

    A subclass has the parameters that are declared here.
    """

    any_scale: ClassVar[bool] = False
    """Whether numbers of any scale are used as they are, without a warning."""

    if TYPE_CHECKING:  # parameters of a subclass, and attributes that `_check_X` sets
        image_shape: Any
        channels: Any
        resize: Any
        on_error: Any
        max_pixels: Any
        cache: Any
        cache_limit: Any
        image_shape_: tuple[int, int, int]
        n_features_in_: int
        _seen: dict[str, Any]

    @property
    def _file_size(self) -> Any:
        """Size (h, w), or one side, at which ``fit`` reads files."""
        raise NotImplementedError

    def _check_X(self, X: Any, *, reset: bool) -> Images:
        """Check X; with ``reset`` store its kind, otherwise compare with the one stored."""
        name = type(self).__name__
        X = array_likes.images(X, name)
        paths = array_likes.as_paths(X, name)
        if paths is not None:
            images, largest = self._check_files(paths, fitted=not reset), None
        elif reset:
            images, largest = self._read_array(X)
        else:
            images, largest = self._array_like_fitted(X), None
        if reset:
            self._seen = array_likes.form(X, "X")
            self.image_shape_, self._scale = images.shape, images.scale
            self._largest = largest
            columns = getattr(X, "shape", ())[1:2] if paths is None else ()
            self.n_features_in_ = int(columns[0] if columns else np.prod(images.shape))
            self.skipped_ = images.skipped
        _check_same_shape(images, self.image_shape_, name)
        return images

    @property
    def _pixel_dtype(self) -> str:
        """Dtype of the pixels that the fitted network takes."""
        return "float32" if self._scale == 1.0 else _OWN[self._scale].name

    def _read_array(self, X: Any) -> tuple[Images, float | None]:
        """Check an array to fit on; return also its largest float, as `read_pixels` does."""
        X, name = self._checked_array(X, reset=True), type(self).__name__
        flat = self.any_scale or (X.ndim == 2 and self.image_shape is None)
        return read_pixels(_shaped(X, self.image_shape, name), name, flat=flat)

    def _array_like_fitted(self, X: Any) -> Images:
        """Check that an array is like the one the estimator was fitted on."""
        name, shape = type(self).__name__, self.image_shape_
        _check_batch(tuple(getattr(X, "shape", ())), shape, name)
        X = self._checked_array(X, reset=False)
        if X.shape == (1, self.n_features_in_) and X.shape[1] < np.prod(shape) and not X.any():
            X = np.zeros((1, *shape), np.float32)  # MAPIE tests this way whether it is fitted
        flat = X.ndim == 2 and self.image_shape is None and shape[1:] == (1, 1)
        flat = flat or self.any_scale
        X = _shaped(X, self.image_shape, name, shape)
        _check_same_shape(Images(X, 1.0), shape, name)  # before a costly cast
        largest = getattr(self, "_largest", None)  # missing in models of earlier versions
        return pixels_like(X, self._scale, largest, name, flat=flat)

    def _checked_array(self, X: Any, *, reset: bool) -> np.ndarray:
        """Let scikit-learn check an array-like, and convert it to an array of numbers."""
        given: dict[str, Any] = {"dtype": None, "ensure_all_finite": False}
        rows = reset or self.n_features_in_ == np.prod(self.image_shape_)
        if getattr(X, "ndim", 2) < 3 and rows:  # stores or compares the names and number of columns
            X = validate_data(self, X, reset=reset, **given)
        else:
            X = check_array(X, allow_nd=True, estimator=type(self).__name__, **given)
        return array_likes.numbers(X, type(self).__name__)

    def file_array(self, files: Sequence[str]) -> FileArray:
        """Return image files as the array that the fitted estimator predicts from."""
        array = self._check_files(list(files), fitted=True).array
        assert isinstance(array, FileArray)
        return array

    def _check_files(self, paths: list[str], *, fitted: bool) -> Images:
        """Make images of files; a fitted estimator reads them as it did in fit."""
        name, dtype = type(self).__name__, None
        if fitted:
            height, width, channels = shape = self.image_shape_
            dtype = _FILES.get(self._scale)
            if channels not in MODES or width == 1:
                raise ValueError(
                    f"A model of images of shape {shape} cannot be used on image files."
                )
            if dtype is None:
                raise ValueError(
                    f"{name} was fitted on arrays of numbers that are neither uint8 nor uint16, "
                    "and cannot be used on image files."
                )
        else:
            if self.image_shape is not None:
                raise ValueError(
                    f"The 'image_shape' parameter of {name} must be None for files, which take "
                    f"'image_size' and 'channels'. Got {self.image_shape} instead."
                )
            height, width = self._sides(name)
            channels = self.channels
        form = Form(height, width, channels, self.resize, self.max_pixels)
        store = Store.of(self.cache, self.cache_limit, name)
        files = FileArray(paths, form, dtype, store, skip=self.on_error == "skip")
        return Images(files, 1 / np.iinfo(files.dtype).max)

    def _sides(self, name: str) -> tuple[int, int]:
        """Check the size for files, and return (h, w)."""
        given = self._file_size
        sides = (given, given) if isinstance(given, Integral) else tuple(given)
        if len(sides) != 2 or not all(
            isinstance(side, Integral) and int(side) > 1 for side in sides
        ):
            raise ValueError(
                f"The 'image_size' parameter of {name} must be (h, w) or one side of a square, "
                f"whole numbers of at least 2. Got {given!r} instead."
            )
        return int(sides[0]), int(sides[1])


def _shaped(
    X: np.ndarray,
    image_shape: tuple[int, ...] | list[int] | None,
    name: str,
    fitted: tuple[int, int, int] | None = None,
) -> np.ndarray:
    """Reshape images of any accepted shape to (n, h, w, c), as a view.

    ``fitted`` is the image shape seen during fit, for rows of a 2-D X as well.
    """
    _check_image_shape(image_shape, name)
    if X.ndim > 4:
        raise ValueError(
            f"X of {name} must have the shape (n, d), (n, h, w) or (n, h, w, c), so that volumes "
            f"are cut into slices. Got {X.shape} instead."
        )
    if X.ndim == 2:
        # Tools that only know `n_features_in_` pass rows of the images seen during fit.
        shape = tuple(image_shape or fitted or (X.shape[1], 1, 1))
        if int(np.prod(shape)) != X.shape[1] and fitted:
            raise ValueError(
                f"{name} was fitted on images of shape {fitted}, got rows of {X.shape[1]} columns."
            )
        if int(np.prod(shape)) != X.shape[1]:
            raise ValueError(
                f"The 'image_shape' parameter of {name} must multiply to the {X.shape[1]} columns "
                f"of X. Got {image_shape} instead."
            )
        X = X.reshape(-1, *(shape if len(shape) == 3 else (*shape, 1)))
    elif X.ndim == 3:
        X = X[..., None]
    if image_shape is not None and X.shape[1 : 1 + len(image_shape)] != tuple(image_shape):
        raise ValueError(
            f"The 'image_shape' parameter of {name} must be the shape of the images, "
            f"{X.shape[1:]}. Got {image_shape} instead."
        )
    if min(X.shape[1:]) < 1:
        raise ValueError(f"X of {name} must hold pixels. Got images of shape {X.shape[1:]}.")
    if fitted is None:
        _check_channels(X.shape[1:], image_shape, name)
    return X


def _check_channels(shape: tuple[int, ...], image_shape: Any, name: str) -> None:
    # Channels first look like a tiny height, and a volume like many channels: networks would often
    # train on either without an error.
    first, height, width = shape
    looks_first = first <= MAX_CHANNELS < min(height, width)
    if image_shape is not None and len(image_shape) == 3:  # may be signals in one row
        looks_first = looks_first and (first > 2 or height == width)
        if not looks_first:
            return
    if looks_first:
        raise ValueError(
            f"X of {name} must have its channels last. Got images of shape {shape}; write "
            f"{_channels_last(shape, flat=image_shape is not None)}."
        )
    if width > MAX_CHANNELS:
        raise ValueError(
            f"X of {name} must hold images of at most {MAX_CHANNELS} channels. Got images of shape "
            f"{shape}; cut volumes into slices, or set image_shape={shape} to take these {width} "
            "slices as channels."
        )


def _channels_last(shape: tuple[int, ...], *, flat: bool) -> str:
    rows = f"X.reshape(-1, {', '.join(map(str, shape))})" if flat else "X"
    return f"{rows}.transpose(0, 2, 3, 1)"


def _check_batch(shape: tuple[int, ...], fitted: tuple[int, int, int], name: str) -> None:
    """Refuse one image without a batch axis, and images with channels first."""
    if fitted[1] > 1 and shape in (fitted, fitted[:2] if fitted[2] == 1 else fitted):
        raise ValueError(
            f"X of {name} must be a batch of images. Got one image of shape {shape}; write X[None]."
        )
    if len(shape) == 4 and shape[1:] == (fitted[2], *fitted[:2]) != fitted:
        raise ValueError(
            f"{name} was fitted on images of shape {fitted}, got {shape[1:]}; write "
            f"{_channels_last(shape[1:], flat=False)}."
        )


def _check_image_shape(image_shape: tuple[int, ...] | list[int] | None, name: str) -> None:
    """Check that ``image_shape`` is two or three positive integers."""
    whole = [isinstance(side, Integral) and side > 0 for side in image_shape or ()]
    if image_shape is not None and not (len(whole) in (2, 3) and all(whole)):
        raise ValueError(
            f"The 'image_shape' parameter of {name} must be (h, w) or (h, w, c), whole numbers of "
            f"at least 1. Got {image_shape} instead."
        )


def _check_same_shape(images: Images, shape: tuple[int, int, int], name: str) -> None:
    """Check that images have the shape seen during fit."""
    if images.shape != shape:
        raise ValueError(f"{name} was fitted on images of shape {shape}, got {images.shape}.")


def read_pixels(X: np.ndarray, name: str, *, flat: bool) -> tuple[Images, float | None]:
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


def pixels_like(
    X: np.ndarray, scale: float, largest: float | None, name: str, *, flat: bool
) -> Images:
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
