"""The service: endpoints, what they answer, and their descriptions."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from urllib.parse import urlsplit

import anyio
from fastapi import APIRouter, FastAPI, HTTPException, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

import kmedclf
from kmedclf.inputs.image_files import default_max_pixels
from kmedclf.serve.model import Answer, ServedModel, check_threshold
from kmedclf.serve.uploads import Limits, Refused, read_body

NO_DEVICE = "For research: this is no medical device, and nothing here is a diagnosis."

T = TypeVar("T")

MOST_AT_ONCE = 8
"""Requests whose images are decoded at a time; each may take hundreds of megabytes."""

QUIET: Any = {"tracing": False, "metrics": False, "logs": False, "operation_spans": False,
         "auto_configure": False}  # fmt: skip
"""FastAPI would export telemetry if variables of the environment told it to."""


ANY = "*"
"""The host that stands for all hosts."""


class Guard:
    """Middleware that refuses requests with a foreign Host or Origin.

    A browser sends a stranger's page to 127.0.0.1 as well: by a name of the stranger's that points
    there (DNS rebinding), or by a form or script that posts to it (CSRF). The first gives a
    foreign Host, the second a foreign Origin.
    """

    def __init__(self, app: ASGIApp, hosts: Sequence[str]) -> None:
        self._app, self._hosts = app, frozenset(map(str.lower, hosts))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        refusal = self._refusal(Headers(scope=scope)) if scope["type"] == "http" else None
        if refusal is None:
            await self._app(scope, receive, send)
            return
        status, sentence = refusal
        await JSONResponse({"detail": sentence}, status)(scope, receive, send)

    def _refusal(self, headers: Headers) -> tuple[int, str] | None:
        if ANY in self._hosts:
            return None
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._is_known(hosts[0]):
            return 421, (
                "The host must be an IP address or a name that this service was told, such as "
                f"{min(self._hosts, default='none')}. Got {', '.join(hosts)[:100] or 'none'}."
            )
        for origin in headers.getlist("origin"):
            # The scheme may differ behind a proxy that ends TLS; the host may not.
            if urlsplit(origin).netloc.lower() != hosts[0].lower():
                return 403, (
                    "A page may ask this service only if the service has sent it. Got one from "
                    f"{origin[:100]}."
                )
        # A link to the page is no harm
        elsewhere = headers.get("sec-fetch-site") == "cross-site"
        if elsewhere and headers.get("sec-fetch-mode") != "navigate":
            return 403, "A page may ask this service only if the service has sent it."
        return None

    def _is_known(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if name.lower() in self._hosts:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


class Prediction(BaseModel):
    """What the model says of one image."""

    name: str = Field(description="Name of the file, or place of the array: 'image 0'.")
    label: str | None = Field(
        description="The answer; null if the model abstains, or tells several labels."
    )
    labels: list[str] = Field(
        description="The answer as a list; of a multilabel model, all labels above 0.5."
    )
    probability: float | None = Field(
        description="Probability of the label that the model would answer; null if multilabel."
    )
    probabilities: dict[str, float] = Field(description="Probability of every class, by name.")
    abstained: bool = Field(description="Whether the model is too unsure to answer.")


class Predictions(BaseModel):
    """Predictions of the images of a request, in their order."""

    predictions: list[Prediction]
    calibrated: bool = Field(
        description="Whether the probabilities were calibrated on images not trained on; if not, "
        "networks tend to be too sure."
    )
    threshold: float = Field(description="Least probability of an answer.")
    notice: str = NO_DEVICE


class ModelFacts(BaseModel):
    """What is known of the model."""

    model_config = ConfigDict(protected_namespaces=())  # for model_card

    estimator: str
    class_names: list[str]
    multilabel: bool
    image_shape: list[int] | None = Field(
        description="(h, w, c) of the images fitted on; files are resized to it, arrays are not."
    )
    calibrated: bool
    threshold: float
    threshold_reason: str
    scores: dict[str, dict[str, Any]] = Field(
        description="By split of the run and name: value, and ends of the interval."
    )
    model_card: str | None = Field(description="Markdown.")
    limits: dict[str, int]
    version: str
    notice: str = NO_DEVICE


class Problem(BaseModel):
    """Why there is no answer."""

    detail: str


class Health(BaseModel):
    """The service is there, its model loaded."""

    status: str = "ok"


_FILE = {"type": "string", "format": "binary"}
_BODY = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["files"],
                "properties": {"files": {"type": "array", "items": _FILE}},
            }
        },
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["images"],
                "properties": {
                    "images": {
                        "type": "array",
                        "items": {"type": "array"},
                        "description": "Images (n, h, w, c) of the shape fitted on; pixels of "
                        "8-bit images as whole numbers from 0 to 255.",
                    }
                },
            }
        },
        "application/dicom": {"schema": _FILE},
        "image/*": {"schema": _FILE},
    },
}
_PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": words}
    for status, words in {
        400: "The body cannot be read.",
        413: "The request is too large, or holds too many images.",
        415: "The body, or a file in it, is of a kind that is not read here.",
        422: "An image cannot be read, or is not like those the model was fitted on.",
    }.items()
}


def make_app(served: ServedModel, limits: Limits, hosts: Sequence[str], **more: Any) -> FastAPI:
    """Make the application; ``more`` are arguments of FastAPI."""
    application = FastAPI(
        title=f"kmedclf: {served.name}",
        version=kmedclf.__version__,
        description=f"Predictions of a medical image classifier. {NO_DEVICE}",
        # Their pages would load scripts from a stranger's server.
        docs_url=None,
        redoc_url=None,
        telemetry=QUIET,
        **more,
    )
    application.include_router(make_router(served, limits))
    application.add_exception_handler(Exception, _own_fault)
    application.add_middleware(Guard, hosts=hosts)
    return application


def make_router(served: ServedModel, limits: Limits) -> APIRouter:
    """Make the endpoints, for any application."""
    router = APIRouter()
    worker = Worker(limits)

    @router.post(
        "/predict",
        summary="Classify images",
        responses=_PROBLEMS,
        openapi_extra={"requestBody": _BODY},
    )
    async def predict(request: Request, threshold: str | None = None) -> Predictions:
        """Classify image files (PNG, JPEG, TIFF, DICOM and others), or arrays.

        `threshold` replaces the model's own for this request: it abstains from answers of a lower
        probability.
        """
        least = _threshold(threshold)
        answers = await worker.call(request, served.answers, least)
        return Predictions(
            predictions=[prediction_of(served, one) for one in answers],
            calibrated=served.calibrated,
            threshold=served.abstention.threshold if least is None else least,
        )

    @router.get("/model", summary="Describe the model")
    async def model() -> ModelFacts:
        """Return class names, image shape, scores and model card, as far as they are known."""
        return facts_of(served, limits)

    @router.get("/health", summary="Check that the service is there")
    async def health() -> Health:
        """Answer at once, also while images are classified."""
        return Health()

    return router


class Worker:
    """Calls functions with the images of requests, in threads; their errors become answers."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._limiter: anyio.CapacityLimiter | None = None

    async def call(self, request: Request, function: Callable[..., T], *arguments: Any) -> T:
        """Call a function with the images of a request, and further arguments."""
        if self._limiter is None:  # belongs to an event loop
            self._limiter = anyio.CapacityLimiter(MOST_AT_ONCE)
        try:
            body = await read_body(request, self._limits)
            return await anyio.to_thread.run_sync(
                lambda: function(body.images(), *arguments), limiter=self._limiter
            )
        except Refused as error:
            raise HTTPException(error.status, error.sentence) from None
        except ImportError as error:  # no pydicom
            raise HTTPException(415, str(error)) from None
        except MemoryError:
            raise HTTPException(413, "There is not enough memory for these images.") from None
        except (ValueError, OSError) as error:
            raise HTTPException(422, " ".join(str(error).split())) from None


