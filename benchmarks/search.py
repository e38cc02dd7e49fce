"""The same grid search two ways and more, on the same images, in one run.

    python -m benchmarks.search --data FILE.npz --stage cnn_kernels --ways stock ours ours_2_jobs

Each way runs in a process of its own, the ways in alternation; the first way is the one that the
others are compared with. All have the same grid, images, folds, batches and epochs, no early
stopping and no final fit, float32 unless said otherwise and as many threads as there are cores
(``2_jobs``: half of them a process). Ways:

stock        plain scikeras ``KerasClassifier`` and scikit-learn's ``GridSearchCV``, Keras'
             augmentation layers inside the model, float images
ours         this package, ``GridSearchCV``, one process
ours_2_jobs  this package's ``StagedSearchCV`` with one stage and ``n_jobs=2``
ours_mixed   ``ours`` with ``precision="mixed"``: bfloat16 on CPUs that have it
ours_mixed_2_jobs
             both
skorch       skorch on PyTorch, of the CNN with ``--no-augment``; ``--skorch-python`` is the Python
             of an environment with torch and skorch, which need not have anything else

Memory is measured after every fit of the ways in one process. A fit that had to build a network,
the first one excepted, counts for the growth per architecture, all others per further fit. Plain
scikeras and skorch build one in every fit.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks._common import rss_mb

WAYS = ("stock", "ours", "ours_2_jobs", "ours_mixed", "ours_mixed_2_jobs", "skorch")
GRIDS: dict[str, tuple[str, dict[str, list[Any]]]] = {
    "cnn_kernels": ("cnn", {"kernel_size": [3, 5, 7], "filters": [8, 16, 32, 64, 128]}),
    "mlp_training": (
        "mlp",
        {
            "optimizer": ["sgd", "rmsprop", "adam"],
            "activation": ["relu", "tanh"],
            "batch_size": [16, 32, 64, 128],
        },
    ),
}


def stock_search(network: str, images: Any, args: argparse.Namespace) -> Any:
    """Build the search as one writes it today."""
    import keras
    from scikeras.wrappers import KerasClassifier
    from sklearn.model_selection import GridSearchCV, StratifiedKFold

    class StratifiedClassifier(KerasClassifier):
        """Says that it is a classifier, as plain scikeras under scikit-learn 1.6 does not."""

        def __sklearn_tags__(self) -> Any:
            from sklearn.utils import ClassifierTags

            tags = super().__sklearn_tags__()
            tags.estimator_type, tags.classifier_tags = "classifier", ClassifierTags()
            return tags

    def build(
        filters: int = 128, kernel_size: int = 3, units: int = 128, activation: str = "relu"
    ) -> Any:
        layers = [keras.Input(images.shape[1:])]
        if args.augment:
            layers += [keras.layers.RandomFlip(), keras.layers.RandomRotation(0.2)]
        if network == "cnn":
            layers += [
                keras.layers.Conv2D(filters, kernel_size, activation=activation),
                keras.layers.MaxPooling2D(2),
                keras.layers.Flatten(),
            ]
        else:
            layers += [keras.layers.Flatten(), keras.layers.Dense(units, activation=activation)]
        return keras.Sequential([*layers, keras.layers.Dense(args.classes, activation="softmax")])

    architecture = {"filters", "kernel_size", "activation"}
    grid = {
        f"model__{name}" if name in architecture else name: values
        for name, values in GRIDS[args.stage][1].items()
    }
    defaults = (
        {"model__filters": 128, "model__kernel_size": 3}
        if network == "cnn"
        else {"model__activation": "relu"}
    )
    estimator = StratifiedClassifier(
        build,
        loss="sparse_categorical_crossentropy",
        optimizer="adam" if network == "cnn" else "sgd",
        epochs=args.epochs,
        batch_size=args.batch_size,
        random_state=0,
        verbose=0,
        **defaults,
    )
    return GridSearchCV(estimator, grid, cv=StratifiedKFold(3), refit=False)


def our_search(network: str, args: argparse.Namespace, way: str) -> Any:
    """Build the search as one writes it with this package."""
    from sklearn.model_selection import GridSearchCV, StratifiedKFold

    from kmedclf import CNNClassifier, MLPClassifier
    from kmedclf.search import StagedSearchCV

    estimator = {"cnn": CNNClassifier, "mlp": MLPClassifier}[network](
        epochs=args.epochs,
        batch_size=args.batch_size,
        early_stopping=False,
        augment=args.augment,
        precision="mixed" if "mixed" in way else "float32",
        random_state=0,
    )
    grid, cv = GRIDS[args.stage][1], StratifiedKFold(3)
    if "2_jobs" in way:
        return StagedSearchCV(estimator, [grid], cv=cv, refit=False, n_jobs=2)
    return GridSearchCV(estimator, grid, cv=cv, refit=False)


def work(way: str, args: argparse.Namespace) -> dict[str, Any]:
    """Run one way in this process and measure it."""
    began = time.perf_counter()
    import numpy as np

    network = GRIDS[args.stage][0]
    with np.load(args.data) as data:
        X, y = data["train_images"], data["train_labels"].ravel().astype("int64")
    args.classes = int(y.max()) + 1
    builds = _none_built
    if way.startswith("ours"):
        search = our_search(network, args, way)
        builds = _built
    elif way == "stock":
        X = X.astype("float32") / 255
        search = stock_search(network, X, args)
    else:
        X = np.ascontiguousarray((X.astype("float32") / 255).transpose(0, 3, 1, 2))
        from benchmarks import search_skorch

        search = search_skorch.search(X, GRIDS[args.stage][1], args)
    memory: list[tuple[float, int]] = []

    def score(estimator: Any, X: Any, y: Any) -> float:
        value = estimator.score(X, y)
        memory.append((rss_mb(), builds()))
        return value

    if "2_jobs" not in way:  # whose fits are in other processes
        search.scoring = score
    start_up = time.perf_counter() - began
    before = rss_mb()
    began = time.perf_counter()
    search.fit(X, y)
    wall = time.perf_counter() - began
    return {"way": way, "start_up_s": start_up, "wall_s": wall, **_figures(search, before),
            **_growth(memory)}  # fmt: skip


def _built() -> int:
    from kmedclf.training import cache

    return cache.stats()["builds"]


def _none_built() -> int:
    return 0


def _growth(memory: list[tuple[float, int]]) -> dict[str, float]:
    """Split growth over fits that built a network and fits that did not, in MB a fit."""
    grown: dict[str, list[float]] = {"architecture": [], "further_fit": []}
    for (before, old), (after, new) in itertools.pairwise(memory):
        grown["architecture" if new > old else "further_fit"].append(after - before)
    return {f"growth_per_{name}_mb": statistics.fmean(of) for name, of in grown.items() if of}


def _figures(search: Any, before: float) -> dict[str, Any]:
    results = search.cv_results_
    fits = len(results["params"]) * search.n_splits_
    best = int(results["rank_test_score"].argmin())
    fit_s = float((results["mean_fit_time"] * search.n_splits_).sum())
    score_s = float((results["mean_score_time"] * search.n_splits_).sum())
    # The first fold of a candidate pays for building and tracing; its excess is the spread.
    build_s = float((results["std_fit_time"] * search.n_splits_ / 2**0.5).sum())
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return {
        "fits": fits,
        "fit_s": fit_s,
        "build_and_trace_s": build_s,
        "score_s": score_s,
        "rss_before_mb": before,
        "rss_growth_mb": rss_mb() - before,
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "peak_rss_of_a_worker_mb": children,
        "best_params": {k.split("__")[-1]: v for k, v in results["params"][best].items()},
        "best_score": float(results["mean_test_score"][best]),
        "best_score_se": float(results["std_test_score"][best] / search.n_splits_**0.5),
        "scores": [float(score) for score in results["mean_test_score"]],
    }


def table(runs: list[dict[str, Any]]) -> str:
    """Write the medians of the runs as Markdown."""
    ways = list(dict.fromkeys(run["way"] for run in runs))
    first = {run["round"]: run["wall_s"] for run in runs if run["way"] == ways[0]}
    lines = [
        "| way | n | wall s (min–max) | speed-up | start-up s | build s | score s | fits/min "
        "| growth MB | per architecture | per further fit | peak MB | winner | CV score ± se |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for way in ways:
        mine = [run for run in runs if run["way"] == way]
        wall = [run["wall_s"] for run in mine]
        ratio = statistics.median(first[run["round"]] / run["wall_s"] for run in mine)
        middle = {
            name: statistics.median(run[name] for run in mine)
            for name, value in mine[0].items()
            if isinstance(value, float)
        }
        winner = ", ".join(f"{name} {value}" for name, value in mine[0]["best_params"].items())
        lines.append(
            f"| {way} | {len(mine)} | {middle['wall_s']:.1f} ({min(wall):.1f}–{max(wall):.1f}) "
            f"| {ratio:.2f} | {middle['start_up_s']:.1f} | {middle['build_and_trace_s']:.1f} "
            f"| {middle['score_s']:.1f} | {60 * mine[0]['fits'] / middle['wall_s']:.0f} "
            f"| {middle['rss_growth_mb']:.0f} | {_shown(middle, 'growth_per_architecture_mb')} "
            f"| {_shown(middle, 'growth_per_further_fit_mb')} | {middle['peak_rss_mb']:.0f} "
            f"| {winner} "
            f"| {middle['best_score']:.4f} ± {middle['best_score_se']:.4f} |"
        )
    return "\n".join(lines)


def _shown(figures: dict[str, float], name: str) -> str:
    return f"{figures[name]:.2f}" if name in figures else "–"


def main() -> None:
    """Run the ways in alternation and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="npz with MedMNIST's keys")
    parser.add_argument("--stage", choices=GRIDS, default="cnn_kernels")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS[:3]))
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--no-augment", dest="augment", action="store_false")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--skorch-python", default=sys.executable, metavar="PATH")
    parser.add_argument("--out", help="file for the figures as JSON")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        print(json.dumps(work(args.worker, args)))
        return
    if "skorch" in args.ways and (args.augment or GRIDS[args.stage][0] != "cnn"):
        parser.error("skorch is compared on cnn_kernels with --no-augment only")
    runs = []
    for number in range(args.repeats):
        for way in args.ways:
            python = args.skorch_python if way == "skorch" else sys.executable
            command = [python, "-m", "benchmarks.search", *sys.argv[1:], "--worker", way]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            runs.append({**json.loads(done.stdout.splitlines()[-1]), "round": number})
            print(f"{way}: {runs[-1]['wall_s']:.1f} s", file=sys.stderr)
    print(f"{args.stage}, {args.epochs} epochs, batch {args.batch_size}, augment={args.augment}, "
          f"{os.cpu_count()} cores, {platform.processor() or platform.machine()}\n")  # fmt: skip
    print(table(runs))
    if args.out:
        Path(args.out).write_text(json.dumps(runs, indent=1))


if __name__ == "__main__":
    main()
