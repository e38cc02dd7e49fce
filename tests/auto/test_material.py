"""Folds: by the number of images, whole groups, and of every class while it lasts."""

import numpy as np
import pytest

from kmedclf.auto.material import FOLDS, _splits


@pytest.mark.parametrize(("n", "folds"), [(10, 5), (3000, 5), (3001, 3), (20_000, 3), (30_000, 1)])
@pytest.mark.parametrize("size", [None, 3])
def test_folds(n, folds, size):
    strata = np.arange(n) % 2
    groups = None if size is None else np.arange(n) // size
    wanted = next((k for most, _, k in FOLDS if n <= most), 1)
    splits = _splits(strata, groups, 0, wanted)
    if size is None or n > 10:
        assert len(splits) == folds
    tested = np.concatenate([test for _, test in splits])
    assert len(np.unique(tested)) == len(tested)
    assert len(tested) == n or folds == 1
    for train, test in splits:
        assert not set(train) & set(test)
        if groups is not None:
            assert not set(groups[train]) & set(groups[test])
    if folds == 1:
        assert 0.15 * n < len(tested) < 0.25 * n
