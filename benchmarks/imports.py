"""Seconds until this package is there: import, ``--help``, first estimator, in fresh processes.

    python -m benchmarks.imports [--repeats 5] [--out imports.json]

One process each, in alternation, after a round that does not count because files may have to be
read from disk and compiled. An empty process and TensorFlow alone are there to compare with.
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


def seconds(statement: str) -> float:
    """Run a statement in a fresh process."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], cwd=ROOT, capture_output=True, check=True)
    return time.perf_counter() - began


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
