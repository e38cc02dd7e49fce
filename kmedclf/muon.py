"""Muon for convolutions as well as for dense layers."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable(package="kmedclf")
class Muon(keras.optimizers.Muon):
    """Keras' Muon, which also takes kernels of convolutions, as matrices of patches and filters.

    Biases, scales, depthwise kernels and the layer "logits" are left to its AdamW.

    Parameters
    ----------
    iterate_in : str, default="float32"
        Dtype of the orthogonalisation; its authors use bfloat16.
    **kwargs
        As for Keras' own.

    References
    ----------
    K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024. J. Liu et
    al., "Muon is scalable for LLM training", arXiv:2502.16982 (the rate).
    """

    def __init__(self, *args: Any, iterate_in: str = "float32", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.iterate_in = iterate_in

    def get_config(self) -> dict[str, Any]:
        """Give what the optimizer is made with."""
        return {**super().get_config(), "iterate_in": self.iterate_in}

    def _should_use_adamw(self, variable: Any) -> bool:
        layer, _, name = variable.path.rpartition("/")
        # A kernel of one output a pixel, as depthwise ones are, is no matrix either.
        matrix = name == "kernel" and len(variable.shape) in (2, 4) and variable.shape[-1] > 1
        return not matrix or layer == "logits"

    def _muon_update_step(self, gradient: Any, variable: Any, lr: Any, m: Any) -> None:
        m.assign(self.momentum * m + gradient)
        update = gradient + self.momentum * m if self.nesterov else m
        matrix = tf.reshape(update, (-1, variable.shape[-1]))
        # Before the cast: the squares of small gradients would be 0 in fewer digits.
        matrix = tf.cast(matrix / (tf.norm(matrix) + 1e-7), self.iterate_in)
        matrix = self.zeropower_via_newtonschulz5(matrix, self.ns_steps)
        step = self.lr_adjust(tf.cast(matrix, variable.dtype)) * lr
        variable.assign_sub(tf.reshape(step, variable.shape))
