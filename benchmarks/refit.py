"""What a fit costs once its network is compiled: time and memory over many fits in one process.

    python -m benchmarks.refit [--data FILE.npz] [--fits 100]

Fits a small CNN for one epoch again and again, with other seeds, learning rates, batch sizes and
class weights, then one fit each of new architectures.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from typing import Any

from benchmarks._common import rss_mb


def fit(X: Any, y: Any, seed: int, **parameters: Any) -> float:
    """Fit once and predict; the seconds of the fit."""
    from kmedclf import CNNClassifier

    began = time.perf_counter()
    estimator = CNNClassifier(epochs=1, early_stopping=False, random_state=seed, **parameters)
    estimator.fit(X, y)
    seconds = time.perf_counter() - began
    estimator.predict(X[:100])
    return seconds


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="synthetic", help="npz with MedMNIST's keys")
    parser.add_argument("--fits", type=int, default=100)
    args = parser.parse_args()
    from kmedclf import datasets
    from kmedclf.training import cache

    if args.data == "synthetic":
        X, y = datasets.make_blood_cells(911, random_state=0)
    else:
        X, y = datasets.load(args.data)
    seconds, memory = [], []
    for i in range(args.fits):
        varied = {
            "learning_rate": [None, 0.01][i % 2],
            "batch_size": [16, 32, 64][i % 3],
            "class_weight": [None, "balanced", "inverse", {0: 2.0}][i % 4],
        }
        seconds.append(fit(X, y, i, filters=8, **varied))
        memory.append(rss_mb())
    later = statistics.median(seconds[1:])
    print(f"{args.data}, {len(X)} images, {os.cpu_count()} cores, {platform.machine()}\n")
    print(f"first fit {seconds[0]:.2f} s, median of {args.fits - 1} later ones {later:.3f} s "
          f"({later / seconds[0]:.2f} of the first)")  # fmt: skip
    print(f"RSS after fit 5 {memory[4]:.0f} MB, after fit {args.fits} {memory[-1]:.0f} MB: "
          f"{memory[-1] - memory[4]:+.1f} MB")  # fmt: skip
    print(f"programs: {cache.stats()}")
    start = rss_mb()
    for i in range(20):
        fit(X, y, i, filters=9 + i)
    print(f"20 new architectures: {(rss_mb() - start) / 20:.1f} MB each")


if __name__ == "__main__":
    main()
