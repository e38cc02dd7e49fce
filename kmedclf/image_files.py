"""Image files as arrays of a model's shape."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def find_images(paths: Sequence[Path]) -> list[Path]:
    """List images: files as they are given, folders as the image files in them, sorted."""
    from PIL import Image

    suffixes = Image.registered_extensions()
    found: list[Path] = []
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(f"There is no file or folder {path}.")
        inside = sorted(path.rglob("*")) if path.is_dir() else []
        images = [file for file in inside if file.suffix.lower() in suffixes and file.is_file()]
        if path.is_dir() and not images:
            raise FileNotFoundError(f"There is no image in the folder {path}.")
        found += images or [path]
    return found


def read_images(paths: Sequence[Path], shape: tuple[int, int, int]) -> tuple[np.ndarray, int]:
    """Read image files as uint8 (n, h, w, c) of a model's shape; also, how many were resized."""
    height, width, channels = shape
    if width == 1 or channels not in MODES:
        raise ValueError(f"A model of images of shape {shape} cannot be used on image files.")
    X, n_resized = np.empty((len(paths), *shape), np.uint8), 0
    for row, path in zip(X, paths, strict=True):
        image = _open(path, MODES[channels])
        n_resized += image.size != (width, height)
        if image.size != (width, height):
            image = image.resize((width, height), 2)  # bilinear, over all pixels that shrink
        row[...] = np.asarray(image).reshape(shape)
    return X, n_resized


def _open(path: Path, mode: str) -> Any:
    from PIL import Image

    try:
        with Image.open(path) as image:
            frames = getattr(image, "n_frames", 1)
            if frames == 1:
                if image.mode.startswith("I;16"):  # Pillow would clip 16 bits, not scale them
                    grey = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
                    return grey.convert(mode)
                return image.convert(mode)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} is not an image that can be read ({error}).") from error
    raise ValueError(f"{path} must hold one image. It holds {frames}.")
