"""MedMNIST whole: the package's own objects as data, volumes, and grades.

The package's classes need torch for one empty base class, which a stand-in replaces where torch is
not installed. Its files are small ones, written here.
"""

import importlib
import os
import subprocess
import sys
import types
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from helpers import ALL, data, make, same
from sklearn.metrics import cohen_kappa_score, mean_absolute_error

from kmedclf import CNNClassifier, MLPClassifier, datasets
from kmedclf.evaluation import evaluate, evaluate_predictions

THREE_D = [name for name in datasets.names() if datasets.info(name).volumes]


@pytest.fixture
def medmnist(monkeypatch, tmp_path):
    """The package, of this environment or of the one that KMEDCLF_MEDMNIST_PYTHON names."""
    python = os.environ.get("KMEDCLF_MEDMNIST_PYTHON")
    if find_spec("medmnist") is None and python is None:
        pytest.skip("medmnist is not installed here, nor does KMEDCLF_MEDMNIST_PYTHON name it")
    monkeypatch.setenv("HOME", str(tmp_path))  # importing it makes a folder
    if find_spec("medmnist") is None:
        code = "import importlib.util as u; print(u.find_spec('medmnist').origin)"
        done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
        monkeypatch.syspath_prepend(str(Path(done.stdout.strip()).parents[1]))
    if find_spec("torch") is None:
        stand_in = {"torch": {}, "torch.utils": {}, "torch.utils.data": {"Dataset": object}}
        for name, content in stand_in.items():
            module = types.ModuleType(name)
            vars(module).update(content)
            monkeypatch.setitem(sys.modules, name, module)
    yield importlib.import_module("medmnist.dataset")
    for name in [name for name in sys.modules if name.partition(".")[0] == "medmnist"]:
        del sys.modules[name]


def written(folder, flag, images, labels):
    """Write a small file as MedMNIST's, with the same rows in each split."""
    arrays = {}
    for split in ("train", "val", "test"):
        arrays |= {f"{split}_images": images, f"{split}_labels": labels}
    np.savez(folder / f"{flag}.npz", **arrays)
    return folder


def test_its_objects_are_data(medmnist, tmp_path):
    X, y = data(24)
    folder = written(tmp_path, "bloodmnist", X, y[:, None])
    train, test = (medmnist.BloodMNIST(split, root=folder) for split in ("train", "test"))
    expected = make("MLPClassifier").fit(X, y, X_val=X, y_val=y)
    estimator = make("MLPClassifier").fit(train, X_val=test)
    assert same(estimator, expected)
    assert same(make("MLPClassifier").fit(train, y, X_val=X, y_val=y), expected)
    np.testing.assert_array_equal(estimator.predict(test), expected.predict(X))
    assert evaluate(estimator, test, n_bootstrap=0).accuracy == estimator.score(X, y)
    images, labels = datasets.load(test)
    np.testing.assert_array_equal(images, X)
    np.testing.assert_array_equal(labels, y)
    assert datasets.info(test) == datasets.info("bloodmnist")


def test_kinds_of_its_objects(medmnist, tmp_path):
    X, y = data(24)
    grey = medmnist.PneumoniaMNIST(
        "train", root=written(tmp_path, "pneumoniamnist", X[..., 0], (y > 0)[:, None]), as_rgb=True
    )
    images, labels = datasets.load(grey)
    assert (images.shape, labels.shape) == ((24, 8, 8, 3), (24,))
    several = np.tile(np.eye(14, dtype=np.uint8), (2, 1))[:24]
    several[:, 0] = 1
    chest = medmnist.ChestMNIST("train", root=written(tmp_path, "chestmnist", X[..., 0], several))
    assert make("MLPClassifier").fit(chest).predict(chest).shape == (24, 14)
    changed = medmnist.ChestMNIST("train", root=tmp_path, transform=np.asarray)
    with pytest.raises(ValueError, match="'transform' of ChestMNIST must be None"):
        make("MLPClassifier").fit(changed)
    volumes = np.repeat(X[..., :1], 8, axis=-1)
    organs = medmnist.OrganMNIST3D(
        "train", root=written(tmp_path, "organmnist3d", volumes, y[:, None])
    )
    assert datasets.load(organs)[0].shape == (24, 8, 8, 8)
    assert make("MLPClassifier", image_shape=(8, 8, 8)).fit(organs).predict(organs).shape == (24,)


