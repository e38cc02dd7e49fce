"""The shape of the code, measured: circles, files that a fit crosses, modules and names used once.

Limits are what was reached; they may go down, not up. `lint-imports` holds the layers.
"""

import ast
import itertools
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import grimp
import pytest
from cli_helpers import invoke, write_npz
from helpers import ROOT, data, make

PACKAGE = ROOT / "kmedclf"
PAGES = {  # what users call on a result writes a page, which is imported then
    ("kmedclf.datasets.audit", "kmedclf.pages.audit"),
    ("kmedclf.evaluation", "kmedclf.pages.report"),
    ("kmedclf.evaluation.compare", "kmedclf.pages.report"),
}


@pytest.fixture(scope="module")
def graph():
    """Imports by module, those in functions included, those for types alone left out."""
    found = grimp.build_graph("kmedclf", exclude_type_checking_imports=True, cache_dir=None)
    return {
        module: {
            other
            for other in found.find_modules_directly_imported_by(module)
            if (module, other) not in PAGES
        }
        for module in found.modules
    }


def circles(graph):
    """Find the modules that reach themselves."""
    reach = {module: set(others) for module, others in graph.items()}
    for middle in graph:
        for module in graph:
            if middle in reach[module]:
                reach[module] |= reach[middle]
    return sorted(module for module in graph if module in reach[module])


def test_no_module_reaches_itself(graph):
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == ["a", "b", "c"]
    assert circles(graph) == []


def listed():
    """Find the modules whose names a package's stub lists: they are its users' to import."""
    stubs = [*PACKAGE.rglob("__init__.pyi")]
    found = {
        ".".join(["kmedclf", *stub.parent.relative_to(PACKAGE).parts, node.module])
        for stub in stubs
        for node in ast.walk(ast.parse(stub.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module
    }
    assert len(stubs) >= 4
    return found


def test_few_modules_have_one_importer(graph):
    """Each is a concept with tests of its own; what a package's face lists is no such module."""
    importers = defaultdict(set)
    for module, others in graph.items():
        for other in others:
            importers[other].add(module)
    faces = {module for module in graph if is_face(module)}
    public = listed()
    once = [
        module
        for module, by in importers.items()
        if len(by) == 1 and not by & faces and module not in faces | public
    ]
    assert len(once) <= LIMITS["modules with one importer"], sorted(once)


def names_used_once():
    """List the top-level names that exactly one other module uses, and their own module does not.

    A package's face only passes names on.
    """
    users = defaultdict(set)
    at_home = defaultdict(set)
    defined = {}
    paths = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in PACKAGE.rglob("*.py")
    }
    for module, path in paths.items():
        tree = ast.parse(path.read_text())
        defined[module] = {
            name.id if isinstance(name, ast.Name) else name
            for one in tree.body
            for name in _names(one)
        }
        aliases = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("kmedclf"):
                for name in node.names:
                    whole = f"{node.module}.{name.name}"
                    if whole in paths:
                        aliases[name.asname or name.name] = whole
                    else:
                        users[node.module, name.name].add(module)
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                if node.value.id in aliases:
                    users[aliases[node.value.id], node.attr].add(module)
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                at_home[module].add(node.id)
    return sorted(
        f"{module}.{name}"
        for (module, name), by in users.items()
        if len({one for one in by - {module} if not is_face(one)}) == 1
        and name in defined.get(module, set()) - at_home[module]
        and not is_face(module)
    )


def _names(node):
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Assign):
        return [one for one in node.targets if isinstance(one, ast.Name)]
    if isinstance(node, ast.AnnAssign):
        return [node.target]
    return []


def is_face(module):
    """Say whether a module is a package, whose names are its users'."""
    return (PACKAGE / Path(*module.split(".")[1:])).is_dir()


def test_few_names_are_used_in_one_other_module():
    found = names_used_once()
    assert len(found) <= LIMITS["names used in one other module"], found


def crossed(work):
    """Name the files of the package whose functions run; imports are done in a first run."""
    work()
    seen = set()

    def watch(frame, event, arg):
        if "/kmedclf/" in frame.f_code.co_filename:
            seen.add(frame.f_code.co_filename.rpartition("/kmedclf/")[2])

    before = sys.getprofile()
    sys.setprofile(watch)
    try:
        work()
    finally:
        sys.setprofile(before)
    return sorted(seen)


def test_a_warm_fit_crosses_few_files():
    X, y = data()
    files = crossed(lambda: make("CNNClassifier").fit(X, y))
    assert len(files) <= LIMITS["files crossed by a warm fit"], files


def test_train_crosses_few_files(tmp_path):
    npz, numbers = write_npz(tmp_path), itertools.count()

    def train():
        out = tmp_path / f"run {next(numbers)}"
        done = invoke("train", "cnn", "--data", npz, "--epochs", 1, "--out", out)
        assert done.exit_code == 0, done.output

    files = crossed(train)
    assert len(files) <= LIMITS["files crossed by kmedclf train"], files


def test_layers_hold():
    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_lines():
    lines = sum(len(path.read_text().splitlines()) for path in PACKAGE.rglob("*.py"))
    assert lines <= LIMITS["lines of kmedclf"]


LIMITS = {  # beside each, where it shall go
    "modules with one importer": 8,  # 5; seven of them have a file of tests of their own
    "names used in one other module": 71,  # 40; ten are used by a package's face as well
    "files crossed by a warm fit": 24,  # 14
    "files crossed by kmedclf train": 46,  # 38; model card, its sentences, names, a file of images
    "lines of kmedclf": 40_700,  # 18,500 and what AutoClassifier, pages and export add
}
