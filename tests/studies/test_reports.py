"""The page that goes through the reports row by row, and the numbers of their protocols."""

import ast
import inspect
import re
from functools import cache
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from kmedclf import (
    DeepResNetClassifier,
    EfficientNetClassifier,
    MLPClassifier,
    recipes,
    runs,
    studies,
)
from kmedclf.evaluation import evaluate_predictions
from kmedclf.search import SearchSpace
from kmedclf.studies import blood, bone, brain, chest, dataset, lung

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "studies.md").read_text(encoding="utf-8")
SECTIONS = {
    re.search(r"`kmedclf reproduce (\w+)`", one)[1]: one
    for one in re.split(r"^## ", PAGE, flags=re.M)[1:]
}


def rows(name):
    """Return the cells of the rows of a study's table, without its head."""
    lines = [line for line in SECTIONS[name].splitlines() if line.startswith("| ")][1:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


@cache
def functions(path):
    body = ast.parse((ROOT / path).read_text(encoding="utf-8")).body
    return {one.name for one in body if isinstance(one, ast.FunctionDef)}


def test_every_study_has_its_table():
    assert tuple(SECTIONS) == studies.NAMES
    for name in studies.NAMES:
        assert len(rows(name)) > 15


@pytest.mark.parametrize("name", studies.NAMES)
def test_what_a_row_names_exists(name):
    """Items, tests, scripts, titles of tables and captions of figures."""
    study, text = studies.get(name), SECTIONS[name]
    items = re.findall(r"`--only (\w+)`", text)
    assert {item.__name__ for item in study.only(items).items} == {
        item.__name__ for item in study.items
    }
    for path, test in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text):
        assert test in functions(path), (path, test)
    modules = import_module(f"kmedclf.studies.{name}"), dataset
    source = "".join(map(inspect.getsource, modules))
    for words in re.findall('"([^"]+)"', re.sub("`[^`]*`", "", text)):
        assert words in source, words
    for pattern in re.findall(r"`(examples/[^`]*)`", text):
        assert list(ROOT.glob(pattern)), pattern


@pytest.mark.parametrize("name", studies.NAMES)
def test_every_row_says_whether_it_is_there(name):
    for row in rows(name):
        assert len(row) == 3, row
        assert re.fullmatch(r"yes|(?:part|no): [a-z].+", row[2]), row


def test_numbers_of_the_protocols():
    used = recipes.parameters

    def has(est, **wanted):
        assert {name: used(est)[name] for name in wanted} == wanted

    has(MLPClassifier(**blood.SEARCHED), epochs=50, n_iter_no_change=10, restore_best=True)
    assert SearchSpace.load("mlp").subset == SearchSpace.load("cnn").subset == 0.4
    for one in lung.EXPERIMENTS:
        has(lung.network(one.parameters, 0), learning_rate=0.01, epochs=20, batch_size=32)
    assert lung.STUDY.shares == {"test": 0.1, "val": 0.2}
    for name, est in chest.networks(0).items():
        has(est, optimizer="adam", learning_rate=0.001, loss="crossentropy",
            epochs=10 if name == "vit" else 30)  # fmt: skip
    assert chest.networks(0)["resnet"].depth == 18
    assert chest.STUDY.shares == {"test": 0.15, "val": 0.15}
    base = {"optimizer": "sgd", "learning_rate": 0.001, "momentum": 0.9, "batch_size": 32}
    assert brain.BASE.items() >= {**base, "epochs": 20}.items()
    assert brain.SHORT == {"epochs": 10}
    assert {**brain.BASE, **brain.EFFICIENTNET}.items() >= {
        **base, "epochs": 20, "batch_size": 16, "class_weight": "balanced",
        "augment": ["mirror", "rotate"],
    }.items()  # fmt: skip
    assert brain.STOPS[1].changes == {"lr_schedule": "step", "lr_step": 5, "lr_factor": 0.1}
    assert bone.SHARED.items() >= {"batch_size": 32, "epochs": 10}.items()
    assert bone.STUDY.validation == 0.2
    assert bone.TRAININGS == {"alexnet": 5, "resnet": 2}


def test_pretrained_networks_train_as_the_reports_did():
    """The recipe "transfer", which suits published weights, would change schedule and loss."""
    plain = {
        "lr_schedule": None, "label_smoothing": 0.0, "head_epochs": 0, "backbone_rate": 1.0,
        "frozen_batch_norm": False, "precision": "float32",
    }  # fmt: skip
    makers = [one.make() for one in bone.ARCHITECTURES.values()]
    brains = [
        kind(**brain.BASE, weights="imagenet")
        for kind in (DeepResNetClassifier, EfficientNetClassifier)
    ]
    several = [*makers, *brains, chest.networks(0)["vit"]]
    assert sum(est.weights == "imagenet" for est in several) == 6
    for est in several:
        used = recipes.parameters(est)
        assert {name: used[name] for name in plain} == plain


def test_training_accuracy_is_told_from_that_of_the_test():
    """A network that knows its training images by heart is named; one that guesses is not."""
    rng = np.random.default_rng(0)
    y, proba = rng.integers(0, 4, 200), rng.dirichlet(np.ones(4), 200)
    report = evaluate_predictions(y, proba, n_bootstrap=50)
    run = runs.Run(MLPClassifier(), ["a", "b", "c", "d"], {"test": report}, 1.0, 1)
    made = dict.fromkeys(range(1, 10), run)
    own = {n: 1.0 if n in (4, 5) else report.accuracy for n in made}
    text = " ".join(lung._fits(made, own))
    assert "above the 95 % interval of the test accuracy in experiments 4, 5." in text
    assert text.endswith("by more than .1 in experiments 4, 5.")
    none = " ".join(lung._fits(made, dict.fromkeys(made, 0.0)))
    assert "test accuracy in no experiment." in none
