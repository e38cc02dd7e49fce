"""Reading image files: the same picture is the same in all formats, and errors name the path."""

import numpy as np
import pytest
from image_samples import LOSSLESS, picture, save, save_dicom
from PIL import Image

from kmedclf.inputs.image_files import Form, open_image, read, to_depth

U16 = np.arange(108, dtype=np.uint16).reshape(12, 9, 1) * 601
TURNS = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: np.rot90(x, 2),
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: np.rot90(x, 1),
    7: lambda x: np.rot90(x, 2).swapaxes(0, 1),
    8: lambda x: np.rot90(x, -1),
}  # how a file of each EXIF orientation holds the picture


def path_of(folder, kind):
    return folder / ("scan" if kind == "no suffix" else f"scan.{kind}")


def form(pixels, **options):
    return Form(*pixels.shape, **options)


@pytest.mark.parametrize("kind", LOSSLESS)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_is_the_same_in_all_formats(tmp_path, kind, channels):
    pixels = picture(channels=channels)
    path = save(path_of(tmp_path, kind), pixels)
    found = read(path, form(pixels))
    assert (found.dtype, found.shape) == (np.uint8, pixels.shape)
    np.testing.assert_array_equal(found, pixels)
    np.testing.assert_array_equal(np.asarray(open_image(path)), np.broadcast_to(pixels, (12, 9, 3)))
    reference = save(tmp_path / "reference.png", pixels)
    for resize in ("stretch", "pad", "crop"):
        smaller = Form(5, 6, channels, resize)
        np.testing.assert_array_equal(read(path, smaller), read(reference, smaller))


@pytest.mark.parametrize("kind", ["png", "tif", "dcm"])
@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bits_stay_sixteen_bits(tmp_path, kind, channels):
    path = save(path_of(tmp_path, kind), U16)
    found = read(path, Form(12, 9, channels))
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found, np.repeat(U16, channels, axis=2))
    shrunk = read(path, Form(6, 9, 1))
    np.testing.assert_allclose(shrunk.mean(), U16.mean(), rtol=0.01)
    np.testing.assert_array_equal(np.asarray(open_image(path, "L")), U16[..., 0] >> 8)


def test_depths_are_scaled_not_clipped():
    grey = np.arange(256, dtype=np.uint8)
    deep = to_depth(grey, np.dtype(np.uint16))
    assert (deep[0], deep[-1]) == (0, 65535)
    np.testing.assert_array_equal(to_depth(deep, np.dtype(np.uint8)), grey)


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("kind", ["png", "tif", "jpg", "webp"])
def test_orientation_is_that_of_exif(tmp_path, kind, orientation):
    pixels = picture()
    exif = Image.Exif()
    exif[274] = orientation
    stored = np.ascontiguousarray(TURNS[orientation](pixels))
    quality = {"quality": 100, "subsampling": 0} if kind == "jpg" else {}
    path = save(tmp_path / f"scan.{kind}", stored, exif=exif, **quality)
    found = read(path, form(pixels))
    assert np.abs(found.astype(int) - pixels).max() <= (4 if kind == "jpg" else 0)
    np.testing.assert_array_equal(np.asarray(open_image(path)), found)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_all_modes_become_the_channels_asked_for(tmp_path, mode, channels):
    image = Image.fromarray(picture(channels=1)[..., 0]).convert(mode)
    path = tmp_path / "scan.tif"
    image.save(path)
    found = read(path, Form(12, 9, channels))
    assert found.shape == (12, 9, channels)
    grey = np.asarray(image.convert("RGB"))[..., 0].astype(int)
    assert np.abs(found[..., 0] - grey).max() <= 1


