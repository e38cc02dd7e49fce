"""Training of a network: from checked rows to weights."""
