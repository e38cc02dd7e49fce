"""Calibration of probabilities: temperature, class priors and a decision threshold.

All three are chosen on a validation set, for a fitted classifier that stays unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from scipy.optimize import brentq, minimize_scalar
from scipy.special import softmax
from scipy.stats import chi2
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import log_loss
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, column_or_1d

from kmedclf.ensemble import encode
from kmedclf.evaluation import Report, choose_threshold, evaluate_predictions
from kmedclf.export import ExportMixin
from kmedclf.inputs.array_likes import labels
from kmedclf.inputs.label_kinds import check_y, is_multilabel
from kmedclf.persistence import SaveMixin
from kmedclf.persistence.fitted_state import savable
from kmedclf.utils import annotated

if TYPE_CHECKING:
    import keras

    from kmedclf.export.graph import Graph

MAX_TEMPERATURE = 20.0
"""Upper bound of the temperature, its inverse the lower one.

Without bounds there is no optimum if all predictions are right, or all are wrong.
"""
_END = float(np.log(MAX_TEMPERATURE))

PASSED_ON = ("best_epoch_", "feature_names_in_", "history_", "image_shape_", "n_features_in_",
             "n_params_", "network_", "skipped_")  # fmt: skip
"""Attributes of the classifier that are also available on the calibrated one."""


@savable("calibrated")
class CalibratedClassifier(ClassifierMixin, ExportMixin, SaveMixin, BaseEstimator):
    """A fitted classifier whose probabilities are corrected on validation images.

    Parameters
    ----------
    estimator : estimator
        A fitted classifier with ``predict_proba``: a network, an ensemble, a pipeline, a search.
        It is used as it is and never fitted; scikit-learn's ``clone`` would forget its fit.
    priors : mapping of label to float, array-like of shape (n_classes,) or None, default=None
        Share of each class where the classifier will be used, if it differs from the validation
        set. Probabilities are multiplied by the ratio of new to old share.
    sensitivity : float or None, default=None
        For two classes: predict ``pos_label`` at the highest threshold that reaches this
        sensitivity on the validation set; None predicts the more probable class.
    pos_label : label, default=1
        The positive class, for ``sensitivity``.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Labels.
    temperature_ : float
        Divisor of the logits; above 1 if the classifier was overconfident. It is the same for all
        classes, so predictions do not change.
    temperature_interval_ : tuple of two floats
        95 % interval of the temperature, by its profile likelihood. If it contains 1, there were
        too few validation images to tell whether probabilities get better.
    validation_priors_ : ndarray of shape (n_classes,)
        Share of each class in the validation set.
    threshold_ : float or None
        With ``sensitivity``: the lowest probability at which ``pos_label`` is predicted.
    n_val_ : int
        Number of validation images.

    See Also
    --------
    sklearn.calibration.CalibratedClassifierCV : Also fits the classifier, in folds.
    evaluate_calibrated : Scores before and after.

    Notes
    -----
    Do not calibrate on test images. The validation set of early stopping makes probabilities look
    slightly better than they are; a separate set, or a larger one, does not.

    scikit-learn 1.9 finds the same temperature if labels are strings or 0 to k - 1. For other
    integers its "temperature" is wrong, and it requires every class in the validation set.

    References
    ----------
    C. Guo, G. Pleiss, Y. Sun, K. Weinberger, "On calibration of modern neural networks", ICML 2017.
    M. Saerens, P. Latinne, C. Decaestecker, "Adjusting the outputs of a classifier to new a priori
    probabilities", Neural Computation 14, 2002, equation 2.4.

    Examples
    --------
    >>> from kmedclf import CalibratedClassifier, MLPClassifier
    >>> from kmedclf.datasets import make_blood_cells
    >>> X, y = make_blood_cells(300, 12, random_state=0)  # synthetic
    >>> mlp = MLPClassifier(units=8, epochs=2, early_stopping=False, random_state=0)
    >>> calibrated = CalibratedClassifier(mlp.fit(X[:200], y[:200])).fit(X[200:], y[200:])
    >>> bool((calibrated.predict(X) == mlp.predict(X)).all())
    True
    """

    def __init__(
        self, estimator: Any, *, priors: Any = None, sensitivity: Any = None, pos_label: Any = 1
    ) -> None:
        self.estimator = estimator
        self.priors = priors
        self.sensitivity = sensitivity
        self.pos_label = pos_label

    def fit(self, X_val: Any, y_val: Any, sample_weight: Any = None) -> Self:
        """Choose temperature and threshold.

        Parameters
        ----------
        X_val, y_val : array-like of shape (n, ...)
            Images and labels that the classifier was not trained on.
        sample_weight : array-like of shape (n,), optional
            Weights of the images, for temperature and priors.

        Returns
        -------
        self
            Calibrated.

        Raises
        ------
        ValueError
            If a parameter or the data are not as described here.
        """
        check_is_fitted(self.estimator)
        if is_multilabel(self.estimator, X_val):
            raise ValueError(
                f"The 'estimator' parameter of {type(self).__name__} must be a multiclass "
                f"classifier. Got a multilabel {type(self.estimator).__name__} instead."
            )
        return self._fit(lambda: self.estimator.predict_proba(X_val), y_val, sample_weight)

    def fit_proba(self, proba: np.ndarray, y_val: Any, sample_weight: Any = None) -> Self:
        """Choose temperature and threshold from given probabilities, such as out-of-fold ones.

        Parameters
        ----------
        proba : ndarray of shape (n, n_classes)
            Probabilities of images that their models were not trained on, in the order of the
            estimator's ``classes_``.
        y_val : array-like of shape (n,)
            Labels of these images.
        sample_weight : array-like of shape (n,), optional
            Weights of the images.

        Returns
        -------
        self
            Calibrated.
        """
        check_is_fitted(self.estimator)
        return self._fit(lambda: proba, y_val, sample_weight)

    def _fit(self, proba: Callable[[], np.ndarray], y_val: Any, sample_weight: Any) -> Self:
        check_y(y_val, self.estimator, multilabel=False, what=f"y_val of {type(self).__name__}.fit")
        before = vars(self).copy()
        try:
            y_val = labels(y_val, f"y_val of {type(self).__name__}.fit")
            with annotated.plain_parameters(self):
                self._choose(proba, column_or_1d(y_val), sample_weight)
        except BaseException:
            # Keep the calibration of an earlier fit.
            self.__dict__ = before
            raise
        return self

    def _choose(
        self, predicted: Callable[[], np.ndarray], y: np.ndarray, sample_weight: Any
    ) -> None:
        self.classes_ = np.asarray(self.estimator.classes_)
        true = encode(y, self.classes_, type(self).__name__)
        weight = _check_sample_weight(sample_weight, y)
        proba = predicted()
        self.n_val_ = len(y)
        loss = TemperatureLoss(proba, true, weight)
        self.temperature_ = loss.best()
        self.temperature_interval_ = loss.interval(self.temperature_)
        self.validation_priors_ = np.bincount(true, weight, len(self.classes_)) / weight.sum()
        self.threshold_ = None
        proba = self.correct(proba)
        if self.sensitivity is not None:
            scores, wanted = proba[:, self._positive()], self.sensitivity
            chosen = choose_threshold(y, scores, sensitivity=wanted, pos_label=self.pos_label)
            self.threshold_ = chosen.threshold

    def predict_proba(self, X: Any) -> np.ndarray:
        """Compute corrected probabilities (n, k), in the order of ``classes_``."""
        check_is_fitted(self)
        return self.correct(self.estimator.predict_proba(X))

    def predict(self, X: Any) -> np.ndarray:
        """Predict the most probable class (n,), or the class by the threshold."""
        # First, because it checks that the estimator is fitted; classes_ is set by fit.
        proba = self.predict_proba(X)
        return self.classes_[self.decide(proba)]

    def decide(self, proba: np.ndarray) -> np.ndarray:
        """Convert corrected probabilities (n, k) to positions of the predicted classes (n,)."""
        if self.threshold_ is None:
            return np.asarray(proba.argmax(axis=1))
        positive = self._positive()
        return np.where(proba[:, positive] >= self.threshold_, positive, 1 - positive)

    def connect(self, images: Any = None) -> Graph:
        """Connect the classifier to a Keras tensor of images, or a new input; for `export`."""
        from kmedclf.export import graph

        check_is_fitted(self)
        inner = graph.connect(self.estimator, images)
        ratio = None
        if self.priors is not None:
            even = np.full((1, len(self.classes_)), 1 / len(self.classes_))
            ratio = correct_priors(even, self.validation_priors_, self._new_priors())[0].tolist()
        return inner.calibrated(self.temperature_, ratio)

    @property
    def model_(self) -> keras.Model:
        """A new Keras model of what predict_proba computes, from images to probabilities."""
        from kmedclf.export import graph

        return graph.probabilities_model(self)

    def correct(self, proba: np.ndarray) -> np.ndarray:
        """Correct the classifier's probabilities (n, k); the dtype stays the same."""
        found = scaled(proba, self.temperature_)
        if self.priors is not None:
            found = correct_priors(found, self.validation_priors_, self._new_priors())
        return found.astype(proba.dtype)

    def _new_priors(self) -> Any:
        if not isinstance(self.priors, Mapping):
            return self.priors
        labels = self.classes_.tolist()
        if set(self.priors) != set(labels):
            raise ValueError(
                f"The 'priors' parameter of {type(self).__name__} must have a share for every "
                f"label, {', '.join(map(repr, labels))}. Got {self.priors!r} instead."
            )
        return [self.priors[label] for label in labels]

    def _positive(self) -> int:
        labels = self.classes_.tolist()
        if len(labels) != 2 or self.pos_label not in labels:
            raise ValueError(
                f"The 'sensitivity' parameter of {type(self).__name__} needs two classes, "
                f"'pos_label' one of them. Got {self.pos_label!r} with the classes {labels} "
                "instead."
            )
        return labels.index(self.pos_label)

    def __getattr__(self, name: str) -> Any:
        """Delegate the attributes in `PASSED_ON` to the classifier."""
        if name not in PASSED_ON:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self.estimator, name)

    def __sklearn_is_fitted__(self) -> bool:
        """Tell scikit-learn whether temperature and threshold were chosen."""
        return "temperature_" in vars(self)


