"""Run folders: one training on disk, with everything needed to read, use and repeat it.

model.kmedclf holds the estimator; parameters.json its parameters, as given and as its recipe sets
them; history.json its learning curves; metrics.json the scores on "test" and "val";
evaluation-test.json and evaluation-val.json the full reports, evaluation-nested.json that of an
AutoClassifier on its training images; environment.json data, versions, machine and seconds;
MODEL_CARD.md and CHECKLIST.md what a reader of a study must know. `RUN` matches every file of a
run; other files belong to the user and stay.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kmedclf import recipes
from kmedclf.datasets.sources import ALL, Data, Split, is_whole
from kmedclf.datasets.sources import read_data as read_data  # part of this module's interface
from kmedclf.runs import unfinished
from kmedclf.runs.machine import environment as environment  # part of this module's interface
from kmedclf.runs.machine import read_environment
from kmedclf.utils import files
from kmedclf.utils.archives import read_json
from kmedclf.utils.files import write_json

if TYPE_CHECKING:
    from kmedclf.base import ImageClassifier
    from kmedclf.evaluation.report import AnyReport


MODEL = "model.kmedclf"
METRICS = "metrics.json"

RUN = re.compile(
    r"model\.kmedclf|(parameters|history|metrics|environment)\.json|(MODEL_CARD|CHECKLIST)\.md"
    r"|evaluation-(train|val|test|all|nested)\.json|report(-(train|val|test|all))?\.html"
    r"|\.DS_Store|Thumbs\.db|desktop\.ini"  # left by file managers
)
"""Matches the names of all files of a run; ``force`` may replace them."""


MOST_TWINS = 20_000
"""Number of training images above which a run does not look for copies of them."""


@dataclass(frozen=True)
class Run:
    """A finished training: estimator, class names, reports by split, and seconds of training."""

    estimator: Any
    class_names: list[str]
    reports: dict[str, AnyReport]
    seconds: float
    n_train: int

    @property
    def images_per_second(self) -> float:
        """Training images per second of total training time, validation included."""
        return self.n_train * len(_curves(self.estimator).get("loss", ())) / self.seconds


def _curves(estimator: Any) -> dict[str, list[float]]:
    """Return the learning curves of a network; what is made of several has none."""
    curves: dict[str, list[float]] = getattr(estimator, "history_", {})
    return curves


def train(
    estimator: Any,
    data: Data,
    out: str | os.PathLike[str],
    *,
    force: bool = False,
    calibrate: bool = False,
    keeps: bool = False,
    settings: Mapping[str, Any] | None = None,
) -> Run:
    """Fit an estimator on a data set, score it, and write a run folder.

    The folder ``out`` appears only when the run is complete; ``force`` replaces an earlier run.
    With ``calibrate`` the saved model is a `kmedclf.CalibratedClassifier`, fitted on "val". With
    ``keeps``, an interrupted training stays beside ``out`` with its ``settings``; one that is there
    goes on if they are None.
    """
    place = Path(out)
    waits = unfinished.kept(place, settings) if keeps else nullcontext()
    with _folder_beside(place, force) as (folder, put), waits as earlier:
        if earlier is not None:
            estimator.set_params(checkpoint=earlier.fit)
        run, data = _fitted(estimator, data, calibrate=calibrate)
        estimator.set_params(verbose=0)
        if earlier is not None:
            estimator.set_params(checkpoint=None)
            run = replace(run, seconds=round(run.seconds + earlier.seconds, 3))
        run.estimator.save(folder / MODEL)
        for name, content in _described(estimator, run, data, calibrate).items():
            write_json(folder / f"{name}.json", content)
        # The training is finished: a failure from here on is reported, but loses nothing.
        failure = _score_all(run, data, folder)
        place = put(failure is None)
    if failure is not None:
        split, error = failure
        how = f"'kmedclf evaluate {place} --data {data.description['source']} --split {split}'"
        error.add_note(f"The trained network is in {place}, not scored on {split}; {how} does it.")
        raise error
    return run


def _score_all(run: Run, data: Data, folder: Path) -> tuple[str, BaseException] | None:
    """Score a run on "test" and "val" and write the reports; return the first failure."""
    from kmedclf.runs import cards

    failures: list[tuple[str, BaseException]] = []
    for split in _scored(data):
        try:
            run.reports[split] = _score(run.estimator, data, data.splits[split], run.class_names)
            _write_report(folder, split, run.reports[split], data)
        except Exception as error:
            run.reports.pop(split, None)
            failures.append((split, error))
        # An interruption is reported first, and stops the loop.
        except BaseException as error:
            run.reports.pop(split, None)
            failures.insert(0, (split, error))
            break
    metrics = {split: _scores(one) for split, one in run.reports.items()}
    for written in (
        partial(write_json, folder / METRICS, metrics),
        partial(cards.write, folder, run.reports),
        partial(_write_nested, run, data, folder),
    ):
        try:
            written()
        except OSError as error:
            failures.append((next(iter([*_scored(data), *data.splits])), error))
    return failures[0] if failures else None


def _write_nested(run: Run, data: Data, folder: Path) -> None:
    """Write what an AutoClassifier knows of itself without a test part."""
    if hasattr(run.estimator, "nested_report"):
        report = run.estimator.nested_report(data.splits["train"][1], run.class_names)
        _write_report(folder, "nested", report, data)


def _scores(report: AnyReport) -> dict[str, Any]:
    return {"n": report.n, **{name: one._asdict() for name, one in report.scores.items()}}


def _complete_scores(folder: Path, reports: dict[str, AnyReport]) -> None:
    """Write the scores and the cards that training could not write."""
    from kmedclf.runs import cards

    path = folder / METRICS
    known = read_json(path) if path.is_file() else {}
    missing = {split: _scores(one) for split, one in reports.items() if split not in known}
    if missing or not cards.are_in(folder):
        cards.write(folder, _reports(folder))
    if missing:  # last, as it says that the cards have these scores
        write_json(path, {**known, **missing})


def complete(folder: Path, run: Run, data: Data) -> None:
    """Compute and write scores that are missing because training could not write them."""
    for split in _scored(data):
        if split not in run.reports:
            run.reports[split] = evaluate(folder, data, split)
    _complete_scores(folder, run.reports)


def _scored(data: Data) -> list[str]:
    return [split for split in ("test", "val") if split in data.splits]


def _described(estimator: Any, run: Run, data: Data, calibrate: bool) -> dict[str, dict[str, Any]]:
    """Return the contents of the JSON files that describe a training, by file name."""
    from kmedclf.utils import annotated  # with scikit-learn

    given = estimator.get_params(deep=False)
    parameters = {
        "estimator": type(estimator).__name__,
        "parameters": given,
        "used": recipes.parameters(estimator) if "recipe" in given else given,
        "chosen": annotated.changed(estimator),
    }
    history = {"best_epoch": getattr(estimator, "best_epoch_", 0), "history": _curves(estimator)}
    for name in ("leaderboard", "notes"):  # of an AutoClassifier
        if hasattr(estimator, f"{name}_"):
            history[name] = getattr(estimator, f"{name}_")
    return {
        "parameters": parameters,
        "history": history,
        "environment": {
            "data": {**data.description, "class_names": run.class_names},
            "n_params": estimator.n_params_,
            **({"temperature": run.estimator.temperature_} if calibrate else {}),
            "seconds": run.seconds,
            "images_per_second": round(run.images_per_second, 1) or None,
            "twins": _twins(data),
            "skipped": _skipped(estimator, data),
            **environment(),
        },
    }


def _skipped(estimator: Any, data: Data) -> dict[str, int]:
    """Count the files of each split that could not be read and were left out."""
    trained = getattr(estimator, "skipped_", None) or []
    counts = {"train": len(trained)} | {one: len(paths) for one, paths in data.skipped.items()}
    return {split: n for split, n in counts.items() if n}


def _twins(data: Data) -> dict[str, int]:
    """Count the scored images that are also training images, pixel by pixel or byte by byte.

    Empty if there are too many training images to look at.
    """
    seen = data.splits["train"][0]
    if len(seen) > MOST_TWINS:
        return {}
    try:
        known = set(map(_content, seen))
        return {
            split: sum(_content(one) in known for one in data.splits[split][0])
            for split in _scored(data)
        }
    except OSError:  # removed since: the training is not lost for that
        return {}


def _content(image: Any) -> bytes:
    is_path = isinstance(image, str | os.PathLike)
    content = Path(image).read_bytes() if is_path else np.ascontiguousarray(image).tobytes()
    return hashlib.sha256(content).digest()


def fit(estimator: Any, data: Data, *, calibrate: bool = False) -> Run:
    """Fit an estimator on "train", with "val" as validation set, and score both other splits."""
    run, data = _fitted(estimator, data, calibrate=calibrate)
    for split in _scored(data):
        run.reports[split] = _score(run.estimator, data, data.splits[split], run.class_names)
    return run


def _fitted(estimator: Any, data: Data, *, calibrate: bool = False) -> tuple[Run, Data]:
    """Fit an estimator; return the run without reports, and the data that can be scored."""
    from kmedclf.calibration import CalibratedClassifier

    if "train" not in data.splits:
        raise ValueError(f"{data.description['name']} has no 'train' split to train on.")
    X_val, y_val = data.splits.get("val", (None, None))
    if calibrate and (y_val is None or y_val.ndim != 1):
        raise ValueError(
            f"{data.description['name']} must have a 'val' split, one label an image, to calibrate "
            "on."
        )
    start = time.perf_counter()
    more = {} if X_val is None else {"X_val": X_val, "y_val": y_val}
    if "train" in data.groups:
        more["groups"] = data.groups["train"]
    estimator.fit(*data.splits["train"], **more)
    seconds = round(time.perf_counter() - start, 3)  # as in the file
    # Only after fit: a fitted estimator knows the size of images.
    data = readable(estimator, data, _scored(data))
    model = CalibratedClassifier(estimator).fit(*data.splits["val"]) if calibrate else estimator
    class_names = data.names_of(estimator.classes_.tolist())
    return Run(model, class_names, {}, seconds, len(data.splits["train"][1])), data


def readable(model: Any, data: Data, splits: Sequence[str]) -> Data:
    """Remove unreadable files from splits, if the model's ``on_error`` is "skip".

    A warning names them. Otherwise splits stay as they are, and the model will refuse the files.
    """
    from kmedclf.inputs.array_likes import as_paths
    from kmedclf.inputs.checks import left_out

    kept, skipped, groups = dict(data.splits), dict(data.skipped), dict(data.groups)
    for split in splits:
        X, y = data.splits[split]
        skip = getattr(model, "on_error", "raise") == "skip"
        paths = as_paths(X, type(model).__name__) if skip else None
        broken = unreadable(model, paths) if paths else {}
        if paths is None or not broken:
            continue
        if len(broken) == len(paths):
            raise ValueError(f"None of the {len(paths)} files of the {split} split can be read.")
        rest = [i for i in range(len(paths)) if i not in broken]
        kept[split] = X[rest], y[rest]
        if split in groups:
            groups[split] = groups[split][rest]
        skipped[split] = [paths[i] for i in sorted(broken)]
        message = left_out(broken, f"{len(paths)} files of the {split} split")
        warnings.warn(message, UserWarning, stacklevel=2)
    return replace(data, splits=kept, skipped=skipped, groups=groups)


def unreadable(model: Any, paths: Sequence[str]) -> dict[int, Exception]:
    """Find the files that a model cannot read, with the error of each, by position."""
    from kmedclf.inputs.file_array import FileArray
    from kmedclf.inputs.image_files import Form

    if hasattr(model, "image_shape_"):
        height, width, channels = model.image_shape_
    else:
        height, width = np.broadcast_to(recipes.parameters(model)["image_size"], 2).tolist()
        channels = model.channels
    form = Form(height, width, channels, getattr(model, "resize", "stretch"))
    return dict(sorted(FileArray(paths, form, np.uint8, skip=True).broken.items()))


def read(folder: str | os.PathLike[str]) -> tuple[Any, list[str]]:
    """Load the estimator of a run and its class names.

    For a single model file, the labels are the names.
    """
    from kmedclf.persistence import load

    check_run(folder)
    if Path(folder).is_file():
        estimator = load(folder)
        return estimator, list(map(str, estimator.classes_.tolist()))
    environment = read_environment(folder)
    return load(Path(folder, MODEL)), environment["data"]["class_names"]


def read_run(folder: str | os.PathLike[str]) -> Run:
    """Read a run from its folder."""
    estimator, class_names = read(folder)
    environment, reports = read_environment(folder), _reports(folder)
    n_train = environment["data"]["n"]["train"]
    return Run(estimator, class_names, reports, environment["seconds"], n_train)


def nested_reports(folder: str | os.PathLike[str]) -> dict[str, AnyReport]:
    """Read what an AutoClassifier says of its training images, each predicted without it."""
    return _reports(folder, ["nested"])


def _reports(
    folder: str | os.PathLike[str], splits: Sequence[str] = ("test", "val")
) -> dict[str, AnyReport]:
    """Read the reports on some splits, as far as a run folder holds them."""
    from kmedclf.evaluation.report import read_report_file

    return {
        split: read_report_file(path)
        for split in splits
        if (path := Path(folder, f"evaluation-{split}.json")).is_file()
    }


def check_free(out: Path, force: bool) -> None:
    """Check that ``out`` is free, or, with ``force``, holds nothing but a run."""
    files.check_folder(out)
    target = Path(os.path.realpath(out))
    files.sweep(target.parent)
    if not target.is_dir():
        return
    # A mount point cannot be renamed.
    if os.path.ismount(target):
        raise FileExistsError(
            f"{out} is the root of a file system, and cannot be replaced whole; choose a folder "
            f"in it, such as {out / 'run'}."
        )
    files.sweep(target)
    inside = sorted(target.iterdir())
    if not inside:
        return
    if not (target / MODEL).is_file():
        raise FileExistsError(f"{out} is not empty and holds no run; choose another folder.")
    if not force:
        raise FileExistsError(f"{out} holds a run; choose another folder, or --force replaces it.")
    for path in inside:
        if not RUN.fullmatch(path.name) or not path.is_file():
            raise FileExistsError(
                f"{out} holds more than a run, {path.name}, which --force would delete; move it "
                "away, or choose another folder."
            )


def check_run(folder: str | os.PathLike[str]) -> None:
    """Check that ``folder`` is a file or a folder that holds a run."""
    # A process that was killed while replacing the run leaves it beside; `sweep` restores it.
    if not Path(folder).exists():
        files.sweep(Path(folder).absolute().parent)
    files.sweep(Path(folder))
    if not Path(folder).is_file() and not Path(folder, MODEL).is_file():
        raise FileNotFoundError(
            f"{folder} must be a folder that 'kmedclf train' wrote, or a model's file. There is no "
            f"{MODEL} in it."
        )


def default_split(folder: str | os.PathLike[str], source: str) -> str:
    """Return the split to score by default: "test", or all of a folder not trained on."""
    own = Path(_data_of(folder)["source"])
    return ALL if is_whole(source) and Path(source).expanduser().absolute() != own else "test"


def groups_of(folder: str | os.PathLike[str], source: str, split: str) -> str | None:
    """Return the groups of the training, so that a folder is split again as it was then."""
    groups: str | None = _data_of(folder).get("groups")
    return groups if split != ALL and is_whole(source) else None


def _data_of(folder: str | os.PathLike[str]) -> dict[str, Any]:
    check_run(folder)
    if Path(folder).is_file():
        return {"source": ""}
    environment = read_environment(folder)
    data: dict[str, Any] = environment["data"]
    return data


def evaluate(folder: str | os.PathLike[str], data: Data, split: str) -> AnyReport:
    """Score the model of a run on a split, and write evaluation-<split>.json into its folder.

    Classes are matched by name; if no name matches, the labels must be those of the run. For a
    single model file nothing is written, and the class names are those of the data set.
    """
    estimator, class_names = read(folder)
    data = readable(estimator, data, [split])
    X, y = data.splits[split]
    if Path(folder).is_file():
        # Labels may be missing from the data set.
        with suppress(TypeError, IndexError):
            class_names = data.names_of(estimator.classes_.tolist())
        y = _same_labels(estimator, class_names, data, y)
        return _score(estimator, data, (X, y), class_names)
    y = _same_labels(estimator, class_names, data, y)
    report = _score(estimator, data, (X, y), class_names)
    _write_report(Path(folder), split, report, data)
    own = data.description["source"] == _data_of(Path(folder))["source"]
    if own and split in ("test", "val"):
        _complete_scores(Path(folder), {split: report})
    return report


def _same_labels(
    estimator: ImageClassifier, class_names: Sequence[str], data: Data, y: np.ndarray
) -> np.ndarray:
    """Map the labels of a data set to those of a run, by class name."""
    if y.ndim > 1:
        return _same_columns(class_names, data, y)
    if not set(data.class_names) & set(class_names):
        return y
    found, code = np.unique(y, return_inverse=True)
    names = data.names_of(found.tolist())
    if unknown := [name for name in names if name not in class_names]:
        raise ValueError(
            f"{data.description['name']} must hold only classes of the run, "
            f"{', '.join(class_names)}. Got {unknown[0]!r} among them."
        )
    return estimator.classes_[[class_names.index(name) for name in names]][code]


def _same_columns(class_names: Sequence[str], data: Data, y: np.ndarray) -> np.ndarray:
    """Reorder the columns of multilabel targets as in the run."""
    if not set(data.class_names) & set(class_names) and y.shape[1] == len(class_names):
        return y
    if set(data.class_names) != set(class_names):
        raise ValueError(
            f"{data.description['name']} must have the labels of the run, "
            f"{', '.join(class_names)}. Got {', '.join(data.class_names)} instead."
        )
    return y[:, [data.class_names.index(name) for name in class_names]]


def _score(
    estimator: ImageClassifier, data: Data, split: Split, class_names: Sequence[str]
) -> AnyReport:
    from kmedclf import calibration, evaluation

    calibrated = isinstance(estimator, calibration.CalibratedClassifier)
    evaluate = calibration.evaluate_calibrated if calibrated else evaluation.evaluate
    report = evaluate(estimator, *split, class_names=class_names, ordinal=data.ordinal)
    root = Path(data.description["source"])
    # Below the folder of the data, a name says the split, too
    inside = files.places_below(split[0], root) if report.paths and root.is_dir() else None
    return replace(report, paths=tuple(inside)) if inside else report


def _write_report(folder: Path, split: str, report: AnyReport, data: Data) -> None:
    # `read_report_file` ignores the additional keys.
    skipped = list(map(os.path.abspath, data.skipped.get(split, [])))
    more = {"data": data.description, "split": split, "skipped": skipped}
    content = {**more, **report.to_dict()}
    write_json(folder / f"evaluation-{split}.json", content)


@contextmanager
def _folder_beside(out: Path, force: bool) -> Iterator[tuple[Path, Callable[[bool], Path]]]:
    """Yield a temporary folder beside ``out``, and a function that moves it into place.

    An incomplete run never replaces another. It gets a name of its own, as does a run whose
    target is no longer free.
    """
    check_free(out, force)
    # Keep a link, and replace its target.
    target = Path(os.path.realpath(out))
    new_parents = [parent for parent in target.parents if not parent.exists()]
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        # Created before the training, so that a read-only disk fails at once.
        with files.scratch(target.parent, target.name) as scratch:

            def put(whole: bool) -> Path:
                if not whole and target.is_dir() and any(target.iterdir()):
                    return _put_beside(scratch / "new", target)
                try:
                    check_free(out, force)
                    files.replace_folder(scratch / "new", target, scratch)
                except (OSError, ValueError) as error:
                    with suppress(OSError):
                        place = _put_beside(scratch / "new", target)
                        error.add_note(f"The finished run is in {place}.")
                    raise
                return out

            (scratch / "new").mkdir()
            yield scratch / "new", put
    finally:
        for parent in new_parents:
            # A parent that holds the run is not empty, and stays.
            with suppress(OSError):
                parent.rmdir()


def _put_beside(new: Path, target: Path) -> Path:
    """Move a finished run to the first free name beside ``target``, such as "run-2"."""
    names = (target.with_name(f"{target.name}-{n}") for n in range(2, 10**6))
    place = next(path for path in names if not os.path.lexists(path))
    new.replace(place)
    return place
