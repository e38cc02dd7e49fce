"""When may a search discard a candidate? Halving and races, played on complete learning curves.

    python -m benchmarks.discarding --data FILE.npz [--seeds 0 1 2] [--records FOLDER]

Every candidate of the grids of `benchmarks.search` is trained on all folds with all epochs, and
scored on the fold's test images after each epoch. That says what a way of discarding would have
kept, as a training with fewer epochs is the beginning of a longer one: its regret in points of
accuracy, and its share of the grid's epochs. Ways:

halving N  1 / N of the candidates go on to N times the epochs, as `StagedSearchCV` does it
race A     those go on, after 1, 2, 4 and 7 epochs, that are not worse than the best by Fisher's
           least significant difference at level A: folds are blocks, and the variance is that of
           all candidates together
paired A   the same by a one-sided t-test of each candidate against the best, over the folds

References
----------
O. Maron, A. Moore, "Hoeffding races", NIPS 1994. M. López-Ibáñez et al., "The irace package",
Operations Research Perspectives 3, 2016.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from benchmarks._common import arguments, headline, machine, noise, say, write
from benchmarks.search import GRIDS
from benchmarks.whole_search import STAGES, asked

FACTORS, LEVELS = (2, 3, 4), (0.05, 0.1, 0.2)
LOOKS = (1, 2, 4, 7)
"""Epochs after which a race discards."""


def curves(grid: str, seed: int, args: Any) -> list[Any]:
    """Train all candidates; accuracies by candidate, fold and epoch."""
    from sklearn.model_selection import ParameterGrid, StratifiedKFold

    from kmedclf import CNNClassifier, MLPClassifier

    X, y = noise(96)
    if args.data:
        with np.load(args.data) as arrays:
            X, y = arrays["train_images"], arrays["train_labels"].ravel().astype("int64")
    network, space = GRIDS[STAGES[grid]]
    cls = {"cnn": CNNClassifier, "mlp": MLPClassifier}[network]
    splits = list(StratifiedKFold(3, shuffle=True, random_state=seed).split(X, y))

    def one(params: dict[str, Any]) -> list[Any]:
        given = {"epochs": args.epochs, "early_stopping": False, "random_state": seed}
        networks = [cls(**given, **params) for _ in splits]
        for fitted, (train, test) in zip(networks, splits, strict=True):
            fitted.fit(X[train], y[train], X_val=X[test], y_val=y[test])
        return [fitted.history_["val_accuracy"] for fitted in networks]

    candidates = list(ParameterGrid(space))[: 6 if args.quick else None]
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(one, candidates))


def halving(accuracy: np.ndarray, factor: int) -> tuple[int, int]:
    """Return the winner, and the epochs that were trained."""
    from kmedclf.search.staged import rungs

    n, _, most = accuracy.shape
    alive, done = np.arange(n), np.zeros(n, int)
    for epochs in rungs(n, most, factor):
        done[alive] = epochs
        mean = accuracy[alive, :, epochs - 1].mean(axis=1)
        if epochs < most:
            alive = np.sort(alive[np.argsort(-mean, kind="stable")[: -(-len(alive) // factor)]])
    return int(alive[mean.argmax()]), int(done.sum())


def race(accuracy: np.ndarray, level: float, *, paired: bool) -> tuple[int, int]:
    """Return the winner, and the epochs that were trained."""
    n, _, most = accuracy.shape
    alive, done = np.arange(n), np.zeros(n, int)
    for epochs in [*(one for one in LOOKS if one < most), most]:
        if len(alive) == 1:
            break
        done[alive] = epochs
        scores = accuracy[alive, :, epochs - 1]
        if epochs < most:
            alive = alive[not_worse(scores, level, paired=paired)]
    last = accuracy[alive, :, done[alive[0]] - 1].mean(axis=1)
    return int(alive[last.argmax()]), int(done.sum())


def not_worse(scores: np.ndarray, level: float, *, paired: bool) -> np.ndarray:
    """Return which candidates are not clearly worse than the best, by scores (candidate, fold)."""
    from scipy.stats import t

    n, folds = scores.shape
    mean = scores.mean(axis=1)
    best = mean.argmax()
    if paired:
        differences = scores[best] - scores
        error = differences.std(axis=1, ddof=1) / folds**0.5
        freedom = folds - 1
    else:
        rest = scores - mean[:, None] - scores.mean(axis=0) + scores.mean()
        freedom = (n - 1) * (folds - 1)
        error = (2 * (rest**2).sum() / freedom / folds) ** 0.5
    return mean[best] - mean <= t.ppf(1 - level, freedom) * error + 1e-12


def table(results: dict[str, dict[int, Any]]) -> str:
    """Write one line for each grid and way."""
    ways: dict[str, Any] = {f"halving {one}": (halving, one, {}) for one in FACTORS}
    for name, paired in (("race", False), ("paired", True)):
        ways |= {f"{name} {one}": (race, one, {"paired": paired}) for one in LEVELS}
    lines = [
        "| grid | way | regret of each seed, points | mean | share of the epochs |",
        "|---|---|---|---|---|",
    ]
    for grid, found in results.items():
        for name, (way, setting, options) in ways.items():
            costs, shares = [], []
            for one in found.values():
                accuracy = np.array(one)
                winner, epochs = way(accuracy, setting, **options)
                full = accuracy[:, :, -1].mean(axis=1)
                costs.append(100 * (full.max() - full[winner]))
                shares.append(epochs / (accuracy.shape[0] * accuracy.shape[2]))
            shown = ", ".join(f"{cost:.2f}" for cost in costs)
            mean = f"{np.mean(costs):.2f} | {np.mean(shares):.3f}"
            lines.append(f"| {grid} | {name} | {shown} | {mean} |")
    return "\n".join(lines)


def main() -> None:
    """Train what is not recorded yet, play, and print."""
    args = asked(arguments(__doc__))
    facts = machine()
    results: dict[str, dict[int, Any]] = {}
    for grid in args.grids:
        for seed in args.seeds:
            file = args.records and args.records / f"curves-{grid}-{seed}.json"
            if file and file.exists():
                found = json.loads(file.read_text())
            else:
                found = curves(grid, seed, args)
                write(file, found)
                say(f"{grid}, seed {seed} done")
            results.setdefault(grid, {})[seed] = found
    write(args.out, {"machine": facts, "epochs": args.epochs, "results": results})
    images = "real images" if args.data else "synthetic images"
    print(f"Ways to discard, 3 folds, {args.epochs} epochs, {images}; {headline(facts)}\n")
    print(table(results))


if __name__ == "__main__":
    main()
