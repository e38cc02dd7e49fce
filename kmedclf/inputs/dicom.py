"""DICOM images as viewers show them: rescaled, windowed, with black and white as the file defines.

pydicom computes the values. This module checks sizes before anything is decoded, and converts the
result to 8 or 16 bits.

The modality LUT or rescaling is applied first (DICOM PS3.3, C.11.1). Then a VOI LUT, or else the
first window, defines black and white (C.11.2). Without either, black and white are the smallest
and largest value that can be stored. If an image of more than 8 bits fills half of that range or
less, its own extremes are used, as viewers do. Padding is black. In MONOCHROME1 the smallest value
is white.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable
from typing import IO, Any, BinaryIO, cast

import numpy as np

from kmedclf.inputs.jpeg2000 import Bound, Unfit

_WORDS = ("WindowCenter", "WindowWidth", "VOILUTFunction", "RescaleSlope", "RescaleIntercept")
HEADER = 1 << 24
"""Most bytes of a deflated file before its pixels, and after them."""

_DEFLATED = "1.2.840.10008.1.2.1.99"


def begins_like_dicom(start: bytes) -> bool:
    """Whether a file's first 132 bytes look like DICOM, with or without a preamble."""
    if start[128:132] == b"DICM":
        return True
    # Without a preamble: an element of group 2 or 8, with its value representation or length.
    if start[:2] not in (b"\x02\0", b"\x08\0") or start[3:4] != b"\0":
        return False
    kind, length = start[4:6], int.from_bytes(start[4:8], "little")
    return (kind.isalpha() and kind.isupper()) or 0 < length < 256


def read_dicom(file: IO[bytes], path: str, bound: Bound) -> np.ndarray:
    """Read a DICOM file of one image: grey (h, w) or RGB (h, w, 3).

    RGB and 8-bit grey are uint8, deeper grey is float32 in [0, 65535]. ``bound`` checks the size
    before decoding. Raises Unfit for DICOM that is not one image.
    """
    try:
        from pydicom import pixels as decoding
    except ImportError as error:
        raise ImportError(
            f"{path} is DICOM, which needs pydicom: pip install 'kmedclf[dicom]'."
        ) from error
    header = _header(file, bound)
    if "PixelData" not in header:
        raise Unfit("is not an image that can be read (DICOM without pixels).")
    if int(header.get("NumberOfFrames") or 1) > 1:
        raise Unfit(f"must hold one image. It holds {header.NumberOfFrames}.")
    bound(int(header.Columns), int(header.Rows))
    _check_compressed(header, bound)
    stored = decoding.pixel_array(header)  # decodes, so only after all checks of size
    kind = str(header.PhotometricInterpretation)
    bits = int(header.BitsStored)
    if kind == "PALETTE COLOR":
        stored = decoding.apply_color_lut(stored, header)
        bits = stored.dtype.itemsize * 8
    if stored.ndim == 3 and stored.shape[2] == 3:
        return (stored >> max(0, bits - 8)).astype(np.uint8)
    if stored.ndim != 2:
        raise Unfit(f"must be grey or RGB. It is {kind} of {header.SamplesPerPixel} samples.")
    _straighten(header)
    return _grey(header, stored, decoding)


def _header(file: IO[bytes], bound: Bound) -> Any:
    """Read all elements of a file with or without meta information."""
    import pydicom
    from pydicom.dataset import FileMetaDataset
    from pydicom.filereader import _read_file_meta_info  # the public one takes paths only

    meta = None
    if file.read(132).endswith(b"DICM"):
        meta = _read_file_meta_info(cast(BinaryIO, file))
    file.seek(0)
    if meta is not None and meta.get("TransferSyntaxUID") == _DEFLATED:
        # pydicom would inflate without a limit.
        file.seek(132 + 12 + int(meta.FileMetaInformationGroupLength))
        header = pydicom.dcmread(io.BytesIO(_inflated(file.read(), bound)), force=True)
        meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        header.file_meta = meta
        return header
    header = pydicom.dcmread(file, force=True)
    if not getattr(header, "file_meta", None):
        header.file_meta = FileMetaDataset()
    if "TransferSyntaxUID" not in header.file_meta:
        implicit, little = header.original_encoding
        syntax = "1.2.840.10008.1.2" + ("" if implicit else ".1" if little else ".2")
        header.file_meta.TransferSyntaxUID = pydicom.uid.UID(syntax)
    return header


def _inflated(packed: bytes, bound: Bound) -> bytes:
    """Inflate the elements before the pixels, and then no more bytes than those announce."""
    import pydicom

    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    start = inflater.decompress(packed, HEADER)
    header = pydicom.dcmread(io.BytesIO(start), force=True, stop_before_pixels=True)
    bound(int(header.Columns), int(header.Rows))
    samples = int(header.SamplesPerPixel) * (int(header.BitsAllocated) + 7) // 8
    rest = inflater.decompress(
        inflater.unconsumed_tail, int(header.Rows) * int(header.Columns) * samples + HEADER
    )
    if inflater.unconsumed_tail:
        raise Unfit("must hold one image. It holds more than its header says.")
    return start + rest


def _check_compressed(header: Any, bound: Bound) -> None:
    """Check the size in the compressed picture, which may differ from the header's."""
    from PIL import Image, UnidentifiedImageError
    from pydicom.encaps import generate_frames

    from kmedclf.inputs import jpeg2000

    syntax = header.file_meta.TransferSyntaxUID
    if not syntax.is_compressed:
        return
    if syntax == "1.2.840.10008.1.2.5":  # RLE has no header with a size
        return
    picture = next(generate_frames(header.PixelData, number_of_frames=1))
    try:
        image = Image.open(io.BytesIO(picture), formats=("JPEG", "JPEG2000"))
    except UnidentifiedImageError:  # JPEG-LS, which pydicom reads with plugins
        return
    with image:
        bound(*image.size)
        if image.format == "JPEG2000":
            jpeg2000.check(io.BytesIO(picture), bound)


