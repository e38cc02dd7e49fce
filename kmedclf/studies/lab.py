"""Where a study is made: its data and its folder. What the folder holds is not done again."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import kmedclf
from kmedclf import recipes, runs
from kmedclf.studies import pools

if TYPE_CHECKING:
    from kmedclf.base import ImageClassifier

QUICK: dict[str, int | float] = {
    "epochs": 3, "units": 16, "filters": 8, "stem_filters": 4, "dense_units": 16, "growth_rate": 4,
    "block_config": 2, "width": 0.25, "depth": 0.25, "num_layers": 2, "hidden_dim": 16,
    "num_heads": 2, "mlp_dim": 16, "patch_size": 8,
}  # fmt: skip
"""Largest values of these parameters in a quick study, where they are of the same type."""


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
    parameters : dict, optional
        Parameters of all networks that have them, instead of the study's.
    results : dict of str to dict
        Facts and scores of the networks trained or read so far, by name.
    """

    data: runs.Data
    out: Path
    seed: int = 0
    quick: bool = False
    verbose: int = 0
    parameters: dict[str, Any] = field(default_factory=dict)
    results: dict[str, dict[str, Any]] = field(default_factory=dict)

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
        shares: Mapping[str, float] | None = None,
        unique: bool = False,
        parameters: dict[str, Any] | None = None,
    ) -> Lab:
        """Read the data and make the folder.

        Parameters
        ----------
        source : str
            As `kmedclf.runs.read_data` takes it.
        out : path-like
            The folder.
        seed, quick, verbose, parameters
            As the attributes.
        size : int, optional
            Height and width of the images, where the set comes in several sizes.
        class_names : sequence of str, optional
            Names of the classes of a file that has none and as many classes.
        shares : mapping of str to float, optional
            Parts of each class for the splits of a folder without; see `kmedclf.studies.pools`.
        unique : bool, default=False
            Whether to leave out images that are there already.
        """
        _check_known(parameters or {})
        data = pools.read(source, size, shares, seed)
        if any(y.ndim > 1 for _, y in data.splits.values()):
            raise ValueError(
                "The data of a study must have one label an image. "
                f"{data.description['name']} has several."
            )
        if data.class_names == tuple(map(str, range(len(class_names)))):
            data = replace(data, class_names=tuple(class_names))
        data = pools.without_copies(data) if unique else data
        data = pools.few(data) if quick else data
        Path(out).mkdir(parents=True, exist_ok=True)
        return cls(data, Path(out), seed, quick, verbose, parameters or {})

    def train(
        self,
        name: str,
        estimator: ImageClassifier,
        data: runs.Data | None = None,
        *,
        page: bool = True,
    ) -> runs.Run:
        """Train a network into the folder of its name, or read it there.

        Parameters
        ----------
        name : str
            Of the folder, inside that of the study.
        estimator : ImageClassifier
            Not fitted.
        data : runs.Data, optional
            Other data than the study's, as those of a fold.
        page : bool, default=True
            Whether to write its report page, too; 'kmedclf report' does it later.

        Returns
        -------
        runs.Run
            The fitted estimator and its reports. It is read if the folder holds a run of the same
            parameters on the same data.
        """
        from kmedclf.evaluation.run_page import write_run_page

        folder, data = self.out / name, data or self.data
        estimator = self.prepared(estimator).set_params(verbose=self.verbose)
        if _holds(folder, estimator, data):
            run = runs.read_run(folder)
            runs.complete(folder, run, data)
        else:
            run = runs.train(estimator, data, folder, force=True)
        if page and not (folder / "report.html").is_file():
            write_run_page(folder, data=data)
        self.results[name] = _facts(run, data)
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

        estimator = self.prepared(estimator).set_params(memory=str(self.out / "memory"))
        if self.quick:
            stages = [{name: values[:2] for name, values in stage.items()} for stage in stages]
            options["subset"] = None
        data = runs.readable(estimator, self.data, list(self.data.splits))
        X_val, y_val = data.splits.get("val", (None, None))
        held_out = {} if X_val is None else {"X_val": X_val, "y_val": y_val}
        search = StagedSearchCV(
            estimator, stages, **{"refit": False, "verbose": self.verbose, **options}
        )
        return search.fit(*data.splits["train"], **held_out)

    def prepared(self, estimator: ImageClassifier) -> ImageClassifier:
        """Set what data and user want of an estimator, and make it small if the study is quick."""
        has = estimator.get_params()
        own = {name: value for name, value in self.parameters.items() if name in has}
        weights = own.pop("weights", None)
        estimator.set_params(**self.data.parameters, **own)
        if self.quick:
            for name, value in recipes.parameters(estimator).items():
                if name in QUICK:
                    estimator.set_params(**{name: _at_most(QUICK[name], value)})
        if weights is not None and (weights != "imagenet" or estimator.published()):
            estimator.set_params(weights=weights)
        return estimator

    def some(self, wanted: Sequence[Any], n: int = 2) -> Sequence[Any]:
        """Take the first ones if the study is quick, else all."""
        return wanted[:n] if self.quick else wanted


def _check_known(parameters: dict[str, Any]) -> None:
    known = {one for name in kmedclf.NETWORKS for one in getattr(kmedclf, name)().get_params()}
    if unknown := sorted(set(parameters) - known):
        raise ValueError(
            "The 'parameters' of a study must be some network's, such as 'epochs' or 'weights'. "
            f"Got {unknown[0]!r} instead."
        )


def _at_most(limit: float, value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(_at_most(limit, one) for one in value)
    return min(limit, value) if type(value) is type(limit) else value


def _facts(run: runs.Run, data: runs.Data) -> dict[str, Any]:
    """Collect what a table of networks may show of a run."""
    estimator = run.estimator
    parameters, usual = (recipes.parameters(one) for one in (estimator, type(estimator)()))
    return {
        "estimator": type(estimator).__name__,
        "parameters": {k: v for k, v in parameters.items() if v != usual[k]},
        "n": data.description["n"],
        "n_params": estimator.n_params_,
        "epochs": len(estimator.history_["loss"]),
        "best_epoch": estimator.best_epoch_,
        "seconds": round(run.seconds, 1),
        "scores": {
            split: {name: score._asdict() for name, score in report.scores.items()}
            for split, report in run.reports.items()
        },
    }


def _holds(folder: Path, estimator: ImageClassifier, data: runs.Data) -> bool:
    """Say whether a folder holds this training: the same parameters, the same data."""
    if not (folder / runs.MODEL).is_file():
        return False
    made, environment = (
        json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        for name in ("parameters", "environment")
    )
    # A run of an earlier version lacks parameters that are new; they had then what is now default
    stored = {**recipes.parameters(type(estimator)()), **made["used"]}
    wanted = recipes.parameters(estimator)
    same = {"verbose": 0, "recipe": ""}  # without effect, or what it stands for is compared
    described = environment["data"]
    return (
        made["estimator"] == type(estimator).__name__
        and _plain({**stored, **same}) == _plain({**wanted, **same})
        and all(described.get(k, v) == v for k, v in _plain(data.description).items())
    )


def _plain(value: Any) -> Any:
    """Give what JSON makes of a value."""
    return json.loads(json.dumps(value))
