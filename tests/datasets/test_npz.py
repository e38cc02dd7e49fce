"""Files laid out like MedMNIST's: loaded, mapped, described, and what is wrong in them."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
from npz_samples import COUNTS, arrays, one_sentence, packed

from kmedclf import datasets


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mine.npz"
    path.write_bytes(packed(arrays()))
    return path


@pytest.mark.parametrize("kind", [str, Path])
@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_load_by_path(kind, split, file):
    X, y = datasets.load(kind(file), split)
    made = arrays()
    np.testing.assert_array_equal(X, made[f"{split}_images"])
    np.testing.assert_array_equal(y, made[f"{split}_labels"][:, 0])
    assert y.dtype == np.int64


@pytest.mark.parametrize("change", [lambda y: y[:, 0], lambda y: y.astype(bool), np.int32])
def test_labels_become_flat_int64(change, tmp_path):
    made = arrays(2)
    made["train_labels"] = change(made["train_labels"])
    np.savez(tmp_path / "a.npz", **made)
    _, y = datasets.load(tmp_path / "a.npz")
    assert (y.dtype, y.shape) == (np.int64, (12,))
    np.testing.assert_array_equal(y, np.arange(12) % 2)


@pytest.mark.parametrize("missing", ["val", "test"])
def test_missing_split(missing, tmp_path):
    path = tmp_path / "a.npz"
    kept = {split: n for split, n in COUNTS.items() if split != missing}
    path.write_bytes(packed(arrays(counts=kept)))
    datasets.load(path, "train")
    with pytest.raises(ValueError, match=f"no '{missing}' split") as error:
        datasets.load(path, missing)
    message = one_sentence(error)
    assert str(path) in message
    assert all(f"'{split}'" in message for split in kept)
    assert datasets.info(path).n_samples == kept


def test_unknown_split(file):
    with pytest.raises(ValueError, match=r"'split' parameter .* Got 'validation' instead"):
        datasets.load(file, "validation")


def test_size_is_not_for_files(file):
    with pytest.raises(ValueError, match=r"'size' parameter .* Got 64"):
        datasets.load(file, size=64)


def test_no_such_file(tmp_path):
    for ask in (datasets.load, datasets.info):
        with pytest.raises(FileNotFoundError, match=re.escape(str(tmp_path / "a.npz"))):
            ask(tmp_path / "a.npz")


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_truncated_file(share, file):
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * share)])
    for ask in (datasets.load, datasets.info):
        with pytest.raises(ValueError, match="truncated or not an") as error:
            ask(file)
        assert str(file) in one_sentence(error)


def test_flipped_bytes_are_noticed(file):
    content = bytearray(file.read_bytes())
    middle = content.index(b"train_images.npy") + 5000
    content[middle : middle + 50] = bytes(50)
    file.write_bytes(bytes(content))
    for mmap in (False, True):
        with pytest.raises(ValueError, match=re.escape(str(file))):
            datasets.load(file, mmap=mmap)
    assert [path.name for path in file.parent.iterdir()] == ["mine.npz"]


@pytest.mark.parametrize("seed", range(5))
def test_any_damage_is_a_value_error_or_harmless(seed, file):
    rng = np.random.default_rng(seed)
    whole = np.frombuffer(packed(arrays(size=4)), np.uint8)
    said = []
    for _ in range(100):
        damaged = whole.copy()
        damaged[rng.integers(0, len(whole), 3)] = rng.integers(0, 256, 3)
        file.write_bytes(damaged.tobytes())
        for ask in (datasets.load, datasets.info):
            try:
                ask(file)
            except ValueError as error:
                said.append(str(error))
    assert said
    assert all(str(file) in message for message in said)


def test_not_an_npz(tmp_path):
    path = tmp_path / "a.npz"
    np.save(path.with_suffix(".npy"), np.zeros(3))
    path.with_suffix(".npy").rename(path)
    with pytest.raises(ValueError, match="truncated or not an") as error:
        datasets.load(path)
    assert str(path) in one_sentence(error)


IMAGES, LABELS = np.zeros((4, 8, 8), np.uint8), np.zeros(4, np.int64)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ({"images": IMAGES, "labels": LABELS}, "It holds 'images', 'labels' instead"),
        ({}, "It holds no array instead"),
        ({"train_images": IMAGES}, "no 'train_labels'"),
        ({"val_labels": LABELS}, "no 'val_images'"),
        ({"train_images": IMAGES, "train_labels": LABELS[:3]}, "Got 4 images and 3 labels"),
        ({"train_images": IMAGES[0], "train_labels": LABELS}, r"Got uint8 of shape \(8, 8\)"),
        ({"train_images": np.zeros((4, 2, 2, 2, 5)), "train_labels": LABELS}, r"\(4, 2, 2, 2, 5\)"),
        ({"train_images": IMAGES.astype(str), "train_labels": LABELS}, "must be numbers"),
        ({"train_images": IMAGES, "train_labels": LABELS + 0.5}, "must be integers"),
        ({"train_images": IMAGES, "train_labels": LABELS.astype(object)}, "must be integers"),
        ({"train_images": IMAGES, "train_labels": np.full((4, 2), 2)}, "zeros and ones"),
    ],
)
def test_wrong_contents(made, said, tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, **made)
    for ask in (datasets.load, datasets.info):
        with pytest.raises(ValueError, match=said) as error:
            ask(path)
        assert str(path) in one_sentence(error)


def test_mmap_unpacks_once_and_again_when_stale(file):
    X, y = datasets.load(file, "test", mmap=True)
    assert isinstance(X, np.memmap)
    assert not X.flags.writeable
    np.testing.assert_array_equal(X, datasets.load(file, "test")[0])
    assert y.shape == (7,)
    unpacked = file.with_name("mine_test_images.npy")
    before = unpacked.stat().st_mtime_ns
    datasets.load(file, "test", mmap=True)
    assert unpacked.stat().st_mtime_ns == before
    file.write_bytes(packed(arrays(counts={"test": 2})))
    later = unpacked.stat().st_mtime + 5
    os.utime(file, (later, later))
    assert len(datasets.load(file, "test", mmap=True)[0]) == 2
    assert sorted(path.name for path in file.parent.iterdir()) == ["mine.npz", unpacked.name]


@pytest.mark.skipif(os.name == "nt", reason="folders have no such mode on Windows")
def test_mmap_needs_a_folder_to_write_to(file):
    file.parent.chmod(0o555)
    try:
        with pytest.raises(PermissionError, match="mmap=False"):
            datasets.load(file, mmap=True)
        assert [path.name for path in file.parent.iterdir()] == ["mine.npz"]
    finally:
        file.parent.chmod(0o755)


def test_info_of_a_file(file):
    info = datasets.info(str(file))
    assert (info.name, info.task, info.n_channels, info.n_classes) == ("mine", "multiclass", 3, 3)
    assert info.class_names == ("0", "1", "2")
    assert info.n_samples == COUNTS


@pytest.mark.parametrize(
    ("options", "task"),
    [
        ({"n_classes": 2, "channels": 1}, "binary"),
        ({"n_classes": 5, "multilabel": True}, "multilabel"),
    ],
)
def test_task_of_a_file(options, task, tmp_path):
    np.savez(tmp_path / "a.npz", **arrays(**options))
    info = datasets.info(tmp_path / "a.npz")
    assert info.task == task
    assert info.class_names == tuple(map(str, range(options["n_classes"])))
    assert info.n_channels == options.get("channels", 3)


def test_class_names_of_a_file(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, **arrays(), class_names=["a", "b", "c", "never seen"])
    assert datasets.info(path).class_names == ("a", "b", "c", "never seen")
    np.savez(path, **arrays(), class_names=["a", "b"])
    with pytest.raises(ValueError, match=r"must name 3 classes\. Got 2"):
        datasets.info(path)
