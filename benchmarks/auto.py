"""Accuracy of `AutoClassifier` in a given time, and whether it keeps that time.

    python -m benchmarks.auto --data FILE.npz FOLDER --minutes 1 5 [--weights FILE]
        [--peers fastai=/env/bin/python autokeras=...] [--out auto.json]

A set with a test part is scored on it, without the images of which a copy is trained on; of
others, folds are. Every fit is in this process: the first one also loads TensorFlow's kernels.
Other libraries get the same images and the same time, see `benchmarks.auto_peers`.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._common import ROOT, arguments, headline, machine, say, write
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


def measure_peer(
    peer: str, minutes: float, seed: int, classes: Any, X: Any, y: Any, X_test: Any, y_test: Any
) -> dict[str, Any]:
    """Let another library fit and predict, in a process of its own; ``peer`` is NAME=PYTHON."""
    name, _, python = peer.partition("=")
    with tempfile.TemporaryDirectory() as folder:
        split, out = Path(folder, "split.npz"), Path(folder, "answer.json")
        np.savez(split, X=X, y=np.searchsorted(classes, y), X_test=X_test)
        command = [
            python, "-m", "benchmarks.auto_peers", name, "--split", str(split), "--out", str(out),
            "--minutes", str(minutes), "--seed", str(seed),
        ]  # fmt: skip
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, check=False,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"{name} failed: {done.stderr[-3000:]}")
        return {**json.loads(out.read_text()), "y": np.asarray(y_test).tolist()}


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
    parser.add_argument("--peers", nargs="*", default=[], metavar="NAME=PYTHON")
    args = parser.parse_args()
    if args.quick:
        args.data, args.minutes, args.folds = ["synthetic cells"], [0.05], 2
    facts, results = machine(), []
    print(f"{headline(facts)}\n")
    print("| set, minutes | way | fits | test images | accuracy | balanced accuracy | log loss "
          "| nested accuracy in training | seconds taken, mean and most |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|---|")
    ours = "AutoClassifier" + (", weights" if args.weights else "")
    ways = [ours, *args.peers]
    for one in read(args.data):
        classes = np.unique(one.y)
        for minutes, way in itertools.product(args.minutes, ways):
            name, rows = way.partition("=")[0], []
            for seed in args.seeds:
                for parts in halves(one, args.folds, seed):
                    if way == ours:
                        auto = AutoClassifier(60 * minutes, weights=args.weights, random_state=seed)
                        rows.append(measure(auto, *parts))
                    else:
                        rows.append(measure_peer(way, minutes, seed, classes, *parts))
                    right = np.mean(classes[np.argmax(rows[-1]["proba"], axis=1)] == rows[-1]["y"])
                    taken = f"{right:.3f} in {rows[-1]['seconds']:.1f} s"
                    say(f"{one.name}, {minutes:g} min, {name}: {taken}")
                    known = {"set": one.name, "minutes": minutes, "way": name, "seed": seed}
                    results.append({**known, **rows[-1]})
                    write(args.out, {"machine": facts, "results": results})
            seconds = [row["seconds"] for row in rows]
            nested = [row["nested"]["accuracy"] for row in rows if "nested" in row]
            cells = [f"{one.name}, {minutes:g}", name, str(len(rows)),
                     str(sum(len(row["y"]) for row in rows)), *summary(rows, classes),
                     f"{np.mean(nested):.3f}" if nested else "",
                     f"{np.mean(seconds):.1f}, {max(seconds):.1f}"]  # fmt: skip
            print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
