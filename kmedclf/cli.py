"""The command line. Commands import what they need, so that help and typos answer at once."""

from __future__ import annotations

import csv
import difflib
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text
from typer.core import TyperGroup

import kmedclf

if TYPE_CHECKING:
    from kmedclf.base import ImageClassifier
    from kmedclf.evaluation import Report

console = Console()
errors = Console(stderr=True)

NETWORKS = {
    name.removesuffix("Classifier").lower(): name
    for name in kmedclf.__all__
    if name.endswith("Classifier") and name != "ImageClassifier"
}
DEMO: dict[str, dict[str, Any]] = {
    "MLPClassifier": {"epochs": 20},
    "CNNClassifier": {"epochs": 15, "filters": 16},
    "ResNetClassifier": {"epochs": 15, "stem_filters": 16},
}
"""Fewer kernels and epochs than the defaults: a demo should not take longer than a coffee."""


class Commands(TyperGroup):
    """Says in one sentence what the library found wrong with the user's input."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Accept ``--debug`` anywhere: people add it to the end of a line that has failed."""
        if "--debug" in args:
            args = ["--debug", *(arg for arg in args if arg != "--debug")]
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except (ValueError, OSError, ImportError) as error:
            if ctx.params["debug"] or isinstance(error, BrokenPipeError):  # of a reader who left
                raise
            sentence = str(error)
            if isinstance(error, OSError) and error.filename and error.strerror:
                sentence = f"{error.filename}: {error.strerror}."
            errors.print(Text(" ".join(sentence.split()), style="red"), soft_wrap=True)
            raise typer.Exit(2) from None


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

DataOption = Annotated[
    str, typer.Option("--data", help="MedMNIST name, path of an .npz file, or 'synthetic'.")
]
SizeOption = Annotated[int, typer.Option("--size", help="Side of the images, for MedMNIST names.")]
RunFolder = Annotated[Path, typer.Argument(metavar="DIR", help="Folder 'kmedclf train' wrote.")]


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"kmedclf {kmedclf.__version__}")
        raise typer.Exit()


VersionOption = typer.Option("--version", help="Show it.", callback=_version, is_eager=True)


@app.callback()
def _options(
    ctx: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and all logs.")] = False,
    version: Annotated[bool, VersionOption] = False,
) -> None:
    """Medical image classifiers on Keras that behave like scikit-learn estimators."""
    ctx.obj = debug


@app.command()
def demo(ctx: typer.Context) -> None:
    """Train three networks on synthetic blood cells, and compare them."""
    from kmedclf import runs

    data = runs.read_data("synthetic")
    n = data.description["n"]
    console.print("[bold]Synthetic blood cells[/] in 8 classes, drawn by a program:", end=" ")
    console.print(f"{n['train']} to train on, {n['val']} to validate, {n['test']} to test.")
    table = Table("network", "parameters", "test accuracy", "seconds", "images/s", box=None)
    _start_tensorflow(ctx)
    for name, parameters in DEMO.items():
        estimator = getattr(kmedclf, name)(
            random_state=0, verbose=int(console.is_terminal), **parameters
        )
        run = runs.fit(estimator, data)
        seen = n["train"] * len(estimator.history_["loss"])
        table.add_row(
            name, f"{estimator.n_params_:,}", str(run.reports["test"].scores["accuracy"]),
            f"{run.seconds:.1f}", f"{seen / run.seconds:,.0f}",
        )  # fmt: skip
    console.print("\nOn the synthetic test images, with 95 % bootstrap intervals:", table, sep="\n")
    console.print("Real cells next: kmedclf train cnn --data bloodmnist --out runs/cnn")


@app.command()
def train(
    ctx: typer.Context,
    network: Annotated[str, typer.Argument(metavar="NAME", help=", ".join(NETWORKS) + ".")],
    data: DataOption,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder to write.")],
    epochs: Annotated[int | None, typer.Option(help="Longest training.")] = None,
    seed: Annotated[int, typer.Option(help="The network's random_state.")] = 0,
    param: Annotated[
        list[str] | None,
        typer.Option("-p", "--param", metavar="NAME=VALUE", help="Any parameter; repeatable."),
    ] = None,
    size: SizeOption = 28,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier run.")] = False,
) -> None:
    """Train a network, score it, and write it all to a folder."""
    from kmedclf import runs

    cls_name = _network(network)
    parameters = {"random_state": seed, "verbose": int(console.is_terminal)}
    parameters |= {} if epochs is None else {"epochs": epochs}
    parameters |= dict(_parameter(text) for text in param or [])
    runs.check_free(out, force)
    content = runs.read_data(data, size)
    _start_tensorflow(ctx)
    estimator = _make(getattr(kmedclf, cls_name), parameters)
    run = runs.train(estimator, content, out, force=force)
    _show(run.reports, f"{cls_name} on {content.description['name']}")
    epochs_run = f"epoch {estimator.best_epoch_} of {len(estimator.history_['loss'])}"
    facts = f"{estimator.n_params_:,} parameters, {epochs_run}, {run.seconds:.1f} s"
    console.print(f"{facts}; written to {out}", markup=False, soft_wrap=True)


@app.command()
def evaluate(
    ctx: typer.Context,
    folder: RunFolder,
    data: DataOption,
    split: Annotated[str, typer.Option(help="train, val or test.")] = "test",
    size: SizeOption = 28,
) -> None:
    """Score a trained network on a split of a data set."""
    from kmedclf import runs

    runs.check_run(folder)
    content = runs.read_data(data, size, only=split)
    _start_tensorflow(ctx)
    report = runs.evaluate(folder, content, split)
    _show({split: report}, f"{folder} on {content.description['name']}")


