"""The commands demo, train, evaluate and predict."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

import kmedclf
from kmedclf.cli.console import (
    NOT_WHOLE,
    NOTHING,
    console,
    errors,
    keeps,
    say_next,
    showing_progress,
    start_tensorflow,
)
from kmedclf.cli.options import (
    DATA,
    DataOption,
    GroupsOption,
    LearningRateOption,
    QuietOption,
    RecipeOption,
    RunFolder,
    SizeOption,
    WeightsOption,
    check_alone,
)
from kmedclf.cli.parameters import NETWORKS, find_network, make, parameters

if TYPE_CHECKING:
    import numpy as np

    from kmedclf.base import ImageClassifier
    from kmedclf.evaluation.report import AnyReport


DEMO: dict[str, dict[str, Any]] = {
    "MLPClassifier": {"recipe": "fast", "epochs": 20},
    "CNNClassifier": {"recipe": "fast", "epochs": 15, "filters": 16},
    "ResNetClassifier": {"recipe": "fast", "epochs": 12, "stem_filters": 16},
}
"""Fewer kernels and epochs than the recipe's, to keep the demo short."""
SEPARATOR = "|"
"""Separates the labels of one image."""


NETWORK_HELP = f"{', '.join(NETWORKS)}; or as others call them: resnet18, densenet121, ..."


def demo(ctx: typer.Context, quiet: QuietOption = False) -> None:
    """Train three networks on synthetic blood cells, and compare them."""
    from kmedclf import runs
    from kmedclf.datasets import sources
    from kmedclf.evaluation.wording import interval_words

    data = sources.read_data("synthetic")
    n = data.description["n"]
    console.print("[bold]Synthetic blood cells[/] in 8 classes, drawn by a program:", end=" ")
    console.print(f"{n['train']:,} to train on, {n['val']:,} to validate, {n['test']:,} to test.")
    table = Table("network", "parameters", "test accuracy", "seconds", "images/s", box=None)
    start_tensorflow(ctx)
    for name, given in DEMO.items():
        with showing_progress(quiet) as verbose:
            estimator = getattr(kmedclf, name)(random_state=0, verbose=verbose, **given)
            run = runs.fit(estimator, data)
        table.add_row(
            name, f"{estimator.n_params_:,}", str(run.reports["test"].scores["accuracy"]),
            f"{run.seconds:.1f}", f"{run.images_per_second:,.0f}",
        )  # fmt: skip
    words = interval_words(run.reports["test"])
    console.print(f"\nOn the synthetic test images, with {words}:", table, sep="\n")
    if not quiet:
        say_next("demo")


def train(
    ctx: typer.Context,
    network: Annotated[str | None, typer.Argument(metavar="NAME", help=NETWORK_HELP)] = None,
    data: Annotated[str | None, DATA] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Folder to write.")
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option("--resume", metavar="DIR", help="Go on with the unfinished training of DIR."),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Maximum number of epochs.")] = None,
    seed: Annotated[
        int | None, typer.Option(help="The network's random_state (default: 0).")
    ] = None,
    recipe: RecipeOption = None,
    weights: WeightsOption = None,
    learning_rate: LearningRateOption = None,
    param: Annotated[
        list[str] | None,
        typer.Option(
            "-p",
            "--param",
            metavar="NAME=VALUE",
            help="Set any other parameter, as in -p augment=false; repeatable. 'kmedclf params "
            "NAME' lists them.",
        ),
    ] = None,
    size: SizeOption = None,
    groups: GroupsOption = None,
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Calibrate the probabilities on the val split.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier run.")] = False,
    quiet: QuietOption = False,
) -> None:
    """Train a network, score it, and write a run folder.

    After an interruption or a crash, --resume DIR goes on from the last finished epoch, which is
    kept in DIR.checkpoint, and ends with the same result.
    """
    from kmedclf.runs import unfinished

    if resume is not None:
        check_alone(ctx, "quiet")
        out, settings = unfinished.read(resume)
    else:
        for name, value in {"NAME": network, "--data": data, "--out": out}.items():
            if value is None:
                raise ValueError(f"kmedclf train must get {name}, or --resume DIR. Got none.")
        settings = {name: value for name, value in ctx.params.items() if name not in NO_SETTINGS}
    assert out is not None
    _train(ctx, settings, out, new=resume is None, quiet=quiet)
    if not quiet:
        say_next("train", out=out)


NO_SETTINGS = ("out", "quiet", "resume")
"""Options that a training does not go on with."""


