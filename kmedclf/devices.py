"""What the machine can do: GPUs, low precision that pays, and where XLA does."""

from __future__ import annotations

import functools
from pathlib import Path

import keras
import tensorflow as tf


@functools.cache
def gpus() -> tuple[str, ...]:
    """Return the names of the visible GPUs, having asked TensorFlow to grow memory as needed.

    Notes
    -----
    Memory growth can only be set before a GPU is first used; a process that has used it already
    keeps what it has.
    """
    devices = tf.config.list_physical_devices("GPU")
    for device in devices:
        try:
            tf.config.experimental.set_memory_growth(device, True)
        except RuntimeError:  # already initialised by the user's own code: theirs to decide
            break
    return tuple(device.name for device in devices)


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


def xla_pays(model: keras.Model) -> bool:
    """Say whether to compile a network's training step with XLA.

    On CPUs XLA made dense networks faster and convolutions slower wherever it was measured
    (``benchmarks/xla.py``); on GPUs it fuses what lies between the convolutions.
    """
    return bool(gpus()) or not any(
        isinstance(layer, keras.layers.Conv2D | keras.layers.DepthwiseConv2D)
        or isinstance(layer, keras.layers.SeparableConv2D)
        for layer in _all_layers(model)
    )


def _all_layers(layer: keras.Layer) -> list[keras.Layer]:
    inner = [child for sub in getattr(layer, "layers", []) for child in _all_layers(sub)]
    return [layer, *inner]
