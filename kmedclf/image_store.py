"""Decoded images that are kept, in memory or on disk, so that epochs and fits share them."""

from __future__ import annotations

import functools
import math
import os
import re
import stat
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
from joblib.disk import memstr_to_bytes

from kmedclf.archives import npy_header
from kmedclf.files import written_beside
from kmedclf.own_folder import OwnFolder

MARK = b"kmedclf-image-v1"
"""What the file of every image ends with; NumPy reads up to it."""

OVERHEAD = 128 + len(MARK)
"""Bytes of a file besides the pixels."""

_NAME = re.compile(r"[0-9a-f]{32}\.npy")


class Store:
    """Keeps nothing; what the others are derived from.

    Users give the number of their pass over the files: what an earlier pass used gives way to new
    images, what this pass uses does not. An epoch over more than fits then still finds as many
    images as fit.
    """

    def get(self, key: bytes, user: int) -> np.ndarray | None:
        """Give an image (h, w, c), or None if it is not there."""
        return None

    def put(self, key: bytes, image: np.ndarray, user: int) -> None:
        """Keep an image, if there is room."""


class MemoryStore(Store):
    """Keeps images in this process' memory, for all fits."""

    def __init__(self) -> None:
        self.limit = 0
        self.size = 0
        self._images: OrderedDict[bytes, tuple[np.ndarray, int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: bytes, user: int) -> np.ndarray | None:
        """Give an image (h, w, c), or None if it is not there."""
        with self._lock:
            if key not in self._images:
                return None
            image, last = self._images[key]
            if last != user:
                self._images[key] = image, user
                self._images.move_to_end(key)
            return image

    def put(self, key: bytes, image: np.ndarray, user: int) -> None:
        """Keep an image, if there is room."""
        with self._lock:
            self._drop(user, self.limit - image.nbytes)
            if key not in self._images and self.size + image.nbytes <= self.limit:
                self._images[key] = np.array(image), user
                self.size += image.nbytes

    def _drop(self, user: int, limit: int) -> None:
        while self.size > limit and self._images:
            key, (image, last) = next(iter(self._images.items()))
            if last >= user and self.size <= self.limit:
                return
            del self._images[key]
            self.size -= image.nbytes


class DiskStore(Store):
    """Keeps images in a folder of its own in one that the user names, one file each.

    All processes share it. Files that it has not written are neither counted nor removed.
    """

    def __init__(self, folder: Path) -> None:
        self.limit = 0
        self._folder = OwnFolder(folder, "kmedclf-images-v1", MARK)
        self._lock = threading.Lock()
        self._mine: set[str] = set()
        found = [one for one in self._folder.files("??/*.npy") if _NAME.fullmatch(one[1].name)]
        self.size = sum(one.st_size for one, _ in found)
        found.sort(key=lambda one: one[0].st_mtime, reverse=True)
        self._others = [(path, one.st_size) for one, path in found]  # the oldest is the last

    def get(self, key: bytes, user: int) -> np.ndarray | None:
        """Give an image (h, w, c), or None if it is not there."""
        self._mine.add(key.hex())
        try:
            path = self._path(key)
            if not stat.S_ISREG(path.lstat().st_mode):  # to open a pipe would wait for ever
                return None
            with path.open("rb") as file:
                return _read(file)
        except (OSError, ValueError):  # not there, or damaged: decoded again
            return None

    def put(self, key: bytes, image: np.ndarray, user: int) -> None:
        """Keep an image, if there is room."""
        size = image.nbytes + OVERHEAD
        path = self._path(key)
        with self._lock:
            while self.size + size > self.limit and self._others:
                old, freed = self._others.pop()
                if old.stem not in self._mine and self._folder.remove(old):
                    self.size -= freed
            if self.size + size > self.limit:
                return
            self.size += size
        self._folder.make()
        path.parent.mkdir(exist_ok=True)
        if os.path.lexists(path):  # of another process by now, or none of ours: it stays
            return
        with written_beside(path, through=False) as beside, beside.open("wb") as file:
            np.save(file, image, allow_pickle=False)
            file.write(MARK)

    def _path(self, key: bytes) -> Path:
        name = key.hex()
        return self._folder.path / name[:2] / f"{name}.npy"


def _read(file: Any) -> np.ndarray:
    """Read an image that `DiskStore.put` wrote, and none that is cut or another's."""
    size = os.fstat(file.fileno()).st_size
    shape, fortran, dtype, offset = npy_header(file)
    pixels = math.prod(shape) * dtype.itemsize
    if fortran or dtype.kind != "u" or not pixels or offset + pixels + len(MARK) != size:
        raise ValueError("no image")
    array = np.empty(shape, dtype)
    file.readinto(array.reshape(-1).view(np.uint8).data)
    if file.read() != MARK:
        raise ValueError("no image of this store")
    return array


no_store = Store()
_memory = MemoryStore()
_on_disk = functools.cache(DiskStore)


def store_of(cache: Any, limit: int | str) -> Store:
    """Find the store that the parameters ``cache`` and ``cache_limit`` ask for.

    Parameters
    ----------
    cache : "memory", path-like or None
        The process' memory, a folder, or nothing.
    limit : int or str
        Its largest size in bytes, or as in "2G".
    """
    if cache is None:
        return no_store
    store = _memory if cache == "memory" else _on_disk(Path(cache).expanduser().absolute())
    store.limit = memstr_to_bytes(limit) if isinstance(limit, str) else int(limit)
    return store
