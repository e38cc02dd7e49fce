"""Run folders: one training on disk, with all it takes to read it, use it and repeat it.

model.kmedclf is the estimator, parameters.json its parameters, as given and as its recipe makes
them, history.json its curves, metrics.json the scores on "test" and "val", evaluation-test.json and
evaluation-val.json the whole reports of them, environment.json data, versions, machine and seconds.
`RUN` names all that may be in a run folder: what else lies in one is the user's, and stays.
"""

from __future__ import annotations

import os
import platform
import re
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kmedclf import recipes
from kmedclf.datasets.sources import ALL, Data, Split, is_whole
from kmedclf.datasets.sources import read_data as read_data  # of this module, to its users
from kmedclf.utils import files
from kmedclf.utils.files import write_json
from kmedclf.utils.json_files import read_environment, read_json

if TYPE_CHECKING:
    from kmedclf.base import ImageClassifier
    from kmedclf.evaluation.report import AnyReport


MODEL = "model.kmedclf"
METRICS = "metrics.json"

RUN = re.compile(
    r"model\.kmedclf|(parameters|history|metrics|environment)\.json"
    r"|evaluation-(train|val|test|all)\.json|report(-(train|val|test|all))?\.html"
    r"|\.DS_Store|Thumbs\.db|desktop\.ini"  # what file managers leave
)
"""Names of all files that a run consists of, and that ``force`` may replace."""


@dataclass(frozen=True)
class Run:
    """A finished training: the estimator, its classes' names, its reports by split, seconds."""

    estimator: Any
    class_names: list[str]
    reports: dict[str, AnyReport]
    seconds: float
    n_train: int

    @property
    def images_per_second(self) -> float:
        """Training images seen in a second, validation and all else included."""
        return self.n_train * len(self.estimator.history_["loss"]) / self.seconds


def train(
    estimator: ImageClassifier,
    data: Data,
    out: str | os.PathLike[str],
    *,
    force: bool = False,
    calibrate: bool = False,
) -> Run:
    """Fit an estimator on a data set, score it, and write all of it to a folder.

    Parameters
    ----------
    estimator : ImageClassifier
        What to fit.
    data : Data
        Early stopping watches its "val" split, if there is one; "test" is only scored.
    out : path-like
        The folder. It is there when everything is done, or not at all.
    force : bool, default=False
        Whether to replace an earlier run of that name.
    calibrate : bool, default=False
        Whether the model to keep is a `kmedclf.CalibratedClassifier`, fitted on "val".
    """
    with _folder_beside(Path(out), force) as (folder, put):
        run, data = _fitted(estimator, data, calibrate=calibrate)
        estimator.set_params(verbose=0)
        run.estimator.save(folder / MODEL)
        for name, content in _described(estimator, run, data, calibrate).items():
            write_json(folder / f"{name}.json", content)
        # The training is finished: what fails from here on is told, and nothing of it is lost.
        failure = _score_all(run, data, folder)
        place = put(failure is None)
    if failure is not None:
        split, error = failure
        how = f"'kmedclf evaluate {place} --data {data.description['source']} --split {split}'"
        error.add_note(f"The trained network is in {place}, not scored on {split}; {how} does it.")
        raise error
    return run


def _score_all(run: Run, data: Data, folder: Path) -> tuple[str, BaseException] | None:
    """Score a run on "test" and "val", and write that; give the first split that failed, if any."""
    failures: list[tuple[str, BaseException]] = []
    for split in _scored(data):
        try:
            run.reports[split] = _score(run.estimator, data.splits[split], run.class_names)
            _write_report(folder, split, run.reports[split], data)
        except Exception as error:
            run.reports.pop(split, None)
            failures.append((split, error))
        except BaseException as error:  # somebody wants it to end
            run.reports.pop(split, None)
            failures.insert(0, (split, error))
            break
    try:
        write_json(folder / METRICS, {split: _scores(one) for split, one in run.reports.items()})
    except OSError as error:
        failures.append((next(iter(data.splits)), error))
    return failures[0] if failures else None


def _scores(report: AnyReport) -> dict[str, Any]:
    return {"n": report.n, **{name: one._asdict() for name, one in report.scores.items()}}


def _complete_scores(folder: Path, split: str, report: AnyReport, data: Data) -> None:
    """Add to the scores of a run those on its own data that could not be written in its time."""
    own = data.description["source"] == _data_of(folder)["source"]
    path = folder / METRICS
    known = read_json(path) if path.is_file() else {}
    if own and split in ("test", "val") and split not in known:
        write_json(path, {**known, split: _scores(report)})


