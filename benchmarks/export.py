"""What exported files compute: the largest difference from predict_proba, and size and seconds.

    python -m benchmarks.export [--networks MLPClassifier DenseNetClassifier] [--out export.json]

Each network is trained for two epochs on synthetic blood cells of 28 pixels, with its default
architecture, and exported with its mirrored views. "ensemble" is of an MLP and a CNN, "calibrated"
is that ensemble with a temperature and priors. The files are compared on cells that none was
trained on. A format whose package is missing is left out.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._common import CLASSES, arguments, headline, machine, say, write


def estimators(names: list[str], X: Any, y: Any) -> dict[str, Any]:
    """Fit the networks, an ensemble and a calibrated one."""
    import kmedclf

    options: dict[str, Any] = {"epochs": 2, "early_stopping": False, "random_state": 0}
    found = {name: getattr(kmedclf, name)(**options, tta="mirror").fit(X, y) for name in names}
    members = [
        kmedclf.MLPClassifier(**options).fit(X, y),
        kmedclf.CNNClassifier(**options, tta="dihedral").fit(X, y),
    ]
    ensemble = found["ensemble"] = kmedclf.EnsembleClassifier.from_fitted(members)
    priors = np.arange(1, CLASSES + 1) / sum(range(CLASSES + 1))
    found["calibrated"] = kmedclf.CalibratedClassifier(ensemble, priors=priors).fit(X, y)
    return found


def measure(name: str, estimator: Any, format: str, X: Any, folder: Path) -> dict[str, Any]:
    """Export one estimator in one format, and compare probabilities and labels."""
    from kmedclf.export import formats

    place = folder / f"{name}.{format}"
    began = time.perf_counter()
    estimator.export(place, format)
    seconds = time.perf_counter() - began
    outputs = formats.FORMATS[format].run(place, X)
    difference = np.abs(outputs["probabilities"] - estimator.predict_proba(X)).max()
    equal = (estimator.classes_[outputs["label"]] == estimator.predict(X)).mean()
    parts = [place] if place.is_file() else [one for one in place.rglob("*") if one.is_file()]
    size = sum(map(os.path.getsize, parts)) / 1e6
    return {"estimator": name, "format": format, "difference": float(difference),
            "equal_labels": float(equal), "mb": size, "seconds": seconds}  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__)
    networks = ["MLPClassifier", "CNNClassifier", "ResNetClassifier"]
    parser.add_argument("--networks", nargs="+", default=networks)
    parser.add_argument("--formats", nargs="+")
    parser.add_argument("--images", type=int, default=64)
    args = parser.parse_args()
    if args.quick:
        args.networks, args.formats, args.images = ["MLPClassifier"], ["keras"], 32
    from kmedclf.datasets import make_blood_cells
    from kmedclf.export import FORMATS, PACKAGES, find_spec

    facts = machine()
    X, y = make_blood_cells(2 * args.images, random_state=0)
    chosen = [one for one in args.formats or FORMATS if all(map(find_spec, PACKAGES.get(one, ())))]
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        fitted = estimators(args.networks, X[: args.images], y[: args.images] % CLASSES)
        for name, estimator in fitted.items():
            for format in chosen:
                results.append(measure(name, estimator, format, X[args.images :], Path(folder)))
                say(f"{name} {format}: {results[-1]['difference']:.1e}")
                write(args.out, {"machine": facts, "images": args.images, "results": results})
    print(f"{args.images} synthetic images, n = 1; {headline(facts)}\n")
    print("| estimator | format | largest difference | equal labels | MB | seconds |")
    print("|---|---|---|---|---|---|")
    for one in results:
        cells = [one["estimator"], one["format"], f"{one['difference']:.1e}"]
        cells += [f"{one['equal_labels']:.0%}", f"{one['mb']:.2f}", f"{one['seconds']:.0f}"]
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
