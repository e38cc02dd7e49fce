"""Candidates: each is scored out of fold, on the same folds, within the time that is left."""

from __future__ import annotations

import kmedclf.utils.tensorflow_loaded  # noqa: F401

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import keras
import numpy as np
from sklearn.base import clone
from sklearn.utils import _safe_indexing

from kmedclf import models, recipes
from kmedclf.auto import linear
from kmedclf.auto.linear import MOST_ROWS, HeadProblem
from kmedclf.auto.material import Material
from kmedclf.auto.portfolio import Entry
from kmedclf.base import ImageClassifier
from kmedclf.ensemble import aligned, fit_member, likelihoods, log_losses
from kmedclf.features import ImageFeatures

PENALTIES = (0.1, 0.01, 1.0, 0.001)
"""Inverse strengths of the penalty that a linear candidate chooses from, as they are tried."""
CHECKED = 2.0
"""Seconds after which the time is looked at while features are computed."""
FEW = 16
"""Images whose features are computed to learn how long all will take."""
FRACTIONS = (1.0, 0.5, 0.25)
"""Shares of a recipe's epochs that a network is trained for, the largest that time allows."""
LARGE_SHARE = 0.5
"""Share of the whole time that one network may take, in all folds."""
SEEN = 50_000
"""Images, repeats counted, after which even fewer epochs than these shares are worth a try."""


T = TypeVar("T")


class OutOfTime(RuntimeError):
    """A training would not be finished in time."""


class Deadline(keras.callbacks.Callback):
    """Raises `OutOfTime` as soon as a training cannot end before ``at``, of `time.perf_counter`.

    ``epoch_seconds`` are those of the last epoch. A training that ends is as it is without it.
    """

    only_watches = True  # so that a finished training may be remembered

    def __init__(self, at: float) -> None:
        super().__init__()
        self.at, self.epoch_seconds = at, 0.0

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Note the time."""
        self._began = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Raise `OutOfTime` if the remaining epochs would take longer than there is time."""
        now = time.perf_counter()
        self.epoch_seconds = now - self._began
        missing = (self.params["epochs"] - epoch - 1) * self.epoch_seconds
        # The first epoch compiles. Later ones vary: half of the time to come may be saved.
        if now > self.at or (epoch > 1 and now + missing / 2 > self.at):
            raise OutOfTime(f"it would end {now + missing - self.at:.1f} s too late")


