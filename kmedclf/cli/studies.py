"""The command reproduce."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kmedclf.cli.console import console, keeps, say_next, showing_progress, start_tensorflow
from kmedclf.cli.options import QuietOption, SizeOption
from kmedclf.cli.parameters import NETWORKS, parameters
from kmedclf.studies import NAMES

if TYPE_CHECKING:
    from kmedclf.studies import Section


def reproduce(
    ctx: typer.Context,
    study: Annotated[str, typer.Argument(metavar="STUDY", help=", ".join(NAMES) + ".")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder to write.")],
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            help="The images, as for 'kmedclf train'. By default the study draws synthetic images "
            "of the same kind, or, for blood, downloads BloodMNIST. Its page says where to get the "
            "real ones.",
        ),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Try it out: few images, few epochs.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Random seed.")] = 0,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the unfinished study in DIR.")
    ] = False,
    size: SizeOption = None,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="ITEM", help="Do only this item; repeatable."),
    ] = None,
    keep_copies: Annotated[
        bool,
        typer.Option("--keep-copies", help="Keep identical images, which some studies remove."),
    ] = False,
    epochs: Annotated[
        int | None, typer.Option(help="Epochs of all networks (default: as in the study).")
    ] = None,
    param: Annotated[
        list[str] | None,
        typer.Option(
            "-p",
            "--param",
            metavar="NAME=VALUE",
            help="Set a parameter of all networks that have it, as in weights=null; repeatable.",
        ),
    ] = None,
    quiet: QuietOption = False,
) -> None:
    """Reproduce a study: all its items, into one folder and one page."""
    given = parameters(
        param, list(NETWORKS.values()), epochs=("--epochs", epochs), image_size=("--size", size)
    )
    # Only checked as a parameter; the data are read in this size.
    if size is not None:
        del given["image_size"]
    from kmedclf import studies
    from kmedclf.datasets import sources

    if data is not None:  # the study's module imports TensorFlow
        sources.check_source(data)
    chosen = studies.get(study).only(only)
    wanted = {
        "study": study, "data": data, "quick": quick, "seed": seed, "size": size,
        "parameters": given or None, "keep_copies": keep_copies,
    }  # fmt: skip
    # Check everything that needs no TensorFlow before it is imported.
    settings = studies.settings_of(out, wanted, chosen.data, resume=resume)
    start_tensorflow(ctx)
    lab = chosen.open(
        settings["data"],
        out,
        verbose=int(not quiet),
        **{name: settings[name] for name in ("quick", "seed", "size", "parameters", "keep_copies")},
    )
    studies.remember(out, settings)
    keeps(
        ctx,
        f"What is finished is in {out}; 'kmedclf reproduce {study} --out {out} --resume' goes on.",
    )

    stdout = sys.stdout

    def tell(section: Section) -> None:
        with redirect_stdout(stdout):  # a result, among progress
            console.print(str(section), markup=False, highlight=False, soft_wrap=True)

    with showing_progress(quiet):
        page = studies.reproduce(chosen, lab, tell=tell)
    console.print(f"The report is {page}", markup=False, soft_wrap=True)
    if not quiet:
        say_next("reproduce")
