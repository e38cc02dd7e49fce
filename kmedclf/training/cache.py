"""The cache of compiled networks: every network is built and traced once per process."""

from __future__ import annotations

import gc
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

import tensorflow as tf

from kmedclf.training import batches
from kmedclf.training.counting import count, counts
from kmedclf.training.network import Spec
from kmedclf.training.program import CompiledNetwork
from kmedclf.utils import forks

MAX_PROGRAMS = 8
"""How many idle programs are kept. One more, and the half that was not used for longest goes."""

MAX_BYTES = 2**30
"""How much memory idle programs may take; the one used last stays, since predict follows fit."""

_lock = threading.Lock()
_idle: OrderedDict[Spec, list[CompiledNetwork]] = OrderedDict()


@contextmanager
def borrow(spec: Spec) -> Iterator[CompiledNetwork]:
    """Lend the program of a spec, built if none is idle, and take it back afterwards.

    Raises
    ------
    MemoryError
        Where TensorFlow finds no memory, with what to lower.
    """
    with _lock:
        idle = _idle.get(spec)
        program = idle.pop() if idle else None
    if program is None:
        _forget_oldest(at_least=0)  # before there is one more
        program = CompiledNetwork(spec)
    count("borrowed")
    try:
        yield program
    except tf.errors.ResourceExhaustedError as error:
        program.release()
        raise MemoryError(
            f"{spec.estimator.__name__} ran out of memory with images of shape {spec.image_shape}. "
            "Lower 'batch_size', or raise 'accumulate_steps' and keep it; smaller images and "
            "smaller networks take less, too."
        ) from error
    except Exception:
        _give_back(spec, program)
        raise
    except BaseException:  # Ctrl-C can strike in the midst of anything
        program.release()
        raise
    _give_back(spec, program)


def _give_back(spec: Spec, program: CompiledNetwork) -> None:
    program.release()
    if program.growing:  # something interrupted left it half built
        return
    with _lock:
        _idle.setdefault(spec, []).append(program)
        _idle.move_to_end(spec)
    _forget_oldest(at_least=1)


def _forget_oldest(at_least: int) -> None:
    """Let programs go, those first that were not used for longest, where there are too many."""
    with _lock:
        programs = [(spec, one) for spec, idle in _idle.items() for one in idle]
        most = MAX_PROGRAMS if len(programs) <= MAX_PROGRAMS else MAX_PROGRAMS // 2
        size = sum(one.nbytes for _, one in programs)
        kept = len(programs)
        for spec, one in programs:
            if kept <= at_least or (kept <= most and size <= MAX_BYTES):
                break
            _idle[spec].remove(one)
            if not _idle[spec]:
                del _idle[spec]
            kept, size = kept - 1, size - one.nbytes
    if kept < len(programs):
        del programs, one
        # Keras models and graphs refer to themselves, so they go when Python next looks for such
        # cycles: after dozens of programs. Looking takes a third of a second, hence half of them.
        gc.collect()


def stats() -> dict[str, int]:
    """Count what this process has done so far.

    Returns
    -------
    dict
        ``builds`` (networks built), ``traces`` (graph functions traced), ``borrowed`` (times a
        program was lent), ``feeds`` (graphs traced that read images) and ``idle`` (programs kept).
    """
    with _lock:
        idle = sum(map(len, _idle.values()))
    return {**counts(), "idle": idle}


def clear() -> None:
    """Forget all idle programs and feeds; fitted estimators are unaffected."""
    with _lock:
        _idle.clear()
    batches.clear()


def _after_fork() -> None:
    """Keep the parent's programs, of no use in a child: destroying them would crash it."""
    global _idle, _lock
    forks.keep(_idle)
    _idle, _lock = OrderedDict(), threading.Lock()  # another thread may have held the lock
    batches.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
