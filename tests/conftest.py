"""What all tests share: a quiet TensorFlow, a handful of images and a user's own package."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

# Read by TensorFlow when it is imported, by the first test that needs it.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import pytest

from kmedclf.datasets import make_blood_cells


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


@pytest.fixture(scope="session")
def cells():
    """64 synthetic blood cells (64, 28, 28, 3), uint8, and their labels out of 8 classes."""
    X, y = make_blood_cells(64, random_state=0)
    X.flags.writeable = y.flags.writeable = False  # one copy for all tests
    return X, y
