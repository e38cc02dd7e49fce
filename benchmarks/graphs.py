"""Does TensorFlow's optimizer of graphs pay? The first fit, training and predict with and without.

    python -m benchmarks.graphs [--repeats 5] [--networks CLASS ...]

Prints CPU seconds of a fit that builds and traces its network (48 images of 8 pixels, two epochs),
and images a CPU second in training and in predict afterwards (28 pixels), as medians of alternating
runs in one process. What ``kmedclf.training.network.graph_optimizer_pays`` says follows from it.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

from benchmarks._common import arguments, headline, machine, noise, ratio, write

NETWORKS = ["MLPClassifier", "CNNClassifier", "ResNetClassifier", "DeepResNetClassifier"]


def seconds(work: Callable[[], Any]) -> float:
    """Measure the CPU seconds of this process, all threads."""
    began = time.process_time()
    work()
    return time.process_time() - began


def measure(name: str, repeats: int, n: int) -> dict[str, dict[str, list[float]]]:
    """Alternate between graphs with and without the optimizer."""
    from kmedclf import models
    from kmedclf.training import cache, network

    settings = {"early_stopping": False, "augment": False, "random_state": 0}
    make = getattr(models, name)
    tiny, images = noise(48, 8), noise(n)
    pays = network.graph_optimizer_pays
    found: dict[str, dict[str, list[float]]] = {"with": {}, "without": {}}
    try:
        make(epochs=1, **settings).fit(*tiny)  # what TensorFlow does once per process
        for _ in range(repeats):
            for kind, figures in found.items():
                network.graph_optimizer_pays = lambda kind=kind: kind == "with"
                cache.clear()
                first = seconds(lambda: make(epochs=2, **settings).fit(*tiny))
                model = make(epochs=2, **settings).fit(*images)
                model.predict(images[0])
                train = 2 * n / seconds(lambda model=model: model.fit(*images))
                predict = n / seconds(lambda model=model: model.predict(images[0]))
                for figure, value in (("first", first), ("train", train), ("predict", predict)):
                    figures.setdefault(figure, []).append(value)
    finally:
        network.graph_optimizer_pays = pays
    return found


def main() -> None:
    """Print the table."""
    parser = arguments(__doc__)
    parser.add_argument("--networks", nargs="+", default=NETWORKS, metavar="CLASS")
    args = parser.parse_args()
    repeats, n = (1, 64) if args.quick else (args.repeats, 256)
    facts = machine()
    print(f"Medians of {repeats} alternations, synthetic noise. {headline(facts)}\n")
    print("| network | figure | with | without | ratio |\n|---|---|---|---|---|")
    every = {}
    names = {
        "first": "first fit, CPU s",
        "train": "training, images/CPU s",
        "predict": "predict, images/CPU s",
    }
    for name in args.networks:
        every[name] = found = measure(name, repeats, n)
        for figure, words in names.items():
            one, other = found["with"][figure], found["without"][figure]
            middle = [f"{statistics.median(values):,.4g}" for values in (one, other)]
            print(f"| {name} | {words} | {' | '.join(middle)} | {ratio(other, one):.2f} |")
    write(args.out, {"machine": facts, "networks": every})


if __name__ == "__main__":
    main()
