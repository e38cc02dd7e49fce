"""Keras optimizers: made for a spec, set back to their start, carried on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kmedclf.network import Spec


def make(spec: Spec) -> keras.optimizers.Optimizer:
    """Make the optimizer of a spec."""
    chosen = dict(spec.options)
    config: dict[str, Any] = {
        name: chosen[name] for name in ("momentum", "nesterov") if name in chosen
    }
    if "clipnorm" in chosen:
        config["global_clipnorm"] = chosen["clipnorm"]
    return keras.optimizers.get({"class_name": spec.optimizer, "config": config})


def decay_kernels(model: keras.Model, weight_decay: tf.Variable) -> None:
    """Let a model's optimizer take a share off every kernel, but off no vector, in each step."""
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    vectors = [one for one in model.trainable_variables if len(one.shape) < 2]
    optimizer.exclude_from_weight_decay(var_list=vectors)
    optimizer.weight_decay = weight_decay


def start(optimizer: keras.optimizers.Optimizer, variables: list[Any]) -> list[Any]:
    """Build an optimizer for variables, and give the initial values of its own."""
    optimizer.build(variables)
    return [_compact(variable.numpy()) for variable in optimizer.variables]


def assign(optimizer: keras.optimizers.Optimizer, values: Sequence[Any]) -> None:
    """Set an optimizer's variables."""
    for variable, value in zip(optimizer.variables, values, strict=True):
        variable.assign(np.broadcast_to(value, variable.shape))


def _compact(value: np.ndarray) -> np.ndarray:
    """Keep one number where all are alike: Adam's zeros need not be held in full."""
    first = value.reshape(-1)[:1]
    return first[0] if value.size and np.all(value == first) else value
