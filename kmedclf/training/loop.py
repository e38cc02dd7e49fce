"""The training loop: epochs, early stopping, history and callbacks."""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import keras
import numpy as np
import tensorflow as tf

from kmedclf.inputs.images import Rows
from kmedclf.training import cache, devices, network
from kmedclf.training.batches import Feed, InMemoryBatches, StreamedBatches
from kmedclf.training.callbacks import Hooks, Logs
from kmedclf.training.network import Spec
from kmedclf.training.program import CompiledNetwork, Weights, check_weights, largest
from kmedclf.training.schedules import EarlyStopping, Schedule

SUSPECT = 1e4
"""Weights beyond this may overflow in a forward pass, even if they are finite."""

ABSURD = 1e8
"""Cross entropy per image beyond which a network has diverged, even if it is finite."""


class Diverged(ValueError):
    """A training diverged, and would do so again."""


@dataclass
class TrainingState:
    """The learnt state of a network, as arrays."""

    weights: Weights  # in the order of `keras.Model.weights`
    history: dict[str, list[float]]  # one value per epoch
    best_epoch: int  # counted from 1; the last epoch without a validation set
    optimizer: Weights | None = None  # the optimizer's variables, if training may continue
    n_params: tuple[int, int] = (0, 0)  # trainable, non-trainable


@dataclass(frozen=True)
class Snapshot:
    """Where a training stands between two epochs: all that its other epochs depend on."""

    first: int  # epochs of earlier trainings
    history: dict[str, list[float]]
    weights: Weights
    optimizer: Weights  # with the learning rate, which schedules and callbacks change
    stopping: list[float] | None  # of `EarlyStopping`, with a validation set
    best: Weights | None  # weights of the best epoch, if they are to be restored
    ill: tuple[int, Logs] | None  # first of the last epochs with unsound logs


class Checkpoint(Protocol):
    """Keeps the last snapshot of an unfinished training outside the process."""

    def later(self, task: TrainingTask) -> TrainingState | None:
        """Return the kept state if a training of several parts was interrupted in a later one."""

    def found(self, first: int) -> Snapshot | None:
        """Return what an interrupted training has left, if it began after ``first`` epochs."""

    def keep(self, snapshot: Snapshot) -> None:
        """Keep a snapshot in place of the one before."""


@dataclass(frozen=True)
class TrainingTask:
    """All that determines the result of a training."""

    spec: Spec
    schedule: Schedule
    rows: Rows  # training set
    validation_rows: Rows | None
    augment: tuple[Any, ...]  # from `kmedclf.augmentation.resolve`
    seed: int  # of initial weights, order, augmentation and dropout
    start: TrainingState | None = None  # continue from here
    keep_optimizer: bool = False  # return the optimizer's variables, too
    checkpoint: Checkpoint | None = None  # changes no result


def train(task: TrainingTask, callbacks: Sequence[keras.callbacks.Callback] = ()) -> TrainingState:
    """Train a network; return its state, with a history that continues that of ``task.start``.

    Raises ValueError if the training diverges and no earlier epoch is restored.
    """
    if task.start is not None:
        check_weights(task.start.weights, task.spec.estimator.__name__)
    # Under a user's device scope, the variables of later fits would be on that device, too.
    with tf.device(None), cache.borrow(task.spec) as program, Feed.borrow() as feed:
        schedule = task.schedule
        # Each use of the seed has a number of its own, so that draws are independent.
        fresh = np.random.SeedSequence([task.seed, 0]) if task.start is None else None
        program.reset(fresh, schedule.learning_rate, schedule.scalars)
        history: dict[str, list[float]] = {}
        if task.start is None:
            network.adapt(program.model, task.rows, task.spec.scale, task.seed)
        else:
            # Not with `load`, which would consider them loaded still after the training.
            program.model.set_weights(task.start.weights)
            if task.start.optimizer is not None:
                program.load_optimizer(task.start.optimizer)
            history = {name: list(values) for name, values in task.start.history.items()}
        base = float(program.model.optimizer.learning_rate)
        if schedule.epochs:
            state = _Run(program, feed, task, base).epochs(history, callbacks)
        else:  # the initial weights are asked for
            state = TrainingState(program.weights(), {"loss": [], "accuracy": []}, 0)
        state.n_params = program.n_params
        state.optimizer = program.optimizer_state() if task.keep_optimizer else None
    devices.give_memory_back()
    return state


