"""Files as an array of images that stays on disk, and the store of decoded ones."""

from __future__ import annotations

import functools
import hashlib
import math
import multiprocessing
import os
import re
import stat
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from joblib.disk import memstr_to_bytes

from kmedclf.inputs.image_files import Form, read, refuse, to_depth
from kmedclf.utils.archives import npy_header
from kmedclf.utils.files import written_beside
from kmedclf.utils.own_folder import OwnFolder

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


BLOCK = 256
"""Files that wait for a thread at the same time: each takes more than a kilobyte."""

MAX_KNOWN = 2_000_000
"""Of how many files the process remembers what it found in them, some 150 bytes each."""

_known: dict[bytes, int] = {}  # twice the hash of the pixels, and 1 if they have 16 bits
_serial = count(1)
_pools: dict[int, ThreadPoolExecutor] = {}


class FileArray:
    """Image files, as much of an array as the pipeline needs.

    Parameters
    ----------
    paths : sequence of str
        The files. That all are there, and none is empty, is checked at once.
    form : Form
        Size and channels.
    dtype : numpy dtype, optional
        uint8 or uint16; by default that of the deepest image, for which all are read once.
    store : Store, optional
        Keeps decoded images.
    skip : bool, default=False
        Whether `broken` tells of files that cannot be read, rather than raise an error.
    """

    def __init__(
        self,
        paths: Sequence[str],
        form: Form,
        dtype: Any = None,
        store: Store = no_store,
        *,
        skip: bool = False,
    ) -> None:
        self.paths, self.form, self._store, self._skip = paths, form, store, skip
        self._serial = next(_serial)
        self._broken: dict[int, Exception] = {}
        self._digests: np.ndarray | None = None
        self._keys = [self._key(i) for i in range(len(paths))]
        self.dtype = np.dtype(dtype or self._deepest())

    def __len__(self) -> int:
        """Return the number of files."""
        return len(self.paths)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape (n, h, w, c)."""
        return len(self.paths), *self.form.shape

    @property
    def broken(self) -> dict[int, Exception]:
        """Positions of files that cannot be read, and why."""
        self._examine()
        return self._broken

    @property
    def digests(self) -> np.ndarray:
        """Hashes of the pixels (n,), uint64; those of the same images in an array are the same."""
        self._examine()
        assert self._digests is not None
        return self._digests

    def __getitem__(self, index: Any) -> np.ndarray:
        """Read the images at the given indices, (m,) -> (m, h, w, c)."""
        index = np.arange(len(self))[index] if isinstance(index, slice) else index
        images = np.empty((len(index), *self.form.shape), self.dtype)

        def fill(rows: np.ndarray) -> None:
            for row in rows:
                images[row] = to_depth(self._pixels(int(index[row])), self.dtype)

        for _ in in_threads(fill, np.array_split(np.arange(len(index)), _parts(len(index)))):
            pass
        return images

    def __getstate__(self) -> Any:
        """Give what `joblib.hash` is to see: pixels, wherever they lie."""
        return self.digests, sorted(self.broken), self.shape, str(self.dtype)

    def _pixels(self, i: int) -> np.ndarray:
        """Read one image at its own depth, from the store if it is there."""
        key = self._keys[i]
        pixels = self._store.get(key, self._serial)
        if pixels is None or pixels.shape != self.form.shape:
            pixels = read(self.paths[i], self.form)
            self._store.put(key, pixels, self._serial)
        return pixels

    def _key(self, i: int) -> bytes:
        """Identify a decoded file by its path, size and time of change."""
        path = os.path.abspath(self.paths[i])
        try:
            try:
                found = os.stat(path)
            except OSError as error:
                refuse(path, error)
            if not found.st_size:
                refuse(path, "it is empty")
        except (OSError, ValueError) as error:
            if not self._skip:
                raise
            self._broken[i] = error
            return b""
        text = f"{path}\0{found.st_size}\0{found.st_mtime_ns}\0{self.form}"
        return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=16).digest()

    def _deepest(self) -> type:
        self._examine()
        deep = any(_known[key] & 1 for key in self._keys if key)
        return np.uint16 if deep else np.uint8

    def _examine(self) -> None:
        """Hash the pixels of all files; whatever the process has seen before is not read again."""
        if self._digests is not None:
            return
        if len(_known) > MAX_KNOWN:
            _known.clear()
        unknown = [i for i, key in enumerate(self._keys) if key and key not in _known]
        for i, found in zip(unknown, in_threads(self._look, unknown), strict=True):
            if isinstance(found, Exception):
                self._broken[i], self._keys[i] = found, b""
        self._digests = np.array([_known[key] >> 1 if key else 0 for key in self._keys], np.uint64)

    def _look(self, i: int) -> Exception | None:
        try:
            pixels = self._pixels(i)
        except (OSError, ValueError) as error:
            if not self._skip:
                raise
            return error
        deep = int(pixels.dtype == np.uint16)
        _known[self._keys[i]] = 2 * int(digests(pixels[None])[0]) + deep
        return None


def digests(images: np.ndarray) -> np.ndarray:
    """Hash images, (n, h, w, c) -> (n,) uint64: bytes in words of 64 bits times odd random numbers.

    Cryptographic hashes of small images take several times as long; short trainings would notice.
    """
    flat = np.ascontiguousarray(images).view(np.uint8).reshape(len(images), -1)
    missing = -flat.shape[1] % 8
    words = (np.pad(flat, ((0, 0), (0, missing))) if missing else flat).view(np.uint64)
    words = words ^ words >> np.uint64(32)  # the sum of products forgets high bits first
    return np.einsum("ij,j->i", words, _factors(words.shape[1]))


@lru_cache(maxsize=4)
def _factors(n: int) -> np.ndarray:
    drawn = np.random.default_rng(0).integers(2**63, size=n, dtype=np.uint64)
    return 2 * drawn + np.uint64(1)


def as_paths(X: Any, name: str) -> list[str] | None:
    """Take X for paths, if its first entry is one.

    Parameters
    ----------
    X : array-like
        A list, array or Series of n paths, perhaps of shape (n, 1); or anything else.
    name : str
        Class name for messages.

    Returns
    -------
    list of str or None
        The paths; None if X is something else.
    """
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


def in_threads(function: Callable[[Any], Any], values: Sequence[Any]) -> Iterator[Any]:
    """Apply a function to values, in order, in the threads that this process reads files with."""
    pid = os.getpid()  # a forked child has none of its parent's threads
    if pid not in _pools:
        _pools.clear()
        _pools[pid] = ThreadPoolExecutor(_n_threads(), "kmedclf-files")
    for start in range(0, len(values), BLOCK):
        yield from _pools[pid].map(function, values[start : start + BLOCK])


def _n_threads() -> int:
    share = int(os.environ.get("OMP_NUM_THREADS") or 0)  # what joblib gives to a worker
    in_worker = multiprocessing.parent_process() is not None
    return share if share and in_worker else min(joblib.cpu_count(), 32)


def _parts(n: int) -> int:
    return max(1, min(n, 4 * _n_threads()))
