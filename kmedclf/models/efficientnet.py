"""EfficientNet, from B0 to B2."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil
from numbers import Real
from typing import Annotated, Any, Literal, TypeAlias

import keras
from sklearn.utils._param_validation import Interval

from kmedclf.models._blocks import Stem, batch_norm, keeps_pixels
from kmedclf.models._pretrained import PretrainedClassifier
from kmedclf.models._weights import Published

# The largest published networks are 5.3 times as deep as B0; at 1e10 nobody waits for the layers.
Scale: TypeAlias = Annotated[float, Interval(Real, 0, 10, closed="right")]

# Width, depth, and the md5 of the published weights.
VARIANTS = {
    "b0": (1.0, 1.0, "50bc09e76180e00e4465e1a485ddc09d"),
    "b1": (1.0, 1.1, "74c4e6b3e1f6a1eea24c589628592432"),
    "b2": (1.1, 1.2, "111f8e2ac8aa800a7a99e3239f7bfb39"),
}
# Side of the kernels, repeats, filters, expansion and stride of each stage of B0.
STAGES = [(3, 1, 16, 1, 1), (3, 2, 24, 6, 2), (5, 2, 40, 6, 2), (3, 3, 80, 6, 2),
          (5, 3, 112, 6, 1), (5, 4, 192, 6, 2), (3, 1, 320, 6, 1)]  # fmt: skip
STOCHASTIC_DEPTH = 0.2  # of the last block; those before it in proportion


class EfficientNetClassifier(PretrainedClassifier):
    """EfficientNet: inverted bottlenecks, their width and depth scaled as one.

    It is the network of keras.applications, whose ImageNet weights it takes, and has the published
    5,288,548 (B0), 7,794,184 (B1) or 9,109,994 (B2) parameters for 1000 classes.

    Parameters
    ----------
    variant : {"b0", "b1", "b2"}, default="b0"
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
    ICML 2019.

    Examples
    --------
    >>> from kmedclf import EfficientNetClassifier
    >>> from kmedclf.datasets import make_blood_cells
    >>> X, y = make_blood_cells(64, random_state=0)  # synthetic
    >>> small = EfficientNetClassifier(width=0.1, depth=0.1, epochs=1, random_state=0)
    >>> small.fit(X, y).predict(X).shape
    (64,)
    """

    variant: Literal["b0", "b1", "b2"] = "b0"
    width: Scale = 1.0
    depth: Scale = 1.0
    stem: Stem = "auto"

    def backbone(self, x: Any) -> Iterator[Any]:
        """Yield (b, h', w', d) behind the stem and every inverted bottleneck."""
        small = keeps_pixels(x, self.stem)
        width, depth, _ = VARIANTS[self.variant]
        width, depth = width * self.width, depth * self.depth
        x = _conv(x, _channels(32 * width), "stem_conv", 3, 1 if small else 2)
        x = keras.layers.Activation("silu")(batch_norm(x, "stem_bn", 1e-3))
        yield x
        total = sum(ceil(depth * repeats) for _, repeats, *_ in STAGES)
        block = 0
        for stage, (size, repeats, filters, expansion, strides) in enumerate(STAGES, 1):
            for repeat in range(ceil(depth * repeats)):
                step = 1 if repeat or (small and stage == 2) else strides
                name = f"block{stage}{chr(97 + repeat)}"
                rate = STOCHASTIC_DEPTH * block / total
                x = _block(x, _channels(filters * width), size, expansion, step, rate, name)
                block += 1
                if block == total:
                    x = _conv(x, _channels(1280 * width), "top_conv")
                    x = keras.layers.Activation("silu")(batch_norm(x, "top_bn", 1e-3))
                yield x

    def published(self) -> Published | None:
        """Say which file "imagenet" means, if there is one for these parameters."""
        if (self.width, self.depth) != (1, 1):
            return None
        name = f"efficientnet{self.variant}_notop.h5"
        url = f"https://storage.googleapis.com/keras-applications/{name}"
        return Published(name, url, VARIANTS[self.variant][2])


def _block(
    x: Any, filters: int, size: int, expansion: int, strides: int, rate: float, name: str
) -> Any:
    before, channels = x, x.shape[-1]
    if expansion > 1:
        x = _conv(x, channels * expansion, f"{name}_expand_conv")
        x = keras.layers.Activation("silu")(batch_norm(x, f"{name}_expand_bn", 1e-3))
    x = keras.layers.DepthwiseConv2D(
        size, strides, "same", use_bias=False, depthwise_initializer=_fan_out(),
        name=f"{name}_dwconv",
    )(x)  # fmt: skip
    x = keras.layers.Activation("silu")(batch_norm(x, f"{name}_bn", 1e-3))
    squeezed = keras.layers.GlobalAveragePooling2D(keepdims=True)(x)  # (b, 1, 1, d)
    for units, activation, part in (
        (max(1, channels // 4), "silu", "reduce"), (x.shape[-1], "sigmoid", "expand"),
    ):  # fmt: skip
        squeezed = keras.layers.Conv2D(
            units, 1, activation=activation, kernel_initializer=_fan_out(), name=f"{name}_se_{part}"
        )(squeezed)
    x = keras.layers.Multiply()([x, squeezed])
    x = batch_norm(_conv(x, filters, f"{name}_project_conv"), f"{name}_project_bn", 1e-3)
    if strides > 1 or channels != filters:
        return x
    if rate:
        x = keras.layers.Dropout(rate, noise_shape=(None, 1, 1, 1))(x)
    return keras.layers.Add()([x, before])


def _conv(x: Any, filters: int, name: str, size: int = 1, strides: int = 1) -> Any:
    return keras.layers.Conv2D(
        filters, size, strides, "same", use_bias=False, kernel_initializer=_fan_out(), name=name
    )(x)


def _fan_out() -> keras.Initializer:
    return keras.initializers.VarianceScaling(2.0, "fan_out", "truncated_normal")


def _channels(wanted: float) -> int:
    """Round to a multiple of 8, not down by more than a tenth."""
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * wanted else rounded
