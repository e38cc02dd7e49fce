"""Compare models on the same images: a table, and a paired test of every two."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import binomtest, permutation_test

from kmedclf.evaluation.published import Published, published
from kmedclf.evaluation.report import MultilabelReport, Report
from kmedclf.evaluation.scores import SCORES, WEIGHTED, Estimate, draws
from kmedclf.evaluation.wording import brackets, compared, count, percent
from kmedclf.utils import notebook

N_FLIPS = 10_000
"""Random signs behind a p value of several labels, which is then 1e-4 at least."""


class Pair(NamedTuple):
    """Two models on the same images.

    ``only_first`` and ``only_second`` count the images that only this model classified correctly,
    or, in a multilabel task, where it got more labels right than the other. ``difference`` is the
    accuracy of the first minus that of the second. ``p`` comes from McNemar's exact test, or, in a
    multilabel task, from flipping signs; ``p_holm`` is corrected for the number of pairs.
    """

    first: str
    second: str
    only_first: int
    only_second: int
    difference: Estimate
    p: float
    p_holm: float


def pair_of(
    first: str, second: str, one: Any, two: Any, n_bootstrap: int, seed: int | None
) -> Pair:
    """Compare two models by their reports, both of one kind."""
    if isinstance(one, MultilabelReport):
        return _of_labels(first, second, one, two, n_bootstrap, seed)
    return _of_classes(first, second, one, two, n_bootstrap, seed)


def _of_classes(
    first: str, second: str, one: Report, two: Report, n_bootstrap: int, seed: int | None
) -> Pair:
    only = int(np.sum(one.right & ~two.right)), int(np.sum(two.right & ~one.right))
    difference = Estimate((only[0] - only[1]) / one.n)
    if n_bootstrap and any(only):
        shares = [only[0] / one.n, only[1] / one.n, 1 - sum(only) / one.n]
        drawn = np.random.default_rng(seed).multinomial(one.n, shares, size=n_bootstrap)
        low, high = _tails((drawn[:, 0] - drawn[:, 1]) / one.n, one.confidence)
        difference = Estimate(difference.value, low, high)
    p = mcnemar(*only)
    return Pair(first, second, *only, difference, p, p)


def _of_labels(
    first: str,
    second: str,
    one: MultilabelReport,
    two: MultilabelReport,
    n_bootstrap: int,
    seed: int | None,
) -> Pair:
    gap = one.right - two.right  # (n,): shares of the labels of an image
    only = int(np.sum(gap > 0)), int(np.sum(gap < 0))
    difference = Estimate(float(gap.mean()))
    if n_bootstrap and any(only):
        means = [gap @ drawn / one.n for drawn in draws(one.n, n_bootstrap, seed)]
        low, high = _tails(np.concatenate(means), one.confidence)
        difference = Estimate(difference.value, low, high)
    p = sign_flips(gap, seed)
    return Pair(first, second, *only, difference, p, p)


def _tails(values: np.ndarray, confidence: float) -> tuple[float, float]:
    low, high = np.quantile(values, ((1 - confidence) / 2, (1 + confidence) / 2)).tolist()
    return low, high


def sign_flips(gap: np.ndarray, seed: int | None = 0) -> float:
    """Test whether paired differences have the mean 0, by flipping their signs at random.

    Parameters
    ----------
    gap : ndarray of shape (n,)
        Differences.
    seed : int or None, default=0
        Seed of the signs.

    Returns
    -------
    float
        Two-sided p; 1 if there is no difference anywhere. Of differences that are -1, 0 and 1 it
        is McNemar's, but for the draw.
    """
    gap = gap[gap != 0]
    if len(gap) < 2:
        return 1.0
    test = permutation_test(
        (gap,),
        lambda flipped, axis: np.sum(flipped, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=N_FLIPS,
        batch=max(1, 2_000_000 // len(gap)),  # flips at a time, to bound the memory
        rng=np.random.default_rng(seed),
    )
    return float(test.pvalue)


def mcnemar(only_first: int, only_second: int) -> float:
    """Test whether two models err equally often, by the images that only one got right.

    Parameters
    ----------
    only_first, only_second : int
        Numbers of those images.

    Returns
    -------
    float
        Two-sided p of the exact, binomial test; 1 if the models agree everywhere.
    """
    n = only_first + only_second
    return float(binomtest(only_first, n, 0.5).pvalue) if n else 1.0


def holm(p: Sequence[float]) -> list[float]:
    """Correct p values for their number, in the given order, by Holm's step-down procedure."""
    values = np.asarray(p, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    factors = np.arange(len(values), 0, -1)
    corrected = np.empty(len(values))
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(values[order] * factors))
    return corrected.tolist()


