"""Networks whose features are fixed, and whose last layer is a logistic regression.

They are estimators like all others: saved without pickle, and compiled once. What makes them cheap
is that features of an image are computed once, for all folds and all penalties.
"""

from __future__ import annotations

import kmedclf.utils.tensorflow_loaded  # noqa: F401

import re
import warnings
from dataclasses import replace
from typing import Any, ClassVar, Literal, NamedTuple, Self

import keras
import numpy as np
import scipy.linalg
from scipy.special import log_expit, log_softmax
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from kmedclf.base import ImageClassifier
from kmedclf.inputs.images import Rows
from kmedclf.models._features import FeatureSpec
from kmedclf.models.efficientnet import STAGES, VARIANTS, EfficientNetClassifier, channels
from kmedclf.parameters import PositiveFloat, PositiveInt
from kmedclf.recipes import Auto
from kmedclf.training import cache, loop
from kmedclf.training.heads import head_of
from kmedclf.training.network import Spec
from kmedclf.training.program import frozen

UNSEEN = -30.0
"""Logit of a class that no training row has, below that of every other class."""


MOST_ROWS = 10_000
"""Images, every view counted, on which a logistic regression is fitted, at most."""


class Head(NamedTuple):
    """A linear layer: ``features @ kernel + bias`` are logits."""

    kernel: np.ndarray  # (d, k)
    bias: np.ndarray  # (k,)

    def widened(self, columns: slice, d: int) -> Head:
        """Return a layer on d columns of features that ignores all but the given ones."""
        kernel = np.zeros((d, self.kernel.shape[1]))
        kernel[columns] = self.kernel
        return Head(kernel, self.bias)

    def logits(self, features: np.ndarray) -> np.ndarray:
        """Compute logits (n, k), as the last layer of a network does."""
        return features @ self.kernel.astype(np.float32) + self.bias.astype(np.float32)


def one_thread() -> threadpool_limits:
    """Compute small matrices in one thread: several wait for each other on busy machines."""
    return threadpool_limits(1, "blas")


class HeadProblem:
    """Logistic regressions on the same rows of features (n, v, d), standardised once.

    Each of the v views of an image is a row of its own, of a share of the image's weight.
    """

    def __init__(
        self, features: np.ndarray, y: np.ndarray, weight: np.ndarray, n_classes: int
    ) -> None:
        """Take codes (n,) or zeros and ones (n, k) as ``y``, and sample weights (n,)."""
        view, row = _spread(*features.shape[:2])
        features, y = features[row, view], y[row]
        weight = weight[row] * (len(weight) / len(row))  # so that C means the same
        self._y, self._weight, self._n_classes = y, weight, n_classes
        self._mean = np.average(features, axis=0, weights=weight)
        rows = features - self._mean
        variance = np.average(rows**2, axis=0, weights=weight)
        self._scale = np.sqrt(np.where(variance > 1e-12, variance, 1.0))
        rows /= self._scale
        self._axes = None
        # An L2 penalty does not see rotations: with fewer rows than columns, most columns are zero.
        if rows.shape[0] < rows.shape[1]:
            with one_thread():
                self._axes = scipy.linalg.svd(rows, full_matrices=False, check_finite=False)[2]
                rows = rows @ self._axes.T
        self._rows = rows

    def solve(self, C: float) -> Head:
        """Fit for one inverse strength of the penalty."""
        if self._y.ndim == 1:
            weights, bias = self._multiclass(C)
        else:
            columns = [self._binary(self._y[:, k] > 0, C) for k in range(self._n_classes)]
            weights = np.stack([weight for weight, _ in columns])
            bias = np.array([offset for _, offset in columns])
        if self._axes is not None:
            weights = weights @ self._axes
        kernel = weights.T / self._scale[:, None]
        return Head(kernel, bias - self._mean @ kernel)

    def _multiclass(self, C: float) -> tuple[np.ndarray, np.ndarray]:
        found = np.unique(self._y)
        weights = np.zeros((self._n_classes, self._rows.shape[1]))
        bias = np.full(self._n_classes, UNSEEN)
        if len(found) == 1:
            bias[found] = 0.0
        elif len(found) == 2:
            weight, offset = self._binary(self._y == found[1], C)
            # A softmax of these two logits is the sigmoid of their difference.
            weights[found], bias[found] = (
                np.outer([-0.5, 0.5], weight), np.array([-0.5, 0.5]) * offset,
            )  # fmt: skip
        else:
            model = self._fitted(self._y, C)
            weights[found], bias[found] = model.coef_, model.intercept_
        return weights, bias

    def _binary(self, positive: np.ndarray, C: float) -> tuple[np.ndarray, float]:
        if positive.all() or not positive.any():
            return np.zeros(self._rows.shape[1]), UNSEEN * (-1 if positive.any() else 1) / 4
        model = self._fitted(positive, C)
        return model.coef_[0], float(model.intercept_[0])

    def _fitted(self, y: np.ndarray, C: float) -> LogisticRegression:
        with warnings.catch_warnings(), one_thread():
            # A few more steps would change the fourth digit of a probability.
            warnings.simplefilter("ignore", ConvergenceWarning)
            model = LogisticRegression(C=C, tol=1e-3, max_iter=200)
            return model.fit(self._rows, y, sample_weight=self._weight)


