"""Learn the portfolio of `AutoClassifier`: what to try in which order.

Every candidate is scored out of fold on every set. The fastest comes first; after it, whichever
lowers the log loss of the greedy mixture most for the CPU seconds it takes, on average over the
sets. The file is written anew after every candidate.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml
from sklearn.model_selection import StratifiedKFold

from benchmarks._common import arguments, headline, machine, say, write
from kmedclf import datasets
from kmedclf.auto.material import Material, grouped
from kmedclf.auto.portfolio import DEFAULT, Entry
from kmedclf.auto.trials import Clock, OutOfTime, Trial
from kmedclf.datasets.folders import load_folder
from kmedclf.ensemble import greedy_weights, likelihoods, log_losses

DRAWN = {
    "synthetic cells": lambda: datasets.make_blood_cells(400, random_state=0),
    "synthetic brains": lambda: datasets.make_brain_slices(300, 64, random_state=0),
}


class Set(NamedTuple):
    """A set of images: what to train on, and, if it has one, what to test on."""

    name: str
    X: Any
    y: np.ndarray
    X_test: Any = None
    y_test: np.ndarray | None = None


def read(paths: list[str]) -> list[Set]:
    """Read npz files in MedMNIST's form, folders of classes, and names in `DRAWN`."""
    return [_read(path) for path in paths]


def _read(path: str) -> Set:
    if path in DRAWN:
        return Set(path, *DRAWN[path]())
    place = Path(path)
    if place.is_dir():
        files = load_folder(place)
        return Set(place.name, np.array(files.paths), np.array(files.y))
    with np.load(place) as content:
        parts = [
            (content[f"{split}_images"], content[f"{split}_labels"].reshape(-1).astype(int))
            for split in ("train", "val", "test")
        ]
    X, y = (np.concatenate([parts[0][i], parts[1][i]]) for i in (0, 1))
    return Set(place.stem, X, y, *parts[2])


def halves(one: Set, folds: int, seed: int) -> Iterator[tuple[Any, Any, Any, Any]]:
    """Yield X, y, X_test, y_test: the set's own test, or folds of a set without.

    Copies of a picture, which some sets have on both sides, are left out of a set's own test.
    """
    if one.X_test is not None:
        new = _unseen(one)
        yield one.X, one.y, one.X_test[new], one.y_test[new]  # type: ignore[index]
        return
    for train, test in StratifiedKFold(folds, shuffle=True, random_state=seed).split(one.y, one.y):
        yield one.X[train], one.y[train], one.X[test], one.y[test]


def _unseen(one: Set) -> np.ndarray:
    """Return the positions of test images of which no copy or near copy is trained on."""
    both = np.concatenate([one.X, one.X_test])
    group = grouped(both, None, np.inf, "benchmark", lambda words: None)
    if group is None:
        return np.arange(len(one.X_test))
    n = len(one.X)
    return np.flatnonzero(~np.isin(group[n:], group[:n]))


PROBE = {"estimator": "EfficientNetProbe", "needs": ["weights", "images"]}
PHOTO = {"augment": ["mirror", "shift"]}
NETWORKS = (("cnn", "CNNClassifier"), ("resnet", "ResNetClassifier"))
CANDIDATES: list[dict[str, Any]] = [
    {"name": "pixels", "estimator": "PixelClassifier"},
    {"name": "mlp fast", "estimator": "MLPClassifier", "parameters": {"recipe": "fast"}},
    {"name": "probe 128 quick", **PROBE, "parameters": {"side": 128, "views": "one"}},
    {"name": "probe 128", **PROBE, "parameters": {"side": 128}},
    {"name": "probe 224", **PROBE, "parameters": {"side": 224}},
    *(
        {"name": f"{short} fast", "estimator": cls, "needs": ["images"],
         "parameters": {"recipe": "fast"}}
        for short, cls in NETWORKS
    ),
    *(
        {"name": f"{short} upright", "estimator": cls, "needs": ["images"],
         "parameters": {"recipe": "fast", **PHOTO}}
        for short, cls in NETWORKS
    ),
    {"name": "probe 288", **PROBE, "parameters": {"side": 288}},
    *(
        {"name": f"{short} best", "estimator": cls, "needs": ["images"],
         "parameters": {"recipe": "best"}}
        for short, cls in NETWORKS
    ),
    *(
        {"name": f"tuned {side}", "estimator": "ResizedEfficientNet",
         "needs": ["weights", "images", "few"],
         "parameters": {"side": side, "recipe": "transfer"}}
        for side in (128, 224)
    ),
]  # fmt: skip
"""All candidates; the file holds those that some set gains by."""


def measured(given: dict[str, Any], one: Set, args: Any) -> dict[str, Any] | None:
    """Score a candidate on a set; None if it does not get done in time."""
    group = grouped(one.X, None, np.inf, "portfolio", lambda words: None)
    files = one.X.dtype.kind in "US"
    shape = None if files else (*one.X.shape[1:], 1)[:3]
    material = Material(
        one.X,
        one.y,
        None,
        group,
        files,
        shape,
        args.seed,
        np.unique(one.y),
        np.inf,
        np.arange(len(one.y)),
    )
    clock = Clock(60 * args.minutes)
    shared = {"random_state": args.seed, "variant": "lite0", "weights": args.weights}
    entry = Entry(given["name"], given["estimator"], given.get("parameters", {}))
    trial = Trial.of(entry, material, clock, shared, None)
    began = time.process_time()
    try:
        trial.run()
        if not trial.whole:
            trial.run()
    except (OutOfTime, ValueError) as error:
        say(f"{one.name}, {given['name']}: {error}")
        return None
    seconds = time.process_time() - began
    rows = material.scored
    chosen = likelihoods([trial.oof], material.true[rows])[0]  # type: ignore[list-item]
    right = float(np.mean(trial.oof.argmax(axis=1) == material.true[rows]))  # type: ignore
    loss = float(log_losses(chosen[None], None)[0])
    say(f"{one.name}, {given['name']}: {loss:.3f}, {right:.3f} in {seconds:.1f} CPU s")
    return {
        "likelihood": chosen,
        "log_loss": loss,
        "accuracy": right,
        "seconds": seconds,
        "compile": getattr(trial, "compile_seconds", 0.0),
    }


