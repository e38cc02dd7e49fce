"""The residual networks of 18, 34 and 50 layers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import keras

from kmedclf.models._blocks import Stem, batch_norm, every_second, keeps_pixels, padded, stem_kernel
from kmedclf.models._pretrained import PretrainedClassifier
from kmedclf.models._weights import Published
from kmedclf.parameters import PositiveInt

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}


class DeepResNetClassifier(PretrainedClassifier):
    """Residual network of 18, 34 or 50 layers.

    With the ImageNet stem it is torchvision's network, and has its 11,689,512, 21,797,672 or
    25,557,032 parameters for 1000 classes. ImageNet weights are timm's ``resnet18.tv_in1k``,
    ``resnet34.tv_in1k`` and ``resnet50.tv_in1k``.

    Parameters
    ----------
    depth : {18, 34, 50}, default=18
        Layers: 18 and 34 have blocks of two 3 × 3 convolutions, 50 of 1 × 1, 3 × 3 and 1 × 1.
    filters : int, default=64
        Kernels of the stem; each of the four stages has twice those of the one before.
    stem : {"auto", "small", "imagenet"}, default="auto"
        "imagenet" is a 7 × 7 convolution and a pooling, both of stride 2, for images from 32
        pixels; "small" a 3 × 3 convolution, 7 × 7 for published weights, of stride 1 and no
        pooling, for images from 8 pixels. "auto" is "imagenet" from 96 pixels.

    References
    ----------
    K. He, X. Zhang, S. Ren, J. Sun, "Deep residual learning for image recognition", CVPR 2016.

    Examples
    --------
    >>> from kmedclf import DeepResNetClassifier
    >>> from kmedclf.datasets import make_blood_cells
    >>> X, y = make_blood_cells(64, random_state=0)  # synthetic
    >>> DeepResNetClassifier(filters=4, epochs=1, random_state=0).fit(X, y).n_params_
    44948
    """

    depth: Literal[18, 34, 50] = 18
    filters: PositiveInt = 64
    stem: Stem = "auto"

    takes_presets = True

    def backbone(self, x: Any) -> Iterator[Any]:
        """Yield (b, h', w', d) behind the stem and every residual block."""
        small = keeps_pixels(x, self.stem)
        size = stem_kernel(7, self, small=small)
        x = _conv(x, self.filters, size, "conv1", "bn1", strides=1 if small else 2)
        x = keras.layers.ReLU(name="relu")(x)
        if not small:
            x = keras.layers.MaxPooling2D(3, strides=2, name="maxpool")(padded(x, 1))
        yield x  # (b, h / 4, w / 4, filters)
        for stage, blocks in enumerate(BLOCKS[self.depth]):
            for block in range(blocks):
                strides = 2 if stage > 0 and block == 0 else 1
                name = f"layer{stage + 1}.{block}"
                x = self._block(x, self.filters * 2**stage, strides, name)
                yield x

    def _block(self, x: Any, filters: int, strides: int, name: str) -> Any:
        out = filters * (4 if self.depth == 50 else 1)
        shortcut = x
        if self.depth == 50:
            x = _conv(x, filters, 1, f"{name}.conv1", f"{name}.bn1")
            x = keras.layers.ReLU()(x)
            x = _conv(x, filters, 3, f"{name}.conv2", f"{name}.bn2", strides)
            x = keras.layers.ReLU()(x)
            x = _conv(x, out, 1, f"{name}.conv3", f"{name}.bn3")
        else:
            x = _conv(x, filters, 3, f"{name}.conv1", f"{name}.bn1", strides)
            x = keras.layers.ReLU()(x)
            x = _conv(x, filters, 3, f"{name}.conv2", f"{name}.bn2")
        if strides > 1 or shortcut.shape[-1] != out:
            less = every_second(shortcut) if strides > 1 else shortcut
            shortcut = _conv(less, out, 1, f"{name}.downsample.0", f"{name}.downsample.1")
        return keras.layers.ReLU()(keras.layers.Add()([shortcut, x]))

    def published(self) -> Published | None:
        """Say which file "imagenet" means, if there is one for these parameters."""
        if self.filters != 64:
            return None
        name = f"resnet{self.depth}.tv_in1k"
        url = f"https://huggingface.co/timm/{name}/resolve/main/model.safetensors"
        return Published(f"{name}.safetensors", url)


def _conv(x: Any, filters: int, size: int, conv: str, norm: str, strides: int = 1) -> Any:
    """Convolve as torchvision: zeros on both sides also where a stride would need them on one."""
    padding = "same" if strides == 1 else "valid"
    layer = keras.layers.Conv2D(
        filters, size, strides, padding, use_bias=False, kernel_initializer="he_normal", name=conv
    )
    return batch_norm(layer(padded(x, size // 2) if strides > 1 else x), norm)
