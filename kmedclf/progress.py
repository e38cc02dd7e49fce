"""Progress of a training, as a callback."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

Logs = dict[str, float]


class EpochProgress(keras.callbacks.Callback):
    """Show one line of progress: epochs, the newest numbers, the time left.

    Parameters
    ----------
    label : str
        What is being trained.
    write : callable, optional
        Gets ``(epoch, epochs, text)`` after every epoch instead of a bar being drawn.
    """

    def __init__(self, label: str, write: Callable[[int, int, str], None] | None = None) -> None:
        super().__init__()
        self.label = label
        self.write = write
        self._bar: Any = None

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Draw the bar."""
        if self.write is None:
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            columns = "{task.description}", BarColumn(), "{task.completed}/{task.total}"
            text = TextColumn("{task.fields[numbers]}")
            self._bar = Progress(*columns, text, TimeRemainingColumn())
            self._bar.add_task(self.label, total=self.params["epochs"], numbers="")
            self._bar.start()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Move the bar on."""
        numbers = "  ".join(f"{name} {value:.3f}" for name, value in (logs or {}).items())
        if self.write is not None:
            self.write(epoch + 1, self.params["epochs"], numbers)
        else:
            self._bar.update(0, completed=epoch + 1, numbers=numbers)

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Leave the bar as it stands."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
