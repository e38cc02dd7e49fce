"""Charts of searches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator

from kmedclf.evaluation.style import MARKERS, axes, styled


@styled
def effect(
    cv_results: Mapping[str, Any],
    parameter: str,
    *,
    by: str | None = None,
    log_x: bool = False,
    score: str = "accuracy",
    ax: Axes | None = None,
) -> Axes:
    """Draw how the score of a search moves with one hyperparameter, or with two.

    Parameters
    ----------
    cv_results : mapping
        ``cv_results_`` of a search of scikit-learn.
    parameter : str
        Hyperparameter on the x axis; "filters" also finds "clf__filters" of a pipeline.
    by : str, optional
        Second hyperparameter: one line for each of its values.
    log_x : bool, default=False
        Whether the axis is logarithmic.
    score : str, default="accuracy"
        What the search scored by, for the label.
    ax : Axes, optional
        Where to draw; a new figure by default.

    Returns
    -------
    Axes
        The chart. Points are means and bars standard deviations (ddof 0) over folds and over all
        candidates that share the values; candidates that failed are left out.
    """
    ax = axes(ax, (4.6, 3.2))
    x, groups = _column(cv_results, parameter), None if by is None else _column(cv_results, by)
    scores = _fold_scores(cv_results)  # (candidates, folds)
    values = _in_order(x)
    numeric = all(type(value) in (int, float) for value in values)
    places = np.array(values if numeric else range(len(values)), dtype=float)
    lines = [None] if groups is None else _in_order(groups)
    for i, line in enumerate(lines):
        points = []
        for value in values:
            chosen = [
                j for j in range(len(x)) if x[j] == value and (groups is None or groups[j] == line)
            ]
            found = scores[chosen][np.isfinite(scores[chosen])]
            points.append((found.mean(), found.std()) if len(found) else (np.nan, np.nan))
        mean, std = np.transpose(points)
        # Lines side by side, or their bars would hide each other
        shift = (i - (len(lines) - 1) / 2) * 0.02
        spread = np.ptp(np.log(places)) if log_x else np.ptp(places)
        moved = places * np.exp(shift * spread) if log_x else places + shift * spread
        look: dict[str, Any] = {
            "marker": MARKERS[i % len(MARKERS)],
            "linestyle": "-" if numeric else "none",
        }
        ax.errorbar(moved, mean, std, label=f"{by} {line}", elinewidth=1, **look)
    if log_x:
        ax.set_xscale("log")
        ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xticks(places, list(map(str, values)))
    ax.set_xlabel(parameter.rpartition("__")[2])
    ax.set_ylabel(f"{score} (mean ± std)")
    ax.grid(axis="y")
    if by is not None:
        ax.legend()
    return ax


def _column(cv_results: Mapping[str, Any], parameter: str) -> list[Any]:
    """Find the values of a parameter, one a candidate."""
    names = [name for name in cv_results if name.startswith("param_")]
    found = [name for name in names if name in (f"param_{parameter}", parameter)]
    found = found or [name for name in names if name.endswith(f"__{parameter}")]
    if len(found) != 1:
        known = ", ".join(sorted(name.removeprefix("param_") for name in names))
        raise ValueError(
            f"The 'parameter' of an effect must be one that was searched, {known}. "
            f"Got {parameter!r} instead."
        )
    plain: Any = np.ma.asarray(cv_results[found[0]], dtype=object).filled(None)
    return [value.item() if isinstance(value, np.generic) else value for value in plain]


def _fold_scores(cv_results: Mapping[str, Any]) -> np.ndarray:
    splits = [k for k in cv_results if k.startswith("split") and k.endswith("_test_score")]
    columns = [cv_results[name] for name in splits or ["mean_test_score"]]
    return np.stack(columns, axis=1).astype(np.float64)


def _in_order(values: Sequence[Any]) -> list[Any]:
    """List different values: numbers sorted, others as they come."""
    kinds = list(dict.fromkeys(values))
    return sorted(kinds) if all(type(one) in (int, float) for one in kinds) else kinds
