"""Early stopping and learning rate schedules."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np


@dataclass(frozen=True)
class Schedule:
    """How long and how to train; fields are the estimators' parameters of the same names."""

    epochs: int
    batch_size: int
    learning_rate: float | None
    early_stopping: bool
    monitor: str
    n_iter_no_change: int
    min_epochs: int
    tol: float
    tol_mode: str
    restore_best: bool
    stop_against: str = "best"
    weight_decay: float | None = None
    l2: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    lr_schedule: str | None = None
    lr_step: int = 5
    lr_factor: float = 0.1
    lr_patience: int = 10
    lr_warmup: float | None = None
    cycle: int | None = None  # epochs of the learning rate's schedule, if this is a part of it

    @property
    def scalars(self) -> dict[str, float]:
        """Values that a compiled network reads from variables."""
        return {"weight_decay": float(self.weight_decay or 0.0), "l2": float(self.l2)}

    @property
    def mixes(self) -> dict[str, float]:
        """Alpha of each mixing method in use."""
        given = {"mixup": self.mixup, "cutmix": self.cutmix}
        return {name: float(alpha) for name, alpha in given.items() if alpha}

    def epoch_rate(self, base: float, values: Sequence[float]) -> float:
        """Compute the next epoch's learning rate under "step" and "plateau".

        ``base`` is the initial rate, ``values`` the monitored value of each epoch so far.
        """
        if self.lr_schedule == "step":
            falls = len(values) // self.lr_step
        else:
            falls = self._plateaus(values)
        return float(base * self.lr_factor**falls)

    def _plateaus(self, values: Sequence[float]) -> int:
        """Count how often a curve waited ``lr_patience`` epochs for an improvement."""
        waiting = replace(
            self, n_iter_no_change=self.lr_patience, min_epochs=1, stop_against="best"
        )
        watch, falls = EarlyStopping(waiting), 0
        for epoch, value in enumerate(values, 1):
            watch.update(epoch, {f"val_{self.monitor}": value})
            if watch.exhausted(epoch):
                watch.wait_again(epoch)
                falls += 1
        return falls

    def step_rates(self, base: float, epoch: int, steps: int) -> np.ndarray:
        """Compute the learning rate of each step of an epoch under "cosine" and "one_cycle".

        ``base`` is the highest rate; ``epoch`` counts from 0.
        """
        # Keras' CosineDecay and PyTorch's OneCycleLR, which replaces the straight lines of
        # L. Smith, N. Topin, "Super-convergence", 2018, by half cosines.
        total = (self.cycle or self.epochs) * steps
        step = np.arange(epoch * steps, (epoch + 1) * steps)
        if self.lr_schedule == "cosine":
            warm = int((self.lr_warmup or 0.0) * total)
            rising = step / max(warm, 1)
            falling = _half_cosine((step - warm) / (total - warm))
            return (base * np.where(step < warm, rising, falling)).astype(np.float32)
        start, end = 1 / 25, 1 / 250_000
        peak = (0.25 if self.lr_warmup is None else self.lr_warmup) * total - 1
        rising = 1 + (start - 1) * _half_cosine(step / max(peak, 1))
        falling = end + (1 - end) * _half_cosine((step - peak) / max(total - 1 - peak, 1))
        return (base * np.where(step <= peak, rising, falling)).astype(np.float32)


@dataclass
class EarlyStopping:
    """Watches a validation curve for its best epoch and the end of patience.

    Any margin makes an epoch the best; only an improvement by more than ``tol`` renews patience.
    Against the previous epoch, any value renews it that is not worse by more than ``tol``.
    """

    schedule: Schedule
    best_epoch: int = 0
    best: float = -np.inf
    _mark: float = field(default=-np.inf, init=False)
    _mark_epoch: int = field(default=0, init=False)

    def update(self, epoch: int, logs: Mapping[str, float], *, sound: bool = True) -> bool:
        """Add an epoch's logs; return whether it is the best so far, and ``sound``."""
        value = logs[f"val_{self.schedule.monitor}"]
        value = value if self.schedule.monitor == "accuracy" else -value
        if not sound:  # a diverged network has an accuracy, but a meaningless one
            value = np.nan
        if self.schedule.stop_against == "previous":
            if value >= self._mark - self._margin():  # not so for NaN
                self._mark_epoch = epoch
            self._mark = value
        elif value > self._mark + self._margin():
            self._mark, self._mark_epoch = value, epoch
        if value > self.best or not self.best_epoch:
            self.best, self.best_epoch = -np.inf if np.isnan(value) else value, epoch
        return self.best_epoch == epoch and np.isfinite(self.best)

    @property
    def numbers(self) -> list[float]:
        """What was seen so far, as numbers; set them to go on from there."""
        return [self.best_epoch, self.best, self._mark_epoch, self._mark]

    @numbers.setter
    def numbers(self, values: Sequence[float]) -> None:
        self.best_epoch, self._mark_epoch = int(values[0]), int(values[2])
        self.best, self._mark = float(values[1]), float(values[3])

    def _margin(self) -> float:
        if not np.isfinite(self._mark):
            return 0.0
        relative = self.schedule.tol_mode == "relative"
        return self.schedule.tol * (abs(self._mark) if relative else 1.0)

    def exhausted(self, epoch: int) -> bool:
        """Whether training should end with this epoch."""
        waited = epoch - self._mark_epoch
        earliest = min(self.schedule.min_epochs, self.schedule.epochs)
        return epoch >= earliest and waited >= self.schedule.n_iter_no_change

    def wait_again(self, epoch: int) -> None:
        """Renew the patience."""
        self._mark_epoch = epoch


def _half_cosine(way: np.ndarray) -> np.ndarray:
    """Fall from 1 to 0 while ``way`` goes from 0 to 1."""
    return (1 + np.cos(math.pi * np.clip(way, 0, 1))) / 2
