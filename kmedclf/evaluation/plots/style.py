"""One look for all figures, applied inside a context: the user's rcParams stay as they are."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import matplotlib.pyplot as plt
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

# M. Okabe, K. Ito, "Color universal design", 2008: told apart with any kind of colour vision.
BLUE, ORANGE, GREEN, VERMILION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
PURPLE, SKY, BLACK, GREY = "#CC79A7", "#56B4E9", "#222222", "#8C8C8C"
COLOURS = (BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY, BLACK, GREY)
MARKERS = "osD^vPX*"
HEAT = "Blues"

STYLE: dict[str, Any] = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#666666",
    "axes.linewidth": 0.8,
    "axes.grid": False,
    "axes.axisbelow": True,
    "axes.prop_cycle": cycler(color=COLOURS),
    "axes.facecolor": "white",
    "axes.labelcolor": BLACK,
    "axes.titlecolor": BLACK,
    "text.color": BLACK,
    "xtick.color": BLACK,
    "ytick.color": BLACK,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "xtick.major.width": 0.8,
    "ytick.major.width": 0.8,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.5,
    "lines.markersize": 5,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "figure.facecolor": "white",
    "figure.dpi": 100,
    "errorbar.capsize": 2.5,
    "image.interpolation": "nearest",
}

P = ParamSpec("P")
R = TypeVar("R")


def styled(draw: Callable[P, R]) -> Callable[P, R]:
    """Make a function draw in our style, whatever the user's is."""

    @wraps(draw)
    def inside(*args: P.args, **kwargs: P.kwargs) -> R:
        with plt.style.context(["default", STYLE]):
            return draw(*args, **kwargs)

    return inside


@contextmanager
def quiet_about_glyphs() -> Iterator[None]:
    """Draw class names in a script that the font lacks without a word: the tables have them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph \d+ ", category=UserWarning)
        warnings.filterwarnings("ignore", message="Matplotlib currently does not support")
        yield


def axes(ax: Axes | None, size: tuple[float, float]) -> Axes:
    """Return the axes given, or those of a new figure of ``size`` inches."""
    if ax is None:
        ax = plt.figure(figsize=size, layout="constrained").add_subplot()
    return ticked(ax)


def panel(fig: Figure | SubFigure | None, size: tuple[float, float]) -> Figure | SubFigure:
    """Return the figure given, or a new one of ``size`` inches."""
    return plt.figure(figsize=size, layout="constrained") if fig is None else fig


def subplots(fig: Figure | SubFigure, lines: int, columns: int, **options: Any) -> list[Axes]:
    """Add a grid of axes to a figure; line by line."""
    return [ticked(ax) for ax in fig.subplots(lines, columns, squeeze=False, **options).ravel()]


def ticked(ax: Axes) -> Axes:
    """Fix the look of ticks, which are made only when drawn, when our style is over."""
    look: dict[str, Any] = {
        "length": 3.5,
        "width": 0.8,
        "pad": 3.5,
        "labelsize": 8,
        "direction": "out",
    }
    grid = {f"grid_{name}": STYLE[f"grid.{name}"] for name in ("color", "linewidth")}
    ax.tick_params(which="both", colors=BLACK, grid_linestyle="-", grid_alpha=1, **look, **grid)
    return ax


def rows(ax: Axes, names: Sequence[str]) -> None:
    """Label rows of bars from the top down, in print size."""
    ax.set_yticks(range(len(names)), [shorten(name, 32) for name in names])
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="x")


def height(n: int, each: float = 0.3) -> float:
    """Inches that ``n`` rows take."""
    return max(2.0, 0.9 + each * n)


def shorten(name: str, limit: int = 24) -> str:
    """Cut a long name; dollar signs are no formulas, and a name that begins with _ is shown."""
    name = name.encode("utf-8", "replace").decode("utf-8")  # names of files need not be text
    short = name if len(name) <= limit else name[: limit - 1] + "…"
    return (" " if short.startswith("_") else "") + short.replace("$", r"\$")
