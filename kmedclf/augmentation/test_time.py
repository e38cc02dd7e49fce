"""Test-time views: an image is classified as it is, mirrored, turned or shifted, and averaged."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from scipy.special import log_expit, log_softmax, logsumexp

from kmedclf.augmentation.geometry import mirrored, shifted, transposed, upended

View = Callable[[Any], Any]
SHIFT = 2
"""Pixels of "shift", those of the augmentation of that name."""


def _same(images: Any) -> Any:
    return images


def _moved(down: int, right: int) -> View:
    def move(images: Any) -> Any:
        offset = tf.constant([[-down, -right]])
        return shifted(images, tf.repeat(offset, tf.shape(images)[0], axis=0))

    return move


_STEPS: dict[str, tuple[tuple[View, ...], ...]] = {
    "mirror": ((_same, mirrored),),
    "flips": ((_same, mirrored), (_same, upended)),
    "dihedral": ((_same, mirrored), (_same, upended), (_same, transposed)),
    "shift": (
        (_same, *itertools.starmap(_moved, [(SHIFT, 0), (-SHIFT, 0), (0, SHIFT), (0, -SHIFT)])),
    ),
}
NAMES = tuple(_STEPS)
"""What ``tta=`` accepts, alone or in a list."""


def resolve(
    tta: str | Sequence[str] | None, shape: tuple[int, int, int], name: str
) -> tuple[str, ...]:
    """Turn an estimator's ``tta`` parameter into names of `NAMES`.

    Parameters
    ----------
    tta : str, sequence of str or None
        The parameter, checked here too because it may be set after ``fit`` has checked the others.
    shape : tuple of int
        (h, w, c) of the images.
    name : str
        Class name for messages.

    Returns
    -------
    tuple of str
        Names, empty for the image alone.

    Raises
    ------
    ValueError
        If a name is unknown, or images of this shape have no such views.
    """
    if tta is None:
        return ()
    names = (tta,) if isinstance(tta, str) else tuple(tta)
    for one in names:
        if one not in NAMES:
            raise ValueError(
                f"The 'tta' parameter of {name} must be None, or hold names out of "
                f"{', '.join(map(repr, NAMES))}. Got {one!r} instead."
            )
    if names and shape[1] == 1:
        raise ValueError(
            f"The 'tta' parameter of {name} must be None for flat vectors, of which there are no "
            f"views; image_shape makes them images. Got {tta!r} instead."
        )
    if "dihedral" in names and shape[0] != shape[1]:
        raise ValueError(
            f"The 'tta' parameter of {name} must not hold 'dihedral' for images that are not "
            f"square, {shape[0]} × {shape[1]} pixels; 'flips' has their symmetries. Got {tta!r} "
            "instead."
        )
    return names


def make(names: Sequence[str]) -> list[View]:
    """Make the functions from a batch (b, h, w, c) to each view of it; the batch itself first.

    Several names give every view of the first, seen in every view of the next.
    """
    steps = [choices for name in names for choices in _STEPS[name]]

    def composed(chosen: tuple[View, ...]) -> View:
        def view(images: Any) -> Any:
            for step in chosen:
                images = step(images)
            return images

        return view

    return [composed(chosen) for chosen in itertools.product(*steps)]


def count(names: Sequence[str]) -> int:
    """Count the views."""
    return len(make(names))


def logits(network: Callable[[Any], Any], images: Any, names: Sequence[str]) -> Any:
    """Apply a network to all views of a batch at once.

    Parameters
    ----------
    network : callable
        Maps images (b, h, w, c) to logits (b, k).
    images : tf.Tensor of shape (b, h, w, c)
        The batch.
    names : sequence of str
        As from `resolve`.

    Returns
    -------
    tf.Tensor of shape (b, v, k)
        The logits of v views; without names (b, k).
    """
    images = tf.cast(images, tf.float32)
    if not names:
        return network(images)
    several = [view(images) for view in make(names)]
    found = network(tf.concat(several, axis=0))  # (v b, k)
    return tf.transpose(tf.reshape(found, [len(several), -1, found.shape[1]]), [1, 0, 2])


def pool(logits: np.ndarray, *, multilabel: bool = False) -> np.ndarray:
    """Turn the logits of several views into the logits of their mean probability.

    Probabilities are averaged, not logits: the mean over views is then again the probability of
    a draw, one view that is sure and wrong cannot outvote all others, and views count as the
    members of an ensemble do.

    Parameters
    ----------
    logits : ndarray of shape (n, v, k), or (n, k) for the image alone, float32
        Of v views.
    multilabel : bool, default=False
        Whether labels are independent (sigmoid) rather than exclusive (softmax).

    Returns
    -------
    ndarray of shape (n, k), float64
        Their softmax, or sigmoid, is the mean over views of theirs.
    """
    logits = logits.astype(np.float64)
    if logits.ndim == 2:
        return logits
    if multilabel:
        yes, no = (logsumexp(log_expit(one), axis=1) for one in (logits, -logits))
        return np.asarray(yes - no)
    return np.asarray(logsumexp(log_softmax(logits, axis=2), axis=1) - np.log(logits.shape[1]))
