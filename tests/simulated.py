"""Simulated predictions, for the tests of evaluation."""

import numpy as np


def simulated(n=200, k=4, seed=0, skill=1.5):
    """Labels, and softmax probabilities that know something of them."""
    generator = np.random.default_rng(seed)
    y = generator.integers(k, size=n)
    logits = generator.normal(size=(n, k))
    logits[np.arange(n), y] += skill
    proba = np.exp(logits)
    return y, proba / proba.sum(axis=1, keepdims=True)


def values(report):
    return {name: one.value for name, one in report.scores.items()}
