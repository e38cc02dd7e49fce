"""How TensorFlow computes on this CPU: what it is told before it loads, and what came of it.

oneDNN is TensorFlow's library of fast kernels for CPUs. On Linux, TensorFlow turns it on by itself
only on CPUs with VNNI; `load` does so on all that have AVX2.
"""

from __future__ import annotations

import functools
import logging
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ONEDNN = "TF_ENABLE_ONEDNN_OPTS"
"""TensorFlow's variable: "1" turns oneDNN on, "0" off. It is read while TensorFlow loads."""

LOG_LEVEL = "TF_CPP_MIN_LOG_LEVEL"
"""TensorFlow's variable: from "0", all messages, to "3", none."""

DRIVER = Path("/dev/nvidiactl")
"""Linux' sign of an NVIDIA driver."""

LIMIT = "ONEDNN_MAX_CPU_ISA"
"""oneDNN's variable: the largest instruction set that it may use."""

_SETS = {
    "SSE41": "sse4_1",
    "AVX": "avx",
    "AVX2": "avx2",
    "AVX2_VNNI": "avx_vnni",
    "AVX512_CORE": "avx512bw",
    "AVX512_CORE_VNNI": "avx512_vnni",
    "AVX512_CORE_BF16": "avx512_bf16",
    "AVX512_CORE_FP16": "avx512_fp16",
    "AVX512_CORE_AMX": "amx_bf16",
}
"""oneDNN's instruction sets, each larger than those before it, and Linux' flag of each."""

_BFLOAT16 = ("AVX512_CORE_BF16", "AVX512_CORE_FP16", "AVX512_CORE_AMX")

_reason = "TensorFlow is not loaded"


def load() -> None:
    """Import TensorFlow with oneDNN, where that pays; leave the user's environment as it was.

    Nothing is changed if TensorFlow was imported before, or if the user has set the variable.
    """
    global _reason
    if "tensorflow" in sys.modules:
        _reason = "TensorFlow was loaded before kmedclf"
        if ONEDNN not in os.environ and onednn_pays() and not has_onednn():
            logging.getLogger("kmedclf").warning(
                "Networks train slower than they could: TensorFlow was imported without oneDNN. "
                f"Import kmedclf's classifiers before it, or set {ONEDNN}=1 for the process."
            )
    elif ONEDNN in os.environ:
        _reason = f"the environment variable {ONEDNN} is {os.environ[ONEDNN]!r}"
    elif not onednn_pays():
        _reason = "TensorFlow's own choice for this CPU"
    else:
        _reason = "kmedclf's choice for CPUs with AVX2"
        with _variable(ONEDNN, "1"):
            _import()
    _import()


def _import() -> None:
    """Import TensorFlow without its messages at startup, unless the user asks for them."""
    if "tensorflow" in sys.modules:
        return
    if LOG_LEVEL in os.environ:
        import tensorflow  # noqa: F401

        return
    with _variable(LOG_LEVEL, "2"), without_chatter():
        import tensorflow as tf

        # Without a driver, looking for GPUs for the first time logs that there is none
        if not DRIVER.exists():
            tf.config.list_physical_devices("GPU")


@contextmanager
def _variable(name: str, value: str) -> Iterator[None]:
    """Set an environment variable that was not set, for a while."""
    os.environ[name] = value
    try:
        yield
    finally:
        os.environ.pop(name, None)


@contextmanager
def without_chatter() -> Iterator[None]:
    """Capture C++ output on stderr, and drop information and warnings."""
    # The first lines are logged before the log level is read. A terminal's spinner may stand before
    # them in their line.
    chatter = r"[IW]\d{4} [\d:.]+ +\d+ \S+\]|WARNING: All log messages before absl::InitializeLog"
    chatter += r"|To enable the following instructions: "
    chatter += r"|E\d{4} [\d:.]+ .*oneDNN supports DT_UINT8 only"
    if not DRIVER.exists():  # not an error on a machine without a GPU
        chatter += r"|E\d{4} [\d:.]+ .*failed call to cuInit"
    try:
        stderr = os.dup(2)
    except OSError:  # a service without a stderr
        yield
        return
    with tempfile.TemporaryFile() as held, _python_apart(stderr):
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            held.seek(0)
            text = held.read().decode(errors="replace")
            sys.stderr.write(re.sub(rf"({chatter}).*\n?", "", text))


@contextmanager
def _python_apart(stderr: int) -> Iterator[None]:
    """Let Python go on to write to another file descriptor while 2 is captured."""
    # A spinner goes on meanwhile: its frames belong on the terminal, and not among what was held.
    before = sys.stderr
    try:
        is_same = before.fileno() == 2
    except (AttributeError, OSError, ValueError):  # None, or a notebook's, or closed
        is_same = False
    if not is_same:
        yield
        return
    before.flush()
    # A descriptor of its own: the other one is closed before this file is.
    with open(
        os.dup(stderr), "w", buffering=1, encoding=before.encoding, errors="replace"
    ) as apart:
        sys.stderr = apart
        try:
            yield
        finally:
            if sys.stderr is apart:
                sys.stderr = before


