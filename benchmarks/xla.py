"""Does XLA pay? Training speed of each network with and without it, on this machine.

    python -m benchmarks.xla [--repeats 7] [--networks CLASS ...]

Prints images a second over one epoch, compilation excluded, as medians of alternating epochs. What
``jit_compile="auto"`` does follows from this table.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
NETWORKS = ["MLPClassifier", "CNNClassifier", "ResNetClassifier"]


def speeds(cls: type, images: Any, repeats: int) -> tuple[list[float], list[float]]:
    """Measure images/s of alternating epochs without and with XLA."""
    import numpy as np

    from kmedclf.inputs.images import Rows
    from kmedclf.training.batches import Feed
    from kmedclf.training.network import Spec
    from kmedclf.training.program import CompiledNetwork

    n = len(images.array)
    labels = np.arange(n, dtype=np.int32) % 8
    rows = Rows(images, np.arange(n), labels, np.ones(n, np.float32))
    programs = []
    for jit in (False, True):
        program = CompiledNetwork(
            Spec(cls, (), images.shape, images.scale, 8, "adam", "float32", jit)
        )
        program.reset(np.random.SeedSequence(0), None, {})
        programs.append((program, Feed().open(rows, 32, (), 0, (1, repeats + 2), {}, 8)))
    found: tuple[list[float], list[float]] = [], []
    for number in range(repeats + 1):
        for (program, chunks), list_ in zip(programs, found, strict=True):
            began = time.perf_counter()
            program.train_epoch(chunks, number + 1, 32)
            if number:  # the first epoch compiles
                list_.append(n / (time.perf_counter() - began))
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--networks", nargs="+", default=NETWORKS, metavar="CLASS")
    args = parser.parse_args()
    repeats = args.repeats
    from kmedclf import datasets, models
    from kmedclf.inputs.images import Images
    from kmedclf.training import devices

    X, _ = datasets.make_blood_cells(512, random_state=0)  # synthetic
    device = devices.gpus() or f"{os.cpu_count()} cores"
    print(f"{device}, {platform.machine()}, n = {repeats} epochs of {len(X)} synthetic images\n")
    print("| network | images/s without XLA | with XLA | ratio |\n|---|---|---|---|")
    for name in args.networks:
        plain, compiled = speeds(getattr(models, name), Images(X, 1 / 255), repeats)
        ratio = statistics.median(b / a for a, b in zip(plain, compiled, strict=True))
        middle = statistics.median(plain), statistics.median(compiled)
        print(f"| {name} | {middle[0]:.0f} | {middle[1]:.0f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
