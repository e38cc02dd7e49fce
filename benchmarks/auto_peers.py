"""What other libraries make of the same images in the same time, for `benchmarks.auto`.

    python -m benchmarks.auto_peers fastai --split SPLIT.npz --minutes 1 --out ANSWER.json

Each library is used as its own first example does, from random weights, under a Python of its own:

autokeras  ``ImageClassifier``. It has no limit of time: the search of architectures ends after
           three fifths of it, and the final training of the best one at the end.
aucmedi    ``NeuralNetwork("2D.DenseNet121")``, the default of its ``aucmedi training``, with its
           generator and its augmentation, at the size of that network; epochs until the end.
fastai     ``vision_learner(resnet18)`` with ``aug_transforms`` and ``fit_one_cycle``, of as many
           epochs as the first one says that there is time for. Files at 224 pixels.

The clock starts after the library is imported, with the images in memory or their files' names, and
stops before the images to score are looked at.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._common import say, write

SIDE = 224
"""Pixels of images that come as files, unless the library decides."""


def pictures(X: np.ndarray) -> list[Any]:
    """Open images as Pillow's: arrays (h, w), (h, w, c) or files."""
    from PIL import Image

    if X.dtype.kind in "US":
        return [Image.open(path).convert("RGB") for path in X.tolist()]
    return [Image.fromarray(one.squeeze()).convert("RGB") for one in X]


def pixels(X: np.ndarray) -> np.ndarray:
    """Read images as one array of uint8 (n, h, w, 3)."""
    found = pictures(X)
    if X.dtype.kind in "US":
        found = [one.resize((SIDE, SIDE)) for one in found]
    return np.stack([np.asarray(one) for one in found])


def autokeras(
    X: np.ndarray, y: np.ndarray, seconds: float, seed: int, folder: Path
) -> Callable[[Any], Any]:
    """Search an architecture, and train the best."""
    import autokeras
    import keras

    began = time.perf_counter()

    class Ends(keras.callbacks.Callback):
        """Ends trainings in time; AutoKeras copies it, so that its state is global."""

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            oracle = classifier.tuner.oracle
            if time.perf_counter() - began > seconds * (0.6 if oracle.ongoing_trials else 1):
                self.model.stop_training = True
                oracle.max_trials = len(oracle.trials)

    classifier = autokeras.ImageClassifier(directory=folder, overwrite=True, seed=seed)
    classifier.fit(pixels(X), y, callbacks=[Ends()], verbose=0)
    model = classifier.export_model()

    def predict(images: np.ndarray) -> np.ndarray:
        proba = model.predict(pixels(images).astype("float32"), verbose=0)
        return np.hstack([1 - proba, proba]) if proba.shape[1] == 1 else proba

    return predict


def aucmedi(
    X: np.ndarray, y: np.ndarray, seconds: float, seed: int, folder: Path
) -> Callable[[Any], Any]:
    """Train a DenseNet-121 from files, which is what its generator reads."""
    import keras
    from aucmedi import DataGenerator, ImageAugmentation, NeuralNetwork

    keras.utils.set_random_seed(seed)
    began = time.perf_counter()

    class Ends(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if time.perf_counter() - began > seconds:
                self.model.stop_training = True

    def generator(images: np.ndarray, part: str, **options: Any) -> Any:
        names = [f"{part}{i}.png" for i in range(len(images))]
        for name, one in zip(names, pictures(images), strict=True):
            one.save(folder / name)
        return DataGenerator(
            names, str(folder), resize=model.meta_input, standardize_mode=model.meta_standardize,
            **options,
        )  # fmt: skip

    classes = int(y.max()) + 1
    model = NeuralNetwork(classes, channels=3, architecture="2D.DenseNet121", verbose=0)
    options = {"labels": np.eye(classes)[y], "shuffle": True, "data_aug": ImageAugmentation()}
    model.train(generator(X, "train", **options), epochs=100_000, callbacks=[Ends()])
    return lambda images: model.predict(generator(images, "test"))


def fastai(
    X: np.ndarray, y: np.ndarray, seconds: float, seed: int, folder: Path
) -> Callable[[Any], Any]:
    """Train a ResNet-18 by one cycle."""
    from fastai.callback.core import Callback, CancelFitException
    from fastai.metrics import accuracy
    from fastai.torch_core import set_seed
    from fastai.vision.all import (
        CategoryBlock,
        DataBlock,
        ImageBlock,
        PILImage,
        RandomSplitter,
        Resize,
        aug_transforms,
        resnet18,
        vision_learner,
    )

    set_seed(seed)
    began = time.perf_counter()

    class Ends(Callback):
        def after_batch(self) -> None:
            if time.perf_counter() - began > seconds:
                raise CancelFitException

    images = [PILImage(one) for one in pictures(X)]
    block = DataBlock(
        (ImageBlock, CategoryBlock(vocab=list(range(int(y.max()) + 1)))),
        get_x=lambda i: images[i], get_y=lambda i: int(y[i]),
        splitter=RandomSplitter(seed=seed), batch_tfms=aug_transforms(),
        item_tfms=Resize(SIDE) if X.dtype.kind in "US" else None,
    )  # fmt: skip
    loaders = block.dataloaders(range(len(X)), num_workers=0)

    def learner() -> Any:
        return vision_learner(loaders, resnet18, pretrained=False, metrics=accuracy, cbs=Ends())

    with (one := learner()).no_bar(), one.no_logging():
        start = time.perf_counter()
        one.fit_one_cycle(1)
        epoch = time.perf_counter() - start
    left = seconds - (time.perf_counter() - began)
    with (one := learner()).no_bar(), one.no_logging():
        one.fit_one_cycle(max(1, int(left / epoch)))
    one.remove_cb(Ends)

    def predict(unseen: np.ndarray) -> np.ndarray:
        images.extend(PILImage(picture) for picture in pictures(unseen))
        items = range(len(X), len(images))
        with one.no_bar(), one.no_logging():
            return one.get_preds(dl=loaders.test_dl(items))[0].numpy()

    return predict


PEERS = {"autokeras": autokeras, "aucmedi": aucmedi, "fastai": fastai}


def main() -> None:
    """Train one library on one split, and predict."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("--split", type=Path, required=True, help="npz of X, y, X_test")
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    with np.load(args.split) as content:
        X, y, X_test = (content[name] for name in ("X", "y", "X_test"))
    __import__(args.peer)
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        predict = PEERS[args.peer](X, y, 60 * args.minutes, args.seed, Path(folder))
        seconds = time.perf_counter() - began
        say(f"{args.peer}: {seconds:.1f} s")
        proba = np.asarray(predict(X_test), float)
    write(args.out, {"seconds": seconds, "proba": proba.tolist()})


if __name__ == "__main__":
    main()
