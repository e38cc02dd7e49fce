"""The densely connected network."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras

from kmedclf.models._blocks import Stem, batch_norm, keeps_pixels, padded, per_layer, stem_kernel
from kmedclf.models._pretrained import PretrainedClassifier
from kmedclf.models._weights import Published
from kmedclf.parameters import PositiveInt

MD5 = {
    (6, 12, 24, 16): (121, "30ee3e1110167f948a6b9946edeeb738"),
    (6, 12, 32, 32): (169, "b8c4d4c20dd625c148057b9ff1c1176b"),
    (6, 12, 48, 32): (201, "c13680b51ded0fb44dff2d8f86ac8bb1"),
}


class DenseNetClassifier(PretrainedClassifier):
    """DenseNet: every layer of a block sees what all layers before it computed.

    With the ImageNet stem and the default blocks it is DenseNet-121, and has its 7,978,856
    parameters for 1000 classes. ImageNet weights are those of keras.applications: DenseNet-121,
    -169 for the blocks (6, 12, 32, 32), -201 for (6, 12, 48, 32).

    Parameters
    ----------
    block_config : int or tuple of int, default=(6, 12, 24, 16)
        Layers of each dense block; between two blocks the image is halved.
    growth_rate : int, default=32
        Channels that a layer adds; the stem has twice as many kernels.
    stem : {"auto", "small", "imagenet"}, default="auto"
        "imagenet" is a 7 × 7 convolution and a pooling, both of stride 2, for images from 32
        pixels; "small" a 3 × 3 convolution, 7 × 7 for published weights, of stride 1 and no
        pooling, for images from 8 pixels (both for four blocks). "auto" is "imagenet" from 96
        pixels.

    References
    ----------
    G. Huang, Z. Liu, L. van der Maaten, K. Q. Weinberger, "Densely connected convolutional
    networks", CVPR 2017.

    Examples
    --------
    >>> from kmedclf import DenseNetClassifier
    >>> from kmedclf.datasets import make_blood_cells
    >>> X, y = make_blood_cells(64, random_state=0)  # synthetic
    >>> densenet = DenseNetClassifier(block_config=(1, 2), growth_rate=4, epochs=1, random_state=0)
    >>> densenet.fit(X, y).predict(X).shape
    (64,)
    """

    block_config: PositiveInt | tuple[int, ...] | list[int] = (6, 12, 24, 16)
    growth_rate: PositiveInt = 32
    stem: Stem = "auto"

    @property
    def smallest_image(self) -> int:  # type: ignore[override]
        """Side in pixels of the smallest images that the network takes; flat vectors excepted."""
        halvings = len(per_layer(self, "block_config")) - 1 + 2 * (self.stem == "imagenet")
        return int(2**halvings)

    def backbone(self, x: Any) -> Iterator[Any]:
        """Yield (b, h', w', d) behind the stem and every dense block."""
        blocks = per_layer(self, "block_config")
        small = keeps_pixels(x, self.stem)
        size = stem_kernel(7, self, small=small)
        x = padded(x, 3) if size == 7 else x
        x = _conv(x, 2 * self.growth_rate, size, "conv1_conv", strides=1 if small else 2)
        x = _norm_relu(x, "conv1_bn")
        if not small:
            x = keras.layers.MaxPooling2D(3, strides=2)(padded(x, 1))
        yield x
        for number, layers in enumerate(blocks, 2):
            for layer in range(1, layers + 1):
                new = _norm_relu(x, f"conv{number}_block{layer}_0_bn")
                new = _conv(new, 4 * self.growth_rate, 1, f"conv{number}_block{layer}_1_conv")
                new = _norm_relu(new, f"conv{number}_block{layer}_1_bn")
                new = _conv(new, self.growth_rate, 3, f"conv{number}_block{layer}_2_conv")
                x = keras.layers.Concatenate()([x, new])
            if number <= len(blocks):
                x = _norm_relu(x, f"pool{number}_bn")
                x = _conv(x, x.shape[-1] // 2, 1, f"pool{number}_conv")
                # Halved as by keras.applications, but for what is a single pixel wide.
                padding = "same" if min(x.shape[1:3]) == 1 else "valid"
                x = keras.layers.AveragePooling2D(2, padding=padding)(x)
            else:
                x = _norm_relu(x, "bn")
            yield x

    def published(self) -> Published | None:
        """Say which file "imagenet" means, if there is one for these parameters."""
        depth, md5 = MD5.get(per_layer(self, "block_config"), (None, None))
        if depth is None or self.growth_rate != 32:
            return None
        name = f"densenet{depth}_weights_tf_dim_ordering_tf_kernels_notop.h5"
        folder = "https://storage.googleapis.com/tensorflow/keras-applications/densenet"
        return Published(name, f"{folder}/{name}", md5)


def _norm_relu(x: Any, name: str) -> Any:
    return keras.layers.ReLU()(batch_norm(x, name, 1.001e-5))


def _conv(x: Any, filters: int, size: int, name: str, strides: int = 1) -> Any:
    padding = "same" if size == 3 else "valid"
    return keras.layers.Conv2D(
        filters, size, strides, padding, use_bias=False, kernel_initializer="he_normal", name=name
    )(x)
