"""The compact residual network."""

from __future__ import annotations

from typing import Any

import keras

from kmedclf.base import ImageClassifier
from kmedclf.models._blocks import conv_bn, every_second, window
from kmedclf.parameters import Activation, PositiveInt


class ResNetClassifier(ImageClassifier):
    """Compact residual network for small images.

    One pixel of zero padding, a stem convolution with batch normalisation, then residual blocks
    that each halve the image and double the filters, global average pooling, a dense layer and a
    softmax. On 28 × 28 × 3 images and 8 classes the default network has 1,957,768 trainable
    parameters and 2,432 statistics of batch normalisation.

    Parameters
    ----------
    stem_filters : int, default=64
        Kernels of the stem; block i has ``stem_filters * 2**i``.
    stem_kernel_size : int, default=3
        Side of the stem's kernels, in pixels.
    stem_pooling : bool, default=False
        Whether a 3 × 3 max-pooling of stride 2 follows the stem.
    blocks : int, default=2
        Residual blocks.
    layers_per_block : int, default=3
        3 × 3 convolutions in a block; the first has stride 2.
    dense_units : int or None, default=256
        Neurons of the dense layer before the softmax; None leaves the layer out.
    activation : str, default="relu"
        Keras activation.

    Notes
    -----
    Every convolution has a bias, and the 1 × 1 convolution of the shortcut no normalisation.

    References
    ----------
    K. He, X. Zhang, S. Ren, J. Sun, "Deep residual learning for image recognition", CVPR 2016.

    Examples
    --------
    >>> from kmedclf import ResNetClassifier
    >>> from kmedclf.datasets import make_blood_cells
    >>> X, y = make_blood_cells(200, random_state=0)  # synthetic
    >>> ResNetClassifier(stem_filters=4, epochs=1, random_state=0).fit(X, y).predict(X).shape
    (200,)
    """

    stem_filters: PositiveInt = 64
    stem_kernel_size: PositiveInt = 3
    stem_pooling: bool = False
    blocks: PositiveInt = 2
    layers_per_block: PositiveInt = 3
    dense_units: PositiveInt | None = 256
    activation: Activation = "relu"

    @property
    def smallest_image(self) -> int:  # type: ignore[override]
        """Side in pixels of the smallest images that the network takes; flat vectors excepted."""
        return self.stem_kernel_size

    def features(self, x: Any) -> Any:
        """Map images (b, h, w, c) to features (b, dense_units)."""
        kernel = window(x, self.stem_kernel_size, "stem_kernel_size", self)
        x = keras.layers.ZeroPadding2D(1)(x)  # (b, h + 2, w + 2, c)
        x = conv_bn(x, self.stem_filters, kernel)
        x = keras.layers.Activation(self.activation)(x)
        if self.stem_pooling:
            x = keras.layers.MaxPooling2D(3, strides=2, padding="same")(x)
        for block in range(1, self.blocks + 1):
            x = self._block(x, self.stem_filters * 2**block)  # (b, h / 2, w / 2, 2 filters)
        x = keras.layers.GlobalAveragePooling2D()(x)  # (b, filters)
        if self.dense_units is not None:
            x = keras.layers.Dense(self.dense_units, activation=self.activation)(x)
        return x

    def _block(self, x: Any, filters: int) -> Any:
        shortcut = keras.layers.Conv2D(filters, 1)(every_second(x))
        x = conv_bn(x, filters, (3, 3), strides=2)
        for _ in range(self.layers_per_block - 1):
            x = keras.layers.Activation(self.activation)(x)
            x = conv_bn(x, filters, (3, 3))
        x = keras.layers.Add()([x, shortcut])
        return keras.layers.Activation(self.activation)(x)