class TemperatureLoss:
    """Log loss summed over weighted images, as a function of the temperature.

    ``true`` are positions of classes (n,). Convex in 1 / temperature, so that it has one minimum.
    """

    def __init__(self, proba: np.ndarray, true: np.ndarray, weight: np.ndarray) -> None:
        self.proba, self.true, self.weight = proba, true, weight

    def __call__(self, temperature: float) -> float:
        """Return the loss of all images at a temperature."""
        found = scaled(self.proba, temperature)
        labels = np.arange(found.shape[1])
        options = {"labels": labels, "sample_weight": self.weight, "normalize": False}
        return float(log_loss(self.true, found, **options))

    def _at(self, log_temperature: float) -> float:
        return self(np.exp(log_temperature))  # whose bounds are symmetric

    def best(self) -> float:
        """Find the temperature with the lowest loss; 1 if no other is better."""
        options = {"xatol": 1e-8}
        found = minimize_scalar(self._at, bounds=(-_END, _END), method="bounded", options=options)
        return float(np.exp(found.x)) if found.fun < self._at(0.0) else 1.0

    def interval(self, best: float) -> tuple[float, float]:
        """Find the temperatures that a likelihood ratio test at 5 % does not tell from the best."""
        most = self(best) + chi2.ppf(0.95, df=1) / 2

        def end(bound: float) -> float:
            if self._at(bound) <= most:
                return float(np.exp(bound))
            return float(np.exp(brentq(lambda x: self._at(x) - most, bound, np.log(best))))

        return end(-_END), end(_END)


