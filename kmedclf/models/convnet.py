"""A stack of convolutions, every layer of it to be chosen."""

from __future__ import annotations

from typing import Any, Literal

import keras

from kmedclf.base import ImageClassifier
from kmedclf.models._blocks import batch_norm, padded, per_layer, window
from kmedclf.models._pretrained import NonNegativeInt, Rate
from kmedclf.parameters import Activation, PositiveInt


class ConvNetClassifier(ImageClassifier):
    """Convolutional network of any number of layers.

    A layer is a convolution, batch normalisation, activation, pooling and dropout, each of which
    can be left out. Where a parameter takes a tuple, it has one entry a layer. Images must be large
    enough for every kernel and pooling window; the defaults take them from 8 pixels.

    Parameters
    ----------
    filters : int or tuple of int, default=(32, 64, 128)
        Kernels of each layer; says how many layers there are.
    kernel_size : int or tuple of int, default=3
        Side of the kernels, in pixels.
    padding : {"same", "valid"}, int or tuple of these, default="same"
        Zeros around the image before a convolution: what keeps its size, none, or so many pixels.
    activation : str or tuple of str, default="relu"
        Keras activation; "linear" leaves it out.
    pool_size : int or tuple of int, default=2
        Side of the pooling windows, in pixels; 1 leaves the pooling out.
    pooling : {"max", "average"}, default="max"
        Kind of pooling.
    batch_norm : {"none", "first", "all"}, default="all"
        Layers with batch normalisation.
    dropout : float, default=0.0
        Share of the values dropped behind every layer in training.
    global_pooling : {"none", "max", "average"}, default="average"
        Pooling of the whole image behind the last layer; "none" flattens it.
    dense_units : int, tuple of int or None, default=None
        Neurons of the dense layers before the softmax, with the last layer's activation; None has
        no dense layer.

    Examples
    --------
    >>> from kmedclf import ConvNetClassifier
    >>> from kmedclf.datasets import make_blood_cells
    >>> X, y = make_blood_cells(200, random_state=0)  # synthetic
    >>> ConvNetClassifier(filters=(8, 16), epochs=2, random_state=0).fit(X, y).n_params_
    1576
    """

    filters: PositiveInt | tuple[int, ...] | list[int] = (32, 64, 128)
    kernel_size: PositiveInt | tuple[int, ...] | list[int] = 3
    padding: Literal["same", "valid"] | NonNegativeInt | tuple | list = "same"
    activation: Activation | tuple[str, ...] | list[str] = "relu"
    pool_size: PositiveInt | tuple[int, ...] | list[int] = 2
    pooling: Literal["max", "average"] = "max"
    batch_norm: Literal["none", "first", "all"] = "all"
    dropout: Rate = 0.0
    global_pooling: Literal["none", "max", "average"] = "average"
    dense_units: PositiveInt | tuple[int, ...] | list[int] | None = None

    @property
    def smallest_image(self) -> int:  # type: ignore[override]
        """Side in pixels of the smallest images that the network takes; flat vectors excepted."""
        side = 1
        for _, size, padding, _, pool in reversed(self._layers()):
            side *= pool
            if padding != "same":
                side = max(1, side + size - 1 - 2 * (0 if padding == "valid" else padding))
        return side

    def _layers(self) -> list[tuple[Any, ...]]:
        names = ("filters", "kernel_size", "padding", "activation", "pool_size")
        n = len(per_layer(self, "filters"))
        return list(zip(*(per_layer(self, name, n) for name in names), strict=True))

    def features(self, x: Any) -> Any:
        """Map images (b, h, w, c) to features (b, h', w', filters), or (b, units)."""
        layers = self._layers()
        for number, layer in enumerate(layers):
            x = self._layer(x, number, *layer)
        if self.global_pooling == "max":
            x = keras.layers.GlobalMaxPooling2D()(x)
        elif self.global_pooling == "average":
            x = keras.layers.GlobalAveragePooling2D()(x)
        elif self.dense_units is not None:
            x = keras.layers.Flatten()(x)
        for units in () if self.dense_units is None else per_layer(self, "dense_units"):
            x = keras.layers.Dense(units, activation=layers[-1][3])(x)
        return x

    def _layer(
        self, x: Any, number: int, filters: int, size: int, padding: Any, activation: str, pool: int
    ) -> Any:
        if isinstance(padding, int):
            x = padded(x, padding) if padding else x
            padding = "valid"
        kernel = window(x, size, "kernel_size", self) if padding == "valid" else size
        x = keras.layers.Conv2D(filters, kernel, padding=padding)(x)
        if self.batch_norm == "all" or (self.batch_norm == "first" and number == 0):
            x = batch_norm(x, f"norm_{number}", 1e-3)
        x = keras.layers.Activation(activation)(x)
        if pool > 1:
            kinds = {"max": keras.layers.MaxPooling2D, "average": keras.layers.AveragePooling2D}
            x = kinds[self.pooling](window(x, pool, "pool_size", self))(x)
        return keras.layers.Dropout(self.dropout)(x) if self.dropout else x
