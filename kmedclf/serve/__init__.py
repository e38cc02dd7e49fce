"""A fitted model as a service over HTTP, and as a page to drop an image on.

Needs the extra ``serve``: FastAPI, uvicorn, python-multipart. Nothing of an upload is written to
disk, and nothing is sent anywhere but back.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastapi import APIRouter, FastAPI

__all__ = ["app", "router"]

MAX_BYTES = 64 * 2**20
"""Most bytes of a request: an uncompressed mammogram has half of it."""

MAX_IMAGES = 32
"""Most images in a request."""

LOCAL = ("localhost",)
"""Host names that a request may give, besides IP addresses."""


def check_extra(what: str) -> None:
    """Raise ImportError if the packages of the extra ``serve`` are not installed."""
    needed = {"fastapi": "FastAPI", "uvicorn": "uvicorn", "python_multipart": "python-multipart"}
    missing = [name for module, name in needed.items() if not importlib.util.find_spec(module)]
    if missing:
        raise ImportError(
            f"{what} needs {', '.join(missing)}, which the extra 'serve' brings: "
            "pip install 'kmedclf[serve]'."
        )


def app(
    model: Any,
    *,
    threshold: float | None = None,
    max_bytes: int = MAX_BYTES,
    max_images: int = MAX_IMAGES,
    hosts: Sequence[str] = LOCAL,
    page: bool = False,
) -> FastAPI:
    """Make a FastAPI application that answers requests with a model's predictions.

    Parameters
    ----------
    model : str, path-like or fitted estimator
        A run folder, a model's file, or a fitted classifier: a network, an ensemble, a calibrated
        classifier, an AutoClassifier, a pipeline. A file is loaded once, now.
    threshold : float in [0, 1], optional
        Least probability of an answer; below it the model abstains. A request may give another,
        as ``?threshold=0.9``. By default, it is the lowest at which 95 % of the answers were right
        on the validation images of the run. Where there is none, it is 0.5; a model with a
        threshold for ``sensitivity`` never abstains.
    max_bytes : int, default=67108864
        Most bytes of a request.
    max_images : int, default=32
        Most images in a request.
    hosts : sequence of str, default=("localhost",)
        Names by which the service may be called, besides IP addresses; others are refused, since
        a page of a stranger could use one to reach it (DNS rebinding). ``["*"]`` allows all, and
        requests of pages of all origins.
    page : bool, default=False
        Whether ``GET /`` is the page of ``kmedclf app``, to drop images on.

    Returns
    -------
    fastapi.FastAPI
        ``POST /predict``, ``GET /model``, ``GET /health``, and ``GET /openapi.json``, which
        describes them.

    Raises
    ------
    ImportError
        If the extra ``serve`` is not installed.
    FileNotFoundError
        If there is no such run or file.
    ValueError
        If a parameter or the model is not as described here.

    Notes
    -----
    One network serves all requests, one at a time, on all cores. The images of one request are
    one batch, and requests are never put together: an answer is that of ``predict_proba`` for the
    same pixels, bit for bit, whoever else asks.

    Examples
    --------
    >>> import kmedclf.serve
    >>> from kmedclf import MLPClassifier
    >>> from kmedclf.datasets import make_blood_cells
    >>> X, y = make_blood_cells(48, 12, random_state=0)  # synthetic
    >>> mlp = MLPClassifier(units=8, epochs=1, early_stopping=False, random_state=0).fit(X, y)
    >>> application = kmedclf.serve.app(mlp)  # for uvicorn.run(application)
    """
    check_extra("kmedclf.serve.app")
    from kmedclf.serve import http
    from kmedclf.serve.model import ServedModel

    limits = http.Limits(max_bytes, max_images)
    served = ServedModel.open(model, threshold, "kmedclf.serve.app")
    if page:
        from kmedclf.serve.page import make_page_app

        return make_page_app(served, limits, hosts)
    return http.make_app(served, limits, hosts)


def router(
    model: Any,
    *,
    threshold: float | None = None,
    max_bytes: int = MAX_BYTES,
    max_images: int = MAX_IMAGES,
) -> APIRouter:
    """Make a router with the endpoints of `app`, for a FastAPI application of your own.

    Host names and origins are then yours to check, as are users.

    Parameters
    ----------
    model : str, path-like or fitted estimator
        As of `app`.
    threshold : float in [0, 1], optional
        As of `app`.
    max_bytes : int, default=67108864
        Most bytes of a request.
    max_images : int, default=32
        Most images in a request.

    Returns
    -------
    fastapi.APIRouter
        For ``FastAPI().include_router(router, prefix="/cells")``.

    Raises
    ------
    ImportError
        If the extra ``serve`` is not installed.
    FileNotFoundError
        If there is no such run or file.
    ValueError
        If a parameter or the model is not as described here.
    """
    check_extra("kmedclf.serve.router")
    from kmedclf.serve import http
    from kmedclf.serve.model import ServedModel

    served = ServedModel.open(model, threshold, "kmedclf.serve.router")
    return http.make_router(served, http.Limits(max_bytes, max_images))
