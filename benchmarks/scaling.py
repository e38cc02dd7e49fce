"""A search on one, two and four workers of a cluster, and what that means for hundreds.

    python -m benchmarks.scaling [--workers 1 2] [--repeats 3] [--results benchmarks/RESULTS.md]

Every worker has a core of its own, and takes turns with the others: a round is the same search on
one worker, on two, and so on. Scheduler and search run on the same cores. Then 10,000 trials on up
to 512 workers are simulated from the fit times, the seconds that the search itself takes for a fit,
and the seconds until a lost worker is back. The simulation is compared with what was measured.
"""

from __future__ import annotations

import heapq
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._common import ROOT, arguments, headline, machine, noise, say, spread, write

GRID = {
    "filters": [8, 16, 32],
    "optimizer": ["sgd", "adam"],
    "class_weight": [None, "balanced"],
}
FOLDS = 3
TITLE = "Beyond one machine"


# -- what is measured ------------------------------------------------------------------------------


@contextmanager
def cluster(workers: int) -> Iterator[str]:
    """Start a scheduler and workers, each on one core; yields the address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"tcp://127.0.0.1:{port}"
    cores = sorted(os.sched_getaffinity(0))
    started = [_start("scheduler", "--port", str(port))]
    for number in range(workers):
        core = {cores[number % len(cores)]}
        started.append(_start("worker", address, "--threads", "1", cores=core))
    try:
        yield address
    finally:
        for process in started:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _start(*words: str, cores: set[int] | None = None) -> subprocess.Popen[bytes]:
    """Start a command of kmedclf, perhaps on some cores only, in a group that can be ended."""
    return subprocess.Popen(
        [sys.executable, "-m", "kmedclf", *words],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=(lambda: os.sched_setaffinity(0, cores)) if cores else None,
    )


def count() -> int:
    """Count the bytes that this worker receives, from now on; returns those until now."""
    import distributed.comm.tcp as comm

    if not hasattr(comm, "received"):
        read = comm.from_frames

        async def counted(frames: Any, *rest: Any, **options: Any) -> Any:
            comm.received += sum(memoryview(one).nbytes for one in frames)
            return await read(frames, *rest, **options)

        comm.from_frames, comm.received = counted, 0
    until_now, comm.received = comm.received, 0
    return int(until_now)


def search(epochs: int, grid: dict[str, list[Any]]) -> Any:
    """Make the search that is measured."""
    from kmedclf import CNNClassifier
    from kmedclf.search import StagedSearchCV

    cnn = CNNClassifier(epochs=epochs, early_stopping=False, random_state=0)
    return StagedSearchCV(cnn, [grid], cv=FOLDS, refit=False)


def turn(address: str, workers: int, args: Any, X: Any, y: Any) -> dict[str, Any]:
    """Search once; seconds, bytes received by workers for a fit, and seconds of each fit."""
    from kmedclf.search import on_cluster

    with on_cluster(address, n_workers=workers, timeout=300) as client:
        client.run(count)
        began = time.perf_counter()
        found = search(args.epochs, args.grid).fit(X, y)
        seconds = time.perf_counter() - began
        received = sum(client.run(count).values())
    results = found.cv_results_
    each = results["mean_fit_time"] + results["mean_score_time"]
    fits = len(each) * FOLDS
    return {
        "seconds": seconds,
        "bytes_per_fit": received / fits,
        "fit_seconds": each.tolist(),
        "scores": results["mean_test_score"].tolist(),
    }


def overhead(address: str, workers: int, X: Any, y: Any, fits: int) -> float:
    """Measure the seconds that search and scheduler take for a fit that takes none."""
    from sklearn.dummy import DummyClassifier

    from kmedclf.search import StagedSearchCV, on_cluster

    y = np.asarray(y)
    empty = np.zeros((len(y), 1))
    grid = {"constant": list(range(fits // FOLDS)), "strategy": ["prior"]}
    with on_cluster(address, n_workers=workers, timeout=300):
        idle = StagedSearchCV(DummyClassifier(), [grid], cv=FOLDS, refit=False)
        began = time.perf_counter()
        idle.fit(empty, y)
        return (time.perf_counter() - began) / fits


def replacement(address: str) -> float:
    """Measure the seconds from the loss of a worker until its successor can train."""
    from kmedclf.search import on_cluster
    from kmedclf.search.cluster import facts

    with on_cluster(address, timeout=300) as client:
        before = client.run(os.getpid)
        began = time.perf_counter()
        os.kill(next(iter(before.values())), signal.SIGKILL)
        while not set(client.nthreads()) - set(before):
            time.sleep(0.05)
        client.run(facts)
        return time.perf_counter() - began


# -- what is simulated -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A search on a cluster, as the simulation knows it; times in seconds."""

    workers: int
    fit_seconds: Sequence[float]  # of one fit each, drawn from
    dispatch: float  # of the search's one process for a fit
    compile: float  # of a worker for a network that is new to it
    networks: int  # that differ, each compiled by every worker that meets it
    replacement: float  # until a lost worker is back
    failures: float = 0.0  # of a worker in an hour
    seed: int = 0


