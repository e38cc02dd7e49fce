"""Split whole groups, such as patients, off for validation, with even shares of all classes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy.sparse import csr_array

TOLERANCE = 0.05
"""Relative error of the size of the validation set that is accepted for even class shares."""

EXACT = 12
"""Up to this number of groups, all combinations are tried."""

STARTS = 4
"""Random starts of the local search for up to `MANY` groups."""

MANY = 1000
"""Above this number of groups one start is enough, as random sets hardly differ."""

STEPS = 60
"""Most improvements per start."""

SAMPLE = 64
"""Most groups on either side to try for an exchange in a step."""


class NoSplitError(ValueError):
    """Each group is the only one of some class, so none can be held out."""

    def __init__(self, sole: dict[int, int], n_groups: int) -> None:
        super().__init__("no group can be held out")
        self.sole, self.n_groups = sole, n_groups


def split(
    marks: Any, group: np.ndarray, fraction: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Split rows by groups into training and validation rows; no class is lost for training.

    ``marks`` (n, k) is nonzero where a row belongs to a class. The validation set comes within
    `TOLERANCE` of ``fraction``, or as close as groups allow, then as close to even class shares.
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
    """The choice of the groups to hold out."""

    counts: Any  # csr_array (g, k): rows of each class in each group
    size: np.ndarray  # (g,) rows of each group
    wanted: float  # rows to hold out
    tolerance: float  # rows by which `wanted` may be missed
    fraction: float

    @classmethod
    def of(cls, marks: Any, group: np.ndarray, fraction: float) -> _Problem:
        size = np.bincount(group)
        row, column = marks.nonzero()
        ones = np.ones(len(row), np.int64)
        counts = csr_array((ones, (group[row], column)), (len(size), marks.shape[1]))
        counts.sum_duplicates()  # from one entry per row to one per group and class
        wanted = fraction * len(group)
        return cls(counts, size, wanted, TOLERANCE * wanted, fraction)

    @property
    def n_groups(self) -> int:
        return len(self.size)

    @cached_property
    def total(self) -> np.ndarray:
        """Rows of each class, (k,)."""
        return np.asarray(self.counts.sum(axis=0))

    @cached_property
    def sole(self) -> dict[int, int]:
        """Groups that are the only one of a class, with that class."""
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
        """Return two costs (m,) of m sets of groups, from rows (m,) and rows of classes (m, k).

        First the rows missed beyond the tolerance, then the unevenness of classes; invalid sets
        have infinite costs.
        """
        # A set is valid if some rows of each class that occurs remain for training.
        occurs = self.total > 0
        left = (classes[:, occurs] < self.total[occurs]).all(axis=1) & (rows > 0)
        missed = np.maximum(np.abs(rows - self.wanted) - self.tolerance, 0)
        shares = classes[:, occurs] / self.total[occurs]
        # Rounded, so that the order of summation does not decide between equal sets.
        uneven = ((shares - self.fraction) ** 2).sum(axis=1).round(12)
        return np.where(left, missed.round(9), np.inf), np.where(left, uneven, np.inf)

    def cost(self, chosen: np.ndarray) -> tuple[float, float]:
        """Return the costs of one set of groups, a mask (g,)."""
        missed, uneven = self.costs(*self._sums(chosen))
        return float(missed[0]), float(uneven[0])

    def _sums(self, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.array([self.size[chosen].sum()]), np.atleast_2d(chosen @ self.counts)

    def best_of_all(self, generator: np.random.Generator) -> np.ndarray:
        """Try all sets of groups in random order; of equal ones the first wins."""
        free = generator.permutation(self.free)
        sets = np.arange(1, 2 ** len(free))[:, None] >> np.arange(len(free)) & 1
        missed, uneven = self.costs(sets @ self.size[free], sets @ self.counts[free].toarray())
        chosen = np.zeros(self.n_groups, bool)
        chosen[free[sets[np.lexsort((uneven, missed))[0]] > 0]] = True
        return chosen

    def drawn(self, generator: np.random.Generator) -> np.ndarray:
        """Draw a valid set of groups of about the wanted size."""
        chosen = np.zeros(self.n_groups, bool)
        held, left = 0, self.total.copy()
        order = generator.permutation(self.free)
        smallest = order[self.size[order].argmin()]  # the fallback if no draw fits
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
        """Add, remove or exchange groups as long as that lowers the cost."""
        best = self.cost(chosen)
        for _ in range(STEPS):
            # Evaluate all moves at once, and take the best.
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
        """List changes of a set: single groups, and pairs to exchange; -1 is no group."""
        inside, outside = (self.free[chosen[self.free] == side] for side in (True, False))
        # The limit keeps the matrix of all moves and classes below about 2**18 entries.
        n = int(min(SAMPLE, max(4, (2**18 / len(self.total)) ** 0.5)))
        drawn = [generator.permutation(side)[: 4 * n] for side in (inside, outside)]
        pairs = np.stack(np.meshgrid(*(side[:n] for side in drawn)), axis=-1).reshape(-1, 2)
        single = np.concatenate(drawn)
        alone = np.stack([single, np.full(len(single), -1)], axis=1)
        return np.concatenate([alone, pairs])
