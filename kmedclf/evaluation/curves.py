"""ROC and precision-recall curves, of reports on classes and on labels alike."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from sklearn.metrics import precision_recall_curve, roc_curve


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
    """Compute a curve of a report of either kind; see `Report.curve`."""
    truth, score = report.truth(index), report.proba[:, index]
    if not truth.any() or (kind == "roc" and truth.all()):
        raise ValueError(
            f"The {kind.upper()} curve of a class must have images of it and of others. Got "
            f"{int(truth.sum())} of {report.n} images of {report.class_names[index]!r} instead."
        )
    if kind == "roc":
        return roc_curve(truth, score)
    precision, recall, thresholds = precision_recall_curve(truth, score)
    return recall, precision, thresholds
