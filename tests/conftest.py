"""What all tests share: a quiet TensorFlow and a handful of images."""

import os

# Read by TensorFlow when it is imported, by the first test that needs it.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import pytest

from kmedclf.datasets import make_blood_cells


@pytest.fixture(scope="session")
def cells():
    """64 synthetic blood cells (64, 28, 28, 3), uint8, and their labels out of 8 classes."""
    X, y = make_blood_cells(64, random_state=0)
    X.flags.writeable = y.flags.writeable = False  # one copy for all tests
    return X, y
