"""Results of an evaluation: frozen reports, and their conversion to and from JSON."""

from __future__ import annotations

import base64
import json
import math
import os
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import MISSING, dataclass, fields
from typing import Any, ClassVar, NamedTuple, Protocol, Self, TypeAlias

import numpy as np
from sklearn.metrics import precision_recall_curve, roc_curve

from kmedclf.evaluation.scores import SCORES, Bin, Certainty, ClassScores, Estimate, LabelScores
from kmedclf.evaluation.wording import count, interval_words, verdict
from kmedclf.utils import notebook
from kmedclf.utils.archives import read_json
from kmedclf.utils.files import write_text

MAX_JSON_BYTES = 2**28
"""Maximum size of an array in bytes: ten million images of five classes."""


def to_json_value(value: Any) -> Any:
    """Turn tuples into lists and arrays into base64 of their compressed bytes."""
    if isinstance(value, np.ndarray):
        data = zlib.compress(np.ascontiguousarray(value).tobytes(), 6)
        text = base64.b64encode(data).decode("ascii")
        return {"dtype": value.dtype.str, "shape": list(value.shape), "zlib": text}
    if isinstance(value, dict):
        return {name: to_json_value(one) for name, one in value.items()}
    if isinstance(value, tuple | list):
        return [to_json_value(one) for one in value]
    return value


def from_json_value(value: Any) -> Any:
    """Decode an array that `to_json_value` encoded; return other values as they are."""
    if isinstance(value, dict) and value.keys() == {"dtype", "shape", "zlib"}:
        dtype, shape = np.dtype(value["dtype"]), tuple(map(int, value["shape"]))
        size = dtype.itemsize * math.prod(shape)
        packed = base64.b64decode(value["zlib"])
        # Deflate compresses by a factor of 1,032 at most: a larger claim is a decompression bomb
        if dtype.kind not in "biuf" or not 0 <= size <= min(MAX_JSON_BYTES, 1032 * len(packed)):
            raise ValueError("an array in it is too large, or none of numbers")
        data = zlib.decompressobj().decompress(packed, size + 1)  # a limit of 0 means no limit
        return np.frombuffer(data, dtype).reshape(shape)
    return value


class JsonSerializable(ABC):
    """Base class of reports, which can be written to a JSON file and read back."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Turn the report into plain values that JSON can hold."""

    @classmethod
    @abstractmethod
    def from_dict(cls, content: dict[str, Any]) -> Self:
        """Rebuild a report from the result of `to_dict`."""

    def to_json(self, path: str | os.PathLike[str]) -> None:
        """Write the report to a JSON file, atomically."""
        # NaN is not JSON; undefined scores are None
        text = json.dumps(self.to_dict(), ensure_ascii=False, allow_nan=False)
        write_text(path, text)

    @classmethod
    def from_json(cls, path: str | os.PathLike[str]) -> Self:
        """Read a report that `to_json` wrote."""
        try:
            return cls.from_dict(read_json(path))
        except OSError:  # a missing or unreadable file is not a damaged one
            raise
        # A damaged or foreign file can raise anything: KeyError, TypeError, zlib.error, ...
        except Exception as error:
            text = " ".join(str(error).split())[:300].rstrip(".")
            raise ValueError(f"{path} is not a whole kmedclf report ({text}).") from error

    def __eq__(self, other: object) -> bool:
        """Compare everything that was measured."""
        return isinstance(other, type(self)) and self.to_dict() == other.to_dict()

    # Reports hold arrays, and are compared by value
    __hash__ = None  # type: ignore[assignment]


class _Curved(Protocol):
    @property
    def n(self) -> int: ...
    @property
    def class_names(self) -> tuple[str, ...]: ...
    @property
    def proba(self) -> np.ndarray: ...
    def truth(self, index: int) -> np.ndarray: ...


