"""The command search."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import kmedclf
from kmedclf.cli.console import console, keeps, say_next, showing_progress, start_tensorflow
from kmedclf.cli.options import (
    GroupsOption,
    LearningRateOption,
    QuietOption,
    RecipeOption,
    SizeOption,
    WeightsOption,
    check_alone,
)
from kmedclf.cli.parameters import find_network, make, parameters
from kmedclf.utils import arithmetic

if TYPE_CHECKING:
    from kmedclf.runs.searches import SearchFolder


class Engine(StrEnum):
    """How candidates are chosen."""

    STAGED = "staged"
    HALVING = "halving"
    RANDOM = "random"
    BAYESIAN = "bayesian"
    HYPERBAND = "hyperband"


def search(
    ctx: typer.Context,
    network: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Network, as for 'kmedclf train'.")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option("--data", help="Name, file or folder, as for 'kmedclf train'."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Folder to write.")
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option("--resume", metavar="DIR", help="Go on with the unfinished search of DIR."),
    ] = None,
    space: Annotated[
        str | None,
        typer.Option(
            help="Search space: a name, or a YAML file (default: NAME; NAME_flat for random, "
            "bayesian and hyperband)."
        ),
    ] = None,
    engine: Annotated[Engine, typer.Option(help="How candidates are chosen.")] = Engine.STAGED,
    epochs: Annotated[int, typer.Option(help="Maximum epochs of a candidate.")] = 50,
    final_epochs: Annotated[int, typer.Option(help="Maximum epochs of the winner.")] = 200,
    subset: Annotated[
        float | None,
        typer.Option(
            help="Share of the images to search on (default: as the space says, else all)."
        ),
    ] = None,
    first: Annotated[
        bool,
        typer.Option(
            "--first", help="With --subset, take the first images instead of random ones."
        ),
    ] = False,
    folds: Annotated[int, typer.Option(help="Number of cross-validation folds.")] = 3,
    trials: Annotated[
        int | None, typer.Option(help="Number of candidates of random and bayesian (default: 20).")
    ] = None,
    jobs: Annotated[int, typer.Option(help="Number of parallel fits.")] = 1,
    scheduler: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Train on the workers of this scheduler; see 'kmedclf scheduler'.",
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Random seed (default: 0).")] = None,
    recipe: RecipeOption = None,
    weights: WeightsOption = None,
    learning_rate: LearningRateOption = None,
    param: Annotated[
        list[str] | None,
        typer.Option(
            "-p",
            "--param",
            metavar="NAME=VALUE",
            help="Fix a parameter, which is then not searched; repeatable.",
        ),
    ] = None,
    size: SizeOption = None,
    groups: GroupsOption = None,
    quiet: QuietOption = False,
) -> None:
    """Search hyperparameters, and train the winner.

    By default, candidates stop early on the val split, or on a part of the training images if
    there is none, with a patience of 10 epochs and not before epoch 10. Candidates of halving and
    hyperband do not stop early: these engines set the epochs themselves.
    Every finished fit is cached in DIR; after an interruption, --resume DIR does not repeat it.
    With --scheduler, all workers must see DIR, and data that are files, under the same path.
    """
    if scheduler is not None and jobs != 1:
        raise ValueError(
            f"--jobs must be left out with --scheduler, whose workers are the jobs. Got {jobs}."
        )
    settings: dict[str, Any] = {}
    if resume is not None:
        check_alone(ctx, "jobs", "scheduler", "quiet")
    else:
        given = {"NAME": network, "--data": data, "--out": out}
        for name, value in given.items():
            if value is None:
                raise ValueError(f"kmedclf search must get {name}, or --resume DIR. Got none.")
        assert network is not None
        if trials is not None and engine not in (Engine.RANDOM, Engine.BAYESIAN):
            raise ValueError(f"--trials must go with --engine random or bayesian, not {engine}.")
        cls_name, meant = find_network(network)
        settings = {
            "network": cls_name,
            "data": data,
            "size": size,
            "groups": groups,
            "space": space,
            "engine": str(engine),
            "epochs": epochs,
            "final_epochs": final_epochs,
            "subset": subset,
            "first": first,
            "folds": folds,
            "trials": trials or 20,
            "seed": seed or 0,
            "parameters": parameters(
                param,
                [cls_name],
                image_size=("--size", size),
                random_state=("--seed", seed),
                recipe=("--recipe", recipe),
                weights=("--weights", weights),
                learning_rate=("--learning-rate", learning_rate),
                **meant,
            ),
        }
        for name, option in (("image_size", size), ("random_state", seed)):
            # These two have their own settings.
            if option is not None:
                del settings["parameters"][name]
        _check_settings(settings)
    from kmedclf.runs.searches import SearchFolder  # imports scikit-learn and matplotlib

    folder = SearchFolder.read(resume) if resume else SearchFolder(out or Path(), settings)
    _search(ctx, folder, jobs, scheduler, new=resume is None, quiet=quiet)
    if not quiet:
        say_next("search", out=folder.out)


def _check_settings(settings: dict[str, Any]) -> None:
    """Refuse conflicting settings and unknown spaces, before TensorFlow is imported."""
    fixed, engine = settings["parameters"], settings["engine"]
    if "epochs" in fixed:
        raise ValueError(
            "-p epochs must be left out: --epochs are those of the candidates, and --final-epochs "
            "those of the winner."
        )
    if engine in (Engine.HALVING, Engine.HYPERBAND) and fixed.get("early_stopping", False):
        raise ValueError(
            f"-p early_stopping must be left out for --engine {engine}, which gives the epochs "
            f"itself. Got {fixed['early_stopping']!r}."
        )
    from kmedclf.search import SearchSpace

    if settings["space"] is not None:
        SearchSpace.find(settings["space"])


def _search(
    ctx: typer.Context,
    folder: SearchFolder,
    jobs: int,
    scheduler: str | None,
    *,
    new: bool,
    quiet: bool,
) -> None:
    from kmedclf import runs
    from kmedclf.datasets import sources

    out, settings = folder.out, folder.settings
    if new:
        folder.check_free()
    # Fail now, not after hours of search.
    runs.check_free(out / "best", True)
    data = settings["data"]
    if scheduler is not None and sources.is_of_files(data):
        data = str(Path(data).expanduser().absolute())  # workers have directories of their own
    content = sources.read_data(data, settings["size"], groups=settings.get("groups"))
    start_tensorflow(ctx)
    cls = getattr(kmedclf, settings["network"])
    given = {**content.parameters, **settings["parameters"]}
    estimator = make(cls, {"random_state": settings["seed"], **given})
    grouped = "train" in content.groups
    searcher = folder.searcher(
        estimator, None if scheduler else jobs, grouped=grouped, verbose=int(not quiet)
    )
    if not quiet and (hint := _faster(settings["engine"], jobs, scheduler)):
        console.print(hint, markup=False, highlight=False, soft_wrap=True)
    if fixed := folder.taken_out(cls):
        console.print(
            f"Fixed by -p and not searched, though the space has it: {_listed(fixed)}.",
            markup=False,
            soft_wrap=True,
        )
    go_on = f"What is finished is in {out}; 'kmedclf search --resume {out}' goes on."
    if not new:
        keeps(ctx, go_on)
    with folder.begun(go_on, new=new):
        with showing_progress(quiet):
            folder.run(searcher, content, scheduler)
        folder.write_results(searcher)
        words = "Training the winner on all training images:"
        console.print(words, _listed(searcher.best_params_), markup=False)
        winner = folder.winner(estimator, searcher)
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


def _faster(engine: str, jobs: int, scheduler: str | None) -> str:
    """Say which options would make a search faster; empty if it has them."""
    cores, options = arithmetic.usable_cores(), []
    if engine == Engine.STAGED:
        options.append("'--engine halving' trains only the better half on, round by round")
    if jobs == 1 and cores > 1 and scheduler is None:
        options.append(f"'--jobs {cores}' trains as many networks at a time, each on one core")
    return f"Faster: {'; '.join(options)}." if options else ""


def _listed(parameters: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in parameters.items())
