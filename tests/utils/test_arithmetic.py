"""TensorFlow is told how to compute before it loads, whatever of kmedclf loads it."""

import json
import os
import subprocess
import sys

import pytest
from cli_helpers import train_mlp, write_npz
from helpers import PUBLIC, ROOT, run
from PIL import Image

import kmedclf
from kmedclf.cli import app
from kmedclf.utils import arithmetic

pays = pytest.mark.skipif(not arithmetic.onednn_pays(), reason="TensorFlow's own choice stands")

# Each module is imported in a child of its own, up to the moment when TensorFlow is asked for.
ENTRIES = """
import json, os, sys
import matplotlib.pyplot, numpy, pandas, PIL.Image, rich.table, sklearn.model_selection, typer

class Stop:
    def find_spec(self, name, path, target=None):
        if name in ("tensorflow", "keras", "scikeras", "keras_tuner"):
            told = os.environ.get("TF_ENABLE_ONEDNN_OPTS")
            os.write(1, json.dumps([entry, name, told]).encode() + b"\\n")
            os._exit(0)

for entry in sys.argv[1:]:
    sys.stdout.flush()
    if not os.fork():
        sys.meta_path.insert(0, Stop())
        try:
            exec(entry)
            os.write(1, json.dumps([entry, None, None]).encode() + b"\\n")
        finally:
            os._exit(0)
    os.wait()
"""


