"""Where the time of a gradient step goes: TensorFlow's operations, from its profiler.

    python -m benchmarks.ops [--networks cnn_128 resnet] [--precisions float32 mixed]

Operations that run beside one another are each counted whole, so that the sum may exceed a step's
time. The limit is the time of the step's convolutions and matrix products at the rate of one large
convolution, or of a large matrix product for the MLP, measured in the same process.
"""

from __future__ import annotations

import re
import statistics
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks._common import arguments, headline, machine, noise, say, write
from benchmarks.train import NETWORKS

IMAGES = {"mlp": 4_096, "cnn_8": 4_096, "cnn_32": 2_048, "cnn_128": 2_048, "resnet": 512}
SHOWN = 12


def kernels(folder: Path) -> Counter[str]:
    """Sum the milliseconds of each kind of operation in what the profiler has written."""
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    space = xplane_pb2.XSpace()
    space.ParseFromString(next(folder.rglob("*.xplane.pb")).read_bytes())
    found: Counter[str] = Counter()
    for plane in space.planes:
        for event in (event for line in plane.lines for event in line.events):
            # Of "where/in/the/graph:_MklNativeConv2D": oneDNN's kernels under TensorFlow's names.
            name = re.fullmatch(r"while/.*:_?(?:Mkl)?(?:Native)?(\w+)",
                                plane.event_metadata[event.metadata_id].name)  # fmt: skip
            if name:
                found[name[1]] += event.duration_ps / 1e9
    return found


def measure(network: str, precision: str, args: Any) -> dict[str, Any]:
    """Profile one epoch of a fit."""
    import tensorflow as tf

    from benchmarks.train_keras import flops, our_estimator, rates

    batch = 16 if args.augment else 32
    X, y = noise(args.images or IMAGES[network])
    steps = len(X) // batch
    case = {"network": network, "batch": batch, "augment": args.augment}
    estimator = our_estimator(case, epochs=1, precision=precision).fit(X, y)
    seconds = []
    for _ in range(args.repeats):
        began = time.perf_counter()
        estimator.fit(X, y)
        seconds.append(time.perf_counter() - began)
    with tempfile.TemporaryDirectory() as folder:
        with tf.profiler.experimental.Profile(folder):
            estimator.fit(X, y)
        found = kernels(Path(folder))
    low = precision != "float32"
    rate = rates(low)["matmul" if network == "mlp" else "conv"]
    return {
        "network": network,
        "precision": precision,
        "batch": batch,
        "augment": args.augment,
        "step_ms": statistics.median(seconds) * 1000 / steps,
        "limit_ms": flops(network) * batch / rate / 1e6,
        "kernels_ms": {name: value / steps for name, value in found.most_common()},
    }


def table(results: list[dict[str, Any]]) -> str:
    """Write the results as Markdown, a column a network and precision."""
    heads = [f"{one['network']}, {one['precision']}, batch {one['batch']}" for one in results]
    lines = [f"| ms a step | {' | '.join(heads)} |", f"|{'---|' * (len(heads) + 1)}"]
    total = Counter[str]()
    for one in results:
        total.update({name: ms / one["step_ms"] for name, ms in one["kernels_ms"].items()})
    rows: dict[str, list[float]] = {"whole step of a fit": [one["step_ms"] for one in results]}
    rows["limit"] = [one["limit_ms"] for one in results]
    for name, _ in total.most_common(SHOWN):
        rows[name] = [one["kernels_ms"].get(name, 0.0) for one in results]
    for name, values in rows.items():
        lines.append(f"| {name} | {' | '.join(f'{value:.2f}' for value in values)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=["cnn_128", "resnet"])
    parser.add_argument("--precisions", nargs="+", default=["float32", "mixed"])
    parser.add_argument("--augment", action="store_true", help="and batches of 16, not 32")
    parser.add_argument("--images", type=int, help="instead of each network's own number")
    args = parser.parse_args()
    if args.quick:
        args.networks, args.precisions, args.images, args.repeats = ["mlp"], ["float32"], 512, 2
    facts, results = machine(), []
    for network in args.networks:
        for precision in args.precisions:
            results.append(measure(network, precision, args))
            say(f"{network} {precision} done")
            write(args.out, {"machine": facts, "results": results})
    print(f"Operations of a gradient step, synthetic images, one epoch profiled; step: median of "
          f"n = {args.repeats} fits; {headline(facts)}\n")  # fmt: skip
    print(table(results))


if __name__ == "__main__":
    main()
