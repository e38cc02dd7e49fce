"""The simple convolutional network: one convolution, one pooling."""

from __future__ import annotations

from typing import Any, Literal

import keras

from kmedclf.base import ImageClassifier
from kmedclf.models._blocks import normalized, window
from kmedclf.models._layers import BatchNormalization, Bias, PatchWhitening
from kmedclf.parameters import Activation, FractionOrZero, PositiveInt
from kmedclf.recipes import AUTO, Auto

RISING = frozenset(
    {"elu", "leaky_relu", "linear", "relu", "selu", "sigmoid", "softplus", "softsign", "tanh"}
)
"""Monotonic activations, which commute with max pooling."""


class CNNClassifier(ImageClassifier):
    """Convolutional network with one convolution, one pooling and a softmax.

    The defaults are the winners of a staged grid search on BloodMNIST; on its 28 × 28 × 3 images
    and 8 classes the network has 176,648 parameters. Bias and activation come behind the pooling
    where that gives the same numbers, for speed: with "max" or "global_max", an activation that
    never falls, and no batch normalisation.

    Parameters
    ----------
    filters : int, default=128
        Kernels of the convolution.
    kernel_size : int, default=3
        Side of a kernel, in pixels; the convolution is not padded.
    pooling : {"max", "average", "global_max", "global_average"}, default="max"
        Pooling behind the convolution.
    pool_size : int, default=2
        Side of the pooling window, in pixels; not used by global pooling.
    activation : str, default="relu"
        Keras activation behind the convolution.
    batch_norm : bool or "auto", default="auto"
        Whether batch normalisation stands before that activation; not in the reference.
    dropout : float or "auto", default="auto"
        Share of the features that a training step leaves out before the softmax; 0 in the
        reference.
    normalize : bool, "whiten" or "auto", default="auto"
        Whether each channel of the images is standardised first, by the batch in training and by
        moving statistics in use; or, with "whiten", each patch of the convolution is whitened by
        what is measured on training images before the first step, and goes on rectified, beside
        its negative. Neither is in the reference.

    Examples
    --------
    >>> from kmedclf import CNNClassifier
    >>> from kmedclf.datasets import make_blood_cells
    >>> X, y = make_blood_cells(200, random_state=0)  # synthetic
    >>> CNNClassifier(filters=8, epochs=2, random_state=0).fit(X, y).n_params_
    11048
    """

    filters: PositiveInt = 128
    kernel_size: PositiveInt = 3
    pooling: Literal["max", "average", "global_max", "global_average"] = "max"
    pool_size: PositiveInt = 2
    activation: Activation = "relu"
    batch_norm: bool | Auto = AUTO
    dropout: FractionOrZero | Auto = AUTO
    normalize: bool | Literal["whiten"] | Auto = AUTO

    @property
    def smallest_image(self) -> int:  # type: ignore[override]
        """Side in pixels of the smallest images that the network takes; flat vectors excepted."""
        whole = self.pooling.startswith("global")
        return self.kernel_size - 1 + (1 if whole else self.pool_size)

    def features(self, x: Any) -> Any:
        """Map images (b, h, w, c) to features: (b, h', w', filters), or (b, filters) if global."""
        kernel = window(x, self.kernel_size, "kernel_size", self)
        if self.normalize == "whiten":
            x = keras.layers.Activation("relu")(PatchWhitening(kernel, name="whiten")(x))
            kernel = (1, 1)  # a pixel is now a patch
        elif self.normalize:
            x = normalized(x)
        early = self._pools_early
        x = keras.layers.Conv2D(self.filters, kernel, use_bias=not early)(x)
        if early:
            x = Bias()(self._pooled(x))
        elif self.batch_norm:
            x = BatchNormalization(momentum=0.9)(x)
        x = keras.layers.Activation(self.activation)(x)
        if not early:
            x = self._pooled(x)
        return keras.layers.Dropout(self.dropout)(x) if self.dropout else x

    @property
    def _pools_early(self) -> bool:
        # The largest of numbers stays the largest when all grow alike or pass a rising function,
        # so pooling first gives the same results and leaves far fewer pixels to what follows.
        return "max" in self.pooling and self.activation in RISING and not self.batch_norm

    def _pooled(self, x: Any) -> Any:
        if self.pooling == "global_max":
            return keras.layers.GlobalMaxPooling2D()(x)
        if self.pooling == "global_average":
            return keras.layers.GlobalAveragePooling2D()(x)
        pool = window(x, self.pool_size, "pool_size", self)
        layer = (
            keras.layers.MaxPooling2D if self.pooling == "max" else keras.layers.AveragePooling2D
        )
        return layer(pool)(x)
