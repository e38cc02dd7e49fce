"""Image files as arrays: one reader for all formats, so that a picture has the same pixels in each.

Pillow reads all formats but DICOM. It decodes without Python's lock, in as many threads as there
are cores. TensorFlow's decoders were no faster on JPEG and faster on small PNG, but they lack TIFF
and EXIF and round differently.
"""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NoReturn

import numpy as np

from kmedclf.inputs import jpeg2000
from kmedclf.inputs.dicom import begins_like_dicom, read_dicom
from kmedclf.inputs.jpeg2000 import Bound, Unfit

MODES = {1: "L", 3: "RGB", 4: "RGBA"}
BILINEAR = 2  # Pillow's filter, which averages over all pixels when it shrinks an image
DEEP = "F"  # Pillow's mode for 16-bit grey images while they are resized

FORMATS = ("BMP", "DIB", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
"""Formats that Pillow may try. Of the others, one starts a program, and few are tested here."""

DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")

MAX_PIXELS = 2**26
"""Most pixels of an image file: 8192 × 8192. A small file can claim any number of them."""

STRIP = 1 << 22
"""Pixels to convert at a time."""

STACK = 1000
"""Frames of a file to count at most, as each takes time but only a few bytes of the file."""

# First bytes of TIFF, its tags, and values of tags
TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
BITS, PHOTOMETRIC, TILE_WIDTH, TILE_LENGTH, SAMPLE_FORMAT = 258, 262, 322, 323, 339
WHITE_IS_ZERO, SIGNED = 0, 2


class MemoryFile(str):
    """An image file in memory, wherever a path may be: its text is its name, for messages."""

    content: bytes

    def __new__(cls, name: str, content: bytes) -> MemoryFile:
        """Make a file of a name and its bytes."""
        self = super().__new__(cls, name)
        self.content = content
        return self


class UnreadableImage(ValueError):
    """A file that is damaged, or no image."""


@dataclass(frozen=True)
class Form:
    """Size and channels that image files are converted to."""

    height: int
    width: int
    channels: int  # 1 for grey, 3 for RGB, 4 for RGBA
    resize: str = "stretch"  # or "pad" with black, or "crop", for other proportions
    max_pixels: int | None = None  # None is `default_max_pixels`

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape (h, w, c)."""
        return self.height, self.width, self.channels


def read(path: str | Path, form: Form) -> np.ndarray:
    """Read an image file, or the first frame of an animation, as (h, w, c), turned as EXIF says.

    Grey of 9 to 16 bits becomes uint16, from black to white; 16-bit colour keeps its upper 8 bits.
    Transparency is blended with black, unless there are 4 channels. Raises what `refuse` raises.
    """
    # JPEG can be decoded at a half, a quarter or an eighth of its size, which is much faster. Twice
    # the wanted size must be left.
    side = 2 * max(form.height, form.width)
    bound = _bound(form.max_pixels)
    with _file(path) as file:
        image = _open(file, str(path), MODES[form.channels], bound, side)
        return _array(_resized(image, form), form.channels)


def open_image(path: str | Path, mode: str = "RGB", max_pixels: int | None = None) -> Any:
    """Open an image file as a Pillow image of its own size with 8 bits; errors as in `read`."""
    bound = _bound(max_pixels)
    with _file(path) as file:
        image = _open(file, str(path), mode, bound)
        if image.mode == DEEP:
            image = _by_strips(image, "L", _shallow)
        return image if image.mode == mode else image.convert(mode)


def read_images(paths: Sequence[str | Path], shape: tuple[int, int, int]) -> np.ndarray:
    """Read a few image files into uint8 (n, h, w, c); for many, use `FileArray`."""
    read_one = [to_depth(read(path, Form(*shape)), np.dtype(np.uint8)) for path in paths]
    return np.stack(read_one)


def refuse(path: str | Path, error: Exception | str) -> NoReturn:
    """Raise an error that says in one sentence what is wrong with a file.

    FileNotFoundError if it is missing, ImportError without pydicom, otherwise ValueError.
    """
    if isinstance(error, ImportError) and str(path) in str(error):  # from `read_dicom`
        raise error
    if isinstance(error, FileNotFoundError):
        raise FileNotFoundError(f"There is no file {path}.") from None
    if type(error).__name__ == "DecompressionBombError":  # without importing Pillow
        error = Unfit(
            "must have at most 178,956,970 pixels, Pillow's own bound, unless its "
            "Image.MAX_IMAGE_PIXELS is another. It has more."
        )
    if isinstance(error, Unfit):
        raise ValueError(f"{path} {error}") from None
    reason = " ".join(str(error).split()).rstrip(".")
    if reason.startswith("cannot identify image file"):
        reason = "no known format"
    if isinstance(error, MemoryError):
        reason = "it needs more memory than there is"
    if isinstance(error, OSError) and error.strerror:
        reason = error.strerror
    cause = error if isinstance(error, Exception) else None
    reason = reason or type(error).__name__
    raise UnreadableImage(f"{path} is not an image that can be read ({reason}).") from cause


@contextmanager
def _file(path: str | Path) -> Iterator[IO[bytes]]:
    """Open a regular file; errors while it is open are raised by `refuse`."""
    try:
        if isinstance(path, MemoryFile):
            yield io.BytesIO(path.content)
            return
        # Opening a pipe would block.
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise Unfit(f"must be a file. It is {'a folder' if os.path.isdir(path) else 'none'}.")
        with open(path, "rb") as file:
            yield file
    except Exception as error:  # decoders raise anything on damaged bytes
        refuse(path, error)


def default_max_pixels() -> int:
    """Return the limit of pixels: `MAX_PIXELS` or ``KMEDCLF_MAX_PIXELS``."""
    text = os.environ.get("KMEDCLF_MAX_PIXELS") or str(MAX_PIXELS)
    if not text.isascii() or not text.isdecimal() or len(text) > 18 or not int(text):
        raise ValueError(
            "The environment variable KMEDCLF_MAX_PIXELS must be a whole number of at least 1. "
            f"Got {text!r} instead."
        )
    return int(text)


def _bound(most: int | None) -> Bound:
    """Return the check of an image's width and height."""
    limit = default_max_pixels() if most is None else most

    def check(width: int, height: int) -> None:
        if width * height > limit:
            raise Unfit(
                f"must have at most {limit:,} pixels. It has {width} × {height}; a larger "
                "'max_pixels' parameter or environment variable KMEDCLF_MAX_PIXELS lets it in."
            )

    return check


def _open(file: IO[bytes], path: str, mode: str, bound: Bound, side: int | None = None) -> Any:
    """Open a file as a Pillow image of the mode or F; of at least ``side`` pixels, if given."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    start = file.read(132)
    if not start:
        raise ValueError("it is empty")
    file.seek(0)
    if begins_like_dicom(start) or path.lower().endswith(DICOM_SUFFIXES):
        return Image.fromarray(read_dicom(file, path, bound))
    try:
        image: Any = Image.open(file, formats=FORMATS)
    except UnidentifiedImageError as error:
        if start[:4] in TIFF_STARTS:
            raise ValueError("it is TIFF of a kind that Pillow does not know") from error
        raise
    bound(*image.size)
    if image.format == "TIFF":
        _check_tiff(image, bound)
    if image.format == "JPEG2000":
        jpeg2000.check(file, bound)
    if side is not None:
        image.draft(None, (side, side))
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode.startswith("I") or image.mode == "F":  # Pillow would clip instead of scaling
        return _deep(image)
    return _opaque(image, mode)


def _check_tiff(image: Any, bound: Bound) -> None:
    """Refuse stacks of images, and tiles larger than an image may be."""
    tags = image.tag_v2
    bound(*(int(tags.get(tag, 1)) for tag in (TILE_WIDTH, TILE_LENGTH)))
    number = 1
    with suppress(EOFError):
        while number <= STACK:
            image.seek(number)
            number += 1
    if number > 1:
        held = f"more than {STACK:,}" if number > STACK else number
        raise Unfit(f"must hold one image. It holds {held}.")
    image.seek(0)


def _deep(image: Any) -> Any:
    """Convert grey of more than 8 bits to floats from 0 to 65535, black to white."""
    from PIL import Image

    tags = image.tag_v2 if image.format == "TIFF" else {}
    bits = _one(tags.get(BITS), 16)
    if image.mode == "F":
        raise Unfit("must be of 8 or 16 bits. It holds floats, whose white nobody knows.")
    if bits > 16:
        raise Unfit(f"must be of 8 or 16 bits. It has {bits}.")
    transparent = image.info.get("transparency")
    signed = _one(tags.get(SAMPLE_FORMAT), 1) == SIGNED
    inverse = _one(tags.get(PHOTOMETRIC), 1) == WHITE_IS_ZERO

    def scaled(part: Any) -> Any:
        values = np.asarray(part).astype(np.float32)
        if signed:
            values += 2 ** (bits - 1)
        if values.min() < 0 or values.max() >= 2**bits:
            raise ValueError(f"its values need more than {bits} bits")
        if inverse:
            values = 2**bits - 1 - values
        if isinstance(transparent, int):
            values[values == transparent] = 0
        return Image.fromarray(np.round(values * np.float32(65535 / (2**bits - 1))))

    return _by_strips(image, DEEP, scaled)


def _by_strips(image: Any, mode: str, change: Callable[[Any], Any]) -> Any:
    """Convert an image a few rows at a time: copies of large ones would take gigabytes."""
    from PIL import Image

    result = Image.new(mode, image.size)
    rows = max(1, STRIP // max(1, image.width))
    for top in range(0, image.height, rows):
        part = image.crop((0, top, image.width, min(top + rows, image.height)))
        result.paste(change(part), (0, top))
    return result


def _one(value: Any, default: int) -> int:
    """Return a tag's number, or the first of a tuple."""
    if value is None or value == ():
        return default
    return int(value[0] if isinstance(value, tuple) else value)


def _opaque(image: Any, mode: str) -> Any:
    """Convert an image to a mode, blended with black if the mode has no transparency."""
    seen_through = "transparency" in image.info or image.mode[-1:] in "Aa"
    if image.mode in ("La", "RGBa"):  # Pillow's only conversion of these
        image = image.convert(f"{image.mode[:-1]}A")
    if seen_through and mode != "RGBA":
        image = _by_strips(image, "L" if image.mode == "LA" else "RGB", _over_black)
    elif image.mode == "P" and seen_through:
        image = image.convert("RGBA")
    return image if image.mode == mode else image.convert(mode)


def _over_black(image: Any) -> Any:
    """Blend an image with black, by its alpha channel or its transparent colour."""
    from PIL import Image

    if image.mode == "LA":
        colours, alpha = image.split()
    else:
        colours = image.convert("RGBA")
        alpha = colours.getchannel("A")
    black = Image.new("L" if image.mode == "LA" else "RGB", image.size)
    black.paste(colours, mask=alpha)
    return black


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
    """Convert a Pillow image to (h, w, c)."""
    if image.mode != DEEP:
        pixels = np.asarray(image.convert(MODES[channels]))
        return pixels if pixels.ndim == 3 else pixels[..., None]
    deep = np.round(np.asarray(image)).astype(np.uint16)[..., None]
    pixels = np.repeat(deep, channels, axis=2)
    if channels == 4:
        pixels[..., 3] = 65535
    return pixels


def _shallow(image: Any) -> Any:
    """Convert 16 bits to 8."""
    from PIL import Image

    return Image.fromarray(to_depth(_array(image, 1)[..., 0], np.dtype(np.uint8)))


def to_depth(pixels: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Convert pixels between 8 and 16 bits, black to black and white to white."""
    if pixels.dtype == dtype:
        return pixels
    if dtype == np.uint8:
        return (pixels >> 8).astype(np.uint8)
    return pixels.astype(np.uint16) * np.uint16(257)
