"""DICOM images as they are looked at."""

import sys

import numpy as np
import pytest
from image_samples import save_dicom

from kmedclf.inputs.image_files import Form, read

FORM = Form(4, 4, 1)
RAMP = np.arange(16, dtype=np.uint16).reshape(4, 4, 1) * 64  # 0 to 960


def shown(path, pixels, **tags):
    """Write and read; grey from 0 to 1."""
    save_dicom(path, pixels, **tags)
    found = read(path, FORM)
    return found[..., 0] / np.iinfo(found.dtype).max


def test_a_window_makes_black_and_white(tmp_path):
    found = shown(tmp_path / "a.dcm", RAMP, BitsStored=12, WindowCenter=480.5, WindowWidth=321)
    values = RAMP[..., 0].astype(float)
    np.testing.assert_allclose(found, np.clip((values - 320) / 320, 0, 1), atol=1e-4)
    assert found.min() == 0
    assert found.max() == 1


@pytest.mark.parametrize("centre", [[480.5, 1], ["480.5", "1"]])
def test_the_first_of_several_windows(tmp_path, centre):
    one = shown(tmp_path / "a.dcm", RAMP, WindowCenter=480.5, WindowWidth=321)
    several = shown(tmp_path / "b.dcm", RAMP, WindowCenter=centre, WindowWidth=[321, 2])
    np.testing.assert_array_equal(one, several)


def test_windows_count_in_rescaled_units(tmp_path):
    plain = shown(tmp_path / "a.dcm", RAMP, WindowCenter=480, WindowWidth=320)
    tags = {"RescaleSlope": 2, "RescaleIntercept": -1024}
    rescaled = shown(
        tmp_path / "b.dcm", RAMP, WindowCenter=2 * 479.5 - 1024 + 0.5, WindowWidth=639, **tags
    )
    np.testing.assert_allclose(plain, rescaled, atol=1e-4)


@pytest.mark.parametrize(("function", "half"), [("LINEAR_EXACT", 0.5), ("SIGMOID", 0.5)])
def test_other_functions_are_half_grey_at_the_centre(tmp_path, function, half):
    tags = {"WindowCenter": 512, "WindowWidth": 400, "VOILUTFunction": function}
    found = shown(tmp_path / "a.dcm", RAMP, **tags)
    assert found.ravel()[8] == pytest.approx(half, abs=1e-4)
    assert np.all(np.diff(found.ravel()) >= 0)


def test_without_a_window_all_that_can_be_stored_is_shown(tmp_path):
    found = shown(tmp_path / "a.dcm", RAMP, BitsStored=10)
    np.testing.assert_allclose(found, RAMP[..., 0] / 1023, atol=1e-4)
    signed = shown(tmp_path / "b.dcm", (RAMP.astype(np.int16) - 512), BitsStored=10)
    np.testing.assert_allclose(signed, RAMP[..., 0] / 1023, atol=1e-4)


@pytest.mark.parametrize("tags", [{}, {"WindowCenter": 480, "WindowWidth": 320}])
def test_monochrome1_is_inverted(tmp_path, tags):
    two = shown(tmp_path / "a.dcm", RAMP, **tags)
    one = shown(tmp_path / "b.dcm", RAMP, kind="MONOCHROME1", **tags)
    np.testing.assert_allclose(one + two, 1, atol=1e-4)


def test_eight_bits_are_eight_bits(tmp_path):
    grey = np.arange(16, dtype=np.uint8).reshape(4, 4, 1) * 17
    save_dicom(tmp_path / "a.dcm", grey)
    found = read(tmp_path / "a.dcm", FORM)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, grey)


def test_compression_that_needs_a_plugin_says_so(tmp_path):
    from tests.inputs.test_bombs import dicom_bomb, encapsulated

    path = tmp_path / "a.dcm"
    frame = b"\xff\xd8\xff\xf7" + bytes(20)  # JPEG-LS
    path.write_bytes(dicom_bomb("1.2.840.10008.1.2.4.80", 12, packed=encapsulated(frame)))
    with pytest.raises(ValueError, match=r"plugins are missing dependencies|JPEG-LS"):
        read(path, FORM)


def test_jpeg_in_dicom(tmp_path):
    from file_samples import GREY, pillow

    from tests.inputs.test_bombs import dicom_bomb, encapsulated

    for kind, syntax in (("JPEG", "50"), ("JPEG2000", "90")):
        frame = pillow(kind, GREY, **({"quality": 100} if kind == "JPEG" else {"no_jp2": True}))
        content = dicom_bomb(f"1.2.840.10008.1.2.4.{syntax}", 12, packed=encapsulated(frame))
        path = tmp_path / f"{kind}.dcm"
        path.write_bytes(
            content.replace(b"\x28\0\x11\0US\x02\0\x0c\0", b"\x28\0\x11\0US\x02\0\x0a\0")
        )
        found = read(path, Form(12, 10, 1))
        assert np.abs(found.astype(int) - GREY).max() <= 3


def test_without_pydicom_the_sentence_says_what_to_install(tmp_path, monkeypatch):
    save_dicom(tmp_path / "a.dcm", RAMP)
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(ImportError, match=r"pip install 'kmedclf\[dicom\]'"):
        read(tmp_path / "a.dcm", FORM)
