"""The examples of whole studies: each runs to its end, small and short, as the command does."""

import csv
import dataclasses
import json
import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from markupsafe import escape
from PIL import Image
from typer.testing import CliRunner

import kmedclf
from kmedclf import datasets, studies
from kmedclf.cli import app
from kmedclf.studies import bone, chest, lung, subsets

EXAMPLES = Path(__file__).parents[2] / "examples"
STUDIES = [name for name in studies.NAMES if name != "blood"]  # it has an example for every item
FEW = {"brain": ["folds", "imbalance"], "bone": ["images", "alexnet"], "chest": ["leak"]}
"""Items that stand for all of their study where time matters."""

SCRIPTS = {name: list(EXAMPLES.glob(f"{name}_*.py")) for name in STUDIES}


@pytest.fixture(scope="module")
def npz(tmp_path_factory):
    """36, 12 and 12 synthetic images of three classes, two of the training images there twice."""
    path = tmp_path_factory.mktemp("data") / "tiny.npz"
    arrays = {}
    for seed, (split, n) in enumerate({"train": 36, "val": 12, "test": 12}.items()):
        X, y = datasets.make_blood_cells(n, 16, random_state=seed)
        arrays[f"{split}_images"], arrays[f"{split}_labels"] = X, y % 3
    for split in ("train", "test"):
        arrays[f"{split}_images"][-1] = arrays["train_images"][0]
        arrays[f"{split}_labels"][-1] = arrays["train_labels"][0]
    np.savez(path, **arrays)
    return path


def reproduce(*arguments):
    return CliRunner().invoke(app, ["reproduce", *map(str, arguments)])


def test_every_study_has_its_script():
    for scripts in SCRIPTS.values():
        assert len(scripts) == 1
        assert len(scripts[0].read_text(encoding="utf-8").splitlines()) <= 120


SLOW = {"brain", "chest"}
CASES = [
    pytest.param(name, FEW.get(name), id=name, marks=[pytest.mark.slow] if name in SLOW else [])
    for name in STUDIES
] + [pytest.param(name, None, id=f"{name}, whole", marks=pytest.mark.slow) for name in FEW]


def check_lung(found):
    """Look for the nine experiments in one table, the report's beside, and for every test."""
    table = found["tables"][-1]
    assert len(table["rows"]) == 9
    for row, one in zip(table["rows"], lung.EXPERIMENTS, strict=True):
        reported = [row[i] for i, title in enumerate(table["head"]) if title == "report"]
        assert reported == [f"{value:.3f}" for value in one.reported]
        scores = found["runs"][f"experiment-{row[0]}"]["scores"]
        assert float(row[2].split()[0]) == pytest.approx(
            scores["test"]["accuracy"]["value"], abs=6e-4
        )
    text = " ".join(found["findings"]["Nine experiments"])
    for pairs in lung.PAIRS.values():
        for a, b in pairs:
            assert f"experiments {a} and {b} " in text
    choices = {one["what"]: one["taken"] for one in found["choices"]["Nine experiments"]}
    assert choices["Tolerance of early stopping"] == f"{lung.STOPPED['tol']:g}"
    assert choices["Size of the images"] == "16 × 16 pixels"


CHECKS = {"lung": check_lung}
"""What holds of the results of a study alone."""


