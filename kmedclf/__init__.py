"""Medical image classifiers on Keras that behave like scikit-learn estimators.

Names are imported when they are first used: ``import kmedclf`` alone loads neither TensorFlow nor
matplotlib. Where Keras is loaded already, the networks are loaded too, so that
``keras.models.load_model`` knows their layers; where it is not, ``import kmedclf.models`` does it.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

from kmedclf.utils import forks as _forks  # noqa: F401  watches for forks from now on

__version__ = "0.1.0"

_HOME = {
    "AlexNetClassifier": "kmedclf.models.alexnet",
    "CNNClassifier": "kmedclf.models.cnn",
    "CalibratedClassifier": "kmedclf.calibration",
    "ConvNetClassifier": "kmedclf.models.convnet",
    "DeepResNetClassifier": "kmedclf.models.deep_resnet",
    "DenseNetClassifier": "kmedclf.models.densenet",
    "EfficientNetClassifier": "kmedclf.models.efficientnet",
    "EnsembleClassifier": "kmedclf.ensemble",
    "ImageClassifier": "kmedclf.base",
    "ImageFeatures": "kmedclf.features",
    "MLPClassifier": "kmedclf.models.mlp",
    "ResNetClassifier": "kmedclf.models.resnet",
    "Unsliced": "kmedclf.inputs.checks",
    "ViTClassifier": "kmedclf.models.vit",
    "load": "kmedclf.persistence",
}
_MODULES = ("datasets", "evaluation", "models", "programs", "search")

__all__ = [
    "AlexNetClassifier",
    "CNNClassifier",
    "CalibratedClassifier",
    "ConvNetClassifier",
    "DeepResNetClassifier",
    "DenseNetClassifier",
    "EfficientNetClassifier",
    "EnsembleClassifier",
    "ImageClassifier",
    "ImageFeatures",
    "MLPClassifier",
    "ResNetClassifier",
    "Unsliced",
    "ViTClassifier",
    "datasets",
    "evaluation",
    "load",
    "models",
    "programs",
    "search",
]

if TYPE_CHECKING:
    from kmedclf import datasets, evaluation, models, search
    from kmedclf.base import ImageClassifier
    from kmedclf.calibration import CalibratedClassifier
    from kmedclf.ensemble import EnsembleClassifier
    from kmedclf.features import ImageFeatures
    from kmedclf.inputs.checks import Unsliced
    from kmedclf.models import (
        AlexNetClassifier,
        CNNClassifier,
        ConvNetClassifier,
        DeepResNetClassifier,
        DenseNetClassifier,
        EfficientNetClassifier,
        MLPClassifier,
        ResNetClassifier,
        ViTClassifier,
    )
    from kmedclf.persistence import load
    from kmedclf.training import cache as programs


NETWORKS = tuple(name for name, home in _HOME.items() if home.startswith("kmedclf.models."))
"""Names of the networks, known without importing them."""


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name == "programs":
        return importlib.import_module("kmedclf.training.cache")
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


if "keras" in sys.modules:
    importlib.import_module("kmedclf.models")
