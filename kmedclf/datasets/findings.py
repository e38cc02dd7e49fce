"""Chest X-rays with several findings drawn by a program, for demos and tests of several labels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kmedclf.datasets._drawing import Floats, check_count, column, field, generator, normal

FINDINGS = ("nodule", "effusion", "cardiomegaly", "infiltration")
"""Names of the columns of y."""
_RATES = (0.25, 0.15, 0.25, 0.2)
_WITH_LARGE_HEART = 0.5  # effusions follow a heart that fails
_BODY, _LUNG, _DENSE = 150.0, 70.0, 175.0  # grey levels


def make_chest_findings(
    n_samples: int = 1000,
    image_size: int = 28,
    random_state: int | np.random.RandomState | np.random.Generator | None = None,
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Draw a synthetic set of chest X-rays, each with any number of four findings.

    The pictures are **synthetic**: ovals, discs and noise in grey, not X-rays of any patient. They
    serve demos, tests and benchmarks of speed; a score on them says nothing about medicine.

    Parameters
    ----------
    n_samples : int, default=1000
        Number of images.
    image_size : int, default=28
        Height and width in pixels, at least 8.
    random_state : int, RandomState, Generator or None, default=None
        Seed of everything that is drawn. None draws a new set on each call. Numpy's global
        random state is neither read nor changed.

    Returns
    -------
    X : ndarray of shape (n_samples, image_size, image_size), dtype uint8
        The images.
    y : ndarray of shape (n_samples, 4), dtype int64
        Zeros and ones: nodule, effusion, cardiomegaly, infiltration. About a third of the images
        have none; an effusion is more frequent with cardiomegaly.

    Raises
    ------
    ValueError
        If `n_samples`, `image_size` or `random_state` is out of range.

    Examples
    --------
    >>> from kmedclf.datasets import make_chest_findings
    >>> X, y = make_chest_findings(100, random_state=0)
    >>> X.shape, X.dtype.name, y.shape
    ((100, 28, 28), 'uint8', (100, 4))
    """
    check_count("n_samples", n_samples, 1, "make_chest_findings")
    check_count("image_size", image_size, 8, "make_chest_findings")
    rng = generator(random_state, "make_chest_findings")
    has = rng.random((n_samples, len(FINDINGS))) < _RATES
    has[:, 1] |= has[:, 2] & (rng.random(n_samples) < _WITH_LARGE_HEART)
    X = np.empty((n_samples, image_size, image_size), np.uint8)
    for start in range(0, n_samples, 256):
        block = slice(start, start + 256)
        X[block] = _draw(has[block], image_size, rng)
    return X, has.astype(np.int64)


def _draw(has: NDArray[np.bool_], size: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw one block of images (n, size, size): body, lungs, heart, findings, noise."""
    n = len(has)
    nodule, effusion, large, infiltration = has.T
    axis = (np.arange(size, dtype=np.float32) + 0.5) * (2 / size) - 1
    x = np.broadcast_to(axis[None, None, :], (n, size, size))
    y = np.broadcast_to(axis[None, :, None], (n, size, size))
    soft = np.float32(size / 4)  # edges of two pixels
    middle = column(0.04 * normal(rng, n))

    def oval(x0: Any, y0: Any, wide: Any, high: Any) -> Floats:
        reach = np.sqrt(((x - x0) / wide) ** 2 + ((y - y0) / high) ** 2)
        return np.clip((1 - reach) * np.minimum(wide, high) * soft + 0.5, 0, 1)

    lungs = [oval(middle + side * 0.42, -0.05, 0.33, 0.68) for side in (-1, 1)]
    image = _BODY + (_LUNG - _BODY) * np.maximum(*lungs)
    width = np.where(large, 0.46, 0.25) + 0.02 * normal(rng, n)
    heart = oval(middle + 0.10, 0.30, column(width), column(0.9 * width))
    image = image + (_DENSE - image) * heart
    side = rng.integers(0, 2, n)
    lung = np.where(column(side) == 0, *lungs)
    place = (2 * side - 1) * 0.45 + 0.06 * normal(rng, n)
    disc = oval(middle + column(place), column(-0.3 + 0.12 * normal(rng, n)), 0.15, 0.15)
    image = image + (_DENSE - image) * disc * column(nodule)
    level = np.clip((y - column(0.22 + 0.05 * normal(rng, n))) * soft + 0.5, 0, 1)
    image = image + (_DENSE - image) * level * lung * column(effusion)
    other = np.where(column(side) == 1, *lungs)
    patches = np.clip(field(rng, n, 9, size) + 0.6, 0, 1)
    image = image + 55 * patches * other * column(infiltration)
    image = image * column(np.exp(0.06 * normal(rng, n))) + 5 * normal(rng, n, size, size)
    return np.clip(image + 0.5, 0, 255).astype(np.uint8)
