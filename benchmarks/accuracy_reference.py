"""Test accuracy of the networks as they come: defaults, official splits, several seeds.

    python -m benchmarks.accuracy_reference --data bloodmnist --seeds 0 1 2 --out reference.json

Early stopping watches the "val" split; "test" is scored once a training. The seconds of the first
seed include building the network. The JSON is written after every training, and --resume goes on
from it: only while the code is the same. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

import kmedclf
from kmedclf import runs
from kmedclf.files import written_beside

NETWORKS = ("MLPClassifier", "CNNClassifier", "ResNetClassifier")


def measure(name: str, seed: int, data: runs.Data, parameters: dict[str, Any]) -> dict[str, Any]:
    """Train and score one network with one seed."""
    estimator = getattr(kmedclf, name)(random_state=seed, **parameters)
    run = runs.fit(estimator, data)
    return {
        "network": name,
        "seed": seed,
        "parameters": parameters,
        "sha256": data.description["sha256"],
        "test_accuracy": run.reports["test"].accuracy,
        "val_accuracy": run.reports["val"].accuracy if "val" in run.reports else None,
        "epochs": len(estimator.history_["loss"]),
        "best_epoch": estimator.best_epoch_,
        "n_params": estimator.n_params_,
        "seconds": round(run.seconds, 2),
    }


def table(results: list[dict[str, Any]], data: runs.Data, machine: dict[str, Any]) -> str:
    """Write the results as Markdown, with n, spread and machine."""
    n = ", ".join(f"{number:,} {split}" for split, number in data.description["n"].items())
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    lines = [
        f"{data.description['name']} ({n}); {machine['cpu_count']} × {machine['processor']}, "
        f"device {machine['device']}; {versions}. Mean ± standard deviation (n - 1) over seeds.",
        "",
        "| network | parameters | test accuracy | epochs | seconds | seeds |",
        "|---|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(one["network"] for one in results):
        rows = [one for one in results if one["network"] == name]
        cells = [
            name,
            f"{rows[0]['n_params']:,}",
            mean_std([row["test_accuracy"] for row in rows], ".4f"),
            mean_std([row["epochs"] for row in rows], ".0f"),
            mean_std([row["seconds"] for row in rows], ".0f"),
            f"{len(rows)} ({', '.join(str(row['seed']) for row in rows)})",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def mean_std(values: list[float], form: str) -> str:
    """Write mean ± standard deviation; one value has no spread."""
    spread = f" ± {np.std(values, ddof=1):{form}}" if len(values) > 1 else ""
    return f"{np.mean(values):{form}}{spread}"


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, help="MedMNIST name or .npz file")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=NETWORKS)
    parser.add_argument("--epochs", type=int, help="instead of the default, to try the script")
    parser.add_argument("--resume", action="store_true", help="keep the trainings in --out")
    parser.add_argument("--out", type=Path, required=True, help="JSON file")
    args = parser.parse_args()
    data = runs.read_data(args.data)
    if not {"train", "test"} <= set(data.splits):
        parser.error(f"{args.data} needs a 'train' and a 'test' split.")
    parameters = {} if args.epochs is None else {"epochs": args.epochs}
    found = json.loads(args.out.read_text())["results"] if args.resume else []
    same = {"parameters": parameters, "sha256": data.description["sha256"]}
    found = [one for one in found if same.items() <= one.items()]
    machine = runs.environment()
    results = []
    for name in args.networks:
        for seed in args.seeds:
            known = [one for one in found if (one["network"], one["seed"]) == (name, seed)]
            results.append(known[0] if known else measure(name, seed, data, parameters))
            content = {"data": data.description, "machine": machine, "results": results}
            with written_beside(args.out) as beside:
                beside.write_text(json.dumps(content, indent=1) + "\n")
            print(f"{name} {seed}: {results[-1]['test_accuracy']:.4f}", flush=True)
    print("\n" + table(results, data, machine))


if __name__ == "__main__":
    main()
