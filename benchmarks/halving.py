"""Successive halving against the full grid: what it saves, and what it costs in score.

    python -m benchmarks.halving --data FILE.npz [--stage kernels] [--epochs 24] [--seeds 3]

One stage of the CNN's search space, three folds, augmented, without early stopping. The regret is
the full grid's score of its own winner less the full grid's score of halving's winner, so it is
measured on the same folds and with the same epochs for both.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def measure(X: Any, y: Any, seed: int, memory: str, args: argparse.Namespace) -> dict[str, Any]:
    """Search both ways with the networks and the folds of one seed."""
    from sklearn.model_selection import StratifiedKFold

    from kmedclf import CNNClassifier
    from kmedclf.search import SearchSpace, StagedSearchCV

    (stage,) = (one for one in SearchSpace.load("cnn").stages if one.name == args.stage)
    cnn = CNNClassifier(epochs=args.epochs, early_stopping=False, augment=True, random_state=seed)
    shared = {
        "cv": StratifiedKFold(args.folds, shuffle=True, random_state=seed),
        "n_jobs": args.jobs,
        "refit": False,
    }
    found, seconds = {}, {}
    for how in ("grid", "halving"):
        cnn.set_params(memory=f"{memory}/{how}")  # so that neither is spared the other's fits
        search = StagedSearchCV(
            cnn, [stage.grids()], search=how, factor=args.factor, verbose=1, **shared
        )
        began = time.perf_counter()
        found[how] = search.fit(X, y)
        seconds[how] = time.perf_counter() - began
    full, halving = found["grid"].cv_results_, found["halving"].cv_results_
    score = dict(zip(map(repr, full["params"]), full["mean_test_score"], strict=True))
    rungs = list(halving["n_resources"])
    longest: dict[str, int] = {}
    for params, epochs in zip(halving["params"], rungs, strict=True):
        name = repr({key: value for key, value in params.items() if key != "epochs"})
        longest[name] = max(longest.get(name, 0), epochs)
    all_epochs = args.epochs * len(full["params"])
    winners = {how: repr(found[how].best_params_) for how in found}
    return {
        "seed": seed,
        "winner": found["grid"].best_params_,
        "halving_winner": found["halving"].best_params_,
        "score": score[winners["grid"]],
        "halving_winner_score": score[winners["halving"]],
        "se": float(full["std_test_score"][found["grid"].best_index_] / args.folds**0.5),
        "regret_points": 100 * (score[winners["grid"]] - score[winners["halving"]]),
        "rungs": sorted(set(map(int, rungs))),
        "share_of_epochs": sum(map(int, longest.values())) / all_epochs,
        "share_from_the_start": sum(map(int, rungs)) / all_epochs,
        "grid_s": seconds["grid"],
        "halving_s": seconds["halving"],
        "scores": full["mean_test_score"].tolist(),
    }


def table(runs: list[dict[str, Any]]) -> str:
    """Write the runs as Markdown."""
    lines = [
        "| seed | grid's winner | CV score ± se | halving's winner | CV score in the grid "
        "| regret, points | epochs, share of the grid's (if each rung began anew) | grid s "
        "| halving s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for run in runs:
        names = [
            ", ".join(f"{name} {value}" for name, value in run[key].items())
            for key in ("winner", "halving_winner")
        ]
        lines.append(
            f"| {run['seed']} | {names[0]} | {run['score']:.4f} ± {run['se']:.4f} | {names[1]} "
            f"| {run['halving_winner_score']:.4f} | {run['regret_points']:.2f} "
            f"| {run['share_of_epochs']:.3f} ({run['share_from_the_start']:.3f}) "
            f"| {run['grid_s']:.0f} | {run['halving_s']:.0f} |"
        )
    regret = [run["regret_points"] for run in runs]
    speed = statistics.median(run["grid_s"] / run["halving_s"] for run in runs)
    lines.append(
        f"\nRegret {statistics.mean(regret):.2f} points on average, {max(regret):.2f} at most, "
        f"n = {len(runs)} seeds; {speed:.1f} times faster (median)."
    )
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="npz with MedMNIST's keys")
    parser.add_argument("--stage", default="kernels", help="stage of the CNN's search space")
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--factor", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--memory", help="folder of fits, to go on after an interruption")
    parser.add_argument("--out", help="file for the figures as JSON")
    args = parser.parse_args()
    from kmedclf import datasets

    X, y = datasets.load(args.data)
    with tempfile.TemporaryDirectory() as folder:
        runs = []
        for seed in range(args.seeds):
            runs.append(measure(X, y, seed, args.memory or folder, args))
            if args.out:
                Path(args.out).write_text(json.dumps(runs, indent=1))
    print(f"CNN, {args.stage}: {len(runs[0]['scores'])} candidates, {args.folds} folds, "
          f"{args.epochs} epochs, rungs {runs[0]['rungs']}, {len(X)} images, {os.cpu_count()} "
          f"cores, {platform.processor() or platform.machine()}\n")  # fmt: skip
    print(table(runs))


if __name__ == "__main__":
    main()
