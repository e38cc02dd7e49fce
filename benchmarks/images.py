"""Images a second of deep networks from image files: training, predict, and decoding alone.

    python -m benchmarks.images --torch-python PATH [--networks resnet18 ...] [--sides 64 224]
    python -m benchmarks.images --do decode epochs --torch-python PATH --pillow-python PATH
    python -m benchmarks.images --table resnet18.json vit.json

The files are synthetic: smooth colours with noise, JPEG of quality 90 or PNG, of the side that the
network takes. Every contestant (`benchmarks.images_keras`, `benchmarks.images_torch`) trains the
same network, torchvision's, from random weights by Adam, in a process of its own that waits while
the others have their turn; the order rotates. A turn is an epoch, or one predict of all files. The
first of each, which builds, traces and compiles, does not count. Nothing is augmented, and images
are decoded anew in each epoch. Ratios are medians over turns of a round.

"decode" reads files alone, in batches of 32 and on all cores: files of 224 pixels as they are, and
files of 512 shrunk to 224. "epochs" compares epochs of small networks of this package that decode
files with those that find decoded images in ``cache="memory"``. --table prints the tables of
earlier runs. --isa AVX2 holds oneDNN and PyTorch to it, as on a CPU without AVX-512. On a machine
with other work, only images a CPU second with ``--cores 1`` compare: threads that wait for others
spin, PyTorch's more than TensorFlow's.
"""

from __future__ import annotations

import itertools
import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._common import (
    CLASSES,
    Contestant,
    arguments,
    headline,
    machine,
    ratio,
    say,
    spread,
    write,
)

NETWORKS = ("resnet18", "resnet50", "densenet121", "efficientnet_b0", "vit")
WITH_KERAS = ("resnet50", "densenet121", "efficientnet_b0")
SMALL = ("cnn_8", "cnn_32")
BATCH = {64: 32, 224: 16}
IMAGES = {64: 128, 224: 32}
"""Images in an epoch."""
FORMATS = {"jpeg": {"quality": 90}, "png": {}}
DECODED = ((224, 224), (512, 224))
"""Sides of files, and of images made of them."""
WORKS = ("train", "predict")
ISA = {"AVX2": "avx2"}

KINDS = ("seconds", "cpu_seconds")

Speeds = dict[str, list[float]]
"""Images a second of each contestant, turn by turn."""


def write_files(folder: Path, n: int, side: int, kind: str) -> list[str]:
    """Write synthetic image files; return their paths."""
    from PIL import Image

    generator, paths = np.random.default_rng(0), []
    for number in range(n):
        few = generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        smooth = np.asarray(Image.fromarray(few).resize((side, side), Image.Resampling.BICUBIC))
        noisy = np.clip(smooth + generator.normal(0, 6, smooth.shape), 0, 255).astype(np.uint8)
        path = folder / f"{side}-{number:04}.{kind}"
        Image.fromarray(noisy).save(path, **FORMATS[kind])
        paths.append(str(path))
    return paths


def contestant(name: str, args: Any, folder: str) -> Contestant:
    """Start a contestant by its name, such as "torch compiled, bfloat16"."""
    environment: dict[str, str] = {}
    if args.isa:
        limits = {"ONEDNN_MAX_CPU_ISA": args.isa, "ATEN_CPU_CAPABILITY": ISA[args.isa]}
        environment = limits | {"TF_ENABLE_ONEDNN_OPTS": "1"}
    way, _, precision = name.partition(", ")
    low = ["--low"] if precision == "bfloat16" else []
    if way in ("ours", "keras"):
        command = [sys.executable, "-m", "benchmarks.images_keras", way, *low]
    else:
        pythons = {"pillow": None, "pillow-simd": args.pillow_python}
        python = pythons.get(way, args.torch_python)
        kind, *compiled = way.split()
        more = [f"--{one}" for one in compiled if one == "compiled"] + low
        workers = ["--workers", str(args.workers)]
        command = [python or sys.executable, "-m", "benchmarks.images_torch"]
        command += [kind if kind == "torch" else "pillow", *more, *workers]
        environment["TORCHINDUCTOR_CACHE_DIR"] = folder
    if args.cores:
        command = ["taskset", "-c", ",".join(map(str, range(args.cores))), *command]
        environment["OMP_NUM_THREADS"] = str(args.cores)
    return Contestant(name, command, environment, limit=580)


