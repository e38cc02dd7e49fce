"""Measurements behind the numbers in the README, the docs and the CHANGELOG."""
