"""Building blocks of Keras layers that several architectures share."""

from __future__ import annotations

import os
from typing import Any, Literal, TypeAlias

import keras

from kmedclf.models._layers import BatchNormalization
from kmedclf.utils.annotated import check, parameter_constraints

Stem: TypeAlias = Literal["auto", "small", "imagenet"]


def window(x: Any, size: int, parameter: str, owner: object) -> tuple[int, int]:
    """Return the size of a kernel or pooling window, and check that it fits the image.

    It is ``(size, size)``, but clipped to (d, 1) for a flat vector (d, 1, 1). ``parameter`` and
    ``owner`` are for the message.
    """
    height, width = x.shape[1], x.shape[2]
    if keras.utils.get_source_inputs(x)[0].shape[2] == 1:  # flat vector
        return min(size, height), 1
    if size > min(height, width):
        raise ValueError(
            f"The {parameter!r} parameter of {type(owner).__name__} must be at most "
            f"{min(height, width)}, as many pixels are left of the image there. Got {size} instead."
        )
    return size, size


def conv_bn(x: Any, filters: int, size: tuple[int, int], strides: int = 1) -> Any:
    """Convolution (*same* padding, with bias) and batch normalisation."""
    x = keras.layers.Conv2D(filters, size, strides=strides, padding="same")(x)
    # With Keras' momentum of 0.99 the moving statistics lag hundreds of steps behind the weights,
    # which for a thousand images is most of the training.
    return BatchNormalization(momentum=0.9)(x)


def normalized(x: Any) -> Any:
    """Standardise each channel: by batch statistics in training, else by moving ones."""
    layer = BatchNormalization(momentum=0.9, center=False, scale=False, name="normalize")
    return layer(x)


def batch_norm(x: Any, name: str, epsilon: float = 1e-5) -> Any:
    """Batch normalisation with the momentum of `conv_bn`, for the same reason."""
    return BatchNormalization(momentum=0.9, epsilon=epsilon, name=name)(x)


def keeps_pixels(x: Any, stem: str) -> bool:
    """Check whether the stem should not downsample: "small", or "auto" below 96 px."""
    return stem == "small" or (stem == "auto" and min(x.shape[1:3]) < 96)


def stem_kernel(published: int, estimator: Any, *, small: bool) -> int:
    """Return the stem's kernel size: 3 if it does not downsample, else the published one.

    With published weights the kernels stay, and only the strides of the stem are removed.
    """
    weights = estimator.weights
    foreign = weights is not None and not os.fspath(weights).endswith(".kmedclf")
    return published if foreign or not small else 3


def padded(x: Any, pixels: int) -> Any:
    """Pad images by zeros on all four sides."""
    return keras.layers.ZeroPadding2D(pixels)(x)


def every_second(x: Any) -> Any:
    """Keep every second row and column, as input of a 1 × 1 convolution."""
    # With a 1 × 1 convolution of stride 2, the gradient for a batch of one image corrupts memory
    # on CPUs (TensorFlow 2.21 with oneDNN). Pooling gives the same numbers as slicing, but its
    # gradient uses all cores.
    return keras.layers.AveragePooling2D(1, strides=2)(x)


def per_layer(estimator: Any, name: str, n: int | None = None) -> tuple[Any, ...]:
    """Return a parameter's value for each of ``n`` layers; a scalar is repeated.

    Without ``n``, the length of the tuple is the number of layers. Entries are checked by the
    parameter's constraints.
    """
    value, cls = getattr(estimator, name), type(estimator)
    if not isinstance(value, list | tuple):
        return (value,) * (n or 1)
    if len(value) != (n or max(1, len(value))):
        raise ValueError(
            f"The {name!r} parameter of {cls.__name__} must have one entry for each of the "
            f"{n or 'layers, at least one'}{' layers' if n else ''}. Got {value!r} instead."
        )
    allowed = parameter_constraints(cls)[name]
    one = {name: [kind for kind in allowed if kind not in (tuple, list, None)]}
    for entry in value:
        check(one, {name: entry}, cls.__name__)
    return tuple(value)
