"""The command reproduce."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kmedclf.cli.console import console, start_tensorflow
from kmedclf.cli.training import SizeOption
from kmedclf.studies import NAMES

if TYPE_CHECKING:
    from kmedclf.studies import Section


def reproduce(
    ctx: typer.Context,
    study: Annotated[str, typer.Argument(metavar="STUDY", help=", ".join(NAMES) + ".")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder to write.")],
    data: Annotated[
        str | None,
        typer.Option("--data", help="As for train (default: the study's own)."),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Small and short, to see it work.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of everything.")] = 0,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on in DIR: what is finished is read.")
    ] = False,
    size: SizeOption = None,
) -> None:
    """Reproduce a whole study: every item of it into one folder and one page."""
    from kmedclf import studies

    chosen = studies.get(study)
    wanted = {"study": study, "data": data, "quick": quick, "seed": seed, "size": size}
    settings = studies.settings_of(out, wanted, chosen.data, resume=resume)
    start_tensorflow(ctx)
    lab = studies.Lab.open(
        settings["data"],
        out,
        seed=settings["seed"],
        quick=settings["quick"],
        size=settings["size"],
        class_names=chosen.class_names,
        verbose=int(console.is_terminal),
    )
    studies.remember(out, settings)

    def tell(section: Section) -> None:
        console.print(str(section), markup=False, highlight=False, soft_wrap=True)

    page = studies.reproduce(chosen, lab, tell=tell)
    console.print(f"The report is {page}", markup=False, soft_wrap=True)
