"""Seconds until this package is there: import, ``--help``, first estimator, in fresh processes.

    python -m benchmarks.imports [--repeats 5] [--out imports.json]

One process each, in alternation, after a round that does not count because files may have to be
read from disk and compiled. An empty process and TensorFlow alone are there to compare with. The
first fit, of 512 images and one epoch, is timed within its process, after the import.
"""

from __future__ import annotations

import subprocess
import sys
import time

from benchmarks._common import ROOT, arguments, headline, machine, say, spread, write

STATEMENTS = {
    "an empty process": "",
    "import kmedclf": "import kmedclf",
    "kmedclf --help": "import sys; sys.argv = ['kmedclf', '--help']; "
    "from kmedclf.cli import main; main()",
    "import tensorflow": "import tensorflow",
    "import scikeras.wrappers": "import scikeras.wrappers",
    "from kmedclf import CNNClassifier": "from kmedclf import CNNClassifier",
}
FIT = "first fit of a CNN of 8 kernels"
STATEMENTS[FIT] = """
import time
import numpy as np
from kmedclf import CNNClassifier
X, y = np.random.default_rng(0).integers(0, 256, (512, 28, 28, 3), np.uint8), np.arange(512) % 8
cnn, began = CNNClassifier(filters=8, epochs=1, early_stopping=False, random_state=0), time.time()
cnn.fit(X, y)
print(time.time() - began)
"""


def seconds(statement: str) -> float:
    """Run a statement in a fresh process; its own time if it prints one."""
    began = time.perf_counter()
    command = [sys.executable, "-c", statement]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True)
    whole = time.perf_counter() - began
    return float(done.stdout) if statement == STATEMENTS[FIT] else whole


def main() -> None:
    """Measure and print."""
    args = arguments(__doc__).parse_args()
    if args.quick:
        args.repeats = 3
    names = list(STATEMENTS)[:3] if args.quick else list(STATEMENTS)
    facts = machine()
    found: dict[str, list[float]] = {name: [] for name in names}
    for number in range(args.repeats + 1):
        for name in names:
            taken = seconds(STATEMENTS[name])
            if number:
                found[name].append(taken)
        say(f"round {number} done")
    write(args.out, {"machine": facts, "seconds": found})
    print(f"Imports, n = {args.repeats} processes each; {headline(facts)}\n")
    print("| | seconds, median (min–max) |\n|---|---|")
    for name, values in found.items():
        print(f"| {name} | {spread(values, 2)} |")


if __name__ == "__main__":
    main()
