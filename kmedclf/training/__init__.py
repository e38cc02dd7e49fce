"""One fit, from checked rows to weights."""
