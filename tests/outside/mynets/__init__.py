"""Somebody else's network: all it takes to have one is this class."""

import keras

from kmedclf import ImageClassifier


class TinyNet(ImageClassifier):
    """A normalised, dropped-out layer: statistics, a seed generator and a loss of its own."""

    width: int = 8
    dropout: float = 0.25

    def features(self, x):
        """Map images (b, h, w, c) to features (b, width)."""
        x = keras.layers.BatchNormalization()(keras.layers.Flatten()(x))
        x = keras.layers.Dropout(self.dropout)(x)
        return keras.layers.Dense(self.width, "relu", kernel_regularizer="l2")(x)
