"""Capabilities of the machine: GPUs, fast low precision, XLA, free memory."""

from __future__ import annotations

import ctypes
import functools
import multiprocessing
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import cast

import tensorflow as tf

from kmedclf.utils import arithmetic

MEMINFO = Path("/proc/meminfo")
"""Linux' file of free memory."""


@functools.cache
def gpus() -> tuple[str, ...]:
    """Return the names of the visible GPUs; configure TensorFlow for this process."""
    # A worker of joblib gets its share of the cores, from OMP_NUM_THREADS, and one of the GPUs.
    # None of this can be changed after TensorFlow is first used.
    devices = tf.config.list_physical_devices("GPU")
    number = worker_number()
    try:
        if number is not None:
            _limit_threads(int(os.environ.get("OMP_NUM_THREADS") or 0))
            if devices:
                devices = [devices[gpu_of(number, len(devices))]]
                tf.config.set_visible_devices(devices, "GPU")
        for device in devices:
            tf.config.experimental.set_memory_growth(device, True)
    except RuntimeError as error:
        warnings.warn(
            f"TensorFlow was used before kmedclf could set it up ({error}).",
            RuntimeWarning,
            stacklevel=2,
        )
    return tuple(device.name for device in devices)


def gpu_of(worker: int, n_gpus: int) -> int:
    """Choose a worker's GPU in turn, out of all or of those in ``KMEDCLF_GPU_IDS``."""
    wanted = os.environ.get("KMEDCLF_GPU_IDS") or ",".join(map(str, range(n_gpus)))
    ids = [int(one) if one.strip().isdecimal() else n_gpus for one in wanted.split(",")]
    if max(ids) >= n_gpus:
        raise ValueError(
            "The environment variable KMEDCLF_GPU_IDS must hold numbers of GPUs below "
            f"{n_gpus}, as in '0,2'. Got {wanted!r} instead."
        )
    return ids[worker % len(ids)]


def worker_number() -> int | None:
    """Return the number of this process among joblib's workers, or None."""
    name = multiprocessing.current_process().name
    return int(name.rpartition("-")[2]) if name.startswith("LokyProcess-") else None


def _limit_threads(threads: int) -> None:
    if threads and not tf.config.threading.get_intra_op_parallelism_threads():
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        # One more, so that reading the next batch overlaps with training on this one.
        tf.config.threading.set_inter_op_parallelism_threads(threads + 1)


@functools.cache
def low_precision() -> str:
    """Return the Keras dtype policy of ``precision="mixed"`` on this machine."""
    if gpus():
        details = tf.config.experimental.get_device_details(
            tf.config.list_physical_devices("GPU")[0]
        )
        major = details.get("compute_capability", (0, 0))[0]
        return "mixed_bfloat16" if major >= 8 else "mixed_float16" if major == 7 else "float32"
    return "mixed_bfloat16" if arithmetic.has_bfloat16() else "float32"


def free_memory() -> int | None:
    """Return the bytes available to a network on the CPU, with swap; None if unknown."""
    # GPUs refuse to allocate what they lack. Linux overcommits, and then kills the process.
    if gpus() or not MEMINFO.exists():
        return None
    lines = (line.partition(":") for line in MEMINFO.read_text().splitlines())
    sizes = {name: int(size.split()[0]) for name, _, size in lines}
    try:
        used = tf.config.experimental.get_memory_info("CPU:0")
    except ValueError:  # without oneDNN, TensorFlow keeps no freed memory
        used = {"peak": 0, "current": 0}
    # TensorFlow keeps memory that it has freed, and uses it again.
    return 1024 * (sizes["MemAvailable"] + sizes["SwapFree"]) + used["peak"] - used["current"]


def give_memory_back() -> None:
    """Return freed memory to the system, in 1 to 2 ms, if the C library is glibc."""
    # TensorFlow's CPU buffers leave gaps in the heap, so that every fit of a search would seem to
    # cost megabytes, for other processes as well.
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@functools.cache
def _malloc_trim() -> Callable[[int], int] | None:
    try:
        return cast("Callable[[int], int]", ctypes.CDLL(None).malloc_trim)
    except (AttributeError, OSError, TypeError):  # another C library
        return None
