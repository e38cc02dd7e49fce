"""Folders as they come off disks, archives and scanners: nothing in or out without a word."""

import warnings

import numpy as np
import pytest
from file_samples import EXACT

from kmedclf import datasets
from kmedclf.datasets.folders import SUFFIXES, find_images
from kmedclf.inputs.image_files import DICOM_SUFFIXES, FORMATS, Form, read
from tests.datasets.test_folders import inside, lay

LEFT_OUT = {
    "a/.ipynb_checkpoints/1-checkpoint.png": "1 folder of a system or a tool",
    "a/@eaDir/1.png/SYNOPHOTO_THUMB.jpg": "1 folder of a system or a tool",
    "a/__MACOSX/1.png": "1 folder of a system or a tool",
    "__MACOSX/a/1.png": "1 folder of a system or a tool",
    "$RECYCLE.BIN/1.png": "1 folder of a system or a tool",
    "a/._1.png": "1 file hidden by a dot (a/._1.png)",
    "a/masks/1.png": "1 folder of masks beside images (a/masks)",
    "a/1_mask.png": "1 file of masks beside their images (a/1_mask.png)",
    "a/1_Segmentation_2.png": "1 file of masks beside their images",
    "a/DICOMDIR": "1 file of another kind than images by name (a/DICOMDIR)",
    "a/scan.nii.gz": "1 file of another kind than images by name (a/scan.nii.gz)",
    "a/notes.txt": "1 file of another kind than images by name (a/notes.txt)",
    "c/notes.txt": "1 folder without images (c)",
}
SILENT = ["a/Thumbs.db", "a/.DS_Store", "a/desktop.ini", "a/.gitkeep", "labels.csv"]


@pytest.mark.parametrize("name", LEFT_OUT)
def test_what_is_left_out_is_counted_and_said(tmp_path, name):
    lay(tmp_path, "a/1.png", "b/2.png", name)
    with pytest.warns(UserWarning, match="^Left out of ") as caught:
        found = datasets.load_folder(tmp_path)
    assert inside(found, tmp_path) == ["a/1.png", "b/2.png"]
    assert LEFT_OUT[name] in str(caught[0].message)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    if not name.startswith("c/"):
        said = []
        images = find_images([tmp_path], said.append)
        assert images == [tmp_path / "a/1.png", tmp_path / "b/2.png"]
        assert LEFT_OUT[name] in said[0]


@pytest.mark.parametrize("name", SILENT)
def test_clutter_is_left_out_in_silence(tmp_path, name):
    lay(tmp_path, "a/1.png", "b/2.png", name)
    assert inside(datasets.load_folder(tmp_path), tmp_path) == ["a/1.png", "b/2.png"]


def test_images_beside_masks_in_a_class(tmp_path):
    lay(tmp_path, "covid/images/1.png", "covid/masks/1.png", "normal/Images/2.png",
        "normal/Masks/2.png")  # fmt: skip
    with pytest.warns(UserWarning, match=r"2 folders of masks beside images \(covid/masks\)"):
        found = datasets.load_folder(tmp_path)
    assert inside(found, tmp_path) == ["covid/images/1.png", "normal/Images/2.png"]


def test_masks_alone_are_images(tmp_path):
    lay(tmp_path, "masks/1.png", "no masks/2_mask.png", "b/masks/3.png")
    assert datasets.load_folder(tmp_path).class_names == ("b", "masks", "no masks")


@pytest.mark.parametrize("name", EXACT)
def test_every_file_that_can_be_read_is_listed(tmp_path, name):
    """JPEG 2000, DICOM named by UIDs or .IMA, ...: a class of them does not vanish."""
    for place in ("a", "b"):
        lay(tmp_path, f"{place}/x.png")
        (tmp_path / place / "x.png").unlink()
        (tmp_path / place / name).write_bytes(EXACT[name][0])
    found = datasets.load_folder(tmp_path)
    assert inside(found, tmp_path) == [f"a/{name}", f"b/{name}"]
    assert read(found.paths[0], Form(4, 4, 1)).shape == (4, 4, 1)
    assert find_images([tmp_path / "a"], print) == [tmp_path / "a" / name]


def test_suffixes_are_those_of_the_formats_that_are_read():
    from PIL import Image

    Image.init()
    known = {suffix for suffix, name in Image.EXTENSION.items() if name in FORMATS}
    unusual = {".apng", ".pfm", ".mpo"}
    assert known - unusual | set(DICOM_SUFFIXES) | {".pnm"} == SUFFIXES


