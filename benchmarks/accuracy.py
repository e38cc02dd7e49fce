"""Accuracy and time of the recipes: repeated stratified cross-validation, or official splits.

    python -m benchmarks.accuracy --data cells.npz --networks MLP CNN --folds 3 --seeds 0 1 2
    python -m benchmarks.accuracy --data bloodmnist --official --precisions float32 mixed
    python -m benchmarks.accuracy --data cells.npz --networks CNN --ablate best

Cross-validation pools all images and cuts them anew for every seed; with --official, "val" is for
recipes that stop early and "test" is scored. A training without early stopping is also scored
after every epoch, to say when it first reached the mean of the reference; that scoring is not in
the seconds. --ablate adds a recipe with one ingredient at a time as in the reference. The JSON of
--out is written after every training, and --resume goes on from it. Prints Markdown.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from sklearn.model_selection import StratifiedKFold

import kmedclf
from benchmarks._common import arguments, headline, machine, say, write
from kmedclf import recipes
from kmedclf.datasets import sources
from kmedclf.evaluation import evaluate
from kmedclf.evaluation.published import published
from kmedclf.studies import subsets
from kmedclf.training.heads import head_of

NETWORKS = ("MLP", "CNN", "ResNet")
SECTIONS = {"optimizer": ("optimizer", "learning_rate", "weight_decay")}
"""Parameters that an ablation sets back together."""
KEPT = {"epochs", "batch_size", "early_stopping"}
"""The budget, which no ablation changes."""


class Clock(keras.callbacks.Callback):
    """Score a network after every epoch, outside the seconds of the training."""

    def __init__(self, X: np.ndarray, y: np.ndarray, classes: np.ndarray) -> None:
        super().__init__()
        self.X, self.head = X, head_of(y)
        self.y = self.head.encode(y, classes, "Clock")
        self.curve: list[tuple[float, float]] = []
        self.scoring = self.cpu = 0.0

    def on_train_begin(self, logs: Any = None) -> None:
        """Start the clock."""
        self._began = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Note seconds and accuracy."""
        now, cpu = time.perf_counter(), time.process_time()
        seconds = now - self._began - self.scoring
        logits = self.model.predict(self.X.astype(np.float32), batch_size=64, verbose=0)
        self.curve.append((seconds, self.head.accuracy(self.y, logits)))
        self.scoring += time.perf_counter() - now
        self.cpu += time.process_time() - cpu


def ablations(cls: type, recipe: str) -> dict[str, dict[str, Any]]:
    """Name what a recipe does otherwise than the reference, with the reference's values."""
    of, usual = (recipes.parameters(cls(recipe=one)) for one in (recipe, "reference"))
    differ = [one for one in of if of[one] != usual[one] and one not in KEPT | {"recipe"}]
    grouped = {one for group in SECTIONS.values() for one in group}
    found = {f"without {one}": {one: usual[one]} for one in differ if one not in grouped}
    for head, names in SECTIONS.items():
        if head in differ:
            found[f"without {of[head]}"] = {name: usual[name] for name in names}
    return found


def cuts(data: sources.Data, folds: int, seed: int, official: bool) -> Iterator[tuple[Any, ...]]:
    """Give training, validation and test images of every fold."""
    if official:
        yield data.splits["train"], data.splits.get("val"), data.splits["test"]
        return
    X, y = (np.concatenate(one) for one in zip(*data.splits.values(), strict=True))
    strata = head_of(y).strata(y, 1 / folds)
    cut = StratifiedKFold(folds, shuffle=True, random_state=seed).split(strata, strata)
    for train, test in cut:
        yield (X[train], y[train]), None, (X[test], y[test])


def measure(estimator: Any, train: Any, val: Any, test: Any) -> dict[str, Any]:
    """Train and score once."""
    stops = recipes.parameters(estimator)["early_stopping"]
    clock = None if stops else Clock(*test, head_of(train[1]).classes(None, train[1], "fit"))
    held = {"X_val": val[0], "y_val": val[1]} if stops and val else {}
    estimator.set_params(callbacks=[clock] if clock else None)
    began, cpu = time.perf_counter(), time.process_time()
    estimator.fit(*train, **held)
    seconds = time.perf_counter() - began - (clock.scoring if clock else 0.0)
    cpu = time.process_time() - cpu - (clock.cpu if clock else 0.0)
    scores = evaluate(estimator, *test, n_bootstrap=0).scores
    return {
        "accuracy": scores["accuracy"].value,
        "auc": scores["auc_macro"].value,
        "seconds": seconds,
        "cpu_seconds": cpu,
        "epochs": len(estimator.history_["loss"]),
        "n_params": estimator.n_params_,
        "n_train": len(train[1]),
        "n_test": len(test[1]),
        "curve": clock.curve if clock else [],
    }


def reached(rows: list[dict[str, Any]], usual: list[dict[str, Any]]) -> str:
    """Say after how many epochs and seconds trainings first had the mean accuracy of the usual."""
    if not rows[0]["curve"] or not usual:
        return "–"
    goal = np.mean([row["accuracy"] for row in usual])
    firsts = [
        next(((n, s) for n, (s, a) in enumerate(row["curve"], 1) if a >= goal), None)
        for row in rows
    ]
    hits = [one for one in firsts if one]
    if not hits:
        return f"0 of {len(rows)}"
    epochs, seconds = np.median(hits, axis=0)
    share = "" if len(hits) == len(rows) else f" ({len(hits)} of {len(rows)})"
    return f"{epochs:.0f} / {seconds:.0f} s{share}"


