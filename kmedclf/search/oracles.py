"""KerasTuner's oracles, asked for batches of trials that do not depend on one another."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil, isfinite, log
from typing import Any

from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from kmedclf.search.candidates import Stage


@dataclass(frozen=True)
class Trial:
    """One candidate that an oracle wants to see scored.

    Parameters
    ----------
    id : str
        KerasTuner's number of it.
    params : dict
        Parameters to set.
    epochs : int or None
        Epochs to train, where the oracle says so.
    handle : keras_tuner.engine.trial.Trial
        KerasTuner's own object.
    """

    id: str
    params: dict[str, Any]
    epochs: int | None
    handle: Any


class Oracle:
    """An oracle of KerasTuner, in a folder of its own and without its chatter.

    The same seed and scores give the same trials. Nothing depends on who runs them or how many at
    a time.

    Parameters
    ----------
    kind : {"random", "bayesian", "hyperband", "grid"}
        Which one.
    stages : sequence of Stage
        What to search, all at once.
    seed : int
        At least 1: KerasTuner takes 0 for none.
    folder : str
        Where KerasTuner may write.
    max_trials : int or None
        Most trials; not for "hyperband".
    epochs, factor, iterations : int
        Schedule of "hyperband".
    """

    def __init__(
        self,
        kind: str,
        stages: Sequence[Stage],
        seed: int,
        folder: str,
        *,
        max_trials: int | None = None,
        epochs: int = 1,
        factor: int = 3,
        iterations: int = 1,
    ) -> None:
        self.stages = stages
        self._asked = 0
        self._batch = self._first_batch = max_trials
        with _quiet():
            import keras_tuner

            hp = keras_tuner.HyperParameters()
            self._values(hp)
            common = {
                "objective": keras_tuner.Objective("score", "max"),
                "hyperparameters": hp,
                "seed": seed,
                # failures are counted by the search, over all trials
                "max_consecutive_failed_trials": 10**9,
            }
            if kind == "hyperband":
                self._oracle = keras_tuner.oracles.HyperbandOracle(
                    max_epochs=epochs, factor=factor, hyperband_iterations=iterations, **common
                )
            elif kind == "bayesian":
                # KerasTuner's own default, three points a parameter, is most often all of them
                self._first_batch, self._batch = max(3, (max_trials or 0) // 3), 1
                self._oracle = keras_tuner.oracles.BayesianOptimizationOracle(
                    max_trials=max_trials, num_initial_points=self._first_batch, **common
                )
            else:
                oracles = keras_tuner.oracles
                cls = oracles.GridSearchOracle if kind == "grid" else oracles.RandomSearchOracle
                self._oracle = cls(max_trials=max_trials, **common)
            self._oracle.verbose = 0
            self._oracle._set_project_dir(folder, kind)

    def _values(self, hp: Any) -> dict[str, Any]:
        return {k: v for stage in self.stages for k, v in stage.hyperparameters(hp).items()}

    def ask(self) -> list[Trial]:
        """Give the trials that can be run now, independently; none at the end."""
        batch: list[Trial] = []
        limit = self._batch if self._asked else self._first_batch
        with _quiet():
            while limit is None or len(batch) < limit:
                # a worker is a name that has no trial running: every trial gets a new one
                trial = self._oracle.create_trial(f"worker {self._asked}")
                if trial.status != "RUNNING":
                    break
                self._asked += 1
                hp = trial.hyperparameters
                epochs = hp.values.get("tuner/epochs")
                batch.append(Trial(trial.trial_id, self._values(hp), epochs, trial))
        return batch

    def tell(self, trial: Trial, score: float) -> None:
        """Report a trial's score; NaN is a failure."""
        with _quiet():
            if isfinite(score):
                self._oracle.update_trial(trial.id, {"score": score})
            trial.handle.status = "COMPLETED" if isfinite(score) else "FAILED"
            self._oracle.end_trial(trial.handle)


def hyperband_schedule(epochs: int, factor: int, iterations: int = 1) -> list[tuple[int, int]]:
    """Compute Hyperband's rounds.

    Parameters
    ----------
    epochs : int
        Most epochs.
    factor : int
        How many times fewer candidates get how many times more epochs.
    iterations : int, default=1
        How often all brackets are gone through.

    Returns
    -------
    list of (int, int)
        Trials and epochs of every round of every bracket.
    """
    brackets = 0
    while factor**brackets <= epochs:
        brackets += 1
    last = ceil(1 + log(epochs, factor))
    rounds = [
        (ceil(last / (b + 1) * factor ** (b - r)), ceil(epochs / factor ** (b - r)))
        for b in reversed(range(brackets))
        for r in range(b + 1)
    ]
    return rounds * iterations


@contextmanager
def _quiet() -> Iterator[None]:
    # KerasTuner calls what Python has deprecated, and its Gaussian process complains of few points.
    # That process works on tiny matrices, which many threads only slow down.
    with warnings.catch_warnings(), threadpool_limits(limits=1, user_api="blas"):
        warnings.simplefilter("ignore")
        yield
