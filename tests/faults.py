"""Commands whose writes fail, one after the other; a process of its own, as a hook stays for ever.

Every opening for writing, every rename and every new folder below the work folder is a point. A
run of a command fails at one of them, in one of three ways:

- "refused": that call raises "No space left on device", and nothing else does;
- "full": from then on no file takes another byte, which the kernel sees to;
- "killed": the folder is what it was at that moment. A copy of it is what SIGKILL would leave: what
  Python had not handed to the kernel yet is in neither.

Then the command runs again, undisturbed.
"""

import csv
import errno
import hashlib
import io
import json
import logging
import os
import re
import resource
import shutil
import sys
import warnings
import zipfile
from pathlib import Path

from cli_helpers import invoke, write_npz

TIMES = re.compile(r"seconds|images_per_second|_time$")
PRINTED = re.compile(rb"[\d.,]+ s\b|[\d.]+\s*</td></tr>\n.*images_per_second.*")
WRITES = os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Faults:
    """Counts the points of a command, and fails at one."""

    def __init__(self, below):
        self.below, self.copy = str(below) + os.sep, Path(f"{below}-killed")
        self.at = self.how = None
        self.points = []
        self.on = False
        sys.addaudithook(self.hook)

    def hook(self, event, args):
        if not self.on or event not in ("open", "os.rename", "os.mkdir"):
            return
        if event == "open" and not (args[2] or 0) & WRITES:
            return
        path = args[1] if event == "os.rename" else args[0]
        if not isinstance(path, str) or not os.path.abspath(path).startswith(self.below):
            return
        self.points.append((event, os.path.abspath(path)[len(self.below) :]))
        if len(self.points) - 1 == self.at:
            self.on = False
            self.fail(path)
            self.on = True

    def fail(self, path):
        if self.how == "refused":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        if self.how == "full":
            resource.setrlimit(resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
        else:
            shutil.rmtree(self.copy, ignore_errors=True)
            shutil.copytree(self.below, self.copy, symlinks=True)

    def run(self, command, at=None, how=None):
        """Run a command; give its exit code and what it said."""
        self.points, self.at, self.how, self.on = [], at, how, True
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return command()
        finally:
            self.on = False
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)


def timeless(value):
    if isinstance(value, dict):
        return {name: timeless(one) for name, one in value.items() if not TIMES.search(name)}
    return [timeless(one) for one in value] if isinstance(value, list) else value


def content(path):
    """What a file says, but for how long it took; a file that is not whole raises an error."""
    data = path.read_bytes()
    if path.suffix == ".kmedclf":
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            assert archive.testzip() is None
            return sorted((one.filename, one.CRC) for one in archive.infolist())
    if path.suffix == ".json":
        return timeless(json.loads(data))
    if path.suffix == ".csv":
        rows = list(csv.DictReader(io.StringIO(data.decode(), newline="")))
        return [timeless(row) for row in rows]
    if path.suffix == ".md":  # holds the seconds of the training, and the scores there are
        text = data.decode()
        assert "| 27c |" in text or "## Model Card Contact" in text
        return "whole"
    if path.suffix == ".html":
        assert data.rstrip().endswith(b"</html>")
        return hashlib.sha256(re.sub(rb"(?:\d+[.,])?\d+(?:e[-+]?\d+)?", b"", data)).hexdigest()
    return hashlib.sha256(data).hexdigest()


def is_apart(part):
    return part[0] == "." or part == "memory" or part.endswith(".checkpoint")


