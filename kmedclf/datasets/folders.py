"""Image folders on disk: one folder per class, perhaps inside train, val and test."""

from __future__ import annotations

import os
import re
import unicodedata
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kmedclf.inputs.dicom import begins_like_dicom

SUFFIXES = frozenset(
    ".bmp .dcm .dib .dicom .gif .ima .j2c .j2k .jfif .jp2 .jpc .jpe .jpeg .jpf .jpg .jpx .pbm .pgm "
    ".png .pnm .ppm .tif .tiff .webp".split()
)

_TOOLS = frozenset(
    ["@eadir", "__macosx", "__pycache__", "#recycle", "$recycle.bin", "lost+found",
     "system volume information"]
)  # fmt: skip
"""Names of folders made by operating systems and programs, besides those that begin with a dot."""

_CLUTTER = frozenset("thumbs.db ehthumbs.db desktop.ini".split())
"""Files made by operating systems, which are skipped without a warning."""

IMAGES = frozenset("image images img imgs".split())
MASKS = frozenset(
    "mask masks label labels annotation annotations segmentation segmentations gt groundtruth "
    "ground_truth".split()
)
"""Names of folders of masks, which are no class if they lie beside images."""

_MASK = re.compile(r"(.+?)[ _-](mask|seg|segmentation|superpixels)s?([ _-]?\d+)?$", re.IGNORECASE)


