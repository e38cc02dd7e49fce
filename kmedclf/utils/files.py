"""Atomic writes: files and folders are written beside their place, then renamed into it.

A killed process leaves files with a special name, and a lock that ended with the process. The
next command recognizes them by both and removes them; see `sweep`.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path, PurePath
from typing import Any

try:
    import fcntl
except ImportError:  # Windows: no locks, so leftovers are not removed
    fcntl = None  # type: ignore[assignment]

GENERATOR = "kmedclf"
"""Value of the meta element "generator" on every page."""
TABLE = b"path,prediction"
"""First bytes of every table of predictions."""

NO_LOCK = -1
_PART = re.compile(r"\..*\.[0-9a-f]{12}\.part", re.S)
_SCRATCH = re.compile(r"\..*\.[0-9a-f]{12}\.kmedclf", re.S)
_STREAMS = ("/dev/fd/", "/dev/stdout", "/dev/stderr", "/proc/")


# -- single files ----------------------------------------------------------------------------------


@contextmanager
def written_beside(path: str | os.PathLike[str], *, through: bool = True) -> Iterator[Path]:
    """Yield a temporary path; it replaces ``path`` if no error occurs.

    With ``through``, links are followed, and devices and pipes are written to at the end. Without,
    ``path`` is replaced whatever it is: in a folder of the package, a link or a pipe could be a
    trap. Concurrent writers are safe. Errors name ``path``.
    """
    target = Path(os.path.realpath(path)) if through and os.path.islink(path) else Path(path)
    stream = through and _is_stream(path)
    folder = Path(tempfile.gettempdir()) if stream else target.parent
    if through:
        check_file(path)
    try:
        beside, lock = _claimed(folder, target.name)
        try:
            yield beside
            if stream:
                with beside.open("rb") as content, open(path, "wb") as out:
                    shutil.copyfileobj(content, out)
            else:
                # Keep the permissions of an existing file.
                with suppress(FileNotFoundError):
                    if through:
                        os.chmod(beside, stat.S_IMODE(target.stat().st_mode))
                beside.replace(target)
        finally:
            # It is usually renamed by now; otherwise `sweep` removes it later.
            with suppress(OSError):
                beside.unlink()
            _close(lock)
    except OSError as error:
        # The temporary name means nothing to the user; a full disk gives no name at all.
        if error.errno and (not error.filename or _is_part(error.filename)):
            error.filename, error.filename2 = os.fspath(path), None
        raise


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write text; file names that are not UTF-8 are escaped with backslashes."""
    with written_beside(path) as beside:
        beside.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_json(path: str | os.PathLike[str], content: Any) -> None:
    """Write a value as readable JSON."""
    write_text(path, json.dumps(content, indent=1) + "\n")


def check_file(path: str | os.PathLike[str], ours: Callable[[bytes], bool] | None = None) -> None:
    """Refuse a file that cannot or must not be written, before any work.

    ``ours`` decides by the first 4,096 bytes whether an existing file may be replaced; by default
    any may. Links, devices and pipes are written through.
    """
    place = Path(os.path.realpath(path)) if os.path.islink(path) else Path(path)
    if _is_stream(path):
        return
    try:
        mode = place.stat().st_mode
    except FileNotFoundError:
        check_parent(place.absolute())
        return
    except OSError as error:  # a part of the path is a file, or a name is too long
        raise type(error)(error.errno, error.strerror, os.fspath(path)) from None
    if not stat.S_ISREG(mode):
        raise FileExistsError(f"{path} must be a file. There is a {_kind(mode)} of that name.")
    if not os.access(place, os.W_OK):
        raise PermissionError(f"{path} is there already and must not be written to.")
    check_parent(place.absolute())
    if ours is None or not place.stat().st_size:
        return
    with place.open("rb") as file:
        if not ours(file.read(4096)):
            raise FileExistsError(
                f"{path} is there already, and kmedclf did not write it; choose another name."
            )


