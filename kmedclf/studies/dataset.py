"""The images of a study: how many of each class are in each split, and what they look like."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kmedclf.datasets import sources
from kmedclf.evaluation import plots
from kmedclf.evaluation.wording import count
from kmedclf.studies.section import Choice, Figure, Section, Table

if TYPE_CHECKING:
    from kmedclf.studies.study import Workspace

NAMES = {"train": "training", "val": "validation", "test": "test"}
"""Splits, as a page calls them."""

Reported = Mapping[str, Sequence[int]]
"""Images of each class that a report counts, by split, or by splits joined by " + "."""


def places(names: Sequence[str], patterns: Sequence[str]) -> list[int] | None:
    """Return which of the patterns each class name matches; None unless that is one to one."""
    found = [
        [k for k, pattern in enumerate(patterns) if re.search(pattern, name.casefold())]
        for name in names
    ]
    matched = [one[0] for one in found if len(one) == 1]
    one_to_one = len(names) == len(patterns) and sorted(matched) == list(range(len(patterns)))
    return matched if one_to_one else None


def counts(data: sources.Data, split: str) -> list[int]:
    """Count the images of each class in a split, or in splits joined by " + "."""
    y = np.concatenate([data.splits[one][1] for one in split.split(" + ")])
    names = np.array(data.names_of(y.tolist()))
    return [int((names == name).sum()) for name in data.class_names]


def distribution(
    lab: Workspace,
    reported: Reported,
    patterns: Sequence[str],
    *,
    method: str = "",
    choices: Sequence[Choice] = (),
    findings: Sequence[str] = (),
) -> Section:
    """Count the images of each class in each split beside those that the report counts.

    Parameters
    ----------
    lab : Workspace
        The study.
    reported : mapping of str to sequence of int
        See `Reported`; shown if the data have these classes.
    patterns : sequence of str
        A regular expression for each class of the report, for names in lower case; see `places`.
    method : str
        What is said before how validation images came about.
    choices, findings
        What the section says besides.
    """
    data = lab.data
    listed = [one for one in NAMES if one in data.splits]
    joined = [one for one in reported if " + " in one and set(one.split(" + ")) <= set(listed)]
    order = places(data.class_names, patterns)
    rows = []
    for split in [*listed, *joined]:
        published = reported.get(split) if order else None
        rows += _rows(data, split, published and [published[k] for k in order or ()])
    labels = {NAMES[one]: data.splits[one][1] for one in listed}
    # A class may be missing from all splits, or from training alone.
    present = sorted({one for y in labels.values() for one in np.unique(y).tolist()})
    X, y = data.splits["train"]
    trained = data.names_of(np.unique(y).tolist())
    return Section(
        title="The images",
        method=f"{method} {_validation(data)}".strip(),
        choices=choices,
        findings=[*(_balance(data, one) for one in listed if one != "val"), *findings],
        tables=[
            Table(
                "Images of each class",
                ["Split", "Class", "Images", "Share", "Report: images", "Report: share"],
                rows,
            )
        ],
        figures=[
            Figure.of(
                "classes",
                "Images of each class in each split.",
                plots.class_counts(labels, class_names=data.names_of(present)),
            ),
            Figure.of(
                "samples",
                "The first training image of each class.",
                plots.samples(X, y, class_names=trained),
            ),
        ],
    )


def _rows(data: sources.Data, split: str, published: Sequence[int] | None) -> list[list[Any]]:
    own = counts(data, split)
    title = ", ".join(NAMES[one] for one in split.split(" + "))
    there = [("–", "–")] * len(own)
    if published is not None:
        there = [(f"{n:,}", _share(n, sum(published))) for n in published]
    return [
        [title, name, f"{n:,}", _share(n, sum(own)), *one]
        for name, n, one in zip(data.class_names, own, there, strict=True)
    ]


def _share(n: int, of: int) -> str:
    return f"{100 * n / of:.1f} %" if of else "–"


def _validation(data: sources.Data) -> str:
    """Say where the validation images come from."""
    drawn = data.description.get("validation_drawn")
    if drawn:
        return (
            f"{100 * drawn:.3g} % of each class of the training images were drawn at random to "
            f"validate (seed {data.description['split_seed']}); no network trains on them."
        )
    return "" if "val" in data.splits else "No images validate."


def _balance(data: sources.Data, split: str) -> str:
    """Say how even the classes of a split are."""
    own = dict(zip(data.class_names, counts(data, split), strict=True))
    largest = max(own, key=lambda name: own[name])
    n = sum(own.values())
    return (
        f"{NAMES[split].capitalize()}: {count(n, 'image')}, the largest class is {largest} with "
        f"{_share(own[largest], n)}; naming it always would be right as often."
    )