def simulate(case: Case, trials: int, rungs: Sequence[float] = (1.0,), factor: int = 3) -> float:
    """Simulate a search; returns its seconds.

    ``rungs`` are shares of all epochs: after each but the last, one in ``factor`` of the trials
    goes on, and trains what is new of the next one. All wait for the last of a rung, as here.
    """
    draw = np.random.default_rng(case.seed)
    known: list[set[int]] = [set() for _ in range(case.workers)]
    now, before = 0.0, 0.0
    for share in rungs:
        now = _rung(case, trials, share - before, now, known, draw)
        trials, before = -(-trials // factor), share
    return now


def _rung(
    case: Case, trials: int, share: float, now: float, known: list[set[int]], draw: Any
) -> float:
    """Fit trials on all folds; returns when the last has ended."""
    free = [(now, number) for number in range(case.workers)]
    heapq.heapify(free)
    networks = draw.integers(0, case.networks, trials)
    seconds = share * draw.choice(np.asarray(case.fit_seconds), trials)
    sent, end = now, now
    again = [(trial, FOLDS) for trial in range(trials - 1, -1, -1)]
    while again:
        trial, folds = again.pop()
        begin, worker = heapq.heappop(free)
        sent = max(sent, now) + case.dispatch * folds  # one process hands out all fits
        begin = max(begin, sent)
        need = folds * seconds[trial]
        if networks[trial] not in known[worker]:
            known[worker].add(networks[trial])
            need += case.compile
        lost = draw.exponential(3600 / case.failures) if case.failures else np.inf
        if lost < need:  # what it had is trained again by another
            known[worker].clear()
            again.append((trial, folds))
            heapq.heappush(free, (begin + lost + case.replacement, worker))
            continue
        heapq.heappush(free, (begin + need, worker))
        end = max(end, begin + need)
    return end


# -- the report ------------------------------------------------------------------------------------


def measured(figures: dict[str, Any]) -> str:
    """Write what was measured, and what the simulation says of it, as a table."""
    lines = [
        "| workers | seconds | times faster | efficiency | kB received for a fit "
        "| simulated ÷ measured |",
        "|---|---|---|---|---|---|",
    ]
    base = figures["turns"][str(figures["workers"][0])]
    for number in figures["workers"]:
        turns = figures["turns"][str(number)]
        faster = [a["seconds"] / b["seconds"] for a, b in zip(base, turns, strict=True)]
        seconds = [one["seconds"] for one in turns]
        kilobytes = statistics.median(one["bytes_per_fit"] for one in turns) / 1e3
        like = simulate(replace(_case(figures), workers=number), figures["trials"])
        lines.append(
            f"| {number} | {spread(seconds, 1)} | {spread(faster, 2)} "
            f"| {statistics.median(faster) / number:.2f} | {kilobytes:.0f} "
            f"| {like / statistics.median(seconds):.2f} |"
        )
    return "\n".join(lines)


def _case(figures: dict[str, Any]) -> Case:
    """Describe the cluster that was measured, warm."""
    one = figures["turns"][str(figures["workers"][0])]
    return Case(
        workers=1,
        fit_seconds=[each for turn in one for each in turn["fit_seconds"]],
        dispatch=figures["dispatch"],
        compile=0.0,
        networks=figures["networks"],
        replacement=figures["replacement"],
    )


def simulated(figures: dict[str, Any], trials: int, workers: Sequence[int]) -> str:
    """Write the simulation of a large search as a table."""
    lines = [
        f"| workers | grid of {trials:,} trials | efficiency | with a loss of each worker every "
        "4 hours | halving by 3, three rungs |",
        "|---|---|---|---|---|",
    ]
    cold = replace(_case(figures), compile=figures["compile"])
    alone = simulate(cold, trials)
    for number in workers:
        case = replace(cold, workers=number)
        whole = simulate(case, trials)
        failing = simulate(replace(case, failures=0.25), trials)
        halved = simulate(case, trials, rungs=(1 / 9, 1 / 3, 1))
        lines.append(
            f"| {number} | {_hours(whole)} | {alone / whole / number:.2f} | {_hours(failing)} "
            f"| {_hours(halved)} |"
        )
    return "\n".join(lines)


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.1f} min"