def _straighten(header: Any) -> None:
    """Move rescaling and window to the top level, where pydicom reads them; drop empty ones."""
    for groups in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        for group in (header.get(groups) or [])[:1]:
            for name in ("PixelValueTransformationSequence", "FrameVOILUTSequence"):
                for item in (group.get(name) or [])[:1]:
                    for element in item:
                        header[element.tag] = element
    for name in _WORDS:
        if name in header and header[name].value in (None, ""):
            del header[name]
    width = _first(header.get("WindowWidth"))
    if "WindowCenter" not in header or width is None or width <= 0:  # 0 means no window
        for name in ("WindowCenter", "WindowWidth"):
            if name in header:
                del header[name]


def _first(value: Any) -> float | None:
    if value is None or value == "":
        return None
    several = not isinstance(value, str) and hasattr(value, "__len__")
    return float(value[0] if several else value)


def _grey(header: Any, stored: np.ndarray, decoding: Any) -> np.ndarray:
    """Convert stored values (h, w) to grey of 8 or 16 bits."""
    stored = np.ascontiguousarray(stored, stored.dtype.newbyteorder("="))
    # Padding is excluded, since its values would widen the range of grey.
    padding = _padding(header, stored)
    shown = _shown(header, stored if padding is None else stored[~padding], decoding)
    deep = int(header.BitsStored) > 8

    def grey(values: np.ndarray) -> np.ndarray:
        light = np.clip(shown(values), 0, 1)
        if header.PhotometricInterpretation == "MONOCHROME1":
            light = 1 - light
        if not np.isfinite(light).all():
            raise ValueError("its values cannot be brought to grey")
        return np.round(light * 65535).astype(np.float32) if deep else _bytes(light)

    n = 256**stored.dtype.itemsize
    if n < stored.size:  # compute each possible value once, not each pixel
        code = np.dtype(f"u{stored.dtype.itemsize}")
        pixels = grey(np.arange(n, dtype=code).view(stored.dtype))[stored.view(code)]
    else:
        pixels = grey(stored)
    if padding is not None:
        pixels[padding] = 0
    return pixels


def _bytes(light: np.ndarray) -> np.ndarray:
    return np.round(light * 255).astype(np.uint8)


def _padding(header: Any, stored: np.ndarray) -> np.ndarray | None:
    """Find the padding pixels; None if there are none or all are."""
    value = header.get("PixelPaddingValue")
    if value is None:
        return None
    other = header.get("PixelPaddingRangeLimit")
    ends = sorted((int(value), int(value if other is None else other)))
    padding = (stored >= ends[0]) & (stored <= ends[1])
    return padding if padding.any() and not padding.all() else None


def _shown(header: Any, stored: np.ndarray, decoding: Any) -> Callable[[np.ndarray], np.ndarray]:
    """Return the function from stored values to [0, 1], black to white."""

    def rescaled(values: np.ndarray) -> np.ndarray:
        return decoding.apply_modality_lut(values, header)

    if header.get("VOILUTSequence") and "LUTData" in header.VOILUTSequence[0]:
        item = header.VOILUTSequence[0]
        n, first, bits = item.LUTDescriptor
        # For tables of 8 bits, pydicom counts entries in bytes.
        item.LUTDescriptor = [n, first, 16]

        def looked_up(values: np.ndarray) -> np.ndarray:
            whole = np.rint(np.clip(rescaled(values), first, first + (n or 65536) - 1))
            return decoding.apply_voi(whole.astype(np.int64), header).astype(np.float64)

        every = decoding.apply_voi(np.arange(first, first + (n or 65536)), header)
        ends = _used((0, 2**bits - 1), every)
        return lambda values: (looked_up(values) - ends[0]) / (ends[1] - ends[0])
    if "WindowWidth" in header:

        def windowed(values: np.ndarray) -> np.ndarray:
            with np.errstate(over="ignore"):  # a sigmoid overflows far from its centre
                return decoding.apply_windowing(values, header)

        least, most = windowed(np.array([-np.inf, np.inf]))
        if least == most:
            raise ValueError("its rescale slope is 0")
        return lambda values: (windowed(rescaled(values)) - least) / (most - least)
    bits, low = int(header.BitsStored), 0
    if int(header.get("PixelRepresentation") or 0):
        low = -(2 ** (bits - 1))
    if header.get("ModalityLUTSequence"):
        ends = 0, 2 ** int(header.ModalityLUTSequence[0].LUTDescriptor[2]) - 1
        found = rescaled(np.unique(stored))
    else:
        ends = tuple(sorted(rescaled(np.array([low, low + 2**bits - 1], np.float64))))
        found = rescaled(np.array([stored.min(), stored.max()]))
    if bits > 8:
        ends = _used(ends, found)
    if ends[0] == ends[1]:
        raise ValueError("its rescale slope is 0")
    return lambda values: (rescaled(values).astype(np.float64) - ends[0]) / (ends[1] - ends[0])


def _used(ends: tuple[float, float], values: np.ndarray) -> tuple[float, float]:
    """Return the range of the values if it fills half of ``ends`` or less, otherwise ``ends``."""
    # Scanners often use a small part of 16 bits: the image would be almost black.
    least, most = float(values.min()), float(values.max())
    return (least, most) if 0 < most - least <= (ends[1] - ends[0]) / 2 else ends
