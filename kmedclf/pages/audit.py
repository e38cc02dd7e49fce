"""Page of an audit: tables, and pairs of images side by side."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from kmedclf.datasets.audit import Audit, Pair
from kmedclf.evaluation.plots.images import thumbnail
from kmedclf.pages import SIDE, render

SHOWN = 200
"""Maximum number of pairs in a page; each takes about 4 kB."""


def write_audit_page(
    path: str | os.PathLike[str], audit: Audit, X: Any, title: str, note: str
) -> None:
    """Write an audit as one HTML file; the most serious pairs come first."""
    if len(X) != audit.n:
        raise ValueError(
            f"The 'X' parameter of write_page must hold the {audit.n} images of the audit. "
            f"Got {len(X)} instead."
        )
    sections, left = [], SHOWN
    for name, pairs in _sections(audit).items():
        shown = [_entry(audit, X, pair) for pair in islice(pairs, left)]
        left -= len(shown)
        if pairs:
            sections.append((name, len(pairs), shown))
    render(path, "audit.html", title=title, note=note, audit=audit, sections=sections)


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


def _entry(audit: Audit, X: Any, pair: Pair) -> tuple[float, list[tuple[str, str, str, str]]]:
    return pair.similarity, list(_pictures(audit, X, pair))


def _pictures(audit: Audit, X: Any, pair: Pair) -> Iterator[tuple[str, str, str, str]]:
    """Yield picture, split, label, and file name or position in the split, of both images."""
    for i in pair[:2]:
        split = audit.split_index[i]
        is_path = isinstance(X[i], str | os.PathLike)
        place = Path(X[i]).name if is_path else str(np.sum(audit.split_index[:i] == split))
        buffer = io.BytesIO()
        if is_path or np.asarray(X[i]).size:  # an empty array has no picture
            thumbnail(X[i], SIDE).save(buffer, "WEBP", quality=80, method=2)
        picture = base64.b64encode(buffer.getvalue()).decode("ascii")
        yield picture, audit.splits[split], audit.labels[i], place