def onednn_pays() -> bool:
    """Whether training was measured to be faster with oneDNN on this kind of CPU."""
    # Measured on Linux, with AVX2 and more (`benchmarks/arithmetic.py`). On other CPUs, and where
    # TensorFlow is built otherwise, its own choice stands.
    return sys.platform == "linux" and "avx2" in _cpu_flags()


def has_onednn() -> bool:
    """Whether the TensorFlow of this process computes with oneDNN."""
    from tensorflow.python.util import _pywrap_util_port  # TensorFlow 2.21; there is no public API

    return bool(_pywrap_util_port.IsMklEnabled())


def has_bfloat16() -> bool:
    """Whether oneDNN computes in bfloat16 without converting to float32 and back."""
    return has_onednn() and instruction_set() in _BFLOAT16


def setting() -> dict[str, str | int | bool]:
    """Return what the bits of a result depend on besides versions, data and parameters."""
    return {"onednn": has_onednn(), "instruction_set": instruction_set(), "threads": threads()}


def facts() -> dict[str, Any]:
    """Return the setting, what decided it, and the CPU."""
    return {
        **setting(),
        "onednn_reason": _reason,
        "processor": processor(),
        "cores": usable_cores(),
        "threads_per_core": _threads_per_core(),
    }


def faster() -> list[str]:
    """Say what would be faster than the setting, in one sentence each."""
    found = []
    if not has_onednn() and onednn_pays():
        found.append(f"Convolutions train faster with oneDNN: unset {ONEDNN}, or set it to 1.")
    largest = largest_set(_cpu_flags())
    if largest and largest != instruction_set():
        found.append(
            f"{LIMIT} keeps oneDNN at {instruction_set()}: unset it, as this CPU has {largest}."
        )
    used, cores = threads(), usable_cores()
    if used < cores:
        found.append(f"TensorFlow uses {used} of {cores} cores: unset TF_NUM_INTRAOP_THREADS.")
    return found


def threads() -> int:
    """Return the number of threads that share one operation of TensorFlow."""
    import tensorflow as tf

    given = tf.config.threading.get_intra_op_parallelism_threads()
    return int(given or os.environ.get("TF_NUM_INTRAOP_THREADS") or 0) or usable_cores()


def usable_cores() -> int:
    """Count the cores, or hyperthreads, that this process may run on."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS and Windows
        return os.cpu_count() or 1


def instruction_set() -> str:
    """Return the largest of oneDNN's instruction sets that it may use here."""
    # On macOS and Windows the flags are unknown, and the architecture has to do.
    return largest_set(_cpu_flags(), os.environ.get(LIMIT, "")) or platform.machine()


def largest_set(flags: Collection[str], limit: str = "") -> str | None:
    """Return the largest of oneDNN's sets among a CPU's, up to a limit in oneDNN's words."""
    order = list(_SETS)
    allowed = order[: order.index(limit.upper()) + 1] if limit.upper() in order else order
    return next((name for name in reversed(allowed) if _SETS[name] in flags), None)


def processor() -> str:
    """Return the name of the CPU."""
    named = _cpu_facts().get("model name") or _cpu_facts().get("machdep.cpu.brand_string")
    return named or platform.processor() or platform.machine()


def _cpu_flags() -> frozenset[str]:
    """Return Linux' names of the CPU's instruction sets; empty on other systems."""
    return frozenset(_cpu_facts().get("flags", "").split())


def _threads_per_core() -> int | None:
    """Return how many hyperthreads share a core; None if unknown."""
    cpu = _cpu_facts()
    for logical, physical in (("siblings", "cpu cores"), ("hw.logicalcpu", "hw.physicalcpu")):
        if logical in cpu and physical in cpu:
            return max(1, int(cpu[logical]) // int(cpu[physical]))
    return None


@functools.cache
def _cpu_facts() -> dict[str, str]:
    """Return what Linux says of its first CPU, or macOS of all; empty on other systems."""
    pairs = (line.partition(":") for line in _cpu_lines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def _cpu_lines() -> list[str]:
    if sys.platform == "darwin":
        names = ["machdep.cpu.brand_string", "hw.logicalcpu", "hw.physicalcpu"]
        done = subprocess.run(
            ["/usr/sbin/sysctl", *names], capture_output=True, text=True, check=False
        )
        return done.stdout.splitlines()
    lines: list[str] = []
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        with cpuinfo.open() as file:
            for line in file:
                if not line.strip():  # the end of the first CPU; servers have hundreds
                    break
                lines.append(line)
    return lines
