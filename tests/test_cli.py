"""The command line: train -> evaluate -> predict on a tiny file, and what users get wrong."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import kmedclf
from kmedclf import image_files, runs
from kmedclf.cli import app
from kmedclf.cli.training import NETWORKS
from kmedclf.datasets import make_blood_cells
from kmedclf.evaluation import Report

SCRIPT = shutil.which("kmedclf", path=os.path.dirname(sys.executable))
NAMES = kmedclf.datasets.info("bloodmnist").class_names
FILES = [
    "environment.json", "evaluation-test.json", "evaluation-val.json", "history.json",
    "metrics.json", "model.kmedclf", "parameters.json",
]  # fmt: skip


def invoke(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def refused(*arguments):
    """The one sentence a user gets, who must get nothing else."""
    done = invoke(*arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr.strip()


@pytest.fixture(scope="module")
def npz(tmp_path_factory):
    """A data set of 96 synthetic cells in a file like MedMNIST's."""
    path = tmp_path_factory.mktemp("data") / "tiny cells.npz"
    content = {"class_names": np.array(NAMES)}
    for seed, (split, n) in enumerate({"train": 48, "val": 20, "test": 28}.items()):
        X, y = make_blood_cells(n, random_state=seed)
        content |= {f"{split}_images": X, f"{split}_labels": y[:, None]}
    np.savez(path, **content)
    return path


