"""Sentences that depend on what was done, made from what was done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

PROPORTIONS = ("accuracy", "subset_accuracy", "recall_weighted", "sensitivity", "specificity",
               "ppv", "npv", "recall", "precision")  # fmt: skip
"""Scores whose interval is exact where they are 0 or 1."""


def percent(share: float) -> str:
    """Write a share as per cent, with as many digits as it has: "95 %", "97.5 %"."""
    return f"{100 * share:.6g} %"


def count(n: int, what: str) -> str:
    """Write a number and what it counts: "1 image", "2,000 images"."""
    return f"{n:,} {what}" + ("" if n == 1 else "s")


def interval_words(found: Any) -> str:
    """Say what the intervals of a report or a comparison are; nothing where it has none."""
    exact, resampled = _kinds(found)
    if not exact and not resampled:
        return ""
    return f"{percent(found.confidence)} {'bootstrap ' if resampled else ''}intervals"


def brackets(found: Any) -> str:
    """Say in a sentence what brackets hold; nothing where there are none."""
    exact, resampled = _kinds(found)
    whole = f"{percent(found.confidence)} intervals"
    n = getattr(found, "n_bootstrap", 0)
    several = f"{n:,} bootstrap resamples" if n else "bootstrap resamples"
    if resampled:
        also = ", and exact binomial ones where a proportion is 0 or 1" if exact else ""
        return f"Brackets hold {whole} from {several} of the images{also}."
    return f"Brackets hold exact binomial {whole}." if exact else ""


def _kinds(found: Any) -> tuple[bool, bool]:
    """Say whether there are exact intervals, and whether there are resampled ones."""
    kinds = {
        name in PROPORTIONS and one.value in (0.0, 1.0)
        for name, one in _estimates(found)
        if one.low is not None
    }
    return True in kinds, False in kinds


def _estimates(found: Any) -> list[tuple[str, Any]]:
    """List every estimate of a report of either kind, or of a comparison, by its name."""
    if hasattr(found, "models"):
        listed = [pair for one in found.models for pair in one.scores.items()]
        return listed + [("difference", one.difference) for one in found.pairs]
    classes = [pair for one in found.per_class for pair in list(one._asdict().items())[3:]]
    return [*found.scores.items(), *classes]


class Epochs(NamedTuple):
    """Which epochs there were, and whose weights a network has.

    Parameters
    ----------
    n : int
        How many.
    validated : bool
        Whether all of them were validated.
    best : int or None
        The one that was best in validation, from 1.
    kept : int or None
        Whose weights the network has; None if that is not known.
    monitor : str or None
        What was best in it; None if that is not known.
    """

    n: int
    validated: bool
    best: int | None
    kept: int | None
    monitor: str | None

    def __str__(self) -> str:
        """Say it in words that stand behind a semicolon."""
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
    """Find which epochs there were.

    Parameters
    ----------
    history, best_epoch
        ``history_`` and ``best_epoch_`` of an estimator.
    used : mapping, optional
        Its parameters, as `kmedclf.recipes.parameters` gives them.
    """
    lengths = {name: len(values) for name, values in history.items()}
    n = max(lengths.values(), default=0)
    curves = [name for name in ("val_accuracy", "val_loss") if name in lengths]
    validated = bool(curves) and all(lengths[name] == n for name in curves)
    if not validated or best_epoch is None:
        return Epochs(n, validated and best_epoch is not None, None, None if validated else n, None)
    if used is None:
        return Epochs(n, True, best_epoch, None, None)
    restored = used["early_stopping"] and used["restore_best"]
    return Epochs(n, True, best_epoch, best_epoch if restored else n, used["monitor"])


def kept_value(values: Sequence[float], epochs: Epochs) -> float:
    """Give the value of a curve in the epoch whose weights are kept, or in the last one."""
    return float(np.asarray(values, dtype=float)[(epochs.kept or epochs.n) - 1])
