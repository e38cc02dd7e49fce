"""Arrays in JSON."""

from __future__ import annotations

import base64
import zlib
from typing import Any

import numpy as np


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
        data = zlib.decompress(base64.b64decode(value["zlib"]))
        return np.frombuffer(data, np.dtype(value["dtype"])).reshape(value["shape"])
    return value
