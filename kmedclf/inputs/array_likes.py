"""Converts what users pass as X, y and groups to arrays, or explains why it cannot."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from PIL import Image, ImageOps
from scipy.sparse import issparse

_MODES = {"1": "L", "CMYK": "RGB", "HSV": "RGB", "LAB": "RGB", "La": "LA", "PA": "RGBA",
          "RGBX": "RGB", "RGBa": "RGBA", "YCbCr": "RGB"}  # fmt: skip
"""Conversions of Pillow modes whose numbers are not plain grey or RGB values."""


def images(X: Any, name: str) -> Any:
    """Convert a container of images to an array; leave arrays, tables and lists of paths alone.

    Raises ValueError if X is no batch of images of one size, TypeError if it has no rows.
    """
    if is_medmnist(X):
        X, _ = of_medmnist(X)
    if isinstance(X, str | os.PathLike | Image.Image):
        what = "picture" if isinstance(X, Image.Image) else "path"
        raise ValueError(
            f"X of {name} must be a batch of images. Got one {what}, {_short(X)}; write [X]."
        )
    if issparse(X):
        return X  # scikit-learn refuses it
    if np.ma.is_masked(X):
        raise ValueError(
            f"X of {name} must have a value for every pixel. Got a masked array; write "
            "X.filled(0), or another value."
        )
    _check_rows(X, name)
    if isinstance(X, list | tuple):
        return _stacked(X, name)
    if hasattr(X, "iloc") and getattr(X, "ndim", 0) == 2:
        return _of_table(X, name)
    X = array(X)
    if getattr(getattr(X, "dtype", None), "kind", "") == "O" and X.ndim == 1 and len(X):
        # An object array may hold one image per entry, which NumPy does not stack by itself.
        first = np.asarray(X, dtype=object)[0]
        if np.ndim(first) or isinstance(first, Image.Image):
            return _stacked(list(X), name)
    return _of_numbers(X, name)


def as_paths(X: Any, name: str) -> list[str] | None:
    """Convert X to a list of paths if its first entry is one; None if X is something else."""
    if not isinstance(X, list | tuple):
        ndim = getattr(X, "ndim", 0)
        if ndim != 1 and not (ndim == 2 and X.shape[1] == 1):
            return None
        if getattr(getattr(X, "dtype", None), "kind", "O") not in "OUT":
            return None
        X = np.asarray(X).ravel()
    if not len(X) or not isinstance(X[0], str | os.PathLike):
        return None
    for i, path in enumerate(X):
        if not isinstance(path, str | os.PathLike):
            raise ValueError(f"X of {name} must hold paths only, or none. Got {path!r} at {i}.")
    return [os.fspath(path) for path in X]


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


def array(value: Any) -> Any:
    """Convert a tensor of another library to an array, on whatever device it is."""
    if isinstance(value, np.ndarray | np.generic) or not hasattr(value, "numpy"):
        return value
    for step in ("detach", "cpu"):  # PyTorch's
        value = getattr(value, step, lambda value=value: value)()
    return value.numpy()


def form(values: Any, name: str) -> dict[str, Any]:
    """Return shape and dtype of what a user passed, by scikeras' names: "X_shape_", "X_dtype_"."""
    found = values if hasattr(values, "shape") and hasattr(values, "dtype") else np.asarray(values)
    return {f"{name}_shape_": tuple(found.shape), f"{name}_dtype_": str(found.dtype)}


def numbers(X: np.ndarray, name: str) -> np.ndarray:
    """Convert objects to numbers; refuse text and dates."""
    if X.dtype == object:
        plain = np.array(X.tolist())
        X = plain if plain.dtype.kind in "biuf" else X.astype(np.float32)
    if X.dtype.kind not in "biuf":
        raise ValueError(
            f"X of {name} must hold numbers, or one path an image. Got the dtype {X.dtype} in the "
            f"shape {X.shape} instead."
        )
    return X


