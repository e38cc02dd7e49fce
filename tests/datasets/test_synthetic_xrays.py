"""The drawn X-rays of bones and chests: seeded, in proportion, and told apart by eye."""

import numpy as np
import pytest

from kmedclf.datasets import make_xrays
from kmedclf.datasets.synthetic_xrays import XRAYS


@pytest.mark.parametrize("kind", XRAYS)
@pytest.mark.parametrize("size", [8, 33, 224])
def test_shapes_and_dtypes(kind, size):
    X, y = make_xrays(kind, 5, size, random_state=0)
    assert (X.shape, X.dtype) == ((5, size, size), np.uint8)
    assert (y.shape, y.dtype) == ((5,), np.int64)


@pytest.mark.parametrize("kind", XRAYS)
def test_same_seed_same_set_in_proportion(kind):
    X, y = make_xrays(kind, 300, 16, random_state=0)
    again = make_xrays(kind, 300, 16, random_state=np.random.default_rng(0))
    np.testing.assert_array_equal(X, again[0])
    assert (make_xrays(kind, 300, 16, random_state=1)[0] != X).any()
    weights = np.array(XRAYS[kind].weights)
    counts = np.bincount(y, minlength=len(weights))
    assert np.all(np.abs(counts - 300 * weights / weights.sum()) < 1)
    assert len(XRAYS[kind].class_names) == len(weights)
    assert list(XRAYS[kind].class_names) == sorted(XRAYS[kind].class_names)  # as a folder has them


@pytest.mark.parametrize("kind", XRAYS)
def test_classes_can_be_told_apart(kind):
    """Spectra, which know neither place nor turn, tell the classes better than chance."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    X, y = make_xrays(kind, 600, 32, random_state=0)
    spectra = np.log1p(np.abs(np.fft.rfft2(X.astype(float))).reshape(len(X), -1))
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=200))
    accuracy = model.fit(spectra[:400], y[:400]).score(spectra[400:], y[400:])
    assert accuracy > np.bincount(y).max() / len(y) + 0.1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("knee",), "'kind' parameter of make_xrays must be one of 'bone', 'chest', 'lung'. Got"),
        (("bone", 0), "'n_samples' parameter of make_xrays must be an int of at least 1"),
        (("bone", 5, 4), "'image_size' parameter of make_xrays must be an int of at least 8"),
        (("bone", 5, 8, -1), "'random_state' parameter of make_xrays"),
    ],
)
def test_what_cannot_be_drawn_is_refused(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        make_xrays(*arguments)
