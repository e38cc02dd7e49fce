"""What the README promises, and what is in the wheel."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^( *)```(\w+)\n(.*?)^ *```$", re.M | re.S)


def blocks(language, text=README):
    """Code blocks of a language, without the indentation of the list they may stand in."""
    found = [(indent, code) for indent, kind, code in BLOCK.findall(text) if kind == language]
    return [re.sub(rf"(?m)^{indent}", "", code) for indent, code in found]


def test_python_of_the_readme_runs_as_written_and_is_worth_looking_at(
    monkeypatch, tmp_path, capsys
):
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "readme"}
    code = blocks("python")
    assert len(code) == README.count("```python") == 1
    assert len([line for line in code[0].splitlines() if line]) <= 15
    exec(compile(code[0], "README.md", "exec"), namespace)
    assert "accuracy" in capsys.readouterr().out
    assert namespace["report"].accuracy == pytest.approx(0.9, abs=0.03)
    assert (tmp_path / "report.html").is_file()


def test_own_network_is_as_short_as_promised():
    page = (ROOT / "docs" / "own_network.md").read_text(encoding="utf-8")
    (network,) = (block for block in blocks("python", page) if "ImageClassifier)" in block)
    body = network.split("class ")[1].split("\n\n\n")[0]
    assert len([line for line in body.splitlines() if line]) <= 12


def test_commands_of_the_readme_exist():
    from typer.main import get_command

    from kmedclf.cli import app

    commands = re.findall(r"\bkmedclf ([a-z]+)", "".join(blocks("bash")))
    assert {"demo", "train", "audit", "report"} <= set(commands)
    assert set(commands) <= set(get_command(app).commands)


def test_readme_and_ci_and_contributing_give_the_same_commands():
    contributing = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    test_command = blocks("bash")[0].splitlines()[1]
    assert test_command == "pip install -e '.[test]' && pytest"
    assert test_command.split(" && ") == blocks("bash", contributing)[0].splitlines()[:2]
    for command in ("pip install -e '.[test]'", "pytest", "ruff check .", "ruff format --check ."):
        assert command in ci


def test_files_named_in_prose_exist():
    for name in ("CONTRIBUTING.md", "README.md", "benchmarks/README.md", "benchmarks/RESULTS.md"):
        text = (ROOT / name).read_text(encoding="utf-8")
        for path in re.findall(r"`((?:\.ci|benchmarks|kmedclf|search_spaces|tests)/[^` ]*)`", text):
            assert (ROOT / path).exists(), f"{name} names {path}"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel built from a copy of the tree, as an unpacked listing and its metadata."""
    folder = tmp_path_factory.mktemp("wheel")
    leave_out = shutil.ignore_patterns(".*", "*.egg-info", "build", "dist", "__pycache__")
    mine = shutil.copytree(ROOT, folder / "source", ignore=leave_out)
    source = Path(mine)
    shutil.rmtree(source / "runs", ignore_errors=True)
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "-w", folder, source], check=True, capture_output=True)
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as archive:
        names = set(archive.namelist())
        metadata = next(name for name in names if name.endswith("METADATA"))
        return names, archive.read(metadata).decode()


def test_wheel_holds_all_of_the_package_and_no_tests(wheel):
    names, _ = wheel
    tracked = [ROOT / "kmedclf" / "py.typed", *(ROOT / "kmedclf").rglob("*.py")]
    tracked += [p for s in (".html", ".css", ".js") for p in (ROOT / "kmedclf").rglob(f"*{s}")]
    wanted = {path.relative_to(ROOT).as_posix() for path in tracked}
    spaces = (ROOT / "search_spaces").glob("*.yaml")
    wanted |= {f"kmedclf/search_spaces/{path.name}" for path in spaces}
    assert wanted <= names
    strangers = {name.split("/")[0] for name in names} - {"kmedclf"}
    assert all(name.endswith(".dist-info") for name in strangers)


def test_wheel_requires_what_can_be_installed_together(wheel):
    _, metadata = wheel
    assert "Requires-Python: <3.14,>=3.11" in metadata
    assert not re.search(r"^Requires-Dist: (torch|medmnist)\S*$", metadata, re.M)
    assert "Provides-Extra: test" in metadata


def test_types_are_checked_alike_whatever_extras_are_installed(wheel):
    """A library that only an extra brings is one that mypy is told to do without."""
    _, metadata = wheel
    required = re.findall(r"^Requires-Dist: ([\w.-]+)(?!.*extra ==)", metadata, re.M)
    required += re.findall(r"^Requires-Dist: ([\w.-]+).*extra == .test.", metadata, re.M)
    there = {name.lower().replace("_", "-") for name in required}
    configuration = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    overrides = configuration["tool"]["mypy"]["overrides"]
    # by matplotlib, jinja2 and tensorflow, and by fastapi
    brought = {"cycler", "markupsafe", "requests", "anyio", "pydantic", "starlette"}
    told = {name.split(".")[0] for each in overrides for name in each["module"]}
    distributions = packages_distributions()
    unknown = {
        module
        for path in (ROOT / "kmedclf").rglob("*.py")
        for module in imported(ast.parse(path.read_text(encoding="utf-8")))
        if module not in sys.stdlib_module_names | told | brought | {"kmedclf"}
        and there.isdisjoint(name.lower() for name in distributions.get(module, []))
    }
    assert not unknown


def imported(tree):
    """Name the packages that a module imports, inside functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.split(".")[0]


def test_search_spaces_are_found_in_an_editable_install():
    code = "import kmedclf.search_spaces as s; print(list(s.__path__)[0])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=os.sep)
    assert done.returncode == 0, done.stderr
    assert list(Path(done.stdout.strip()).glob("*.yaml"))


def test_the_package_is_run_as_a_module_too():
    command = [sys.executable, "-m", "kmedclf", "train", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=os.sep)
    assert done.returncode == 0, done.stderr
    assert "Usage: python -m kmedclf train" in done.stdout


def test_every_benchmark_is_explained():
    text = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    helpers = {"train_keras", "train_torch", "search_skorch", "features_torch"}
    helpers |= {"images_keras", "images_torch", "auto_peers"}
    names = {path.stem for path in (ROOT / "benchmarks").glob("[!_]*.py")} - helpers
    assert names == set(re.findall(r"`(?:python -m benchmarks)?\.(\w+)[ `]", text))


def test_markers_are_those_contributors_are_told_of():
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    markers = pyproject["tool"]["pytest"]["ini_options"]["markers"]
    contributing = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for marker in markers:
        assert f"`{marker.split(':')[0]}`" in contributing


def test_type_checkers_know_the_parameters(tmp_path):
    user = tmp_path / "user.py"
    user.write_text("from kmedclf import CNNClassifier\n\nCNNClassifier(filters=3)\n")
    command = [sys.executable, "-m", "mypy", "--config-file", ROOT / "pyproject.toml", user]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert "user.py" not in done.stdout, done.stdout
