"""One training on several devices: which share a batch, and how processes add up their parts.

Weights are those of one ordinary network; only gradients are computed in parts. Processes find each
other by TensorFlow's variable TF_CONFIG, all read the same data, and take the same steps.
"""

from __future__ import annotations

import functools
import os
import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from kmedclf.training import devices

GROUP = 2**20
"""Key of the group of all processes; TensorFlow's own strategies count from 1."""


class Sharing(NamedTuple):
    """Devices of this process that share a batch, and the number of processes."""

    devices: tuple[str, ...]
    processes: int = 1

    @property
    def parts(self) -> int:
        """Number of parts of a batch."""
        return len(self.devices) * self.processes


def sharing(strategy: Any, name: str) -> Sharing | None:
    """Return what an estimator's ``strategy`` means; None if it is one device."""
    if strategy is None:
        return None
    if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return _of_processes(strategy)
    if isinstance(strategy, str) and strategy == "multi_worker":
        return _of_processes(_joined(name))
    known = [_short(one.name) for one in tf.config.list_logical_devices()]
    kind = "GPU" if devices.gpus() else "CPU"
    if isinstance(strategy, str):
        found = tuple(one for one in known if one.startswith(kind))
    elif isinstance(strategy, tf.distribute.Strategy):
        if type(strategy) not in (tf.distribute.MirroredStrategy, tf.distribute.OneDeviceStrategy):
            raise ValueError(
                f"The 'strategy' parameter of {name} must be 'mirrored', 'multi_worker', names of "
                "devices, or the mirrored strategy of TensorFlow for one of these. Got a "
                f"{type(strategy).__name__} instead."
            )
        found = _of_keras(strategy)
    else:
        found = tuple(
            str(one).removeprefix("/").removeprefix("device:").upper() for one in strategy
        )
    if not found or len(set(found)) < len(found) or not set(found) <= set(known):
        raise ValueError(
            f"The 'strategy' parameter of {name} must name devices of TensorFlow, each once: "
            f"{', '.join(known)}. Got {', '.join(found) or 'none'} instead."
        )
    return Sharing(found) if len(found) > 1 else None


def _of_keras(strategy: tf.distribute.Strategy) -> tuple[str, ...]:
    return tuple(_short(one) for one in strategy.extended.worker_devices)


def _short(name: str) -> str:
    spec = tf.DeviceSpec.from_string(name)
    return f"{spec.device_type}:{spec.device_index}"


# -- several processes ---------------------------------------------------------------------------


@functools.cache
def _joined(name: str) -> tf.distribute.Strategy:
    """Join the processes of TF_CONFIG; waits until all are there."""
    if not os.environ.get("TF_CONFIG"):
        raise ValueError(
            f"The 'strategy' parameter of {name} must be 'multi_worker' only in processes that "
            "find each other by the environment variable TF_CONFIG. It is not set."
        )
    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    except RuntimeError as error:
        raise RuntimeError(
            f"{name} must join the other processes before TensorFlow computes anything: begin the "
            "program with strategy = tf.distribute.MultiWorkerMirroredStrategy(), and give it that."
        ) from error


def number() -> int:
    """Return the number of this process among those that train together, 0 if it is alone."""
    return _own_number


_own_number = 0


def _of_processes(strategy: tf.distribute.Strategy) -> Sharing:
    """Return the devices of a strategy of several processes, and note which process this is."""
    global _own_number
    resolver = strategy.cluster_resolver
    chiefs = resolver.cluster_spec().as_dict().get("chief", []) if resolver else []
    _own_number = int(resolver.task_id or 0) if resolver else 0
    if resolver and resolver.task_type == "worker":
        _own_number += len(chiefs)
    own = _of_keras(strategy)
    return Sharing(own, strategy.num_replicas_in_sync // len(own))


def reduce(tensors: Sequence[Any], processes: int, how: str = "Add") -> list[Any]:
    """Add up the float32 tensors of all processes, or take their maxima ("Max")."""
    # One operation for all of them: each takes a round trip.
    flat = tf.concat([tf.reshape(one, [-1]) for one in tensors], 0)
    shapes = [one.shape for one in tensors]
    summed = tf.raw_ops.CollectiveReduceV2(
        input=flat,
        group_size=processes,
        group_key=GROUP,
        # The same sum has the same key in all processes, whatever they have computed before.
        instance_key=zlib.crc32(repr((how, shapes)).encode()) % 2**31,
        ordering_token=[],
        merge_op=how,
        final_op="Id",
    )
    parts = tf.split(summed, [shape.num_elements() for shape in shapes])
    return [tf.reshape(part, shape) for part, shape in zip(parts, shapes, strict=True)]


def mean(values: Sequence[float], processes: int) -> list[float]:
    """Compute the mean over all processes, so that all decide by the same numbers."""
    # As two floats each: float32 alone would round what is compared bit for bit.
    wide = np.array(values, np.float64)
    high = wide.astype(np.float32)
    low = (wide - high).astype(np.float32)
    both = [tf.constant(np.where(np.isfinite(one), one, 0)) for one in (high, low)]
    sums = [one.numpy().astype(np.float64) for one in reduce(both, processes)]
    found = (sums[0] + sums[1]) / processes
    return np.where(np.isfinite(wide), found, wide).tolist()


def check_same(values: Any, processes: int, name: str) -> None:
    """Refuse processes that do not train the same, as far as plain values tell."""
    own = float(zlib.crc32(repr(values).encode()) % 2**24)
    (largest,) = reduce([tf.constant([own, -own])], processes, "Max")
    if largest.numpy().tolist() != [own, -own]:
        raise ValueError(
            f"{name} must get the same images, labels and parameters in all {processes} processes, "
            "and find the same checkpoint. One of them got others."
        )
