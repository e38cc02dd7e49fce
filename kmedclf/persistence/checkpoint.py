"""Checkpoints: the last epoch of an unfinished fit in a file, from which the same fit goes on.

The file holds arrays and JSON, is read as untrusted, and is replaced whole. It disappears when the
fit is finished.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from pathlib import Path
from pickle import PicklingError
from typing import Any

import joblib

from kmedclf.persistence import fitted_state, memory, versions
from kmedclf.training import strategy
from kmedclf.training.loop import Diverged, Snapshot, TrainingState, TrainingTask
from kmedclf.training.network import Spec
from kmedclf.training.schedules import Schedule
from kmedclf.utils import archives, files, user_code

CONTENT = "checkpoint.json"
MARK = b"kmedclf-checkpoint-v1\n"
"""Comment of the archive, which ends the file and marks it as a checkpoint."""

KIND = "checkpoint"
PAUSE = 10
"""After a write, epochs are not written for so many times as long as it took."""

_PARAMETERS = {"seed": "random_state", "start": "weights"}
_OF_DATA = ("image_shape", "scale", "n_classes", "head", "estimator", "architecture", "options")


@dataclass(frozen=True)
class Kept:
    """What a file holds: a snapshot, and what it is a snapshot of."""

    snapshot: Snapshot
    identity: dict[str, Any]
    seed: int
    seconds: float  # of training, up to the snapshot


class File:
    """The checkpoint of one fit; `kmedclf.training.loop` calls it after each epoch."""

    def __init__(self, path: Path, task: TrainingTask, more: dict[str, Any]) -> None:
        self._path, self._seed = path, task.seed
        self.name = task.spec.estimator.__name__
        self._identity = identity(task, more)
        self._kept = read(path) if os.path.lexists(path) else None
        self._differs = self._changed(self._kept.identity) if self._kept else []
        kept = self._kept if not self._differs else None
        self._is_ours = kept is not None
        self._pending: Snapshot | None = None
        self._began = time.perf_counter() - (kept.seconds if kept else 0.0)
        self._next = 0.0  # time of the next write
        self._failed = False
        # Of several processes that train together, the first one writes.
        on = dict(task.spec.options).get("strategy")
        self._writes = on is None or on.processes == 1 or strategy.number() == 0

    def _changed(self, found: dict[str, Any]) -> list[str]:
        """Name what is different in another fit."""
        own = self._identity
        changed = ["class"] if found["class"] != own["class"] else []
        for kind in ("versions", "parameters"):
            names = sorted(found[kind].keys() | own[kind].keys())
            differ = [one for one in names if found[kind].get(one) != own[kind].get(one)]
            changed += [f"{kind} ({', '.join(differ)})"] if differ else []
        # Parameters are part of what code computes, and decide on the weights of rows.
        return changed or [one for one in ("code", "data") if found[one] != own[one]]

    def _check(self, kept: Kept) -> None:
        """Refuse the checkpoint of another fit; warn of another machine."""
        if self._differs:
            raise ValueError(
                f"The checkpoint {self._path} must be of this fit of {self.name}. It is of one "
                f"with other {' and '.join(self._differs)}; restore them, or delete the file to "
                "begin anew."
            )
        if kept.identity["machine"] != self._identity["machine"]:
            warnings.warn(
                f"{self.name} goes on from {self._path} with another CPU or number of threads: the "
                "weights will differ in their last bits from those of one whole fit.",
                RuntimeWarning,
                stacklevel=5,
            )

    @property
    def epoch(self) -> int:
        """Number of epochs of this fit in the file; 0 if there is none."""
        return len(self._kept.snapshot.history["loss"]) if self._kept and self._is_ours else 0

    def later(self, task: TrainingTask) -> TrainingState | None:
        """Return the kept state if the fit was interrupted in a later part than this one."""
        done = len(task.start.history["loss"]) if task.start else 0
        kept = self._kept.snapshot if self._kept and self._is_ours else None
        if kept is None or kept.first < done + task.schedule.epochs:
            return None
        history = {name: values[: kept.first] for name, values in kept.history.items()}
        return TrainingState(kept.weights, history, kept.first)

    def found(self, first: int) -> Snapshot | None:
        """Return the snapshot of an interrupted fit, once, if it began after ``first`` epochs."""
        # Not before: a remembered fit needs no checkpoint, which may be of the next in a search.
        if self._kept is None or self._pending is not None:
            return None
        self._check(self._kept)
        return self._kept.snapshot if self._kept.snapshot.first == first else None

    def keep(self, snapshot: Snapshot) -> None:
        """Keep a snapshot: in the file, or if that would take too long, in memory for `write`."""
        self._pending = snapshot
        start = time.perf_counter()
        if start >= self._next and not self._failed:
            self.write()
            end = time.perf_counter()
            self._next = end + PAUSE * (end - start)

    def write(self) -> None:
        """Write the last snapshot; a failure is only a warning, so that the fit goes on."""
        snapshot = self._pending
        written = self._kept is not None and self._kept.snapshot is snapshot
        if snapshot is None or written or not self._writes:
            return
        best = snapshot.best
        own_best = best if best is not None and best is not snapshot.weights else []
        arrays = [*snapshot.weights, *snapshot.optimizer, *own_best]
        seconds = time.perf_counter() - self._began
        content = {
            "identity": self._identity,
            "seed": self._seed,
            "seconds": seconds,
            "first": snapshot.first,
            "history": snapshot.history,
            "stopping": snapshot.stopping,
            "ill": snapshot.ill,
            "n_weights": len(snapshot.weights),
            "n_optimizer": len(snapshot.optimizer),
            "has_best": best is not None,
        }
        try:
            archives.write(self._path, CONTENT, content, arrays, comment=MARK, through=False)
        except (OSError, TypeError, ValueError) as error:
            self._failed = True
            warnings.warn(
                f"{self.name} trains on without its checkpoint {self._path}, which could not be "
                f"written ({error}).",
                RuntimeWarning,
                stacklevel=5,
            )
            return
        self._is_ours, self._differs = True, []
        self._kept = Kept(snapshot, self._identity, self._seed, seconds)

    def remove(self) -> None:
        """Remove the file, if this fit has written or read it."""
        if self._is_ours and self._writes:
            with suppress(OSError):
                self._path.unlink(missing_ok=True)


@contextmanager
def kept(path: str | os.PathLike[str], task: TrainingTask, more: dict[str, Any]) -> Iterator[File]:
    """Keep a training in a file until it is finished; ``more`` are parameters outside the task.

    Raises ValueError if the file is none of this training.
    """
    place = Path(path)
    files.prepare(place, lambda start: start.startswith(b"PK"))
    file = File(place, task, more)
    try:
        yield file
    except Diverged:
        file.remove()
        raise
    except BaseException as error:
        file.write()
        if file.epoch:
            error.add_note(
                f"Epoch {file.epoch} of {file.name} is kept in {path}, and the same fit goes on "
                "from there."
            )
        raise
    file.remove()


def seed_of(path: str | os.PathLike[str] | None) -> int | None:
    """Return the seed of an unfinished fit, if there is one, for a fit that is given none."""
    return read(path).seed if path is not None and os.path.lexists(path) else None


def read(path: str | os.PathLike[str]) -> Kept:
    """Read a checkpoint; raise ValueError if it is none."""
    with archives.reading(path, CONTENT, KIND) as archive:
        found = _decoded(archive)
        archive.check_all_read()
    return found


def _decoded(archive: archives.Archive) -> Kept:
    match archive.content:
        case {
            "identity": {
                "class": str(), "data": str(), "code": str(),
                "parameters": dict(), "versions": dict(), "machine": dict(),
            } as found,
            "seed": int(seed),
            "seconds": float(seconds),
            "first": int(first),
            "history": dict(history),
            "stopping": [*stopping] | (None as stopping),
            "ill": [int(), dict()] | None as ill,
            "n_weights": int(n_weights),
            "n_optimizer": int(n_optimizer),
            "has_best": bool(has_best),
        } if fitted_state.are_curves(history) and _are_numbers(stopping):  # fmt: skip
            arrays = [archive.array(number) for number in range(len(archive))]
        case _:
            raise ValueError("it lacks a part")
    end = n_weights + n_optimizer
    weights, optimizer, rest = arrays[:n_weights], arrays[n_weights:end], arrays[end:]
    if len(rest) not in (0, n_weights) or not 0 <= first < len(history["loss"]):
        raise ValueError("its parts do not go together")
    if not has_best and rest:
        raise ValueError("it has more arrays than it should")
    best = (rest or weights) if has_best else None
    ill = None if ill is None else (ill[0], ill[1])
    snapshot = Snapshot(first, history, weights, optimizer, stopping, best, ill)
    return Kept(snapshot, found, seed, seconds)


def _are_numbers(stopping: Any) -> bool:
    return stopping is None or (
        len(stopping) == 4
        and all(isinstance(one, int | float) and not isinstance(one, bool) for one in stopping)
    )


def identity(task: TrainingTask, more: dict[str, Any]) -> dict[str, Any]:
    """Describe a fit: hashes of its data, code and parameters; versions and machine as they are."""
    spec, start = task.spec, task.start
    parameters = {
        **dict(spec.architecture),
        **dict(spec.options),
        **{one.name: getattr(spec, one.name) for one in fields(Spec) if one.name not in _OF_DATA},
        **{one.name: getattr(task.schedule, one.name) for one in fields(Schedule)},
        "augment": task.augment,
        "seed": task.seed,
        "warm_start": None if start is None else (start.weights, start.history, start.optimizer),
        **more,
    }
    parts = memory.parts_of(task)
    return {
        "class": parts["class"],
        "data": joblib.hash((spec.image_shape, spec.scale, spec.n_classes, *parts["data"])),
        "code": joblib.hash(parts["code"]),
        "parameters": {
            _PARAMETERS.get(name, name): _hash(value) for name, value in parameters.items()
        },
        "versions": versions(),
        "machine": parts["machine"],
    }


def _hash(value: Any) -> str:
    try:
        return str(joblib.hash(value))
    except PicklingError:  # a class or function that was defined in a function
        return str(joblib.hash(user_code.described(value)))
