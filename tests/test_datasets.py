"""`kmedclf.datasets.load` and `info`, on real files and a real server on this machine."""

import hashlib
import http.server
import importlib.util
import io
import json
import os
import re
import subprocess
import sys
import threading
from collections import Counter
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import numpy as np
import pytest

from kmedclf import datasets
from kmedclf.datasets import _download
from kmedclf.datasets.registry import REGISTRY

COUNTS = {"train": 12, "val": 5, "test": 7}


def arrays(n_classes=3, channels=3, size=28, counts=COUNTS, multilabel=False):
    rng = np.random.default_rng(0)
    made = {}
    for split, n in counts.items():
        shape = (n, size, size, 3) if channels == 3 else (n, size, size)
        made[f"{split}_images"] = rng.integers(0, 256, shape, dtype=np.uint8)
        columns = rng.integers(0, 2, (n, n_classes), dtype=np.uint8)
        single = (np.arange(n) % n_classes).astype(np.uint8)[:, None]
        made[f"{split}_labels"] = columns if multilabel else single
    return made


def packed(made):
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **made)
    return buffer.getvalue()


def one_sentence(error):
    """The message; it ends once, whatever dots paths, names and addresses have inside."""
    message = str(error.value)
    assert message.count(". ") <= 1, message  # the house's "... must be X. Got Y instead."
    assert "\n" not in message
    return message


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mine.npz"
    path.write_bytes(packed(arrays()))
    return path


@pytest.fixture
def tiny(monkeypatch):
    """A known set small enough to serve: adding one is one registry entry."""
    content = packed(arrays())
    entry = replace(
        REGISTRY["bloodmnist"],
        name="tinymnist",
        n_samples=COUNTS,
        md5={28: hashlib.md5(content).hexdigest()},
    )
    monkeypatch.setitem(REGISTRY, "tinymnist", entry)
    return content