def take_turns(
    rivals: dict[str, Contestant], request: dict[str, Any], n: int, repeats: int
) -> dict[str, Speeds]:
    """Ask all contestants for the same, in rounds; their speeds by the clock and by CPU seconds.

    The first round does not count.
    """
    found: dict[str, Speeds] = {kind: {name: [] for name in rivals} for kind in KINDS}
    order = list(rivals)
    for number in range(repeats + 1):
        for name in order:
            answer = rivals[name].ask(request)
            for kind, speeds in found.items() if number and answer else ():
                speeds[name].append(n / answer[kind])
        order.append(order.pop(0))
    return found


def measure(network: str, side: int, kind: str, args: Any) -> dict[str, Any]:
    """Measure a network in training and predict."""
    n, batch = args.images or IMAGES[side], BATCH[side]
    names = [
        f"{way}, {precision}" for precision, way in itertools.product(args.precisions, args.ways)
        if way != "keras" or network in WITH_KERAS
    ]  # fmt: skip
    versions: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="kmedclf-images-") as folder:
        files = write_files(Path(folder), n, side, kind)
        case = {"network": network, "side": side, "batch": batch, "files": files}
        case |= {"do": "case", "y": [i % CLASSES for i in range(n)]}
        rivals = {name: contestant(name, args, folder) for name in names}
        try:
            for rival in rivals.values():
                versions |= rival.ask().get("versions", {})
                rival.ask(case)
            found = {"train": take_turns(rivals, {"do": "train"}, n, args.repeats)}
            sizes = {one.ask({"do": "stop"}).get("n_params") for one in rivals.values()}
            found["predict"] = take_turns(rivals, {"do": "predict"}, n, args.repeats)
        finally:
            for rival in rivals.values():
                rival.close()
    failures = {name: one.failure for name, one in rivals.items() if one.failure}
    facts = {"network": network, "side": side, "format": kind, "images": n, "batch": batch}
    return facts | {
        "n_params": sorted(sizes - {None}),
        "found": found,
        "failures": failures,
        "versions": versions,
    }


def best(found: Speeds, ways: Sequence[str], low: bool) -> list[float]:
    """Return the measurements of the fastest of some contestants, in float32 alone or not."""
    lists = [
        one
        for name, one in found.items()
        if name.partition(", ")[0] in ways and one and (low or name.endswith("float32"))
        and (low or "bfloat16" not in name)
    ]  # fmt: skip
    return max(lists, key=statistics.median, default=[])


def networks_table(results: list[dict[str, Any]], kind: str) -> str:
    """Write the speeds: the best of this package and of each rival, and their ratios."""
    unit = "images/s" if kind == "seconds" else "images a CPU second"
    lines = [
        f"| network, pixels, files | work | ours, {unit} | PyTorch's best | Keras "
        "| times PyTorch | in float32 | n |",
        f"|{'---|' * 8}",
    ]
    for one in results:
        case = f"{one['network']}, {one['side']}, {one['format'].upper()}"
        for work, kinds in one["found"].items():
            found = kinds[kind]
            ours, keras = best(found, ["ours"], True), best(found, ["keras"], True)
            cells = [case, work]
            both = [best(found, ["torch", "torch compiled"], low) for low in (True, False)]
            cells += [spread(list_, 1) if list_ else "–" for list_ in (ours, both[0], keras)]
            for mine, theirs in ((ours, both[0]), (best(found, ["ours"], False), both[1])):
                paired = mine and len(mine) == len(theirs)
                cells.append(f"{ratio(mine, theirs):.2f}" if paired else "–")
            lines.append(f"| {' | '.join(cells)} | {len(ours)} |")
    return "\n".join(lines)