@app.command()
def predict(
    ctx: typer.Context,
    folder: RunFolder,
    images: Annotated[list[Path], typer.Argument(help="Image files, or folders of them.")],
    out: Annotated[Path | None, typer.Option(help="CSV file to write.  [default: screen]")] = None,
    proba: Annotated[bool, typer.Option("--proba", help="Write all probabilities.")] = False,
) -> None:
    """Classify image files, and write path, class and probability as CSV."""
    from kmedclf import runs

    runs.check_run(folder)
    if out is not None and not out.absolute().parent.is_dir():
        raise FileNotFoundError(f"There is no folder {out.parent} to write {out.name} to.")
    paths = runs.find_images(images)
    _start_tensorflow(ctx)
    estimator, names = runs.read(folder)
    X, n_resized = runs.read_images(paths, estimator.image_shape_)
    probabilities = estimator.predict_proba(X)
    if n_resized:
        size = " × ".join(map(str, estimator.image_shape_[:2]))
        errors.print(f"{n_resized} of {len(paths)} images resized to {size} pixels.")
    rows = [["path", "prediction", "probability", *(names if proba else [])]]
    for path, row in zip(paths, probabilities, strict=True):
        numbers = [row.max(), *(row if proba else [])]
        rows.append([str(path), names[row.argmax()], *(f"{number:.6f}" for number in numbers)])
    _write_csv(rows, out)


@app.command()
def datasets() -> None:
    """List the data sets known by name."""
    from kmedclf import datasets as known
    from kmedclf import runs

    table = Table("name", "task", "classes", "images", "licence", "here", box=None)
    for name in known.names():
        info = known.info(name)
        here = " ".join(str(size) for size in info.md5 if runs.cached(name, size).is_file())
        images = f"{sum(info.n_samples.values()):,}"
        table.add_row(name, info.task, str(info.n_classes), images, info.licence, here or "–")
    images = f"{sum(n for n, _ in runs.SYNTHETIC.values()):,}"
    table.add_row("synthetic", "multiclass", "8", images, "–", "drawn")
    console.print(table)


def _write_csv(rows: list[list[str]], out: Path | None) -> None:
    from kmedclf.persistence import written_beside

    if out is None:
        csv.writer(sys.stdout, lineterminator="\n").writerows(rows)
        return
    with written_beside(out) as beside, beside.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    console.print(f"{len(rows) - 1} predictions written to {out}", markup=False, soft_wrap=True)


def _network(name: str) -> str:
    if name.lower() in NETWORKS:
        return NETWORKS[name.lower()]
    known = ", ".join(NETWORKS)
    raise ValueError(f"NAME must be one of {known}. Got {name!r} instead{_meant(name, NETWORKS)}")


def _meant(name: str, known: Any) -> str:
    near = difflib.get_close_matches(name.lower(), list(known), n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else "."


def _parameter(text: str) -> tuple[str, Any]:
    """Read NAME=VALUE; values are those of YAML, and of JSON with it."""
    import yaml

    name, equals, value = text.partition("=")
    if not equals or not name:
        raise ValueError(f"-p must be NAME=VALUE, as in -p batch_size=32. Got {text!r} instead.")
    if re.fullmatch(r"[-+]?\d+(\.\d*)?e[-+]?\d+", value, re.I):  # YAML takes 1e-3 for a text
        return name.strip(), float(value)
    try:
        return name.strip(), yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ValueError(f"-p {text} must have a value that YAML can read ({error}).") from error


def _make(cls: type[Any], parameters: dict[str, Any]) -> ImageClassifier:
    valid = sorted(cls().get_params())
    for name in parameters:
        if name not in valid:
            raise ValueError(
                f"-p must name a parameter of {cls.__name__}, {', '.join(valid)}. "
                f"Got {name!r} instead{_meant(name, valid)}"
            )
    return cls(**parameters)


def _show(reports: dict[str, Report], title: str) -> None:
    """Print the scores, one column a split."""
    from kmedclf.evaluation.report import SCORES

    columns = [f"{split}, n = {report.n:,}" for split, report in reports.items()]
    table = Table("", *columns, box=None)
    for score in list(SCORES)[:4]:
        table.add_row(SCORES[score], *(str(report.scores[score]) for report in reports.values()))
    console.print(f"{title}, with 95 % bootstrap intervals", markup=False, style="bold")
    console.print(table)


def _start_tensorflow(ctx: typer.Context) -> None:
    """Import TensorFlow without what it says about itself; errors that it logs are shown."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # errors
    with console.status("Starting TensorFlow"), nullcontext() if ctx.obj else _without_chatter():
        from kmedclf import devices, models  # noqa: F401

        devices.gpus()


@contextmanager
def _without_chatter() -> Iterator[None]:
    """Hold back what C++ writes to stderr, and pass on all but information and warnings.

    TensorFlow's first lines come before it has read the level above.
    """
    chatter = r"[IW]\d{4} \d|WARNING: All log messages before absl::InitializeLog"
    if not Path("/dev/nvidiactl").exists():  # without a GPU, it is no error that there is none
        chatter += r"|E\d{4} .*failed call to cuInit"
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            held.seek(0)
            for line in held.read().decode(errors="replace").splitlines(keepends=True):
                if not re.match(chatter, line):
                    sys.stderr.write(line)


def main() -> None:
    """Run the command line."""
    app()