@pytest.fixture
def server(monkeypatch):
    """Serve `server.files` (path to list of answers, the last one for good) on loopback."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(_download, "RETRIES", 0)  # each one waits a second

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.server.asked[self.path] += 1
            answers = self.server.files.get(self.path, [404])
            answer = answers[min(self.server.asked[self.path], len(answers)) - 1]
            if isinstance(answer, int):
                self.send_error(answer)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.files, running.asked = {}, Counter()
        running.address = f"http://127.0.0.1:{running.server_port}"
        thread = threading.Thread(target=running.serve_forever, args=(0.02,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


# ---- the registry


@pytest.mark.parametrize("name", datasets.names())
def test_entry_is_complete(name):
    info = datasets.info(name)
    assert info.name == name
    assert info.title.lower() == name
    assert info.task in {"binary", "multiclass", "multilabel", "ordinal"}
    assert (info.task == "binary") == (info.n_classes == 2)
    assert len(set(info.class_names)) == info.n_classes
    assert info.n_channels in {1, 3}
    assert list(info.n_samples) == ["train", "val", "test"]
    assert info.licence.startswith("CC BY")
    assert list(info.md5) == [28, 64, 128, 224]
    assert all(re.fullmatch("[0-9a-f]{32}", md5) for md5 in info.md5.values())
    assert info.description
    hash(info)
    with pytest.raises(FrozenInstanceError):
        info.name = "other"


def test_registry_has_no_checksum_twice():
    sums = [md5 for name in datasets.names() for md5 in datasets.info(name).md5.values()]
    assert len(set(sums)) == len(sums) == 48


@pytest.mark.skipif(importlib.util.find_spec("medmnist") is None, reason="needs medmnist")
def test_registry_agrees_with_medmnist(tmp_path):
    # In a process of its own: importing medmnist makes a folder in the home directory.
    code = "import json, medmnist; print('INFO', json.dumps(medmnist.INFO))"
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "HOME": str(tmp_path)},
    )
    theirs = json.loads(run.stdout.split("INFO", 1)[1])
    for name in datasets.names():
        ours = datasets.info(name)
        assert ours.n_samples == theirs[name]["n_samples"]
        assert ours.n_channels == theirs[name]["n_channels"]
        assert ours.licence == theirs[name]["license"]
        for size, md5 in ours.md5.items():
            assert md5 == theirs[name]["MD5" if size == 28 else f"MD5_{size}"]
        for label, text in theirs[name]["label"].items():
            # BloodMNIST lists three cell types in brackets behind one name.
            assert ours.class_names[int(label)] == text.split("(")[0]


def test_blood_classes():
    assert datasets.info("bloodmnist").class_names == (
        "basophil",
        "eosinophil",
        "erythroblast",
        "immature granulocytes",
        "lymphocyte",
        "monocyte",
        "neutrophil",
        "platelet",
    )


@pytest.mark.parametrize("ask", [datasets.info, datasets.load])
@pytest.mark.parametrize("name", ["bloodmnits", "BloodMNIST"])
def test_unknown_name_lists_names_and_suggests(ask, name):
    with pytest.raises(ValueError, match="did you mean 'bloodmnist'") as error:
        ask(name)
    assert all(known in one_sentence(error) for known in datasets.names())


# ---- names


@pytest.mark.parametrize("name", datasets.names())
def test_load_by_name_gives_shapes_and_dtypes(name, tmp_path, monkeypatch):
    # Real sets are large: the same layout in small, under the same name.
    info = replace(datasets.info(name), n_samples=COUNTS)
    monkeypatch.setitem(REGISTRY, name, info)
    made = arrays(info.n_classes, info.n_channels, multilabel=info.task == "multilabel")
    (tmp_path / f"{name}.npz").write_bytes(packed(made))
    for split, n in COUNTS.items():
        X, y = datasets.load(name, split, data_dir=tmp_path, offline=True)
        assert X.dtype == np.uint8
        assert X.shape == ((n, 28, 28, 3) if info.n_channels == 3 else (n, 28, 28))
        assert y.dtype == np.int64
        assert y.shape == ((n, info.n_classes) if info.task == "multilabel" else (n,))
        np.testing.assert_array_equal(X, made[f"{split}_images"])
        np.testing.assert_array_equal(y.reshape(n, -1), made[f"{split}_labels"])


@pytest.mark.parametrize("size", [28, 64, 128, 224])
@pytest.mark.parametrize("name", datasets.names())
def test_offline_error_says_what_to_do(name, size, tmp_path):
    folder = tmp_path / "absent"
    with pytest.raises(FileNotFoundError) as error:
        datasets.load(name, size=size, data_dir=folder, offline=True)
    message = one_sentence(error)
    stem = name if size == 28 else f"{name}_{size}"
    assert message.startswith(f"{stem}.npz is not in {folder} and could not be downloaded")
    assert f"https://zenodo.org/records/10519652/files/{stem}.npz?download=1" in message
    assert datasets.info(name).md5[size] in message
    assert not folder.exists()


def test_folder_comes_from_the_environment_or_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KMEDCLF_DATA", raising=False)
    with pytest.raises(FileNotFoundError, match=re.escape(str(tmp_path / ".medmnist"))):
        datasets.load("bloodmnist", offline=True)
    monkeypatch.setenv("KMEDCLF_DATA", str(tmp_path / "mine"))
    with pytest.raises(FileNotFoundError, match=re.escape(str(tmp_path / "mine"))):
        datasets.load("bloodmnist", offline=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", [27, 32, "28"])
def test_unknown_size(size, tmp_path):
    with pytest.raises(ValueError, match="must be one of 28, 64, 128, 224") as error:
        datasets.load("bloodmnist", size=size, data_dir=tmp_path)
    assert repr(size) in one_sentence(error)


# ---- downloads


def test_download_is_kept(server, tiny, tmp_path):
    server.files["/tinymnist.npz"] = [tiny]
    folder = tmp_path / "deep" / "cache"
    X, y = datasets.load("tinymnist", data_dir=folder, mirror=server.address)
    assert X.shape == (12, 28, 28, 3)
    assert y.shape == (12,)
    assert [path.name for path in folder.iterdir()] == ["tinymnist.npz"]
    assert (folder / "tinymnist.npz").read_bytes() == tiny
    plain = tmp_path / "plain"
    plain.touch()
    assert (folder / "tinymnist.npz").stat().st_mode == plain.stat().st_mode
    datasets.load("tinymnist", "val", data_dir=folder, mirror=server.address)
    assert server.asked["/tinymnist.npz"] == 1


def test_mirror_and_folder_from_the_environment(server, tiny, tmp_path, monkeypatch):
    server.files["/sub/tinymnist.npz"] = [tiny]
    monkeypatch.setenv("KMEDCLF_MIRROR", f"{server.address}/sub/")
    monkeypatch.setenv("KMEDCLF_DATA", str(tmp_path / "cache"))
    datasets.load("tinymnist")
    assert (tmp_path / "cache" / "tinymnist.npz").is_file()


def test_download_is_tried_again(server, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(_download, "RETRIES", 1)
    server.files["/tinymnist.npz"] = [503, tiny]
    X, _ = datasets.load("tinymnist", data_dir=tmp_path, mirror=server.address)
    assert len(X) == 12
    assert server.asked["/tinymnist.npz"] == 2


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (404, "answered 404"),
        (b"something else", "sent has another md5"),
        (b"", "sent has another md5"),
    ],
)
@pytest.mark.parametrize("exists", [True, False])
def test_failed_download_leaves_nothing(answer, reason, exists, server, tiny, tmp_path):
    server.files["/tinymnist.npz"] = [answer]
    folder = tmp_path / "cache"
    if exists:
        folder.mkdir()
    with pytest.raises(FileNotFoundError, match=reason) as error:
        datasets.load("tinymnist", data_dir=folder, mirror=server.address)
    message = one_sentence(error)
    assert REGISTRY["tinymnist"].md5[28] in message
    assert f"is not in {folder} and could not be downloaded" in message
    assert list(tmp_path.iterdir()) == ([folder] if exists else [])
    assert not exists or list(folder.iterdir()) == []


def test_no_server(server, tiny, tmp_path):
    server.shutdown()
    server.server_close()
    with pytest.raises(FileNotFoundError, match=r"ConnectionError from 127\.0\.0\.1") as error:
        datasets.load("tinymnist", data_dir=tmp_path / "cache", mirror=server.address)
    one_sentence(error)
    assert list(tmp_path.iterdir()) == []


def test_offline_asks_no_server(server, tiny, tmp_path):
    server.files["/tinymnist.npz"] = [tiny]
    with pytest.raises(FileNotFoundError, match="offline=True"):
        datasets.load("tinymnist", data_dir=tmp_path, mirror=server.address, offline=True)
    assert not server.asked


@pytest.mark.parametrize("damage", ["truncated", "another set", "empty", "text", "split"])
def test_cached_file_with_wrong_md5_is_named_and_kept(damage, server, tiny, tmp_path):
    server.files["/tinymnist.npz"] = [tiny]
    content = {
        "truncated": tiny[: len(tiny) // 2],
        "another set": packed(arrays(counts={"train": 3, "val": 1, "test": 1})),
        "empty": b"",
        "text": b"<html>try later</html>",
        "split": packed(arrays(counts={"val": 5})),
    }[damage]
    path = tmp_path / "tinymnist.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="delete it and load again") as error:
        datasets.load("tinymnist", data_dir=tmp_path, mirror=server.address)
    assert str(path) in str(error.value)
    assert hashlib.md5(content).hexdigest() in str(error.value)
    assert REGISTRY["tinymnist"].md5[28] in str(error.value)
    assert path.read_bytes() == content
    assert not server.asked


# ---- paths


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
        ({"train_images": np.zeros((4, 8, 8, 8)), "train_labels": LABELS}, r"\(4, 8, 8, 8\)"),
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


# ---- memory maps


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


# ---- info of a file


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


# ---- the package


def test_import_loads_little_and_makes_nothing(tmp_path):
    code = (
        "import sys, kmedclf.datasets as d; d.names(); d.make_blood_cells(2);"
        "print([m for m in ('tensorflow', 'keras', 'pooch', 'matplotlib', 'sklearn', 'requests')"
        " if m in sys.modules])"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "HOME": str(tmp_path)},
    )
    assert run.stdout.strip() == "[]"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.network
def test_smallest_real_set(tmp_path):
    X, y = datasets.load("breastmnist", "test", data_dir=tmp_path)
    assert X.shape == (156, 28, 28)
    assert set(y) == {0, 1}
