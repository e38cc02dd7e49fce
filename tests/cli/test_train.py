"""The command line: train -> evaluate on a tiny file, and what users get wrong."""

import contextlib
import json
import os
import re
import shutil

import numpy as np
import pytest
from cli_helpers import NAMES, invoke, read, refused, start, train_mlp
from PIL import Image

import kmedclf
from kmedclf import recipes
from kmedclf.cli.parameters import NETWORKS
from kmedclf.evaluation import Report
from kmedclf.utils import arithmetic

FILES = [
    "CHECKLIST.md", "MODEL_CARD.md",
    "environment.json", "evaluation-test.json", "evaluation-val.json", "history.json",
    "metrics.json", "model.kmedclf", "parameters.json",
]  # fmt: skip


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
    known = {"parameters": expected.get_params(), "used": recipes.parameters(expected)}
    known["chosen"] = ["class_weight", "epochs", "learning_rate", "random_state", "units"]
    assert written == {"estimator": "MLPClassifier", **json.loads(json.dumps(known))}
    environment = read(folder / "environment.json")
    assert environment["data"]["n"] == {"train": 48, "val": 20, "test": 28}
    assert environment["data"]["class_names"] == list(NAMES)
    assert environment["data"]["file"] == "tiny cells.npz"
    assert environment["versions"]["kmedclf"] == kmedclf.__version__
    assert environment["cpu_count"] == os.cpu_count()
    assert environment["arithmetic"] == arithmetic.setting()
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
        (
            "learning_rate=-1e-3",
            "must be a float in the range (0.0, inf), 'auto' or None. Got -0.001",
        ),
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


def test_compare_names_models_by_their_folders(run, npz, tmp_path):
    one, two = (shutil.copytree(run[0], tmp_path / name) for name in ("one", "<b>two"))
    done = invoke("compare", one, two, "--out", tmp_path / "page.html")
    assert done.exit_code == 0, done.output
    report = Report.from_json(one / "evaluation-test.json")
    assert re.search(rf"^ one +{re.escape(str(report.scores['accuracy']))} ", done.stdout, re.M)
    assert re.search(r"^ one - <b>two +0\.000 +0 : 0 +1\.000", done.stdout, re.M)
    assert "…" not in done.stdout  # nothing is cut at 80 columns
    assert "<b>two" not in (tmp_path / "page.html").read_text(encoding="utf-8")
    other = shutil.copytree(run[0], tmp_path / "other" / "one")
    printed = invoke("compare", one, other).stdout
    assert " other/one " in printed
    assert f" {tmp_path.name[:9]}" in printed


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
    lines = {line.split()[0]: line.split() for line in done.stdout.splitlines() if line}
    assert lines["bloodmnist"][1:] == ["multiclass", "8", "17,092", "CC", "BY", "4.0", "28", "64"]
    assert lines["dermamnist"][-1] == "–"
    assert {*kmedclf.datasets.names(), "synthetic"} <= set(lines)


def test_demo_says_synthetic_and_compares(monkeypatch):
    sizes = {"train": (48, 0), "val": (20, 1), "test": (20, 2)}
    monkeypatch.setattr("kmedclf.datasets.sources.SYNTHETIC", sizes)
    small = {"epochs": 1}
    monkeypatch.setattr("kmedclf.cli.train.DEMO", {"MLPClassifier": small, "CNNClassifier": small})
    done = invoke("demo")
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("Synthetic blood cells in 8 classes")
    assert "On the synthetic test images" in done.stdout
    assert "176,648" in done.stdout


def test_real_processes_print_tables_and_no_chatter(npz, tmp_path):
    run, image = tmp_path / "run", tmp_path / "cell.png"
    Image.fromarray(np.zeros((28, 28, 3), np.uint8)).save(image)
    commands = [
        ("train", "cnn", "--data", npz, "--out", run, "--epochs", 1, "--recipe", "fast", "--quiet"),
        ("predict", run, image),
    ]
    first_lines = []
    for command in commands:
        process = start(*command)
        printed, complaints = process.communicate(timeout=120)
        complaints = complaints.partition("\nNext:")[0]  # beside the table of predict
        assert (complaints, process.returncode) == ("", 0), command
        assert printed.strip(), command
        first_lines.append(printed.splitlines()[0])
    assert first_lines[0].startswith("CNNClassifier on tiny cells")
    assert first_lines[1] == "path,prediction,probability"


def test_a_spinner_turns_while_tensorflow_starts_and_no_chatter_is_seen(npz, tmp_path):
    run, _ = train_mlp(npz, tmp_path / "run")
    image = tmp_path / "cell.png"
    Image.fromarray(np.zeros((28, 28, 3), np.uint8)).save(image)
    ours, theirs = os.openpty()
    with start("predict", run, image, stdin=theirs, stdout=theirs, stderr=theirs):
        os.close(theirs)
        parts = []
        with contextlib.suppress(OSError):  # the terminal ends with its last writer
            while part := os.read(ours, 65536):
                parts.append(part)
    os.close(ours)
    text = b"".join(parts).decode()
    assert "cell.png," in text
    assert text.count("Starting TensorFlow") > 3
    assert not re.search(r"absl|oneDNN|cuda", text)
