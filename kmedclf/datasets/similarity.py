"""Find identical and nearly identical images: turned, mirrored, shifted, recompressed."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kmedclf.inputs.image_files import open_image

SIDE = 32
"""Height and width at which images are compared, in pixels."""


class ImageSummary(NamedTuple):
    """What the search keeps of n images."""

    numbers: NDArray[np.int64]  # (n,) from 0, equal for images of equal shape and pixels
    blank: NDArray[np.bool_]  # (n,) no pixel, a single colour, or a NaN
    shapes: list[str]
    small: NDArray[np.float32]  # (n, 32, 32) grey thumbnails by area means; 0 for blank images


def summarize(X: Any) -> ImageSummary:
    """Summarize images (h, w) or (h, w, c), given as arrays or as paths, one by one."""
    if isinstance(X, np.ndarray) and X.dtype.kind in "buif" and X.ndim not in (3, 4):
        raise ValueError(
            "The 'X' parameter of audit must be of shape (n, h, w) or (n, h, w, c). "
            f"Got {X.shape} instead."
        )
    if not len(X):
        raise ValueError("The 'X' parameter of audit must hold images. Got none.")
    known: dict[bytes, int] = {}
    looks = ImageSummary(np.empty(len(X), np.int64), np.zeros(len(X), bool), [],
                  np.zeros((len(X), SIDE, SIDE), np.float32))  # fmt: skip
    for i in range(len(X)):
        image = _array(X, i)
        # Equal bytes of another shape or dtype are another image
        head = f"{image.shape}{image.dtype.str}".encode()
        digest = hashlib.blake2b(head + np.ascontiguousarray(image).tobytes()).digest()
        looks.numbers[i] = known.setdefault(digest, len(known))
        looks.blank[i] = _is_blank(image)
        looks.shapes.append(" × ".join(map(str, image.shape)))
        if not looks.blank[i]:
            looks.small[i] = thumbnail(image)
    return looks


def _array(X: Sequence[Any], i: int) -> NDArray[Any]:
    """Return an image as an array, and check its shape and dtype."""
    if isinstance(X[i], str | os.PathLike):
        return np.asarray(open_image(os.fspath(X[i])))
    image = np.asarray(X[i])
    if image.ndim not in (2, 3) or image.dtype.kind not in "buif":
        raise ValueError(
            "The 'X' parameter of audit must hold images of shape (h, w) or (h, w, c), or paths. "
            f"Got shape {image.shape} and dtype {image.dtype} at {i}."
        )
    return image


def _is_blank(image: NDArray[Any]) -> bool:
    if image.size == 0 or not np.isfinite(image).all():
        return True
    return bool((image == image[:1, :1]).all())


def thumbnail(image: NDArray[Any]) -> NDArray[np.float32]:
    """Shrink an image (h, w) or (h, w, c) to a grey one (32, 32)."""
    grey = image.astype(np.float32)
    grey = grey.mean(axis=2) if grey.ndim == 3 else grey
    return _area(grey.shape[0]) @ grey @ _area(grey.shape[1]).T


@functools.cache
def _area(n: int) -> NDArray[np.float32]:
    """Return the matrix (32, n) that averages n pixels over areas of n / 32 pixels."""
    edges, pixels = np.arange(SIDE + 1) * n / SIDE, np.arange(n)
    right = np.minimum(edges[1:, None], pixels + 1)
    left = np.maximum(edges[:-1, None], pixels)
    return (np.clip(right - left, 0, None) * SIDE / n).astype(np.float32)


Floats = NDArray[np.float32]

RADIUS = 8
"""Highest frequency of a fingerprint, in periods per image; JPEG changes higher ones."""
ALIKE = 0.75
"""Least correlation of the fingerprints of candidates."""
MAX_SHIFT = 3
"""Largest shift in pixels of a thumbnail, 32: 2 pixels of an image of 28 are 2.3 of them."""
INSIDE = SIDE - 2 * MAX_SHIFT
"""Height and width of the compared window, which stays inside the other image in all shifts."""
SLACK = 0.15
"""Loss of correlation by a shift of half a pixel; 0.11 was measured."""
BLOCK = 1024
"""Number of images that are compared with all others at a time, which bounds memory."""
PAIRS = 1024
"""Number of pairs that are correlated at a time: a few megabytes stay in the cache."""


def near_duplicates(small: Floats, similarity: float) -> tuple[NDArray[np.int64], Floats]:
    """Find pairs of thumbnails (n, 32, 32) that show the same picture.

    Returns the rows of each pair (m, 2), both in ascending order, and their correlation (m,).
    """
    prints, details = fingerprints(small), detail(small)
    rows: list[NDArray[np.int64]] = []
    values: list[Floats] = []
    for first, second, turn in _candidates(prints):
        for start in range(0, len(first), PAIRS):
            part = slice(start, start + PAIRS)
            value = correlation(details[first[part]], details[second[part]], turn, similarity)
            good = value >= similarity
            rows.append(np.stack([first[part], second[part]], axis=1)[good])
            values.append(value[good])
    if not rows:
        return np.empty((0, 2), np.int64), np.empty(0, np.float32)
    pairs, where = np.unique(np.concatenate(rows), axis=0, return_inverse=True)
    best = np.zeros(len(pairs), np.float32)
    # A pair may be found in more than one position
    np.maximum.at(best, where.ravel(), np.concatenate(values))
    return pairs, best


def _frequencies() -> list[tuple[int, int]]:
    """List the frequencies up to `RADIUS`, one of each opposite pair."""
    span = range(-RADIUS, RADIUS + 1)
    # Opposite frequencies of a real image have equal magnitudes
    half = [(u, v) for u, v in product(span, span) if u > 0 or (u == 0 and v > 0)]
    return [(u, v) for u, v in half if u * u + v * v <= RADIUS * RADIUS]


def fingerprints(small: Floats) -> Floats:
    """Describe thumbnails by Fourier magnitudes (n, 98) of mean 0 and length 1."""
    u, v = np.array(_frequencies()).T
    # The window damps the pixels that a shift moves in at an edge
    window = np.sin(np.pi * (np.arange(SIDE) + 0.5) / SIDE)
    # Low frequencies hold most of the power, and are alike in all brains: the factor and the
    # square root reduce their weight
    boost = np.hypot(u, v) ** 1.5
    magnitudes = np.empty((len(small), len(u)), np.float32)
    for start in range(0, len(small), BLOCK):
        part = small[start : start + BLOCK]
        part = (part - part.mean(axis=(1, 2), keepdims=True)) * np.outer(window, window)
        magnitudes[start : start + BLOCK] = np.sqrt(np.abs(np.fft.fft2(part))[:, u, v] * boost)
    magnitudes -= magnitudes.mean(axis=1, keepdims=True)
    magnitudes /= np.maximum(np.linalg.norm(magnitudes, axis=1, keepdims=True), 1e-12)
    return magnitudes


def _turned() -> list[NDArray[np.int64]]:
    """Return how mirroring, transposing, or both, permute the frequencies."""
    number = {f: i for i, (u, v) in enumerate(_frequencies()) for f in ((u, v), (-u, -v))}
    changes = [(1, 1, 0), (1, -1, 0), (1, 1, 1), (1, -1, 1)]  # sign, sign, swapped
    order = [
        [number[(a * v, b * u) if swap else (a * u, b * v)] for u, v in _frequencies()]
        for a, b, swap in changes
    ]
    return [np.array(one) for one in order]


def _candidates(prints: Floats) -> Iterator[tuple[NDArray[Any], NDArray[Any], int]]:
    """Yield pairs (first, second) with similar fingerprints, and one of four positions."""
    for start in range(0, len(prints), BLOCK):
        block, rest = prints[start : start + BLOCK], prints[start:].T
        for turn, order in enumerate(_turned()):
            # Turning the first image equals turning the second one back: half the pairs suffice
            first, second = np.nonzero(block[:, order] @ rest >= ALIKE)
            new = second > first
            yield first[new] + start, second[new] + start, turn


def detail(small: Floats) -> Floats:
    """Keep the details of thumbnails (n, 32, 32) that are between 1 and 2 pixels wide."""
    # Coarse shapes are alike in all brains and cells; finer details change with half a pixel
    fine, coarse = _gaussian(1.0), _gaussian(2.0)
    difference = fine @ small @ fine.T - coarse @ small @ coarse.T
    return difference.astype(np.float32, copy=False)


def _gaussian(sigma: float) -> Floats:
    i = np.arange(SIDE)
    weights = np.exp(-((i[:, None] - i) ** 2) / (2 * sigma**2))
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def correlation(a: Floats, b: Floats, turn: int, wanted: float) -> Floats:
    """Correlate details (m, 32, 32) pair by pair, (m,): the best of two positions and all shifts.

    ``turn`` is the position that `_candidates` gave. Pairs that cannot reach ``wanted`` are not
    refined to half pixels.
    """
    a = a.swapaxes(1, 2) if turn >= 2 else a
    a = a[:, :, ::-1] if turn % 2 else a
    best = np.zeros(len(a), np.float32)
    windows = _windows(b)
    for turned in (a, a[:, ::-1, ::-1]):  # Fourier magnitudes do not show a half turn
        value = _shifted(turned, *windows)
        rows = np.flatnonzero(value >= wanted - SLACK)
        for half in _halves(b[rows]) if len(rows) else ():
            value[rows] = np.maximum(value[rows], _shifted(turned[rows], *_windows(half)))
        best = np.maximum(best, value)
    return best


def _windows(b: Floats) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the Fourier transform of details, and the power of each window (m, 7, 7)."""
    sums = np.zeros((len(b), SIDE + 1, SIDE + 1))  # integral image of the squares
    sums[:, 1:, 1:] = np.square(b, dtype=np.float64).cumsum(axis=1).cumsum(axis=2)
    rows = sums[:, INSIDE:] - sums[:, :-INSIDE]
    return np.fft.rfft2(b), rows[:, :, INSIDE:] - rows[:, :, :-INSIDE]