def contestants_table(results: list[dict[str, Any]]) -> str:
    """Write the speed of every contestant, by the clock and by CPU seconds."""
    heads = [f"{work}, images{unit}" for work in WORKS for unit in ("/s", "/CPU s")]
    lines = [f"| network, pixels, files | contestant | {' | '.join(heads)} |", f"|{'---|' * 6}"]
    for one in results:
        case = f"{one['network']}, {one['side']}, {one['format'].upper()}"
        for name in one["found"]["train"]["seconds"]:
            lists = [one["found"][work][kind][name] for work in WORKS for kind in KINDS]
            cells = [spread(list_, 1) if list_ else "failed" for list_ in lists]
            lines.append(f"| {case} | {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def decoding(args: Any) -> list[dict[str, Any]]:
    """Measure decoding alone."""
    ways = ["ours", "pillow", "keras"]
    ways += ["torch"] * bool(args.torch_python) + ["pillow-simd"] * bool(args.pillow_python)
    results = []
    with tempfile.TemporaryDirectory(prefix="kmedclf-images-") as folder:
        rivals = {way: contestant(way, args, folder) for way in ways}
        try:
            versions: dict[str, str] = {}
            for rival in rivals.values():
                versions |= rival.ask().get("versions", {})
            for (given, side), kind in itertools.product(DECODED, FORMATS):
                n = (16 if args.quick else 512) * 224**2 // given**2
                request = {"do": "decode", "side": side}
                request["files"] = write_files(Path(folder), n, given, kind)
                found = take_turns(rivals, request, n, args.repeats)
                facts = {"from": given, "side": side, "format": kind, "images": n}
                results.append(facts | {"found": found, "versions": versions})
        finally:
            for rival in rivals.values():
                rival.close()
    return results


def decoding_table(results: list[dict[str, Any]]) -> str:
    """Write images a second of decoding."""
    names = {"keras": "tf.io", "torch": "torchvision"}
    ways = list(results[0]["found"]["seconds"])
    heads = " | ".join(names.get(way, way) for way in ways)
    lines = [f"| files, decoded to | {heads} |", f"|{'---|' * (len(ways) + 1)}"]
    for one, kind in itertools.product(results, KINDS):
        unit = "" if kind == "seconds" else ", a CPU second"
        found = one["found"][kind]
        cells = [spread(found[way]) if found[way] else "failed" for way in ways]
        case = f"{one['from']} px {one['format'].upper()}, {one['side']} px{unit}"
        lines.append(f"| {case} | {' | '.join(cells)} |")
    return "\n".join(lines)


def epochs(args: Any) -> list[dict[str, Any]]:
    """Compare epochs that decode with epochs that find images in memory."""
    results = []
    n = 64 if args.quick else 512
    with tempfile.TemporaryDirectory(prefix="kmedclf-images-") as folder:
        for kind in FORMATS:
            files = write_files(Path(folder), n, 224, kind)
            for network in SMALL[: 1 if args.quick else None]:
                case = {"do": "case", "network": network, "side": 224, "batch": 32}
                case |= {"files": files, "y": [i % CLASSES for i in range(n)]}
                rivals = {name: contestant("ours", args, folder) for name in ("cold", "cached")}
                try:
                    for name, rival in rivals.items():
                        rival.ask()
                        rival.ask(case | {"cache": "memory" if name == "cached" else None})
                    found = take_turns(rivals, {"do": "train"}, n, args.repeats)
                finally:
                    for rival in rivals.values():
                        rival.close()
                results.append({"network": network, "format": kind, "images": n, "found": found})
    return results


def epochs_table(results: list[dict[str, Any]]) -> str:
    """Write images a second of epochs, and what the cache makes of them."""
    lines = [
        "| network | files | cold epochs, images/s | cached epochs | times | by CPU seconds |",
        f"|{'---|' * 6}",
    ]
    for one in results:
        cells = [one["network"], f"224 px {one['format'].upper()}"]
        cells += [spread(speeds) for speeds in one["found"]["seconds"].values()]
        for speeds in one["found"].values():
            cells.append(f"{ratio(speeds['cached'], speeds['cold']):.2f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def show(facts: dict[str, Any], figures: dict[str, Any]) -> None:
    """Print the tables of what was measured."""
    held = f"held to {figures['isa']}; " if figures["isa"] else ""
    held += f"each on {figures['cores']} core(s); " if figures["cores"] else ""
    print(f"Synthetic files; n = {figures['repeats']} turns; {held}{headline(facts)}")
    if figures["networks"]:
        for kind in KINDS:
            print(f"\n{networks_table(figures['networks'], kind)}")
        print(f"\n{contestants_table(figures['networks'])}")
    if figures["decode"]:
        print(f"\nDecoding, images a second:\n\n{decoding_table(figures['decode'])}")
    if figures["epochs"]:
        print(f"\nEpochs:\n\n{epochs_table(figures['epochs'])}")


def main() -> None:
    """Measure what was asked for and print the tables."""
    parser = arguments(__doc__)
    parser.add_argument("--do", nargs="+", choices=["networks", "decode", "epochs"])
    parser.add_argument("--networks", nargs="+", default=NETWORKS)
    parser.add_argument("--sides", nargs="+", type=int, default=list(BATCH), choices=BATCH)
    parser.add_argument("--formats", nargs="+", default=["jpeg"], choices=FORMATS)
    parser.add_argument("--precisions", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--ways", nargs="+", help="of: ours, keras, torch, 'torch compiled'")
    parser.add_argument("--images", type=int, help="in an epoch, a multiple of the batch")
    parser.add_argument("--isa", choices=ISA, help="largest instruction set")
    parser.add_argument("--cores", type=int, help="cores and threads of every contestant")
    parser.add_argument("--workers", type=int, default=1, help="processes of PyTorch that decode")
    parser.add_argument("--torch-python", metavar="PATH", help="a Python with torchvision")
    parser.add_argument("--pillow-python", metavar="PATH", help="a Python with Pillow-SIMD")
    parser.add_argument("--table", nargs="+", type=Path, help="files of --out to print")
    args = parser.parse_args()
    for path in args.table or ():
        figures = json.loads(path.read_text())
        show(figures["machine"], figures)
    if args.table:
        return
    if args.quick:
        args.networks, args.sides, args.images, args.repeats = ["efficientnet_tiny"], [64], 32, 2
        args.precisions = ["float32"]
    torch = ["torch", "torch compiled"] if args.torch_python else []
    args.ways = args.ways or ["ours", *torch, *(["keras"] if not args.quick else [])]
    do = args.do or ["networks", "decode", "epochs"]
    facts = machine()
    figures = {"machine": facts, "repeats": args.repeats, "isa": args.isa, "cores": args.cores}
    figures |= {"networks": [], "decode": [], "epochs": []}
    cases = itertools.product(args.networks, args.sides, args.formats)
    for case in cases if "networks" in do else ():
        figures["networks"].append(measure(*case, args))
        facts["versions"] |= figures["networks"][-1]["versions"]
        say(contestants_table(figures["networks"][-1:]))
        write(args.out, figures)
    if "decode" in do:
        figures["decode"] = decoding(args)
        facts["versions"] |= figures["decode"][0]["versions"]
    figures["epochs"] = epochs(args) if "epochs" in do else []
    write(args.out, figures)
    show(facts, figures)


if __name__ == "__main__":
    main()