def scaled(proba: np.ndarray, temperature: float) -> np.ndarray:
    """Divide the logits of probabilities (n, k) by a temperature."""
    # Probabilities determine logits up to a constant, which softmax removes.
    logits = np.log(np.maximum(proba, np.finfo(np.float64).tiny))
    return np.asarray(softmax(logits / temperature, axis=1))


def correct_priors(proba: Any, old: Any, new: Any) -> np.ndarray:
    """Convert probabilities (n, k) for class priors ``old`` to those for ``new``.

    The result is proportional to ``proba * new / old``, so only the ratios of priors matter.

    Examples
    --------
    >>> correct_priors([[0.5, 0.5]], [0.5, 0.5], [0.9, 0.1])
    array([[0.9, 0.1]])
    """
    proba = np.asarray(proba, dtype=np.float64)
    shares = [np.asarray(one, dtype=np.float64) for one in (old, new)]
    for name, share in zip(("old", "new"), shares, strict=True):
        if share.shape != proba.shape[1:] or not np.isfinite(share).all() or share.min() <= 0:
            raise ValueError(
                f"Priors must be {proba.shape[1]} positive shares, one per class. Got {share} as "
                f"the {name} ones."
            )
    found = proba * (shares[1] / shares[0])
    return np.asarray(found / found.sum(axis=1, keepdims=True))


def evaluate_calibrated(model: CalibratedClassifier, X: Any, y: Any, **options: Any) -> Report:
    """Evaluate a calibrated classifier, with a note on its calibration before.

    X and y must not be in the training or validation set; ``options`` are those of
    `kmedclf.evaluation.evaluate_predictions`.
    """
    check_y(y, model, multilabel=False, what="y of evaluate_calibrated")
    plain = model.estimator.predict_proba(X)
    proba = model.correct(plain)
    options = {"classes": model.classes_, **options}
    pred = model.classes_[model.decide(proba)]
    report: Any = evaluate_predictions(y, proba, y_pred=pred, **options)
    before: Any = evaluate_predictions(y, plain, **{**options, "n_bootstrap": 0})
    ece, loss = (
        f"{report.scores[name].value:.3f}, {before.scores[name].value:.3f} before"
        for name in ("ece", "log_loss")
    )
    note = (
        f"Probabilities are calibrated, with the temperature {model.temperature_:.3g} chosen on "
        f"{model.n_val_:,} validation images: expected calibration error {ece}; log loss {loss}."
    )
    low, high = getattr(model, "temperature_interval_", (0.0, 0.0))  # not in older files
    if low <= 1 <= high:
        note += (
            " These are too few images to tell whether calibration helps: the 95 % interval of the "
            f"temperature, {low:.2g} to {high:.2g}, contains 1, which changes nothing."
        )
    noted: Report = replace(report, notes=(*report.notes, note))
    return noted