def curve_of(
    report: _Curved, index: int, kind: str = "roc"
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compute a curve of a report; see `Report.curve`."""
    truth, score = report.truth(index), report.proba[:, index]
    # Precision and recall need no negatives, the false positive rate does
    if not truth.any() or (kind == "roc" and truth.all()):
        raise ValueError(
            f"The {kind.upper()} curve of a class must have images of it and of others. Got "
            f"{int(truth.sum())} of {report.n} images of {report.class_names[index]!r} instead."
        )
    if kind == "roc":
        return roc_curve(truth, score)
    precision, recall, thresholds = precision_recall_curve(truth, score)
    return recall, precision, thresholds


SMALL = 30
"""A report on fewer images has a warning."""
FEW = 10
"""A class with fewer images has a warning."""


def warnings_of(report: Any) -> tuple[str, ...]:
    """List what a reader must know before the headline scores."""
    said = _of_classes(report) if report.exclusive else _of_labels(report)
    return (*said, *_of_size(report))


def _of_classes(report: Any) -> list[str]:
    """Warn if the predictions are constant, or no better than the most frequent class."""
    found, support = np.unique(report.pred_index), report.confusion.sum(axis=1)
    largest, share = int(support.argmax()), float(support.max() / report.n)
    right = float(report.confusion.trace() / report.n)
    # If only one class occurs, predicting it always is right
    if np.count_nonzero(support) > 1:
        name = report.class_names[largest]
        if len(found) == 1:
            name = report.class_names[found[0]]
            return [
                f"All {report.n:,} images are predicted as {name}: the classifier does not tell "
                f"the classes apart, and its accuracy is the share of that class, {right:.3f}."
            ]
        if right <= share:
            return [
                f"Always predicting {name} has an accuracy of {share:.3f}; the classifier has "
                f"{right:.3f} and is no better than that."
            ]
    return []


def _of_labels(report: Any) -> list[str]:
    """Warn if a multilabel classifier predicts no label at all."""
    if not report.y_true.any() or report.y_pred.any():
        return []
    return [
        f"No label is predicted for any of the {report.n:,} images: the accuracy is that of "
        "predicting nothing."
    ]


def _of_size(report: Any) -> list[str]:
    """Warn of few images, in total or of one class."""
    said = []
    # Notes report the classes without any image
    counts = {one.name: one.support for one in report.per_class if one.support}
    few = {name: n for name, n in counts.items() if n < FEW}
    if report.n < SMALL:
        images = "1 image" if report.n == 1 else f"{report.n:,} images"
        said.append(
            f"Only {images}: a single prediction changes the accuracy by {1 / report.n:.3f}, and "
            "bootstrap intervals of so few images are too narrow."
        )
    if few:
        listed = ", ".join(f"{name} {n}" for name, n in list(few.items())[:10])
        more = f" and {len(few) - 10} more" if len(few) > 10 else ""
        kind = "classes" if report.exclusive else "labels"
        said.append(f"Some {kind} have few images, and uncertain scores: {listed}{more}.")
    return said


FORMAT = 1


@dataclass(frozen=True, eq=False, repr=False)
class Report(JsonSerializable):
    """All scores, counts and predictions on one set of images.

    Attributes
    ----------
    n : int
        Number of images.
    classes : tuple of int, float, bool or str
        Labels, in the order of the columns of ``proba``.
    class_names : tuple of str
        Printed names of the classes.
    pos_label : label or None
        The positive class of a binary task.
    threshold : float or None
        The positive class was predicted if its probability was at least this; None means that the
        most probable class was predicted.
    scores : dict of str to Estimate
        Headline scores by the names in `SCORES`, each with its bootstrap interval.
    per_class : tuple of ClassScores
        Scores of each class.
    confusion : ndarray of shape (k, k), int64
        Confusion matrix in images; rows are true classes, columns predicted classes.
    rank_counts : ndarray of shape (k,), int64
        Number of images whose true class has rank 1, 2, ... among their probabilities.
    reliability : tuple of Bin
        Bins behind the expected calibration error.
    certainty : dict of str to Certainty
        Confidence of the "right" and the "wrong" predictions.
    never_predicted : tuple of str
        Names of the classes that were predicted for no image.
    notes : tuple of str
        What a reader must know: undefined scores, and the classes that an average is taken over.
    confidence : float
        Coverage of the intervals.
    n_bootstrap : int
        Number of bootstrap resamples.
    true_index, pred_index : ndarray of shape (n,), integer
        True and predicted class of each image, as positions in ``classes``.
    proba : ndarray of shape (n, k), float32
        Class probabilities of each image.
    paths : tuple of str
        File of each image, below the folder of the data; empty if the images were arrays.
    """

    n: int
    classes: tuple[Any, ...]
    class_names: tuple[str, ...]
    pos_label: Any
    threshold: float | None
    scores: dict[str, Estimate]
    per_class: tuple[ClassScores, ...]
    confusion: np.ndarray
    rank_counts: np.ndarray
    reliability: tuple[Bin, ...]
    certainty: dict[str, Certainty]
    never_predicted: tuple[str, ...]
    notes: tuple[str, ...]
    confidence: float
    n_bootstrap: int
    true_index: np.ndarray
    pred_index: np.ndarray
    proba: np.ndarray
    paths: tuple[str, ...] = ()

    exclusive: ClassVar[bool] = True

    @property
    def headline(self) -> tuple[str, ...]:
        """Names of the scores to look at first."""
        # Balanced accuracy is the mean of these two
        if self.pos_label is not None:
            return "accuracy", "sensitivity", "specificity", "auc_macro"
        return "accuracy", "balanced_accuracy", "auc_macro", "f1_macro"

    @property
    def accuracy(self) -> float:
        """Share of right predictions."""
        return float(self.scores["accuracy"].value or 0.0)

    @property
    def y_true(self) -> np.ndarray:
        """True labels (n,)."""
        return np.asarray(self.classes)[self.true_index]

    @property
    def y_pred(self) -> np.ndarray:
        """Predicted labels (n,)."""
        return np.asarray(self.classes)[self.pred_index]

    @property
    def right(self) -> np.ndarray:
        """Whether each prediction is right, bool (n,)."""
        return self.true_index == self.pred_index

    @property
    def ranks(self) -> np.ndarray:
        """Rank of each image's true class among its probabilities (n,), from 1."""
        return true_ranks(self.proba, self.true_index)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings to read before the scores: constant predictions, few images."""
        return warnings_of(self)

    @property
    def verdict(self) -> list[notebook.Remark]:
        """What the scores mean, in sentences, the most serious first."""
        return verdict(self)

    def truth(self, index: int) -> np.ndarray:
        """Return a mask (n,) of the images of a class."""
        return np.asarray(self.true_index == index)

    def surest_mistakes(self, n: int) -> list[int]:
        """Return the positions of n misclassified images, the most confident first."""
        wrong = np.flatnonzero(~self.right)
        sure = self.proba[wrong, self.pred_index[wrong]]
        return wrong[np.argsort(-sure, kind="stable")][:n].tolist()

    def curve(self, index: int, kind: str = "roc") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Compute the ROC or the precision-recall curve of one class against the others.

        Parameters
        ----------
        index : int
            Position of the class in ``classes``.
        kind : {"roc", "pr"}, default="roc"
            Which curve.

        Returns
        -------
        x, y, thresholds : ndarray
            False and true positive rates, or recall and precision; as scikit-learn gives them.
        """
        return curve_of(self, index, kind)

    def to_dict(self) -> dict[str, Any]:
        """Turn the report into plain values that JSON can hold; `from_dict` reverses this."""
        content = {field.name: to_json_value(getattr(self, field.name)) for field in fields(self)}
        return {"format": FORMAT, **content}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Report:
        """Rebuild a report from the result of `to_dict`."""
        if content.get("format") != FORMAT:
            raise ValueError(
                f"A report must be of format {FORMAT}. Got {content.get('format')!r} instead."
            )
        listed = "classes", "class_names", "never_predicted", "notes", "paths"
        values = restored(cls, content, listed, ClassScores)
        values["reliability"] = tuple(Bin(*one) for one in values["reliability"])
        values["certainty"] = {k: Certainty(*one) for k, one in values["certainty"].items()}
        return cls(**values)

    def __repr__(self) -> str:
        """Summarize the report in one line."""
        accuracy = self.scores["accuracy"]
        return f"<Report: {self.n} images, {len(self.classes)} classes, accuracy {accuracy}>"

    def _repr_html_(self) -> str:
        """Show verdict and scores in a notebook; the scores of each class open on a click."""
        return notebook.block(
            f"Report: {count(self.n, 'image')}, {len(self.classes)} classes",
            self.verdict,
            notebook.table(
                ("Score", "Value"), [(SCORES[k], self.scores[k]) for k in self.headline]
            ),
            notebook.table(
                ("Class", "Images", "Predicted", "Recall", "Precision", "AUC"),
                [
                    (one.name, one.support, one.predicted, one.recall, one.precision, one.auc)
                    for one in self.per_class
                ],
                closed="Scores of each class",
            ),
        )

    def __str__(self) -> str:
        """Format the headline scores and the scores of each class as text."""
        width = max(map(len, self.class_names))
        lines = score_lines(self)
        lines += ["", f"{'class':{width}}  images  {'recall':22}{'precision':22}AUC"]
        lines += [
            f"{one.name:{width}}  {one.support:6}  {one.recall!s:22}{one.precision!s:22}{one.auc}"
            for one in self.per_class
        ]
        return "\n".join([*lines, "", *self.notes]).rstrip()


def restored(
    cls: type[Any], content: dict[str, Any], listed: Sequence[str], per_class: type[Any]
) -> dict[str, Any]:
    """Rebuild the fields of a report from the result of its ``to_dict``.

    ``listed`` names the fields that are tuples; ``per_class`` takes a name, two counts, estimates.
    """
    # Reports of older versions lack fields that have a default
    values = {
        field.name: from_json_value(content[field.name])
        for field in fields(cls)
        if field.default is MISSING or field.name in content
    }
    for name in values.keys() & set(listed):
        values[name] = tuple(values[name])
    values["scores"] = {name: Estimate(*value) for name, value in values["scores"].items()}
    values["per_class"] = tuple(
        per_class(*one[:3], *(Estimate(*value) for value in one[3:])) for one in values["per_class"]
    )
    return values


def score_lines(report: Any) -> list[str]:
    """Format the number of images and the headline scores of a report."""
    title = "; ".join(filter(None, (count(report.n, "image"), interval_words(report))))
    lines = [title, "", *(f"{SCORES[name]:27} {value}" for name, value in report.scores.items())]
    return [*lines, "", *report.warnings] if report.warnings else lines


def true_ranks(proba: np.ndarray, true_index: np.ndarray) -> np.ndarray:
    """Rank the true class (n,) of each image by probability (n, k), from 1.

    Of equal probabilities the first column comes first, as in `argmax`.
    """
    own = np.take_along_axis(proba, true_index[:, None].astype(np.intp), axis=1)
    # Rank 1 must agree with `argmax`, which takes the first of equal probabilities
    earlier = np.arange(proba.shape[1]) < true_index[:, None]
    return 1 + (proba > own).sum(axis=1) + ((proba == own) & earlier).sum(axis=1)


AnyReport: TypeAlias = Any
"""A Report or a MultilabelReport, depending on the shape of y, which types cannot express."""


@dataclass(frozen=True, eq=False, repr=False)
class MultilabelReport(JsonSerializable):
    """All scores, counts and predictions on one set of images in a multilabel task of k labels.

    Attributes
    ----------
    n : int
        Number of images.
    classes : tuple of int
        Columns of ``proba``.
    class_names : tuple of str
        Printed names of the labels.
    thresholds : tuple of float
        Least probability at which each label is predicted.
    scores : dict of str to Estimate
        Headline scores by the names in `kmedclf.evaluation.scores.SCORES`, each with its bootstrap
        interval. "accuracy" is the share of right entries of y, "subset_accuracy" the share of
        images whose labels are all right. "macro" scores are means over labels, "micro" scores
        count the labels of all images together.
    per_class : tuple of LabelScores
        Scores of each label.
    confusion : ndarray of shape (k, 2, 2), int64
        Confusion matrix of each label in images; rows are absent and present, columns predicted
        absent and predicted present.
    notes : tuple of str
        What a reader must know: undefined scores, and the labels that an average is taken over.
    confidence : float
        Coverage of the intervals.
    n_bootstrap : int
        Number of bootstrap resamples.
    y_true, y_pred : ndarray of shape (n, k), uint8
        Zeros and ones.
    proba : ndarray of shape (n, k), float32
        Probabilities.
    paths : tuple of str
        File of each image, below the folder of the data; empty if the images were arrays.
    """

    n: int
    classes: tuple[int, ...]
    class_names: tuple[str, ...]
    thresholds: tuple[float, ...]
    scores: dict[str, Estimate]
    per_class: tuple[LabelScores, ...]
    confusion: np.ndarray
    notes: tuple[str, ...]
    confidence: float
    n_bootstrap: int
    y_true: np.ndarray
    y_pred: np.ndarray
    proba: np.ndarray
    paths: tuple[str, ...] = ()

    kind: ClassVar[str] = "multilabel"
    exclusive: ClassVar[bool] = False
    headline: ClassVar[tuple[str, ...]] = (
        "accuracy",
        "auc_macro",
        "average_precision_macro",
        "f1_macro",
        "subset_accuracy",
    )

    @property
    def accuracy(self) -> float:
        """Share of right entries of y."""
        return float(self.scores["accuracy"].value or 0.0)

    @property
    def right(self) -> np.ndarray:
        """Share of the labels of each image that are right, (n,)."""
        return np.asarray((self.y_true == self.y_pred).mean(axis=1))

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings to read before the scores: no label predicted at all, few images."""
        return warnings_of(self)

    @property
    def verdict(self) -> list[notebook.Remark]:
        """What the scores mean, in sentences, the most serious first."""
        return verdict(self)

    def truth(self, index: int) -> np.ndarray:
        """Return a mask (n,) of the images that have a label."""
        return np.asarray(self.y_true[:, index] == 1)

    def curve(self, index: int, kind: str = "roc") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Compute the ROC ("roc") or the precision-recall curve ("pr") of one label."""
        return curve_of(self, index, kind)

    def to_dict(self) -> dict[str, Any]:
        """Turn the report into plain values that JSON can hold; `from_dict` reverses this."""
        content = {field.name: to_json_value(getattr(self, field.name)) for field in fields(self)}
        return {"format": FORMAT, "kind": self.kind, **content}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> MultilabelReport:
        """Rebuild a report from the result of `to_dict`."""
        if content.get("kind") != cls.kind or content.get("format") != FORMAT:
            raise ValueError(
                f"A multilabel report must be of format {FORMAT}. "
                f"Got {content.get('format')!r} and the kind {content.get('kind')!r} instead."
            )
        listed = "classes", "class_names", "thresholds", "notes", "paths"
        return cls(**restored(cls, content, listed, LabelScores))

    def __repr__(self) -> str:
        """Summarize the report in one line."""
        auc = self.scores["auc_macro"]
        return f"<MultilabelReport: {self.n} images, {len(self.classes)} labels, AUC {auc}>"

    def _repr_html_(self) -> str:
        """Show verdict and scores in a notebook; the scores of each label open on a click."""
        return notebook.block(
            f"Report: {count(self.n, 'image')}, {len(self.classes)} labels",
            self.verdict,
            notebook.table(
                ("Score", "Value"), [(SCORES[k], self.scores[k]) for k in self.headline]
            ),
            notebook.table(
                ("Label", "Images", "Predicted", "AUC", "Sensitivity", "Specificity"),
                [
                    (one.name, one.support, one.predicted, one.auc, one.recall, one.specificity)
                    for one in self.per_class
                ],
                closed="Scores of each label",
            ),
        )

    def __str__(self) -> str:
        """Format the headline scores and the scores of each label as text."""
        width = max(map(len, self.class_names))
        lines = score_lines(self)
        columns = ("AUC", "sensitivity", "specificity")
        lines += ["", f"{'label':{width}}  images  " + "".join(f"{name:22}" for name in columns)]
        lines += [
            f"{one.name:{width}}  {one.support:6}  {one.auc!s:22}{one.recall!s:22}{one.specificity}"
            for one in self.per_class
        ]
        return "\n".join([*lines, "", *self.notes]).rstrip()


def read_report_file(path: str | os.PathLike[str]) -> AnyReport:
    """Read a report of either kind that `to_json` wrote."""
    try:
        kind = read_json(path).get("kind")
    except (ValueError, AttributeError):  # `from_json` below raises the error of a damaged file
        kind = None
    multilabel = kind == MultilabelReport.kind
    return MultilabelReport.from_json(path) if multilabel else Report.from_json(path)


class MeanStd(NamedTuple):
    """Mean and standard deviation of a score over the ``n`` reports in which it is defined."""

    mean: float | None
    std: float | None
    n: int

    def __str__(self) -> str:
        """Format as mean ± standard deviation with three decimals."""
        if self.mean is None:
            return "undefined"
        return f"{self.mean:.3f}" + ("" if self.std is None else f" ± {self.std:.3f}")


@dataclass(frozen=True)
class Summary:
    """Mean and standard deviation of several reports.

    Attributes
    ----------
    n_reports : int
        Number of reports.
    ddof : int
        The divisor of the variance is n - ddof.
    class_names : tuple of str
        Names of the classes.
    scores : dict of str to MeanStd
        Headline scores.
    per_class : dict of str to dict of str to MeanStd
        Scores by the name of the class, then of the score.
    """

    n_reports: int
    ddof: int
    class_names: tuple[str, ...]
    scores: dict[str, MeanStd]
    per_class: dict[str, dict[str, MeanStd]]

    def to_dict(self) -> dict[str, Any]:
        """Turn the summary into plain values."""
        return {
            "n_reports": self.n_reports,
            "ddof": self.ddof,
            "scores": {name: one._asdict() for name, one in self.scores.items()},
            "per_class": {
                name: {score: one._asdict() for score, one in scores.items()}
                for name, scores in self.per_class.items()
            },
        }

    def __str__(self) -> str:
        """Format the headline scores as text."""
        title = f"{self.n_reports} reports; mean ± standard deviation (ddof {self.ddof})"
        rows = [
            f"{SCORES[name]:27} {value}{_defined(value, self.n_reports)}"
            for name, value in self.scores.items()
        ]
        return "\n".join([title, "", *rows])


def _defined(value: MeanStd, n_reports: int) -> str:
    """Return words on how many reports define a score, if not all or none do."""
    return f", of the {value.n} that define it" if 0 < value.n < n_reports else ""


def mean_std(reports: Iterable[Report], *, ddof: int = 1) -> Summary:
    """Average the reports of several random seeds or folds.

    Parameters
    ----------
    reports : iterable of Report
        Reports with the same classes.
    ddof : {0, 1}, default=1
        1 estimates the standard deviation of all possible runs, 0 describes these runs.

    Returns
    -------
    Summary
        Means and standard deviations; a standard deviation is None where fewer than ddof + 1
        reports define the score.

    Raises
    ------
    ValueError
        If there is no report, or if they have different classes.
    """
    reports = list(reports)
    if not reports:
        raise ValueError("The 'reports' parameter of mean_std must hold a report. Got none.")
    classes = {report.classes for report in reports}
    if len(classes) > 1:
        raise ValueError(
            "The 'reports' parameter of mean_std must have the same classes throughout. "
            f"Got {' and '.join(map(str, list(classes)[:2]))} instead."
        )
    # Reports with and without a positive class have different scores
    names = [name for name in SCORES if all(name in report.scores for report in reports)]
    fields = ("recall", "specificity", "precision", "f1", "auc")
    return Summary(
        n_reports=len(reports),
        ddof=ddof,
        class_names=reports[0].class_names,
        scores={name: _of([report.scores[name] for report in reports], ddof) for name in names},
        per_class={
            name: {
                field: _of([getattr(report.per_class[i], field) for report in reports], ddof)
                for field in fields
            }
            for i, name in enumerate(reports[0].class_names)
        },
    )


def _of(estimates: list[Estimate], ddof: int) -> MeanStd:
    values = [one.value for one in estimates if one.value is not None]
    mean = float(np.mean(values)) if values else None
    std = float(np.std(values, ddof=ddof)) if len(values) > ddof else None
    return MeanStd(mean, std, len(values))
