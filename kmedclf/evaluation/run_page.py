"""The report page of a run folder."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from kmedclf import runs
from kmedclf.evaluation.label_report import AnyReport, read_report_file
from kmedclf.evaluation.page import write_page


def read_report(folder: str | os.PathLike[str], split: str) -> AnyReport:
    """Read what a run, or 'kmedclf evaluate' later, found on a split."""
    runs.check_run(folder)
    path = Path(folder, f"evaluation-{split}.json")
    if not path.is_file():
        raise FileNotFoundError(
            f"{folder} holds no evaluation on {split!r}; 'kmedclf evaluate {folder} --data DATA "
            f"--split {split}' makes it."
        )
    return read_report_file(path)


def page_of(folder: str | os.PathLike[str]) -> Path:
    """Name the page of a run, or of a model's file, where nobody says otherwise."""
    place = Path(folder)
    return place.with_suffix(".html") if place.is_file() else place / "report.html"


def write_run_page(
    folder: str | os.PathLike[str],
    *,
    data: runs.Data | str | None = None,
    split: str = "test",
    out: str | os.PathLike[str] | None = None,
    explain: bool = True,
) -> Path:
    """Write the report of a run as one page.

    Parameters
    ----------
    folder : path-like
        What `kmedclf.runs.train` wrote, or a model's file, which needs ``data``.
    data : Data or str, optional
        The images, or where they are; where they were in training by default.
    split : {"train", "val", "test"}, default="test"
        On which images; the run must hold an evaluation on them.
    out : path-like, optional
        The page; report.html in the folder by default.
    explain : bool, default=True
        Whether to add Grad-CAM maps, for which the network is loaded.

    Returns
    -------
    Path
        The page.
    """
    if Path(folder).is_file():
        return _write_model_page(Path(folder), data, split, out, explain)
    report = read_report(folder, split)
    skipped = set(_read(folder, f"evaluation-{split}").get("skipped", ()))
    parameters, history, environment = (
        _read(folder, name) for name in ("parameters", "history", "environment")
    )
    if not isinstance(data, runs.Data):
        source = data or environment["data"]["source"]
        groups = runs.groups_of(folder, source, split)
        data = runs.read_data(source, environment["data"]["size"], split, groups)
    target = page_of(folder) if out is None else Path(out)
    X = data.splits[split][0]
    if skipped:  # files that could not be read: the report is of the others
        X = X[[str(path) not in skipped for path in X]]
    write_page(
        target,
        report,
        X=X,
        model=runs.read(folder)[0] if explain else None,
        history=history["history"],
        best_epoch=history["best_epoch"],
        parameters=parameters["used"],
        environment=environment,
        title=f"{parameters['estimator']} on {environment['data']['name']}, {split} split",
    )
    return target


def _write_model_page(
    file: Path, data: Any, split: str, out: str | os.PathLike[str] | None, explain: bool
) -> Path:
    if data is None:
        raise ValueError(f"--data must say where the images are: {file} is a model and no run.")
    content = data if isinstance(data, runs.Data) else runs.read_data(data, only=split)
    model, _ = runs.read(file)
    target = page_of(file) if out is None else Path(out)
    write_page(
        target,
        runs.evaluate(file, content, split),
        X=content.splits[split][0],
        model=model if explain and hasattr(model, "model_") else None,
        title=f"{type(model).__name__} on {content.description['name']}, {split} split",
    )
    return target


def _read(folder: str | os.PathLike[str], name: str) -> Any:
    return json.loads(Path(folder, f"{name}.json").read_text(encoding="utf-8"))