def prediction_of(served: ServedModel, answer: Answer) -> Prediction:
    """Put an answer into words."""
    labels = [served.class_names[i] for i in answer.labels]
    one = not served.multilabel
    return Prediction(
        name=answer.name,
        label=labels[0] if one and not answer.abstained else None,
        labels=labels if not (one and answer.abstained) else [],
        probability=float(answer.proba[answer.labels[0]]) if one else None,
        probabilities=dict(zip(served.class_names, map(float, answer.proba), strict=True)),
        abstained=answer.abstained,
    )


def facts_of(served: ServedModel, limits: Limits) -> ModelFacts:
    """Describe the model and the limits of requests."""
    return ModelFacts(
        estimator=served.name,
        class_names=served.class_names,
        multilabel=served.multilabel,
        image_shape=served.image_shape,
        calibrated=served.calibrated,
        threshold=served.abstention.threshold,
        threshold_reason=served.abstention.reason,
        scores=served.scores(),
        model_card=served.card,
        limits={**limits._asdict(), "max_pixels": default_max_pixels()},
        version=kmedclf.__version__,
    )


def _threshold(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return check_threshold(float(text), "the request")
    except ValueError:
        raise HTTPException(
            422, f"The 'threshold' of a request must be in [0, 1]. Got {text[:20]!r}."
        ) from None


async def _own_fault(request: Request, error: Exception) -> JSONResponse:
    sentence = f"kmedclf failed, which is its own fault, with {type(error).__name__}."
    return JSONResponse({"detail": sentence}, 500)
