"""Test-time augmentation: predictions averaged over mirrored, turned or shifted views."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from scipy.special import log_expit, log_softmax, logsumexp

from kmedclf.augmentation.geometry import shifted

View = Callable[[Any], Any]
SHIFT = 2
"""Pixels of "shift", as in the augmentation of that name."""


def _same(images: Any) -> Any:
    return images


def _mirrored(images: Any) -> Any:
    """Mirror all images left-right."""
    return tf.reverse(images, [2])


def _upended(images: Any) -> Any:
    """Mirror all images upside-down."""
    return tf.reverse(images, [1])


def _transposed(images: Any) -> Any:
    """Exchange rows and columns of all images."""
    return tf.transpose(images, [0, 2, 1, 3])


def _moved(down: int, right: int) -> View:
    def move(images: Any) -> Any:
        offset = tf.constant([[-down, -right]])
        return shifted(images, tf.repeat(offset, tf.shape(images)[0], axis=0))

    return move


_STEPS: dict[str, tuple[tuple[View, ...], ...]] = {
    "mirror": ((_same, _mirrored),),
    "flips": ((_same, _mirrored), (_same, _upended)),
    "dihedral": ((_same, _mirrored), (_same, _upended), (_same, _transposed)),
    "shift": (
        (_same, *itertools.starmap(_moved, [(SHIFT, 0), (-SHIFT, 0), (0, SHIFT), (0, -SHIFT)])),
    ),
}
NAMES = tuple(_STEPS)
"""Names that ``tta=`` accepts, alone or in a list."""


def resolve(
    tta: str | Sequence[str] | None, shape: tuple[int, int, int], name: str
) -> tuple[str, ...]:
    """Convert the ``tta`` parameter to names out of `NAMES`; empty for the image alone.

    Raises ValueError for unknown names, and for views that images of this shape do not have.
    """
    # Checked at prediction as well, since `tta` may be set after fit.
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
            f"The 'tta' parameter of {name} must be None for flat vectors, which have no views; "
            f"image_shape makes them images. Got {tta!r} instead."
        )
    if "dihedral" in names and shape[0] != shape[1]:
        raise ValueError(
            f"The 'tta' parameter of {name} must not hold 'dihedral' for images that are not "
            f"square, {shape[0]} × {shape[1]} pixels; 'flips' has their symmetries. Got {tta!r} "
            "instead."
        )
    return names


def make(names: Sequence[str]) -> list[View]:
    """Make the functions from a batch (b, h, w, c) to each of its views, the batch itself first.

    Several names are combined: every view of the first in every view of the next.
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
    """Apply a network to all views of a batch at once; return (b, views, k), or (b, k) without."""
    images = tf.cast(images, tf.float32)
    if not names:
        return network(images)
    views = [view(images) for view in make(names)]
    outputs = network(tf.concat(views, axis=0))  # (v b, k)
    return tf.transpose(tf.reshape(outputs, [len(views), -1, outputs.shape[1]]), [1, 0, 2])


def pool(logits: np.ndarray, *, multilabel: bool = False) -> np.ndarray:
    """Return the logits (n, k) of the mean probability over views, from (n, views, k)."""
    logits = logits.astype(np.float64)
    if logits.ndim == 2:
        return logits
    # Average probabilities, as ensembles do: with logits, one view that is sure and wrong would
    # outvote all others.
    if multilabel:
        yes, no = (logsumexp(log_expit(one), axis=1) for one in (logits, -logits))
        return np.asarray(yes - no)
    return np.asarray(logsumexp(log_softmax(logits, axis=2), axis=1) - np.log(logits.shape[1]))
