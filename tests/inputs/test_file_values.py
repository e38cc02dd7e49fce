"""Files of every promised format and mode, made of known values, come out as these values."""

import io
from pathlib import Path

import numpy as np
import pytest
from file_samples import EXACT, LOSSY, REFUSED, luma
from helpers import make
from PIL import Image

from kmedclf.inputs import image_files
from kmedclf.inputs.image_files import FORMATS, Form, open_image, read


def write(folder, name, content):
    path = Path(folder, name)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("name", EXACT)
def test_known_values_come_out(tmp_path, name):
    content, expected = EXACT[name]
    expected = np.asarray(expected)
    dtype = np.uint16 if expected.max() > 255 else np.uint8
    path = write(tmp_path, name, content)
    colour = np.repeat(expected, 3, axis=2) if expected.shape[2] == 1 else expected
    grey = expected if expected.shape[2] == 1 else luma(expected.astype(np.uint8))
    for channels, wanted in ((3, colour), (1, grey)):
        found = read(path, Form(12, 10, channels))
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, wanted)
    eight = colour >> 8 if dtype == np.uint16 else colour
    np.testing.assert_array_equal(np.asarray(open_image(path)), eight)


@pytest.mark.parametrize("name", LOSSY)
def test_known_values_nearly_come_out(tmp_path, name):
    content, expected, most = LOSSY[name]
    found = read(write(tmp_path, name, content), Form(12, 10, expected.shape[2]))
    assert found.dtype == np.uint8
    assert np.abs(found.astype(int) - expected).max() <= most


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_known_values_is_refused(tmp_path, name):
    content, sentence = REFUSED[name]
    path = write(tmp_path, name, content)
    for reading in (lambda: read(path, Form(12, 10, 3)), lambda: open_image(path)):
        with pytest.raises(ValueError, match=r"\.$") as caught:
            reading()
        assert sentence in str(caught.value)
        assert str(path) in str(caught.value)


def test_every_format_is_in_the_table():
    kinds = {Image.open(io.BytesIO(content)).format for name, (content, *_) in
             {**EXACT, **LOSSY}.items() if not dicom_name(name)}  # fmt: skip
    assert kinds == {*FORMATS}


def dicom_name(name):
    return name.endswith((".dcm", ".IMA", ".55")) or "." not in name


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_file_and_its_array_are_the_same_to_an_estimator(tmp_path, name, channels):
    path = write(tmp_path, name, EXACT[name][0])
    array = read(path, Form(12, 10, channels))[None]
    estimator = make("MLPClassifier", image_size=(12, 10), channels=channels)
    of_files = estimator._check_X([str(path)], reset=True)
    of_array = make("MLPClassifier")._check_X(array, reset=True)
    assert of_files.scale == of_array.scale == 1 / np.iinfo(array.dtype).max
    np.testing.assert_array_equal(of_files.rows(np.arange(1)), of_array.rows(np.arange(1)))


@pytest.mark.parametrize("name", [name for name in EXACT if not dicom_name(name)])
def test_large_images_are_changed_by_strips_to_the_same_values(tmp_path, name, monkeypatch):
    path = write(tmp_path, name, EXACT[name][0])
    whole = [read(path, Form(12, 10, channels)) for channels in (1, 3, 4)]
    opened = np.asarray(open_image(path))
    monkeypatch.setattr(image_files, "STRIP", 25)  # two rows and a bit
    for channels, expected in zip((1, 3, 4), whole, strict=True):
        np.testing.assert_array_equal(read(path, Form(12, 10, channels)), expected)
    np.testing.assert_array_equal(np.asarray(open_image(path)), opened)
