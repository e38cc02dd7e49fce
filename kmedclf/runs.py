"""Run folders: one training on disk, with all it takes to read it, use it and repeat it.

model.kmedclf is the estimator, parameters.json its parameters, as given and as its recipe makes
them, history.json its curves, metrics.json the scores on "test" and "val", evaluation-test.json and
evaluation-val.json the whole reports of them, environment.json data, versions, machine and seconds.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kmedclf import recipes
from kmedclf.files import write_json
from kmedclf.run_data import ALL, Data, Split, is_whole
from kmedclf.run_data import read_data as read_data  # of this module, to its users
from kmedclf.run_files import read_environment

if TYPE_CHECKING:
    from kmedclf.base import ImageClassifier
    from kmedclf.evaluation.label_report import AnyReport

MODEL = "model.kmedclf"


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
    with _folder_beside(Path(out), force) as folder:
        run = fit(estimator, data, calibrate=calibrate)
        estimator.set_params(verbose=0)
        run.estimator.save(folder / MODEL)
        parameters = {
            "estimator": type(estimator).__name__,
            "parameters": estimator.get_params(deep=False),
            "used": recipes.parameters(estimator),
        }
        described = {"data": {**data.description, "class_names": run.class_names}}
        contents = {
            "parameters": parameters,
            "history": {"best_epoch": estimator.best_epoch_, "history": estimator.history_},
            "metrics": {
                split: {"n": one.n, **{name: e._asdict() for name, e in one.scores.items()}}
                for split, one in run.reports.items()
            },
            "environment": {
                **described,
                "n_params": estimator.n_params_,
                **({"temperature": run.estimator.temperature_} if calibrate else {}),
                "seconds": run.seconds,
                "images_per_second": round(run.images_per_second, 1),
                **environment(),
            },
        }
        for name, content in contents.items():
            write_json(folder / f"{name}.json", content)
        for split, report in run.reports.items():
            _write_report(folder, split, report, data)
    return run


def fit(estimator: ImageClassifier, data: Data, *, calibrate: bool = False) -> Run:
    """Fit an estimator on "train", with "val" for early stopping, and score both others."""
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
    model = CalibratedClassifier(estimator).fit(X_val, y_val) if calibrate else estimator
    class_names = data.names_of(estimator.classes_.tolist())
    scored: list[str] = [split for split in ("test", "val") if split in data.splits]
    reports = {split: _score(model, data.splits[split], class_names) for split in scored}
    return Run(model, class_names, reports, seconds, len(data.splits["train"][1]))


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
    from kmedclf.evaluation.label_report import read_report_file

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
    """Refuse to write over anything but, if ``force``, an earlier run."""
    if out.is_file():
        raise FileExistsError(f"{out} must be a folder. There is a file of that name.")
    if not out.is_dir() or not any(out.iterdir()):
        return
    if not (out / MODEL).is_file():
        raise FileExistsError(f"{out} is not empty and holds no run; choose another folder.")
    if not force:
        raise FileExistsError(f"{out} holds a run; choose another folder, or --force replaces it.")


def check_run(folder: str | os.PathLike[str]) -> None:
    """Refuse what is neither a file nor a folder that holds a run."""
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
    X, y = data.splits[split]
    if Path(folder).is_file():
        with suppress(TypeError, IndexError):  # labels that the set does not have
            class_names = data.names_of(estimator.classes_.tolist())
        return _score(estimator, (X, _same_labels(estimator, class_names, data, y)), class_names)
    report = _score(estimator, (X, _same_labels(estimator, class_names, data, y)), class_names)
    _write_report(Path(folder), split, report, data)
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
    from kmedclf.devices import gpus
    from kmedclf.persistence import versions

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
    # The two keys more do not keep it from being read.
    content = {"data": data.description, "split": split, **report.to_dict()}
    write_json(folder / f"evaluation-{split}.json", content)


@contextmanager
def _folder_beside(out: Path, force: bool) -> Iterator[Path]:
    """Yield a folder beside ``out`` to write to; renamed into its place if all went well."""
    target = out.absolute()
    check_free(out, force)
    new_parents = [parent for parent in target.parents if not parent.exists()]
    target.parent.mkdir(parents=True, exist_ok=True)
    # Made before the training: a disk that cannot be written to shows at once.
    scratch = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    try:
        (scratch / "new").mkdir()
        yield scratch / "new"
        check_free(out, force)
        if target.exists():
            target.replace(scratch / "old")
        (scratch / "new").replace(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        for parent in new_parents:
            with suppress(OSError):  # not empty: the run is in it
                parent.rmdir()