def _modules():
    paths = (ROOT / "kmedclf").rglob("*.py")
    names = (".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths)
    return sorted(name.removesuffix(".__init__") for name in names if "__main__" not in name)


def _entries():
    names = [f"import kmedclf; kmedclf.{name}" for name in kmedclf.__all__]
    networks = [f"import pickle; pickle.loads({_pickle(name)!r})" for name in PUBLIC]
    return [*names, *networks, *(f"import {name}" for name in _modules())]


def _pickle(name):
    """What joblib sends to a worker: the worker imports the class's module, and nothing before."""
    import pickle

    return pickle.dumps(getattr(kmedclf, name)())


def _first_loads(entries):
    cleaned = {name: value for name, value in os.environ.items() if name != arithmetic.ONEDNN}
    done = subprocess.run(
        [sys.executable, "-c", ENTRIES, *entries],
        env=cleaned,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith('["')]
    return [json.loads(line) for line in lines]


@pays
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no processes are forked here")
def test_whatever_loads_tensorflow_tells_it_before():
    entries = _entries()
    found = _first_loads(entries)
    assert [entry for entry, _, _ in found] == entries
    loads = {entry: (name, told) for entry, name, told in found if name}
    assert {f"import kmedclf; kmedclf.{name}" for name in PUBLIC} < set(loads)
    assert len(loads) > 60
    assert set(loads.values()) == {("tensorflow", "1")}, loads


STATE = """
import os
{before}
from kmedclf import CNNClassifier
from kmedclf.training import devices
from kmedclf.utils import arithmetic
devices.gpus()
facts = arithmetic.facts()
told = os.environ.get("TF_ENABLE_ONEDNN_OPTS")
print(facts["onednn"], told, facts["onednn_reason"], sep=", ")
"""


def _state(**env):
    unset = f"os.environ.pop({arithmetic.ONEDNN!r}, None)" if arithmetic.ONEDNN not in env else ""
    return run(STATE.format(before=unset), **env).strip()


@pays
def test_onednn_is_on_and_the_environment_as_it_was():
    assert _state() == "True, None, kmedclf's choice for CPUs with AVX2"


OFF = "os.environ['TF_ENABLE_ONEDNN_OPTS'] = '0'; import tensorflow"
COMPUTES = """
import os
os.environ.pop("TF_ENABLE_ONEDNN_OPTS", None)
{load}
os.environ.pop("TF_ENABLE_ONEDNN_OPTS", None)
import tensorflow as tf
x, kernel = tf.zeros((8, 16, 16, 8)), tf.zeros((3, 3, 8, 8))
tf.function(lambda: tf.nn.conv2d(x, kernel, 1, "SAME"))()
"""


@pays
@pytest.mark.parametrize(
    ("load", "onednn"),
    [
        ("from kmedclf import CNNClassifier", True),
        pytest.param(OFF, False, marks=pytest.mark.slow),
    ],
)
def test_what_tensorflow_read_while_it_loaded_counts_in_computations(load, onednn):
    lines = run(COMPUTES.format(load=load), ONEDNN_VERBOSE="1").splitlines()
    assert any("onednn_verbose" in line for line in lines)
    assert any(",convolution," in line for line in lines) == onednn, lines


@pytest.mark.parametrize("given", ["0", pytest.param("1", marks=pytest.mark.slow)])
def test_what_the_user_has_set_is_obeyed(given):
    expected = f"the environment variable TF_ENABLE_ONEDNN_OPTS is '{given}'"
    assert _state(TF_ENABLE_ONEDNN_OPTS=given) == f"{given == '1'}, {given}, {expected}"


HINT = """
import os, warnings
warnings.simplefilter("error")
os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"  # as TensorFlow decides on CPUs with AVX2
import tensorflow
os.environ.update({after!r})
if not {after!r}: del os.environ["TF_ENABLE_ONEDNN_OPTS"]
import contextlib, io, sys
sys.stderr = io.StringIO()
from kmedclf import CNNClassifier
import kmedclf.training, kmedclf.base
from helpers import data
CNNClassifier(filters=4, epochs=1).fit(*data())
print(sys.stderr.getvalue().count("imported without oneDNN"), os.environ.get({name!r}))
"""


@pays
@pytest.mark.parametrize(
    "after", [{}, pytest.param({arithmetic.ONEDNN: "0"}, marks=pytest.mark.slow)]
)
def test_a_process_that_has_tensorflow_is_left_alone_with_one_hint(after):
    found = run(HINT.format(after=after, name=arithmetic.ONEDNN))
    assert found.split() == (["0", "0"] if after else ["1", "None"])


WORKERS = """
import os
os.environ.pop("TF_ENABLE_ONEDNN_OPTS", None)
from helpers import data, make
from sklearn.model_selection import cross_validate

def told(estimator, X, y):
    from kmedclf.utils import arithmetic

    assert "TF_ENABLE_ONEDNN_OPTS" not in os.environ
    facts = arithmetic.facts()
    return facts["onednn"] + 2 * facts["onednn_reason"].startswith("kmedclf's choice")

found = cross_validate(
    make("MLPClassifier", epochs=1), *data(), cv=2, n_jobs=2, scoring=told, error_score="raise"
)
print(*found["test_score"])
"""


@pytest.mark.slow
@pays
def test_workers_decide_as_their_parent():
    assert run(WORKERS).split() == ["3", "3"]


COMMANDS = {
    "app": ["app", "RUN", "--port", "0"],
    "auto": ["auto", "synthetic", "--out", "new"],
    "demo": ["demo"],
    "doctor": ["doctor"],
    "export": ["export", "RUN", "--format", "keras", "--out", "new"],
    "evaluate": ["evaluate", "RUN", "--data", "synthetic"],
    "predict": ["predict", "RUN", "image.png"],
    "report": ["report", "RUN"],
    "reproduce": ["reproduce", "blood", "--data", "synthetic", "--out", "new", "--quick"],
    "search": ["search", "cnn", "--data", "synthetic", "--out", "new"],
    "train": ["train", "cnn", "--data", "synthetic", "--out", "new"],
}
# They need no TensorFlow; processes of a worker take their networks from a search, by pickle.
LIGHT = {"audit", "compare", "datasets", "params", "scheduler", "worker"}


@pays
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no processes are forked here")
def test_every_command_tells_tensorflow_before(tmp_path):
    names = {one.name or one.callback.__name__ for one in app.registered_commands}
    assert names == set(COMMANDS) | LIGHT
    folder, _ = train_mlp(write_npz(tmp_path), tmp_path / "run")
    Image.new("RGB", (28, 28)).save(tmp_path / "image.png")
    places = {"RUN": str(folder), "image.png": str(tmp_path / "image.png")}
    places["new"] = str(tmp_path / "new")
    entries = []
    for line in COMMANDS.values():
        arguments = [places.get(word, word) for word in line]
        entries.append(f"from kmedclf.cli import app; app({arguments})")
    found = _first_loads(entries)
    assert [tuple(one[1:]) for one in found] == [("tensorflow", "1")] * len(entries), found


AVX512 = "sse4_1 avx avx2 avx512bw avx512_vnni avx512_bf16"


@pytest.mark.parametrize(
    ("flags", "limit", "expected"),
    [
        ("sse4_1 avx avx2", "", "AVX2"),
        ("sse4_1 avx avx2 avx_vnni", "", "AVX2_VNNI"),
        (AVX512, "", "AVX512_CORE_BF16"),
        (AVX512, "AVX2", "AVX2"),
        ("sse4_1 avx avx2", "AVX512_CORE", "AVX2"),
        ("sse4_1 avx avx2", "DEFAULT", "AVX2"),
        ("fp asimd", "AVX2", None),
    ],
)
def test_instruction_sets(flags, limit, expected):
    assert arithmetic.largest_set(flags.split(), limit) == expected


KEPT = """
from pathlib import Path
from helpers import data, make
make("MLPClassifier", memory={folder!r}).fit(*data())
print(len(list(Path({folder!r}).rglob("*.kmedclf-fit"))))
"""


@pytest.mark.slow
def test_fits_of_another_setting_are_not_recalled(tmp_path):
    code = KEPT.format(folder=str(tmp_path))
    settings = [{}, {}, {"TF_NUM_INTRAOP_THREADS": "1"}, {"ONEDNN_MAX_CPU_ISA": "SSE41"}]
    settings.append({"TF_ENABLE_ONEDNN_OPTS": "0"})
    counts = [int(run(code, **{"TF_ENABLE_ONEDNN_OPTS": "1", **one})) for one in settings]
    assert counts == [1, 1, 2, 3, 4]


CHATTER = [
    "I0000 00:00:1796081181.764089    4736 port.cc:153] oneDNN custom operations are on.",
    "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR",
    "E0000 00:00:1796083133.306350   20564 op.cc:52] oneDNN supports DT_UINT8 only on AVX-512",
]


@pytest.mark.parametrize("before", ["", "\r\x1b[2K Writing the page"], ids=["line", "spinner"])
@pytest.mark.parametrize("line", CHATTER, ids=["information", "first line", "oneDNN"])
def test_chatter_is_dropped_wherever_it_stands(line, before, capfd):
    with arithmetic.without_chatter():
        os.write(2, f"{before}{line}\nkept\nW1234 of the user stays\n".encode())
    assert capfd.readouterr().err == f"{before}kept\nW1234 of the user stays\n"
