"""What fit takes beyond its gradient steps: a whole fit against bare loops over the same steps.

    python -m benchmarks.overhead [--networks mlp cnn_8] [--batches 32 128] [--out overhead.json]

A bare loop is one call of a ``tf.function`` with a ``while_loop`` in it, over the same compiled
step as the fit's and the same number of steps, without tf.data. The shuffling one draws an
order every epoch and gathers each batch, as any training must; the plain one takes images as they
lie in memory. The fit also initialises, orders images by content, keeps a history and copies the
weights out. All alternate in one process, after one of each that does not count.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from benchmarks._common import arguments, headline, machine, noise, ratio, say, spread, write
from benchmarks.train import NETWORKS

WAYS = ("fit", "shuffled", "plain")
EPOCHS = {"mlp": 20, "cnn_8": 10, "cnn_32": 5, "cnn_128": 3, "resnet": 1}


def bare(estimator: Any, X: Any, y: Any, epochs: int, *, shuffled: bool) -> Any:
    """Make the bare loop over the steps of an estimator that was fitted: a call takes them all."""
    import tensorflow as tf

    from kmedclf.training import cache

    with cache.borrow(estimator._spec) as program:
        step = program.train_step  # the same graph function as in the fit
    size, n = estimator.batch_size, len(X)
    columns = tf.constant(X), tf.constant(y, tf.int32), tf.ones(n)

    def epoch(number: Any, loss: Any, hits: Any) -> tuple[Any, Any, Any]:
        order = tf.random.shuffle(tf.range(n)) if shuffled else None

        def take(start: Any, loss: Any, hits: Any) -> tuple[Any, Any, Any]:
            end = start + size
            if shuffled:
                batch = [tf.gather(column, order[start:end]) for column in columns]
            else:
                batch = [column[start:end] for column in columns]
            more, right = step(*batch)
            return end, loss + more, hits + right

        state = tf.constant(0), loss, hits
        state = tf.while_loop(lambda at, *_: at < n, take, state, parallel_iterations=1)
        return number + 1, *state[1:]

    @tf.function(autograph=False)
    def loop() -> Any:
        state = tf.constant(0), tf.zeros(()), tf.zeros(())
        return tf.while_loop(lambda at, *_: at < epochs, epoch, state, parallel_iterations=1)[2]

    return loop


def measure(network: str, batches: list[int], args: Any) -> list[dict[str, Any]]:
    """Measure one network with all batches, in alternation."""
    from benchmarks.train_keras import our_estimator

    X, y = noise(args.images)
    epochs = args.epochs or EPOCHS[network]
    calls: dict[int, dict[str, Callable[[], Any]]] = {}
    for batch in batches:
        case = {"network": network, "batch": batch, "augment": False}
        estimator = our_estimator(case, epochs=epochs, precision=args.precision).fit(X, y)
        loops = [bare(estimator, X, y, epochs, shuffled=way == "shuffled") for way in WAYS[1:]]
        calls[batch] = dict(zip(WAYS, (partial(estimator.fit, X, y), *loops), strict=True))
    seconds: dict[int, dict[str, list[float]]] = {one: {way: [] for way in WAYS} for one in batches}
    for number in range(args.repeats + 1):
        for batch in batches:
            shift = number % len(WAYS)
            for way in WAYS[shift:] + WAYS[:shift]:
                began = time.perf_counter()
                done = calls[batch][way]()
                if way != "fit":
                    float(done)  # wait for the graph to end
                if number:
                    seconds[batch][way].append(time.perf_counter() - began)
    return [
        {
            "network": network,
            "batch": batch,
            "epochs": epochs,
            "images": len(X),
            "seconds": seconds[batch],
            "overhead": {
                way: ratio(seconds[batch]["fit"], seconds[batch][way]) - 1 for way in WAYS[1:]
            },
        }
        for batch in batches
    ]


def table(results: list[dict[str, Any]]) -> str:
    """Write the results as Markdown."""
    lines = [
        "| network | batch | epochs | fit, ms (min–max) | shuffling loop, ms | plain loop, ms "
        "| overhead over the shuffling | over the plain | images/s of fit | times smallest batch |",
        f"|{'---|' * 10}",
    ]
    first: dict[str, list[float]] = {}
    for one in results:
        fit = one["seconds"]["fit"]
        cells = [one["network"], str(one["batch"]), str(one["epochs"])]
        cells += [spread([1000 * taken for taken in one["seconds"][way]]) for way in WAYS]
        cells += [f"{one['overhead'][way]:+.1%}" for way in WAYS[1:]]
        speed = one["images"] * one["epochs"] / statistics.median(fit)
        times = ratio(first.setdefault(one["network"], fit), fit)
        lines.append(f"| {' | '.join(cells)} | {speed:,.0f} | {times:.2f} |")
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__)
    networks = [name for name in NETWORKS if name != "resnet"]
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=networks)
    parser.add_argument("--batches", nargs="+", type=int, default=[32, 128])
    parser.add_argument("--images", type=int, default=12_288, help="a multiple of the batches")
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
