"""Synthetic X-rays of bones and chests, of the kinds that the studies are about."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

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

_BLOCK_PIXELS = 1_000_000
_BODY, _LUNG, _DENSE = 150.0, 70.0, 175.0  # grey levels of chest X-rays
_AIR, _SOFT, _MARROW, _CORTEX = 18.0, 62.0, 140.0, 205.0  # of bones


class _Plane:
    """Pixels of a block of images: coordinates from -1 to 1, and shapes with soft edges."""

    def __init__(self, n: int, size: int) -> None:
        self.n, self.size = n, size
        axis = (np.arange(size, dtype=np.float32) + 0.5) * (2 / size) - 1
        self.x = np.broadcast_to(axis[None, None, :], (n, size, size))
        self.y = np.broadcast_to(axis[None, :, None], (n, size, size))
        self.soft = np.float32(size / 4)  # converts distances, for edges that are 2 pixels wide

    def inside(self, distance: Any) -> Floats:
        """Turn distances to an edge, positive inside, to values in [0, 1]."""
        return np.clip(np.asarray(distance, np.float32) * self.soft + 0.5, 0, 1)

    def oval(self, x: Any, y: Any, wide: Any, high: Any) -> Floats:
        """Draw an oval around a point."""
        reach = np.sqrt(((self.x - x) / wide) ** 2 + ((self.y - y) / high) ** 2)
        return self.inside((1 - reach) * np.minimum(wide, high))


def _mix(image: Floats, alpha: Floats, level: Any) -> Floats:
    return image + alpha * (level - image)


def _bones(y: NDArray[np.int64], plane: _Plane, rng: np.random.Generator) -> Floats:
    """Draw a long bone in soft tissue: broken (0), its far part displaced, or whole (1)."""
    n, broken = plane.n, column(y == 0)
    turn = rng.uniform(0, np.pi, n)
    x0, y0 = 0.12 * normal(rng, 2, n)
    dx, dy = plane.x - column(x0), plane.y - column(y0)
    along = dx * column(np.cos(turn)) + dy * column(np.sin(turn))
    across = dy * column(np.cos(turn)) - dx * column(np.sin(turn))
    # Distance to an oblique break, which the bone behind it has slid along
    slope, place = 0.5 * normal(rng, n), rng.uniform(-0.4, 0.4, n)
    to_break = along - column(place) - column(slope) * across
    side = np.where(rng.random(n) < 0.5, -1, 1)
    across_bone = across + broken * (to_break > 0) * column(side * rng.uniform(0.06, 0.16, n))
    thick = column(rng.uniform(0.13, 0.2, n))
    # The ends of a bone are wider than its shaft
    width = thick * (1 + 0.9 * np.maximum(0, np.abs(along) - 0.55))
    flesh = plane.inside(column(rng.uniform(0.5, 0.7, n)) - np.abs(across))
    image = _mix(np.full(plane.x.shape, np.float32(_AIR)), flesh, _SOFT)
    image = _mix(image, plane.inside(width - np.abs(across_bone)), _CORTEX)
    image = _mix(image, plane.inside(0.62 * width - np.abs(across_bone)), _MARROW)
    gap = plane.inside(0.025 - np.abs(to_break)) * plane.inside(1.1 * width - np.abs(across_bone))
    return _mix(image, gap * broken, _SOFT)


def _chests(
    y: NDArray[np.int64], plane: _Plane, rng: np.random.Generator, kinds: tuple[str, ...]
) -> Floats:
    """Draw body, lungs and heart; covid, virus and opacity each cloud the lungs in their way."""
    n, kind = plane.n, np.array(kinds)[y]
    middle = column(0.04 * normal(rng, n))
    lungs = [plane.oval(middle + side * 0.42, -0.05, 0.33, 0.68) for side in (-1, 1)]
    both = np.maximum(*lungs)
    image = _mix(np.full(plane.x.shape, np.float32(_BODY)), both, _LUNG)
    wide = column(0.25 + 0.03 * normal(rng, n))
    image = _mix(image, plane.oval(middle + 0.1, 0.3, wide, 0.9 * wide), _DENSE)
    patches = np.clip(field(rng, n, 9, plane.size) + 0.5, 0, 1)
    low = np.clip(0.6 + 1.2 * plane.y, 0, 1)
    image = image + 70 * patches * low * both * column(kind == "covid")
    # A virus clouds both lungs with fine lines
    lines = np.abs(field(rng, n, 26, plane.size))
    image = image + 38 * lines * both * column(kind == "virus")
    side = rng.integers(0, 2, n)
    lung = np.where(column(side) == 0, *lungs)
    place = (2 * side - 1) * 0.42
    cloud = plane.oval(column(place), column(0.2 * normal(rng, n)), 0.26, 0.36)
    return image + 75 * cloud * lung * column(kind == "opacity")


class _Kind(NamedTuple):
    """A kind of image: class names, their weights, and the function that draws a block."""

    class_names: tuple[str, ...]
    weights: tuple[int, ...]  # images of each class in the public set
    draw: Callable[[NDArray[np.int64], _Plane, np.random.Generator], Floats]


_LUNGS = ("covid", "opacity", "normal", "virus")
XRAYS = {
    "bone": _Kind(("fractured", "not fractured"), (4480, 4383), _bones),
    "chest": _Kind(
        ("Covid", "Normal", "Viral Pneumonia"),
        (590, 936, 866),
        lambda y, plane, rng: _chests(y, plane, rng, ("covid", "normal", "virus")),
    ),
    "lung": _Kind(
        ("COVID", "Lung_Opacity", "Normal", "Viral Pneumonia"),
        (3616, 6012, 10192, 1345),
        lambda y, plane, rng: _chests(y, plane, rng, _LUNGS),
    ),
}
"""Kinds of `make_xrays`, with the classes of the public sets that the studies are about."""


def make_xrays(
    kind: str,
    n_samples: int = 1000,
    image_size: int = 64,
    random_state: int | np.random.RandomState | np.random.Generator | None = None,
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Draw a labelled set of synthetic X-rays of bones or chests.

    The pictures are **synthetic**: bars, ovals and noise in grey, not X-rays of any patient. They
    show that a study runs; a score on them says nothing about medicine.

    Parameters
    ----------
    kind : {"bone", "chest", "lung"}
        What to draw: bones, broken or whole; chests of three classes, or of four.
    n_samples : int, default=1000
        Number of images. Every class has its share in the public set of this kind, rounded.
    image_size : int, default=64
        Height and width in pixels, at least 8.
    random_state : int, RandomState, Generator or None, default=None
        Random seed. None draws a new set on each call. NumPy's global random state is neither read
        nor changed.

    Returns
    -------
    X : ndarray of shape (n_samples, image_size, image_size), dtype uint8
        The images.
    y : ndarray of shape (n_samples,), dtype int64
        The labels, numbered in the order of the sorted class names of the public set.

    Raises
    ------
    ValueError
        If `kind` is unknown, or another parameter is out of range.

    See Also
    --------
    make_blood_cells : Synthetic cells.
    make_brain_slices : Synthetic slices of brains.

    Examples
    --------
    >>> from kmedclf.datasets import make_xrays
    >>> X, y = make_xrays("bone", 100, random_state=0)
    >>> X.shape, X.dtype.name, y.shape
    ((100, 64, 64), 'uint8', (100,))
    """
    if kind not in XRAYS:
        raise ValueError(
            f"The 'kind' parameter of make_xrays must be one of {', '.join(map(repr, XRAYS))}. "
            f"Got {kind!r} instead."
        )
    check_count("n_samples", n_samples, 1, "make_xrays")
    check_count("image_size", image_size, 8, "make_xrays")
    rng = generator(random_state, "make_xrays")
    y = rng.permutation(labels_by_share(XRAYS[kind].weights, n_samples))
    X = np.empty((n_samples, image_size, image_size), np.uint8)
    step = max(1, _BLOCK_PIXELS // image_size**2)
    for start in range(0, n_samples, step):
        block = y[start : start + step]
        image = XRAYS[kind].draw(block, _Plane(len(block), image_size), rng)
        image = image * column(np.exp(0.06 * normal(rng, len(block))))
        image = image + 5 * normal(rng, len(block), image_size, image_size)
        X[start : start + step] = np.clip(image + 0.5, 0, 255).astype(np.uint8)
    return X, y
