"""Sentences for pages and reports that depend on the results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

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
    several = f"{n:,} bootstrap resamples" if n else "bootstrap resamples"
    if resampled:
        also = ", and exact binomial ones where a proportion is 0 or 1" if exact else ""
        return f"Brackets hold {whole} from {several} of the images{also}."
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


def kept_value(values: Sequence[float], epochs: Epochs) -> float:
    """Return the value of a curve in the epoch whose weights were kept, or in the last one."""
    return float(np.asarray(values, dtype=float)[(epochs.kept or epochs.n) - 1])
