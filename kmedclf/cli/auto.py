"""The command auto."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kmedclf.cli.console import NOT_WHOLE, NOTHING, console, keeps, say_next, start_tensorflow
from kmedclf.cli.options import GroupsOption, SizeOption
from kmedclf.cli.train import show


def auto(
    ctx: typer.Context,
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="Name, file or folder, as for 'kmedclf train'.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder to write.")],
    minutes: Annotated[float, typer.Option(help="Time to train, in minutes.", min=0.01)] = 10,
    weights: Annotated[
        str | None,
        typer.Option(help="Pretrained weights to use: 'imagenet', or a file (default: none)."),
    ] = None,
    variant: Annotated[
        str, typer.Option(help="EfficientNet of the weights: lite0, b0, b1 or b2.")
    ] = "lite0",
    memory: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder that keeps finished parts, so that the same command goes on after an "
            "interruption (default: the folder of --out with '.memory').",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Random seed.")] = 0,
    size: SizeOption = None,
    groups: GroupsOption = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier run.")] = False,
) -> None:
    """Find the best classifier in the given time, and write its run folder and page.

    It trains on train and val, in folds of its own; test is scored once, at the end. Ctrl-C ends
    the search, and the best so far is written.
    """
    from kmedclf import runs
    from kmedclf.datasets import sources

    runs.check_free(out, force)
    memory = memory or out.with_name(f"{out.name}.memory")
    again = f"Finished parts are in {memory}: the same command goes on."
    keeps(ctx, f"{NOTHING} {again}")
    content = sources.read_data(data, size, groups=groups).joined()
    start_tensorflow(ctx)
    from kmedclf.auto import AutoClassifier
    from kmedclf.runs.page import write_run_page

    estimator = AutoClassifier(
        60 * minutes,
        weights=weights,
        variant=variant,
        memory=str(memory),
        random_state=seed,
        verbose=1,
    )
    run = runs.train(estimator, content, out, force=force)
    keeps(ctx, f"The run is in {out}.")
    page = write_run_page(out, data=content, explain=False) if run.reports else None
    show(run.reports, f"AutoClassifier on {content.description['name']}")
    console.print(estimator.verdict(), markup=False, highlight=False)
    facts = f"{run.seconds:.0f} s of {60 * minutes:.0f}; written to {out}"
    console.print(facts if page is None else f"{facts}, the report to {page}", markup=False,
                  soft_wrap=True)  # fmt: skip
    console.print(f"{memory} may be deleted now.", markup=False, soft_wrap=True)
    say_next("auto", out=out)
    if any(row["status"] == "not tried" for row in estimator.leaderboard_):
        raise typer.Exit(NOT_WHOLE)  # interrupted
