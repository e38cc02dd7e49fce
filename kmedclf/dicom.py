"""DICOM images as they are looked at: rescaled, windowed, white where the file means white."""

from __future__ import annotations

from typing import IO, Any

import numpy as np


def read_dicom(file: IO[bytes], path: str) -> np.ndarray | str:
    """Read a DICOM file of one image.

    Parameters
    ----------
    file : binary file
        Open for reading.
    path : str
        Its name, for the message if pydicom is missing.

    Returns
    -------
    ndarray of shape (h, w), float32 in [0, 65535] or uint8; of shape (h, w, 3), uint8; or str
        16-bit grey, 8-bit grey or colour; or what is wrong with the file, to be put behind its
        name.

    Notes
    -----
    Stored values become ``slope * value + intercept``; of these, window centre and width say what
    is black and what white [1]_, the first window where there are several. Without a window a VOI
    table is used, or else all values that can be stored. In MONOCHROME1 the least value is white.

    References
    ----------
    .. [1] DICOM PS3.3, C.11.2.1.2, "Window center and window width".
    """
    try:
        import pydicom
        from pydicom import pixels as decoding
    except ImportError as error:
        raise ImportError(
            f"{path} is DICOM, which needs pydicom: pip install 'kmedclf[dicom]'."
        ) from error
    header = pydicom.dcmread(file, force=True)
    if "PixelData" not in header:
        return "is not an image that can be read (DICOM without pixels)."
    if int(header.get("NumberOfFrames") or 1) > 1:
        return f"must hold one image. It holds {header.NumberOfFrames}."
    stored = decoding.pixel_array(header)
    kind = str(header.PhotometricInterpretation)
    if kind == "PALETTE COLOR":
        stored = decoding.apply_color_lut(stored, header)
    if stored.ndim == 3:
        return _eight_bits(stored)
    shown = _window(header, stored, decoding)
    if kind == "MONOCHROME1":
        shown = 1 - shown
    if int(header.BitsStored) > 8:
        return np.round(shown * 65535).astype(np.float32)
    return np.round(shown * 255).astype(np.uint8)


def _window(header: Any, stored: np.ndarray, decoding: Any) -> np.ndarray:
    """Map stored values to [0, 1], black to white, float64."""
    slope = float(header.get("RescaleSlope", 1) or 1)
    intercept = float(header.get("RescaleIntercept", 0) or 0)
    values = stored * slope + intercept
    centre, width = _first(header.get("WindowCenter")), _first(header.get("WindowWidth"))
    if centre is None or width is None:
        if "VOILUTSequence" in header:
            table = header.VOILUTSequence[0].LUTDescriptor
            return decoding.apply_voi_lut(values, header) / (2.0 ** int(table[2]) - 1)
        bits, signed = int(header.BitsStored), int(header.get("PixelRepresentation", 0))
        low = -(2 ** (bits - 1)) if signed else 0
        ends = np.array([low, low + 2**bits - 1]) * slope + intercept
        return (values - ends.min()) / (ends.max() - ends.min())
    function = str(header.get("VOILUTFunction", "LINEAR") or "LINEAR")
    if function == "SIGMOID":
        return 1 / (1 + np.exp(-4 * (values - centre) / width))
    if function == "LINEAR_EXACT":
        return np.clip((values - centre) / width + 0.5, 0, 1)
    return np.clip((values - (centre - 0.5)) / max(width - 1, 1e-6) + 0.5, 0, 1)


def _first(value: Any) -> float | None:
    if value is None or value == "":
        return None
    several = not isinstance(value, str) and hasattr(value, "__len__")
    return float(value[0] if several else value)


def _eight_bits(pixels: np.ndarray) -> np.ndarray:
    if pixels.dtype == np.uint8:
        return pixels
    return (pixels >> 8).astype(np.uint8)
