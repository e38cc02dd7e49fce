"""Remember fits: what was trained once, with the same everything, is loaded instead of repeated.

A search that was killed and is started again finds its finished fits here; nothing else needs to be
resumed. Nor need a search that gives ever more epochs to ever fewer candidates train any of them
from the start: a fit with ``warm_start`` goes on from the longest remembered one of fewer epochs.
"""

from __future__ import annotations

import inspect
import os
import warnings
from collections.abc import Callable
from dataclasses import astuple, fields, replace
from functools import partial
from typing import Any

import joblib
import numpy as np

from kmedclf import devices
from kmedclf.network import Spec
from kmedclf.persistence import versions
from kmedclf.pipeline import Rows
from kmedclf.training import State, Task


def key(task: Task) -> str:
    """Hash everything that a training's result depends on.

    Parameters
    ----------
    task : Task
        What is to be trained.

    Returns
    -------
    str
        Changes with the parameters, the pixels, labels and weights of the rows, the code of the
        estimator's class, the kind of device and the versions of the libraries. Fits that differ
        in nothing but the epochs have it in common but for the end.
    """
    cls = task.spec.estimator
    start = task.start
    parts = (
        f"{cls.__module__}.{cls.__qualname__}",
        _source(cls),
        [getattr(task.spec, field.name) for field in fields(Spec) if field.name != "estimator"],
        astuple(replace(task.schedule, epochs=0)),
        *_content(task.rows, task.held),
        task.augment,
        task.seed,
        None if start is None else (start.weights, start.history, start.optimizer),
        task.keep_optimizer,
        bool(devices.gpus()),
        versions(),
    )
    return f"{joblib.hash(parts)} {task.schedule.epochs}"


def recall(
    memory: str | os.PathLike[str] | joblib.Memory,
    limit: int | str | None,
    task: Task,
    train: Callable[[Task], State],
) -> State:
    """Load the fit of this key from disk, or train and store it.

    Parameters
    ----------
    memory : str, path-like or joblib.Memory
        Folder of the store. It is written with pickle: use no folder that others may write to.
    limit : int, str or None
        Largest size of the store, in bytes or as in "2G"; the entries unused for longest go first.
    task : Task
        What is to be trained.
    train : callable
        Trains it.

    Returns
    -------
    State
        The result, old or new. An entry that cannot be read is trained again, with a warning.
    """
    if isinstance(memory, joblib.Memory):
        store = memory
    else:
        store = joblib.Memory(os.fspath(memory), verbose=0)
    fit = store.cache(_train, ignore=["train"])
    common = key(task).rpartition(" ")[0]

    def load(epochs: int) -> State | None:
        call = f"{common} {epochs}", train
        if not fit.check_call_in_cache(*call):
            return None
        try:
            return fit.call_and_shelve(*call).get()
        except Exception as error:  # whatever a damaged file makes the unpickler raise
            warnings.warn(
                f"A remembered fit of {task.spec.estimator.__name__} in {store.location} cannot "
                f"be read ({error!r}); it is trained again.",
                RuntimeWarning,
                stacklevel=5,
            )
            return None

    epochs = task.schedule.epochs
    state = load(epochs)
    if state is None:
        shorter = range(epochs - 1, 0, -1) if _extends(task) else ()
        start = next(filter(None, map(load, shorter)), None)
        todo = partial(train, task) if start is None else partial(_go_on, task, start, train)
        state, _ = fit.call(f"{common} {epochs}", todo)
        if limit is not None:
            store.reduce_size(bytes_limit=limit)
    return state


def _train(key: str, train: Callable[[], State]) -> State:
    return train()


def _go_on(task: Task, start: State, train: Callable[[Task], State]) -> State:
    """Train the epochs that a shorter fit lacks."""
    left = replace(task.schedule, epochs=task.schedule.epochs - len(start.history["loss"]))
    state = train(replace(task, start=start, schedule=left))
    if task.held is not None:
        sign = 1 if left.monitor == "accuracy" else -1
        curve = sign * np.array(state.history[f"val_{left.monitor}"])
        state.best_epoch = 1 + int(np.argmax(np.where(np.isnan(curve), -np.inf, curve)))
    return state


def _extends(task: Task) -> bool:
    """Say whether a longer fit begins with exactly what a shorter one does.

    Early stopping ends with the weights of an earlier epoch than the last, and schedules of the
    learning rate are spread over all epochs.
    """
    schedule = task.schedule
    plain = not schedule.early_stopping and schedule.lr_schedule is None
    return plain and task.keep_optimizer and task.start is None


def _content(rows: Rows, held: Rows | None) -> tuple[Any, ...]:
    parts: tuple[Any, ...] = (rows.images.array, rows.images.scale, *_columns(rows))
    if held is None:
        return parts
    # Rows split off share their images with the others: once is enough to read them all.
    shared = held.images is rows.images
    return *parts, None if shared else held.images.array, *_columns(held)


def _columns(rows: Rows) -> tuple[Any, ...]:
    return rows.index, rows.y, rows.weight, rows.copy


def _source(cls: type) -> str | None:
    try:
        return inspect.getsource(cls)
    except (OSError, TypeError):  # defined in an interactive session
        return None
