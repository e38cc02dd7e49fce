"""The command predict: files in, a table out."""

import csv
import io
import os

import numpy as np
import pytest
from cli_helpers import NAMES, invoke, read, refused
from PIL import Image

import kmedclf
from kmedclf.datasets import make_blood_cells
from kmedclf.inputs import image_files
from kmedclf.utils.text import write_csv


@pytest.fixture
def images(tmp_path):
    """A folder of images of several formats, modes and sizes, and a file that is none."""
    X, _ = make_blood_cells(4, image_size=40, random_state=9)
    folder = tmp_path / "images"
    (folder / "deep er").mkdir(parents=True)
    Image.fromarray(X[0]).resize((28, 28)).save(folder / "b.png")
    Image.fromarray(X[1]).save(folder / "a.JPG", "jpeg")
    Image.fromarray(X[2]).convert("L").save(folder / "deep er" / "grey.bmp")
    Image.fromarray(X[3]).convert("P").save(folder / "deep er" / "palette.tif")
    (folder / "notes.txt").write_text("no image")
    return folder


def test_predict_writes_one_row_an_image(run, images, tmp_path):
    out = tmp_path / "preds.csv"
    done = invoke("predict", run[0], images, "--out", out, "--proba")
    assert done.exit_code == 0, done.output
    assert "3 of 4 images resized to 28 × 28 pixels." in done.stderr
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["path", "prediction", "probability", *NAMES]
    found = [os.path.relpath(row["path"], images) for row in rows]
    assert found == ["a.JPG", "b.png", os.path.join("deep er", "grey.bmp"),
                     os.path.join("deep er", "palette.tif")]  # fmt: skip
    for row in rows:
        probabilities = {name: float(row[name]) for name in NAMES}
        assert sum(probabilities.values()) == pytest.approx(1, abs=1e-5)
        assert row["prediction"] == max(probabilities, key=probabilities.get)
        assert float(row["probability"]) == max(probabilities.values())


def test_predict_agrees_with_the_estimator(run, images):
    done = invoke("predict", run[0], images / "b.png")
    assert done.stderr.startswith("\nNext:")  # nothing else
    header, row = csv.reader(done.stdout.splitlines())
    assert header == ["path", "prediction", "probability"]
    X = np.asarray(Image.open(images / "b.png"))[None]
    proba = kmedclf.load(run[0] / "model.kmedclf").predict_proba(X)[0]
    assert row == [str(images / "b.png"), NAMES[proba.argmax()], f"{proba.max():.6f}"]


def test_no_name_is_a_formula_of_a_spreadsheet(run, images, tmp_path, monkeypatch):
    (images / "b.png").rename(images / "=cmd.png")
    monkeypatch.chdir(images)
    done = invoke("predict", run[0], "=cmd.png")
    assert done.exit_code == 0, done.output
    path = done.stdout.splitlines()[1].split(",")[0]
    assert path == os.path.join(os.curdir, "=cmd.png")
    rows = [["=1+1", "-0.5", "-x", 1.5, "a"]]
    write_csv(written := io.StringIO(), rows, lineterminator="\n")
    assert written.getvalue() == "'=1+1,-0.5,'-x,1.5,a\n"


def test_sixteen_bit_images_are_scaled_not_clipped(tmp_path):
    grey = np.arange(0, 256, dtype=np.uint8).reshape(16, 16)
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    X = image_files.read_images([tmp_path / "deep.png"], (16, 16, 1))
    np.testing.assert_array_equal(X[0, :, :, 0], grey)


def test_one_channel_is_enough_for_a_grey_model_and_labels_for_a_nameless_set(tmp_path, cells):
    X, y = cells
    data = tmp_path / "grey.npz"
    labels = np.where(y < 4, 3, 5)  # two classes, neither of them 0
    np.savez(data, train_images=X[..., 0], train_labels=labels)
    done = invoke("train", "MLP", "--data", data, "--out", tmp_path / "run", "--epochs", 1)
    assert done.exit_code == 0, done.output
    assert read(tmp_path / "run" / "environment.json")["data"]["class_names"] == ["3", "5"]
    assert read(tmp_path / "run" / "metrics.json") == {}
    Image.fromarray(X[0]).save(tmp_path / "colour.png")
    done = invoke("predict", tmp_path / "run", tmp_path / "colour.png")
    assert done.stdout.splitlines()[1].split(",")[1] in {"3", "5"}


def test_wrong_files_are_one_sentence(run, npz, images, tmp_path):
    folder = run[0]
    broken, text, stack = images / "broken.png", images / "notes.txt", images / "stack.tif"
    broken.write_bytes((images / "b.png").read_bytes()[:300])
    frames = [Image.fromarray(np.zeros((28, 28), np.uint8))] * 2
    frames[0].save(stack, save_all=True, append_images=frames[1:])
    (tmp_path / "empty").mkdir()
    for path, sentence in {
        broken: f"{broken} is not an image that can be read (",
        text: f"{text} is not an image that can be read (",
        stack: f"{stack} must hold one image. It holds 2.",
        tmp_path / "none.png": f"There is no file or folder {tmp_path / 'none.png'}.",
        tmp_path / "empty": f"There is no image in the folder {tmp_path / 'empty'}.",
    }.items():
        assert refused("predict", folder, path).startswith(sentence)
    out = tmp_path / "none" / "preds.csv"
    assert refused("predict", folder, images, "--out", out).startswith("There is no folder")
    assert "There is no model.kmedclf in it." in refused("predict", images, images)
    assert "There is no model.kmedclf in it." in refused("evaluate", images, "--data", npz)
    wrong = refused("evaluate", folder, "--data", npz, "--split", "tests")
    assert wrong.endswith("must be 'train', 'val' or 'test'. Got 'tests' instead.")


def test_a_prediction_of_nothing_that_can_be_read_writes_no_file(run, images, tmp_path):
    for path in (broken := [images / "broken.png", images / "other.png"]):
        path.write_bytes(b"\x89PNG")
    refused("predict", run[0], *broken, "--out", tmp_path / "preds.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["images"]