class Model(NamedTuple):
    """One model: its scores, and what it costs, where that is known."""

    name: str
    scores: dict[str, Estimate]
    parameters: int | None = None
    seconds: float | None = None
    images_per_second: float | None = None
    protocol: str = ""


GRID = tuple(i / 100 for i in range(101))
"""False positive rates at which the ROC curves of models are averaged over the classes."""


class ClassRow(NamedTuple):
    """One class, or label, of a comparison: its images, and the score of each model."""

    name: str
    images: int
    scores: tuple[Estimate, ...]


@dataclass(frozen=True, repr=False)
class Comparison:
    """What `compare` found.

    Attributes
    ----------
    n : int
        Number of images.
    confidence : float
        Coverage of the intervals.
    models : tuple of Model
        The most accurate first.
    pairs : tuple of Pair
        Every two models, the more accurate first.
    published : tuple of Published
        Others' results on the same data set.
    protocol : str
        How all of the models were made, size of the images included; empty if they differ in it.
    caveat : str
        Why published results cannot be compared with these; empty if they can.
    multilabel : bool
        Whether images may have several labels.
    notes : tuple of str
        What a reader must know besides.
    curves : dict of str to tuple of float
        ROC curve of each model, averaged over the classes: sensitivities at the false positive
        rates `GRID`. Without models that have one, empty.
    per_class : tuple of ClassRow
        Recall of each class, or AUC of each label, in the order of ``models``.
    """

    n: int
    confidence: float
    models: tuple[Model, ...]
    pairs: tuple[Pair, ...]
    published: tuple[Published, ...]
    protocol: str
    caveat: str = ""
    multilabel: bool = False
    notes: tuple[str, ...] = ()
    curves: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    per_class: tuple[ClassRow, ...] = ()

    @property
    def verdict(self) -> list[notebook.Remark]:
        """Who wins and by how much, in sentences."""
        return compared(self)

    def __repr__(self) -> str:
        """Summarize the comparison in one line."""
        first = self.models[0]
        listed = ", ".join(one.name for one in self.models)
        return f"<Comparison: {self.n} images, {listed}; accuracy {first.scores['accuracy']}>"

    def _repr_html_(self) -> str:
        """Show verdict and scores in a notebook; the pairs open on a click."""
        names = list(self.models[0].scores)
        rows = [(one.name, *one.scores.values()) for one in self.models]
        pairs = [(one.first, one.second, one.difference, p_text(one.p_holm)) for one in self.pairs]
        head = ("First", "Second", "Difference", "p, Holm")
        return notebook.block(
            f"Comparison: {count(self.n, 'image')}, {count(len(self.models), 'model')}",
            self.verdict,
            notebook.table(["Model", *(SCORES[name] for name in names)], rows),
            notebook.table(head, pairs, closed=self.test) if pairs else "",
        )

    def to_dict(self) -> dict[str, Any]:
        """Turn the comparison into plain values."""
        models = [
            {**one._asdict(), "scores": {k: v._asdict() for k, v in one.scores.items()}}
            for one in self.models
        ]
        pairs = [{**one._asdict(), "difference": one.difference._asdict()} for one in self.pairs]
        return {
            "n": self.n,
            "confidence": self.confidence,
            "protocol": self.protocol,
            "caveat": self.caveat,
            "notes": list(self.notes),
            "models": models,
            "pairs": pairs,
            "published": [one._asdict() for one in self.published],
            "per_class": [
                {**one._asdict(), "scores": [score._asdict() for score in one.scores]}
                for one in self.per_class
            ],
        }

    @property
    def test(self) -> str:
        """Name of the paired test."""
        return (
            "Sign-flipping test of the labels right" if self.multilabel else "McNemar's exact test"
        )

    @property
    def counted(self) -> tuple[str, str]:
        """What the images are that a pair counts."""
        if self.multilabel:
            return "First has more labels right", "Second has more labels right"
        return "Only first right", "Only second right"

    @property
    def extras(self) -> dict[str, str]:
        """Fields of `Model` that are known of any model, and how to title them."""
        titles = {
            "parameters": "Parameters",
            "seconds": "Training, s",
            "images_per_second": "Images/s",
        }
        known = [name for name in titles if any(getattr(m, name) is not None for m in self.models)]
        return {name: titles[name] for name in known}

    def to_markdown(self) -> str:
        """Write the tables as Markdown."""
        names = list(self.models[0].scores)
        head = ["Model", "Protocol", *(SCORES[name] for name in names), *self.extras.values()]
        rows = [
            [one.name, one.protocol, *map(str, one.scores.values())]
            + [amount(getattr(one, name)) for name in self.extras]
            for one in self.models
        ]
        blank = [""] * (len(names) - 1 + len(self.extras))
        rows += [
            [f"{one.model}, published", one.words, f"{one.accuracy:.3f}", *blank]
            for one in self.published
        ]
        parts = [
            " ".join(filter(None, (f"{count(self.n, 'image')}.", brackets(self)))),
            *self.notes,
            *([self.caveat] if self.caveat else []),
            _table(head, rows),
        ]
        if self.pairs:
            head = ["First", "Second", *self.counted, "Difference"]
            pairs = [[*map(str, one[:5]), p_text(one.p), p_text(one.p_holm)] for one in self.pairs]
            parts += [
                f"{self.test} of every two models, with Holm's correction for "
                f"{len(self.pairs)} pair{'s' if len(self.pairs) > 1 else ''}.",
                _table([*head, "p", "p, Holm"], pairs),
            ]
        return "\n\n".join(parts) + "\n"


