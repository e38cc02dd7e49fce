"""EfficientNet, from B0 to B2, and Lite0."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from math import ceil
from numbers import Real
from typing import Annotated, Any, Literal, TypeAlias

import keras
from sklearn.utils._param_validation import Interval

from kmedclf.models._blocks import Stem, batch_norm, keeps_pixels
from kmedclf.models._pretrained import PretrainedClassifier
from kmedclf.models._weights import Published
from kmedclf.training import devices

# The largest published networks are 5.3 times as deep as B0; at 1e10 nobody waits for the layers.
Scale: TypeAlias = Annotated[float, Interval(Real, 0, 10, closed="right")]

# Width, depth, and the md5 of the published weights.
VARIANTS = {
    "b0": (1.0, 1.0, "50bc09e76180e00e4465e1a485ddc09d"),
    "b1": (1.0, 1.1, "74c4e6b3e1f6a1eea24c589628592432"),
    "b2": (1.1, 1.2, "111f8e2ac8aa800a7a99e3239f7bfb39"),
    "lite0": (1.0, 1.0, None),
}
# Side of the kernels, repeats, filters, expansion and stride of each stage of B0.
STAGES = [(3, 1, 16, 1, 1), (3, 2, 24, 6, 2), (5, 2, 40, 6, 2), (3, 3, 80, 6, 2),
          (5, 3, 112, 6, 1), (5, 4, 192, 6, 2), (3, 1, 320, 6, 1)]  # fmt: skip
LITE = frozenset({"lite0"})
"""Variants without squeeze-and-excitation, with ReLU6."""
HALF = (0.5, 0.5, 0.5)  # mean and standard deviation of the pixels that Lite was trained on
STOCHASTIC_DEPTH = 0.2  # of the last block; those before it in proportion


class EfficientNetClassifier(PretrainedClassifier):
    """EfficientNet: inverted bottlenecks, their width and depth scaled as one.

    B0 to B2 are the networks of keras.applications, whose ImageNet weights they take. Lite0 is B0
    without squeeze-and-excitation and with ReLU6, for CPUs; it takes the weights of its
    PyTorch ports (.safetensors), the original's or those of timm's models whose names begin with
    ``tf_``. They have the published 5,288,548 (B0), 7,794,184 (B1), 9,109,994 (B2) and 4,652,008
    (Lite0) parameters for 1000 classes.

    Parameters
    ----------
    variant : {"b0", "b1", "b2", "lite0"}, default="b0"
        How wide and deep.
    width : float, default=1.0
        Multiplies the variant's numbers of channels, which stay multiples of 8; at most 10.
    depth : float, default=1.0
        Multiplies the variant's numbers of blocks, at least one for each of the seven stages; at
        most 10.
    stem : {"auto", "small", "imagenet"}, default="auto"
        "imagenet" has a convolution of stride 2 and halves the image four times more, for images
        from 32 pixels; "small" leaves the first two of these strides out, for images from 8
        pixels. The weights have the same shapes. "auto" is "imagenet" from 96 pixels.

    References
    ----------
    M. Tan, Q. V. Le, "EfficientNet: rethinking model scaling for convolutional neural networks",
    ICML 2019. R. Liu, "Higher accuracy on vision models with EfficientNet-Lite", TensorFlow Blog,
    2020.

    Examples
    --------
    >>> from kmedclf import EfficientNetClassifier
    >>> from kmedclf.datasets import make_blood_cells
    >>> X, y = make_blood_cells(64, random_state=0)  # synthetic
    >>> small = EfficientNetClassifier(width=0.1, depth=0.1, epochs=1, random_state=0)
    >>> small.fit(X, y).predict(X).shape
    (64,)
    """

    variant: Literal["b0", "b1", "b2", "lite0"] = "b0"
    width: Scale = 1.0
    depth: Scale = 1.0
    stem: Stem = "auto"

    def backbone(self, x: Any) -> Iterator[Any]:
        """Yield (b, h', w', d) behind the stem and every inverted bottleneck."""
        small, lite = keeps_pixels(x, self.stem), self.variant in LITE
        width, depth, _ = VARIANTS[self.variant]
        width, depth = width * self.width, depth * self.depth
        x = _conv(x, channels(32 * width), "stem_conv", 3, 1 if small else 2)
        x = _activated(batch_norm(x, "stem_bn", 1e-3), lite=lite)
        yield x
        total = sum(ceil(depth * repeats) for _, repeats, *_ in STAGES)
        block = 0
        for stage, (size, repeats, filters, expansion, strides) in enumerate(STAGES, 1):
            for repeat in range(ceil(depth * repeats)):
                step = 1 if repeat or (small and stage == 2) else strides
                name = f"block{stage}{chr(97 + repeat)}"
                rate = STOCHASTIC_DEPTH * block / total
                shape = channels(filters * width), size, expansion, step
                x = _block(x, *shape, rate, name, lite=lite)
                block += 1
                if block == total:
                    x = _conv(x, channels(1280 * width), "top_conv")
                    x = _activated(batch_norm(x, "top_bn", 1e-3), lite=lite)
                yield x

    def normalization(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return mean and standard deviation of the pixels that the weights were trained on."""
        return (HALF, HALF) if self.variant in LITE else super().normalization()

    def torch_names(self, layer: str) -> tuple[str, ...]:
        """Return the names of a layer in the files of its PyTorch ports."""
        if self.variant not in LITE:
            return ()
        return _torch_names(VARIANTS[self.variant][1] * self.depth).get(layer, ())

    def published(self) -> Published | None:
        """Say which file "imagenet" means, if there is one for these parameters."""
        if (self.width, self.depth) != (1, 1):
            return None
        if self.variant in LITE:
            name = f"tf_efficientnet_{self.variant}.in1k"
            url = f"https://huggingface.co/timm/{name}/resolve/main/model.safetensors"
            return Published(f"{name}.safetensors", url)
        name = f"efficientnet{self.variant}_notop.h5"
        url = f"https://storage.googleapis.com/keras-applications/{name}"
        return Published(name, url, VARIANTS[self.variant][2])


