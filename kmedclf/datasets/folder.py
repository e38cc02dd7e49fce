"""Image folders as they lie on disk: one folder a class, perhaps within train, val and test."""

from __future__ import annotations

import os
import re
import unicodedata
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kmedclf.datasets import _listing
from kmedclf.datasets._listing import Left, Tree, is_image, is_of_tools

SPLIT_NAMES = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
"""What the folders of each split are called, in any case."""


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
        has no group; or if it cannot be known what the classes or splits are: two folders of one
        split, one class that holds folders only, one folder in two classes, splits in a class.

    Warns
    -----
    UserWarning
        With a number and an example each, of what is passed over: files that are no images by
        their name, hidden ones, folders that systems make, such as ``__MACOSX``, masks beside
        images, links that lead nowhere or round.

    Notes
    -----
    A file without suffix, or with a number for one, is an image if it begins like DICOM. Links are
    followed. No image is opened.

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
    left = Left(root)
    tree = Tree(left)
    places: dict[str | None, Path] = dict(folders.items()) or {None: root}
    classes = {name: _classes(place, tree, name) for name, place in places.items()}
    if folders:
        _note_what_is_beside(root, list(folders.values()), left)
    class_names = sorted({name for one in classes.values() for name in one})
    _check_names(root, places, classes, class_names)
    found = classes[split]
    if not found:
        raise FileNotFoundError(
            f"There is no folder of images, one a class, in {places[split]}. {left}".rstrip()
        )
    left.warn(stacklevel=2)
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
    inside = [path for path in sorted(root.iterdir()) if _is_open_folder(path)]
    found = {
        split: [path for path in inside if path.name.lower() in names]
        for split, names in SPLIT_NAMES.items()
    }
    splits = {split: paths[0] for split, paths in found.items() if paths}
    if "train" not in splits and len(splits) < 2:
        return {}
    for split, paths in found.items():
        if len(paths) > 1:
            raise ValueError(
                f"{root} must have one folder of the {split!r} split. It has "
                f"{' and '.join(map(str, paths))}."
            )
    return splits


def find_images(paths: Sequence[Path], say: Callable[[str], object]) -> list[Path]:
    """List images: files as they are given, folders as the image files in them, sorted.

    Parameters
    ----------
    paths : sequence of Path
        Files and folders.
    say : callable
        Called with a sentence on what is left out of a folder.
    """
    found: list[Path] = []
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(f"There is no file or folder {path}.")
        if not path.is_dir():
            found.append(path)
            continue
        left = Left(path)
        images = Tree(left).images(path)
        if not images:
            raise FileNotFoundError(f"There is no image in the folder {path}. {left}".rstrip())
        if text := str(left):
            say(text)
        found += images
    return found


def _is_open_folder(path: Path) -> bool:
    return path.is_dir() and not is_of_tools(path.name)


def _classes(folder: Path, tree: Tree, split: str | None) -> dict[str, list[Path]]:
    """Find the images of each class."""
    inside = sorted(folder.iterdir())
    beside = [path for path in inside if is_image(path)]
    if beside:
        raise ValueError(
            f"Every image in {folder} must be in the folder of its class. {beside[0].name} is not."
        )
    found = {}
    for path in inside:
        if _is_open_folder(path):
            if splits := split_folders(path):
                raise ValueError(
                    f"The folders in {folder} must be classes. {path.name} holds splits, "
                    f"{' and '.join(map(str, splits.values()))}; give one such folder at a time."
                )
            images = tree.images(path, f"{split} {path.name}")
            if images:
                found[path.name] = images
            else:
                tree.left.add(_listing.EMPTY, path)
        elif path.is_dir():
            tree.left.add(_listing.HIDDEN_FOLDER, path)
        elif path.is_symlink() and not path.exists():
            tree.left.add(_listing.NOWHERE, path)
    return found


def _note_what_is_beside(root: Path, folders: list[Path], left: Left) -> None:
    """Note folders and images that lie beside folders of splits."""
    for path in sorted(root.iterdir()):
        if path.is_dir() and path not in folders:
            tools = is_of_tools(path.name)
            left.add(_listing.HIDDEN_FOLDER if tools else _listing.BESIDE, path)
        elif is_image(path):
            left.add(_listing.BESIDE_FILE, path)


def _check_names(
    root: Path,
    places: dict[str | None, Path],
    classes: dict[str | None, dict[str, list[Path]]],
    names: list[str],
) -> None:
    """Refuse folders that are no classes, and warn of classes that may be one."""
    first = next(iter(places.values()))
    lower = {name.lower(): name for name in names}
    pictures, masks = set(lower) & _listing.IMAGES, set(lower) & _listing.MASKS
    if pictures and masks:
        pair = [first / lower[min(kind)] for kind in (pictures, masks)]
        raise ValueError(
            f"The folders in {first} must be classes. {pair[0]} and {pair[1]} are not: give a "
            "folder that has a folder of images for every class."
        )
    if len(names) == 1:
        split = next(split for split, one in classes.items() if one)
        _check_only_class(root, places[split] / names[0], classes[split][names[0]])
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
    """Refuse a single class all of whose images are in folders in it: one looked too high up."""
    depth = len(place.parts)
    within = sorted({path.parts[depth] for path in images if len(path.parts) > depth + 1})
    if within and all(len(path.parts) > depth + 1 for path in images):
        inside = " and ".join(str(place / one) for one in within[:2])
        raise ValueError(
            f"{root} must hold a folder of images for every class. It holds one, {place}, with "
            f"{inside} in it: give {place} if these are the classes or splits."
        )


def _group(path: Path, below: Path, pattern: str) -> str:
    inside = path.relative_to(below).as_posix()
    match = re.search(pattern, inside)
    if match is None:
        raise ValueError(
            f"The 'group' parameter of load_folder must match the path of every image. {pattern!r} "
            f"does not match {inside}."
        )
    return str(match[1] if match.re.groups else match[0])
