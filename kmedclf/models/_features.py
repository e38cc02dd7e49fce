"""Features of a network that is not trained: computed once an image, and kept in a folder."""

from __future__ import annotations

import functools
import hashlib
import itertools
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import keras
import numpy as np

from kmedclf import persistence
from kmedclf.augmentation import test_time
from kmedclf.inputs.file_array import DiskStore, Store, digests, n_bytes, no_store
from kmedclf.inputs.images import Images, Rows
from kmedclf.persistence import fitted_state
from kmedclf.training import devices, network
from kmedclf.training.batches import inference_batch_size
from kmedclf.training.program import CompiledNetwork
from kmedclf.utils import arithmetic, user_code
from kmedclf.utils.own_folder import FEATURES
from kmedclf.utils.text import suggest

AT_ONCE = 1024
"""Images whose features are computed, looked up and stored together."""


def untrained(architecture: tuple[tuple[str, Any], ...]) -> tuple[tuple[str, Any], ...]:
    """Set the parameters that only affect training, so that networks that compute alike agree."""
    without = {"trainable": "head", "dropout": 0.0}
    return tuple((name, without.get(name, value)) for name, value in architecture)


@dataclass(frozen=True)
class FeatureSpec(network.Spec):
    """A network that ends at one of its layers."""

    layer: str | None = None  # None is the last one before the head
    pooling: str = "avg"
    size: tuple[int, int] | None = None  # to which images are resized

    @classmethod
    def below(cls, spec: network.Spec) -> FeatureSpec:
        """Describe what is below the head of a network, frozen."""
        # No head and no training: an optimizer without variables, which is never used.
        return spec.turned_into(
            cls,
            architecture=untrained(spec.architecture),
            n_classes=1,
            optimizer="sgd",
            jit_compile=False,
            options=(),
            head="softmax",
        )

    def outputs(self, estimator: Any, x: Any) -> Any:
        """Map images (b, h, w, c) to features (b, d), float32."""
        images = keras.utils.get_source_inputs(x)
        if self.size is not None:
            shrinks = x.shape[1] > self.size[0] or x.shape[2] > self.size[1]
            x = keras.layers.Resizing(*self.size, antialias=shrinks, dtype="float32")(x)
        end = estimator.features(x)
        x = end if self.layer is None else layer_of(keras.Model(images, end), self.layer).output
        return keras.layers.Activation("linear", dtype="float32")(self._pooled(x))

    def _pooled(self, x: Any) -> Any:
        if self.pooling != "avg":
            x = _before_pooling(x)
        if len(x.shape) <= 2 or self.pooling == "none":
            return x if len(x.shape) == 2 else keras.layers.Flatten()(x)
        over = keras.ops.mean if self.pooling == "avg" else keras.ops.max
        return over(x, axis=tuple(range(1, len(x.shape) - 1)))


def _before_pooling(x: Any) -> Any:
    """Walk back from pooled features to the tensor that was pooled."""
    kinds = keras.layers.Dropout, keras.layers.Flatten, keras.layers.GlobalAveragePooling2D
    operation = x._keras_history.operation
    while isinstance(operation, (*kinds, keras.layers.GlobalMaxPooling2D)):
        x = operation.input
        operation = x._keras_history.operation
    return x


def layer_of(model: keras.Model, name: str) -> keras.layers.Layer:
    """Find a layer by its name, unless Keras made that up."""

    # Keras numbers layers without a name anew in every network that it builds.
    def numbered(layer: keras.layers.Layer) -> bool:
        plain = layer.name.rstrip("0123456789").replace("_", "")
        return plain == type(layer).__name__.lower()

    known = [layer.name for layer in model.layers if not numbered(layer)]
    if name not in known:
        raise ValueError(
            "The 'layer' parameter of ImageFeatures must be None, or the name of a layer of the "
            f"network. Got {name!r} instead{suggest(name, known)}"
        )
    return model.get_layer(name)


class FeatureStore(DiskStore):
    """Features by the content of their images, each a file in a folder of the package's own."""

    name = FEATURES
    mark = b"kmedclf-feats-v1"
    kind = "f"

    @classmethod
    def of(cls, place: Any, limit: Any, name: str) -> Store:
        """Return the store that class ``name`` has by its parameters `memory`, `memory_limit`."""
        location = place.location if isinstance(place, joblib.Memory) else place
        if location is None:  # a joblib.Memory without a location keeps nothing either
            return no_store
        store = _store_in(Path(location).expanduser().absolute())
        store.limit = sys.maxsize if limit is None else n_bytes(limit, "memory_limit", name)
        return store


_store_in = functools.cache(FeatureStore)
_passes = itertools.count(1)


@dataclass
class FeaturePass:
    """One pass over images: computes features, or finds them in the store."""

    program: CompiledNetwork  # of a `FeatureSpec`, with its weights loaded
    images: Images
    views: tuple[str, ...] = ()  # from `test_time.resolve`
    store: Store = no_store
    batch_size: int | None = None

    def __post_init__(self) -> None:
        self._all, self._number = Rows.of(self.images), next(_passes)
        self._key = b"" if self.store is no_store else self._hashed()

    def features(self, index: np.ndarray) -> np.ndarray:
        """Return the features of the images at the given indices, (m,) -> (m, views, d)."""
        several = np.array_split(index, -(-len(index) // AT_ONCE) or 1)
        return np.concatenate([self._few(some) for some in several])

    def _few(self, index: np.ndarray) -> np.ndarray:
        if self.store is no_store:
            return self._computed(index)
        keys = [self._name(digest) for digest in self._digests(index)]
        found = [self.store.get(key, self._number) for key in keys]
        shape = test_time.count(self.views), self.program.model.output.shape[-1]
        missing = [i for i, one in enumerate(found) if one is None or one.shape != shape]
        if missing:
            for i, row in zip(missing, self._computed(index[missing]), strict=True):
                self.store.put(keys[i], row, self._number)
                found[i] = row
        return np.stack(found)  # type: ignore[arg-type]

    def _computed(self, index: np.ndarray) -> np.ndarray:
        size = self.batch_size or inference_batch_size(self.images.shape)
        values = self.program.logits(self._all.take(index), self.views, size)
        return values if values.ndim == 3 else values[:, None]

    def _digests(self, index: np.ndarray) -> np.ndarray:
        known = self.images.digests(index)
        if known is not None:
            return known
        # A memory map: few images at a time.
        parts = (index[at : at + 16] for at in range(0, len(index), 16))
        return np.concatenate([digests(self.images.rows(part)) for part in parts])

    def _name(self, digest: Any) -> bytes:
        return hashlib.blake2b(self._key + digest.tobytes(), digest_size=16).digest()

    def _hashed(self) -> bytes:
        """Hash everything that the features of an image depend on, but for the image."""
        spec: Any = self.program.spec
        parts = (
            f"{spec.estimator.__module__}.{spec.estimator.__qualname__}",
            fitted_state.portable_spec(spec),
            (spec.layer, spec.pooling, spec.size),
            self.program.weights(),
            self.views,
            str(self.images.dtype or self.images.array.dtype),
            user_code.described(spec.estimator, spec.architecture),
            bool(devices.gpus()),
            arithmetic.setting(),
            persistence.versions(),
        )
        return joblib.hash(parts).encode()
