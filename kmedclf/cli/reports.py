"""The commands report and compare."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer
from rich.table import Column, Table
from rich.text import Text

from kmedclf.cli.console import console, errors, say_next, start_tensorflow
from kmedclf.cli.options import PageOption, RunFolder, page

if TYPE_CHECKING:
    from kmedclf.evaluation import Comparison


SplitOption = Annotated[str, typer.Option(help="Images to report on: train, val or test.")]


def report(
    ctx: typer.Context,
    folder: RunFolder,
    data: Annotated[
        str | None,
        typer.Option("--data", help="Where the images are, if not where they were in training."),
    ] = None,
    split: SplitOption = "test",
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", callback=page, help="HTML file to write (default: DIR/report.html)."
        ),
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain/--plain", help="With Grad-CAM maps, or without.")
    ] = True,
) -> None:
    """Write the report of a trained network, or of a search, as one page.

    The page of a network shows its scores and every mistake; that of a search shows its stages
    and learning curves.
    """
    from kmedclf import runs
    from kmedclf.pages.search import SETTINGS
    from kmedclf.runs.page import page_of, read_report, write_run_page
    from kmedclf.utils import files

    is_search = (folder / SETTINGS).is_file()
    if not is_search:
        runs.check_run(folder)
    files.prepare(page_of(folder) if out is None else out, files.is_page)
    # Fail before TensorFlow is imported.
    if not folder.is_file() and not is_search:
        read_report(folder, split)
    if (explain or folder.is_file()) and not is_search:
        start_tensorflow(ctx)
    with errors.status("Writing the page"):
        target = write_run_page(folder, data=data, split=split, out=out, explain=explain)
    console.print(f"Report written to {target}", markup=False, soft_wrap=True)
    say_next("report", folder=folder)


def compare(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Folders of runs.")],
    split: SplitOption = "test",
    out: PageOption = None,
) -> None:
    """Compare trained networks on the same images, with intervals and paired tests."""
    from kmedclf import datasets, evaluation
    from kmedclf.evaluation.published import protocol_of
    from kmedclf.runs.page import read_report, scored_data
    from kmedclf.utils import files

    if out is not None:
        files.prepare(out, files.is_page)
    names = _names(folders)
    reports = {n: read_report(folder, split) for n, folder in zip(names, folders, strict=True)}
    environments = {
        n: _read(folder, "environment") for n, folder in zip(names, folders, strict=True)
    }
    trained = {n: one["data"] for n, one in environments.items()}
    scored = {
        n: scored_data(folder, split) or trained[n]
        for n, folder in zip(names, folders, strict=True)
    }
    # Published scores are shown only if all runs were scored on the same known data set.
    sets = list(dict.fromkeys(one["name"] for one in scored.values()))
    dataset = sets[0] if len(sets) == 1 and sets[0] in datasets.names() else None
    found = {n: protocol_of(trained[n], split, dataset, scored[n]) for n in names}
    different_files = len({one.get("sha256") for one in scored.values()}) > 1
    unsure = (
        "The networks were scored on different files, whose labels are the same in the same order. "
        "If the images are not, the paired tests mean nothing."
    )
    comparison = evaluation.compare(
        reports,
        parameters={key: one["n_params"] for key, one in environments.items()},
        seconds={key: one["seconds"] for key, one in environments.items()},
        images_per_second={key: one["images_per_second"] for key, one in environments.items()},
        dataset=dataset,
        protocol={n: protocol for n, (protocol, _) in found.items()},
        caveat=" ".join(dict.fromkeys(filter(None, (caveat for _, caveat in found.values())))),
        notes=[unsure] if different_files else [],
    )
    _show(comparison)
    if out is not None:
        title = f"Comparison on {', '.join(sets)}"
        links = _links(out, dict(zip(names, folders, strict=True)))
        evaluation.write_comparison_page(out, comparison, title=title, links=links)
        console.print(f"Comparison written to {out}", markup=False, soft_wrap=True)
    accuracy = {one.name: one.scores["accuracy"].value for one in comparison.models}
    best = max(accuracy, key=lambda name: accuracy[name] or 0)
    say_next("compare", best=folders[names.index(best)])


def _links(out: Path, folders: dict[str, Path]) -> dict[str, str]:
    """Find the reports of the runs, where they lie near the page: links name no folders above."""
    here, found = out.absolute().parent, {}
    for name, folder in folders.items():
        page = folder.absolute() / "report.html"
        if page.is_file() and page.is_relative_to(here.parent):
            found[f"Report of {name}"] = quote(Path(os.path.relpath(page, here)).as_posix())
    audit = here / "audit.html"
    return {**found, **({"Audit": "audit.html"} if audit.is_file() else {})}


def _names(folders: list[Path]) -> list[str]:
    """Name runs by the shortest path suffixes that are unique."""
    parts = [folder.absolute().parts for folder in folders]
    if len(set(parts)) < len(parts):
        twice = next(folder for folder, one in zip(folders, parts, strict=True)
                     if parts.count(one) > 1)  # fmt: skip
        raise ValueError(f"DIR must be different folders. Got {twice} twice.")
    for n in range(1, max(map(len, parts)) + 1):
        names = ["/".join(one[-n:]) for one in parts]
        if len(set(names)) == len(names):
            return names
    return [str(folder) for folder in folders]


def _show(comparison: Comparison) -> None:
    """Print the comparison in tables of 80 columns; the page has more."""
    from kmedclf.evaluation.compare import amount, p_text
    from kmedclf.evaluation.scores import SCORES
    from kmedclf.evaluation.wording import count, interval_words

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
    title = (count(comparison.n, "image"), comparison.protocol, interval_words(comparison))
    console.print("; ".join(filter(None, title)), markup=False, style="bold")
    if not comparison.protocol:
        for one in comparison.models:
            console.print(f"{one.name}: {one.protocol}", markup=False, highlight=False)
    for table in (models, pairs, others):
        if table.row_count:
            console.print(table, "", sep="\n")
    for sentence in filter(None, (*comparison.notes, comparison.caveat)):
        console.print(sentence, markup=False)


def _read(folder: Path, name: str) -> Any:
    return json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
