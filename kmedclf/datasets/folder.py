"""Image folders as they lie on disk: one folder a class, perhaps within train, val and test."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

SPLIT_NAMES = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
"""What the folders of each split are called, in any case."""

SUFFIXES = frozenset(
    ".bmp .dcm .dib .dicom .gif .jfif .jpe .jpeg .jpg .pbm .pgm .png .ppm .tif .tiff .webp".split()
)


class ImageFiles(NamedTuple):
    """Image files with their labels.

    Parameters
    ----------
    paths : ndarray of shape (n,), str
        The files: an X for estimators.
    y : ndarray of shape (n,), int64, or of shape (n, n_labels) in a multi-label set
        Positions in ``class_names``; or zeros and ones.
    groups : ndarray of shape (n,), str, or None
        Whom each image is of, if that is known.
    class_names : tuple of str
        One name a class.
    """

    paths: NDArray[np.str_]
    y: NDArray[np.int64]
    groups: NDArray[np.str_] | None
    class_names: tuple[str, ...]


def load_folder(
    folder: str | os.PathLike[str], split: str | None = None, *, group: str | None = None
) -> ImageFiles:
    """List the images of a folder that has a folder for every class.

    Parameters
    ----------
    folder : str or path-like
        Holds ``CLASS/.../image.png``; or train, val and test (or Training, validation, ...), and in
        each of them the classes.
    split : {"train", "val", "test"}, optional
        Which of these; must be given if the folder has them.
    group : str, optional
        Regular expression that finds the group of an image, such as a patient, in its path below
        the folder of its class: its first parenthesis, or all that it matches.

    Returns
    -------
    ImageFiles
        ``paths``, ``y``, ``groups`` and ``class_names``. Classes are in the order of their names,
        and the same for all splits; paths are sorted within each class.

    Raises
    ------
    FileNotFoundError
        If there is no such folder, or no image in it.
    ValueError
        If ``split`` does not fit the folder, images lie beside the folders of classes, or a path
        has no group.

    Notes
    -----
    Files that are no images by their name are passed over, as are hidden ones. A file without
    suffix is one if it begins like DICOM. No image is opened.

    Examples
    --------
    >>> from kmedclf import CNNClassifier, datasets
    >>> scans = datasets.load_folder("scans")  # doctest: +SKIP
    >>> CNNClassifier(image_size=(64, 64)).fit(scans.paths, scans.y)  # doctest: +SKIP
    """
    root = Path(folder).expanduser()
    folders = split_folders(root)
    allowed: tuple[str | None, ...] = tuple(folders) or (None,)
    if split not in allowed:
        given = " or ".join(map(repr, folders)) or "None: it has no folders of splits"
        raise ValueError(
            f"The 'split' parameter of load_folder must for {root} be {given}. Got {split!r} "
            "instead."
        )
    class_names = sorted({name for one in folders.values() or [root] for name in _classes(one)})
    found = _classes(folders[split] if split else root)
    if not found:
        raise FileNotFoundError(f"There is no folder of images, one a class, in {root}.")
    paths, y, groups = [], [], []
    for name in sorted(found):
        paths += [str(path) for path in found[name]]
        y += [class_names.index(name)] * len(found[name])
        if group is not None:
            below = Path(folders[split] if split else root, name)
            groups += [_group(path, below, group) for path in found[name]]
    return ImageFiles(
        np.array(paths),
        np.array(y, np.int64),
        np.array(groups) if group is not None else None,
        tuple(class_names),
    )


def split_folders(folder: str | os.PathLike[str]) -> dict[str, Path]:
    """Find the folders of "train", "val" and "test" in a folder; none if it holds classes.

    Parameters
    ----------
    folder : str or path-like
        The folder.

    Returns
    -------
    dict of str to Path
        By split, in this order.
    """
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise FileNotFoundError(f"There is no folder {root}.")
    inside = {path.name.lower(): path for path in sorted(root.iterdir()) if path.is_dir()}
    splits = {
        split: inside[name]
        for split, names in SPLIT_NAMES.items()
        for name in names
        if name in inside
    }
    return splits if "train" in splits or len(splits) > 1 else {}


def is_image(path: Path) -> bool:
    """Say whether a file is an image by its name; without suffix, whether it begins like DICOM."""
    if path.name.startswith(".") or not path.is_file():
        return False
    if path.suffix:
        return path.suffix.lower() in SUFFIXES
    with path.open("rb") as file:
        return file.read(132).endswith(b"DICM")


def images_in(folder: Path) -> list[Path]:
    """List the image files of a folder and of those in it, sorted."""
    return [path for path in sorted(folder.rglob("*")) if is_image(path)]


def find_images(paths: Sequence[Path]) -> list[Path]:
    """List images: files as they are given, folders as the image files in them, sorted."""
    found: list[Path] = []
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(f"There is no file or folder {path}.")
        images = images_in(path) if path.is_dir() else [path]
        if not images:
            raise FileNotFoundError(f"There is no image in the folder {path}.")
        found += images
    return found


def _classes(folder: Path) -> dict[str, list[Path]]:
    """Find the images of each class."""
    beside = [path for path in sorted(folder.iterdir()) if is_image(path)]
    if beside:
        raise ValueError(
            f"Every image in {folder} must be in the folder of its class. {beside[0].name} is not."
        )
    folders = [path for path in folder.iterdir() if path.is_dir() and path.name[0] != "."]
    found = {path.name: images_in(path) for path in folders}
    return {name: images for name, images in found.items() if images}


def _group(path: Path, below: Path, pattern: str) -> str:
    inside = path.relative_to(below).as_posix()
    match = re.search(pattern, inside)
    if match is None:
        raise ValueError(
            f"The 'group' parameter of load_folder must match the path of every image. {pattern!r} "
            f"does not match {inside}."
        )
    return str(match[1] if match.re.groups else match[0])
