"""The page of ``kmedclf app``: an image, what the model says of it, why, and similar images."""

from __future__ import annotations

import os
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from fastapi import FastAPI, Request
from starlette.responses import HTMLResponse

from kmedclf import runs
from kmedclf.datasets import sources
from kmedclf.evaluation.plots import grad_cam
from kmedclf.evaluation.scores import SCORES
from kmedclf.evaluation.wording import count
from kmedclf.features import ImageFeatures
from kmedclf.inputs.image_files import MemoryFile
from kmedclf.pages import filled, webp
from kmedclf.pages.gallery import LARGE_SIDE, SIDE, overlay, shrunk
from kmedclf.runs.machine import read_environment
from kmedclf.serve.http import NO_DEVICE, Worker, make_app, prediction_of
from kmedclf.serve.model import ServedModel, networks
from kmedclf.serve.uploads import Limits, Refused
from kmedclf.utils.files import places_below

SEARCHED = 2000
"""Most training images to compare with, drawn at random from more."""

SHOWN = 4
"""Number of similar images shown."""

AT_ONCE = 16
"""Images whose features are computed before the next look at whether to stop."""

HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def make_page_app(served: ServedModel, limits: Limits, hosts: Sequence[str]) -> FastAPI:
    """Make the service with its page, which is shown at its root."""
    training_images = TrainingImages(served)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        training_images.start()
        yield
        training_images.stop()

    application = make_app(served, limits, hosts, lifespan=lifespan)
    worker = Worker(limits)
    explainer = Explainer(served, training_images)
    text, policy = page_of(served, limits)
    headers = {**HEADERS, "Content-Security-Policy": f"{policy}; frame-ancestors 'none'"}

    @application.get("/", include_in_schema=False)
    async def page() -> HTMLResponse:
        return HTMLResponse(text, headers=headers)

    @application.post("/explain", include_in_schema=False)
    async def explain(request: Request) -> dict[str, Any]:
        return await worker.call(request, explainer.explain)

    return application


def page_of(served: ServedModel, limits: Limits) -> tuple[str, str]:
    """Return the page of a model, and its content security policy."""
    headline = {
        split: [(SCORES[name], one.scores[name]) for name in one.headline]
        for split, one in served.reports.items()
    }
    k = len(served.class_names)
    return filled(
        "app.html",
        "app.js",
        policy="; connect-src 'self'",
        title=f"{served.name} on {served.trained_on}" if served.trained_on else served.name,
        notice=NO_DEVICE,
        served=served,
        megabytes=limits.max_bytes // 2**20,
        scores=headline,
        known=f"{k} {'labels' if served.multilabel else 'classes'}",
        browser={
            "names": served.class_names,
            "multilabel": served.multilabel,
            "threshold": served.abstention.threshold,
            "bytes": limits.max_bytes,
        },
    )


class Explainer:
    """Answers for one image with a picture, a heat map, and similar training images."""

    def __init__(self, served: ServedModel, training_images: TrainingImages) -> None:
        self._served, self._training_images = served, training_images

    def explain(self, images: np.ndarray | list[MemoryFile]) -> dict[str, Any]:
        """Answer for one file."""
        if isinstance(images, np.ndarray) or len(images) != 1:
            raise Refused(400, "The page sends one file at a time.")
        pixels = self._served.read(images)
        (answer,) = self._served.answers(pixels)
        index = answer.labels[0] if answer.labels else int(answer.proba.argmax())
        heat, words = self._heat(pixels, index)
        similar = self._training_images.nearest(pixels)
        return {
            **prediction_of(self._served, answer).model_dump(),
            "name": str(images[0]),
            "explained": self._served.class_names[index],
            "picture": webp(shrunk(images[0], LARGE_SIDE)),
            "heat": heat,
            "heat_words": words,
            "similar": [one._asdict() for one in similar],
            "similar_words": self._training_images.words,
        }

    @cached_property
    def _grad_cam(self) -> grad_cam.GradCam | str:
        """Grad-CAM of the network, or a sentence on why there is none."""
        found = list(networks(self._served.estimator))
        if len(found) != 1:
            what = "several networks" if found else "no network of kmedclf"
            return f"No heat map: the model is made of {what}."
        try:
            return grad_cam.GradCam(found[0])
        except ValueError:
            return "No heat map: the network has no convolutions."

    def _heat(self, pixels: Any, index: int) -> tuple[str | None, str]:
        """Return the heat map of a class as base64 of WebP, and words on it."""
        with self._served.lock:
            explainer = self._grad_cam
            if isinstance(explainer, str):
                return None, explainer
            maps, _ = explainer.maps(pixels, index=[index])
        if not maps[0].any():
            return None, "No heat map: no part of the image raises the score."
        return overlay(maps[0]), "Bright is what raises the score; it shows where, not why."


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
    """Return the network of a model; of an ensemble, the one with the largest weight."""
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
