"""Folders of the package inside folders that a user names, such as a cache.

The user's folder may hold other files. Only marked files in a marked folder are ever counted,
read or removed.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from kmedclf.utils import files

TAG = "CACHEDIR.TAG"
IMAGES, FITS, FEATURES = "kmedclf-images-v1", "kmedclf-fits-v1", "kmedclf-features-v1"
"""Names of the folders of decoded images, of remembered fits and of remembered features."""
FIT_SUFFIX = ".kmedclf-fit"
_SIGNATURE = "Signature: 8a477f597d28d172789f06886806bc55\n"  # lets backups skip the cache


class OwnFolder:
    """A folder of the package inside ``parent``; all its files end with ``mark``."""

    def __init__(self, parent: Path, name: str, mark: bytes) -> None:
        self.path, self.mark = parent / name, mark
        self._text = f"{_SIGNATURE}# Written by kmedclf ({name}). It may be deleted.\n"

    def is_own(self) -> bool:
        """Check whether the folder exists and was created by the package."""
        try:
            return (self.path / TAG).read_bytes()[:500] == self._text.encode()
        except OSError:
            return False

    def make(self) -> None:
        """Create folder and tag atomically; raise if its name is already taken."""
        if self.is_own():
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if not os.path.lexists(self.path):
            self._make()
        if not self.is_own():
            raise FileExistsError(
                f"{self.path} is there and was not made by kmedclf; choose another folder, or move "
                "it away."
            )

    def _make(self) -> None:
        with files.scratch(self.path.parent, self.path.name) as beside:
            # Rename a complete folder, so that no process sees it without its tag.
            new = beside / "new"
            new.mkdir()
            (new / TAG).write_bytes(self._text.encode())
            try:
                new.rename(self.path)
            except OSError:
                if not os.path.lexists(self.path):
                    raise
                # Another process was faster, or the folder is not ours.

    def files(self, pattern: str) -> Iterator[tuple[os.stat_result, Path]]:
        """List regular files with matching names; marks are not checked."""
        if not self.is_own():
            return
        for path in self.path.glob(pattern):
            # Another process may remove it.
            with suppress(OSError):
                found = path.lstat()
                if stat.S_ISREG(found.st_mode):
                    yield found, path

    def is_marked(self, path: Path) -> bool:
        """Check whether a file was completely written by the package."""
        try:
            if not stat.S_ISREG(path.lstat().st_mode):
                return False
            with path.open("rb") as file:
                file.seek(-len(self.mark), os.SEEK_END)
                return file.read() == self.mark
        except OSError:
            return False

    def remove(self, path: Path) -> bool:
        """Remove a file if it is marked; return whether it is gone."""
        if not self.is_own() or not self.is_marked(path):
            return not path.exists()
        with suppress(OSError):
            path.unlink(missing_ok=True)
        return not path.exists()
