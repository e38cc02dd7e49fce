"""Sentences for pages and reports that depend on the results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from kmedclf.utils.notebook import Remark

PROPORTIONS = ("accuracy", "subset_accuracy", "recall_weighted", "sensitivity", "specificity",
               "ppv", "npv", "recall", "precision")  # fmt: skip
"""Scores with an exact binomial interval if they are 0 or 1."""


def percent(share: float) -> str:
    """Format a share as per cent, with as many digits as needed: "95 %", "97.5 %"."""
    return f"{100 * share:.6g} %"


def count(n: int, what: str) -> str:
    """Format a number with its noun: "1 image", "2,000 images"."""
    return f"{n:,} {what}" + ("" if n == 1 else "s")


def interval_words(found: Any) -> str:
    """Name the intervals of a report or a comparison; "" if it has none."""
    exact, resampled = _kinds(found)
    if not exact and not resampled:
        return ""
    return f"{percent(found.confidence)} {'bootstrap ' if resampled else ''}intervals"


def brackets(found: Any) -> str:
    """Explain the brackets in a table in one sentence; "" if there are none."""
    exact, resampled = _kinds(found)
    whole = f"{percent(found.confidence)} intervals"
    n = getattr(found, "n_bootstrap", 0)
    resamples = f"{n:,} bootstrap resamples" if n else "bootstrap resamples"
    if resampled:
        also = ", and exact binomial ones where a proportion is 0 or 1" if exact else ""
        return f"Brackets hold {whole} from {resamples} of the images{also}."
    return f"Brackets hold exact binomial {whole}." if exact else ""


def _kinds(found: Any) -> tuple[bool, bool]:
    """Check for exact intervals, and for bootstrap intervals."""
    kinds = {
        name in PROPORTIONS and one.value in (0.0, 1.0)
        for name, one in _estimates(found)
        if one.low is not None
    }
    return True in kinds, False in kinds


def _estimates(found: Any) -> list[tuple[str, Any]]:
    """List every estimate of a report or a comparison by name."""
    if hasattr(found, "models"):
        listed = [pair for one in found.models for pair in one.scores.items()]
        return listed + [("difference", one.difference) for one in found.pairs]
    classes = [pair for one in found.per_class for pair in list(one._asdict().items())[3:]]
    return [*found.scores.items(), *classes]


class Epochs(NamedTuple):
    """Number of epochs, the best one, and the one whose weights were kept."""

    n: int
    validated: bool  # whether all epochs have validation scores
    best: int | None  # best epoch in validation, from 1
    kept: int | None  # epoch whose weights the network has; None if unknown
    monitor: str | None  # what the best epoch was best in; None if unknown

    def __str__(self) -> str:
        """Describe the epochs in words that follow a colon or semicolon."""
        watched = f"validation {self.monitor}" if self.monitor else "validation"
        if not self.validated:
            return f"{count(self.n, 'epoch')}, the weights are the last one's"
        if self.kept is None:
            return f"{watched} was best in epoch {self.best} of {self.n}"
        if self.kept == self.best and self.n > 1:
            return f"best {watched} in epoch {self.best} of {self.n}, whose weights are kept"
        best = f"; {watched} was best in epoch {self.best}" if self.n > 1 else ""
        return f"{count(self.n, 'epoch')}, the weights are the last one's{best}"


def epochs_of(
    history: Mapping[str, Sequence[float]],
    best_epoch: int | None = None,
    used: Mapping[str, Any] | None = None,
) -> Epochs:
    """Describe the epochs by ``history_`` and ``best_epoch_`` of an estimator.

    ``used`` are its parameters, which tell whether the weights of the best epoch were restored.
    """
    # Validation curves may be missing, or shorter than those of the training
    lengths = {name: len(values) for name, values in history.items()}
    n = max(lengths.values(), default=0)
    curves = [name for name in ("val_accuracy", "val_loss") if name in lengths]
    validated = bool(curves) and all(lengths[name] == n for name in curves)
    if not validated or best_epoch is None:
        return Epochs(n, validated and best_epoch is not None, None, None if validated else n, None)
    # Without the parameters it is unknown whether the best weights were restored
    if used is None:
        return Epochs(n, True, best_epoch, None, None)
    restored = used["early_stopping"] and used["restore_best"]
    return Epochs(n, True, best_epoch, best_epoch if restored else n, used["monitor"])


# -- verdicts --------------------------------------------------------------------------------------

WIDE = 0.1
"""An interval of the accuracy that is wider leaves the accuracy open."""
LEAST_DISCORDANT = 6
"""With fewer images that only one of two models gets right, McNemar's p cannot be below 0.05."""


