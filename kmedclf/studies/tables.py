"""What the tables of several studies have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from kmedclf import evaluation, runs
from kmedclf.evaluation.compare import p_text


def clock(seconds: float) -> str:
    """Write a time as minutes and seconds, "6:20"."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"


def spread(values: Sequence[float], digits: int = 4) -> str:
    """Write mean and standard deviation (ddof 0) of numbers."""
    return f"{np.mean(values):.{digits}f} ± {np.std(values):.{digits}f}"


def score(run: runs.Run, name: str = "accuracy", split: str = "test") -> str:
    """Write a score of a run with four decimals; a dash if it has no such split or score."""
    found = run.reports[split].scores.get(name) if split in run.reports else None
    return "–" if found is None or found.value is None else f"{found.value:.4f}"


HEAD = ["Test accuracy, 95 % interval", "F1, macro", "AUC, macro", "Validation", "Epochs", "min:s"]
"""Heads of the columns of `cells`."""


def cells(run: runs.Run) -> list[Any]:
    """Make the columns that every network of a study has."""
    return [
        str(run.reports["test"].scores["accuracy"]),
        score(run, "f1_macro"),
        score(run, "auc_macro"),
        score(run, split="val"),
        str(len(run.estimator.history_["loss"])),
        clock(run.seconds),
    ]


def verdict(first: str, a: runs.Run, second: str, b: runs.Run) -> str:
    """Say whether the test images tell two networks apart."""
    pair = evaluation.compare({first: a.reports["test"], second: b.reports["test"]}).pairs[0]
    ahead = f"{pair.first} minus {pair.second} {pair.difference}"
    told = "differ" if pair.p < 0.05 else "cannot be told apart on these images"
    return (
        f"{first} and {second} {told}: accuracy {a.reports['test'].accuracy:.3f} and "
        f"{b.reports['test'].accuracy:.3f}, {ahead} (McNemar's p, not "
        f"corrected: {p_text(pair.p)})."
    )