def labels(y: Any, what: str) -> np.ndarray:
    """Convert labels to an array of any shape, with numbers and text unchanged.

    Raises ValueError for missing labels or two that look the same, TypeError for bytes or no rows.
    """
    if isinstance(y, Mapping | Iterator | set | frozenset) or hasattr(y, "element_spec"):
        raise TypeError(
            f"{what} must be an array or a list of labels. Got a {type(y).__name__} instead."
        )
    # NumPy turns numbers among text into text, so the entries of lists are checked themselves.
    found = np.asarray(array(y))
    if found.dtype == object or (found.ndim == 1 and isinstance(y, list | tuple)):
        mixed = list(y) if isinstance(y, list | tuple) and found.ndim == 1 else found.ravel()
        _check_plain(mixed, what, "label")
        if found.dtype == object and found.ndim == 1:
            plain = np.array(found.tolist())
            found = found if plain.ndim > 1 or plain.dtype.kind == "U" else plain
    if found.dtype.kind == "S":
        raise TypeError(
            f"{what} must hold text or numbers. Got bytes, {found.flat[0]!r} among them; decode "
            "them, as in [label.decode() for label in y]."
        )
    if found.dtype.kind in "UO" and found.size:
        _check_looks(found, what)
    return found


def plain_labels(values: Any, what: str, kind: str) -> list[Any]:
    """Convert an array-like (n,) to a list of Python values; refuse missing ones."""
    if isinstance(values, list | tuple):
        plain = [one.item() if isinstance(one, np.generic) else one for one in values]
    else:
        found = np.asarray(array(values))
        if found.ndim == 2 and found.shape[1] == 1:
            found = found[:, 0]
        if found.ndim != 1:
            raise ValueError(
                f"{what} must be of shape (n,), one {kind} an image. Got {found.shape} instead."
            )
        plain = found.tolist()
    for i, one in enumerate(plain):
        if _is_missing(one):
            raise ValueError(f"{what} must give a {kind} to every image. Got {one!r} at {i}.")
    return plain


def _is_missing(value: Any) -> bool:
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, float | np.floating) and value != value


def _check_plain(values: Any, what: str, kind: str) -> None:
    """Check that labels in a list are present, and all text or all numbers."""
    first: dict[bool, Any] = {}
    for i, one in enumerate(values):
        if _is_missing(one):
            raise ValueError(f"{what} must give a {kind} to every image. Got {one!r} at {i}.")
        if isinstance(one, bytes):
            raise TypeError(
                f"{what} must hold text or numbers. Got bytes, {one!r} among them; decode them, as "
                "in [label.decode() for label in y]."
            )
        first.setdefault(isinstance(one, str), one)
    if len(first) > 1:
        raise ValueError(
            f"{what} must hold text or numbers, not both. Got {first[False]!r} and {first[True]!r}."
        )


def _check_looks(found: np.ndarray, what: str) -> None:
    """Check that no two labels differ only in surrounding blanks or Unicode normalisation."""
    seen: dict[str, str] = {}
    for label in np.unique(found).tolist():
        if isinstance(label, str):
            other = seen.setdefault(unicodedata.normalize("NFC", label).strip(), label)
            if other != label:
                raise ValueError(
                    f"{what} must not hold labels that look the same. Got {other!r} and {label!r}; "
                    "strip them, as in [label.strip() for label in y]."
                )


def _check_rows(X: Any, name: str) -> None:
    """Refuse what cannot be indexed by row: streams, mappings, sets."""
    do = ""
    if hasattr(X, "element_spec"):
        do = "collect its images, as in np.concatenate([images for images, _ in X])"
    elif isinstance(X, Mapping):
        do = "give its images alone, as in X['image']"
    elif isinstance(X, Iterator | set | frozenset) or not any(
        hasattr(X, method) for method in ("__array__", "shape", "__getitem__")
    ):
        do = "write list(X) if it holds images"
    elif not any(hasattr(X, method) for method in ("__array__", "shape", "iloc")) and not (
        isinstance(X, list | tuple)
    ):
        do = "collect its images, as in np.stack([X[i][0] for i in range(len(X))])"
    if do:
        raise TypeError(
            f"X of {name} must be an array of images, or a list of images or paths. Got a "
            f"{type(X).__name__}; {do}."
        )


