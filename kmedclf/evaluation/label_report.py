"""What an evaluation of labels found of which an image may have several."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from typing import Any, ClassVar, NamedTuple, TypeAlias

import numpy as np

from kmedclf.evaluation.curves import curve_of
from kmedclf.evaluation.honesty import warnings_of
from kmedclf.evaluation.plain import Stored, to_plain
from kmedclf.evaluation.report import FORMAT, Estimate, Report, restored, score_lines
from kmedclf.run_files import read_json

AnyReport: TypeAlias = Any
"""A Report or a MultilabelReport: the values of y decide, which no type can tell."""


class LabelScores(NamedTuple):
    """The scores of one label.

    ``support`` counts the images that have it, ``predicted`` those it was predicted of; ``recall``
    is its sensitivity.
    """

    name: str
    support: int
    predicted: int
    recall: Estimate
    specificity: Estimate
    precision: Estimate
    f1: Estimate
    auc: Estimate
    average_precision: Estimate


@dataclass(frozen=True, eq=False, repr=False)
class MultilabelReport(Stored):
    """All that was measured on one set of images, each of which may have several of k labels.

    Attributes
    ----------
    n : int
        Number of images.
    classes : tuple of int
        Columns of ``proba``.
    class_names : tuple of str
        What to call the labels in print.
    thresholds : tuple of float
        Probability of each label from which on it was predicted.
    scores : dict of str to Estimate
        Headline numbers by the names in `kmedclf.evaluation.report.SCORES`, each with its bootstrap
        interval. "accuracy" is the share of all labels of all images that are right,
        "subset_accuracy" that of images whose labels are all right; "macro" is a mean over labels,
        "micro" takes all labels of all images together.
    per_class : tuple of LabelScores
        One entry a label.
    confusion : ndarray of shape (k, 2, 2), int64
        Numbers of images for each label; rows are absent and present, columns so predicted.
    notes : tuple of str
        What a reader must know: what is undefined, and over what a mean was taken.
    confidence : float
        Coverage of the intervals.
    n_bootstrap : int
        Resamples behind them.
    y_true, y_pred : ndarray of shape (n, k), uint8
        Zeros and ones.
    proba : ndarray of shape (n, k), float32
        Probabilities.
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
        """Share of all labels of all images that are right."""
        return float(self.scores["accuracy"].value or 0.0)

    @property
    def right(self) -> np.ndarray:
        """Share of the labels of each image that are right, (n,)."""
        return np.asarray((self.y_true == self.y_pred).mean(axis=1))

    @property
    def warnings(self) -> tuple[str, ...]:
        """What to know before the scores: nothing predicted at all, few images."""
        return warnings_of(self)

    def truth(self, index: int) -> np.ndarray:
        """Say which images have a label, bool (n,)."""
        return np.asarray(self.y_true[:, index] == 1)

    def curve(self, index: int, kind: str = "roc") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Compute the ROC ("roc") or the precision-recall curve ("pr") of one label."""
        return curve_of(self, index, kind)

    def to_dict(self) -> dict[str, Any]:
        """Turn the report into plain values that JSON can hold; `from_dict` turns them back."""
        content = {field.name: to_plain(getattr(self, field.name)) for field in fields(self)}
        return {"format": FORMAT, "kind": self.kind, **content}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> MultilabelReport:
        """Rebuild a report from what `to_dict` gave."""
        if content.get("kind") != cls.kind or content.get("format") != FORMAT:
            raise ValueError(
                f"A report of several labels must be of format {FORMAT}. "
                f"Got {content.get('format')!r} and the kind {content.get('kind')!r} instead."
            )
        listed = "classes", "class_names", "thresholds", "notes"
        return cls(**restored(cls, content, listed, LabelScores))

    def __repr__(self) -> str:
        """Say what was evaluated and how well it went."""
        auc = self.scores["auc_macro"]
        return f"<MultilabelReport: {self.n} images, {len(self.classes)} labels, AUC {auc}>"

    def __str__(self) -> str:
        """Write headline numbers and labels as text."""
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
    """Read what `to_json` of either kind of report wrote."""
    try:
        kind = read_json(path).get("kind")
    except (ValueError, AttributeError):  # reading it again says so
        kind = None
    several = kind == MultilabelReport.kind
    return MultilabelReport.from_json(path) if several else Report.from_json(path)
