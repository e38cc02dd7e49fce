"""What one gradient step does: the loss, and the gradient of a batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf

from kmedclf.heads import HEADS, Head, Loss
from kmedclf.network import Spec

if TYPE_CHECKING:
    from kmedclf.base import ImageClassifier

KNOBS = ("weight_decay", "l2")
"""Parameters that compiled programs read from variables."""


def options(estimator: ImageClassifier) -> tuple[tuple[str, Any], ...]:
    """Collect the training parameters that a compiled program depends on.

    Those without effect are left out, so that they cost no program of their own. Numbers that a
    search may want many values of are variables, and only whether they are used stands here.

    Parameters
    ----------
    estimator : ImageClassifier
        Whose parameters.

    Returns
    -------
    tuple of (str, hashable)
        Names and values; empty with the defaults.
    """
    chosen: dict[str, Any] = {}
    if estimator.optimizer == "sgd" and estimator.momentum:
        chosen |= {"momentum": estimator.momentum, "nesterov": estimator.nesterov}
    if estimator.weight_decay is not None:
        chosen["weight_decay"] = True
    if estimator.l2:
        chosen["l2"] = True
    if estimator.clipnorm is not None:
        chosen["clipnorm"] = estimator.clipnorm
    if estimator.accumulate_steps > 1:
        # More parts than rows are one row each.
        chosen["accumulate_steps"] = min(estimator.accumulate_steps, 2**30)
    if estimator.loss == "focal":
        chosen |= {"focal_alpha": estimator.focal_alpha, "focal_gamma": estimator.focal_gamma}
    if estimator.label_smoothing:
        chosen["label_smoothing"] = estimator.label_smoothing
    return tuple(chosen.items())


def make_loss(spec: Spec) -> Loss:
    """Make the loss function of a spec.

    Returns
    -------
    callable
        Maps labels, int32 (b,) or float32 (b, k), and logits (b, k) to losses, one a weight.
    """
    return HEADS[spec.head].loss(dict(spec.options), spec.n_classes)


def take(
    model: keras.Model,
    head: Head,
    loss: Loss,
    chosen: Mapping[str, Any],
    knobs: Mapping[str, tf.Variable],
    batch: tuple[Any, Any, Any],
) -> tuple[Any, Any]:
    """Take one gradient step on a batch.

    Parameters
    ----------
    model : keras.Model
        Compiled, from images to logits.
    head : Head
        What its last layer is for.
    loss : callable
        As from `make_loss`.
    chosen : mapping
        The options of the spec.
    knobs : mapping of str to tf.Variable
        Numbers by name; "l2" is used if it is among the options.
    batch : tuple of tf.Tensor
        Images (b, h, w, c), labels (b,) or (b, k), weights (b,) or, of a head
        of many labels, (b, k).

    Returns
    -------
    loss, hits : tf.Tensor of shape ()
        Sum of the losses, and number of images that were right, as the head counts.
    """
    parts = chosen.get("accumulate_steps", 1)
    l2 = knobs["l2"] if "l2" in chosen else None
    n = tf.shape(batch[0])[0]
    rows = tf.cast(n, tf.float32)
    if parts == 1:
        value, hits, gradients = _gradient(model, head, loss, l2, batch, None)
    else:
        value, hits, gradients = _in_parts(model, head, loss, l2, batch, parts)
    model.optimizer.apply(gradients, model.trainable_variables)
    return value * rows, hits


def _gradient(
    model: keras.Model, head: Head, loss: Loss, l2: Any, batch: tuple[Any, Any, Any], rows: Any
) -> tuple[Any, Any, list[Any]]:
    """Compute loss, hits and gradients of a batch, or its share in those of ``rows`` rows."""
    x, y, weight = batch
    with tf.GradientTape() as tape:
        logits = model(tf.cast(x, tf.float32), training=True)  # (b, k)
        # Divided by the number of rows, not by the sum of weights: as Keras does.
        value = tf.reduce_mean(loss(y, logits) * weight) + sum(model.losses)
        goal = value
        if l2 is not None:
            kernels = [one for one in model.trainable_variables if len(one.shape) > 1]
            goal += l2 * tf.add_n([tf.reduce_sum(tf.square(one)) for one in kernels])
        if rows is not None:
            share = tf.cast(tf.shape(x)[0], tf.float32) / rows
            value, goal = value * share, goal * share
        scaled = model.optimizer.scale_loss(goal)
    hits = tf.reduce_sum(head.right(y, logits))
    return value, hits, tape.gradient(scaled, model.trainable_variables)


def _in_parts(
    model: keras.Model, head: Head, loss: Loss, l2: Any, batch: tuple[Any, Any, Any], parts: int
) -> tuple[Any, Any, list[Any]]:
    """Compute what `_gradient` does, ``parts`` parts of the batch one after the other."""
    n = tf.shape(batch[0])[0]
    size = (n + parts - 1) // parts

    def add(start: Any, value: Any, hits: Any, *sums: Any) -> tuple[Any, ...]:
        x, y, weight = (column[start : start + size] for column in batch)
        part = _gradient(model, head, loss, l2, (x, y, weight), tf.cast(n, tf.float32))
        more, right, gradients = part
        both = zip(sums, gradients, strict=True)
        added = [one + tf.cast(other, one.dtype) for one, other in both]
        return start + size, value + more, hits + right, *added

    start = [tf.zeros(one.shape, one.dtype) for one in model.trainable_variables]
    _, value, hits, *gradients = tf.while_loop(
        lambda at, *_: at < n,
        add,
        (tf.constant(0), tf.zeros(()), tf.zeros(()), *start),
        parallel_iterations=1,
    )
    return value, hits, gradients
