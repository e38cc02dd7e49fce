"""A convolution's bias, where it is added later than by the convolution."""

from __future__ import annotations

from typing import Any

import keras

RISING = frozenset(
    {"elu", "leaky_relu", "linear", "relu", "selu", "sigmoid", "softplus", "softsign", "tanh"}
)
"""Activations that never fall, so that the maximum of a window may be taken before them."""


@keras.saving.register_keras_serializable(package="kmedclf")
class Bias(keras.layers.Layer):
    """Add a number to each channel, at first 0."""

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make the numbers, one for each of the last axis."""
        self.bias = self.add_weight((input_shape[-1],), initializer="zeros", name="bias")

    def call(self, x: Any) -> Any:
        """Map (..., c) to the same shape."""
        return x + keras.ops.cast(self.bias, x.dtype)
