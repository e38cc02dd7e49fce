"""Remember fits: what was trained once, with the same everything, is loaded instead of repeated.

A search that was killed and is started again finds its finished fits here; nothing else needs to be
resumed.
"""

from __future__ import annotations

import inspect
import os
import warnings
from collections.abc import Callable
from dataclasses import astuple, fields
from typing import Any

import joblib

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
        estimator's class, the kind of device and the versions of the libraries.
    """
    cls = task.spec.estimator
    start = task.start
    parts = (
        f"{cls.__module__}.{cls.__qualname__}",
        _source(cls),
        [getattr(task.spec, field.name) for field in fields(Spec) if field.name != "estimator"],
        astuple(task.schedule),
        *_content(task.rows, task.held),
        task.augment,
        task.seed,
        None if start is None else (start.weights, start.history, start.optimizer),
        task.keep_optimizer,
        bool(devices.gpus()),
        versions(),
    )
    return joblib.hash(parts)


def recall(
    memory: str | os.PathLike[str] | joblib.Memory,
    limit: int | str | None,
    task: Task,
    train: Callable[[], State],
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
    task_key = key(task)
    if fit.check_call_in_cache(task_key, train):
        try:
            return fit.call_and_shelve(task_key, train).get()
        except Exception as error:  # whatever a damaged file makes the unpickler raise
            warnings.warn(
                f"A remembered fit of {task.spec.estimator.__name__} in {store.location} cannot "
                f"be read ({error!r}); it is trained again.",
                RuntimeWarning,
                stacklevel=4,
            )
    state, _ = fit.call(task_key, train)
    if limit is not None:
        store.reduce_size(bytes_limit=limit)
    return state


def _train(key: str, train: Callable[[], State]) -> State:
    return train()


def _content(rows: Rows, held: Rows | None) -> tuple[Any, ...]:
    parts: tuple[Any, ...] = (rows.images.array, rows.images.scale, *_columns(rows))
    if held is None:
        return parts
    # Rows split off share their images with the others: once is enough to read them all.
    shared = held.images is rows.images
    return *parts, None if shared else held.images.array, *_columns(held)


def _columns(rows: Rows) -> tuple[Any, ...]:
    return rows.index, rows.y, rows.weight


def _source(cls: type) -> str | None:
    try:
        return inspect.getsource(cls)
    except (OSError, TypeError):  # defined in an interactive session
        return None
