"""What -p fixes is fixed: no engine searches it, whatever the space has."""

import json

import numpy as np
import pytest
from cli_helpers import invoke, read, refused
from helpers import get, make
from sklearn.model_selection import ParameterGrid, ParameterSampler

from kmedclf import datasets
from kmedclf.cli.search import Engine
from kmedclf.runs.searches import SearchFolder
from kmedclf.search import Range, SearchSpace, StagedSearchCV
from kmedclf.search.spaces import stages_for
from kmedclf.search.tuner import Oracle

ENGINES = [str(one) for one in Engine]
SPACES = [(name, SearchSpace.load(name)) for name in SearchSpace.names()]
FIXED = [
    pytest.param(name, parameter, id=f"{name}-{parameter}")
    for name, space in SPACES
    for stage in space.stages
    for parameter in stage.names
]


def settings(space, engine, parameters):
    return {
        "network": space.estimator.__name__, "space": None, "engine": engine, "epochs": 9,
        "final_epochs": 9, "subset": None, "first": False, "folds": 2, "trials": 3, "seed": 0,
        "parameters": parameters,
    }  # fmt: skip


def values(space, name):
    groups = [one[name] for stage in space.stages for one in stage.alternatives if name in one]
    listed = [one for group in groups for one in (group if isinstance(group, tuple) else ())]
    ends = [end for one in groups if isinstance(one, Range) for end in (one.low, one.high)]
    return list(dict.fromkeys(listed + ends))


def drawn(stages, engine, tmp_path):
    """Give candidates as an engine draws them."""
    if engine == "halving" or engine == "staged":
        return [one for stage in stages for one in ParameterGrid(stage.grids())]
    if engine == "random sampler":
        return [
            one for stage in stages
            for one in ParameterSampler(stage.distributions(), 1, random_state=0)
        ]  # fmt: skip
    schedule = {"epochs": 3} if engine == "hyperband" else {"max_trials": 3}
    oracle = Oracle(engine, stages, 1, str(tmp_path), **schedule)
    return [trial.params for trial in oracle.ask()]


@pytest.mark.parametrize(("name", "parameter"), FIXED)
def test_no_engine_searches_what_is_fixed(name, parameter, tmp_path):
    space = SearchSpace.load(name)
    flat = name.endswith("_flat")
    engines = [one for one in ENGINES if (one not in ("staged", "halving")) == flat]
    for value in values(space, parameter)[:2]:
        fixed = {parameter: value}
        estimator = space.estimator(**fixed, random_state=0)
        for engine in engines:
            folder = SearchFolder(tmp_path, settings(space, engine, fixed))
            search = folder.searcher(estimator, 1)
            assert search.estimator.get_params()[parameter] == value
            given = search.stages if hasattr(search, "stages") else search.space
            stages = stages_for(search.estimator, given, "search")
            names = {one for stage in stages for one in stage.names}
            assert parameter not in names
            assert names <= {one for stage in space.stages for one in stage.names}
            if value == values(space, parameter)[0] and engine != "hyperband":
                for candidate in drawn(stages, engine, tmp_path / engine):
                    assert parameter not in candidate


@pytest.mark.parametrize("name", [name for name, _ in SPACES])
def test_all_that_is_left_of_a_space_is_searched(name):
    space = SearchSpace.load(name)
    for stage in space.stages:
        for parameter in stage.names:
            left = space.fixed({parameter: values(space, parameter)[0]})
            others = {one for stage in space.stages for one in stage.names} - {parameter}
            alternatives = len(stage.alternatives) > 1  # one may be out of question
            assert {one for stage in left.stages for one in stage.names} == others or alternatives
            assert left.subset == space.subset
    assert space.fixed({"verbose": 1}) == space


def test_of_alternatives_those_are_left_that_can_be():
    space = SearchSpace.load("cnn")
    for pooling, left in (
        ("max", [{"pool_size": (2, 3, 4, 5)}]),
        ("global_max", []),
        ("unheard of", [{"pool_size": (2, 3, 4, 5)}]),
    ):
        stages = {stage.name: stage for stage in space.fixed({"pooling": pooling}).stages}
        assert [dict(one) for one in stages["pooling"].alternatives] == left if left else True
        assert ("pooling" in stages) == bool(left)
    both = {s.name: s for s in space.fixed({"pool_size": 3}).stages}["pooling"].alternatives
    assert [set(one) for one in both] == [{"pooling"}, {"pooling"}]


# -- the command -----------------------------------------------------------------------------------

