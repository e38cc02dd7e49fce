"""The cache of compiled networks: each is built and traced once per process."""

from __future__ import annotations

import gc
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

import tensorflow as tf

from kmedclf.training import network
from kmedclf.training.batches import Feed
from kmedclf.training.network import Spec, count, counted
from kmedclf.training.program import CompiledNetwork
from kmedclf.utils import forks

MAX_PROGRAMS = 8
"""Most idle networks to keep. Beyond it, the least recently used half is evicted."""

MAX_BYTES = 2**30
"""Most memory of idle networks. The last one used stays, since predict follows fit."""

_lock = threading.Lock()
_idle: OrderedDict[Spec, list[CompiledNetwork]] = OrderedDict()


@contextmanager
def borrow(spec: Spec) -> Iterator[CompiledNetwork]:
    """Lend the compiled network of a spec, built if none is idle; take it back afterwards.

    Raises MemoryError with advice if TensorFlow runs out of memory.
    """
    with network.outside_scopes():
        yield from _lent(spec)


def _lent(spec: Spec) -> Iterator[CompiledNetwork]:
    with _lock:
        idle = _idle.get(spec)
        program = idle.pop() if idle else None
    if program is None:
        _forget_oldest(at_least=0)  # evict first, to limit peak memory
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
    except (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.InternalError) as error:
        program.release()
        if program.on is None or program.on.processes == 1:
            raise
        raise ConnectionError(
            f"{spec.estimator.__name__} lost one of the {program.on.processes} processes that "
            "train together, and none can go on alone; start all of them again."
        ) from error
    except Exception:
        _give_back(spec, program)
        raise
    except BaseException:  # Ctrl-C can leave the network in any state: drop it
        program.release()
        raise
    _give_back(spec, program)


def _give_back(spec: Spec, program: CompiledNetwork) -> None:
    program.release()
    if program.growing:  # an error left it half built
        return
    with _lock:
        _idle.setdefault(spec, []).append(program)
        _idle.move_to_end(spec)
    _forget_oldest(at_least=1)


def _forget_oldest(at_least: int) -> None:
    """Evict the least recently used networks if there are too many or they are too large."""
    with _lock:
        programs = [(spec, program) for spec, idle in _idle.items() for program in idle]
        most = MAX_PROGRAMS if len(programs) <= MAX_PROGRAMS else MAX_PROGRAMS // 2
        size = sum(program.nbytes for _, program in programs)
        kept = len(programs)
        for spec, program in programs:
            if kept <= at_least or (kept <= most and size <= MAX_BYTES):
                break
            _idle[spec].remove(program)
            if not _idle[spec]:
                del _idle[spec]
            kept, size = kept - 1, size - program.nbytes
    if kept < len(programs):
        del programs, program
        # Keras models and graphs are reference cycles, which Python would collect only after dozens
        # of networks. A collection takes a third of a second, hence the eviction by halves.
        gc.collect()


def stats() -> dict[str, int]:
    """Count what this process has done so far.

    Returns
    -------
    dict
        ``builds`` (networks built), ``traces`` (graphs traced), ``borrowed`` (uses of a compiled
        network), ``feeds`` (graphs traced that read images) and ``idle`` (compiled networks in
        the cache).
    """
    with _lock:
        idle = sum(map(len, _idle.values()))
    kinds = "builds", "traces", "borrowed", "feeds"
    return {**{kind: counted[kind] for kind in kinds}, "idle": idle}


def clear() -> None:
    """Drop all idle compiled networks and their graphs; fitted estimators are unaffected."""
    with _lock:
        _idle.clear()
    Feed.clear()


def _after_fork() -> None:
    """Replace the cache in a child process."""
    # Destroying the parent's objects would crash the child.
    global _idle, _lock
    forks.keep(_idle)
    _idle, _lock = OrderedDict(), threading.Lock()  # another thread may have held the lock


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