def table(results: list[dict[str, Any]]) -> str:
    """Write the results as Markdown: mean ± standard deviation (n - 1)."""
    lines = [
        "| network | recipe | accuracy | of seeds | AUC | epochs | seconds (median) | "
        "CPU seconds | to the reference: epochs / seconds | parameters | n |",
        f"|{'---|' * 11}",
    ]
    for network, recipe in dict.fromkeys((one["network"], one["recipe"]) for one in results):
        rows = [r for r in results if (r["network"], r["recipe"]) == (network, recipe)]
        usual = [r for r in results if (r["network"], r["recipe"]) == (network, "reference")]
        seeds = sorted({r["seed"] for r in rows})
        means = [np.mean([r["accuracy"] for r in rows if r["seed"] == seed]) for seed in seeds]
        cells = [
            network,
            recipe,
            mean_std([row["accuracy"] for row in rows]),
            mean_std(means),
            mean_std([row["auc"] for row in rows]),
            f"{np.mean([row['epochs'] for row in rows]):.0f}",
            f"{np.median([row['seconds'] for row in rows]):.1f}",
            f"{np.median([row['cpu_seconds'] for row in rows]):.1f}",
            reached(rows, usual),
            f"{rows[0]['n_params']:,}",
            f"{len(rows)} ({len(seeds)} seeds)",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def mean_std(values: list[float]) -> str:
    """Write mean ± standard deviation; one value has no spread."""
    spread = f" ± {np.std(values, ddof=1):.4f}" if len(values) > 1 else ""
    return f"{np.mean(values):.4f}{spread}"


def wanted(args: argparse.Namespace, network: str) -> dict[str, dict[str, Any]]:
    """Name the ways to train a network, with their parameters."""
    cls = getattr(kmedclf, f"{network}Classifier")
    ways = {recipe: {"recipe": recipe} for recipe in args.recipes}
    for recipe in args.ablate:
        ways |= {recipe: {"recipe": recipe}}
        for name, change in ablations(cls, recipe).items():
            ways[f"{recipe} {name}"] = {"recipe": recipe, **change}
    if args.precisions:
        both = itertools.product(ways.items(), args.precisions)
        ways = {f"{name}, {kind}": {**way, "precision": kind} for (name, way), kind in both}
    if args.epochs is not None:
        ways = {name: {**way, "epochs": args.epochs} for name, way in ways.items()}
    return ways


def resized(data: sources.Data, side: int) -> sources.Data:
    """Shrink images, grey or in colour, by averaging over areas."""

    def small(X: np.ndarray) -> np.ndarray:
        pixels = X if X.ndim == 4 else X[..., None]
        made = keras.ops.image.resize(pixels, (side, side), antialias=True)
        return np.rint(made).astype(np.uint8).reshape(len(X), side, side, *X.shape[3:])

    splits = {split: (small(X), y) for split, (X, y) in data.splits.items()}
    return subsets.resplit(data, splits, image_shape=list(splits["train"][0].shape[1:]))


def main() -> None:
    """Run the benchmark."""
    parser = arguments(__doc__)
    parser.add_argument("--data", default="synthetic", help="MedMNIST name or .npz file")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=NETWORKS)
    parser.add_argument("--recipes", nargs="*", choices=recipes.RECIPES, default=["reference"])
    parser.add_argument("--ablate", nargs="*", choices=recipes.RECIPES, default=[])
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--first", type=int, help="only so many folds of every seed")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--official", action="store_true", help="the set's own splits")
    parser.add_argument("--unique", action="store_true", help="leave out identical images")
    parser.add_argument("--side", type=int, help="shrink images to this many pixels")
    parser.add_argument("--epochs", type=int, help="instead of the recipes'")
    parser.add_argument("--precisions", nargs="+", help="instead of the recipes'")
    parser.add_argument("--resume", action="store_true", help="keep the trainings in --out")
    args = parser.parse_args()
    if args.quick:
        args.epochs, args.seeds, args.networks = 1, [0], ["MLP"]
    data = sources.read_data(args.data)
    data = subsets.without_copies(data) if args.unique else data
    data = resized(data, args.side) if args.side else data
    known = json.loads(args.out.read_text())["results"] if args.resume and args.out.exists() else []
    facts, results = machine(), []
    for network in args.networks:
        for recipe, way in wanted(args, network).items():
            for seed in args.seeds:
                of_seed = cuts(data, args.folds, seed, args.official)
                for fold, cut in enumerate(itertools.islice(of_seed, args.first)):
                    key = {"network": network, "recipe": recipe, "way": way, "seed": seed,
                           "fold": fold, "data": data.description}  # fmt: skip
                    key = json.loads(json.dumps(key))
                    found = next((one for one in known if key.items() <= one.items()), None)
                    if found is None:
                        cls = getattr(kmedclf, f"{network}Classifier")
                        found = key | measure(cls(random_state=seed, **way), *cut)
                        say(f"{network} {recipe} {seed}/{fold}: {found['accuracy']:.4f}")
                    results.append(found)
                    later = [one for one in known if one not in results]
                    write(args.out, {"machine": facts, "results": results + later})
    n = ", ".join(f"{number:,} {split}" for split, number in data.description["n"].items())
    print(f"{data.description['name']} ({n}), image shape {data.description['image_shape']}.")
    print(headline(facts) + "\n\n" + table(results))
    name = data.description["name"]
    if args.official and (rows := published(name)):
        print("\nPublished, 28 px: " + ", ".join(f"{r.model} {r.accuracy:.3f}" for r in rows))


if __name__ == "__main__":
    main()
