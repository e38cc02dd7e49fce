"""The command audit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kmedclf.cli.console import console
from kmedclf.cli.training import DataOption, SizeOption


def audit(
    data: DataOption,
    out: Annotated[Path | None, typer.Option(help="HTML file to write as well.")] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 1 upon a leak or contradicting labels.")
    ] = False,
    near: Annotated[
        bool, typer.Option("--near/--exact", help="Also nearly identical images, or not.")
    ] = True,
    size: SizeOption = 28,
) -> None:
    """Look for duplicates, leaks between splits and contradicting labels in a data set."""
    import numpy as np

    from kmedclf import datasets, runs

    content = runs.read_data(data, size)
    images, labels = zip(*content.splits.values(), strict=True)
    X = [image for split in images for image in split]  # splits may differ in shape
    y = np.concatenate(labels)
    names = content.class_names if y.ndim == 2 else content.names_of(np.unique(y).tolist())
    splits = np.repeat(list(content.splits), [len(split) for split in labels])
    found = datasets.audit(X, y, splits=splits, near=near, class_names=names)
    console.print(str(found), markup=False, highlight=False, soft_wrap=True)
    if out is not None:
        found.write_page(out, X, title=f"Audit of {content.description['name']}")
        console.print(f"Audit written to {out}", markup=False, soft_wrap=True)
    if strict and not found.ok:
        raise typer.Exit(1)