def ordered(found: dict[str, dict[str, dict[str, Any]]]) -> list[str]:
    """Order candidates greedily: the gain in log loss of a second, on average over sets."""

    def loss(names: list[str], one: str) -> float:
        rows = [found[name][one]["likelihood"] for name in names if one in found[name]]
        shares = greedy_weights(np.stack(rows))
        return float(log_losses((shares @ np.stack(rows))[None], None)[0])

    def seconds(name: str) -> float:
        return float(np.mean([one["seconds"] for one in found[name].values()]))

    sets = sorted({one for rows in found.values() for one in rows})
    chosen = [min((n for n in found if len(found[n]) == len(sets)), key=seconds)]
    while True:
        rest = [name for name in found if name not in chosen and found[name]]
        gains = {
            name: float(np.mean([loss(chosen, one) - loss([*chosen, name], one) for one in sets]))
            for name in rest
        }
        useful = [name for name in rest if gains[name] > 1e-3]
        if not useful:
            return chosen
        chosen.append(max(useful, key=lambda name: gains[name] / seconds(name)))


def main() -> None:
    """Measure, order, and write the portfolio."""
    parser = arguments(__doc__)
    parser.add_argument("--data", nargs="*", default=list(DRAWN), help="sets to measure on")
    parser.add_argument("--most", type=int, default=600, help="images of a set, at most")
    parser.add_argument("--minutes", type=float, default=10, help="time of a candidate, at most")
    parser.add_argument("--weights", help="file of weights for EfficientNet-Lite0")
    parser.add_argument("--only", nargs="*", help="names of candidates to measure (default: all)")
    parser.add_argument(
        "--keep", nargs="*", default=[], help="candidates to end with, for more images than here"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--portfolio", type=Path, help=f"file to write, such as {DEFAULT.name}")
    args = parser.parse_args()
    candidates = [
        one for one in CANDIDATES if args.weights or "weights" not in one.get("needs", ())
    ]
    if args.quick:
        args.data, args.most = ["synthetic cells"], 60
        candidates = [one for one in candidates if one["name"] in ("pixels", "mlp fast")]
    if args.only:
        candidates = [one for one in candidates if one["name"] in args.only]
    facts, sets = machine(), [_few(one, args) for one in read(args.data)]
    found: dict[str, dict[str, dict[str, Any]]] = {one["name"]: {} for one in candidates}
    for given in candidates:
        for one in sets:
            row = measured(given, one, args)
            if row is not None:
                found[given["name"]][one.name] = row
        names, numbers = ordered(found), _plain(found)
        # Those without weights have an order of their own, of which the first is a part.
        free = [one["name"] for one in candidates if "weights" not in one.get("needs", ())]
        names += [one for one in ordered({one: found[one] for one in free}) if one not in names]
        names += [one for one in args.keep if one in found and one not in names]
        write(args.out, {"machine": facts, "order": names, "measured": numbers})
        if args.portfolio:
            _write(args.portfolio, names, candidates, numbers, facts, sets)
    print(f"{headline(facts)}\n\n| candidate | {' | '.join(one.name for one in sets)} |")
    print(f"|---|{'---|' * len(sets)}")
    for name in names:
        cells = [
            "{log_loss:.3f}, {accuracy:.3f}, {seconds:.0f} s".format(**numbers[name][one.name])
            if one.name in numbers[name] else "–" for one in sets
        ]  # fmt: skip
        print(f"| {name} | {' | '.join(cells)} |")


def _few(one: Set, args: Any) -> Set:
    """Draw at most ``args.most`` training images of a set."""
    drawn = np.random.default_rng(args.seed).permutation(len(one.y))[: args.most]
    return one._replace(X=one.X[np.sort(drawn)], y=one.y[np.sort(drawn)])


def _plain(found: dict[str, dict[str, dict[str, Any]]]) -> dict[str, dict[str, dict[str, float]]]:
    """Round what was measured, and leave the arrays out."""
    kept = ("log_loss", "accuracy", "seconds", "compile")
    return {
        name: {one: {key: round(float(row[key]), 3) for key in kept} for one, row in rows.items()}
        for name, rows in found.items()
    }


def _write(
    path: Path, names: list[str], candidates: list[Any], numbers: Any, facts: Any, sets: Any
) -> None:
    given = {one["name"]: one for one in candidates}
    listed = []
    for name in names:
        rows = numbers[name]
        measured = {
            one: {key: row[key] for key in ("log_loss", "accuracy", "seconds")}
            for one, row in rows.items()
        }
        seconds = min((row["compile"] for row in rows.values()), default=0.0)
        entry = copy.deepcopy(given[name])  # YAML would write lists that are shared as anchors
        listed.append({**entry, "seconds": round(seconds, 1), "measured": measured})
    content = {"candidates": listed}
    sizes = ", ".join(f"{one.name} ({len(one.y)} images)" for one in sets)
    head = (
        "# Written by benchmarks/portfolio.py: candidates in the order in which they are tried.\n"
        f"# Measured, out of fold, on {sizes}.\n# {headline(facts)}\n"
    )
    path.write_text(head + yaml.safe_dump(content, sort_keys=False, default_flow_style=None))


if __name__ == "__main__":
    main()
