"""Features of pretrained networks: a transformer from images to numbers, for linear models."""

from __future__ import annotations

import kmedclf.utils.tensorflow_loaded  # noqa: F401

import functools
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from numbers import Integral
from typing import TYPE_CHECKING, Any, ClassVar, Self

import joblib
import keras
import numpy as np
import tensorflow as tf
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin, clone
from sklearn.utils import Tags
from sklearn.utils._param_validation import Interval, Options
from sklearn.utils.validation import check_is_fitted

from kmedclf import persistence
from kmedclf.augmentation import test_time
from kmedclf.base import ImageClassifier
from kmedclf.inputs.image_input import ImageInput
from kmedclf.inputs.images import Images
from kmedclf.models import _weights
from kmedclf.models._features import (
    AT_ONCE,
    FeaturePass,
    FeatureSpec,
    FeatureStore,
    layer_of,
    untrained,
)
from kmedclf.models._pretrained import PretrainedClassifier
from kmedclf.models.efficientnet import EfficientNetClassifier
from kmedclf.training import cache, network
from kmedclf.training.batches import inference_batch_size
from kmedclf.training.program import CompiledNetwork, check_outputs, frozen
from kmedclf.utils import annotated
from kmedclf.utils.random_state import python_random_kept
from kmedclf.utils.text import suggest

SIDE = 224
"""Side of the images that ImageNet's networks are trained on."""


class ApplicationNetwork(PretrainedClassifier):
    """A network of keras.applications, with its own preprocessing, for `ImageFeatures`.

    Parameters
    ----------
    application : str, default="MobileNetV2"
        Its name.
    """

    application: str = "MobileNetV2"

    @property
    def smallest_image(self) -> int:  # type: ignore[override]
        """Minimum side of an image in pixels."""
        return 32

    def backbone(self, x: Any) -> Iterator[Any]:
        """Yield the last feature map (b, h', w', d)."""
        yield self._made()(include_top=False, weights=None, input_tensor=x).output

    def _made(self) -> Any:
        made = getattr(keras.applications, self.application, None)
        # Their weights have a layer that only the one with "imagenet" scales as it was trained.
        if not callable(made) or self.application.startswith("EfficientNetB"):
            names = [name for name in dir(keras.applications) if name[:1].isupper()]
            names = [name for name in names if not name.startswith("EfficientNetB")]
            raise ValueError(
                "The 'network' parameter of ImageFeatures must be an estimator of kmedclf, such as "
                "EfficientNetClassifier(), or the name of another network of keras.applications. "
                f"Got {self.application!r} instead{suggest(self.application, names)}"
            )
        return made

    def _normalized(self, x: Any) -> Any:
        if x.shape[-1] == 1:
            x = keras.layers.Concatenate(name="grey")([x] * 3)
        if x.shape[-1] != 3:
            raise ValueError(
                f"X of ImageFeatures must be grey or coloured images for {self.application}. Got "
                f"images of {x.shape[-1]} channels."
            )
        pixels = keras.layers.Rescaling(255.0, dtype="float32")(x)
        return sys.modules[self._made().__module__].preprocess_input(pixels)

    def _value(self, variables: Any, path: str, shape: Any, dtype: Any) -> Any:
        if self.weights != "imagenet":
            return super()._value(variables, path, shape, dtype)
        values = _imagenet(self._made())
        return dict(zip((one.path for one in variables), values, strict=True))[path]

    def _start_identity(self) -> str:
        imagenet = self.weights == "imagenet"
        return f"imagenet {self.application}" if imagenet else super()._start_identity()


@functools.lru_cache(maxsize=1)
def _imagenet(made: Any) -> list[np.ndarray]:
    """Read ImageNet's weights from Keras' cache, or let Keras download them."""
    try:
        with python_random_kept(), network.settings():
            model = made(include_top=False, weights="imagenet")
    except Exception as error:  # Keras raises Exception itself where there is no network
        raise FileNotFoundError(
            f"The ImageNet weights of {made.__name__} are not in ~/.keras/models and could not be "
            f"downloaded ({' '.join(str(error).split())}); put the file there, or give its path "
            "as 'weights'."
        ) from error
    return [np.asarray(weight) for layer in model.layers for weight in layer.weights]