def prepare(path: str | os.PathLike[str], ours: Callable[[bytes], bool]) -> None:
    """Run `check_file`, and remove files of killed processes."""
    check_file(path, ours)
    if not _is_stream(path):
        sweep(Path(os.path.realpath(path)).parent)


def check_parent(place: Path) -> None:
    """Refuse a place whose folder does not exist or is not writable."""
    parent = place.parent
    if not parent.is_dir():
        raise FileNotFoundError(f"There is no folder {parent} to write {place.name} to.")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise PermissionError(f"{parent} must be a folder that may be written to.")


def check_folder(path: str | os.PathLike[str]) -> None:
    """Refuse a folder that cannot be created, before any work; nothing is created."""
    place = Path(os.path.realpath(path))
    for one in (place, *place.parents):
        try:
            mode = one.stat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            continue
        if not stat.S_ISDIR(mode):
            what = "must be a folder" if one == place else f"must be a folder, and {one} too"
            raise FileExistsError(f"{path} {what}. There is a {_kind(mode)} of that name.")
        if not os.access(one, os.W_OK | os.X_OK):
            raise PermissionError(f"{one} must be a folder that may be written to.")
        return


def places_below(X: Any, root: str | os.PathLike[str] | None = None) -> list[str] | None:
    """Return the paths in X relative to ``root``, or else to their common folder.

    None if X holds arrays.
    """
    kind = getattr(getattr(X, "dtype", None), "kind", "O")
    if kind not in "OUS" or not hasattr(X, "__len__") or not len(X):
        return None
    rows = X.to_numpy() if hasattr(X, "to_numpy") else X  # pandas' own index may be any
    if not isinstance(rows[0], str | os.PathLike):
        return None
    given = [rows[i] for i in range(len(rows))]
    if not all(isinstance(one, str | os.PathLike) for one in given):
        return None
    paths = [os.path.abspath(os.fspath(one)) for one in given]
    try:
        if root is None or not all(PurePath(path).is_relative_to(root) for path in paths):
            root = os.path.commonpath([os.path.dirname(path) for path in paths])
    except ValueError:  # on Windows, paths on different drives
        return [os.path.basename(path) for path in paths]
    return [PurePath(os.path.relpath(path, root)).as_posix() for path in paths]


def is_page(start: bytes) -> bool:
    """Check by its first bytes whether a file is a page of the package."""
    # Pages of older versions have only the second mark.
    marks = f'name="generator" content="{GENERATOR}"'.encode(), b"default-src 'none'; img-src data:"
    return start.lstrip()[:9].lower() == b"<!doctype" and any(mark in start for mark in marks)


def is_table(start: bytes) -> bool:
    """Check by its first bytes whether a file is a table of predictions."""
    return start.startswith(TABLE)


def _is_part(name: Any) -> bool:
    return bool(_PART.fullmatch(os.path.basename(os.fsdecode(name))))


def _is_stream(path: str | os.PathLike[str]) -> bool:
    """Check whether a path is not a plain file: a pipe, a terminal, /dev/null."""
    # stdout may be a file that the shell opened, which must not be replaced.
    if os.path.abspath(path).startswith(_STREAMS):
        return True
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return stat.S_ISCHR(mode) or stat.S_ISFIFO(mode)


def _kind(mode: int) -> str:
    kinds = {
        stat.S_IFDIR: "folder", stat.S_IFSOCK: "socket", stat.S_IFBLK: "disk", stat.S_IFREG: "file",
    }  # fmt: skip
    return kinds.get(stat.S_IFMT(mode), "device or pipe")


# -- folders ---------------------------------------------------------------------------------------


@contextmanager
def scratch(parent: Path, name: str) -> Iterator[Path]:
    """Yield a locked temporary folder in ``parent`` for a run ``name``; removed at the end.

    Leftovers of killed processes in ``parent`` are removed first.
    """
    sweep(parent)
    lock = None
    folder = parent / _scratch_name(name)
    try:
        while lock is None:
            folder.mkdir(mode=0o700)
            try:
                lock = _locked(folder / "lock")
            except (_TakenError, FileNotFoundError):
                # `sweep` of another thread or process took it for a leftover.
                folder = parent / _scratch_name(name)
        try:
            (folder / "name").write_bytes(os.fsencode(name))
        except OSError as error:
            error.filename = os.fspath(parent / name)
            raise
        yield folder
    finally:
        _discard(folder)
        _close(lock)


