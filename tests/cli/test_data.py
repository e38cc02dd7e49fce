"""Audits on paper: the page, the command, folders of images, groups."""

import csv
import html
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from cli_helpers import invoke, read, refused
from PIL import Image

from kmedclf.datasets import audit, make_blood_cells, sources

N = 60
WEIRD = ["</script><script>alert(1)</script>", "quo\"te' <b>", "żółć", "خلية دم"]


@pytest.fixture
def cells():
    """Give 60 different cells: 30 to train on, 10 to validate, 20 to test."""
    X, y = make_blood_cells(N, random_state=3)
    return X, y, np.repeat(["train", "val", "test"], [30, 10, 20])


def test_page_shows_pairs_with_any_names(cells, tmp_path):
    X, y, splits = cells
    y = y % 4
    X[40], y[40] = X[0], y[0]
    X[41], y[41] = X[1, ::-1], (y[1] + 1) % 4
    X[7] = 0
    found = audit(X, y, splits=splits, class_names=WEIRD)
    found.write_page(tmp_path / "audit.html", X, title="<i>cells</i>")
    text = (tmp_path / "audit.html").read_text(encoding="utf-8")
    assert text.count('src="data:image/webp') == 5  # two pairs, and the blank image
    for title in ("One picture, two labels", "Identical, in several splits"):
        assert f"{title}</h2>\n<p>1 pair.</p>" in text
    assert "Blank images</h2>\n<p>1 image.</p>" in text
    assert "<i>cells" not in text
    assert "<script>alert" not in text
    assert not re.search(r'(src|href)="(?!data:|#)', text)
    with pytest.raises(ValueError, match="60 images of the audit"):
        found.write_page(tmp_path / "audit.html", X[1:])


def test_page_is_bounded(tmp_path):
    X = np.repeat(make_blood_cells(1, random_state=0)[0], 300, axis=0)
    audit(X, np.zeros(300)).write_page(tmp_path / "audit.html", X)
    text = (tmp_path / "audit.html").read_text(encoding="utf-8")
    assert "299 pairs, 200 shown" in text
    assert text.count("<img") == 400


def command(path, *arguments):
    return invoke("audit", "--data", path, *arguments)


def write(path, X, y, splits):
    content = {}
    for split in ("train", "val", "test"):
        content |= {f"{split}_images": X[splits == split], f"{split}_labels": y[splits == split]}
    np.savez(path, **content)
    return path


def test_command_fails_on_leaks_only_if_strict(cells, tmp_path):
    X, y, splits = cells
    clean = write(tmp_path / "clean.npz", X, y, splits)
    X[31], y[31] = X[0, ::-1], y[0]
    leaky = write(tmp_path / "leaky.npz", X, y, splits)
    assert [command(clean).exit_code, command(clean, "--strict").exit_code] == [0, 0]
    assert [command(leaky).exit_code, command(leaky, "--strict").exit_code] == [0, 1]
    assert command(leaky, "--strict", "--exact").exit_code == 0
    done = command(leaky, "--strict", "--out", tmp_path / "audit.html")
    assert done.exit_code == 1
    assert "1 of 10 images of val is also in an earlier split." in done.stdout
    assert "Nearly identical, in several splits" in (tmp_path / "audit.html").read_text()


def save(root, X, y, splits):
    """Write images as PNG into folders of split and class; their patients are in the names."""
    for i, (image, label, split) in enumerate(zip(X, y, splits, strict=True)):
        folder = root / split / f"class <{label}>"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"p{i % 50}_{i}.png")
    return root


