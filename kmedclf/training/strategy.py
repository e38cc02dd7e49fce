"""One training on several devices: which share a batch, and how processes add up their parts.

Weights are those of one ordinary network; only gradients are computed in parts. Processes find each
other by TensorFlow's variable TF_CONFIG, all read the same data, and take the same steps.
"""

from __future__ import annotations

import functools
import os
import socket
import time
import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from kmedclf.training import devices

GROUP = 2**20
"""Key of the group of all processes; TensorFlow's own strategies count from 1."""

JOIN_SECONDS = 600
"""Seconds to wait for all processes: a queue starts them minutes apart, and images are fetched."""


class Sharing(NamedTuple):
    """Devices of this process that share a batch, and the number of processes."""

    devices: tuple[str, ...]
    processes: int = 1

    @property
    def parts(self) -> int:
        """Number of parts of a batch."""
        return len(self.devices) * self.processes

    @classmethod
    def of(cls, strategy: Any, name: str) -> Sharing | None:
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
            ours = tf.distribute.MirroredStrategy, tf.distribute.OneDeviceStrategy
            if type(strategy) not in ours:
                raise ValueError(
                    f"The 'strategy' parameter of {name} must be 'mirrored', 'multi_worker', names "
                    "of devices, or the mirrored strategy of TensorFlow for one of these. Got a "
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
        return cls(found) if len(found) > 1 else None

    def mean(self, values: Sequence[float]) -> list[float]:
        """Compute the mean over all processes, so that all decide by the same numbers."""
        # As two floats each: float32 alone would round what is compared bit for bit.
        wide = np.array(values, np.float64)
        high = wide.astype(np.float32)
        low = (wide - high).astype(np.float32)
        both = [tf.constant(np.where(np.isfinite(one), one, 0)) for one in (high, low)]
        sums = [one.numpy().astype(np.float64) for one in reduce(both, self.processes)]
        found = (sums[0] + sums[1]) / self.processes
        return np.where(np.isfinite(wide), found, wide).tolist()

    def check_same(self, values: Any, name: str) -> None:
        """Refuse processes that do not train the same, as far as plain values tell."""
        own = float(zlib.crc32(repr(values).encode()) % 2**24)
        (largest,) = reduce([tf.constant([own, -own])], self.processes, "Max")
        if largest.numpy().tolist() != [own, -own]:
            raise ValueError(
                f"{name} must get the same images, labels and parameters in all {self.processes} "
                "processes, and find the same checkpoint. One of them got others."
            )


def _of_keras(strategy: tf.distribute.Strategy) -> tuple[str, ...]:
    return tuple(_short(one) for one in strategy.extended.worker_devices)


def _short(name: str) -> str:
    spec = tf.DeviceSpec.from_string(name)
    return f"{spec.device_type}:{spec.device_index}"


# -- several processes ---------------------------------------------------------------------------


@functools.cache
def _joined(name: str) -> tf.distribute.Strategy:
    """Join the processes of TF_CONFIG; waits until all are there, but not for ever."""
    if not os.environ.get("TF_CONFIG"):
        raise ValueError(
            f"The 'strategy' parameter of {name} must be 'multi_worker' only in processes that "
            "find each other by the environment variable TF_CONFIG. It is not set."
        )
    _await_processes(name)
    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    except RuntimeError as error:
        raise RuntimeError(
            f"{name} must join the other processes before TensorFlow computes anything: begin the "
            "program with strategy = tf.distribute.MultiWorkerMirroredStrategy(), and give it that."
        ) from error


def _await_processes(name: str) -> None:
    """Wait until all processes of TF_CONFIG answer; raises TimeoutError that names the others.

    TensorFlow itself waits for an hour, and hears neither Ctrl-C nor SIGTERM meanwhile.
    """
    resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
    if resolver.task_type not in ("chief", "worker"):
        return  # TensorFlow says what is wrong
    tasks = resolver.cluster_spec().as_dict()
    others = [*tasks.get("chief", []), *tasks.get("worker", [])]
    own = resolver.cluster_spec().task_address(resolver.task_type, resolver.task_id)
    others.remove(own)
    seconds = _join_seconds()
    deadline = time.monotonic() + seconds
    with _listener(own, name) as listener:
        # In one round, as one that has answered may be lost while the others start.
        while silent := [one for one in others if not _answers(one)]:
            _hang_up(listener)
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"{name} must find all {len(others) + 1} processes of TF_CONFIG within "
                    f"{seconds:g} seconds. No answer came from {', '.join(silent)}: check that "
                    "each process runs, has this address in its TF_CONFIG and no firewall before "
                    "it, or set KMEDCLF_JOIN_SECONDS to wait longer."
                )
            time.sleep(0.1)


def _join_seconds() -> float:
    given = os.environ.get("KMEDCLF_JOIN_SECONDS") or JOIN_SECONDS
    try:
        return float(given)
    except ValueError as error:
        raise ValueError(
            "The environment variable KMEDCLF_JOIN_SECONDS must be a number of seconds. "
            f"Got {given!r} instead."
        ) from error


def _listener(own: str, name: str) -> socket.socket:
    """Answer at this process' own address, until TensorFlow does; on all interfaces, as it does."""
    place = "", int(own.rpartition(":")[2])
    try:
        try:
            listener = socket.create_server(place, family=socket.AF_INET6, dualstack_ipv6=True)
        except (OSError, ValueError):  # no IPv6 here, or no sockets for both
            listener = socket.create_server(place)
    except OSError as error:
        raise OSError(
            f"{name} must listen on {own}, its own address in TF_CONFIG: {error}. Another process "
            "may have it still, as one of an earlier training."
        ) from error
    listener.setblocking(False)
    return listener


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=1):
            return True
    except OSError:
        return False


def _hang_up(listener: socket.socket) -> None:
    """Close the connections that have come, or no more would fit."""
    while True:
        try:
            listener.accept()[0].close()
        except BlockingIOError:
            return


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
