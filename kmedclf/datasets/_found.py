"""What an audit found, as numbers, text and page."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Pair(NamedTuple):
    """Two images, and the correlation of their details; 1 if all pixels are the same."""

    first: int
    second: int
    similarity: float


@dataclass(frozen=True, eq=False)
class Audit:
    """What `audit` found; images are given by their position in X.

    Attributes
    ----------
    splits : tuple of str
        The splits in their order; only "all" if none were given.
    split_index : ndarray of shape (n,)
        The split of each image, as a position in ``splits``.
    labels : tuple of str
        Label of each image, in print.
    classes : tuple of str
        Names of the classes.
    balance : ndarray of shape (n_splits, n_classes)
        Number of images of each class in each split.
    identical : tuple of tuple of int
        Groups of images that are the same pixel by pixel.
    near : tuple of Pair
        Images that show the same picture in other pixels, most similar first. The first image of
        a group of identical ones stands for the group.
    two_labels : tuple of Pair
        Images, identical or nearly, that bear different labels.
    blank, odd : tuple of int
        Images that show nothing, and images whose shape is not the most frequent one.
    straddling : tuple of str
        Groups, such as patients, with images in several splits.
    leaked : ndarray of shape (n,), bool
        Images that also stand, exactly or nearly, in an earlier split. Without them, the scores of
        a split are those of images that the network has not seen; see ``exclude`` of
        `kmedclf.evaluation.evaluate`.
    looked_near, grouped : bool
        Whether nearly identical images were looked for, and whether groups were given.
    """

    splits: tuple[str, ...]
    split_index: NDArray[np.int64]
    labels: tuple[str, ...]
    classes: tuple[str, ...]
    balance: NDArray[np.int64]
    identical: tuple[tuple[int, ...], ...]
    near: tuple[Pair, ...]
    two_labels: tuple[Pair, ...]
    blank: tuple[int, ...]
    odd: tuple[int, ...]
    straddling: tuple[str, ...]
    leaked: NDArray[np.bool_]
    looked_near: bool = True
    grouped: bool = True

    @property
    def n(self) -> int:
        """Number of images."""
        return len(self.split_index)

    @property
    def ok(self) -> bool:
        """Whether nothing leaks from split to split and no image bears two labels."""
        return not (self.leaked.any() or self.straddling or self.two_labels)

    def crosses(self, images: Sequence[int]) -> bool:
        """Say whether images, and those identical to them, are from several splits."""
        groups = {group[0]: group for group in self.identical}
        rows = [row for i in images for row in groups.get(i, (i,))]
        return len(set(self.split_index[rows].tolist())) > 1

    def findings(self) -> list[tuple[str, int | None, int | None, int | None]]:
        """List what there may be: its name, how often it is there, across splits, two labels.

        None stands where nobody looked.
        """
        double = {pair[:2] for pair in self.two_labels}
        exact_double = sum(pair.similarity == 1 for pair in self.two_labels)
        across = sum(map(self.crosses, self.identical))
        near_across = sum(self.crosses(pair[:2]) for pair in self.near)
        near_double = sum(pair[:2] in double for pair in self.near)
        nearly = (len(self.near), near_across, near_double)
        straddling = len(self.straddling) if self.grouped else None
        return [
            ("Groups of identical images", len(self.identical), across, exact_double),
            ("Pairs of nearly identical images", *(nearly if self.looked_near else (None,) * 3)),
            ("Blank images", len(self.blank), None, None),
            ("Images of another shape", len(self.odd), None, None),
            ("Groups in several splits", straddling, straddling, None),
        ]

    @property
    def not_looked_for(self) -> tuple[str, ...]:
        """What was not looked for, in sentences."""
        near = "Nearly identical images were not looked for."
        groups = "Groups, such as patients, were not given: they may be in several splits."
        said = [] if self.looked_near else [near]
        return tuple(said if self.grouped or len(self.splits) == 1 else [*said, groups])

    def leaks(self) -> list[tuple[str, int, int]]:
        """Count each later split's images, and those that also stand in an earlier one."""
        rows = [self.split_index == i for i in range(len(self.splits))]
        names = zip(self.splits, rows, strict=True)
        return [(name, int(row.sum()), int(self.leaked[row].sum())) for name, row in names][1:]

    def __str__(self) -> str:
        """Write it all as tables of plain text."""
        counts = np.bincount(self.split_index, minlength=len(self.splits))
        sizes = zip(self.splits, counts, strict=True)
        title = f"{self.n:,} images: " + ", ".join(f"{name} {n:,}" for name, n in sizes)
        found: list[tuple[str, ...]] = [("", "found", "across splits", "two labels")]
        found += [tuple("–" if n is None else f"{n}" for n in row) for row in self.findings()]
        leaks = [
            f"{leaked:,} of {n:,} images of {name} also stand in an earlier split."
            for name, n, leaked in self.leaks()
        ]
        leaks += self.not_looked_for
        balance: list[tuple[str, ...]] = [("Images of class", *self.splits)]
        for name, row in zip(self.classes, self.balance.T, strict=True):
            balance.append((name, *map(str, row)))
        parts = [title, _table(found), "\n".join(leaks), _table(balance)]
        return "\n\n".join(filter(None, parts))

    def to_dict(self) -> dict[str, Any]:
        """Turn into lists and numbers that JSON can hold."""
        return {
            "n": self.n,
            "splits": list(self.splits),
            "balance": {
                split: dict(zip(self.classes, row.tolist(), strict=True))
                for split, row in zip(self.splits, self.balance, strict=True)
            },
            "identical": [list(group) for group in self.identical],
            "near": [list(pair) for pair in self.near],
            "two_labels": [list(pair) for pair in self.two_labels],
            "blank": list(self.blank),
            "odd": list(self.odd),
            "straddling": list(self.straddling),
            "looked_near": self.looked_near,
            "grouped": self.grouped,
            "leaked": np.flatnonzero(self.leaked).tolist(),
        }

    def write_page(
        self, path: str | os.PathLike[str], X: Any, *, title: str = "Audit", note: str = ""
    ) -> None:
        """Write it as one HTML file, with the pairs side by side; X as in `audit`.

        A note stands below the title.
        """
        from kmedclf.datasets._audit_page import write

        write(path, self, X, title, note)


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    """Align rows: the first column at its left, numbers at their right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for name, *cells in rows:
        aligned = [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)]
        lines.append("  ".join([name.ljust(widths[0]), *aligned]))
    return "\n".join(lines)