SPACE = "estimator: mlp\nparameters:\n  units: [2, 4]\n  augment: [true, false]\n"


@pytest.fixture
def files(tmp_path):
    X, y = datasets.make_blood_cells(60, image_size=8, random_state=0)
    np.savez(tmp_path / "cells.npz", train_images=X, train_labels=y % 2)
    (tmp_path / "tiny.yaml").write_text(SPACE)
    return tmp_path


def line(files, *more):
    small = ["--epochs", 1, "--final-epochs", 1, "--folds", 2, "--space", files / "tiny.yaml"]
    return ["search", "mlp", "--data", files / "cells.npz", "--out", files / "out", *small, *more]


@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_keeps_what_is_fixed(engine, files):
    fixed = ["-p", "augment=false", "-p", "n_iter_no_change=3", "-p", "min_epochs=2"]
    done = invoke(*line(files, "--engine", engine, *fixed))
    assert done.exit_code == 0, done.output
    assert "Fixed by -p and not searched, though the space has it: augment=False." in done.output
    results = read(files / "out" / "results.json")
    assert {units for units in results["param_units"]} <= {2, 4}
    assert "param_augment" not in results
    best = read(files / "out" / "best" / "parameters.json")["parameters"]
    assert best["augment"] is False
    assert (best["n_iter_no_change"], best["min_epochs"], best["epochs"]) == (3, 2, 1)


def test_epochs_that_are_searched_are_those_of_the_winner(files):
    (files / "tiny.yaml").write_text("estimator: mlp\nparameters: {epochs: [2, 3]}\n")
    done = invoke(*line(files, "-p", "augment=false", "-p", "units=2"))
    assert done.exit_code == 0, done.output
    best = read(files / "out" / "best" / "parameters.json")["parameters"]["epochs"]
    assert f"Training the winner on all training images: epochs={best}\n" in done.output
    assert best in (2, 3)


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["-p", "epochs=3"], "-p epochs must be left out: --epochs are those of the candidates"),
        (["-p", "units=2", "-p", "units=4"], "-p units must be given once. Got it also as 2."),
        (
            ["-p", "early_stopping=true", "--engine", "halving"],
            "-p early_stopping must be left out for --engine halving, which gives the epochs",
        ),
        (["--trials", 3], "--trials must go with --engine random or bayesian, not staged."),
        (["--size", 28, "-p", "image_size=32"], "--size and -p image_size set the same;"),
        (["--seed", 0, "-p", "random_state=3"], "--seed and -p random_state set the same;"),
    ],
)
def test_what_is_given_twice_is_refused(more, sentence, files):
    assert sentence in refused(*line(files), *more)
    assert not (files / "out").exists()


def test_a_space_with_nothing_left_is_refused(files):
    done = invoke(*line(files, "-p", "augment=false", "-p", "units=2"))
    assert done.exit_code == 2
    assert "must search more than what -p fixes, augment, units." in done.stderr
    assert not (files / "out").exists()


def test_options_beside_resume_are_refused(files):
    (files / "out").mkdir()
    (files / "out" / "search.json").write_text("{}")
    for more in (["--epochs", 3], ["-p", "units=3"], ["--engine", "random"]):
        sentence = refused("search", "--resume", files / "out", *more)
        assert f"leave out {more[0]}, or start another search with --out." in sentence


def test_train_refuses_what_is_given_twice(files):
    train = ("train", "mlp", "--data", files / "cells.npz", "--out", files / "run")
    for option, parameter in (("--epochs", "epochs"), ("--seed", "random_state")):
        sentence = refused(*train, option, 3, "-p", f"{parameter}=4")
        assert sentence == f"{option} and -p {parameter} set the same; give one of them."


def test_in_python_a_search_sets_what_its_space_has_unless_it_is_taken_out(files):
    X, y = datasets.make_blood_cells(40, image_size=8, random_state=0)
    net = make("MLPClassifier", augment=False, units=2)
    space = SearchSpace(get("MLPClassifier"), SearchSpace.load("mlp").stages[:1])
    whole = StagedSearchCV(net, space, cv=2, refit=False).fit(X, y % 2)
    assert {one["augment"] for one in whole.cv_results_["params"]} == {True, False}
    part = StagedSearchCV(net, space.fixed({"augment": False}), cv=2, refit=False).fit(X, y % 2)
    assert {tuple(one) for one in part.cv_results_["params"]} == {("class_weight",)}
    assert json.dumps(part.best_params_)
