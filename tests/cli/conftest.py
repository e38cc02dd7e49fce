"""A data set and a run that several files of tests use."""

import pytest
from cli_helpers import train_mlp, write_npz


@pytest.fixture(scope="module")
def npz(tmp_path_factory):
    return write_npz(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def run(npz, tmp_path_factory):
    return train_mlp(npz, tmp_path_factory.mktemp("runs") / "new" / "mlp")