class Left:
    """Skipped files and folders, counted by reason; examples are relative to ``root``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._found: dict[str, list[Path]] = {}

    def add(self, reason: str, path: Path) -> None:
        """Count one path; a reason has the form "singular/plural description"."""
        self._found.setdefault(reason, []).append(path)

    def __str__(self) -> str:
        """Describe everything in one sentence with an example of each reason; "" if nothing."""
        parts = []
        for reason, paths in self._found.items():
            (one, several), why = reason.split(" ", 1)[0].split("/"), reason.split(" ", 1)[1]
            example = os.path.relpath(paths[0], self.root)
            parts.append(f"{len(paths)} {one if len(paths) == 1 else several} {why} ({example})")
        return f"Left out of {self.root}: {', '.join(parts)}." if parts else ""

    def warn(self, stacklevel: int) -> None:
        """Emit everything as one warning."""
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
    """Folders that were listed, identified by device and inode, so that links cannot loop."""

    def __init__(self, left: Left) -> None:
        self.left = left
        self._seen: dict[tuple[int, int], tuple[str, Path]] = {}

    def images(self, folder: Path, owner: str = "") -> list[Path]:
        """List the images in a folder and its subfolders, sorted.

        ``owner`` is the class and split of the folder; a folder with two owners is an error.
        """
        paths: list[Path] = []
        waiting = [folder]
        while waiting:
            place = waiting.pop()
            if self._is_new(place, owner):
                files, folders = self._inside(place)
                paths += files
                waiting += folders
        return sorted(paths)

    def _is_new(self, place: Path, owner: str) -> bool:
        """Check whether a folder is seen for the first time; a second owner is an error."""
        # Paths would not do: a link and its target are two paths of one folder
        status = os.stat(place)
        key = status.st_dev, status.st_ino
        if key not in self._seen:
            self._seen[key] = owner, place
            return True
        other, path = self._seen[key]
        # Within one class a loop is harmless, but two classes would share all images
        if other != owner:
            raise ValueError(
                f"Every image must be in one class and split. {path} and {place} are one folder."
            )
        self.left.add(AGAIN, place)
        return False

    def _inside(self, place: Path) -> tuple[list[Path], list[Path]]:
        """List the images and the folders directly in a folder."""
        with os.scandir(place) as entries:
            every = sorted(entries, key=lambda entry: entry.name)
        folders = [entry for entry in every if _is_dir(entry)]
        files = list(self._files(place, [entry for entry in every if not _is_dir(entry)]))
        names = {entry.name.lower() for entry in folders}
        pictured = bool(files) or bool(names & IMAGES)
        kept = []
        for entry in folders:
            path = place / entry.name
            # A folder called "mask" is skipped only beside images: else it may hold the images
            if is_of_tools(entry.name):
                self.left.add(HIDDEN_FOLDER, path)
            elif pictured and entry.name.lower() in MASKS:
                self.left.add(MASK_FOLDER, path)
            else:
                kept.append(path)
        return files, kept

    def _files(self, place: Path, entries: list[os.DirEntry[str]]) -> Iterator[Path]:
        """Yield the images directly in a folder, and count the skipped files."""
        parts = [os.path.splitext(entry.name.lower()) for entry in entries]
        stems = {stem for stem, suffix in parts if suffix in SUFFIXES}
        for entry in entries:
            path = place / entry.name
            regular = entry.is_file(follow_symlinks=False)
            if not regular and not path.exists():
                self.left.add(NOWHERE, path)
            elif not regular and not path.is_file():  # such as a pipe or socket
                self.left.add(NO_IMAGE, path)
            elif entry.name.startswith("."):
                if path.suffix.lower() in SUFFIXES:
                    self.left.add(HIDDEN_FILE, path)
            elif not _is_kind_of_image(path):
                if entry.name.lower() not in _CLUTTER:
                    self.left.add(NO_IMAGE, path)
            # "scan_mask.png" is a mask only if "scan.png" exists
            elif (match := _MASK.match(path.stem.lower())) and match[1].rstrip(" _-") in stems:
                self.left.add(MASK_FILE, path)
            else:
                yield path


def _is_dir(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # such as a link to itself
        return False


def is_of_tools(name: str) -> bool:
    """Check whether the name of a folder is typical of an operating system or a program."""
    return name.startswith(".") or name.lower() in _TOOLS


def is_image(path: Path) -> bool:
    """Check whether a file is an image by its suffix or, without one, by its first bytes."""
    return path.is_file() and _is_kind_of_image(path)


def _is_kind_of_image(path: Path) -> bool:
    if path.name.startswith(".") or path.name.upper() == "DICOMDIR":
        return False
    suffix = path.suffix[1:]
    if suffix and not suffix.isdecimal():  # DICOM files are often named by UIDs, as "1.2.840"
        return path.suffix.lower() in SUFFIXES
    with path.open("rb") as file:
        return begins_like_dicom(file.read(132))


SPLIT_NAMES = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
"""Names of the folders of each split, in upper or lower case."""


class ImageFiles(NamedTuple):
    """Image files with their labels.

    Parameters
    ----------
    paths : ndarray of shape (n,), str
        Paths of the files: an X for estimators.
    y : ndarray of shape (n,), int64, or of shape (n, n_labels) in a multilabel set
        Positions in ``class_names``; zeros and ones in a multilabel set.
    groups : ndarray of shape (n,), str, or None
        Group of each image, such as its patient, if known.
    class_names : tuple of str
        One name per class.
    """

    paths: NDArray[np.str_]
    y: NDArray[np.int64]
    groups: NDArray[np.str_] | None
    class_names: tuple[str, ...]


def load_folder(
    folder: str | os.PathLike[str], split: str | None = None, *, group: str | None = None
) -> ImageFiles:
    """List the images of a folder that has one folder per class.

    Parameters
    ----------
    folder : str or path-like
        Folder of the form ``CLASS/.../image.png``; or with folders train, val and test (or
        Training, validation, ...) that each have this form.
    split : {"train", "val", "test"}, optional
        The split to list; required if the folder has splits.
    group : str, optional
        Regular expression that finds the group of an image, such as its patient, in its path
        relative to the folder of its class: the first parenthesis, or else the whole match.

    Returns
    -------
    ImageFiles
        ``paths``, ``y``, ``groups`` and ``class_names``. Classes are sorted by name and are the
        same for all splits; paths are sorted within each class.

    Raises
    ------
    FileNotFoundError
        If there is no such folder, or no image in it.
    ValueError
        If ``split`` does not fit the folder, images lie beside the folders of classes, or a path
        has no group. Also if the classes or splits are ambiguous: two folders of one split, a
        single class that holds folders only, one folder in two classes, splits inside a class.

    Warns
    -----
    UserWarning
        With a count and an example of each kind of skipped file or folder: files whose name is
        not that of an image, hidden files, folders of operating systems, such as ``__MACOSX``,
        masks beside images, links that are broken or form a loop.

    Notes
    -----
    A file without a suffix, or with a number as suffix, is an image if it begins like DICOM. Links
    are followed. No image is opened.

    Examples
    --------
    >>> from kmedclf import CNNClassifier, datasets
    >>> scans = datasets.load_folder("scans")  # doctest: +SKIP
    >>> CNNClassifier(image_size=(64, 64)).fit(scans.paths, scans.y)  # doctest: +SKIP
    """
    root = Path(folder).expanduser()
    folders = split_folders(root)
    # Without splits only None is allowed: an unknown split must not return all images
    allowed: tuple[str | None, ...] = tuple(folders) or (None,)
    if split not in allowed:
        choices = " or ".join(map(repr, folders)) or "None, as there are no folders of splits,"
        raise ValueError(
            f"The 'split' parameter of load_folder must be {choices} for {root}. Got {split!r} "
            "instead."
        )
    left = Left(root)
    tree = Tree(left)
    # All splits are listed, since class names must not depend on the split that is asked for
    places: dict[str | None, Path] = dict(folders.items()) or {None: root}
    classes = {name: _classes(place, tree, name) for name, place in places.items()}
    if folders:
        _note_what_is_beside(root, list(folders.values()), left)
    class_names = sorted({name for one in classes.values() for name in one})
    _check_names(root, places, classes, class_names)
    images = classes[split]
    if not images:
        raise FileNotFoundError(
            f"{places[split]} must hold a folder of images for each class. It has none. "
            f"{left}".rstrip()
        )
    left.warn(stacklevel=2)
    paths, y, groups = [], [], []
    for name in sorted(images):
        paths += [str(path) for path in images[name]]
        y += [class_names.index(name)] * len(images[name])
        if group is not None:
            below = Path(folders[split] if split else root, name)
            groups += [_group(path, below, group) for path in images[name]]
    return ImageFiles(
        np.array(paths),
        np.array(y, np.int64),
        np.array(groups) if group is not None else None,
        tuple(class_names),
    )


def split_folders(folder: str | os.PathLike[str]) -> dict[str, Path]:
    """Find the folders of "train", "val" and "test", in this order; {} if it holds classes."""
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise FileNotFoundError(f"There is no folder {root}.")
    inside = [path for path in sorted(root.iterdir()) if _is_open_folder(path)]
    found = {
        split: [path for path in inside if path.name.lower() in names]
        for split, names in SPLIT_NAMES.items()
    }
    splits = {split: paths[0] for split, paths in found.items() if paths}
    if "train" not in splits and len(splits) < 2:  # a class may be called "test"
        return {}
    for split, paths in found.items():
        if len(paths) > 1:
            raise ValueError(
                f"{root} must have one folder of the {split!r} split. It has "
                f"{' and '.join(map(str, paths))}."
            )
    return splits


def find_images(paths: Sequence[Path], say: Callable[[str], object]) -> list[Path]:
    """List images: files as given, folders as the sorted images in them.

    ``say`` is called with a sentence on the skipped files of a folder.
    """
    files: list[Path] = []
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(f"There is no file or folder {path}.")
        if not path.is_dir():
            files.append(path)
            continue
        left = Left(path)
        images = Tree(left).images(path)
        if not images:
            raise FileNotFoundError(f"There is no image in the folder {path}. {left}".rstrip())
        if text := str(left):
            say(text)
        files += images
    return files


def _is_open_folder(path: Path) -> bool:
    return path.is_dir() and not is_of_tools(path.name)


def _classes(folder: Path, tree: Tree, split: str | None) -> dict[str, list[Path]]:
    """List the images of each class."""
    inside = sorted(folder.iterdir())
    # An image without a class would be lost silently
    beside = [path for path in inside if is_image(path)]
    if beside:
        raise ValueError(
            f"Every image in {folder} must be in the folder of its class. {beside[0].name} is not. "
            f"Make a folder for each class in {folder}, and move the images there."
        )
    found = {}
    for path in inside:
        if _is_open_folder(path):
            # Otherwise the images of train and test would end up in one class
            if splits := split_folders(path):
                raise ValueError(
                    f"The folders in {folder} must be classes. {path.name} holds splits, "
                    f"{' and '.join(map(str, splits.values()))}; give one such folder at a time."
                )
            images = tree.images(path, f"{split} {path.name}")
            if images:
                found[path.name] = images
            else:
                tree.left.add(EMPTY, path)
        elif path.is_dir():
            tree.left.add(HIDDEN_FOLDER, path)
        elif path.is_symlink() and not path.exists():
            tree.left.add(NOWHERE, path)
    return found


def _note_what_is_beside(root: Path, folders: list[Path], left: Left) -> None:
    """Count the folders and images that lie beside the folders of splits."""
    for path in sorted(root.iterdir()):
        if path.is_dir() and path not in folders:
            tools = is_of_tools(path.name)
            left.add(HIDDEN_FOLDER if tools else BESIDE, path)
        elif is_image(path):
            left.add(BESIDE_FILE, path)


def _check_names(
    root: Path,
    places: dict[str | None, Path],
    classes: dict[str | None, dict[str, list[Path]]],
    names: list[str],
) -> None:
    """Refuse folders that are not classes; warn of class names that differ by case or blanks."""
    first = next(iter(places.values()))
    lower = {name.lower(): name for name in names}
    # "images" beside "masks" is the layout of a segmentation data set
    pictures, masks = set(lower) & IMAGES, set(lower) & MASKS
    if pictures and masks:
        pair = [first / lower[min(kind)] for kind in (pictures, masks)]
        raise ValueError(
            f"The folders in {first} must be classes. {pair[0]} and {pair[1]} are not: give a "
            "folder that has a folder of images for every class."
        )
    if len(names) == 1:
        split = next(split for split, one in classes.items() if one)
        _check_only_class(root, places[split] / names[0], classes[split][names[0]])
    # File systems store accents in different Unicode forms
    spelt: dict[str, str] = {}
    for name in names:
        same = unicodedata.normalize("NFC", name).casefold().strip()
        other = spelt.setdefault(same, name)
        if other != name:
            warnings.warn(
                f"{root} has the classes {other!r} and {name!r}, which differ by case or blanks "
                "only: rename one if they are the same.",
                stacklevel=3,
            )


def _check_only_class(root: Path, place: Path, images: list[Path]) -> None:
    """Refuse a single class without images of its own: the given folder is one level too high."""
    depth = len(place.parts)
    within = sorted({path.parts[depth] for path in images if len(path.parts) > depth + 1})
    if within and all(len(path.parts) > depth + 1 for path in images):
        inside = " and ".join(str(place / one) for one in within[:2])
        raise ValueError(
            f"{root} must hold a folder of images for every class. It holds one, {place}, with "
            f"{inside} in it: give {place} if these are the classes or splits."
        )


def _group(path: Path, below: Path, pattern: str) -> str:
    """Find the group of an image by a regular expression."""
    inside = path.relative_to(below).as_posix()
    match = re.search(pattern, inside)
    if match is None:
        raise ValueError(
            f"The 'group' parameter of load_folder (--groups) must match the path of every image. "
            f"'{pattern}' does not match {inside}."  # not its repr, which doubles backslashes
        )
    return str(match[1] if match.re.groups else match[0])
