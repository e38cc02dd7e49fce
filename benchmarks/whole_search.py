"""A whole search, from its start to the winner: scikeras' grid against what this package offers.

    python -m benchmarks.whole_search --data FILE.npz --grids cnn mlp --records FOLDER

The grids, images and networks are those of `benchmarks.search`; folds and networks have the same
seeds for all ways. A process each:

stock         scikeras' ``KerasClassifier`` in ``GridSearchCV``
stock_2_jobs  the same with ``n_jobs=2``
grid          this package's ``GridSearchCV``: every candidate on all folds, with all epochs
ours          ``StagedSearchCV(..., search="halving", n_jobs=2)``
ours_mixed    the same with ``precision="mixed"``, bfloat16 where the CPU has it
ours_later    ``ours`` as a later search of a session, whose two processes have TensorFlow already

Regret is the score that ``grid`` has for its own winner less the one that it has for the winner of
the way, in points of accuracy on the same folds, with the same number of epochs. Scikeras' networks
have other initial weights and another augmentation, hence no regret. Seconds are those of ``fit``;
start-up is what comes before, most of it the import of TensorFlow. ``--records`` keeps each
measurement, so that a later run goes on where this one stopped.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import time
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from benchmarks._common import arguments, headline, machine, measured, noise, say, spread, write
from benchmarks.search import GRIDS, stock_search

STAGES = {"cnn": "cnn_kernels", "mlp": "mlp_training"}
WAYS = ("grid", "stock", "stock_2_jobs", "ours", "ours_mixed", "ours_later")


def our_search(stage: str, way: str, epochs: int, seed: int, cv: Any) -> Any:
    """Build the search as a user writes it."""
    from sklearn.model_selection import GridSearchCV

    from kmedclf import CNNClassifier, MLPClassifier
    from kmedclf.search import StagedSearchCV

    network, grid = GRIDS[stage]
    estimator = {"cnn": CNNClassifier, "mlp": MLPClassifier}[network](
        epochs=epochs,
        batch_size=32,
        early_stopping=False,
        precision="mixed" if way == "ours_mixed" else "float32",
        random_state=seed,
    )
    if way == "grid":
        return GridSearchCV(estimator, grid, cv=cv, refit=False)
    return StagedSearchCV(estimator, [grid], search="halving", cv=cv, n_jobs=2, refit=False)


def measure(stage: str, way: str, seed: int, data: str, epochs: int) -> dict[str, Any]:
    """Search once in this process; ``data`` is "" for synthetic images."""
    began = time.perf_counter()
    import numpy as np
    from joblib import Parallel, delayed
    from joblib.externals.loky import get_reusable_executor
    from sklearn.model_selection import StratifiedKFold

    if data:
        with np.load(data) as arrays:
            X, y = arrays["train_images"], arrays["train_labels"].ravel().astype("int64")
    else:
        X, y = noise(96)
        GRIDS["cnn_kernels"] = "cnn", {"kernel_size": [3, 5], "filters": [4, 8, 12]}
        GRIDS["mlp_training"] = "mlp", {"optimizer": ["sgd", "adam"], "batch_size": [16, 32, 64]}
    cv = StratifiedKFold(3, shuffle=True, random_state=seed)
    if way.startswith("stock"):
        X = X.astype("float32") / 255
        given = Namespace(
            stage=stage, epochs=epochs, batch_size=32, augment=True, classes=int(y.max()) + 1
        )
        search = stock_search(GRIDS[stage][0], X, given)
        search.set_params(cv=cv, n_jobs=2 if "2_jobs" in way else None)
        search.set_params(estimator__random_state=seed)
    else:
        search = our_search(stage, way, epochs, seed, cv)
    if way == "ours_later":
        Parallel(n_jobs=2)(delayed(import_and_wait)(3) for _ in range(2))
    ready, before = time.perf_counter(), sum(os.times()[:4])
    search.fit(X, y)
    done = time.perf_counter()
    get_reusable_executor().shutdown(wait=True)  # only then are workers' seconds known
    found = search.cv_results_
    # Halving has the epochs of its round among a row's parameters, and fits some rows repeatedly.
    table = {
        named(params): float(score)
        for params, score in zip(found["params"], found["mean_test_score"], strict=True)
    }
    return {
        "grid": GRIDS[stage][0],
        "way": way,
        "seed": seed,
        "start_up_s": ready - began,
        "wall_s": done - ready,
        "cpu_s": sum(os.times()[:4]) - before,
        "load": os.getloadavg()[0],
        "winner": named(search.best_params_),
        "score": float(search.best_score_),
        "table": table,
    }


def import_and_wait(seconds: float) -> None:
    """Import what a fit needs, in a worker; the other worker must not be idle meanwhile."""
    import kmedclf.base  # noqa: F401

    time.sleep(seconds)


def named(params: dict[str, Any]) -> str:
    """Write a candidate's parameters alike for all ways."""
    shown = {name.split("__")[-1]: value for name, value in params.items()}
    return ", ".join(f"{name} {shown[name]}" for name in sorted(shown) if name != "epochs")


