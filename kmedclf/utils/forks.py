"""Detect processes forked after TensorFlow was used, where its threads are missing.

In such a child every call to TensorFlow hangs, and destroying its objects hangs or crashes.
"""

from __future__ import annotations

import ctypes
import functools
import gc
import os
import sys
import threading
from pathlib import Path
from typing import Any

_TASKS = Path("/proc/self/task")
_lost = False
_kept: list[Any] = []


def check() -> None:
    """Raise if this process was forked after TensorFlow was used; it would wait forever."""
    if _lost or _imported_in_child():
        raise RuntimeError(
            "kmedclf cannot train or predict in a process forked after TensorFlow was used; "
            "use joblib's default backend (loky), or start processes by spawn."
        )


def keep(*things: Any) -> None:
    """Never destroy objects that a child inherited from TensorFlow."""
    # The extra reference also prevents destruction at interpreter exit.
    for thing in things:
        _kept.append(thing)
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


def _after_fork() -> None:
    global _lost
    if _used():
        _lost = True
        # Garbage collection in the child must not destroy the parent's models.
        gc.freeze()


def _used() -> bool:
    """Check whether TensorFlow has started its threads, without importing it."""
    module = sys.modules.get("tensorflow.python.eager.context")
    context = getattr(module, "_context", None)  # TensorFlow 2.21; there is no public API
    return bool(context is not None and getattr(context, "_initialized", True))


@functools.cache  # once is enough: `_after_fork` handles later forks
def _imported_in_child() -> bool:
    """Check whether `kmedclf` was first imported in a child forked after TensorFlow was used.

    The child has only the forking thread, but TensorFlow's threads are not Python threads.
    """
    if not _used() or not _TASKS.exists():
        return False
    return len(list(_TASKS.iterdir())) <= threading.active_count()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
