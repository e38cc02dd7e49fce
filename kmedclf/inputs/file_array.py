"""Image files as an array that stays on disk, and the stores of decoded images."""

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

from kmedclf.inputs.image_files import Form, MemoryFile, read, refuse, to_depth
from kmedclf.utils.archives import npy_header
from kmedclf.utils.files import written_beside
from kmedclf.utils.own_folder import IMAGES, OwnFolder

MARK = b"kmedclf-image-v1"
"""Suffix of every file; NumPy stops reading before it."""

OVERHEAD = 128 + len(MARK)
"""Bytes of a file that are not pixels."""

_NAME = re.compile(r"[0-9a-f]{32}\.npy")


class Store:
    """A cache that keeps nothing; the base class of the others."""

    # `user` is the number of the pass over files. Images last used by an earlier pass are evicted,
    # images of this pass are not. With plain LRU eviction, an epoch over more images than fit would
    # evict each image before its next use.

    @classmethod
    def of(cls, place: Any, limit: Any, name: str) -> Store:
        """Return the store that class ``name`` has by its parameters `cache` and `cache_limit`."""
        if place is None:
            return no_store
        found = _memory if place == "memory" else _on_disk(Path(place).expanduser().absolute())
        found.limit = n_bytes(limit, "cache_limit", name)
        return found

    def get(self, key: bytes, user: int) -> np.ndarray | None:
        """Return an image (h, w, c), or None on a miss."""
        return None

    def put(self, key: bytes, image: np.ndarray, user: int) -> None:
        """Store an image, if there is room."""


