"""`kmedclf reproduce`: every item of a study in one folder and one page, and again after a stop."""

import dataclasses
import re

import matplotlib.pyplot as plt
import numpy as np
import pytest
from sklearn.model_selection import ParameterGrid
from typer.testing import CliRunner

from kmedclf import CNNClassifier, MLPClassifier, ResNetClassifier, datasets, recipes, runs, studies
from kmedclf.cli import app
from kmedclf.datasets import sources
from kmedclf.evaluation import Report
from kmedclf.search import SearchSpace
from kmedclf.studies import blood
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


ITEMS = ("images", "perceptron", "kernels", "convolutions", "residual")
"""Items of the study of blood cells that stand for all; the others have tests of their own."""
ONLY = [word for item in ITEMS for word in ("--only", item)]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Reproduce the study of blood cells, quickly: output of the command, and the folder."""
    folder = tmp_path_factory.mktemp("study")
    npz = write(folder / "<i>cells.npz", NAMES)
    done = invoke("blood", "--data", npz, "--out", folder / "out", "--quick", "--seed", 3, *ONLY)
    assert done.exit_code == 0, done.output
    return done.stdout, folder / "out", npz


def test_page_holds_all_items_in_their_order(made):
    output, out, _ = made
    text = text_of(out)
    titles = ["The images", "(a) A multilayer", "(b) Number and size", "(c) A simple",
              "(d) A deeper"]  # fmt: skip
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
    assert text.count('<svg class="chart"') == 3 + 5 + 1 + 5 + 5 + 2
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
    assert "0.5205" not in output  # the report's accuracy of a class
    assert re.search(r"Report's resnet, published \|.*\| 0\.955 \|", output)


def test_five_mistakes_have_their_expected_classes_and_probabilities(made):
    output, out, _ = made
    report = Report.from_json(out / "cnn" / "evaluation-test.json")
    part = output[output.index("(c) A simple") : output.index("(d) A deeper")]
    head, expected, rank, *probabilities = part[part.index("Five mistakes") :].splitlines()[1:12]
    shown = report.surest_mistakes(5)
    assert len(shown) == 5
    assert re.findall(r"Test image (\d+)", head) == list(map(str, shown))
    for i in shown:
        assert report.class_names[report.true_index[i]] in expected
    assert rank.split()[2:] == [str(report.ranks[i]) for i in shown]
    for k, (line, name) in enumerate(zip(probabilities, report.class_names, strict=False)):
        assert line.startswith(f"probability of {name}")
        assert re.findall(r"\d\.\d{4}", line) == [f"{report.proba[i, k]:.4f}" for i in shown]
    assert len(probabilities) == 8


def test_resuming_repeats_nothing(made):
    output, out, _ = made
    stamps = {path: path.stat().st_mtime_ns for path in out.glob("*/model.kmedclf")}
    fits = len(list(out.glob("memory/**/*.kmedclf-fit")))
    assert len(stamps) == 3
    assert fits == 2 * 2 * 3  # sizes, numbers, folds
    done = invoke("blood", "--out", out, "--quick", "--seed", 3, "--resume", *ONLY)
    assert done.exit_code == 0, done.output
    assert done.stdout == output
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    assert len(list(out.glob("memory/**/*.kmedclf-fit"))) == fits


def test_what_is_missing_is_made_again(made):
    output, out, _ = made
    kept = (out / "cnn" / "model.kmedclf").stat().st_mtime_ns
    (out / "mlp" / "model.kmedclf").unlink()
    (out / "mlp" / "report.html").unlink()
    cards = {path: path.read_text(encoding="utf-8") for path in (out / "cnn").glob("*.md")}
    assert len(cards) == 2
    for path in (out / "cnn" / "report.html", *cards):
        path.unlink()
    for path in (out / "mlp").iterdir():
        path.unlink()
    done = invoke("blood", "--out", out, "--quick", "--seed", 3, "--resume", *ONLY)
    assert done.exit_code == 0, done.output
    assert (out / "mlp" / "model.kmedclf").is_file()
    assert (out / "cnn" / "report.html").is_file()
    assert {path: path.read_text(encoding="utf-8") for path in cards} == cards
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
    assert study.data in [*datasets.names(), *sources.DRAWN]


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
    widths = [float(re.search(r' width="(\d+)"', one.svg)[1]) for one in (small, large)]
    assert widths == [4 * 96, 8 * 96]


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


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """Open a study of cells whose classes have BloodMNIST's names, as a user's file has them."""
    folder = tmp_path_factory.mktemp("real")
    parameters = {"epochs": 2, "units": 4, "filters": 4, "stem_filters": 4, "dense_units": 4}
    blood = studies.get("blood")
    return blood.open(str(write(folder / "cells.npz")), folder / "out", parameters=parameters)


def test_the_reports_accuracy_of_each_class_stands_beside_ours(real):
    """The report's tables of each network, its own class by its class."""
    for item, name in (("perceptron", "mlp"), ("convolutions", "cnn"), ("residual", "resnet")):
        section = getattr(blood, item)(real)
        table = section.tables[0]
        reported = blood.REPORTED[name]
        place = table.head.index("Report")
        assert [row[place] for row in table.rows] == [
            f"{one:.4f}" for one in (reported.accuracy, *reported.classes)
        ]
        assert [row[0] for row in table.rows[1:]] == list(datasets.info("bloodmnist").class_names)
        assert f"{reported.n_params:,} trainable" in " ".join(section.findings)
    side = section.tables[-1]
    assert side.head[1:7] == ["mlp", "cnn", "resnet", *(f"report's {n}" for n in blood.REPORTED)]
    assert [row[4] for row in side.rows] == [f"{one:.3f}" for one in blood.REPORTED["mlp"].classes]
    assert [one.model for one in section.comparison.published[-3:]] == [
        "Report's mlp", "Report's cnn", "Report's resnet",
    ]  # fmt: skip
    # with these parameters the network is not the one whose choices won the report's search
    assert "won the report" not in blood.perceptron(real).method


