"""Image folders: classes, splits and groups as they lie on disk."""

import numpy as np
import pytest

from kmedclf import datasets


def lay(root, *names):
    """Make files of these names; an image is not opened, and may be anything."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\0" * 128 + b"DICM" if "dicom" in name else b"x")
    return root


def inside(found, root):
    return [path.removeprefix(f"{root}/") for path in found.paths]


def test_classes_and_paths_are_sorted(tmp_path):
    lay(tmp_path, "b/2.png", "b/10.JPG", "a/deep/er/x.tiff", "a/y.dcm", "c/z.gif")
    found = datasets.load_folder(tmp_path)
    assert found.class_names == ("a", "b", "c")
    assert inside(found, tmp_path) == ["a/deep/er/x.tiff", "a/y.dcm", "b/10.JPG", "b/2.png",
                                       "c/z.gif"]  # fmt: skip
    np.testing.assert_array_equal(found.y, [0, 0, 1, 1, 2])
    assert found.paths.dtype.kind == "U"
    assert found.groups is None


def test_what_is_no_image_is_passed_over(tmp_path):
    lay(tmp_path, "a/1.png", "b/2.png", "b/notes.txt", "b/._2.png", "a/README", "none/x.csv",
        ".git/1.png", "b/dicom_without_suffix", "labels.csv")  # fmt: skip
    with pytest.warns(UserWarning, match="^Left out of") as caught:
        found = datasets.load_folder(str(tmp_path))
    assert str(caught[0].message).partition(": ")[2] == (
        "1 folder of a system or a tool (.git), "
        "3 files of another kind than images by name (a/README), "
        "1 file hidden by a dot (b/._2.png), "
        "1 folder without images (none)."
    )
    assert inside(found, tmp_path) == ["a/1.png", "b/2.png", "b/dicom_without_suffix"]
    assert found.class_names == ("a", "b")


@pytest.mark.parametrize(
    "names",
    [("train", "val", "test"), ("Training", "Validation", "Testing"), ("TRAIN", "valid", "test")],
)
def test_splits_share_their_classes(tmp_path, names):
    train, val, test = names
    lay(tmp_path, f"{train}/b/1.png", f"{train}/c/2.png", f"{val}/b/3.png", f"{test}/a/4.png")
    for split, expected in {"train": [1, 2], "val": [1], "test": [0]}.items():
        found = datasets.load_folder(tmp_path, split)
        assert found.class_names == ("a", "b", "c")
        np.testing.assert_array_equal(found.y, expected)
    with pytest.raises(ValueError, match=r"must be 'train' or 'val' or 'test' for .*. Got None"):
        datasets.load_folder(tmp_path)


def test_a_class_may_be_called_test(tmp_path):
    lay(tmp_path, "test/1.png", "control/2.png")
    assert datasets.load_folder(tmp_path).class_names == ("control", "test")


@pytest.mark.parametrize(("pattern", "groups"), [(r"^p(\d+)_", ["1", "1", "22"]), ("p1|p22", None)])
def test_groups_come_from_paths(tmp_path, pattern, groups):
    lay(tmp_path, "a/p1_1.png", "a/p1_2.png", "b/p22_1.png")
    found = datasets.load_folder(tmp_path, group=pattern)
    assert found.groups.tolist() == (groups or ["p1", "p1", "p22"])


@pytest.mark.parametrize(
    ("names", "options", "sentence"),
    [
        ((), {}, "must hold a folder of images for each class. It has none."),
        (("a/x.txt",), {}, "must hold a folder of images for each class. It has none."),
        (("a/1.png", "2.png"), {}, "must be in the folder of its class. 2.png is not."),
        (("a/1.png",), {"split": "test"}, "be None, as there are no folders of splits, for"),
        (("a/1.png", "b/x.png"), {"group": r"\d"}, r"'\d' does not match x.png."),
    ],
)
def test_wrong_folders_are_one_sentence(tmp_path, names, options, sentence):
    lay(tmp_path, *names)
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        datasets.load_folder(tmp_path, **options)
    assert sentence in str(caught.value)
    with pytest.raises(FileNotFoundError, match=r"There is no folder .*none"):
        datasets.load_folder(tmp_path / "none")
