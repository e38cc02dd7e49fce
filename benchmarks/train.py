"""Images a second in training: this package, scikeras, plain Keras and PyTorch in alternation.

    python -m benchmarks.train [--torch-python PATH] [--out train.json]
    python -m benchmarks.train --networks mlp cnn_8 --batches 16 --augment yes --torch-python PATH

Every contestant trains the same network by Adam, on the same synthetic images of 28 pixels, in a
process of its own that waits while the others have their turn; the order rotates. A turn is an
epoch that is not timed and then one or more that are; the first turn of each does not count. All
go on within one call of ``fit``, so building, tracing and compiling are not in the speed: "first
step" has them, the seconds of a first fit of one batch in a process that has imported everything.
The peak of memory is that of the process over the cases of a network so far. Contestants:
`benchmarks.train_keras` and `benchmarks.train_torch`. This package's "bfloat16" is
``precision="mixed"``, which is float32 on a CPU without such arithmetic.

Without --networks, --batches and --augment the cases of `DEFAULT` are measured, else all that are
not excluded. A ratio is the median over turns of the same round. "of limit" is the arithmetic of
the network a second, in convolutions and matrix products alone, as a share of what one large
convolution (the MLP: matrix product) reached in the same rounds.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import tempfile
from typing import Any

from benchmarks._common import Contestant, arguments, headline, machine, ratio, say, spread, write

NETWORKS = {
    # images in an epoch, timed epochs in a turn
    "mlp": (2048, 3),
    "cnn_8": (2048, 2),
    "cnn_32": (2048, 1),
    "cnn_128": (1024, 1),
    "resnet": (256, 1),
}
BATCHES = (16, 32, 128)
DEFAULT = (
    ("mlp", 16, True),
    ("mlp", 32, False),
    ("cnn_8", 32, False),
    ("cnn_32", 32, False),
    ("cnn_128", 16, True),
    ("cnn_128", 32, False),
    ("cnn_128", 128, False),
    ("resnet", 32, False),
    ("resnet", 128, False),
)
QUICK = (("cnn_8", 32, False), ("cnn_8", 16, True))
PRECISIONS = ("float32", "bfloat16")
RIVALS = {"stock": ("stock",), "keras": ("keras",), "torch": ("torch", "torch_compiled")}

WAYS = ("stock", "keras", "ours", *RIVALS["torch"])

Case = tuple[str, int, bool]


def contestants(args: argparse.Namespace, folder: str) -> dict[tuple[str, str], Contestant]:
    """Start all processes of a network; those with torch only where its Python is given."""
    started = {}
    for precision, way in itertools.product(args.precisions, [*args.ways, "limit"]):
        low = ["--low"] if precision == "bfloat16" else []
        command, environment = [sys.executable, "-m", "benchmarks.train_keras", way, *low], {}
        if way in RIVALS["torch"]:
            compiled = ["--compiled"] if way == "torch_compiled" else []
            command = [args.torch_python, "-m", "benchmarks.train_torch", *compiled, *low]
            # Compiling is timed: nothing from earlier runs.
            environment["TORCHINDUCTOR_CACHE_DIR"] = f"{folder}/{precision}"
        name = f"{way} {precision}"
        started[way, precision] = Contestant(name, command, environment)
    return started


def measure(
    case: Case, rivals: dict[tuple[str, str], Contestant], args: argparse.Namespace
) -> dict[str, Any]:
    """Measure one case: a dict of figures for each contestant that did not fail."""
    network, batch, augment = case
    n, epochs = NETWORKS[network]
    if args.quick:
        n //= 2
    request = {"do": "case", "network": network, "batch": batch, "augment": augment}
    answers = {
        key: rival.ask({**request, "images": n, "epochs": epochs}) for key, rival in rivals.items()
    }
    alike = {one["n_params"] for one in answers.values() if "n_params" in one}
    if len(alike) > 1:
        raise RuntimeError(f"The networks of {network} differ: {sorted(alike)} parameters.")
    turns: dict[tuple[str, str], list[dict[str, Any]]] = {key: [] for key in rivals}
    order = list(rivals)
    for number in range(args.repeats + 1):
        for key in order:
            turn = rivals[key].ask({"do": "turn"})
            if number:  # the first builds what depends on the number of images
                turns[key].append(turn)
        order.append(order.pop(0))
    found: dict[str, Any] = {}
    for (way, precision), rival in rivals.items():
        figures = {**answers[way, precision]}
        if way == "limit":
            figures["turns"] = turns[way, precision]
        else:
            figures |= rival.ask({"do": "stop"})
            figures["images_per_s"] = [
                n * epochs / turn["seconds"] for turn in turns[way, precision] if turn
            ]
        if rival.failure:
            figures = {"failure": rival.failure}
        found.setdefault(precision, {})[way] = figures
    images = {"images": n, "epochs": epochs, "n_params": next(iter(alike), None)}
    return {"network": network, "batch": batch, "augment": augment, **images, "found": found}


def speeds(
    result: dict[str, Any], ways: tuple[str, ...], precisions: tuple[str, ...]
) -> list[float]:
    """Return the measurements of the best of some contestants; none where there are none."""
    lists = [
        result["found"].get(precision, {}).get(way, {}).get("images_per_s", [])
        for way, precision in itertools.product(ways, precisions)
    ]
    return max(lists, key=lambda one: statistics.median(one or [0.0]))


def figures_table(results: list[dict[str, Any]]) -> str:
    """Write what was measured as Markdown."""
    lines = [
        "| network | batch | augmented | precision | contestant | images/s, median (min–max) "
        "| of limit | first step, s | peak RSS, MB |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for result in results:
        for precision, ways in result["found"].items():
            case = f"| {_case(result)} | {precision} "
            for way, figures in ways.items():
                if way == "limit":
                    continue
                if "failure" in figures:
                    last = figures["failure"].strip().splitlines()[-1].replace("|", "/")[:80]
                    lines.append(f"{case}| {way} | failed: {last} | – | – | – |")
                    continue
                share = _share(result, figures["images_per_s"], ways["limit"])
                lines.append(
                    f"{case}| {way} | {spread(figures['images_per_s'])} | {share} "
                    f"| {figures['first_step_s']:.2f} | {figures['peak_rss_mb']:.0f} |"
                )
    return "\n".join(lines)


def _case(result: dict[str, Any]) -> str:
    augmented = "yes" if result["augment"] else "no"
    return f"{result['network']} | {result['batch']} | {augmented}"


def _share(result: dict[str, Any], images_per_s: list[float], limit: dict[str, Any]) -> str:
    if "failure" in limit:
        return "–"
    kind = "matmul" if result["network"] == "mlp" else "conv"
    most = statistics.median(turn["gflops"][kind] for turn in limit["turns"])
    return f"{statistics.median(images_per_s) * limit['flops'] / most / 1e9:.0%}"


def ratios_table(results: list[dict[str, Any]]) -> str:
    """Write how many times as fast this package is, at equal precision and best against best."""
    lines = [
        "| network | batch | augmented | precision | ours / stock | ours / keras "
        "| ours / best of torch |",
        "|---|---|---|---|---|---|---|",
    ]
    for result in results:
        precisions = tuple(result["found"])
        pairs = {one: (one,) for one in precisions}
        if len(precisions) > 1:
            pairs["best against best"] = precisions
        for name, chosen in pairs.items():
            ours = speeds(result, ("ours",), chosen)
            cells = []
            for ways in RIVALS.values():
                other = speeds(result, ways, chosen)
                cells.append(f"{ratio(ours, other):.2f}" if ours and other else "–")
            lines.append(f"| {_case(result)} | {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def limits(results: list[dict[str, Any]]) -> str:
    """Write the limits of the machine, over all rounds."""
    lines = ["| precision | GFLOP/s, median (min–max) of | matmul | conv |", "|---|---|---|---|"]
    for precision in results[0]["found"]:
        all_turns = [
            turn["gflops"]
            for result in results
            for turn in result["found"][precision]["limit"].get("turns", ())
        ]
        if all_turns:
            cells = (spread([turn[kind] for turn in all_turns]) for kind in ("matmul", "conv"))
            lines.append(f"| {precision} | n = {len(all_turns)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def cases(args: argparse.Namespace) -> list[Case]:
    """List the cases that were asked for, those of a network together."""
    if args.quick:
        return list(QUICK)
    if not (args.networks or args.batches or args.augment):
        return list(DEFAULT)
    augment = {"yes": [True], "no": [False]}.get(args.augment, [False, True])
    chosen = args.networks or list(NETWORKS), args.batches or BATCHES, augment
    return list(itertools.product(*chosen))


def main() -> None:
    """Measure all cases and print the tables."""
    parser = arguments(__doc__)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS)
    parser.add_argument("--batches", nargs="+", type=int)
    parser.add_argument("--augment", choices=["yes", "no", "both"])
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=PRECISIONS)
    parser.add_argument("--ways", nargs="+", choices=WAYS)
    parser.add_argument("--torch-python", metavar="PATH", help="a Python that has torch and NumPy")
    args = parser.parse_args()
    if args.quick:
        args.repeats, args.precisions = 3, ("float32",)
    ways = args.ways or [way for way in WAYS if way != "keras" or not args.quick]
    args.ways = [way for way in ways if args.torch_python or way not in RIVALS["torch"]]
    facts, results = machine(), []
    figures = {"machine": facts, "repeats": args.repeats, "results": results}
    for network, of_network in itertools.groupby(cases(args), key=lambda case: case[0]):
        with tempfile.TemporaryDirectory(prefix="kmedclf-train-") as folder:
            rivals = contestants(args, folder)
            try:
                for rival in rivals.values():
                    facts["versions"] |= rival.ask().get("versions", {})
                for case in of_network:
                    results.append(measure(case, rivals, args))
                    say(ratios_table(results[-1:]).splitlines()[-1])
                    write(args.out, figures)
            finally:
                for rival in rivals.values():
                    rival.close()
        say(f"{network} done")
    print(f"Training, n = {args.repeats} turns; synthetic images; {headline(facts)}\n")
    print("\n\n".join([ratios_table(results), figures_table(results), limits(results)]))


if __name__ == "__main__":
    main()
