"""Damaged files of every kind that we read: an error in one sentence, or what they hold.

What a mutant must not do is in `fuzzing.faults`: raise anything but a ValueError with the path,
start or write something, take more memory than twice what it declares and 100 MB, or hang.
"""

import io
from pathlib import Path

import fuzzing
import numpy as np
import pytest
from file_samples import EXACT, LOSSY
from npz_samples import arrays as npz_arrays
from PIL import Image

from kmedclf import datasets
from kmedclf.inputs.image_files import FORMATS, MAX_PIXELS, Form, open_image, read

SEED = 18


def read_image(path):
    """Read an image in both ways, and say how large it is."""
    try:
        width, height = open_image(path).size
        for channels, side in ((3, 8), (1, 12)):
            assert read(path, Form(side, side, channels)).shape == (side, side, channels)
    except ValueError as error:
        error.declared = claimed(path)
        raise
    return width * height * 4


def claimed(path):
    """Give the bytes that an image within our bound claims before it is found to be broken."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            pixels = image.width * image.height
    except Exception:
        return 0
    return 4 * pixels if pixels <= MAX_PIXELS else 0


def image_samples():
    return {name: content for name, (content, *_) in {**EXACT, **LOSSY}.items()}


def read_npz(path):
    """Read all of an npz file."""
    size = 0
    for split in datasets.info(path).n_samples:
        X, y = datasets.load(path, split)
        size += X.nbytes + y.nbytes
    return size


def npz_samples():
    made = npz_arrays(size=5)
    made["class_names"] = np.array(["a", "b", "c"])
    plain, several = io.BytesIO(), io.BytesIO()
    np.savez(plain, **made)
    np.savez_compressed(several, **npz_arrays(size=4, channels=1, multilabel=True))
    return {"plain.npz": plain.getvalue(), "several.npz": several.getvalue()}


def read_table(path):
    """Read a table in both ways that it may have."""
    found = datasets.load_csv(path, group="patient")
    datasets.load_csv(path, label=["mass", "edema"])
    return found.paths.nbytes


def table_samples():
    text = "image,label,patient,mass,edema\n" + "".join(
        f"{i}.png,{'cat' if i % 3 else 'dög'},p{i // 2},{i % 2},0\n" for i in range(20)
    )
    quoted = '"' + text.replace(",", '";"').replace("\n", '"\r\n"')[:-1]
    return {"a.csv": text.encode(), "b.csv": quoted.encode("utf-8-sig"),
            "c.csv": text.encode("utf-16")}  # fmt: skip


def read_space(path):
    """Read a search space."""
    from kmedclf.search import SearchSpace

    SearchSpace.load(path)


def space_samples():
    folder = Path(__file__).parents[2] / "search_spaces"
    return {f"{name}.yaml": (folder / f"{name}.yaml").read_bytes() for name in ("cnn", "vit_flat")}


# function, its samples, mutants of each in the default run and in the slow one
KINDS = {
    "images": ("read_image", image_samples, 3, 200),
    "npz": ("read_npz", npz_samples, 100, 2500),
    "tables": ("read_table", table_samples, 60, 1500),
    "spaces": ("read_space", space_samples, 40, 1500),
}


def check(kind, n, seed, folder):
    target, samples, *_ = KINDS[kind]
    found = fuzzing.survey(f"tests.inputs.test_fuzz_files:{target}", samples(), n, seed, folder)
    # an image of 64 million pixels, read three times, takes seconds
    assert fuzzing.faults(found, seconds=60) == []
    return fuzzing.counts(found)


@pytest.mark.parametrize("kind", KINDS)
def test_mutants_are_read_or_refused_in_one_sentence(tmp_path, kind):
    found = check(kind, KINDS[kind][2], SEED, tmp_path)
    assert min(found.values()) > 10
    assert set(found) == {"read", "ValueError"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_twenty_thousand_more(tmp_path, kind):
    print(kind, check(kind, KINDS[kind][3], SEED + 1, tmp_path))
