"""A table of a whole search while it runs: where it is, what is best, how long it will take."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np


@dataclass
class Part:
    """A stage or a round of a search, one row of the table.

    Parameters
    ----------
    name : str
        What is searched.
    parameters : sequence of str
        Those whose values are shown.
    candidates, folds : int, default=0
        How many there are.
    finished : int, default=0
        Candidates with all their folds.
    fold : int, default=0
        The last fold that was finished, from 1.
    best : tuple of (float, int, float), optional
        Mean score, minus the number and standard deviation of the best candidate so far.
    winner : str, default=""
        Its parameters.
    """

    name: str
    parameters: Sequence[str]
    candidates: int = 0
    folds: int = 0
    finished: int = 0
    fold: int = 0
    best: tuple[float, int, float] = (-np.inf, 0, 0.0)
    winner: str = ""

    def take(self, number: int, params: Mapping[str, Any], scores: Sequence[float]) -> None:
        """Take in the scores of a candidate, one a fold; the first of equals is the best."""
        self.finished += 1
        found = float(np.mean(scores)), -number, float(np.std(scores))
        if found > self.best:  # never true of NaN
            self.best = found
            shown = [name for name in self.parameters if name in params]
            self.winner = ", ".join(f"{n.rpartition('__')[2]}={params[n]}" for n in shown)

    def cells(self) -> tuple[str, ...]:
        """Write the row."""
        best = f"{self.best[0]:.4f} ± {self.best[2]:.4f}" if self.winner else ""
        at = f"{self.finished}/{self.candidates}", f"{self.fold}/{self.folds}"
        return self.name, *at, best, self.winner


class SearchProgress:
    """Progress over all fits of a search.

    A table that changes on a terminal; elsewhere, as in a log file, a line now and then and the
    table at the end.

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
        self.parts: list[Part] = []
        self._live: Any = None

    def __enter__(self) -> Self:
        """Start the clock."""
        self._written = self._started = time.monotonic()
        if self.verbose:
            from rich.console import Console
            from rich.live import Live

            self._console = Console()
            if self._console.is_terminal:
                # drawn anew even while nothing is finished: the clock goes on
                self._live = Live(
                    get_renderable=self._table, console=self._console, refresh_per_second=2
                )
                self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave the table as it stands."""
        if self._live is not None:
            self._live.stop()
        elif self.verbose:
            self._console.print(self._table())

    def begin(self, name: str, parameters: Sequence[str]) -> None:
        """Name what comes next; the best so far is of this part."""
        self.parts.append(Part(name, parameters))

    def skip(self, work: float) -> None:
        """Take work off the total that turns out to be none."""
        if self.total is not None:
            self.total -= work

    def advance(self, work: float, number: int, fold: int) -> None:
        """Take in one finished fit, of a candidate by its number."""
        self.done += work
        part = self.parts[-1]
        part.fold = fold
        if self.verbose and not self._live:
            if time.monotonic() - self._written >= self.interval:
                self._written = time.monotonic()
                at = f"candidate {number}/{part.candidates}, fold {fold}/{part.folds}"
                best = f"best {part.best[0]:.4f}" if part.winner else ""
                text = " · ".join(filter(None, [self.label, part.name, at, best, self._clock()]))
                self._console.print(text, highlight=False, soft_wrap=True)

    def _clock(self) -> str:
        elapsed = time.monotonic() - self._started
        text = f"{_time(elapsed)} elapsed"
        if self.total and self.done:
            text += f" · {_time(elapsed / self.done * max(self.total - self.done, 0))} left"
        return text

    def _table(self) -> Any:
        from rich.table import Table

        caption = f"{self.label} · {self._clock()}"
        table = Table(box=None, caption=caption, caption_justify="left", pad_edge=False)
        table.add_column("stage", no_wrap=True)
        table.add_column("candidates", justify="right")
        table.add_column("fold", justify="right")
        table.add_column("best so far", no_wrap=True)
        table.add_column("with")
        for part in self.parts:
            table.add_row(*part.cells())
        return table


def _time(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
