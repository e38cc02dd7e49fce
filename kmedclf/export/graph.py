"""One Keras model of all that an estimator computes, from pixels to probabilities and labels."""

from __future__ import annotations

import kmedclf.utils.tensorflow_loaded  # noqa: F401

from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kmedclf.augmentation import test_time

OUTPUTS = ("probabilities", "label")
_package = keras.saving.register_keras_serializable(package="kmedclf")


@dataclass(frozen=True)
class Graph:
    """Images and probabilities of a Keras model that is being connected."""

    images: Any  # KerasTensor (b, h, w, c), in the dtype of the pixels of fit
    largest: float  # of the pixels of fit, for images to try the model on
    exact: bool  # whether fit and predict compute in float32, as the model does
    probabilities: Any = None  # KerasTensor (b, k), float32

    def scored(self, model: keras.Model, views: tuple[str, ...], activation: str) -> Graph:
        """Apply a network, from float32 images to logits, to the images or all their views."""
        x = keras.ops.cast(self.images, "float32")
        if views:
            x = Views(views)(x)
        # Members of an ensemble may be of one class, and need names of their own.
        logits = keras.Model(model.inputs, model.outputs[0])(x)
        mean = MeanOfViews(test_time.count(views), activation)
        return replace(self, probabilities=mean(logits))

    @staticmethod
    def mean(
        members: list[Graph], weights: list[float], columns: list[list[int]], n_classes: int
    ) -> Graph:
        """Average members of the same images; ``columns`` are the classes each has seen."""
        mean = MeanOfMembers(weights, columns, n_classes)
        probabilities = mean([one.probabilities for one in members])
        exact = all(one.exact for one in members)
        return replace(members[0], probabilities=probabilities, exact=exact)

    def calibrated(self, temperature: float, priors: list[float] | None) -> Graph:
        """Correct the probabilities."""
        layer = Calibration(temperature, priors)
        return replace(self, probabilities=layer(self.probabilities))


def connect(estimator: Any, images: Any = None) -> Graph:
    """Connect an estimator to images, by default to a new input of its own."""
    if not hasattr(estimator, "connect"):
        raise TypeError(
            "export must get a network of kmedclf, or an EnsembleClassifier or "
            f"CalibratedClassifier of such networks. Got {type(estimator).__name__}; export the "
            "network in it, and apply its other steps before."
        )
    graph: Graph = estimator.connect(images)
    return graph


def probabilities_model(estimator: Any) -> keras.Model:
    """Make the model from float32 images to probabilities (b, k)."""
    images = keras.Input(estimator.image_shape_, dtype="float32", name="images")
    return keras.Model(images, connect(estimator, images).probabilities)


def whole_model(graph: Graph, label: keras.layers.Layer) -> keras.Model:
    """Make the model from images to a dict of `OUTPUTS`."""
    outputs = graph.probabilities, label(graph.probabilities)
    return keras.Model(graph.images, dict(zip(OUTPUTS, outputs, strict=True)), name="kmedclf")


class _Plain(keras.layers.Layer):
    """Base of layers in float32 whose constructor takes what `get_config` returns."""

    def __init__(self, settings: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "trainable": False, "dtype": "float32"})
        self.settings = settings

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {**super().get_config(), **self.settings}


@_package
class Views(_Plain):
    """Put all views of a batch (b, h, w, c) behind each other: (v b, h, w, c)."""

    def __init__(self, names: tuple[str, ...], **kwargs: Any) -> None:
        super().__init__({"names": list(names)}, **kwargs)
        self.views = test_time.make(names)

    def call(self, images: Any) -> Any:
        """Make the views."""
        return tf.concat([view(images) for view in self.views], axis=0)

    def compute_output_shape(self, shape: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return a number of rows that is not known."""
        return None, *shape[1:]


@_package
class MeanOfViews(_Plain):
    """Average the probabilities of views: logits (v b, k) to (b, k)."""

    def __init__(self, n_views: int, activation: str, **kwargs: Any) -> None:
        super().__init__({"n_views": n_views, "activation": activation}, **kwargs)
        self.n_views, self.activation = n_views, keras.activations.get(activation)

    def call(self, logits: Any) -> Any:
        """Apply softmax or sigmoid, and average."""
        shares = self.activation(logits)
        if self.n_views == 1:
            return shares
        return tf.reduce_mean(tf.reshape(shares, [self.n_views, -1, shares.shape[1]]), axis=0)

    def compute_output_shape(self, shape: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return the shape of the mean."""
        return None, shape[1]


@_package
class MeanOfMembers(_Plain):
    """Average the probabilities of an ensemble's members, each over the classes it has seen."""

    def __init__(
        self, weights: list[float], columns: list[list[int]], n_classes: int, **kwargs: Any
    ) -> None:
        settings = {"weights": weights, "columns": columns, "n_classes": n_classes}
        super().__init__(settings, **kwargs)
        # As a product with a matrix, every format can put columns in their places.
        self.places = [
            weight * np.eye(n_classes, dtype=np.float32)[places]
            for weight, places in zip(weights, columns, strict=True)
        ]

    def call(self, shares: Any) -> Any:
        """Map the members' (b, k') to (b, k)."""
        return tf.add_n([one @ places for one, places in zip(shares, self.places, strict=True)])

    def compute_output_shape(self, shapes: list[tuple[Any, ...]]) -> tuple[Any, ...]:
        """Return the shape of the mean."""
        return shapes[0][0], self.settings["n_classes"]


@_package
class Calibration(_Plain):
    """Correct probabilities (b, k): logits by a temperature, shares by new class priors."""

    def __init__(self, temperature: float, priors: list[float] | None, **kwargs: Any) -> None:
        super().__init__({"temperature": temperature, "priors": priors}, **kwargs)

    def call(self, shares: Any) -> Any:
        """Apply both corrections."""
        least = np.finfo(np.float32).tiny
        # As in `kmedclf.calibration.scaled`, which takes logarithms in float64.
        zero = float(np.log(np.finfo(np.float64).tiny))
        logits = tf.where(shares >= least, tf.math.log(tf.maximum(shares, least)), zero)
        shares = tf.nn.softmax(logits / self.settings["temperature"])
        if self.settings["priors"] is None:
            return shares
        shares = shares * tf.constant(self.settings["priors"], tf.float32)
        return shares / tf.reduce_sum(shares, axis=1, keepdims=True)

    def compute_output_shape(self, shape: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return the same shape."""
        return shape


@_package
class Label(_Plain):
    """Decide: the position of the predicted class (b,), or zeros and ones (b, k), int64.

    ``class_names`` are for whoever reads the file.
    """

    def __init__(
        self,
        class_names: list[str],
        multilabel: bool = False,
        threshold: float | None = None,
        positive: int | None = None,
        **kwargs: Any,
    ) -> None:
        settings = {"class_names": class_names, "multilabel": multilabel}
        super().__init__({**settings, "threshold": threshold, "positive": positive}, **kwargs)

    def call(self, shares: Any) -> Any:
        """Map probabilities (b, k) to labels."""
        threshold, positive = self.settings["threshold"], self.settings["positive"]
        if self.settings["multilabel"]:
            return tf.cast(shares > 0.5, tf.int64)
        if threshold is None:
            return tf.argmax(shares, axis=1)
        reached = tf.cast(shares[:, positive] >= threshold, tf.int64)
        return reached if positive else 1 - reached

    def compute_output_spec(self, shares: Any) -> Any:
        """Return shape and dtype."""
        shape = shares.shape if self.settings["multilabel"] else shares.shape[:1]
        return keras.KerasTensor(shape, dtype="int64")
