"""Files are whole or not there: written beside their place, then renamed into it.

What a killed process leaves beside that place has a name of ours and a lock that ended with the
process. The next command knows it by both, and removes it; see `sweep`.
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
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # Windows: nothing is locked, and nothing that others have left is removed
    fcntl = None  # type: ignore[assignment]

GENERATOR = "kmedclf"
"""Every page of ours says that this made it, in its head."""
TABLE = b"path,prediction"
"""Every table of predictions begins with this."""

NO_LOCK = -1
_PART = re.compile(r"\..*\.[0-9a-f]{12}\.part", re.S)
_SCRATCH = re.compile(r"\..*\.[0-9a-f]{12}\.kmedclf", re.S)
_STREAMS = ("/dev/fd/", "/dev/stdout", "/dev/stderr", "/proc/")


# -- single files ----------------------------------------------------------------------------------


@contextmanager
def written_beside(path: str | os.PathLike[str], *, through: bool = True) -> Iterator[Path]:
    """Yield a path to write to; put in the place of ``path`` if nothing went wrong.

    A link is written through, to the file that it names; so is a device or a pipe, once the whole
    content is there. Several threads and processes may write the same file. Errors name ``path``.
    Not ``through``, what has the name is replaced whatever it is, as in a folder of our own, where
    a link or a pipe would be somebody's trap.
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
                with suppress(FileNotFoundError):  # what only its owner may read stays so
                    if through:
                        os.chmod(beside, stat.S_IMODE(target.stat().st_mode))
                beside.replace(target)
        finally:
            with suppress(OSError):  # renamed, or for `sweep`
                beside.unlink()
            _close(lock)
    except OSError as error:
        # of the name beside, which means nothing to a user, or of none, as upon a full disk
        if error.errno and (not error.filename or _is_part(error.filename)):
            error.filename, error.filename2 = os.fspath(path), None
        raise


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write text; names of files that are no UTF-8 are spelt with backslashes in it."""
    with written_beside(path) as beside:
        beside.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_json(path: str | os.PathLike[str], content: Any) -> None:
    """Write a value as readable JSON."""
    write_text(path, json.dumps(content, indent=1) + "\n")


def check_file(path: str | os.PathLike[str], ours: Callable[[bytes], bool] | None = None) -> None:
    """Refuse, before any work, what cannot or must not be written to.

    Parameters
    ----------
    path : path-like
        The file to come; a link, a device and a pipe will be written through.
    ours : callable, optional
        Tells from its first 4,096 bytes whether a file of that name is one that may be replaced.
        By default any may.
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
    """Check a file that a command is to write as `check_file`, and remove what dead ones left."""
    check_file(path, ours)
    if not _is_stream(path):
        sweep(Path(os.path.realpath(path)).parent)


def check_parent(place: Path) -> None:
    """Refuse a place in a folder that is not there, or in which nothing can be made."""
    parent = place.parent
    if not parent.is_dir():
        raise FileNotFoundError(f"There is no folder {parent} to write {place.name} to.")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise PermissionError(f"{parent} must be a folder that may be written to.")


def check_folder(path: str | os.PathLike[str]) -> None:
    """Refuse, before any work, a folder that cannot be made; nothing is made yet."""
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


def is_page(start: bytes) -> bool:
    """Tell from its first bytes whether a file is a page of ours."""
    # the second mark is that of pages before there was the first
    marks = f'name="generator" content="{GENERATOR}"'.encode(), b"default-src 'none'; img-src data:"
    return start.lstrip()[:9].lower() == b"<!doctype" and any(mark in start for mark in marks)


def is_table(start: bytes) -> bool:
    """Tell from its first bytes whether a file is a table of predictions."""
    return start.startswith(TABLE)


def _is_part(name: Any) -> bool:
    return bool(_PART.fullmatch(os.path.basename(os.fsdecode(name))))


