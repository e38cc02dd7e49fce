"""The contestants of `benchmarks.train` on TensorFlow: stock, plain Keras, this package, the limit.

stock   scikeras' ``KerasClassifier``: augmentation layers in the model, float images, softmax
keras   ``keras.Model.fit`` of the same network on uint8 images, scaled in the model, logits
ours    the estimators of this package, on uint8 images, ``augment=True``
limit   no training: GFLOP/s of a large matrix product and of a large convolution

All train with Adam, count hits and wait between the epochs of one call of ``fit``.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import Any

if sys.argv[1:2] not in (["stock"], ["keras"]):  # those have TensorFlow as it is by default
    import kmedclf.utils.tensorflow_loaded  # noqa: F401

import keras
import tensorflow as tf

from benchmarks import _common


def plain(network: str, *, augment: bool, softmax: bool) -> keras.Model:
    """Build a network as one writes it in Keras, from float images or, for logits, from uint8."""
    layers = keras.layers
    image = x = keras.Input((28, 28, 3))
    if not softmax:
        x = layers.Rescaling(1 / 255)(x)
    if augment:
        x = layers.RandomRotation(0.2)(layers.RandomFlip()(x))
    if network == "mlp":
        x = layers.Dense(128, activation="relu")(layers.Flatten()(x))
    elif network.startswith("cnn_"):
        x = layers.Conv2D(int(network.removeprefix("cnn_")), 3, activation="relu")(x)
        x = layers.Flatten()(layers.MaxPooling2D(2)(x))
    else:
        x = layers.ReLU()(_normalised(layers.ZeroPadding2D(1)(x), 64))
        x = _block(_block(x, 128), 256)
        x = layers.Dense(256, activation="relu")(layers.GlobalAveragePooling2D()(x))
    activation = "softmax" if softmax else None
    x = layers.Dense(_common.CLASSES, activation=activation, dtype="float32")(x)
    return keras.Model(image, x)


def _normalised(x: Any, filters: int, strides: int = 1) -> Any:
    x = keras.layers.Conv2D(filters, 3, strides=strides, padding="same")(x)
    return keras.layers.BatchNormalization()(x)


def _block(x: Any, filters: int) -> Any:
    shortcut = keras.layers.Conv2D(filters, 1, strides=2)(x)
    x = _normalised(x, filters, strides=2)
    for _ in range(2):
        x = _normalised(keras.layers.ReLU()(x), filters)
    return keras.layers.ReLU()(keras.layers.Add()([x, shortcut]))


def flops(network: str) -> float:
    """Count the arithmetic of one image in training: forward, and the gradients of both factors.

    A multiplication and the addition behind it are two; what is not convolution or matrix product
    does not count, nor the gradient of the image itself.
    """
    counts = []
    for layer in plain(network, augment=False, softmax=True).layers:
        if isinstance(layer, keras.layers.Conv2D | keras.layers.Dense):
            places = layer.output.shape[1:-1]
            product = 2 * layer.kernel.shape[-1]
            for size in (*places, *layer.kernel.shape[:-1]):
                product *= size
            counts.append(float(product))
    return 3 * sum(counts) - counts[0]


class Pace(keras.callbacks.Callback):
    """Makes a fit wait between turns."""

    def __init__(self, turns: _common.Turns, answer: dict[str, Any]) -> None:
        super().__init__()
        self.turns, self.answer = turns, answer

    def __deepcopy__(self, memo: Any) -> Pace:
        """Stay one: scikeras copies callbacks."""
        return self

    def on_train_begin(self, logs: Any = None) -> None:
        """Answer that all is built."""
        answer = {**self.answer, "n_params": _n_params(self.model)}
        self.turns.begin(**answer)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Wait at the end of a turn."""
        if not self.turns.ended():
            self.model.stop_training = True


def _n_params(model: keras.Model) -> int:
    sizes = []
    for variable in model.trainable_variables:
        size = 1
        for side in variable.shape:
            size *= side
        sizes.append(size)
    return sum(sizes)


Fit = Callable[[Any, Any, int, list[Any]], Any]


def stock_fit(case: dict[str, Any]) -> Fit:
    """Make the fit that one writes with scikeras; takes float images."""
    from scikeras.wrappers import KerasClassifier

    def build() -> keras.Model:
        return plain(case["network"], augment=case["augment"], softmax=True)

    def fit(X: Any, y: Any, epochs: int, callbacks: list[Any]) -> Any:
        estimator = KerasClassifier(
            build,
            loss="sparse_categorical_crossentropy",
            optimizer="adam",
            metrics=["accuracy"],
            batch_size=case["batch"],
            epochs=epochs,
            callbacks=callbacks or None,
            verbose=0,
        )
        return estimator.fit(X, y)

    return fit


