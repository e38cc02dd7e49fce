"""What several architectures need of Keras layers."""

from __future__ import annotations

from typing import Any

import keras


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
    if width == 1:  # a flat vector
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
    return keras.layers.BatchNormalization(momentum=0.9)(x)
