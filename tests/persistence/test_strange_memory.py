"""Remembered fits are data: nothing that somebody plants in the folder runs or is trusted."""

import ast
import io
import os
import pickle
import re
import shutil
import zipfile
from pathlib import Path

import joblib
import numpy as np
import pytest
from helpers import data, make, same

import kmedclf

X, y = data(24)


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def net(folder, **params):
    base = {"epochs": 1, "units": 4, "jit_compile": False, "memory": folder}
    return make("MLPClassifier", **{**base, **params})


def entry(folder):
    (found,) = Path(folder).rglob("*.kmedclf-fit")
    return found


def rewrite(path, change=None, arrays=None, method=zipfile.ZIP_STORED, comment=None):
    """Write an entry again, its JSON or its arrays changed."""
    import json

    with zipfile.ZipFile(path) as file:
        entries = {name: file.read(name) for name in file.namelist()}
        comment = file.comment if comment is None else comment
    if change is not None:
        content = json.loads(entries["fit.json"])
        change(content)
        entries["fit.json"] = json.dumps(content).encode()
    for name in [one for one in entries if one.endswith(".npy") and arrays is not None]:
        buffer = io.BytesIO()
        np.save(buffer, arrays(np.load(io.BytesIO(entries[name]))))
        entries[name] = buffer.getvalue()
    with zipfile.ZipFile(path, "w", method) as file:
        file.comment = comment
        for name, content in entries.items():
            file.writestr(name, content)


def _key(content):
    content["key"] = "0" * 32 + " 1"


def _curves(content):
    del content["history"]["accuracy"]


def _best(content):
    content["best_epoch"] = 7


def _text(content):
    content["history"]["loss"] = ["x"]


def _counts(content):
    content["n_weights"] -= 1


def _params(content):
    content["n_params"][0] += 1


def _pickled(path):
    path.write_bytes(pickle.dumps(Bomb(path.with_suffix(".ran"))))


def _planted_array(path):
    buffer = io.BytesIO()
    np.save(buffer, np.array([Bomb(path.with_suffix(".ran"))], object), allow_pickle=True)
    with zipfile.ZipFile(path) as file:
        entries = {name: file.read(name) for name in file.namelist()}
    with zipfile.ZipFile(path, "w") as file:
        for name, content in entries.items():
            file.writestr(name, buffer.getvalue() if name == "0.npy" else content)


def _pipe(path):
    path.unlink()
    os.mkfifo(path)


WRONG = {
    "another key": lambda path: rewrite(path, _key),
    "no curve": lambda path: rewrite(path, _curves),
    "best epoch": lambda path: rewrite(path, _best),
    "text": lambda path: rewrite(path, _text),
    "fewer weights": lambda path: rewrite(path, _counts),
    "more parameters": lambda path: rewrite(path, _params),
    "NaN": lambda path: rewrite(path, arrays=lambda one: one * np.float32(np.nan)),
    "infinite": lambda path: rewrite(path, arrays=lambda one: one + np.float32(np.inf)),
    "shapes": lambda path: rewrite(path, arrays=lambda one: one[..., None]),
    "dtype": lambda path: rewrite(path, arrays=lambda one: one.astype("f8")),
    "deflated": lambda path: rewrite(path, method=zipfile.ZIP_DEFLATED),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-60]),
    "empty": lambda path: path.write_bytes(b""),
    "a pickle": _pickled,
    "a pickled array": _planted_array,
    "a pipe": _pipe,
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_entry_is_a_miss_with_a_warning(wrong, tmp_path):
    expected = net(tmp_path).fit(X, y)
    WRONG[wrong](entry(tmp_path))
    with pytest.warns(RuntimeWarning, match="cannot be used; it is trained again") as caught:
        again = net(tmp_path).fit(X, y)
    assert len([one for one in caught if one.category is RuntimeWarning]) == 1
    assert same(again, expected)
    assert again.history_ == expected.history_
    assert not list(tmp_path.rglob("*.ran"))
    assert same(net(tmp_path).fit(X, y), expected)  # whole again, without a warning


def test_an_optimizer_of_another_network_is_a_miss(tmp_path):
    params = {"warm_start": True, "optimizer": "adam"}
    net(tmp_path, **params).fit(X, y)
    with zipfile.ZipFile(entry(tmp_path)) as file:
        names = [one for one in file.namelist() if one.endswith(".npy")]

    numbers = iter(range(1, 1 + len(names)))

    def shorter(array):
        return array[:1] if next(numbers) == len(names) else array

    rewrite(entry(tmp_path), arrays=shorter)
    with pytest.warns(RuntimeWarning, match="not those of this network"):
        longer = net(tmp_path, epochs=2, **params).fit(X, y)
    assert same(longer, net(None, epochs=2, **params).fit(X, y))


