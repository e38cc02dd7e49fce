"""-p is checked before TensorFlow starts, in the text of the networks' modules."""

import subprocess
import sys
import time

import pytest
from cli_helpers import invoke, refused
from helpers import PUBLIC, get
from sklearn.utils._param_validation import InvalidParameterError

import kmedclf
from kmedclf.cli import app
from kmedclf.cli.parameters import (
    NETWORKS,
    _annotations,
    _refusal,
    check_names,
    check_values,
    parameters,
)
from kmedclf.search import SearchSpace
from kmedclf.search.spaces import check_value
from kmedclf.utils.annotated import parameter_constraints
from kmedclf.utils.text import parse_parameter

VALUES = (-1, 0, 1, 2, 0.5, -0.5, 1.0, True, None, "auto", "adam", "nonsense", (8, 8), [1, 2], {})
FREE = ("augment", "callbacks", "random_state", "memory", "cache", "checkpoint", "strategy",
        "tta")  # fmt: skip
"""Parameters that take text, or anything else of a user's."""
LINES = {
    "train": ("train", "cnn", "--data", "synthetic", "--out", "nowhere"),
    "search": ("search", "cnn", "--data", "synthetic", "--out", "nowhere"),
    "reproduce": ("reproduce", "blood", "--out", "nowhere"),
}


def test_every_command_with_parameters_is_tested():
    found = {
        command.callback.__name__
        for command in app.registered_commands
        if "param" in command.callback.__annotations__
    }
    assert found == set(LINES)


@pytest.mark.parametrize("cls", PUBLIC)
def test_the_text_of_a_class_has_all_its_parameters(cls):
    assert set(_annotations(cls)) == set(get(cls)().get_params())


def refuses(cls, name, value):
    try:
        check_value(get(cls), name, value)
    except InvalidParameterError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("cls", PUBLIC)
def test_values_are_refused_in_the_words_of_fit(cls):
    checked = 0
    for name in parameter_constraints(get(cls)):
        for value in VALUES:
            early = _refusal(cls, name, value)
            if early is not None:
                # sets of names are not printed in the same order
                assert sorted(str(early)) == sorted(refuses(cls, name, value)), (name, value)
                checked += 1
            elif name not in FREE:
                assert not refuses(cls, name, value), (name, value)
    assert checked > 300


def test_nothing_that_a_space_has_is_refused():
    for name in SearchSpace.names():
        space = SearchSpace.load(name)
        for stage in space.stages:
            for group in stage.alternatives:
                for parameter_name, candidates in group.items():
                    for value in candidates if isinstance(candidates, tuple) else ():
                        check_values({parameter_name: value}, [space.estimator.__name__])


def test_a_parameter_of_some_network_is_enough_for_all_of_them():
    networks = list(NETWORKS.values())
    assert parameters(["units=3", "depth=18"], networks) == {"units": 3, "depth": 18}
    with pytest.raises(ValueError, match="a parameter of some network"):
        check_names({"unitz": 3}, networks)
    assert set(networks) == set(kmedclf.NETWORKS)


@pytest.mark.parametrize("command", LINES)
@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("kernel_sise=3", "Got 'kernel_sise' instead; did you mean 'kernel_size'?"),
        ("kernel_size=0", "must be an int in the range [1, inf)"),
        ("batch_size=1.5", "must be an int in the range [1, inf)"),
        ("dropout=1", "must be a float in the range [0.0, 1.0)"),
        ("optimizer=adm", "Got 'adm' instead; did you mean 'adam'"),
        ("kernel_size", "-p must be NAME=VALUE"),
        ("=3", "-p must be NAME=VALUE"),
        ("kernel_size=[1", "must have a value that YAML can read"),
        ("kernel_size=" + "[" * 3000, "must have a value that YAML can read"),
        ("kernel_size=2024-13-45", "must have a value that YAML can read"),
    ],
)
def test_typos_are_one_sentence(command, given, words, monkeypatch):
    def never(*args):
        raise AssertionError("TensorFlow started")

    for module in ("train", "search", "studies"):
        monkeypatch.setattr(f"kmedclf.cli.{module}.start_tensorflow", never)
    monkeypatch.setattr("kmedclf.datasets.sources.read_data", never)
    sentence = refused(*LINES[command], "-p", given)
    assert words in sentence
    assert len(sentence) < 100_000


def test_case_is_left_to_the_network():
    assert _refusal("CNNClassifier", "optimizer", "Adam") is None


def test_values_are_those_of_yaml_and_json():
    for text, value in {
        "a=1": 1, "a=1e-3": 1e-3, "a=[1, 2]": [1, 2], "a=true": True, "a=null": None, "a=x": "x",
        "a={0: 2.0}": {0: 2.0}, "a=b=c": "b=c", " a =1": 1,
    }.items():  # fmt: skip
        assert parse_parameter(text) == ("a", value)


@pytest.mark.parametrize("command", LINES)
def test_a_typo_answers_at_once_and_without_tensorflow(command):
    code = (
        "import sys, time; start = time.process_time()\n"
        "from kmedclf.cli import app\n"
        "try: app(sys.argv[1:])\n"
        "except SystemExit as end: print(end.code)\n"
        "print(time.process_time() - start)\n"
        "print(sorted({'keras', 'matplotlib', 'sklearn', 'tensorflow'} & set(sys.modules)))"
    )
    arguments = [*LINES[command], "-p", "kernel_sise=3"]
    start = time.perf_counter()
    command_line = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command_line, capture_output=True, text=True, check=True)
    exit_code, seconds, heavy = done.stdout.splitlines()
    assert (exit_code, heavy) == ("2", "[]"), done.stderr
    assert float(seconds) < 1.0  # 0.3 s were measured, and 5 s when TensorFlow came first
    assert time.perf_counter() - start < 10  # tests share their machine


def test_unknown_spaces_are_told_before_tensorflow_starts(monkeypatch):
    monkeypatch.setattr("kmedclf.cli.search.start_tensorflow", None)
    sentence = refused(*LINES["search"], "--space", "cn")
    assert sentence.endswith("Got 'cn' instead; did you mean 'cnn'?")


def test_help_says_what_parameters_there_are_to_give():
    assert "'kmedclf params NAME'" in " ".join(invoke("train", "--help").output.split())
