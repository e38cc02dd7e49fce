"""What an evaluation found: one frozen object, and its way to JSON and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, NamedTuple

import numpy as np

from kmedclf.evaluation.curves import curve_of
from kmedclf.evaluation.honesty import warnings_of
from kmedclf.evaluation.plain import Stored, from_plain, to_plain
from kmedclf.evaluation.wording import count, interval_words

FORMAT = 1

SCORES = {
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "auc_macro": "AUC, macro",
    "average_precision_macro": "Average precision, macro",
    "f1_macro": "F1, macro",
    "precision_macro": "Precision, macro",
    "recall_macro": "Recall, macro",
    "specificity_macro": "Specificity, macro",
    "f1_weighted": "F1, weighted",
    "precision_weighted": "Precision, weighted",
    "recall_weighted": "Recall, weighted",
    "f1_micro": "F1, micro",
    "precision_micro": "Precision, micro",
    "recall_micro": "Recall, micro",
    "subset_accuracy": "All labels right",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "ppv": "Positive predictive value",
    "npv": "Negative predictive value",
    "average_precision": "Average precision",
    "log_loss": "Log loss",
    "brier": "Brier score",
    "ece": "Expected calibration error",
}
"""Names of the headline numbers, in the order of print, and what to call them there."""


class Estimate(NamedTuple):
    """A number and its confidence interval; None is "undefined", never 0."""

    value: float | None
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        """Write the number with three decimals and its interval in brackets."""
        if self.value is None:
            return "undefined"
        if self.low is None or self.high is None:
            return f"{self.value:.3f}"
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


class ClassScores(NamedTuple):
    """The scores of one class against all others.

    ``support`` counts the images of the class, ``predicted`` those taken for it; ``recall`` is what
    some call the accuracy of the class.
    """

    name: str
    support: int
    predicted: int
    recall: Estimate
    specificity: Estimate
    precision: Estimate
    f1: Estimate
    auc: Estimate


class Bin(NamedTuple):
    """One bin of the reliability diagram; empty bins have None for both means."""

    low: float
    high: float
    images: int
    confidence: float | None
    accuracy: float | None


class Certainty(NamedTuple):
    """How sure the right, or the wrong, predictions were: probability of the predicted class."""

    images: int
    mean: float | None
    quartile_1: float | None
    median: float | None
    quartile_3: float | None


@dataclass(frozen=True, eq=False, repr=False)
class Report(Stored):
    """All that was measured on one set of images.

    Attributes
    ----------
    n : int
        Number of images.
    classes : tuple of int, float, bool or str
        Labels, in the order of the columns of ``proba``.
    class_names : tuple of str
        What to call them in print.
    pos_label : label or None
        Which of two classes is the positive one.
    threshold : float or None
        Probability of the positive class from which on it was predicted; None is the larger one.
    scores : dict of str to Estimate
        Headline numbers by the names in `SCORES`, each with its bootstrap interval.
    per_class : tuple of ClassScores
        One entry a class.
    confusion : ndarray of shape (k, k), int64
        Numbers of images; rows are true classes, columns predicted ones.
    rank_counts : ndarray of shape (k,), int64
        How many images have their true class at rank 1, 2, ... of the probabilities.
    reliability : tuple of Bin
        Bins behind the expected calibration error.
    certainty : dict of str to Certainty
        For "right" and "wrong" predictions.
    never_predicted : tuple of str
        Names of classes that no image was taken for.
    notes : tuple of str
        What a reader must know: what is undefined, and over what a mean was taken.
    confidence : float
        Coverage of the intervals.
    n_bootstrap : int
        Resamples behind them.
    true_index, pred_index : ndarray of shape (n,), integer
        True and predicted class of every image, as positions in ``classes``.
    proba : ndarray of shape (n, k), float32
        Class probabilities of every image.
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

    exclusive: ClassVar[bool] = True

    @property
    def headline(self) -> tuple[str, ...]:
        """Names of the scores to look at first."""
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
        """What to know before the scores: one class predicted always, few images."""
        return warnings_of(self)

    def truth(self, index: int) -> np.ndarray:
        """Say which images are of a class, bool (n,)."""
        return np.asarray(self.true_index == index)

    def surest_mistakes(self, n: int) -> list[int]:
        """List n misclassified images, those first that the model was surest of."""
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
        """Turn the report into plain values that JSON can hold; `from_dict` turns them back."""
        content = {field.name: to_plain(getattr(self, field.name)) for field in fields(self)}
        return {"format": FORMAT, **content}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Report:
        """Rebuild a report from what `to_dict` gave."""
        if content.get("format") != FORMAT:
            raise ValueError(
                f"A report must be of format {FORMAT}. Got {content.get('format')!r} instead."
            )
        listed = "classes", "class_names", "never_predicted", "notes"
        values = restored(cls, content, listed, ClassScores)
        values["reliability"] = tuple(Bin(*one) for one in values["reliability"])
        values["certainty"] = {k: Certainty(*one) for k, one in values["certainty"].items()}
        return cls(**values)

    def __repr__(self) -> str:
        """Say what was evaluated and how well it went."""
        accuracy = self.scores["accuracy"]
        return f"<Report: {self.n} images, {len(self.classes)} classes, accuracy {accuracy}>"

    def __str__(self) -> str:
        """Write headline numbers and classes as text."""
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
    """Rebuild the fields of a report of either kind from what its ``to_dict`` gave.

    ``listed`` are the fields that are tuples; ``per_class`` takes a name, two counts and estimates.
    """
    values = {field.name: from_plain(content[field.name]) for field in fields(cls)}
    for name in listed:
        values[name] = tuple(values[name])
    values["scores"] = {name: Estimate(*value) for name, value in values["scores"].items()}
    values["per_class"] = tuple(
        per_class(*one[:3], *(Estimate(*value) for value in one[3:])) for one in values["per_class"]
    )
    return values


def score_lines(report: Any) -> list[str]:
    """Write the number of images and the headline numbers of a report of either kind."""
    title = "; ".join(filter(None, (count(report.n, "image"), interval_words(report))))
    lines = [title, "", *(f"{SCORES[name]:27} {value}" for name, value in report.scores.items())]
    return [*lines, "", *report.warnings] if report.warnings else lines


def true_ranks(proba: np.ndarray, true_index: np.ndarray) -> np.ndarray:
    """Rank the true class of each image: 1 + the classes that `argmax` would prefer to it.

    Parameters
    ----------
    proba : ndarray of shape (n, k)
        Class probabilities.
    true_index : ndarray of shape (n,)
        Columns of the true classes.

    Returns
    -------
    ndarray of shape (n,), int64
        Ranks from 1; of equal probabilities the first column comes first.
    """
    own = np.take_along_axis(proba, true_index[:, None].astype(np.intp), axis=1)
    earlier = np.arange(proba.shape[1]) < true_index[:, None]
    return 1 + (proba > own).sum(axis=1) + ((proba == own) & earlier).sum(axis=1)
