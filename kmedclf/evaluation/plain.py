"""Arrays in JSON, and what is kept as JSON."""

from __future__ import annotations

import base64
import json
import math
import os
import zlib
from abc import ABC, abstractmethod
from typing import Any, Self

import numpy as np

from kmedclf.files import write_text
from kmedclf.run_files import read_json

MOST = 2**28
"""Most bytes of an array: ten million images of five classes."""


def to_plain(value: Any) -> Any:
    """Turn tuples into lists and arrays into base64 of their compressed bytes."""
    if isinstance(value, np.ndarray):
        data = zlib.compress(np.ascontiguousarray(value).tobytes(), 6)
        text = base64.b64encode(data).decode("ascii")
        return {"dtype": value.dtype.str, "shape": list(value.shape), "zlib": text}
    if isinstance(value, dict):
        return {name: to_plain(one) for name, one in value.items()}
    if isinstance(value, tuple | list):
        return [to_plain(one) for one in value]
    return value


def from_plain(value: Any) -> Any:
    """Undo the arrays of `to_plain`."""
    if isinstance(value, dict) and value.keys() == {"dtype", "shape", "zlib"}:
        dtype, shape = np.dtype(value["dtype"]), tuple(map(int, value["shape"]))
        size = dtype.itemsize * math.prod(shape)
        packed = base64.b64decode(value["zlib"])
        # 0 would be no bound. Deflating saves a factor of 1,032 at most.
        if dtype.kind not in "biuf" or not 0 <= size <= min(MOST, 1032 * len(packed)):
            raise ValueError("an array in it is too large, or none of numbers")
        data = zlib.decompressobj().decompress(packed, size + 1)
        return np.frombuffer(data, dtype).reshape(shape)
    return value


class Stored(ABC):
    """What can be written to a JSON file and read back."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Turn it into plain values that JSON can hold."""

    @classmethod
    @abstractmethod
    def from_dict(cls, content: dict[str, Any]) -> Self:
        """Rebuild it from what `to_dict` gave."""

    def to_json(self, path: str | os.PathLike[str]) -> None:
        """Write it to a file, beside it first and then in its place."""
        text = json.dumps(self.to_dict(), ensure_ascii=False, allow_nan=False)
        write_text(path, text)

    @classmethod
    def from_json(cls, path: str | os.PathLike[str]) -> Self:
        """Read what `to_json` wrote."""
        try:
            return cls.from_dict(read_json(path))
        except OSError:
            raise
        except Exception as error:  # whatever a stranger's file makes of the fields
            text = " ".join(str(error).split())[:300].rstrip(".")
            raise ValueError(f"{path} is not a whole kmedclf report ({text}).") from error

    def __eq__(self, other: object) -> bool:
        """Compare all that was measured."""
        return isinstance(other, type(self)) and self.to_dict() == other.to_dict()

    __hash__ = None  # type: ignore[assignment]
