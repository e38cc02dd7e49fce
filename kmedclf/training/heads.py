"""The head of a network: multiclass or multilabel.

A head implements all that differs between the two: the form of y, the loss, class weights,
accuracy, and the conversion of logits to probabilities and predictions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from numbers import Real
from typing import Any, ClassVar

import keras
import numpy as np
import tensorflow as tf
from scipy.special import expit, softmax

from kmedclf.inputs.checks import listed, positions
from kmedclf.parameters import MOST


def given_class_weights(
    class_weight: str | dict[Any, float] | None, labels: list[Any], name: str
) -> np.ndarray:
    """Convert a dict of class weights to an array (k,); ones if there is no dict."""
    weights = np.ones(len(labels))
    for label, value in (class_weight if isinstance(class_weight, dict) else {}).items():
        if label not in labels:
            raise ValueError(
                f"The 'class_weight' parameter of {name} must name only labels of y, "
                f"{listed(labels)}. Got the label {label!r} instead."
            )
        if not isinstance(value, Real) or not 0 <= value <= MOST:
            raise ValueError(
                f"The 'class_weight' parameter of {name} must hold weights of at least 0 and at "
                f"most {MOST:g}. Got {value!r} for {label!r} instead."
            )
        weights[labels.index(label)] = value
    if not np.any(weights.astype(np.float32)):
        raise ValueError(
            f"The 'class_weight' parameter of {name} must give some class a weight above 0. Got "
            f"{class_weight!r} instead."
        )
    return weights


def computed_class_weights(class_weight: str, count: np.ndarray) -> np.ndarray:
    """Compute class weights from counts; a class without rows counts as one row."""
    n, count = count.sum(), np.maximum(count, 1)
    if class_weight == "balanced":
        return n / (len(count) * count)
    weights = 1 / count
    return weights / weights.sum()


Loss = Callable[[Any, Any], Any]
Weigher = Callable[[np.ndarray], np.ndarray]
SATURATED = 16.0
"""Logit where a float32 sigmoid reaches 0 or 1, and the focal loss has no gradient."""


class Head(ABC):
    """Base class of heads."""

    activation: ClassVar[str]
    """Keras' name of the activation from logits to probabilities; also the name of the head."""
    multilabel: ClassVar[bool]
    """Whether the target is multilabel, and y has several columns."""

    @abstractmethod
    def classes(self, announced: Any, labels: np.ndarray, name: str) -> np.ndarray:
        """Return ``classes_`` (k,), from the labels or as announced to `partial_fit`."""

    @abstractmethod
    def encode(self, labels: np.ndarray, classes: np.ndarray, name: str) -> np.ndarray:
        """Convert the user's labels to int32 classes (n,) or float32 labels (n, k)."""

    @abstractmethod
    def strata(self, y: np.ndarray, fraction: float) -> np.ndarray:
        """Return the strata (n,) for a split that holds out ``fraction`` of encoded labels."""

    @abstractmethod
    def weigher(
        self, class_weight: str | dict[Any, float] | None, y: np.ndarray, classes: Any, name: str
    ) -> Weigher:
        """Compute class weights from the encoded labels of the training set.

        Returns a function from encoded labels to factors of the loss, (n,) or (n, k).
        """

    @abstractmethod
    def loss(self, chosen: Mapping[str, Any], n_classes: int) -> Loss:
        """Make the loss: labels and logits (b, k) to one value per weight."""

    @abstractmethod
    def compiled(self) -> dict[str, Any]:
        """Return loss and metrics, on probabilities, of the model that callbacks see."""

    @abstractmethod
    def right(self, y: Any, logits: Any) -> Any:
        """Return what is right as (b,) in a graph: 0 or 1, or the share of right labels."""

    @abstractmethod
    def accuracy(self, y: np.ndarray, logits: np.ndarray) -> float:
        """Compute the mean of `right`."""

    @abstractmethod
    def decision(self, logits: np.ndarray) -> np.ndarray:
        """Convert logits (n, k) to the result of ``decision_function``."""

    @abstractmethod
    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Convert logits (n, k) to probabilities (n, k)."""

    @abstractmethod
    def predict(self, logits: np.ndarray, classes: np.ndarray) -> np.ndarray:
        """Convert logits (n, k) to labels."""


class OneClass(Head):
    """Multiclass head: softmax and categorical cross entropy; y is (n,)."""

    activation = "softmax"
    multilabel = False

    def classes(self, announced: Any, labels: np.ndarray, name: str) -> np.ndarray:
        """Return the sorted labels; there must be two or more."""
        return _check_classes(announced, labels, name)

    def encode(self, labels: np.ndarray, classes: np.ndarray, name: str) -> np.ndarray:
        """Convert labels (n,) to positions among the classes."""
        _check_kind(labels, 1, f"(n,), like the one {name} was first fitted with", name)
        return positions(labels, classes, f"{name}.fit")

    def strata(self, y: np.ndarray, fraction: float) -> np.ndarray:
        """Stratify by class."""
        return y

    def weigher(
        self, class_weight: str | dict[Any, float] | None, y: np.ndarray, classes: Any, name: str
    ) -> Weigher:
        """Weight rows by their class."""
        weights = given_class_weights(class_weight, list(classes), name)
        if isinstance(class_weight, str):
            weights = computed_class_weights(class_weight, np.bincount(y, minlength=len(classes)))
        return lambda codes: weights[codes]

    def loss(self, chosen: Mapping[str, Any], n_classes: int) -> Loss:
        """Make the loss; labels are int32 classes (b,), or float32 shares (b, k), losses (b,)."""
        given = {"from_logits": True, "reduction": None}
        # Labels stay sparse where possible: only mixing and the options below need one-hot labels.
        sparse = keras.losses.SparseCategoricalCrossentropy(**given)
        given["label_smoothing"] = chosen.get("label_smoothing", 0.0)
        if "focal_gamma" in chosen:
            alpha, gamma = chosen["focal_alpha"], chosen["focal_gamma"]
            dense = keras.losses.CategoricalFocalCrossentropy(alpha=alpha, gamma=gamma, **given)
        else:
            dense = keras.losses.CategoricalCrossentropy(**given)
        plain = not {"focal_gamma", "label_smoothing"} & set(chosen)

        def loss(labels: Any, logits: Any) -> Any:
            if len(labels.shape) == 1:
                if plain:
                    return sparse(labels, logits)
                labels = tf.one_hot(labels, n_classes)
            return dense(labels, logits)

        return loss

    def compiled(self) -> dict[str, Any]:
        """Return sparse cross entropy and accuracy."""
        return {"loss": keras.losses.SparseCategoricalCrossentropy(), "metrics": ["accuracy"]}

    def right(self, y: Any, logits: Any) -> Any:
        """Whether the largest logit is that of the class, or of the largest share."""
        best = tf.argmax(logits, -1, tf.int32)
        return tf.cast(best == (y if len(y.shape) == 1 else tf.argmax(y, -1, tf.int32)), tf.float32)

    def accuracy(self, y: np.ndarray, logits: np.ndarray) -> float:
        """Compute the share of images whose class is right."""
        return float(np.mean(logits.argmax(axis=1) == y))

    def decision(self, logits: np.ndarray) -> np.ndarray:
        """Return logits; for two classes, their difference."""
        return logits[:, 1] - logits[:, 0] if logits.shape[1] == 2 else logits

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Apply softmax: rows sum to 1."""
        return softmax(logits, axis=1)

    def predict(self, logits: np.ndarray, classes: np.ndarray) -> np.ndarray:
        """Return the class of the largest logit."""
        return classes[logits.argmax(axis=1)]