@pytest.mark.parametrize(("name", "items"), CASES)
def test_script_and_command_make_the_same(name, items, npz, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    only = [word for item in items or () for word in ("--only", item)]
    done = reproduce(name, "--data", npz, "--out", out, "--quick", "--epochs", 1, *only)
    assert done.exit_code == 0, done.output
    stamps = {path: path.stat().st_mtime_ns for path in out.glob("*/model.kmedclf")}
    found = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert {path.parent.name for path in stamps} == set(found["runs"])

    monkeypatch.syspath_prepend(str(EXAMPLES))
    arguments = ["--data", str(npz), "--out", str(out), "--quick", "--epochs", "1"]
    only = ["--only", *items] if items else []
    monkeypatch.setattr(sys, "argv", [name, *arguments, *only])
    runpy.run_path(str(SCRIPTS[name][0]), run_name="__main__")
    printed = capsys.readouterr().out
    lines = [[line for line in text.splitlines() if line] for text in (done.stdout, printed)]
    end = lines[0].index("Next:") - 1
    assert lines[0][:end] == lines[1][1:-1]  # but for the data, where the page is, what is next

    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps  # nothing trained again
    assert json.loads((out / "results.json").read_text(encoding="utf-8")) == found
    CHECKS.get(name, lambda found: None)(found)

    page = (out / "index.html").read_text(encoding="utf-8")
    for table in found["tables"]:
        assert all(len(row) == len(table["head"]) for row in table["rows"])
        assert escape(table["title"]) in page
    addresses = re.findall(r"""(?:src|href)=["']?(?!data:|#)([^"'> ]+)""", page)
    assert all((out / address).is_file() for address in addresses)
    with (out / "results.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["run"] for row in rows] == list(found["runs"])
    for row in rows:
        scores = found["runs"][row["run"]]["scores"]
        assert float(row["scores.test.accuracy.value"]) == scores["test"]["accuracy"]["value"]
        assert row["epochs"] == "1"


def test_copies_are_left_out_and_counted(npz):
    """Of three identical images one stays: the first, in the earliest split."""
    whole = subsets.read(str(npz), None)
    data = subsets.without_copies(whole)
    assert data.description["n"] == {"train": 35, "val": 12, "test": 11}
    assert data.description["copies_left_out"] == 2
    for split, (X, y) in data.splits.items():
        n = len(y)
        np.testing.assert_array_equal(X, whole.splits[split][0][:n])
        np.testing.assert_array_equal(y, whole.splits[split][1][:n])


def test_folds_share_the_test_images_and_nothing_else(npz):
    data = subsets.read(str(npz), None)
    several = [one.data for one in subsets.Copies.of(data).folds(data, 4, 0)]
    held = [one.splits["val"][1] for one in several]
    assert sum(map(len, held)) == 48
    for one in several:
        assert one.splits["test"] is data.splits["test"]
        assert one.description["n"]["train"] + one.description["n"]["val"] == 48
    counts = [np.bincount(y, minlength=3) for y in held]
    assert np.ptp(counts, axis=0).max() <= 1
    assert len({one.description["fold"] for one in several}) == 4


@pytest.mark.parametrize("shares", [{"test": 0.1, "val": 0.2}, {"test": 0.15, "val": 0.15}])
def test_every_class_is_shared_out_alike(shares):
    y = np.repeat([0, 1, 2], [200, 100, 40])
    rows = subsets.shared_out(y, shares, 0)
    assert sorted(np.concatenate(list(rows.values()))) == list(range(len(y)))
    for split, share in shares.items():
        assert np.bincount(y[rows[split]]) == pytest.approx(share * np.bincount(y), abs=1)
    other = subsets.shared_out(y, shares, 1)
    assert set(other["test"]) != set(rows["test"])


def test_folder_without_splits_is_split_as_the_study_says(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        for number in range(20):
            Image.fromarray(np.full((8, 8), number, np.uint8)).save(
                tmp_path / name / f"{number}.png"
            )
    lab = studies.get("lung").open(str(tmp_path), tmp_path / "out", size=8)
    assert lab.data.description["n"] == {"train": 28, "test": 4, "val": 8}
    assert lab.data.parameters == {"image_size": 8}


@pytest.mark.parametrize("files", [False, True])
def test_the_leak_is_counted_by_pixels(files, npz, tmp_path):
    data = subsets.read(str(npz), None)
    if files:
        X, y = data.splits["val"]
        paths = [tmp_path / f"{i}.png" for i in range(len(y))]
        for path, x in zip(paths, X, strict=True):
            Image.fromarray(x).save(path)
        data = dataclasses.replace(
            data, splits={"train": (np.array(paths, str), y)}, parameters={"image_size": 16}
        )
    leaking, twins = chest.mirrored_before_split(data, 1)
    seen = {x.tobytes() for x in leaking.splits["train"][0]}
    X = leaking.splits["test"][0]
    assert twins.any()
    if files:  # no copies in this split
        np.testing.assert_array_equal(twins, [x[:, ::-1].tobytes() in seen for x in X])
    n = sum(len(y) for _, y in data.splits.values())
    assert sum(leaking.description["n"].values()) == 2 * n


def test_unknown_items_and_parameters_are_named(npz, tmp_path):
    for arguments, sentence in [
        (
            ("--only", "fold"),
            "--only must name items of brain, images, folds, .* Got 'fold' instead",
        ),
        (("-p", "dropuot=1"), "must name a parameter of some network. Got 'dropuot' instead"),
    ]:
        done = reproduce("brain", "--data", npz, "--out", tmp_path / "out", *arguments)
        assert done.exit_code == 2
        assert re.search(sentence, " ".join(done.output.split())), done.output
    assert not (tmp_path / "out").exists()


def test_weights_go_where_they_are_published(npz, tmp_path):
    study = studies.get("bone").only(["images"])
    lab = study.open(str(npz), tmp_path, parameters={"weights": "imagenet"})
    for network, weights in [
        (kmedclf.DeepResNetClassifier(depth=50), "imagenet"),
        (kmedclf.DenseNetClassifier(block_config=(6, 12, 32, 24)), None),
        (kmedclf.AlexNetClassifier(), "imagenet"),
        (kmedclf.AlexNetClassifier(dense_units=8), None),
    ]:
        assert lab.prepared(network).weights == weights


def test_the_protocols_are_valid_and_as_many_as_said():
    assert len(lung.EXPERIMENTS) == 9
    rows = {name: one.rows for name, one in bone.ARCHITECTURES.items()}
    assert [len(one) for one in rows.values()] == [23, 14, 9, 6, 6]
    best = [max(row.accuracy for row in one) for one in rows.values()]
    assert best == [0.677, 0.847, 0.835, 0.793, 0.707]
    for row in (row for one in rows.values() for row in one):
        # The report tests on 600 images: its accuracies are whole numbers of them
        assert row.accuracy == round(round(600 * row.accuracy) / 600, 3)
        assert row.minutes > 0
    for one in lung.EXPERIMENTS:
        network = lung.network(one.parameters, 0)
        assert network.epochs == 20
        assert network.smallest_image <= 28


def test_pairs_of_lung_experiments_differ_by_one_change():
    keys = {
        "the layers": {"filters", "kernel_size", "padding", "activation", "pool_size"},
        "batch norm": {"batch_norm"},
        "dropout": {"dropout"},
        "early stopping": set(lung.STOPPED),
    }
    for what, pairs in lung.PAIRS.items():
        for a, b in pairs:
            one, two = (lung.EXPERIMENTS[n - 1].parameters for n in (a, b))
            other = {k for k in {*one, *two} if one.get(k, "none") != two.get(k, "none")}
            assert other == keys[what], (a, b)


def test_batch_norm_of_experiments_8_and_9_is_in_every_layer():
    """So the report says of 8; 9 adds early stopping, against the epoch before."""
    eight, nine = (lung.network(lung.EXPERIMENTS[n - 1].parameters, 0) for n in (8, 9))
    assert eight.batch_norm == nine.batch_norm == "all"
    assert (eight.early_stopping, nine.early_stopping) == (False, True)
    assert (nine.stop_against, nine.n_iter_no_change, nine.min_epochs) == ("previous", 1, 1)
