"""Audit of a data set before training: duplicates, leaks, contradicting labels, blank images."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kmedclf.datasets.similarity import near_duplicates, summarize
from kmedclf.utils import notebook
from kmedclf.utils.files import places_below
from kmedclf.utils.notebook import Remark
from kmedclf.utils.text import table


class Pair(NamedTuple):
    """Two images and the correlation of their details; 1 if all pixels are equal."""

    first: int
    second: int
    similarity: float


@dataclass(frozen=True, eq=False, repr=False)
class Audit:
    """Result of `audit`; images are given by their position in X.

    Attributes
    ----------
    splits : tuple of str
        The splits in order; only "all" if none were given.
    split_index : ndarray of shape (n,)
        Split of each image, as a position in ``splits``.
    labels : tuple of str
        Printed label of each image.
    classes : tuple of str
        Names of the classes.
    balance : ndarray of shape (n_splits, n_classes)
        Number of images of each class in each split.
    identical : tuple of tuple of int
        Groups of images that are equal pixel by pixel.
    near : tuple of Pair
        Images that show the same picture with other pixels, most similar first. Identical images
        are represented by the first one of their group.
    two_labels : tuple of Pair
        Images that are identical or nearly identical but have different labels.
    blank, odd : tuple of int
        Images that show nothing, and images whose shape is not the most frequent one.
    shapes : tuple of (str, int)
        Shapes of the images, such as "512 × 512 × 3", each with its number of images, the most
        frequent first.
    straddling : tuple of str
        Groups, such as patients, with images in several splits.
    leaked : ndarray of shape (n,), bool
        Images that are also, exactly or nearly, in an earlier split. Pass it as ``exclude`` to
        `kmedclf.evaluation.evaluate` to score only images that the network has not seen.
    looked_near, grouped : bool
        Whether nearly identical images were searched, and whether groups were given.
    paths : tuple of str
        File of each image, below the common folder of all; empty if the images were arrays.
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
    shapes: tuple[tuple[str, int], ...]
    straddling: tuple[str, ...]
    leaked: NDArray[np.bool_]
    looked_near: bool = True
    grouped: bool = True
    paths: tuple[str, ...] = ()

    @property
    def n(self) -> int:
        """Number of images."""
        return len(self.split_index)

    @property
    def ok(self) -> bool:
        """Whether nothing leaks between splits and no image has two labels."""
        return not (self.leaked.any() or self.straddling or self.two_labels)

    def crosses(self, images: Sequence[int]) -> bool:
        """Check whether images, and those identical to them, are in several splits."""
        groups = {group[0]: group for group in self.identical}
        rows = [row for i in images for row in groups.get(i, (i,))]
        return len(set(self.split_index[rows].tolist())) > 1

    @property
    def rare_shapes(self) -> tuple[int, ...]:
        """The images of another shape, to be looked at; none where shapes vary, which is usual."""
        return self.odd if 10 * len(self.odd) < self.n else ()

    def findings(self) -> list[tuple[str, int | None, int | None, int | None]]:
        """List the findings: name, count, count across splits, count with two labels.

        None means that this was not searched.
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
        """Sentences that name the checks the audit did not make."""
        near = "Nearly identical images were not looked for."
        groups = "Groups, such as patients, were not given: they may be in several splits."
        said = [] if self.looked_near else [near]
        return tuple(said if self.grouped or len(self.splits) == 1 else [*said, groups])

    def place(self, i: int) -> str:
        """Name an image: its file, or its position in its split."""
        if self.paths:
            return self.paths[i]
        split = self.split_index[i]
        return f"{self.splits[split]} {np.sum(self.split_index[:i] == split)}"

    @property
    def verdict(self) -> list[Remark]:
        """What was found and what to do about it, in sentences, the most serious first."""
        said = []
        leaked, double = int(self.leaked.sum()), len(self.two_labels)
        if leaked:
            are = "is" if leaked == 1 else "are"
            text = f"Leak found: {leaked:,} of {self.n:,} images {are} also in an earlier split: "
            text += "scores are too good. Delete one copy of each; or score without them, in "
            said.append(Remark("warning", f"{text}Python by evaluate(..., exclude=found.leaked)."))
        if self.straddling:
            n = len(self.straddling)
            text = f"Leak found: {n:,} group{' is' if n == 1 else 's are'} in several splits; draw "
            said.append(Remark("warning", f"{text}the splits by group."))
        if double:
            text = f"{double:,} pair{' shows' if double == 1 else 's show'} one picture under two "
            said.append(Remark("warning", f"{text}labels: one of them must be wrong."))
        if self.blank:
            n = len(self.blank)
            text = f"{n:,} image{' shows' if n == 1 else 's show'} nothing; look at them, and "
            said.append(Remark("warning", f"{text}delete what is no image."))
        if not said:
            near = "identical or nearly identical" if self.looked_near else "identical"
            where = "stands in two splits" if len(self.splits) > 1 else "has two labels"
            said.append(Remark("good", f"Nothing serious was found: no {near} image {where}."))
        if self.odd:
            n = len(self.odd)
            usual, most = self.shapes[0]
            text = f"{n:,} image{' has' if n == 1 else 's have'} another shape than most, {usual} "
            text += f"({most:,})"
            if len(self.shapes) > 2:
                text += f"; there are {len(self.shapes):,} shapes"
            text += ". That is no fault in itself: all are resized alike. If shape goes with class "
            said.append(Remark("plain", f"{text}or hospital, a network can learn that instead."))
        return [*said, *(Remark("plain", text) for text in self.not_looked_for)]

    def __repr__(self) -> str:
        """Summarize the audit in one line."""
        found = "nothing serious" if self.ok else f"{int(self.leaked.sum())} leaked"
        return f"<Audit: {self.n} images, {', '.join(self.splits)}; {found}>"

    def _repr_html_(self) -> str:
        """Show verdict and findings in a notebook; the images of each class open on a click."""
        found = [["–" if one is None else one for one in row] for row in self.findings()]
        balance = [
            (name, *row) for name, row in zip(self.classes, self.balance.T.tolist(), strict=True)
        ]
        head = ("What", "Found", "Across splits", "With two labels")
        closed = "Images of each class"
        return notebook.block(
            f"Audit: {self.n:,} images",
            self.verdict,
            notebook.table(head, found),
            notebook.table(("Class", *self.splits), balance, closed=closed),
        )

    def leaks(self) -> list[tuple[str, int, int]]:
        """Count the images of each later split, and those that are also in an earlier split."""
        rows = [self.split_index == i for i in range(len(self.splits))]
        names = zip(self.splits, rows, strict=True)
        return [(name, int(row.sum()), int(self.leaked[row].sum())) for name, row in names][1:]

    def __str__(self) -> str:
        """Format all findings as tables of plain text."""
        counts = np.bincount(self.split_index, minlength=len(self.splits))
        sizes = zip(self.splits, counts, strict=True)
        title = f"{self.n:,} images: " + ", ".join(f"{name} {n:,}" for name, n in sizes)
        found: list[tuple[str, ...]] = [("", "found", "across splits", "two labels")]
        found += [tuple("–" if n is None else f"{n}" for n in row) for row in self.findings()]
        leaks = [
            f"{leaked:,} of {n:,} images of {name} {'is' if leaked == 1 else 'are'} also in an "
            "earlier split."
            for name, n, leaked in self.leaks()
        ]
        balance: list[tuple[str, ...]] = [("Images of class", *self.splits)]
        for name, row in zip(self.classes, self.balance.T, strict=True):
            balance.append((name, *map(str, row)))
        verdict = "\n".join(one.text for one in self.verdict)
        parts = [title, verdict, table(found, numbers=True), "\n".join(leaks), *self._examples()]
        parts.append(table(balance, numbers=True))
        return "\n\n".join(filter(None, parts))

    def _examples(self, most: int = 5) -> list[str]:
        """Name the first images of each finding."""
        near = [one for one in self.near if self.crosses(one[:2])]
        groups: dict[str, Sequence[Sequence[int]]] = {
            "One picture, two labels": [one[:2] for one in self.two_labels],
            "Identical, in several splits": [one for one in self.identical if self.crosses(one)],
            "Nearly identical, in several splits": [one[:2] for one in near],
            "Blank": [(i,) for i in self.blank],
            "Of another shape": [(i,) for i in self.rare_shapes],
        }
        said = []
        for title, images in groups.items():
            lines = [f"  {' = '.join(map(self.place, rows[:3]))}" for rows in images[:most]]
            if len(images) > most:
                lines.append(f"  and {len(images) - most:,} more")
            said += ["\n".join([f"{title}:", *lines])] if lines else []
        return said

    def to_dict(self) -> dict[str, Any]:
        """Convert to lists and numbers that JSON can hold."""
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
            "shapes": [list(one) for one in self.shapes],
            "straddling": list(self.straddling),
            "looked_near": self.looked_near,
            "grouped": self.grouped,
            "leaked": np.flatnonzero(self.leaked).tolist(),
        }

    def write_page(
        self,
        path: str | os.PathLike[str],
        X: Any,
        *,
        title: str = "Audit",
        note: str = "",
        links: Mapping[str, str] | None = None,
    ) -> None:
        """Write one HTML file with the findings and the pairs side by side.

        Parameters
        ----------
        path : str or path-like
            The file.
        X : array-like or sequence
            The images, as in `audit`.
        title : str, default="Audit"
            Heading.
        note : str, default=""
            Text below the heading.
        links : mapping of str to str, optional
            Addresses of other pages by their words, such as reports on these data.

        Raises
        ------
        ValueError
            If X has not as many images as the audit.
        """
        # Here, since pages import this module, and load matplotlib
        from kmedclf.pages.audit import write_audit_page

        write_audit_page(path, self, X, title, note, links)


ORDER = ("train", "val", "test")
"""Order of the splits with these names, before all others."""


def audit(
    X: Any,
    y: Any,
    *,
    groups: Any = None,
    splits: Any = None,
    near: bool = True,
    similarity: float = 0.95,
    class_names: Sequence[str] | None = None,
) -> Audit:
    """Search for duplicates, leaks between splits, contradicting labels and blank images.

    Parameters
    ----------
    X : array-like of shape (n, h, w) or (n, h, w, c), or sequence of n such images or of paths
        Images of all splits together. Files are opened one by one and may differ in size.
    y : array-like of shape (n,) or (n, n_labels)
        Labels; in a multilabel set, a row of zeros and ones per image.
    groups : array-like of shape (n,), optional
        Group of each image, such as its patient, which must not straddle splits.
    splits : array-like of shape (n,), optional
        Name of the split of each image. "train", "val" and "test" come in this order, others
        after them in order of appearance.
    near : bool, default=True
        Whether to search for nearly identical images, too.
    similarity : float, default=0.95
        Least correlation of nearly identical images, in (0, 1].
    class_names : sequence of str, optional
        Printed names, in the order of the sorted labels, or of the columns of y.

    Returns
    -------
    Audit
        The findings.

    Raises
    ------
    ValueError
        If a parameter or the data are not as described here.

    Notes
    -----
    Nearly identical images are equal up to mirroring, quarter turns, shifts by up to 2 pixels of
    28, brightness, contrast and compression. Candidates are pairs whose Fourier transforms have
    similar magnitudes, which shifts do not change [1]_; hashes of the low frequencies, as in [2]_,
    take all brains for copies of one. Candidates are then correlated pixel by pixel in all
    positions.

    The thresholds were chosen, and these rates measured, on 500 images each of brains (MRI, 64
    pixels) and of blood cells (28 pixels). All copies were found that were mirrored, turned,
    compressed by JPEG at quality 70, made 10 % brighter or darker, moved by 1 pixel, or all of
    these; of the copies moved by 2 pixels, all brains and 98.2 % of the cells. None of the 858,705
    pairs of 1,311 different blood cells was taken for a copy; of 2 × 10⁸ pairs of synthetic cells,
    2 in a million. Neighbouring slices of one patient correlate as much as copies do. They count
    as nearly identical, since training on one and testing on the other is a leak as well. With a
    ``similarity`` of 0.98 or more, few of them are reported.

    Time grows with the square of n; 20,000 images of 28 pixels take half a minute on one core.

    References
    ----------
    .. [1] B. Reddy, B. Chatterji, "An FFT-based technique for translation, rotation, and
       scale-invariant image registration", IEEE Transactions on Image Processing 5, 1996.
    .. [2] C. Zauner, "Implementation and benchmarking of perceptual image hash functions", 2010.

    Examples
    --------
    >>> import numpy as np
    >>> from kmedclf import datasets
    >>> X, y = datasets.make_blood_cells(20, random_state=0)
    >>> X[19] = X[3, ::-1]  # mirrored
    >>> found = datasets.audit(X, y, splits=["train"] * 10 + ["test"] * 10)
    >>> found.near[0][:2], np.flatnonzero(found.leaked).tolist()
    ((3, 19), [19])
    """
    n = len(X)
    if not 0 < similarity <= 1:
        raise ValueError(
            f"The 'similarity' parameter of audit must be in (0, 1]. Got {similarity!r} instead."
        )
    if groups is not None and splits is None:
        raise ValueError("The 'groups' parameter of audit needs 'splits' to straddle. Got none.")
    names, split_index = _splits(_of_length(splits, n, "splits"), n)
    code, classes, member = _labels(_of_length(y, n, "y"), class_names)

    looks = summarize(X)
    numbers, blank = looks.numbers, looks.blank
    # Correlations are quadratic in n: one image stands for each group of identical ones
    firsts = np.unique(numbers, return_index=True)[1]
    kept = firsts[~blank[firsts]]
    pairs, values = np.empty((0, 2), np.int64), np.empty(0, np.float32)
    if near and len(kept) > 1:
        pairs, values = near_duplicates(looks.small[kept], similarity)
    pairs = kept[pairs]
    order = np.argsort(-values, kind="stable")
    shapes = Counter(looks.shapes).most_common()
    nearly = [_pair(pairs[i], float(values[i])) for i in order]
    same = _groups(numbers)
    return Audit(
        splits=names,
        split_index=split_index,
        labels=tuple(" + ".join(np.array(classes)[row]) or "no label" for row in member),
        classes=classes,
        balance=np.stack([member[split_index == i].sum(axis=0) for i in range(len(names))]),
        identical=same,
        near=tuple(nearly),
        two_labels=(*_contradictions(same, code), *(p for p in nearly if code[p[0]] != code[p[1]])),
        blank=tuple(np.flatnonzero(blank).tolist()),
        odd=tuple(i for i, shape in enumerate(looks.shapes) if shape != shapes[0][0]),
        straddling=_straddling(_of_length(groups, n, "groups"), split_index),
        leaked=_leaked(numbers, numbers[pairs], split_index),
        looked_near=near,
        grouped=groups is not None,
        paths=tuple(places_below(X) or ()),
        shapes=tuple(shapes),
    )


def _pair(rows: NDArray[np.int64], similarity: float) -> Pair:
    """Make a pair of nearly identical images, whose similarity stays below 1 after rounding."""
    return Pair(int(rows[0]), int(rows[1]), min(round(similarity, 4), 0.9999))


def _of_length(values: Any, n: int, name: str) -> NDArray[Any] | None:
    """Check that a parameter has one entry per image; None stays None, except for y."""
    if values is None and name != "y":
        return None
    array = np.asarray(values)
    if array.ndim not in (1, 2 if name == "y" else 1) or len(array) != n:
        raise ValueError(
            f"The '{name}' parameter of audit must hold one entry for each of {n} images. "
            f"Got shape {array.shape} instead."
        )
    return array


def _splits(splits: NDArray[Any] | None, n: int) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Return the ordered names of the splits, and the split of each image (n,)."""
    # The order matters: an image in two splits counts as leaked in the later one
    given = ["all"] * n if splits is None else list(map(str, splits))
    found = dict.fromkeys(given)
    names = [*(name for name in ORDER if name in found), *(n for n in found if n not in ORDER)]
    number = {name: i for i, name in enumerate(names)}
    return tuple(names), np.array([number[name] for name in given], np.int64)


