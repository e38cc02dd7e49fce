"""Base class of networks that can start from pretrained weights."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from numbers import Integral, Real
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

import keras
import numpy as np
from sklearn.utils._param_validation import Interval

from kmedclf import recipes
from kmedclf.base import ImageClassifier
from kmedclf.models import _frozen, _weights
from kmedclf.models._features import FeatureStore
from kmedclf.models._weights import Published, Variable
from kmedclf.parameters import PositiveFloat, PositiveInt
from kmedclf.persistence.fitted_state import ELSEWHERE
from kmedclf.recipes import AUTO, Auto
from kmedclf.training import loop, network

NonNegativeInt: TypeAlias = Annotated[int, Interval(Integral, 0, None, closed="left")]
Rate: TypeAlias = Annotated[float, Interval(Real, 0, 1, closed="left")]


class PretrainedClassifier(ImageClassifier):
    """Base of the networks that can start from weights trained elsewhere.

    A subclass yields tensors in ``backbone``: one after the stem and one after each of its blocks.
    Pixels are expected in [0, 1], to which small integers are scaled, and normalised inside the
    network; grey images are repeated in three channels.

    Parameters
    ----------
    weights : str, path-like or None, default=None
        Weights to start from; the last layer is always new. "imagenet" downloads the published
        weights, once. A path may be a fitted estimator of the same class (.kmedclf), weights of
        torchvision or timm (.safetensors), a file of keras.applications (.h5), a Keras model that
        begins with this network (.keras), or the folder of a keras-hub preset. Any other name is a
        preset that keras-hub downloads. Presets are for residual networks and transformers, and
        need the extra ``hub``. A model that `kmedclf.load` has read has "elsewhere" instead of a
        path.
    trainable : {"all", "head"} or int, default="all"
        Layers to train: all, only the last layer, or the last layer and this many blocks before
        it. Frozen layers run in inference mode, including batch normalisation and dropout.
        The network below a head that is trained alone runs once an image, before the first epoch,
        and with ``memory`` once for all fits. It runs in every epoch where images differ from epoch
        to epoch: with augmentations other than "mirror", "flips" and "dihedral", with ``mixup`` and
        ``cutmix``, and with callbacks, whose model is the whole network.
    head_epochs : int or "auto", default="auto"
        Number of first epochs that train only the last layer, on images that are not augmented;
        the other epochs train the rest as well, with a new optimizer. Early stopping starts after
        them. 0 in the reference.
    backbone_rate : float or "auto", default="auto"
        Factor of the learning rate for all layers but the last. 1 in the reference.
    frozen_batch_norm : bool or "auto", default="auto"
        Whether batch normalisation keeps what it has learnt elsewhere, statistics, scales and
        offsets, although other layers are trained. False in the reference.
    dropout : float, default=0.0
        Fraction of features dropped before the last layer in training.
    """

    weights: str | os.PathLike | None = None
    trainable: Literal["all", "head"] | PositiveInt = "all"
    head_epochs: NonNegativeInt | Auto = AUTO
    backbone_rate: PositiveFloat | Auto = AUTO
    frozen_batch_norm: bool | Auto = AUTO
    dropout: Rate = 0.0

    takes_presets: ClassVar[bool] = False  # False where keras-hub pads images differently
    mean: ClassVar[tuple[float, ...]] = (0.485, 0.456, 0.406)  # ImageNet's pixels
    std: ClassVar[tuple[float, ...]] = (0.229, 0.224, 0.225)
    changes_no_shape: ClassVar[frozenset[str]] = frozenset(
        {"weights", "trainable", "dropout", "backbone_rate", "frozen_batch_norm"}
    )
    outside_graph: ClassVar[frozenset[str]] = frozenset({"head_epochs"})

    @property
    def smallest_image(self) -> int:  # type: ignore[override]
        """Minimum side of an image in pixels; flat vectors are exempt."""
        return 32 if getattr(self, "stem", "") == "imagenet" else 8

    def backbone(self, x: Any) -> Iterator[Any]:
        """Map images to features: yield a tensor after the stem and one after every block.

        Parameters
        ----------
        x : KerasTensor of shape (b, h, w, c)
            Normalised images.

        Yields
        ------
        KerasTensor
            The last is (b, h', w', d), which is averaged, or (b, d).
        """
        raise NotImplementedError(f"{type(self).__name__} must define backbone(self, x).")

    def published(self) -> Published | None:
        """Return the file that "imagenet" stands for, if there is one for these parameters."""
        return None

    def normalization(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return mean and standard deviation of the pixels that the weights were trained on."""
        return self.mean, self.std

    def torch_names(self, layer: str) -> tuple[str, ...]:
        """Return the names of a layer in PyTorch's files; none if they are its own."""
        return ()

    def features(self, x: Any) -> Any:
        """Map images (b, h, w, c) to features (b, d)."""
        self._check_size(x)
        images = keras.utils.get_source_inputs(x)
        before = {id(layer) for layer in keras.Model(images, x).layers}
        x = self._normalized(x)
        outputs = list(self.backbone(x))
        x = outputs[-1]
        layers = [one for one in keras.Model(images, x).layers if id(one) not in before]
        if self.weights is not None:
            self._start(layers)
        if self.frozen_batch_norm is True:
            for layer in layers:
                if isinstance(layer, keras.layers.BatchNormalization):
                    layer.trainable = False
        if self.trainable != "all":
            self._freeze(layers, keras.Model(images, self._last_frozen(outputs)).layers)
        if len(x.shape) == 4:
            x = keras.layers.GlobalAveragePooling2D(name="average")(x)
        return x

    def _classify(self, x: Any, spec: network.Spec) -> Any:
        if self.dropout:
            x = keras.layers.Dropout(self.dropout, name="dropout")(x)
        return super()._classify(x, spec)

    def _check_size(self, x: Any) -> None:
        side = min(x.shape[1:3])
        # Flat vectors (d, 1, 1) are exempt.
        if side < self.smallest_image and x.shape[2] > 1:
            raise ValueError(
                f"{type(self).__name__} of these parameters must get images of at least "
                f"{self.smallest_image} × {self.smallest_image} pixels. "
                f"Got {x.shape[1]} × {x.shape[2]} instead."
            )

    def _normalized(self, x: Any) -> Any:
        channels = x.shape[-1]
        if channels == 1:
            x = keras.layers.Concatenate(name="grey")([x] * 3)
        elif channels != 3:
            if self.weights is not None:
                raise ValueError(
                    f"The 'weights' parameter of {type(self).__name__} must be None for images "
                    f"that are neither grey nor coloured. Got images of {channels} channels."
                )
            return x
        both = list(zip(*self.normalization(), strict=True))
        scale, offset = [1 / std for _, std in both], [-mean / std for mean, std in both]
        return keras.layers.Rescaling(scale, offset, dtype="float32", name="normalize")(x)

    def _start(self, layers: list[keras.Layer]) -> None:
        """Register pretrained values, which `Initializers.assign` gives to the backbone."""
        own = [weight for layer in layers for weight in layer.weights]
        variables = tuple(
            Variable(
                one.path,
                tuple(one.shape),
                getattr(one, "grid", None),
                self.torch_names(one.path.rpartition("/")[0]),
            )
            for one in own
        )
        for variable in own:
            variable.start = partial(self._value, variables, variable.path)

    def _value(self, variables: tuple[Variable, ...], path: str, shape: Any, dtype: Any) -> Any:
        # A loaded model has its own weights, which replace these.
        if self._are_elsewhere():
            return np.zeros(shape, dtype)
        found = self._found()
        name = type(self).__name__
        return _weights.read(found, _weights.identity(found), variables, name)[path]

    def _last_frozen(self, outputs: list[Any]) -> Any:
        blocks = len(outputs) - 1
        n = 0 if self.trainable == "head" else int(self.trainable)
        if n > blocks:
            raise ValueError(
                f"The 'trainable' parameter of {type(self).__name__} must be at most the {blocks} "
                f"blocks of the network. Got {n} instead."
            )
        return outputs[-1 - n]

    @staticmethod
    def _freeze(layers: list[keras.Layer], frozen: list[keras.Layer]) -> None:
        inside = {id(layer) for layer in frozen}
        for layer in layers:
            if id(layer) in inside:
                layer.trainable = False
                # Unlike batch normalisation, dropout ignores `trainable`.
                if isinstance(layer, keras.layers.Dropout):
                    layer.rate = 0.0

    # -- before and during fit ---------------------------------------------------------------

    def _found(self) -> str:
        weights = os.fspath(self.weights)  # type: ignore[arg-type]
        if self._are_elsewhere():
            raise ValueError(
                f"The 'weights' parameter of {type(self).__name__} must be set again to fit it "
                f"anew: it was loaded from a file, which names no path. Got {weights!r} instead."
            )
        found = _weights.find(weights, self.published(), type(self).__name__)
        if not self.takes_presets and not os.path.isfile(found):
            raise ValueError(
                f"The 'weights' parameter of {type(self).__name__} must be a file, as keras-hub "
                f"has no preset that computes the same. Got {weights!r} instead."
            )
        return found

    def _are_elsewhere(self) -> bool:
        return isinstance(self.weights, str) and self.weights in ELSEWHERE

    def _start_identity(self) -> str:
        if self._are_elsewhere() and hasattr(self, "_spec"):
            return self._spec.start
        return "" if self.weights is None else _weights.identity(self._found())

    def _train(self, task: loop.TrainingTask) -> loop.TrainingState:
        if task.start is None and self._are_elsewhere():
            # Raises an error that says what to do.
            self._found()
        done = len(task.start.history["loss"]) if task.start else 0
        first = recipes.parameters(self)["head_epochs"]
        left = 0 if self.trainable == "head" else max(0, first - done)
        left = left if task.schedule.epochs else 0
        start = task.start
        if left:
            epochs = min(left, task.schedule.epochs)
            schedule = replace(task.schedule, epochs=epochs, early_stopping=False)
            architecture = tuple(
                (name, "head" if name == "trainable" else value)
                for name, value in task.spec.architecture
            )
            # The same network with a frozen backbone, compiled on its own.
            spec = replace(task.spec, architecture=architecture)
            # Without augmentation or mixing, as the backbone then runs once an image.
            schedule = replace(schedule, mixup=0.0, cutmix=0.0)
            start = super()._train(replace(task, spec=spec, schedule=schedule, augment=()))
            if epochs == task.schedule.epochs:
                return start
            schedule = replace(task.schedule, epochs=task.schedule.epochs - epochs)
            task = replace(task, schedule=schedule)
        if start is not None and first and done <= first:
            # The optimizer state of the head does not fit all variables.
            start = replace(start, optimizer=None)
        return super()._train(replace(task, start=start))

    def _run(self, task: loop.TrainingTask, callbacks: Any) -> loop.TrainingState:
        store = partial(FeatureStore.of, self.memory, self.memory_limit, type(self).__name__)
        return _frozen.train(task, callbacks, store)
