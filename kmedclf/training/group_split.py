"""Hold out whole groups, such as patients, for validation: which of them, by size and classes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy.sparse import csr_array

TOLERANCE = 0.05
"""Share of the wanted number of images by which it may be missed for the sake of the classes."""

EXACT = 12
"""So many groups are tried in all combinations."""

STARTS = 4
"""Random starts of the search among more groups, up to `MANY`."""

MANY = 1000
"""Of so many groups any draw is nearly as good as another: there is one start."""

STEPS = 60
"""Most improvements of a start."""

SAMPLE = 64
"""Most groups on either side that are tried for an exchange in a step."""


class NoSplitError(ValueError):
    """No group can be held out, each being the only one of some class."""

    def __init__(self, sole: dict[int, int], n_groups: int) -> None:
        super().__init__("no group can be held out")
        self.sole, self.n_groups = sole, n_groups


def split(
    marks: Any, group: np.ndarray, fraction: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Split rows in two by groups, so that every class stays among the rows trained on.

    Parameters
    ----------
    marks : ndarray or sparse array of shape (n, k)
        Nonzero where a row is of a class.
    group : ndarray of shape (n,), int
        Numbers of the groups, 0 to g - 1.
    fraction : float
        Share of the rows to hold out.
    seed : int
        Seed of the draw among groups.

    Returns
    -------
    train, held : ndarray of int
        Rows. Of all sets of groups that leave some of every class to train on, the one held out
        comes within `TOLERANCE` of the wanted number of rows, or as near to it as groups allow; of
        those, it has most nearly the same share of every class. Up to `EXACT` groups all sets are
        tried, of more groups some.

    Raises
    ------
    NoSplitError
        If every group is the only one of some class.
    """
    problem = _Problem.of(marks, group, fraction)
    if not len(problem.free):
        raise NoSplitError(problem.sole, problem.n_groups)
    generator = np.random.default_rng([seed, 4])
    if len(problem.free) <= EXACT:
        chosen = problem.best_of_all(generator)
    else:
        n = STARTS if len(problem.free) <= MANY else 1
        starts = [problem.improved(problem.drawn(generator), generator) for _ in range(n)]
        chosen = min(starts, key=problem.cost)
    held = chosen[group]
    return np.flatnonzero(~held), np.flatnonzero(held)


