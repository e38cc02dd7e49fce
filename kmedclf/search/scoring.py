"""What a search maximises: any scorer of scikit-learn, or a validation curve's best epoch."""

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
    """Score a fitted estimator by its own validation data rather than by new data.

    Parameters
    ----------
    curve : {"val_accuracy", "val_loss"}
        The curve to read, at the epoch whose weights the estimator has. Losses count negative:
        more is better.
    """

    curve: str

    def __call__(self, estimator: Any, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Read the estimator's score; the data are not looked at."""
        fitted = network_of(estimator)
        stops = recipes.parameters(fitted)["early_stopping"]
        kept = fitted.best_epoch_ if stops and fitted.restore_best else 0
        return _CURVES[self.curve][0] * fitted.history_[self.curve][kept - 1]


def network_of(estimator: Any) -> Any:
    """Find the estimator at the end of a pipeline, or the one that is no pipeline."""
    return estimator.steps[-1][1] if isinstance(estimator, Pipeline) else estimator


def curves_of(estimator: Any) -> Mapping[str, list[float]]:
    """Give a fitted estimator's learning curves; none if it keeps none."""
    return getattr(network_of(estimator), "history_", None) or {}


def resolve_scoring(
    scoring: str | Scorer | None, estimator: Any, owner: str, *, held_out: bool = True
) -> Scorer:
    """Find the scorer of a search, before anything is fitted.

    Parameters
    ----------
    scoring : str, callable or None
        Name of a scorer, "val_accuracy" or "val_loss"; a callable ``(estimator, X, y)``; None is
        the estimator's own ``score``.
    estimator : estimator
        What will be scored.
    owner : str
        Class name of the search, for messages.
    held_out : bool, default=True
        Whether fits are given X_val.

    Returns
    -------
    callable
        Maps ``(estimator, X, y)`` to a number; more is better.

    Raises
    ------
    ValueError
        If there is no such scorer, or nothing it could read.
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
    """Check that what is searched does not change the scale of what is maximised.

    Raises
    ------
    ValueError
        If weights or the loss are searched by the weighted loss.
    """
    leaves = {name.rsplit("__", 1)[-1] for name in searched}
    rescaling = sorted(leaves & {"class_weight", "label_smoothing", "loss"})
    if scorer == CurveScorer("val_loss") and rescaling:
        raise ValueError(
            f"The 'scoring' parameter of {owner} must be comparable across candidates, such as "
            f"'neg_log_loss'. Got 'val_loss' while {', '.join(rescaling)} is searched, which "
            "rescales it."
        )


def for_new_data(scorer: Scorer, estimator: Any) -> Scorer:
    """Give the scorer that measures on new data what a search has maximised."""
    if isinstance(scorer, CurveScorer):
        return check_scoring(estimator, _CURVES[scorer.curve][1])
    return scorer
