"""Files of every promised format and mode, made of known values, and what they must be read as."""

import io

import numpy as np
from image_samples import save_dicom
from PIL import Image
from pydicom.dataset import Dataset
from raw_images import png, tiff

GREY = np.arange(0, 240, 2, dtype=np.uint8).reshape(12, 10, 1)
RGB = np.concatenate([GREY, 255 - GREY, GREY[::-1]], axis=2)
DEEP = np.linspace(0, 65535, 120).astype(np.uint16).reshape(12, 10, 1)
TWELVE = (np.arange(120, dtype=np.uint16) * 34).reshape(12, 10, 1)  # to 4046 of 4095
SIGNED = (DEEP.astype(np.int32) - 32768).astype(np.int16)
ALPHA = np.repeat(np.array([0, 51, 255, 102, 204], np.uint8), 24).reshape(12, 10, 1)
HU = np.linspace(-1000, 1000, 120).round().astype(np.int16).reshape(12, 10, 1)


def luma(rgb):
    """Grey of RGB, as all of Pillow's conversions."""
    return np.asarray(Image.fromarray(rgb).convert("L"))[..., None]


def over_black(pixels, alpha=ALPHA):
    return np.round(pixels.astype(float) * alpha / 255).astype(np.uint8)


def pillow(format, pixels, mode=None, **options):
    flat = pixels[..., 0] if pixels.shape[2] == 1 else pixels
    image = Image.fromarray(flat)
    made = io.BytesIO()
    (image.convert(mode) if mode else image).save(made, format, **options)
    return made.getvalue()


def with_alpha(format, pixels, **options):
    flat = np.concatenate([pixels, ALPHA], axis=2)
    made = io.BytesIO()
    Image.fromarray(flat, "LA" if flat.shape[2] == 2 else "RGBA").save(made, format, **options)
    return made.getvalue()


