"""Read ``.npz`` files of MedMNIST's layout, with errors that tell what is wrong in them."""

from __future__ import annotations

import contextlib
import errno
import io
import math
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

SPLITS = ("train", "val", "test")

MEMBERS = 1000
"""Maximum number of arrays in a file; a data set has two or three per split."""

LONGEST_HEADER = 1 << 14
"""Bytes of an array that are read for its header; NumPy refuses more than 10,000."""

FREE, DENSEST = 1 << 28, 200
"""An array of more than FREE bytes may be compressed by a factor of at most DENSEST.

Images never reach it, but a decompression bomb, a small file of zeros, would fill the memory.
"""


class Header(NamedTuple):
    """Shape and dtype of a stored array."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


@dataclass(frozen=True)
class NpzFile:
    """A file of MedMNIST's layout; its headers are read once."""

    path: Path

    @cached_property
    def headers(self) -> dict[str, Header]:
        """Shape and dtype of every array, by name, read without unpacking the data."""
        with _open(self.path) as archive:
            return {
                info.filename.removesuffix(".npy"): _header(archive, info)
                for info in archive.infolist()
                if info.filename.endswith(".npy")
            }

    @cached_property
    def splits(self) -> tuple[str, ...]:
        """The splits, after a check that images and labels fit together."""
        splits = []
        for split in SPLITS:
            present = [key for key in (f"{split}_images", f"{split}_labels") if key in self.headers]
            if len(present) == 1:
                missing = "labels" if present[0].endswith("images") else "images"
                raise ValueError(f"{self.path} holds '{present[0]}' but no '{split}_{missing}'.")
            if present:
                _check_pair(self.path, split, self.headers)
                splits.append(split)
        if not splits:
            raise ValueError(
                f"{self.path} must hold 'train_images' and 'train_labels' (or val or test). It "
                f"holds {', '.join(map(repr, self.headers)) or 'no array'} instead."
            )
        return tuple(splits)

    def read(self, key: str) -> NDArray[Any]:
        """Read one array into memory."""
        with _open(self.path) as archive:
            info = _member(archive, key)
            header = _header(archive, info)
            if header.dtype.hasobject:
                raise ValueError(f"{key!r} holds Python objects, which are not read")
            with archive.open(info) as file:
                return np.asarray(np.lib.format.read_array(file, allow_pickle=False))

    def map(self, key: str) -> NDArray[Any]:
        """Map one array from disk, read-only, instead of reading it into memory.

        A compressed array cannot be mapped: it is unpacked once, beside the file, as
        ``<stem>_<key>.npy``, and again only if the file is newer.
        """
        path = self.path
        target = path.with_name(f"{path.stem}_{key}.npy")
        if not target.is_file() or target.stat().st_mtime < path.stat().st_mtime:
            # Root may write anywhere, so that `os.access` alone would ignore a read-only folder
            if not os.access(path.parent, os.W_OK) or not path.parent.stat().st_mode & 0o222:
                raise PermissionError(
                    f"mmap=True unpacks {path.name} once beside itself, but {path.parent} cannot "
                    "be written to; copy the file to a folder of yours, or load it with mmap=False."
                )
            # Unpack to a temporary file first, so that no other process maps half an array
            with tempfile.TemporaryDirectory(dir=path.parent, prefix=".unpack-") as folder:
                part = Path(folder, target.name)
                with _open(path) as archive:
                    info = _member(archive, key)
                    _header(archive, info)
                    with archive.open(info) as packed, part.open("wb") as unpacked:
                        shutil.copyfileobj(packed, unpacked, 1 << 20)
                part.replace(target)
        with explained(target):
            mapped: NDArray[Any] = np.load(target, mmap_mode="r", allow_pickle=False)
        expected = self.headers[key]
        if (mapped.shape, mapped.dtype) != (expected.shape, expected.dtype):
            raise ValueError(
                f"{target} must hold what {path.name} does, {expected.dtype} of shape "
                f"{expected.shape}. It holds {mapped.dtype} of shape {mapped.shape}: remove or "
                "rename it."
            )
        return mapped


@contextlib.contextmanager
def _open(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open an npz file, and raise any error as a sentence that names it."""
    if not path.is_file():
        what = "file" if Path(path).suffix else "file or folder"
        raise FileNotFoundError(f"There is no {what} {path}.")
    with explained(path), zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if len(names) > MEMBERS:
            raise ValueError(f"it holds {len(names):,} members, and may hold {MEMBERS:,}")
        if len(set(names)) < len(names):
            raise ValueError("it holds one name twice")
        yield archive


def _header(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Header:
    """Read the header of an array, and check that the size of its data agrees with it."""
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{info.filename!r} is packed in a way that NumPy does not use")
    if info.file_size > max(FREE, DENSEST * info.compress_size):
        raise ValueError(
            f"{info.filename!r} would unpack to {info.file_size:,} bytes, more than {DENSEST} "
            "times its size"
        )
    with archive.open(info) as file:
        start = io.BytesIO(file.read(LONGEST_HEADER))
    version = np.lib.format.read_magic(start)
    if version == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(start)
    else:
        shape, _, dtype = np.lib.format.read_array_header_2_0(start)
    if min(shape, default=0) < 0 or (dtype.itemsize == 0 and 0 not in shape):
        raise ValueError(f"{info.filename!r} has the shape {shape} of {dtype}")
    expected = start.tell() + math.prod(shape) * dtype.itemsize
    if not dtype.hasobject and expected != info.file_size:
        raise ValueError(
            f"{info.filename!r} says that it has {expected:,} bytes, and has {info.file_size:,}"
        )
    return Header(shape, dtype)


def _member(archive: zipfile.ZipFile, key: str) -> zipfile.ZipInfo:
    try:
        return archive.getinfo(f"{key}.npy")
    except KeyError:
        raise ValueError(f"it holds no {key!r}") from None


def _check_pair(path: Path, split: str, headers: dict[str, Header]) -> None:
    """Check the shapes, lengths and dtypes of one split."""
    images, labels = headers[f"{split}_images"], headers[f"{split}_labels"]
    where = f"in {path}"
    # (n, h, w, c) of up to 4 channels, or volumes (n, d, h, w)
    if len(images.shape) not in (3, 4) or images.dtype.kind not in "uifb":
        raise ValueError(
            f"'{split}_images' {where} must be numbers of shape (n, h, w), (n, h, w, 3) or, "
            f"of volumes, (n, d, h, w). Got {images.dtype} of shape {images.shape} instead."
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
def explained(path: Path) -> Iterator[None]:
    """Turn any error of zipfile, zlib and NumPy into a ValueError that names the file."""
    try:
        yield
    except Exception as error:  # damaged bytes make zipfile, zlib, ast and numpy raise anything
        # A damaged directory makes zipfile seek to an invalid place (EINVAL); other OSErrors,
        # such as a full disk, are not the file's fault
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
        reason = " ".join(str(error).split()).rstrip(".")[:300] or type(error).__name__
        raise ValueError(f"{path} is truncated or not an .npz file ({reason}).") from error
