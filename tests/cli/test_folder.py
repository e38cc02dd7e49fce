"""The command line on a folder of images: no other option is needed."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from cli_helpers import invoke, read, refused
from image_samples import save

import kmedclf
from kmedclf.datasets import make_blood_cells, sources

CLASSES = ("eosinophil", "lymphocyte", "platelet")


def lay(root, n=14, seed=0, classes=CLASSES):
    """Draw n images of each class, of several sizes."""
    X, y = make_blood_cells(20 * n, 20, random_state=seed)
    for label, name in enumerate(classes):
        (root / name).mkdir(parents=True, exist_ok=True)
        for i, image in enumerate(X[y == label][:n]):
            save(root / name / f"{seed}-{i}.{('png', 'bmp')[i % 2]}", image[: 20 - i % 3])
    return root


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return lay(tmp_path_factory.mktemp("data") / "my cells")


@pytest.fixture(scope="module")
def run(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "cnn"
    done = invoke(
        "train", "cnn", "--data", folder, "--out", out, "--epochs", 2, "-p", "filters=2"
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "CNNClassifier on my cells" in done.stdout
    return out


def test_train_reads_64_pixels_of_colour_and_splits_by_class(run, folder):
    environment = read(run / "environment.json")
    assert environment["data"]["class_names"] == list(CLASSES)
    assert environment["data"]["n"] == {"train": 30, "val": 6, "test": 6}
    assert environment["data"]["source"] == str(folder)
    estimator = kmedclf.load(run / "model.kmedclf")
    assert estimator.image_shape_ == (64, 64, 3)
    assert len(read(run / "history.json")["history"]["val_loss"]) == 2


def test_evaluate_repeats_what_train_found(run, folder):
    before = read(run / "evaluation-test.json")
    done = invoke("evaluate", run, "--data", folder)
    assert done.exit_code == 0, done.output
    after = read(run / "evaluation-test.json")
    assert after["data"].pop("n") == {"test": 6}
    del before["data"]["n"]
    assert after == before


def test_evaluate_scores_all_of_another_folder_by_the_names_of_its_classes(run, tmp_path):
    other = lay(tmp_path / "clinic", n=4, seed=1)
    shutil.rmtree(other / CLASSES[0])  # positions of classes differ
    done = invoke("evaluate", run, "--data", other)
    assert done.exit_code == 0, done.output
    report = read(run / "evaluation-all.json")
    assert report["n"] == 8
    files = kmedclf.datasets.load_folder(other)
    names = np.array(files.class_names)[files.y]
    estimator = kmedclf.load(run / "model.kmedclf")
    right = np.array(CLASSES)[estimator.predict(files.paths)] == names
    assert report["scores"]["accuracy"][0] == pytest.approx(right.mean())
    (other / CLASSES[1]).rename(other / "basophil")
    assert refused("evaluate", run, "--data", other) == (
        "clinic must hold only classes of the run, eosinophil, lymphocyte, platelet. "
        "Got 'basophil' among them."
    )


def test_report_and_predict(run, folder, tmp_path):
    done = invoke("report", run, "--plain")
    assert done.exit_code == 0, done.output
    assert (run / "report.html").stat().st_size > 10_000
    done = invoke("predict", run, folder / "platelet", "--out", tmp_path / "preds.csv")
    assert done.exit_code == 0, done.output
    assert done.stderr == ""  # resizing is what it was trained with
    with (tmp_path / "preds.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == sorted(map(str, (folder / "platelet").iterdir()))
    assert {row["prediction"] for row in rows} <= set(CLASSES)


def test_folders_of_splits_are_kept(tmp_path):
    for seed, split in enumerate(("Training", "Testing")):
        lay(tmp_path / "mri" / split, n=6 - seed, seed=seed)
    out = tmp_path / "run"
    done = invoke(
        "train", "mlp", "--data", tmp_path / "mri", "--out", out, "--size", 8, "--epochs", 1,
        "-p", "early_stopping=false", "-p", "channels=1",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    environment = read(out / "environment.json")
    assert environment["data"]["n"] == {"train": 18, "test": 15}
    assert kmedclf.load(out / "model.kmedclf").image_shape_ == (8, 8, 1)


def test_a_split_stays_what_it_is_when_the_folder_moves_or_grows(folder, tmp_path):
    def places(root):
        data = sources.read_data(str(root))
        return {
            split: {str(Path(path).relative_to(root)) for path in X}
            for split, (X, _) in data.splits.items()
        }, data.description["sha256"]

    before, digest = places(folder)
    moved = shutil.copytree(folder, tmp_path / "moved")
    assert places(moved) == (before, digest)
    lay(moved, n=1, seed=5)
    after, changed = places(moved)
    assert changed != digest
    strayed = sum(len(before[split] - after[split]) for split in before)
    assert strayed <= 3  # of 42: at most one a class


def test_a_broken_file_is_named_before_anything_is_written(folder, tmp_path):
    broken = shutil.copytree(folder, tmp_path / "data")
    next((broken / "platelet").iterdir()).write_bytes(b"")
    train = ("train", "mlp", "--data", broken, "--out", tmp_path / "run", "--epochs", 1)
    assert "is not an image that can be read (it is empty)." in refused(*train)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    assert json.dumps(sources.read_data(str(broken)).description)


def test_search(folder, tmp_path):
    out = tmp_path / "search"
    done = invoke(
        "search", "mlp", "--data", folder, "--out", out, "--size", 8, "--engine", "random",
        "--trials", 1, "--epochs", 1, "--final-epochs", 1, "--folds", 2,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert kmedclf.load(out / "best" / "model.kmedclf").image_shape_ == (8, 8, 3)
