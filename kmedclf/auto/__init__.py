"""The best model in the time you have: candidates, halving, an ensemble, and an honest estimate."""

from kmedclf.auto.classifier import AutoClassifier as AutoClassifier
from kmedclf.auto.linear import EfficientNetProbe as EfficientNetProbe
from kmedclf.auto.linear import PixelClassifier as PixelClassifier
from kmedclf.auto.linear import ResizedEfficientNet as ResizedEfficientNet

__all__ = [
    "AutoClassifier",
    "EfficientNetProbe",
    "PixelClassifier",
    "ResizedEfficientNet",
]
