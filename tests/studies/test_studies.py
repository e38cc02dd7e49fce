"""`kmedclf reproduce`: every item of a study in one folder and one page, and again after a stop."""

import dataclasses
import re

import matplotlib.pyplot as plt
import numpy as np
import pytest
from typer.testing import CliRunner

from kmedclf import datasets, studies
from kmedclf.cli import app
from kmedclf.datasets import sources
from kmedclf.evaluation import Report
from kmedclf.studies.study import write as write_study

NAMES = ["plain", "quo\"te' <b>bold</b>", "</script><script>alert(1)</script>", "żółć é",
         "خلية دم", "a|b $x$", "f", "g"]  # fmt: skip
SIZES = {"train": 120, "val": 40, "test": 48}


def write(path, names=None):
    content = {} if names is None else {"class_names": np.array(names)}
    for seed, (split, n) in enumerate(SIZES.items()):
        content[f"{split}_images"], content[f"{split}_labels"] = datasets.make_blood_cells(
            n, random_state=seed
        )
    np.savez(path, **content)
    return path


def invoke(*arguments):
    return CliRunner().invoke(app, ["reproduce", *map(str, arguments)])


def text_of(out):
    return (out / "index.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Reproduce the study of blood cells, quickly: output of the command, and the folder."""
    folder = tmp_path_factory.mktemp("study")
    npz = write(folder / "<i>cells.npz", NAMES)
    done = invoke("blood", "--data", npz, "--out", folder / "out", "--quick", "--seed", 3)
    assert done.exit_code == 0, done.output
    return done.stdout, folder / "out", npz


def test_page_holds_all_items_in_their_order(made):
    output, out, _ = made
    text = text_of(out)
    titles = ["(a) A multilayer", "(b) Number and size", "(c) A simple", "(d) A deeper"]
    for where in (output, text[text.index("</nav>") :]):
        places = [where.index(title) for title in titles]
        assert places == sorted(places)
    found = {
        n: Report.from_json(out / n / "evaluation-test.json") for n in ("mlp", "cnn", "resnet")
    }
    for report in found.values():
        assert f"Test accuracy {report.scores['accuracy']}" in text
        assert f"Test accuracy {report.scores['accuracy']}" in output
    best = max(found, key=lambda name: found[name].accuracy)
    assert re.search(rf"In order of test accuracy: .*{best}\.", output)
    verdicts = re.findall(
        r"^\w+ and \w+ (?:differ|cannot be told apart).*p with Holm", output, re.M
    )
    assert len(verdicts) == 3
    assert text.count("data:image/png;base64,") == 2 + 3 + 1 + 5 + 5 + 1
    assert "its figures mean nothing" in text


def test_page_needs_nothing_but_the_reports_that_it_links(made):
    _, out, _ = made
    text = text_of(out)
    addresses = re.findall(r"""(?:src|href)=["']?(?!data:|#)([^"'> ]+)""", text)
    assert addresses == [f"{name}/report.html" for name in ("mlp", "cnn", "resnet")]
    assert all((out / address).is_file() for address in addresses)
    assert "default-src 'none'" in text


def test_names_are_safe_in_every_page(made):
    _, out, _ = made
    for page in (out / "index.html", *out.glob("*/report.html")):
        text = page.read_text(encoding="utf-8")
        assert "<script>alert" not in text
        assert "<b>bold" not in text
        assert "<i>cells" not in text
        assert "خلية دم" in text


def test_synthetic_cells_are_not_compared_with_published_figures(made):
    output, out, _ = made
    assert "Not comparable with the published figures: ours are of 48 images" in output
    assert "Not comparable with the published figures" in text_of(out)
    assert "In the report that is reproduced" not in output


def test_five_mistakes_have_their_expected_classes_and_probabilities(made):
    output, out, _ = made
    report = Report.from_json(out / "cnn" / "evaluation-test.json")
    part = output[output.index("(c) A simple") : output.index("(d) A deeper")]
    lines = part[part.index("Five mistakes") :].splitlines()[2:]
    assert len(report.surest_mistakes(5)) == 5
    for line, i in zip(lines, report.surest_mistakes(5), strict=False):
        assert line.startswith(f"{i} ")
        assert report.class_names[report.true_index[i]] in line
        assert f"{report.class_names[report.pred_index[i]]} {report.proba[i].max():.3f}" in line


def test_resuming_repeats_nothing(made):
    output, out, _ = made
    stamps = {path: path.stat().st_mtime_ns for path in out.glob("*/model.kmedclf")}
    fits = len(list(out.glob("memory/**/*.kmedclf-fit")))
    assert len(stamps) == 3
    assert fits == 2 * 2 * 3  # sizes, numbers, folds
    done = invoke("blood", "--out", out, "--quick", "--seed", 3, "--resume")
    assert done.exit_code == 0, done.output
    assert done.stdout == output
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    assert len(list(out.glob("memory/**/*.kmedclf-fit"))) == fits


def test_what_is_missing_is_made_again(made):
    output, out, _ = made
    kept = (out / "cnn" / "model.kmedclf").stat().st_mtime_ns
    (out / "mlp" / "model.kmedclf").unlink()
    (out / "mlp" / "report.html").unlink()
    (out / "cnn" / "report.html").unlink()
    for path in (out / "mlp").iterdir():
        path.unlink()
    done = invoke("blood", "--out", out, "--quick", "--seed", 3, "--resume")
    assert done.exit_code == 0, done.output
    assert (out / "mlp" / "model.kmedclf").is_file()
    assert (out / "cnn" / "report.html").is_file()
    assert (out / "cnn" / "model.kmedclf").stat().st_mtime_ns == kept
    timed = r"; \d+ s\.|\| [\d.,]+ +\| [\d.,]+ \|$"  # seconds and speed differ
    same = [re.sub(timed, "", text, flags=re.M) for text in (output, done.stdout)]
    assert same[0] == same[1]  # the same seed, the same everything


def test_other_parameters_or_data_are_trained_anew(tmp_path):
    from kmedclf import MLPClassifier

    lab = studies.Lab.open(str(write(tmp_path / "a.npz")), tmp_path / "out", quick=True)

    def train(units, lab=lab):
        lab.train("mlp", MLPClassifier(units=units, random_state=0))
        return (tmp_path / "out" / "mlp" / "model.kmedclf").stat().st_mtime_ns

    first = train(4)
    assert train(4) == first
    second = train(5)
    assert second > first
    other = studies.Lab.open("synthetic", tmp_path / "out", quick=True)
    assert train(5, other) > second


def test_folders_are_safe(made, tmp_path):
    _, out, npz = made
    (tmp_path / "mine.txt").write_text("mine")
    for arguments, sentence in [
        (("--data", npz, "--out", tmp_path), "is not empty and holds no study"),
        (("--data", npz, "--out", tmp_path, "--resume"), "is not empty and holds no study"),
        (("--data", npz, "--out", out, "--quick", "--seed", 3), r"or --resume it\."),
        (("--out", out, "--quick", "--seed", 4, "--resume"), r"begun with, seed 3\. Got 4"),
        (("--out", out, "--seed", 3, "--resume"), r"begun with, quick True\. Got False"),
        (("--data", "no.npz", "--out", tmp_path / "new"), r"There is no file no\.npz"),
    ]:
        done = invoke("blood", *arguments)
        assert done.exit_code == 2
        assert re.search(sentence, " ".join(done.output.split())), done.output
    assert not (tmp_path / "new").exists()
    assert invoke("bl00d", "--out", tmp_path / "new").exit_code == 2


@pytest.mark.parametrize("name", studies.NAMES)
def test_every_study_is_whole(name):
    study = studies.get(name)
    assert study.name == name
    assert study.items
    assert study.title
    assert study.data in [*datasets.names(), "synthetic"]


def test_a_quick_study_has_few_images_of_every_class(tmp_path):
    lab = studies.Lab.open("synthetic", tmp_path, quick=True)
    for X, y in lab.data.splits.values():
        assert len(X) == len(y) == 200
        counts = np.bincount(y, minlength=8)
        assert counts.min() >= 200 // 8 - 1
    X, whole = (
        lab.data.splits["test"][0],
        sources.read_data("synthetic", only="test").splits["test"][0],
    )
    places = [int(np.flatnonzero((whole == x).all(axis=(1, 2, 3)))[0]) for x in X]
    assert places == sorted(places)


def test_names_are_given_to_files_without(tmp_path):
    npz = write(tmp_path / "a.npz")
    names = studies.get("blood").class_names
    lab = studies.Lab.open(str(npz), tmp_path / "out", class_names=names)
    assert lab.data.class_names == names
    other = studies.Lab.open(str(write(npz, NAMES)), tmp_path / "out", class_names=names)
    assert list(other.data.class_names) == NAMES


def test_columns_of_numbers_are_told_from_names():
    rows = [
        ["1", "2 + batch norm", "0.312 [0.125, 0.562]", "0:52", 24, "–"],
        ["2", "0.25", ".8344 ± .0087", "12:00", 3.5, "undefined"],
    ]
    kinds = studies.Table("t", list("abcdef"), rows).columns()
    assert kinds == ["number", "name", "number", "number", "number", "number"]
    assert studies.Table("t", ["a"], []).columns() == []


def test_letters_of_all_figures_have_one_size():
    small, large = (
        studies.Figure.of("a", "b", plt.figure(figsize=one)) for one in ((4, 3), (8, 6))
    )
    assert large.size == (2 * small.size[0], 2 * small.size[1])


def test_intervals_stand_below_their_numbers():
    rows = [["0.312 [0.125, 0.562]", "0.5 ± 0.1", "b [c]", "7"]]
    assert studies.Table("t", list("abcd"), rows).parted() == [
        [("0.312", "[0.125, 0.562]"), ("0.5", "± 0.1"), ("b [c]", ""), ("7", "")]
    ]


def test_page_says_which_parameters_are_not_the_studys_own(tmp_path):
    lab = studies.Lab.open("synthetic", tmp_path, quick=True, parameters={"epochs": 7})
    write_study(lab, "title", [])
    assert "<bdi>epochs = 7</bdi>" in text_of(tmp_path)
    write_study(dataclasses.replace(lab, parameters={}), "title", [])
    assert "Not the study's own" not in text_of(tmp_path)
    assert re.search(r"train</bdi> 200, <bdi>val</bdi> 200, <bdi>test", text_of(tmp_path))