@dataclass
class Clock:
    """The time limit; the end of a fit is kept for what comes after the last candidate."""

    seconds: float
    began: float = field(default_factory=time.perf_counter)
    share: float = 0.95

    @property
    def at(self) -> float:
        """When the last candidate must end, on `time.perf_counter`."""
        return self.began + self.share * self.seconds

    @property
    def left(self) -> float:
        """Seconds until then."""
        return self.at - time.perf_counter()

    @property
    def taken(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self.began


@dataclass
class Trial(ABC):
    """One candidate and what is known of it."""

    entry: Entry
    material: Material
    clock: Clock
    estimator: ImageClassifier  # unfitted
    memory: Any = None
    status: str = "not tried"
    seconds: float = 0.0
    oof: np.ndarray | None = None  # (r, k) of the scored rows, once all folds are done
    first_loss: float = np.inf  # on the first fold
    error: Exception | None = None
    members: list[tuple[str, Any, float]] = field(default_factory=list)  # name, fitted, share

    @staticmethod
    def of(
        entry: Entry, material: Material, clock: Clock, given: dict[str, Any], memory: Any
    ) -> Trial:
        """Make the trial of an entry; ``given`` are parameters of all that have them."""
        cls = getattr(linear, entry.estimator, None) or getattr(models, entry.estimator)
        known = cls._get_param_names()
        parameters = {name: value for name, value in given.items() if name in known}
        parameters |= entry.parameters
        if "side" in known and material.is_files:  # files are read at the size of the network
            parameters.setdefault("image_size", parameters.get("side", cls.side))
        if material.is_files:
            parameters.setdefault("cache", "memory")
        kind = LinearTrial if issubclass(cls, linear.LinearNetwork) else NetworkTrial
        return kind(entry, material, clock, cls(**parameters), memory)

    @property
    def name(self) -> str:
        """Its name in the portfolio."""
        return self.entry.name

    @property
    def whole(self) -> bool:
        """Whether all folds are done."""
        return self.oof is not None

    @abstractmethod
    def run(self, *, sure: bool = False) -> None:
        """Go on: the first fold, or all; ``sure`` ignores the time. Raises `OutOfTime`."""

    def loss(self, proba: np.ndarray, rows: np.ndarray) -> float:
        """Compute the log loss of some rows' probabilities."""
        weight = self.material.weight
        chosen = likelihoods([proba], self.material.true[rows])
        return float(log_losses(chosen, None if weight is None else weight[rows])[0])

    def _needs(self, seconds: float, what: str) -> None:
        """Raise `OutOfTime` if that many seconds are not left."""
        if self.clock.left <= 0:
            raise OutOfTime("the time was over")
        if seconds > self.clock.left:
            raise OutOfTime(f"{what} would take {seconds:,.0f} s")


@dataclass
class LinearTrial(Trial):
    """Fixed features, computed once, and a logistic regression in each fold."""

    _problems: dict[tuple[int, str], HeadProblem] = field(default_factory=dict)

    def run(self, *, sure: bool = False) -> None:
        """Score all folds; the member is fitted on all rows."""
        material = self.material
        if not sure:
            self._needs(self.entry.seconds, "building it")
        rows = self._rows()
        network = clone(self.estimator)
        if "apart" in network.get_params():
            network.set_params(apart=True)
        network.initialize(material.X, material.y)
        features = self._features(network, rows, sure=sure)
        features = features.reshape(len(rows), network.n_views, -1)  # (n, v, d)
        place = np.full(material.n, -1)
        place[rows] = np.arange(len(rows))
        options, probas = self._tried(network.columns(), features, place)
        true, weight = material.true[material.scored], self.material.weight_or_ones[material.scored]
        likelihood = likelihoods(probas, true).reshape(len(probas), len(true), -1)

        def best(chosen: np.ndarray) -> int:
            rows = likelihood[:, chosen].reshape(len(probas), -1)
            return int(np.argmin(log_losses(rows, weight[chosen])))

        everywhere = np.ones(len(true), bool)
        self.oof = cross_fitted(best, lambda one, part: probas[one, part], material.parts)
        columns, C = options[best(everywhere)]
        y, d = material.true[rows], features.shape[2]
        head = HeadProblem(
            features[..., columns], y, self.material.weight_or_ones[rows], self._k
        ).solve(C)
        network.set_params(C=C).set_head(head.widened(columns, d), features.mean(axis=1), y)
        self.members = [(self.name, network, 1.0)]
        first = material.splits[0][1]
        self.first_loss = self.loss(self.oof[np.searchsorted(material.scored, first)], first)
        self._problems.clear()

    def _tried(
        self, columns: list[slice], features: np.ndarray, place: np.ndarray
    ) -> tuple[list[tuple[slice, float]], np.ndarray]:
        """Score choices of columns and penalty, as many as there is time for: (m, r, k)."""
        options = [(one, C) for C in PENALTIES for one in columns]
        probas: list[np.ndarray] = []
        longest = 0.0
        for one in options:
            if probas and 2 * longest > self.clock.left:
                break
            began = time.perf_counter()
            probas.append(self._out_of_fold(features, place, *one))
            longest = max(longest, time.perf_counter() - began)
        return options[: len(probas)], np.stack(probas)

    @property
    def _k(self) -> int:
        return len(self.material.classes)

    def _rows(self) -> np.ndarray:
        """Choose the rows to compute features of: all, or of very many only those in use."""
        n = self.material.n
        if n <= 2 * MOST_ROWS:
            return np.arange(n)
        drawn = np.random.default_rng([self.material.seed, 7]).permutation(n)[:MOST_ROWS]
        return np.union1d(drawn, self.material.scored)

    def _features(self, network: Any, rows: np.ndarray, *, sure: bool) -> np.ndarray:
        X, n = self.material.X, self.material.n
        cached: dict[str, Any] = {"cache": "memory"} if self.material.is_files else {}
        made = ImageFeatures(
            network, memory=self.memory, channels=network.channels, resize=network.resize,
            image_shape=network.image_shape, **cached,
        )  # fmt: skip
        made.fit(X)
        if sure or len(rows) <= 4 * FEW:
            return made.transform(X if len(rows) == n else _safe_indexing(X, rows))
        found, at, size = [], 0, FEW
        while at < len(rows):
            began = time.perf_counter()
            found.append(made.transform(_safe_indexing(X, rows[at : at + size])))
            at += size
            if at > FEW:  # the first part has built the graph
                pace = (time.perf_counter() - began) / size
                missing = max(0, len(rows) - at)
                self._needs(pace * missing, f"the other features of {len(rows):,} images")
                size = max(FEW, int(CHECKED / max(pace, 1e-6)))
        return np.concatenate(found)

    def _out_of_fold(
        self, features: np.ndarray, place: np.ndarray, columns: slice, C: float
    ) -> np.ndarray:
        """Compute the probabilities (r, k) of the scored rows for one choice."""
        material = self.material
        kind = material.head
        proba = np.empty((material.n, self._k), np.float32)
        for number, (train, test) in enumerate(material.splits):
            problem = self._problems.get((number, str(columns)))
            if problem is None:
                train = train[place[train] >= 0]
                problem = self._problems[number, str(columns)] = HeadProblem(
                    features[place[train]][..., columns],
                    material.true[train],
                    self.material.weight_or_ones[train],
                    self._k,
                )
            logits = problem.solve(C).logits(features[place[test]][..., columns].mean(axis=1))
            proba[test] = kind.probabilities(logits.astype(np.float64))
        return proba[material.scored]


class NetworkTrial(Trial):
    """A network trained in each fold; the models of all folds are members."""

    epochs: int = 0
    compile_seconds: float = 0.0
    _proba: np.ndarray

    def run(self, *, sure: bool = False) -> None:
        """Train on the first fold; when called again, on the others."""
        splits = self.material.splits
        if not self.members:
            self.epochs = self._affordable()
            self._proba = np.empty((self.material.n, len(self.material.classes)), np.float32)
            began = time.perf_counter()
            self._fit(0)
            self._fold_seconds = time.perf_counter() - began
            self.first_loss = self.loss(self._proba[splits[0][1]], splits[0][1])
            if len(splits) > 1:
                return
        else:
            missing = (len(splits) - 1) * self._fold_seconds
            self._needs(missing, "the other folds")
            for number in range(1, len(splits)):
                self._fit(number)
        self.oof = self._proba[self.material.scored]

    def _fit(self, number: int) -> None:
        """Train on one fold, and predict its test rows."""
        material, split = self.material, self.material.splits[number]
        estimator = clone(self.estimator).set_params(
            epochs=self.epochs, memory=self.memory, callbacks=[Deadline(self.clock.at)]
        )
        params = {} if material.weight is None else {"sample_weight": material.weight}
        model, proba = fit_member(estimator, material.X, material.y, material.groups, params, split)
        model.set_params(callbacks=None, memory=None)
        assert proba is not None
        self._proba[split[1]] = aligned(model, proba, material.classes)
        name = f"{self.name}, fold {number}" if len(material.splits) > 1 else self.name
        self.members.append((name, model, 1 / len(material.splits)))

    def _affordable(self) -> int:
        """Return the number of epochs that time allows, after a short fit that measures them."""
        self._needs(self.entry.seconds, "compiling it")
        recipe = recipes.parameters(self.estimator)
        n = len(self.material.splits[0][0])
        pace = self._pace(int(recipe["batch_size"]))
        an_epoch = pace * n * len(self.material.splits)
        most, epochs = LARGE_SHARE * self.clock.seconds, int(recipe["epochs"])
        fractions = [*FRACTIONS, *(f for f in (1 / 8, 1 / 16, 1 / 32) if f * epochs * n >= SEEN)]
        wanted = [max(2, round(one * epochs)) for one in fractions]
        fits = [one for one in wanted if one * an_epoch <= most]
        fits = [one for one in fits if one * an_epoch <= self.clock.left]
        if not fits:
            raise OutOfTime(f"{wanted[-1]} epochs would take {wanted[-1] * an_epoch:,.0f} s")
        return fits[0]

    def _pace(self, batch_size: int) -> float:
        """Measure the seconds an image takes in an epoch, on two batches."""
        train = self.material.splits[0][0]
        few = np.random.default_rng([self.material.seed, 9]).permutation(train)[: 2 * batch_size]
        if self.material.true.ndim == 1:  # of every class at least one
            firsts = train[np.unique(self.material.true[train], return_index=True)[1]]
            few = np.union1d(few, firsts)
        watch = Deadline(self.clock.at)
        short = clone(self.estimator).set_params(epochs=2, callbacks=[watch])
        if "fittedepochs" in short.get_params():
            short.set_params(fittedepochs=0)  # epochs that train all layers take longer
        began = time.perf_counter()
        short.fit(_safe_indexing(self.material.X, few), self.material.y[few])
        self.compile_seconds = time.perf_counter() - began - watch.epoch_seconds
        return watch.epoch_seconds / len(few)


def cross_fitted(
    choose: Callable[[np.ndarray], T],
    apply: Callable[[T, np.ndarray], np.ndarray],
    parts: np.ndarray,
) -> np.ndarray:
    """Predict each part (a number a row) by what was chosen on the others: an honest estimate.

    ``choose`` and ``apply`` get masks of rows; ``apply`` returns probabilities of its rows.
    """
    found: np.ndarray | None = None
    for part in np.unique(parts):
        inside = parts == part
        # A single part has no others.
        proba = apply(choose(~inside if not inside.all() else inside), inside)
        if found is None:
            found = np.empty((len(parts), proba.shape[1]), proba.dtype)
        found[inside] = proba
    assert found is not None
    return found