def _train(
    ctx: typer.Context, settings: dict[str, Any], out: Path, *, new: bool, quiet: bool
) -> None:
    from kmedclf import recipes, runs
    from kmedclf.datasets import sources
    from kmedclf.runs import unfinished

    data, size, force = settings["data"], settings["size"], settings["force"]
    cls_name, meant = find_network(settings["network"])
    given = parameters(
        settings["param"], [cls_name], epochs=("--epochs", settings["epochs"]),
        random_state=("--seed", settings["seed"]), image_size=("--size", size),
        recipe=("--recipe", settings["recipe"]), weights=("--weights", settings["weights"]),
        learning_rate=("--learning-rate", settings["learning_rate"]), **meant,
    )  # fmt: skip
    if "checkpoint" in given:
        raise ValueError(
            f"-p checkpoint must be left out: the training is kept in {unfinished.folder_of(out)}."
        )
    if given.get("strategy") == "multi_worker":
        raise ValueError(
            "-p strategy must be 'mirrored' or names of devices: several processes would write the "
            "same run. Train with them in a script."
        )
    given = {"random_state": 0, "verbose": int(not quiet), **given}
    # Fail before reading data and importing TensorFlow.
    runs.check_free(out, force)
    if new:
        unfinished.check_none(out, force)
    keeps(ctx, f"The earlier run in {out} is as it was." if out.is_dir() and force else NOTHING)
    if sources.is_of_files(data):
        size = size or _side_of_weights(given)
    content = sources.read_data(data, size, groups=settings["groups"])
    start_tensorflow(ctx)
    from kmedclf.evaluation.wording import epochs_of  # imports scikit-learn

    # Arrays have a fixed size; only files are resized.
    if not content.parameters:
        given.pop("image_size", None)
    estimator = make(getattr(kmedclf, cls_name), {**content.parameters, **given})
    calibrate = settings["calibrate"]
    with showing_progress(quiet), _advice():
        run = runs.train(estimator, content, out, force=force, calibrate=calibrate, keeps=True,
                         settings=settings if new else None)  # fmt: skip
    show(run.reports, f"{cls_name} on {content.description['name']}")
    if calibrate:
        console.print(next(iter(run.reports.values())).notes[-1], markup=False)
    used = recipes.parameters(estimator)
    trained = epochs_of(estimator.history_, estimator.best_epoch_, used)
    facts = f"{estimator.n_params_:,} parameters; {trained}; {run.seconds:.1f} s"
    console.print(f"{facts}; written to {out}", markup=False, soft_wrap=True)


@contextmanager
def _advice() -> Iterator[None]:
    """Say beside a broken image what to do about it."""
    from kmedclf.inputs.image_files import UnreadableImage

    try:
        yield
    except UnreadableImage as error:
        if hasattr(error, "__notes__"):  # the training is finished, and they say what to do
            raise
        advice = (
            "Delete it, or leave such files out with -p on_error=skip; 'kmedclf audit' finds them "
            "all."
        )
        raise UnreadableImage(f"{error} {advice}") from error


def evaluate(
    ctx: typer.Context,
    folder: RunFolder,
    data: DataOption,
    split: Annotated[
        str | None,
        typer.Option(
            help="train, val, test or all (default: test; all of a folder that has no splits)."
        ),
    ] = None,
    size: SizeOption = None,
) -> None:
    """Score a trained network on a split of a data set; classes are matched by name."""
    from kmedclf import runs
    from kmedclf.datasets import sources
    from kmedclf.evaluation.wording import count

    split = split or runs.default_split(folder, data)
    content = sources.read_data(data, size, split, runs.groups_of(folder, data, split))
    start_tensorflow(ctx)
    with errors.status(f"Scoring {count(len(content.splits[split][1]), 'image')}"):
        report = runs.evaluate(folder, content, split)
    show({split: report}, f"{folder} on {content.description['name']}")
    say_next("evaluate", folder=folder, split=split, data=data)


