"""Images that are there twice, or nearly: turned, mirrored, moved, compressed again.

Near copies are found in two steps. Magnitudes of the Fourier transform do not change when an image
moves, and a mirror or a quarter turn only permutes them: one matrix product per block of images
compares all pairs under all of these. What is left, some pairs in ten thousand, is then laid on top
of each other in all eight positions and in shifts of half a pixel, and correlated.

Both steps look at two images and nothing else, so that the verdict on a pair does not depend on
the other images of a set. The constants were chosen on images of brains (64 × 64) and blood cells
(28 × 28): see `kmedclf.datasets.audit`.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kmedclf.datasets._look import SIDE

Floats = NDArray[np.float32]

RADIUS = 8
"""Highest frequency of a fingerprint, in periods per image; JPEG changes those above."""
ALIKE = 0.75
"""Least correlation of the fingerprints of a pair that is looked at closely."""
REACH = 3
"""Farthest shift tried, in pixels of 32: 2 pixels of an image of 28 are 2.3 of them."""
INSIDE = SIDE - 2 * REACH
"""Height and width of what is compared: it lies in the other image under every shift."""
SLACK = 0.15
"""What a copy may lose in correlation when it is off by half a pixel; 0.11 was measured."""
BLOCK = 1024
"""Images that are compared with all others at a time: bounds memory."""
PAIRS = 1024
"""Pairs that are laid on top of each other at a time: few megabytes stay in the cache."""


def near(small: Floats, similarity: float) -> tuple[NDArray[np.int64], Floats]:
    """Find pairs of images that show the same picture.

    Parameters
    ----------
    small : ndarray of shape (n, 32, 32)
        Thumbnails of images that are not blank.
    similarity : float
        Least correlation of a pair.

    Returns
    -------
    pairs : ndarray of shape (m, 2)
        Rows of two images, the first one first, in ascending order.
    similarity : ndarray of shape (m,)
        Their correlation.
    """
    prints, details = fingerprints(small), detail(small)
    found: list[NDArray[np.int64]] = []
    values: list[Floats] = []
    for first, second, turn in _candidates(prints):
        for start in range(0, len(first), PAIRS):
            part = slice(start, start + PAIRS)
            value = correlation(details[first[part]], details[second[part]], turn, similarity)
            good = value >= similarity
            found.append(np.stack([first[part], second[part]], axis=1)[good])
            values.append(value[good])
    if not found:
        return np.empty((0, 2), np.int64), np.empty(0, np.float32)
    pairs, where = np.unique(np.concatenate(found), axis=0, return_inverse=True)
    best = np.zeros(len(pairs), np.float32)
    np.maximum.at(best, where.ravel(), np.concatenate(values))  # of the positions it was found in
    return pairs, best


def _frequencies() -> list[tuple[int, int]]:
    """List one of every two opposite frequencies up to the radius: magnitudes are the same."""
    span = range(-RADIUS, RADIUS + 1)
    half = [(u, v) for u, v in product(span, span) if u > 0 or (u == 0 and v > 0)]
    return [(u, v) for u, v in half if u * u + v * v <= RADIUS * RADIUS]


def fingerprints(small: Floats) -> Floats:
    """Describe thumbnails by their magnitudes (n, 98), of mean 0 and length 1.

    A sine window keeps what enters at one edge from counting. Images have most of their power in
    low frequencies, where all brains are alike: the factor and the root even this out.
    """
    u, v = np.array(_frequencies()).T
    window = np.sin(np.pi * (np.arange(SIDE) + 0.5) / SIDE)
    boost = np.hypot(u, v) ** 1.5
    made = np.empty((len(small), len(u)), np.float32)
    for start in range(0, len(small), BLOCK):
        part = small[start : start + BLOCK]
        part = (part - part.mean(axis=(1, 2), keepdims=True)) * np.outer(window, window)
        made[start : start + BLOCK] = np.sqrt(np.abs(np.fft.fft2(part))[:, u, v] * boost)
    made -= made.mean(axis=1, keepdims=True)
    made /= np.maximum(np.linalg.norm(made, axis=1, keepdims=True), 1e-12)
    return made


def _turned() -> list[NDArray[np.int64]]:
    """Say where each frequency comes from in an image that is mirrored, transposed, or both."""
    number = {f: i for i, (u, v) in enumerate(_frequencies()) for f in ((u, v), (-u, -v))}
    changes = [(1, 1, 0), (1, -1, 0), (1, 1, 1), (1, -1, 1)]  # sign, sign, swapped
    order = [
        [number[(a * v, b * u) if swap else (a * u, b * v)] for u, v in _frequencies()]
        for a, b, swap in changes
    ]
    return [np.array(one) for one in order]


def _candidates(prints: Floats) -> Iterator[tuple[NDArray[Any], NDArray[Any], int]]:
    """Yield pairs (first, second) whose fingerprints are alike, and in which of four positions."""
    for start in range(0, len(prints), BLOCK):
        block, rest = prints[start : start + BLOCK], prints[start:].T
        for turn, order in enumerate(_turned()):
            # Any turn of the first one undoes one of the second: half of all pairs is enough.
            first, second = np.nonzero(block[:, order] @ rest >= ALIKE)
            new = second > first
            yield first[new] + start, second[new] + start, turn


def detail(small: Floats) -> Floats:
    """Leave what is between 1 and 2 pixels wide in thumbnails (n, 32, 32).

    The coarse shapes are those of all brains and all cells; what is finer does not survive a shift
    by half a pixel.
    """
    fine, coarse = _gaussian(1.0), _gaussian(2.0)
    made = fine @ small @ fine.T - coarse @ small @ coarse.T
    return made.astype(np.float32, copy=False)


def _gaussian(sigma: float) -> Floats:
    i = np.arange(SIDE)
    weights = np.exp(-((i[:, None] - i) ** 2) / (2 * sigma**2))
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def correlation(a: Floats, b: Floats, turn: int, wanted: float) -> Floats:
    """Correlate details pair by pair (m,), in the best of two positions and all shifts.

    Parameters
    ----------
    a, b : ndarray of shape (m, 32, 32)
        Details.
    turn : {0, 1, 2, 3}
        How `_candidates` turned the first one; a half turn does not show in magnitudes.
    wanted : float
        Pairs that cannot reach it are not refined to half pixels.
    """
    a = a.swapaxes(1, 2) if turn >= 2 else a
    a = a[:, :, ::-1] if turn % 2 else a
    best = np.zeros(len(a), np.float32)
    windows = _windows(b)
    for turned in (a, a[:, ::-1, ::-1]):
        value = _shifted(turned, *windows)
        rows = np.flatnonzero(value >= wanted - SLACK)
        for half in _halves(b[rows]) if len(rows) else ():
            value[rows] = np.maximum(value[rows], _shifted(turned[rows], *_windows(half)))
        best = np.maximum(best, value)
    return best


def _windows(b: Floats) -> tuple[NDArray[Any], NDArray[Any]]:
    """Transform details, and sum the squares of each of their windows (m, 7, 7)."""
    sums = np.zeros((len(b), SIDE + 1, SIDE + 1))  # of squares, up to each pixel
    sums[:, 1:, 1:] = np.square(b, dtype=np.float64).cumsum(axis=1).cumsum(axis=2)
    rows = sums[:, INSIDE:] - sums[:, :-INSIDE]
    return np.fft.rfft2(b), rows[:, :, INSIDE:] - rows[:, :, :-INSIDE]


def _shifted(a: Floats, spectrum: NDArray[Any], power: NDArray[Any]) -> Floats:
    """Correlate the inside of a with all windows of b; details have a mean of about 0."""
    cut = np.zeros_like(a)  # (m, 32, 32); its zeros keep the transform from going around
    cut[:, :INSIDE, :INSIDE] = a[:, REACH : REACH + INSIDE, REACH : REACH + INSIDE]
    both = np.conj(np.fft.rfft2(cut)) * spectrum
    dots = np.fft.irfft2(both, s=(SIDE, SIDE), axes=(1, 2))
    dots = dots[:, : 2 * REACH + 1, : 2 * REACH + 1]  # (m, 7, 7)
    lengths = np.sqrt(np.maximum(power * np.square(cut).sum(axis=(1, 2), keepdims=True), 1e-12))
    return (dots / lengths).max(axis=(1, 2)).astype(np.float32)


def _halves(b: Floats) -> Iterator[Floats]:
    """Move details by half a pixel down, right, and both."""
    down, right = b.copy(), b.copy()
    down[:, :-1] = (b[:, :-1] + b[:, 1:]) / 2
    right[:, :, :-1] = (b[:, :, :-1] + b[:, :, 1:]) / 2
    both = down.copy()
    both[:, :, :-1] = (down[:, :, :-1] + down[:, :, 1:]) / 2
    yield from (down, right, both)
