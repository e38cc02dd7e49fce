"""The training loop: epochs, early stopping, history, callbacks."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from kmedclf import devices, feeds, network, programs
from kmedclf.feeds import Feed, Gathered, Streamed
from kmedclf.network import Spec
from kmedclf.pipeline import Rows
from kmedclf.program import Program, Weights
from kmedclf.progress import Logs
from kmedclf.schedules import EarlyStopping, Schedule, epoch_rate, step_rates


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
    augment : tuple
        As from `kmedclf.augment.resolve`.
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
    augment: tuple[Any, ...]
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
    with programs.borrow(task.spec) as program, feeds.borrow() as feed:
        schedule = task.schedule
        fresh = np.random.SeedSequence([task.seed, 0])
        program.reset(fresh, schedule.learning_rate, schedule.knobs)
        history: dict[str, list[float]] = {}
        if task.start is None:
            network.adapt(program.model, task.rows, task.spec.scale, task.seed)
        else:
            # Not by `load`, which would take them to be there still after the training.
            program.model.set_weights(task.start.weights)
            if task.start.optimizer is not None:
                program.load_optimizer(task.start.optimizer)
            history = {name: list(values) for name, values in task.start.history.items()}
        base = float(program.model.optimizer.learning_rate)
        state = _Run(program, feed, task, base).epochs(history, callbacks)
        state.n_params = program.n_params
        state.optimizer = program.optimizer_state() if task.keep_optimizer else None
    devices.give_memory_back()
    return state


@dataclass
class _Run:
    """One borrowed program going over its data epoch by epoch, from a learning rate on."""

    program: Program
    feed: Feed
    task: Task
    learning_rate: float

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
            steps=self.steps,
        )
        best = None
        chunks = self.feed.open(
            self.task.rows,
            schedule.batch_size,
            self.task.augment,
            self.task.seed,
            (first + 1, last + 1),
            schedule.mixes,
            self.task.spec.n_classes,
        )
        hooks.on_train_begin()
        for epoch in range(first + 1, last + 1):
            rates = self.rates(history, first)
            hooks.on_epoch_begin(epoch - 1)
            logs = self.epoch(epoch, chunks, rates, hooks if _watch_batches(callbacks) else None)
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

    @property
    def steps(self) -> int:
        """Gradient steps in an epoch."""
        return -(-len(self.task.rows) // self.task.schedule.batch_size)

    def rates(self, history: dict[str, list[float]], first: int) -> np.ndarray | None:
        """Set the learning rate of the next epoch, or give those of its steps.

        Parameters
        ----------
        history : dict of str to list of float
            All epochs so far.
        first : int
            How many of them there were before this training.
        """
        schedule = self.task.schedule
        name = schedule.monitor if self.task.held is None else f"val_{schedule.monitor}"
        done = len(history.get("loss", ()))
        if schedule.cycle is not None:
            first = done - done % schedule.cycle
        if schedule.lr_schedule in ("cosine", "one_cycle"):
            return step_rates(schedule, self.learning_rate, done - first, self.steps)
        if schedule.lr_schedule is not None:
            values = history.get(name, [])[first:]
            self.program.set_rate(epoch_rate(schedule, self.learning_rate, values))
        return None

    def epoch(
        self,
        number: int,
        chunks: Gathered | Streamed,
        rates: np.ndarray | None,
        hooks: keras.callbacks.CallbackList | None,
    ) -> Logs:
        """Train one epoch and validate; the numbers of both."""
        task = self.task
        self.program.reseed(int(np.random.default_rng([task.seed, 2, number]).integers(2**31)))
        if hooks is None:
            size = task.schedule.batch_size
            loss, accuracy = self.program.train_epoch(chunks, number, size, rates)
        else:
            loss, accuracy = self._epoch_by_batches(hooks, rates, chunks.chunks(number))
        logs = {"accuracy": accuracy, "loss": loss}
        if task.schedule.lr_schedule is not None:
            logs["learning_rate"] = float(self.program.model.optimizer.learning_rate)
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
        self, hooks: keras.callbacks.CallbackList, rates: np.ndarray | None, chunks: Iterator[Any]
    ) -> tuple[float, float]:
        loss, hits, seen = 0.0, 0.0, 0
        for step, batch in enumerate(self._batches(chunks)):
            if rates is not None:
                self.program.set_rate(rates[step])
            hooks.on_train_batch_begin(step)
            n = len(batch[1])
            whole = n == self.task.schedule.batch_size
            step_loss, step_hits = self.program.train_step(*batch, whole=whole)
            loss, hits, seen = loss + step_loss, hits + step_hits, seen + n
            hooks.on_train_batch_end(step, {"loss": float(loss) / seen})
        return float(loss) / seen, float(hits) / seen

    def _batches(self, chunks: Iterator[Any]) -> Iterator[Any]:
        size = self.task.schedule.batch_size
        for chunk in chunks:
            for start in range(0, len(chunk[1]), size):
                yield tuple(column[start : start + size] for column in chunk)

    def validate(self, rows: Rows) -> Logs:
        """Score rows: mean weighted loss and plain accuracy."""
        logits = self.program.logits(rows)
        loss = np.asarray(self.program.loss(rows.y, logits)) * rows.weight
        return {
            "val_accuracy": self.program.head.accuracy(rows.y, logits),
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
