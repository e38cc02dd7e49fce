"""Progress of a training, as a callback."""

from __future__ import annotations

from typing import Any

import keras

Logs = dict[str, float]


class EpochProgress(keras.callbacks.Callback):
    """Show one line of progress: epochs, the newest numbers, the time left.

    Parameters
    ----------
    label : str
        What is being trained.
    """

    def __init__(self, label: str) -> None:
        super().__init__()
        self.label = label
        self._bar: Any = None

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Draw the bar."""
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        columns = "{task.description}", BarColumn(bar_width=12), "{task.completed}/{task.total}"
        numbers = TextColumn("{task.fields[numbers]}")
        self._bar = Progress(*columns, numbers, TimeRemainingColumn())
        self._bar.add_task(self.label, total=self.params["epochs"], numbers="")
        self._bar.start()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Move the bar on."""
        # Two numbers: with more, a line of 80 columns has no room for the bar
        shown = [name for name in ("loss", "val_accuracy") if name in (logs or {})]
        numbers = " ".join(f"{name} {logs[name]:.3f}" for name in shown) if logs else ""
        self._bar.update(0, completed=epoch + 1, numbers=numbers)

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Leave the bar as it stands."""
        self.close()

    def close(self) -> None:
        """Leave the bar as it stands, also where training fails: the terminal is the user's."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