def keras_fit(case: dict[str, Any]) -> Fit:
    """Make the fit of Keras alone; takes uint8 images."""
    model = plain(case["network"], augment=case["augment"], softmax=False)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy"])

    def fit(X: Any, y: Any, epochs: int, callbacks: list[Any]) -> Any:
        return model.fit(
            X, y, batch_size=case["batch"], epochs=epochs, callbacks=callbacks, verbose=0
        )

    return fit


def our_estimator(case: dict[str, Any], **parameters: Any) -> Any:
    """Make this package's estimator of a case."""
    import kmedclf

    shared = {"optimizer": "adam", "early_stopping": False, "random_state": 0, **parameters}
    shared |= {"batch_size": case["batch"], "augment": case["augment"]}
    if case["network"] == "mlp":
        return kmedclf.MLPClassifier(units=128, **shared)
    if case["network"].startswith("cnn_"):
        return kmedclf.CNNClassifier(filters=int(case["network"].removeprefix("cnn_")), **shared)
    return kmedclf.ResNetClassifier(**shared)


def our_fit(case: dict[str, Any], precision: str = "float32") -> Fit:
    """Make the fit of this package; takes uint8 images."""

    def fit(X: Any, y: Any, epochs: int, callbacks: list[Any]) -> Any:
        given = {"epochs": epochs, "callbacks": callbacks, "precision": precision}
        return our_estimator(case, **given).fit(X, y)

    return fit


def images(way: str, n: int) -> tuple[Any, Any]:
    """Draw images as a way takes them."""
    X, y = _common.noise(n)
    return (X.astype("float32") / 255, y) if way == "stock" else (X, y)


def train(way: str, low: bool, answers: _common.Answers) -> None:
    """Answer requests of trainings until there are no more."""
    if way == "ours":
        import kmedclf

        assert kmedclf.MLPClassifier  # imported before the clock runs
    elif low:
        keras.config.set_dtype_policy("mixed_bfloat16")
    answers.give(rss_mb=_common.rss_mb())
    while case := answers.request():
        X, y = images(way, case["images"])
        began = time.perf_counter()
        if way == "ours":
            fit = our_fit(case, "mixed" if low else "float32")
        else:
            fit = {"stock": stock_fit, "keras": keras_fit}[way](case)
        fit(X[: case["batch"]], y[: case["batch"]], 1, [])
        first = {"first_step_s": time.perf_counter() - began}
        fit(X, y, 10**6, [Pace(_common.Turns(answers, case["epochs"]), first)])
        answers.give(peak_rss_mb=_common.peak_rss_mb())


def rates(low: bool) -> dict[str, float]:
    """Measure the GFLOP/s of a large matrix product and of a large convolution."""
    dtype = tf.bfloat16 if low else tf.float32
    matrix = tf.cast(tf.random.normal([2048, 2048]), dtype)
    image = tf.cast(tf.random.normal([64, 28, 28, 128]), dtype)
    kernel = tf.cast(tf.random.normal([3, 3, 128, 128]), dtype)
    work = {
        "matmul": (lambda: tf.linalg.matmul(matrix, matrix), 2 * 2048**3),
        "conv": (lambda: tf.nn.conv2d(image, kernel, 1, "SAME"), 2 * 64 * 28 * 28 * 9 * 128 * 128),
    }
    found = {}
    for name, (run, operations) in work.items():
        run()  # the first time is no measure
        seconds = []
        for _ in range(3):
            began = time.perf_counter()
            run().numpy()
            seconds.append(time.perf_counter() - began)
        found[name] = operations / min(seconds) / 1e9
    return found


def limit(low: bool, answers: _common.Answers) -> None:
    """Answer requests of GFLOP/s until there are no more; that of a case gives arithmetic."""
    answers.give(rss_mb=_common.rss_mb())
    while request := answers.request():
        if request["do"] == "case":
            answers.give(flops=flops(request["network"]))
        else:
            answers.give(gflops=rates(low))


def main() -> None:
    """Answer requests until there are no more."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("way", choices=["stock", "keras", "ours", "limit"])
    parser.add_argument("--low", action="store_true", help="bfloat16")
    args = parser.parse_args()
    answers = _common.Answers()
    if args.way == "limit":
        limit(args.low, answers)
    else:
        train(args.way, args.low, answers)


if __name__ == "__main__":
    main()
