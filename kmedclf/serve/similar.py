"""The training images that are most similar to an image, by the features of the network."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kmedclf import runs
from kmedclf.datasets import sources
from kmedclf.evaluation.wording import count
from kmedclf.features import ImageFeatures
from kmedclf.pages import webp
from kmedclf.pages.gallery import SIDE, shrunk
from kmedclf.serve.model import ServedModel, networks
from kmedclf.utils.files import places_below
from kmedclf.utils.json_files import read_environment

SEARCHED = 2000
"""Most training images to compare with, drawn at random from more."""

SHOWN = 4
"""Number of similar images shown."""

AT_ONCE = 16
"""Images whose features are computed before the next look at whether to stop."""


class Similar(NamedTuple):
    """A training image: its file or number, its label, the cosine of the features, a picture."""

    name: str
    label: str
    cosine: float
    picture: str  # base64 of WebP


class TrainingImages:
    """The features of a run's training images, computed in a thread of its own."""

    def __init__(self, served: ServedModel) -> None:
        self.words = "The training images are still being read."
        self._served = served
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read, name="kmedclf-similar", daemon=True)
        self._features: np.ndarray | None = None

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def stop(self) -> None:
        """Stop reading, and wait for the thread."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()

    def nearest(self, image: Any) -> list[Similar]:
        """Find the training images most similar to one image; none while they are read."""
        if self._features is None:
            return []
        with self._served.lock:
            found = self._directions(self._transformer.transform(image))[0]
        cosines = self._features @ found
        best = np.argsort(-cosines, kind="stable")[:SHOWN]
        try:
            return [
                Similar(
                    self._names[i],
                    self._labels[i],
                    float(cosines[i]),
                    webp(shrunk(self._X[i], SIDE)),
                )
                for i in best.tolist()
            ]
        except (OSError, ValueError) as error:  # a file that has gone meanwhile
            self._features, self.words = None, _cannot(error)
            return []

    def _read(self) -> None:
        # Whatever is the matter with the images, the page works without them
        try:
            self.words = self._read_all()
        except (OSError, ValueError, ImportError, MemoryError) as error:
            self.words = _cannot(error)
        except Exception as error:
            name = type(error).__name__
            self.words = f"Comparing with the training images failed, kmedclf's own fault: {name}."
            raise

    def _read_all(self) -> str:
        if self._served.folder is None:
            return "A model's file does not say which images it was trained on; a run folder does."
        network = main_network(self._served.estimator)
        if network is None:
            return "The model is no network, and has no features to compare images by."
        X, y, root, names = _training_images(self._served.folder)
        n = len(y)
        chosen = np.arange(n)
        if n > SEARCHED:
            chosen = np.sort(np.random.default_rng(0).choice(n, SEARCHED, replace=False))
        places = places_below(X, root)
        self._X, self._labels = X[chosen], [names[i] for i in chosen]
        self._names = [places[i] if places else f"training image {i}" for i in chosen.tolist()]
        height, width, channels = network.image_shape_
        self._transformer = ImageFeatures(
            network=network,
            image_size=(height, width) if width > 1 else None,
            channels=channels if channels in (1, 3) else 3,
            resize=network.resize,
        ).fit(self._X[:AT_ONCE])
        parts = []
        for start in range(0, len(chosen), AT_ONCE):
            if self._stop.is_set():
                return self.words
            with self._served.lock:
                parts.append(self._transformer.transform(self._X[start : start + AT_ONCE]))
        features = np.concatenate(parts)
        # Activations are positive, so that without it all directions would be nearly one
        self._mean, self._spread = features.mean(axis=0), features.std(axis=0) + 1e-6
        self._features = self._directions(features)
        compared = f"{len(chosen):,} of " if len(chosen) < n else ""
        return (
            f"Compared with {compared}{count(n, 'training image')}, by the cosine of the network's "
            "features, standardised. Similar for the network is not always similar for you."
        )

    def _directions(self, features: np.ndarray) -> np.ndarray:
        """Standardise features (n, d), and scale them to length 1; products are cosines."""
        found = (features - self._mean) / self._spread
        return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)


def _cannot(error: Exception) -> str:
    return f"The training images cannot be compared with: {' '.join(str(error).split())}"


def main_network(model: Any) -> Any:
    """Return the network of a model, or of several the one that counts most."""
    from kmedclf.ensemble import EnsembleClassifier

    inner = getattr(model, "classifier_", model)
    inner = getattr(inner, "estimator", inner)
    if isinstance(inner, EnsembleClassifier):
        inner = inner.estimators_[int(np.argmax(inner.weights_))]
    return next(iter(networks(inner)), None)


def _training_images(folder: Path) -> tuple[Any, Any, Path | None, list[str]]:
    """Read the images that a run was trained on, their labels, and the names of these."""
    told = read_environment(folder)["data"]
    source, size = told["source"], told.get("size")
    root = Path(source)
    known = root.exists() or source in sources.DRAWN
    # Nothing is downloaded for this
    if not known and not (os.sep not in source and sources.cached(source, size or 28).is_file()):
        raise FileNotFoundError(f"{root.name} is not where it was.")
    # An AutoClassifier trains on both parts as one
    only = "train" if "val" in told["n"] else None
    data = sources.read_data(source, size, only, runs.groups_of(folder, source, "train")).joined()
    X, y = data.splits["train"]
    if told.get("sha256") != data.description.get("sha256") or len(y) != told["n"]["train"]:
        raise ValueError(f"{data.description['name']} has changed since.")
    if y.ndim == 1:
        names = data.names_of(y.tolist())
    else:
        names = [", ".join(np.array(data.class_names)[row > 0]) or "no label" for row in y]
    return X, y, root if root.is_dir() else None, names
