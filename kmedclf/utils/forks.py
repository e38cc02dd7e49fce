"""Processes forked after TensorFlow was used: its threads are not there, and any call would wait.

Such a child must not use TensorFlow, nor destroy anything of it, which waits or crashes as well.
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
    """Refuse to use TensorFlow in a process forked after it was used.

    Raises
    ------
    RuntimeError
        In such a process, at once; TensorFlow itself would wait for ever.
    """
    if _lost or _imported_in_child():
        raise RuntimeError(
            "kmedclf cannot train or predict in a process forked after TensorFlow was used; "
            "use joblib's default backend (loky), or start processes by spawn."
        )


def keep(*things: Any) -> None:
    """Keep what a child inherited from TensorFlow for as long as it lives, and beyond.

    One reference too many lets the interpreter leave it alone when it ends, too.
    """
    for thing in things:
        _kept.append(thing)
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


def _after_fork() -> None:
    global _lost
    if _used():
        _lost = True
        gc.freeze()  # or a collection in the child would destroy models dropped by the parent


def _used() -> bool:
    """Say whether TensorFlow has started its threads, without importing it."""
    module = sys.modules.get("tensorflow.python.eager.context")
    context = getattr(module, "_context", None)  # as of TensorFlow 2.21; it has no public question
    return bool(context is not None and getattr(context, "_initialized", True))


@functools.cache  # asked once: `_after_fork` sees all later forks
def _imported_in_child() -> bool:
    """Say whether this is a child forked before `kmedclf` was imported, after TensorFlow was used.

    TensorFlow's threads are none of Python's; a child has only the thread that forked.
    """
    if not _used() or not _TASKS.exists():
        return False
    return len(list(_TASKS.iterdir())) <= threading.active_count()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
