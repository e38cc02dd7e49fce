"""The best classifier in the time you have."""

from __future__ import annotations

import os
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, ClassVar, Self

import joblib
import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import FitFailedWarning
from sklearn.utils import Tags, _safe_indexing, indexable
from sklearn.utils._param_validation import Interval, Options
from sklearn.utils.validation import check_is_fitted

from kmedclf.auto import portfolio
from kmedclf.auto.linear import EfficientNetProbe, PixelClassifier
from kmedclf.auto.material import Material, grouped
from kmedclf.auto.trials import Clock, OutOfTime, Trial, cross_fitted
from kmedclf.calibration import CalibratedClassifier, TemperatureLoss, scaled
from kmedclf.ensemble import (
    EnsembleClassifier,
    greedy_weights,
    likelihoods,
    take_over_input,
)
from kmedclf.evaluation import evaluate_predictions
from kmedclf.inputs import array_likes, checks
from kmedclf.inputs.array_likes import as_paths, with_labels
from kmedclf.persistence import SaveMixin
from kmedclf.persistence.fitted_state import savable
from kmedclf.training import devices
from kmedclf.training.heads import head_of
from kmedclf.utils import annotated

LOOK_SHARE = 0.1
"""Share of the time in which copies of pictures are looked for."""
SCORES = ("accuracy", "balanced_accuracy", "log_loss")
"""Scores of the leaderboard; multilabel y has no balanced accuracy."""
FEW_BOOTSTRAPS = 200
"""Resamples of the intervals of the leaderboard; more images need fewer."""
ALL, NESTED = "ensemble, out of fold", "ensemble, nested"
"""Rows of the leaderboard for what is kept: chosen on these images, and chosen without them."""


