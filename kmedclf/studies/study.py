"""A study, and its way to one page."""

from __future__ import annotations

import base64
import csv
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kmedclf import runs
from kmedclf.datasets.audit import ORDER
from kmedclf.evaluation.page import comparison_values, flat, render
from kmedclf.evaluation.sharing import without_folders
from kmedclf.files import check_folder, sweep, write_json, write_text, written_beside
from kmedclf.studies.lab import Lab
from kmedclf.studies.section import Section

PAGE = "index.html"
SETTINGS = "study.json"


@dataclass(frozen=True)
class Study:
    """An experiment in items.

    Attributes
    ----------
    name : str
        As on the command line.
    title : str
        Heading of the page.
    data : str
        Where its data are, unless told otherwise; as `kmedclf.runs.read_data` takes it.
    items : sequence of callable
        Each takes a `Lab` and returns a `Section`. An item that needs the network of an earlier
        one asks ``lab.train`` for it again: what is trained is read.
    class_names : sequence of str
        Names of the classes of a file that has none and as many classes.
    shares : mapping of str to float, optional
        Parts of each class for the splits of a folder that has none.
    unique : bool, default=False
        Whether images that are there twice are left out.
    """

    name: str
    title: str
    data: str
    items: Sequence[Callable[[Lab], Section]]
    class_names: Sequence[str] = ()
    shares: Mapping[str, float] | None = None
    unique: bool = False

    def open(self, source: str | None, out: str | os.PathLike[str], **settings: Any) -> Lab:
        """Open a `Lab` for the study: its own data by default, ``settings`` as `Lab.open`'s."""
        return Lab.open(
            source or self.data,
            out,
            class_names=self.class_names,
            shares=self.shares,
            unique=self.unique,
            **settings,
        )

    def only(self, names: Sequence[str] | None) -> Study:
        """Take some items, by the names of their functions; all if there are none."""
        known = {item.__name__: item for item in self.items}
        for name in names or ():
            if name not in known:
                raise ValueError(
                    f"--only must name items of {self.name}, {', '.join(known)}. "
                    f"Got {name!r} instead."
                )
        return replace(self, items=[item for n, item in known.items() if not names or n in names])


def reproduce(
    study: Study, lab: Lab, *, tell: Callable[[Section], None] = lambda section: None
) -> Path:
    """Make all items of a study, in their order, into one page.

    Parameters
    ----------
    study : Study
        What to make.
    lab : Lab
        Where. Networks and fits that its folder holds already are read.
    tell : callable, optional
        Called with each section once it is made.

    Returns
    -------
    Path
        The page, complete after every item: one HTML file that needs nothing else, and links to
        the pages of the networks beside it. ``results.json`` and ``results.csv`` beside it hold
        every network's facts and scores, the first one the tables as well.
    """
    sections: list[Section] = []
    for item in study.items:
        sections.append(item(lab))
        write(lab, study.title, sections)
        tell(sections[-1])
    return lab.out / PAGE


def write(lab: Lab, title: str, sections: Sequence[Section]) -> None:
    """Write sections as one page, and their numbers as JSON and CSV."""
    _write_results(lab, title, sections)
    render(
        lab.out / PAGE,
        "study.html",
        title=title,
        data=lab.data.description,
        n=sorted(lab.data.description["n"].items(), key=lambda one: _place(one[0])),
        quick=lab.quick,
        parameters=lab.parameters,
        sections=[
            (
                section,
                [(one, base64.b64encode(one.png).decode("ascii")) for one in section.figures],
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


def _write_results(lab: Lab, title: str, sections: Sequence[Section]) -> None:
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
        writer = csv.DictWriter(file, list(columns))
        writer.writeheader()
        writer.writerows(rows)


def settings_of(
    out: Path, wanted: dict[str, Any], default_data: str, *, resume: bool
) -> dict[str, Any]:
    """Settle with which settings to make a study, and refuse a folder that holds something else.

    Parameters
    ----------
    out : Path
        The folder.
    wanted : dict
        Settings; those that are None are the folder's, if there is a study in it.
    default_data : str
        "data" of a new study.
    resume : bool
        Whether to go on with a study that was begun.

    Raises
    ------
    FileExistsError
        If the folder holds anything and ``resume`` is false.
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
