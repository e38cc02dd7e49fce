"""Diagram of a network: one box per convolution or dense layer and the layers that follow it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

from kmedclf.evaluation.plots.style import axes, styled

_FOLLOWERS = (
    "BatchNormalization",
    "Bias",
    "Activation",
    "ReLU",
    "Dropout",
    "LayerNormalization",
    "Softmax",
)
_FILL = {
    "Input": "#E8E8E8",
    "Conv": "#BFDDF0",
    "Dense": "#FBE3B0",
    "Pool": "#BCE3D6",
    "Add": "#F3D3E3",
}


@dataclass
class _Box:
    """Layers drawn as one box, and the boxes of their inputs."""

    words: list[str]
    shape: tuple[int | None, ...]
    kind: str
    params: int
    parents: list[int] = field(default_factory=list)
    depth: int = 0
    column: int = 0


@styled
def network(model: Any, *, ax: Axes | None = None) -> Axes:
    """Draw a network from its input at the top to its output.

    Parameters
    ----------
    model : fitted estimator or keras.Model
        A functional model, or an estimator that has one as ``network_``.
    ax : Axes, optional
        Where to draw; a new figure by default.

    Returns
    -------
    Axes
        The diagram. Each box shows its layers, the shape of their output and the number of their
        parameters. A pooling that is computed before the bias and the activation, for speed and
        with the same numbers, is drawn behind them.
    """
    boxes = _boxes(getattr(model, "network_", model))
    _place(boxes)
    lines = 1 + max(box.depth for box in boxes)
    wide = 1 + max(box.column for box in boxes)
    ax = axes(ax, (2.9 * wide + 0.4, 0.62 * lines + 0.2))
    ax.set_xlim(-0.55, wide - 0.45)
    ax.set_ylim(lines - 0.45, -0.55)
    ax.axis("off")
    for box in boxes:
        for parent in box.parents:
            _edge(ax, boxes[parent], box)
    for box in boxes:
        _draw(ax, box)
    return ax


def _boxes(model: Any) -> list[_Box]:
    """Group the operations of a functional Keras model into boxes, in topological order."""
    boxes: list[_Box] = []
    at: dict[str, int] = {}  # box of each operation
    sliced: set[str] = set()  # slicing operations, which have no box of their own
    late: set[str] = set()  # biases that are computed behind a pooling
    for layer in model.operations:
        names, kind = _inputs(layer), type(layer).__name__
        parents = list(dict.fromkeys(at[name] for name in names))
        # A slice has no parameters; the next box is marked "sliced" instead
        if kind == "GetItem":
            at[layer.name] = parents[0]
            sliced.add(layer.name)
            continue
        params = layer.count_params() if hasattr(layer, "count_params") else 0
        # A layer joins the box of its input unless another branch starts between them
        follows = kind in _FOLLOWERS and len(parents) == 1 and _used_once(model, names[0])
        if follows and (_is_late_bias(kind, boxes[parents[0]]) or late.intersection(names)):
            # `CNNClassifier` pools first; its bias and activation belong to the convolution
            box = boxes[boxes[parents[0]].parents[0]]
            box.params += params
            if kind == "Bias":
                late.add(layer.name)
            else:
                box.words.append(_word(layer))
            at[layer.name] = parents[0]
            continue
        if follows or kind in ("Flatten", "Rescaling"):
            box = boxes[parents[0]]
            box.words.append(_word(layer))
            box.params += params
            box.shape = layer.output.shape
            at[layer.name] = parents[0]
            continue
        at[layer.name] = len(boxes)
        words = ["sliced"] * bool(sliced.intersection(names)) + [_word(layer)]
        boxes.append(_Box(words, layer.output.shape, kind, params, parents))
    return boxes


def _is_late_bias(kind: str, box: _Box) -> bool:
    return kind == "Bias" and "Pool" in box.kind and len(box.parents) == 1


def _inputs(layer: Any) -> list[str]:
    return [parent.operation.name for parent in layer._inbound_nodes[0].parent_nodes]


def _used_once(model: Any, name: str) -> bool:
    return sum(name in _inputs(layer) for layer in model.operations) == 1


def _word(layer: Any) -> str:
    """Describe a layer in a few words."""
    kind = type(layer).__name__
    window = getattr(layer, "kernel_size", None) or getattr(layer, "pool_size", None)
    size = " " + "×".join(map(str, window)) if window else ""
    strides = getattr(layer, "strides", None)
    if strides and max(strides) > 1 and "Conv" in kind:
        size += f" /{max(strides)}"
    activation = getattr(getattr(layer, "activation", None), "__name__", "linear")
    after = "" if activation == "linear" else f", {activation}"
    if kind == "Activation":
        return activation
    words = {
        "InputLayer": "input",
        "BatchNormalization": "batch norm",
        "Rescaling": "scaled",
        "Conv2D": f"conv{size}, {getattr(layer, 'filters', '')}{after}",
        "Dense": f"dense {getattr(layer, 'units', '')}{after}",
        "MaxPooling2D": f"max-pool{size}",
        "AveragePooling2D": f"average-pool{size}",
        "GlobalAveragePooling2D": "global average pool",
        "GlobalMaxPooling2D": "global max-pool",
        "ZeroPadding2D": "zero padding",
        "Add": "sum",
        "Flatten": "flatten",
        "Softmax": "softmax",
    }
    return words.get(kind, kind.lower() + size + after)


def _place(boxes: list[_Box]) -> None:
    """Place the longest path through the network in the first column, shortcuts in others."""
    for box in boxes:
        box.depth = 1 + max((boxes[parent].depth for parent in box.parents), default=-1)
    main, box = set(), boxes[-1]
    while True:
        main.add(id(box))
        if not box.parents:
            break
        box = max((boxes[parent] for parent in box.parents), key=lambda one: one.depth)
    # Boxes outside the longest path go to the first free column at their depth
    taken: set[tuple[int, int]] = set()
    for box in boxes:
        if id(box) not in main:
            box.column = 1
            while (box.depth, box.column) in taken:
                box.column += 1
        taken.add((box.depth, box.column))


def _draw(ax: Axes, box: _Box) -> None:
    """Draw a box with the words, the output shape and the parameters of its layers."""
    colour = next((fill for key, fill in _FILL.items() if key in box.kind), "#EFEFEF")
    corner = box.column - 0.45, box.depth - 0.31
    look: dict[str, Any] = {
        "boxstyle": "round,pad=0,rounding_size=0.06",
        "linewidth": 0.8,
        "edgecolor": "#555555",
    }
    ax.add_patch(FancyBboxPatch(corner, 0.9, 0.62, facecolor=colour, zorder=2, **look))
    text = " · ".join(box.words)
    shape = " × ".join(str(size) for size in box.shape[1:])
    below = shape + (f"    {box.params:,} parameters" if box.params else "")
    # Shrink long texts to the width of the box
    small = 7.5 if len(text) <= 42 else 7.5 * 42 / len(text)
    ax.text(box.column, box.depth - 0.1, text, ha="center", va="center", size=small, zorder=3)
    ax.text(
        box.column, box.depth + 0.17, below, ha="center", va="center", size=6.5, color="#444444",
        zorder=3,
    )  # fmt: skip


def _edge(ax: Axes, parent: _Box, child: _Box) -> None:
    """Draw an arrow; shortcuts leave and enter at the sides."""
    start: tuple[float, float]
    end: tuple[float, float]
    look: dict[str, Any] = {
        "arrowstyle": "-|>",
        "color": "#555555",
        "linewidth": 0.9,
        "shrinkA": 0,
        "shrinkB": 0,
    }
    if parent.column == child.column and child.depth - parent.depth == 1:
        start, end = (parent.column, parent.depth + 0.31), (child.column, child.depth - 0.31)
    elif child.column > parent.column:
        start, end = (parent.column + 0.45, parent.depth + 0.15), (child.column, child.depth - 0.31)
        look["connectionstyle"] = "angle,angleA=0,angleB=90,rad=4"
    elif child.column < parent.column:
        start, end = (parent.column, parent.depth + 0.31), (child.column + 0.45, child.depth - 0.15)
        look["connectionstyle"] = "angle,angleA=90,angleB=0,rad=4"
    else:  # around the boxes between them
        start, end = (parent.column + 0.45, parent.depth), (child.column + 0.45, child.depth)
        look["connectionstyle"] = "bar,fraction=-0.12"
    ax.annotate("", end, start, arrowprops=look, zorder=1)
