"""Archives of JSON and arrays, used for models and cached fits, and JSON files; all untrusted.

A zip of stored entries: one of JSON, and arrays "0.npy", "1.npy", ... All declared sizes are
checked against the size of the file first, so that reading takes little more memory than the
file has bytes. Nothing in an archive is executed.
"""

from __future__ import annotations

import io
import json
import math
import os
import re
import stat
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kmedclf.utils.files import written_beside

MAX_ENTRIES = 65_535
"""Maximum number of entries; an ensemble of a thousand members has fewer arrays."""

MAX_JSON = 8 * 2**20
"""Maximum size of JSON in bytes, enough for learning curves of 100,000 epochs."""

MAX_JSON_FILE = 512 * 2**20
"""Maximum size of a JSON file in bytes; the report of a million images has a tenth."""

MAX_OBJECTS = 48 * 2**20
"""Maximum size of JSON as Python objects in bytes; they are up to 30 times as large."""

_CHUNK = 2**20
_HEADER = re.compile(
    rb"\{'descr': '([<>|=][biufUSMm]\d{1,6}(?:\[\w+\])?)', 'fortran_order': (True|False), "
    rb"'shape': \(((?:\d{1,15},? ?)*)\), \}\s*"
)


@dataclass(frozen=True)
class Entry:
    """An array that has not been read: number in the archive, dtype, shape and offset."""

    number: int
    dtype: np.dtype
    shape: tuple[int, ...]
    fortran: bool
    offset: int

    @property
    def nbytes(self) -> int:
        """Size of the array in bytes."""
        return self.dtype.itemsize * math.prod(self.shape)


class _File(io.BufferedReader):
    """A file that limits single reads, at first to the size of an archive's directory."""

    most = 64 * MAX_ENTRIES

    def read(self, size: int | None = -1, /) -> bytes:
        whole = size is None or not 0 <= size <= self.most
        found = super().read(self.most + 1 if whole else size)
        if len(found) > self.most:
            raise ValueError("its directory is too large")
        return found


class Archive:
    """An open archive with a checked directory: JSON content, and arrays on demand."""

    def __init__(self, file: Any, size: int, name: str) -> None:
        # ZipFile reads the whole directory at once; `_File` limits its size.
        self._zip = zipfile.ZipFile(file)
        file.most = MAX_JSON
        infos = self._zip.infolist()
        self._infos = {one.filename: one for one in infos}
        arrays = len(infos) - 1
        if set(self._infos) != {name, *(f"{number}.npy" for number in range(arrays))}:
            raise ValueError(f"it must hold {name} and numbered arrays, each once")
        if len(infos) != len(self._infos):
            raise ValueError("an entry comes twice in it")
        for one in infos:
            if one.compress_type != zipfile.ZIP_STORED or one.flag_bits & 1:
                raise ValueError(f"its entry {one.filename} must be neither compressed nor secret")
            if one.compress_size != one.file_size:
                raise ValueError(f"its entry {one.filename} has two sizes")
        # Overlapping entries could each claim the whole file.
        if sum(one.file_size for one in infos) > size:
            raise ValueError("its entries are larger than the file")
        if self._infos[name].file_size > MAX_JSON:
            raise ValueError(f"its {name} is larger than {MAX_JSON // 2**20} MB")
        self.content: Any = parse(self._zip.read(name))
        self._entries = [self._entry(number) for number in range(arrays)]
        self._left = set(range(arrays))

    def __len__(self) -> int:
        """Return the number of arrays."""
        return len(self._entries)

    def entry(self, number: Any) -> Entry:
        """Return dtype and shape of an array without reading it."""
        if type(number) is not int or not 0 <= number < len(self._entries):
            raise ValueError(f"there is no array {number!r:.40} in it")
        return self._entries[number]

    def array(self, number: Any) -> np.ndarray:
        """Read an array; each array can be read only once."""
        entry = self.entry(number)
        if number not in self._left:
            raise ValueError(f"two places want its array {number}")
        self._left.remove(number)
        array = np.empty(entry.shape, entry.dtype, order="F" if entry.fortran else "C")
        # Fill in the order of memory, which is the order of the file.
        view = array.reshape(-1, order="A").view(np.uint8) if array.size else np.empty(0, np.uint8)
        with self._zip.open(f"{number}.npy") as file:
            file.read(entry.offset)
            for start in range(0, len(view), _CHUNK):
                part = view[start : start + _CHUNK]
                part[:] = np.frombuffer(file.read(len(part)), np.uint8)
            # Reaching the end verifies the checksum.
            file.read(1)
        return array

    def check_all_read(self) -> None:
        """Refuse arrays that were never read."""
        if self._left:
            raise ValueError(f"nothing wants its array {min(self._left)}")

    def _entry(self, number: int) -> Entry:
        info = self._infos[f"{number}.npy"]
        with self._zip.open(info) as file:
            shape, fortran, dtype, offset = npy_header(file)
        found = Entry(number, dtype, shape, fortran, offset)
        if offset + found.nbytes != info.file_size:
            raise ValueError(f"its array {number} has another size than its entry")
        return found


