"""What fit takes beyond its gradient steps: a whole fit against a bare loop over the same steps.

    python -m benchmarks.overhead [--networks mlp cnn_8] [--batches 32 128] [--out overhead.json]

The bare loop is one call of a ``tf.function`` with a ``while_loop`` in it, over the same compiled
step function as the fit's and the same number of steps; its images lie in memory in the order in
which they are used, without tf.data. The fit also initialises, shuffles, gathers, keeps a history
and copies the weights out. Both alternate in one process, after one of each that does not count.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

from benchmarks._common import arguments, headline, machine, noise, ratio, say, spread, write
from benchmarks.train import NETWORKS

EPOCHS = {"mlp": 20, "cnn_8": 10, "cnn_32": 5, "cnn_128": 3, "resnet": 1}


def bare(estimator: Any, X: Any, y: Any, epochs: int) -> Any:
    """Make the bare loop over the steps of an estimator that was fitted: a call takes them all."""
    import tensorflow as tf

    from kmedclf import programs

    with programs.borrow(estimator._spec) as program:
        step = program.train_step  # the same graph function as in the fit
    size, n = estimator.batch_size, len(X)
    columns = tf.constant(X), tf.constant(y, tf.int32), tf.ones(n)

    def body(start: Any, loss: Any, hits: Any) -> tuple[Any, Any, Any]:
        start %= n
        batch = (column[start : start + size] for column in columns)
        more, right = step(*batch)
        return start + size, loss + more, hits + right

    def condition(number: Any, *_: Any) -> Any:
        return number < epochs * (n // size)

    def take(number: Any, *state: Any) -> Any:
        return number + 1, *body(*state)

    @tf.function(autograph=False)
    def loop() -> Any:
        state = tf.constant(0), tf.constant(0), tf.zeros(()), tf.zeros(())
        return tf.while_loop(condition, take, state, parallel_iterations=1)[2]

    return loop


def measure(network: str, batches: list[int], args: Any) -> list[dict[str, Any]]:
    """Measure one network with all batches, in alternation."""
    from benchmarks.train_keras import our_estimator

    X, y = noise(args.images)
    epochs = args.epochs or EPOCHS[network]
    pairs = {}
    for batch in batches:
        case = {"network": network, "batch": batch, "augment": False}
        estimator = our_estimator(case, epochs=epochs, precision=args.precision).fit(X, y)
        pairs[batch] = estimator, bare(estimator, X, y, epochs)
    seconds: dict[int, dict[str, list[float]]] = {one: {"fit": [], "bare": []} for one in batches}
    for number in range(args.repeats + 1):
        for batch, (estimator, loop) in pairs.items():
            calls = [
                ("fit", lambda one=estimator: one.fit(X, y)),
                ("bare", lambda one=loop: float(one())),
            ]
            for name, call in calls if number % 2 else calls[::-1]:
                began = time.perf_counter()
                call()
                if number:
                    seconds[batch][name].append(time.perf_counter() - began)
    return [
        {
            "network": network,
            "batch": batch,
            "epochs": epochs,
            "images": len(X),
            "seconds": seconds[batch],
            "overhead": ratio(seconds[batch]["fit"], seconds[batch]["bare"]) - 1,
        }
        for batch in batches
    ]


def table(results: list[dict[str, Any]]) -> str:
    """Write the results as Markdown."""
    lines = [
        "| network | batch | epochs | fit, ms (min–max) | bare loop, ms (min–max) | overhead "
        "| images/s of fit | as fast as the smallest batch |",
        "|---|---|---|---|---|---|---|---|",
    ]
    first: dict[str, list[float]] = {}
    for one in results:
        fit = one["seconds"]["fit"]
        cells = [one["network"], str(one["batch"]), str(one["epochs"])]
        cells += [
            spread([1000 * taken for taken in one["seconds"][name]]) for name in ("fit", "bare")
        ]
        speed = one["images"] * one["epochs"] / statistics.median(fit)
        times = ratio(first.setdefault(one["network"], fit), fit)
        lines.append(
            f"| {' | '.join(cells)} | {one['overhead']:+.1%} | {speed:,.0f} | {times:.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__)
    networks = [name for name in NETWORKS if name != "resnet"]
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=networks)
    parser.add_argument("--batches", nargs="+", type=int, default=[32, 128])
    parser.add_argument("--images", type=int, default=4_096, help="a multiple of the batches")
    parser.add_argument("--epochs", type=int, help="instead of each network's own number")
    parser.add_argument("--precision", choices=["float32", "mixed"], default="float32")
    args = parser.parse_args()
    if args.quick:
        args.networks, args.images, args.epochs, args.repeats = ["mlp"], 2_048, 5, 3
    if any(args.images % batch for batch in args.batches):
        parser.error("--images must be a multiple of all --batches")
    facts = machine()
    results: list[dict[str, Any]] = []
    for network in args.networks:
        results += measure(network, sorted(args.batches), args)
        say(f"{network} done")
        write(args.out, {"machine": facts, "precision": args.precision, "results": results})
    print(f"Overhead of fit, {args.images:,} synthetic images, {args.precision}, "
          f"n = {args.repeats} fits; {headline(facts)}\n")  # fmt: skip
    print(table(results))


if __name__ == "__main__":
    main()