def test_a_folder_is_audited_as_its_images_would_be(cells, tmp_path):
    X, y, splits = cells
    X[31], y[31] = X[0, ::-1], y[0]
    X[45], y[45] = X[2], y[2]
    done = command(save(tmp_path / "scans", X, y, splits), "--out", tmp_path / "audit.html")
    assert done.exit_code == 0, done.output
    arrays = audit(X, y, splits=splits, class_names=[f"class <{i}>" for i in range(8)])
    shown, expected = (text.split("\n\n") for text in (done.stdout, str(arrays)))
    assert shown[:3] == expected[:3]  # counts, findings, leaks
    assert expected[-1] in done.stdout
    # Files are named, with split and class
    assert re.search(r"train/class <\d>/p0_0.png = (val|test)/class <\d>/p31_31.png", done.stdout)
    text = (tmp_path / "audit.html").read_text(encoding="utf-8")
    assert text.count('src="data:image/webp') == 4
    assert "p31_31.png" in text
    assert "class <" not in text


def test_files_of_any_size_are_compared(cells, tmp_path):
    X, y, splits = cells
    root = save(tmp_path / "scans", X, y, splits)
    (root / "test" / "class <0>").mkdir(exist_ok=True)
    Image.fromarray(X[4]).resize((56, 56)).save(root / "test" / "class <0>" / "large.png")
    done = command(root, "--strict")
    assert done.exit_code == 1
    assert "1 of 21 images of test is also in an earlier split." in done.stdout
    assert re.search(r"Images of another shape +1 ", done.stdout)


def straddling(done):
    assert done.exit_code == 0, done.output
    found = re.search(r"Groups in several splits +(\d+|–)", done.stdout)[1]
    return None if found == "–" else int(found)


def test_groups_come_from_paths_a_table_or_the_file(cells, tmp_path):
    X, y, splits = cells
    patients = np.arange(N) % 50  # of the last ten images, ten are in training as well
    root = save(tmp_path / "scans", X, y, splits)
    assert straddling(command(root, "--groups", r"^(p\d+)_")) == 10
    assert straddling(command(root)) is None  # nobody said whom the images are of

    table = tmp_path / "groups.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["age", "path", "group"])
        for path in sorted(root.rglob("*.png")):
            writer.writerow([50, path.relative_to(root), path.name.split("_")[0]])
    assert straddling(command(root, "--groups", table)) == 10

    content = dict(np.load(write(tmp_path / "cells.npz", X, y, splits)))
    content |= {f"{one}_patient": patients[splits == one] for one in ("train", "val", "test")}
    np.savez(tmp_path / "cells.npz", **content)
    assert straddling(command(tmp_path / "cells.npz", "--groups", "patient")) == 10
    assert command(tmp_path / "cells.npz", "--groups", "patient", "--strict").exit_code == 1


@pytest.fixture
def whole(cells, tmp_path):
    """Give a folder without splits in which an image of training is copied into the test split."""
    X, y, _ = cells
    root = save(tmp_path / "scans", X, y % 2, [""] * N)
    first = Path(drawn(root)["train"][0])
    for i in range(100):  # until the hash of a name falls to the test split
        copy = first.with_name(f"{first.name.split('_')[0]}_{N}{i}.png")
        shutil.copy(first, copy)
        if str(first) in drawn(root)["train"] and str(copy) in drawn(root)["test"]:
            return root
        copy.unlink()
    raise AssertionError("No name fell to the test split.")


def drawn(root, groups=None):
    data = sources.read_data(str(root), groups=groups)
    return {split: X.tolist() for split, (X, _) in data.splits.items()}


PATIENT = r"^(p\d+)_"


def test_a_folder_without_splits_is_audited_in_those_that_train_draws(whole, tmp_path):
    splits = drawn(whole)
    sizes = ", ".join(f"{split} {len(paths)}" for split, paths in splits.items())
    done = command(whole, "--strict", "--exact", "--out", tmp_path / "audit.html")
    assert done.exit_code == 1, done.output
    assert f"{N + 1} images: {sizes}" in done.stdout
    assert f"1 of {len(splits['test'])} images of test is also in an earlier" in done.stdout
    for text in (done.stdout, html.unescape((tmp_path / "audit.html").read_text())):
        assert "these are what 'kmedclf train' draws" in text
    page = (tmp_path / "audit.html").read_text()
    assert "Identical, in several splits</h2>\n<p>1 pair.</p>" in page


