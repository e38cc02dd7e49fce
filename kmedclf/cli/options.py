"""Options shared by several commands."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer


def page(path: Path | None) -> Path | None:
    """Give the name of a page the suffix that browsers ask for; other commands' --out has none."""
    if path is None or path.suffix or os.path.lexists(path):
        return path
    return path.with_suffix(".html")


PageOption = Annotated[
    Path | None,
    typer.Option(
        "--out", metavar="FILE", callback=page, help="Also write an HTML page to this file."
    ),
]
DATA = typer.Option(
    "--data",
    help="The images: a folder with one folder of images for each class, or with train, val and "
    "test, each of which has such folders; an .npz file; a CSV table with the columns path and "
    "label, and perhaps split and patient; or a name that 'kmedclf datasets' lists.",
)
DataOption = Annotated[str, DATA]
SizeOption = Annotated[
    int | None,
    typer.Option(
        "--size",
        help="Size to which images are scaled, in pixels (default: 64 for folders and tables, 28 "
        "for MedMNIST; 224 with pretrained weights and in studies).",
    ),
]
GroupsOption = Annotated[
    str | None,
    typer.Option(
        "--groups",
        metavar="REGEX|CSV|COLUMN",
        help="Keeps all images of a patient, or of another group, in one split. For a folder: a "
        "regular expression that finds the patient in the path of an image, or a CSV file with the "
        "columns path (below the folder) and group. For a CSV table of images: one of its columns.",
    ),
]
RecipeOption = Annotated[
    str | None,
    typer.Option("--recipe", help="How to train: reference, fast, best or transfer."),
]
WeightsOption = Annotated[
    str | None,
    typer.Option("--weights", help="Pretrained weights to start from: 'imagenet', or a file."),
]
LearningRateOption = Annotated[
    float | None, typer.Option("--learning-rate", "--lr", help="Learning rate.")
]
QuietOption = Annotated[
    bool, typer.Option("--quiet", help="Print results only: no progress, no next commands.")
]
RunFolder = Annotated[
    Path,
    typer.Argument(metavar="DIR", help="Run folder, as 'kmedclf train' writes, or a model file."),
]


def check_alone(ctx: typer.Context, *free: str) -> None:
    """Refuse settings beside --resume, which would be ignored; those in ``free`` are none."""
    for name in ctx.params:
        source = ctx.get_parameter_source(name)
        if name not in ("resume", *free) and source is not None and source.name == "COMMANDLINE":
            spelt = {"network": "NAME", "param": "-p"}.get(name, "--" + name.replace("_", "-"))
            raise ValueError(
                f"--resume DIR uses the settings in DIR; leave out {spelt}, or start another "
                f"{ctx.info_name} with --out."
            )
