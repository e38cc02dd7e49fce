"""What is finished is kept where some files are bad: good rows are written, bad ones are named."""

import csv
import io
import os
import shutil
import sys

import pytest
from cli_helpers import invoke, read, refused
from PIL import Image

import kmedclf
from kmedclf.datasets import make_blood_cells

BAD = {
    "cut off": lambda path: path.write_bytes(path.read_bytes()[:60]),
    "text": lambda path: path.write_text("no image"),
    "empty": lambda path: path.write_bytes(b""),
}
SKIP = ("-p", "on_error=skip")


def write_folder(root, n=20, name="{}.png"):
    """Write a folder of images in two classes, within train, val and test."""
    X, y = make_blood_cells(n * 3, image_size=12, random_state=0)
    for i, pixels in enumerate(X):
        split = ("train", "val", "test")[i % 3]
        folder = root / split / f"class {y[i] % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / name.format(i))
    return root


def train(data, out, *more):
    small = ("--epochs", 1, "--size", 8, "-p", "units=4", "-p", "augment=false")
    return invoke("train", "mlp", "--data", data, "--out", out, *small, *more)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("kept") / "cells")


@pytest.fixture(scope="module")
def run(folder):
    done = train(folder, folder.parent / "run")
    assert done.exit_code == 0, done.output
    return folder.parent / "run"


@pytest.fixture
def data(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "cells")


def some_of(data, split):
    return sorted((data / split).rglob("*.png"))[2]


# -- train, evaluate, report -----------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*cannot be read:UserWarning")
@pytest.mark.parametrize("split", ["train", "val", "test"])
@pytest.mark.parametrize("kind", BAD)
def test_a_damaged_file_is_left_out_if_asked(split, kind, data, tmp_path):
    BAD[kind](bad := some_of(data, split))
    for name, more in (("run", ()), ("calibrated", ("--calibrate",))):
        if more and (split != "val" or kind != "text"):
            continue
        done = train(data, tmp_path / name, *SKIP, *more)
        assert done.exit_code == 0, done.output
    out = tmp_path / "run"
    for one in ("test", "val"):
        report = read(out / f"evaluation-{one}.json")
        assert report["n"] == 20 - (one == split)
        assert report["skipped"] == ([str(bad)] if one == split else [])
    assert read(out / "metrics.json")["test"]["n"] == 20 - (split == "test")
    assert read(out / "environment.json")["skipped"] == {split: 1}
    cards = [(out / name).read_text("utf-8") for name in ("MODEL_CARD.md", "CHECKLIST.md")]
    assert all(f"left out, as their files cannot be read: {split} 1." in one for one in cards)
    assert invoke("report", out, "--plain").exit_code == 0
    if split == "test":
        again = invoke("evaluate", out, "--data", data)
        assert again.exit_code == 0, again.output
        assert read(out / "evaluation-test.json")["n"] == 19


@pytest.mark.filterwarnings("ignore:.*cannot be read:UserWarning")
def test_a_report_leaves_out_what_training_did_wherever_the_data_are(data, tmp_path, monkeypatch):
    BAD["text"](some_of(data, "test"))
    monkeypatch.chdir(data.parent)
    assert train(data.name, tmp_path / "run", *SKIP).exit_code == 0
    monkeypatch.chdir(tmp_path)
    for more in ((), ("--data", shutil.copytree(data, tmp_path / "copy"))):
        done = invoke("report", tmp_path / "run", "--plain", *more)
        assert done.exit_code == 0, done.output


@pytest.mark.filterwarnings("ignore:.*cannot be read:UserWarning")
def test_the_scores_are_those_of_the_rest(data, tmp_path):
    for split in ("val", "test"):
        BAD["text"](some_of(data, split))
    assert train(data, tmp_path / "run", *SKIP).exit_code == 0
    for split in ("val", "test"):
        some_of(data, split).unlink()
    assert train(data, tmp_path / "rest", *SKIP).exit_code == 0
    assert read(tmp_path / "run" / "metrics.json") == read(tmp_path / "rest" / "metrics.json")


def test_a_training_is_kept_where_a_test_file_is_damaged_and_none_is_to_be_skipped(data, tmp_path):
    BAD["cut off"](bad := some_of(data, "test"))
    done = train(data, tmp_path / "run")
    assert done.exit_code == 3
    _, _, said = done.stderr.partition("\n")  # after the progress
    assert said.count("\n") == 1
    assert said.startswith(f"{bad} is not an image that can be read")
    assert f"The trained network is in {tmp_path / 'run'}, not scored on test;" in done.stderr
    assert "val" in read(tmp_path / "run" / "metrics.json")
    assert kmedclf.load(tmp_path / "run" / "model.kmedclf").classes_.tolist() == [0, 1]
    shutil.copy(sorted((data / "test").rglob("*.png"))[3], bad)
    assert invoke("evaluate", tmp_path / "run", "--data", data).exit_code == 0
    assert set(read(tmp_path / "run" / "metrics.json")) == {"val", "test"}


