"""The page of ``kmedclf app``: drop an image, see what the model says of it, and why."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import cached_property
from typing import Any

import numpy as np
from fastapi import FastAPI, Request
from starlette.responses import HTMLResponse

from kmedclf.evaluation.plots import grad_cam
from kmedclf.evaluation.scores import SCORES
from kmedclf.inputs.image_files import MemoryFile
from kmedclf.pages import filled, webp
from kmedclf.pages.gallery import LARGE_SIDE, overlay, shrunk
from kmedclf.serve.http import NO_DEVICE, Worker, make_app, prediction_of
from kmedclf.serve.model import ServedModel, networks
from kmedclf.serve.similar import TrainingImages
from kmedclf.serve.uploads import Limits, Refused

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
