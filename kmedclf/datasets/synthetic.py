"""Synthetic blood cells and chest X-rays, for demos and tests without a download."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]


def labels_by_share(weights: Sequence[float], n: int) -> NDArray[np.int64]:
    """Return ordered labels (n,), as many of each class as its share of the weights, rounded."""
    ends = np.cumsum(weights, dtype=float)
    return np.searchsorted(ends / ends[-1], (np.arange(n) + 0.5) / n).astype(np.int64)


def check_count(name: str, value: int, least: int, caller: str) -> None:
    """Check an integer parameter."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise ValueError(
            f"The '{name}' parameter of {caller} must be an int of at least {least}. "
            f"Got {value!r} instead."
        )


def generator(
    random_state: int | np.random.RandomState | np.random.Generator | None,
    caller: str,
) -> np.random.Generator:
    """Turn any seed into a Generator; a RandomState is advanced by one draw, as in scikit-learn."""
    if isinstance(random_state, np.random.RandomState):
        return np.random.default_rng(random_state.randint(2**31))
    if isinstance(random_state, bool) or not (
        random_state is None
        or isinstance(random_state, np.random.Generator)
        or (isinstance(random_state, (int, np.integer)) and random_state >= 0)
    ):
        raise ValueError(
            f"The 'random_state' parameter of {caller} must be an int of at least 0, a "
            f"RandomState, a Generator or None. Got {random_state!r} instead."
        )
    return np.random.default_rng(random_state)


def normal(rng: np.random.Generator, *shape: int) -> Floats:
    """Draw standard normal numbers in float32."""
    return rng.standard_normal(shape, np.float32)


def column(values: NDArray[Any]) -> Floats:
    """Reshape one number per image, (n,) to (n, 1, 1), to broadcast over pixels."""
    return np.asarray(values, np.float32)[:, None, None]


def field(rng: np.random.Generator, n: int, cells: int, size: int) -> Floats:
    """Draw smooth noise (n, size, size) with `cells` knots per side, whatever the size."""
    place = np.linspace(0, cells - 1, size, dtype=np.float32)
    weights = np.maximum(0, 1 - np.abs(place[:, None] - np.arange(cells, dtype=np.float32)))
    return weights @ normal(rng, n, cells, cells) @ weights.T


Colour = tuple[int, int, int]


class _Look(NamedTuple):
    """Appearance of one kind of cell; lengths of the nucleus are fractions of the cell radius."""

    weight: int  # images in BloodMNIST's training split, the class's weight here
    radius: tuple[float, float]  # mean and spread, in half image widths
    lobes: tuple[int, int]  # fewest and most discs that make up the nucleus
    arc: float  # distance of the discs from the cell's centre
    step: float  # angle between neighbouring discs, radians
    lobe: float  # radius of a disc; 0 draws no nucleus
    cytoplasm: Colour
    nucleus: Colour
    granule: Colour
    granules: float  # how strongly granules cover the cytoplasm, 0 to 1
    cover: float  # how strongly they hide the nucleus, 0 to 1


# In the order of BloodMNIST's labels. Colours overlap on purpose: neighbours in maturity
# (granulocytes, lymphocyte and erythroblast) differ in shape and texture more than in stain.
_LOOKS = {
    "basophil": _Look(
        852, (0.55, 0.06), (1, 3), 0.22, 1.6, 0.62,
        (168, 118, 176), (88, 52, 144), (62, 26, 112), 0.85, 0.60,
    ),
    "eosinophil": _Look(
        2181, (0.59, 0.07), (2, 3), 0.45, 2.0, 0.42,
        (208, 150, 176), (88, 50, 142), (196, 104, 136), 0.60, 0.05,
    ),
    "erythroblast": _Look(
        1085, (0.45, 0.09), (1, 1), 0.17, 0.0, 0.66,
        (178, 160, 194), (66, 36, 116), (150, 130, 180), 0.05, 0.00,
    ),
    "immature granulocytes": _Look(
        2026, (0.64, 0.08), (1, 3), 0.28, 1.0, 0.58,
        (178, 142, 190), (92, 52, 148), (136, 88, 164), 0.35, 0.10,
    ),
    "lymphocyte": _Look(
        849, (0.47, 0.07), (1, 2), 0.10, 1.2, 0.80,
        (170, 152, 200), (78, 42, 132), (140, 116, 180), 0.05, 0.00,
    ),
    "monocyte": _Look(
        993, (0.67, 0.07), (3, 4), 0.36, 0.85, 0.46,
        (172, 152, 190), (98, 60, 150), (200, 186, 208), 0.25, 0.05,
    ),
    "neutrophil": _Look(
        2330, (0.58, 0.07), (3, 5), 0.46, 0.95, 0.29,
        (206, 170, 192), (84, 46, 138), (180, 130, 176), 0.30, 0.03,
    ),
    "platelet": _Look(
        1643, (0.25, 0.05), (1, 1), 0.00, 0.0, 0.00,
        (176, 138, 178), (110, 70, 150), (116, 70, 148), 0.60, 0.00,
    ),
}  # fmt: skip

