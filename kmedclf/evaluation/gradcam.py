"""Which part of an image speaks for a class: Grad-CAM."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from kmedclf.evaluation.pictures import picture
from kmedclf.evaluation.style import axes, shorten, styled


def gradcam_map(model: Any, image: Any, *, index: int | None = None) -> tuple[np.ndarray, int]:
    """Compute the Grad-CAM map of one image.

    Parameters
    ----------
    model : fitted estimator or keras.Model
        A network with convolutions.
    image : array-like of shape (h, w), (h, w, c) or (d,)
        As the estimator was fitted on.
    index : int, optional
        Position of the class to explain; the predicted one by default.

    Returns
    -------
    map : ndarray of shape (h', w'), float
        In [0, 1], as large as the last features that are still an image.
    index : int
        The class.

    Raises
    ------
    ValueError
        If the network has no convolutions.

    References
    ----------
    R. Selvaraju, M. Cogswell, A. Das, R. Vedantam, D. Parikh, D. Batra, "Grad-CAM: visual
    explanations from deep networks via gradient-based localization", ICCV 2017.
    """
    import keras
    import tensorflow as tf

    name = type(model).__name__
    model = getattr(model, "model_", model)
    features, scores = _features(model, name), _before_softmax(model)
    both = keras.Model(model.inputs, [features.output, scores])
    batch = tf.convert_to_tensor(np.reshape(image, (1, *model.input_shape[1:])), tf.float32)
    with tf.GradientTape() as tape:
        maps, values = both(batch, training=False)  # (1, h', w', f), (1, k)
        index = int(tf.argmax(values[0])) if index is None else index
        score = values[0, index]
    slope = tf.cast(tape.gradient(score, maps), tf.float32)
    weights = tf.reduce_mean(slope, axis=(1, 2), keepdims=True)
    found = tf.nn.relu(tf.reduce_sum(weights * tf.cast(maps, tf.float32), axis=-1))[0].numpy()
    return found / max(float(found.max()), 1e-12), index


@styled
def gradcam(
    model: Any,
    image: Any,
    *,
    index: int | None = None,
    name: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Lay the Grad-CAM map over an image.

    Parameters
    ----------
    model : fitted estimator or keras.Model
        A network with convolutions.
    image : array-like of shape (h, w), (h, w, c) or (d,)
        As the estimator was fitted on.
    index : int, optional
        Position of the class to explain; the predicted one by default.
    name : str, optional
        What to call the class; its label by default.
    ax : Axes, optional
        Where to draw; a new figure by default.

    Returns
    -------
    Axes
        The image; what speaks for the class is bright.
    """
    heat, index = gradcam_map(model, image, index=index)
    ax = axes(ax, (2.4, 2.6))
    shape = getattr(model, "image_shape_", None)
    shown = picture(image, shape)
    h, w = shown.shape[:2]
    extent = (-0.5, w - 0.5, h - 0.5, -0.5)
    grey = shown.mean(axis=2)
    ax.imshow(grey, cmap="gray", vmin=0, vmax=255, extent=extent)
    look: dict[str, Any] = {"vmin": 0, "vmax": 1, "interpolation": "bilinear"}
    ax.imshow(heat, cmap="inferno", alpha=0.55, extent=extent, **look)
    ax.axis("off")
    classes = getattr(model, "classes_", None)
    label = str(index if classes is None else classes[index]) if name is None else name
    ax.set_title(f"for {shorten(label)}", fontsize=8.5, loc="center")
    return ax


def _features(model: Any, name: str) -> Any:
    """Find the last layer behind a convolution whose output is still an image."""
    convolved, last = False, None
    for layer in model.layers:
        convolved = convolved or "Conv" in type(layer).__name__
        shape: tuple[Any, ...] = getattr(layer.output, "shape", ())
        if convolved and len(shape) == 4 and shape[1] * shape[2] > 1:
            last = layer
    if last is None:
        raise ValueError(
            "The 'model' parameter of Grad-CAM must be a network with convolutions. "
            f"Got {name} instead."
        )
    return last


def _before_softmax(model: Any) -> Any:
    """Give the logits: the input of a last softmax layer, or the model's output."""
    last = model.layers[-1]
    return last.input if type(last).__name__ == "Softmax" else model.output
