"""--out of every command: users' files stay, and links and devices stay what they are."""

import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest
from cli_helpers import invoke, refused, train_mlp, write_npz
from PIL import Image

from kmedclf.cli import app
from kmedclf.utils import files


def commands():
    """Find all commands with --out, and whether it is a folder."""
    found = {}
    for command in app.registered_commands:
        name = command.name or command.callback.__name__
        out = command.callback.__annotations__.get("out")
        if out is not None:
            found[name] = "metavar='DIR'" in str(out)
    return found


OUTS = commands()


@pytest.fixture(scope="module")
def lines(tmp_path_factory):
    """A command line for each command, but for --out."""
    home = tmp_path_factory.mktemp("outs")
    data = write_npz(home)
    run, _ = train_mlp(data, home / "run")
    shutil.copytree(run, home / "other")
    Image.new("RGB", (28, 28)).save(home / "image.png")
    return {
        "train": ("train", "mlp", "--data", data, "--epochs", 1, "-p", "units=4", "--force"),
        "search": ("search", "mlp", "--data", data, "--epochs", 1),
        "reproduce": ("reproduce", "blood", "--data", data, "--quick"),
        "predict": ("predict", run, home / "image.png"),
        "report": ("report", run, "--plain"),
        "compare": ("compare", run, home / "other"),
        "audit": ("audit", "--data", data),
        "auto": ("auto", data, "--minutes", 0.01),
        "export": ("export", run, "--format", "keras", "--force"),
    }


def test_every_command_with_an_output_is_tested(lines):
    assert set(OUTS) == set(lines)
    assert sum(OUTS.values()) == 4


@pytest.mark.parametrize("command", OUTS)
def test_what_is_the_users_stays(command, lines, tmp_path):
    thesis = tmp_path / "thesis.tex"
    thesis.write_text("years of work")
    out = tmp_path if OUTS[command] else thesis
    sentence = refused(*lines[command], "--out", out)
    assert str(out) in sentence
    assert sentence.endswith("name." if not OUTS[command] else (".", f"--resume {out}."))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    assert thesis.read_text() == "years of work"


def _states(folder):
    """What a command could change; a reader may change the time of access."""
    found = {path: path.lstat() for path in folder.iterdir()}
    return {path: (one.st_mode, one.st_size, one.st_mtime_ns) for path, one in found.items()}


@pytest.mark.parametrize("command", OUTS)
@pytest.mark.parametrize("kind", ["file", "socket", "pipe", "inside a file", "nowhere", "folder"])
def test_places_that_cannot_be_written_to(command, kind, lines, tmp_path):
    out, folder = tmp_path / "out", OUTS[command]
    if kind == "file":
        out.write_text("mine")
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(str(out))
    elif kind == "pipe" and folder:
        os.mkfifo(out)
    elif kind == "inside a file":
        (tmp_path / "file").write_text("mine")
        out = tmp_path / "file" / "out"
    elif kind == "nowhere" and not folder:
        out = tmp_path / "no folder" / "out"
    elif kind == "folder" and not folder:
        out.mkdir()
    else:
        return
    before = _states(tmp_path)
    assert str(out) in refused(*lines[command], "--out", out) or kind in (
        "nowhere",
        "inside a file",
    )
    assert _states(tmp_path) == before


@pytest.mark.parametrize("command", [name for name, folder in OUTS.items() if not folder])
def test_pipes_links_and_devices_are_written_through(command, lines, tmp_path):
    pipe, link, far = tmp_path / "pipe", tmp_path / "link", tmp_path / "far"
    os.mkfifo(pipe)
    far.mkdir()
    link.symlink_to(far / "file")
    got = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()), daemon=True)
    reader.start()
    for out in (pipe, link, Path("/dev/null")):
        done = invoke(*lines[command], "--out", out)
        assert done.exit_code == 0, done.output
    reader.join(timeout=20)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    assert link.is_symlink()
    assert [path.name for path in far.iterdir()] == ["file"]
    # Keras numbers the layers of every model in a process.
    part = slice(4) if command == "export" else slice(-8, None)
    assert got[0][part] == (far / "file").read_bytes()[part]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["far", "link", "pipe"]
    assert invoke(*lines[command], "--out", link).exit_code == 0  # ours is replaced


@pytest.mark.parametrize("command", ["report", "compare", "audit"])
def test_a_page_named_like_a_folder_gets_the_suffix_of_a_page(command, lines, tmp_path):
    invoke(*lines[command], "--out", tmp_path / "page")
    assert files.is_page((tmp_path / "page.html").read_bytes())
    assert not (tmp_path / "page").exists()


def test_a_run_is_written_through_a_link(lines, tmp_path):
    (tmp_path / "disk" / "run").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "run")
    for _ in range(2):
        done = invoke(*lines["train"], "--out", tmp_path / "link")
        assert done.exit_code == 0, done.output
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "disk" / "run" / "model.kmedclf").is_file()
    assert len(list((tmp_path / "disk").iterdir())) == 1


def test_standard_output_of_the_shell_is_written_to(lines, tmp_path):
    code = "from kmedclf.cli import main; main()"
    arguments = [*map(str, lines["audit"]), "--out", "/dev/stdout"]
    with open(tmp_path / "all", "wb") as file:
        subprocess.run([sys.executable, "-c", code, *arguments], stdout=file, check=True)
    assert "<!doctype html>" in (tmp_path / "all").read_text(encoding="utf-8").lower()
    assert [path.name for path in tmp_path.iterdir()] == ["all"]


@pytest.mark.skipif(os.name == "nt" or os.getuid() != 0, reason="becomes another user")
@pytest.mark.parametrize("folder", [False, True])
def test_what_may_not_be_written_to(folder):
    with tempfile.TemporaryDirectory() as name:  # where others may come, unlike in tmp_path
        os.chmod(name, 0o755)
        mine = Path(name, "mine.csv")
        mine.write_text("path,prediction\n")
        mine.chmod(0o444)
        out = Path(name, "run") if folder else mine
        code = (
            f"import os; from kmedclf.utils import files; os.setuid(65534)\n"
            f"try: files.{'check_folder' if folder else 'check_file'}({str(out)!r})\n"
            "except PermissionError as error: print(error)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert str(name if folder else mine) in done.stdout, done.stderr


def test_replaced_files_keep_their_permissions(tmp_path):
    table = tmp_path / "table.csv"
    table.write_text("path,prediction\n")
    table.chmod(0o600)
    files.write_text(table, "path,prediction\nof a patient")
    assert stat.S_IMODE(table.stat().st_mode) == 0o600
    assert table.read_text().endswith("patient")


def test_names_as_long_as_they_may_be(tmp_path):
    for name in ("a" * 255, "ü" * 127):
        files.write_text(tmp_path / name, name)
        assert (tmp_path / name).read_text(encoding="utf-8") == name


def test_errors_name_the_file_and_leave_nothing(tmp_path):
    import resource

    def write():
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, resource.RLIM_INFINITY))
        try:
            files.write_text(tmp_path / "page.html", "x" * 100)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)

    with pytest.raises(OSError, match="File too large") as caught:
        write()
    assert caught.value.filename == str(tmp_path / "page.html")
    assert list(tmp_path.iterdir()) == []