def npy_header(file: Any) -> tuple[tuple[int, ...], bool, np.dtype, int]:
    """Read the header of an .npy file: shape, Fortran order, dtype, and header size in bytes."""
    # NumPy would evaluate the header as a Python literal; only its exact output is accepted here.
    head = file.read(10)
    text = file.read(int.from_bytes(head[8:], "little"))
    found = _HEADER.fullmatch(text)
    if head[:8] != b"\x93NUMPY\x01\x00" or found is None:
        raise ValueError("an array in it is none of numbers or text as NumPy saves them")
    shape = tuple(map(int, re.findall(rb"\d+", found[3])))
    dtype = np.dtype(found[1].decode())
    if not dtype.itemsize or len(shape) > 32:
        raise ValueError("an array in it has an impossible type or shape")
    return shape, found[2] == b"True", dtype, len(head) + len(text)


def parse(text: bytes) -> Any:
    """Read untrusted JSON, unless it would be too large as Python objects."""
    # An upper bound of the size of dicts, lists and entries, without parsing.
    brackets = text.count(b"{"), text.count(b"["), text.count(b",")
    if 240 * brackets[0] + 90 * brackets[1] + 60 * brackets[2] > MAX_OBJECTS:
        raise ValueError("its JSON has too many parts")
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("its JSON is nested too deeply") from None


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read a JSON file; refuse anything but a regular file of at most `MAX_JSON_FILE` bytes."""
    check_regular(path, "JSON file")
    if os.path.getsize(path) > MAX_JSON_FILE:
        raise ValueError(f"{path} must be a JSON file of at most {MAX_JSON_FILE // 2**20} MB.")
    try:
        return parse(Path(path).read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is not a whole JSON file ({error}).") from error


def write(
    path: str | os.PathLike[str],
    name: str,
    content: Any,
    arrays: Sequence[Any],
    *,
    comment: bytes = b"",
    through: bool = True,
) -> None:
    """Write an archive atomically; content that `reading` would refuse is refused.

    ``name`` is the name of the JSON entry, ``comment`` the end of the file. ``through`` is that of
    `kmedclf.utils.files.written_beside`.
    """
    text = json.dumps(content).encode()
    if len(text) > MAX_JSON or len(arrays) >= MAX_ENTRIES:
        raise ValueError(
            f"{path} would hold {len(arrays):,} arrays and {len(text) / 2**20:.1f} MB of text. It "
            f"must be fewer than {MAX_ENTRIES:,} arrays, and text of at most "
            f"{MAX_JSON // 2**20} MB."
        )
    parse(text)
    with written_beside(path, through=through) as beside, zipfile.ZipFile(beside, "w") as archive:
        archive.comment = comment
        archive.writestr(name, text)
        for number, array in enumerate(arrays):
            buffer = io.BytesIO()
            np.save(buffer, np.asarray(array), allow_pickle=False)
            archive.writestr(f"{number}.npy", buffer.getvalue())


@contextmanager
def reading(path: str | os.PathLike[str], name: str, kind: str) -> Iterator[Archive]:
    """Open an archive; any invalid content raises a ValueError, even within the context.

    ``name`` is the name of the JSON entry, ``kind`` the kind of file for messages.
    """
    with open_regular(path, kind) as (file, size):
        try:
            yield Archive(file, size, name)
        except Refused as error:
            if type(error) is not Refused:
                raise
            raise ValueError(str(error)) from error.__cause__
        except MemoryError:
            raise MemoryError(f"{path} needs more memory than there is to be read.") from None
        # The file is untrusted: zipfile, NumPy and Keras raise errors of many types.
        except Exception as error:
            text = " ".join(str(error).split())[:300].rstrip(".")
            if isinstance(error, AttributeError | LookupError | TypeError):
                text = "a part of it is not what it must be"
            raise ValueError(f"{path} is not a whole {kind} ({text}).") from error


class Refused(ValueError):
    """An error whose message `reading` does not change."""


@contextmanager
def open_regular(path: str | os.PathLike[str], kind: str) -> Iterator[tuple[Any, int]]:
    """Open a regular file for reading; a device might never end, a pipe never start."""
    check_regular(path, kind)
    with _File(io.FileIO(os.fspath(path))) as file:
        yield file, os.fstat(file.fileno()).st_size


def check_regular(path: str | os.PathLike[str], kind: str) -> None:
    """Refuse anything but a regular file, before it is opened."""
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode):
        kinds = {stat.S_ISDIR: "a folder", stat.S_ISFIFO: "a pipe", stat.S_ISSOCK: "a socket"}
        what = next((text for test, text in kinds.items() if test(mode)), "a device")
        raise ValueError(f"{path} must be a {kind}. Got {what} instead.")
