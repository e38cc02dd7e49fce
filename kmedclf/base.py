"""The estimator that all networks share. The only module that knows scikeras."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Self, dataclass_transform

import keras
import numpy as np
import tensorflow as tf
from scikeras.wrappers import KerasClassifier
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import ClassifierTags, InputTags, Tags, TargetTags
from sklearn.utils.validation import check_is_fitted

from kmedclf import (
    annotated,
    divergence,
    fitting,
    inputs,
    memory,
    network,
    persistence,
    programs,
    training,
)
from kmedclf.heads import HEADS, Head
from kmedclf.params import TrainingParameters
from kmedclf.pipeline import Rows
from kmedclf.program import frozen
from kmedclf.progress import EpochProgress
from kmedclf.schedules import Schedule
from kmedclf.views import pool, resolve


@dataclass_transform(kw_only_default=True, field_specifiers=(field,))
@dataclass(kw_only=True, eq=False, repr=False)
class ImageClassifier(TrainingParameters, KerasClassifier):
    """Base of all image classifiers: a network of Keras, the manners of scikit-learn.

    A subclass declares its architecture's parameters as annotated fields with defaults and maps an
    image tensor to a feature tensor in ``features``; everything else is here.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Labels, sorted; 0 to k - 1 if an image may have several.
    history_ : dict of str to list of float
        "loss", "accuracy" and, with validation data, "val_loss", "val_accuracy": one number an
        epoch. Losses carry all weights; accuracies none, and count labels if there are several.
    best_epoch_ : int
        Number, from 1, of the epoch with the best monitored value; the last epoch without
        validation data.
    weights_ : list of ndarray
        The network's weights, in Keras' order: read-only arrays, to be replaced rather than
        changed.
    n_params_, n_non_trainable_params_ : int
        Numbers of trainable and of other weights.
    image_shape_ : tuple of int
        Shape (h, w, c) of the images fitted on.
    n_features_in_ : int
        ``X.shape[1]`` of the X fitted on, as scikit-learn counts; of files h w c.
    skipped_ : list of str or None
        Files of X that could not be read and were left out; None if X was an array.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Give the subclass its constructor, and its docstring the shared parameters."""
        super().__init_subclass__(**kwargs)
        dataclass(kw_only=True, eq=False, repr=False)(cls)
        annotated.check_defaults(cls)
        parent = cls.__mro__[1]
        shared = TrainingParameters if parent is ImageClassifier else parent
        cls.__doc__ = annotated.merge_docs(cls, shared.__doc__)

    # scikeras reads parameters from instances, scikit-learn from the constructor's signature.
    @classmethod
    def _get_param_names(cls) -> list[str]:
        return BaseEstimator._get_param_names.__func__(cls)

    set_params = BaseEstimator.set_params
    score = ClassifierMixin.score
    __repr__ = BaseEstimator.__repr__

    if TYPE_CHECKING:  # set by fit; an annotation here would be a parameter
        _spec: network.Spec = field(init=False)
        _seed: int = field(init=False)

    smallest_image: ClassVar[int] = 1
    """Side in pixels of the smallest images that the network takes; flat vectors excepted."""
    changes_no_shape: ClassVar[frozenset[str]] = frozenset()
    """Parameters that a warm start may change, as the weights keep their shapes."""
    outside_graph: ClassVar[frozenset[str]] = frozenset()
    """Parameters of a subclass that its network does not depend on."""

    def features(self, x: Any) -> Any:
        """Map images to features: the one method a subclass must write.

        Parameters
        ----------
        x : KerasTensor of shape (b, h, w, c)
            Images, scaled to [0, 1] if they came as small integers.

        Returns
        -------
        KerasTensor of shape (b, ...)
            Features; flattened and classified by the head.
        """
        raise NotImplementedError(f"{type(self).__name__} must define features(self, x).")

    # -- fitting -----------------------------------------------------------------------------

    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
        groups: Any = None,
    ) -> Self:
        """Train the network from fresh weights, or on from the last if ``warm_start``.

        Parameters
        ----------
        X : array-like of shape (n, h, w), (n, h, w, c) or (n, d), or of n paths
            Images, channels last; lists of arrays, tensors or Pillow's pictures of one size, too.
            Integers of any dtype that are all in 0 to 255 are bytes and scaled to [0, 1] inside
            the network. Other integers of up to 16 bits are divided by their dtype's maximum, and
            wider ones in 0 to 65535 by 65535, as uint16 is. Floats, and all other integers, are
            used as given, with a warning if they exceed 2 (or, where some are negative, 20). A
            flat X needs ``image_shape``. Without it each row is an image of shape (d, 1, 1): its
            values may be features of any scale, so there is no warning, and integers of more
            than 16 bits beyond 255 are used as given. More than 4 channels need an
            ``image_shape`` of three numbers. Paths of files are read as ``image_size`` and
            ``channels`` say, batch by batch. Later X, of validation and `predict`, may be of any
            dtype whose cast to that of this one loses nothing; floats in [0, 1] are no bytes.
        y : array-like of shape (n,) or (n, k)
            Labels, text or numbers; or, where an image may have several, a column of 0 and 1 for
            each. Columns of classes are taken for such labels, with a warning.
        sample_weight : array-like of shape (n,), optional
            Weights. Whole numbers up to 20 repeat a row, others multiply its loss; both multiply
            with the class weights.
        X_val, y_val : array-like, optional
            Images and labels to validate on, never trained on. Searches cut them like X if they
            are exactly as long; `kmedclf.Unsliced` around them prevents it.
        sample_weight_val : array-like, optional
            Weights of the validation loss.
        groups : array-like of shape (n,), optional
            Groups, such as patients, that the split for early stopping keeps together. It leaves
            images of every class to train on and comes as near to ``validation_fraction`` as
            groups allow, to within 5 % of it for the sake of even shares of all classes.

        Returns
        -------
        self
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter or the data are not as described here, or the training diverges and no
            earlier epoch is restored.
        RuntimeError
            Inside a ``tf.function`` or the scope of a distribution strategy.
        """
        data = fitting.Data(X, y, sample_weight, X_val, y_val, sample_weight_val, groups)
        with annotated.plain_parameters(self):
            start = fitting.state(self) if self.warm_start else None
            return self._fit(fitting.schedule(self), data, start, keep_optimizer=self.warm_start)

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """Train one epoch more, keeping weights and history, and the optimizer of a partial fit.

        Parameters
        ----------
        X, y : array-like
            As in `fit`.
        classes : array-like of shape (n_classes,), optional
            All labels there will be; in the first call, if y lacks some.
        sample_weight : array-like of shape (n,), optional
            As in `fit`.

        Returns
        -------
        self
            The fitted estimator.
        """
        data = fitting.Data(X, y, sample_weight, classes=classes)
        with annotated.plain_parameters(self):
            whole = fitting.schedule(self)
            schedule = replace(whole, epochs=1, early_stopping=False, cycle=whole.epochs)
            return self._fit(schedule, data, fitting.state(self), keep_optimizer=True)

    def _fit(
        self,
        schedule: Schedule,
        data: fitting.Data,
        start: training.State | None,
        *,
        keep_optimizer: bool,
    ) -> Self:
        network.check_surroundings(type(self).__name__)
        before = self.__dict__.copy()
        try:
            task = fitting.task(self, schedule, data, start, keep_optimizer=keep_optimizer)
            held = (task.held or task.rows).images
            with task.rows.images.explained(), held.explained():
                state = self._train(task)
        except BaseException:  # an interrupted search goes on with what was fitted before
            self.__dict__ = before
            raise
        self._spec, self._optimizer_state = task.spec, state.optimizer
        self.weights_, self.history_ = frozen(state.weights), state.history
        self.best_epoch_ = state.best_epoch
        self.n_params_, self.n_non_trainable_params_ = state.n_params
        return self

    def _start_identity(self) -> str:
        """Tell the weights that `fit` starts from apart from others, if they come from a file."""
        return ""

    def _train(self, task: training.Task) -> training.State:
        progress = [EpochProgress(type(self).__name__)] if self.verbose else []
        train = partial(training.train, callbacks=[*(self.callbacks or []), *progress])
        # Without a seed no fit comes twice, and callbacks want to be called.
        if self.memory is None or self.random_state is None or self.callbacks:
            return train(task)
        return memory.recall(self.memory, self.memory_limit, task, train)

    # -- using -------------------------------------------------------------------------------

    def decision_function(self, X: Any) -> np.ndarray:
        """Compute the logits.

        Parameters
        ----------
        X : array-like
            Images of the kind and shape that fit got.

        Returns
        -------
        ndarray of shape (n, k), or (n,) for two classes, float32
            Logits; for two classes that of the second less that of the first.
        """
        return self._head.decision(self._logits(X)).astype(np.float32)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Compute class probabilities.

        Parameters
        ----------
        X : array-like
            Images of the kind and shape that fit got.

        Returns
        -------
        ndarray of shape (n, k), float32
            Probabilities, in the order of ``classes_``; rows of exclusive classes sum to 1.

        Notes
        -----
        float32 is the precision of the network's last layer. The same images in the same order
        give the same bits, on one kind of CPU with one number of threads and the same settings of
        TensorFlow; in another order, or fewer at once, an image's probability may differ by
        float32's rounding, some 1e-6.
        """
        return self._head.probabilities(self._logits(X)).astype(np.float32)

    def predict(self, X: Any) -> np.ndarray:
        """Predict labels.

        Parameters
        ----------
        X : array-like
            Images of the kind and shape that fit got.

        Returns
        -------
        ndarray of shape (n,) or (n, k)
            Labels out of ``classes_``; or zeros and ones, which probabilities above 0.5 are.
        """
        return self._head.predict(self._logits(X), self.classes_)

    @property
    def _head(self) -> Head:
        check_is_fitted(self)
        return HEADS[self._spec.head]

    def _logits(self, X: Any) -> np.ndarray:
        network.check_surroundings(type(self).__name__)
        images = inputs.check(self, X, reset=False)
        tta = resolve(self.tta, images.shape, type(self).__name__)
        with images.explained(), tf.device(None), programs.borrow(self._spec) as program:
            program.load(self.weights_)
            found = program.logits(Rows.of(images), tta)
        divergence.check_outputs(found, type(self).__name__)
        return pool(found, multilabel=HEADS[self._spec.head].several)

    @property
    def model_(self) -> keras.Model:
        """A Keras model of its own, from images to probabilities (n, k)."""
        check_is_fitted(self)
        model, _ = network.build(self._spec, activated=True)
        model.set_weights(self.weights_)
        return model

    @property
    def initialized_(self) -> bool:
        """Whether the estimator is fitted."""
        return self.__sklearn_is_fitted__()

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Make the weights read-only again, which a copy or a pickle forgets."""
        super().__setstate__(state)
        frozen(vars(self).get("weights_", []))

    def __sklearn_is_fitted__(self) -> bool:
        """Tell scikit-learn whether the estimator is fitted."""
        return hasattr(self, "weights_")

    def __sklearn_tags__(self) -> Tags:
        """Tell scikit-learn what the estimator is: scikeras' own tags say too little."""
        return Tags(
            estimator_type="classifier",
            target_tags=TargetTags(required=True),
            classifier_tags=ClassifierTags(multi_label=True),
            # Not one_d_array, though paths are one: scikit-learn's checks would then flatten X.
            input_tags=InputTags(three_d_array=True),
        )

    def save(self, path: Any) -> None:
        """Save to one file, without pickle; `kmedclf.load` reads it.

        Parameters
        ----------
        path : path-like
            Where to; by convention ``*.kmedclf``.
        """
        check_is_fitted(self)
        persistence.save(self, path)
