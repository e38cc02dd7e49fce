"""What a network's last layer is for: one class of several, or any number of labels at once.

A head knows all that differs between the two: what y may be, the loss, the weights of classes, what
counts as right, and how logits become probabilities and predictions. No other module of the
training asks which of them it is.
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

from kmedclf.inputs.checks import check_classes, listed, positions

LEAST, MOST = 1e-19, 1e19
"""What may multiply a gradient: optimizers square it, and float32 ends at 1e-38 and 3e38."""

FACTORS = {"clipnorm": LEAST, "focal_alpha": LEAST, "l2": 0.0}
"""Parameters that do so, and how small they may be."""


def check_factors(parameters: Mapping[str, Any], name: str) -> None:
    """Refuse parameters that make gradients so large or small that nothing would be learnt."""
    for key, least in FACTORS.items():
        value = parameters[key]
        if value is not None and not least <= value <= MOST:
            raise ValueError(
                f"The {key!r} parameter of {name} must be between {least:g} and {MOST:g}, so that "
                f"float32 holds the squares of gradients. Got {value!r} instead."
            )


def check_total_weights(weight: np.ndarray, what: str) -> None:
    """Refuse weights of rows with which, all in all, nothing would be learnt."""
    largest = float(weight.max(initial=0.0))
    if not LEAST <= largest <= MOST:
        raise ValueError(
            f"{what} must reach {LEAST:g} and not exceed {MOST:g}, those of classes included, so "
            f"that float32 holds the squares of gradients. Got {largest:g} as the largest."
        )


def given_class_weights(
    class_weight: str | dict[Any, float] | None, labels: list[Any], name: str
) -> np.ndarray:
    """Read a dict of weights (k,); ones if it is none."""
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
    """Compute weights from the rows of each class; a class without any counts as one row."""
    n, count = count.sum(), np.maximum(count, 1)
    if class_weight == "balanced":
        return n / (len(count) * count)
    weights = 1 / count
    return weights / weights.sum()


Loss = Callable[[Any, Any], Any]
Weigher = Callable[[np.ndarray], np.ndarray]
SATURATED = 16.0
"""Logit beyond which a float32 sigmoid is 0 or 1, where the focal loss has no gradient."""


class Head(ABC):
    """What a network's last layer is for."""

    activation: ClassVar[str]
    """Keras' name of what turns logits into probabilities, and the head's own."""
    several: ClassVar[bool]
    """Whether an image may have several labels, and y several columns."""

    @abstractmethod
    def classes(self, announced: Any, labels: np.ndarray, name: str) -> np.ndarray:
        """Find ``classes_`` (k,) in labels, or in those that `partial_fit` announces."""

    @abstractmethod
    def encode(self, labels: np.ndarray, classes: np.ndarray, name: str) -> np.ndarray:
        """Turn a user's labels into what the network learns: int32 (n,) or float32 (n, k)."""

    @abstractmethod
    def strata(self, y: np.ndarray, fraction: float) -> np.ndarray:
        """Give what a split-off of ``fraction`` of encoded labels is stratified by, (n,)."""

    @abstractmethod
    def weigher(
        self, class_weight: str | dict[Any, float] | None, y: np.ndarray, classes: Any, name: str
    ) -> Weigher:
        """Compute class weights from the encoded labels trained on.

        Parameters
        ----------
        class_weight : {"balanced", "inverse"}, dict or None
            As of the estimators.
        y : ndarray
            As from `encode`.
        classes : ndarray of shape (k,)
            Original labels.
        name : str
            Class name for messages.

        Returns
        -------
        callable
            Maps encoded labels to factors of the loss of rows, (n,), or of their labels, (n, k).
        """

    @abstractmethod
    def loss(self, chosen: Mapping[str, Any], n_classes: int) -> Loss:
        """Make the loss of labels and logits (b, k), one number for each weight.

        Parameters
        ----------
        chosen : mapping
            As from `kmedclf.training.program.step_options`.
        n_classes : int
            Number of outputs, k.
        """

    @abstractmethod
    def compiled(self) -> dict[str, Any]:
        """Give the loss and the metrics of probabilities that callbacks find in their model."""

    @abstractmethod
    def right(self, y: Any, logits: Any) -> Any:
        """Say in a graph what is right: (b,) of 0 and 1, or of shares of the labels."""

    @abstractmethod
    def accuracy(self, y: np.ndarray, logits: np.ndarray) -> float:
        """Compute the mean of what is right."""

    @abstractmethod
    def decision(self, logits: np.ndarray) -> np.ndarray:
        """Turn logits (n, k) into what ``decision_function`` returns."""

    @abstractmethod
    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Turn logits (n, k) into probabilities (n, k)."""

    @abstractmethod
    def predict(self, logits: np.ndarray, classes: np.ndarray) -> np.ndarray:
        """Turn logits (n, k) into labels."""


class OneClass(Head):
    """One class of several: softmax and categorical cross entropy; y is (n,)."""

    activation = "softmax"
    several = False

    def classes(self, announced: Any, labels: np.ndarray, name: str) -> np.ndarray:
        """Find the sorted labels; at least two."""
        return check_classes(announced, labels, name)

    def encode(self, labels: np.ndarray, classes: np.ndarray, name: str) -> np.ndarray:
        """Turn labels (n,) into positions among the classes."""
        _check_kind(labels, 1, f"(n,), like the one {name} was first fitted with", name)
        return positions(labels, classes, f"{name}.fit")

    def strata(self, y: np.ndarray, fraction: float) -> np.ndarray:
        """Stratify by class."""
        return y

    def weigher(
        self, class_weight: str | dict[Any, float] | None, y: np.ndarray, classes: Any, name: str
    ) -> Weigher:
        """Weigh rows by their class."""
        weights = given_class_weights(class_weight, list(classes), name)
        if isinstance(class_weight, str):
            weights = computed_class_weights(class_weight, np.bincount(y, minlength=len(classes)))
        return lambda codes: weights[codes]

    def loss(self, chosen: Mapping[str, Any], n_classes: int) -> Loss:
        """Map labels, int32 (b,) or float32 (b, k), and logits to losses (b,)."""
        given = {"from_logits": True, "reduction": None}
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
        """Give sparse cross entropy and accuracy."""
        return {"loss": keras.losses.SparseCategoricalCrossentropy(), "metrics": ["accuracy"]}

    def right(self, y: Any, logits: Any) -> Any:
        """Say whether the largest logit is that of the class, or of the larger share."""
        best = tf.argmax(logits, -1, tf.int32)
        return tf.cast(best == (y if len(y.shape) == 1 else tf.argmax(y, -1, tf.int32)), tf.float32)

    def accuracy(self, y: np.ndarray, logits: np.ndarray) -> float:
        """Compute the share of images whose class is right."""
        return float(np.mean(logits.argmax(axis=1) == y))

    def decision(self, logits: np.ndarray) -> np.ndarray:
        """Give logits, or of two classes their difference."""
        return logits[:, 1] - logits[:, 0] if logits.shape[1] == 2 else logits

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Apply softmax: rows sum to 1."""
        return softmax(logits, axis=1)

    def predict(self, logits: np.ndarray, classes: np.ndarray) -> np.ndarray:
        """Give the class of the largest logit."""
        return classes[logits.argmax(axis=1)]


