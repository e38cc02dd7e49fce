"""Load MedMNIST sets by name, and npz files of the same layout by path."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kmedclf.datasets import npz
from kmedclf.datasets.registry import DatasetInfo, Task, find
from kmedclf.inputs.array_likes import is_medmnist, of_medmnist
from kmedclf.utils.download import download, md5_of, reason_of

ZENODO = "https://zenodo.org/records/10519652/files"


def cache_folder(data_dir: str | os.PathLike[str] | None) -> Path:
    """Return the folder of the downloaded files, which need not exist.

    None means ``$KMEDCLF_DATA`` or, if unset, ``~/.medmnist``.
    """
    return Path(data_dir or os.environ.get("KMEDCLF_DATA") or "~/.medmnist").expanduser()


def file_name(info: DatasetInfo, size: int) -> str:
    """Return the name of MedMNIST's file of one image size; 28 pixels have no suffix."""
    return f"{info.name}.npz" if size == 28 else f"{info.name}_{size}.npz"


def fetch(info: DatasetInfo, size: int, folder: Path, offline: bool, mirror: str | None) -> Path:
    """Return the path of a MedMNIST file, and download it if necessary.

    ``mirror`` replaces Zenodo; None means ``$KMEDCLF_MIRROR`` if set. The folder is created only
    once a checked file is ready.
    """
    name = file_name(info, size)
    target = folder / name
    if target.is_file():
        return target
    official = info.url.get(size, f"{ZENODO}/{name}?download=1")
    mirror = mirror or os.environ.get("KMEDCLF_MIRROR")
    address = f"{mirror.rstrip('/')}/{name}" if mirror else official
    cause: Exception | None = None
    if offline:
        reason = "offline=True"
    else:
        try:
            download(address, target, info.md5[size])
            return target
        except (OSError, ValueError) as error:  # exceptions of requests are OSErrors
            cause, reason = error, reason_of(error, address)
    raise FileNotFoundError(
        f"{name} is not in {folder} and could not be downloaded ({reason}); get it from "
        f"{official}, check that its md5 is {info.md5[size]}, and put it there."
    ) from cause