def visible(folder):
    """All files but what is kept to go on with and what lies hidden, with their contents."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_file() and not any(map(is_apart, name.parts)):
            found[str(name)] = content(path)
    return found


def hidden(folder):
    return [str(path) for path in folder.rglob(".*") if path.name != ".gitignore"]  # joblib's


def code(*arguments):
    def command():
        done = invoke(*arguments)
        return done.exit_code, done.output

    return command


def scenarios(work, data, images):
    """Commands by name: what must be there before, and what is run then."""
    run = work / "run"

    def train(*more):
        new = ["train", "mlp", "--data", data, "--out", run, "--epochs", 1, "-p", "units=4",
               "-p", "augment=false", *more]  # fmt: skip

        def command():
            begun = (work / "run.checkpoint" / "training.json").is_file()
            return code(*(["train", "--resume", run] if begun and not more else new))()

        return command

    def search():
        settings = ["--epochs", 2, "--final-epochs", 1, "--folds", 2, "-p", "augment=false"]
        space = ["--space", data.parent / "tiny.yaml"]
        new = ["mlp", "--data", data, "--out", work / "search", *settings, *space]
        begun = (work / "search" / "search.json").is_file()
        return code("search", *(["--resume", work / "search"] if begun else new))()

    def study():
        from kmedclf import MLPClassifier, studies

        def item(lab):
            lab.train("net", MLPClassifier(units=4, random_state=0))
            return studies.Section("A net", "It is trained.")

        try:
            chosen = studies.Study("tiny", "A tiny study", str(data), [item])
            wanted = {"study": "tiny", "data": None}
            settings = studies.settings_of(work / "study", wanted, str(data), resume=True)
            lab = chosen.open(None, work / "study", parameters={"epochs": 1, "augment": False})
            studies.remember(work / "study", settings)
            studies.reproduce(chosen, lab)
        except OSError as error:
            return 2, f"{error.filename}: {error.strerror}.\n"
        return 0, ""

    def table(name):
        return code("predict", run, images, "--out", work / name)

    def other():
        return 0, shutil.copytree(run, work / "other")

    first, page = train("--seed", 1), work / "page.html"
    return {
        "train": ([], train()),
        "train --force": ([first], train("--seed", 2, "--force")),
        "report": ([first, code("report", run)], code("report", run)),
        "evaluate": ([first], code("evaluate", run, "--data", data)),
        "predict": ([first, table("rows.csv")], table("rows.csv")),
        "compare": ([first, other], code("compare", run, work / "other", "--out", page)),
        "audit": ([], code("audit", "--data", data, "--out", page)),
        "search": ([], search),
        "study": ([], study),
    }


def wrong(work, before, after):
    """Say what is wrong with a folder after a failure."""
    try:
        found = visible(work)
    except Exception as error:
        return f"a file is not whole: {error!r}"
    for name, one in found.items():
        known = before.get(name), after.get(name.replace("-2/", "/"))
        part = isinstance(one, dict) and isinstance(known[1], dict)
        # what is known of a run without all scores, of a study that goes on
        part = part and name.endswith(("metrics.json", "study/results.json"))
        if one not in known and not (part and one.items() <= known[1].items()):
            return f"{name} is neither what it was nor what it will be"
    return "".join(f"{name} is lost; " for name in before if name not in found)


def sweep(work, data, images, names, which):
    """Fail at every point of each command, at a "few", or at each nth from the ith, "i/n"."""
    faults = Faults(work)
    for name in names:
        setup, command = scenarios(work, data, images)[name]
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        for one in setup:
            assert one()[0] == 0, one()
        start = work.with_name("start")
        shutil.rmtree(start, ignore_errors=True)
        shutil.copytree(work, start, symlinks=True)
        before = visible(work)
        assert faults.run(command)[0] == 0
        after, points = visible(work), list(faults.points)
        n = len(points)
        if which == "few":
            chosen = sorted({0, n // 2, max(n - 3, 0), n - 1})
        else:
            first, step = map(int, which.split("/"))
            chosen = range(first, n, step)
        for how in ("refused", "full", "killed"):
            for k in chosen:
                restore(work, start)
                exit_code, said = faults.run(command, k, how)
                if how == "killed":
                    restore(work, faults.copy)
                    # a run that is between two renames is put in its place by whoever asks for it
                    invoke("compare", work / "run")
                complaint = wrong(work, before, after)
                if how != "killed" and not (exit_code == 0 and visible(work) == after):
                    if exit_code not in (2, 3):
                        complaint += f"exit code {exit_code}; "
                    if "Traceback" in said or not said.endswith(".\n"):
                        complaint += f"not one sentence: {said[-300:]}; "
                    if hidden(work):
                        complaint += f"left: {hidden(work)}; "
                # finished, but not scored, or not in its place
                for kept in ("run", "run-2", "study/net-2", "search/best-2"):
                    if name == "train" or kept != "run":
                        shutil.rmtree(work / kept, ignore_errors=True)
                again = faults.run(command)
                if again[0]:
                    complaint += f"again: {again}; "
                elif (found := visible(work)) != after:
                    changed = [n for n in {*found, *after} if found.get(n) != after.get(n)]
                    complaint += f"not equal: {changed}; "
                if rest := hidden(work):
                    complaint += f"left in the end: {rest}"
                result = {"command": name, "how": how, "k": k, "point": points[k]}
                print(json.dumps({**result, "wrong": complaint}), flush=True)


def restore(work, copy):
    shutil.rmtree(work)
    shutil.copytree(copy, work, symlinks=True)


def prepare(folder):
    from PIL import Image

    data = write_npz(folder)
    (folder / "tiny.yaml").write_text("estimator: mlp\nparameters: {units: [2, 4]}\n")
    images = folder / "images"
    images.mkdir()
    for i in range(3):
        Image.new("RGB", (28, 28), (80 * i, 0, 0)).save(images / f"{i}.png")
    return data, images


if __name__ == "__main__":
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # that one process runs many commands
    home = Path(sys.argv[1])
    home.mkdir(exist_ok=True)
    data, images = prepare(home)
    sweep(home / "work", data, images, sys.argv[3:], sys.argv[2])