class ImageFeatures(ImageInput, ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Features of a pretrained network: images to numbers, for a linear model or any other.

    The network is not trained. With few images, a linear model on such features is often better
    than a network trained on the images, and takes seconds.

    Parameters
    ----------
    network : ImageClassifier, str or None, default=None
        The network. None is ``EfficientNetClassifier(variant="lite0")``, or the model in
        ``weights`` if that is a .kmedclf file. A fitted estimator gives what it has learnt, without
        its last layer; ``clone`` keeps its fit. A name is a network of keras.applications, such as
        "MobileNetV2".
    weights : str, path-like or None, default=None
        Weights of a network that is not fitted: "imagenet", which downloads the published ones
        once, or the path of a file, as in `kmedclf.EfficientNetClassifier`. None are those of
        ``network`` if it has some, otherwise "imagenet".
    layer : str or None, default=None
        Name of the Keras layer whose output is taken, such as "block5c_project_bn". None is the
        last one before the head.
    pooling : {"avg", "max", "none"}, default="avg"
        Mean or maximum over the image of each channel, or all values. Tensors that have no height
        and width stay as they are.
    tta : {"mirror", "flips", "dihedral", "shift"}, list of them or None, default=None
        Views of each image over which features are averaged, as in the classifiers.
    batch_size : int or None, default=None
        Images to compute at once, all views counted. None chooses by their size.
    image_size : int, tuple of int or None, default=None
        Size (h, w), or side of a square, of the images that the network gets: files are read at it,
        arrays are resized to it. None is 224, or the size that a fitted network was fitted on.
        Flat vectors stay as they are.
    image_shape : tuple of int or None, default=None
        Shape (h, w) or (h, w, c) of one image if X is flat, (n, d).
    channels : {1, 3}, default=3
        Number of channels to read image files with: grey or RGB.
    resize : {"stretch", "pad", "crop"}, default="stretch"
        Whether to distort an image file of other proportions, to pad it with black, or to crop it.
    max_pixels : int or None, default=None
        Maximum number of pixels of an image file, as in the classifiers.
    cache : "memory", path-like or None, default=None
        Cache of decoded image files: the memory of the process, or a folder shared by all
        processes.
    cache_limit : int or str, default="4G"
        Maximum size of the cache in bytes, or with K, M or G.
    memory : str, path-like, joblib.Memory or None, default=None
        Folder to store features in, by the content of their image: an image that was seen before,
        in whatever order or fold, is not computed again.
    memory_limit : int or str, default="10G"
        Maximum size of that folder in bytes, or with K, M or G. Features of earlier calls make
        room for new ones.
    precision : {"float32", "mixed", "mixed_bfloat16", "mixed_float16"}, default="float32"
        Precision of the network; "mixed" chooses for the device. Features are float32.

    Attributes
    ----------
    weights_ : list of ndarray
        The network's weights. The arrays are read-only.
    image_shape_ : tuple of int
        Shape (h, w, c) of the images seen during fit.
    n_features_in_ : int
        ``X.shape[1]`` of the X seen during fit, as in scikit-learn; h * w * c for files.

    Notes
    -----
    Features of an image depend on no other image, so that a fold's statistics cannot leak:
    computing them once for all rows is as honest as inside a pipeline, and ``memory`` does so.
    Pixels are scaled as the weights expect. In a batch of another size, features may differ by
    float32's rounding.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from kmedclf import CNNClassifier, ImageFeatures
    >>> from kmedclf.datasets import make_blood_cells
    >>> X, y = make_blood_cells(64, random_state=0)  # synthetic
    >>> cnn = CNNClassifier(filters=4, epochs=1, early_stopping=False, random_state=0).fit(X, y)
    >>> model = make_pipeline(ImageFeatures(network=cnn, pooling="max"), LogisticRegression())
    >>> model.fit(X, y).predict(X).shape
    (64,)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "network": [ImageClassifier, str, None],
        "weights": [str, os.PathLike, None],
        "layer": [str, None],
        "pooling": [annotated.Words({"avg", "max", "none"})],
        "tta": [annotated.Words(set(test_time.NAMES)), list, tuple, None],
        "batch_size": [Interval(Integral, 1, None, closed="left"), None],
        "image_size": [Interval(Integral, 1, None, closed="left"), tuple, list, None],
        "image_shape": [tuple, list, None],
        "channels": [Options(int, {1, 3})],
        "resize": [annotated.Words({"stretch", "pad", "crop"})],
        "max_pixels": [Interval(Integral, 1, None, closed="left"), None],
        "cache": [str, os.PathLike, None],
        "cache_limit": [Interval(Integral, 1, None, closed="left"), str],
        "memory": [str, os.PathLike, joblib.Memory, None],
        "memory_limit": [Interval(Integral, 1, None, closed="left"), str],
        "precision": [annotated.Words({"float32", "mixed", "mixed_bfloat16", "mixed_float16"})],
    }

    on_error = "raise"  # a row without features has no place in a matrix

    if TYPE_CHECKING:
        weights_: list[np.ndarray]
        _scale: float
        _spec: FeatureSpec

    def __init__(
        self,
        network: Any = None,
        *,
        weights: Any = None,
        layer: str | None = None,
        pooling: str = "avg",
        tta: Any = None,
        batch_size: int | None = None,
        image_size: Any = None,
        image_shape: Any = None,
        channels: int = 3,
        resize: str = "stretch",
        max_pixels: int | None = None,
        cache: Any = None,
        cache_limit: int | str = "4G",
        memory: Any = None,
        memory_limit: int | str = "10G",
        precision: str = "float32",
    ) -> None:
        self.network = network
        self.weights = weights
        self.layer = layer
        self.pooling = pooling
        self.tta = tta
        self.batch_size = batch_size
        self.image_size = image_size
        self.image_shape = image_shape
        self.channels = channels
        self.resize = resize
        self.max_pixels = max_pixels
        self.cache = cache
        self.cache_limit = cache_limit
        self.memory = memory
        self.memory_limit = memory_limit
        self.precision = precision

    def fit(self, X: Any, y: Any = None) -> Self:
        """Read the weights, and remember what kind of images X holds; nothing is trained.

        Parameters
        ----------
        X : array-like of shape (n, h, w), (n, h, w, c) or (n, d), or n paths
            Images, in any form that `kmedclf.ImageClassifier.fit` takes.
        y : None
            Ignored.

        Returns
        -------
        self
            The fitted transformer.

        Raises
        ------
        FileNotFoundError
            If the weights are not there.
        ValueError
            If a parameter, the weights or the images are not as described here.
        """
        network.check_surroundings(type(self).__name__)
        before = self.__dict__.copy()
        try:
            with annotated.plain_parameters(self, deep=False):
                annotated.check_parameters(self)
                self._fit(X)
        except BaseException:  # an interrupted transformer keeps its earlier fit
            self.__dict__ = before
            raise
        return self

    def _fit(self, X: Any) -> None:
        source = self._source()
        self._native = source.image_shape_[:2] if source.initialized_ else (SIDE, SIDE)
        images = self._check_X(X, reset=True)
        test_time.resolve(self.tta, images.shape, type(self).__name__)
        spec, weights = self._describe(source, images)
        with images.explained(), tf.device(None), cache.borrow(spec) as program:
            if weights is None:
                program.reset(np.random.SeedSequence(0), None, {})
                weights = program.weights()
            self._check_shapes(program, weights, source)
            self._n_features_out = int(program.model.output.shape[-1])
        self._spec, self.weights_ = spec, frozen([np.array(one) for one in weights])

    def transform(self, X: Any) -> np.ndarray:
        """Compute the features of images.

        Parameters
        ----------
        X : array-like
            Images of the kind and shape seen during fit.

        Returns
        -------
        ndarray of shape (n, n_features), float32
            One row an image, in the order of X.
        """
        check_is_fitted(self)
        network.check_surroundings(type(self).__name__)
        images = self._check_X(X, reset=False)
        views = test_time.resolve(self.tta, images.shape, type(self).__name__)
        found = np.empty((len(images.array), self._n_features_out), np.float32)
        with images.explained(), tf.device(None), cache.borrow(self._spec) as program:
            program.load(self.weights_)
            store = FeatureStore.of(self.memory, self.memory_limit, type(self).__name__)
            pass_ = FeaturePass(program, images, views, store, self._batch_size(images))
            for start in range(0, len(found), AT_ONCE):
                rows = np.arange(start, min(start + AT_ONCE, len(found)))
                found[rows] = pass_.features(rows).mean(axis=1)
        check_outputs(found, type(self).__name__)
        return found

    # -- the network -------------------------------------------------------------------------

    def _source(self) -> Any:
        """Return the estimator whose network is used: a fitted one, or one with its weights set."""
        made, weights, name = self.network, self.weights, type(self).__name__
        if isinstance(made, str):
            made = ApplicationNetwork(application=made)
        elif made is None and os.fspath(weights or "").endswith(".kmedclf"):
            made, weights = persistence.load(_weights.find(weights, None, name)), None
            if not isinstance(made, ImageClassifier):
                raise ValueError(
                    f"The 'weights' parameter of {name} must be the file of one network. Got a "
                    f"{type(made).__name__} in {os.fspath(self.weights)!r} instead."
                )
        elif made is None:
            made = EfficientNetClassifier(variant="lite0")
        if made.initialized_:
            if weights is not None:
                raise ValueError(
                    f"The 'weights' parameter of {name} must be None where 'network' is fitted, "
                    f"and has weights of its own. Got {weights!r} instead."
                )
            return made
        if not isinstance(made, PretrainedClassifier):
            raise ValueError(
                f"The 'network' parameter of {name} must be a fitted estimator, or one that can "
                f"start from a file of weights. Got an unfitted {type(made).__name__} instead."
            )
        return clone(made).set_params(weights=weights or made.weights or "imagenet")

    def _describe(self, source: Any, images: Images) -> tuple[FeatureSpec, Any]:
        """Return the spec of the network and, if it is fitted, its weights."""
        fitted, name = source.initialized_, type(self).__name__
        if fitted and images.shape[2] != source.image_shape_[2]:
            raise ValueError(
                f"X of {name} must have the {source.image_shape_[2]} channels that its network was "
                f"fitted on. Got images of shape {images.shape}; 'channels' is for files."
            )
        cls, architecture, start, weights = source.feature_network(images.scale)
        sides = images.shape[:2] if images.shape[1] == 1 else self._sides(name)
        spec = FeatureSpec(
            estimator=cls,
            architecture=untrained(tuple(architecture.items())),
            image_shape=images.shape,
            scale=images.scale,
            n_classes=1,
            optimizer="sgd",  # never used, and has no variables
            precision=network.resolve_precision(self.precision),
            jit_compile=False,
            start=start,
            layer=self.layer,
            pooling=self.pooling,
            size=None if sides == images.shape[:2] else sides,
        )
        if weights is not None and self.layer is not None:
            weights = _up_to_the_layer(spec, weights)
        return spec, weights

    def _check_shapes(self, program: CompiledNetwork, weights: Any, source: Any) -> None:
        wanted = [tuple(one.shape) for one in program.model.weights]
        if [one.shape for one in weights] != wanted:
            raise ValueError(
                f"The 'image_size' parameter of {type(self).__name__} must be None for this "
                f"{type(source).__name__}, whose weights are for images of shape "
                f"{source.image_shape_}. Got {self.image_size!r} instead."
            )

    @property
    def _file_size(self) -> Any:
        return self._native if self.image_size is None else self.image_size

    def _batch_size(self, images: Images) -> int:
        height, width = self._spec.size or images.shape[:2]
        return self.batch_size or inference_batch_size((height, width, 3))

    # -- scikit-learn ------------------------------------------------------------------------

    def __sklearn_clone__(self) -> Self:
        """Copy the parameters; a fitted network is shared, as ``clone`` would forget its fit."""
        given = self.get_params(deep=False)
        copies = {name: clone(value, safe=False) for name, value in given.items()}
        if getattr(self.network, "initialized_", False):
            copies["network"] = self.network
        return type(self)(**copies)

    def __sklearn_is_fitted__(self) -> bool:
        """Tell scikit-learn whether the weights were read."""
        return hasattr(self, "weights_")

    def __sklearn_tags__(self) -> Tags:
        """Tell scikit-learn that X may be images, and that features are float32."""
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = []
        return tags

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Make the weights read-only again, as copies and pickles are writeable."""
        super().__setstate__(state)
        frozen(vars(self).get("weights_", []))


def _up_to_the_layer(spec: FeatureSpec, weights: list[np.ndarray]) -> list[np.ndarray]:
    """Choose those of a whole network's weights that its part up to a layer has, in its order."""
    whole, _ = network.build(replace(spec, layer=None, pooling="none"))
    place = {id(weight): number for number, weight in enumerate(whole.weights)}
    part = keras.Model(whole.input, layer_of(whole, str(spec.layer)).output)
    return [weights[place[id(weight)]] for weight in part.weights]