def predict(
    ctx: typer.Context,
    folder: RunFolder,
    images: Annotated[list[Path], typer.Argument(help="Image files, or folders of them.")],
    out: Annotated[
        Path | None, typer.Option(help="CSV file to write (default: print the table).")
    ] = None,
    proba: Annotated[
        bool, typer.Option("--proba", help="Write the probabilities of all classes.")
    ] = False,
) -> None:
    """Classify image files, and write path, class and probability as CSV.

    A multilabel network gives all labels with a probability above 0.5, joined by "|". Unreadable
    files are left out and named; the exit code is then 3.
    """
    from kmedclf import runs
    from kmedclf.datasets.folders import find_images
    from kmedclf.utils import files

    runs.check_run(folder)
    if out is not None:
        files.prepare(out, files.is_table)
    left: list[str] = []
    paths = find_images(images, left.append)
    start_tensorflow(ctx)
    from kmedclf.inputs.label_kinds import is_multilabel

    estimator, names = runs.read(folder)
    readable, probabilities = _classified(estimator, paths)
    _say_resized(estimator, readable)
    for sentence in left:
        errors.print(sentence, markup=False, soft_wrap=True)
    multilabel = is_multilabel(estimator)
    # A calibrated model may have its own threshold.
    best = getattr(estimator, "decide", lambda proba: proba.argmax(axis=1))(probabilities)
    columns = ["prediction"] if multilabel else ["prediction", "probability"]
    rows: list[list[Any]] = [["path", *columns, *(names if proba else [])]]
    for path, row, index in zip(readable, probabilities, best, strict=True):
        found = [name for name, p in zip(names, row, strict=True) if p > 0.5]
        label = SEPARATOR.join(found) if multilabel else names[index]
        numbers = [*([] if multilabel else [row[index]]), *(row if proba else [])]
        rows.append([path, label, *(f"{number:.6f}" for number in numbers)])
    _write_csv(rows, out)
    # Without a file, the table is what stdout holds
    say_next("predict", errors if out is None else console, folder=folder)
    if len(readable) < len(paths):
        raise typer.Exit(NOT_WHOLE)


def _classified(estimator: ImageClassifier, paths: list[Path]) -> tuple[list[Path], np.ndarray]:
    """Classify the readable images, and name the others."""
    from kmedclf import runs

    try:
        return paths, estimator.predict_proba(paths)
    except (ValueError, OSError):
        # Search for broken files only now, because that reads all of them.
        broken = runs.unreadable(estimator, list(map(str, paths)))
        if not 0 < len(broken) < len(paths):
            raise
    readable = [path for i, path in enumerate(paths) if i not in broken]
    probabilities = estimator.predict_proba(readable)
    for error in broken.values():
        errors.print(Text(str(error), style="red"), soft_wrap=True)
    verb = "is" if len(broken) == 1 else "are"
    errors.print(
        f"{len(broken)} of {len(paths)} images {verb} left out of the predictions.", soft_wrap=True
    )
    return readable, probabilities


def _say_resized(estimator: ImageClassifier, paths: list[Path]) -> None:
    """Warn if a network that was trained on arrays gets images of another size."""
    from kmedclf.inputs.image_files import open_image

    # A network trained on files has skipped_, and resizes images itself.
    if getattr(estimator, "skipped_", None) is not None:
        return
    height, width, _ = estimator.image_shape_
    n_resized = sum(open_image(path).size != (width, height) for path in paths)
    if n_resized:
        errors.print(f"{n_resized} of {len(paths)} images resized to {height} × {width} pixels.")


def _write_csv(rows: list[list[Any]], out: Path | None) -> None:
    from kmedclf.utils.files import written_beside
    from kmedclf.utils.text import write_csv

    if out is None:
        write_csv(sys.stdout, rows, lineterminator="\n")
        return
    # Keep file names that are not UTF-8 byte by byte, so that they still name the files.
    options: dict[str, Any] = {"newline": "", "encoding": "utf-8", "errors": "surrogateescape"}
    with written_beside(out) as beside, beside.open("w", **options) as file:
        write_csv(file, rows)
    console.print(f"{len(rows) - 1} predictions written to {out}", markup=False, soft_wrap=True)


def _side_of_weights(given: dict[str, Any]) -> int | None:
    """Return the side of images that weights from elsewhere expect, if there are any."""
    from kmedclf import recipes

    if recipes.chosen(given.get("recipe", recipes.AUTO), given.get("weights")) != "transfer":
        return None
    side: int = recipes.RECIPES["transfer"]["ImageClassifier"]["image_size"]
    return side


def show(reports: dict[str, AnyReport], title: str) -> None:
    """Print the scores, one column per split."""
    from kmedclf.evaluation.scores import SCORES
    from kmedclf.evaluation.wording import interval_words

    if not reports:
        return  # data without "val" and "test"
    columns = [f"{split}, n = {report.n:,}" for split, report in reports.items()]
    table = Table("", *columns, box=None)
    for score in next(iter(reports.values())).headline:
        table.add_row(SCORES[score], *(str(report.scores[score]) for report in reports.values()))
    words = dict.fromkeys(filter(None, map(interval_words, reports.values())))
    title = ", with ".join([title, *list(words)[:1]])
    console.print(title, markup=False, style="bold")
    console.print(table)
    # Those of the other split would say the same once more
    split, report = next(iter(reports.items()))
    for warning in report.warnings:
        console.print(f"{split}: {warning}", markup=False, highlight=False)