def see_through(format, pixels, index):
    """A palette, one of whose colours is transparent."""
    image = Image.fromarray(pixels[..., 0], "P")
    image.putpalette(bytes(value for i in range(256) for value in (i, 255 - i, i // 2)))
    made = io.BytesIO()
    image.save(made, format, transparency=index)
    colour = np.concatenate([pixels, 255 - pixels, pixels // 2], axis=2)
    return made.getvalue(), np.where(pixels == index, np.uint8(0), colour)


def dicom(pixels, kind=None, **tags):
    made = io.BytesIO()
    save_dicom(made, pixels, kind, **tags)
    return made.getvalue()


def bare(content):
    """DICOM without preamble and meta information, as old scanners and PACS exports write it."""
    import pydicom

    header = pydicom.dcmread(io.BytesIO(content))
    made = io.BytesIO()
    plain = Dataset()
    plain.update(header)
    plain.save_as(made, implicit_vr=True, little_endian=True)
    return made.getvalue()


def enhanced(pixels, **tags):
    """Rescaling and window nested in functional groups."""
    rescale, window, group = Dataset(), Dataset(), Dataset()
    rescale.RescaleSlope, rescale.RescaleIntercept = 1, -1024
    window.WindowCenter, window.WindowWidth = 0.5, 2001
    group.PixelValueTransformationSequence = [rescale]
    group.FrameVOILUTSequence = [window]
    return dicom(pixels, SharedFunctionalGroupsSequence=[group], **tags)


def table_of(values, first, bits):
    item = Dataset()
    item.LUTDescriptor = [len(values), first, bits]
    item.add_new("LUTData", "US", [int(value) for value in values])
    return item


def scaled(values, low, high, top=65535):
    light = np.clip((values.astype(float) - low) / (high - low), 0, 1)
    return np.round(light * top).astype(np.uint16 if top > 255 else np.uint8)


BITS = GREY > 100
FOUR = GREY // 16
PALETTE = see_through("PNG", GREY, 40)
PALETTE_GIF = see_through("GIF", GREY, 40)
FRAMES = [Image.fromarray(one[..., 0]) for one in (GREY, 255 - GREY)]


def frames(format, **options):
    made = io.BytesIO()
    FRAMES[0].convert("RGB").save(
        made, format, save_all=True, append_images=[FRAMES[1].convert("RGB")], **options
    )
    return made.getvalue()


# name: content, what it must be, and how far a lossy format may be off
EXACT = {
    "grey.png": (pillow("PNG", GREY), GREY),
    "rgb.png": (pillow("PNG", RGB), RGB),
    "bits.png": (png(BITS, 1, 0), BITS * 255),
    "two bits.png": (png(FOUR // 4, 2, 0), FOUR // 4 * 85),
    "four bits.png": (png(FOUR, 4, 0), FOUR * 17),
    "16 bits.png": (png(DEEP, 16, 0), DEEP),
    "16 bits interlaced.png": (png(DEEP, 16, 0, interlaced=True), DEEP),
    "interlaced.png": (png(RGB, 8, 2, interlaced=True), RGB),
    "16 bits of colour.png": (png(RGB.astype(np.uint16) * 257, 16, 2), RGB),
    "16 bits and alpha.png": (
        png(np.concatenate([GREY, ALPHA], axis=2).astype(np.uint16) * 257, 16, 4),
        over_black(GREY),
    ),
    "grey and alpha.png": (with_alpha("PNG", GREY), over_black(GREY)),
    "rgb and alpha.png": (with_alpha("PNG", RGB), over_black(RGB)),
    "palette.png": (pillow("PNG", GREY, "P"), GREY),
    "palette see through.png": PALETTE,
    "grey see through.png": (
        png(GREY, 8, 0, chunks=[(b"tRNS", b"\0\x28")]), np.where(GREY == 40, 0, GREY)
    ),
    "16 bits see through.png": (
        png(DEEP, 16, 0, chunks=[(b"tRNS", DEEP[3, 3, 0].tobytes()[::-1])]),
        np.where(DEEP == DEEP[3, 3, 0], 0, DEEP),
    ),
    "rgb see through.png": (
        png(RGB, 8, 2, chunks=[(b"tRNS", bytes([0, RGB[2, 2, 0], 0, RGB[2, 2, 1], 0,
                                                RGB[2, 2, 2]]))]),
        np.where((RGB == RGB[2, 2]).all(axis=2, keepdims=True), 0, RGB),
    ),
    "frames.png": (frames("PNG"), GREY),
    "grey.bmp": (pillow("BMP", GREY), GREY),
    "rgb.bmp": (pillow("BMP", RGB), RGB),
    "bits.bmp": (pillow("BMP", BITS * np.uint8(255), "1"), BITS * 255),
    "palette.bmp": (pillow("BMP", GREY, "P"), GREY),
    "rgb.dib": (pillow("DIB", RGB), RGB),
    "grey.gif": (pillow("GIF", GREY), GREY),
    "palette see through.gif": PALETTE_GIF,
    "frames.gif": (frames("GIF"), GREY),
    "grey.tif": (pillow("TIFF", GREY), GREY),
    "rgb.tif": (pillow("TIFF", RGB), RGB),
    "lzw.tif": (pillow("TIFF", RGB, compression="tiff_lzw"), RGB),
    "deflate.tif": (pillow("TIFF", DEEP, compression="tiff_adobe_deflate"), DEEP),
    "bits.tif": (pillow("TIFF", BITS * np.uint8(255), "1"), BITS * 255),
    "palette.tif": (pillow("TIFF", GREY, "P"), GREY),
    "rgb and alpha.tif": (with_alpha("TIFF", RGB), over_black(RGB)),
    "grey and alpha.tif": (with_alpha("TIFF", GREY), over_black(GREY)),
    "white is zero.tif": (tiff(GREY, photometric=0), 255 - GREY),
    "four bits.tif": (tiff(FOUR, bits=4), FOUR * 17),
    "four bits white is zero.tif": (tiff(FOUR, bits=4, photometric=0), 255 - FOUR * 17),
    "12 bits.tif": (tiff(TWELVE, bits=12), scaled(TWELVE, 0, 4095)),
    "planes.tif": (tiff(RGB, photometric=2, planar=2), RGB),
    "rgb big.tif": (tiff(RGB, order=">", photometric=2), RGB),
    "16 bits white is zero.tif": (tiff(DEEP, photometric=0), 65535 - DEEP),
    **{
        f"{name} {end}.tif": (tiff(pixels, order=order, **options), expected)
        for end, order in (("little", "<"), ("big", ">"))
        for name, pixels, options, expected in [
            ("16 bits", DEEP, {}, DEEP),
            ("signed 16 bits", SIGNED, {}, DEEP),
            ("16 bits of colour", RGB.astype(np.uint16) * 257, {"photometric": 2}, RGB),
        ]
    },
    "bits.pbm": (pillow("PPM", BITS * np.uint8(255), "1"), BITS * 255),
    "grey.pgm": (pillow("PPM", GREY), GREY),
    "rgb.ppm": (pillow("PPM", RGB), RGB),
    "16 bits.pgm": (b"P5 10 12 65535\n" + DEEP.astype(">u2").tobytes(), DEEP),
    "12 bits.pgm": (b"P5 10 12 4095\n" + TWELVE.astype(">u2").tobytes(), scaled(TWELVE, 0, 4095)),
    "100.pgm": (b"P5 10 12 100\n" + (GREY // 3).tobytes(), scaled(GREY // 3, 0, 100, 255)),
    "text.pgm": (b"P2 10 12 255\n" + b" ".join(b"%d" % v for v in GREY.ravel()), GREY),
    "rgb.webp": (pillow("WEBP", RGB, lossless=True), RGB),
    "rgb and alpha.webp": (with_alpha("WEBP", RGB, lossless=True, exact=True), over_black(RGB)),
    "frames.webp": (frames("WEBP", lossless=True), GREY),
    "grey.jp2": (pillow("JPEG2000", GREY), GREY),
    "rgb.jp2": (pillow("JPEG2000", RGB), RGB),
    "16 bits.j2k": (pillow("JPEG2000", DEEP, no_jp2=True), DEEP),
    "rgb and alpha.jp2": (with_alpha("JPEG2000", RGB), over_black(RGB)),
    "grey.dcm": (dicom(GREY), GREY),
    "rgb.dcm": (dicom(RGB), RGB),
    "planes.dcm": (
        dicom(RGB, PlanarConfiguration=1, PixelData=RGB.transpose(2, 0, 1).tobytes()), RGB
    ),
    "16 bits.dcm": (dicom(DEEP), DEEP),
    "monochrome1.dcm": (dicom(GREY, "MONOCHROME1"), 255 - GREY),
    "16 bits monochrome1.dcm": (dicom(DEEP, "MONOCHROME1"), 65535 - DEEP),
    "declared 12 bits.dcm": (dicom(TWELVE, BitsStored=12, HighBit=11), scaled(TWELVE, 0, 4095)),
    "12 bits in 16.dcm": (dicom(TWELVE), scaled(TWELVE, 0, TWELVE.max())),
    "12 bits in 16 signed.dcm": (
        dicom(TWELVE.astype(np.int16)), scaled(TWELVE, 0, TWELVE.max())
    ),
    "hounsfield.dcm": (
        dicom((HU + 1024).astype(np.uint16), RescaleSlope=1, RescaleIntercept=-1024,
              BitsStored=12, HighBit=11),
        scaled(HU, -1000, 1000),
    ),
    "signed hounsfield.dcm": (dicom(HU), scaled(HU, -1000, 1000)),
    "hounsfield with a window.dcm": (
        dicom((HU + 1024).astype(np.uint16), RescaleSlope=1, RescaleIntercept=-1024,
              WindowCenter=40.5, WindowWidth=401),
        scaled(HU, -160, 240),
    ),
    "padding.dcm": (
        dicom(np.where(GREY > 100, HU, -2000).astype(np.int16), PixelPaddingValue=-2000),
        np.where(GREY > 100, scaled(HU, HU[GREY > 100].min(), 1000), 0),
    ),
    "padding monochrome1.dcm": (
        dicom(np.where(GREY > 100, DEEP, 0).astype(np.uint16), "MONOCHROME1", PixelPaddingValue=0),
        np.where(GREY > 100, 65535 - DEEP, 0),
    ),
    "inverse slope.dcm": (
        dicom(TWELVE, RescaleSlope=-1, RescaleIntercept=0, WindowCenter=-2046.5, WindowWidth=4095),
        scaled(4094 - np.minimum(TWELVE, 4094), 0, 4094),
    ),
    "enhanced.dcm": (enhanced((HU + 1024).astype(np.uint16)), scaled(HU, -1000, 1000)),
    "window of width 0.dcm": (dicom(DEEP, WindowCenter=0, WindowWidth=0), DEEP),
    "empty rescale.dcm": (dicom(DEEP, RescaleSlope=None, RescaleIntercept=None), DEEP),
    "voi table of bytes.dcm": (
        dicom(TWELVE, VOILUTSequence=[table_of(np.arange(4096) // 16, 0, 8)]),
        scaled(TWELVE // 16, 0, 255),
    ),
    "voi table of 12 bits in 16.dcm": (
        dicom(DEEP // 64, VOILUTSequence=[table_of(4095 - np.arange(1024) * 4, 0, 16)]),
        scaled(4095 - DEEP // 64 * 4, 3, 4095),
    ),
    "modality table.dcm": (
        dicom(GREY.astype(np.uint16), WindowCenter=2000.5, WindowWidth=4001,
              ModalityLUTSequence=[table_of(np.arange(256) * 16, 0, 16)]),
        scaled(GREY.astype(int) * 16, 0, 4000),
    ),
    "no meta.dcm": (bare(dicom(DEEP)), DEEP),
    "1.2.840.113619.2.55": (bare(dicom(DEEP)), DEEP),
    "scan.IMA": (dicom(DEEP), DEEP),
    "scan": (bare(dicom(GREY)), GREY),
}  # fmt: skip
LOSSY = {
    "grey.jpg": (pillow("JPEG", GREY, quality=100), GREY, 3),
    "rgb.jpg": (pillow("JPEG", RGB, quality=100, subsampling=0), RGB, 6),
    "cmyk.jpg": (pillow("JPEG", RGB, "CMYK", quality=100), RGB, 6),
    "cmyk.tif": (pillow("TIFF", RGB, "CMYK"), RGB, 1),
    "premultiplied.tif": (
        tiff(np.concatenate([over_black(RGB), ALPHA], axis=2), photometric=2, extra=[1]),
        over_black(RGB),
        1,
    ),
    "ycbcr.tif": (pillow("TIFF", RGB, "YCbCr"), RGB, 3),
    "rgb.webp": (pillow("WEBP", GREY.repeat(3, 2), quality=100), GREY.repeat(3, 2), 6),
}
REFUSED = {
    "floats.tif": (tiff(DEEP.astype(np.float32)), "It holds floats, whose white nobody knows."),
    "32 bits.tif": (tiff(DEEP.astype(np.int32)), "must be of 8 or 16 bits. It has 32."),
    "32 small bits.tif": (tiff(GREY.astype(np.uint32)), "must be of 8 or 16 bits. It has 32."),
    "big endian white is zero.tif": (
        tiff(DEEP, order=">", photometric=0),
        "TIFF of a kind that Pillow does not know",
    ),
    "stack.tif": (frames("TIFF"), "must hold one image. It holds 2."),
    "frames.dcm": (
        dicom(GREY, NumberOfFrames=2, PixelData=GREY.tobytes() * 2),
        "must hold one image. It holds 2.",
    ),
    "slope.dcm": (dicom(DEEP, RescaleSlope=0, RescaleIntercept=1), "its rescale slope is 0"),
    "postscript.png": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no known format"),
    "icon.png": (pillow("ICO", RGB), "no known format"),
}
