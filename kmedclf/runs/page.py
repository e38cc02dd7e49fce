"""The report page of a run folder."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from kmedclf import runs
from kmedclf.datasets import sources
from kmedclf.evaluation.report import AnyReport, read_report_file
from kmedclf.evaluation.scores import SCORES
from kmedclf.pages.report import write_page
from kmedclf.pages.search import SETTINGS, write_search_page
from kmedclf.utils.archives import read_json


def read_report(folder: str | os.PathLike[str], split: str) -> AnyReport:
    """Read the report on a split that training, or 'kmedclf evaluate' later, wrote."""
    runs.check_run(folder)
    path = Path(folder, f"evaluation-{split}.json")
    if not path.is_file():
        raise FileNotFoundError(
            f"{folder} holds no evaluation on {split!r}; 'kmedclf evaluate {folder} --data DATA "
            f"--split {split}' makes it."
        )
    return read_report_file(path)


def page_of(folder: str | os.PathLike[str]) -> Path:
    """Return the default path of the page of a run, or of a single model file."""
    place = Path(folder)
    return place.with_suffix(".html") if place.is_file() else place / "report.html"


def scored_data(folder: str | os.PathLike[str], split: str) -> dict[str, Any]:
    """Read the description of the data that a report was computed on.

    After 'kmedclf evaluate' they may differ from the training data. Empty if not recorded.
    """
    path = Path(folder, f"evaluation-{split}.json")
    data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")).get("data") or {}
    return data


def _check_same(
    folder: Any,
    split: str,
    report: AnyReport,
    scored: dict[str, Any],
    data: sources.Data,
    y: np.ndarray,
) -> str:
    """Refuse images that were not scored; return a note if they may be other images."""
    if len(y) != report.n or not _same_labels(report, data, y):
        raise ValueError(
            f"--data must be the {report.n:,} images that evaluation-{split}.json in {folder} is "
            f"of, {scored['name']}. Got {len(y):,} of {data.description['name']} with other labels."
        )
    # Equal labels do not prove equal images; hashes or descriptions do.
    own, shown = scored.get("sha256"), data.description.get("sha256")
    if own == shown or data.description == scored:
        return ""
    return (
        "The images shown have the labels of those that were scored, in their order, but come "
        f"from other files ({data.description['name']}): they may not be the same."
    )


def _same_labels(report: AnyReport, data: sources.Data, y: np.ndarray) -> bool:
    if y.ndim > 1:
        names = list(data.class_names)
        if set(names) == set(report.class_names):
            y = y[:, [names.index(name) for name in report.class_names]]
        return np.array_equal(y, report.y_true)
    found, code = np.unique(y, return_inverse=True)
    names = data.names_of(found.tolist())
    own = [report.class_names[i] for i in report.true_index]
    labels = list(map(str, report.y_true.tolist()))
    return [names[i] for i in code] == own or list(map(str, y.tolist())) == labels


def write_run_page(
    folder: str | os.PathLike[str],
    *,
    data: sources.Data | str | None = None,
    split: str = "test",
    out: str | os.PathLike[str] | None = None,
    explain: bool = True,
) -> Path:
    """Write the report of a run, or of a search, as one HTML page.

    ``folder`` may also be a single model file, which needs ``data``. By default the images are
    read from where they were scored. ``explain`` adds Grad-CAM maps, and loads the network.
    """
    target = page_of(folder) if out is None else Path(out)
    if Path(folder, SETTINGS).is_file():
        write_search_page(Path(folder), target)
        return target
    if Path(folder).is_file():
        return _write_model_page(Path(folder), data, split, out, explain)
    report, scored = read_report(folder, split), scored_data(folder, split)
    skipped = _read(folder, f"evaluation-{split}").get("skipped", ())
    parameters, history, environment = (
        _read(folder, name) for name in ("parameters", "history", "environment")
    )
    trained, twins = environment["data"], environment.pop("twins", {})
    environment.pop("skipped", None)  # the card and the checklist say it
    scored = scored or trained
    if not isinstance(data, sources.Data):
        source = data or scored["source"]
        groups = runs.groups_of(folder, source, split)
        data = sources.read_data(source, scored["size"], split, groups)
    X, y = data.splits[split][:2]
    # The report does not cover files that could not be read.
    if skipped:
        left_out = {_place(path, scored["source"]) for path in skipped}
        read = np.array([_place(path, data.description["source"]) not in left_out for path in X])
        X, y = X[read], np.asarray(y)[read]
    # The user may pass any images, but the page shows them as the scored ones.
    note = _check_same(folder, split, report, scored, data, np.asarray(y))
    if scored.get("sha256") != trained.get("sha256") or scored["name"] != trained["name"]:
        environment = {**environment, "scored_on": scored}
    write_page(
        target,
        report,
        X=X,
        model=runs.read(folder)[0] if explain else None,
        history=history["history"],
        best_epoch=history["best_epoch"],
        parameters=parameters["used"],
        chosen=parameters.get("chosen"),
        environment=environment,
        title=f"{parameters['estimator']} on {scored['name']}, {split} split",
        note=note,
        tables=_tried(history),
        links=links_beside(target, trained["source"]),
        twins=twins.get(split) if _is_held_out(data, trained, split) else None,
    )
    return target


def _place(path: str | os.PathLike[str], source: str) -> str:
    """Return a path below the folder of the data, which may be a copy, or else the whole path."""
    whole, root = Path(os.path.abspath(path)), Path(os.path.abspath(source))
    return (whole.relative_to(root) if whole.is_relative_to(root) else whole).as_posix()


def _tried(history: dict[str, Any]) -> list[tuple[str, list[str], list[list[str]]]]:
    """List what an AutoClassifier found in the data, and what became of its candidates."""
    notes = [[str(number), one] for number, one in enumerate(history.get("notes", []), 1)]
    return [
        ("What was tried", *_leaderboard(history.get("leaderboard", []))),
        ("What happened", ["", "In the order of the search"], notes),
    ]


def _leaderboard(rows: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Format a leaderboard as the names of its columns and the texts of its rows."""
    names = [key.removesuffix("_low") for key in (rows or [{}])[0] if key.endswith("_low")]
    columns = ["Candidate", *(SCORES[name] for name in names), "Weight", "Seconds", "Outcome"]

    def score(row: dict[str, Any], name: str) -> str:
        value, low, high = (row.get(f"{name}{end}") for end in ("", "_low", "_high"))
        if value is None or low is None or high is None:
            return "–"
        return f"{value:.3f} [{low:.3f}, {high:.3f}]"

    return columns, [
        [row["name"], *(score(row, name) for name in names), f"{row['weight']:.2f}",
         f"{row['seconds']:.1f}", row["status"]]
        for row in rows
    ]  # fmt: skip


