"""Images as they are shown, whatever they are stored as."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from kmedclf.image_files import open_image


def picture(image: Any, image_shape: Sequence[int] | None = None) -> np.ndarray:
    """Turn one image into 8 bits a channel.

    Parameters
    ----------
    image : array-like of shape (h, w), (h, w, c) or (d,), or path-like
        uint8 as it is; other integers are scaled by their dtype's maximum, floats in [0, 1] by
        255, other floats from their least to their largest value.
    image_shape : sequence of int, optional
        Shape of a flat image; without it d pixels are a square if they can be one.

    Returns
    -------
    ndarray of shape (h, w, 3), uint8
        To be shown.
    """
    if isinstance(image, str | os.PathLike):
        return np.asarray(open_image(os.fspath(image)))
    pixels = np.asarray(image)
    if pixels.ndim == 1:
        pixels = pixels.reshape(tuple(image_shape) if image_shape else _square(len(pixels)))
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    pixels = _eight_bits(pixels)
    if pixels.shape[2] in (1, 2):  # grey, perhaps with transparency
        return np.repeat(pixels[..., :1], 3, axis=2)
    return pixels[..., :3]


def thumbnail(image: Any, side: int, image_shape: Sequence[int] | None = None) -> Image.Image:
    """Make a picture of at most ``side`` pixels in height and width; small ones stay as small."""
    made = Image.fromarray(picture(image, image_shape))
    made.thumbnail((side, side), Image.Resampling.LANCZOS)
    return made


def _square(d: int) -> tuple[int, ...]:
    for channels in (1, 3):
        side = round((d / channels) ** 0.5)
        if side * side * channels == d:
            return side, side, channels
    return 1, d, 1


def _eight_bits(pixels: np.ndarray) -> np.ndarray:
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype == bool:
        return pixels.astype(np.uint8) * 255
    if pixels.dtype.kind in "iu" and pixels.dtype.itemsize <= 2:
        scaled = pixels / np.iinfo(pixels.dtype).max
    else:
        scaled = np.nan_to_num(pixels.astype(np.float64))
        low, high = scaled.min(), scaled.max()
        if low < 0 or high > 1:
            scaled = (scaled - low) / max(high - low, 1e-12)
    return np.round(np.clip(scaled, 0, 1) * 255).astype(np.uint8)
