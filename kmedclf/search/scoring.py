"""Scores that a search maximises: a scikit-learn scorer, or a validation curve's best epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sklearn.metrics import check_scoring, get_scorer_names
from sklearn.pipeline import Pipeline

from kmedclf import recipes
from kmedclf.utils.text import suggest

Scorer = Callable[..., float]

_CURVES = {"val_accuracy": (1, "accuracy"), "val_loss": (-1, "neg_log_loss")}


@dataclass(frozen=True)
class CurveScorer:
    """Score a fitted estimator on its own validation set instead of new data.

    Reads the curve at the epoch of the estimator's weights. Losses are negated.
    """

    curve: str  # "val_accuracy" or "val_loss"

    def __call__(self, estimator: Any, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Read the estimator's score; the data are ignored."""
        fitted = network_of(estimator)
        stops = recipes.parameters(fitted)["early_stopping"]
        # Without restored weights, the estimator has those of the last epoch, index -1.
        kept = fitted.best_epoch_ if stops and fitted.restore_best else 0
        return _CURVES[self.curve][0] * fitted.history_[self.curve][kept - 1]


def network_of(estimator: Any) -> Any:
    """Return the last estimator of a pipeline, or the estimator itself."""
    return estimator.steps[-1][1] if isinstance(estimator, Pipeline) else estimator


def curves_of(estimator: Any) -> Mapping[str, list[float]]:
    """Return a fitted estimator's learning curves; empty if it has none."""
    return getattr(network_of(estimator), "history_", None) or {}


def resolve_scoring(
    scoring: str | Scorer | None, estimator: Any, owner: str, *, held_out: bool = True
) -> Scorer:
    """Resolve the ``scoring`` parameter of a search, before the first fit.

    ``owner`` is the search's class name, for messages; ``held_out`` says whether fit gets X_val.
    """
    if isinstance(scoring, str) and scoring in _CURVES:
        network = network_of(estimator)
        if not hasattr(network, "early_stopping"):
            raise ValueError(
                f"The 'scoring' parameter of {owner} can be {scoring!r} only for estimators that "
                f"keep learning curves. Got a {type(network).__name__}."
            )
        if not (held_out or recipes.parameters(network)["early_stopping"]):
            raise ValueError(
                f"The 'scoring' parameter of {owner} can be {scoring!r} only with validation "
                "data. Got neither X_val nor early_stopping=True."
            )
        return CurveScorer(scoring)
    names = get_scorer_names()
    if isinstance(scoring, str) and scoring not in names:
        raise ValueError(
            f"The 'scoring' parameter of {owner} must be one of {', '.join(_CURVES)} or a name "
            "out of sklearn.metrics.get_scorer_names(). "
            f"Got {scoring!r} instead{suggest(scoring, [*_CURVES, *names])}"
        )
    if not (scoring is None or isinstance(scoring, str) or callable(scoring)):
        raise ValueError(
            f"The 'scoring' parameter of {owner} must be one scorer: a name, a callable or None. "
            f"Got {scoring!r} instead."
        )
    return check_scoring(estimator, scoring)


def check_comparable(scorer: Scorer, searched: Iterable[str], owner: str) -> None:
    """Refuse to compare candidates by a loss that searched parameters rescale."""
    # In a pipeline, names have the prefix of their step.
    leaves = {name.rsplit("__", 1)[-1] for name in searched}
    rescaling = sorted(leaves & {"class_weight", "label_smoothing", "loss"})
    if scorer == CurveScorer("val_loss") and rescaling:
        raise ValueError(
            f"The 'scoring' parameter of {owner} must be comparable across candidates, such as "
            f"'neg_log_loss'. Got 'val_loss' while {', '.join(rescaling)} is searched, which "
            "rescales it."
        )


def for_new_data(scorer: Scorer, estimator: Any) -> Scorer:
    """Return a scorer for new data that measures what the search maximised."""
    if isinstance(scorer, CurveScorer):
        return check_scoring(estimator, _CURVES[scorer.curve][1])
    return scorer
