"""The training loop: epochs, early stopping, history, callbacks."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from kmedclf import programs
from kmedclf.network import Spec
from kmedclf.pipeline import Rows
from kmedclf.program import Program, Weights
from kmedclf.progress import Logs


@dataclass(frozen=True)
class Schedule:
    """How long and how to train; the fields are the estimators' parameters of the same names."""

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


@dataclass
class State:
    """What a network has learnt, as arrays.

    Parameters
    ----------
    weights : list of ndarray
        In the order of ``keras.Model.weights``.
    history : dict of str to list of float
        One number an epoch.
    best_epoch : int
        Number, from 1, of the epoch with the best monitored value; the last one without
        validation data.
    optimizer : list of ndarray or None
        The optimizer's variables, where training may go on.
    n_params : tuple of int
        Numbers of trainable and of other weights.
    """

    weights: Weights
    history: dict[str, list[float]]
    best_epoch: int
    optimizer: Weights | None = None
    n_params: tuple[int, int] = (0, 0)


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

    def update(self, epoch: int, logs: Logs) -> bool:
        """Take in the epoch's numbers; True if the epoch is the best so far."""
        value = logs[f"val_{self.schedule.monitor}"]
        value = value if self.schedule.monitor == "accuracy" else -value
        if value > self._mark + self._margin():
            self._mark, self._mark_epoch = value, epoch
        if value > self.best or not self.best_epoch:
            self.best, self.best_epoch = -np.inf if np.isnan(value) else value, epoch
            return True
        return False

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


@dataclass(frozen=True)
class Task:
    """All that the result of a training depends on.

    Parameters
    ----------
    spec : Spec
        The network.
    schedule : Schedule
        How to train it.
    rows, held : Rows
        What to train on, and what to validate on after every epoch.
    augment : tuple of str
        Names of augmentation sets.
    seed : int
        Determines initial weights, order, augmentation and dropout.
    start : State, optional
        Go on from here instead of from fresh weights.
    keep_optimizer : bool, default=False
        Whether the optimizer's state is part of the result.
    """

    spec: Spec
    schedule: Schedule
    rows: Rows
    held: Rows | None
    augment: tuple[str, ...]
    seed: int
    start: State | None = None
    keep_optimizer: bool = False


def train(task: Task, callbacks: Sequence[keras.callbacks.Callback] = ()) -> State:
    """Train a network on a borrowed program.

    Parameters
    ----------
    task : Task
        What to do.
    callbacks : sequence of keras.callbacks.Callback
        Called as Keras would, with the model in training.

    Returns
    -------
    State
        The result; its history includes that of ``task.start``.
    """
    with programs.borrow(task.spec) as program:
        program.reset(np.random.SeedSequence([task.seed, 0]), task.schedule.learning_rate)
        history: dict[str, list[float]] = {}
        if task.start is not None:
            # Not by `load`, which would take them to be there still after the training.
            program.model.set_weights(task.start.weights)
            if task.start.optimizer is not None:
                program.load_optimizer(task.start.optimizer)
            history = {name: list(values) for name, values in task.start.history.items()}
        state = _Run(program, task).epochs(history, callbacks)
        state.n_params = program.n_params
        state.optimizer = program.optimizer_state() if task.keep_optimizer else None
        return state


@dataclass
class _Run:
    """One borrowed program going over its data epoch by epoch."""

    program: Program
    task: Task

    def epochs(
        self, history: dict[str, list[float]], callbacks: Sequence[keras.callbacks.Callback]
    ) -> State:
        schedule = self.task.schedule
        watch = EarlyStopping(schedule) if self.task.held is not None else None
        restores = schedule.early_stopping and schedule.restore_best
        first = len(history.get("loss", ()))
        last = first + schedule.epochs
        hooks = keras.callbacks.CallbackList(
            list(callbacks),
            model=self.program.model,
            epochs=last,
            verbose=0,
            steps=-(-len(self.task.rows) // schedule.batch_size),
        )
        best = None
        hooks.on_train_begin()
        for epoch in range(first + 1, last + 1):
            hooks.on_epoch_begin(epoch - 1)
            logs = self.epoch(epoch, hooks if _watch_batches(callbacks) else None)
            for name, value in logs.items():
                history.setdefault(name, []).append(value)
            if watch and watch.update(epoch - first, logs) and restores:
                best = self.program.weights()
            hooks.on_epoch_end(epoch - 1, logs)
            stopping = watch and schedule.early_stopping and watch.exhausted(epoch - first)
            if stopping or self.program.model.stop_training:
                break
        hooks.on_train_end()
        for callback in callbacks:
            callback.set_model(None)  # the model goes back to the cache
        return State(
            weights=best if best is not None else self.program.weights(),
            history=history,
            best_epoch=first + watch.best_epoch if watch else epoch,
        )

    def epoch(self, number: int, hooks: keras.callbacks.CallbackList | None) -> Logs:
        """Train one epoch and validate; the numbers of both."""
        task = self.task
        generator = np.random.default_rng([task.seed, 1, number])
        rows = task.rows.take(generator.permutation(len(task.rows)))
        seed = generator.integers(2**30, size=2, dtype=np.int32)
        self.program.reseed(int(generator.integers(2**31)))
        arguments = (rows, task.schedule.batch_size, task.augment, seed)
        if hooks is None:
            loss, accuracy = self.program.train_epoch(*arguments)
        else:
            loss, accuracy = self._epoch_by_batches(hooks, *arguments)
        logs = {"accuracy": accuracy, "loss": loss}
        if not np.isfinite(loss):
            warnings.warn(
                f"The training loss of {self.program.spec.estimator.__name__} became {loss} in "
                f"epoch {number}; lower 'learning_rate' or the weights.",
                RuntimeWarning,
                stacklevel=2,
            )
        if task.held is not None:
            logs |= self.validate(task.held)
        return logs

    def _epoch_by_batches(
        self, hooks: keras.callbacks.CallbackList, *arguments: Any
    ) -> tuple[float, float]:
        loss, hits, seen = 0.0, 0.0, 0
        for step, batch in enumerate(self.program.batches(*arguments)):
            hooks.on_train_batch_begin(step)
            whole = len(batch[1]) == self.task.schedule.batch_size
            step_loss, step_hits = self.program.train_step(*batch, whole=whole)
            loss, hits, seen = loss + step_loss, hits + step_hits, seen + len(batch[1])
            hooks.on_train_batch_end(step, {"loss": float(loss) / seen})
        return float(loss) / seen, float(hits) / seen

    def validate(self, rows: Rows) -> Logs:
        """Score rows: mean weighted loss and plain accuracy."""
        logits = self.program.logits(rows)
        loss = np.asarray(self.program.loss(rows.y, logits)) * rows.weight
        return {
            "val_accuracy": float(np.mean(logits.argmax(axis=1) == rows.y)),
            "val_loss": float(loss.mean(dtype=np.float64)),
        }


def _watch_batches(callbacks: Sequence[keras.callbacks.Callback]) -> bool:
    base = keras.callbacks.Callback
    names = ("on_batch_begin", "on_batch_end", "on_train_batch_begin", "on_train_batch_end")
    return any(
        # The bound methods: a LambdaCallback has its functions in the instance.
        getattr(getattr(one, name), "__func__", None) is not getattr(base, name)
        for one in callbacks
        for name in names
    )
