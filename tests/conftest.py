"""What all tests share: a quiet TensorFlow, a handful of images and a user's own package."""

import gc
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

# Read by TensorFlow when it is imported, by the first test that needs it.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import joblib
import numpy as np
import pytest

from kmedclf.datasets import make_blood_cells

# Networks and graphs are millions of Python objects: at its defaults, the collector takes a seventh
# of the suite. Tests of memory collect themselves.
gc.set_threshold(50_000, 50, 50)


def pytest_configure(config):
    """Install tests/outside as its users would.

    Before any other process starts: worker processes outlive the test that started them, and find
    only what could be imported then.
    """
    if not hasattr(config, "workerinput"):  # pytest-xdist's workers inherit PYTHONPATH
        target = tempfile.mkdtemp(prefix="kmedclf-outside-")
        config.add_cleanup(lambda: shutil.rmtree(target, ignore_errors=True))
        source = shutil.copytree(Path(__file__).parent / "outside", Path(target) / "source")
        pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation"]
        subprocess.run([*pip, "--target", target, source], check=True)
        paths = filter(None, [target, os.environ.get("PYTHONPATH")])
        os.environ["PYTHONPATH"] = os.pathsep.join(paths)
    sys.path.append(os.environ["PYTHONPATH"].split(os.pathsep)[0])


@pytest.fixture(scope="session", autouse=True)
def many_networks(request):
    """Keep the compiled networks of many tests: tracing them again takes a tenth of the suite.

    Tests of the limits set their own, and the graphs of the slow tests' deep networks are large.
    """
    if "not slow" not in request.config.option.markexpr:
        return
    # Not above: pytest-xdist's first process needs no TensorFlow.
    from kmedclf.training import cache

    cache.MAX_PROGRAMS = 64


@pytest.fixture
def as_many_threads():
    """Give joblib's processes as many threads as this one has, which all such tests share.

    With fewer threads TensorFlow rounds otherwise; joblib starts other processes, which import
    TensorFlow again, wherever the number differs.
    """
    with joblib.parallel_config("loky", inner_max_num_threads=os.cpu_count()):
        yield


@pytest.fixture
def float32_tolerance(monkeypatch):
    """Compare float32 as scikit-learn's other checks do.

    check_methods_sample_order_invariance compares it at float64's 1e-7. An image's float32 logits
    depend on its place in the batch by some 1e-7, on CPUs whose products of matrices treat the last
    rows apart.
    """
    from sklearn.utils import estimator_checks

    strict = estimator_checks.assert_allclose_dense_sparse

    def compare(x, y, rtol=1e-7, atol=1e-9, err_msg=""):
        if {getattr(one, "dtype", None) for one in (x, y)} == {np.dtype("float32")}:
            rtol, atol = max(rtol, 1e-4), max(atol, 1e-7)  # check_methods_subset_invariance's own
        strict(x, y, rtol=rtol, atol=atol, err_msg=err_msg)

    monkeypatch.setattr(estimator_checks, "assert_allclose_dense_sparse", compare)


@pytest.fixture(scope="session")
def cells():
    """64 synthetic blood cells (64, 28, 28, 3), uint8, and their labels out of 8 classes."""
    X, y = make_blood_cells(64, random_state=0)
    X.flags.writeable = y.flags.writeable = False  # one copy for all tests
    return X, y
