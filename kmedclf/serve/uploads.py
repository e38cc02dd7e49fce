"""The images of a request, read into memory and nowhere else, within limits."""

from __future__ import annotations

import json
import os
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from kmedclf.evaluation.wording import count
from kmedclf.inputs.image_files import MemoryFile

LONGEST_NAME = 120
"""Most characters of a file's name that is given back."""

WHOLE_BODY = ("image/", "application/dicom", "application/octet-stream")
"""Beginnings of content types of a body that is one file."""


class Limits(NamedTuple):
    """Most bytes and most images of a request."""

    max_bytes: int
    max_images: int


class Refused(Exception):
    """A request that is not answered: the status code, and a sentence."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status, self.sentence = status, sentence


@dataclass(frozen=True)
class Body:
    """What a request holds: files, or the JSON of arrays."""

    limits: Limits
    files: list[MemoryFile] | None
    json: bytes = b""

    def images(self) -> np.ndarray | list[MemoryFile]:
        """Return files, or arrays (n, ...), which takes time for large JSON."""
        images = _array(self.json) if self.files is None else self.files
        if not len(images):
            raise Refused(400, "The request must hold an image. Got none.")
        if len(images) > self.limits.max_images:
            raise Refused(413, _too_many(self.limits, f"Got {len(images)}."))
        return images


async def read_body(request: Request, limits: Limits) -> Body:
    """Read files of a form, one file as the body, or arrays in JSON."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    stream = _bounded(request, limits.max_bytes)
    if kind == "multipart/form-data":
        return Body(limits, await _files(request, stream, limits))
    if kind == "application/json":
        return Body(limits, None, b"".join([part async for part in stream]))
    if kind.startswith(WHOLE_BODY):
        return Body(limits, [MemoryFile("image", b"".join([part async for part in stream]))])
    raise Refused(
        415,
        "The body must be image files (multipart/form-data), one image file (image/..., "
        "application/dicom) or arrays (application/json). Got "
        f"{kind[:LONGEST_NAME] or 'no content type'}.",
    )


async def _bounded(request: Request, most: int) -> AsyncIterator[bytes]:
    """Yield the parts of a body; refuse it as soon as it is too large."""
    announced = request.headers.get("content-length", "")
    size = int(announced) if announced.isascii() and announced.isdecimal() else 0
    if size <= most:
        size = 0
        async for part in request.stream():
            size += len(part)
            if size > most:
                break
            yield part
    if size > most:
        raise Refused(413, f"A request must have at most {most:,} bytes. It has more.")


async def _files(
    request: Request, stream: AsyncIterator[bytes], limits: Limits
) -> list[MemoryFile]:
    """Read the files of a form, whatever the names of their fields."""
    parser = MultiPartParser(request.headers, stream, max_files=limits.max_images)  # type: ignore[arg-type]
    parser.spool_max_size = limits.max_bytes + 1  # above it, Starlette would write to disk
    try:
        form = await parser.parse()
    except MultiPartException as error:
        if error.message.startswith("Too many files"):
            raise Refused(413, _too_many(limits, "It has more.")) from None
        sentence = error.message.strip().rstrip(".")
        raise Refused(400, f"The body is no form that can be read ({sentence}).") from None
    try:
        return [
            MemoryFile(plain_name(part.filename), await part.read())
            for _, part in form.multi_items()
            if isinstance(part, UploadFile)
        ]
    finally:
        await form.close()


def _too_many(limits: Limits, got: str) -> str:
    return f"A request must hold at most {count(limits.max_images, 'image')}. {got}"


def plain_name(name: str | None) -> str:
    """Return the last part of a name that a client gave, without what would break a line."""
    last = re.split(r"[\\/]", name or "")[-1]
    shown = "".join(one if one.isprintable() else " " for one in last).strip()
    if len(shown) > LONGEST_NAME:
        stem, end = os.path.splitext(shown)
        shown = f"{stem[: LONGEST_NAME - 20]}...{end[:16]}"
    return shown or "image"


def _array(body: bytes) -> np.ndarray:
    """Read images (n, ...) from JSON; only numbers, since text would name files of the server."""
    try:
        content: Any = json.loads(body)
    except RecursionError:
        raise Refused(400, "The body must be JSON of few levels. It has too many.") from None
    except ValueError as error:
        raise Refused(400, f"The body must be JSON. It is not ({error}).") from None
    if not isinstance(content, dict) or set(content) != {"images"}:
        raise Refused(400, 'The body must be {"images": [...]}, an array of each image.')
    try:
        images = np.asarray(content["images"])
    except (ValueError, OverflowError, RecursionError):
        raise Refused(400, "The images must be arrays of one shape. They are not.") from None
    if not images.size and images.ndim:
        return np.zeros((0, 1))
    if images.dtype.kind not in "iuf" or images.ndim < 2:
        raise Refused(400, "The images must be arrays of numbers, as [[[0, 255], ...], ...].")
    return images