@dataclass(frozen=True)
class _Problem:
    """Which groups to hold out.

    Parameters
    ----------
    counts : csr_array of shape (g, k), int64
        Rows of every class in every group.
    size : ndarray of shape (g,), int64
        Rows of every group.
    wanted, tolerance : float
        Number of rows to hold out, and by how much it may be missed.
    """

    counts: Any
    size: np.ndarray
    wanted: float
    tolerance: float
    fraction: float

    @classmethod
    def of(cls, marks: Any, group: np.ndarray, fraction: float) -> _Problem:
        size = np.bincount(group)
        row, column = marks.nonzero()
        ones = np.ones(len(row), np.int64)
        counts = csr_array((ones, (group[row], column)), (len(size), marks.shape[1]))
        counts.sum_duplicates()
        wanted = fraction * len(group)
        return cls(counts, size, wanted, TOLERANCE * wanted, fraction)

    @property
    def n_groups(self) -> int:
        return len(self.size)

    @cached_property
    def total(self) -> np.ndarray:
        """Rows of every class, (k,)."""
        return np.asarray(self.counts.sum(axis=0))

    @cached_property
    def sole(self) -> dict[int, int]:
        """Groups that are the only one of a class, and that class."""
        entries = self.counts.tocoo()
        whole = entries.data == self.total[entries.col]
        return dict(zip(entries.row[whole].tolist(), entries.col[whole].tolist(), strict=True))

    @cached_property
    def free(self) -> np.ndarray:
        """Groups that may be held out."""
        kept = np.ones(self.n_groups, bool)
        kept[list(self.sole)] = False
        return np.flatnonzero(kept) if self.n_groups > 1 else np.zeros(0, np.int64)

    def costs(self, rows: np.ndarray, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Judge sets of groups by their rows (m,) and rows of classes (m, k); infinite if invalid.

        Returns
        -------
        missed, uneven : ndarray of shape (m,)
            By how many rows the wanted number is missed, beyond the tolerance; and how much the
            shares of the classes differ from the fraction.
        """
        occurs = self.total > 0
        left = (classes[:, occurs] < self.total[occurs]).all(axis=1) & (rows > 0)
        missed = np.maximum(np.abs(rows - self.wanted) - self.tolerance, 0)
        shares = classes[:, occurs] / self.total[occurs]
        uneven = ((shares - self.fraction) ** 2).sum(axis=1).round(12)
        return np.where(left, missed.round(9), np.inf), np.where(left, uneven, np.inf)

    def cost(self, chosen: np.ndarray) -> tuple[float, float]:
        """Judge one set of groups, a mask (g,)."""
        missed, uneven = self.costs(*self._sums(chosen))
        return float(missed[0]), float(uneven[0])

    def _sums(self, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.array([self.size[chosen].sum()]), np.atleast_2d(chosen @ self.counts)

    def best_of_all(self, generator: np.random.Generator) -> np.ndarray:
        """Try all sets of groups, in an order that is drawn: of equal ones the first is taken."""
        free = generator.permutation(self.free)
        sets = np.arange(1, 2 ** len(free))[:, None] >> np.arange(len(free)) & 1
        missed, uneven = self.costs(sets @ self.size[free], sets @ self.counts[free].toarray())
        chosen = np.zeros(self.n_groups, bool)
        chosen[free[sets[np.lexsort((uneven, missed))[0]] > 0]] = True
        return chosen

    def drawn(self, generator: np.random.Generator) -> np.ndarray:
        """Draw groups that are valid together, until they are nearly enough."""
        chosen = np.zeros(self.n_groups, bool)
        held, left = 0, self.total.copy()
        order = generator.permutation(self.free)
        smallest = order[self.size[order].argmin()]  # the one that is sure to be no worse than none
        starts, columns, data = self.counts.indptr, self.counts.indices, self.counts.data
        for group in order:
            if held >= self.wanted - 0.5:
                break
            if held + self.size[group] > self.wanted + self.tolerance:
                continue
            mine = slice(starts[group], starts[group + 1])
            if np.all(left[columns[mine]] > data[mine]):
                left[columns[mine]] -= data[mine]
                chosen[group] = True
                held += self.size[group]
        if not held:
            chosen[smallest] = True
        return chosen

    def improved(self, chosen: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Take in, leave out or exchange groups as long as that helps."""
        best = self.cost(chosen)
        for _ in range(STEPS):
            moves = self._moves(chosen, generator)
            rows, classes = self._sums(chosen)
            signs = np.where(chosen, -1, 1)
            more = np.zeros((len(moves), len(self.total)), np.int64)
            size = np.zeros(len(moves), np.int64)
            for groups in moves.T:
                here = groups >= 0
                sign = signs[groups[here]]
                more[here] += sign[:, None] * self.counts[groups[here]].toarray()
                size[here] += sign * self.size[groups[here]]
            missed, uneven = self.costs(rows + size, classes + more)
            first = np.lexsort((uneven, missed))[0]
            if (missed[first], uneven[first]) >= best:
                break
            best = float(missed[first]), float(uneven[first])
            flipped = moves[first][moves[first] >= 0]
            chosen = chosen.copy()
            chosen[flipped] = ~chosen[flipped]
        return chosen

    def _moves(self, chosen: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """List changes of a set: single groups, and pairs that are exchanged; -1 is no group."""
        inside, outside = (self.free[chosen[self.free] == side] for side in (True, False))
        n = int(min(SAMPLE, max(4, (2**18 / len(self.total)) ** 0.5)))
        drawn = [generator.permutation(side)[: 4 * n] for side in (inside, outside)]
        pairs = np.stack(np.meshgrid(*(side[:n] for side in drawn)), axis=-1).reshape(-1, 2)
        single = np.concatenate(drawn)
        alone = np.stack([single, np.full(len(single), -1)], axis=1)
        return np.concatenate([alone, pairs])