@savable("auto")
class AutoClassifier(ClassifierMixin, SaveMixin, BaseEstimator):
    """The best classifier in the time you have: it tries what paid elsewhere, and mixes the best.

    It looks for copies of a picture and keeps them in one fold, tries the candidates of a
    portfolio in its order, scores each out of fold, weights them greedily, and calibrates the
    mixture. There is an answer after the first candidate, which takes seconds; each further one
    can only improve it.

    Parameters
    ----------
    time_limit : float, default=600
        Seconds that ``fit`` may take. The first candidate is always finished.
    weights : str, path-like or None, default=None
        Pretrained weights for candidates that need them: "imagenet", or a file, as in
        `kmedclf.EfficientNetClassifier`. None leaves these candidates out.
    variant : {"b0", "b1", "b2", "lite0"}, default="lite0"
        The EfficientNet that ``weights`` are for.
    portfolio : path-like or None, default=None
        File of candidates, in the form of ``kmedclf/auto/portfolio.yaml``, which None stands for.
    sensitivity : float or None, default=None
        For two classes: the sensitivity that a threshold shall reach on out-of-fold
        probabilities, as in `kmedclf.CalibratedClassifier`.
    pos_label : label, default=1
        The positive class, for ``sensitivity``.
    image_shape : tuple of int or None, default=None
        Shape (h, w) or (h, w, c) of one image if X is flat, (n, d).
    channels : {1, 3}, default=3
        Number of channels to read image files with: grey or RGB.
    resize : {"stretch", "pad", "crop"}, default="stretch"
        How image files of other proportions are read.
    memory : str, path-like, joblib.Memory or None, default=None
        Folder that keeps features and fits: started again, ``fit`` goes on where it was.
    random_state : int, RandomState or None, default=None
        Seed of folds and fits. What is tried depends on time as well.
    verbose : int, default=0
        Whether to print what is found, tried and why.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Labels, sorted; 0 to k - 1 for multilabel y.
    classifier_ : estimator
        What predicts: an `EnsembleClassifier`, calibrated unless y is multilabel.
    leaderboard_ : list of dict
        One row a candidate, best first: "name", "status", "log_loss", "accuracy",
        "balanced_accuracy", each with "_low" and "_high" of its bootstrap interval, "weight" in
        the mixture, "seconds". A `pandas.DataFrame` takes it. Two rows are of the mixture. That
        of "ensemble, out of fold" is optimistic, as the mixture was chosen on the same images;
        for "ensemble, nested" each part of the images was predicted by a mixture that was chosen
        without it.
    oof_proba_ : ndarray of shape (r, n_classes)
        Nested probabilities of the images in ``oof_rows_``.
    oof_rows_ : ndarray of shape (r,)
        Positions in X of the images that were scored: all, or a part of very many.
    oof_parts_ : ndarray of shape (r,)
        Number of the fold in which each of them was tested; of very many images, which are split
        once, one of five parts, drawn at random.
    notes_ : list of str
        What was found in the data, and what was left out for it.
    seconds_ : float
        Seconds that fit took.
    n_features_in_, feature_names_in_, image_shape_, skipped_ : int, ndarray, tuple and list
        Attributes of the first member, if it has them.

    Notes
    -----
    Ctrl-C ends ``fit`` early, and keeps the best so far, once there is one.

    References
    ----------
    R. Caruana et al., "Ensemble selection from libraries of models", ICML 2004. L. Li et al., "A
    system for massively parallel hyperparameter tuning", MLSys 2020: a candidate goes on to the
    other folds if it is in the better half on the first. M. Feurer et al., "Auto-sklearn 2.0:
    hands-free AutoML via meta-learning", JMLR 23, 2022: portfolios.

    Examples
    --------
    >>> from kmedclf import AutoClassifier
    >>> from kmedclf.datasets import make_blood_cells
    >>> X, y = make_blood_cells(80, 12, random_state=0)  # synthetic
    >>> auto = AutoClassifier(time_limit=1, random_state=0).fit(X, y)
    >>> auto.predict_proba(X[:2]).shape
    (2, 8)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "time_limit": [Interval(Real, 0, None, closed="neither")],
        "weights": [str, os.PathLike, None],
        "variant": [annotated.Words({"b0", "b1", "b2", "lite0"})],
        "portfolio": [str, os.PathLike, None],
        "sensitivity": [Interval(Real, 0, 1, closed="right"), None],
        "image_shape": [tuple, list, None],
        "channels": [Options(int, {1, 3})],
        "resize": [annotated.Words({"stretch", "pad", "crop"})],
        "memory": [str, os.PathLike, joblib.Memory, None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        time_limit: float = 600,
        *,
        weights: Any = None,
        variant: str = "lite0",
        portfolio: Any = None,
        sensitivity: Any = None,
        pos_label: Any = 1,
        image_shape: Any = None,
        channels: int = 3,
        resize: str = "stretch",
        memory: Any = None,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.time_limit = time_limit
        self.weights = weights
        self.variant = variant
        self.portfolio = portfolio
        self.sensitivity = sensitivity
        self.pos_label = pos_label
        self.image_shape = image_shape
        self.channels = channels
        self.resize = resize
        self.memory = memory
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None, *, groups: Any = None) -> Self:
        """Try candidates until the time is over, and keep a mixture of the best.

        Parameters
        ----------
        X : array-like of shape (n, h, w), (n, h, w, c) or (n, d), or n paths
            Images, in any form that `kmedclf.ImageClassifier.fit` takes.
        y : array-like of shape (n,) or (n, k)
            Labels; for multilabel targets, one column of 0 and 1 per label.
        sample_weight : array-like of shape (n,), optional
            Sample weights.
        groups : array-like of shape (n,), optional
            Groups, such as patients, that no fold separates.

        Returns
        -------
        self
            The fitted estimator.

        Raises
        ------
        FileNotFoundError
            If the file of ``weights`` is not there.
        ValueError
            If a parameter or the data are not as described here, or if every candidate fails.
        """
        clock = Clock(float(self.time_limit))
        before = self.__dict__.copy()
        try:
            with annotated.plain_parameters(self, deep=False):
                annotated.check_parameters(self)
                self._fit(*with_labels(X, y), sample_weight, groups, clock)
        except BaseException:  # an interrupted estimator keeps its earlier fit
            self.__dict__ = before
            raise
        return self

    def _fit(self, X: Any, y: Any, sample_weight: Any, groups: Any, clock: Clock) -> None:
        self.notes_: list[str] = []
        if self.weights is not None:  # a file that is not there is found out at once
            given: dict[str, Any] = {"variant": self.variant, "weights": self.weights}
            EfficientNetProbe(**given).feature_network(None)
        material = self._material(X, y, sample_weight, groups)
        shared = {
            "random_state": material.seed, "image_shape": self.image_shape,
            "channels": self.channels, "resize": self.resize, "variant": self.variant,
            "weights": self.weights,
        }  # fmt: skip
        entries = portfolio.read(self.portfolio or portfolio.DEFAULT)
        has_weights = self.weights is not None
        chosen = [
            one for one in entries if one.suits(material.n, material.shape, weights=has_weights)
        ]
        trials = [Trial.of(one, material, clock, shared, self.memory) for one in chosen]
        self._say(f"To try, in this order: {', '.join(one.name for one in trials)}.")
        try:
            for trial in _in_order(trials):
                self._advance(trial, trials)
        except KeyboardInterrupt:
            if not any(trial.whole for trial in trials):
                raise
            warnings.warn(
                f"{type(self).__name__}.fit was interrupted after {clock.taken:,.0f} s; it keeps "
                "the best so far.", UserWarning, stacklevel=4,
            )  # fmt: skip
        if not any(trial.whole for trial in trials):
            raise next(trial.error for trial in trials if trial.error is not None)
        self._keep(trials, material, clock)

    # -- looking at the data -----------------------------------------------------------------

    def _material(self, X: Any, y: Any, sample_weight: Any, groups: Any) -> Material:
        """Check the data, and arrange what belongs together."""
        name = type(self).__name__
        X = X if hasattr(X, "shape") else array_likes.images(X, name)
        paths = as_paths(X, name)
        given: dict[str, Any] = {"channels": self.channels, "resize": self.resize}
        looker = PixelClassifier(
            **given, image_shape=self.image_shape, image_size=16, cache="memory"
        )
        if paths is not None or not hasattr(X, "shape"):
            X = np.asarray(X if paths is None else paths)
        images = looker._check_X(X, reset=True)
        labels, weight = checks.check_y(y, sample_weight, images, name)
        X, labels, groups = indexable(X, labels, groups)
        rows = np.flatnonzero(weight)
        if len(rows) < len(weight):
            X, weight, labels = _safe_indexing(X, rows), weight[rows], labels[rows]
            groups = None if groups is None else _safe_indexing(groups, rows)
        classes = head_of(labels).classes(None, labels, name)
        limit = LOOK_SHARE * float(self.time_limit)
        shape = None if paths is not None else images.shape
        numbers = grouped(_pictures(X, shape), groups, limit, name, self._say)
        material = Material(
            X, labels, None if sample_weight is None else weight, numbers, paths is not None,
            shape, checks.draw_seed(self.random_state), classes, float(self.time_limit), rows,
        )  # fmt: skip
        self._describe(material)
        return material

    def _describe(self, material: Material) -> None:
        counts = np.unique(material.true, return_counts=True)[1]
        if material.true.ndim == 2:
            counts = material.true.sum(axis=0).astype(int)
        kind = "files" if material.is_files else f"arrays of shape {material.shape}"
        folds = len(material.splits)
        sizes = " to ".join(f"{n:,}" for n in sorted({int(counts.min()), int(counts.max())}))
        together = "" if material.groups is None else f", {material.groups.max() + 1:,} groups"
        self._say(
            f"{material.n:,} images ({kind}{together}) in {len(material.classes)} classes of "
            f"{sizes}; scored "
            f"{f'in {folds} folds' if folds > 1 else f'on {len(material.scored):,} held out'}; "
            f"{os.cpu_count()} CPUs, {len(devices.gpus())} GPUs."
        )
        if counts.min() < 2:
            self._say("A class has a single image: nothing can be said of how well it is found.")

    def _say(self, sentence: str) -> None:
        self.notes_.append(sentence)
        if self.verbose:
            print(sentence, flush=True)

    # -- trying ------------------------------------------------------------------------------

    def _advance(self, trial: Trial, trials: Sequence[Trial]) -> None:
        """Let a candidate go on, and note how it went; a failure ends this candidate only."""
        sure = not any(one.whole for one in trials)
        began = time.perf_counter()
        try:
            trial.run(sure=sure)
            trial.status = "all folds" if trial.whole else "first fold only"
        except OutOfTime as error:
            trial.status = f"left out: {error}"
        except Exception as error:
            trial.status = f"failed: {' '.join(str(error).split())[:200] or type(error).__name__}"
            trial.members, trial.oof, trial.error = [], None, error
            warnings.warn(
                f"The candidate {trial.name!r} of {type(self).__name__} failed with "
                f"{traceback.format_exception_only(error)[-1].strip()!r:.300}; the others go on.",
                FitFailedWarning, stacklevel=5,
            )  # fmt: skip
        finally:
            trial.seconds += time.perf_counter() - began
        words = f"; log loss {trial.first_loss:.3f} on the first fold" if trial.members else ""
        self._say(f"{trial.name}: {trial.status} ({trial.seconds:.1f} s{words}).")

    # -- keeping -----------------------------------------------------------------------------

    def _keep(self, trials: Sequence[Trial], material: Material, clock: Clock) -> None:
        """Mix the candidates that are whole, calibrate, and score."""
        done = [trial for trial in trials if trial.whole]
        probas: list[Any] = [trial.oof for trial in done]
        rows = material.scored
        weight = material.weight_or_ones
        selector = Selector(np.stack(probas), material.true[rows], weight[rows], material.parts)
        mixture = selector.choose()
        nested = selector.nested()
        members = [
            (name, model, share * own)
            for trial, share in zip(done, mixture.shares, strict=True)
            for name, model, own in trial.members
            if share
        ]
        pairs = [(name, model) for name, model, _ in members]
        ensemble = EnsembleClassifier.from_fitted(pairs, weights=[own for *_, own in members])
        self.classifier_: Any = ensemble
        optimistic = np.tensordot(mixture.shares, selector.probas, 1)
        if material.true.ndim == 1:
            calibrated = CalibratedClassifier(
                ensemble, sensitivity=self.sensitivity, pos_label=self.pos_label
            )
            self.classifier_ = calibrated.fit_proba(optimistic, material.y[rows], weight[rows])
            optimistic = calibrated.correct(optimistic)
        self.classes_ = material.classes
        self._several = material.true.ndim == 2
        self.oof_proba_, self.oof_rows_ = nested.astype(np.float32), material.place[rows]
        self.oof_parts_ = material.parts
        take_over_input(self, ensemble)
        self.leaderboard_ = self._leaderboard(trials, mixture, optimistic, nested, material)
        self.seconds_ = clock.taken

    def _leaderboard(
        self,
        trials: Sequence[Trial],
        mixture: Mixture,
        optimistic: np.ndarray,
        nested: np.ndarray,
        material: Material,
    ) -> list[dict[str, Any]]:
        shares = iter(mixture.shares.tolist())
        rows = [
            {
                "name": trial.name,
                "status": trial.status,
                **_scored(trial.oof, material),
                "weight": next(shares) if trial.whole else 0.0,
                "seconds": round(trial.seconds, 2),
            }
            for trial in trials
        ]
        rows.sort(key=lambda row: np.inf if row["log_loss"] is None else row["log_loss"])
        whole = round(sum(trial.seconds for trial in trials), 2)
        last = [(NESTED, "each part by what was chosen on the others", nested),
                (ALL, "optimistic: chosen on the same images", optimistic)]  # fmt: skip
        return [
            *({"name": name, "status": words, **_scored(proba, material), "weight": 1.0,
               "seconds": whole} for name, words, proba in last),
            *rows,
        ]  # fmt: skip

    # -- using -------------------------------------------------------------------------------

    def predict_proba(self, X: Any) -> np.ndarray:
        """Compute class probabilities.

        Parameters
        ----------
        X : array-like
            Images of the kind and shape that was passed to fit.

        Returns
        -------
        ndarray of shape (n, k)
            Probabilities, in the order of ``classes_``. Rows sum to 1 unless the target is
            multilabel.
        """
        check_is_fitted(self)
        return self.classifier_.predict_proba(X)

    def predict(self, X: Any) -> np.ndarray:
        """Predict labels (n,), or zeros and ones (n, k)."""
        check_is_fitted(self)
        return self.classifier_.predict(X)

    def decide(self, proba: np.ndarray) -> np.ndarray:
        """Convert probabilities (n, k) to positions of the predicted classes (n,)."""
        decide = getattr(self.classifier_, "decide", lambda rows: rows.argmax(axis=1))
        return decide(proba)

    def nested_report(self, y: Any, class_names: Any = None) -> Any:
        """Report on the training images, each predicted without it.

        Parameters
        ----------
        y : array-like of shape (n,) or (n, k)
            What fit got.
        class_names : sequence or mapping, optional
            As in `kmedclf.evaluation.evaluate`.

        Returns
        -------
        Report or MultilabelReport
            Of the images in ``oof_rows_``.
        """
        check_is_fitted(self)
        classes = None if self._several else self.classes_
        y = np.asarray(y)[self.oof_rows_]
        return evaluate_predictions(
            y, self.oof_proba_, classes=classes, class_names=class_names, n_bootstrap=0
        )

    def verdict(self) -> str:
        """Say in a few sentences how good the classifier is, and how far that can be trusted."""
        check_is_fitted(self)
        nested, optimistic = self.leaderboard_[:2]
        used = [row["name"] for row in self.leaderboard_[2:] if row["weight"]]
        words = (
            f"Accuracy {nested['accuracy']:.3f} ({nested['accuracy_low']:.3f} to "
            f"{nested['accuracy_high']:.3f}) on {len(self.oof_rows_):,} images of the training, "
            "each predicted by models and weights that were chosen without it; "
            f"{optimistic['accuracy']:.3f} with those chosen on all of them, which is optimistic."
        )
        mixed = f"The model is {used[0]} alone" if len(used) == 1 else f"It mixes {', '.join(used)}"
        return f"{words} {mixed}."

    @property
    def n_params_(self) -> int:
        """Number of trainable weights of all members."""
        check_is_fitted(self)
        ensemble = getattr(self.classifier_, "estimator", self.classifier_)
        return sum(member.n_params_ for member in ensemble.estimators_)

    def __sklearn_is_fitted__(self) -> bool:
        """Tell scikit-learn whether there is a model."""
        return hasattr(self, "classifier_")

    def __sklearn_tags__(self) -> Tags:
        """Tell scikit-learn that X may be images, and y multilabel."""
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.classifier_tags.multi_label = True
        return tags


@dataclass(frozen=True)
class Mixture:
    """Weights of candidates, and a temperature of their mean."""

    shares: np.ndarray  # (m,)
    temperature: float

    def __call__(self, probas: np.ndarray) -> np.ndarray:
        """Mix probabilities (m, n, k) to (n, k)."""
        mean = np.tensordot(self.shares, probas, 1)
        return mean if self.temperature == 1 else scaled(mean, self.temperature)


@dataclass(frozen=True)
class Selector:
    """Chooses mixtures of candidates from their out-of-fold probabilities."""

    probas: np.ndarray  # (m, r, k)
    true: np.ndarray  # (r,) positions of classes, or (r, k) zeros and ones
    weight: np.ndarray  # (r,)
    parts: np.ndarray  # (r,)

    def choose(self, rows: Any = slice(None)) -> Mixture:
        """Choose weights greedily, and a temperature, on some rows."""
        probas, true, weight = self.probas[:, rows], self.true[rows], self.weight[rows]
        shares = greedy_weights(likelihoods(probas, true), weight)
        if true.ndim == 2:
            return Mixture(shares, 1.0)
        mean = np.tensordot(shares, probas, 1)
        return Mixture(shares, TemperatureLoss(mean, true, weight).best())

    def nested(self) -> np.ndarray:
        """Predict every row by the mixture that was chosen without its part, (r, k)."""
        return cross_fitted(
            self.choose, lambda mixture, rows: mixture(self.probas[:, rows]), self.parts
        )


def _in_order(trials: Sequence[Trial]) -> Iterator[Trial]:
    """Yield whose turn it is; networks come twice, for their first fold and for the others.

    The better half goes on at once. Those that wait go on at the end, the best of them first.
    """
    for trial in trials:
        yield trial
        if _waits(trial) and _in_better_half(trial, trials):
            yield trial
    for trial in sorted(filter(_waits, trials), key=lambda one: one.first_loss):
        yield trial


def _waits(trial: Trial) -> bool:
    return bool(trial.members) and not trial.whole


def _in_better_half(trial: Trial, trials: Sequence[Trial]) -> bool:
    losses = sorted(one.first_loss for one in trials if np.isfinite(one.first_loss))
    return trial.first_loss <= losses[(len(losses) - 1) // 2]


def _scored(proba: np.ndarray | None, material: Material) -> dict[str, Any]:
    """Return scores with their intervals, as plain numbers; None where there are none."""
    found: dict[str, Any] = {}
    scores: Any = {}
    if proba is not None:
        rows = material.scored
        weight = None if material.weight is None else material.weight[rows]
        classes = material.classes if material.true.ndim == 1 else None
        scores = evaluate_predictions(
            material.y[rows], proba, classes=classes, sample_weight=weight,
            n_bootstrap=FEW_BOOTSTRAPS,
        ).scores  # fmt: skip
    for name in SCORES:
        one = scores.get(name)
        for suffix, part in (("", "value"), ("_low", "low"), ("_high", "high")):
            value = getattr(one, part, None)
            found[name + suffix] = None if value is None else float(value)
    return found


def _pictures(X: Any, shape: tuple[int, int, int] | None) -> Any:
    """Return X as a sequence of pictures; vectors stay as they are."""
    if shape is None or shape[1] == 1:
        return X
    return np.asarray(X).reshape(-1, *shape)