@functools.cache
def _torch_names(depth: float) -> dict[str, tuple[str, str]]:
    """Map the layers of a Lite network to their names in the original's and in timm's files."""
    names = {
        "stem_conv": ("_conv_stem", "conv_stem"), "stem_bn": ("_bn0", "bn1"),
        "top_conv": ("_conv_head", "conv_head"), "top_bn": ("_bn1", "bn2"),
    }  # fmt: skip
    number = 0
    for stage, (_, repeats, _, expansion, _) in enumerate(STAGES):
        for repeat in range(ceil(depth * repeats)):
            ours, original = f"block{stage + 1}{chr(97 + repeat)}", f"_blocks.{number}"
            timm = f"blocks.{stage}.{repeat}"
            # A block that does not expand has no first convolution, and timm counts from 1.
            missing = int(expansion == 1)
            pointwise = "pw" if missing else "pwl"
            parts = [
                ("expand_conv", "_expand_conv", "conv_pw", "expand_bn"),
                ("dwconv", "_depthwise_conv", "conv_dw", "bn"),
                ("project_conv", "_project_conv", f"conv_{pointwise}", "project_bn"),
            ]
            for place, (conv, theirs, timms, norm) in enumerate(parts):
                if place >= missing:
                    norms = f"{original}._bn{place}", f"{timm}.bn{place + 1 - missing}"
                    names[f"{ours}_{conv}"] = f"{original}.{theirs}", f"{timm}.{timms}"
                    names[f"{ours}_{norm}"] = norms
            number += 1
    return names


def _block(
    x: Any,
    filters: int,
    size: int,
    expansion: int,
    strides: int,
    rate: float,
    name: str,
    *,
    lite: bool,
) -> Any:
    before, channels = x, x.shape[-1]
    if expansion > 1:
        x = _conv(x, channels * expansion, f"{name}_expand_conv")
        x = _activated(batch_norm(x, f"{name}_expand_bn", 1e-3), lite=lite)
    # On CPUs a depthwise convolution's gradients take three to seven times as long in bfloat16.
    dtype = None if devices.gpus() else "float32"
    x = keras.layers.DepthwiseConv2D(
        size, strides, "same", use_bias=False, depthwise_initializer=_fan_out(), dtype=dtype,
        name=f"{name}_dwconv",
    )(x)  # fmt: skip
    x = _activated(batch_norm(x, f"{name}_bn", 1e-3), lite=lite)
    if not lite:
        x = _excited(x, max(1, channels // 4), name)
    x = batch_norm(_conv(x, filters, f"{name}_project_conv"), f"{name}_project_bn", 1e-3)
    if strides > 1 or channels != filters:
        return x
    if rate:
        x = keras.layers.Dropout(rate, noise_shape=(None, 1, 1, 1))(x)
    return keras.layers.Add()([x, before])


def _excited(x: Any, units: int, name: str) -> Any:
    """Scale channels by what a small network makes of their means."""
    squeezed = keras.layers.GlobalAveragePooling2D(keepdims=True)(x)  # (b, 1, 1, d)
    for n, activation, part in ((units, "silu", "reduce"), (x.shape[-1], "sigmoid", "expand")):
        squeezed = keras.layers.Conv2D(
            n, 1, activation=activation, kernel_initializer=_fan_out(), name=f"{name}_se_{part}"
        )(squeezed)
    return keras.layers.Multiply()([x, squeezed])


def _activated(x: Any, *, lite: bool) -> Any:
    if lite:
        return keras.layers.Activation("relu6")(x)
    # This is "silu". TensorFlow's own computes the sigmoid again for the gradient, which takes more
    # than twice as many passes over memory, a tenth of a training step. In bfloat16 TensorFlow's
    # sigmoid takes four times as long as in float32.
    share = keras.layers.Activation("sigmoid", dtype="float32")(x)
    return keras.layers.Multiply()([x, share])


def _conv(x: Any, filters: int, name: str, size: int = 1, strides: int = 1) -> Any:
    return keras.layers.Conv2D(
        filters, size, strides, "same", use_bias=False, kernel_initializer=_fan_out(), name=name
    )(x)


def _fan_out() -> keras.Initializer:
    return keras.initializers.VarianceScaling(2.0, "fan_out", "truncated_normal")


def channels(wanted: float) -> int:
    """Round to a multiple of 8, not down by more than a tenth."""
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * wanted else rounded