def test_groups_keep_copies_of_one_patient_in_one_split(whole):
    done = command(whole, "--strict", "--exact", "--groups", PATIENT)
    assert done.exit_code == 0, done.output
    assert "these are what 'kmedclf train' with these --groups draws" in done.stdout
    follows = shlex.join(["train", "cnn", "--data", str(whole), "--groups", PATIENT])
    assert f"kmedclf {follows} --out runs/cnn" in done.stdout
    assert straddling(done) == 0
    assert re.search(r"Groups of identical images +1 +0 ", done.stdout)


@pytest.mark.parametrize("groups", [PATIENT, "table"])
def test_train_draws_the_audited_groups_and_evaluate_remembers_them(whole, tmp_path, groups):
    if groups == "table":
        groups = tmp_path / "patients.csv"
        rows = [(p.relative_to(whole), p.name.split("_")[0]) for p in whole.rglob("*.png")]
        groups.write_text("path,group\n" + "".join(f"{path},{name}\n" for path, name in rows))
    splits = drawn(whole, str(groups))
    patients = [{Path(path).name.split("_")[0] for path in paths} for paths in splits.values()]
    assert sum(map(len, patients)) == len(set().union(*patients))
    assert splits != drawn(whole)
    out = tmp_path / "run"
    done = invoke(
        "train", "mlp", "--data", whole, "--groups", groups, "--out", out, "--size", 8,
        "--epochs", 1,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    before = read(out / "evaluation-test.json")
    assert before["n"] == len(splits["test"])
    for arguments in (("evaluate", out, "--data", whole), ("report", out, "--plain")):
        done = invoke(*arguments)
        assert done.exit_code == 0, done.output
    assert read(out / "evaluation-test.json")["scores"] == before["scores"]
    assert read(out / "evaluation-test.json")["data"]["groups"] == str(groups)


def test_groups_of_data_that_are_split_already_are_refused(cells, tmp_path):
    npz = write(tmp_path / "cells.npz", *cells)
    train = ("train", "mlp", "--data", npz, "--out", tmp_path / "run", "--groups", "p")
    assert refused(*train) == (f"--groups must go with a folder without splits. {npz} has splits.")


def test_wrong_groups_are_one_sentence(cells, tmp_path):
    X, y, splits = cells
    root = save(tmp_path / "scans", X, y, splits)
    npz = write(tmp_path / "cells.npz", X, y, splits)
    short, other = tmp_path / "short.csv", tmp_path / "other.csv"
    short.write_text("path,group\nx.png,1\n")
    other.write_text("file,patient\nx.png,1\n")
    for arguments, sentence in [
        ((npz, "--groups", "patient"), r"there is no 'train_patient'\."),
        (("synthetic", "--groups", "patient"), r"must go with a file or a folder\."),
        ((root, "--groups", "q(.)"), "does not match class|does not match p"),
        ((root, "--groups", short), r"must name the group of every image\. train/class <"),
        ((root, "--groups", other), "must have the columns path and group"),
        ((root, "--groups", tmp_path / "no.csv"), "There is no file"),
        ((tmp_path / "empty",), "There is no file"),
    ]:
        done = command(*arguments)
        assert done.exit_code == 2
        assert re.search(sentence, " ".join(done.output.split())), done.output


def test_a_damaged_file_is_left_out_and_named(cells, tmp_path):
    X, y, splits = cells
    root = save(tmp_path / "scans", X, y, splits)
    (root / "val" / f"class <{y[30]}>" / "torn.png").write_bytes(b"\x89PNG")
    done = command(root)
    assert "-p on_error=skip --out runs/cnn" in done.stdout  # so that the next command runs
    assert done.exit_code == 3
    said = " ".join(done.stderr.split())
    assert "torn.png is not an image that can be read" in said
    assert f"1 of {len(X) + 1} images is left out of the audit" in said
    assert f"{len(X)} images: train" in done.stdout