def _labels(
    y: NDArray[Any] | None, class_names: Sequence[str] | None
) -> tuple[NDArray[np.int64], tuple[str, ...], NDArray[np.bool_]]:
    """Return codes of the labels (n,), class names (k,), and membership of each image (n, k).

    A code stands for a whole row of y in a multilabel set.
    """
    assert y is not None
    # MedMNIST stores the labels of its multiclass sets as (n, 1)
    y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    unique, code = np.unique(y, axis=0, return_inverse=True)
    if y.ndim == 2:
        member, labels = y != 0, list(range(y.shape[1]))
    else:
        member, labels = code.reshape(-1, 1) == np.arange(len(unique)), unique.tolist()
    names = tuple(map(str, labels if class_names is None else class_names))
    if len(names) != len(labels):
        raise ValueError(
            f"The 'class_names' parameter of audit must hold a name for each of {len(labels)} "
            f"classes. Got {len(names)} instead."
        )
    return code.ravel(), names, member


def _groups(numbers: NDArray[np.int64]) -> tuple[tuple[int, ...], ...]:
    """List the rows that share a number, if several do, ordered by their first row."""
    order = np.argsort(numbers, kind="stable")
    starts = np.flatnonzero(np.diff(numbers[order], prepend=-1))
    groups = [tuple(rows.tolist()) for rows in np.split(order, starts[1:])]
    return tuple(group for group in groups if len(group) > 1)


