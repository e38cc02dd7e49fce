"""Search spaces: every shipped file is good, and a bad file says where it is bad."""

import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import DEEP, data, make, small
from scipy import stats
from sklearn.base import clone
from sklearn.model_selection import ParameterGrid, ParameterSampler

from kmedclf import CNNClassifier, MLPClassifier
from kmedclf.search import Range, SearchSpace
from kmedclf.search.spaces import Stage, by_name, check_value
from kmedclf.utils.annotated import parameter_constraints

ROOT = Path(__file__).parents[2]
FILES = sorted(path.stem for path in (ROOT / "search_spaces").glob("*.yaml"))


def write(tmp_path, text):
    path = tmp_path / "space.yaml"
    path.write_text(text)
    return path


def test_every_file_is_found():
    assert SearchSpace.names() == FILES
    assert {"mlp", "cnn", "resnet"} <= set(FILES)


@pytest.mark.parametrize("name", FILES)
def test_names_and_values_are_the_estimators(name):
    space = SearchSpace.load(name)
    known = parameter_constraints(space.estimator)
    for stage in space.stages:
        assert set(stage.names) <= set(known)
        for group in stage.alternatives:
            for parameter, candidates in group.items():
                ends = isinstance(candidates, Range)
                for value in [candidates.low, candidates.high] if ends else candidates:
                    check_value(space.estimator, parameter, value)
    for params in ParameterSampler(space.distributions(), 20, random_state=0):
        for parameter, value in params.items():
            check_value(space.estimator, parameter, value)
        clone(space.estimator(**params))
    assert pickle.loads(pickle.dumps(space)) == space


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name, marks=[pytest.mark.slow] if by_name()[name.split("_")[0]].__name__ in DEEP else []
        )
        for name in FILES
    ],
)
def test_a_candidate_trains(name):
    space = SearchSpace.load(name)
    params = next(iter(ParameterSampler(space.distributions(), 1, random_state=1)))
    kind = space.estimator.__name__
    given = {key: value for key, value in params.items() if key not in small(kind)}
    model = make(kind, epochs=1, **given)
    X, y = data(size=max(28, model.smallest_image))
    assert np.isfinite(model.fit(X, y).history_["loss"]).all()


def test_the_stages_of_the_study():
    sizes = {
        name: [len(ParameterGrid(grid)) for grid in SearchSpace.load(name).stage_grids()]
        for name in ("mlp", "cnn", "resnet")
    }
    assert sizes == {"mlp": [4, 5, 24], "cnn": [4, 15, 10, 24], "resnet": [4, 12, 2, 12, 4, 24]}


def test_the_share_of_the_images_is_data(tmp_path):
    assert {SearchSpace.load(name).subset for name in ("mlp", "cnn", "resnet")} == {0.4}
    text = "estimator: mlp\n{}parameters: {{units: [1]}}\n"
    assert SearchSpace.load(write(tmp_path, text.format(""))).subset is None
    assert SearchSpace.load(write(tmp_path, text.format("subset: 1\n"))).subset == 1.0


def test_grids_are_merged_over_alternatives():
    space = SearchSpace.load("cnn")
    grid = space.param_grid()
    assert len(grid) == 2
    assert grid[0]["pool_size"] == [2, 3, 4, 5]
    assert "pool_size" not in grid[1]
    assert len(ParameterGrid(grid)) == 4 * 15 * 10 * 24
    assert isinstance(SearchSpace.load("mlp").param_grid(), dict)


def test_a_range_without_a_grid_says_so():
    with pytest.raises(ValueError, match="'units' must be a list of values, or whole numbers"):
        SearchSpace.load("mlp_flat").param_grid()
    assert Stage("s", ({"a": Range(2, 5, "int")},)).grids() == [{"a": [2, 3, 4, 5]}]