def test_the_longer_training_has_all_its_epochs(real):
    section = blood.longer(real)
    run = runs.read_run(real.out / "resnet-longer")
    assert len(run.estimator.history_["loss"]) == 2
    assert "Training runs for 2 epochs, never stops early" in section.method
    assert section.choices[-1].taken == "2 epochs"
    assert section.choices[-1].why == "Given for this run."
    assert "0.9608" in " ".join(section.findings)
    # of the same seed: the same network
    assert "cannot be told apart" in section.findings[-1]


@pytest.mark.parametrize(
    ("item", "name", "stages"),
    [
        ("perceptron_search", "mlp", ["data", "neurons", "training"]),
        pytest.param(
            "convolutions_search", "cnn", ["data", "kernels", "pooling", "training"],
            marks=pytest.mark.slow,
        ),
    ],
)  # fmt: skip
def test_the_staged_search_is_an_item(item, name, stages, tmp_path):
    lab = studies.get("blood").open(str(write(tmp_path / "a.npz")), tmp_path / "out", quick=True)
    section = getattr(blood, item)(lab)
    winners, *candidates = section.tables
    wanted = blood.REPORTED_WINNERS[name]
    assert len(winners.rows) == len(wanted)
    assert [row[0].split(", ")[1] for row in winners.rows] == [
        stage.name for stage in SearchSpace.load(name).stages for _ in stage.names
    ]
    assert dict.fromkeys(row[0].split(", ")[1] for row in winners.rows) == dict.fromkeys(stages)
    for table, stage in zip(candidates, stages, strict=True):
        assert stage in table.title
        assert [row[-1] for row in table.rows].count("won") == 1
        means = {row[-1]: float(row[-3 if "Report, mean" in table.head else -2].split(" ±")[0])
                 for row in table.rows}  # fmt: skip
        assert means["won"] == max(means.values())
    assert f"{sum(len(one.rows) for one in candidates)} in all" in section.method
    assert section.figures
    text = " ".join(section.findings)
    assert all(f"Stage {stage}: " in text for stage in stages)


def test_a_full_search_has_the_reports_candidates():
    """The report's tables 2 and 4 list the options; their products are the candidates."""
    for name, sizes in (("mlp", [4, 5, 24]), ("cnn", [4, 15, 10, 24])):
        stages = SearchSpace.load(name).stages
        assert [len(ParameterGrid(stage.grids())) for stage in stages] == sizes
        for stage in stages:  # the report's winners are among them
            wanted = {one: blood.REPORTED_WINNERS[name][one] for one in stage.names}
            assert wanted in list(ParameterGrid(stage.grids()))
            known = blood.REPORTED_MEANS.get(stage.name, {})
            if known:  # and had the highest mean of those that are known
                found = {tuple(one[n] for n in stage.names) for one in ParameterGrid(stage.grids())}
                assert set(known) <= found
                assert known[tuple(wanted[n] for n in stage.names)] == max(known.values())


@pytest.mark.parametrize("name", ["mlp", "cnn", "resnet"])
def test_the_defaults_are_the_reports(name):
    """The numbers of parameters that the report counts, and its search's winners."""
    classes = {"mlp": MLPClassifier, "cnn": CNNClassifier, "resnet": ResNetClassifier}
    used = recipes.parameters(classes[name]())
    wanted = blood.REPORTED_WINNERS.get(name, {})
    assert {one: used[one] for one in wanted} == wanted
    assert (used["epochs"], used["n_iter_no_change"], used["restore_best"]) == (200, 20, True)
    X, y = datasets.make_blood_cells(24, random_state=0)
    est = classes[name](epochs=1, early_stopping=False, random_state=0).fit(X, y)
    assert est.n_params_ == blood.REPORTED[name].n_params
