"""Damaged files of every kind that we read: an error in one sentence, or what they hold.

What a mutant must not do is in `fuzzing.faults`: raise anything but a ValueError with the path,
start or write something, take more memory than twice what it declares and 100 MB, or hang.
"""

import fuzzing
import pytest
from file_samples import EXACT, LOSSY

from kmedclf.image_files import Form, open_image, read

SEED = 18
QUICK = 4
"""Mutants of each of some hundred files in the default run."""
SLOW = 20_000
"""Mutants of all files together in the slow one."""


def read_image(path):
    """Read an image in both ways, and say how large it is."""
    width, height = open_image(path).size
    for channels, side in ((3, 8), (1, 12)):
        assert read(path, Form(side, side, channels)).shape == (side, side, channels)
    return width * height * 4


def image_samples():
    return {name: content for name, (content, *_) in {**EXACT, **LOSSY}.items()}


KINDS = {"images": ("read_image", image_samples)}


@pytest.mark.parametrize("kind", KINDS)
def test_mutants_are_read_or_refused_in_one_sentence(tmp_path, kind):
    target, samples = KINDS[kind]
    found = fuzzing.survey(f"test_fuzz_files:{target}", samples(), QUICK, SEED, tmp_path)
    assert fuzzing.faults(found) == []
    assert min(fuzzing.counts(found).values()) > 20
