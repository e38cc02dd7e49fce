"""How long and how fast to train: early stopping, and schedules of the learning rate."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np


@dataclass(frozen=True)
class Schedule:
    """How long and how to train; the fields are the estimators' parameters of the same names.

    Parameters
    ----------
    cycle : int or None, default=None
        Epochs of the learning rate's whole schedule, where this is only one part of it.
    """

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
    weight_decay: float | None = None
    l2: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    lr_schedule: str | None = None
    lr_step: int = 5
    lr_factor: float = 0.1
    lr_patience: int = 10
    lr_warmup: float | None = None
    cycle: int | None = None

    @property
    def knobs(self) -> dict[str, float]:
        """Numbers that a compiled program reads from variables."""
        return {"weight_decay": float(self.weight_decay or 0.0), "l2": float(self.l2)}

    @property
    def mixes(self) -> dict[str, float]:
        """Alphas of the methods by which images are mixed, where any are."""
        given = {"mixup": self.mixup, "cutmix": self.cutmix}
        return {name: float(alpha) for name, alpha in given.items() if alpha}


@dataclass
class EarlyStopping:
    """Watch a validation curve: remember its best epoch, and say when to stop.

    The best epoch is the best by any margin; patience is only renewed by an improvement of more
    than ``tol``.

    Parameters
    ----------
    schedule : Schedule
        Monitor, patience, tolerance and shortest training.
    """

    schedule: Schedule
    best_epoch: int = 0
    best: float = -np.inf
    _mark: float = field(default=-np.inf, init=False)
    _mark_epoch: int = field(default=0, init=False)

    def update(self, epoch: int, logs: Mapping[str, float], *, sound: bool = True) -> bool:
        """Take in the epoch's numbers; True if the epoch is the best so far, and is ``sound``."""
        value = logs[f"val_{self.schedule.monitor}"]
        value = value if self.schedule.monitor == "accuracy" else -value
        if not sound:  # an accuracy can be counted, but means nothing
            value = np.nan
        if value > self._mark + self._margin():
            self._mark, self._mark_epoch = value, epoch
        if value > self.best or not self.best_epoch:
            self.best, self.best_epoch = -np.inf if np.isnan(value) else value, epoch
        return self.best_epoch == epoch and np.isfinite(self.best)

    def _margin(self) -> float:
        if not np.isfinite(self._mark):
            return 0.0
        relative = self.schedule.tol_mode == "relative"
        return self.schedule.tol * (abs(self._mark) if relative else 1.0)

    def exhausted(self, epoch: int) -> bool:
        """Say whether training should end with this epoch."""
        waited = epoch - self._mark_epoch
        earliest = min(self.schedule.min_epochs, self.schedule.epochs)
        return epoch >= earliest and waited >= self.schedule.n_iter_no_change

    def wait_again(self, epoch: int) -> None:
        """Start waiting for an improvement anew."""
        self._mark_epoch = epoch


def epoch_rate(schedule: Schedule, base: float, values: Sequence[float]) -> float:
    """Compute the learning rate of an epoch under the schedules that change it between epochs.

    Parameters
    ----------
    schedule : Schedule
        With its ``lr_`` parameters.
    base : float
        Learning rate to start with.
    values : sequence of float
        The monitored value of each epoch of this schedule so far.

    Returns
    -------
    float
        Learning rate of the epoch that follows.
    """
    if schedule.lr_schedule == "step":
        falls = len(values) // schedule.lr_step
    else:
        falls = _plateaus(schedule, values)
    return float(base * schedule.lr_factor**falls)


def _plateaus(schedule: Schedule, values: Sequence[float]) -> int:
    """Count how often a curve waited ``lr_patience`` epochs for an improvement."""
    waiting = replace(schedule, n_iter_no_change=schedule.lr_patience, min_epochs=1)
    watch, falls = EarlyStopping(waiting), 0
    for epoch, value in enumerate(values, 1):
        watch.update(epoch, {f"val_{schedule.monitor}": value})
        if watch.exhausted(epoch):
            watch.wait_again(epoch)
            falls += 1
    return falls


def step_rates(schedule: Schedule, base: float, epoch: int, steps: int) -> np.ndarray:
    """Compute the learning rates of an epoch's steps under "cosine" and "one_cycle".

    Parameters
    ----------
    schedule : Schedule
        With its ``lr_`` parameters.
    base : float
        Highest learning rate.
    epoch : int
        Number of the epoch, from 0.
    steps : int
        Gradient steps in an epoch.

    Returns
    -------
    ndarray of shape (steps,), float32
        A rate for every step.

    References
    ----------
    "cosine" is Keras' ``CosineDecay``, "one_cycle" PyTorch's ``OneCycleLR``: L. Smith, N. Topin,
    "Super-convergence", 2018, with halves of cosines in place of straight lines.
    """
    total = (schedule.cycle or schedule.epochs) * steps
    step = np.arange(epoch * steps, (epoch + 1) * steps)
    if schedule.lr_schedule == "cosine":
        warm = int((schedule.lr_warmup or 0.0) * total)
        rising = step / max(warm, 1)
        falling = _half_cosine((step - warm) / (total - warm))
        return (base * np.where(step < warm, rising, falling)).astype(np.float32)
    start, end = 1 / 25, 1 / 250_000
    peak = (0.25 if schedule.lr_warmup is None else schedule.lr_warmup) * total - 1
    rising = 1 + (start - 1) * _half_cosine(step / max(peak, 1))
    falling = end + (1 - end) * _half_cosine((step - peak) / max(total - 1 - peak, 1))
    return (base * np.where(step <= peak, rising, falling)).astype(np.float32)


def _half_cosine(way: np.ndarray) -> np.ndarray:
    """Fall from 1 to 0 while ``way`` goes from 0 to 1."""
    return (1 + np.cos(math.pi * np.clip(way, 0, 1))) / 2
