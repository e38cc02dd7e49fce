"""The contestants of `benchmarks.images` on TensorFlow: this package, and Keras' own.

ours    the estimators of this package, on paths of image files
keras   ``keras.Model.fit`` and ``predict`` of keras.applications' network, on a tf.data pipeline
        that reads with tf.io, for the networks that are there

Both are asked to train an epoch or to predict at a time, and decode files when asked for that.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any

if sys.argv[1:2] == ["ours"]:  # Keras has TensorFlow as it is by default
    import kmedclf.utils.tensorflow_loaded  # noqa: F401

import keras
import numpy as np
import tensorflow as tf

from benchmarks import _common

APPLICATIONS = {
    "resnet50": "ResNet50",
    "densenet121": "DenseNet121",
    "efficientnet_b0": "EfficientNetB0",
}


class Pace(keras.callbacks.Callback):
    """Makes a fit wait between epochs, and answers with the seconds of each."""

    def __init__(self, answers: _common.Answers) -> None:
        super().__init__()
        self.answers = answers

    def on_train_begin(self, logs: Any = None) -> None:
        """Begin the first epoch."""
        self.clock = _common.Clock()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Answer, and wait for the next request."""
        self.answers.give(**self.clock.passed())
        request = self.answers.request()
        self.model.stop_training = request is None or request["do"] != "train"
        self.clock = _common.Clock()


class Ours:
    """The estimators of this package."""

    def __init__(self, case: dict[str, Any], low: bool) -> None:
        import kmedclf

        self.paths, self.y = np.array(case["files"]), np.array(case["y"])
        self.cache = case.get("cache")
        shared = {
            "image_size": case["side"], "batch_size": case["batch"], "optimizer": "adam",
            "epochs": 10**6, "early_stopping": False, "augment": False, "random_state": 0,
            "precision": "mixed" if low else "float32", "cache": self.cache,
        }  # fmt: skip
        network, small = case["network"], {"width": 0.1, "depth": 0.1}
        if network.startswith("cnn_"):
            filters = int(network.removeprefix("cnn_"))
            self.estimator: Any = kmedclf.CNNClassifier(filters=filters, **shared)
        elif network.startswith("resnet"):
            depth = int(network.removeprefix("resnet"))
            self.estimator = kmedclf.DeepResNetClassifier(depth=depth, stem="imagenet", **shared)
        elif network.startswith("densenet"):
            self.estimator = kmedclf.DenseNetClassifier(stem="imagenet", **shared)
        elif network.startswith("efficientnet"):
            scale = small if network.endswith("tiny") else {}
            self.estimator = kmedclf.EfficientNetClassifier(stem="imagenet", **scale, **shared)
        else:
            patch = 16 if case["side"] >= 96 else 4
            self.estimator = kmedclf.ViTClassifier(patch_size=patch, **shared)

    def train(self, answers: _common.Answers) -> None:
        """Train, an epoch a request."""
        self.estimator.set_params(callbacks=[Pace(answers)]).fit(self.paths, self.y)

    def predict(self) -> np.ndarray:
        """Return probabilities (n, k)."""
        return np.asarray(self.estimator.predict_proba(self.paths))

    @property
    def n_params(self) -> int:
        """Number of trainable weights."""
        return int(self.estimator.n_params_)


class Keras:
    """Keras and tf.data."""

    def __init__(self, case: dict[str, Any], low: bool) -> None:
        keras.config.set_dtype_policy("mixed_bfloat16" if low else "float32")
        self.paths, self.y, self.case = case["files"], case["y"], case
        application = getattr(keras.applications, APPLICATIONS[case["network"]])
        shape, classes = (case["side"], case["side"], 3), _common.CLASSES
        whole = application(
            weights=None, input_shape=shape, classes=classes, classifier_activation=None
        )
        image = keras.Input(shape)
        logits = keras.layers.Activation("linear", dtype="float32")(
            whole(keras.layers.Rescaling(1 / 255)(image))
        )
        self.model = keras.Model(image, logits)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        self.model.compile("adam", loss, metrics=["accuracy"])

    def _batches(self, *, shuffled: bool) -> Any:
        dataset = tf.data.Dataset.from_tensor_slices((self.paths, self.y))
        dataset = dataset.shuffle(len(self.paths)) if shuffled else dataset
        read = reader(self.case["side"])
        dataset = dataset.map(lambda path, y: (read(path), y), tf.data.AUTOTUNE)
        return dataset.batch(self.case["batch"]).prefetch(tf.data.AUTOTUNE)

    def train(self, answers: _common.Answers) -> None:
        """Train, an epoch a request."""
        batches = self._batches(shuffled=True)
        self.model.fit(batches, epochs=10**6, callbacks=[Pace(answers)], verbose=0)

    def predict(self) -> np.ndarray:
        """Return logits (n, k)."""
        return np.asarray(self.model.predict(self._batches(shuffled=False), verbose=0))

    @property
    def n_params(self) -> int:
        """Number of trainable weights."""
        return sum(int(np.prod(one.shape)) for one in self.model.trainable_weights)


def reader(side: int) -> Callable[[Any], Any]:
    """Return the function from a path to an image (side, side, 3), in a graph."""

    def read(path: Any) -> Any:
        image = tf.io.decode_image(tf.io.read_file(path), 3, expand_animations=False)
        image = tf.ensure_shape(image, [None, None, 3])
        same = tf.reduce_all(tf.shape(image)[:2] == side)
        smaller = lambda: tf.saturate_cast(  # noqa: E731
            tf.image.resize(tf.cast(image, tf.float32), (side, side), antialias=True), tf.uint8
        )
        return tf.ensure_shape(tf.cond(same, lambda: image, smaller), [side, side, 3])

    return read


def decode(way: str, request: dict[str, Any]) -> dict[str, float]:
    """Decode all files once, on all cores; return the seconds."""
    files, side = request["files"], request["side"]
    clock = _common.Clock()
    if way == "ours":
        from kmedclf.inputs.file_array import FileArray
        from kmedclf.inputs.image_files import Form

        array = FileArray(files, Form(side, side, 3), np.uint8)
        for start in range(0, len(files), 32):
            array[np.arange(start, min(start + 32, len(files)))]
    else:
        dataset = tf.data.Dataset.from_tensor_slices(files).map(reader(side), tf.data.AUTOTUNE)
        for _ in dataset.batch(32).prefetch(tf.data.AUTOTUNE):
            pass
    return clock.passed()


def main() -> None:
    """Answer requests until there are no more."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("way", choices=["ours", "keras"])
    parser.add_argument("--low", action="store_true", help="bfloat16")
    args = parser.parse_args()
    answers = _common.Answers()
    answers.give()
    made = {"ours": Ours, "keras": Keras}[args.way]
    network: Any = None
    while request := answers.request():
        if request["do"] == "decode":
            answers.give(**decode(args.way, request))
        elif request["do"] == "case":
            network = made(request, args.low)
            answers.give(ready=True)
        elif request["do"] == "train":
            network.train(answers)  # takes the requests up to the one that ends it
            answers.give(n_params=network.n_params)
        else:
            clock = _common.Clock()
            network.predict()
            answers.give(**clock.passed())


if __name__ == "__main__":
    main()
