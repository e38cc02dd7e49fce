"""Image files as arrays: one way to read every format, so that a picture is the same in all.

Pillow reads all but DICOM. It decodes outside Python's lock, in as many threads as there are cores,
and was no slower there than TensorFlow's own decoders on JPEG, slower on small PNG; but those know
neither TIFF nor EXIF, and round otherwise.
"""

from __future__ import annotations

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
BILINEAR = 2  # of Pillow: over all pixels that shrink into one
DEEP = "F"  # mode of 16-bit grey images while they are resized

FORMATS = ("BMP", "DIB", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
"""What Pillow may try: of its others, one starts a program, and few were ever tested with us."""

DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")

MAX_PIXELS = 2**26
"""Most pixels of an image file: 8192 × 8192. A small file can claim any number of them."""

STRIP = 1 << 22
"""Pixels that are changed at a time."""

STACK = 1000
"""Images of a file that are counted: each takes time, and a few bytes of the file."""

# starts and tags of TIFF, and values of theirs
TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
BITS, PHOTOMETRIC, TILE_WIDTH, TILE_LENGTH, SAMPLE_FORMAT = 258, 262, 322, 323, 339
WHITE_IS_ZERO, SIGNED = 0, 2


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
    max_pixels : int, optional
        Most pixels of a file, checked before it is decoded. None is `default_max_pixels`.
    """

    height: int
    width: int
    channels: int
    resize: str = "stretch"
    max_pixels: int | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape (h, w, c)."""
        return self.height, self.width, self.channels


def read(path: str | Path, form: Form) -> np.ndarray:
    """Read an image file.

    Parameters
    ----------
    path : str or Path
        PNG, JPEG, JPEG 2000, BMP, GIF, TIFF, WebP, PBM, PGM, PPM or DICOM. Of an animation, the
        first frame.
    form : Form
        Size and channels to make of it.

    Returns
    -------
    ndarray of shape (h, w, c), uint8 or uint16
        The pixels, turned as EXIF says. Grey of 9 to 16 bits becomes uint16, from black to white;
        signed values of TIFF are those from -32768 to 32767. Colour of 16 bits keeps the upper 8.
        What is transparent is blended with black, unless there are 4 channels. DICOM values are
        shown as the file says: see `kmedclf.inputs.dicom.read_dicom`.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no image, damaged, too large, or holds several.
    ImportError
        If it is DICOM, and pydicom is not installed.
    """
    # JPEG is decoded at a half, a quarter or an eighth where twice the size is left: much faster
    side = 2 * max(form.height, form.width)
    bound = _bound(form.max_pixels)
    with _file(path) as file:
        image = _open(file, str(path), MODES[form.channels], bound, side)
        return _array(_resized(image, form), form.channels)


def open_image(path: str | Path, mode: str = "RGB", max_pixels: int | None = None) -> Any:
    """Open an image file as an image of Pillow, at its own size, with 8 bits; errors as of `read`.

    Parameters
    ----------
    path : str or Path
        The file.
    mode : {"L", "RGB", "RGBA"}, default="RGB"
        Grey, colour, or colour with transparency.
    max_pixels : int, optional
        As of `Form`.
    """
    bound = _bound(max_pixels)
    with _file(path) as file:
        image = _open(file, str(path), mode, bound)
        if image.mode == DEEP:
            image = _by_strips(image, "L", _shallow)
        return image if image.mode == mode else image.convert(mode)


def read_images(paths: Sequence[str | Path], shape: tuple[int, int, int]) -> np.ndarray:
    """Read a few image files as uint8 (n, h, w, c); many are better left on disk."""
    read_one = [to_depth(read(path, Form(*shape)), np.dtype(np.uint8)) for path in paths]
    return np.stack(read_one)


def refuse(path: str | Path, error: Exception | str) -> NoReturn:
    """Say in one sentence what is wrong with a file."""
    if isinstance(error, ImportError) and str(path) in str(error):  # our own, of pydicom
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
    raise ValueError(f"{path} is not an image that can be read ({reason}).") from cause


@contextmanager
def _file(path: str | Path) -> Iterator[IO[bytes]]:
    """Open a file, and say in one sentence what is wrong with it, whatever that is."""
    try:
        # to open a pipe would wait for someone who writes to it
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise Unfit(f"must be a file. It is {'a folder' if os.path.isdir(path) else 'none'}.")
        with open(path, "rb") as file:
            yield file
    except Exception as error:  # whatever damaged bytes make a decoder raise
        refuse(path, error)


def default_max_pixels() -> int:
    """Give the most pixels of an image: `MAX_PIXELS`, or what ``KMEDCLF_MAX_PIXELS`` says."""
    text = os.environ.get("KMEDCLF_MAX_PIXELS") or str(MAX_PIXELS)
    if not text.isascii() or not text.isdecimal() or len(text) > 18 or not int(text):
        raise ValueError(
            "The environment variable KMEDCLF_MAX_PIXELS must be a whole number of at least 1. "
            f"Got {text!r} instead."
        )
    return int(text)


def _bound(most: int | None) -> Bound:
    """Make the check of an image's width and height."""
    limit = default_max_pixels() if most is None else most

    def check(width: int, height: int) -> None:
        if width * height > limit:
            raise Unfit(
                f"must have at most {limit:,} pixels. It has {width} × {height}; a larger "
                "'max_pixels' parameter or environment variable KMEDCLF_MAX_PIXELS lets it in."
            )

    return check


def _open(file: IO[bytes], path: str, mode: str, bound: Bound, side: int | None = None) -> Any:
    """Open a file as a Pillow image of the mode, or F; of at least ``side`` pixels, if given."""
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
    if image.mode.startswith("I") or image.mode == "F":  # Pillow would clip, not scale
        return _deep(image)
    return _opaque(image, mode)


def _check_tiff(image: Any, bound: Bound) -> None:
    """Refuse stacks, and tiles that are larger than an image may be."""
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
    """Make 16 bits, from black to white, of grey that has more than 8; as floats."""
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
    """Change an image a few rows at a time: copies of large ones would take gigabytes."""
    from PIL import Image

    made = Image.new(mode, image.size)
    rows = max(1, STRIP // max(1, image.width))
    for top in range(0, image.height, rows):
        part = image.crop((0, top, image.width, min(top + rows, image.height)))
        made.paste(change(part), (0, top))
    return made


def _one(value: Any, default: int) -> int:
    """Give a tag's number, or the first of several."""
    if value is None or value == ():
        return default
    return int(value[0] if isinstance(value, tuple) else value)


def _opaque(image: Any, mode: str) -> Any:
    """Bring an image to a mode; where that has no transparency, what is transparent is black."""
    seen_through = "transparency" in image.info or image.mode[-1:] in "Aa"
    if image.mode in ("La", "RGBa"):  # Pillow converts these to nothing else
        image = image.convert(f"{image.mode[:-1]}A")
    if seen_through and mode != "RGBA":
        image = _by_strips(image, "L" if image.mode == "LA" else "RGB", _over_black)
    elif image.mode == "P" and seen_through:
        image = image.convert("RGBA")
    return image if image.mode == mode else image.convert(mode)


def _over_black(image: Any) -> Any:
    """Blend an image, transparent by a channel or by one of its colours, with black."""
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
    """Turn a Pillow image into (h, w, c)."""
    if image.mode != DEEP:
        pixels = np.asarray(image.convert(MODES[channels]))
        return pixels if pixels.ndim == 3 else pixels[..., None]
    deep = np.round(np.asarray(image)).astype(np.uint16)[..., None]
    pixels = np.repeat(deep, channels, axis=2)
    if channels == 4:
        pixels[..., 3] = 65535
    return pixels


def _shallow(image: Any) -> Any:
    """Turn 16 bits into 8."""
    from PIL import Image

    return Image.fromarray(to_depth(_array(image, 1)[..., 0], np.dtype(np.uint8)))


def to_depth(pixels: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Bring pixels of 8 or 16 bits to the other depth, black to black and white to white."""
    if pixels.dtype == dtype:
        return pixels
    if dtype == np.uint8:
        return (pixels >> 8).astype(np.uint8)
    return pixels.astype(np.uint16) * np.uint16(257)
