"""The drawn brain slices: seeded, in proportion, and neighbours that the audit finds."""

import numpy as np
import pytest

from kmedclf.datasets import audit, make_brain_slices


@pytest.mark.parametrize(("n", "size"), [(1, 8), (40, 28), (300, 33)])
def test_shapes_and_dtypes(n, size):
    X, y = make_brain_slices(n, size, random_state=0)
    assert (X.shape, X.dtype) == ((n, size, size), np.uint8)
    assert (y.shape, y.dtype) == ((n,), np.int64)


def test_same_seed_same_set_and_others_differ():
    (X, y), (X2, y2) = (make_brain_slices(60, 16, random_state=3) for _ in range(2))
    np.testing.assert_array_equal(X, X2)
    np.testing.assert_array_equal(y, y2)
    assert (make_brain_slices(60, 16, random_state=4)[0] != X).any()


@pytest.mark.parametrize("n", [40, 2870])
def test_classes_in_proportion(n):
    counts = np.array([826, 822, 395, 827])
    drawn = np.bincount(make_brain_slices(n, 8, random_state=0)[1], minlength=4)
    assert np.all(np.abs(drawn - n * counts / counts.sum()) < 1)


def test_neighbours_are_near_copies_and_of_one_class():
    X, y = make_brain_slices(200, 64, random_state=0)
    found = audit(X, y)
    assert not found.identical
    assert len(found.near) > 50
    assert len(found.two_labels) < len(found.near) / 10


def test_wrong_parameters_are_named():
    for options in ({"n_samples": 0}, {"image_size": 7}, {"random_state": -1}):
        (name,) = options
        with pytest.raises(ValueError, match=f"'{name}' parameter of make_brain_slices"):
            make_brain_slices(**options)