@pytest.mark.filterwarnings("ignore:.*cannot be read:UserWarning")
def test_a_search_is_on_what_can_be_read(data, tmp_path):
    for split in ("train", "val", "test"):
        BAD["text"](some_of(data, split))
    (tmp_path / "tiny.yaml").write_text("estimator: mlp\nparameters: {units: [2, 4]}\n")
    small = ("--epochs", 1, "--final-epochs", 1, "--folds", 2, "--size", 8, "-p", "augment=false")
    where = ("--data", data, "--space", tmp_path / "tiny.yaml")
    done = invoke("search", "mlp", *where, "--out", tmp_path / "skip", *small, *SKIP)
    assert done.exit_code == 0, done.output
    for split in ("train", "val", "test"):
        some_of(data, split).unlink()
    assert invoke("search", "mlp", *where, "--out", tmp_path / "rest", *small).exit_code == 0
    names = ("results.json", "best/metrics.json")
    skipped, rest = ([read(tmp_path / out / name) for name in names] for out in ("skip", "rest"))
    assert skipped[0]["mean_test_score"] == rest[0]["mean_test_score"]
    assert skipped[1] == rest[1]


# -- predict ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("to", ["file", "screen"])
@pytest.mark.parametrize("kind", BAD)
def test_good_rows_are_written(kind, to, run, data, tmp_path):
    BAD[kind](bad := some_of(data, "test"))
    paths = sorted((data / "test").rglob("*.png"))
    out = tmp_path / "rows.csv"
    done = invoke("predict", run, data / "test", *(["--out", out] if to == "file" else []))
    assert done.exit_code == 3, done.output
    text = out.read_text(encoding="utf-8") if to == "file" else done.stdout
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["path"] for row in rows] == [str(path) for path in paths if path != bad]
    first, last, *more = done.stderr.splitlines()
    assert more[:2] == ([] if to == "file" else ["", "Next:"])
    assert str(bad) in first
    assert last == "1 of 20 images is left out of the predictions."
    bad.unlink()
    again = invoke("predict", run, data / "test", *(["--out", out] if to == "file" else []))
    assert again.exit_code == 0
    assert (out.read_text(encoding="utf-8") if to == "file" else again.stdout) == text


def test_nothing_is_written_where_no_image_can_be_read(run, data, tmp_path):
    paths = sorted((data / "test").rglob("*.png"))
    for path in paths:
        BAD["text"](path)
    out = tmp_path / "rows.csv"
    assert str(paths[0]) in refused("predict", run, data / "test", "--out", out)
    assert not out.exists()


# -- names that are no UTF-8 -----------------------------------------------------------------------

ODD = os.fsdecode(b"caf\xe9 {}.png")
posix = pytest.mark.skipif(sys.platform != "linux", reason="names are bytes")


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """A folder whose files, and one of whose parents, have names that are no UTF-8."""
    root = tmp_path_factory.mktemp("odd") / os.fsdecode(b"\xe9tude")
    return write_folder(root, name=ODD)


@posix
def test_names_that_are_no_utf8(odd, tmp_path):
    out = tmp_path / "run"
    done = train(odd, out)
    assert done.exit_code == 0, done.output
    assert invoke("report", out, "--plain").exit_code == 0
    assert invoke("evaluate", out, "--data", odd).exit_code == 0
    table = tmp_path / "rows.csv"
    done = invoke("predict", out, odd / "test", "--out", table)
    assert done.exit_code == 0, done.output
    with table.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 20
    assert all(os.path.isfile(row["path"]) for row in rows)
    assert b"caf\xe9 " in table.read_bytes()
    assert invoke("audit", "--data", odd, "--out", tmp_path / "audit.html").exit_code == 0
    page = (tmp_path / "audit.html").read_text(encoding="utf-8")
    assert page.rstrip().endswith("</html>")


@posix
def test_bad_files_of_such_names_are_named(odd, run, tmp_path):
    data = shutil.copytree(odd, tmp_path / "data")
    BAD["text"](bad := some_of(data, "test"))
    done = invoke("predict", run, data / "test", "--out", tmp_path / "rows.csv")
    assert done.exit_code == 3
    assert bad.name.encode(errors="backslashreplace") in done.stderr_bytes
    assert len((tmp_path / "rows.csv").read_bytes().splitlines()) == 20


@posix
def test_such_names_go_through_a_pipe(odd, run):
    import subprocess

    code = "from kmedclf.cli import main; main()"
    command = [sys.executable, "-c", code, "predict", run, odd / "test"]
    done = subprocess.run(command, capture_output=True, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == 21
    assert all(os.path.isfile(line.rpartition(b",")[0].rpartition(b",")[0]) for line in lines[1:])


def test_a_table_of_many_images_is_as_fast_as_before(run, data):
    # files are examined one by one only where one of them is bad
    from kmedclf import runs

    asked = []
    unreadable = runs.unreadable
    try:
        runs.unreadable = lambda *args: asked.append(args) or unreadable(*args)
        assert invoke("predict", run, data / "test").exit_code == 0
    finally:
        runs.unreadable = unreadable
    assert asked == []
