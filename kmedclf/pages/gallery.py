"""The pictures of a page: mistakes and doubtful predictions, to enlarge, with Grad-CAM beside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from PIL import Image

from kmedclf.evaluation.plots import grad_cam
from kmedclf.evaluation.plots.images import picture
from kmedclf.pages import webp
from kmedclf.utils.files import places_below

SIDE = 88
"""Maximum height and width of a picture in a list, in pixels; smaller images are whole."""
LARGE_SIDE = 384
"""Maximum height and width of an enlarged picture."""
LARGE_BYTES = 250_000
"""Room for enlarged pictures in a page; the surest mistakes come first."""
CORRECT_SHOWN = 20
"""Number of right predictions shown per class, those of least confidence."""
TOP_K = 5
"""Number of probabilities shown per image, besides that of its true class."""
GRADCAM_IMAGES = 96
"""Number of images with a Grad-CAM map, the surest mistakes first."""
OF_LABELS = 200
"""Number of images of a multilabel report, those with most wrong labels."""


def shrunk(image: Any, side: int, image_shape: Sequence[int] | None = None) -> Image.Image:
    """Make a picture of at most ``side`` pixels in height and width; small ones keep their size."""
    small = Image.fromarray(picture(image, image_shape))
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    return small


def gallery(
    report: Any, X: Any, model: Any = None, image_shape: Sequence[int] | None = None
) -> dict[str, Any]:
    """Collect what the page's script shows of the images of a report.

    Returns
    -------
    dict
        "names" of the classes; "cells", the images by "true,predicted"; "order", the mistakes as
        they are shown first; "images", by their number: "i", the picture as base64 of WebP; "s",
        pairs of class and probability; "t" and "p", true and predicted classes; where known, "f",
        the file, "l", the enlarged picture, and "g", the Grad-CAM map of the prediction.
    """
    shape = tuple(image_shape) if image_shape else getattr(model, "image_shape_", None)
    cells = _cells(report) if report.exclusive else _label_cells(report)
    order = _order(report, cells)
    rows = list(dict.fromkeys([*order, *(row for cell in cells.values() for row in cell)]))
    files = report.paths or places_below(X)
    maps = _maps(report, X, model, rows[:GRADCAM_IMAGES])
    images, room = {}, LARGE_BYTES
    for row in rows:
        whole = shrunk(X[row], LARGE_SIDE, shape)
        small = whole.copy()
        small.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
        entry = {"i": webp(small), **_facts(report, row)}
        if files:
            entry["f"] = files[row]
        if whole.size != small.size and room > 0:
            entry["l"] = webp(whole, 75)
            room -= len(entry["l"])
        if row in maps:
            entry["g"] = maps[row]
        images[str(row)] = entry
    return {
        "names": list(report.class_names),
        "cells": cells,
        "order": order,
        "images": images,
    }


def _cells(report: Any) -> dict[str, list[int]]:
    """List the images of each cell of the confusion matrix, what needs a look first."""
    sure = report.proba[np.arange(report.n), report.pred_index]
    cells = {}
    for i, j in zip(*np.nonzero(report.confusion), strict=True):
        inside = np.flatnonzero((report.true_index == i) & (report.pred_index == j))
        order = np.argsort(sure[inside], kind="stable")
        # Doubtful right predictions, confident mistakes
        shown = inside[order][:CORRECT_SHOWN] if i == j else inside[order[::-1]]
        cells[f"{i},{j}"] = shown.tolist()
    return cells


def _label_cells(report: Any) -> dict[str, list[int]]:
    """List the images where a label is missed, "0,missed", or a false alarm, "0,alarm"."""
    wrong = report.y_true != report.y_pred
    most = np.argsort(-wrong.sum(axis=1), kind="stable")[:OF_LABELS]
    most = most[wrong[most].any(axis=1)]
    cells = {}
    for label in range(len(report.classes)):
        for kind, value in (("missed", 1), ("alarm", 0)):
            inside = most[wrong[most, label] & (report.y_true[most, label] == value)]
            if len(inside):
                cells[f"{label},{kind}"] = inside.tolist()
    return cells


def _order(report: Any, cells: dict[str, list[int]]) -> list[int]:
    """Order the mistakes: the most confident first, or those with most wrong labels."""
    if not report.exclusive:
        wrong = (report.y_true != report.y_pred).sum(axis=1)
        rows = {row for cell in cells.values() for row in cell}
        return sorted(rows, key=lambda row: (-int(wrong[row]), row))
    return list(report.surest_mistakes(report.n))


def _facts(report: Any, row: int) -> dict[str, Any]:
    """Return the largest probabilities of an image, and its true and predicted classes."""
    proba = report.proba[row]
    top = np.argsort(-proba, kind="stable")[:TOP_K].tolist()
    if report.exclusive:
        true, predicted = [int(report.true_index[row])], [int(report.pred_index[row])]
    else:
        true, predicted = (np.flatnonzero(y[row]).tolist() for y in (report.y_true, report.y_pred))
    listed = dict.fromkeys([*top, *predicted, *true])
    shares = [[j, round(float(proba[j]), 3)] for j in listed]
    return {"s": shares, "t": true, "p": predicted}


def _maps(report: Any, X: Any, model: Any, rows: Sequence[int]) -> dict[int, str]:
    """Compute the Grad-CAM map of the prediction of images, as base64 of transparent WebP."""
    if model is None or not len(rows) or not grad_cam.has_convolutions(model):
        return {}
    found: dict[int, str] = {}
    for start in range(0, len(rows), 32):
        part = rows[start : start + 32]
        index = (
            [int(report.pred_index[row]) for row in part]
            if report.exclusive
            else [int(report.proba[row].argmax()) for row in part]
        )
        heats, _ = grad_cam.gradcam_maps(model, [X[row] for row in part], index=index)
        found |= {row: overlay(heat) for row, heat in zip(part, heats, strict=True)}
    return found


def overlay(heat: np.ndarray) -> str:
    """Colour a map (h, w) of values in [0, 1]; the browser lays it over the picture."""
    pixels = (255 * colormaps["inferno"](heat)).astype(np.uint8)  # (h, w, 4)
    pixels[..., 3] = np.round(40 + 130 * heat)
    shown = Image.fromarray(pixels)
    shown.thumbnail((28, 28), Image.Resampling.BILINEAR)
    return webp(shown, 60)
