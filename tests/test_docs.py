"""The pages of docs/: their Python runs, their commands exist, nothing public is left out."""

import importlib
import json
import pkgutil
import re
from dataclasses import fields
from types import ModuleType

import pytest
from helpers import ROOT
from test_packaging import blocks

import kmedclf

DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
NOTEBOOKS = sorted((DOCS / "start").glob("*.ipynb"))


def text_of(page):
    return page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "page", [p for p in PAGES if "```python" in text_of(p)], ids=lambda p: p.stem
)
def test_python_of_a_page_runs_as_written(page, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    code = blocks("python", text_of(page))
    assert len(code) == text_of(page).count("```python")
    namespace = {"__name__": page.stem}
    for block in code:
        exec(compile(block, page.name, "exec"), namespace)  # as a reader would, in order


def cells(notebook, kind="code"):
    found = json.loads(text_of(notebook))["cells"]
    return ["".join(one["source"]) for one in found if one["cell_type"] == kind]


def test_commands_of_the_pages_exist_and_have_these_options():
    from typer.main import get_command

    from kmedclf.cli import app

    commands = get_command(app).commands
    shown = [
        line
        for page in PAGES
        for block in blocks("bash", text_of(page))
        for line in block.splitlines()
    ]
    typed = [cell for notebook in NOTEBOOKS for cell in cells(notebook) if cell.startswith("!")]
    shown += [cell.replace("\\\n", "") for cell in typed]
    used = [re.findall(r"\bkmedclf ([a-z]+)(.*)", line) for line in shown]
    used = [one for found in used for one in found]
    assert len(used) > 15
    for name, rest in used:
        known = {o for one in commands[name].params for o in one.opts + one.secondary_opts}
        assert set(re.findall(r"(?<= )--?[a-z][\w-]*", rest)) <= known, (name, rest)
    table = re.findall(r"^\| `kmedclf (\w+)` \|", text_of(DOCS / "commands.md"), re.M)
    assert set(table) == set(commands)


def test_every_training_parameter_is_on_the_page_of_parameters_once():
    from kmedclf.parameters import TrainingParameters

    page = text_of(DOCS / "parameters.md")
    listed = " ".join(re.findall(r":::\{parameters\}\n(.*?):::", page, re.S)).split()
    assert sorted(listed) == sorted(one.name for one in fields(TrainingParameters))


def public():
    """Find the public names: those that a package, or a module that kmedclf lists, exports."""
    modules = [kmedclf.__name__]
    modules += [m.name for m in pkgutil.walk_packages(kmedclf.__path__, "kmedclf.") if m.ispkg]
    faces = (getattr(kmedclf, name) for name in kmedclf.__all__)
    modules += [one.__name__ for one in faces if isinstance(one, ModuleType)]
    for name in sorted(set(modules) - {"kmedclf.auto", "kmedclf.models", "kmedclf.search_spaces"}):
        module = importlib.import_module(name)
        for one in getattr(module, "__all__", ()):
            value = getattr(module, one)
            if not isinstance(value, ModuleType):
                yield f"{name}.{one}", value


def test_every_public_name_is_in_the_reference_and_has_words():
    listed, module = set(), ""
    for line in text_of(DOCS / "api.rst").splitlines():
        if found := re.match(r"\.\. (?:current)?module:: (\S+)", line):
            module = found[1]
        elif found := re.fullmatch(r"   ([\w.]+)", line):
            listed.add(f"{module}.{found[1]}")
    names = dict(public())
    assert len(names) > 70
    assert names.keys() <= listed, sorted(names.keys() - listed)
    for name, value in names.items():
        assert not callable(value) or (value.__doc__ or "").strip(), name


def test_the_figure_of_speed_shows_what_was_measured(monkeypatch):
    monkeypatch.syspath_prepend(DOCS)
    results = importlib.import_module("results")
    figure = text_of(DOCS / "_static" / "speed.svg")
    rows = results.rows(results.tables("Speed of training")[0])
    assert len(rows) == 9
    for network, rate, *_ in rows:
        assert network in figure
        assert rate in figure


def test_the_figure_of_libraries_shows_what_was_measured(monkeypatch):
    monkeypatch.syspath_prepend(DOCS)
    results = importlib.import_module("results")
    figure = text_of(DOCS / "_static" / "minutes.svg")
    rows = results.rows(results.tables("AutoClassifier and other libraries")[0])
    assert {row[2] for row in rows} >= {"kmedclf", "AutoKeras", "AUCMEDI", "fastai"}
    for name, minutes, library, *_ in rows:
        assert all(text in figure for text in (name, f"{minutes} min", library))


def test_notebooks_begin_with_an_installation_and_hold_their_results():
    assert len(NOTEBOOKS) == 3
    for notebook in NOTEBOOKS:
        assert "%pip install" in cells(notebook)[0]
        outputs = [one.get("outputs") for one in json.loads(text_of(notebook))["cells"]]
        assert any(outputs), notebook
        assert not re.search(r"/(?:tmp|work|home|root)/", str(outputs))


@pytest.mark.slow
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_run(notebook, tmp_path):
    nbclient = pytest.importorskip("nbclient", reason="the extra 'docs' is not installed")
    nbformat = importlib.import_module("nbformat")
    read = nbformat.read(notebook, as_version=4)
    nbclient.NotebookClient(read, resources={"metadata": {"path": tmp_path}}, timeout=600).execute()