def compare(
    reports: Mapping[str, Report] | Mapping[str, MultilabelReport],
    *,
    scores: Sequence[str] = ("balanced_accuracy", "auc_macro", "f1_macro"),
    parameters: Mapping[str, int] | None = None,
    seconds: Mapping[str, float] | None = None,
    images_per_second: Mapping[str, float] | None = None,
    dataset: str | None = None,
    protocol: str | Mapping[str, str] = "",
    caveat: str = "",
    notes: Sequence[str] = (),
    n_bootstrap: int = 1000,
    random_state: int | None = 0,
) -> Comparison:
    """Compare models by their reports on the same images.

    Parameters
    ----------
    reports : mapping of str to Report, or to MultilabelReport
        One report a model, by its name; all of the same images in the same order.
    scores : sequence of str
        Headline numbers to show behind the accuracy; those that a report lacks are left out.
    parameters, seconds, images_per_second : mapping of str to number, optional
        Trainable parameters, training time and speed, by name of the model.
    dataset : str, optional
        Name of a MedMNIST set, such as "bloodmnist", whose published accuracies to show too.
    protocol : str or mapping of str to str, optional
        How the models were made, such as "28 px, official splits"; each its own way by its name.
    caveat : str, optional
        Why published results cannot be compared with these, if they cannot; see
        `kmedclf.evaluation.published.protocol_of`.
    notes : sequence of str
        What a reader must know besides.
    n_bootstrap : int, default=1000
        Resamples behind the intervals of differences.
    random_state : int or None, default=0
        Seed of the resampling.

    Returns
    -------
    Comparison
        The tables.

    Raises
    ------
    TypeError
        If ``reports`` is no mapping of names to reports.
    ValueError
        If there is no report, or if they are of different images.

    References
    ----------
    Q. McNemar, "Note on the sampling error of the difference between correlated proportions or
    percentages", Psychometrika 12, 1947. S. Holm, "A simple sequentially rejective multiple test
    procedure", Scandinavian Journal of Statistics 6, 1979.
    """
    _check(reports)
    shown = [name for name in scores if all(name in one.scores for one in reports.values())]
    shown = list(dict.fromkeys(["accuracy", *shown]))
    order = sorted(reports, key=lambda name: -reports[name].accuracy)
    models = tuple(
        Model(
            name,
            {score: reports[name].scores[score] for score in shown},
            (parameters or {}).get(name),
            (seconds or {}).get(name),
            (images_per_second or {}).get(name),
            protocol if isinstance(protocol, str) else protocol.get(name, ""),
        )
        for name in order
    )
    first = reports[order[0]]
    rows = [
        pair_of(a, b, reports[a], reports[b], n_bootstrap, random_state)
        for a, b in combinations(order, 2)
    ]
    corrected = holm([one.p for one in rows])
    pairs = [one._replace(p_holm=p) for one, p in zip(rows, corrected, strict=True)]
    others = tuple(published(dataset)) if dataset else ()
    several = isinstance(first, MultilabelReport)
    caveat = caveat if others else ""
    ways = {one.protocol for one in models}
    return Comparison(
        first.n, first.confidence, models, tuple(pairs), others,
        ways.pop() if len(ways) == 1 else "", caveat, several, (*notes, *_notes(reports)),
        {name: curve for name in order if (curve := _mean_roc(reports[name]))},
        _class_rows([reports[name] for name in order]),
    )  # fmt: skip


