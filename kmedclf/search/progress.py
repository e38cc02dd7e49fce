"""A table that shows the progress of a search: position, best candidate and time left."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np

from kmedclf.utils.text import clock


@dataclass
class Part:
    """A stage or round of a search, one row of the table."""

    name: str
    parameters: Sequence[str]  # names to show
    candidates: int = 0
    folds: int = 0
    finished: int = 0  # candidates with all their folds
    fold: int = 0  # last finished fold, from 1
    best: tuple[float, int, float] = (-np.inf, 0, 0.0)  # mean, -number, standard deviation
    winner: str = ""  # parameters of the best candidate

    def take(self, number: int, params: Mapping[str, Any], scores: Sequence[float]) -> None:
        """Record the scores of a candidate, one per fold; the first wins a tie."""
        self.finished += 1
        found = float(np.mean(scores)), -number, float(np.std(scores))
        # A comparison with NaN is False, so failures never win.
        if found > self.best:
            self.best = found
            shown = [name for name in self.parameters if name in params]
            self.winner = ", ".join(f"{n.rpartition('__')[2]}={params[n]}" for n in shown)

    def cells(self) -> tuple[str, ...]:
        """Format the row."""
        best = f"{self.best[0]:.4f} ± {self.best[2]:.4f}" if self.winner else ""
        at = f"{self.finished}/{self.candidates}", f"{self.fold}/{self.folds}"
        return self.name, *at, best, self.winner


class SearchProgress:
    """Progress over all fits of a search.

    A live table on a terminal. Elsewhere, as in a log file, a line every ``interval`` seconds and
    the table at the end. ``total`` is in the units of ``advance``, None if unknown.
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
                # Refresh even without a finished fit, because the clock is shown.
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
        """Leave the last table on the screen."""
        if self._live is not None:
            self._live.stop()
        elif self.verbose:
            self._console.print(self._table())

    def begin(self, name: str, parameters: Sequence[str]) -> None:
        """Start a new part; the best candidate so far is that of the part."""
        self.parts.append(Part(name, parameters))

    def skip(self, work: float) -> None:
        """Subtract work that is not needed from the total."""
        if self.total is not None:
            self.total -= work

    def advance(self, work: float, number: int, fold: int) -> None:
        """Record one finished fit of a candidate, by its number."""
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
        text = f"{clock(elapsed)} elapsed"
        if self.total and self.done:
            text += f" · {clock(elapsed / self.done * max(self.total - self.done, 0))} left"
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