def _shifted(a: Floats, spectrum: NDArray[Any], power: NDArray[Any]) -> Floats:
    """Correlate the inside of a with all windows of b, and return the maximum (m,)."""
    # Details have a mean of about 0, so that dot products over lengths are correlations
    cut = np.zeros_like(a)  # (m, 32, 32); the zeros prevent circular wrap-around
    cut[:, :INSIDE, :INSIDE] = a[:, MAX_SHIFT : MAX_SHIFT + INSIDE, MAX_SHIFT : MAX_SHIFT + INSIDE]
    both = np.conj(np.fft.rfft2(cut)) * spectrum
    dots = np.fft.irfft2(both, s=(SIDE, SIDE), axes=(1, 2))
    dots = dots[:, : 2 * MAX_SHIFT + 1, : 2 * MAX_SHIFT + 1]  # (m, 7, 7)
    lengths = np.sqrt(np.maximum(power * np.square(cut).sum(axis=(1, 2), keepdims=True), 1e-12))
    return (dots / lengths).max(axis=(1, 2)).astype(np.float32)


def _halves(b: Floats) -> Iterator[Floats]:
    """Yield details that are shifted by half a pixel down, right, and both."""
    down, right = b.copy(), b.copy()
    down[:, :-1] = (b[:, :-1] + b[:, 1:]) / 2
    right[:, :, :-1] = (b[:, :, :-1] + b[:, :, 1:]) / 2
    both = down.copy()
    both[:, :, :-1] = (down[:, :, :-1] + down[:, :, 1:]) / 2
    yield from (down, right, both)