def test_the_registry_says_what_the_package_says(medmnist):
    info = importlib.import_module("medmnist.info").INFO
    kinds = {"multi-class": "multiclass", "binary-class": "binary",
             "multi-label, binary-class": "multilabel",
             "ordinal-regression": "ordinal"}  # fmt: skip
    assert set(info) == set(datasets.names())
    assert len(THREE_D) == 6
    for name, theirs in info.items():
        ours = datasets.info(name)
        assert ours.n_samples == theirs["n_samples"]
        assert (ours.n_channels, ours.task) == (theirs["n_channels"], kinds[theirs["task"]])
        assert ours.md5 == {
            size: theirs["MD5" + ("" if size == 28 else f"_{size}")] for size in ours.md5
        }
        assert ours.volumes == name.endswith("3d")
        assert ours.n_classes == len(theirs["label"])
        if ours.volumes:
            assert ours.class_names == tuple(theirs["label"].values())


@pytest.mark.parametrize("name", THREE_D)
def test_volumes_load(name, tmp_path):
    counts = datasets.info(name).n_samples
    arrays = {}
    for split, n in counts.items():
        arrays[f"{split}_images"] = np.zeros((n, 28, 28, 28), np.uint8)
        arrays[f"{split}_labels"] = np.arange(n)[:, None] % 2
    np.savez_compressed(tmp_path / f"{name}.npz", **{k: v for k, v in arrays.items()})
    X, y = datasets.load(name, "val", data_dir=tmp_path, offline=True)
    assert (X.shape, y.shape) == ((counts["val"], 28, 28, 28), (counts["val"],))
    assert datasets.info(tmp_path / f"{name}.npz").volumes


@pytest.mark.parametrize("name", ALL)
def test_slices_are_channels_on_request(name):
    X, y = data(24)
    volumes = np.repeat(X, 3, axis=-1)[..., :8]
    with pytest.raises(ValueError, match=r"set image_shape=\(8, 8, 8\) to take these 8 slices as"):
        make(name).fit(volumes, y)
    estimator = make(name, image_shape=(8, 8, 8)).fit(volumes, y)
    assert estimator.image_shape_ == (8, 8, 8)
    assert estimator.predict_proba(volumes).shape == (24, 3)


def test_grades():
    rng = np.random.default_rng(0)
    true, proba = rng.integers(0, 5, 300), rng.dirichlet(np.ones(5), 300)
    weight, pred = rng.uniform(0.5, 2, 300), proba.argmax(axis=1)
    report = evaluate_predictions(true, proba, ordinal=True, n_bootstrap=100, sample_weight=weight)
    kappa, error = (report.scores[n] for n in ("kappa_quadratic", "mean_absolute_error"))
    expected = cohen_kappa_score(true, pred, weights="quadratic", sample_weight=weight)
    assert kappa.value == pytest.approx(expected, abs=1e-12)
    expected = mean_absolute_error(true, pred, sample_weight=weight)
    assert error.value == pytest.approx(expected, abs=1e-12)
    assert kappa.low < kappa.value < kappa.high
    assert "Kappa, quadratic weights" in str(report)
    assert "kappa_quadratic" not in evaluate_predictions(true, proba, n_bootstrap=0).scores
    X, y = data(24)
    model = MLPClassifier(epochs=1, early_stopping=False, random_state=0).fit(X, y)
    assert "kappa_quadratic" in evaluate(model, X, y, ordinal=True, n_bootstrap=0).scores
    with pytest.raises(ValueError, match="'ordinal' parameter must be None in a multilabel task"):
        evaluate_predictions(np.eye(3)[:, [0, 0, 1]], np.ones((3, 3)) / 2, ordinal=True)


def test_volumes_are_refused_by_a_sentence():
    with pytest.raises(ValueError, match="cut into slices"):
        CNNClassifier().fit(np.zeros((4, 8, 8, 8, 1), np.uint8), [0, 1, 0, 1])