class ManyLabels(Head):
    """Any number of labels at once: a sigmoid and binary cross entropy each; y is (n, k)."""

    activation = "sigmoid"
    several = True

    def classes(self, announced: Any, labels: np.ndarray, name: str) -> np.ndarray:
        """Give the columns of y their numbers."""
        columns = np.arange(labels.shape[1])
        if announced is None or np.array_equal(np.unique(announced), columns):
            return columns
        raise ValueError(
            f"The 'classes' of {name}.partial_fit must be the numbers of the columns of y, 0 "
            f"to {len(columns) - 1}. Got {listed(np.ravel(announced))} instead."
        )

    def encode(self, labels: np.ndarray, classes: np.ndarray, name: str) -> np.ndarray:
        """Turn zeros and ones (n, k) into float32."""
        _check_kind(labels, 2, f"(n, {len(classes)}), one column a label", name, len(classes))
        return labels.astype(np.float32)

    def strata(self, y: np.ndarray, fraction: float) -> np.ndarray:
        """Stratify by the rarest label of each image; those too rare to be split share a stratum.

        Every label frequent enough is then on both sides, in proportion as far as that goes where
        labels occur together.
        """
        order = np.argsort(y.sum(axis=0), kind="stable")
        rarest = np.where(y.any(axis=1), order[(y[:, order] > 0).argmax(axis=1)], len(order))
        count = np.bincount(rarest, minlength=len(order) + 1)
        kept = count * fraction >= 1
        if count[~kept].sum() * fraction < 1:  # too few for a stratum of their own
            kept[count.argmax()] = False
        return np.where(kept[rarest], rarest, -1)

    def weigher(
        self, class_weight: str | dict[Any, float] | None, y: np.ndarray, classes: Any, name: str
    ) -> Weigher:
        """Weigh the ones and the zeros of every label.

        Each label is a problem of two classes: "balanced" and "inverse" are computed from its own
        ones and zeros; a dict maps labels to the weights of their ones.
        """
        ones = given_class_weights(class_weight, list(classes), name)
        both = np.stack([np.ones_like(ones), ones])  # (2, k)
        if isinstance(class_weight, str):
            found = np.count_nonzero(y, axis=0)
            pairs = np.stack([len(y) - found, found], axis=1)  # (k, 2)
            both = np.stack([computed_class_weights(class_weight, one) for one in pairs], axis=1)
        return lambda labels: np.where(labels > 0, both[1], both[0])

    def loss(self, chosen: Mapping[str, Any], n_classes: int) -> Loss:
        """Map labels (b, k), float32, and logits to losses (b, k)."""
        smoothing = chosen.get("label_smoothing", 0.0)
        given = {"from_logits": True, "reduction": None, "label_smoothing": smoothing}
        plain = keras.losses.BinaryCrossentropy(**given)
        if "focal_gamma" not in chosen:
            return lambda labels, logits: plain(labels[..., None], logits[..., None])
        alpha = chosen["focal_alpha"]
        focal = keras.losses.BinaryFocalCrossentropy(gamma=chosen["focal_gamma"], **given)

        def loss(labels: Any, logits: Any) -> Any:
            # Keras takes the power of 0 there, whose gradient is not a number if gamma < 1
            logits = tf.clip_by_value(logits, -SATURATED, SATURATED)
            return alpha * focal(labels[..., None], logits[..., None])

        return loss

    def compiled(self) -> dict[str, Any]:
        """Give binary cross entropy and accuracy."""
        return {
            "loss": keras.losses.BinaryCrossentropy(),
            "metrics": [keras.metrics.BinaryAccuracy("accuracy")],
        }

    def right(self, y: Any, logits: Any) -> Any:
        """Give the share of labels that are on the right side of one half."""
        return tf.reduce_mean(tf.cast((logits > 0) == (y > 0.5), tf.float32), axis=-1)

    def accuracy(self, y: np.ndarray, logits: np.ndarray) -> float:
        """Compute the share of all labels of all images that are right."""
        return float(np.mean((logits > 0) == (y > 0.5)))

    def decision(self, logits: np.ndarray) -> np.ndarray:
        """Give the logits."""
        return logits

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Apply a sigmoid to each label: rows sum to anything."""
        return expit(logits)

    def predict(self, logits: np.ndarray, classes: np.ndarray) -> np.ndarray:
        """Give zeros and ones (n, k): whether probabilities are above one half."""
        return (logits > 0).astype(np.int64)


HEADS: dict[str, Head] = {head.activation: head for head in (OneClass(), ManyLabels())}


def head_of(labels: np.ndarray) -> Head:
    """Choose the head that learns labels (n,), or zeros and ones (n, k)."""
    return HEADS["softmax" if labels.ndim == 1 else "sigmoid"]


def _check_kind(labels: np.ndarray, ndim: int, what: str, name: str, k: int | None = None) -> None:
    if labels.ndim != ndim or (k is not None and labels.shape[1] != k):
        raise ValueError(
            f"Labels given to {name}.fit must be of shape {what}. Got {labels.shape} instead."
        )