def _mean_roc(report: Any) -> tuple[float, ...]:
    """Average the ROC curves of a report's classes, at the rates of `GRID`; () if it has none."""
    k = len(report.classes)
    columns = range(k)
    if report.exclusive and k == 2:  # the other class has the mirrored curve
        positive = 1 if report.pos_label is None else report.classes.index(report.pos_label)
        columns = range(positive, positive + 1)
    known = [i for i in columns if report.per_class[i].auc.value is not None]
    curves = [np.interp(GRID, *report.curve(i)[:2]) for i in known]
    return tuple(np.mean(curves, axis=0).round(4).tolist()) if curves else ()


def _class_rows(reports: Sequence[Any]) -> tuple[ClassRow, ...]:
    """Return the recall of each class, or the AUC of each label, of every model."""
    score = "recall" if reports[0].exclusive else "auc"
    columns = zip(*(one.per_class for one in reports), strict=True)
    return tuple(
        ClassRow(same[0].name, same[0].support, tuple(getattr(one, score) for one in same))
        for same in columns
    )


def _notes(reports: Mapping[str, Any]) -> list[str]:
    """Say where scores and tests of the same page are not of the same kind."""
    said = []
    if any(WEIGHTED in one.notes for one in reports.values()):
        said.append("Scores are weighted; differences and tests count every image once.")
    if len({one.confidence for one in reports.values()}) > 1:
        covered = ", ".join(f"{name} {percent(one.confidence)}" for name, one in reports.items())
        said.append(f"Intervals do not cover alike: {covered}.")
    return said


def write_comparison_page(
    path: str | os.PathLike[str],
    comparison: Comparison,
    *,
    title: str = "Comparison",
    links: Mapping[str, str] | None = None,
) -> None:
    """Write a comparison as one HTML file that needs nothing else.

    Parameters
    ----------
    path : str or path-like
        The file, written beside first and then put in its place.
    comparison : Comparison
        What `compare` gave.
    title : str, default="Comparison"
        Heading.
    links : mapping of str to str, optional
        Addresses of other pages by their words, such as the reports of the models.
    """
    from kmedclf.pages.report import render_comparison

    render_comparison(path, comparison, title, links)


def p_text(p: float) -> str:
    """Write a p value."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _check(reports: Mapping[str, Report] | Mapping[str, MultilabelReport]) -> None:
    if not reports:
        raise ValueError("The 'reports' parameter of compare must hold a report. Got none.")
    given = dict(reports) if isinstance(reports, Mapping) else {"": reports}
    for name, one in given.items():
        if not isinstance(one, Report | MultilabelReport):
            raise TypeError(
                "The 'reports' parameter of compare must map the name of each model to one report. "
                f"Got a {type(one).__name__}{f' for {name!r}' if name else ''} instead; mean_std "
                "averages the reports of several seeds, and an EnsembleClassifier of them has one."
            )
    (name, first), *others = reports.items()
    for other, report in others:
        same = report.classes == first.classes and report.n == first.n
        if not same or not np.array_equal(report.y_true, first.y_true):
            raise ValueError(
                "The 'reports' parameter of compare must be of the same images in the same order. "
                f"Got different labels for {name!r} and {other!r} instead."
            )


def amount(value: float | None) -> str:
    """Write a large number without decimals, a small one with one, None as nothing."""
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a table as Markdown; bars in cells are escaped."""
    lines = [head, ["---"] * len(head), *rows]
    safe = [[cell.replace("|", r"\|") for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in safe)
