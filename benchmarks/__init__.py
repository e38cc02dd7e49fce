"""Measurements behind the numbers in the README and the docs; RESULTS.md has them."""
