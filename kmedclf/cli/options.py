"""Options shared by several commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DataOption = Annotated[
    str,
    typer.Option(
        "--data",
        help="MedMNIST name, .npz file, 'synthetic' or another drawn set of 'kmedclf datasets', or "
        "a folder with a folder of images for each class, perhaps within train, val and test.",
    ),
]
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
        metavar="REGEX|CSV",
        help="Patients, or other groups, that stay together when a folder without splits is split. "
        "A regular expression that finds the patient in the path of an image, or a CSV file with "
        "the columns path, below the folder, and group.",
    ),
]
RunFolder = Annotated[
    Path, typer.Argument(metavar="DIR", help="Folder 'kmedclf train' wrote, or a model's file.")
]
