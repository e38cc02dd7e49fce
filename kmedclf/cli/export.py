"""The command export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kmedclf.cli.console import console, say_next, start_tensorflow
from kmedclf.cli.options import RunFolder


def export(
    ctx: typer.Context,
    folder: RunFolder,
    out: Annotated[
        Path,
        typer.Option("--out", metavar="FILE", help="File to write; with saved_model, a folder."),
    ],
    format: Annotated[
        str, typer.Option("--format", help="onnx, saved_model, litert or keras.")
    ] = "onnx",
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier file.")] = False,
) -> None:
    """Write a trained network for other programs, and compare it with the network itself.

    The file takes images as they are, such as uint8 (n, h, w, c), and returns probabilities and
    labels: the scaling of pixels, test-time views, calibration and thresholds are inside.
    """
    from kmedclf import runs
    from kmedclf.export import check

    runs.check_run(folder)
    # Fail before TensorFlow is imported.
    check(out, format, force=force)
    start_tensorflow(ctx)
    estimator, names = runs.read(folder)
    exported = estimator.export(out, format, class_names=names, force=force)
    console.print(str(exported), markup=False, highlight=False, soft_wrap=True)
    say_next("export", folder=folder)