class ManyLabels(Head):
    """Multilabel head: a sigmoid and binary cross entropy per label; y is (n, k)."""

    activation = "sigmoid"
    multilabel = True

    def classes(self, announced: Any, labels: np.ndarray, name: str) -> np.ndarray:
        """Return the numbers of the columns of y."""
        columns = np.arange(labels.shape[1])
        if announced is None or np.array_equal(np.unique(announced), columns):
            return columns
        raise ValueError(
            f"The 'classes' of {name}.partial_fit must be the numbers of the columns of y, 0 "
            f"to {len(columns) - 1}. Got {listed(np.ravel(announced))} instead."
        )

    def encode(self, labels: np.ndarray, classes: np.ndarray, name: str) -> np.ndarray:
        """Convert zeros and ones (n, k) to float32."""
        _check_kind(labels, 2, f"(n, {len(classes)}), one column a label", name, len(classes))
        return labels.astype(np.float32)

    def strata(self, y: np.ndarray, fraction: float) -> np.ndarray:
        """Stratify by the rarest label of each image.

        Frequent labels are then on both sides of the split, in proportion unless they co-occur.
        """
        order = np.argsort(y.sum(axis=0), kind="stable")
        rarest = np.where(y.any(axis=1), order[(y[:, order] > 0).argmax(axis=1)], len(order))
        count = np.bincount(rarest, minlength=len(order) + 1)
        kept = count * fraction >= 1
        # Strata too small to be split are merged, with the largest one if need be.
        if count[~kept].sum() * fraction < 1:
            kept[count.argmax()] = False
        return np.where(kept[rarest], rarest, -1)

    def weigher(
        self, class_weight: str | dict[Any, float] | None, y: np.ndarray, classes: Any, name: str
    ) -> Weigher:
        """Weight the ones and zeros of each label like two classes; a dict weights its ones."""
        ones = given_class_weights(class_weight, list(classes), name)
        both = np.stack([np.ones_like(ones), ones])  # (2, k)
        if isinstance(class_weight, str):
            positive = np.count_nonzero(y, axis=0)
            counts = np.stack([len(y) - positive, positive], axis=1)  # (k, 2)
            both = np.stack([computed_class_weights(class_weight, pair) for pair in counts], axis=1)
        return lambda labels: np.where(labels > 0, both[1], both[0])

    def loss(self, chosen: Mapping[str, Any], n_classes: int) -> Loss:
        """Make the loss; labels are float32 (b, k), and so are losses."""
        smoothing = chosen.get("label_smoothing", 0.0)
        given = {"from_logits": True, "reduction": None, "label_smoothing": smoothing}
        plain = keras.losses.BinaryCrossentropy(**given)
        if "focal_gamma" not in chosen:
            return lambda labels, logits: plain(labels[..., None], logits[..., None])
        alpha = chosen["focal_alpha"]
        focal = keras.losses.BinaryFocalCrossentropy(gamma=chosen["focal_gamma"], **given)

        def loss(labels: Any, logits: Any) -> Any:
            # Beyond it Keras computes 0**gamma, whose gradient is NaN for gamma < 1.
            logits = tf.clip_by_value(logits, -SATURATED, SATURATED)
            return alpha * focal(labels[..., None], logits[..., None])

        return loss

    def compiled(self) -> dict[str, Any]:
        """Return binary cross entropy and accuracy."""
        return {
            "loss": keras.losses.BinaryCrossentropy(),
            "metrics": [keras.metrics.BinaryAccuracy("accuracy")],
        }

    def right(self, y: Any, logits: Any) -> Any:
        """Return the share of labels on the right side of 0.5."""
        return tf.reduce_mean(tf.cast((logits > 0) == (y > 0.5), tf.float32), axis=-1)

    def accuracy(self, y: np.ndarray, logits: np.ndarray) -> float:
        """Compute the share of right labels among all labels of all images."""
        return float(np.mean((logits > 0) == (y > 0.5)))

    def decision(self, logits: np.ndarray) -> np.ndarray:
        """Return the logits."""
        return logits

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Apply a sigmoid per label: rows need not sum to 1."""
        return expit(logits)

    def predict(self, logits: np.ndarray, classes: np.ndarray) -> np.ndarray:
        """Return zeros and ones (n, k): whether probabilities exceed 0.5."""
        return (logits > 0).astype(np.int64)


HEADS: dict[str, Head] = {head.activation: head for head in (OneClass(), ManyLabels())}


def head_of(labels: np.ndarray) -> Head:
    """Choose the head for labels (n,), or zeros and ones (n, k)."""
    return HEADS["softmax" if labels.ndim == 1 else "sigmoid"]


def _check_classes(classes: Any, labels: np.ndarray, name: str) -> np.ndarray:
    """Return the sorted classes, from the labels or as the user announces them."""
    classes = np.unique(labels if classes is None else classes)
    if len(classes) < 2:
        raise ValueError(
            f"y of {name}.fit must hold at least 2 classes of any weight. "
            f"Got 1 class instead, {listed(classes)}."
        )
    return classes


def _check_kind(labels: np.ndarray, ndim: int, what: str, name: str, k: int | None = None) -> None:
    if labels.ndim != ndim or (k is not None and labels.shape[1] != k):
        raise ValueError(
            f"Labels given to {name}.fit must be of shape {what}. Got {labels.shape} instead."
        )
