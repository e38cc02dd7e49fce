"""Options shared by several commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DATA = typer.Option(
    "--data",
    help="MedMNIST name, .npz file, 'synthetic' or another drawn set of 'kmedclf datasets'; a "
    "folder with a folder of images for each class, perhaps within train, val and test; or a "
    "CSV table with the columns path and label, perhaps also split and patient.",
)
DataOption = Annotated[str, DATA]
SizeOption = Annotated[
    int | None,
    typer.Option(
        "--size",
        help="Side of the images, for MedMNIST names and folders (default: 28, folders 64, and 224 "
        "in studies).",
    ),
]
GroupsOption = Annotated[
    str | None,
    typer.Option(
        "--groups",
        metavar="REGEX|CSV|COLUMN",
        help="Patients, or other groups, that stay together when a folder without splits is split. "
        "A regular expression that finds the patient in the path of an image, or a CSV file with "
        "the columns path, below the folder, and group. For a CSV table of images: a column.",
    ),
]
RecipeOption = Annotated[
    str | None,
    typer.Option("--recipe", help="reference, fast, best or transfer; see 'kmedclf params'."),
]
WeightsOption = Annotated[
    str | None,
    typer.Option("--weights", help="Pretrained weights to start from: 'imagenet', or a file."),
]
LearningRateOption = Annotated[
    float | None, typer.Option("--learning-rate", "--lr", help="Learning rate.")
]
QuietOption = Annotated[
    bool, typer.Option("--quiet", help="Without progress, and without what to type next.")
]
RunFolder = Annotated[
    Path, typer.Argument(metavar="DIR", help="Folder 'kmedclf train' wrote, or a model's file.")
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
