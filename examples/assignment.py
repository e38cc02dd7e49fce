"""What the four assignment items share: arguments, data, and how a finished network is shown."""

import argparse
from pathlib import Path
from typing import Any

from kmedclf import evaluation, runs
from kmedclf.evaluation import plots


def arguments(doc: str) -> argparse.Namespace:
    """Read the command line: which data, where to write, and whether to hurry."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument(
        "--data", default="bloodmnist", help="MedMNIST name, .npz file or 'synthetic'"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/assignment"), help="folder")
    parser.add_argument("--quick", action="store_true", help="small and short, to see it work")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    args.data = runs.read_data(args.data)
    if args.quick:
        for split, (X, y) in args.data.splits.items():
            args.data.splits[split] = X[:200], y[:200]
    return args


def train_and_show(estimator: Any, name: str, args: argparse.Namespace) -> evaluation.Report:
    """Train a network to the end, print its test accuracy, write its figures and report page."""
    run = runs.train(estimator, args.data, args.out / name, force=True)
    report = run.reports["test"]
    print(f"\n{name}: {run.estimator.n_params_:,} parameters, "
          f"best epoch {estimator.best_epoch_}, {run.seconds:.0f} s\n{report}")  # fmt: skip
    plots.history(estimator.history_, best_epoch=estimator.best_epoch_).figure.savefig(
        args.out / f"{name}-history.png"
    )
    plots.confusion_matrix(report).figure.savefig(args.out / f"{name}-confusion.png")
    plots.network(estimator).figure.savefig(args.out / f"{name}-network.png")
    page = args.out / name / "report.html"
    evaluation.write_page(page, report, X=args.data.splits["test"][0], title=name)
    print(f"Figures are in {args.out}, the report is {page}")
    return report
