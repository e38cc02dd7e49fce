"""Run folders: what --force replaces, what a dead process leaves, and what is said upon a stop."""

import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from cli_helpers import invoke, read, refused, train_mlp, write_npz

from kmedclf import runs
from kmedclf.datasets import sources
from kmedclf.runs.searches import SearchFolder
from kmedclf.utils import files

WRITTEN = {
    "CHECKLIST.md", "MODEL_CARD.md",
    "environment.json", "evaluation-test.json", "evaluation-val.json", "history.json",
    "metrics.json", "model.kmedclf", "parameters.json",
}  # fmt: skip


@pytest.fixture(scope="module")
def npz(tmp_path_factory):
    return write_npz(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def trained(npz, tmp_path_factory):
    return train_mlp(npz, tmp_path_factory.mktemp("runs") / "run")[0]


@pytest.fixture
def run(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


def train(npz, out, *more):
    return "train", "mlp", "--data", npz, "--out", out, "--epochs", 1, "-p", "units=4", *more


def bytes_of(folder):
    return {p.name: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("what", ["thesis.tex", "model.kmedclf.bak", ".hidden", "folder", "link"])
def test_force_replaces_a_run_and_nothing_else(run, npz, what):
    foreign = run / what
    if what == "folder":
        foreign.mkdir()
        (foreign / "thesis.tex").write_text("years of work")
    elif what == "link":
        foreign.symlink_to("/")
    else:
        foreign.write_text("years of work")
    before = bytes_of(run)
    sentence = refused(*train(npz, run, "--force"))
    assert sentence.endswith(
        f"holds more than a run, {what}, which --force would delete; move it away, or choose "
        "another folder."
    )
    assert bytes_of(run) == before
    with pytest.raises(FileExistsError, match="more than a run"):
        runs.check_free(run, True)


def test_all_that_commands_write_into_a_run_may_be_replaced(run, npz):
    for command in (
        ("report", run),
        *(("evaluate", run, "--data", npz, "--split", split) for split in ("train", "val", "test")),
    ):
        done = invoke(*command)
        assert done.exit_code == 0, done.output
    (run / ".DS_Store").touch()
    assert len(bytes_of(run)) == len(WRITTEN) + 3
    assert invoke(*train(npz, run, "--force")).exit_code == 0
    assert set(bytes_of(run)) == WRITTEN


def test_a_run_of_a_search_is_not_replaced_with_what_lies_in_it(npz, tmp_path):
    (tmp_path / "space.yaml").write_text("estimator: mlp\nparameters: {units: [2, 4]}\n")
    best = tmp_path / "search" / "best"
    best.mkdir(parents=True)
    (best / "thesis.tex").write_text("mine")
    (best.parent / "search.json").write_text("{}")
    sentence = refused("search", "mlp", "--data", npz, "--out", best.parent)
    assert "is not empty" in sentence
    settings = {
        "network": "MLPClassifier", "data": str(npz), "size": None, "parameters": {}, "seed": 0,
        "engine": "staged", "epochs": 1, "final_epochs": 1, "first": False, "folds": 2,
        "space": None, "subset": None, "trials": None,
    }  # fmt: skip
    files.write_json(best.parent / "search.json", settings)
    assert "holds no run" in refused("search", "--resume", best.parent)  # before hours of search


# -- what dead processes leave ---------------------------------------------------------------------

LEAVES = """
import os, signal, sys
from pathlib import Path
from kmedclf.utils import files
target = Path(sys.argv[1])
def stop():
    print("ready", flush=True)
    os.kill(os.getpid(), signal.SIGKILL) if sys.argv[2] != "alive" else sys.stdin.read()
if sys.argv[2] in ("part", "alive"):
    with files.written_beside(target) as beside:
        beside.write_text("half of")
        stop()
with files.scratch(target.parent, target.name) as scratch:
    new = scratch / "new"
    new.mkdir()
    (new / "model.kmedclf").write_text("new")
    if sys.argv[2] == "between":
        target.replace(scratch / "old")
    stop()
"""


def left(target, how):
    command = [sys.executable, "-c", LEAVES, str(target), how]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    process = subprocess.Popen(command, **pipes, text=True)
    assert process.stdout.readline() == "ready\n"
    if how != "alive":
        assert process.wait() == -signal.SIGKILL
        process.stdin.close()
        process.stdout.close()
    return process


@pytest.mark.parametrize("how", ["part", "scratch", "between"])
def test_the_next_command_removes_what_a_dead_one_left(run, how):
    old = bytes_of(run)
    left(run / "report.html" if how == "part" else run, how)
    litter = [p for p in run.parent.rglob(".*") if p.suffix in (".part", ".kmedclf")]
    assert len(litter) == 1
    assert run.exists() == (how != "between")
    runs.check_run(run)  # as every command that reads a run does
    if how == "scratch":
        files.sweep(run.parent)  # as every command that writes one does
    assert list(run.parent.rglob(".*")) == []
    assert [p.name for p in run.parent.iterdir()] == ["run"]
    new = {"model.kmedclf": b"new"}  # whole before the first of the two renames
    assert bytes_of(run) == (new if how == "between" else old)


def test_what_the_living_write_stays(tmp_path):
    process = left(tmp_path / "page.html", "alive")
    files.sweep(tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
    process.communicate("")
    assert [p.name for p in tmp_path.iterdir()] == ["page.html"]


def test_files_of_others_stay(tmp_path):
    names = [
        "notes.part", ".notes.part", ".notes.123456789abc.kmedclf", ".a.123456789abc.parts",
        ".run.x2ab_1/new/model", ".run.123456789abc.kmedclf/thesis.tex",
    ]  # fmt: skip
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_text("mine")
    link = tmp_path / ".notes.123456789abc.part"
    link.symlink_to(tmp_path / "notes.part")
    before = bytes_of(tmp_path)
    files.sweep(tmp_path)
    files.sweep(tmp_path, deep=True)
    assert bytes_of(tmp_path) == before
    assert link.is_symlink()


def test_a_run_whose_place_was_taken_meanwhile_is_kept(npz, tmp_path, monkeypatch):
    out = tmp_path / "run"
    fit = runs._fitted

    def fitted(*args, **options):
        out.mkdir()
        (out / "thesis.tex").write_text("mine")
        return fit(*args, **options)

    monkeypatch.setattr(runs, "_fitted", fitted)
    done = invoke(*train(npz, out))
    assert done.exit_code == 3
    assert done.stderr.endswith(f"The finished run is in {tmp_path / 'run-2'}.\n")
    assert set(bytes_of(tmp_path / "run-2")) == WRITTEN
    assert set(bytes_of(out)) == {"thesis.tex"}


@pytest.mark.parametrize(
    "error", [MemoryError(), ValueError("A wrong image."), OSError(5, "Input")]
)
@pytest.mark.parametrize("force", [False, True])
def test_a_training_is_kept_whatever_its_scores_do(
    error, force, npz, tmp_path, monkeypatch, trained
):
    out = tmp_path / "run"
    if force:
        shutil.copytree(trained, out)
    old = bytes_of(out)

    def fails(*args):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(runs, "_score", fails)
        done = invoke(*train(npz, out, *(["--force"] if force else [])))
    place = tmp_path / "run-2" if force else out
    assert done.exit_code == 3, done.output
    _, _, said = done.stderr.partition("\n")  # after the progress
    assert said.count("\n") == 1
    assert f"The trained network is in {place}, not scored on test; " in done.stderr
    assert "Traceback" not in done.stderr
    assert bytes_of(out) == old or not force  # a run that is whole is replaced by none that is not
    how = done.stderr.split("'")[-2]
    assert how.startswith("kmedclf evaluate ")
    before, data, after = how.removeprefix("kmedclf ").partition(f"--data {npz} ")
    assert invoke(*before.split(), "--data", npz, *after.split()).exit_code == 0, data
    whole = tmp_path / "whole"
    assert invoke(*train(npz, whole)).exit_code == 0
    name = "evaluation-test.json"
    assert read(place / name)["scores"] == read(whole / name)["scores"]
    del error.__notes__


# -- stops -----------------------------------------------------------------------------------------


def start(*command):
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    code = "from kmedclf.cli import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, command)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heed,
        start_new_session=True,
    )  # fmt: skip


def wait_for(something, process):
    deadline = time.monotonic() + 120
    while not something():
        assert process.poll() is None, process.communicate()
        if time.monotonic() > deadline:
            os.killpg(process.pid, signal.SIGKILL)  # or it would train for ever
            pytest.fail(f"Nothing after two minutes: {process.communicate()}")
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("command", "number"),
    [
        pytest.param("train", signal.SIGTERM, marks=pytest.mark.slow),
        ("search", signal.SIGINT),
        pytest.param("search, two jobs", signal.SIGINT, marks=pytest.mark.slow),
        pytest.param("train", signal.SIGINT, marks=pytest.mark.slow),
        pytest.param("train --force", signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param("search", signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param("search, two jobs", signal.SIGTERM, marks=pytest.mark.slow),
    ],
)
def test_a_stop_says_what_is_kept(command, number, npz, run, tmp_path):
    endless = ["-p", "early_stopping=false", "-p", "units=2"]
    out, old = tmp_path / "search", bytes_of(run)
    if command.startswith("train"):
        out = run if "--force" in command else tmp_path / "new"
        force = ["--force"] if "--force" in command else []
        more = ["--epochs", 100_000, "--out", out, *endless, *force]
        process = start("train", "mlp", "--data", npz, *more)
        wait_for(lambda: list(tmp_path.glob(".*.kmedclf/new")), process)
    else:
        space = tmp_path / "space.yaml"
        space.write_text("estimator: mlp\nparameters: {epochs: [1, 100000], units: [2, 4]}\n")
        jobs = ["--jobs", 2] if "jobs" in command else []
        more = ["--space", space, "--out", out, "-p", "early_stopping=false", *jobs]
        process = start("search", "mlp", "--data", npz, "--folds", 2, *more)
        wait_for(SearchFolder(out, {}).finished, process)
    time.sleep(0.5)
    # Ctrl-C goes to all processes of a terminal, SIGTERM to one
    os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)
    _, said = process.communicate(timeout=60)
    kept = {
        "train": "Nothing was written.",
        "train --force": f"The earlier run in {run} is as it was.",
    }.get(command, f"What is finished is in {out}; 'kmedclf search --resume {out}' goes on.")
    assert process.returncode == 128 + number, said
    assert said.splitlines()[-1] == f"Interrupted. {kept}"
    assert "Traceback" not in said
    assert bytes_of(run) == old
    assert [p.name for p in tmp_path.rglob(".*") if p.name != ".gitignore"] == []
    assert (tmp_path / "new").exists() is False


def test_workers_leave_nothing_when_all_are_killed(npz, tmp_path, monkeypatch):
    room = tmp_path / "room"
    room.mkdir()
    with files.scratch(room, "joblib") as folder:
        copy = shutil.copytree(folder, room / ".joblib.0123456789ab.kmedclf")
    assert [p.name for p in room.iterdir()] == [copy.name]
    files.sweep(room)
    assert list(room.iterdir()) == []


def test_unexpected_errors_are_one_sentence_and_memory_is_named(npz, tmp_path, monkeypatch):
    for error, code, words in (
        (MemoryError("Unable to allocate 3 GiB"), 2, "There is not enough memory for this"),
        (KeyError("x"), 1, "kmedclf failed, which is its own fault, with KeyError"),
        (RecursionError("too deep"), 1, "RecursionError: too deep."),
    ):

        def fails(*args, error=error, **options):
            raise error

        monkeypatch.setattr(sources, "read_data", fails)
        done = invoke(*train(npz, tmp_path / "run"))
        assert done.exit_code == code
        assert words in done.stderr
        assert done.stderr.count("\n") == 1
        done = invoke(*train(npz, tmp_path / "run"), "--debug")
        assert done.exception is error
    assert not Path(tmp_path / "run").exists()


class Meddler:
    """Python before 3.12 makes a RuntimeError of what is raised here."""

    def __set_name__(self, owner, name):
        raise KeyboardInterrupt


def test_an_interruption_that_became_an_error_is_an_interruption(npz, tmp_path, monkeypatch):
    def fails(*args, **options):
        type("Class", (), {"attribute": Meddler()})

    monkeypatch.setattr(sources, "read_data", fails)
    done = invoke(*train(npz, tmp_path / "run"))
    assert done.exit_code == 130
    assert done.stderr == "Interrupted. Nothing was written.\n"