def verdict(report: Any, twins: int | None = None) -> list[Remark]:
    """Say what the scores of a report mean, the most serious first.

    ``twins`` are the images that are also training images, pixel by pixel; None if unknown.
    """
    said = _verdict_of_classes(report) if report.exclusive else _verdict_of_labels(report)
    if twins:
        are = "is a training image" if twins == 1 else "are training images"
        text = f"Leak found: {twins:,} of these images {are} as well, pixel by pixel: the "
        said.append(Remark("warning", f"{text}scores are too good."))
    elif twins == 0:
        said.append(Remark("good", "None of the images is identical to a training image."))
    said += [Remark("warning", text) for text in report.warnings]
    order = ("warning", "good", "plain")
    # What was measured comes first, whatever is said about it
    return [said[0], *sorted(said[1:], key=lambda one: order.index(one.kind))]


def _verdict_of_classes(report: Any) -> list[Remark]:
    accuracy = report.scores["accuracy"]
    right = int(report.right.sum())
    text = f"The right class is named for {right:,} of {count(report.n, 'image')}: accuracy"
    said = [Remark("plain", f"{text} {accuracy}."), *_how_sure(report, "accuracy")]
    support, predicted = report.confusion.sum(axis=1), report.confusion.sum(axis=0)
    share, name = support.max() / report.n, report.class_names[int(support.argmax())]
    if accuracy.low is not None and np.count_nonzero(support) > 1:
        if accuracy.low > share:
            text = (
                "It is better than always naming the same class, which would be right for at most "
            )
            said.append(Remark("good", f"{text}{share:.3f}."))
        elif accuracy.value > share:
            text = f"It is not shown to be better than always naming {name}, right for {share:.3f}."
            said.append(Remark("warning", text))
    missing = [
        f"{one} ({count(int(n), 'image')})"
        for one, n, found in zip(report.class_names, support, predicted, strict=True)
        if n and not found
    ]
    if missing and np.count_nonzero(predicted) > 1:
        are = "is" if len(missing) == 1 else "are"
        said.append(Remark("warning", f"{_listing(missing)} {are} never predicted."))
    return [*said, *_hardest(report), *_how_calibrated(report)]


def _how_sure(report: Any, score: str) -> list[Remark]:
    """Say how far the score may be off on other images of the same kind."""
    value, low, high = report.scores[score]
    if value is None:
        return [Remark("warning", f"The {score.replace('_', ' ')} is undefined on these images.")]
    if low is None or high is None:
        return [Remark("warning", "Without an interval, nothing says how sure the score is.")]
    between = f"between {low:.3f} and {high:.3f} ({percent(report.confidence)} interval)"
    if high - low > WIDE:
        return [Remark("warning", f"Too few images to tell more than that it lies {between}.")]
    return [Remark("plain", f"As far as these images tell, it lies {between}.")]


def _hardest(report: Any) -> list[Remark]:
    """Name the class of lowest recall, where its interval lies below the accuracy."""
    accuracy = report.scores["accuracy"].value
    known = [i for i, one in enumerate(report.per_class) if one.recall.high is not None]
    # Where one class is predicted throughout, none is hard
    if not known or accuracy is None or len(np.unique(report.pred_index)) == 1:
        return []
    worst = min(known, key=lambda i: report.per_class[i].recall.value)
    one = report.per_class[worst]
    if one.recall.high >= accuracy:
        return [Remark("plain", "No class is clearly harder than the others on these images.")]
    row = report.confusion[worst].copy()
    found, row[worst] = int(row[worst]), 0
    text = f"{one.name} is the hardest class: {found:,} of its {count(one.support, 'image')} "
    text += f"{'is' if found == 1 else 'are'} found (recall {one.recall})"
    if row.max():
        text += f"; the missed are most often taken for {report.class_names[int(row.argmax())]}"
    return [Remark("plain", f"{text}.")]


