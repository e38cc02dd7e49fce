"""Cache of fits: a training with identical inputs is loaded instead of repeated.

A killed search that is started again finds its finished fits here; no other state needs to be
resumed. A search with increasing epochs does not train from scratch either: a fit with
``warm_start`` continues from the longest cached fit of fewer epochs.
"""

from __future__ import annotations

import inspect
import os
import re
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import astuple, fields, replace
from pathlib import Path
from typing import Any

import joblib
import numpy as np

from kmedclf.inputs.file_array import n_bytes
from kmedclf.inputs.images import Rows
from kmedclf.persistence import fitted_state, versions
from kmedclf.training import cache, devices
from kmedclf.training.loop import TrainingState, TrainingTask
from kmedclf.training.network import Spec
from kmedclf.utils import archives, arithmetic, user_code
from kmedclf.utils.own_folder import FIT_SUFFIX, FITS, OwnFolder

CONTENT = "fit.json"
MARK = b"kmedclf-fit-v1\n"
"""Archive comment that marks a file as a cached fit."""

_NAME = re.compile(r"[0-9a-f]{32}-\d+" + re.escape(FIT_SUFFIX))


def key(task: TrainingTask) -> str:
    """Hash everything that the result of a training depends on.

    The number of epochs is appended, not hashed, so that shorter fits of the same training can be
    found by prefix.
    """
    start = task.start
    parts = (
        parts_of(task),
        [getattr(task.spec, field.name) for field in fields(Spec) if field.name != "estimator"],
        astuple(replace(task.schedule, epochs=0)),
        task.augment,
        task.seed,
        None if start is None else (start.weights, start.history, start.optimizer),
        task.keep_optimizer,
        versions(),
    )
    return f"{joblib.hash(parts)} {task.schedule.epochs}"


def parts_of(task: TrainingTask) -> dict[str, Any]:
    """Return what a result depends on besides parameters and versions, to be hashed."""
    cls = task.spec.estimator
    code = user_code.described(cls, task.spec.architecture, task.spec.options, task.augment)
    # Code, device and arithmetic are included: each may change the weights.
    return {
        "class": f"{cls.__module__}.{cls.__qualname__}",
        "code": (_source(cls), code),
        "data": _content(task.rows, task.validation_rows),
        "machine": {"gpu": bool(devices.gpus()), **arithmetic.setting()},
    }


def recall(
    memory: str | os.PathLike[str] | joblib.Memory,
    limit: int | str | None,
    task: TrainingTask,
    train: Callable[[TrainingTask], TrainingState],
) -> TrainingState:
    """Load a fit from the cache, or train and store it.

    ``limit`` is the maximum size of the cache, in bytes or as in "2G"; least recently used entries
    are evicted first. An unreadable entry is trained again, with a warning.
    """
    location = memory.location if isinstance(memory, joblib.Memory) else os.fspath(memory)
    # A joblib.Memory without a location caches nothing.
    if location is None:
        return train(task)
    store = Store(Path(location))
    name = key(task)
    common = name.rpartition(" ")[0]
    epochs = task.schedule.epochs
    state = store.load(name, task)
    if state is None:
        # Before training, so that a folder that is not writable fails at once.
        store.make()
        shorter = range(epochs - 1, 0, -1) if _extends(task) else ()
        found = (store.load(f"{common} {n}", task) for n in shorter)
        start = next(filter(None, found), None)
        state = train(task) if start is None else _go_on(task, start, train)
        store.keep(name, state, task.spec.estimator.__name__)
        if limit is not None:
            store.reduce(n_bytes(limit, "memory_limit", task.spec.estimator.__name__))
    return state


class Store:
    """A folder of fits, each one file of arrays and JSON, read as untrusted.

    The files are in a subfolder of ``location`` that belongs to the cache.
    """

    def __init__(self, location: Path) -> None:
        self._folder = OwnFolder(location, FITS, MARK)

    def load(self, key: str, task: TrainingTask) -> TrainingState | None:
        """Read the fit of a key; None if it is missing or, with a warning, invalid."""
        path = self._path(key)
        try:
            with archives.reading(path, CONTENT, "remembered fit") as archive:
                state = _decoded(archive, key)
                _check(state, task)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            warnings.warn(
                f"A remembered fit of {task.spec.estimator.__name__} in {self._folder.path} cannot "
                f"be used; it is trained again. {error}",
                RuntimeWarning,
                stacklevel=5,
            )
            return None
        with suppress(OSError):
            # Update the access time only: `reduce` evicts by it, and mtime stays true.
            os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns))
        return state

    def make(self) -> None:
        """Create the cache's own folder if it does not exist."""
        self._folder.make()

    def keep(self, key: str, state: TrainingState, owner: str) -> None:
        """Write a fit; a failure is only a warning, so that the training is not lost."""
        arrays = [*state.weights, *(state.optimizer or ())]
        content = {
            "key": key,
            "history": state.history,
            "best_epoch": int(state.best_epoch),
            "n_params": list(map(int, state.n_params)),
            "n_weights": len(state.weights),
            "has_optimizer": state.optimizer is not None,
        }
        try:
            self.make()
            archives.write(self._path(key), CONTENT, content, arrays, comment=MARK, through=False)
        except (OSError, ValueError) as error:
            warnings.warn(
                f"A fit of {owner} could not be remembered in {self._folder.path} ({error}).",
                RuntimeWarning,
                stacklevel=5,
            )

    def reduce(self, limit: int) -> None:
        """Evict the least recently used fits until the rest fit into ``limit`` bytes."""
        found = sorted(self._folder.files(f"*{FIT_SUFFIX}"), key=_last_used)
        entries = [(one, path) for one, path in found if _NAME.fullmatch(path.name)]
        size = sum(one.st_size for one, _ in entries)
        for one, path in entries:
            if size <= limit:
                return
            if self._folder.remove(path):
                size -= one.st_size

    def _path(self, key: str) -> Path:
        return self._folder.path / f"{key.replace(' ', '-')}{FIT_SUFFIX}"