def _contradictions(groups: Sequence[tuple[int, ...]], code: NDArray[np.int64]) -> Iterator[Pair]:
    """Pair the first image of each group with the first image of each other label."""
    # One pair per label is enough: all pairs of a large group would fill the page
    for group in groups:
        firsts = {int(code[i]): i for i in reversed(group)}
        for i in sorted(set(firsts.values()) - {group[0]}):
            yield Pair(group[0], i, 1.0)


def _straddling(groups: NDArray[Any] | None, split_index: NDArray[np.int64]) -> tuple[str, ...]:
    """List the groups with images in more than one split."""
    if groups is None:
        return ()
    names, number = np.unique(list(map(str, groups)), return_inverse=True)
    # A group straddles if its first and its last split differ
    low, high = np.full(len(names), split_index.max()), np.zeros(len(names), np.int64)
    np.minimum.at(low, number, split_index)
    np.maximum.at(high, number, split_index)
    return tuple(map(str, names[low < high]))


def _leaked(
    numbers: NDArray[np.int64], near: NDArray[np.int64], split_index: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Return a mask (n,) of the images with an identical or near image in an earlier split."""
    # Earliest split of each group of identical images, then of the groups that are near to it
    first = np.full(numbers.max() + 1, len(split_index))
    np.minimum.at(first, numbers, split_index)
    reached = first.copy()
    np.minimum.at(reached, near[:, 0], first[near[:, 1]])
    np.minimum.at(reached, near[:, 1], first[near[:, 0]])
    return reached[numbers] < split_index
