"""A search on disk: settings, cached fits, results and plots.

search.json holds the settings, memory the fits, results.csv and results.json the table of
candidates, curves.json the learning curve of every fold, effect-*.png the effect of a stage's
parameters on the score, report.html all of that as a page, and best the run folder of the winner.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from pathlib import Path
from typing import TYPE_CHECKING, Any

import joblib
import numpy as np
from joblib.externals.loky.backend import resource_tracker as loky_tracker
from sklearn.base import clone
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from kmedclf.datasets.sources import Data
from kmedclf.pages.search import SETTINGS, write_search_page
from kmedclf.runs import readable
from kmedclf.runs.unfinished import check_types
from kmedclf.utils import files
from kmedclf.utils.archives import read_json
from kmedclf.utils.files import write_json, written_beside
from kmedclf.utils.own_folder import FIT_SUFFIX, FITS
from kmedclf.utils.text import write_csv

if TYPE_CHECKING:
    from kmedclf.search import SearchSpace


MEMORY = "memory"
BY_RUNGS = ("halving", "hyperband")
"""Engines that set the epochs themselves."""

STAGED = ("staged", "halving")
"""Engines that search stage by stage."""


_WHOLE = (int,)
_SETTINGS: dict[str, tuple[type, ...]] = {
    "data": (str,),
    "engine": (str,),
    "epochs": _WHOLE,
    "final_epochs": _WHOLE,
    "first": (bool,),
    "folds": _WHOLE,
    "network": (str,),
    "seed": _WHOLE,
    "space": (str, type(None)),
    "subset": (float, int, type(None)),
    "trials": (int, type(None)),
}
"""Required settings of a search, and their types."""

_MORE: dict[str, tuple[type, ...]] = {
    "groups": (str, type(None)),
    "parameters": (dict,),
    "size": (int, type(None)),
}
"""Optional settings."""


@dataclass(frozen=True)
class SearchFolder:
    """A search in its folder, with the settings that its file holds."""

    out: Path
    settings: dict[str, Any]

    @classmethod
    def read(cls, out: Path) -> SearchFolder:
        """Read the settings of a search that was begun."""
        path = out / SETTINGS
        if not path.is_file():
            raise FileNotFoundError(
                f"{out} must be a folder that 'kmedclf search' wrote. There is no {SETTINGS} in it."
            )
        return cls(out, _checked(path, read_json(path)))

    def check_free(self) -> None:
        """Check that a search can start here: the folder is empty and can be created."""
        files.check_folder(self.out)
        files.sweep(self.out)
        if self.out.exists() and any(self.out.iterdir()):
            raise FileExistsError(
                f"{self.out} is not empty; choose another folder, or resume it with --resume "
                f"{self.out}."
            )

    @contextmanager
    def begun(self, go_on: str, *, new: bool) -> Iterator[None]:
        """Create the folder of a new search, or resume it.

        An error gets ``go_on`` as a note. A new search without a finished fit leaves no files.
        """
        out, made = self.out, not self.out.exists()
        if new:
            self.check_free()
            out.mkdir(parents=True, exist_ok=True)
            write_json(out / SETTINGS, self.settings)
        files.sweep(out)
        files.sweep(out / MEMORY, deep=True)
        try:
            yield
        except BaseException as error:
            if self.finished():
                error.add_note(go_on)
            elif new:
                shutil.rmtree(out / MEMORY, ignore_errors=True)
                with suppress(OSError):
                    (out / SETTINGS).unlink()
                    if made:
                        out.rmdir()
            raise

    def finished(self) -> int:
        """Count the cached fits."""
        # Only in the store's own folder: others may vanish while they are listed.
        fits = (self.out / MEMORY / FITS).glob(f"*{FIT_SUFFIX}")
        return sum(path.is_file() for path in fits)

    def searcher(
        self, estimator: Any, jobs: int | None, *, grouped: bool = False, verbose: int = 1
    ) -> Any:
        """Build the unfitted search that the settings describe.

        Fixed parameters override the space and the defaults set here: ``epochs`` at most, and
        early stopping with patience 10 from epoch 10, except for engines that set the epochs
        themselves. With ``grouped``, each group of the data is in one fold.
        """
        from kmedclf.search import StagedSearchCV, TunerSearchCV  # imports TensorFlow

        settings = self.settings
        fixed, engine = settings["parameters"], settings["engine"]
        own = {"epochs": settings["epochs"], "n_iter_no_change": 10, "min_epochs": 10}
        own["memory"] = str(self.out.absolute() / MEMORY)  # workers may be in another directory
        if engine in BY_RUNGS:
            own["early_stopping"] = False
        candidate = clone(estimator)
        candidate.set_params(**{name: one for name, one in own.items() if name not in fixed})
        space = self._space(type(estimator)).fixed(fixed)
        if not space.stages:
            raise ValueError(
                f"The space {self._space_name} must search more than what -p fixes, "
                f"{', '.join(fixed)}. It searches nothing else."
            )
        subset = settings["subset"] or space.subset
        shared: dict[str, Any] = {
            "cv": (StratifiedGroupKFold if grouped else StratifiedKFold)(settings["folds"]),
            "subset": ("first", subset) if settings["first"] and subset else subset,
            "n_jobs": jobs,
            "refit": False,
            "random_state": settings["seed"],
            "verbose": verbose,
        }
        if engine in STAGED:
            how = "halving" if engine == "halving" else "grid"
            return StagedSearchCV(candidate, space, search=how, **shared)
        trials = None if engine == "hyperband" else settings["trials"]
        return TunerSearchCV(candidate, space, tuner=engine, max_trials=trials, **shared)

    def taken_out(self, estimator: type) -> dict[str, Any]:
        """Return the fixed parameters that the space would otherwise search."""
        names = {name for stage in self._space(estimator).stages for name in stage.names}
        fixed = self.settings["parameters"]
        return {name: value for name, value in fixed.items() if name in names}

    def _space(self, estimator: type) -> SearchSpace:
        from kmedclf.search import SearchSpace

        return SearchSpace.load(self._space_name, estimator)

    @property
    def _space_name(self) -> str:
        name = self.settings["network"].removesuffix("Classifier").lower()
        flat = self.settings["engine"] not in STAGED
        return str(self.settings["space"] or (f"{name}_flat" if flat else name))

    def run(self, search: Any, data: Data, scheduler: str | None = None) -> None:
        """Search on the "train" split; candidates stop early on "val", if there is one.

        With a scheduler, its workers train; they must see the folder and the images.
        """
        waits = nullcontext() if scheduler is None else self._on_workers(scheduler, data)
        with waits:
            # fit may skip unreadable files, but scoring a fold on them would fail.
            splits = [split for split in ("train", "val") if split in data.splits]
            data = readable(search.estimator, data, splits)
            X_val, y_val = data.splits.get("val", (None, None))
            more = {} if X_val is None else {"X_val": X_val, "y_val": y_val}
            if "train" in data.groups:
                more["groups"] = data.groups["train"]
            with _room_for_workers(search.n_jobs):
                if search.n_jobs not in (1, None):
                    _start_workers(search.n_jobs)
                search.fit(*data.splits["train"], **more)

    @contextmanager
    def _on_workers(self, scheduler: str, data: Data) -> Iterator[None]:
        from kmedclf.search import cluster, on_cluster

        images = [X for X, _ in data.splits.values() if len(X)]
        listed = [Path(X[0]) for X in images if isinstance(X[0], str | os.PathLike)]
        with on_cluster(scheduler) as client:
            cluster.check_shared(client, [self.out.absolute() / SETTINGS, *listed])
            yield

    def winner(self, estimator: Any, search: Any) -> Any:
        """Return the unfitted winner with its longer training, unless epochs were searched."""
        longer = {"epochs": self.settings["final_epochs"]}
        return clone(estimator).set_params(**{**longer, **search.best_params_})

    def write_results(self, search: Any) -> None:
        """Write the table, the learning curves and the plots of a finished search."""
        import matplotlib.pyplot as plt

        results = search.cv_results_
        columns = [name for name in results if name != "params"]
        with written_beside(self.out / "results.csv") as beside:
            with beside.open("w", newline="", encoding="utf-8") as file:
                rows = zip(*(results[name] for name in columns), strict=True)
                write_csv(file, [columns, *rows])
        write_json(self.out / "results.json", {name: _plain(results[name]) for name in results})
        curves = [
            [{name: _plain(one) for name, one in fold.items()} for fold in folds]
            for folds in search.curves_
        ]
        write_json(self.out / "curves.json", curves)
        for name, figure in effects(search).items():
            with written_beside(self.out / f"effect-{name}.png") as beside:
                figure.savefig(beside, format="png", dpi=200, bbox_inches="tight")
            plt.close(figure)
        write_search_page(self.out, self.out / "report.html")


def _checked(path: Path, content: Any) -> dict[str, Any]:
    """Refuse settings of a search with missing entries or wrong types."""
    check_types(path, content, _SETTINGS, _MORE, "search")
    if not re.fullmatch(r"[A-Z][A-Za-z0-9]*Classifier", content["network"]):
        raise ValueError(
            f"The 'network' in {path} must be a classifier's name. Got "
            f"{content['network']!r:.60} instead."
        )
    return content


@contextmanager
def _room_for_workers(n_jobs: int | None) -> Iterator[None]:
    """Let joblib's workers share arrays in a folder that `sweep` removes if all are killed.

    Uses shared memory, as joblib does by default, if enough is free.
    """
    known, shared = os.environ.get("JOBLIB_TEMP_FOLDER"), Path("/dev/shm")
    if n_jobs in (1, None) or known:
        yield
        return
    roomy = shared.is_dir() and shutil.disk_usage(shared).free > 2 * 2**30
    parent = shared if roomy and os.access(shared, os.W_OK) else Path(tempfile.gettempdir())
    with files.scratch(parent, "joblib") as folder:
        os.environ["JOBLIB_TEMP_FOLDER"] = str(folder)
        try:
            yield
        finally:
            del os.environ["JOBLIB_TEMP_FOLDER"]


def _start_workers(n_jobs: int) -> None:
    """Start joblib's workers with SIGINT blocked; this process terminates them."""
    main = threading.current_thread() is threading.main_thread()
    if not main or not hasattr(signal, "pthread_sigmask"):
        return
    # Workers inherit the signal mask, and so does joblib's thread that replaces them. Without it,
    # Ctrl-C makes a worker that is still importing print a traceback.
    for tracker in (resource_tracker, loky_tracker):  # starting them unblocks the signal
        tracker.ensure_running()
    heard = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    # Another thread may still get the signal. A half-started pool would never end.
    late: list[int] = []
    asked = (signal.SIGINT, signal.SIGTERM)
    handlers = [signal.signal(number, lambda number, _: late.append(number)) for number in asked]
    try:
        joblib.Parallel(n_jobs)(joblib.delayed(int)() for _ in range(2))
    finally:
        for number, handler in zip(asked, handlers, strict=True):
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, heard)
    if late:
        signal.raise_signal(late[0])


