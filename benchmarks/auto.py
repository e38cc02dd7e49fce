"""Accuracy of `AutoClassifier` in a given time, and whether it keeps that time.

A set with a test part is scored on it, without the images of which a copy is trained on; of
others, folds are. Every fit is in this process: the first one also loads TensorFlow's kernels.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from benchmarks._common import arguments, headline, machine, say, write
from benchmarks.portfolio import halves, read
from kmedclf import AutoClassifier
from kmedclf.evaluation import evaluate_predictions

SCORES = ("accuracy", "balanced_accuracy", "log_loss")


def measure(auto: AutoClassifier, X: Any, y: Any, X_test: Any, y_test: Any) -> dict[str, Any]:
    """Fit and score once."""
    began = time.perf_counter()
    auto.fit(X, y)
    seconds = time.perf_counter() - began
    proba = auto.predict_proba(X_test)
    nested = auto.leaderboard_[0]
    return {
        "seconds": seconds,
        "proba": proba.astype(float).tolist(),
        "y": np.asarray(y_test).tolist(),
        "nested": {name: nested[name] for name in SCORES},
        "board": auto.leaderboard_,
    }


def summary(rows: list[dict[str, Any]], classes: Any) -> list[str]:
    """Score all test images of a set together, with intervals."""
    proba = np.concatenate([np.array(one["proba"]) for one in rows])
    y = np.concatenate([np.array(one["y"]) for one in rows])
    scores = evaluate_predictions(y, proba, classes=classes).scores
    return [str(scores[name]) for name in SCORES]


def main() -> None:
    """Run the benchmark."""
    parser = arguments(__doc__)
    parser.add_argument("--data", nargs="*", default=[], help="npz files and folders of classes")
    parser.add_argument("--minutes", type=float, nargs="*", default=[1.0])
    parser.add_argument("--weights", help="file of weights for EfficientNet-Lite0")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0])
    args = parser.parse_args()
    if args.quick:
        args.data, args.minutes, args.folds = ["synthetic cells"], [0.05], 2
    facts, results = machine(), []
    print(f"{headline(facts)}\n")
    print("| set, minutes | fits | test images | accuracy | balanced accuracy | log loss "
          "| nested accuracy in training | seconds taken, mean and most |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|")
    for one in read(args.data):
        for minutes in args.minutes:
            rows = []
            for seed in args.seeds:
                for parts in halves(one, args.folds, seed):
                    auto = AutoClassifier(60 * minutes, weights=args.weights, random_state=seed)
                    rows.append(measure(auto, *parts))
                    taken = rows[-1]["seconds"]
                    right = np.mean(
                        auto.classes_[np.argmax(rows[-1]["proba"], axis=1)] == rows[-1]["y"]
                    )
                    say(f"{one.name}, {minutes:g} min: {right:.3f} in {taken:.1f} s")
                    results.append({"set": one.name, "minutes": minutes, "seed": seed, **rows[-1]})
                    write(args.out, {"machine": facts, "results": results})
            seconds = [row["seconds"] for row in rows]
            nested = np.mean([row["nested"]["accuracy"] for row in rows])
            cells = [f"{one.name}, {minutes:g}", str(len(rows)),
                     str(sum(len(row["y"]) for row in rows)), *summary(rows, np.unique(one.y)),
                     f"{nested:.3f}", f"{np.mean(seconds):.1f}, {max(seconds):.1f}"]  # fmt: skip
            print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
