"""What a page that is handed on may show of the machine it was made on: no paths, only names."""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from typing import Any

_PART = r"[^\s\\/\"'<>|,;:()]"
_QUOTED = re.compile(r"""(["'])((?:file://)?(?:~|/|[A-Za-z]:[\\/]|\\\\)[^"'\n]*)\1""")
_BARE = re.compile(
    rf"(?<![\w.\-/\\~])(?:file://)?(?:~{_PART}*|[A-Za-z]:|\\)?[\\/]{_PART}+(?:[\\/]{_PART}*)+"
)


def without_folders(value: Any) -> str:
    """Write a value as text in which absolute paths, and those below ~, are names of files only."""
    text = str(value)
    if _is_absolute(text):
        return _name(text)
    text = text.replace(f"{Path.home()}{os.sep}", "~/") if len(str(Path.home())) > 1 else text
    text = _QUOTED.sub(lambda found: f"{found[1]}{_name(found[2])}{found[1]}", text)
    return _BARE.sub(lambda found: _name(found[0]), text)


def _is_absolute(text: str) -> bool:
    if "\n" in text:
        return False
    beginning = text.startswith(("~", "file://", "\\\\"))
    # One part, as "/", is no path of anybody's
    several = len(re.split(r"[\\/]", text.strip("\\/"))) > 1
    absolute = PurePosixPath(text).is_absolute() or PureWindowsPath(text).is_absolute()
    return beginning or (absolute and (several or text.rstrip("/\\") == str(Path.home())))


def _name(path: str) -> str:
    """Give the last part of a path; of the home folder it would be the user."""
    if path.rstrip("/\\") in (str(Path.home()), "~"):
        return "~"
    parts = [part for part in re.split(r"[\\/]", path) if part not in ("", "~")]
    return parts[-1] if parts else path


def file_names(X: Any) -> list[str] | None:
    """Name the files that X holds, below the folder that all of them are in; None of arrays."""
    n = len(X)
    if not n or not all(isinstance(X[i], str | os.PathLike) for i in range(n)):
        return None
    paths = [os.path.abspath(os.fspath(X[i])) for i in range(n)]
    try:
        root = os.path.commonpath([os.path.dirname(path) for path in paths])
    except ValueError:  # on several drives
        return [os.path.basename(path) for path in paths]
    return [PurePath(os.path.relpath(path, root)).as_posix() for path in paths]