@pytest.mark.parametrize(
    ("line", "parameters", "message"),
    [
        (4, "units: [8]\n  neurons: [1]", r"'neurons' instead"),
        (4, "units: [8]\n  activaton: [relu]", r"did you mean 'activation'"),
        (3, "units: [0]", r"'units' parameter of MLPClassifier must be an int in .* Got 0"),
        (3, "units: [eight]", r"'units' parameter of MLPClassifier must be an int"),
        (3, "optimizer: [sgd, adm]", r"'optimizer' parameter of MLPClassifier must be one of"),
        (3, "units: []", r"'units' must have at least one value"),
        (3, "units: 8", r"'units' must be a list of values or a range"),
        (3, "units: [8, 16, 8]", r"'units' must list 8 once"),
        (4, "units: [8]\n  units: [16]", r"must name 'units' once"),
        (3, "units: {low: 9, high: 3}", r"'low' must be less than 'high', 3. Got 9"),
        (3, "units: {low: 9}", r"must have 'high'"),
        (3, "units: {low: 0, high: 3}", r"Got 0 instead"),
        (3, "units: {low: 1, high: 3, scale: cube}", r"'scale' must be 'linear' or 'log'"),
        (3, "units: {low: 1.5, high: 3, type: int}", r"'low' must be a whole number"),
        (3, "units: {low: 1, hihg: 3}", r"'hihg' instead; did you mean 'high'"),
        (3, "tol: {low: 0, high: 1.0, scale: log}", r"'low' must be positive on a log scale"),
        (3, "tol: [.nan]", r"'tol'"),
        (4, "units:\n    - !!python/name:os.system ''", r"must be YAML"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path, line, parameters, message):
    path = write(tmp_path, f"estimator: mlp\nparameters:\n  {parameters}\n")
    with pytest.raises(ValueError, match=message) as caught:
        SearchSpace.load(path)
    assert str(caught.value).startswith(f"{path}, line {line}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("line", "text", "message"),
    [
        (1, "", "must be a mapping"),
        (1, "- 1", "must be a mapping"),
        (2, "estimator: mlp\nparameter: {units: [1]}", "did you mean 'parameters'"),
        (1, "estimator: mlp", "either 'stages' or 'parameters'"),
        (2, "estimator: mlp\nsubset: 40\nparameters: {units: [1]}", r"share in \(0, 1\]. Got 40"),
        (2, "estimator: mlp\nsubset: all\nparameters: {units: [1]}", "Got 'all' instead"),
        (1, "estimator: cmn\nparameters: {units: [1]}", "did you mean 'cnn'"),
        (1, "parameters: {units: [1]}", "'estimator' must name one of"),
        (2, "estimator: mlp\nstages: []", "list of at least one stage"),
        (3, "estimator: mlp\nstages:\n- name: a", "must have a 'parameters'"),
        (2, "estimator: mlp\nparameters: [", "must be YAML"),
        (
            4,
            "estimator: mlp\nstages:\n- {name: a, parameters: {units: [1]}}\n"
            "- {name: b, parameters: {units: [2]}}",
            "searched in one stage only. Got it also in line 3",
        ),
    ],
)
def test_structure_is_checked(tmp_path, line, text, message):
    with pytest.raises(ValueError, match=message) as caught:
        SearchSpace.load(write(tmp_path, text))
    assert f"line {line}: " in str(caught.value)


def test_values_keep_their_types(tmp_path):
    path = write(
        tmp_path,
        "estimator: mlp\nparameters:\n"
        "  learning_rate: [1e-3, null]\n  image_shape: [[28, 28], null]\n"
        "  class_weight: [null, inverse, {0: 2.0}]\n  augment: [yes, shift, [shift, mirror]]\n",
    )
    grid = SearchSpace.load(path).param_grid()
    assert grid["learning_rate"] == [1e-3, None]
    assert grid["image_shape"] == [(28, 28), None]
    assert grid["class_weight"] == [None, "inverse", {0: 2.0}]
    assert grid["augment"] == [True, "shift", ("shift", "mirror")]


def test_an_unknown_name_says_what_there_is():
    with pytest.raises(FileNotFoundError, match=r"one of .*cnn, .* did you mean 'cnn'"):
        SearchSpace.load("cmn")


class Wide(MLPClassifier):
    """An estimator that no file can name."""

    depth: int = 1


def test_an_estimator_of_ones_own(tmp_path):
    path = write(tmp_path, "parameters: {depth: [1, 2]}")
    assert SearchSpace.load(path, Wide).param_grid() == {"depth": [1, 2]}
    assert by_name()["cnn"] is CNNClassifier


@pytest.mark.parametrize("kind", ["int", "float"])
@pytest.mark.parametrize("scale", ["linear", "log"])
def test_ranges_draw_all_of_themselves(kind, scale):
    one = Range(1, 8, kind, scale)
    drawn = one.rvs(4000, random_state=0)
    if kind == "int":
        assert set(drawn) == set(range(1, 9))
        # the ends get their full share
        edge = np.log(1.5 / 0.5) / np.log(8.5 / 0.5) if scale == "log" else 1 / 8
        assert np.mean(drawn == 1) == pytest.approx(edge, abs=0.03)
    else:
        exact = stats.loguniform(1, 8) if scale == "log" else stats.uniform(1, 7)
        assert stats.kstest(drawn, exact.cdf).pvalue > 0.01
    number = one.rvs(random_state=np.random.RandomState(0))
    assert type(number) is (int if kind == "int" else float)
    assert 1 <= number <= 8


def test_keras_tuner_gets_every_kind_of_value():
    import keras_tuner

    hp = keras_tuner.HyperParameters()
    stage = Stage(
        "s",
        (
            {
                "same": ("a", "b"),
                "mixed": (None, (1, 2), "x"),
                "flag": (True, False),
                "whole": Range(1, 8, "int", "log"),
                "real": Range(0.5, 1.0),
            },
        ),
    )
    first = stage.hyperparameters(hp)
    assert first == {"same": "a", "mixed": None, "flag": True, "whole": 1, "real": 0.5}
    hp.values["mixed"], hp.values["flag"] = 1, 1
    again = stage.hyperparameters(hp)
    assert (again["mixed"], again["flag"]) == ((1, 2), False)


def test_keras_tuner_chooses_among_alternatives():
    import keras_tuner

    space = SearchSpace.load("cnn")
    hp = keras_tuner.HyperParameters()
    assert space.hyperparameters(hp)["pool_size"] == 2
    hp.values["alternative of pooling"] = 1
    hp.ensure_active_values()
    params = space.hyperparameters(hp)
    assert params["pooling"] in ("global_max", "global_average")
    assert "pool_size" not in params


def test_names_need_no_tensorflow():
    code = (
        "import sys; from kmedclf.search import SearchSpace; print(SearchSpace.names());"
        "assert 'tensorflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
def test_a_wheel_brings_the_spaces(tmp_path):
    source = tmp_path / "source"
    skip = shutil.ignore_patterns(".*", "build", "*.egg-info", "tests", "__pycache__")
    shutil.copytree(ROOT, source, ignore=skip)
    target = tmp_path / "installed"
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", target, source], check=True)
    code = (
        f"import sys; sys.path.insert(0, {str(target)!r}); import kmedclf;"
        f"assert kmedclf.__file__.startswith({str(target)!r}), kmedclf.__file__;"
        "from kmedclf.search import SearchSpace;"
        "print(*SearchSpace.names(), len(SearchSpace.load('cnn').stages))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=tmp_path
    )
    assert done.stdout.split() == [*FILES, "4"]
