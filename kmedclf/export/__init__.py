"""Fitted estimators as files for other programs: ONNX, SavedModel, LiteRT, Keras.

A file holds all that ``predict`` computes: scaling of the pixels, networks, test-time views, the
mean over members, calibration, threshold. It takes images as they are and returns probabilities
and labels.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kmedclf.utils import files

if TYPE_CHECKING:
    from kmedclf.export.graph import Graph

FORMATS = ("onnx", "saved_model", "litert", "keras")
"""Names of the formats."""

PACKAGES = {"onnx": ("onnx", "onnxruntime", "tf2onnx"), "litert": ("ai_edge_litert",)}
"""What a format needs besides TensorFlow; the extra of its name brings it."""

CHECKED = 8
"""Images that an exported file is tried on."""

TOLERANCE, LOW_TOLERANCE = 1e-3, 0.1
"""Largest difference of a probability; the second where fit and predict round to 8 or 11 bits."""

_FOLDER = {"assets", "assets.extra", "fingerprint.pb", "saved_model.pb", "variables"}


@dataclass(frozen=True)
class Exported:
    """What was written, and how it compares with the estimator.

    Attributes
    ----------
    path : Path
        The file, or the folder of a SavedModel.
    format : str
        The format.
    n_images : int
        Number of images that both have scored.
    difference : float
        Largest difference of a probability between the file and ``predict_proba``.
    """

    path: Path
    format: str
    n_images: int
    difference: float

    def __str__(self) -> str:
        """Say it in a sentence."""
        return (
            f"{self.path} ({self.format}): probabilities of {self.n_images} images differ from "
            f"those of predict_proba by at most {self.difference:.1e}."
        )


class ExportMixin:
    """What lets an estimator write itself for other programs."""

    def export(self, path: Any, format: str = "onnx", **options: Any) -> Exported:
        """Write a file for other programs; see ``kmedclf.export.export``.

        Parameters
        ----------
        path : path-like
            File to write; a folder for "saved_model".
        format : {"onnx", "saved_model", "litert", "keras"}, default="onnx"
            Format. "onnx" and "litert" need the extra of that name.
        **options
            ``class_names``, and ``force`` to replace an existing file.

        Returns
        -------
        Exported
            Path, format, and the largest difference from ``predict_proba`` on a few images.

        Raises
        ------
        TypeError
            If an estimator within this one is not a network of kmedclf, or an ensemble of such.
        """
        return export(self, path, format, **options)


def export(
    estimator: Any,
    path: str | os.PathLike[str],
    format: str = "onnx",
    *,
    class_names: Sequence[str] | None = None,
    force: bool = False,
) -> Exported:
    """Write a fitted estimator in a format that other programs read.

    The file is written, tried on a few drawn images and compared with ``predict_proba`` before it
    is put in its place. It takes ``images`` (n, h, w, c) in the dtype of fit's pixels, uint8 for
    bytes, and returns ``probabilities`` (n, k), float32, and ``label``, int64: the position of the
    class (n,), or zeros and ones (n, k) of a multilabel model.

    Parameters
    ----------
    estimator : ImageClassifier, EnsembleClassifier or CalibratedClassifier
        A fitted estimator.
    path : path-like
        File to write; a folder for "saved_model".
    format : {"onnx", "saved_model", "litert", "keras"}, default="onnx"
        Format. "onnx" and "litert" need the extra of that name.
    class_names : sequence of str, optional
        Names of the classes, in the order of ``classes_``; its labels by default. They are stored
        with "multilabel" and the number of version as metadata of the ONNX model, in
        ``kmedclf.json`` within the folder of a SavedModel and behind a LiteRT model, which is a zip
        archive as well, and in the layer ``label`` of a Keras model.
    force : bool, default=False
        Whether an existing file is replaced.

    Returns
    -------
    Exported
        Path, format and the largest difference; its text is a sentence.

    Raises
    ------
    ValueError
        If there is no such format, the number of names is not that of the classes, the estimator
        cannot be converted, or what was written computes something else.
    TypeError
        If the estimator holds others than those above.
    FileExistsError
        If there is such a file, or with ``force`` something else than what was exported.
    ImportError
        If a package is missing.

    Notes
    -----
    Models export in float32. With ``precision="mixed"`` they differ from ``predict_proba``, which
    rounds to bfloat16 or float16.
    """
    check(path, format, force=force)
    from kmedclf.export import formats, graph  # with TensorFlow

    name, writer = type(estimator).__name__, formats.FORMATS[format]
    connected = graph.connect(estimator)
    names = _names(estimator, class_names)
    model = graph.whole_model(connected, _label(estimator, names))
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch, f"model{writer.suffix}")
        try:
            writer.write(model, _metadata(names, model), place)
        except Exception as error:  # converters raise errors of any kind
            raise ValueError(
                f"{name} cannot be converted to {format!r}; another format may do "
                f"({type(error).__name__}: {' '.join(str(error).split())[:300]})."
            ) from error
        images = _images(connected)
        difference = _difference(estimator, writer.run(place, images), images)
        if not difference <= (TOLERANCE if connected.exact else LOW_TOLERANCE):
            raise ValueError(
                f"{name} as {format!r} must give the probabilities of predict_proba. Got a "
                f"difference of {difference:.2g}, and wrote nothing; choose another format."
            )
        _publish(place, path, format, force=force)
    return Exported(Path(path), format, len(images), difference)


def check(path: str | os.PathLike[str], format: str, *, force: bool) -> None:
    """Refuse a format that is not known or lacks a package, and a path that must not be written."""
    if format not in FORMATS:
        raise ValueError(
            f"The 'format' parameter of export must be one of {', '.join(map(repr, FORMATS))}. "
            f"Got {format!r} instead."
        )
    missing = [one for one in PACKAGES.get(format, ()) if find_spec(one) is None]
    if missing:
        raise ImportError(
            f"The format {format!r} needs {' and '.join(missing)}; install with pip install "
            f"'kmedclf[{format}]'."
        )
    if format == "saved_model":
        files.check_folder(path)
        inside = set(os.listdir(path)) if os.path.isdir(path) else set()
        if not inside <= _FOLDER:
            raise FileExistsError(f"{path} holds more than a SavedModel; choose another folder.")
    else:
        files.check_file(path)
        inside = {os.fspath(path)} if os.path.isfile(path) else set()
        if inside and not _is_exported(path, format):
            raise FileExistsError(
                f"{path} holds something else than {format!r}; choose another name."
            )
    if inside and not force:
        raise FileExistsError(
            f"{path} is there already; choose another name, or force (--force) replaces it."
        )


def _is_exported(path: str | os.PathLike[str], format: str) -> bool:
    """Check by its first bytes whether a file may be replaced as one of this format."""
    with open(path, "rb") as file:
        start = file.read(8)
    signs = {"keras": start[:4] == b"PK\x03\x04", "litert": start[4:] == b"TFL3"}
    return signs.get(format, start[:1] == b"\x08")  # ONNX begins with the number of its version


def _publish(place: Path, path: str | os.PathLike[str], format: str, *, force: bool) -> None:
    """Put what was written in its place, whole or not at all."""
    if place.is_file():
        with files.written_beside(path) as beside:
            shutil.copyfile(place, beside)
        return
    target = Path(os.path.realpath(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    with files.scratch(target.parent, target.name) as scratch:
        shutil.copytree(place, scratch / "new")
        check(path, format, force=force)
        files.replace_folder(scratch / "new", target, scratch)


def _names(estimator: Any, given: Sequence[str] | None) -> list[str]:
    names = list(map(str, estimator.classes_.tolist() if given is None else given))
    if len(names) != len(estimator.classes_):
        raise ValueError(
            "The 'class_names' parameter of export must have a name for each of the "
            f"{len(estimator.classes_)} classes. Got {len(names)} instead."
        )
    return names


def _label(estimator: Any, names: list[str]) -> Any:
    from kmedclf.export.graph import Label
    from kmedclf.inputs.label_kinds import is_multilabel

    given: dict[str, Any] = {"name": "label", "multilabel": is_multilabel(estimator)}
    threshold = getattr(estimator, "threshold_", None)
    if threshold is not None:
        positive = estimator.classes_.tolist().index(estimator.pos_label)
        given |= {"threshold": float(threshold), "positive": positive}
    return Label(names, **given)


def _metadata(names: list[str], model: Any) -> dict[str, Any]:
    return {
        "class_names": names,
        "multilabel": model.get_layer("label").settings["multilabel"],
        "kmedclf": version("kmedclf"),
    }


def _images(connected: Graph) -> Any:
    """Draw images of different brightness and contrast."""
    import numpy as np

    rng = np.random.default_rng(0)
    shape = CHECKED, *connected.images.shape[1:]
    bright, contrast = rng.random((2, CHECKED, 1, 1, 1))
    pixels = np.clip(bright + contrast * (rng.random(shape) - 0.5), 0, 1)
    return (connected.largest * pixels).astype(connected.images.dtype)


def _difference(estimator: Any, outputs: dict[str, Any], images: Any) -> float:
    """Compare a file's probabilities with the estimator's."""
    import numpy as np

    return float(np.abs(outputs["probabilities"] - estimator.predict_proba(images)).max())
