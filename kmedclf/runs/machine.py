"""What this machine offers to a training, what kmedclf made of it, and what would be faster."""

from __future__ import annotations

import os
import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from kmedclf.utils import arithmetic
from kmedclf.utils.archives import read_json


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

    @classmethod
    def examine(cls) -> Self:
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

        gpus = devices.gpus()  # sets TensorFlow's threads in a worker: first
        precision, mixed = recipes.parameters(CNNClassifier())["precision"], devices.low_precision()
        return cls(
            **arithmetic.facts(),
            gpus=gpus,
            memory=_memory(),
            free_memory=devices.free_memory(),
            precision=precision,
            mixed_precision=mixed,
            versions=versions(),
            faster=tuple(_faster(gpus, precision, mixed)),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the facts as values that JSON can hold."""
        return asdict(self)


def environment() -> dict[str, Any]:
    """Describe what a result depends on besides its data: versions, machine and arithmetic."""
    from kmedclf.persistence import versions
    from kmedclf.training.devices import gpus

    return {
        "versions": versions(),
        "platform": platform.platform(),
        "processor": arithmetic.processor(),
        "cpu_count": os.cpu_count(),
        "device": list(gpus()) or "CPU",
        "arithmetic": arithmetic.setting(),
    }


def read_environment(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Read environment.json of a run, and check data, class names and seconds."""
    path = Path(folder, "environment.json")
    match content := read_json(path):
        case {
            "data": {"class_names": [*names], "source": str(), "n": {"train": int(n), **_rest}},
            "seconds": int() | float(),
        } if n > 0 and all(isinstance(one, str) for one in names):
            groups = content["data"].get("groups")
            if groups is None or isinstance(groups, str):
                return content
    raise ValueError(f"{path} must describe a run of 'kmedclf train'. Got something else.")


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # Windows has no sysconf
        return None


def _faster(gpus: tuple[str, ...], precision: str, mixed: str) -> list[str]:
    """Say what would be faster than what there is, in one sentence each."""
    found = [] if gpus else arithmetic.faster()
    if arithmetic.DRIVER.exists() and not gpus:
        found.append(
            "There is an NVIDIA driver, but TensorFlow sees no GPU: "
            "pip install 'tensorflow[and-cuda]' brings what it needs."
        )
    if precision == "float32" and mixed != "float32":
        found.append(
            "Large networks train faster with precision='mixed', or recipe='fast', which compute "
            f"in {mixed.removeprefix('mixed_')}."
        )
    return found
