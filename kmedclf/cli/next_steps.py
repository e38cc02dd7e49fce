"""The last lines of every command: which command to type next."""

from __future__ import annotations

import shlex

from rich.console import Console

from kmedclf.cli.console import console

NEXT: dict[str, tuple[tuple[str, str], ...]] = {
    "demo": (
        ("train cnn --data bloodmnist --out runs/cnn", "real blood cells, which are downloaded"),
        ("train cnn --data FOLDER --out runs/own", "images of your own, a folder for each class"),
    ),
    "train": (
        ("report {out}", "one page: scores, figures, every mistake"),
        ("compare {out} OTHER_DIR", "with another network on the same images"),
        ("predict {out} IMAGES --out predictions.csv", "classify new images"),
    ),
    "auto": (
        ("report {out}", "one page: scores, figures, every mistake"),
        ("predict {out} IMAGES --out predictions.csv", "classify new images"),
    ),
    "evaluate": (
        ("report {folder} --split {split} --data {data}", "one page of these scores"),
        ("compare {folder} OTHER_DIR --split {split}", "with another network on the same images"),
    ),
    "predict": (
        ("evaluate {folder} --data FOLDER", "how good that is, on images whose classes are known"),
    ),
    "datasets": (
        ("audit --data synthetic", "duplicates, leaks between splits"),
        ("train cnn --data synthetic --out runs/cnn", "train, score, write a folder"),
    ),
    "audit": (("train cnn --data {data} --out runs/cnn", "train, score, write a folder"),),
    "search": (
        ("report {out}", "one page of the search"),
        ("report {out}/best", "one page of the winner"),
        ("compare {out}/best OTHER_DIR", "with another network on the same images"),
    ),
    "report": (
        ("compare {folder} OTHER_DIR --out comparison.html", "with another network"),
        ("predict {folder} IMAGES --out predictions.csv", "classify new images"),
    ),
    "compare": (
        ("report {best}", "one page of the best of them"),
        ("predict {best} IMAGES --out predictions.csv", "classify new images with it"),
    ),
    "reproduce": (
        ("datasets", "the data sets that studies can run on"),
        ("train cnn --data synthetic --out runs/cnn", "a network of your own"),
    ),
    "export": (("predict {folder} IMAGES", "what the file must give as well"),),
    "params": (
        ("params {network} {parameter}", "all about one of them"),
        ("train {network} --data DATA --out DIR -p {parameter}={value}", "set it"),
    ),
    "doctor": (("demo", "three small networks on images that are drawn"),),
}
"""Commands that may follow a command, and what they bring; {names} are filled in."""


def say_next(command: str, to: Console = console, **names: object) -> None:
    """Print the commands that may follow ``command``, ready to be typed."""
    quoted = {name: shlex.quote(str(value)) for name, value in names.items()}
    steps = [(f"kmedclf {line.format(**quoted)}", why) for line, why in NEXT[command]]
    width = max(len(line) for line, _ in steps)
    to.print("\nNext:", markup=False)
    for line, why in steps:
        to.print(f"  {line:<{width}}  # {why}", markup=False, highlight=False, soft_wrap=True)
