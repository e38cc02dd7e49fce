"""Seconds of predict: 10,000 images of 28 pixels, this package against ``keras.Model.predict``.

    python -m benchmarks.predict [--networks mlp cnn_8] [--images 10000] [--out predict.json]

Both have the same weights and get the same synthetic uint8 images, in one process, in alternation;
"mixed" is the networks' own precision, hence Keras' too.
"Cold" is the first call, which traces; "warm" the ones after it. Keras predicts in batches of
--keras-batch, its default being 32.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable
from typing import Any

from benchmarks._common import (
    CLASSES,
    arguments,
    headline,
    machine,
    noise,
    ratio,
    say,
    spread,
    write,
)
from benchmarks.train import NETWORKS


def timed(call: Callable[[Any], Any], X: Any) -> tuple[float, Any]:
    """Return the seconds of a call, and what it returns."""
    began = time.perf_counter()
    result = call(X)
    return time.perf_counter() - began, result


def measure(network: str, precision: str, args: Any) -> dict[str, Any]:
    """Measure one network in one precision."""
    from benchmarks.train_keras import our_estimator

    X, y = noise(args.images)
    case = {"network": network, "batch": 32, "augment": False}
    estimator = our_estimator(case, epochs=1, precision=precision).fit(
        X[: 32 * CLASSES], y[: 32 * CLASSES]
    )
    model = estimator.model_
    calls: dict[str, Callable[[Any], Any]] = {
        "ours": estimator.predict,
        "keras": lambda X: model.predict(X, batch_size=args.keras_batch, verbose=0).argmax(axis=1),
    }
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    labels = {}
    for _ in range(args.repeats + 1):
        for name, call in calls.items():
            taken, labels[name] = timed(call, X)
            seconds[name].append(taken)
    return {
        "network": network,
        "precision": precision,
        "cold_s": {name: taken[0] for name, taken in seconds.items()},
        "warm_s": {name: taken[1:] for name, taken in seconds.items()},
        "equal_labels": float((labels["ours"] == labels["keras"]).mean()),
    }


def table(results: list[dict[str, Any]], n: int) -> str:
    """Write the results as Markdown."""
    lines = [
        "| network | precision | ours, ms (min–max) | images/s | Keras, ms (min–max) | images/s "
        "| Keras / ours | cold, ours | cold, Keras | equal labels |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for one in results:
        cells = [one["network"], one["precision"]]
        for name in ("ours", "keras"):
            warm = one["warm_s"][name]
            speed = n / statistics.median(warm)
            cells += [spread([1000 * taken for taken in warm]), f"{speed:,.0f}"]
        times = ratio(one["warm_s"]["keras"], one["warm_s"]["ours"])
        cells += [f"{times:.2f}", *(f"{one['cold_s'][name]:.2f} s" for name in ("ours", "keras"))]
        lines.append(f"| {' | '.join(cells)} | {one['equal_labels']:.2%} |")
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__)
    networks = [name for name in NETWORKS if name != "resnet"]
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=networks)
    parser.add_argument("--precisions", nargs="+", default=["float32", "mixed"])
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--keras-batch", type=int, default=32)
    args = parser.parse_args()
    if args.quick:
        args.networks, args.images, args.repeats = ["mlp"], 2_000, 3
        args.precisions = ["float32"]
    facts = machine()
    results: list[dict[str, Any]] = []
    for network, precision in itertools.product(args.networks, args.precisions):
        results.append(measure(network, precision, args))
        say(f"{network} {precision} done")
        write(args.out, {"machine": facts, "images": args.images, "results": results})
    print(f"Predict of {args.images:,} synthetic images, n = {args.repeats} calls; "
          f"{headline(facts)}\n")  # fmt: skip
    print(table(results, args.images))


if __name__ == "__main__":
    main()
