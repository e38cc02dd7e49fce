"""A study: its workspace, and how it becomes one page."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import kmedclf
from kmedclf import recipes, runs
from kmedclf.datasets import sources
from kmedclf.datasets.audit import ORDER
from kmedclf.pages import flat, render, without_folders
from kmedclf.pages.report import comparison_values
from kmedclf.studies import subsets
from kmedclf.studies.public_sets import PUBLIC, PublicSet
from kmedclf.studies.section import CHOSEN, Choice, Section
from kmedclf.utils.files import check_folder, sweep, write_json, write_text, written_beside
from kmedclf.utils.text import write_csv

if TYPE_CHECKING:
    from kmedclf.base import ImageClassifier


QUICK: dict[str, int | float] = {
    "epochs": 3, "units": 16, "filters": 8, "stem_filters": 4, "dense_units": 16, "growth_rate": 4,
    "block_config": 2, "width": 0.25, "depth": 0.25, "num_layers": 2, "hidden_dim": 16,
    "num_heads": 2, "mlp_dim": 16, "patch_size": 8,
}  # fmt: skip
"""Upper bounds of parameters in a quick study; values of another type stay."""


@dataclass(frozen=True)
class Workspace:
    """The data of a study, its folder, and how its items train and search.

    Attributes
    ----------
    data : runs.Data
        Splits "train" and "test", and perhaps "val".
    out : Path
        The folder; each network has its own folder in it.
    seed : int, default=0
        The ``random_state`` that items give their networks.
    quick : bool, default=False
        Whether to make everything small and short, as a smoke test; the scores mean nothing then.
    verbose : int, default=0
        1 shows progress.
    parameters : dict, optional
        Parameters that override the study's, for all networks that have them.
    results : dict of str to dict
        Facts and scores of the networks trained or read so far, by name.
    public : PublicSet, optional
        The images of the report, and where they are found.
    as_found : sources.Data, optional
        The data with their identical images, if they were removed from ``data``.
    kept : dict of str to any
        What `once` has computed.
    """

    data: sources.Data
    out: Path
    seed: int = 0
    quick: bool = False
    verbose: int = 0
    parameters: dict[str, Any] = field(default_factory=dict)
    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    public: PublicSet | None = None
    as_found: sources.Data | None = None
    kept: dict[str, Any] = field(default_factory=dict)

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
        validation: float = 0.0,
        test: str = "test",
        public: PublicSet | None = None,
    ) -> Workspace:
        """Read the data and create the folder.

        Parameters
        ----------
        source : str
            As `kmedclf.runs.read_data` takes it.
        out : path-like
            The folder.
        seed, quick, verbose, parameters
            See the attributes.
        size : int, optional
            Height and width of the images, if the data set comes in several sizes.
        class_names : sequence of str, optional
            Class names for a file without names, if their number matches.
        shares : mapping of str to float, optional
            Fractions of each class for the splits of a folder that has no splits; see
            `kmedclf.studies.subsets`.
        unique : bool, default=False
            Whether to remove duplicate images.
        validation : float, default=0.0
            Fraction of each class of "train" to draw as "val", if the data have no "val".
        test : str, default="test"
            Split that is "test", if the data have none of that name.
        public : PublicSet, optional
            See the attributes.
        """
        _check_known(parameters or {})
        data = _read(source, size, shares, seed, public)
        if any(y.ndim > 1 for _, y in data.splits.values()):
            raise ValueError(
                "The data of a study must have one label an image. "
                f"{data.description['name']} has several."
            )
        if data.class_names == tuple(map(str, range(len(class_names)))):
            data = replace(data, class_names=tuple(class_names))
        data = _tested(data, test)
        as_found = data if unique else None
        data = subsets.without_copies(data) if unique else data
        data = _validated(data, validation, seed)
        if quick:
            data = subsets.subsample(data)
            as_found = as_found and subsets.subsample(as_found)
        Path(out).mkdir(parents=True, exist_ok=True)
        return cls(
            data, Path(out), seed, quick, verbose, parameters or {}, public=public,
            as_found=as_found,
        )  # fmt: skip

    def train(
        self,
        name: str,
        estimator: ImageClassifier,
        data: sources.Data | None = None,
        *,
        page: bool = True,
    ) -> runs.Run:
        """Train a network into the folder ``name``, or read the run that is already there.

        Parameters
        ----------
        name : str
            Name of the folder, inside that of the study.
        estimator : ImageClassifier
            The unfitted network.
        data : runs.Data, optional
            Other data than the study's, such as a fold.
        page : bool, default=True
            Whether to write its report page as well; 'kmedclf report' can write it later.

        Returns
        -------
        runs.Run
            The fitted estimator and its reports. It is read from the folder if that holds a run
            with the same parameters on the same data.
        """
        from kmedclf.runs.page import write_run_page

        folder, data = self.out / name, data or self.data
        estimator = self.prepared(estimator).set_params(verbose=self.verbose)
        if _holds(folder, estimator, data):
            # Scores may be missing if an earlier process was interrupted while scoring.
            run = runs.read_run(folder)
            runs.complete(folder, run, data)
        else:
            run = runs.train(estimator, data, folder, force=True)
        if page and not (folder / "report.html").is_file():
            write_run_page(folder, data=data)
        self.results[name] = _facts(run, data)
        return run

    def search(self, estimator: ImageClassifier, stages: Sequence[Any], **options: Any) -> Any:
        """Search stage by stage; finished fits are cached in the study's folder.

        Parameters
        ----------
        estimator : ImageClassifier
            With the parameters that are fixed.
        stages : sequence of dict, or of lists of dicts
            As `kmedclf.search.StagedSearchCV` takes them; a quick study uses at most two values of
            each parameter.
        **options
            Other parameters of `kmedclf.search.StagedSearchCV`.

        Returns
        -------
        StagedSearchCV
            Fitted on "train"; candidates stop early on "val", if there is one.
        """
        from kmedclf.search import StagedSearchCV

        estimator = self.prepared(estimator).set_params(memory=str(self.out / "memory"))
        if self.quick:
            stages = [_fewer(stage) for stage in stages]
            options["subset"] = None
        data = runs.readable(estimator, self.data, list(self.data.splits))
        X_val, y_val = data.splits.get("val", (None, None))
        held_out = {} if X_val is None else {"X_val": X_val, "y_val": y_val}
        search = StagedSearchCV(
            estimator, stages, **{"refit": False, "verbose": self.verbose, **options}
        )
        return search.fit(*data.splits["train"], **held_out)

    def prepared(self, estimator: ImageClassifier) -> ImageClassifier:
        """Set the parameters of data and user, and shrink the network if the study is quick."""
        has = estimator.get_params()
        own = {name: value for name, value in self.parameters.items() if name in has}
        # ImageNet weights exist only for some parameters; set them after all others.
        weights = own.pop("weights", has.get("weights"))
        estimator.set_params(**self.data.parameters, **own)
        if "weights" in has:
            estimator.set_params(weights=None)
        shrunk = self.quick and self._shrink(estimator)
        # Published weights fit no network that was shrunk.
        if weights == "imagenet" and (shrunk or estimator.published() is None):
            weights = None
        return estimator if weights is None else estimator.set_params(weights=weights)

    def _shrink(self, estimator: ImageClassifier) -> bool:
        """Bound the parameters of a quick study, and say whether the network became smaller."""
        used = recipes.parameters(estimator)
        bounded = {name: _at_most(QUICK[name], used[name]) for name in used if name in QUICK}
        changed = {name for name, value in bounded.items() if _plain(value) != _plain(used[name])}
        estimator.set_params(**bounded)
        return bool(changed - {"epochs"})

    def check_start(self, estimator: ImageClassifier) -> None:
        """Raise an error if the weights that a network of the study starts from cannot be had."""
        from kmedclf.models import _weights  # which imports Keras

        prepared: Any = self.prepared(estimator)
        name, weights = type(prepared).__name__, prepared.weights
        if weights is None:
            return
        try:
            _weights.find(os.fspath(weights), prepared.published(), name)
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"{error} The study starts from such weights; -p weights=null starts from random "
                "ones, and the page says so."
            ) from error

    def choice(self, what: str, taken: str, why: str, *names: str) -> Choice:
        """Mark what the report leaves open: what was taken, and why.

        Parameters
        ----------
        what : str
            What is open.
        taken : str
            What ran, as `kmedclf.studies.words` says it of the estimators.
        why : str
            The reason, in a sentence; replaced if the user gave one of the parameters ``names``,
            or if the study is quick and made one of them smaller.
        *names : str
            Parameters that hold it.
        """
        if any(name in self.parameters for name in names):
            why = "Given for this run."
        elif self.quick and any(name in QUICK for name in names):
            why = f"{why} --quick makes it smaller."
        return Choice(what, taken, why)

    def once(self, name: str, compute: Callable[[], Any]) -> Any:
        """Compute something that several items need, and keep it under a name."""
        if name not in self.kept:
            self.kept[name] = compute()
        return self.kept[name]

    def some(self, wanted: Sequence[Any], n: int = 2) -> Sequence[Any]:
        """Return the first ``n`` items if the study is quick, else all."""
        return wanted[:n] if self.quick else wanted


Lab = Workspace
"""Former name of `Workspace`."""


def _read(
    source: str,
    size: int | None,
    shares: Mapping[str, float] | None,
    seed: int,
    public: PublicSet | None,
) -> sources.Data:
    """Read the data; an error says as well where the images are found, and how they lie."""
    try:
        return subsets.read(source, size, shares, seed)
    except (FileNotFoundError, ValueError) as error:
        if public is None:
            raise
        kind = FileNotFoundError if isinstance(error, FileNotFoundError) else ValueError
        raise kind(f"{error} Where the images are found: {public.where()}") from error


def _tested(data: sources.Data, split: str) -> sources.Data:
    """Use a split as "test" if there is none."""
    if "test" in data.splits or split not in data.splits:
        return data
    splits = {"test" if name == split else name: one for name, one in data.splits.items()}
    return subsets.resplit(data, splits, tested_on=f"its {split}")


def _validated(data: sources.Data, share: float, seed: int) -> sources.Data:
    """Draw "val" from "train", class by class, if there is none."""
    if not share or "val" in data.splits:
        return data
    X, y = data.splits["train"]
    rows = subsets.shared_out(y, {"val": share}, seed)
    splits = {name: (X[index], y[index]) for name, index in rows.items()}
    rest = {name: one for name, one in data.splits.items() if name != "train"}
    return subsets.resplit(data, {**splits, **rest}, validation_drawn=share, split_seed=seed)


def _check_known(parameters: dict[str, Any]) -> None:
    known = {one for name in kmedclf.NETWORKS for one in getattr(kmedclf, name)().get_params()}
    if unknown := sorted(set(parameters) - known):
        raise ValueError(
            "The 'parameters' of a study must be some network's, such as 'epochs' or 'weights'. "
            f"Got {unknown[0]!r} instead."
        )


def _fewer(stage: Any) -> Any:
    """Keep two values of each parameter of a stage, or of each of its alternatives."""
    if isinstance(stage, list):
        return [_fewer(one) for one in stage]
    return {name: values[:2] for name, values in stage.items()}


def _at_most(limit: float, value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(_at_most(limit, one) for one in value)
    return min(limit, value) if type(value) is type(limit) else value


def _facts(run: runs.Run, data: sources.Data) -> dict[str, Any]:
    """Collect the facts of a run that a table of networks may show."""
    estimator = run.estimator
    parameters, usual = (recipes.parameters(one) for one in (estimator, type(estimator)()))
    return {
        "estimator": type(estimator).__name__,
        "parameters": {k: v for k, v in parameters.items() if v != usual[k]},
        "n": data.description["n"],
        "n_copies_of_train": data.description.get("n_copies_of_train", {}),
        "n_params": estimator.n_params_,
        "epochs": len(estimator.history_["loss"]),
        "best_epoch": estimator.best_epoch_,
        "seconds": round(run.seconds, 1),
        "scores": {
            split: {name: score._asdict() for name, score in report.scores.items()}
            for split, report in run.reports.items()
        },
    }


def _holds(folder: Path, estimator: ImageClassifier, data: sources.Data) -> bool:
    """Check whether a folder holds a run of the same parameters on the same data."""
    if not (folder / runs.MODEL).is_file():
        return False
    made, environment = (
        json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        for name in ("parameters", "environment")
    )
    # A run of an older version lacks new parameters, and behaves like their defaults.
    stored = {**recipes.parameters(type(estimator)()), **made["used"]}
    wanted = recipes.parameters(estimator)
    # Ignore parameters without effect on results; the values that a recipe sets are compared.
    same = {"verbose": 0, "recipe": ""}
    described = environment["data"]
    return (
        made["estimator"] == type(estimator).__name__
        and _plain({**stored, **same}) == _plain({**wanted, **same})
        and all(described.get(k, v) == v for k, v in _plain(data.description).items())
    )


def _plain(value: Any) -> Any:
    """Convert a value to JSON and back."""
    return json.loads(json.dumps(value))


PAGE = "index.html"
SETTINGS = "study.json"


@dataclass(frozen=True)
class Study:
    """An experiment in items.

    Attributes
    ----------
    name : str
        Name on the command line.
    title : str
        Heading of the page.
    data : str
        Default data, as `kmedclf.runs.read_data` takes it.
    items : sequence of callable
        Each takes a `Lab` and returns a `Section`. An item that needs the network of an earlier
        item calls ``lab.train`` for it again, which reads the finished run.
    class_names : sequence of str
        Class names for a file without names, if their number matches.
    shares : mapping of str to float, optional
        Fractions of each class for the splits of a folder that has no splits.
    unique : bool, default=False
        Whether to remove duplicate images.
    validation : float, default=0.0
        Fraction of each class of "train" that validates, if the data have no "val".
    test : str, default="test"
        Split that is "test", if the data have none of that name.
    pretrained : mapping of str to sequence of callable
        For items whose networks start from published weights, by the name of the function: makers
        of such networks. The weights are looked for before anything is trained.
    """

    name: str
    title: str
    data: str
    items: Sequence[Callable[[Workspace], Section]]
    class_names: Sequence[str] = ()
    shares: Mapping[str, float] | None = None
    unique: bool = False
    validation: float = 0.0
    test: str = "test"
    pretrained: Mapping[str, Sequence[Callable[[], ImageClassifier]]] = field(default_factory=dict)

    def open(
        self,
        source: str | None,
        out: str | os.PathLike[str],
        *,
        keep_copies: bool = False,
        **settings: Any,
    ) -> Workspace:
        """Open a `Lab` with the study's data by default; ``settings`` are those of `Lab.open`.

        With ``keep_copies``, identical images stay in a study that removes them.

        Raises
        ------
        ValueError
            If ``source`` names synthetic images of another kind than the study's, or if a study
            that removes nothing is told to keep copies.
        FileNotFoundError
            If an item starts from published weights that are not there and cannot be downloaded.
        """
        if keep_copies and not self.unique:
            raise ValueError(
                "--keep-copies must go with a study that leaves identical images out. "
                f"{self.name} keeps them."
            )
        found, public = source or self.data, PUBLIC.get(self.name)
        if public is not None:
            found = public.source_of(self.name, found)
            settings["size"] = public.side_of(
                found, settings.get("size"), quick=settings.get("quick", False)
            )
        lab = Workspace.open(
            found,
            out,
            public=public,
            validation=self.validation,
            test=self.test,
            **{"class_names": self.class_names, "shares": self.shares,
               "unique": self.unique and not keep_copies,
               **settings},
        )  # fmt: skip
        for item in self.items:
            for make in self.pretrained.get(item.__name__, ()):
                lab.check_start(make())
        return lab

    def only(self, names: Sequence[str] | None) -> Study:
        """Select items by the names of their functions; without names, all."""
        known = {item.__name__: item for item in self.items}
        for name in names or ():
            if name not in known:
                raise ValueError(
                    f"--only must name items of {self.name}, {', '.join(known)}. "
                    f"Got {name!r} instead."
                )
        return replace(self, items=[item for n, item in known.items() if not names or n in names])


def reproduce(
    study: Study, lab: Workspace, *, tell: Callable[[Section], None] = lambda section: None
) -> Path:
    """Run all items of a study in order, and write one page.

    Parameters
    ----------
    study : Study
        What to run.
    lab : Lab
        Data and folder. Networks and fits that the folder already holds are read.
    tell : callable, optional
        Called with each finished section.

    Returns
    -------
    Path
        The page, complete after every item: one self-contained HTML file, which links to the
        pages of the networks beside it. ``results.json`` and ``results.csv`` beside it hold
        facts and scores of every network; the JSON file also holds the tables.
    """
    # Write the page after every item, so that an interrupted study leaves a valid one.
    sections: list[Section] = []
    for item in study.items:
        sections.append(item(lab))
        write(lab, study.title, sections)
        tell(sections[-1])
    return lab.out / PAGE


def write(lab: Workspace, title: str, sections: Sequence[Section]) -> None:
    """Write sections as one page, and their numbers as JSON and CSV."""
    _write_results(lab, title, sections)
    render(
        lab.out / PAGE,
        "study.html",
        title=title,
        data=lab.data.description,
        public=lab.public,
        drawn=lab.public is not None and lab.data.description["source"] == lab.public.drawn,
        chosen=CHOSEN,
        n=sorted(lab.data.description["n"].items(), key=lambda one: _place(one[0])),
        quick=lab.quick,
        parameters=lab.parameters,
        sections=[
            (
                section,
                [(one, one.svg) for one in section.figures],
                section.comparison and comparison_values(section.comparison),
            )
            for section in sections
        ],
        environment=flat(
            {"seed": lab.seed, "data": lab.data.description, **runs.environment()},
            text=without_folders,
        ),
    )


def _place(split: str) -> int:
    return ORDER.index(split) if split in ORDER else len(ORDER)


def _write_results(lab: Workspace, title: str, sections: Sequence[Section]) -> None:
    tables = [
        {"section": section.title, **table._asdict()}
        for section in sections
        for table in section.tables
    ]
    content = {
        "study": title,
        "quick": lab.quick,
        "parameters": lab.parameters,
        "seed": lab.seed,
        "data": lab.data.description,
        "public": lab.public and lab.public._asdict(),
        "choices": {s.title: [one._asdict() for one in s.choices] for s in sections},
        "findings": {section.title: list(section.findings) for section in sections},
        "tables": tables,
        "runs": lab.results,
        "environment": runs.environment(),
    }
    text = json.dumps(content, indent=1, default=str, ensure_ascii=False)
    write_text(lab.out / "results.json", text + "\n")
    rows = [{"run": name, **dict(flat(one))} for name, one in lab.results.items()]
    columns = dict.fromkeys(column for row in rows for column in row)
    with (
        written_beside(lab.out / "results.csv") as beside,
        beside.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file,
    ):
        write_csv(file, [columns, *([row.get(name, "") for name in columns] for row in rows)])


def settings_of(
    out: Path, wanted: dict[str, Any], default_data: str, *, resume: bool
) -> dict[str, Any]:
    """Determine the settings of a study, and refuse a folder with other content.

    Parameters
    ----------
    out : Path
        The folder.
    wanted : dict
        Settings; None stands for the setting of the study in the folder, if there is one.
    default_data : str
        "data" of a new study.
    resume : bool
        Whether to resume an unfinished study.

    Raises
    ------
    FileExistsError
        If the folder is not empty and ``resume`` is false.
    ValueError
        If it holds another study, or one with other settings.
    """
    check_folder(out)
    sweep(out)
    sweep(out / "memory", deep=True)
    path = out / SETTINGS
    begun = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        if not begun:
            raise FileExistsError(f"{out} is not empty and holds no study; choose another folder.")
        if not resume:
            raise FileExistsError(f"{out} holds a study; choose another folder, or --resume it.")
    settings = {name: begun.get(name) if one is None else one for name, one in wanted.items()}
    settings["data"] = settings["data"] or default_data
    for name, value in begun.items():
        if settings[name] != value:
            raise ValueError(
                f"--resume must have the settings that {out} was begun with, {name} {value!r}. "
                f"Got {settings[name]!r} instead."
            )
    return settings


def remember(out: Path, settings: dict[str, Any]) -> None:
    """Write the settings of a study into its folder."""
    write_json(out / SETTINGS, settings)
