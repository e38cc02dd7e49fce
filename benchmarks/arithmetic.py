"""What TensorFlow can be told before it loads, and what each does to training and predict.

    python -m benchmarks.arithmetic [--isa AVX2] [--networks cnn_8 ...] [--ways off on ...]

One process for each way to set the environment, alive through all rounds; they take turns, in an
order that rotates. Training is `benchmarks.train`'s: images of 28 pixels, batch 32, Adam, float32
unless --low. ``--isa AVX2`` limits oneDNN's instruction sets as a CPU without AVX-512 does; what of
TensorFlow is not oneDNN was compiled for AVX anyway. Ratios are medians over turns of a round.
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


def measure(network: str, args: Any) -> dict[str, list[float]]:
    """Measure the images a second of each way, turn by turn."""
    n, epochs = NETWORKS[network]
    limit = {"ONEDNN_MAX_CPU_ISA": args.isa} if args.isa else {}
    command = [sys.executable, "-m", "benchmarks.train_keras", "ours"]
    command += ["--low"] if args.low else []
    rivals = {way: Contestant(way, command, WAYS[way] | limit) for way in args.ways}
    case = {"do": "case", "network": network, "batch": args.batch, "augment": args.augment}
    case |= {"images": n, "epochs": epochs}
    found: dict[str, list[float]] = {way: [] for way in rivals}
    try:
        for rival in rivals.values():
            rival.ask()
            rival.ask(case)
        order = list(rivals)
        for number in range(args.repeats + 1):
            for way in order:
                turn = rivals[way].ask({"do": "turn"})
                if number and turn:
                    found[way].append(n * epochs / turn["seconds"])
            order.append(order.pop(0))
    finally:
        for rival in rivals.values():
            rival.close()
    return found


def table(results: dict[str, dict[str, list[float]]]) -> str:
    """Write the results as Markdown."""
    lines = [
        "| network | told | images/s, median (min–max) | times the first |",
        "|---|---|---|---|",
    ]
    for network, found in results.items():
        first = next(iter(found.values()))
        for way, speeds in found.items():
            times = f"{ratio(speeds, first):.2f}" if speeds else "failed"
            lines.append(f"| {network} | {way} | {spread(speeds) if speeds else '–'} | {times} |")
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
    results: dict[str, dict[str, list[float]]] = {}
    for network in args.networks:
        results[network] = measure(network, args)
        say(table({network: results[network]}))
        write(args.out, {"machine": facts, "isa": args.isa, "low": args.low, "results": results})
    limited = f"oneDNN limited to {args.isa}; " if args.isa else ""
    print(f"Training, batch {args.batch}, n = {args.repeats} turns; {limited}{headline(facts)}\n")
    print(table(results))


if __name__ == "__main__":
    main()