def test_links_to_folders_are_followed_once(tmp_path):
    lay(tmp_path / "store", "scans/1.png", "more/2.png")
    lay(tmp_path / "data", "a/0.png", "b/3.png")
    (tmp_path / "data/a/link").symlink_to(tmp_path / "store/more")
    (tmp_path / "data/c").symlink_to(tmp_path / "store/scans")
    found = datasets.load_folder(tmp_path / "data")
    assert inside(found, tmp_path / "data") == ["a/0.png", "a/link/2.png", "b/3.png", "c/1.png"]
    (tmp_path / "data/a/round").symlink_to(tmp_path / "data/a")
    (tmp_path / "data/a/again").symlink_to(tmp_path / "store/more")
    (tmp_path / "data/b/gone.png").symlink_to(tmp_path / "gone.png")
    (tmp_path / "data/b/self.png").symlink_to("self.png")
    with pytest.warns(UserWarning, match="^Left out of ") as caught:
        again = datasets.load_folder(tmp_path / "data")
    assert len(again.paths) == len(found.paths)
    assert "2 links to a folder that is listed already (a/" in str(caught[0].message)
    assert "2 links to nothing (b/gone.png)" in str(caught[0].message)


def _link(root, name, target):
    (root / name).symlink_to(root / target)


REFUSED = {
    "two validations": (
        ["train/a/1.png", "val/a/2.png", "validation/a/3.png"],
        ["'val' split", "{}/val and {}/validation"],
    ),
    "two trainings": (
        ["Train/a/1.png", "train/a/2.png", "test/a/3.png"],
        ["'train' split", "{}/Train and {}/train"],
    ),
    "too high": (
        ["set/a/1.png", "set/b/2.png"],
        ["holds one, {}/set, with {}/set/a and {}/set/b in it"],
    ),
    "far too high": (["zip/set/a/1.png", "zip/set/b/2.png"], ["{}/zip, with {}/zip/set in it"]),
    "too high above splits": (
        ["set/train/a/1.png", "set/test/a/2.png"],
        ["set holds splits, {}/set/train and {}/set/test"],
    ),
    "splits in classes": (
        ["a/train/1.png", "a/test/2.png", "b/train/3.png", "b/test/4.png"],
        ["a holds splits, {}/a/train and {}/a/test"],
    ),
    "images beside masks": (
        ["images/1.png", "masks/1.png"], ["{}/images and {}/masks are not"]
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_ambiguous_is_refused_with_both_paths(tmp_path, kind):
    names, parts = REFUSED[kind]
    lay(tmp_path, *names)
    with pytest.raises(ValueError, match=r"\.$") as caught:
        datasets.load_folder(tmp_path, None)
    for part in parts:
        assert part.replace("{}", str(tmp_path)) in str(caught.value)


def test_one_folder_in_two_classes_is_refused(tmp_path):
    lay(tmp_path, "a/1.png", "b/2.png")
    _link(tmp_path, "c", "a")
    with pytest.raises(ValueError, match="are one folder") as caught:
        datasets.load_folder(tmp_path)
    assert f"{tmp_path}/a and {tmp_path}/c" in str(caught.value)


def test_one_folder_in_two_splits_is_refused(tmp_path):
    lay(tmp_path, "train/a/1.png", "train/b/2.png")
    _link(tmp_path, "test", "train")
    with pytest.raises(ValueError, match="are one folder"):
        datasets.load_folder(tmp_path, "train")


def test_what_is_beside_splits_is_said(tmp_path):
    lay(tmp_path, "train/a/1.png", "test/a/2.png", "extra/a/3.png", "4.png")
    with pytest.warns(UserWarning, match="^Left out of ") as caught:
        datasets.load_folder(tmp_path, "train")
    assert "1 folder beside those of splits (extra)" in str(caught[0].message)
    assert "1 image beside the folders of splits (4.png)" in str(caught[0].message)


def test_classes_that_differ_by_case_are_said(tmp_path):
    lay(tmp_path, "train/Cat/1.png", "train/dog/2.png", "test/cat/3.png")
    with pytest.warns(UserWarning, match="classes 'Cat' and 'cat', which differ by case"):
        assert datasets.load_folder(tmp_path, "train").class_names == ("Cat", "cat", "dog")


def test_classes_of_patients_are_fine(tmp_path):
    lay(tmp_path, "a/p1/1.png", "a/p2/2.png", "b/p3/3.png", "one/a/p1/1.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = datasets.load_folder(tmp_path)
    np.testing.assert_array_equal(found.y, [0, 0, 1, 2])


def test_nothing_to_list_says_what_was_left_out(tmp_path):
    lay(tmp_path, "a/1.nii", "b/2.nii")
    with pytest.raises(FileNotFoundError, match=r"2 files of another kind than images by name"):
        datasets.load_folder(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"2 files of another kind than images by name"):
        find_images([tmp_path], print)
