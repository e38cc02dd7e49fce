"""What several architectures need of Keras layers."""

from __future__ import annotations

import os
from typing import Any, Literal, TypeAlias

import keras
from sklearn.utils._param_validation import validate_parameter_constraints

from kmedclf.models._layers import BatchNormalization
from kmedclf.utils.annotated import parameter_constraints

Stem: TypeAlias = Literal["auto", "small", "imagenet"]


def window(x: Any, size: int, parameter: str, owner: object) -> tuple[int, int]:
    """Check that a kernel or pooling window of ``size`` pixels fits the image.

    Parameters
    ----------
    x : KerasTensor of shape (b, h, w, c)
        The image the window slides over.
    size : int
        Wanted side of the window, in pixels.
    parameter : str
        Name of the parameter it comes from.
    owner : object
        The estimator, for the message.

    Returns
    -------
    tuple of int
        (height, width) of the window: ``(size, size)``, or as much of it as there is where the
        image is a flat vector (d, 1, 1).

    Raises
    ------
    ValueError
        If an image is smaller than the window.
    """
    height, width = x.shape[1], x.shape[2]
    if keras.utils.get_source_inputs(x)[0].shape[2] == 1:  # a flat vector
        return min(size, height), 1
    if size > min(height, width):
        raise ValueError(
            f"The {parameter!r} parameter of {type(owner).__name__} must be at most the "
            f"{min(height, width)} pixels that are left of the image there. Got {size} instead."
        )
    return size, size


def conv_bn(x: Any, filters: int, size: tuple[int, int], strides: int = 1) -> Any:
    """Convolve (*same* padding, with bias) and normalise the batch.

    The moving statistics have momentum 0.9: at Keras' default of 0.99 they lag hundreds of steps
    behind the weights, and with a thousand images that is most of a training.
    """
    x = keras.layers.Conv2D(filters, size, strides=strides, padding="same")(x)
    return BatchNormalization(momentum=0.9)(x)


def normalized(x: Any) -> Any:
    """Standardise each channel of images: by the batch in training, by moving statistics in use."""
    layer = BatchNormalization(momentum=0.9, center=False, scale=False, name="normalize")
    return layer(x)


def batch_norm(x: Any, name: str, epsilon: float = 1e-5) -> Any:
    """Normalise the batch; the moving statistics have the momentum of `conv_bn`, for its reason."""
    return BatchNormalization(momentum=0.9, epsilon=epsilon, name=name)(x)


def keeps_pixels(x: Any, stem: str) -> bool:
    """Say whether a network's stem should keep the size of images: below 96 px, or on demand.

    Parameters
    ----------
    x : KerasTensor of shape (b, h, w, c)
        The images.
    stem : {"auto", "small", "imagenet"}
        The parameter of that name.
    """
    return stem == "small" or (stem == "auto" and min(x.shape[1:3]) < 96)


def stem_kernel(published: int, estimator: Any, *, small: bool) -> int:
    """Choose the side of the stem's kernels: 3 where it keeps pixels, else the published one.

    Published weights keep their kernels: then only the strides of the stem are taken away.
    """
    weights = estimator.weights
    foreign = weights is not None and not os.fspath(weights).endswith(".kmedclf")
    return published if foreign or not small else 3


def padded(x: Any, pixels: int) -> Any:
    """Pad images by zeros on all four sides."""
    return keras.layers.ZeroPadding2D(pixels)(x)


def every_second(x: Any) -> Any:
    """Keep every second row and column of images, for a 1 × 1 convolution after it.

    In one step, a 1 × 1 convolution of stride 2, the gradient for a batch of one image corrupts
    memory on CPUs (TensorFlow 2.21 with oneDNN). Pooling by one pixel gives a slice's numbers, and
    unlike a slice's its gradient runs on all cores.
    """
    return keras.layers.AveragePooling2D(1, strides=2)(x)


def per_layer(estimator: Any, name: str, n: int | None = None) -> tuple[Any, ...]:
    """Give a parameter's value for each layer, where it may be one for all or a tuple.

    Parameters
    ----------
    estimator : ImageClassifier
        Whose parameter.
    name : str
        The parameter's name.
    n : int, optional
        Number of layers; without it the parameter itself says how many there are.

    Raises
    ------
    ValueError
        If a tuple has another number of entries, or an entry is nothing the parameter could be.
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
        validate_parameter_constraints(one, {name: entry}, caller_name=cls.__name__)
    return tuple(value)
