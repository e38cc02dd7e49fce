"""JSON files of run and search folders; they may be untrusted, and are checked."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from kmedclf.utils import archives

MOST = 512 * 2**20
"""Maximum size of a file in bytes; the report of a million images has a tenth."""


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read a JSON file; refuse anything but a regular file of at most `MOST` bytes."""
    archives.check_regular(path, "JSON file")
    if os.path.getsize(path) > MOST:
        raise ValueError(f"{path} must be a JSON file of at most {MOST // 2**20} MB.")
    try:
        return archives.parse(Path(path).read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is not a whole JSON file ({error}).") from error


def read_environment(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Read environment.json of a run, and check data, class names and seconds."""
    path = Path(folder, "environment.json")
    match content := read_json(path):
        case {
            "data": {"class_names": [*names], "source": str(), "n": {"train": int(n), **_rest}},
            "seconds": int() | float(),
        } if n > 0 and all(isinstance(one, str) for one in names):
            groups = content["data"].get("groups")
            if groups is None or isinstance(groups, str):
                return content
    raise ValueError(f"{path} must describe a run of 'kmedclf train'. Got something else.")


def check_types(
    path: Path,
    content: Any,
    required: dict[str, tuple[type, ...]],
    more: dict[str, tuple[type, ...]],
    what: str,
) -> None:
    """Refuse the settings of a ``what`` with missing entries or wrong types."""
    if not isinstance(content, dict) or not set(required) <= set(content):
        raise ValueError(f"{path} must hold the settings of a {what}. Got something else.")
    for name, types in {**required, **more}.items():
        # bool is a subclass of int.
        if name in content and (
            not isinstance(content[name], types)
            or (isinstance(content[name], bool) and bool not in types)
        ):
            raise ValueError(
                f"The {name!r} in {path} must be that of a {what}. Got {content[name]!r:.60} "
                "instead."
            )
