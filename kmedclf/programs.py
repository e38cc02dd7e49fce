"""The cache of compiled networks, by its public name: what it did so far, and how to empty it."""

from kmedclf.training.cache import clear, stats

__all__ = ["clear", "stats"]