def complete(folder: Path, run: Run, data: Data) -> None:
    """Score what could not be scored when a run was trained, and write what could not be then."""
    for split in _scored(data):
        if split not in run.reports:
            run.reports[split] = evaluate(folder, data, split)
    path = folder / METRICS
    known = read_json(path) if path.is_file() else {}
    if set(run.reports) - set(known):
        write_json(path, {split: _scores(one) for split, one in run.reports.items()})


def _scored(data: Data) -> list[str]:
    return [split for split in ("test", "val") if split in data.splits]


def _described(
    estimator: ImageClassifier, run: Run, data: Data, calibrate: bool
) -> dict[str, dict[str, Any]]:
    """Give what is written of a training, by the names of its files."""
    parameters = {
        "estimator": type(estimator).__name__,
        "parameters": estimator.get_params(deep=False),
        "used": recipes.parameters(estimator),
    }
    return {
        "parameters": parameters,
        "history": {"best_epoch": estimator.best_epoch_, "history": estimator.history_},
        "environment": {
            "data": {**data.description, "class_names": run.class_names},
            "n_params": estimator.n_params_,
            **({"temperature": run.estimator.temperature_} if calibrate else {}),
            "seconds": run.seconds,
            "images_per_second": round(run.images_per_second, 1),
            **environment(),
        },
    }


def fit(estimator: ImageClassifier, data: Data, *, calibrate: bool = False) -> Run:
    """Fit an estimator on "train", with "val" for early stopping, and score both others."""
    run, data = _fitted(estimator, data, calibrate=calibrate)
    for split in _scored(data):
        run.reports[split] = _score(run.estimator, data.splits[split], run.class_names)
    return run


def _fitted(estimator: ImageClassifier, data: Data, *, calibrate: bool = False) -> tuple[Run, Data]:
    """Fit an estimator; give the run without reports, and the data that can be scored."""
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
    estimator.fit(*data.splits["train"], X_val=X_val, y_val=y_val)
    seconds = round(time.perf_counter() - start, 3)  # as it is written
    data = readable(estimator, data, _scored(data))
    model = CalibratedClassifier(estimator).fit(*data.splits["val"]) if calibrate else estimator
    class_names = data.names_of(estimator.classes_.tolist())
    return Run(model, class_names, {}, seconds, len(data.splits["train"][1])), data


def readable(model: Any, data: Data, splits: Sequence[str]) -> Data:
    """Leave out of splits the files that cannot be read, if the model's ``on_error`` is "skip".

    They are named in a warning, and in the reports. Else a model, fitted or not, refuses them.
    """
    from kmedclf.inputs.file_array import as_paths

    kept, skipped = dict(data.splits), dict(data.skipped)
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
        skipped[split] = [paths[i] for i in sorted(broken)]
        warnings.warn(
            f"{len(broken)} of the {len(paths)} files of the {split} split cannot be read and are "
            f"left out, the first: {next(iter(broken.values()))}",
            UserWarning,
            stacklevel=2,
        )
    return replace(data, splits=kept, skipped=skipped)


def unreadable(model: Any, paths: Sequence[str]) -> dict[int, Exception]:
    """Find the files that a model cannot read: their positions, and why."""
    from kmedclf.inputs.file_array import FileArray
    from kmedclf.inputs.image_files import Form

    if hasattr(model, "image_shape_"):
        height, width, channels = model.image_shape_
    else:
        height, width = np.broadcast_to(model.image_size, 2).tolist()
        channels = model.channels
    form = Form(height, width, channels, getattr(model, "resize", "stretch"))
    return dict(sorted(FileArray(paths, form, np.uint8, skip=True).broken.items()))


def read(folder: str | os.PathLike[str]) -> tuple[Any, list[str]]:
    """Read the estimator of a run, and the names of its classes in their order.

    A file that an estimator was saved to has its labels as names.
    """
    from kmedclf.persistence import load

    check_run(folder)
    if Path(folder).is_file():
        estimator = load(folder)
        return estimator, list(map(str, estimator.classes_.tolist()))
    environment = read_environment(folder)
    return load(Path(folder, MODEL)), environment["data"]["class_names"]


def read_run(folder: str | os.PathLike[str]) -> Run:
    """Read a run back from its folder."""
    from kmedclf.evaluation.report import read_report_file

    estimator, class_names = read(folder)
    environment = read_environment(folder)
    reports = {
        split: read_report_file(path)
        for split in ("test", "val")
        if (path := Path(folder, f"evaluation-{split}.json")).is_file()
    }
    n_train = environment["data"]["n"]["train"]
    return Run(estimator, class_names, reports, environment["seconds"], n_train)


