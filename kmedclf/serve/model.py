"""The model that is served: loaded once, asked by one thread at a time, described."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np

from kmedclf.inputs.image_files import MemoryFile
from kmedclf.serve.abstention import Abstention


@dataclass(frozen=True)
class Answer:
    """What the model says of one image."""

    name: str
    proba: np.ndarray  # (k,)
    labels: tuple[int, ...]  # positions of what it would answer: one, or of a multilabel model any
    abstained: bool


@dataclass(frozen=True)
class ServedModel:
    """A fitted classifier with its class names, and what its run knows of it."""

    estimator: Any
    class_names: list[str]
    abstention: Abstention
    folder: Path | None = None  # of the run
    reports: Mapping[str, Any] = field(default_factory=dict)
    card: str | None = None
    trained_on: str = ""  # name of the data
    # One network at a time: every further one would be built and traced anew, and each uses all
    # cores anyway.
    lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def open(cls, model: Any, threshold: float | None, what: str) -> ServedModel:
        """Load a run folder or a file, or take a fitted estimator, and try it once."""
        if threshold is not None:
            threshold = check_threshold(threshold, what)
        if isinstance(model, str | os.PathLike):
            served = cls._read(Path(model), threshold)
        else:
            served = cls._of(model, what, threshold)
        served._warm_up()
        return served

    @classmethod
    def _read(cls, place: Path, threshold: float | None) -> ServedModel:
        from kmedclf import runs
        from kmedclf.runs.cards import CARD
        from kmedclf.runs.machine import read_environment

        runs.check_run(place)
        if place.is_file():
            estimator, names = runs.read(place)
            return cls(estimator, names, _abstention(estimator, {}, threshold))
        run = runs.read_run(place)
        card = place / CARD
        return cls(
            run.estimator,
            run.class_names,
            _abstention(run.estimator, {**run.reports, **runs.nested_reports(place)}, threshold),
            place,
            run.reports,
            card.read_text(encoding="utf-8") if card.is_file() else None,
            str(read_environment(place)["data"].get("name", "")),
        )

    @classmethod
    def _of(cls, model: Any, what: str, threshold: float | None) -> ServedModel:
        from sklearn.utils.validation import check_is_fitted

        if not hasattr(model, "predict_proba"):
            raise ValueError(
                f"The 'model' parameter of {what} must be a run folder, a model's file or a fitted "
                f"classifier. Got a {type(model).__name__} instead."
            )
        check_is_fitted(model)
        _check_forgetful(model, what)
        names = list(map(str, np.asarray(model.classes_).tolist()))
        return cls(model, names, _abstention(model, {}, threshold))

    def _warm_up(self) -> None:
        """Predict a black image: the first prediction builds the network."""
        for network in networks(self.estimator):
            # Zeros as floats fit every kind of pixels
            network.predict_proba(np.zeros((1, *network.image_shape_), np.float32))

    # -- answers -----------------------------------------------------------------------------

    def answers(
        self, images: np.ndarray | Sequence[MemoryFile], threshold: float | None = None
    ) -> list[Answer]:
        """Answer for each image, given as an array or as files; errors are those of the estimator.

        ``threshold`` replaces the model's own.
        """
        names = [f"image {i}" for i in range(len(images))]
        if not isinstance(images, np.ndarray):
            names = [str(one) for one in images]
            images = self.read(images)
        proba = self._probabilities(images)
        least = self.abstention.threshold if threshold is None else threshold
        return [
            Answer(name, row, chosen, self._unsure(row, chosen, least))
            for name, row, chosen in zip(names, proba, self._chosen(proba), strict=True)
        ]

    def read(self, files: Sequence[MemoryFile]) -> np.ndarray | list[MemoryFile]:
        """Decode files once, if all networks of the model take the same pixels."""
        found = list(networks(self.estimator))
        arrays = [one.file_array(files) for one in found]
        if not arrays or len({(one.form, one.dtype) for one in arrays}) > 1:
            return list(files)  # each member reads them at its own size
        return arrays[0][:]

    def _probabilities(self, X: Any) -> np.ndarray:
        with self.lock:
            return np.asarray(self.estimator.predict_proba(X))

    def _chosen(self, proba: np.ndarray) -> list[tuple[int, ...]]:
        if self.multilabel:
            return [tuple(np.flatnonzero(row > 0.5).tolist()) for row in proba]
        # A calibrated model may have a threshold of its own
        decide = getattr(self.estimator, "decide", lambda rows: rows.argmax(axis=1))
        return [(int(one),) for one in decide(proba)]

    def _unsure(self, row: np.ndarray, chosen: tuple[int, ...], threshold: float) -> bool:
        if self.multilabel:  # unless every label is sure to be there, or not to
            return bool((np.maximum(row, 1 - row) < threshold).any())
        return bool(row[chosen[0]] < threshold)

    # -- facts -------------------------------------------------------------------------------

    @property
    def multilabel(self) -> bool:
        """Whether an image may have several labels."""
        from kmedclf.inputs.label_kinds import is_multilabel

        return is_multilabel(self.estimator)

    @property
    def calibrated(self) -> bool:
        """Whether a temperature was chosen for the probabilities."""
        return is_calibrated(self.estimator)

    @property
    def image_shape(self) -> list[int] | None:
        """Shape (h, w, c) of the images that the model was fitted on, if it says so."""
        shape = getattr(self.estimator, "image_shape_", None)
        return None if shape is None else list(map(int, shape))

    @property
    def name(self) -> str:
        """The class of the model; of a calibrated one, that of what was calibrated."""
        inner = self.estimator.estimator if self._is_wrapper() else self.estimator
        return type(inner).__name__

    def _is_wrapper(self) -> bool:
        from kmedclf.calibration import CalibratedClassifier

        return isinstance(self.estimator, CalibratedClassifier)

    def scores(self) -> dict[str, dict[str, Any]]:
        """Return the scores that the run knows, by split and name."""
        return {
            split: {"n": one.n, **{name: score._asdict() for name, score in one.scores.items()}}
            for split, one in self.reports.items()
        }


def check_threshold(value: Any, what: str) -> float:
    """Return a threshold as a float; raise ValueError if it is not in [0, 1]."""
    if not isinstance(value, Real) or isinstance(value, bool) or not 0 <= float(value) <= 1:
        raise ValueError(
            f"The 'threshold' parameter of {what} must be in [0, 1]. Got {value!r} instead."
        )
    return float(value)


def networks(model: Any) -> Iterator[Any]:
    """Find the networks that a model is made of; none in estimators of other packages."""
    from kmedclf.auto import AutoClassifier
    from kmedclf.base import ImageClassifier
    from kmedclf.calibration import CalibratedClassifier
    from kmedclf.ensemble import EnsembleClassifier

    if isinstance(model, ImageClassifier):
        yield model
    elif isinstance(model, CalibratedClassifier):
        yield from networks(model.estimator)
    elif isinstance(model, AutoClassifier):
        yield from networks(model.classifier_)
    elif isinstance(model, EnsembleClassifier):
        for member in model.estimators_:
            yield from networks(member)


def is_calibrated(model: Any) -> bool:
    """Whether a model's probabilities have been calibrated, by ourselves or by scikit-learn."""
    from sklearn.calibration import CalibratedClassifierCV

    from kmedclf.calibration import CalibratedClassifier

    inner = getattr(model, "classifier_", model)  # of an AutoClassifier
    return isinstance(inner, CalibratedClassifier | CalibratedClassifierCV)


def _abstention(estimator: Any, reports: Mapping[str, Any], threshold: float | None) -> Abstention:
    """Return the threshold that was given, or the one that can be justified."""
    if threshold is not None:
        return Abstention(threshold, "Given when the service was started.")
    inner = getattr(estimator, "classifier_", estimator)
    if getattr(inner, "threshold_", None) is not None:
        return Abstention(
            0.0, f"The model never abstains: it decides by a threshold for the sensitivity "
            f"{inner.sensitivity}.",
        )  # fmt: skip
    reports = {split: one for split, one in reports.items() if one.exclusive}
    return Abstention.choose(reports)


def _check_forgetful(model: Any, what: str) -> None:
    """Refuse a pipeline that would keep features of uploads on disk."""
    from kmedclf.features import ImageFeatures

    parts = model.get_params(deep=True).items() if hasattr(model, "get_params") else ()
    for name, part in parts:
        if isinstance(part, ImageFeatures) and part.memory is not None:
            raise ValueError(
                f"The 'memory' parameter of the {name!r} in the model of {what} must be None, as "
                f"it would keep features of what is uploaded. Got {part.memory!r} instead."
            )
