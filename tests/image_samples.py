"""Image files of every format, drawn for the tests."""

import numpy as np
import pydicom
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

LOSSLESS = ("png", "bmp", "gif", "tif", "ppm", "webp", "dcm", "no suffix")


def picture(height=12, width=9, channels=3, seed=0):
    """Draw a smooth picture (h, w, c), uint8; a palette of 256 colours holds all of it."""
    generator = np.random.default_rng(seed)
    small = generator.integers(0, 256, (3, 4, channels), dtype=np.uint8)
    mode = {1: "L", 3: "RGB"}[channels]
    image = Image.fromarray(small.squeeze()).convert(mode).resize((width, height))
    return np.asarray(image).reshape(height, width, channels)


def save(path, pixels, **options):
    """Write pixels (h, w, 1) or (h, w, 3), uint8 or uint16, in the format of the path's suffix."""
    if path.suffix in (".dcm", ""):
        save_dicom(path, pixels, **options)
        return path
    flat = pixels[..., 0] if pixels.shape[2] == 1 else pixels
    image = Image.fromarray(flat)
    if path.suffix == ".gif" and flat.ndim == 3:
        image = image.quantize(256)
    if path.suffix == ".webp":
        options["lossless"] = True
    image.save(path, **options)
    return path


def save_dicom(path, pixels, kind=None, **tags):
    """Write pixels (h, w, 1) or (h, w, 3) as DICOM, with the given tags."""
    height, width, channels = pixels.shape
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    header.SOPClassUID, header.SOPInstanceUID = meta[0x20002].value, meta[0x20003].value
    header.Rows, header.Columns, header.SamplesPerPixel = height, width, channels
    header.PhotometricInterpretation = kind or ("RGB" if channels == 3 else "MONOCHROME2")
    bits = pixels.dtype.itemsize * 8
    header.BitsAllocated, header.BitsStored, header.HighBit = bits, bits, bits - 1
    header.PixelRepresentation = int(pixels.dtype.kind == "i")
    if channels == 3:
        header.PlanarConfiguration = 0
    header.PixelData = np.ascontiguousarray(pixels).tobytes()
    for name, value in tags.items():
        setattr(header, name, value)
    pydicom.dcmwrite(path, header, enforce_file_format=True)
