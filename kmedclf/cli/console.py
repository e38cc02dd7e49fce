"""What all commands share: the screen, errors in one sentence, TensorFlow's silence."""

from __future__ import annotations

import difflib
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.text import Text
from typer.core import TyperGroup

console = Console()
errors = Console(stderr=True)


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


def meant(name: str, known: Any) -> str:
    """End a sentence about an unknown name: with the nearest known one, if any is near."""
    near = difflib.get_close_matches(name.lower(), list(known), n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else "."


def start_tensorflow(ctx: typer.Context) -> None:
    """Import TensorFlow without what it says about itself; errors that it logs are shown."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # errors
    with console.status("Starting TensorFlow"), nullcontext() if ctx.obj else _without_chatter():
        import tensorflow as tf

        from kmedclf import devices, models  # noqa: F401

        devices.gpus()
        # The first bytes that are transposed call forth a line about oneDNN, at error level.
        with tf.device("CPU:0"):
            tf.function(tf.transpose)(tf.zeros((2, 2), tf.uint8))


@contextmanager
def _without_chatter() -> Iterator[None]:
    """Hold back what C++ writes to stderr, and pass on all but information and warnings.

    TensorFlow's first lines come before it has read the level above.
    """
    chatter = r"[IW]\d{4} \d|WARNING: All log messages before absl::InitializeLog"
    chatter += r"|E\d{4} .*oneDNN supports DT_UINT8 only"
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
