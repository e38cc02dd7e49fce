"""Common style of all figures, applied in a context, so that the user's rcParams do not change."""

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

# M. Okabe, K. Ito, "Color universal design", 2008: distinct under any kind of colour vision
BLUE, ORANGE, GREEN, VERMILION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
PURPLE, SKY, BLACK, GREY = "#CC79A7", "#56B4E9", "#222222", "#8C8C8C"
COLOURS = (BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY, BLACK, GREY)

STYLE: dict[str, Any] = {
    "font.size": 9,
    "axes.titlesize": 9,
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
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "xtick.major.width": 0.8,
    "ytick.major.width": 0.8,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.5,
    "lines.markersize": 5,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "figure.facecolor": "white",
    "figure.dpi": 100,
    "errorbar.capsize": 2.5,
    "image.interpolation": "nearest",
}

P = ParamSpec("P")
R = TypeVar("R")


def styled(draw: Callable[P, R]) -> Callable[P, R]:
    """Decorate a function to draw in our style, whatever the user's rcParams are."""

    @wraps(draw)
    def inside(*args: P.args, **kwargs: P.kwargs) -> R:
        # A backend that is loaded inside the context loses its own settings when that ends: a
        # notebook would show no figure after the first. This loads it, and draws nothing new.
        plt.draw_if_interactive()
        with plt.style.context(["default", STYLE]):
            return draw(*args, **kwargs)

    return inside


@contextmanager
def quiet_about_glyphs() -> Iterator[None]:
    """Silence warnings of glyphs that the font lacks; tables in the page show such names."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph \d+ ", category=UserWarning)
        warnings.filterwarnings("ignore", message="Matplotlib currently does not support")
        yield


def axes(ax: Axes | None, size: tuple[float, float]) -> Axes:
    """Return the given axes, or those of a new figure of ``size`` inches."""
    if ax is None:
        ax = plt.figure(figsize=size, layout="constrained").add_subplot()
    return ticked(ax)


def panel(fig: Figure | SubFigure | None, size: tuple[float, float]) -> Figure | SubFigure:
    """Return the given figure, or a new one of ``size`` inches."""
    return plt.figure(figsize=size, layout="constrained") if fig is None else fig


def subplots(fig: Figure | SubFigure, lines: int, columns: int, **options: Any) -> list[Axes]:
    """Add a grid of axes to a figure, listed row by row."""
    return [ticked(ax) for ax in fig.subplots(lines, columns, squeeze=False, **options).ravel()]


def ticked(ax: Axes) -> Axes:
    """Set the style of ticks explicitly."""
    # Ticks are created when a figure is drawn, after the style context has ended
    look: dict[str, Any] = {
        "length": 3.5,
        "width": 0.8,
        "pad": 3.5,
        "labelsize": 9,
        "direction": "out",
    }
    grid = {f"grid_{name}": STYLE[f"grid.{name}"] for name in ("color", "linewidth")}
    ax.tick_params(which="both", colors=BLACK, grid_linestyle="-", grid_alpha=1, **look, **grid)
    return ax


def rows(ax: Axes, names: Sequence[str]) -> None:
    """Label horizontal bars from top to bottom."""
    ax.set_yticks(range(len(names)), [shorten(name, 32) for name in names])
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="x")


def height(n: int, each: float = 0.3) -> float:
    """Return the height of a chart of ``n`` rows in inches."""
    return max(2.0, 0.9 + each * n)


def shorten(name: str, limit: int = 24) -> str:
    """Cut a long name, and escape what matplotlib would interpret: "$" and a leading "_"."""
    name = name.encode("utf-8", "replace").decode("utf-8")  # file names may hold any bytes
    name = "".join(one if one.isprintable() else " " for one in name)  # nor does SVG hold all
    short = name if len(name) <= limit else name[: limit - 1] + "…"
    return (" " if short.startswith("_") else "") + short.replace("$", r"\$")
