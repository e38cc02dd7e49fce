"""Medical image classifiers on Keras that behave like scikit-learn estimators.

Names are imported when they are first used: ``import kmedclf`` alone loads neither TensorFlow nor
matplotlib. Where Keras is loaded already, the networks are loaded too, so that
``keras.models.load_model`` knows their layers; where it is not, ``import kmedclf.models`` does it.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import lazy_loader

from kmedclf.utils import forks as _forks  # noqa: F401  watches for forks from now on

__version__ = "0.1.0"

NETWORKS: tuple[str, ...] = tuple(
    lazy_loader.attach_stub("kmedclf.models", str(Path(__file__).parent / "models/__init__.pyi"))[2]
)
"""Names of the networks, known without importing them."""

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    ["datasets", "evaluation", "models", "programs", "search", "serve", "trackers"],
    {
        "auto": ["AutoClassifier"],
        "base": ["ImageClassifier"],
        "build_function": ["KerasImageClassifier"],
        "calibration": ["CalibratedClassifier"],
        "ensemble": ["EnsembleClassifier"],
        "features": ["ImageFeatures"],
        "inputs.checks": ["Unsliced"],
        "models": NETWORKS,
        "persistence": ["load"],
    },
)

if "keras" in sys.modules:
    importlib.import_module("kmedclf.models")
