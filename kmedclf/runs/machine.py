"""What this machine offers to a training, what kmedclf made of it, and what would be faster."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kmedclf.utils import arithmetic

NVIDIA = Path("/dev/nvidiactl")
"""Linux' sign of an NVIDIA driver."""


@dataclass(frozen=True)
class Machine:
    """What `examine` found.

    Attributes
    ----------
    processor : str
        Name of the CPU.
    instruction_set : str
        The largest instruction set that oneDNN uses, in oneDNN's words.
    cores : int
        Cores, or hyperthreads, that this process may use.
    threads_per_core : int or None
        Hyperthreads of a core; None if unknown.
    memory, free_memory : int or None
        Bytes in all, and free, with swap, for networks on the CPU; None if unknown.
    gpus : tuple of str
        TensorFlow's names of the GPUs.
    onednn : bool
        Whether TensorFlow computes with oneDNN.
    onednn_reason : str
        Who decided that.
    precision : str
        The policy of ``precision="auto"`` without a recipe.
    mixed_precision : str
        What ``precision="mixed"`` and the recipes "fast" and "best" stand for here.
    threads : int
        Threads that share one operation.
    versions : dict of str to str
        Versions of Python and the packages that a result depends on.
    faster : tuple of str
        What would be faster, in one sentence each.
    """

    processor: str
    instruction_set: str
    cores: int
    threads_per_core: int | None
    memory: int | None
    free_memory: int | None
    gpus: tuple[str, ...]
    onednn: bool
    onednn_reason: str
    precision: str
    mixed_precision: str
    threads: int
    versions: dict[str, str]
    faster: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the facts as values that JSON can hold."""
        return asdict(self)


def examine() -> Machine:
    """Look at this machine; imports TensorFlow.

    Returns
    -------
    Machine
        The facts, as they are in this process.
    """
    from kmedclf import recipes
    from kmedclf.models import CNNClassifier
    from kmedclf.persistence import versions
    from kmedclf.training import devices

    facts: dict[str, Any] = {
        "gpus": devices.gpus(),  # sets TensorFlow's threads in a worker: first
        **arithmetic.setting(),
        "processor": arithmetic.processor(),
        "cores": arithmetic.usable_cores(),
        "threads_per_core": arithmetic.threads_per_core(),
        "memory": _memory(),
        "free_memory": devices.free_memory(),
        "onednn_reason": arithmetic.reason(),
        "precision": recipes.parameters(CNNClassifier())["precision"],
        "mixed_precision": devices.low_precision(),
        "versions": versions(),
    }
    return Machine(**facts, faster=tuple(_faster(facts)))


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # Windows has no sysconf
        return None


def _faster(facts: dict[str, Any]) -> list[str]:
    """Say what would be faster than what there is, the largest gain first."""
    found = []
    if NVIDIA.exists() and not facts["gpus"]:
        found.append(
            "There is an NVIDIA driver, but TensorFlow sees no GPU: "
            "pip install 'tensorflow[and-cuda]' brings what it needs."
        )
    if not facts["gpus"] and not facts["onednn"] and arithmetic.onednn_pays():
        found.append(
            f"Convolutions train faster with oneDNN: unset {arithmetic.ONEDNN}, or set it to 1."
        )
    largest = arithmetic.largest_set(arithmetic.cpu_flags()) or facts["instruction_set"]
    if not facts["gpus"] and largest != facts["instruction_set"]:
        found.append(
            f"{arithmetic.LIMIT} keeps oneDNN at {facts['instruction_set']}: unset it, as this CPU "
            f"has {largest}."
        )
    if facts["precision"] == "float32" and facts["mixed_precision"] != "float32":
        found.append(
            "Large networks train faster with precision='mixed', or recipe='fast', which computes "
            f"in {facts['mixed_precision'].removeprefix('mixed_')}."
        )
    if not facts["gpus"] and facts["threads"] < facts["cores"]:
        found.append(
            f"TensorFlow uses {facts['threads']} of {facts['cores']} cores: unset "
            "TF_NUM_INTRAOP_THREADS."
        )
    return found
