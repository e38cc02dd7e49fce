"""What the machine can do: GPUs, low precision that pays, and where XLA does."""

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

MEMINFO = Path("/proc/meminfo")
"""Where Linux says how much memory is free."""


@functools.cache
def gpus() -> tuple[str, ...]:
    """Return the names of the visible GPUs, having set TensorFlow up for this process.

    GPU memory grows as needed. In a worker of joblib TensorFlow gets the worker's share of the
    cores, which joblib announces in ``OMP_NUM_THREADS``, and one of the GPUs: all of them or those
    whose numbers stand in ``KMEDCLF_GPU_IDS`` ("0,2"), in turn.

    Notes
    -----
    All this can only be set before TensorFlow is first used; a process that has used it already
    keeps what it has.
    """
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
    """Choose the GPU of a worker: all of them in turn, or those in ``KMEDCLF_GPU_IDS``.

    Raises
    ------
    ValueError
        If the variable names anything but GPUs that are there.
    """
    wanted = os.environ.get("KMEDCLF_GPU_IDS") or ",".join(map(str, range(n_gpus)))
    ids = [int(one) if one.strip().isdecimal() else n_gpus for one in wanted.split(",")]
    if max(ids) >= n_gpus:
        raise ValueError(
            "The environment variable KMEDCLF_GPU_IDS must hold numbers of GPUs below "
            f"{n_gpus}, as in '0,2'. Got {wanted!r} instead."
        )
    return ids[worker % len(ids)]


def worker_number() -> int | None:
    """Return the number of this process among joblib's workers; None if it is none of them."""
    name = multiprocessing.current_process().name
    return int(name.rpartition("-")[2]) if name.startswith("LokyProcess-") else None


def _limit_threads(threads: int) -> None:
    if threads and not tf.config.threading.get_intra_op_parallelism_threads():
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        # One more, so that reading the next batch overlaps with training on this one.
        tf.config.threading.set_inter_op_parallelism_threads(threads + 1)


@functools.cache
def low_precision() -> str:
    """Return the Keras dtype policy that ``precision="mixed"`` stands for on this machine.

    Returns
    -------
    str
        ``"mixed_bfloat16"`` on GPUs of compute capability 8 and on CPUs with bfloat16
        arithmetic, ``"mixed_float16"`` on GPUs of compute capability 7, else ``"float32"``.
    """
    if gpus():
        details = tf.config.experimental.get_device_details(
            tf.config.list_physical_devices("GPU")[0]
        )
        major = details.get("compute_capability", (0, 0))[0]
        return "mixed_bfloat16" if major >= 8 else "mixed_float16" if major == 7 else "float32"
    cpuinfo = Path("/proc/cpuinfo")
    flags = cpuinfo.read_text() if cpuinfo.exists() else ""
    return "mixed_bfloat16" if "avx512_bf16" in flags or "amx_bf16" in flags else "float32"


def free_memory() -> int | None:
    """Return how many bytes a network on the CPU can have, swap included; None if nobody says.

    GPUs refuse what they do not have, and so need not be asked. Linux promises memory that it does
    not have, and then ends the process that uses it.
    """
    if gpus() or not MEMINFO.exists():
        return None
    lines = (line.partition(":") for line in MEMINFO.read_text().splitlines())
    sizes = {name: int(size.split()[0]) for name, _, size in lines}
    try:
        used = tf.config.experimental.get_memory_info("CPU:0")
    except ValueError:  # TensorFlow without oneDNN keeps nothing
        used = {"peak": 0, "current": 0}
    # What TensorFlow once had it keeps for itself, and uses again.
    return 1024 * (sizes["MemAvailable"] + sizes["SwapFree"]) + used["peak"] - used["current"]


def give_memory_back() -> None:
    """Return freed memory to the system, where the C library keeps it, as glibc does.

    TensorFlow's buffers on CPUs come from it and leave gaps between what stays: without this every
    fit of a search seems to cost megabytes, to its neighbours on the machine too. Takes 1 to 2 ms.
    """
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@functools.cache
def _malloc_trim() -> Callable[[int], int] | None:
    try:
        return cast("Callable[[int], int]", ctypes.CDLL(None).malloc_trim)
    except (AttributeError, OSError, TypeError):  # another C library
        return None


def xla_pays() -> bool:
    """Say whether to compile training steps with XLA.

    On CPUs it makes convolutions slower, and dense networks no faster once their optimizer is one
    operation (``benchmarks/xla.py``); on GPUs it fuses what lies between the convolutions.
    """
    return bool(gpus())
