"""Data sets known by name: what is known of each, and what a name gives."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
from npz_samples import COUNTS, arrays, one_sentence, packed

from kmedclf import datasets
from kmedclf.datasets.registry import REGISTRY


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
    assert list(info.md5) == ([28, 64] if info.volumes else [28, 64, 128, 224])
    assert all(re.fullmatch("[0-9a-f]{32}", md5) for md5 in info.md5.values())
    assert info.description
    hash(info)
    with pytest.raises(FrozenInstanceError):
        info.name = "other"


def test_registry_has_no_checksum_twice():
    sums = [md5 for name in datasets.names() for md5 in datasets.info(name).md5.values()]
    assert len(set(sums)) == len(sums) == 60


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


@pytest.mark.parametrize("name", datasets.names())
def test_load_by_name_gives_shapes_and_dtypes(name, tmp_path, monkeypatch):
    # Real sets are large: the same layout in small, under the same name.
    info = replace(datasets.info(name), n_samples=COUNTS)
    monkeypatch.setitem(REGISTRY, name, info)
    made = arrays(info.n_classes, info.n_channels, multilabel=info.task == "multilabel")
    if info.volumes:
        slices = {key: value for key, value in made.items() if key.endswith("images")}
        made |= {key: np.repeat(value[..., None], 28, axis=3) for key, value in slices.items()}
    (tmp_path / f"{name}.npz").write_bytes(packed(made))
    for split, n in COUNTS.items():
        X, y = datasets.load(name, split, data_dir=tmp_path, offline=True)
        assert X.dtype == np.uint8
        last = {"volumes": (28,), "colour": (3,), "grey": ()}[
            "volumes" if info.volumes else "colour" if info.n_channels == 3 else "grey"
        ]
        assert X.shape == (n, 28, 28, *last)
        assert y.dtype == np.int64
        assert y.shape == ((n, info.n_classes) if info.task == "multilabel" else (n,))
        np.testing.assert_array_equal(X, made[f"{split}_images"])
        np.testing.assert_array_equal(y.reshape(n, -1), made[f"{split}_labels"])


@pytest.mark.parametrize("size", [28, 64, 128, 224])
@pytest.mark.parametrize("name", datasets.names())
def test_offline_error_says_what_to_do(name, size, tmp_path):
    folder = tmp_path / "absent"
    if size not in datasets.info(name).md5:
        with pytest.raises(ValueError, match=f"must be one of 28, 64 for {name}. Got {size}"):
            datasets.load(name, size=size, data_dir=folder, offline=True)
        return
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