def _last_used(entry: tuple[os.stat_result, Path]) -> int:
    return max(entry[0].st_atime_ns, entry[0].st_mtime_ns)


def _decoded(archive: archives.Archive, key: str) -> TrainingState:
    """Read a training state from an archive, and check its types."""
    content = archive.content
    match content:
        case {
            "key": str(found),
            "history": dict(history),
            "best_epoch": int(best_epoch),
            "n_params": [int(), int()] as n_params,
            "n_weights": int(n_weights),
            "has_optimizer": bool(has_optimizer),
        } if found == key and 0 < n_weights <= len(archive):
            arrays = [archive.array(number) for number in range(len(archive))]
        case _:
            raise ValueError("it is another fit's, or none")
    weights, rest = arrays[:n_weights], arrays[n_weights:]
    if rest and not has_optimizer:
        raise ValueError("it has more arrays than it should")
    return TrainingState(
        weights, history, best_epoch, rest if has_optimizer else None, tuple(n_params)
    )


def _check(state: TrainingState, task: TrainingTask) -> None:
    """Refuse a state that does not belong to this task."""
    curves = ["loss", "accuracy"]
    if task.validation_rows is not None:
        curves += ["val_loss", "val_accuracy"]
    if not fitted_state.are_curves(state.history) or not set(curves) <= set(state.history):
        raise ValueError("it lacks the curves of its epochs")
    done = len(task.start.history["loss"]) if task.start else 0
    epochs = len(state.history["loss"])
    if not done < epochs or not 0 < state.best_epoch <= epochs:
        raise ValueError("its epochs are not those of this fit")
    if task.keep_optimizer != (state.optimizer is not None):
        raise ValueError("it has no optimizer, or one too many")
    if not all(map(fitted_state.is_finite, state.weights)):
        raise ValueError("its weights are not finite")
    with cache.borrow(task.spec) as program:
        n_params = program.n_params
        arrays = [*state.weights, *(state.optimizer or ())]
        found = [(one.shape, one.dtype) for one in arrays]
        wanted = [(tuple(one.shape), np.dtype(one.dtype)) for one in program.model.weights]
        if state.optimizer is not None:
            wanted += program.optimizer_shapes()
    if found != wanted or state.n_params != n_params:
        raise ValueError("its arrays are not those of this network")


def _go_on(
    task: TrainingTask, start: TrainingState, train: Callable[[TrainingTask], TrainingState]
) -> TrainingState:
    """Train the epochs that a shorter fit lacks."""
    left = replace(task.schedule, epochs=task.schedule.epochs - len(start.history["loss"]))
    state = train(replace(task, start=start, schedule=left))
    # The best epoch may be one of the shorter fit.
    if task.validation_rows is not None:
        sign = 1 if left.monitor == "accuracy" else -1
        curve = sign * np.array(state.history[f"val_{left.monitor}"])
        state.best_epoch = 1 + int(np.argmax(np.where(np.isnan(curve), -np.inf, curve)))
    return state


def _extends(task: TrainingTask) -> bool:
    """Check whether a longer fit starts with exactly the epochs of a shorter one."""
    # Early stopping restores the weights of an earlier epoch, and a learning rate schedule
    # depends on the number of epochs.
    schedule = task.schedule
    plain = not schedule.early_stopping and schedule.lr_schedule is None
    return plain and task.keep_optimizer and task.start is None


def _content(rows: Rows, held: Rows | None) -> tuple[Any, ...]:
    parts: tuple[Any, ...] = (rows.images.array, rows.images.scale, *_columns(rows))
    if held is None:
        return parts
    # A validation set split off the training rows shares their images: hash them only once.
    shared = held.images is rows.images
    return *parts, None if shared else held.images.array, *_columns(held)


def _columns(rows: Rows) -> tuple[Any, ...]:
    return rows.index, rows.y, rows.weight, rows.copy


def _source(cls: type) -> str | None:
    try:
        return inspect.getsource(cls)
    except (OSError, TypeError):  # defined in an interactive session
        return None
