"""Training of a network: from checked rows to weights."""

import kmedclf.utils.tensorflow_loaded  # noqa: F401