def _how_calibrated(report: Any) -> list[Remark]:
    """Compare the mean confidence with the interval of the accuracy."""
    value, low, high = report.scores["accuracy"]
    # A threshold of the user's own is not meant to agree with the probabilities
    if value is None or low is None or report.threshold is not None:
        return []
    constant = len(np.unique(report.pred_index)) == 1
    sure = float(report.proba.astype(float)[np.arange(report.n), report.pred_index].mean())
    text = f"predictions are given a probability of {sure:.3f} on average, and {value:.3f} are "
    if sure > high:
        return [Remark("warning", f"The network is too sure of itself: {text}right.")]
    if sure < low:
        return [Remark("plain", f"The network is less sure than it could be: {text}right.")]
    if constant or high - low > WIDE:  # nearly anything would agree
        return []
    return [Remark("good", f"The probabilities are right on average: {text}right.")]


def _verdict_of_labels(report: Any) -> list[Remark]:
    auc, whole = report.scores["auc_macro"], report.scores["subset_accuracy"]
    text = f"AUC, averaged over the labels, is {auc}; all labels are right for a share of {whole} "
    said = [Remark("plain", f"{text}of {count(report.n, 'image')}.")]
    said += _how_sure(report, "auc_macro")
    accuracy, nothing = report.scores["accuracy"], 1 - float(report.y_true.mean())
    if accuracy.value is not None and accuracy.value <= nothing and report.y_pred.any():
        text = f"Predicting no label at all would be right for {nothing:.3f} of them, the network "
        said.append(Remark("warning", f"{text}is for {accuracy.value:.3f}."))
    chance = [
        one.name for one in report.per_class if one.auc.low is not None and one.auc.low <= 0.5
    ]
    if chance:
        text = f"Not shown to be told from their absence better than by chance: {_listing(chance)}."
        said.append(Remark("warning", text))
    never = [one.name for one in report.per_class if one.support and not one.predicted]
    if never and report.y_pred.any():
        said.append(Remark("warning", f"Never predicted, though there: {_listing(never)}."))
    return said


def compared(found: Any) -> list[Remark]:
    """Say which model of a comparison wins, by how much, and whether the images can tell."""
    first, score = found.models[0], "accuracy"
    best = f"{first.name} has the highest accuracy, {first.scores[score]}"
    if not found.pairs:
        return [Remark("plain", f"{best}; there is no other model to compare it with.")]
    mine = [one for one in found.pairs if one.first == first.name]
    lost = [one for one in mine if one.p_holm < 0.05]
    level = [one for one in mine if one.p_holm >= 0.05]
    near = mine[0]
    ahead = f"{near.difference} ahead of {near.second}, the next best"
    if not level:
        text = f"{first.name} wins: accuracy {first.scores[score]}, {ahead}"
        others = f", and better than all {len(mine)} others" if len(mine) > 1 else ""
        said = [Remark("good", f"{text}{others}. Chance alone would seldom do that.")]
    elif near.only_first == near.only_second == 0:
        said = [Remark("warning", f"{best}; {near.second} is right for the very same images.")]
    else:
        told = f"{best}, but these {found.n:,} images cannot tell it from "
        told += f"{_listing([one.second for one in level])}: it is {ahead}."
        said = [Remark("warning", told)]
    if level and lost:
        names = [f"{one.second}, by {one.difference}" for one in lost]
        said.append(Remark("good", f"It is better than {_listing(names)}."))
    apart = near.only_first + near.only_second
    if not found.multilabel and 0 < apart < LEAST_DISCORDANT:
        text = f"{first.name} and {near.second} differ in {count(apart, 'image')}: too few for any "
        said.append(Remark("warning", f"{text}test to tell them apart."))
    return said


def _listing(names: Sequence[str], most: int = 6) -> str:
    """List names in words: "a, b and c", or the first of many."""
    if len(names) > most:
        return f"{', '.join(names[:most])} and {len(names) - most} more"
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
