"""The commands report and compare."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markdown import Markdown

from kmedclf.cli.console import console
from kmedclf.cli.training import RunFolder

if TYPE_CHECKING:
    from kmedclf.evaluation import Report

SplitOption = Annotated[str, typer.Option(help="train, val or test.")]


def report(
    folder: RunFolder,
    data: Annotated[
        str | None, typer.Option("--data", help="Where the images are.  [default: as in training]")
    ] = None,
    split: SplitOption = "test",
    out: Annotated[Path | None, typer.Option(help="File.  [default: DIR/report.html]")] = None,
) -> None:
    """Write the report of a trained network as one page, with its mistakes to look at."""
    from kmedclf import evaluation, runs

    found = read_report(folder, split)
    parameters, history, environment = (
        _read(folder, name) for name in ("parameters", "history", "environment")
    )
    content = runs.read_data(
        data or environment["data"]["source"], only=split, size=environment["data"]["size"]
    )
    target = out or folder / "report.html"
    evaluation.write_page(
        target,
        found,
        X=content.splits[split][0],
        history=history["history"],
        best_epoch=history["best_epoch"],
        parameters=parameters["parameters"],
        environment=environment,
        title=f"{parameters['estimator']} on {environment['data']['name']}, {split} split",
    )
    console.print(f"Report written to {target}", markup=False, soft_wrap=True)


def compare(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Folders of runs.")],
    split: SplitOption = "test",
    out: Annotated[Path | None, typer.Option(help="HTML file to write as well.")] = None,
) -> None:
    """Compare trained networks on the same images: intervals, and paired tests."""
    from kmedclf import datasets, evaluation

    reports = {str(folder): read_report(folder, split) for folder in folders}
    environments = {str(folder): _read(folder, "environment") for folder in folders}
    name = next(iter(environments.values()))["data"]["name"]
    comparison = evaluation.compare(
        reports,
        parameters={key: one["n_params"] for key, one in environments.items()},
        seconds={key: one["seconds"] for key, one in environments.items()},
        images_per_second={key: one["images_per_second"] for key, one in environments.items()},
        dataset=name if name in datasets.names() else None,
        protocol=f"{split} split",
    )
    console.print(Markdown(comparison.to_markdown()))
    if out is not None:
        evaluation.write_comparison_page(out, comparison, title=f"Comparison on {name}")
        console.print(f"Comparison written to {out}", markup=False, soft_wrap=True)


def read_report(folder: Path, split: str) -> Report:
    """Read what a run, or 'kmedclf evaluate' later, found on a split."""
    from kmedclf import runs
    from kmedclf.evaluation import Report

    runs.check_run(folder)
    path = folder / f"evaluation-{split}.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"{folder} holds no evaluation on {split!r}; 'kmedclf evaluate {folder} --data DATA "
            f"--split {split}' makes it."
        )
    return Report.from_json(path)


def _read(folder: Path, name: str) -> Any:
    return json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
