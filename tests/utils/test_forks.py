"""Processes forked from one that used TensorFlow: they work, or say at once what to do."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import run

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no processes are forked here")

USES = {
    "arrays": "make('CNNClassifier').fit(X, y).predict(X)",
    "map": "make('CNNClassifier').fit(mapped, y).predict(mapped)",
    "files": "make('CNNClassifier', image_size=(8, 8)).fit(paths, y).predict(paths)",
    "kept": "kept = make('CNNClassifier', image_size=(8, 8)).fit(paths, y); kept.predict(paths)",
    "forgotten": "make('CNNClassifier').fit(X, y); kmedclf.programs.clear()",
    "only TensorFlow": "import tensorflow as tf; tf.constant(1) + 1",
}
SETUP = """
import gc, multiprocessing, os, sys, tempfile
import numpy as np
from PIL import Image
import kmedclf
from helpers import data, make
X, y = data(24)
fresh = make("CNNClassifier")
folder = tempfile.mkdtemp()
paths = [os.path.join(folder, f"{i}.png") for i in range(len(X))]
for path, image in zip(paths, X):
    Image.fromarray(image).save(path)
np.save(os.path.join(folder, "X.npy"), X)
mapped = np.load(os.path.join(folder, "X.npy"), mmap_mode="r")
"""
FORKS = """
with multiprocessing.get_context("fork").Pool(2) as pool:
    print(pool.map(abs, [-1, -2]), flush=True)
of_files = kmedclf.CNNClassifier(image_size=(8, 8))
for end in (os._exit, sys.exit):
    pid = os.fork()
    if not pid:
        for use in (lambda: fresh.fit(X, y), lambda: of_files.fit(paths, y)):
            try:
                use()
            except RuntimeError as error:
                print(error, flush=True)
        gc.collect()
        kmedclf.programs.clear()
        kmedclf.programs.stats()
        end(0)
    print("status", os.waitpid(pid, 0)[1], flush=True)
"""


@pytest.mark.parametrize(
    "use",
    [use if use == "files" else pytest.param(use, marks=pytest.mark.slow) for use in USES],
)
def test_forked_children_work_or_say_what_to_do_and_end_well(use):
    printed = run(SETUP + USES[use] + FORKS)
    assert printed.count("[1, 2]") == 1
    assert printed.count("use joblib's default backend (loky)") == 4
    assert printed.count("status 0") == 2


@pytest.mark.slow
def test_a_child_forked_before_tensorflow_is_used_works():
    code = f"""
{SETUP}
import tensorflow
pid = os.fork()
expected = fresh.fit(X, y).predict(X)
if not pid:
    print(len(expected), flush=True)
    os._exit(0)
print("status", os.waitpid(pid, 0)[1])
"""
    assert run(code).splitlines() == ["24", "status 0"]


def test_a_child_that_is_the_first_to_import_kmedclf_says_what_to_do():
    code = """
import os
import numpy as np
import tensorflow as tf
tf.constant(1) + 1
pid = os.fork()
if not pid:
    import kmedclf
    try:
        kmedclf.MLPClassifier(epochs=1, early_stopping=False).fit(np.eye(4), [0, 1, 0, 1])
    except RuntimeError as error:
        print(error, flush=True)
    os._exit(0)
print("status", os.waitpid(pid, 0)[1])
"""
    path = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-W", "ignore", "-c", code]
    env = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=60, check=True)
    assert "loky" in done.stdout
    assert done.stdout.splitlines()[-1] == "status 0"