def test_what_joblib_left_is_not_read(tmp_path):
    """Entries of earlier versions, in which somebody may have planted code, stay where they are."""
    from kmedclf.persistence import memory

    planted = tmp_path / "joblib" / "kmedclf" / "memory" / "_train" / ("0" * 32) / "output.pkl"
    planted.parent.mkdir(parents=True)
    joblib.dump(Bomb(tmp_path / "ran"), planted)
    before = planted.read_bytes()
    net(tmp_path).fit(X, y)
    net(joblib.Memory(tmp_path, verbose=0)).fit(X, y)
    assert not (tmp_path / "ran").exists()
    assert planted.read_bytes() == before
    assert memory.Store(tmp_path)._folder.is_own()


def test_of_a_memory_of_joblib_the_location_is_used(tmp_path):
    one = net(joblib.Memory(tmp_path, verbose=0)).fit(X, y)
    assert entry(tmp_path)
    assert same(net(tmp_path).fit(X, y), one)
    assert same(net(joblib.Memory(None)).fit(X, y), one)


def test_a_fit_that_cannot_be_remembered_is_not_lost(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError("No space left on device")

    from kmedclf.utils import archives

    monkeypatch.setattr(archives, "write", full)
    with pytest.warns(RuntimeWarning, match="could not be remembered in .*No space left"):
        one = net(tmp_path).fit(X, y)
    assert same(one, net(None).fit(X, y))


def test_a_folder_of_another_is_refused_before_the_training(tmp_path):
    (tmp_path / "kmedclf-fits-v1").mkdir()
    (tmp_path / "kmedclf-fits-v1" / "thesis.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="was not made by kmedclf"):
        net(tmp_path).fit(X, y)
    assert [one.name for one in tmp_path.rglob("*")] == ["kmedclf-fits-v1", "thesis.txt"]


def test_resuming_a_search_runs_nothing(tmp_path):
    """The way in: a folder that somebody sends, with a fit in it that is code."""
    from cli_helpers import invoke, write_npz

    space = tmp_path / "space.yaml"
    space.write_text("estimator: MLPClassifier\nparameters:\n  units: [4, 8]\n")
    out = tmp_path / "out"
    done = invoke("search", "mlp", "--data", write_npz(tmp_path), "--out", out, "--space", space,
                  "--engine", "random", "--trials", 2, "--epochs", 1, "--final-epochs", 1,
                  "--folds", 2, "--seed", 0)  # fmt: skip
    if done.exit_code:
        pytest.fail(done.output)
    fits = list((out / "memory").rglob("*.kmedclf-fit"))
    assert fits
    for path in fits:
        _pickled(path)
    shutil.copytree(out / "memory" / "kmedclf-fits-v1", out / "memory" / "joblib")
    with pytest.warns(RuntimeWarning, match="trained again"):
        resumed = invoke("search", "--resume", out, "--jobs", 1)
    assert resumed.exit_code == 0, resumed.output
    assert not list(tmp_path.rglob("*.ran"))


# -- the whole package -----------------------------------------------------------------------------

UNSAFE = {
    ("pickle", "load"), ("pickle", "loads"), ("pickle", "Unpickler"), ("joblib", "load"),
    ("yaml", "load"), ("yaml", "unsafe_load"), ("yaml", "full_load"), ("marshal", "loads"),
    ("shelve", "open"), ("dill", "load"), ("cloudpickle", "load"), ("torch", "load"),
}  # fmt: skip


UNPICKLERS = {"pickle", "cPickle", "dill", "marshal", "shelve", "cloudpickle"}


@pytest.mark.parametrize(
    "path", sorted(Path(kmedclf.__file__).parent.rglob("*.py")), ids=lambda one: one.stem
)
def test_no_module_unpickles(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = {alias.name.split(".")[0] for alias in node.names}
            assert not names & UNPICKLERS
        if isinstance(node, ast.ImportFrom) and node.module in UNPICKLERS:
            assert {alias.name for alias in node.names} <= {"Pickler", "PicklingError"}
        if not isinstance(node, ast.Call):
            continue
        called = node.func
        if isinstance(called, ast.Name) and path.parts[-2:] != ("cli", "parameters.py"):
            assert called.id not in ("eval", "exec")  # there, of the package's own text
        if isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name):
            pair = called.value.id, called.attr
            loader = [ast.unparse(one) for one in node.args[1:]]
            safe = pair == ("yaml", "load") and loader and re.fullmatch(r"_?\w*Loader", loader[0])
            assert pair not in UNSAFE or safe, ast.unparse(node)
        for keyword in node.keywords:
            value = ast.unparse(keyword.value)
            assert (keyword.arg, value) not in {("allow_pickle", "True"), ("safe_mode", "False")}
        if isinstance(called, ast.Attribute) and called.attr in ("load_model",):
            assert any(
                (one.arg, ast.unparse(one.value)) == ("safe_mode", "True") for one in node.keywords
            )