def _is_held_out(data: sources.Data, trained: dict[str, Any], split: str) -> bool:
    """Check whether images are another split of the data that the run was trained on."""
    shown = data.description
    return split != "train" and all(shown.get(k) == trained.get(k) for k in ("source", "sha256"))


def links_beside(page: Path, source: str) -> dict[str, str]:
    """Find the pages on the same data beside a page, in folders next to it or one above it.

    Addresses are relative and name no folder above those.
    """
    here = page.absolute().parent
    found = {}
    for folder in dict.fromkeys((here, here.parent)):
        for name in ("audit", "comparison"):
            other = folder / f"{name}.html"
            if other != page.absolute() and other.is_file():
                found[name.capitalize()] = Path(os.path.relpath(other, here)).as_posix()
    for other in sorted(here.glob("*/report.html")):
        environment = other.with_name("environment.json")
        if environment.is_file() and read_json(environment)["data"]["source"] == source:
            found[f"Report of {other.parent.name}"] = f"{quote(other.parent.name)}/report.html"
    return found


def _write_model_page(
    file: Path, data: Any, split: str, out: str | os.PathLike[str] | None, explain: bool
) -> Path:
    if data is None:
        raise ValueError(f"--data must say where the images are: {file} is a model and no run.")
    content = data if isinstance(data, sources.Data) else sources.read_data(data, only=split)
    model, _ = runs.read(file)
    target = page_of(file) if out is None else Path(out)
    write_page(
        target,
        runs.evaluate(file, content, split),
        X=content.splits[split][0],
        model=model if explain and hasattr(model, "network_") else None,
        title=f"{type(model).__name__} on {content.description['name']}, {split} split",
    )
    return target


def _read(folder: str | os.PathLike[str], name: str) -> Any:
    return json.loads(Path(folder, f"{name}.json").read_text(encoding="utf-8"))
