"""Grad-CAM: the parts of an image that raise the score of a class."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from kmedclf.evaluation.plots.images import picture
from kmedclf.evaluation.plots.style import axes, panel, shorten, styled, subplots
from kmedclf.evaluation.report import MultilabelReport, Report
from kmedclf.inputs.image_files import read_images


def gradcam_map(model: Any, image: Any, *, index: int | None = None) -> tuple[np.ndarray, int]:
    """Compute the Grad-CAM map of one image.

    Parameters
    ----------
    model : fitted estimator or keras.Model
        A network with convolutions.
    image : array-like of shape (h, w), (h, w, c) or (d,), or path
        An image of the kind and shape that fit got.
    index : int, optional
        Position of the class to explain; the predicted one by default.

    Returns
    -------
    map : ndarray of shape (h', w'), float
        Values in [0, 1], at the resolution of the last feature maps.
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
    maps, classes = gradcam_maps(model, [image], index=None if index is None else [index])
    return maps[0], int(classes[0])


def gradcam_maps(
    model: Any, X: Any, *, index: Sequence[int] | np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Compute the Grad-CAM maps (m, h', w') of m images in one batch, and their classes (m,).

    ``index`` holds the class to explain of each image; the predicted ones by default.
    """
    return GradCam(model).maps(X, index=index)


class GradCam:
    """The Grad-CAM of one network, which is built once for any number of images."""

    def __init__(self, model: Any) -> None:
        # Here, since importing the figures must not load TensorFlow
        import keras

        network = getattr(model, "network_", model)
        features = _features(network, type(model).__name__)
        self._model = model
        self._both = keras.Model(network.inputs, [features.output, _logits(network)])

    def maps(
        self, X: Any, *, index: Sequence[int] | np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Compute maps and classes; see `gradcam_maps`."""
        import tensorflow as tf

        pixels = np.reshape(_pixels(self._model, X), (-1, *self._both.input_shape[1:]))
        # The score is the logit, as in the paper: probabilities near 1 have gradients near 0
        with tf.GradientTape() as tape:
            # (m, h', w', f), (m, k)
            maps, values = self._both(tf.convert_to_tensor(pixels, tf.float32), training=False)
            chosen = np.argmax(values, axis=1) if index is None else np.asarray(index, np.int64)
            score = tf.gather(values, chosen, axis=1, batch_dims=1)  # (m,)
        # float32, since mixed precision computes features in half precision
        slope = tf.cast(tape.gradient(score, maps), tf.float32)
        weights = tf.reduce_mean(slope, axis=(1, 2), keepdims=True)
        heat = tf.nn.relu(tf.reduce_sum(weights * tf.cast(maps, tf.float32), axis=-1)).numpy()
        return heat / np.maximum(heat.max(axis=(1, 2), keepdims=True), 1e-12), chosen


@styled
def gradcam(
    model: Any,
    image: Any,
    *,
    index: int | None = None,
    name: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw an image with its Grad-CAM map on top.

    Parameters
    ----------
    model : fitted estimator or keras.Model
        A network with convolutions.
    image : array-like of shape (h, w), (h, w, c) or (d,)
        An image of the kind and shape that fit got.
    index : int, optional
        Position of the class to explain; the predicted one by default.
    name : str, optional
        Printed name of the class; its label by default.
    ax : Axes, optional
        Where to draw; a new figure by default.

    Returns
    -------
    Axes
        The image; the parts that raise the score of the class are bright.

    Raises
    ------
    ValueError
        If the network has no convolutions.
    """
    heat, index = gradcam_map(model, image, index=index)
    ax = axes(ax, (2.4, 2.6))
    _overlay(ax, picture(image, getattr(model, "image_shape_", None)), heat)
    classes = getattr(model, "classes_", None)
    label = str(index if classes is None else classes[index]) if name is None else name
    ax.set_title(f"for {shorten(label)}", fontsize=8.5, loc="center")
    return ax


@styled
def explanations(
    model: Any,
    report: Report,
    X: Any,
    *,
    indices: Sequence[int],
    fig: Figure | SubFigure | None = None,
) -> Figure | SubFigure:
    """Draw images with the Grad-CAM maps of their predicted and their true classes.

    Parameters
    ----------
    model : fitted estimator
        A network with convolutions.
    report : Report
        Its report on X.
    X : sequence of n images
        Images in the order of the report.
    indices : sequence of int
        The images to show, at least one.
    fig : Figure or SubFigure, optional
        Where to draw; a new figure by default.

    Returns
    -------
    Figure or SubFigure
        The panel: one column per image. The row of the true classes is left out if all
        predictions are right.

    Raises
    ------
    ValueError
        If the network has no convolutions.
    """
    chosen = [X[i] for i in indices]
    rows = {"predicted": report.pred_index[indices], "true": report.true_index[indices]}
    if (rows["predicted"] == rows["true"]).all():
        del rows["true"]
    fig = panel(fig, (1.5 * len(indices), 1.65 * (1 + len(rows))))
    grid = np.reshape(np.array(subplots(fig, 1 + len(rows), len(indices))), (-1, len(indices)))
    pictures = [picture(one, model.image_shape_) for one in _arrays(chosen, model.image_shape_)]
    for ax, shown, i in zip(grid[0], pictures, indices, strict=True):
        ax.imshow(shown)
        ax.set_title(f"image {i}", fontsize=8, loc="center")
    for line, (word, classes) in zip(grid[1:], rows.items(), strict=True):
        maps, _ = gradcam_maps(model, chosen, index=classes)
        for ax, shown, heat, k in zip(line, pictures, maps, classes, strict=True):
            _overlay(ax, shown, heat)
            name = shorten(report.class_names[k], 18)
            ax.set_title(f"{word}:\n{name}", fontsize=7.5, loc="center")
    for ax in grid.ravel():
        ax.axis("off")
    return fig


@styled
def explained_labels(
    model: Any,
    report: MultilabelReport,
    X: Any,
    *,
    labels: Sequence[int],
    indices: Sequence[int],
    fig: Figure | SubFigure | None = None,
) -> Figure | SubFigure:
    """Draw one image per label, each with the Grad-CAM map of that label.

    ``indices`` are positions in X of the images, in the order of ``labels``.
    """
    images = [X[i] for i in indices]
    maps, _ = gradcam_maps(model, images, index=labels)
    chosen = _arrays(images, model.image_shape_)
    fig = panel(fig, (1.7 * len(labels), 3.5))
    grid = subplots(fig, 2, len(labels))
    columns = zip(grid, grid[len(labels) :], chosen, maps, labels, indices, strict=False)
    for top, bottom, image, heat, label, i in columns:
        shown = picture(image, model.image_shape_)
        top.imshow(shown)
        has = "has it" if report.truth(label)[i] else "has it not"
        top.set_title(f"image {i}\n{has}", fontsize=7.5, loc="center")
        _overlay(bottom, shown, heat)
        name = shorten(report.class_names[label], 18)
        bottom.set_title(f"{name}\n{report.proba[i, label]:.3f}", fontsize=7.5, loc="center")
    for ax in grid:
        ax.axis("off")
    return fig


def has_convolutions(model: Any) -> bool:
    """Check whether Grad-CAM can explain a fitted estimator or a keras.Model."""
    network = getattr(model, "network_", model)
    if not hasattr(network, "layers"):  # such as an ensemble of several networks
        return False
    try:
        _features(network, type(model).__name__)
    except ValueError:
        return False
    return True


def _overlay(ax: Axes, shown: np.ndarray, heat: np.ndarray) -> None:
    """Draw a map over an image (h, w, 3) in grey, so that only the map has colours."""
    h, w = shown.shape[:2]
    extent = (-0.5, w - 0.5, h - 0.5, -0.5)
    ax.imshow(shown.mean(axis=2), cmap="gray", vmin=0, vmax=255, extent=extent)
    look: dict[str, Any] = {"vmin": 0, "vmax": 1, "interpolation": "bilinear"}
    ax.imshow(heat, cmap="inferno", alpha=0.55, extent=extent, **look)
    ax.axis("off")


def _pixels(model: Any, X: Any) -> Any:
    """Preprocess images as the estimator does for its predictions."""
    inside = getattr(model, "estimator", model)  # unwrap a CalibratedClassifier
    if not hasattr(inside, "_scale"):
        return X

    images = inside._check_X(X, reset=False)
    with images.explained():
        return images.rows(np.arange(len(images.array)))


def _arrays(images: list[Any], shape: tuple[int, int, int]) -> np.ndarray:
    """Return images as arrays; files are read at the size of the network."""
    files = isinstance(images[0], str | os.PathLike)
    return read_images(images, shape) if files else np.stack(images)


def _features(model: Any, name: str) -> Any:
    """Return the last layer after a convolution whose output still has two spatial dimensions."""
    # Maps of one pixel, as after a global pooling, have no places to explain
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


def _logits(model: Any) -> Any:
    """Return the logits: the input of a last softmax or sigmoid layer, or else the output."""
    last = model.layers[-1]
    activation = getattr(getattr(last, "activation", None), "__name__", "")
    applied = type(last).__name__ == "Activation" and activation in ("softmax", "sigmoid")
    return last.input if applied or type(last).__name__ == "Softmax" else model.outputs[0]