def check_free(out: Path, force: bool) -> None:
    """Refuse to write over anything but, if ``force``, an earlier run and nothing else."""
    files.check_folder(out)
    target = Path(os.path.realpath(out))
    files.sweep(target.parent)
    if not target.is_dir():
        return
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
    """Refuse what is neither a file nor a folder that holds a run."""
    if not Path(folder).exists():  # as a run that was being replaced when its process was killed
        files.sweep(Path(folder).absolute().parent)
    files.sweep(Path(folder))
    if not Path(folder).is_file() and not Path(folder, MODEL).is_file():
        raise FileNotFoundError(
            f"{folder} must be a folder that 'kmedclf train' wrote, or a model's file. There is no "
            f"{MODEL} in it."
        )


def default_split(folder: str | os.PathLike[str], source: str) -> str:
    """Choose the split to score a run on: "test", but all of a folder other than its own."""
    own = Path(_data_of(folder)["source"])
    return ALL if is_whole(source) and Path(source).expanduser().absolute() != own else "test"


def groups_of(folder: str | os.PathLike[str], source: str, split: str) -> str | None:
    """Find what keeps a split of a folder what it was when a run was trained on it."""
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

    Classes are those of the same names; a set that shares no name with the run must have its
    labels. A model's file has no folder to write to, and the names of classes are the set's.
    """
    estimator, class_names = read(folder)
    data = readable(estimator, data, [split])
    X, y = data.splits[split]
    if Path(folder).is_file():
        with suppress(TypeError, IndexError):  # labels that the set does not have
            class_names = data.names_of(estimator.classes_.tolist())
        return _score(estimator, (X, _same_labels(estimator, class_names, data, y)), class_names)
    report = _score(estimator, (X, _same_labels(estimator, class_names, data, y)), class_names)
    _write_report(Path(folder), split, report, data)
    _complete_scores(Path(folder), split, report, data)
    return report


def _same_labels(
    estimator: ImageClassifier, class_names: Sequence[str], data: Data, y: np.ndarray
) -> np.ndarray:
    """Turn the labels of a data set into those of a run, by the names of their classes."""
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
    """Put the columns of several labels into the order that they have in a run."""
    if not set(data.class_names) & set(class_names) and y.shape[1] == len(class_names):
        return y
    if set(data.class_names) != set(class_names):
        raise ValueError(
            f"{data.description['name']} must have the labels of the run, "
            f"{', '.join(class_names)}. Got {', '.join(data.class_names)} instead."
        )
    return y[:, [data.class_names.index(name) for name in class_names]]


def environment() -> dict[str, Any]:
    """Describe what a result depends on besides its data: versions, machine, device."""
    from kmedclf.persistence import versions
    from kmedclf.training.devices import gpus

    cpuinfo = Path("/proc/cpuinfo")
    models = re.findall(r"model name\s*: (.+)", cpuinfo.read_text()) if cpuinfo.exists() else []
    return {
        "versions": versions(),
        "platform": platform.platform(),
        "processor": models[0] if models else platform.processor(),
        "cpu_count": os.cpu_count(),
        "device": list(gpus()) or "CPU",
    }


def _score(estimator: ImageClassifier, split: Split, class_names: Sequence[str]) -> AnyReport:
    from kmedclf import calibration, evaluation

    calibrated = isinstance(estimator, calibration.CalibratedClassifier)
    evaluate = calibration.evaluate_calibrated if calibrated else evaluation.evaluate
    return evaluate(estimator, *split, class_names=class_names)


def _write_report(folder: Path, split: str, report: AnyReport, data: Data) -> None:
    # The keys more do not keep it from being read.
    more = {"data": data.description, "split": split, "skipped": data.skipped.get(split, [])}
    content = {**more, **report.to_dict()}
    write_json(folder / f"evaluation-{split}.json", content)


@contextmanager
def _folder_beside(out: Path, force: bool) -> Iterator[tuple[Path, Callable[[bool], Path]]]:
    """Yield a folder beside ``out`` to write to, and what puts it in its place and tells that.

    A run that is not whole replaces none: it gets a name of its own, as one whose place was taken
    meanwhile, or cannot be written to.
    """
    check_free(out, force)
    target = Path(os.path.realpath(out))  # a link is written through
    new_parents = [parent for parent in target.parents if not parent.exists()]
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        # Made before the training: a disk that cannot be written to shows at once.
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
            with suppress(OSError):  # not empty: the run is in it
                parent.rmdir()


def _put_beside(new: Path, target: Path) -> Path:
    """Give a finished run the first name beside ``target`` that is free, as "run-2"."""
    names = (target.with_name(f"{target.name}-{n}") for n in range(2, 10**6))
    place = next(path for path in names if not os.path.lexists(path))
    new.replace(place)
    return place
