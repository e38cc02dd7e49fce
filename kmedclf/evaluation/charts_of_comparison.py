"""The chart of a comparison."""

from __future__ import annotations

from matplotlib.axes import Axes

from kmedclf.evaluation.compare import Comparison
from kmedclf.evaluation.style import BLUE, VERMILION, axes, height, rows, shorten, styled


@styled
def accuracies(comparison: Comparison, *, ax: Axes | None = None) -> Axes:
    """Draw the accuracy of each model with its interval, and published ones below.

    Parameters
    ----------
    comparison : Comparison
        What `kmedclf.evaluation.compare` gave.
    ax : Axes, optional
        Where to draw; a new figure by default.

    Returns
    -------
    Axes
        The chart.
    """
    names = [shorten(one.name) for one in comparison.models]
    names += [f"{one.model}, {one.resolution.partition(',')[0]}" for one in comparison.published]
    ax = axes(ax, (7, height(len(names))))
    for i, one in enumerate(comparison.models):
        value, low, high = one.scores["accuracy"]
        if value is None:
            continue
        around = None if low is None or high is None else [[value - low], [high - value]]
        label = "ours" if i == 0 else None
        ax.errorbar(value, i, xerr=around, fmt="o", color=BLUE, elinewidth=1.2, label=label)
    first = len(comparison.models)
    if comparison.published:
        found = [one.accuracy for one in comparison.published]
        places = range(first, len(names))
        ax.plot(found, places, "D", color=VERMILION, fillstyle="none", label="published")
        ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0)
    rows(ax, names)
    ax.set_xlabel("accuracy")
    return ax