class MemoryStore(Store):
    """Keeps images in the memory of this process, for all fits."""

    def __init__(self) -> None:
        self.limit = 0
        self.size = 0
        self._images: OrderedDict[bytes, tuple[np.ndarray, int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: bytes, user: int) -> np.ndarray | None:
        """Return an image (h, w, c), or None on a miss."""
        with self._lock:
            if key not in self._images:
                return None
            image, last = self._images[key]
            if last != user:
                self._images[key] = image, user
                self._images.move_to_end(key)
            return image

    def put(self, key: bytes, image: np.ndarray, user: int) -> None:
        """Store an image, if there is room."""
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
    """Keeps images as files in a folder of its own below the user's, shared by all processes.

    It neither counts nor removes files that it has not written.
    """

    name = IMAGES
    mark = MARK
    kind = "u"  # of the arrays' dtype

    def __init__(self, folder: Path) -> None:
        self.limit = 0
        self._folder = OwnFolder(folder, self.name, self.mark)
        self._lock = threading.Lock()
        self._mine: set[str] = set()
        files = [f for f in self._folder.files("??/*.npy") if _NAME.fullmatch(f[1].name)]
        self.size = sum(status.st_size for status, _ in files)
        files.sort(key=lambda file: file[0].st_mtime, reverse=True)
        self._others = [(path, status.st_size) for status, path in files]  # oldest last

    def get(self, key: bytes, user: int) -> np.ndarray | None:
        """Return an image (h, w, c), or None on a miss."""
        self._mine.add(key.hex())
        try:
            path = self._path(key)
            if not stat.S_ISREG(path.lstat().st_mode):  # opening a pipe would block
                return None
            with path.open("rb") as file:
                return self._read(file)
        except (OSError, ValueError):  # missing or damaged: decode the image again
            return None

    def put(self, key: bytes, image: np.ndarray, user: int) -> None:
        """Store an image, if there is room."""
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
        if os.path.lexists(path):  # written by another process, or not ours to replace
            return
        with written_beside(path, through=False) as beside, beside.open("wb") as file:
            np.save(file, image, allow_pickle=False)
            file.write(self.mark)

    def _path(self, key: bytes) -> Path:
        name = key.hex()
        return self._folder.path / name[:2] / f"{name}.npy"

    def _read(self, file: Any) -> np.ndarray:
        """Read a file of `put`; raise ValueError if it is truncated or foreign."""
        size = os.fstat(file.fileno()).st_size
        shape, fortran, dtype, offset = npy_header(file)
        values = math.prod(shape) * dtype.itemsize
        whole = offset + values + len(self.mark) == size
        if fortran or dtype.kind != self.kind or not values or not whole:
            raise ValueError("another array than is kept here")
        array = np.empty(shape, dtype)
        file.readinto(array.reshape(-1).view(np.uint8).data)
        if file.read() != self.mark:
            raise ValueError("no file of this store")
        return array


no_store = Store()
_memory = MemoryStore()
_on_disk = functools.cache(DiskStore)


def n_bytes(limit: int | str, parameter: str, name: str) -> int:
    """Convert a parameter of class ``name``: a number of bytes, or one with K, M or G."""
    try:
        return memstr_to_bytes(limit) if isinstance(limit, str) else int(limit)
    except ValueError:
        raise ValueError(
            f"The {parameter!r} parameter of {name} must be a number of bytes, or one with K, M or "
            f"G, as in '4G'. Got {limit!r} instead."
        ) from None


BLOCK = 256
"""Files submitted to the threads at a time; each takes more than a kilobyte."""

MAX_KNOWN = 2_000_000
"""Files whose hash and depth the process remembers, about 150 bytes each."""

_known: dict[bytes, int] = {}  # twice the hash of the pixels, plus 1 for 16 bits
_serial = count(1)
_pools: dict[int, ThreadPoolExecutor] = {}


class FileArray:
    """Image files as an array (n, h, w, c) that is read on access.

    All files must exist and not be empty. With ``skip``, unreadable files are reported in `broken`
    instead of raised. ``dtype`` is uint8 or uint16; None takes that of the deepest image.
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
        self._serial = next(_serial)  # this array's number as a user of the store
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
        """Errors of unreadable files by position."""
        self._examine()
        return self._broken

    @property
    def digests(self) -> np.ndarray:
        """Hashes of the pixels (n,), uint64; equal to those of the same images in an array."""
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
        """Return what `joblib.hash` should see: the pixels, wherever the files are."""
        return self.digests, sorted(self.broken), self.shape, str(self.dtype)

    def _pixels(self, i: int) -> np.ndarray:
        """Read one image at its own depth, from the store if possible."""
        if isinstance(self.paths[i], MemoryFile):  # no store may keep what is not on disk
            return read(self.paths[i], self.form)
        key = self._keys[i]
        pixels = self._store.get(key, self._serial)
        if pixels is None or pixels.shape != self.form.shape:
            pixels = read(self.paths[i], self.form)
            self._store.put(key, pixels, self._serial)
        return pixels

    def _key(self, i: int) -> bytes:
        """Identify a decoded file by path, size, modification time and form."""
        given = self.paths[i]
        if isinstance(given, MemoryFile):
            text = f"{hashlib.sha256(given.content).hexdigest()}\0{self.form}"
            return hashlib.blake2b(text.encode(), digest_size=16).digest()
        path = os.path.abspath(given)
        try:
            try:
                status = os.stat(path)
            except OSError as error:
                refuse(path, error)
            if not status.st_size:
                refuse(path, "it is empty")
        except (OSError, ValueError) as error:
            if not self._skip:
                raise
            self._broken[i] = error
            return b""
        text = f"{path}\0{status.st_size}\0{status.st_mtime_ns}\0{self.form}"
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
        for i, error in zip(unknown, in_threads(self._look, unknown), strict=True):
            if isinstance(error, Exception):
                self._broken[i], self._keys[i] = error, b""
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
    """Hash images, (n, h, w, c) -> (n,) uint64: 64-bit words times random odd numbers, summed."""
    # Cryptographic hashes of small images take several times as long, a cost that short trainings
    # would notice.
    flat = np.ascontiguousarray(images).view(np.uint8).reshape(len(images), -1)
    missing = -flat.shape[1] % 8
    words = (np.pad(flat, ((0, 0), (0, missing))) if missing else flat).view(np.uint64)
    words = words ^ words >> np.uint64(32)  # a sum of products loses high bits
    return np.einsum("ij,j->i", words, _factors(words.shape[1]))


@lru_cache(maxsize=4)
def _factors(n: int) -> np.ndarray:
    drawn = np.random.default_rng(0).integers(2**63, size=n, dtype=np.uint64)
    return 2 * drawn + np.uint64(1)


def in_threads(function: Callable[[Any], Any], values: Sequence[Any]) -> Iterator[Any]:
    """Map a function over values, in order, in this process's pool of reader threads."""
    pid = os.getpid()  # threads do not survive a fork
    if pid not in _pools:
        _pools.clear()
        _pools[pid] = ThreadPoolExecutor(_n_threads(), "kmedclf-files")
    for start in range(0, len(values), BLOCK):
        yield from _pools[pid].map(function, values[start : start + BLOCK])


def _n_threads() -> int:
    share = int(os.environ.get("OMP_NUM_THREADS") or 0)  # joblib's share for a worker
    in_worker = multiprocessing.parent_process() is not None
    return share if share and in_worker else min(joblib.cpu_count(), 32)


def _parts(n: int) -> int:
    return max(1, min(n, 4 * _n_threads()))
