"""Image files as arrays: one way to read every format, so that a picture is the same in all.

Pillow reads all but DICOM. It decodes outside Python's lock, in as many threads as there are cores,
and was no slower there than TensorFlow's own decoders on JPEG, slower on small PNG; but those know
neither TIFF nor EXIF, and round otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NoReturn

import numpy as np

MODES = {1: "L", 3: "RGB", 4: "RGBA"}
BILINEAR = 2  # of Pillow: over all pixels that shrink into one
DEEP = "F"  # mode of 16-bit grey images while they are resized


@dataclass(frozen=True)
class Form:
    """What files are made into.

    Parameters
    ----------
    height, width : int
        In pixels.
    channels : {1, 3, 4}
        Grey, RGB, or RGB with transparency.
    resize : {"stretch", "pad", "crop"}, default="stretch"
        Whether an image of other proportions is distorted, padded with black, or cut.
    """

    height: int
    width: int
    channels: int
    resize: str = "stretch"

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape (h, w, c)."""
        return self.height, self.width, self.channels


def read(path: str | Path, form: Form) -> np.ndarray:
    """Read an image file.

    Parameters
    ----------
    path : str or Path
        PNG, JPEG, BMP, GIF (its first frame), TIFF, DICOM or whatever else Pillow can read.
    form : Form
        Size and channels to make of it.

    Returns
    -------
    ndarray of shape (h, w, c), uint8 or uint16
        The pixels, turned as EXIF says. 16 bits stay 16 bits. DICOM values are windowed as the file
        says, from black to white, and uint16 if it stores more than 8 bits.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no image, damaged, or holds several.
    ImportError
        If it is DICOM, and pydicom is not installed.
    """
    # JPEG is decoded at a half, a quarter or an eighth where twice the size is left: much faster
    side = 2 * max(form.height, form.width)
    with _explained(path), open(path, "rb") as file:
        image = _open(file, str(path), MODES[form.channels], side)
        return _array(_resized(image, form), form.channels)


def open_image(path: str | Path, mode: str = "RGB") -> Any:
    """Open an image file as an image of Pillow, at its own size, with 8 bits; errors as of `read`.

    Parameters
    ----------
    path : str or Path
        The file.
    mode : {"L", "RGB", "RGBA"}, default="RGB"
        Grey, colour, or colour with transparency.
    """
    from PIL import Image

    with _explained(path), open(path, "rb") as file:
        image = _open(file, str(path), mode)
        if image.mode == DEEP:
            image = Image.fromarray(to_depth(_array(image, 1)[..., 0], np.dtype(np.uint8)))
        return image.convert(mode)


def read_images(paths: Sequence[str | Path], shape: tuple[int, int, int]) -> np.ndarray:
    """Read a few image files as uint8 (n, h, w, c); many are better left on disk."""
    read_one = [to_depth(read(path, Form(*shape)), np.dtype(np.uint8)) for path in paths]
    return np.stack(read_one)


class _Unfit(ValueError):
    """An image that is whole, but not one of ours."""


def refuse(path: str | Path, error: Exception | str) -> NoReturn:
    """Say in one sentence what is wrong with a file."""
    if isinstance(error, ImportError):
        raise error
    if isinstance(error, FileNotFoundError):
        raise FileNotFoundError(f"There is no file {path}.") from None
    if isinstance(error, _Unfit):
        raise ValueError(f"{path} {error}") from None
    reason = " ".join(str(error).split()).rstrip(".")
    if reason.startswith("cannot identify image file"):
        reason = "no known format"
    cause = error if isinstance(error, Exception) else None
    raise ValueError(f"{path} is not an image that can be read ({reason}).") from cause


@contextmanager
def _explained(path: str | Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # whatever damaged bytes make a decoder raise
        refuse(path, error)


def _open(file: IO[bytes], path: str, mode: str, side: int | None = None) -> Any:
    """Open a file as a Pillow image of the mode, or F; of at least ``side`` pixels, if given."""
    from PIL import Image, ImageOps

    start = file.read(132)
    if not start:
        raise ValueError("it is empty")
    file.seek(0)
    if start[128:] == b"DICM" or path.lower().endswith((".dcm", ".dicom")):
        from kmedclf.dicom import read_dicom

        grey_or_colour = read_dicom(file, path)
        if isinstance(grey_or_colour, str):
            raise _Unfit(grey_or_colour)
        return Image.fromarray(grey_or_colour)
    image: Any = Image.open(file)
    if image.format == "TIFF" and getattr(image, "n_frames", 1) > 1:
        raise _Unfit(f"must hold one image. It holds {image.n_frames}.")
    if side is not None:
        image.draft(None, (side, side))
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode.startswith("I;16") or image.mode == "I":  # Pillow would clip, not scale
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise _Unfit("must be of 8 or 16 bits. Its values need 32.")
        return Image.fromarray(values.astype(np.float32))
    if image.mode == "F":
        raise _Unfit("must be of 8 or 16 bits. It holds floats, whose white nobody knows.")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert(mode)


def _resized(image: Any, form: Form) -> Any:
    from PIL import ImageOps

    size = form.width, form.height
    if image.size == size:
        return image
    if form.resize == "pad":
        return ImageOps.pad(image, size, BILINEAR)
    if form.resize == "crop":
        return ImageOps.fit(image, size, BILINEAR)
    return image.resize(size, BILINEAR)


def _array(image: Any, channels: int) -> np.ndarray:
    """Turn a Pillow image into (h, w, c)."""
    if image.mode != DEEP:
        pixels = np.asarray(image.convert(MODES[channels]))
        return pixels if pixels.ndim == 3 else pixels[..., None]
    deep = np.round(np.asarray(image)).astype(np.uint16)[..., None]
    pixels = np.repeat(deep, channels, axis=2)
    if channels == 4:
        pixels[..., 3] = 65535
    return pixels


def to_depth(pixels: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Bring pixels of 8 or 16 bits to the other depth, black to black and white to white."""
    if pixels.dtype == dtype:
        return pixels
    if dtype == np.uint8:
        return (pixels >> 8).astype(np.uint8)
    return pixels.astype(np.uint16) * np.uint16(257)
