"""HDF5 files of strangers: read as plain arrays that lie in the file itself, and nothing else.

HDF5 can keep a dataset in any other file of the machine, and link to it from a harmless one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

MAX_NAMES = 20_000
"""Most layers, or weights of a layer, that are listed, and most objects in a file."""

MAX_TEXT = 2**22
"""Most bytes of such a list."""

_DEPTH = 30


@contextmanager
def opened(file: Any) -> Iterator[Any]:
    """Open an HDF5 file, a path or a file object, for reading."""
    import h5py

    if isinstance(file, str):
        from kmedclf.utils.archives import check_regular

        check_regular(file, "HDF5 file")
    try:
        with h5py.File(file, "r") as found:
            yield found
    except (OSError, RuntimeError) as error:
        raise ValueError(f"not a whole HDF5 file ({error})") from error


def group(parent: Any, name: str) -> Any:
    """Give a group that lies in the file."""
    import h5py

    found = _member(parent, name)
    if not isinstance(found, h5py.Group):
        raise ValueError(f"{name!r:.60} is no group in it")
    return found


def dataset(parent: Any, name: str) -> Any:
    """Give a dataset of numbers that lies in the file."""
    import h5py

    found = _member(parent, name)
    if not isinstance(found, h5py.Dataset):
        raise ValueError(f"{name!r:.60} is no array in it")
    _check(found, name)
    return found


def texts(parent: Any, name: str) -> list[str]:
    """Read a list of names, which Keras keeps as an attribute."""
    identity = parent.attrs.get_id(name)
    size = math.prod(identity.shape)
    if len(identity.shape) != 1 or size > MAX_NAMES or identity.dtype.kind not in "SO":
        raise ValueError(f"its {name} are no names")
    if identity.get_storage_size() > MAX_TEXT or size * identity.dtype.itemsize > MAX_TEXT:
        raise ValueError(f"its {name} are too many")
    found = np.ravel(parent.attrs[name]).tolist()
    return [one.decode() if isinstance(one, bytes) else str(one) for one in found]


def sizes(file: Any) -> tuple[int, int]:
    """Look at all of a file: how many arrays and how many numbers it holds.

    Raises
    ------
    ValueError
        If anything in it lies elsewhere, or takes more room as an array than in the file.
    """
    import h5py

    arrays = elements = objects = 0
    stack = [(file, 0)]
    while stack:
        parent, depth = stack.pop()
        for name in parent:
            objects += 1
            if objects > MAX_NAMES or depth > _DEPTH:
                raise ValueError("it has too many parts")
            one = _member(parent, name)
            if isinstance(one, h5py.Group):
                stack.append((one, depth + 1))
            elif one.dtype.kind in "biuf":
                _check(one, name)
                if one.size * one.dtype.itemsize > one.id.get_storage_size():
                    raise ValueError(f"{name!r:.60} takes more room than it has in the file")
                arrays, elements = arrays + 1, elements + one.size
    return arrays, elements


def _member(parent: Any, name: str) -> Any:
    """Follow a name step by step, along hard links only."""
    import h5py

    for part in name.split("/"):
        if part in ("", ".", ".."):
            raise ValueError(f"{name!r:.60} is no name in it")
        link = parent.get(part, getlink=True) if isinstance(parent, h5py.Group) else None
        if link is None:
            raise ValueError(f"{name!r:.60} is not in it")
        if not isinstance(link, h5py.HardLink):
            raise ValueError(f"{name!r:.60} is a link in it, maybe to another file")
        parent = parent[part]
    return parent


def _check(found: Any, name: str) -> None:
    if found.external or found.is_virtual:
        raise ValueError(f"{name!r:.60} lies in another file")
    if found.dtype.kind not in "biuf" or found.dtype.itemsize > 16 or found.shape is None:
        raise ValueError(f"{name!r:.60} holds no numbers")
