"""Folders that are the package's own, inside those that a user names, and files of its own in them.

A user may name any folder as a cache. What lies there already is theirs: only files that carry a
mark at their end, in a folder that carries one, are ever counted, read or removed.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from kmedclf.utils import files

TAG = "CACHEDIR.TAG"
_SIGNATURE = "Signature: 8a477f597d28d172789f06886806bc55\n"  # by which backups know a cache


class OwnFolder:
    """A folder of the package's own.

    Parameters
    ----------
    parent : Path
        The folder that the user names.
    name : str
        Of the folder in it.
    mark : bytes
        What every file in it ends with.
    """

    def __init__(self, parent: Path, name: str, mark: bytes) -> None:
        self.path, self.mark = parent / name, mark
        self._text = f"{_SIGNATURE}# Written by kmedclf ({name}). It may be deleted.\n"

    def is_own(self) -> bool:
        """Say whether the folder is there and was made here."""
        try:
            return (self.path / TAG).read_bytes()[:500] == self._text.encode()
        except OSError:
            return False

    def make(self) -> None:
        """Make the folder with its tag, both at once, if it is not there.

        Raises
        ------
        FileExistsError
            If something else has its name.
        OSError
            If it cannot be made.
        """
        if self.is_own():
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with files.scratch(self.path.parent, self.path.name) as beside:
            new = beside / "new"
            new.mkdir()
            (new / TAG).write_bytes(self._text.encode())
            try:
                new.rename(self.path)
            except OSError:
                if not os.path.lexists(self.path):
                    raise
                # another process was faster, or it is not ours
        if not self.is_own():
            raise FileExistsError(
                f"{self.path} is there and was not made by kmedclf; choose another folder, or move "
                "it away."
            )

    def files(self, pattern: str) -> Iterator[tuple[os.stat_result, Path]]:
        """List regular files whose names match; whether they are marked is not looked at."""
        if not self.is_own():
            return
        for path in self.path.glob(pattern):
            with suppress(OSError):  # another process removed it
                found = path.lstat()
                if stat.S_ISREG(found.st_mode):
                    yield found, path

    def is_marked(self, path: Path) -> bool:
        """Say whether a file was written here, whole."""
        try:
            if not stat.S_ISREG(path.lstat().st_mode):
                return False
            with path.open("rb") as file:
                file.seek(-len(self.mark), os.SEEK_END)
                return file.read() == self.mark
        except OSError:
            return False

    def remove(self, path: Path) -> bool:
        """Remove a file if it was written here; False if it was not, and stays."""
        if not self.is_own() or not self.is_marked(path):
            return not path.exists()
        with suppress(OSError):
            path.unlink(missing_ok=True)
        return not path.exists()
