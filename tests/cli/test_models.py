"""Calibrated runs, and model files where the command line otherwise takes folders of runs."""

import csv

import keras
import numpy as np
import pytest
from cli_helpers import NAMES, invoke, read, refused
from PIL import Image

import kmedclf
from kmedclf import CalibratedClassifier, EnsembleClassifier, datasets, runs
from kmedclf.datasets import sources


@pytest.fixture(scope="module")
def ensemble(npz, tmp_path_factory):
    """Two networks of other kinds in one file."""
    X, y = datasets.load(str(npz), "train")
    networks = [
        ("mlp", kmedclf.MLPClassifier(units=8, epochs=2, early_stopping=False, random_state=0)),
        ("cnn", kmedclf.CNNClassifier(filters=2, epochs=1, early_stopping=False, random_state=0)),
    ]
    path = tmp_path_factory.mktemp("models") / "both.kmedclf"
    EnsembleClassifier(networks).fit(X, y).save(path)
    return path


def test_a_run_read_back_has_the_speed_it_was_made_with(npz, tmp_path):
    data = sources.read_data(str(npz))
    made = runs.train(kmedclf.MLPClassifier(units=8, epochs=2), data, tmp_path / "run")
    again = runs.read_run(tmp_path / "run")
    assert (again.seconds, again.images_per_second) == (made.seconds, made.images_per_second)


def test_train_calibrates_on_validation_images(npz, tmp_path):
    options = ["--data", npz, "--epochs", 5, "-p", "units=16", "-p", "learning_rate=1e-2"]
    plain, calibrated = (tmp_path / name for name in ("plain", "calibrated"))
    invoke("train", "mlp", *options, "--out", plain)
    done = invoke("train", "mlp", *options, "--out", calibrated, "--calibrate")
    assert done.exit_code == 0, done.output
    before, after = (read(one / "evaluation-test.json") for one in (plain, calibrated))
    assert before["confusion"] == after["confusion"]
    assert after["proba"] != before["proba"]
    ece = before["scores"]["ece"][0]
    printed = " ".join(done.stdout.split())
    assert f"{ece:.3f} before" in printed
    assert after["notes"][-1] in printed

    estimator, names = runs.read(calibrated)
    assert isinstance(estimator, CalibratedClassifier)
    assert names == list(NAMES)
    X_val, y_val = datasets.load(str(npz), "val")
    again = CalibratedClassifier(runs.read(plain)[0]).fit(X_val, y_val)
    assert estimator.temperature_ == again.temperature_
    assert read(calibrated / "environment.json")["temperature"] == again.temperature_

    done = invoke("evaluate", calibrated, "--data", npz, "--split", "val")
    assert done.exit_code == 0, done.output
    assert "20 validation images" in read(calibrated / "evaluation-val.json")["notes"][-1]
    done = invoke("report", calibrated, "--out", tmp_path / "page.html")
    assert done.exit_code == 0, done.output
    assert f"{ece:.3f} before" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_there_must_be_something_to_calibrate_on(tmp_path):
    X, y = datasets.make_blood_cells(40, random_state=0)
    np.savez(tmp_path / "no_val.npz", train_images=X, train_labels=y)
    out = tmp_path / "run"
    sentence = refused(
        "train", "mlp", "--data", tmp_path / "no_val.npz", "--out", out, "--calibrate"
    )
    assert "must have a 'val' split" in sentence
    assert not out.exists()


def test_predict_with_a_file(ensemble, tmp_path):
    X, _ = datasets.make_blood_cells(3, random_state=9)
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for path, image in zip(paths, X, strict=True):
        Image.fromarray(image).save(path)
    out = tmp_path / "found.csv"
    done = invoke("predict", ensemble, *paths, "--out", out, "--proba")
    assert done.exit_code == 0, done.output
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    model = kmedclf.load(ensemble)
    assert [row["prediction"] for row in rows] == list(map(str, model.predict(X)))
    found = [[float(row[str(label)]) for label in model.classes_] for row in rows]
    np.testing.assert_allclose(found, model.predict_proba(X), atol=1e-6)


def test_predict_goes_by_the_threshold_of_a_file(tmp_path):
    X, y = datasets.make_blood_cells(80, random_state=0)
    mlp = kmedclf.MLPClassifier(units=8, epochs=3, early_stopping=False, random_state=0)
    model = CalibratedClassifier(mlp.fit(X, y > 5), sensitivity=1.0, pos_label=True)
    model.fit(X, y > 5).save(tmp_path / "m.kmedclf")
    paths = [tmp_path / f"{i}.png" for i in range(20)]
    for path, image in zip(paths, X, strict=False):
        Image.fromarray(image).save(path)
    done = invoke("predict", tmp_path / "m.kmedclf", tmp_path)
    found = {row["path"]: row["prediction"] for row in csv.DictReader(done.stdout.splitlines())}
    expected = model.predict(X[:20])
    assert [found[str(path)] for path in paths] == list(map(str, expected))
    assert (expected != mlp.predict(X[:20])).any()


def test_evaluate_and_report_a_file(ensemble, npz, tmp_path):
    done = invoke("evaluate", ensemble, "--data", npz)
    assert done.exit_code == 0, done.output
    X, y = datasets.load(str(npz), "test")
    accuracy = np.mean(kmedclf.load(ensemble).predict(X) == y)
    assert f"{accuracy:.3f} [" in done.stdout
    done = invoke("report", ensemble, "--data", npz)
    assert done.exit_code == 0, done.output
    page = ensemble.with_suffix(".html").read_text(encoding="utf-8")
    assert "EnsembleClassifier on " in page
    assert NAMES[0] in page
    assert "--data must say where the images are" in refused("report", ensemble)


def test_a_model_is_exported_with_the_difference_on_the_screen(ensemble, tmp_path):
    out = tmp_path / "both.keras"
    done = invoke("export", ensemble, "--format", "keras", "--out", out)
    assert done.exit_code == 0, done.output
    assert "both.keras (keras): probabilities of 8 images differ from" in done.stdout
    model = keras.saving.load_model(out)
    assert model.get_layer("label").settings["class_names"] == [*map(str, range(8))]
    assert model.input.dtype == "uint8"

    before = out.read_bytes()
    again = "export", ensemble, "--format", "keras", "--out", out
    assert "force (--force) replaces it" in refused(*again)
    assert "must be one of 'onnx'" in refused("export", ensemble, "--format", "h5", "--out", out)
    assert out.read_bytes() == before
