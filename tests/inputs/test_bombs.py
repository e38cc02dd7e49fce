"""Small files that claim gigabytes: refused in one sentence, before memory or time is spent."""

import io
import re
import struct
import zipfile
import zlib

import fuzzing
import numpy as np
import pydicom
import pytest
from cli_helpers import refused
from file_samples import GREY, RGB, dicom, pillow
from helpers import data, make
from image_samples import picture, save
from raw_images import png, tiff

from kmedclf.inputs.image_files import MAX_PIXELS, Form, open_image, read
from tests.inputs.test_fuzz_files import read_space

SIDE = 30_000  # 900 million pixels
TOO_LARGE = re.compile(
    "must have at most (67,108,864 pixels|178,956,970 pixels, Pillow's own bound)"
)


def patched(content, old, new):
    assert content.count(old) >= 1
    return content.replace(old, new)


def zeros(n):
    """Deflate n bytes of 0: a thousandth of them is left."""
    packer = zlib.compressobj(1)
    parts = [packer.compress(bytes(1 << 20)) for _ in range(n >> 20)]
    return b"".join(parts) + packer.flush()


def png_bomb():
    small = png(GREY > 0, 1, 0)
    start = small.index(b"IDAT") - 4
    idat = zeros(SIDE * (SIDE // 8 + 1))
    head = struct.pack(">IIBBBBB", SIDE, SIDE, 1, 0, 0, 0, 0)
    made = small[:8] + struct.pack(">I", 13) + b"IHDR" + head
    made += struct.pack(">I", zlib.crc32(b"IHDR" + head))
    made += struct.pack(">I", len(idat)) + b"IDAT" + idat
    return made + struct.pack(">I", zlib.crc32(b"IDAT" + idat)) + small[start:][-12:]


def gif_bomb():
    small = pillow("GIF", GREY)
    size = struct.pack("<HH", 10, 12)
    return patched(small, size, struct.pack("<HH", 65535, 65535))


def jpeg_bomb():
    small = pillow("JPEG", GREY)
    return patched(small, struct.pack(">HH", 12, 10), struct.pack(">HH", 65500, 65500))


def jp2_bomb():
    small = pillow("JPEG2000", GREY)
    return patched(small, struct.pack(">II", 12, 10), struct.pack(">II", SIDE, SIDE)).replace(
        struct.pack(">II", 10, 12), struct.pack(">II", SIDE, SIDE)
    )


def tiles_bomb(height=600_000, channels=1):
    small = pillow("JPEG2000", GREY, no_jp2=True)
    sizes = struct.pack(">HIIIIIIIIH", 0, 10, height, 0, 0, 10, 12, 0, 0, channels)
    return small[:6] + sizes + small[42:]


def boxes_bomb():
    """A small size in the boxes, a large one in the codestream."""
    small = pillow("JPEG2000", GREY)
    at = small.index(b"\xff\x4f\xff\x51") + 8
    return small[:at] + struct.pack(">II", SIDE, SIDE) + small[at + 8 :]


def bmp_bomb(height=SIDE):
    small = pillow("BMP", RGB)
    return small[:18] + struct.pack("<ii", SIDE, height) + small[26:]


def webp_bomb():
    chunk = b"\x2f" + (16383 | 16383 << 14).to_bytes(4, "little") + bytes(200)
    inner = b"WEBPVP8L" + struct.pack("<I", len(chunk)) + chunk
    return b"RIFF" + struct.pack("<I", len(inner)) + inner


def tiff_chain(n=30_000):
    """Many directories, one after the other: to count them takes a minute."""
    small = tiff(GREY)
    count = struct.unpack_from("<H", small, 8)[0]
    at = 10 + 12 * count
    directory = small[8:at]
    made = bytearray(small[:at] + struct.pack("<I", len(small)) + small[at + 4 :])
    for i in range(n):
        following = len(made) + len(directory) + 4
        made += directory + struct.pack("<I", following if i < n - 1 else 0)
    return bytes(made)


def dicom_bomb(syntax=None, rows=SIDE, pixels=GREY, packed=None):
    header = pydicom.dcmread(io.BytesIO(dicom(pixels)))
    header.Rows = header.Columns = rows
    if packed is not None:
        header.PixelData = packed
        header["PixelData"].is_undefined_length = True
    if syntax:
        header.file_meta.TransferSyntaxUID = syntax
    made = io.BytesIO()
    header.save_as(made, enforce_file_format=True)
    return made.getvalue()


def deflated_dicom(rows):
    """Deflate a file whose pixels are all 0, without holding it."""
    head = dicom_bomb("1.2.840.10008.1.2.1.99", rows, packed=None)
    meta = 132 + 12 + struct.unpack_from("<I", head, 140)[0]
    plain = zlib.decompress(head[meta:], -zlib.MAX_WBITS)
    start = plain.index(b"\xe0\x7f\x10\0")
    packer = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
    made = [head[:meta], packer.compress(plain[:start])]
    made.append(packer.compress(b"\xe0\x7f\x10\0OB\0\0" + struct.pack("<I", rows * rows)))
    made += [packer.compress(bytes(1 << 20)) for _ in range(rows * rows >> 20)]
    made.append(packer.compress(bytes(rows * rows % (1 << 20))))
    return b"".join([*made, packer.flush()])


def encapsulated(frame):
    from pydicom.encaps import encapsulate

    return encapsulate([frame + bytes(len(frame) % 2)])


IMAGES = {
    "a.png": (png_bomb, TOO_LARGE),
    "a.gif": (gif_bomb, TOO_LARGE),
    "a.jpg": (jpeg_bomb, TOO_LARGE),
    "a.jp2": (jp2_bomb, TOO_LARGE),
    "tiles.j2k": (tiles_bomb, "must have at most 4,096 tiles."),
    "channels.j2k": (lambda: tiles_bomb(12, 16384), ""),
    "boxes.jp2": (boxes_bomb, TOO_LARGE),
    "a.bmp": (bmp_bomb, TOO_LARGE),
    "upside down.bmp": (lambda: bmp_bomb(-SIDE), TOO_LARGE),
    "a.webp": (webp_bomb, ""),
    "a.pgm": (lambda: b"P5 %d %d 255\n" % (SIDE, SIDE), TOO_LARGE),
    "a.tif": (lambda: tiff(GREY, more={256: [SIDE], 257: [SIDE]}), TOO_LARGE),
    "tiles.tif": (lambda: tiff(GREY, more={322: [65536], 323: [65536]}), TOO_LARGE),
    "chain.tif": (tiff_chain, "must hold one image. It holds more than 1,000."),
    "entries.tif": (lambda: b"II*\0\x08\0\0\0\xff\xff" + bytes(60_000), ""),
    "rows.dcm": (dicom_bomb, TOO_LARGE),
    "rows below the bound.dcm": (lambda: dicom_bomb(rows=8000), ""),
    "frames.dcm": (lambda: dicom(GREY, NumberOfFrames=2**31 - 1), "must hold one image."),
    "rle.dcm": (
        lambda: dicom_bomb("1.2.840.10008.1.2.5", 65535, packed=encapsulated(bytes(200))),
        TOO_LARGE,
    ),
    "deflated.dcm": (lambda: deflated_dicom(12_000), TOO_LARGE),
    "jpeg in it.dcm": (
        lambda: dicom_bomb("1.2.840.10008.1.2.4.50", 12, packed=encapsulated(jpeg_bomb())),
        TOO_LARGE,
    ),
}


def npz(**members):
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            with archive.open(f"{name}.npy", "w") as file:
                for part in content:
                    file.write(part)
    return made.getvalue()


def npy(shape, body, dtype="|u1", version=b"\1\0", length=None):
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    size = struct.pack("<H" if version == b"\1\0" else "<I", length or len(header))
    return [b"\x93NUMPY" + version + size + header, *body]


LABELS = npy((4,), [bytes(4)])
ARRAYS = {
    "zeros.npz": (
        lambda: npz(train_images=npy((300, 1024, 1024), [bytes(1 << 20)] * 300),
                    train_labels=npy((300,), [bytes(300)])),
        "more than 200 times its size",
    ),
    "shape.npz": (
        lambda: npz(train_images=npy((10**6, 10**6), [bytes(9)]), train_labels=LABELS),
        "says that it has 1,000,000,000,0",
    ),
    "empty type.npz": (
        lambda: npz(class_names=npy((10**15,), [], "|U0"), train_labels=LABELS), "<U0"
    ),
    "header.npz": (
        lambda: npz(train_images=[*npy((4,), [], version=b"\2\0", length=2**31 - 1),
                                  *[bytes(1 << 20)] * 200]),
        "",
    ),
    "nested.npz": (lambda: npz(train_images=npy("(" * 4000, [])), ""),
    "objects.npz": (lambda: npz(class_names=npy((4,), [b"cos\nsystem\n"], "|O")), "must hold"),
    "members.npz": (lambda: npz(**{f"a{i}": LABELS for i in range(2000)}), "2,000 members"),
}  # fmt: skip


def laughs():
    lines = ["estimator: cnn", "a0: &a0 [1, 2, 3, 4, 5, 6, 7, 8, 9]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    return "\n".join(lines).encode()


SPACES = {
    "laughs.yaml": (laughs, "at most 20,000 values"),
    "round.yaml": (lambda: b"estimator: &a [*a]\n", "must not hold itself"),
    "deep.yaml": (lambda: b"estimator: " + b"[" * 50_000, "nested at most 20 deep"),
    "deep flow.yaml": (lambda: b"{a: " * 5000, "nested at most 20 deep"),
    "large.yaml": (lambda: b"# " + b"x" * (1 << 21), "at most 1,048,576 bytes"),
    "wide.yaml": (lambda: b"a: [" + b"1," * 100_000 + b"]", "at most 20,000 values"),
    "code.yaml": (lambda: b"estimator: !!python/object/apply:os.system [ls]\n", "line 1"),
    "binary.yaml": (lambda: b"\xff\xfe\0", "UTF-8"),
}

KINDS = {"read_image": IMAGES, "read_npz": ARRAYS, "read_space": SPACES}


def tried(function, path, content):
    path.write_bytes(content)
    return fuzzing.attempt(function, path, fuzzing.Outcome(path.name, -1), [])


@pytest.mark.parametrize("function", KINDS)
def test_bombs_are_refused_at_once(tmp_path, function):
    made = {name: make() for name, (make, _) in KINDS[function].items()}
    harmless = {"read_image": "x.png", "read_npz": "x.npz", "read_space": "x.yaml"}[function]
    samples = {harmless: b"?", **made}  # the first one loads modules
    if function == "read_space":  # a child would import TensorFlow
        found = [tried(read_space, tmp_path / name, made) for name, made in samples.items()]
    else:
        found = fuzzing.survey(f"tests.inputs.test_fuzz_files:{function}", samples, 0, 0, tmp_path)
    for one in found[1:]:
        sentence = KINDS[function][one.sample][1]
        assert one.error == "ValueError", one
        assert re.search(sentence, one.message), one
        assert one.sample in one.message, one
        assert "\n" not in one.message, one
        assert one.growth < 100 << 20, one
        assert one.seconds < 5, one
        if one.sample != found[1].sample:
            assert not one.events, one
    assert max(len(content) for content in made.values()) < 40 << 20


def test_the_bound_is_a_parameter(tmp_path, monkeypatch):
    path = save(tmp_path / "a.png", picture(12, 9))
    for reading in (lambda most: read(path, Form(4, 4, 3, max_pixels=most)),
                    lambda most: open_image(path, max_pixels=most)):  # fmt: skip
        reading(108)
        reading(None)
        with pytest.raises(ValueError, match=r"at most 107 pixels. It has 9 × 12; .*max_pixels"):
            reading(107)
        monkeypatch.setenv("KMEDCLF_MAX_PIXELS", "107")
        reading(108)
        with pytest.raises(ValueError, match=rf"{re.escape(str(path))} must have at most 107 pixe"):
            reading(None)
        for wrong in ("many", "0", "-1", "1e6"):
            monkeypatch.setenv("KMEDCLF_MAX_PIXELS", wrong)
            with pytest.raises(ValueError, match=f"^The environment .* Got '{wrong}' instead"):
                reading(None)
        monkeypatch.delenv("KMEDCLF_MAX_PIXELS")
    assert MAX_PIXELS == 8192**2


def test_estimators_have_the_parameter(tmp_path):
    X, y = data()
    paths = [str(save(tmp_path / f"{i}.png", one)) for i, one in enumerate(X)]
    net = make("MLPClassifier", image_size=8, max_pixels=64)
    net.fit(paths, y)
    large = str(save(tmp_path / "large.png", picture(9, 9)))
    with pytest.raises(ValueError, match=r"large\.png must have at most 64 pixels"):
        net.predict([large])
    assert net.set_params(max_pixels=81).predict([large]).shape == (1,)
    with pytest.raises(ValueError, match="'max_pixels' parameter of MLPClassifier must be"):
        net.set_params(max_pixels=0).fit(paths, y)
    skipped = net.set_params(max_pixels=64, on_error="skip")
    with pytest.warns(UserWarning, match="1 of the 49 files"):
        skipped.fit([*paths, large], [*y, 0])
    assert skipped.skipped_ == [large]


@pytest.mark.parametrize(("option", "env"), [(["-p", "max_pixels=64"], ""), ([], "64")])
def test_the_command_line_has_the_bound(tmp_path, monkeypatch, option, env):
    X, y = data()
    for i, (image, label) in enumerate(zip(X, y, strict=True)):
        folder = tmp_path / "data" / str(label)
        folder.mkdir(parents=True, exist_ok=True)
        save(folder / f"{i}.png", np.pad(image, ((0, i == 7), (0, 0), (0, 0))))
    monkeypatch.setenv("KMEDCLF_MAX_PIXELS", env)
    said = refused(
        "train", "mlp", "--data", tmp_path / "data", "--out", tmp_path / "run", *option
    )  # fmt: skip
    assert "7.png must have at most 64 pixels. It has 8 × 9" in said
    assert not (tmp_path / "run").exists()
