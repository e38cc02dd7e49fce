"""Medical image classifiers on Keras that behave like scikit-learn estimators.

Names are imported when they are first used: ``import kmedclf`` alone loads neither TensorFlow nor
matplotlib.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "CNNClassifier": "kmedclf.models.cnn",
    "ImageClassifier": "kmedclf.base",
    "MLPClassifier": "kmedclf.models.mlp",
    "ResNetClassifier": "kmedclf.models.resnet",
    "Unsliced": "kmedclf.validation",
    "load": "kmedclf.persistence",
}
_MODULES = ("datasets", "evaluation", "models", "programs", "search")

__all__ = [
    "CNNClassifier",
    "ImageClassifier",
    "MLPClassifier",
    "ResNetClassifier",
    "Unsliced",
    "datasets",
    "evaluation",
    "load",
    "models",
    "programs",
    "search",
]

if TYPE_CHECKING:
    from kmedclf import datasets, evaluation, models, programs, search
    from kmedclf.base import ImageClassifier
    from kmedclf.models import CNNClassifier, MLPClassifier, ResNetClassifier
    from kmedclf.persistence import load
    from kmedclf.validation import Unsliced


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name in _MODULES:
        return importlib.import_module(f"kmedclf.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'kmedclf' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List public names, imported or not."""
    return sorted([*globals(), *__all__])
