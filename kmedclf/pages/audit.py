"""Page of an audit: what was found, and pairs of images side by side."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

import numpy as np

from kmedclf.datasets.audit import Audit, Pair
from kmedclf.pages import csv_link, render, webp
from kmedclf.pages.gallery import SIDE, shrunk

SHOWN = 200
"""Maximum number of pairs in a page; each takes about 6 kB."""
ALONE = 40
"""Maximum number of blank images, and of those of another shape, in a page."""


def write_audit_page(
    path: str | os.PathLike[str],
    audit: Audit,
    X: Any,
    title: str,
    note: str,
    links: Mapping[str, str] | None = None,
) -> None:
    """Write an audit as one HTML file; the most serious pairs come first."""
    if len(X) != audit.n:
        raise ValueError(
            f"The 'X' parameter of write_page must hold the {audit.n} images of the audit. "
            f"Got {len(X)} instead."
        )
    found, left = _sections(audit), SHOWN
    sections = []
    for name, pairs in found.items():
        shown = [_entry(audit, X, pair) for pair in islice(pairs, left)]
        left -= len(shown)
        if pairs:
            sections.append((name, len(pairs), shown))
    alone = [
        (name, len(images), [_picture(audit, X, i) for i in images[:ALONE]])
        for name, images in (
            ("Blank images", audit.blank),
            ("Images of another shape", audit.rare_shapes),
        )
        if images
    ]
    listed = [
        [name, audit.place(a), audit.place(b), audit.labels[a], audit.labels[b], similarity]
        for name, pairs in found.items()
        for a, b, similarity in pairs
    ]
    head = ["finding", "first", "second", "first_label", "second_label", "similarity"]
    leaked = [[audit.place(i)] for i in np.flatnonzero(audit.leaked).tolist()]
    render(
        path,
        "audit.html",
        title=title,
        note=note,
        audit=audit,
        sections=sections,
        alone=alone,
        links=dict(links or {}),
        downloads=[
            ("All pairs", "pairs.csv", csv_link(head, listed)),
            ("Leaked images", "leaked.csv", csv_link(["path"], leaked)),
        ],
    )


def _sections(audit: Audit) -> dict[str, list[Pair]]:
    """Group the pairs by their problem; each pair is in one section only."""
    # Most serious first, since a page shows the first `SHOWN` pairs: two labels, then leaks
    contradicting = {pair[:2] for pair in audit.two_labels}
    identical = [
        Pair(group[0], other, 1.0)
        for group in audit.identical
        for other in group[1:]
        if (group[0], other) not in contradicting
    ]
    nearly = [pair for pair in audit.near if pair[:2] not in contradicting]
    sections: dict[str, list[Pair]] = {"One picture, two labels": list(audit.two_labels)}
    for words, inside in (("in several splits", False), ("in one split", True)):
        for name, pairs in (("Identical", identical), ("Nearly identical", nearly)):
            sections[f"{name}, {words}"] = [p for p in pairs if _one_split(audit, p) == inside]
    return sections


def _one_split(audit: Audit, pair: Pair) -> bool:
    return bool(audit.split_index[pair.first] == audit.split_index[pair.second])


def _entry(audit: Audit, X: Any, pair: Pair) -> tuple[float, list[dict[str, str]]]:
    return pair.similarity, list(_pictures(audit, X, pair))


def _pictures(audit: Audit, X: Any, pair: Pair) -> Iterator[dict[str, str]]:
    for i in pair[:2]:
        yield _picture(audit, X, i)


def _picture(audit: Audit, X: Any, i: int) -> dict[str, str]:
    """Return picture, split, label, and the file or the position in the split, of an image."""
    is_path = isinstance(X[i], str | os.PathLike)
    whole = is_path or np.asarray(X[i]).size  # an empty array has no picture
    split = audit.splits[audit.split_index[i]]
    place = audit.place(i)
    return {
        "picture": webp(shrunk(X[i], SIDE)) if whole else "",
        "split": split,
        "label": audit.labels[i],
        "place": place if audit.paths else place.removeprefix(f"{split} "),
    }