def _is_stream(path: str | os.PathLike[str]) -> bool:
    """Say whether what is written here goes elsewhere: to a pipe, a terminal, /dev/null."""
    if os.path.abspath(path).startswith(_STREAMS):  # stdout may well be a file: of the shell's
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
    """Yield a folder of ours in ``parent``, with a lock in it; removed at the end.

    Parameters
    ----------
    parent : Path
        Where. What killed processes have left there is settled first.
    name : str
        Name of the run that is made in it.
    """
    sweep(parent)
    folder = parent / f".{name[:50]}.{secrets.token_hex(6)}.kmedclf"
    lock = None
    try:
        while lock is None:
            folder.mkdir(mode=0o700, exist_ok=True)
            with suppress(FileNotFoundError):  # `sweep` takes an empty folder for a dead one
                lock = _locked(folder / "lock")
        try:
            (folder / "name").write_bytes(os.fsencode(name))
        except OSError as error:
            error.filename = os.fspath(parent / name)
            raise
        yield folder
    finally:
        _discard(folder)
        _close(lock)


def replace_folder(new: Path, target: Path, folder: Path) -> None:
    """Put a whole new folder in the place of ``target``, whose old one goes to ``folder / "old"``.

    A process that is killed between the two renames leaves both in ``folder``: `sweep` goes on.
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
    """Remove what processes that were killed have left in a folder, and end what they had begun.

    Only files and folders with our own kind of name, and whose lock nobody holds any more. A run
    whose replacement was finished but not in its place yet is put there.

    Parameters
    ----------
    folder : Path
        Where to look.
    deep : bool, default=False
        Whether to look in the folders in it, too.
    """
    if fcntl is None or not folder.is_dir():
        return
    for path in _inside(folder, deep):
        if _PART.fullmatch(path.name) and path.is_file():
            _if_dead(path, path.unlink)
        elif _SCRATCH.fullmatch(path.name) and (path / "lock").is_file():
            _if_dead(path / "lock", partial(_settle, path))
        elif _SCRATCH.fullmatch(path.name):
            with suppress(OSError):  # killed before it had its lock; only an empty folder goes
                path.rmdir()


def _inside(folder: Path, deep: bool) -> list[Path]:
    try:
        return list(folder.rglob(".*") if deep else folder.iterdir())
    except OSError:  # a folder that may not be read holds nothing of ours
        return []


def _settle(folder: Path) -> None:
    """End a replacement that was begun, and remove the folder it was made in."""
    with suppress(FileNotFoundError):
        target = folder.parent / os.fsdecode((folder / "name").read_bytes())
        old, new = folder / "old", folder / "new"
        if old.exists() and new.exists():  # killed between the two renames: the new one is whole
            if os.path.lexists(target):  # made by somebody since then: both are kept
                return
            new.replace(target)
    _discard(folder)


def _discard(folder: Path) -> None:
    for part in ("new", "old"):
        shutil.rmtree(folder / part, ignore_errors=True)
    # The lock goes last: without it, nobody would know what is left.
    with suppress(OSError):
        (folder / "name").unlink(missing_ok=True)
        shutil.rmtree(folder)


# -- locks -----------------------------------------------------------------------------------------


def _claimed(folder: Path, name: str) -> tuple[Path, int]:
    """Make a file with a new name and a lock, which the end of this process, or `_close`, ends."""
    while True:
        # a name of 255 bytes, the most there may be, gets a shorter one
        path = folder / f".{name[:50]}.{secrets.token_hex(6)}.part"
        lock = _locked(path)
        if path.exists():  # `sweep` may have come between
            return path, lock
        _close(lock)


def _locked(path: Path) -> int:
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    if fcntl is None:  # and where an open file cannot be renamed
        os.close(file)
        return NO_LOCK
    with suppress(OSError):  # a file system without locks: then nothing there is ever swept
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return file


def _close(lock: int | None) -> None:
    if lock is not None and lock != NO_LOCK:
        os.close(lock)


def _if_dead(path: Path, then: Callable[[], None]) -> None:
    """Do something to what belongs to a process that has ended, and to nothing else."""
    try:
        file = os.open(path, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
    except OSError:  # gone, or somebody else's
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # held, or of a file system without locks
        os.close(file)
        return
    try:
        then()
    finally:
        os.close(file)
