"""The command search."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

import kmedclf
from kmedclf.cli.console import console, start_tensorflow
from kmedclf.cli.training import SizeOption, make, network_class, parameter


class Engine(StrEnum):
    """How candidates are chosen."""

    STAGED = "staged"
    HALVING = "halving"
    RANDOM = "random"
    BAYESIAN = "bayesian"
    HYPERBAND = "hyperband"


def search(
    ctx: typer.Context,
    network: Annotated[str | None, typer.Argument(metavar="NAME", help="Network.")] = None,
    data: Annotated[
        str | None,
        typer.Option("--data", help="Name, file or folder, as of 'kmedclf train'."),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Folder.")] = None,
    resume: Annotated[
        Path | None, typer.Option("--resume", metavar="DIR", help="Go on with a search.")
    ] = None,
    space: Annotated[
        str | None,
        typer.Option(
            help="Space, or its file (default: NAME, or NAME_flat for the last three engines)."
        ),
    ] = None,
    engine: Annotated[Engine, typer.Option(help="How candidates are chosen.")] = Engine.STAGED,
    epochs: Annotated[int, typer.Option(help="Longest training of a candidate.")] = 50,
    final_epochs: Annotated[int, typer.Option(help="Longest training of the winner.")] = 200,
    subset: Annotated[
        float | None,
        typer.Option(help="Share of the images to search on (default: the space's, or all)."),
    ] = None,
    first: Annotated[bool, typer.Option("--first", help="The first images, not random.")] = False,
    folds: Annotated[int, typer.Option(help="Folds.")] = 3,
    trials: Annotated[int, typer.Option(help="Trials of random and bayesian.")] = 20,
    jobs: Annotated[int, typer.Option(help="Fits at the same time.")] = 1,
    seed: Annotated[int, typer.Option(help="Seed of everything.")] = 0,
    param: Annotated[
        list[str] | None,
        typer.Option("-p", "--param", metavar="NAME=VALUE", help="Fixed parameter; repeatable."),
    ] = None,
    size: SizeOption = None,
) -> None:
    """Search hyperparameters, and train the winner.

    Unless told otherwise, candidates stop early on the val split, or on a part of the training
    images where there is none, with a patience of 10 epochs and not before epoch 10; those of
    halving and hyperband, which get ever more epochs as they prove good, do not.
    Every finished fit is remembered in DIR: after an interruption, --resume DIR repeats none.
    """
    from kmedclf.search import folder

    if resume is not None:
        settings = folder.read_settings(resume)
        out = resume
    else:
        given = {"NAME": network, "--data": data, "--out": out}
        for name, value in given.items():
            if value is None:
                raise ValueError(f"kmedclf search must get {name}, or --resume DIR. Got none.")
        assert network is not None
        settings = {
            "network": network_class(network),
            "data": data,
            "size": size,
            "space": space,
            "engine": str(engine),
            "epochs": epochs,
            "final_epochs": final_epochs,
            "subset": subset,
            "first": first,
            "folds": folds,
            "trials": trials,
            "seed": seed,
            "parameters": dict(parameter(text) for text in param or []),
        }
    assert out is not None
    _search(ctx, settings, out, jobs, new=resume is None)


def _search(
    ctx: typer.Context, settings: dict[str, Any], out: Path, jobs: int, *, new: bool
) -> None:
    from kmedclf import runs
    from kmedclf.search import folder

    content = runs.read_data(settings["data"], settings["size"])
    start_tensorflow(ctx)
    cls = getattr(kmedclf, settings["network"])
    given = {**content.parameters, **settings["parameters"]}
    estimator = make(cls, {"random_state": settings["seed"], **given})
    searcher = folder.searcher(estimator, settings, out, jobs)
    if new:
        folder.start(out, settings)
    folder.run(searcher, content)
    folder.write_results(out, searcher)
    words = "Training the winner on all training images:"
    console.print(words, _listed(searcher.best_params_), markup=False)
    winner = folder.winner(estimator, searcher, settings)
    run = runs.train(winner, content, out / "best", force=True)
    for split, report in run.reports.items():
        accuracy = report.scores["accuracy"]
        line = f"{split} accuracy {accuracy}, n = {report.n:,}"
        console.print(line, markup=False, highlight=False)
        for warning in report.warnings:
            console.print(f"{split}: {warning}", markup=False, highlight=False)
    plots = ", plots" if any(out.glob("effect-*.png")) else ""
    where = f"Results{plots} and the trained winner are in {out}"
    console.print(where, markup=False, soft_wrap=True)


def _listed(parameters: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in parameters.items())