def _scratch_name(name: str) -> str:
    return f".{name[:50]}.{secrets.token_hex(6)}.kmedclf"


def replace_folder(new: Path, target: Path, folder: Path) -> None:
    """Replace ``target`` by a finished folder; the old one moves to ``folder / "old"``.

    If the process is killed between the two renames, `sweep` completes the replacement.
    """
    old = folder / "old"
    if target.exists():
        target.replace(old)
    try:
        new.replace(target)
    except BaseException:
        if old.exists() and not target.exists():
            old.replace(target)
        raise


def sweep(folder: Path, *, deep: bool = False) -> None:
    """Remove leftovers of killed processes in a folder, and complete their replacements.

    Only files and folders with our own pattern of names, and without a held lock, are touched.
    With ``deep`` also in subfolders.
    """
    if fcntl is None or not folder.is_dir():
        return
    for path in _inside(folder, deep):
        if _PART.fullmatch(path.name) and path.is_file():
            _if_dead(path, path.unlink)
        elif _SCRATCH.fullmatch(path.name) and (path / "lock").is_file():
            _if_dead(path / "lock", partial(_settle, path))
        elif _SCRATCH.fullmatch(path.name):
            # The process was killed before it had a lock; rmdir removes empty folders only.
            with suppress(OSError):
                path.rmdir()


def _inside(folder: Path, deep: bool) -> list[Path]:
    try:
        return list(folder.rglob(".*") if deep else folder.iterdir())
    except OSError:  # an unreadable folder holds no leftovers of ours
        return []


def _settle(folder: Path) -> None:
    """Complete an interrupted replacement, and remove its temporary folder."""
    with suppress(FileNotFoundError):
        target = folder.parent / os.fsdecode((folder / "name").read_bytes())
        old, new = folder / "old", folder / "new"
        if old.exists() and new.exists():  # killed between the renames: the new one is complete
            if os.path.lexists(target):  # created since then: keep both
                return
            new.replace(target)
    _discard(folder)


def _discard(folder: Path) -> None:
    for part in ("new", "old"):
        shutil.rmtree(folder / part, ignore_errors=True)
    # Remove the lock last: without it, leftovers are not recognized.
    with suppress(OSError):
        (folder / "name").unlink(missing_ok=True)
        shutil.rmtree(folder)


# -- locks -----------------------------------------------------------------------------------------


def _claimed(folder: Path, name: str) -> tuple[Path, int]:
    """Create a file with a new name and a lock, held until `_close` or the end of the process."""
    while True:
        # Truncate, as a name may already have the maximum of 255 bytes.
        path = folder / f".{name[:50]}.{secrets.token_hex(6)}.part"
        with suppress(_TakenError):
            return path, _locked(path)


class _TakenError(Exception):
    """`sweep` found a file before it was locked, and took it for a leftover."""


def _locked(path: Path) -> int:
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    if fcntl is None:  # Windows cannot rename an open file
        os.close(file)
        return NO_LOCK
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        taken = os.fstat(file).st_nlink == 0
    except BlockingIOError:
        taken = True
    except OSError:  # some file systems have no locks; `sweep` removes nothing there
        taken = False
    if taken:
        os.close(file)
        raise _TakenError
    return file


def _close(lock: int | None) -> None:
    if lock is not None and lock != NO_LOCK:
        os.close(lock)


def _if_dead(path: Path, then: Callable[[], None]) -> None:
    """Call ``then`` if no living process holds the lock."""
    try:
        file = os.open(path, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
    except OSError:  # removed, or owned by another user
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # lock is held, or the file system has no locks
        os.close(file)
        return
    try:
        then()
    finally:
        os.close(file)
