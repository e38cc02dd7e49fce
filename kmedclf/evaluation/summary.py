"""Mean and spread over seeds or folds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from kmedclf.evaluation.report import SCORES, Estimate, Report


class MeanStd(NamedTuple):
    """Mean and standard deviation of the ``n`` reports that define a score."""

    mean: float | None
    std: float | None
    n: int

    def __str__(self) -> str:
        """Write mean ± standard deviation with three decimals."""
        if self.mean is None:
            return "undefined"
        return f"{self.mean:.3f}" + ("" if self.std is None else f" ± {self.std:.3f}")


@dataclass(frozen=True)
class Summary:
    """Several reports in one.

    Attributes
    ----------
    n_reports : int
        How many.
    ddof : int
        Divisor of the variance is n - ddof.
    class_names : tuple of str
        Names of the classes.
    scores : dict of str to MeanStd
        Headline numbers.
    per_class : dict of str to dict of str to MeanStd
        By name of the class, then of the score.
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
        """Write the headline numbers as text."""
        title = f"{self.n_reports} reports; mean ± standard deviation (ddof {self.ddof})"
        rows = [
            f"{SCORES[name]:27} {value}{_defined(value, self.n_reports)}"
            for name, value in self.scores.items()
        ]
        return "\n".join([title, "", *rows])


def _defined(value: MeanStd, n_reports: int) -> str:
    """Say how many reports define a score, if some but not all do."""
    return f", of the {value.n} that define it" if 0 < value.n < n_reports else ""


def mean_std(reports: Iterable[Report], *, ddof: int = 1) -> Summary:
    """Average reports of several seeds or folds.

    Parameters
    ----------
    reports : iterable of Report
        On the same classes.
    ddof : {0, 1}, default=1
        1 estimates the spread of all possible runs, 0 describes these.

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
