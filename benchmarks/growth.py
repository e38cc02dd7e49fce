"""Memory of a training in arrays: peak RSS over the imports, this package against the others.

    python -m benchmarks.growth [--networks mlp cnn_8] [--images 11959] [--out growth.json]

Each training is a fresh process, in alternation: it imports, notes its resident memory, draws
synthetic uint8 images of 28 pixels and trains an epoch or more. The growth is the peak of the whole
process less what there was after the imports, so it has the images in it.
"""

from __future__ import annotations

import statistics
from typing import Any

from benchmarks._common import (
    arguments,
    headline,
    machine,
    measured,
    peak_rss_mb,
    rss_mb,
    say,
    spread,
    write,
)
from benchmarks.train import NETWORKS

WAYS = ("stock", "keras", "ours")


def measure(way: str, network: str, n: int, epochs: int, augment: bool) -> dict[str, float]:
    """Train in this process, which should be fresh, and measure."""
    import scikeras.wrappers
    import tensorflow

    import kmedclf
    from benchmarks import train_keras

    # All import the same and start the runtime, so that only training makes a difference.
    assert float(tensorflow.zeros(())) == 0
    assert all((scikeras.wrappers, kmedclf.CNNClassifier))
    before = rss_mb()
    X, y = train_keras.images(way, n)
    case = {"network": network, "batch": 32, "augment": augment}
    fit = {
        "stock": train_keras.stock_fit,
        "keras": train_keras.keras_fit,
        "ours": train_keras.our_fit,
    }[way](case)
    fit(X, y, epochs, [])
    return {"imports_mb": before, "growth_mb": peak_rss_mb() - before}


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=["mlp", "cnn_8"])
    parser.add_argument("--images", type=int, default=11_959)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--augment", action="store_true")
    args = parser.parse_args()
    if args.quick:
        args.networks, args.images, args.repeats, args.epochs = ["mlp"], 2_000, 1, 1
    facts = machine()
    results: list[dict[str, Any]] = []
    print(f"Memory of training on {args.images:,} synthetic images, {args.epochs} epochs, "
          f"augment={args.augment}, n = {args.repeats} processes; {headline(facts)}\n")  # fmt: skip
    print(
        "| network | way | imports, MB | growth, MB (min–max) | of stock's |\n|---|---|---|---|---|"
    )
    for network in args.networks:
        found: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
        for _ in range(args.repeats):
            for way in WAYS:
                call = way, network, args.images, args.epochs, args.augment
                found[way].append(measured("benchmarks.growth", *call))
                say(f"{network}, {way}: {found[way][-1]['growth_mb']:.0f} MB")
        results.append({"network": network, "found": found})
        write(args.out, {"machine": facts, "augment": args.augment, "results": results})
        stock = statistics.median(one["growth_mb"] for one in found["stock"])
        for way, runs in found.items():
            growth = [one["growth_mb"] for one in runs]
            imports = statistics.median(one["imports_mb"] for one in runs)
            share = statistics.median(growth) / stock
            print(f"| {network} | {way} | {imports:.0f} | {spread(growth)} | {share:.2f} |")


if __name__ == "__main__":
    main()
