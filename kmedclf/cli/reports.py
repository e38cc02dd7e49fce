"""The commands report and compare."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Column, Table
from rich.text import Text

from kmedclf.cli.console import console, start_tensorflow
from kmedclf.cli.training import RunFolder

if TYPE_CHECKING:
    from kmedclf.evaluation import Comparison

SplitOption = Annotated[str, typer.Option(help="train, val or test.")]


def report(
    ctx: typer.Context,
    folder: RunFolder,
    data: Annotated[
        str | None, typer.Option("--data", help="Where the images are (default: as in training).")
    ] = None,
    split: SplitOption = "test",
    out: Annotated[Path | None, typer.Option(help="File (default: DIR/report.html).")] = None,
    explain: Annotated[
        bool, typer.Option("--explain/--plain", help="With Grad-CAM maps, or without.")
    ] = True,
) -> None:
    """Write the report of a trained network as one page, with its mistakes to look at."""
    from kmedclf import files
    from kmedclf.evaluation.run_page import page_of, read_report, write_run_page

    files.prepare(page_of(folder) if out is None else out, files.is_page)
    if not folder.is_file():
        read_report(folder, split)  # refuse before TensorFlow takes its time
    if explain or folder.is_file():
        start_tensorflow(ctx)
    target = write_run_page(folder, data=data, split=split, out=out, explain=explain)
    console.print(f"Report written to {target}", markup=False, soft_wrap=True)


def compare(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Folders of runs.")],
    split: SplitOption = "test",
    out: Annotated[Path | None, typer.Option(help="HTML file to write as well.")] = None,
) -> None:
    """Compare trained networks on the same images: intervals, and paired tests."""
    from kmedclf import datasets, evaluation, files
    from kmedclf.evaluation.published import protocol_of
    from kmedclf.evaluation.run_page import read_report

    if out is not None:
        files.prepare(out, files.is_page)
    names = _names(folders)
    reports = {n: read_report(folder, split) for n, folder in zip(names, folders, strict=True)}
    environments = {
        n: _read(folder, "environment") for n, folder in zip(names, folders, strict=True)
    }
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
    _show(comparison)
    if out is not None:
        evaluation.write_comparison_page(out, comparison, title=f"Comparison on {name}")
        console.print(f"Comparison written to {out}", markup=False, soft_wrap=True)


def _names(folders: list[Path]) -> list[str]:
    """Name runs by as many of the last parts of their paths as tell them apart."""
    parts = [folder.absolute().parts for folder in folders]
    for n in range(1, max(map(len, parts)) + 1):
        names = ["/".join(one[-n:]) for one in parts]
        if len(set(names)) == len(names):
            return names
    return [str(folder) for folder in folders]


def _show(comparison: Comparison) -> None:
    """Print the comparison in tables that fit 80 columns; the page has more of it."""
    from kmedclf.evaluation.compare import amount, p_text
    from kmedclf.evaluation.report import SCORES

    shown = [n for n in ("accuracy", "auc_macro") if n in comparison.models[0].scores]
    name = Column("model", overflow="fold")
    models = Table(name, *(SCORES[n] for n in shown), "parameters", "training", box=None)
    for one in comparison.models:
        scores = [str(one.scores[n]) for n in shown]
        models.add_row(Text(one.name), *scores, amount(one.parameters), f"{amount(one.seconds)} s")
    counted = "more labels right" if comparison.multilabel else "only one right"
    pairs = Table(Column("pair", overflow="fold"), "difference", counted, "p", "p, Holm", box=None)
    for pair in comparison.pairs:
        right = f"{pair.only_first} : {pair.only_second}"
        names, p = Text(f"{pair.first} - {pair.second}"), p_text(pair.p)
        pairs.add_row(names, str(pair.difference), right, p, p_text(pair.p_holm))
    others = Table("published", "Accuracy", "", box=None)
    for known in comparison.published:
        others.add_row(known.model, f"{known.accuracy:.3f}", known.words)
    title = f"{comparison.n:,} images; {comparison.protocol}; 95 % bootstrap intervals"
    console.print(title, markup=False, style="bold")
    for table in (models, pairs, others):
        if table.row_count:
            console.print(table, "", sep="\n")
    if comparison.caveat:
        console.print(comparison.caveat, markup=False)


def _read(folder: Path, name: str) -> Any:
    return json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
