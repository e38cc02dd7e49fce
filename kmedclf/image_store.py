"""Decoded images that are kept, in memory or on disk, so that epochs and fits share them."""

from __future__ import annotations

import functools
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
from joblib.disk import memstr_to_bytes

from kmedclf.files import written_beside


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
    """Keeps images in a folder, one file each, for all processes."""

    def __init__(self, folder: Path) -> None:
        self.limit = 0
        self._folder = folder
        self._lock = threading.Lock()
        self._mine: set[str] = set()
        found = [(path.stat(), path) for path in folder.glob("??/*.npy")]
        self.size = sum(stat.st_size for stat, _ in found)
        found.sort(key=lambda one: one[0].st_mtime, reverse=True)
        self._others = [(path, stat.st_size) for stat, path in found]  # the oldest is the last

    def get(self, key: bytes, user: int) -> np.ndarray | None:
        """Give an image (h, w, c), or None if it is not there."""
        self._mine.add(key.hex())
        try:
            return np.asarray(np.load(self._path(key), allow_pickle=False))
        except (OSError, ValueError, EOFError):  # not there, or damaged: decoded again
            return None

    def put(self, key: bytes, image: np.ndarray, user: int) -> None:
        """Keep an image, if there is room."""
        size = image.nbytes + 128  # with NumPy's header
        path = self._path(key)
        with self._lock:
            while self.size + size > self.limit and self._others:
                old, freed = self._others.pop()
                if old.stem not in self._mine:
                    old.unlink(missing_ok=True)
                    self.size -= freed
            if self.size + size > self.limit:
                return
            self.size += size
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_beside(path) as beside, beside.open("wb") as file:
            np.save(file, image, allow_pickle=False)

    def _path(self, key: bytes) -> Path:
        name = key.hex()
        return self._folder / name[:2] / f"{name}.npy"


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
