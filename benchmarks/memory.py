"""What training on files and on memory maps takes of anonymous memory, whatever their number.

    python -m benchmarks.memory [--files 2000 20000] [--sides 64 224] [--map 6] [--epochs 1]

Draws synthetic JPEG files of 224 pixels and a memory map of such images in a temporary folder,
which it removes, and trains CNNClassifier(filters=8) in batches of 32 on each, in a process of its
own, with the augmentation that is the default and without. The memory is RssAnon of Linux: all that
the process has made, without the pages of files.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

DRAWN = 224
"""Side of the images that are drawn, in pixels."""


def rss_anon() -> float:
    """Return the anonymous memory of this process, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) * 1024 / 1e6


def draw_files(folder: Path, n: int) -> list[str]:
    """Draw n different JPEG files: noise of 28 pixels, enlarged."""
    from PIL import Image

    folder.mkdir()
    generator = np.random.default_rng(0)
    paths = [str(folder / f"{i}.jpg") for i in range(n)]
    for path in paths:
        noise = Image.fromarray(generator.integers(0, 256, (28, 28, 3), dtype=np.uint8))
        noise.resize((DRAWN, DRAWN)).save(path, quality=75)
    return paths


def draw_map(path: Path, gigabytes: float) -> int:
    """Lay out a memory map of images; the first rows of each are noise, the rest is a hole."""
    shape = int(gigabytes * 1e9 / (3 * DRAWN * DRAWN)), DRAWN, DRAWN, 3
    images = np.lib.format.open_memmap(path, "w+", np.uint8, shape)
    generator = np.random.default_rng(0)
    for image in images:
        image[:6] = generator.integers(0, 256, (6, DRAWN, 3), dtype=np.uint8)
    images.flush()
    return shape[0]


class Watch(threading.Thread):
    """Looks at the memory twenty times a second."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak = rss_anon()

    def run(self) -> None:
        """Watch until the process ends."""
        while True:
            self.peak = max(self.peak, rss_anon())
            time.sleep(0.05)


def train(source: str, n: int, side: int, epochs: int, augment: bool) -> dict[str, Any]:
    """Train on the first n files of a folder, or on a map, and measure; in a fresh process."""
    from kmedclf import CNNClassifier

    X: Any = [str(Path(source, f"{i}.jpg")) for i in range(n)]
    if source.endswith(".npy"):
        X = np.load(source, mmap_mode="r")
    y = np.arange(n) % 2
    model = CNNClassifier(
        filters=8,
        batch_size=32,
        epochs=epochs,
        early_stopping=False,
        random_state=0,
        image_size=side,
        augment=augment,
    )
    before = rss_anon()
    watch = Watch()
    watch.start()
    began = time.perf_counter()
    model.fit(X, y)
    seconds = time.perf_counter() - began
    return {
        "images": n,
        "imports_mb": round(before, 1),
        "peak_growth_mb": round(max(watch.peak, rss_anon()) - before, 1),
        "seconds": round(seconds, 1),
        "parameters": model.n_params_,
    }


def measure(*arguments: Any) -> dict[str, Any]:
    """Measure in a process of its own."""
    call = f"import json; from benchmarks.memory import train; print(json.dumps(train{arguments}))"
    done = subprocess.run([sys.executable, "-c", call], check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--files", type=int, nargs="*", default=[2000, 20000])
    parser.add_argument("--sides", type=int, nargs="*", default=[64, DRAWN], help="read at, pixels")
    parser.add_argument("--map", type=float, default=6.0, help="gigabytes; 0 leaves it out")
    parser.add_argument("--epochs", type=int, default=1)
    args = parser.parse_args()
    print(f"{args.epochs} epochs, one run each; {os.cpu_count()} cores, {platform.machine()}\n")
    print("| X | pixels | augmented | imports, MB | peak above them, MB | seconds |")
    print("|---|---|---|---|---|---|")
    results = []
    with tempfile.TemporaryDirectory(prefix="kmedclf-memory-") as folder:
        files, mapped = Path(folder, "files"), Path(folder, "map.npy")
        draw_files(files, max(args.files, default=0))
        cases = [(f"{n:,} files", files, n, side) for side in args.sides for n in args.files]
        if args.map:
            n = draw_map(mapped, args.map)
            cases.append((f"memory map of {args.map:g} GB, {n:,} images", mapped, n, DRAWN))
        for name, source, n, side in cases:
            for augment in (False, True):
                found = measure(str(source), n, side, args.epochs, augment)
                results.append({"X": name, "side": side, "augment": augment, **found})
                print(
                    f"| {name} | {side} | {'yes' if augment else 'no'} | {found['imports_mb']:.0f} "
                    f"| {found['peak_growth_mb']:.0f} | {found['seconds']:.0f} |",
                    flush=True,
                )
    print(f"\n{json.dumps(results)}")


if __name__ == "__main__":
    main()