@pytest.fixture(scope="module")
def run(npz, tmp_path_factory):
    """A run folder, and what was printed when it was made."""
    folder = tmp_path_factory.mktemp("runs") / "new" / "mlp"
    done = invoke(
        "train", "mlp", "--data", npz, "--out", folder, "--epochs", 3, "--seed", 7,
        "-p", "units=16", "-p", "learning_rate=1e-2", "-p", "class_weight=balanced",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    return folder, done.stdout


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def test_networks_are_found_by_their_names():
    assert set(NETWORKS.values()) == set(kmedclf.models.__all__)
    assert NETWORKS["resnet"] == "ResNetClassifier"


def test_train_writes_a_whole_run_and_nothing_beside(run):
    folder, printed = run
    assert sorted(path.name for path in folder.iterdir()) == FILES
    assert [path.name for path in folder.parent.iterdir()] == ["mlp"]
    assert "Balanced accuracy" in printed
    assert "test, n = 28" in printed


def test_run_says_what_was_trained_on_what(run):
    folder, _ = run
    written = read(folder / "parameters.json")
    expected = kmedclf.MLPClassifier(
        units=16, epochs=3, random_state=7, learning_rate=0.01, class_weight="balanced"
    )
    assert written == {"estimator": "MLPClassifier", "parameters": expected.get_params()}
    environment = read(folder / "environment.json")
    assert environment["data"]["n"] == {"train": 48, "val": 20, "test": 28}
    assert environment["data"]["class_names"] == list(NAMES)
    assert environment["data"]["file"] == "tiny cells.npz"
    assert environment["versions"]["kmedclf"] == kmedclf.__version__
    assert environment["cpu_count"] == os.cpu_count()
    assert environment["seconds"] > 0
    history = read(folder / "history.json")
    assert len(history["history"]["val_accuracy"]) == 3
    assert 1 <= history["best_epoch"] <= 3


def test_checksum_is_that_of_the_file(run, npz):
    import hashlib

    written = read(run[0] / "environment.json")["data"]["sha256"]
    assert written == hashlib.sha256(npz.read_bytes()).hexdigest()


def test_model_of_a_run_is_the_estimator_that_was_scored(run, npz):
    folder, _ = run
    X, y = kmedclf.datasets.load(npz, "test")
    accuracy = kmedclf.load(folder / "model.kmedclf").score(X, y)
    metrics = read(folder / "metrics.json")
    assert metrics["test"]["n"] == 28
    assert metrics["val"]["n"] == 20
    assert metrics["test"]["accuracy"]["value"] == pytest.approx(accuracy)
    assert metrics["test"]["accuracy"]["low"] <= accuracy <= metrics["test"]["accuracy"]["high"]


def test_training_is_what_the_library_does(run, npz):
    data = {split: kmedclf.datasets.load(npz, split) for split in ("train", "val")}
    estimator = kmedclf.MLPClassifier(
        units=16, epochs=3, random_state=7, learning_rate=0.01, class_weight="balanced"
    ).fit(*data["train"], X_val=data["val"][0], y_val=data["val"][1])
    assert read(run[0] / "history.json")["history"] == estimator.history_


def test_evaluate_repeats_what_train_wrote(run, npz):
    folder, _ = run
    before = Report.from_json(folder / "evaluation-test.json")
    (folder / "evaluation-test.json").unlink()
    done = invoke("evaluate", folder, "--data", npz)
    assert done.exit_code == 0, done.output
    assert str(before.scores["accuracy"]) in done.stdout
    assert Report.from_json(folder / "evaluation-test.json") == before


def test_evaluate_takes_another_split(run, npz):
    folder, _ = run
    assert invoke("evaluate", folder, "--data", npz, "--split", "train").exit_code == 0
    written = folder / "evaluation-train.json"
    assert read(written)["n"] == 48
    written.unlink()


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
    assert done.stderr == ""
    header, row = csv.reader(done.stdout.splitlines())
    assert header == ["path", "prediction", "probability"]
    X = np.asarray(Image.open(images / "b.png"))[None]
    proba = kmedclf.load(run[0] / "model.kmedclf").predict_proba(X)[0]
    assert row == [str(images / "b.png"), NAMES[proba.argmax()], f"{proba.max():.6f}"]


def test_sixteen_bit_images_are_scaled_not_clipped(tmp_path):
    grey = np.arange(0, 256, dtype=np.uint8).reshape(16, 16)
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    X, n_resized = image_files.read_images([tmp_path / "deep.png"], (16, 16, 1))
    assert n_resized == 0
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


def test_existing_folders_are_safe(run, npz, tmp_path):
    before = (run[0] / "model.kmedclf").read_bytes()
    train = ("train", "mlp", "--data", npz, "--epochs", 1, "--out")
    assert refused(*train, run[0]).endswith("holds a run; choose another folder, or --force "
                                            "replaces it.")  # fmt: skip
    assert (run[0] / "model.kmedclf").read_bytes() == before
    (tmp_path / "thesis.tex").write_text("years of work")
    assert refused(*train, tmp_path, "--force").endswith(
        "is not empty and holds no run; choose another folder."
    )
    assert (tmp_path / "thesis.tex").exists()
    assert "There is a file of that name." in refused(*train, tmp_path / "thesis.tex")


def test_force_replaces_a_run(run, npz, tmp_path):
    folder = shutil.copytree(run[0], tmp_path / "run")
    (folder / "evaluation-train.json").write_text("of the earlier model")
    train = ("train", "mlp", "--data", npz, "--epochs", 1, "--out", folder, "--force")
    assert invoke(*train).exit_code == 0
    assert sorted(path.name for path in folder.iterdir()) == FILES
    assert len(read(folder / "history.json")["history"]["loss"]) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize(
    ("parameter", "sentence"),
    [
        ("unit=3", "Got 'unit' instead; did you mean 'units'?"),
        ("units", "-p must be NAME=VALUE, as in -p batch_size=32. Got 'units' instead."),
        ("units=[1", "-p units=[1 must have a value that YAML can read"),
        ("units=-3", "The 'units' parameter of MLPClassifier must be an int in the range [1, inf)"),
        ("learning_rate=-1e-3", "must be a float in the range (0.0, inf) or None. Got -0.001"),
        ("augment=twirl", "The 'augment' parameter of MLPClassifier"),
    ],
)
def test_wrong_parameter_is_one_sentence_and_leaves_nothing(parameter, sentence, npz, tmp_path):
    out = tmp_path / "a" / "b"
    assert sentence in refused("train", "mlp", "--data", npz, "--out", out, "-p", parameter)
    assert list(tmp_path.iterdir()) == []


def test_wrong_names_are_one_sentence(npz, tmp_path):
    out = ("--out", tmp_path / "run")
    sentence = refused("train", "cn", "--data", npz, *out)
    assert sentence.startswith("NAME must be one of ")
    assert sentence.endswith("Got 'cn' instead; did you mean 'cnn'?")
    sentence = refused("train", "cnn", "--data", "bloodmnits", *out)
    assert sentence.endswith("Got 'bloodmnits' instead; did you mean 'bloodmnist'?")
    assert refused("train", "cnn", "--data", "no.npz", *out) == "There is no file no.npz."


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


def test_a_failed_prediction_writes_no_file(run, images, tmp_path):
    (images / "broken.png").write_bytes(b"\x89PNG")
    refused("predict", run[0], images, "--out", tmp_path / "preds.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["images"]


def test_debug_shows_the_traceback():
    for arguments in (["--debug", "predict", "none", "x"], ["predict", "none", "x", "--debug"]):
        assert isinstance(invoke(*arguments).exception, FileNotFoundError)


def test_version_and_bare_command():
    assert invoke("--version").stdout == f"kmedclf {kmedclf.__version__}\n"
    assert "demo" in invoke().output


def test_datasets_lists_what_is_known(monkeypatch, tmp_path):
    monkeypatch.setenv("KMEDCLF_DATA", str(tmp_path))
    (tmp_path / "bloodmnist.npz").touch()
    (tmp_path / "bloodmnist_64.npz").touch()
    done = invoke("datasets")
    lines = {line.split()[0]: line.split() for line in done.stdout.splitlines()}
    assert lines["bloodmnist"][1:] == ["multiclass", "8", "17,092", "CC", "BY", "4.0", "28", "64"]
    assert lines["dermamnist"][-1] == "–"
    assert {*kmedclf.datasets.names(), "synthetic"} <= set(lines)


def test_demo_says_synthetic_and_compares(monkeypatch):
    monkeypatch.setattr(runs, "SYNTHETIC", {"train": (48, 0), "val": (20, 1), "test": (20, 2)})
    small = {"epochs": 1}
    monkeypatch.setattr(
        "kmedclf.cli.training.DEMO", {"MLPClassifier": small, "CNNClassifier": small}
    )
    done = invoke("demo")
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("Synthetic blood cells in 8 classes")
    assert "On the synthetic test images" in done.stdout
    assert "176,648" in done.stdout


def _train(npz, out, *more):
    env = {name: value for name, value in os.environ.items() if not name.startswith("TF_")}
    command = [SCRIPT, "train", "cnn", "--data", npz, "--out", out, "-p", "filters=4", *more]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([str(part) for part in command], env=env, text=True, **pipes)


def test_a_real_process_prints_a_table_and_no_chatter(npz, tmp_path):
    process = _train(npz, tmp_path / "run", "--epochs", 1)
    printed, complaints = process.communicate(timeout=120)
    assert complaints == ""
    assert printed.splitlines()[0].startswith("CNNClassifier on tiny cells")
    assert process.returncode == 0


@pytest.mark.skipif(os.name == "nt", reason="sends SIGINT")
def test_an_interrupted_training_leaves_nothing(npz, tmp_path):
    process = _train(npz, tmp_path / "run", "--epochs", 100_000, "-p", "early_stopping=false")
    deadline = time.monotonic() + 60
    while not list(tmp_path.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    _, complaints = process.communicate(timeout=60)
    assert process.returncode not in (0, None)
    assert "Traceback" not in complaints
    assert list(tmp_path.iterdir()) == []
