"""A grid search of scikeras before and after a change of the import, on tiny images.

    python -m benchmarks.scikeras_import --repeats 3

The same script runs with ``scikeras.wrappers.KerasClassifier`` and with
`kmedclf.KerasImageClassifier`, each in a process of its own, in alternation: 15 candidates, three
numbers of filters times five learning rates, on 3 folds of 180 noise images of 8 × 8 pixels, 3
epochs in batches of 16. Printed are seconds and growth of the resident memory from before the
search to after it, and the load of the machine at the start.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from typing import Any

from benchmarks._common import ROOT, noise, rss_mb

WAYS = ("scikeras", "kmedclf")


def build(meta: dict[str, Any], filters: int = 8) -> Any:
    """Build a small CNN."""
    import keras

    return keras.Sequential([
        keras.Input(meta["X_shape_"][1:]),
        keras.layers.Rescaling(1 / 255),
        keras.layers.Conv2D(filters, 3, activation="relu"),
        keras.layers.MaxPooling2D(),
        keras.layers.Flatten(),
        keras.layers.Dense(meta["n_classes_"], activation="softmax"),
    ])  # fmt: skip


def search(way: str) -> dict[str, float]:
    """Run the search in this process."""
    from sklearn.model_selection import GridSearchCV, StratifiedKFold

    if way == "scikeras":
        from scikeras.wrappers import KerasClassifier as Classifier
    else:
        from kmedclf import KerasImageClassifier as Classifier
    images, labels = noise(180, 8)
    net = Classifier(
        build, loss="sparse_categorical_crossentropy", optimizer="adam", epochs=3, batch_size=16,
        verbose=0, random_state=0, model__filters=8, optimizer__learning_rate=0.001,
    )  # fmt: skip
    grid = {
        "model__filters": [4, 8, 16],
        "optimizer__learning_rate": [1e-4, 3e-4, 1e-3, 3e-3, 1e-2],
    }
    before, start = rss_mb(), time.perf_counter()
    GridSearchCV(net, grid, cv=StratifiedKFold(3), refit=False, error_score="raise").fit(
        images.astype("float32"), labels
    )
    return {"seconds": time.perf_counter() - start, "mb": rss_mb() - before}


def main() -> None:
    """Run both ways in alternation, or one in this process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--way", choices=WAYS)
    args = parser.parse_args()
    if args.way:
        print(json.dumps(search(args.way)))
        return
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, "
          f"load {os.getloadavg()[0]:.1f} at the start")  # fmt: skip
    found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for _ in range(args.repeats):
        for way in WAYS:
            command = [sys.executable, "-W", "ignore", "-m", "benchmarks.scikeras_import"]
            done = subprocess.run(
                [*command, "--way", way], cwd=ROOT, capture_output=True, text=True, check=True
            )
            found[way].append(json.loads(done.stdout.splitlines()[-1]))
            print(f"{way:9} {found[way][-1]}", flush=True)
    for way in WAYS:
        for what in ("seconds", "mb"):
            values = [one[what] for one in found[way]]
            print(f"{way:9} {what:8} median {statistics.median(values):.1f}, "
                  f"{min(values):.1f} to {max(values):.1f}, n = {len(values)}")  # fmt: skip


if __name__ == "__main__":
    main()
