"""Reading ``.npz`` files laid out like MedMNIST's, with errors that say what is wrong in them."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

SPLITS = ("train", "val", "test")


class Header(NamedTuple):
    """Shape and dtype of a stored array."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


def read_headers(path: Path) -> dict[str, Header]:
    """Read the shape and dtype of every array in a file without unpacking their data.

    Parameters
    ----------
    path : Path
        An ``.npz`` file.

    Returns
    -------
    dict of str to Header
        By the names of the arrays.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is truncated or no ``.npz`` file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    headers = {}
    with _explained(path), zipfile.ZipFile(path) as archive:
        for member in archive.namelist():
            if not member.endswith(".npy"):
                continue
            with archive.open(member) as file:
                version = np.lib.format.read_magic(file)
                read = np.lib.format.read_array_header_1_0
                if version != (1, 0):
                    read = np.lib.format.read_array_header_2_0
                shape, _, dtype = read(file)
                headers[member.removesuffix(".npy")] = Header(shape, dtype)
    return headers


def read_array(path: Path, key: str) -> NDArray[Any]:
    """Read one array into memory.

    Parameters
    ----------
    path : Path
        An ``.npz`` file.
    key : str
        Name of the array.

    Returns
    -------
    ndarray
        The array as stored.

    Raises
    ------
    ValueError
        If its bytes are damaged.
    """
    with _explained(path), np.load(path, allow_pickle=False) as archive:
        return np.asarray(archive[key])


def map_array(path: Path, key: str) -> NDArray[Any]:
    """Map one array from disk instead of reading it into memory.

    A compressed array cannot be mapped, so that it is unpacked once, beside the file, as
    ``<stem>_<key>.npy``, and again only if the file has become newer.

    Parameters
    ----------
    path : Path
        An ``.npz`` file.
    key : str
        Name of the array.

    Returns
    -------
    memmap
        The array, read-only.

    Raises
    ------
    ValueError
        If its bytes are damaged.
    PermissionError
        If the folder of the file cannot be written to.
    """
    target = path.with_name(f"{path.stem}_{key}.npy")
    if not target.is_file() or target.stat().st_mtime < path.stat().st_mtime:
        # The mode is asked as well, since nothing stops root from writing where no one should.
        if not os.access(path.parent, os.W_OK) or not path.parent.stat().st_mode & 0o222:
            raise PermissionError(
                f"mmap=True unpacks {path.name} once beside itself, but {path.parent} cannot be "
                f"written to; copy the file to a folder of yours, or load it with mmap=False."
            )
        # Unpacked under another name first: a reader never meets half an array.
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".unpack-") as folder:
            part = Path(folder, target.name)
            with _explained(path), zipfile.ZipFile(path) as archive:
                with archive.open(f"{key}.npy") as packed, part.open("wb") as unpacked:
                    shutil.copyfileobj(packed, unpacked, 1 << 20)
            part.replace(target)
    mapped: NDArray[Any] = np.load(target, mmap_mode="r", allow_pickle=False)
    return mapped


def check_splits(path: Path, headers: dict[str, Header]) -> tuple[str, ...]:
    """Check that a file holds images and labels that fit together.

    Parameters
    ----------
    path : Path
        The file, for the messages.
    headers : dict of str to Header
        What `read_headers` found in it.

    Returns
    -------
    tuple of str
        The splits it has, out of "train", "val" and "test".

    Raises
    ------
    ValueError
        If there is no split, a half of one, or arrays of the wrong shape, length or dtype.
    """
    splits = []
    for split in SPLITS:
        present = [key for key in (f"{split}_images", f"{split}_labels") if key in headers]
        if len(present) == 1:
            missing = "labels" if present[0].endswith("images") else "images"
            raise ValueError(f"{path} holds '{present[0]}' but no '{split}_{missing}'.")
        if present:
            _check_pair(path, split, headers)
            splits.append(split)
    if not splits:
        raise ValueError(
            f"{path} must hold 'train_images' and 'train_labels' (or val or test). It holds "
            f"{', '.join(map(repr, headers)) or 'no array'} instead."
        )
    return tuple(splits)


def _check_pair(path: Path, split: str, headers: dict[str, Header]) -> None:
    images, labels = headers[f"{split}_images"], headers[f"{split}_labels"]
    where = f"in {path}"
    grey_or_colour = len(images.shape) == 3 or (len(images.shape) == 4 and images.shape[3] <= 4)
    if not grey_or_colour or images.dtype.kind not in "uifb":
        raise ValueError(
            f"'{split}_images' {where} must be numbers of shape (n, h, w) or (n, h, w, 3). "
            f"Got {images.dtype} of shape {images.shape} instead."
        )
    if len(labels.shape) not in (1, 2) or labels.dtype.kind not in "uib":
        raise ValueError(
            f"'{split}_labels' {where} must be integers of shape (n,), (n, 1) or, for several "
            f"labels per image, (n, n_labels). Got {labels.dtype} of shape {labels.shape} instead."
        )
    if images.shape[0] != labels.shape[0]:
        raise ValueError(
            f"'{split}_images' and '{split}_labels' {where} must be of equal length. "
            f"Got {images.shape[0]} images and {labels.shape[0]} labels instead."
        )


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Say of which file it is that zipfile, zlib and numpy complain, each in its own way."""
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError, OSError) as error:
        # A damaged table of contents makes zipfile seek to nowhere; a full disk is no damage.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
        reason = " ".join(str(error).split()).rstrip(".")
        raise ValueError(f"{path} is truncated or not an .npz file ({reason}).") from error
