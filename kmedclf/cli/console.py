"""Shared by all commands: console, error messages, and TensorFlow's logs."""

from __future__ import annotations

import io
import os
import shlex
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from typing import Any

import typer
from rich.console import Console
from rich.text import Text
from typer.core import TyperGroup

from kmedclf.utils.arithmetic import without_chatter

console = Console()
errors = Console(stderr=True)


NOT_WHOLE = 3
"""Exit code of a command that finished, and kept, only a part."""

_KEPT = "kmedclf.kept"


class Stopped(KeyboardInterrupt):
    """A signal that terminates the process, like Ctrl-C."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


class Commands(TyperGroup):
    """Reports errors in the user's input as one sentence."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Accept ``--debug`` anywhere, as users append it to a line that failed."""
        if "--debug" in args:
            args = ["--debug", *(arg for arg in args if arg != "--debug")]
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        _let_names_through()
        try:
            with _stoppable(), nullcontext() if ctx.params["debug"] else _plain_warnings():
                return super().invoke(ctx)
        # A broken pipe means that the reader has exited.
        except (typer.Exit, typer.Abort, BrokenPipeError):
            raise
        except (Exception, KeyboardInterrupt) as error:
            stop = _interruption(error)
            if stop is not None:
                _say(" ".join(["Interrupted.", *_notes(stop, ctx.meta.get(_KEPT, NOTHING))]))
                raise typer.Exit(128 + getattr(stop, "number", signal.SIGINT)) from None
            # Typer prints usage errors itself; they have a method `show`.
            if ctx.params["debug"] or hasattr(error, "show"):
                raise
            sentence, code = _explain(error)
            notes = _notes(error)
            _say(" ".join([sentence, *notes]))
            raise typer.Exit(NOT_WHOLE if notes else code) from None


NOTHING = "Nothing was written."


def keeps(ctx: typer.Context, sentence: str) -> None:
    """Set the message of an interruption from now on: what is kept, and how to resume."""
    ctx.meta[_KEPT] = sentence


def _say(sentence: str) -> None:
    errors.print(Text(" ".join(sentence.split()), style="red"), soft_wrap=True)


def _notes(error: BaseException, *otherwise: str) -> list[str]:
    """Return the notes of an error, in which the library says what it has kept."""
    return list(getattr(error, "__notes__", otherwise))


def _interruption(error: BaseException) -> KeyboardInterrupt | None:
    """Find the KeyboardInterrupt behind an error; Python and packages convert some."""
    link: BaseException | None = error
    while link is not None and not isinstance(link, KeyboardInterrupt):
        link = link.__cause__ or link.__context__
    return link


def _explain(error: BaseException) -> tuple[str, int]:
    """Return message and exit code of an error: 2 for wrong input, 1 for a bug."""
    kind, text = type(error).__name__, str(error)
    if isinstance(error, MemoryError) or kind == "ResourceExhaustedError":  # TensorFlow's
        return (
            "There is not enough memory for this; smaller images, -p batch_size=8 or a smaller "
            f"network need less ({' '.join(text.split())[:200] or kind}).",
            2,
        )
    if isinstance(error, OSError) and error.strerror:
        named = isinstance(error.filename, str | bytes | os.PathLike)
        return f"{os.fsdecode(error.filename) + ': ' if named else ''}{error.strerror}.", 2
    if isinstance(error, ValueError | OSError | ImportError) and text:
        return text, 2
    return (
        f"kmedclf failed, which is its own fault, with {kind}: {' '.join(text.split())[:300]}. "
        "With --debug it shows where.",
        1,
    )