def effects(search: Any) -> dict[str, Any]:
    """Plot the effect of each stage's parameters on the score; one figure per alternative.

    If an alternative has several parameters, the two with the most values share the figure, one
    on the x axis and one line per value of the other. Empty for searches that are not staged.
    """
    from kmedclf.evaluation import plots

    drawn = {}
    for results, parameters in _alternatives(search):
        values = {name: _distinct(results, name) for name in parameters}
        names = sorted((n for n in values if len(values[n]) > 1), key=lambda n: -_weight(values[n]))
        if not names:
            continue
        x, by = names[0], names[1] if len(names) > 1 else None
        # Numbers of kernels and units are often powers of two: evenly spaced on a log axis.
        log_x = _numeric(values[x]) and min(values[x]) > 0 and max(values[x]) >= 8 * min(values[x])
        ax = plots.effect(results, x, by=by, log_x=log_x)
        drawn["-".join(filter(None, (x, by)))] = ax.figure
    return drawn


def _alternatives(search: Any) -> Iterator[tuple[dict[str, Any], list[str]]]:
    """Yield the results of every alternative of every stage, and its parameters.

    For "halving" only the first round, where all candidates have the same epochs.
    """
    from kmedclf.search.spaces import stages_for

    if not hasattr(search, "stage_results_"):
        return
    stages = stages_for(search.estimator, search.stages, type(search).__name__)
    for stage, found in zip(stages, search.stage_results_, strict=True):
        results = found["cv_results"]
        first = np.equal(results.get("iter", np.zeros(len(results["params"]))), 0)
        for grid in stage.distributions():
            lists = {name: one for name, one in grid.items() if isinstance(one, list)}
            rows = [
                row
                for row, params in enumerate(results["params"])
                if all(params[name] in values for name, values in lists.items()) and first[row]
            ]
            # Index element by element, because "params" is a list and not an array.
            part = {name: [column[row] for row in rows] for name, column in results.items()}
            yield part, list(grid)


def _distinct(results: dict[str, Any], name: str) -> list[Any]:
    column = results.get(f"param_{name}", [])
    return list(dict.fromkeys(_plain(one) for one in column if one is not np.ma.masked))


def _numeric(values: list[Any]) -> bool:
    return all(isinstance(one, int | float) and not isinstance(one, bool) for one in values)


def _weight(values: list[Any]) -> int:
    return len(values) + 1000 * _numeric(values)


def _plain(value: Any) -> Any:
    if isinstance(value, np.ma.MaskedArray):
        return [None if one is np.ma.masked else _plain(one) for one in value]
    if isinstance(value, np.ndarray | list):
        return [_plain(one) for one in value]
    return value.item() if isinstance(value, np.generic) else value
