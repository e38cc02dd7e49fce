"""Run folders: one training on disk, with all it takes to read it, use it and repeat it.

model.kmedclf is the estimator, parameters.json its parameters, history.json its curves,
metrics.json the scores on "test" and "val", evaluation-test.json and evaluation-val.json the whole
reports of them, environment.json data, versions, machine and seconds.
"""

from __future__ import annotations

import hashlib
import json
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

from kmedclf import datasets
from kmedclf.datasets import _download
from kmedclf.files import write_json

if TYPE_CHECKING:
    from kmedclf.base import ImageClassifier
    from kmedclf.evaluation import Report

SYNTHETIC = {"train": (2000, 0), "val": (400, 1), "test": (1000, 2)}
"""Number of images and seed of each split of the set named "synthetic"."""

MODEL = "model.kmedclf"

Split = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Data:
    """A data set in memory: its splits, one name per label, and what to write down of it."""

    splits: dict[str, Split]
    class_names: tuple[str, ...]
    description: dict[str, Any]

    def names_of(self, labels: Sequence[Any]) -> list[str]:
        """Give the name of each label; a set without names has its labels as names."""
        if {str(label) for label in labels} <= set(self.class_names):
            return [str(label) for label in labels]
        return [self.class_names[label] for label in labels]


@dataclass(frozen=True)
class Run:
    """A finished training: the estimator, its classes' names, its reports by split, seconds."""

    estimator: ImageClassifier
    class_names: list[str]
    reports: dict[str, Report]
    seconds: float
    n_train: int

    @property
    def images_per_second(self) -> float:
        """Training images seen in a second, validation and all else included."""
        return self.n_train * len(self.estimator.history_["loss"]) / self.seconds


def read_data(source: str, size: int = 28, only: str | None = None) -> Data:
    """Read a data set by name, by path, or the synthetic blood cells.

    Parameters
    ----------
    source : str
        A name out of `kmedclf.datasets.names`, the path of an ``.npz`` file, or "synthetic".
    size : int, default=28
        Height and width of the images, where the set comes in several sizes.
    only : str, optional
        The one split that is needed.
    """
    synthetic = source == "synthetic"
    info = datasets.info("bloodmnist" if synthetic else source)
    wanted = [only] if only else list(SYNTHETIC if synthetic else info.n_samples)
    read = _draw if synthetic else datasets.load
    splits = {split: read(source, split, size=size) for split in wanted}
    file = cached(info.name, size) if info.md5 else Path(source).expanduser()
    description = {
        "name": "synthetic blood cells" if synthetic else info.name,
        "source": source if synthetic or info.md5 else str(file.absolute()),
        "size": size,
        "file": None if synthetic else file.name,
        "sha256": None if synthetic else hashlib.sha256(file.read_bytes()).hexdigest(),
        "image_shape": list(splits[wanted[0]][0].shape[1:]),
        "n": {split: len(y) for split, (_, y) in splits.items()},
    }
    return Data(splits, info.class_names, description)


def cached(name: str, size: int) -> Path:
    """Return where the file of a set known by name lies once it is downloaded."""
    return _download.cache_folder(None) / _download.file_name(datasets.info(name), size)


def train(
    estimator: ImageClassifier, data: Data, out: str | os.PathLike[str], *, force: bool = False
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
    """
    with _folder_beside(Path(out), force) as folder:
        run = fit(estimator, data)
        estimator.set_params(verbose=0).save(folder / MODEL)
        parameters = estimator.get_params(deep=False)
        described = {"data": {**data.description, "class_names": run.class_names}}
        contents = {
            "parameters": {"estimator": type(estimator).__name__, "parameters": parameters},
            "history": {"best_epoch": estimator.best_epoch_, "history": estimator.history_},
            "metrics": {
                split: {"n": one.n, **{name: e._asdict() for name, e in one.scores.items()}}
                for split, one in run.reports.items()
            },
            "environment": {
                **described,
                "n_params": estimator.n_params_,
                "seconds": round(run.seconds, 3),
                "images_per_second": round(run.images_per_second, 1),
                **environment(),
            },
        }
        for name, content in contents.items():
            write_json(folder / f"{name}.json", content)
        for split, report in run.reports.items():
            _write_report(folder, split, report, data)
    return run


def fit(estimator: ImageClassifier, data: Data) -> Run:
    """Fit an estimator on "train", with "val" for early stopping, and score both others."""
    if "train" not in data.splits:
        raise ValueError(f"{data.description['name']} has no 'train' split to train on.")
    X_val, y_val = data.splits.get("val", (None, None))
    start = time.perf_counter()
    estimator.fit(*data.splits["train"], X_val=X_val, y_val=y_val)
    seconds = time.perf_counter() - start
    class_names = data.names_of(estimator.classes_.tolist())
    scored: list[str] = [split for split in ("test", "val") if split in data.splits]
    reports = {split: _score(estimator, data.splits[split], class_names) for split in scored}
    return Run(estimator, class_names, reports, seconds, len(data.splits["train"][1]))


def read(folder: str | os.PathLike[str]) -> tuple[ImageClassifier, list[str]]:
    """Read the estimator of a run, and the names of its classes in their order."""
    from kmedclf.persistence import load

    check_run(folder)
    environment = json.loads(Path(folder, "environment.json").read_text(encoding="utf-8"))
    return load(Path(folder, MODEL)), environment["data"]["class_names"]


def read_run(folder: str | os.PathLike[str]) -> Run:
    """Read a run back from its folder."""
    from kmedclf.evaluation import Report

    estimator, class_names = read(folder)
    environment = json.loads(Path(folder, "environment.json").read_text(encoding="utf-8"))
    reports = {
        split: Report.from_json(path)
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
    """Refuse a folder that holds no run."""
    if not Path(folder, MODEL).is_file():
        raise FileNotFoundError(
            f"{folder} must be a folder that 'kmedclf train' wrote. There is no {MODEL} in it."
        )


def evaluate(folder: str | os.PathLike[str], data: Data, split: str) -> Report:
    """Score the model of a run on a split, and write evaluation-<split>.json into its folder."""
    estimator, class_names = read(folder)
    report = _score(estimator, data.splits[split], class_names)
    _write_report(Path(folder), split, report, data)
    return report


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


def _score(estimator: ImageClassifier, split: Split, class_names: Sequence[str]) -> Report:
    from kmedclf import evaluation

    return evaluation.evaluate(estimator, *split, class_names=class_names)


def _write_report(folder: Path, split: str, report: Report, data: Data) -> None:
    # The two keys more do not keep Report.from_json from reading it.
    content = {"data": data.description, "split": split, **report.to_dict()}
    write_json(folder / f"evaluation-{split}.json", content)


def _draw(_: str, split: str, size: int) -> Split:
    if split not in SYNTHETIC:
        raise ValueError(f"The synthetic set has no {split!r} split, only {list(SYNTHETIC)}.")
    n_samples, seed = SYNTHETIC[split]
    return datasets.make_blood_cells(n_samples, size, random_state=seed)


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
