"""The networks, one file each."""

from kmedclf.models.cnn import CNNClassifier
from kmedclf.models.mlp import MLPClassifier
from kmedclf.models.resnet import ResNetClassifier

__all__ = ["CNNClassifier", "MLPClassifier", "ResNetClassifier"]
