"""Synthetic brain slices, for demos and tests of studies without a download."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kmedclf.datasets.synthetic import (
    Floats,
    check_count,
    column,
    field,
    generator,
    labels_by_share,
    normal,
)

TUMOURS = ("glioma_tumor", "meningioma_tumor", "no_tumor", "pituitary_tumor")
"""Names of the labels, as the public set of brain slices has them."""
_SHARES = (826, 822, 395, 827)
"""Training images of each class in that set, the class's weight here."""
_MOST_SLICES = 4
"""Most neighbouring slices of a patient."""
_STEP = 0.07
"""Distance of neighbouring slices, in half lengths of the head."""


def make_brain_slices(
    n_samples: int = 1000,
    image_size: int = 28,
    random_state: int | np.random.RandomState | np.random.Generator | None = None,
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Draw a labelled set of synthetic brain slices, some of them neighbours in one head.

    The pictures are **synthetic**: ovals, blobs and noise in grey, not slices of any patient. They
    serve demos and tests; a score on them says nothing about medicine. Classes and their
    proportions are those of the public set of 2,870 slices with four classes. Each head gives one
    to four neighbouring slices, which are nearly identical, as there.

    Parameters
    ----------
    n_samples : int, default=1000
        Number of images. Every class has its exact share, rounded.
    image_size : int, default=28
        Height and width in pixels, at least 8.
    random_state : int, RandomState, Generator or None, default=None
        Random seed. None draws a new set on each call. NumPy's global random state is neither read
        nor changed.

    Returns
    -------
    X : ndarray of shape (n_samples, image_size, image_size), dtype uint8
        The images, grey.
    y : ndarray of shape (n_samples,), dtype int64
        The labels: 0 glioma, 1 meningioma, 2 no tumour, 3 pituitary tumour.

    Raises
    ------
    ValueError
        If `n_samples`, `image_size` or `random_state` is out of range.

    Examples
    --------
    >>> from kmedclf.datasets import make_brain_slices
    >>> X, y = make_brain_slices(100, random_state=0)
    >>> X.shape, X.dtype.name, y.shape
    ((100, 28, 28), 'uint8', (100,))
    """
    check_count("n_samples", n_samples, 1, "make_brain_slices")
    check_count("image_size", image_size, 8, "make_brain_slices")
    rng = generator(random_state, "make_brain_slices")
    y = labels_by_share(_SHARES, n_samples)
    # Slices of one head are next to each other until all are shuffled, and of one class
    head, place = _heads(y, rng)
    X = np.empty((n_samples, image_size, image_size), np.uint8)
    for start in range(0, n_samples, 256):
        rows = slice(start, start + 256)
        X[rows] = _draw(y[rows], head[rows], place[rows], image_size, rng)
    order = rng.permutation(n_samples)
    return X[order], y[order]


def _heads(y: NDArray[Any], rng: np.random.Generator) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the number of the head of each slice (n,), and its place in that head (n,)."""
    sizes = rng.integers(1, _MOST_SLICES + 1, len(y))
    head = np.repeat(np.arange(len(y)), sizes)[: len(y)]
    head = np.unique(head * len(_SHARES) + y, return_inverse=True)[1]  # a head has one class
    starts = np.searchsorted(head, head)
    return head, np.arange(len(y)) - starts


def _draw(
    y: NDArray[Any], head: NDArray[Any], place: NDArray[Any], size: int, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Draw slices (n, size, size): skull, brain, ventricles, tumour, noise."""
    heads, of = np.unique(head, return_inverse=True)
    n = len(heads)
    axis = (np.arange(size, dtype=np.float32) + 0.5) * (2 / size) - 1
    x, v = axis[None, None, :], axis[None, :, None]
    soft = np.float32(size / 3)  # converts distances, for edges that are 1.5 pixels wide

    def of_head(values: Any) -> Floats:
        return column(np.asarray(values, np.float32)[of])

    def oval(x0: Any, v0: Any, wide: Any, high: Any) -> Floats:
        reach = np.sqrt(((x - x0) / wide) ** 2 + ((v - v0) / high) ** 2)
        return np.clip((1 - reach) * np.minimum(wide, high) * soft + 0.5, 0, 1)

    depth = column(place) * np.float32(_STEP)
    wide, high = of_head(0.72 + 0.05 * normal(rng, n)), of_head(0.86 + 0.04 * normal(rng, n))
    shrunk = 1 - 0.3 * depth
    folds, grain = (field(rng, n, cells, size)[of] for cells in (10, 16))
    middle = of_head(0.03 * normal(rng, n))
    image = 205 * oval(middle, 0, wide * shrunk, high * shrunk)
    brain = oval(middle, 0, 0.9 * wide * shrunk, 0.91 * high * shrunk)
    image += (105 + 22 * folds + 30 * depth * grain - image) * brain
    for side in (-1, 1):
        hole = oval(
            middle + side * 0.13, -0.05, 0.08 + 0.15 * depth, of_head(rng.uniform(0.15, 0.3, n))
        )
        image += (30 - image) * hole
    image += _tumour(y, n, of_head, oval, depth, folds, rng) * brain
    image = image * of_head(np.exp(0.1 * normal(rng, n))) + 4 * normal(rng, len(y), size, size)
    return np.clip(image + 0.5, 0, 255).astype(np.uint8)


def _tumour(
    y: NDArray[Any], n: int, of_head: Any, oval: Any, depth: Floats, folds: Floats,
    rng: np.random.Generator,
) -> Floats:  # fmt: skip
    """Draw what a tumour adds: a ragged blob anywhere, a round one at the rim, a small one low."""
    side = of_head(np.where(rng.random(n) < 0.5, -1.0, 1.0))
    up = of_head(rng.uniform(-0.45, 0.35, n))
    grown = of_head(np.exp(0.2 * normal(rng, n))) * (1 + 2 * depth)
    ragged = oval(side * 0.35, up, 0.26 * grown, 0.22 * grown) * np.clip(0.9 + 0.5 * folds, 0, 1.4)
    at_rim = oval(side * 0.52, up, 0.17 * grown, 0.17 * grown)
    low = oval(0.0, 0.42, 0.12 * grown, 0.10 * grown)
    bright = np.stack([60 * ragged, 95 * at_rim, 0 * low, 90 * low])
    return bright[y, np.arange(len(y))]