def section(figures: dict[str, Any]) -> str:
    """Write the section of RESULTS.md."""
    fit = statistics.mean(_case(figures).fit_seconds)
    busy = fit / figures["dispatch"]
    loaded = figures["machine"]["load"] > 0.5
    return "\n\n".join(
        [
            f"`python -m benchmarks.scaling`: {figures['trials']} CNNs × {FOLDS} folds × "
            f"{figures['epochs']} epochs on {figures['images']} images, a core for each worker, "
            f"n = {figures['repeats']} rounds, median (range). "
            + ("Loaded machine: only ratios say something. " if loaded else "")
            + headline(figures["machine"]),
            measured(figures),
            f"A fit takes {fit:.2f} s on average, of a network that is new to the worker "
            f"{figures['compile']:.1f} s more; search and scheduler take "
            f"{1e3 * figures['dispatch']:.1f} ms for one. So 1,000 trials cost "
            f"{1000 * FOLDS * fit / 3600:.1f} core hours, and one search keeps at most "
            f"{busy:.0f} workers busy with fits as short as these. A lost worker is back after "
            f"{figures['replacement']:.0f} s (n = 1).",
            "Simulated from these figures, not measured:",
            simulated(figures, 10_000, [1, 2, 8, 32, 128, 512]),
        ]
    )


def put(path: Path, text: str) -> None:
    """Replace the section of a file, or append it."""
    whole = path.read_text(encoding="utf-8")
    new = f"## {TITLE}\n\n{text}\n\n"
    pattern = rf"^## {TITLE}\n.*?(?=^## |\Z)"
    found = re.sub(pattern, lambda _: new, whole, flags=re.M | re.S)
    if found == whole and f"## {TITLE}\n" not in whole:
        found = f"{whole.rstrip()}\n\n{new}"
    path.write_text(f"{found.rstrip()}\n", encoding="utf-8")


def main() -> None:
    """Measure, simulate and print."""
    parser = arguments(__doc__)
    parser.set_defaults(repeats=3)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--images", type=int, default=911)
    parser.add_argument("--results", type=Path, help="Markdown file whose section is written")
    args = parser.parse_args()
    args.grid = GRID
    fits = 300
    if args.quick:
        args.epochs, args.images, args.repeats, fits = 1, 96, 1, 30
        args.grid = {"filters": [4, 8], "optimizer": ["sgd", "adam"]}
    figures: dict[str, Any] = {"machine": machine(), "workers": args.workers, "turns": {}}
    X, y = noise(args.images)
    trials = int(np.prod([len(values) for values in args.grid.values()]))
    figures |= {"trials": trials, "epochs": args.epochs, "repeats": args.repeats}
    figures |= {"images": args.images, "networks": len(args.grid["filters"]) * 2}
    clusters = {number: cluster(number) for number in args.workers}
    addresses = {number: one.__enter__() for number, one in clusters.items()}
    try:
        cold = {}
        for number, address in addresses.items():
            say(f"{number} workers, networks compiled")
            cold[number] = turn(address, number, args, X, y)
        for round_ in range(args.repeats):
            for number, address in addresses.items():
                say(f"round {round_ + 1}: {number} workers")
                found = turn(address, number, args, X, y)
                figures["turns"].setdefault(str(number), []).append(found)
        first, last = args.workers[0], args.workers[-1]
        assert all(
            one["scores"] == cold[first]["scores"]
            for turns in figures["turns"].values()
            for one in turns
        )
        warm = statistics.median(one["seconds"] for one in figures["turns"][str(first)])
        figures["compile"] = max(0.0, cold[first]["seconds"] - warm) / figures["networks"]
        overhead(addresses[last], last, X, y, fits)
        figures["dispatch"] = overhead(addresses[last], last, X, y, fits)
        figures["replacement"] = replacement(addresses[first])
    finally:
        for one in clusters.values():
            one.__exit__(None, None, None)
    write(args.out, figures)
    print(section(figures))
    if args.results:
        put(args.results, section(figures))


if __name__ == "__main__":
    main()