def _spread(n: int, views: int) -> tuple[np.ndarray, np.ndarray]:
    """Return views and rows to fit on: all, or as many images as possible in as many views."""
    if n * views <= MOST_ROWS:
        return np.tile(np.arange(views), n), np.repeat(np.arange(n), views)
    drawn = np.random.default_rng(n)
    row = np.concatenate([drawn.permutation(n) for _ in range(views)])[:MOST_ROWS]
    return np.repeat(np.arange(views), n)[:MOST_ROWS], row


class LinearNetwork(ImageClassifier):
    """Base of networks whose last layer alone is fitted, by logistic regression.

    Parameters
    ----------
    C : float, default=0.01
        Inverse strength of the penalty on the last layer, for standardised features.
    """

    C: PositiveFloat = 0.01
    early_stopping: bool | Auto = False

    outside_graph: ClassVar[frozenset[str]] = frozenset({"C"})

    @property
    def n_views(self) -> int:
        """Number of views of an image, whose features stand side by side where ``apart`` is set."""
        return 1

    def columns(self) -> list[slice]:
        """Return the columns of features (n, d) that may be all that is needed."""
        return [slice(None)]

    def set_head(self, head: Head, features: np.ndarray, y: np.ndarray) -> Self:
        """Finish an initialised network with its last layer; ``y`` is encoded."""
        state = self._finished(self.weights_, head, features, y)
        before = sum(weight.size for weight in self.weights_[-2:])
        self.n_params_ += sum(weight.size for weight in state.weights[-2:]) - before
        self.weights_, self.history_ = frozen(state.weights), state.history
        self.best_epoch_ = 1
        if "apart" in self.get_params():  # the same network, but for what becomes of the views
            self.set_params(apart=False)
            self._spec = _apart(self._spec, apart=False)
        return self

    def _train(self, task: loop.TrainingTask) -> loop.TrainingState:
        if not task.schedule.epochs:
            return super()._train(task)
        state = super()._train(replace(task, schedule=replace(task.schedule, epochs=0)))
        features, y = _embedded(task.spec, task.rows, state.weights), task.rows.y
        weight = task.rows.weight if task.rows.weight.ndim == 1 else task.rows.weight.mean(axis=1)
        features = features.reshape(len(y), self.n_views, -1)  # (n, v, d)
        head = HeadProblem(features, y, weight, task.spec.n_classes).solve(self.C)
        features = features.mean(axis=1)
        return replace(self._finished(state.weights, head, features, y), n_params=state.n_params)

    def _finished(
        self, weights: list[np.ndarray], head: Head, features: np.ndarray, y: np.ndarray
    ) -> loop.TrainingState:
        logits = head.logits(features).astype(np.float64)
        if y.ndim == 1:
            loss = -log_softmax(logits, axis=1)[np.arange(len(y)), y]
        else:
            loss = -log_expit(np.where(y > 0, logits, -logits))
        kind = head_of(y)
        history = {"loss": [float(loss.mean())], "accuracy": [kind.accuracy(y, logits)]}
        whole = [*weights[:-2], head.kernel.astype(np.float32), head.bias.astype(np.float32)]
        return loop.TrainingState(whole, history, best_epoch=1)


def _embedded(spec: Spec, rows: Rows, weights: list[np.ndarray]) -> np.ndarray:
    """Compute the features (n, v d) of a network below its last layer, those of views apart."""
    spec = _apart(spec, apart=True)
    with cache.borrow(FeatureSpec.below(spec)) as program:
        program.load(weights[:-2])
        return program.logits(rows)


def _apart(spec: Spec, *, apart: bool) -> Spec:
    """Set the parameter of that name, if the network has it."""
    architecture = dict(spec.architecture)
    if "apart" not in architecture:
        return spec
    return replace(spec, architecture=tuple((architecture | {"apart": apart}).items()))


class PixelClassifier(LinearNetwork):
    """Logistic regression on small pixels: the answer that is there in seconds.

    Parameters
    ----------
    side : int, default=16
        Height and width to which larger images are shrunk.
    """

    side: PositiveInt = 16

    def features(self, x: Any) -> Any:
        """Map images (b, h, w, c) to pixels (b, d)."""
        if x.shape[2] > 1 and max(x.shape[1:3]) > self.side:
            shape = [min(side, self.side) for side in x.shape[1:3]]
            x = keras.layers.Resizing(*shape, antialias=True, dtype="float32")(x)
        return keras.layers.Flatten()(x)