_BACKGROUND: Colour = (252, 228, 202)
_RED_CELL: Colour = (206, 170, 158)
_MAX_RED_CELLS = 6
# Blocks of this many pixels fit into the processor's cache and bound the memory
_BLOCK_PIXELS = 200_000


def make_blood_cells(
    n_samples: int = 1000,
    image_size: int = 28,
    random_state: int | np.random.RandomState | np.random.Generator | None = None,
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Draw a labelled set of synthetic blood cells.

    The pictures are **synthetic**: discs, lobes and noise in the colours of a stain, not cells of
    any patient. They serve demos, tests and benchmarks of speed; a score on them says nothing
    about medicine. Classes and their proportions are those of BloodMNIST's training split.

    Parameters
    ----------
    n_samples : int, default=1000
        Number of images. Every class has its exact share, rounded, so that 15 or more images
        contain all eight classes.
    image_size : int, default=28
        Height and width in pixels, at least 8.
    random_state : int, RandomState, Generator or None, default=None
        Random seed. None draws a new set on each call. NumPy's global random state is neither read
        nor changed.

    Returns
    -------
    X : ndarray of shape (n_samples, image_size, image_size, 3), dtype uint8
        The images, in RGB.
    y : ndarray of shape (n_samples,), dtype int64
        The labels 0 to 7, numbered as in ``datasets.info("bloodmnist").class_names``.

    Raises
    ------
    ValueError
        If `n_samples`, `image_size` or `random_state` is out of range.

    See Also
    --------
    kmedclf.datasets.load : The real images.

    Notes
    -----
    Each cell has a random place, turn, size, elongation and outline. Its nucleus is a union of
    discs along an arc: one disc is a round nucleus, two separate discs a bilobed one, overlapping
    discs a kidney, many discs a horseshoe or ring. Stain and brightness vary between images as
    optical density, then noise is added. The colours of the classes overlap, so that a network has
    to learn shapes.

    Examples
    --------
    >>> from kmedclf.datasets import make_blood_cells
    >>> X, y = make_blood_cells(100, random_state=0)
    >>> X.shape, X.dtype.name, y.shape
    ((100, 28, 28, 3), 'uint8', (100,))
    """
    check_count("n_samples", n_samples, 1, "make_blood_cells")
    check_count("image_size", image_size, 8, "make_blood_cells")
    rng = generator(random_state, "make_blood_cells")
    y = rng.permutation(labels_by_share([look.weight for look in _LOOKS.values()], n_samples))
    X = np.empty((n_samples, image_size, image_size, 3), np.uint8)
    step = max(1, _BLOCK_PIXELS // image_size**2)
    for start in range(0, n_samples, step):
        block = slice(start, start + step)
        X[block] = _draw_cells(y[block], image_size, rng)
    return X, y


def _draw_cells(y: NDArray[np.int64], size: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw a block of images, back to front: background, red cells, cell, nucleus, noise."""
    n = len(y)
    table = {
        name: np.array([getattr(look, name) for look in _LOOKS.values()], np.float32)[y]
        for name in _Look._fields
    }
    axis = (np.arange(size, dtype=np.float32) + 0.5) * (2 / size) - 1
    radius = table["radius"][:, 0] + table["radius"][:, 1] * normal(rng, n)
    radius = np.maximum(radius, 0.14)
    x0, y0 = 0.06 * normal(rng, 2, n)
    shape = field(rng, n, 6, size)  # bends outlines
    grain = field(rng, n, 22, size)  # speckles cells

    image = np.empty((n, size, size, 3), np.float32)
    image[:] = np.array(_BACKGROUND, np.float32)
    _add_red_cells(image, axis, x0, y0, radius, rng)

    # Coordinates (u, v) have their origin in the cell, and are rotated and stretched
    turn = rng.random(n, np.float32) * np.float32(2 * np.pi)
    stretch = np.exp(0.09 * normal(rng, n))
    dx, dy = axis[None, None, :] - column(x0), axis[None, :, None] - column(y0)
    u = (dx * column(np.cos(turn)) + dy * column(np.sin(turn))) * column(stretch)  # (n, size, size)
    v = (dy * column(np.cos(turn)) - dx * column(np.sin(turn))) / column(stretch)

    edge = np.float32(size / 2)  # converts distances to pixels, for edges that are 1 pixel wide
    cell = column(radius) - np.sqrt(u * u + v * v) + 0.05 * shape
    cell = np.clip(cell * edge + 0.5, 0, 1)
    nucleus = _nucleus_distance(u, v, radius, table, rng) + 0.03 * shape
    nucleus = np.clip(nucleus * edge + 0.5, 0, 1) * cell

    speck = np.clip(grain * 1.2 + 0.3, 0, 1)
    strength = np.clip(table["granules"] + 0.12 * normal(rng, n), 0, 1)
    cover = table["cover"] * rng.uniform(0.4, 1.4, n).astype(np.float32)
    _blend(image, cell * 0.94, _tinted(table["cytoplasm"], rng, 8))
    granule = _tinted(table["granule"], rng, 8)
    _blend(image, cell * speck * column(strength), granule)
    chromatin = 0.93 + 0.07 * np.clip(shape, -1, 1)
    _blend(image, nucleus * chromatin, _tinted(table["nucleus"], rng, 9))
    _blend(image, nucleus * speck * column(np.clip(cover, 0, 1)), granule)
    return _develop(image, grain, nucleus, rng)


def _add_red_cells(
    image: Floats, axis: Floats, x0: Floats, y0: Floats, radius: Floats, rng: np.random.Generator
) -> None:
    """Scatter pale-centred red cells around the cell, some of them cut off by the border."""
    n = len(image)
    colour = _tinted(np.tile(np.array(_RED_CELL, np.float32), (n, 1)), rng, 9)
    edge = np.float32(len(axis) / 2)
    shown = rng.integers(1, _MAX_RED_CELLS + 1, n)
    start = rng.random(n) * 2 * np.pi
    alpha = np.zeros(image.shape[:3], np.float32)
    for i in range(_MAX_RED_CELLS):
        angle = start + 2 * np.pi * (i + 0.35 * rng.standard_normal(n)) / _MAX_RED_CELLS
        size = 0.30 + 0.035 * normal(rng, n)
        away = radius + size * rng.uniform(0.8, 1.5, n) + rng.uniform(0, 0.35, n)
        dx = axis[None, None, :] - column(x0 + away * np.cos(angle))
        dy = axis[None, :, None] - column(y0 + away * np.sin(angle))
        inside = (column(size) - np.sqrt(dx * dx + dy * dy)) * edge + 0.5
        disc = np.clip(inside, 0, 1)
        hollow = np.clip((inside / edge) / column(size) * 2 - 0.6, 0, 1)
        disc *= (1 - 0.75 * hollow * column(rng.uniform(0.2, 1, n))) * column(shown > i)
        np.maximum(alpha, disc, out=alpha)
    _blend(image, 0.85 * alpha, colour)


def _nucleus_distance(
    u: Floats, v: Floats, radius: Floats, table: dict[str, Floats], rng: np.random.Generator
) -> Floats:
    """Signed distance (n, size, size) to the rim of the nucleus, positive inside."""
    n = len(radius)
    low, high = table["lobes"].T
    lobes = np.minimum(np.floor(low + rng.random(n) * (high - low + 1)), high)
    step = table["step"] * np.exp(0.18 * normal(rng, n))
    arc = table["arc"] * np.exp(0.14 * normal(rng, n))
    lobe = table["lobe"] * np.exp(0.09 * normal(rng, n))
    # The more discs, the smaller each is, or they would fill the cell
    lobe = lobe * np.where(high > low, (((low + high) / 2) / lobes) ** 0.25, 1)
    distance = np.full(u.shape, -9, np.float32)
    most = max(look.lobes[1] for look in _LOOKS.values())
    for i in range(most):
        angle = (i - (lobes - 1) / 2) * step + 0.12 * normal(rng, n)
        reach = radius * arc * (1 + 0.12 * normal(rng, n))
        disc = radius * lobe * (1 + 0.10 * normal(rng, n))
        du, dv = u - column(reach * np.cos(angle)), v - column(reach * np.sin(angle))
        disc = np.where((lobes > i) & (lobe > 0), disc, -9)
        np.maximum(distance, column(disc) - np.sqrt(du * du + dv * dv), out=distance)
    return distance


def _develop(
    image: Floats, grain: Floats, nucleus: Floats, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Vary stain and brightness between images, add noise and round to uint8."""
    n = len(image)
    # In optical density a stronger stain is a factor and a brighter lamp a summand
    density = np.log(np.float32(255) / np.maximum(image, 1))
    stain = np.exp(0.10 * normal(rng, n, 1) + 0.04 * normal(rng, n, 3))
    lamp = 0.02 * normal(rng, n, 1) + 0.015 * normal(rng, n, 3)
    chromatin = 1 + 0.10 * grain * nucleus
    density *= stain[:, None, None, :] * chromatin[..., None]
    density += lamp[:, None, None, :]
    image = 255 * np.exp(-density)
    image += rng.standard_normal(image.shape, np.float32) * column(rng.uniform(3, 8, n))[..., None]
    return np.clip(image + 0.5, 0, 255).astype(np.uint8)


def _tinted(colours: Floats, rng: np.random.Generator, spread: float) -> Floats:
    """Shift each colour (n, 3) at random, as a whole and per channel."""
    n = len(colours)
    return colours + np.float32(spread) * (normal(rng, n, 1) + 0.6 * normal(rng, n, 3))


def _blend(image: Floats, alpha: Floats, colour: Floats) -> None:
    """Paint colours (n, 3) over images (n, size, size, 3) in place, with alpha (n, size, size)."""
    image += alpha[..., None] * (colour[:, None, None, :] - image)


FINDINGS = ("nodule", "effusion", "cardiomegaly", "infiltration")
"""Names of the columns of y."""
_RATES = (0.25, 0.15, 0.25, 0.2)
_WITH_LARGE_HEART = 0.5  # share of large hearts with an effusion, as in heart failure
_BODY, _LUNG, _DENSE = 150.0, 70.0, 175.0  # grey levels


def make_chest_findings(
    n_samples: int = 1000,
    image_size: int = 28,
    random_state: int | np.random.RandomState | np.random.Generator | None = None,
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Draw a synthetic multilabel set of chest X-rays with up to four findings each.

    The pictures are **synthetic**: ovals, discs and noise in grey, not X-rays of any patient. They
    serve demos, tests and benchmarks of speed; a score on them says nothing about medicine.

    Parameters
    ----------
    n_samples : int, default=1000
        Number of images.
    image_size : int, default=28
        Height and width in pixels, at least 8.
    random_state : int, RandomState, Generator or None, default=None
        Random seed. None draws a new set on each call. NumPy's global random state is neither read
        nor changed.

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
        X[block] = _draw_findings(has[block], image_size, rng)
    return X, has.astype(np.int64)


def _draw_findings(
    has: NDArray[np.bool_], size: int, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Draw a block of images (n, size, size): body, lungs, heart, findings, noise."""
    n = len(has)
    nodule, effusion, large, infiltration = has.T
    axis = (np.arange(size, dtype=np.float32) + 0.5) * (2 / size) - 1
    x = np.broadcast_to(axis[None, None, :], (n, size, size))
    y = np.broadcast_to(axis[None, :, None], (n, size, size))
    soft = np.float32(size / 4)  # converts distances, for edges that are 2 pixels wide
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
    # Infiltrations go to the other lung, where no nodule or effusion covers them
    other = np.where(column(side) == 1, *lungs)
    patches = np.clip(field(rng, n, 9, size) + 0.6, 0, 1)
    image = image + 55 * patches * other * column(infiltration)
    image = image * column(np.exp(0.06 * normal(rng, n))) + 5 * normal(rng, n, size, size)
    return np.clip(image + 0.5, 0, 255).astype(np.uint8)
