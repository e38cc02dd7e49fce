"""The threshold below which a model does not answer."""

import numpy as np
import pytest

from kmedclf.evaluation import evaluate_predictions
from kmedclf.serve.abstention import ACCURACY, FEWEST, Abstention, lowest_threshold


def report_of(n, seed):
    """A report of two classes whose probabilities are right as often as they say."""
    generator = np.random.default_rng(seed)
    share = generator.uniform(0, 1, n)
    y = (generator.uniform(0, 1, n) < share).astype(int)
    return evaluate_predictions(y, np.stack([1 - share, share], axis=1), n_bootstrap=0)


def test_it_is_the_lowest_at_which_enough_answers_are_right():
    generator = np.random.default_rng(0)
    confidence = np.round(generator.uniform(0.5, 1, 400), 2)  # with ties
    right = generator.uniform(0, 1, 400) < confidence
    found = lowest_threshold(confidence, right)
    for threshold in np.unique(confidence):
        answered = confidence >= threshold
        fits = answered.sum() >= FEWEST and right[answered].mean() >= ACCURACY
        assert not (fits and threshold < found)
        assert fits or threshold != found


@pytest.mark.parametrize(("n", "right"), [(FEWEST - 1, True), (500, False)])
def test_there_is_none_where_too_few_are_right(n, right):
    assert lowest_threshold(np.linspace(0.5, 1, n), np.full(n, right)) is None


def test_the_reason_is_told_with_what_it_does_on_test_images():
    found = Abstention.choose({"val": report_of(500, 0), "test": report_of(400, 1)})
    assert found.threshold > 0.7
    assert "95 % of the answers on 500 validation images" in found.reason
    assert "of 400 test images" in found.reason
    assert Abstention.choose({}).threshold == 0.5
    assert "No validation images" in Abstention.choose({}).reason
    nested = Abstention.choose({"nested": report_of(500, 0), "test": report_of(400, 1)})
    assert nested.threshold == found.threshold
    assert "on 500 training images, each predicted without it, were right" in nested.reason
    few = Abstention.choose({"val": report_of(20, 0)})
    assert few.threshold == 0.5
    assert "20 validation images" in few.reason