NEXT: dict[str, tuple[tuple[str, str], ...]] = {
    "demo": (
        ("train cnn --data synthetic --out runs/demo", "a run to look at, on the same images"),
        ("train cnn --data bloodmnist --out runs/cnn", "real blood cells, which are downloaded"),
        ("train cnn --data FOLDER --out runs/own", "images of your own, a folder for each class"),
    ),
    "train": (
        ("report {out}", "one page: scores, figures, every mistake"),
        ("compare {out} OTHER_DIR", "with another network on the same images"),
        ("predict {out} IMAGES --out predictions.csv", "classify new images"),
        ("app {out}", "a page to drop images on"),
    ),
    "auto": (
        ("report {out}", "one page: scores, figures, every mistake"),
        ("predict {out} IMAGES --out predictions.csv", "classify new images"),
    ),
    "evaluate": (
        ("report {folder} --split {split} --data {data}", "one page of these scores"),
        ("compare {folder} OTHER_DIR --split {split}", "with another network on the same images"),
    ),
    "predict": (
        ("evaluate {folder} --data FOLDER", "how good that is, on images whose classes are known"),
    ),
    "datasets": (
        ("audit --data synthetic", "duplicates, leaks between splits"),
        ("train cnn --data synthetic --out runs/cnn", "train, score, write a folder"),
    ),
    "audit": (("train cnn --data {data} --out runs/cnn", "train, score, write a folder"),),
    "search": (
        ("report {out}", "one page of the search"),
        ("report {out}/best", "one page of the winner"),
        ("compare {out}/best OTHER_DIR", "with another network on the same images"),
    ),
    "scheduler": (
        ("worker {address} --workers 2", "on each machine that shall train"),
        ("search cnn --data DATA --out DIR --scheduler {address}", "the search, anywhere"),
    ),
    "worker": (("search cnn --data DATA --out DIR --scheduler {address}", "the search, anywhere"),),
    "report": (
        ("compare {folder} OTHER_DIR --out comparison.html", "with another network"),
        ("predict {folder} IMAGES --out predictions.csv", "classify new images"),
    ),
    "compare": (
        ("report {best}", "one page of the best of them"),
        ("predict {best} IMAGES --out predictions.csv", "classify new images with it"),
    ),
    "reproduce": (
        ("datasets", "the data sets that studies can run on"),
        ("train cnn --data synthetic --out runs/cnn", "a network of your own"),
    ),
    "app": (
        ("predict {folder} IMAGES --out predictions.csv", "classify many images at once"),
        ("evaluate {folder} --data FOLDER", "how good that is, on images whose classes are known"),
    ),
    "export": (("predict {folder} IMAGES", "what the file must give as well"),),
    "params": (
        ("params {network} {parameter}", "all about one of them"),
        ("train {network} --data DATA --out DIR -p {parameter}={value}", "set it"),
    ),
    "doctor": (("demo", "three small networks on images that are drawn"),),
}
"""Commands that may follow a command, and what they bring; {names} are filled in."""


def say_next(command: str, to: Console = console, **names: object) -> None:
    """Print the commands that may follow ``command``, ready to be typed; lists are many words."""
    quoted = {
        name: shlex.join(map(str, value)) if isinstance(value, list) else shlex.quote(str(value))
        for name, value in names.items()
    }
    steps = [(f"kmedclf {line.format(**quoted)}", why) for line, why in NEXT[command]]
    width = max(len(line) for line, _ in steps)
    to.print("\nNext:", markup=False)
    for line, why in steps:
        to.print(f"  {line:<{width}}  # {why}", markup=False, highlight=False, soft_wrap=True)


@contextmanager
def showing_progress(quiet: bool) -> Iterator[int]:
    """Yield ``verbose`` of what is trained; progress goes to stderr where stdout is no terminal."""
    piped = not quiet and not console.is_terminal
    with redirect_stdout(sys.stderr) if piped else nullcontext():
        yield int(not quiet)


def _let_names_through() -> None:
    """Print file names that are not UTF-8 unchanged, byte by byte."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            utf8 = stream.encoding.lower().replace("-", "") == "utf8"
            stream.reconfigure(errors="surrogateescape" if utf8 else "backslashreplace")


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """Print warnings as sentences, without the lines of code that gave them."""
    before = warnings.formatwarning
    warnings.formatwarning = lambda message, *_, **__: f"{message}\n"
    try:
        yield
    finally:
        warnings.formatwarning = before


@contextmanager
def _stoppable() -> Iterator[None]:
    """Handle SIGTERM and SIGHUP like Ctrl-C, so that commands clean up."""

    def stop(number: int, frame: Any) -> None:
        raise Stopped(number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    # Keep handlers such as nohup's, which ignores SIGHUP.
    asked = [number for number in asked if signal.getsignal(number) is signal.SIG_DFL]
    for number in asked:
        signal.signal(number, stop)
    try:
        with _answered():
            yield
    finally:
        for number in asked:
            signal.signal(number, signal.SIG_DFL)


@contextmanager
def _answered(patience: float = 1.0) -> Iterator[None]:
    """Say that the command is stopping where a signal takes longer than ``patience`` seconds."""
    import socket  # which --help does without

    # Python raises KeyboardInterrupt between two of its own steps, and TensorFlow may compute for
    # seconds until then. The socket gets the number of the signal at once.
    hears, tells = socket.socketpair()
    tells.setblocking(False)
    over = threading.Event()

    def answer() -> None:
        if hears.recv(1) and not over.wait(patience):
            errors.print("Stopping ...")

    waits = threading.Thread(target=answer, daemon=True)
    waits.start()
    before = signal.set_wakeup_fd(tells.fileno(), warn_on_full_buffer=False)
    try:
        yield
    finally:
        over.set()
        signal.set_wakeup_fd(before)
        tells.close()
        waits.join()
        hears.close()


def start_tensorflow(ctx: typer.Context) -> None:
    """Import TensorFlow without its startup messages; logged errors are shown."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # errors only
    with errors.status("Starting TensorFlow"), nullcontext() if ctx.obj else without_chatter():
        import kmedclf.utils.tensorflow_loaded

        import tensorflow as tf

        import kmedclf.models  # noqa: F401  (registers our layers)
        from kmedclf.training import devices

        devices.gpus()
        # Transposing uint8 for the first time logs a line about oneDNN, at error level.
        with tf.device("CPU:0"):
            tf.function(tf.transpose)(tf.zeros((2, 2), tf.uint8))
