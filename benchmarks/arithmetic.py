"""What TensorFlow can be told before it loads, and what each does to training and predict.

    python -m benchmarks.arithmetic [--isa AVX2] [--networks cnn_8 ...] [--ways off on ...]

One process for each way to set the environment, alive through all rounds; they take turns, in an
order that rotates. Training is `benchmarks.train`'s: images of 28 pixels, batch 32, Adam, float32
unless --low. ``--isa AVX2`` limits oneDNN's instruction sets as a CPU without AVX-512 does; what of
TensorFlow is not oneDNN was compiled for AVX anyway. Ratios are medians over turns of a round; on a
machine with other work, those by CPU seconds are the ones to trust.
"""

from __future__ import annotations

import sys
from typing import Any

from benchmarks._common import Contestant, arguments, headline, machine, ratio, say, spread, write
from benchmarks.train import NETWORKS

OFF, ON = {"TF_ENABLE_ONEDNN_OPTS": "0"}, {"TF_ENABLE_ONEDNN_OPTS": "1"}
NO_MMAP = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**33)}
WAYS = {
    "off": OFF,
    "on": ON,
    "off, malloc keeps": OFF | NO_MMAP,
    "on, malloc keeps": ON | NO_MMAP,
    "off, BFC allocator": OFF | {"TF_CPU_ALLOCATOR_USE_BFC": "1"},
    "on, system allocator": ON | {"TF_ONEDNN_USE_SYSTEM_ALLOCATOR": "1"},
    "on, one inter-op thread": ON | {"TF_NUM_INTEROP_THREADS": "1"},
    "on, primitives not kept": ON | {"TF_MKL_OPTIMIZE_PRIMITIVE_MEMUSE": "true"},
}


Speeds = dict[str, dict[str, list[float]]]
"""Images a second by the clock and by CPU seconds: of each way, turn by turn."""


def measure(network: str, args: Any) -> Speeds:
    """Measure a network in all ways."""
    n, epochs = NETWORKS[network]
    limit = {"ONEDNN_MAX_CPU_ISA": args.isa} if args.isa else {}
    command = [sys.executable, "-m", "benchmarks.train_keras", "ours"]
    command += ["--low"] if args.low else []
    rivals = {way: Contestant(way, command, WAYS[way] | limit) for way in args.ways}
    case = {"do": "case", "network": network, "batch": args.batch, "augment": args.augment}
    case |= {"images": n, "epochs": epochs}
    found: Speeds = {way: {"seconds": [], "cpu_seconds": []} for way in rivals}
    try:
        for rival in rivals.values():
            rival.ask()
            rival.ask(case)
        order = list(rivals)
        for number in range(args.repeats + 1):
            for way in order:
                turn = rivals[way].ask({"do": "turn"})
                for kind, speeds in found[way].items() if number and turn else ():
                    speeds.append(n * epochs / turn[kind])
            order.append(order.pop(0))
    finally:
        for rival in rivals.values():
            rival.close()
    return found


def table(results: dict[str, Speeds]) -> str:
    """Write the results as Markdown."""
    lines = [
        "| network | told | images/s, median (min–max) | images per CPU second "
        "| times the first | by CPU seconds |",
        f"|{'---|' * 6}",
    ]
    for network, found in results.items():
        first = next(iter(found.values()))
        for way, speeds in found.items():
            cells = [network, way]
            if all(speeds.values()):
                cells += map(spread, speeds.values())
                cells += [f"{ratio(speeds[kind], first[kind]):.2f}" for kind in speeds]
            else:
                cells += ["failed", "–", "–", "–"]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__)
    chosen = ["mlp", "cnn_8", "cnn_128", "resnet"]
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=chosen)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--augment", action="store_true")
    parser.add_argument("--low", action="store_true", help="precision='mixed'")
    parser.add_argument("--isa", help="oneDNN's largest instruction set, such as AVX2")
    args = parser.parse_args()
    if args.quick:
        args.networks, args.ways, args.repeats = ["cnn_8"], ["off", "on"], 3
    facts = machine()
    results: dict[str, Speeds] = {}
    for network in args.networks:
        results[network] = measure(network, args)
        say(table({network: results[network]}))
        write(args.out, {"machine": facts, "isa": args.isa, "low": args.low, "results": results})
    limited = f"oneDNN limited to {args.isa}; " if args.isa else ""
    print(f"Training, batch {args.batch}, n = {args.repeats} turns; {limited}{headline(facts)}\n")
    print(table(results))


if __name__ == "__main__":
    main()
