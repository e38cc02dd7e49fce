"""What imports cost, and what they leave behind."""

import os
import shutil
import statistics
import subprocess
import sys
import time

import pytest

import kmedclf

SCRIPT = shutil.which("kmedclf", path=os.path.dirname(sys.executable))
HEAVY = {"keras", "matplotlib", "sklearn", "tensorflow"}
PUBLIC = [name for name in kmedclf.__all__ if name.endswith("Classifier")]


@pytest.fixture
def home(tmp_path):
    """An environment with a home folder that holds nothing."""
    folder = tmp_path / "home"
    folder.mkdir()
    cleaned = {k: v for k, v in os.environ.items() if not k.startswith(("TF_", "XDG_", "KERAS"))}
    return folder, {**cleaned, "HOME": str(folder), "USERPROFILE": str(folder)}


def _python(code, env, cwd):
    command = [sys.executable, "-W", "error", "-c", code]
    return subprocess.run(command, env=env, cwd=cwd, capture_output=True, text=True, check=False)


def _after(code):
    heavy = f"print(sorted({HEAVY} & set(sys.modules)))"
    return f"import sys\n{code}\n{heavy}"


@pytest.mark.parametrize(
    "code",
    [
        "import kmedclf",
        "import kmedclf; dir(kmedclf)",
        "import kmedclf.cli",
        "import kmedclf.runs",
        "from kmedclf import datasets; datasets.names(); datasets.make_blood_cells(8)",
    ],
)
def test_import_is_light_and_silent_and_makes_nothing(code, home):
    folder, env = home
    done = _python(_after(code), env, folder)
    assert done.stderr == ""
    assert done.stdout == "[]\n"
    assert list(folder.iterdir()) == []


def test_evaluation_does_not_load_tensorflow_or_matplotlib(home):
    folder, env = home
    done = _python(_after("from kmedclf.evaluation import evaluate_predictions"), env, folder)
    assert done.stdout == "['sklearn']\n", done.stderr


def test_every_public_name_can_be_imported():
    for name in kmedclf.__all__:
        assert getattr(kmedclf, name) is not None
        assert name in dir(kmedclf)
    assert {getattr(kmedclf, name).__name__ for name in PUBLIC} == set(PUBLIC)


def test_public_networks_are_those_of_the_models_package():
    assert set(kmedclf.models.__all__) == set(kmedclf.NETWORKS) < set(PUBLIC)


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"kmedclf attribute CNN\b"):
        kmedclf.CNN  # noqa: B018


def test_help_answers_at_once(home):
    folder, env = home
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        done = subprocess.run([SCRIPT, "--help"], env=env, cwd=folder, capture_output=True)
        seconds.append(time.perf_counter() - start)
        assert done.returncode == 0
    assert b"train" in done.stdout
    assert list(folder.iterdir()) == []
    assert statistics.median(seconds) < 1.0  # 0.35 s were measured; tests share their machine


@pytest.mark.parametrize(
    "arguments", [["--help"], ["train", "--help"], ["datasets"], ["--version"]]
)
def test_light_commands_load_no_tensorflow(arguments, home):
    folder, env = home
    code = (
        "from kmedclf.cli import app\n"
        f"try: app({arguments})\n"
        "except SystemExit as end: print(end.code)"
    )
    done = _python(_after(code), env, folder)
    assert done.stdout.splitlines()[-2:] == ["0", "[]"], done.stderr
