"""What a stranger meets: names in use, what to type next, progress, tables, words of folders."""

import csv
import json
import re
import shlex
import subprocess
import sys

import pytest
from cli_helpers import invoke, read, refused, train_mlp, write_npz
from helpers import get
from image_samples import save

from kmedclf import recipes
from kmedclf.cli import app
from kmedclf.cli.console import NEXT
from kmedclf.cli.parameters import (
    ALIASES,
    NETWORKS,
    _described,
    check_names,
    check_values,
    find_network,
)
from kmedclf.datasets import load_csv, make_blood_cells, sources
from kmedclf.runs.searches import SearchFolder

COMMANDS = {command.callback.__name__: command.callback for command in app.registered_commands}


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Write 60 cells of 2 classes and 30 patients, and their table, which has no splits."""
    folder = tmp_path_factory.mktemp("cells")
    X, y = make_blood_cells(60, 8, random_state=0)
    with (folder / "cells.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["age", "File name", "Diagnosis", "patient"])
        for i, (image, label) in enumerate(zip(X, y % 2, strict=True)):
            save(folder / f"{i}.png", image)
            rows.writerow([50, f"{i}.png", ("benign", "malignant")[label], f"p{i // 2}"])
    return folder / "cells.csv"


@pytest.fixture(scope="module")
def trained(table):
    out = table.parent / "my run"
    done = invoke("train", "mlp", "--data", table, "--out", out, "--epochs", 1, "--size", 8,
                  "--recipe", "fast", "--learning-rate", "1e-3")  # fmt: skip
    assert done.exit_code == 0, done.output
    return out, done


def test_every_command_says_what_may_follow():
    assert set(COMMANDS) <= set(NEXT)
    for steps in NEXT.values():
        for line, _ in steps:
            assert shlex.split(line)[0] in COMMANDS


def test_what_follows_can_be_typed(trained):
    out, done = trained
    steps = re.findall(r"^  kmedclf (.+?) +# ", done.stdout.partition("\nNext:\n")[2], re.M)
    assert [shlex.split(step)[:2] for step in steps] == [
        [name, str(out)] for name in ("report", "compare", "predict", "app")
    ]
    done = invoke(*shlex.split(steps[0]), "--plain")
    assert done.exit_code == 0, done.output
    assert f"kmedclf compare '{out}' OTHER_DIR" in done.stdout


def test_piped_progress_goes_to_stderr_unless_quiet(trained, table, tmp_path):
    assert trained[1].stdout.startswith("MLPClassifier on cells.csv")
    assert "MLPClassifier" in trained[1].stderr
    assert "1/1" in trained[1].stderr
    done = invoke("train", "mlp", "--data", table, "--out", tmp_path / "run", "--epochs", 1,
                  "--size", 8, "--quiet")  # fmt: skip
    assert (done.exit_code, done.stderr) == (0, "")
    assert "Next:" not in done.stdout


def test_predictions_on_the_screen_are_nothing_but_a_table(trained, table):
    done = invoke("predict", trained[0], table.parent / "0.png")
    assert [len(line.split(",")) for line in done.stdout.splitlines()] == [3, 3]
    assert "Next:" in done.stderr


@pytest.mark.parametrize(
    ("name", "cls", "parameters"),
    [
        ("CNNClassifier", "CNNClassifier", {}),
        ("resnet", "ResNetClassifier", {}),
        ("ResNet-18", "DeepResNetClassifier", {"depth": 18}),
        ("densenet169", "DenseNetClassifier", {"block_config": (6, 12, 32, 32)}),
        ("efficientnet-b0", "EfficientNetClassifier", {"variant": "b0"}),
        ("tf_efficientnet_lite0", "EfficientNetClassifier", {"variant": "lite0"}),
        ("vit_b_16", "ViTClassifier", {"hidden_dim": 768, "patch_size": 16}),
        ("vit_tiny_patch16_224", "ViTClassifier", {"hidden_dim": 192, "num_heads": 3}),
    ],
)
def test_names_in_use_are_understood(name, cls, parameters):
    found, options = find_network(name)
    assert found == cls
    assert parameters.items() <= {key: value for key, (_, value) in options.items()}.items()


def test_every_alias_is_a_network_that_can_be_made():
    for cls, parameters in ALIASES.values():
        given = {key: value for key, value in parameters.items() if value is not None}
        check_names(given, [cls])
        check_values(given, [cls])
        assert get(cls)(**given)
    assert not set(ALIASES) & set(NETWORKS)


TRAIN = ("train", "--data", "synthetic", "--out", "nowhere")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("resnt18",), r"as resnet18\. Got 'resnt18' instead; did you mean 'resnet18'\?"),
        (("resnet18", "-p", "depth=34"), r"resnet18 and -p depth set the same;"),
        (("cnn", "--weights", "imagenet"), r"--weights must go with one of alexnet, .* CNNCl"),
        (("cnn", "--recipe", "fats"), "'recipe' parameter of CNNClassifier must be .* 'fats'"),
        (("cnn", "--recipe", "fast", "-p", "recipe=best"), "--recipe and -p recipe set the same"),
        (("cnn", "--batch-size", "8"), "no option --batch-size; -p batch_size=VALUE sets it"),
    ],
)
def test_what_is_wrong_is_answered_with_what_is_right(arguments, sentence):
    assert re.search(sentence, refused(*TRAIN, *arguments))


def test_options_set_parameters(trained):
    given = read(trained[0] / "parameters.json")["parameters"]
    assert (given["recipe"], given["learning_rate"]) == ("fast", 1e-3)


@pytest.mark.parametrize("cls", NETWORKS.values())
def test_params_tells_what_the_class_has(cls):
    defaults = get(cls)().get_params()
    assert {one.name: one.default for one in _described(cls)} == defaults
    assert all(one.text and one.allowed for one in _described(cls))
    documented = get(cls).__doc__
    assert all(f"{one.name} : {one.allowed}" in documented for one in _described(cls))


def test_params_lists_and_tells_all_about_one():
    assert len(invoke("params").stdout.split("\n\nNext:")[0].splitlines()) >= len(NETWORKS)
    printed = invoke("params", "resnet50").stdout
    assert "  depth=50  ({18, 34, 50})\n      Layers" in printed
    assert printed.index("depth=") < printed.index("weights=") < printed.index("recipe=")
    printed = invoke("params", "mlp", "epochs").stdout
    assert re.findall(r"^  (\w+) +(\d+)$", printed, re.M) == [
        ("reference", "200"), ("fast", "60"), ("best", "200"), ("transfer", "12")
    ]  # fmt: skip
    assert refused("params", "cnn", "filtrs").endswith("did you mean 'filters'?")


@pytest.mark.parametrize("cls", NETWORKS.values())
@pytest.mark.parametrize("name", ["epochs", "augment"])
def test_params_tells_what_each_recipe_sets(cls, name):
    printed = invoke("params", cls, name).stdout.split("\n\nNext:")[0]
    told = dict(re.findall(r"^  (\w+(?:, trainable=head)?) +(.+)$", printed, re.M))
    expected = {}
    for recipe in recipes.RECIPES:
        usual = expected[recipe] = recipes.parameters(get(cls)(recipe=recipe))[name]
        if "trainable" in get(cls)().get_params():
            head = recipes.parameters(get(cls)(recipe=recipe, trainable="head"))[name]
            expected |= {f"{recipe}, trainable=head": head} if head != usual else {}
    assert told == {words: json.dumps(value) for words, value in expected.items()}


# -- tables and folders ----------------------------------------------------------------------------


def test_a_table_is_data_and_keeps_patients_together(table, trained):
    data = sources.read_data(str(table))
    assert data.class_names == ("benign", "malignant")
    patients = load_csv(table, image="File name", label="Diagnosis", group="patient")
    group = dict(zip(patients.paths, patients.groups, strict=True))
    splits = [{group[path] for path in X} for X, _ in data.splits.values()]
    assert sum(map(len, splits)) == len(set.union(*splits)) == 30
    assert sum(len(y) for _, y in data.splits.values()) == 60
    environment = read(trained[0] / "environment.json")["data"]
    assert environment["n"] == {split: len(y) for split, (_, y) in data.splits.items()}
    before = read(trained[0] / "evaluation-test.json")
    assert invoke("evaluate", trained[0], "--data", table).exit_code == 0
    assert read(trained[0] / "evaluation-test.json")["scores"] == before["scores"]
    done = invoke("audit", "--data", table)
    assert "The table has no splits of its own" in done.stdout
    assert re.search(r"Groups in several splits +0 ", done.stdout)


def test_a_table_may_have_splits(table):
    lines = table.read_text().splitlines()
    words = ["split", *(["Training"] * 40 + ["valid"] * 10 + ["test"] * 10)]
    path = table.with_name("splits.csv")
    path.write_text("\n".join(f"{a},{b}" for a, b in zip(lines, words, strict=True)))
    data = sources.read_data(str(path))
    assert data.description["n"] == {"train": 40, "val": 10, "test": 10}
    assert [len(y) for _, y in sources.read_data(str(path), only="val").splits.values()] == [10]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("id,label\n0.png,a\n", r"column of the paths of images, named path or image or file\."),
        ("path,kind\n0.png,a\n", r"column of the classes, named label or .* 'kind': rename"),
        ("path,label\nno.png,a\n", r"There is no .*no\.png\."),
        ("path,label\n0.png,a\n1.png,a\n", r"images of two classes or more.* It holds one, a\."),
        ("path,label,split\n0.png,a,dev\n", r"Line 2 .* train, val or test in 'split'\. Got 'dev'"),
    ],
)
def test_wrong_tables_are_one_sentence(text, sentence, table):
    path = table.with_name("wrong.csv")
    path.write_text(text)
    assert re.search(sentence, refused("train", "mlp", "--data", path, "--out", "nowhere"))


def test_wrong_folders_are_told_in_words_of_folders(table, tmp_path):
    folder = tmp_path / "scans"
    (folder / "cats").mkdir(parents=True)
    (folder / "cats" / "1.png").write_bytes((table.parent / "1.png").read_bytes())
    train = ("train", "mlp", "--data", folder, "--out", "nowhere")
    assert refused(*train) == (
        f"{folder} must hold folders of images of two classes or more, to train on. It holds "
        "one, cats."
    )
    (folder / "cats" / "1.png").rename(folder / "1.png")
    assert refused(*train).endswith(
        f"1.png is not. Make a folder for each class in {folder}, and move the images there."
    )


EARLY = [
    ("train", "nonet", "--data", "synthetic", "--out", "nowhere"),
    ("train", "mlp", "--data", "nowhere", "--out", "nowhere"),
    ("search", "mlp", "--data", "nowhere", "--out", "nowhere"),
    ("search", "mlp", "--data", "synthetic", "--out", "nowhere", "--space", "nowhere"),
    ("reproduce", "blood", "--data", "nowhere", "--out", "nowhere"),
    ("evaluate", "nowhere", "--data", "synthetic"),
    ("predict", "nowhere", "1.png"),
    ("report", "nowhere"),
    ("compare", "nowhere"),
    ("audit", "--data", "nowhere"),
    ("params", "nonet"),
]
ONE_BY_ONE = f"""
import sys, time
from kmedclf import recipes
from kmedclf.cli import app
for arguments in {EARLY!r}:
    start = time.process_time()
    try: app(arguments)
    except SystemExit as end: assert end.code == 2, (arguments, end.code)
    seconds = time.process_time() - start
    print("tensorflow" in sys.modules, seconds < 5, *arguments)  # TensorFlow alone takes longer
