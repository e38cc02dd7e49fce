"""The multilayer perceptron."""

from __future__ import annotations

from typing import Any

import keras

from kmedclf.base import ImageClassifier
from kmedclf.models._blocks import normalized
from kmedclf.parameters import Activation, FractionOrZero, PositiveInt
from kmedclf.recipes import AUTO, Auto


class MLPClassifier(ImageClassifier):
    """Multilayer perceptron with one hidden layer on the flattened image.

    The defaults are the winners of a staged grid search on BloodMNIST; on its 28 × 28 × 3 images
    and 8 classes the network has 302,216 parameters.

    Parameters
    ----------
    units : int or "auto", default="auto"
        Neurons in the hidden layer; 128 in the reference.
    activation : str, default="relu"
        Keras activation of the hidden layer.
    batch_norm : bool or "auto", default="auto"
        Whether batch normalisation stands before that activation; not in the reference.
    dropout : float or "auto", default="auto"
        Share of the features that a training step leaves out before the softmax; 0 in the
        reference.
    normalize : bool or "auto", default="auto"
        Whether each channel of the images is standardised first, by the batch in training and by
        moving statistics in use; not in the reference.

    Examples
    --------
    >>> from kmedclf import MLPClassifier
    >>> from kmedclf.datasets import make_blood_cells
    >>> X, y = make_blood_cells(200, random_state=0)  # synthetic
    >>> MLPClassifier(epochs=2, random_state=0).fit(X, y).predict_proba(X[:3]).shape
    (3, 8)
    """

    units: PositiveInt | Auto = AUTO
    activation: Activation = "relu"
    batch_norm: bool | Auto = AUTO
    dropout: FractionOrZero | Auto = AUTO
    normalize: bool | Auto = AUTO

    def features(self, x: Any) -> Any:
        """Map images (b, h, w, c) to features (b, units)."""
        if self.normalize:
            x = normalized(x)
        x = keras.layers.Flatten()(x)  # (b, h w c)
        x = keras.layers.Dense(self.units)(x)
        if self.batch_norm:
            x = keras.layers.BatchNormalization(momentum=0.9)(x)
        x = keras.layers.Activation(self.activation)(x)
        return keras.layers.Dropout(self.dropout)(x) if self.dropout else x
