"""One line about a whole search: where it is, what is best, how long it will take."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any, Self

import numpy as np


class SearchProgress:
    """Progress over all fits of a search.

    A bar on a terminal; elsewhere, as in a log file, a line now and then.

    Parameters
    ----------
    label : str
        What is searched.
    total : float or None
        Work to do, in the units of ``advance``; None where nobody knows.
    verbose : int, default=0
        0 is silent.
    interval : float, default=30.0
        Seconds between two lines in a log.
    """

    def __init__(
        self, label: str, total: float | None, verbose: int = 0, interval: float = 30.0
    ) -> None:
        self.label = label
        self.total = total
        self.verbose = verbose
        self.interval = interval
        self.done = 0.0
        self.best = -np.inf
        self.stage = ""
        self._bar: Any = None
        self._written = self._started = time.monotonic()

    def __enter__(self) -> Self:
        """Start the clock."""
        self._written = self._started = time.monotonic()
        if self.verbose:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn

            self._console = Console()
            if self._console.is_terminal:
                columns = TextColumn("{task.description}"), BarColumn(bar_width=20)
                self._bar = Progress(*columns, console=self._console)
                self._bar.add_task(self.label, total=self.total)
                self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave the bar as it stands, or write the last line."""
        if self._bar is not None:
            self._bar.stop()
        elif self.verbose:
            self._console.print(self.line(), highlight=False, soft_wrap=True)

    def begin(self, stage: str) -> None:
        """Name what comes next; the best so far is of this stage."""
        self.stage, self.best = stage, -np.inf

    def skip(self, work: float) -> None:
        """Take work off the total that turns out to be none."""
        if self.total is not None:
            self.total -= work

    def advance(self, work: float, where: str, score: float | None = None) -> None:
        """Take in one finished fit, and the mean score of a candidate if it is its last one."""
        self.done += work
        if score is not None and score > self.best:
            self.best = score
        if not self.verbose:
            return
        text = self.line(where)
        if self._bar is not None:
            self._bar.update(0, completed=self.done, total=self.total, description=text)
        elif time.monotonic() - self._written >= self.interval:
            self._written = time.monotonic()
            self._console.print(text, highlight=False, soft_wrap=True)

    def line(self, where: str = "") -> str:
        """Write the line."""
        elapsed = time.monotonic() - self._started
        parts = [self.label, self.stage, where]
        if np.isfinite(self.best):
            parts.append(f"best {self.best:.4f}")
        parts.append(f"{_clock(elapsed)} elapsed")
        if self.total and self.done:
            left = elapsed / self.done * max(self.total - self.done, 0)
            parts.append(f"{_clock(left)} left")
        return " · ".join(filter(None, parts))


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
