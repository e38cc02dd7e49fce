"""The command line. Commands import lazily, so that help and errors in arguments are fast."""

from __future__ import annotations

from typing import Annotated

import typer

import kmedclf
from kmedclf.cli import (
    auto,
    cluster,
    data,
    doctor,
    export,
    parameters,
    reports,
    search,
    serve,
    studies,
    train,
)
from kmedclf.cli.console import Commands

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich's help would import a parser of Markdown: 0.1 s
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"kmedclf {kmedclf.__version__}")
        raise typer.Exit()


VersionOption = typer.Option(
    "--version", help="Show the version.", callback=_version, is_eager=True
)


@app.callback()
def _options(
    ctx: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and all logs.")] = False,
    version: Annotated[bool, VersionOption] = False,
) -> None:
    """Medical image classifiers on Keras that behave like scikit-learn estimators.

    Exit codes: 0, done; 1, a fault of kmedclf itself, or a finding of 'audit --strict'; 2, wrong
    input, nothing was done; 3, done in part: what is missing is named; 130 or 143, interrupted.
    """
    ctx.obj = debug


for command in (
    train.demo,
    train.train,
    train.evaluate,
    train.predict,
    auto.auto,
    parameters.params,
    data.datasets,
    data.audit,
    search.search,
    reports.report,
    reports.compare,
    export.export,
    serve.app,
    studies.reproduce,
    doctor.doctor,
):
    app.command(cls=parameters.Command)(command)
app.command(context_settings=cluster.DASK_OPTIONS)(cluster.scheduler)
app.command(context_settings=cluster.DASK_OPTIONS)(cluster.worker)


def main() -> None:
    """Run the command line."""
    app()