class ResizedEfficientNet(EfficientNetClassifier):
    """EfficientNet that gets images at the size its weights like best.

    Parameters
    ----------
    side : int, default=224
        Height and width to which images are resized inside the network.
    """

    side: PositiveInt = 224

    def features(self, x: Any) -> Any:
        """Map images (b, h, w, c) to features (b, d)."""
        return super().features(_resized(x, self.side))


View = tuple[bool, float, float]
"""Whether mirrored, degrees turned, and how much enlarged."""

VIEWS: dict[str, tuple[View, ...]] = {
    "one": ((False, 0, 1),),
    "mirror": ((False, 0, 1), (True, 0, 1)),
    "turns": ((False, 0, 1), (True, 0, 1), (False, 10, 1), (False, -10, 1), (False, 0, 1.15)),
}
"""Views of an image: rows of their own to fit the last layer on; features are their mean."""


class EfficientNetProbe(LinearNetwork, EfficientNetClassifier):
    """Logistic regression on the features of a pretrained EfficientNet.

    Parameters
    ----------
    side : int, default=224
        Height and width to which images are resized inside the network.
    views : {"one", "mirror", "turns"}, default="turns"
        Views of an image, as in `VIEWS`, over which features are averaged.
    layers : {"last", "inner"}, default="inner"
        Features of the last layer alone, or behind those halfway, which are closer to pixels.
    apart : bool, default=False
        Whether features of the views stand side by side instead; for the fit of the last layer.
    """

    side: PositiveInt = 224
    views: Literal["one", "mirror", "turns"] = "turns"
    layers: Literal["last", "inner"] = "inner"
    apart: bool = False

    outside_graph: ClassVar[frozenset[str]] = frozenset({"C", "head_epochs"})

    def features(self, x: Any) -> Any:
        """Map images (b, h, w, c) to features (b, d), the mean over views."""
        views = [_seen(_resized(x, self.side), *view) for view in VIEWS[self.views]]
        stacked = keras.ops.concatenate(views, axis=0) if len(views) > 1 else views[0]
        features = super().features(stacked)  # (v b, d)
        if self.layers == "inner":
            inside = keras.Model(keras.utils.get_source_inputs(x), features)
            halfway = [keras.ops.mean(_end(inside, one), axis=(1, 2)) for one in HALFWAY]
            features = keras.ops.concatenate([*halfway, features], axis=1)
        d = features.shape[-1]
        features = keras.ops.reshape(features, (len(views), -1, d))
        if not self.apart:
            return keras.ops.mean(features, axis=0)
        return keras.ops.reshape(keras.ops.transpose(features, (1, 0, 2)), (-1, len(views) * d))

    @property
    def n_views(self) -> int:
        """Number of views."""
        return len(VIEWS[self.views])

    def columns(self) -> list[slice]:
        """Return the columns of features (n, d) that may be all that is needed."""
        if self.layers == "last":
            return [slice(None)]
        width = VARIANTS[self.variant][0] * self.width
        return [slice(sum(channels(width * STAGES[one - 1][2]) for one in HALFWAY)), slice(None)]


HALFWAY = (4, 5)
"""Stages of EfficientNet whose ends are halfway: an image of 224 pixels is one of 14 there."""


def _end(model: keras.Model, stage: int) -> Any:
    """Return the last output of a stage."""
    names = [layer.name for layer in model.layers]
    ends = [name for name in names if re.fullmatch(rf"block{stage}[a-z]_project_bn", name)]
    return model.get_layer(ends[-1]).output


def _seen(x: Any, mirrored: bool, degrees: float, zoom: float) -> Any:
    """Mirror, turn and enlarge images (b, h, w, c) about their centre."""
    if (mirrored, degrees, zoom) == (False, 0, 1):
        return x
    if (degrees, zoom) == (0, 1):
        return keras.ops.flip(x, axis=2)
    angle, (height, width) = np.deg2rad(degrees), x.shape[1:3]
    sign = -1 if mirrored else 1
    turn = np.array([[np.cos(angle) * sign, -np.sin(angle) * sign],
                     [np.sin(angle), np.cos(angle)]]) / zoom  # fmt: skip
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    offset = centre - turn @ centre
    row = [*turn[0], offset[0], *turn[1], offset[1], 0, 0]
    return keras.ops.image.affine_transform(
        x, np.array(row, np.float32), fill_mode="reflect", data_format="channels_last"
    )


def _resized(x: Any, side: int) -> Any:
    """Resize images (b, h, w, c) to a square, in the graph."""
    if x.shape[1:3] == (side, side):
        return x
    shrinks = max(x.shape[1:3]) > side
    return keras.layers.Resizing(side, side, antialias=shrinks, dtype="float32")(x)