def load(
    name_or_path: Any,
    split: str = "train",
    *,
    size: int = 28,
    data_dir: str | os.PathLike[str] | None = None,
    offline: bool = False,
    mirror: str | None = None,
    mmap: bool = False,
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Load one split of a data set.

    Parameters
    ----------
    name_or_path : str, path-like or data set of the medmnist package
        A split that the medmnist package has opened, whose other parameters here are ignored; a
        name out of `kmedclf.datasets.names`; or the path of an ``.npz`` file with the arrays
        ``train_images``, ``train_labels``, and the same for "val" and "test". Up to two splits may
        be missing.
    split : {"train", "val", "test"}, default="train"
        The split.
    size : {28, 64, 128, 224}, default=28
        Sides of the images of a set known by name; of volumes 28 or 64. The size of a file is
        fixed.
    data_dir : path-like, default=None
        Folder of the downloaded files. None means the environment variable ``KMEDCLF_DATA`` or,
        if that is unset, ``~/.medmnist``, which the medmnist package uses as well. The folder is
        created by the first download.
    offline : bool, default=False
        Never use the network: a missing file is an error.
    mirror : str, default=None
        Address of a folder from which to download instead of MedMNIST's Zenodo record. None
        means the environment variable ``KMEDCLF_MIRROR``, if set. Checksums stay the same.
    mmap : bool, default=False
        Map the images from disk instead of reading them into memory. They are unpacked once,
        uncompressed, beside the file.

    Returns
    -------
    X : ndarray of shape (n_samples, h, w) or (n_samples, h, w, 3), or (n_samples, d, h, w)
        The images, or volumes, as stored: uint8 in MedMNIST.
    y : ndarray of shape (n_samples,) or (n_samples, n_labels), dtype int64
        The labels; a row of zeros and ones per image in a multilabel set such as chestmnist.

    Raises
    ------
    ValueError
        If the name, split or size is unknown, or the file lacks the split, is damaged, or holds
        arrays that do not fit together.
    FileNotFoundError
        If the file is missing and cannot be downloaded. The message says which file to put where,
        its address and its md5.

    Notes
    -----
    A download is checked against the md5 that MedMNIST publishes, retried if it fails, and renamed
    into place. An existing file is trusted as long as it can be read and has the expected number
    and size of images. Otherwise its md5 is compared, and the error says so. It is never
    overwritten.

    References
    ----------
    J. Yang et al., "MedMNIST v2 -- A large-scale lightweight benchmark for 2D and 3D biomedical
    image classification", Scientific Data 10, 41, 2023.

    Examples
    --------
    >>> from kmedclf import datasets
    >>> X, y = datasets.load("bloodmnist", "test")  # doctest: +SKIP
    >>> X.shape, X.dtype.name, y.shape  # doctest: +SKIP
    ((3421, 28, 28, 3), 'uint8', (3421,))
    """
    if is_medmnist(name_or_path):
        return of_medmnist(name_or_path)
    if split not in npz.SPLITS:
        raise ValueError(
            "The 'split' parameter of load must be 'train', 'val' or 'test'. "
            f"Got {split!r} instead."
        )
    if _is_path(name_or_path):
        if size != 28:
            raise ValueError(
                "The 'size' parameter of load is for sets known by name; a file has the size it "
                f"has. Got {size!r} with {os.fspath(name_or_path)} instead."
            )
        return _read(Path(name_or_path).expanduser(), split, mmap)
    entry = find(os.fspath(name_or_path))
    if size not in entry.md5:
        raise ValueError(
            f"The 'size' parameter of load must be one of {', '.join(map(str, entry.md5))} for "
            f"{entry.name}. Got {size!r} instead."
        )
    path = fetch(entry, size, cache_folder(data_dir), offline, mirror)
    try:
        _check_known(path, entry, size)
        return _read(path, split, mmap)
    except ValueError as error:
        md5 = md5_of(path)
        if md5 == entry.md5[size]:  # the right file, so that the error has another cause
            raise
        raise ValueError(
            f"{path} is not MedMNIST's file: its md5 must be {entry.md5[size]} but is {md5}; "
            f"delete it and load again to download it anew. ({error})"
        ) from error


def info(name_or_path: Any) -> DatasetInfo:
    """Describe a data set without loading its images.

    Parameters
    ----------
    name_or_path : str, path-like or data set of the medmnist package
        A name out of `kmedclf.datasets.names`, whose facts are known without its file, or the
        path of an ``.npz`` file. The names of a file's classes come from an array
        ``class_names`` if it holds one; else they are its labels as text.

    Returns
    -------
    DatasetInfo
        The facts.

    Raises
    ------
    ValueError
        If the name is unknown or the file cannot be read as a data set.
    FileNotFoundError
        If there is no file at the path.

    Examples
    --------
    >>> from kmedclf import datasets
    >>> blood = datasets.info("bloodmnist")
    >>> blood.class_names[7], blood.n_samples["test"], blood.licence
    ('platelet', 3421, 'CC BY 4.0')
    """
    if is_medmnist(name_or_path):
        return find(name_or_path.flag)
    if not _is_path(name_or_path):
        return find(os.fspath(name_or_path))
    path = Path(name_or_path).expanduser()
    headers = npz.read_headers(path)
    splits = npz.check_splits(path, headers)
    labels = [_labels(path, split) for split in splits]
    task, class_names = _classes(path, labels, "class_names" in headers)
    images = headers[f"{splits[0]}_images"].shape
    volumes = len(images) == 4 and images[3] > 4
    return DatasetInfo(
        volumes=volumes,
        name=path.stem,
        title=path.stem,
        task=task,
        class_names=class_names,
        n_channels=images[3] if len(images) == 4 and not volumes else 1,
        n_samples={split: len(y) for split, y in zip(splits, labels, strict=True)},
    )


def _is_path(name_or_path: str | os.PathLike[str]) -> bool:
    """Check whether a string is a path: it ends in ".npz" or has a separator."""
    # On Windows, os.sep is a backslash, but paths with "/" are valid as well
    if isinstance(name_or_path, str):
        return name_or_path.endswith(".npz") or bool({"/", os.sep} & set(name_or_path))
    return True


def _read(path: Path, split: str, mmap: bool) -> tuple[NDArray[Any], NDArray[np.int64]]:
    splits = npz.check_splits(path, npz.read_headers(path))
    if split not in splits:
        raise ValueError(f"{path} has no '{split}' split, only {' and '.join(map(repr, splits))}.")
    # Labels are small, and are read into memory in any case
    read = npz.map_array if mmap else npz.read_array
    return read(path, f"{split}_images"), _labels(path, split)


def _labels(path: Path, split: str) -> NDArray[np.int64]:
    """Read labels as (n,), or (n, n_labels) of zeros and ones."""
    y = npz.read_array(path, f"{split}_labels").astype(np.int64)
    if y.ndim == 2 and y.shape[1] == 1:
        return y[:, 0]
    if y.ndim == 2 and y.size and (y.min() < 0 or y.max() > 1):
        raise ValueError(
            f"'{split}_labels' in {path} has {y.shape[1]} columns and must then hold zeros and "
            f"ones. Got values from {y.min()} to {y.max()} instead."
        )
    return y


def _classes(
    path: Path, labels: list[NDArray[np.int64]], named: bool
) -> tuple[Task, tuple[str, ...]]:
    """Infer the task and the class names from the labels and the optional array ``class_names``."""
    if len({y.shape[1:] for y in labels}) > 1:
        raise ValueError(
            f"The labels in {path} must be of one kind in all splits. Got the shapes "
            f"{', '.join(str(y.shape) for y in labels)} instead."
        )
    if labels[0].ndim == 2:
        task: Task = "multilabel"
        needed = labels[0].shape[1]
        class_names = [str(label) for label in range(needed)]
    else:
        values = np.unique(np.concatenate(labels))
        needed = int(values.max(initial=-1)) + 1
        class_names = [str(value) for value in values]
    if named:
        names = npz.read_array(path, "class_names").ravel()
        with npz.explained(path):  # damaged text may hold invalid code points
            class_names = [str(name) for name in names]
        if len(class_names) < needed:
            raise ValueError(
                f"'class_names' in {path} must name {needed} classes. "
                f"Got {len(class_names)} instead."
            )
    # Class names count here: a file may lack images of a class that it names
    if labels[0].ndim == 1:
        task = "binary" if len(class_names) == 2 else "multiclass"
    return task, tuple(class_names)


def _check_known(path: Path, entry: DatasetInfo, size: int) -> None:
    """Check a cached file by the shapes of its arrays."""
    # Not by its md5, which takes long for gigabytes
    headers = npz.read_headers(path)
    for split in npz.check_splits(path, headers):
        colour = (3,) if entry.n_channels == 3 else ()
        colour = (size,) if entry.volumes else colour
        shape = headers[f"{split}_images"].shape
        if shape != (entry.n_samples.get(split), size, size, *colour):
            raise ValueError(f"{path} holds '{split}_images' of shape {shape}.")
