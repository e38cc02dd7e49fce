"""Calls Keras callbacks during a training as Keras would; the progress bar."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pickle import Pickler
from types import BuiltinFunctionType, FunctionType
from typing import Any, Self, TypeAlias

import keras

from kmedclf.training.program import CompiledNetwork
from kmedclf.utils.text import clock

Logs = dict[str, float]


class EpochProgress(keras.callbacks.Callback):
    """Progress of a training in one line of text: epochs, latest metrics, remaining time.

    A terminal and a notebook show the line as it changes; it is text, needs no widget, and stays
    in a saved notebook. Elsewhere, as in a log file, a line is written every ``INTERVAL`` seconds.
    """

    INTERVAL = 30.0
    only_watches = True

    def __init__(self, label: str, *, stops_early: bool = False) -> None:
        super().__init__()
        self.label = label
        self.stops_early = stops_early
        self._line = ""  # what stands in the current line of the screen

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Start the clock."""
        self._started = self._written = time.monotonic()
        self._done, self._first = 0, -1
        self._numbers = ""

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Show the epoch."""
        # A training that goes on with an earlier one does not begin with the first epoch
        self._first = epoch if self._first < 0 else self._first
        self._done = epoch + 1
        # Only two metrics, so that the line fits into 80 columns
        shown = [name for name in ("loss", "val_accuracy") if name in (logs or {})]
        self._numbers = " ".join(f"{name} {logs[name]:.3f}" for name in shown) if logs else ""
        now = time.monotonic()
        live = _is_live(sys.stdout)
        if now - self._written >= (0.2 if live else self.INTERVAL):
            self._written = now
            each = (now - self._started) / (self._done - self._first)
            left = clock(each * (self.params["epochs"] - self._done))
            most = "at most " if self.stops_early else ""
            self._show(f"{self._count()} {self._numbers} {most}{left} left", live=live)

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Say how many epochs it was, and how long it took."""
        early = ", stopped early:" if self._done < self.params["epochs"] else ""
        took = clock(time.monotonic() - self._started)
        self._show(f"{self._count()}{early} {self._numbers} in {took}", live=bool(self._line))
        self.close()

    def close(self) -> None:
        """End the line, also if training fails."""
        if self._line:
            print(flush=True)
        self._line = ""

    def _count(self) -> str:
        return f"{self.label} {self._done}/{self.params['epochs']}"

    def _show(self, text: str, *, live: bool) -> None:
        if live:
            print(f"\r{text.ljust(len(self._line))}", end="", flush=True)
            self._line = text
        else:
            print(text, flush=True)


def _is_live(stream: Any) -> bool:
    """Check whether a stream shows a line as it changes: a terminal's, or a notebook's."""
    return stream.isatty() or type(stream).__module__.startswith("ipykernel.")


Callbacks: TypeAlias = Sequence[keras.callbacks.Callback]

TRAIN_BATCHES = ("on_batch_begin", "on_batch_end", "on_train_batch_begin", "on_train_batch_end")
TEST_BATCHES = ("on_test_batch_begin", "on_test_batch_end")


class _Kept(keras.callbacks.Callback):
    """Stores the logs of the last epoch, with the entries that earlier callbacks have added."""

    def __init__(self) -> None:
        super().__init__()
        self.logs: dict[str, Any] = {}

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Store the logs."""
        self.logs = dict(logs or {})


class Hooks:
    """Calls the callbacks of one training; without callbacks it does nothing.

    ``epochs`` is the number of the last epoch, ``steps`` the gradient steps in each. The callbacks'
    model returns probabilities.
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
        """Call a hook by name."""
        if self._all is not None:
            getattr(self._all, name)(*given)

    def end_epoch(self, number: int, logs: Logs) -> Logs:
        """End an epoch; return the logs as callbacks have changed them."""
        if self._all is None:
            return logs
        self._all.on_epoch_end(number, logs)
        return {**logs, **{name: _plain(value) for name, value in self._kept.logs.items()}}

    @property
    def stop(self) -> bool:
        """Whether a callback requested the end of the training."""
        return self._model is not None and bool(self._model.stop_training)

    @classmethod
    @contextmanager
    def calling(
        cls, callbacks: Callbacks, program: CompiledNetwork, epochs: int, steps: int
    ) -> Iterator[Self]:
        """Run callbacks during a training; afterwards remove from them what cannot be copied.

        Callbacks are parameters of an estimator, which must stay clonable and picklable.
        """
        before = [dict(vars(callback)) for callback in callbacks]
        try:
            yield cls(callbacks, program, epochs, steps)
        except BaseException:
            for callback in callbacks:
                if isinstance(callback, keras.callbacks.TensorBoard):
                    callback.on_train_end()  # closes its writer, the process's default
            raise
        finally:
            for callback, state in zip(callbacks, before, strict=True):
                _detach(callback, state)
            if callbacks and hasattr(program.activated, "history"):
                del program.activated.history  # a reference to a user's callback


def _detach(callback: keras.callbacks.Callback, before: dict[str, Any]) -> None:
    keras.callbacks.Callback.set_model(callback, None)  # the model returns to the cache
    if isinstance(callback, EpochProgress):
        callback.close()
    of_keras = _is_of_keras(type(callback))
    for name, value in list(vars(callback).items()):
        if name in before and value is before[name]:
            continue
        closed = isinstance(value, io.IOBase) and value.closed
        # Attributes of a user's own callback stay, for the user to read and close after the fit.
        if not closed and (not of_keras or _can_be_copied(value)):
            continue
        if not closed and hasattr(value, "close"):  # the fit failed
            value.close()
        if name in before:
            setattr(callback, name, before[name])
        else:
            delattr(callback, name)


def _is_of_keras(cls: type) -> bool:
    bases = [
        base
        for base in cls.__mro__
        if issubclass(base, keras.callbacks.Callback) and base is not keras.callbacks.Callback
    ]
    return any(base.__module__.startswith("keras.") for base in bases)


class _Nowhere(io.RawIOBase):
    def write(self, data: Any) -> int:
        return len(data)


def _can_be_copied(value: Any) -> bool:
    try:
        # Out-of-band buffers: arrays are not copied.
        Pickler(_Nowhere(), 5, buffer_callback=lambda _: False).dump(value)
    except Exception:  # unpicklable classes raise anything
        # Functions can be copied, though. Do not try a copy: one of TensorFlow's context clears the
        # context's caches when it is deleted.
        return isinstance(value, FunctionType | BuiltinFunctionType)
    return True


def _plain(value: Any) -> Any:
    """Convert values of one element, such as tensors, to float."""
    try:
        return value if isinstance(value, str) else float(value)
    except (TypeError, ValueError):
        return value


def _overridden(callbacks: Callbacks, names: tuple[str, ...]) -> bool:
    return any(
        # Compare bound methods, as a LambdaCallback sets its functions on the instance.
        getattr(getattr(one, name), "__func__", None) is not getattr(keras.callbacks.Callback, name)
        for one in callbacks
        for name in names
    )