def _stacked(X: list[Any] | tuple[Any, ...], name: str) -> Any:
    """Stack images into one array; return a list of paths unchanged."""
    if not len(X):
        raise ValueError(f"X of {name} must hold images. Got an empty {type(X).__name__}.")
    if isinstance(X[0], str | os.PathLike):
        _check_paths(X, name)
        return X
    parts = [_of_picture(one, name) if isinstance(one, Image.Image) else array(one) for one in X]
    shapes = {
        np.shape(one): i for i, one in reversed(list(enumerate(parts))) if hasattr(one, "shape")
    }
    if len(shapes) > 1:
        (first, i), (other, j) = sorted(shapes.items(), key=lambda one: one[1])[:2]
        raise ValueError(
            f"X of {name} must hold images of one shape. Got {first} at {i} and {other} at {j}; "
            "resize them, or give their paths, which are read at 'image_size' and 'channels'."
        )
    try:
        return _of_numbers(np.asarray(parts), name)
    except ValueError as error:
        if "inhomogeneous" not in str(error):
            raise
        raise ValueError(
            f"X of {name} must hold images of one shape. Got lists of several lengths."
        ) from None


def _check_paths(X: list[Any] | tuple[Any, ...], name: str) -> None:
    for i, path in enumerate(X):
        if isinstance(path, str | os.PathLike):
            continue
        # dask's keys are tuples of a name and block numbers.
        if isinstance(X, tuple) and all(isinstance(one, int) for one in X[1:]):
            raise ValueError(
                f"X of {name} must hold paths only, or none. Got {X!r}, which looks like a key of "
                "dask; pass the array itself, as from X.compute()."
            )
        plain = path is None or isinstance(path, int | float | bytes)
        what = repr(path) if plain else f"a {type(path).__name__}"
        raise ValueError(f"X of {name} must hold paths only, or none. Got {what} at {i}.")


def _of_numbers(X: Any, name: str) -> Any:
    """Refuse arrays of neither numbers nor paths, and a flat image without a batch axis."""
    kind, ndim = getattr(getattr(X, "dtype", None), "kind", "O"), getattr(X, "ndim", 2)
    if ndim == 1 and not len(X):
        raise ValueError(f"X of {name} must hold images. Got an empty {type(X).__name__}.")
    if kind in "SmMV":
        raise ValueError(
            f"X of {name} must hold numbers, or one path an image. Got the dtype {X.dtype} in the "
            f"shape {X.shape} instead."
        )
    # A single flat image would be taken for n images of one pixel.
    if kind in "biuf" and ndim < 2:
        raise ValueError(
            f"X of {name} must be a batch of images, of 2 dimensions or more. Got the shape "
            f"{tuple(X.shape)}. Reshape your data, as in X[None], if it is one flat image."
        )
    return X


def _of_picture(picture: Image.Image, name: str) -> np.ndarray:
    """Convert a Pillow image to an array: upright, without palette, bits as grey."""
    if (n := getattr(picture, "n_frames", 1)) > 1:
        raise ValueError(f"X of {name} must hold pictures of one image each. Got one of {n}.")
    picture = ImageOps.exif_transpose(picture)  # like the reader of files
    mode = _MODES.get(picture.mode, picture.mode)
    if mode == "P":
        mode = "RGBA" if "transparency" in picture.info else "RGB"
    return np.asarray(picture if mode == picture.mode else picture.convert(mode))


def _of_table(X: Any, name: str) -> Any:
    """Return a table of numbers or paths, or the stacked images of its single column."""
    if X.shape[1] == 1 and len(X) and np.ndim(X.iloc[0, 0]):
        return _stacked(list(X.iloc[:, 0]), name)
    text = [c for c in X.columns if len(X) and isinstance(X[c].iloc[0], str | os.PathLike)]
    if X.shape[1] > 1 and text:
        raise ValueError(
            f"X of {name} must hold numbers, or one column of paths. Got text in the column "
            f"{text[0]!r}, one of {X.shape[1]}; write X[{text[0]!r}] if it holds the paths."
        )
    return X


def _short(value: Any) -> str:
    text = str(value) if isinstance(value, str | os.PathLike) else type(value).__name__
    return repr(text if len(text) < 60 else f"...{text[-57:]}")
