"""Keras callbacks of one training, and its progress bar: called as Keras would."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pickle import Pickler
from types import BuiltinFunctionType, FunctionType
from typing import Any, TypeAlias

import keras

from kmedclf.training.program import CompiledNetwork

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


Callbacks: TypeAlias = Sequence[keras.callbacks.Callback]

TRAIN_BATCHES = ("on_batch_begin", "on_batch_end", "on_train_batch_begin", "on_train_batch_end")
TEST_BATCHES = ("on_test_batch_begin", "on_test_batch_end")


class _Kept(keras.callbacks.Callback):
    """Keep the numbers of the last epoch, with those that callbacks before it have added."""

    def __init__(self) -> None:
        super().__init__()
        self.logs: dict[str, Any] = {}

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Keep them."""
        self.logs = dict(logs or {})


class Hooks:
    """Calls the callbacks of one training; without any, does nothing.

    Parameters
    ----------
    callbacks : sequence of keras.callbacks.Callback
        The user's.
    program : Program
        In training; callbacks see its model with probabilities.
    epochs, steps : int
        Number of the last epoch, and of the gradient steps in each.
    """

    def __init__(
        self,
        callbacks: Sequence[keras.callbacks.Callback],
        program: CompiledNetwork,
        epochs: int,
        steps: int,
    ) -> None:
        self._kept = _Kept()
        self._model: Any = None
        self._all: Any = None
        if callbacks:
            self._model = program.activated
            self._model.stop_training = False
            given = [*callbacks, self._kept]
            self._all = keras.callbacks.CallbackList(
                given, model=self._model, epochs=epochs, verbose=0, steps=steps
            )
        self.watch_batches = _overridden(callbacks, TRAIN_BATCHES)
        self.watch_validation = _overridden(callbacks, TEST_BATCHES)

    def __call__(self, name: str, *given: Any) -> None:
        """Call a hook by its name."""
        if self._all is not None:
            getattr(self._all, name)(*given)

    def end_epoch(self, number: int, logs: Logs) -> Logs:
        """End an epoch; the numbers with those that callbacks have added or changed."""
        if self._all is None:
            return logs
        self._all.on_epoch_end(number, logs)
        return {**logs, **{name: _plain(value) for name, value in self._kept.logs.items()}}

    @property
    def stop(self) -> bool:
        """Whether a callback wants the training to end."""
        return self._model is not None and bool(self._model.stop_training)


@contextmanager
def calling(
    callbacks: Callbacks, program: CompiledNetwork, epochs: int, steps: int
) -> Iterator[Hooks]:
    """Let callbacks watch a training, and take from them afterwards what cannot be copied.

    An estimator's callbacks are among its parameters: it can be cloned and pickled, before a fit
    and after, whether that ended well or not.
    """
    before = [dict(vars(callback)) for callback in callbacks]
    try:
        yield Hooks(callbacks, program, epochs, steps)
    except BaseException:
        for callback in callbacks:
            if isinstance(callback, keras.callbacks.TensorBoard):
                callback.on_train_end()  # else its writer would stay that of the process
        raise
    finally:
        for callback, state in zip(callbacks, before, strict=True):
            _detach(callback, state)
        if callbacks and hasattr(program.activated, "history"):
            del program.activated.history  # a user's callback


def _detach(callback: keras.callbacks.Callback, before: dict[str, Any]) -> None:
    keras.callbacks.Callback.set_model(callback, None)  # the model goes back to the cache
    if isinstance(callback, EpochProgress):
        callback.close()
    of_keras = _is_of_keras(type(callback))
    for name, value in list(vars(callback).items()):
        if name in before and value is before[name]:
            continue
        closed = isinstance(value, io.IOBase) and value.closed
        # Of a user's own callback the rest is the user's, to be read and closed after the fit.
        if not closed and (not of_keras or _can_be_copied(value)):
            continue
        if not closed and hasattr(value, "close"):  # the fit failed
            value.close()
        if name in before:
            setattr(callback, name, before[name])
        else:
            delattr(callback, name)


def _is_of_keras(cls: type) -> bool:
    mine = [
        one
        for one in cls.__mro__
        if issubclass(one, keras.callbacks.Callback) and one is not keras.callbacks.Callback
    ]
    return any(one.__module__.startswith("keras.") for one in mine)


class _Nowhere(io.RawIOBase):
    def write(self, data: Any) -> int:
        return len(data)


def _can_be_copied(value: Any) -> bool:
    try:
        # Arrays are passed by, not copied.
        Pickler(_Nowhere(), 5, buffer_callback=lambda _: False).dump(value)
    except Exception:  # whatever a class raises that cannot be pickled
        # Functions can be copied, though. Not tried out: a copy of TensorFlow's context takes the
        # context's caches with it when it is thrown away.
        return isinstance(value, FunctionType | BuiltinFunctionType)
    return True


def _plain(value: Any) -> Any:
    """Make a number of Python's of any that has one element, such as a tensor."""
    try:
        return value if isinstance(value, str) else float(value)
    except (TypeError, ValueError):
        return value


def _overridden(callbacks: Callbacks, names: tuple[str, ...]) -> bool:
    return any(
        # The bound methods: a LambdaCallback has its functions in the instance.
        getattr(getattr(one, name), "__func__", None) is not getattr(keras.callbacks.Callback, name)
        for one in callbacks
        for name in names
    )
