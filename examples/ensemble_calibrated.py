"""Views, an ensemble of folds, and calibration: what each of them does to the same test images
============================================================================================

::

    python examples/ensemble_calibrated.py --quick            # synthetic cells, a few epochs
    python examples/ensemble_calibrated.py --data bloodmnist  # real ones, trained to the end

A convolutional network is trained once, then in five folds, beside a plain one. The folds choose
how much each of both counts, by images that their models have not seen. Validation images choose
the temperature; test images are only scored. The ensemble is written to one file, for
``kmedclf predict``, ``evaluate`` and ``report``.
"""

import argparse
from pathlib import Path

from kmedclf import CalibratedClassifier, CNNClassifier, EnsembleClassifier, MLPClassifier
from kmedclf.datasets import info, load, make_blood_cells
from kmedclf.evaluation import Report, evaluate

SYNTHETIC = {"train": (900, 0), "val": (200, 1), "test": (400, 2)}


def read(source: str, split: str, quick: bool) -> tuple:
    """Read the images and labels of a split."""
    if source != "synthetic":
        return load(source, split)
    n_samples, seed = SYNTHETIC[split]
    return make_blood_cells(n_samples // (6 if quick else 1), random_state=seed)


def show(name: str, report: Report) -> None:
    """Print accuracy, log loss and calibration error, each with its interval."""
    scores = [str(report.scores[one]) for one in ("accuracy", "log_loss", "ece")]
    print(f"{name:<32}" + "".join(f"{score:<24}" for score in scores))


def main() -> None:
    """Train, choose, score, save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", default="synthetic", help="MedMNIST name, .npz file or 'synthetic'"
    )
    parser.add_argument("--out", default="ensemble.kmedclf", help="file to write")
    parser.add_argument("--quick", action="store_true", help="few epochs, two folds")
    parser.add_argument("--memory", help="folder in which finished fits are remembered")
    parser.add_argument("--jobs", type=int, default=None, help="fits at the same time")
    args = parser.parse_args()

    (X, y), (X_val, y_val), (X_test, y_test) = (
        read(args.data, split, args.quick) for split in ("train", "val", "test")
    )
    names = None if args.data == "synthetic" else info(args.data).class_names
    names = names if names and len(names) == len(set(y.tolist())) else None
    epochs = {"epochs": 3, "early_stopping": False} if args.quick else {}
    shared = {"random_state": 0, "memory": args.memory, **epochs}
    cnn = CNNClassifier(filters=16, **shared)
    mlp = MLPClassifier(units=64, **shared)

    print(f"\n{len(y_test)} test images{'':<18}{'accuracy':<24}{'log loss':<24}calibration error")

    def score(name: str, model: object) -> Report:
        report = evaluate(model, X_test, y_test, class_names=names)
        show(name, report)
        return report

    one = cnn.fit(X, y)  # early stopping splits off rows of its own
    score("one network", one)
    score("its 8 views", one.set_params(tta="dihedral"))
    score("its 8 views, calibrated", CalibratedClassifier(one).fit(X_val, y_val))

    folds = EnsembleClassifier(
        [("cnn", cnn), ("mlp", mlp)],
        cv=2 if args.quick else 5,
        weights="greedy",
        n_jobs=args.jobs,
    ).fit(X, y)  # of copies of both, which have the views, too
    score("ensemble of folds, 8 views each", folds)
    final = CalibratedClassifier(folds).fit(X_val, y_val)
    score("the ensemble, calibrated", final)

    losses = folds.oof_log_loss_.items()
    print("\nLog loss out of fold: " + ", ".join(f"{name} {loss:.3f}" for name, loss in losses))
    members = zip(folds.names_, folds.weights_, strict=True)
    print("Weights: " + ", ".join(f"{name} {weight:.2f}" for name, weight in members))
    print(f"Temperature of the ensemble: {final.temperature_:.2f}")
    final.save(args.out)
    print(f"{Path(args.out)}: kmedclf predict {args.out} IMAGES")


if __name__ == "__main__":
    main()