"""


def test_errors_come_before_tensorflow(tmp_path):
    run = [sys.executable, "-c", ONE_BY_ONE]
    done = subprocess.run(run, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    told = [line.split(" ", 2) for line in done.stdout.splitlines()]
    assert [one[2] for one in told] == [" ".join(one) for one in EARLY]
    assert {tuple(one[:2]) for one in told} == {("False", "True")}, done.stdout


def test_what_only_reads_loads_no_tensorflow(tmp_path):
    """Commands that train and predict nothing answer at once."""
    data = write_npz(tmp_path)
    run, _ = train_mlp(data, tmp_path / "run")
    commands = [
        ("report", run, "--plain"), ("compare", run), ("audit", "--data", data), ("datasets",),
        ("params", "cnn"), ("train", "--help"),
    ]  # fmt: skip
    lines = "".join(
        f"try: app({[*map(str, command)]!r})\nexcept SystemExit as end: assert not end.code\n"
        f"assert 'tensorflow' not in sys.modules, {command[0]!r}\n"
        for command in commands
    )
    code = f"import sys\nfrom kmedclf.cli import app\n{lines}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_search_keeps_patients_in_one_fold(table, tmp_path):
    space = tmp_path / "tiny.yaml"
    space.write_text("estimator: mlp\nparameters: {units: [2, 4]}\n")
    out = tmp_path / "search"
    done = invoke("search", "mlp", "--data", table, "--groups", "patient", "--out", out,
                  "--size", 8, "--epochs", 1, "--final-epochs", 1, "--folds", 2,
                  "--space", space)  # fmt: skip
    assert done.exit_code == 0, done.output
    assert read(out / "search.json")["groups"] == "patient"
    data = sources.read_data(str(table), groups="patient")
    net = get("MLPClassifier")(random_state=0)
    search = SearchFolder.read(out).searcher(net, 1, grouped=True)
    X, y = data.splits["train"]
    patients = data.groups["train"]
    for train, test in search.cv.split(X, y, groups=patients):
        assert not set(patients[train]) & set(patients[test])
    assert f"kmedclf report '{out}'/best" in done.stdout or f"report {out}/best" in done.stdout
