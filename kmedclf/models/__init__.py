"""The networks, one file each."""

import kmedclf.utils.tensorflow_loaded  # noqa: F401

from kmedclf.models.alexnet import AlexNetClassifier
from kmedclf.models.cnn import CNNClassifier
from kmedclf.models.convnet import ConvNetClassifier
from kmedclf.models.deep_resnet import DeepResNetClassifier
from kmedclf.models.densenet import DenseNetClassifier
from kmedclf.models.efficientnet import EfficientNetClassifier
from kmedclf.models.mlp import MLPClassifier
from kmedclf.models.resnet import ResNetClassifier
from kmedclf.models.vit import ViTClassifier

__all__ = [
    "AlexNetClassifier",
    "CNNClassifier",
    "ConvNetClassifier",
    "DeepResNetClassifier",
    "DenseNetClassifier",
    "EfficientNetClassifier",
    "MLPClassifier",
    "ResNetClassifier",
    "ViTClassifier",
]