def regret(run: dict[str, Any], runs: list[dict[str, Any]]) -> float | None:
    """Return what the winner of a way costs, in points; None if it is unknown."""
    key = run["grid"], run["seed"], "grid"
    full = [one["table"] for one in runs if (one["grid"], one["seed"], one["way"]) == key]
    if not full or run["way"].startswith("stock"):
        return None
    return 100 * (max(full[0].values()) - full[0][run["winner"]])


def table(runs: list[dict[str, Any]]) -> str:
    """Write one line for each grid and way; ratios are those of one seed."""
    lines = [
        "| grid | way | seeds | s (min–max) | CPU s | start-up s | times stock "
        "| times stock's best | regret, points | winners (CV accuracy) |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    stock: dict[tuple[str, int], dict[str, float]] = {}
    for run in runs:
        if run["way"].startswith("stock"):
            stock.setdefault((run["grid"], run["seed"]), {})[run["way"]] = run["wall_s"]
    for grid, way in dict.fromkeys((run["grid"], run["way"]) for run in runs):
        mine = [run for run in runs if (run["grid"], run["way"]) == (grid, way)]
        others = [(run["wall_s"], stock.get((grid, run["seed"]), {})) for run in mine]
        plain = [one["stock"] / taken for taken, one in others if "stock" in one]
        best = [min(one.values()) / taken for taken, one in others if one]
        costs = [one for one in (regret(run, runs) for run in mine) if one is not None]
        winners = (f"{run['winner']} ({run['score']:.3f})" for run in mine)
        cells = [
            grid,
            way,
            ", ".join(str(run["seed"]) for run in mine),
            spread([run["wall_s"] for run in mine], 1),
            f"{statistics.median(run['cpu_s'] for run in mine):.0f}",
            f"{statistics.median(run['start_up_s'] for run in mine):.1f}",
            spread(plain, 1) if plain else "–",
            spread(best, 1) if best else "–",
            ", ".join(f"{one:.2f}" for one in costs) or "–",
            "; ".join(winners),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def asked(parser: ArgumentParser) -> Namespace:
    """Read the options, with those on what is searched; a quick run is small."""
    parser.add_argument("--data", help="npz with MedMNIST's keys (default: synthetic images)")
    parser.add_argument("--grids", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--records", type=Path, help="folder that keeps what was measured")
    args = parser.parse_args()
    if args.quick:
        args.data, args.grids, args.seeds, args.epochs = None, ["mlp"], [0], 4
    return args


def main() -> None:
    """Measure what is not recorded yet, and print."""
    parser = arguments(__doc__)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    args = asked(parser)
    if args.quick:
        args.ways = ["grid", "stock", "ours"]
    facts, runs = machine(), []
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.records or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        for grid in args.grids:
            for seed in args.seeds:
                for way in args.ways:
                    file = folder / f"{grid}-{way}-{seed}.json"
                    if not file.exists():
                        given = STAGES[grid], way, seed, args.data or "", args.epochs
                        write(file, measured("benchmarks.whole_search", *given))
                        say(f"{file.stem}: {json.loads(file.read_text())['wall_s']:.1f} s")
                    runs.append(json.loads(file.read_text()))
    write(args.out, {"machine": facts, "epochs": args.epochs, "results": runs})
    images = "real images" if args.data else "synthetic images"
    print(f"Whole searches, 3 folds, {args.epochs} epochs, {images}; {headline(facts)}\n")
    print(table(runs))


if __name__ == "__main__":
    main()