def test_a_palette_with_transparency_is_blended_with_black(tmp_path):
    pixels = picture()
    image = Image.fromarray(pixels).quantize(256)
    image.save(tmp_path / "scan.png", transparency=bytes(range(256)))
    found = read(tmp_path / "scan.png", form(pixels))
    colours, alpha = np.asarray(image.convert("RGB")), np.asarray(image)[..., None]
    np.testing.assert_array_equal(found, np.round(colours * (alpha / 255)).astype(np.uint8))
    whole = read(tmp_path / "scan.png", Form(12, 9, 4))
    np.testing.assert_array_equal(whole, np.concatenate([colours, alpha], axis=2))


def test_resize_modes(tmp_path):
    white = np.full((4, 8, 1), 255, np.uint8)
    white[:, :2] = white[:, -2:] = 100
    path = save(tmp_path / "wide.png", white)
    pad = read(path, Form(8, 8, 1, "pad"))[..., 0]
    assert not pad[:2].any()
    assert not pad[-2:].any()
    np.testing.assert_array_equal(pad[2:6], white[..., 0])
    crop = read(path, Form(4, 4, 1, "crop"))
    np.testing.assert_array_equal(crop, np.full((4, 4, 1), 255))
    assert read(path, Form(4, 4, 1)).min() < 255


def test_large_jpegs_look_as_if_decoded_in_full(tmp_path):
    pixels = picture(640, 480)
    path = save(tmp_path / "large.jpg", pixels, quality=95)
    found = read(path, Form(64, 48, 3)).astype(int)
    full = np.asarray(Image.open(path).resize((48, 64), 2))
    assert np.abs(found - full).mean() < 1


def test_the_first_frame_of_a_gif(tmp_path):
    frames = [Image.fromarray(picture(channels=1, seed=i)[..., 0]) for i in range(3)]
    frames[0].save(tmp_path / "scan.gif", save_all=True, append_images=frames[1:])
    found = read(tmp_path / "scan.gif", Form(12, 9, 1))
    np.testing.assert_array_equal(found[..., 0], np.asarray(frames[0]))


def _stack(path):
    frames = [Image.fromarray(picture(channels=1)[..., 0])] * 2
    frames[0].save(path, "TIFF", save_all=True, append_images=frames[1:])


BROKEN = {
    "missing.png": lambda path: None,
    "empty.jpg": lambda path: path.write_bytes(b""),
    "empty.dcm": lambda path: path.write_bytes(b""),
    "text.png": lambda path: path.write_text("no image"),
    "text.dcm": lambda path: path.write_text("no image"),
    "folder.png": lambda path: path.mkdir(),
    "stack.tif": _stack,
    "floats.tif": lambda path: Image.fromarray(np.ones((4, 4), np.float32)).save(path),
    "wide.tif": lambda path: Image.fromarray(np.full((4, 4), 1 << 20, np.int32)).save(path),
    "frames.dcm": lambda path: save_dicom(
        path, np.zeros((4, 4, 1), np.uint8), NumberOfFrames=2, PixelData=bytes(32)
    ),
}


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("reading", [lambda path: read(path, Form(4, 4, 3)), open_image])
def test_what_is_no_image_is_one_sentence_with_its_path(tmp_path, name, reading):
    path = tmp_path / name
    BROKEN[name](path)
    with pytest.raises((ValueError, FileNotFoundError), match=r"\.$") as caught:
        reading(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", [*LOSSLESS, "jpg"])
def test_damaged_files_are_read_or_refused_by_name(tmp_path, kind):
    path = save(path_of(tmp_path, kind), picture(40, 40))
    whole, generator = path.read_bytes(), np.random.default_rng(0)
    sentences = []
    for _ in range(60):
        damaged = bytearray(whole)
        for place in generator.integers(len(whole), size=8):
            damaged[place] = generator.integers(256)
        path.write_bytes(damaged[: generator.integers(len(whole))])
        try:
            assert read(path, Form(8, 8, 3)).shape == (8, 8, 3)
        except ValueError as error:
            sentences.append(str(error))
    assert len(sentences) > 30
    assert all(str(path) in sentence for sentence in sentences)
