"""Keras optimizers of a spec; Muon for convolutions."""

from __future__ import annotations

from functools import partial
from typing import Any

import keras
import tensorflow as tf

from kmedclf.training.network import Spec


@keras.saving.register_keras_serializable(package="kmedclf")
class Muon(keras.optimizers.Muon):
    """Keras' Muon for kernels of convolutions too, as matrices of patches and filters.

    Biases, scales, depthwise kernels and the layer "logits" use AdamW, as in Keras.

    Parameters
    ----------
    iterate_in : str, default="float32"
        Dtype of the orthogonalisation; its authors use bfloat16.
    **kwargs
        As in `keras.optimizers.Muon`.

    References
    ----------
    K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024. J. Liu et
    al., "Muon is scalable for LLM training", arXiv:2502.16982 (the rate).
    """

    def __init__(self, *args: Any, iterate_in: str = "float32", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.iterate_in = iterate_in

    def get_config(self) -> dict[str, Any]:
        """Return the configuration."""
        return {**super().get_config(), "iterate_in": self.iterate_in}

    def _should_use_adamw(self, variable: Any) -> bool:
        layer, _, name = variable.path.rpartition("/")
        # A kernel with one output per pixel, such as a depthwise one, is no matrix.
        matrix = name == "kernel" and len(variable.shape) in (2, 4) and variable.shape[-1] > 1
        return not matrix or layer == "logits"

    def _muon_update_step(self, gradient: Any, variable: Any, lr: Any, m: Any) -> None:
        m.assign(self.momentum * m + gradient)
        update = gradient + self.momentum * m if self.nesterov else m
        matrix = tf.reshape(update, (-1, variable.shape[-1]))
        # Normalise before the cast: squares of small gradients would underflow.
        matrix = tf.cast(matrix / (tf.norm(matrix) + 1e-7), self.iterate_in)
        matrix = self.zeropower_via_newtonschulz5(matrix, self.ns_steps)
        step = self.lr_adjust(tf.cast(matrix, variable.dtype)) * lr
        variable.assign_sub(tf.reshape(step, variable.shape))


def make(spec: Spec) -> keras.optimizers.Optimizer:
    """Make the optimizer of a spec."""
    chosen = dict(spec.options)
    config: dict[str, Any] = {
        name: chosen[name] for name in ("momentum", "nesterov") if name in chosen
    }
    if "clipnorm" in chosen:
        config["global_clipnorm"] = chosen["clipnorm"]
    config |= dict(chosen.get("optimizer_config", ()))  # of a user's optimizer
    if "optimizer_class" in chosen:
        optimizer = chosen["optimizer_class"](**config)
    elif spec.optimizer == "muon":
        low = spec.precision == "mixed_bfloat16"
        optimizer = Muon(**config, iterate_in="bfloat16" if low else "float32")
    else:
        optimizer = keras.optimizers.get({"class_name": spec.optimizer, "config": config})
    # Patch the instance instead of a subclass, so that Keras can save and load a model in training.
    # Keras' sum over replicas would register a gradient that keeps the graph for ever, and with it
    # all weights; there is only one replica.
    optimizer._all_reduce_sum_gradients = list
    if type(optimizer) in (keras.optimizers.Adam, keras.optimizers.AdamW) and not optimizer.amsgrad:
        optimizer.update_step = partial(_adam_step, optimizer)
    rate = dict(spec.architecture).get("backbone_rate", 1.0)
    if rate != 1:
        optimizer.update_step = partial(_slower_step, optimizer, optimizer.update_step, rate)
    return optimizer


def _slower_step(
    optimizer: Any, step: Any, rate: float, gradient: Any, variable: Any, learning_rate: Any
) -> None:
    """Update a variable at a share of the learning rate, unless it is the last layer's."""
    number = optimizer._get_variable_index(variable)
    if not optimizer._trainable_variables[number].path.startswith("logits/"):
        learning_rate = learning_rate * tf.cast(rate, learning_rate.dtype)
    step(gradient, variable, learning_rate)


def _adam_step(optimizer: Any, gradient: Any, variable: Any, learning_rate: Any) -> None:
    """Update a variable by Keras' formulas, in one TensorFlow operation instead of a dozen."""
    # On a CPU, Keras' operations take most of the time of a small dense network's step.
    number = optimizer._get_variable_index(variable)
    step = tf.cast(optimizer.iterations + 1, variable.dtype)
    tf.raw_ops.ResourceApplyAdam(
        var=variable.handle,
        m=optimizer._momentums[number].value.handle,
        v=optimizer._velocities[number].value.handle,
        beta1_power=tf.pow(tf.cast(optimizer.beta_1, variable.dtype), step),
        beta2_power=tf.pow(tf.cast(optimizer.beta_2, variable.dtype), step),
        lr=tf.cast(learning_rate, variable.dtype),
        beta1=optimizer.beta_1,
        beta2=optimizer.beta_2,
        epsilon=optimizer.epsilon,
        grad=gradient,
    )


def decay_kernels(model: keras.Model, weight_decay: tf.Variable | float) -> None:
    """Enable weight decay for all kernels, but not for biases and scales."""
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    vectors = [v for v in model.trainable_variables if len(v.shape) < 2]
    optimizer.exclude_from_weight_decay(var_list=vectors)
    optimizer.weight_decay = weight_decay
    if isinstance(optimizer, Muon):
        optimizer.adam_weight_decay = weight_decay
