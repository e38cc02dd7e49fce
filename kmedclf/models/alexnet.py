"""AlexNet."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras

from kmedclf.models._blocks import Stem, keeps_pixels, padded, stem_kernel
from kmedclf.models._pretrained import PretrainedClassifier, Rate
from kmedclf.models._weights import Published
from kmedclf.parameters import PositiveInt


class AlexNetClassifier(PretrainedClassifier):
    """AlexNet: five convolutions, three poolings and two wide dense layers.

    With the ImageNet stem it is torchvision's network, and has its 61,100,840 parameters for 1000
    classes. Nobody publishes its weights in a format that needs no torch; where torch is,
    ``safetensors.torch.save_file(torchvision.models.alexnet(weights="DEFAULT").state_dict(),
    "alexnet.safetensors")`` writes a file for ``weights``, and "imagenet" finds it in the folder of
    published weights.

    Parameters
    ----------
    filters : int, default=64
        Kernels of the first convolution; the others have 3, 6, 4 and 4 times as many.
    dense_units : int, default=4096
        Neurons of each of the two dense layers.
    dense_dropout : float, default=0.5
        Share of the values dropped before each of the two dense layers in training.
    stem : {"auto", "small", "imagenet"}, default="auto"
        "imagenet" is an 11 × 11 convolution of stride 4, for images from 63 pixels; "small" a
        3 × 3 convolution, 11 × 11 for published weights, of stride 1, for images from 8 pixels.
        "auto" is "imagenet" from 96 pixels.

    References
    ----------
    A. Krizhevsky, "One weird trick for parallelizing convolutional neural networks",
    arXiv:1404.5997, 2014.

    Examples
    --------
    >>> from kmedclf import AlexNetClassifier
    >>> from kmedclf.datasets import make_blood_cells
    >>> X, y = make_blood_cells(64, random_state=0)  # synthetic
    >>> alexnet = AlexNetClassifier(filters=4, dense_units=32, epochs=1, random_state=0)
    >>> alexnet.fit(X, y).predict(X).shape
    (64,)
    """

    filters: PositiveInt = 64
    dense_units: PositiveInt = 4096
    dense_dropout: Rate = 0.5
    stem: Stem = "auto"

    @property
    def smallest_image(self) -> int:  # type: ignore[override]
        """Side in pixels of the smallest images that the network takes; flat vectors excepted."""
        return 63 if self.stem == "imagenet" else 8

    def backbone(self, x: Any) -> Iterator[Any]:
        """Yield (b, h', w', d) behind every convolution, then (b, dense_units) twice."""
        small = keeps_pixels(x, self.stem)
        # (number in torchvision, kernels in multiples of the first, side of the kernel, pooled)
        stem = stem_kernel(11, self, small=small)
        layers = [(0, 1, stem, True), (3, 3, 5, True), (6, 6, 3, False), (8, 4, 3, False),
                  (10, 4, 3, True)]  # fmt: skip
        for number, multiple, size, pooled in layers:
            strides = 4 if number == 0 and not small else 1
            padding = 2 if number == 0 and not small else size // 2
            x = keras.layers.Conv2D(
                self.filters * multiple, size, strides, activation="relu",
                kernel_initializer="he_normal", name=f"features.{number}",
            )(padded(x, padding))  # fmt: skip
            if pooled:
                pad = "same" if small else "valid"
                x = keras.layers.MaxPooling2D(3, 2, pad)(x)  # (b, h / 2, w / 2, d)
            yield x
        # 6 × 6 is what remains of 224 × 224, and what published weights of layer 1 go with.
        if (stem == 11 or not small) and x.shape[1:3] != (6, 6):
            x = keras.layers.AdaptiveAveragePooling2D((6, 6), name="avgpool")(x)
        x = keras.layers.Flatten()(keras.layers.Permute((3, 1, 2))(x))  # in torchvision's order
        for number in (1, 4):
            x = keras.layers.Dropout(self.dense_dropout)(x)
            x = keras.layers.Dense(
                self.dense_units, "relu", kernel_initializer="he_normal",
                name=f"classifier.{number}",
            )(x)  # fmt: skip
            yield x

    def published(self) -> Published | None:
        """Return the file that "imagenet" stands for, if there is one for these parameters."""
        if (self.filters, self.dense_units) != (64, 4096):
            return None
        name = "alexnet.safetensors"
        values = 'torchvision.models.alexnet(weights="DEFAULT").state_dict()'
        how = f'where torch is, write them by safetensors.torch.save_file({values}, "{name}")'
        return Published(name, "", how=how)
