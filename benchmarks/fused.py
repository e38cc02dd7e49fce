"""Sketch: networks of one shape trained as one program with a leading model axis, or one by one.

    python -m benchmarks.fused [--models 3 9] [--batches 16 64] [--out fused.json]

The folds of a candidate, and candidates that differ in seeds, rates or weights, have the same
shapes. Here m such networks take steps of gradient descent on synthetic images of 28 pixels, two
ways in alternation: "apart", one after the other in one graph, and "fused", where every layer is
one operation for all: a batched product of matrices, and a grouped convolution over the images of
all networks side by side as channels. Apart is fused with m = 1, and both have the same losses.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks._common import CLASSES, arguments, headline, machine, ratio, say, spread, write

NETWORKS = {"mlp": 0, "cnn_8": 8, "cnn_32": 32}
"""Kernels of 3 pixels of each network's convolution; the MLP has none, and 128 neurons."""
NEURONS = 128
SIDE, CHANNELS, KERNEL = 28, 3, 3


def start(filters: int, models: int) -> list[np.ndarray]:
    """Draw the kernels of some networks: each has their number as its first axis."""
    pixels = SIDE * SIDE * CHANNELS
    shapes = [(pixels, NEURONS), (NEURONS, CLASSES)]
    if filters:
        pooled = (SIDE - KERNEL + 1) // 2
        shapes = [(KERNEL, KERNEL, CHANNELS, filters), (pooled * pooled * filters, CLASSES)]
    generator = np.random.default_rng(0)
    scaled = [(shape, np.prod(shape[:-1]) ** -0.5) for shape in shapes]
    return [generator.normal(0, one, (models, *shape)).astype("f") for shape, one in scaled]


def logits(kernels: list[Any], x: Any) -> Any:
    """Map the images of all networks, (m, b, h, w, c), to logits (m, b, k)."""
    import tensorflow as tf

    first, last = kernels
    models, batch = x.shape[:2]
    if len(first.shape) == 3:
        hidden = tf.nn.relu(tf.reshape(x, (models, batch, -1)) @ first)
    else:
        beside = tf.reshape(tf.transpose(x, (1, 2, 3, 0, 4)), (batch, SIDE, SIDE, -1))
        grouped = tf.transpose(first, (1, 2, 3, 0, 4))  # (3, 3, c, m, f)
        grouped = tf.reshape(grouped, (*grouped.shape[:3], -1))
        maps = tf.nn.max_pool2d(tf.nn.conv2d(beside, grouped, 1, "VALID"), 2, 2, "VALID")
        maps = tf.reshape(tf.nn.relu(maps), (batch, *maps.shape[1:3], models, -1))
        hidden = tf.reshape(tf.transpose(maps, (3, 0, 1, 2, 4)), (models, batch, -1))
    return hidden @ last


def trainer(kernels: list[np.ndarray], x: Any, y: Any, steps: int, rate: float = 0.01) -> Any:
    """Make a graph that takes some steps for all networks of a first axis; it returns losses."""
    import tensorflow as tf

    variables = [tf.Variable(one) for one in kernels]

    def step(number: Any, _: Any) -> tuple[Any, Any]:
        with tf.GradientTape() as tape:
            each = tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits(variables, x))
            losses = tf.reduce_mean(each, axis=1)
            total = tf.reduce_sum(losses)  # no network's loss depends on another's kernels
        for variable, gradient in zip(variables, tape.gradient(total, variables), strict=True):
            variable.assign_sub(rate * gradient)
        return number + 1, losses

    @tf.function(autograph=False)
    def train() -> Any:
        for variable, kernel in zip(variables, kernels, strict=True):
            variable.assign(kernel)
        state = tf.constant(0), tf.zeros(len(x))
        return tf.while_loop(lambda at, _: at < steps, step, state, parallel_iterations=1)[1]

    return train


def measure(network: str, models: int, batch: int, args: Any) -> dict[str, Any]:
    """Measure one network, number of networks and batch."""
    import tensorflow as tf

    kernels = start(NETWORKS[network], models)
    generator = np.random.default_rng(1)
    x = tf.constant(generator.random((models, batch, SIDE, SIDE, CHANNELS), np.float32))
    y = tf.constant(generator.integers(CLASSES, size=(models, batch)), tf.int32)
    parts = [slice(one, one + 1) for one in range(models)]
    single = [trainer([k[one] for k in kernels], x[one], y[one], args.steps) for one in parts]
    fused = trainer(kernels, x, y, args.steps)
    ways: dict[str, Callable[[], Any]] = {
        "apart": lambda: np.concatenate([train().numpy() for train in single]),
        "fused": lambda: fused().numpy(),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(args.repeats + 1):
        losses = {}
        for name in sorted(ways, reverse=bool(number % 2)):
            began = time.perf_counter()
            losses[name] = ways[name]()
            if number:
                seconds[name].append(time.perf_counter() - began)
        np.testing.assert_allclose(losses["apart"], losses["fused"], rtol=1e-2)
    case = {"network": network, "models": models, "batch": batch}
    return {**case, "seconds": seconds, "faster": ratio(seconds["apart"], seconds["fused"])}


def table(results: list[dict[str, Any]], steps: int) -> str:
    """Write the results as Markdown."""
    lines = [
        "| network | networks | batch | apart, ms a step (min–max) | fused | times faster |",
        "|---|---|---|---|---|---|",
    ]
    for one in results:
        cells = [one["network"], str(one["models"]), str(one["batch"])]
        for name in ("apart", "fused"):
            cells.append(spread([1000 * taken / steps for taken in one["seconds"][name]], 2))
        lines.append(f"| {' | '.join(cells)} | {one['faster']:.2f} |")
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--models", nargs="+", type=int, default=[3, 9])
    parser.add_argument("--batches", nargs="+", type=int, default=[16, 64])
    parser.add_argument("--steps", type=int, default=100)
    args = parser.parse_args()
    if args.quick:
        args.networks, args.models, args.batches = ["mlp", "cnn_8"], [3], [16]
        args.steps, args.repeats = 20, 2
    facts = machine()
    results: list[dict[str, Any]] = []
    for network in args.networks:
        for models in args.models:
            results += [measure(network, models, batch, args) for batch in args.batches]
        say(f"{network} done")
        write(args.out, {"machine": facts, "steps": args.steps, "results": results})
    print(f"Networks trained apart and as one, {args.steps} steps, float32, synthetic images, "
          f"n = {args.repeats}; {headline(facts)}\n")  # fmt: skip
    print(table(results, args.steps))


if __name__ == "__main__":
    main()
