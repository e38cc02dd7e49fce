"""The commands report and compare."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markdown import Markdown

from kmedclf.cli.console import console, start_tensorflow
from kmedclf.cli.training import RunFolder

SplitOption = Annotated[str, typer.Option(help="train, val or test.")]


def report(
    ctx: typer.Context,
    folder: RunFolder,
    data: Annotated[
        str | None, typer.Option("--data", help="Where the images are.  [default: as in training]")
    ] = None,
    split: SplitOption = "test",
    out: Annotated[Path | None, typer.Option(help="File.  [default: DIR/report.html]")] = None,
    explain: Annotated[
        bool, typer.Option("--explain/--plain", help="With Grad-CAM maps, or without.")
    ] = True,
) -> None:
    """Write the report of a trained network as one page, with its mistakes to look at."""
    from kmedclf.evaluation.run_page import read_report, write_run_page

    read_report(folder, split)  # refuse before TensorFlow takes its time
    if explain:
        start_tensorflow(ctx)
    target = write_run_page(folder, data=data, split=split, out=out, explain=explain)
    console.print(f"Report written to {target}", markup=False, soft_wrap=True)


def compare(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Folders of runs.")],
    split: SplitOption = "test",
    out: Annotated[Path | None, typer.Option(help="HTML file to write as well.")] = None,
) -> None:
    """Compare trained networks on the same images: intervals, and paired tests."""
    from kmedclf import datasets, evaluation
    from kmedclf.evaluation.published import protocol_of
    from kmedclf.evaluation.run_page import read_report

    reports = {str(folder): read_report(folder, split) for folder in folders}
    environments = {str(folder): _read(folder, "environment") for folder in folders}
    data = next(iter(environments.values()))["data"]
    name = data["name"]
    dataset = name if name in datasets.names() else None
    protocol, caveat = protocol_of(data, split, dataset)
    comparison = evaluation.compare(
        reports,
        parameters={key: one["n_params"] for key, one in environments.items()},
        seconds={key: one["seconds"] for key, one in environments.items()},
        images_per_second={key: one["images_per_second"] for key, one in environments.items()},
        dataset=dataset,
        protocol=protocol,
        caveat=caveat,
    )
    console.print(Markdown(comparison.to_markdown()))
    if out is not None:
        evaluation.write_comparison_page(out, comparison, title=f"Comparison on {name}")
        console.print(f"Comparison written to {out}", markup=False, soft_wrap=True)


def _read(folder: Path, name: str) -> Any:
    return json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
