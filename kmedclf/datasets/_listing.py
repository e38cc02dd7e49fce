"""Which files of a folder are images, and an account of all that is passed over."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator
from pathlib import Path

from kmedclf.dicom import begins_like_dicom

SUFFIXES = frozenset(
    ".bmp .dcm .dib .dicom .gif .ima .j2c .j2k .jfif .jp2 .jpc .jpe .jpeg .jpf .jpg .jpx .pbm .pgm "
    ".png .pnm .ppm .tif .tiff .webp".split()
)

_TOOLS = frozenset(
    ["@eadir", "__macosx", "__pycache__", "#recycle", "$recycle.bin", "lost+found",
     "system volume information"]
)  # fmt: skip
"""Folders that systems and programs make; those whose names begin with a dot are others."""

_CLUTTER = frozenset("thumbs.db ehthumbs.db desktop.ini".split())
"""Files that systems make, which nobody takes for images and nobody misses."""

IMAGES = frozenset("image images img imgs".split())
MASKS = frozenset(
    "mask masks label labels annotation annotations segmentation segmentations gt groundtruth "
    "ground_truth".split()
)
"""Folders that hold something else of the images beside them."""

_MASK = re.compile(r"(.+?)[ _-](mask|seg|segmentation|superpixels)s?([ _-]?\d+)?$", re.IGNORECASE)


class Left:
    """What is passed over, counted by the reason why.

    Parameters
    ----------
    root : Path
        The folder that is listed; examples are named below it.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._found: dict[str, list[Path]] = {}

    def add(self, reason: str, path: Path) -> None:
        """Count one; a reason is of the form "file, files that ..."."""
        self._found.setdefault(reason, []).append(path)

    def __str__(self) -> str:
        """Say all of it in one sentence, with an example of each kind; "" if there is none."""
        parts = []
        for reason, paths in self._found.items():
            (one, several), why = reason.split(" ", 1)[0].split("/"), reason.split(" ", 1)[1]
            example = os.path.relpath(paths[0], self.root)
            parts.append(f"{len(paths)} {one if len(paths) == 1 else several} {why} ({example})")
        return f"Left out of {self.root}: {', '.join(parts)}." if parts else ""

    def warn(self, stacklevel: int) -> None:
        """Say it in one warning."""
        if text := str(self):
            warnings.warn(text, stacklevel=stacklevel + 1)


HIDDEN_FOLDER = "folder/folders of a system or a tool"
HIDDEN_FILE = "file/files hidden by a dot"
NO_IMAGE = "file/files of another kind than images by name"
NOWHERE = "link/links to nothing"
AGAIN = "link/links to a folder that is listed already"
MASK_FOLDER = "folder/folders of masks beside images"
MASK_FILE = "file/files of masks beside their images"
EMPTY = "folder/folders without images"
BESIDE = "folder/folders beside those of splits"
BESIDE_FILE = "image/images beside the folders of splits"


class Tree:
    """Folders that have been listed, by what they are on disk, so that no link leads round."""

    def __init__(self, left: Left) -> None:
        self.left = left
        self._seen: dict[tuple[int, int], tuple[str, Path]] = {}

    def images(self, folder: Path, owner: str = "") -> list[Path]:
        """List the images of a folder and of those in it, sorted.

        Parameters
        ----------
        folder : Path
            The folder.
        owner : str
            Its class and split: a folder that two of them link to is refused.
        """
        found: list[Path] = []
        waiting = [folder]
        while waiting:
            place = waiting.pop()
            if self._is_new(place, owner):
                files, folders = self._inside(place)
                found += files
                waiting += folders
        return sorted(found)

    def _is_new(self, place: Path, owner: str) -> bool:
        status = os.stat(place)
        key = status.st_dev, status.st_ino
        if key not in self._seen:
            self._seen[key] = owner, place
            return True
        other, path = self._seen[key]
        if other != owner:
            raise ValueError(
                f"Every image must be in one class and split. {path} and {place} are one folder."
            )
        self.left.add(AGAIN, place)
        return False

    def _inside(self, place: Path) -> tuple[list[Path], list[Path]]:
        """List the images and folders in one folder."""
        with os.scandir(place) as entries:
            every = sorted(entries, key=lambda entry: entry.name)
        folders = [entry for entry in every if _is_dir(entry)]
        files = list(self._files(place, [entry for entry in every if not _is_dir(entry)]))
        names = {entry.name.lower() for entry in folders}
        pictured = bool(files) or bool(names & IMAGES)
        kept = []
        for entry in folders:
            path = place / entry.name
            if is_of_tools(entry.name):
                self.left.add(HIDDEN_FOLDER, path)
            elif pictured and entry.name.lower() in MASKS:
                self.left.add(MASK_FOLDER, path)
            else:
                kept.append(path)
        return files, kept

    def _files(self, place: Path, entries: list[os.DirEntry[str]]) -> Iterator[Path]:
        parts = [os.path.splitext(entry.name.lower()) for entry in entries]
        stems = {stem for stem, suffix in parts if suffix in SUFFIXES}
        for entry in entries:
            path = place / entry.name
            regular = entry.is_file(follow_symlinks=False)
            if not regular and not path.exists():
                self.left.add(NOWHERE, path)
            elif not regular and not path.is_file():  # a pipe, a socket
                self.left.add(NO_IMAGE, path)
            elif entry.name.startswith("."):
                if path.suffix.lower() in SUFFIXES:
                    self.left.add(HIDDEN_FILE, path)
            elif not _is_kind_of_image(path):
                if entry.name.lower() not in _CLUTTER:
                    self.left.add(NO_IMAGE, path)
            elif (match := _MASK.match(path.stem.lower())) and match[1].rstrip(" _-") in stems:
                self.left.add(MASK_FILE, path)
            else:
                yield path


def _is_dir(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def is_of_tools(name: str) -> bool:
    """Say whether a folder of this name was made by a system or a program."""
    return name.startswith(".") or name.lower() in _TOOLS


def is_image(path: Path) -> bool:
    """Say whether a file is an image by its name; without suffix, whether it begins like DICOM."""
    return path.is_file() and _is_kind_of_image(path)


def _is_kind_of_image(path: Path) -> bool:
    if path.name.startswith(".") or path.name.upper() == "DICOMDIR":
        return False
    suffix = path.suffix[1:]
    if suffix and not suffix.isdecimal():  # names of DICOM are often numbers with points
        return path.suffix.lower() in SUFFIXES
    with path.open("rb") as file:
        return begins_like_dicom(file.read(132))
