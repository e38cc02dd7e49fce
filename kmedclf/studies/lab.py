"""Where a study is made: its data and its folder. What the folder holds is not done again."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kmedclf import runs

if TYPE_CHECKING:
    from kmedclf.base import ImageClassifier

QUICK: dict[str, int] = {"epochs": 3, "units": 16, "filters": 8, "stem_filters": 4}
"""Largest values of these parameters in a quick study."""

QUICK_IMAGES = 200
"""Most images of a split in a quick study."""


@dataclass(frozen=True)
class Lab:
    """The data of a study, its folder, and how its items train and search.

    Attributes
    ----------
    data : runs.Data
        Splits "train" and "test", and perhaps "val".
    out : Path
        The folder; each network has one of its own in it.
    seed : int, default=0
        The ``random_state`` that items give their networks.
    quick : bool, default=False
        Whether all is made small and short, to see it work: figures then mean nothing.
    verbose : int, default=0
        1 shows progress.
    """

    data: runs.Data
    out: Path
    seed: int = 0
    quick: bool = False
    verbose: int = 0

    @classmethod
    def open(
        cls,
        source: str,
        out: str | os.PathLike[str],
        *,
        seed: int = 0,
        quick: bool = False,
        verbose: int = 0,
        size: int | None = None,
        class_names: Sequence[str] = (),
    ) -> Lab:
        """Read the data and make the folder.

        Parameters
        ----------
        source : str
            As `kmedclf.runs.read_data` takes it.
        out : path-like
            The folder.
        seed, quick, verbose
            As the attributes.
        size : int, optional
            Height and width of the images, where the set comes in several sizes.
        class_names : sequence of str, optional
            Names of the classes of a file that has none and as many classes.
        """
        data = runs.read_data(source, size)
        if data.class_names == tuple(map(str, range(len(class_names)))):
            data = replace(data, class_names=tuple(class_names))
        if quick:
            kept = {split: _few(X, y) for split, (X, y) in data.splits.items()}
            n = {split: len(y) for split, (_, y) in kept.items()}
            data = replace(data, splits=kept, description={**data.description, "n": n})
        Path(out).mkdir(parents=True, exist_ok=True)
        return cls(data, Path(out), seed, quick, verbose)

    def train(
        self, name: str, estimator: ImageClassifier, data: runs.Data | None = None
    ) -> runs.Run:
        """Train a network into the folder of its name, with its report page; or read it there.

        Parameters
        ----------
        name : str
            Of the folder, inside that of the study.
        estimator : ImageClassifier
            Not fitted.
        data : runs.Data, optional
            Other data than the study's, as those of a fold.

        Returns
        -------
        runs.Run
            The fitted estimator and its reports. It is read if the folder holds a run of the same
            parameters on the same data.
        """
        from kmedclf.evaluation.run_page import write_run_page

        folder, data = self.out / name, data or self.data
        estimator = self.shrunk(estimator).set_params(verbose=self.verbose, **data.parameters)
        if _holds(folder, estimator, data):
            run = runs.read_run(folder)
        else:
            run = runs.train(estimator, data, folder, force=True)
        if not (folder / "report.html").is_file():
            write_run_page(folder, data=data)
        return run

    def search(
        self, estimator: ImageClassifier, stages: Sequence[dict[str, Any]], **options: Any
    ) -> Any:
        """Search stage by stage, every finished fit remembered in the study's folder.

        Parameters
        ----------
        estimator : ImageClassifier
            With the parameters that are fixed.
        stages : sequence of dict
            As `kmedclf.search.StagedSearchCV` takes them; a quick search has two values of each
            parameter at most.
        **options
            Of `kmedclf.search.StagedSearchCV`.

        Returns
        -------
        StagedSearchCV
            Fitted on "train"; candidates stop early on "val", if there is one.
        """
        from kmedclf.search import StagedSearchCV

        estimator = self.shrunk(estimator).set_params(
            memory=str(self.out / "memory"), **self.data.parameters
        )
        if self.quick:
            stages = [{name: values[:2] for name, values in stage.items()} for stage in stages]
            options["subset"] = None
        X_val, y_val = self.data.splits.get("val", (None, None))
        held_out = {} if X_val is None else {"X_val": X_val, "y_val": y_val}
        search = StagedSearchCV(
            estimator, stages, **{"refit": False, "verbose": self.verbose, **options}
        )
        return search.fit(*self.data.splits["train"], **held_out)

    def shrunk(self, estimator: ImageClassifier) -> ImageClassifier:
        """Make an estimator small and short, if the study is quick."""
        if self.quick:
            for name, value in estimator.get_params().items():
                if name in QUICK and isinstance(value, int):
                    estimator.set_params(**{name: min(value, QUICK[name])})
        return estimator


def _few(X: np.ndarray, y: np.ndarray) -> runs.Split:
    """Take few rows in their order: the first ones of each class."""
    code = np.unique(y, axis=0, return_inverse=True)[1].ravel()
    order = np.argsort(code, kind="stable")
    starts = np.unique(code[order], return_index=True)[1]
    nth = np.empty(len(code), np.int64)  # of its class
    nth[order] = np.arange(len(code)) - starts[code[order]]
    kept = np.sort(np.argsort(nth, kind="stable")[:QUICK_IMAGES])
    return X[kept], y[kept]


def _holds(folder: Path, estimator: ImageClassifier, data: runs.Data) -> bool:
    """Say whether a folder holds this training: the same parameters, the same data."""
    if not (folder / runs.MODEL).is_file():
        return False
    made, environment = (
        json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        for name in ("parameters", "environment")
    )
    # A run of an earlier version lacks parameters that are new; they had then what is now default
    stored = {**type(estimator)().get_params(deep=False), **made["parameters"]}
    described = environment["data"]
    return (
        made["estimator"] == type(estimator).__name__
        and _plain({**stored, "verbose": 0}) == _plain({**estimator.get_params(), "verbose": 0})
        and all(described.get(k, v) == v for k, v in _plain(data.description).items())
    )


def _plain(value: Any) -> Any:
    """Give what JSON makes of a value."""
    return json.loads(json.dumps(value))