@dataclass
class _Run:
    """One training: epoch by epoch on a borrowed compiled network."""

    program: CompiledNetwork
    feed: Feed
    task: TrainingTask
    learning_rate: float

    def epochs(
        self, history: dict[str, list[float]], callbacks: Sequence[keras.callbacks.Callback]
    ) -> TrainingState:
        first = len(history.get("loss", ()))
        last = first + self.task.schedule.epochs
        with Hooks.calling(callbacks, self.program, last, self.steps) as calls:
            return self._epochs(history, calls, first, last)

    def _epochs(
        self, history: dict[str, list[float]], calls: Hooks, first: int, last: int
    ) -> TrainingState:
        schedule, checkpoint = self.task.schedule, self.task.checkpoint
        watch = EarlyStopping(schedule) if self.task.validation_rows is not None else None
        restores = schedule.early_stopping and schedule.restore_best
        best = None
        ill: tuple[int, Logs] | None = None  # first of the last epochs with unsound logs
        found = checkpoint.found(first) if checkpoint else None
        if found:
            history, best, ill = self._resumed(found, watch)
        done = len(history.get("loss", ()))
        self._check_processes(done)
        chunks = self._open_feed(done, last)
        both = self.task.rows, self.task.validation_rows
        weight = max(_mean_weight(rows) for rows in both if rows)
        calls("on_train_begin")
        for epoch in range(done + 1, last + 1):
            rates = self.rates(history, first)
            calls("on_epoch_begin", epoch - 1)
            logs = self.epoch(epoch, chunks, rates, calls)
            sound = _is_sound(logs, weight)
            ill = None if sound else ill or (epoch, logs)
            improved = watch and watch.update(epoch - first, logs, sound=sound) and restores
            best = self.program.weights() if improved else best
            for name, value in calls.end_epoch(epoch - 1, logs).items():
                history.setdefault(name, []).append(value)
            stopping = watch and schedule.early_stopping and watch.exhausted(epoch - first)
            if stopping or calls.stop or (not sound and self._beyond_help()):
                break
            if checkpoint and epoch < last:
                weights = best if improved and best else self.program.weights()
                checkpoint.keep(self._snapshot(first, history, weights, watch, best, ill))
        calls("on_train_end", logs)
        weights = self.program.weights() if best is None else best
        # The losses of an epoch are computed before its last step, which may have diverged.
        if best is None and not ill and self._useless(weights):
            ill = epoch, {"largest weight": largest(weights)}
        if best is None and ill:
            raise Diverged(self._diverged(ill))
        if ill and watch:
            kept = f" and epoch {first + watch.best_epoch} is restored"
            warnings.warn(self._diverged(ill, kept), RuntimeWarning, stacklevel=2)
        return TrainingState(
            weights=weights,
            history=history,
            best_epoch=first + watch.best_epoch if watch else epoch,
        )

    def _check_processes(self, done: int) -> None:
        """Refuse to train with processes that would wait for each other, or learn another thing."""
        on = self.program.on
        if on and on.processes > 1:
            labels, task = zlib.crc32(self.task.rows.y.tobytes()), self.task
            same = len(task.rows), labels, task.seed, self.program.n_params, task.schedule, done
            on.check_same(same, task.spec.estimator.__name__)

    def _open_feed(self, done: int, last: int) -> InMemoryBatches | StreamedBatches:
        """Open the training rows for the epochs after ``done``."""
        return self.feed.open(
            self.task.rows,
            self.batch_size,
            self.task.augment,
            self.task.seed,
            (done + 1, last + 1),
            self.task.schedule.mixes,
            self.task.spec.n_classes,
        )

    def _snapshot(
        self,
        first: int,
        history: dict[str, list[float]],
        weights: Weights,
        watch: EarlyStopping | None,
        best: Weights | None,
        ill: tuple[int, Logs] | None,
    ) -> Snapshot:
        # The next epoch goes on with the history, and may be interrupted.
        history = {name: list(values) for name, values in history.items()}
        optimizer = self.program.optimizer_state()
        numbers = watch.numbers if watch else None
        return Snapshot(first, history, weights, optimizer, numbers, best, ill)

    def _resumed(
        self, found: Snapshot, watch: EarlyStopping | None
    ) -> tuple[dict[str, list[float]], Weights | None, tuple[int, Logs] | None]:
        """Set everything to where a snapshot was taken; return history, best and ill."""
        self.program.restore(found.weights, found.optimizer)
        if watch and found.stopping:
            watch.numbers = found.stopping
        return found.history, found.best, found.ill

    def _beyond_help(self) -> bool:
        """Whether weights are not finite, so that training cannot recover."""
        # A loss may be infinite for another reason: in float16, a step that overflows is skipped.
        return not np.isfinite(largest(self.program.weights()))

    def _useless(self, weights: Weights) -> bool:
        """Whether the last step diverged, which losses from before that step do not show."""
        size = largest(weights)
        if size < SUSPECT:
            return False
        few = self.task.rows.take(np.arange(min(len(self.task.rows), 32)))
        logs = self._scores(few, self.program.logits(few))
        return not (np.isfinite(size) and _is_sound(logs, _mean_weight(few)))

    def _diverged(self, when: tuple[int, Logs], then: str = "") -> str:
        """Say when a training diverged, and how, and what to change in its parameters."""
        name, (epoch, logs) = self.task.spec.estimator.__name__, when
        kinds = "loss", "val_loss", "largest weight"
        values = ", ".join(f"{kind} {logs[kind]:.3g}" for kind in kinds if kind in logs)
        reason = f"The training of {name} diverged in epoch {epoch} ({values})"
        return f"{reason}{then}: {self._advice()}."

    def _advice(self) -> str:
        """Say what would help against divergence; a clause without a full stop."""
        schedule, options = self.task.schedule, dict(self.task.spec.options)
        rate = schedule.learning_rate
        lower = [f"'learning_rate' (now {'that of Keras' if rate is None else f'{rate:g}'})"]
        given: dict[str, Any] = {"weight_decay": schedule.weight_decay, "l2": schedule.l2}
        given |= {name: options.get(name) for name in ("momentum", "focal_alpha")}
        lower += [f"{name!r}" for name, value in given.items() if value]
        if dict(self.task.spec.architecture).get("backbone_rate", 0.0) > 1:
            lower.append("'backbone_rate'")
        if self.task.rows.weight.max() > 10:
            lower.append("the weights of samples and classes")
        other = [] if "clipnorm" in options else ["set 'clipnorm'"]
        if self.task.spec.precision == "mixed_float16":
            other.append("take precision='mixed_bfloat16'")
        if self.task.spec.scale == 1.0:
            other.append("scale X")
        return " or ".join([f"lower {', '.join(lower)}", *other])

    @property
    def batch_size(self) -> int:
        """Rows in a gradient step, limited to about the size of the data."""
        # A chunk holds at least one batch, so a huge batch_size would allocate a huge chunk.
        return min(self.task.schedule.batch_size, max(len(self.task.rows), 4096))

    @property
    def steps(self) -> int:
        """Gradient steps in an epoch."""
        return -(-len(self.task.rows) // self.batch_size)

    def rates(self, history: dict[str, list[float]], first: int) -> np.ndarray | None:
        """Set the learning rate of the next epoch, or return one per step.

        ``first`` is the number of epochs before this training.
        """
        schedule = self.task.schedule
        name = schedule.monitor if self.task.validation_rows is None else f"val_{schedule.monitor}"
        done = len(history.get("loss", ()))
        if schedule.cycle is not None:
            first = done - done % schedule.cycle
        if schedule.lr_schedule in ("cosine", "one_cycle"):
            return schedule.step_rates(self.learning_rate, done - first, self.steps)
        if schedule.lr_schedule is not None:
            values = history.get(name, [])[first:]
            self.program.set_rate(schedule.epoch_rate(self.learning_rate, values))
        return None

    def epoch(
        self,
        number: int,
        chunks: InMemoryBatches | StreamedBatches,
        rates: np.ndarray | None,
        calls: Hooks,
    ) -> Logs:
        """Train one epoch, validate, and return the logs of both."""
        task = self.task
        self.program.reseed(int(np.random.default_rng([task.seed, 2, number]).integers(2**31)))
        if calls.watch_batches:
            chunks.prefetch_spec  # noqa: B018  (traces the reading graph, as `train_epoch` does)
            loss, accuracy = self._epoch_by_batches(calls, rates, chunks.chunks(number))
        else:
            loss, accuracy = self.program.train_epoch(chunks, number, self.batch_size, rates)
        logs = {"accuracy": accuracy, "loss": loss}
        if task.schedule.lr_schedule is not None:
            logs["learning_rate"] = float(self.program.model.optimizer.learning_rate)
        if task.validation_rows is not None:
            scores = self.validate(task.validation_rows, calls)
            logs |= {f"val_{name}": value for name, value in scores.items()}
        on = self.program.on
        if on and on.processes > 1:
            logs = dict(zip(logs, on.mean(list(logs.values())), strict=True))
        return logs

    def _epoch_by_batches(
        self, calls: Hooks, rates: np.ndarray | None, chunks: Iterator[Any]
    ) -> tuple[float, float]:
        loss, hits, seen = 0.0, 0.0, 0
        for step, batch in enumerate(self._batches(chunks)):
            if rates is not None:
                self.program.set_rate(rates[step])
            calls("on_train_batch_begin", step)
            n = len(batch[1])
            whole = n == self.batch_size
            step_loss, step_hits = self.program.train_step(*batch, whole=whole)
            loss, hits, seen = loss + step_loss, hits + step_hits, seen + n
            so_far = {"accuracy": float(hits) / seen, "loss": float(loss) / seen}
            calls("on_train_batch_end", step, so_far)
        return float(loss) / seen, float(hits) / seen

    def _batches(self, chunks: Iterator[Any]) -> Iterator[Any]:
        size = self.batch_size
        for chunk in chunks:
            for start in range(0, len(chunk[1]), size):
                yield tuple(column[start : start + size] for column in chunk)

    def validate(self, rows: Rows, calls: Hooks) -> Logs:
        """Score rows: unweighted accuracy and mean weighted loss."""
        calls("on_test_begin")
        if calls.watch_validation:
            logits = self._logits_by_batches(rows, calls)
        else:
            logits = self.program.logits(rows)
        logs = self._scores(rows, logits)
        calls("on_test_end", logs)
        return logs

    def _logits_by_batches(self, rows: Rows, calls: Hooks) -> np.ndarray:
        parts, size = [], len(rows)
        sums = {"accuracy": 0.0, "loss": 0.0}
        for step, start in enumerate(range(0, size, self.batch_size)):
            calls("on_test_batch_begin", step)
            end = min(start + self.batch_size, size)
            batch = rows.take(np.arange(start, end))
            parts.append(self.program.logits(batch))
            for name, mean in self._scores(batch, parts[-1]).items():
                sums[name] += mean * (end - start)
            # As in Keras, logs are means over all batches so far.
            calls("on_test_batch_end", step, {name: sums[name] / end for name in sums})
        return np.concatenate(parts)

    def _scores(self, rows: Rows, logits: np.ndarray) -> Logs:
        loss = np.asarray(self.program.loss(rows.y, logits)) * rows.weight
        return {
            "accuracy": self.program.head.accuracy(rows.y, logits),
            "loss": float(loss.mean(dtype=np.float64)),
        }


def _mean_weight(rows: Rows) -> float:
    return float(rows.weight.mean(dtype=np.float64))


def _is_sound(logs: Logs, weight: float) -> bool:
    """Whether the losses of an epoch are those of a network that learns."""
    # A loss of 1e30 is finite, but the accuracy beside it is that of a guess.
    losses = [logs[name] for name in ("loss", "val_loss") if name in logs]
    return all(np.isfinite(loss) and loss <= ABSURD * max(weight, 1.0) for loss in losses)
