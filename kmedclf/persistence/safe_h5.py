"""Read untrusted HDF5 files: only plain arrays stored in the file itself.

HDF5 can store a dataset in any other file of the machine, and link to it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

MAX_NAMES = 20_000
"""Maximum length of a list of layers or weights, and maximum number of objects in a file."""

MAX_TEXT = 2**22
"""Maximum size of such a list in bytes."""

_DEPTH = 30


@contextmanager
def opened(file: Any) -> Iterator[SafeGroup]:
    """Open an HDF5 file, given as a path or a file object, for reading."""
    import h5py

    if isinstance(file, str):
        from kmedclf.utils.archives import check_regular

        check_regular(file, "HDF5 file")
    try:
        with h5py.File(file, "r") as found:
            yield SafeGroup(found)
    except (OSError, RuntimeError) as error:
        raise ValueError(f"not a whole HDF5 file ({error})") from error


@dataclass(frozen=True)
class SafeGroup:
    """A group of an untrusted file: it reads only what the file itself stores."""

    inner: Any

    def group(self, name: str) -> SafeGroup:
        """Return a group that is stored in the file."""
        import h5py

        found = _member(self.inner, name)
        if not isinstance(found, h5py.Group):
            raise ValueError(f"{name!r:.60} is no group in it")
        return SafeGroup(found)

    def dataset(self, name: str) -> Any:
        """Return a numeric dataset that is stored in the file."""
        import h5py

        found = _member(self.inner, name)
        if not isinstance(found, h5py.Dataset):
            raise ValueError(f"{name!r:.60} is no array in it")
        _check(found, name)
        return found

    def texts(self, name: str) -> list[str]:
        """Read a list of names, which Keras stores as an attribute."""
        # Check the declared size before h5py allocates it.
        identity = self.inner.attrs.get_id(name)
        size = math.prod(identity.shape)
        if len(identity.shape) != 1 or size > MAX_NAMES or identity.dtype.kind not in "SO":
            raise ValueError(f"its {name} are no names")
        if identity.get_storage_size() > MAX_TEXT or size * identity.dtype.itemsize > MAX_TEXT:
            raise ValueError(f"its {name} are too many")
        found = np.ravel(self.inner.attrs[name]).tolist()
        return [one.decode() if isinstance(one, bytes) else str(one) for one in found]

    def sizes(self) -> tuple[int, int]:
        """Count all arrays and numbers of a file.

        Refuses links, external data, and datasets that would be larger in memory than in the file.
        """
        import h5py

        arrays = elements = objects = 0
        stack = [(self.inner, 0)]
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
                    # Compressed or unallocated data could expand to any size.
                    if one.size * one.dtype.itemsize > one.id.get_storage_size():
                        raise ValueError(f"{name!r:.60} takes more room than it has in the file")
                    arrays, elements = arrays + 1, elements + one.size
        return arrays, elements


def _member(parent: Any, name: str) -> Any:
    """Follow a path component by component, along hard links only."""
    import h5py

    for part in name.split("/"):
        if part in ("", ".", ".."):
            raise ValueError(f"{name!r:.60} is no name in it")
        # Do not resolve the link before its type is known.
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
