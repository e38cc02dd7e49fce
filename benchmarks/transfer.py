"""Pretrained features and fine-tuning on few images: accuracy over folds, CPU seconds, speed.

    python -m benchmarks.transfer --data scans/ --weights efficientnet_lite0.safetensors

--data is a folder of images with a folder for each class, --weights a file for
``EfficientNetClassifier(variant="lite0")``. Every way is scored on the same stratified folds:
"linear" is a logistic regression on `ImageFeatures`, standardised, in a pipeline that computes
the features of each fold anew; "transfer" is the classifier with that recipe, "head" trains its
last layer alone, on features that are computed once, and "head, every epoch" as this package did
before, on images that are augmented anew in each of 12 epochs. CPU seconds of a fit
and of a fold, with predict, include reading files. Speed is of images in memory, in seconds and CPU
seconds, medians of --repeats calls after one that is not timed. --quick needs neither data nor
weights. --torch-python adds PyTorch, in alternation. Prints Markdown.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks._common import (
    Contestant,
    arguments,
    headline,
    machine,
    noise,
    ratio,
    say,
    spread,
    write,
)
from kmedclf import EfficientNetClassifier, ImageFeatures
from kmedclf.datasets import load_folder, make_blood_cells

CPU = ("fit_cpu_seconds", "cpu_seconds")
SIDES = (128, 224)
BATCH = 32  # of PyTorch; this package's depends on the side


def ways(weights: Path, seed: int, small: dict[str, Any]) -> dict[str, Any]:
    """Name the ways to classify, with their estimators."""
    network = EfficientNetClassifier(variant="lite0", **small)
    features = ImageFeatures(network, weights=weights, image_size=32 if small else None)
    linear = make_pipeline(features, StandardScaler(), LogisticRegression(max_iter=1000))
    tuned = EfficientNetClassifier(
        variant="lite0", weights=weights, recipe="transfer", random_state=seed, **small
    )
    head = clone(tuned).set_params(trainable="head")
    every = clone(head).set_params(augment=("mirror", "shift"), epochs=12)
    return {"linear": linear, "transfer": tuned, "head": head, "head, every epoch": every}


def measure(model: Any, X: Any, y: np.ndarray, train: Any, test: Any) -> dict[str, float]:
    """Fit and score on one fold."""
    began, cpu = time.perf_counter(), time.process_time()
    model.fit(X[train], y[train])
    seconds, fitted = time.perf_counter() - began, time.process_time()
    right = model.predict(X[test]) == y[test]
    return {
        "accuracy": float(np.mean(right)),
        "seconds": seconds,
        "fit_cpu_seconds": fitted - cpu,
        "cpu_seconds": time.process_time() - cpu,
    }


def speed(
    weights: Path, side: int, args: Any, small: dict[str, Any], torch: Contestant | None
) -> dict[str, Any]:
    """Return images per second and per CPU second of computing features, in alternation."""
    X, _ = noise(args.images, side)
    network = EfficientNetClassifier(variant="lite0", **small)
    features = ImageFeatures(network, weights=weights, image_size=side).fit(X)
    first = features.transform(X[:64])[0, :8]
    request = {"do": "features", "images": args.images, "side": side, "batch": BATCH}
    found: dict[str, Any] = {"ours": [], "torch": []}
    if torch:
        theirs = torch.ask(request).get("first", first)
        np.testing.assert_allclose(theirs, first, atol=1e-3)  # the same network
    for _ in range(args.repeats):
        began, cpu = time.perf_counter(), time.process_time()
        features.transform(X)
        ours = time.perf_counter() - began, time.process_time() - cpu
        found["ours"].append([args.images / one for one in ours])
        if torch and (answer := torch.ask(request)):
            times = answer["seconds"], answer["cpu_seconds"]
            found["torch"].append([args.images / one for one in times])
    return found


def table(results: list[dict[str, Any]]) -> str:
    """Write the accuracy of every way: mean ± standard deviation (n - 1) over folds."""
    lines = [
        "| way | accuracy | CPU seconds a fit | with predict | folds |",
        "|---|---|---|---|---|",
    ]
    for way in dict.fromkeys(one["way"] for one in results):
        rows = [one for one in results if one["way"] == way]
        accuracy = [one["accuracy"] for one in rows]
        sd = f" ± {np.std(accuracy, ddof=1):.3f}" if len(rows) > 1 else ""
        fit, both = (spread([one[name] for one in rows], 1) for name in CPU)
        lines.append(f"| {way} | {np.mean(accuracy):.3f}{sd} | {fit} | {both} | {len(rows)} |")
    return "\n".join(lines)


def main() -> None:
    """Run the benchmark."""
    parser = arguments(__doc__)
    parser.add_argument("--data", help="folder of images with a folder for each class")
    parser.add_argument("--weights", type=Path, help="file of weights for Lite0")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ways", nargs="*", default=["linear", "transfer", "head"])
    parser.add_argument("--sides", type=int, nargs="*", default=SIDES)
    parser.add_argument("--torch-python", metavar="PATH", help="a Python with torch, safetensors")
    parser.add_argument("--images", type=int, default=256, help="to measure speed with")
    args = parser.parse_args()
    small: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        if args.quick:
            small = {"width": 0.1, "depth": 0.1}
            X, y = make_blood_cells(60, 16, random_state=0)
            args.folds, args.images, args.repeats = 2, 16, 1
            args.weights = Path(folder) / "lite0.kmedclf"
            made = EfficientNetClassifier(variant="lite0", **small, epochs=1, early_stopping=False)
            made.fit(X, y).save(args.weights)
        elif not (args.data and args.weights):
            parser.error("--data and --weights must be given, or --quick")
        else:
            scans = load_folder(args.data)
            X, y = np.array(scans.paths), np.array(scans.y)
        run(args, X, y, small)


def run(args: Any, X: Any, y: np.ndarray, small: dict[str, Any]) -> None:
    """Measure, write and print everything."""
    facts, results = machine(), []
    folds = StratifiedKFold(args.folds, shuffle=True, random_state=args.seed)
    for number, (train, test) in enumerate(folds.split(X, y)):
        for way in args.ways:
            model = ways(args.weights, args.seed, small)[way]
            found = {"way": way, "fold": number, **measure(model, X, y, train, test)}
            results.append(found)
            say(f"{way} {number}: {found['accuracy']:.3f} in {found['cpu_seconds']:.1f} CPU s")
            write(args.out, {"machine": facts, "n": len(y), "results": results})
    torch = _torch(args) if args.torch_python else None
    speeds = {side: speed(args.weights, side, args, small, torch) for side in args.sides}
    if torch:
        torch.close()
    whole = {"machine": facts, "n": len(y), "results": results, "images_a_second": speeds}
    write(args.out, whole)
    print(f"{len(y):,} images; {headline(facts)}\n\n{table(results)}\n")
    print(f"Features of {args.images} synthetic images, n = {args.repeats} calls:\n")
    print("| pixels, way | images a second | images a CPU second | times PyTorch, by CPU |")
    print("|---|---|---|---|")
    for side, ways_ in speeds.items():
        for way, rows in ((way, rows) for way, rows in ways_.items() if rows):
            wall, cpu = zip(*rows, strict=True)
            theirs = [one[1] for one in ways_["torch"]]
            times = f"{ratio(cpu, theirs):.2f}" if theirs and way == "ours" else ""
            print(f"| {side}, {way} | {spread(wall)} | {spread(cpu)} | {times} |")


def _torch(args: Any) -> Contestant:
    """Start PyTorch and give it the weights."""
    torch = Contestant("torch", [args.torch_python, "-m", "benchmarks.features_torch"])
    torch.ask()
    torch.ask({"do": "load", "weights": str(args.weights.absolute())})
    return torch


if __name__ == "__main__":
    main()
