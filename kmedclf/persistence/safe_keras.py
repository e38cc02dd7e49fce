"""Untrusted files of Keras: layers of known modules, and arrays that are in the file itself.

Keras' safe mode blocks code in the file. But some layers read other files or run code from
elsewhere, and a configuration can allocate gigabytes; this module refuses both first. HDF5 can
store a dataset in any other file of the machine, and link to it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from kmedclf.training import network
from kmedclf.utils import random_state
from kmedclf.utils.archives import check_regular

MODULES = (
    "keras.layers", "keras.initializers", "keras.regularizers", "keras.constraints",
    "keras.dtype_policies", "keras.random",
)  # fmt: skip
"""Modules of Keras whose classes a file may name."""

TOP_LEVEL = {"keras": {"DTypePolicy", "Sequential"}}

MODELS = {
    "keras": {"DTypePolicy", "Functional", "Model", "Sequential"},
    "keras.models": {"Functional", "Model", "Sequential"},
    "keras.src.models.functional": {"Functional"},
    "keras.src.models.sequential": {"Sequential"},
}
"""Additional classes that a file of a whole model may name, besides operations."""

REFUSED = {
    "FlaxLayer", "IntegerLookup", "JaxLayer", "Lambda", "StringLookup", "TFSMLayer",
    "TextVectorization", "TorchModuleWrapper",
}  # fmt: skip
"""Layers that run code, or read files named in their configuration."""

LARGEST_LAYER = 2**20
"""Maximum number of values in the variables of augmentation layers."""

MAX_NAMES = 20_000
"""Maximum length of a list of layers or weights, and maximum number of objects in a file."""

MAX_TEXT = 2**22
"""Maximum size of such a list in bytes."""

_DEPTH = 60
_GROUPS_DEEP = 30
_PLAIN = {"__bytes__", "__ellipsis__", "__numpy__", "__slice__", "__tensor__"}
_NUMBERS = re.compile(r"(bool|bfloat16|(float|int|uint)\d{1,2})")
_BUILDS = ("build_config", "build_input_shape", "compile_config")


def decode_layer(text: Any) -> keras.layers.Layer:
    """Build a layer from JSON, if its class is in an allowed module or registered by the user."""
    config = _unbuilt(json.loads(text))
    check(config, TOP_LEVEL)
    with random_state.python_random_kept():
        # Build a first time without allocating, to count the values.
        with network.without_values(1000, LARGEST_LAYER):
            _deserialized(config)
        layer = _deserialized(config)
    if not isinstance(layer, keras.layers.Layer):
        raise ValueError(f"a {type(layer).__name__} is no layer")
    return layer


def _deserialized(config: Any) -> Any:
    return keras.saving.deserialize_keras_object(config, safe_mode=True)


def check_model(config: Any, variables: int, elements: int) -> None:
    """Refuse the configuration of a model that is not allowed, or too large for its weights.

    ``variables`` and ``elements`` are the numbers of variables and of values in the file.
    """
    check(config, MODELS)
    # Allow for the states of seed generators, which the file may not contain.
    room = 2 * variables + 16, elements + 4 * variables + 64
    with random_state.python_random_kept(), network.without_values(*room):
        if not isinstance(_deserialized({**config, "compile_config": None}), keras.layers.Layer):
            raise ValueError("it describes no model")


def check(config: Any, more: dict[str, set[str]], depth: int = 0) -> None:
    """Refuse classes, functions and types that a configuration must not name, at any depth."""
    if depth > _DEPTH:
        raise ValueError("a layer in it is nested too deeply")
    if isinstance(config, dict):
        if "class_name" in config:
            _check_class(config, more)
        for value in config.values():
            check(value, more, depth + 1)
    elif isinstance(config, list):
        for value in config:
            check(value, more, depth + 1)


def _check_class(config: dict[str, Any], more: dict[str, set[str]]) -> None:
    name, module = config["class_name"], config.get("module")
    registered = config.get("registered_name")
    if not isinstance(name, str) or not isinstance(registered, str | None):
        raise ValueError("the name of a class in it is no text")
    if name in _PLAIN:
        inner = config.get("config")
        if isinstance(inner, dict) and "dtype" in inner:
            if not _NUMBERS.fullmatch(str(inner["dtype"])):
                raise ValueError(f"a layer in it holds an array of {inner['dtype']!r:.40}")
        return
    if name == "__keras_tensor__" and more is MODELS:
        return
    if name == "function":
        known = isinstance(config.get("config"), str) and (
            config["config"] in dir(keras.activations) or _registered(config["config"])
        )
    elif registered is not None and _registered(registered) is not None:
        known = isinstance(_registered(registered), type)
    else:
        known = _is_known(module, name, more)
    if not known or name in REFUSED:
        raise ValueError(f"it names {module!s:.60}.{name:.60}, which files must not name")


def _registered(name: str) -> Any:
    return keras.saving.get_registered_object(name)


def _is_known(module: Any, name: str, more: dict[str, set[str]]) -> bool:
    if not isinstance(module, str):
        return False
    if name in more.get(module, ()):
        return True
    if more is MODELS and re.fullmatch(r"keras(_hub)?\.src\.(ops|models)(\.\w+)*", module):
        return True  # Keras deserializes only savable classes from there
    if module not in MODULES:
        return False
    return isinstance(getattr(getattr(keras, module.removeprefix("keras.")), name, None), type)


def _unbuilt(config: Any, depth: int = 0) -> Any:
    """Remove the shapes a layer was built for; it is built again for the images it gets."""
    if depth > _DEPTH:
        raise ValueError("a layer in it is nested too deeply")
    if isinstance(config, dict):
        return {k: _unbuilt(v, depth + 1) for k, v in config.items() if k not in _BUILDS}
    return [_unbuilt(one, depth + 1) for one in config] if isinstance(config, list) else config


@dataclass(frozen=True)
class SafeGroup:
    """A group of an untrusted file: it reads only what the file itself stores."""

    inner: Any

    @classmethod
    @contextmanager
    def opened(cls, file: Any) -> Iterator[SafeGroup]:
        """Open an HDF5 file, given as a path or a file object, for reading."""
        import h5py

        if isinstance(file, str):
            check_regular(file, "HDF5 file")
        try:
            with h5py.File(file, "r") as found:
                yield cls(found)
        except (OSError, RuntimeError) as error:
            raise ValueError(f"not a whole HDF5 file ({error})") from error

    def group(self, name: str) -> SafeGroup:
        """Return a group that is stored in the file."""
        import h5py

        found = _member(self.inner, name)
        if not isinstance(found, h5py.Group):
            raise ValueError(f"{name!r:.60} is no group in it")
        return SafeGroup(found)

    def dataset(self, name: str) -> Any:
        """Return a numeric dataset that is stored in the file."""
        import h5py

        found = _member(self.inner, name)
        if not isinstance(found, h5py.Dataset):
            raise ValueError(f"{name!r:.60} is no array in it")
        _check_array(found, name)
        return found

    def texts(self, name: str) -> list[str]:
        """Read a list of names, which Keras stores as an attribute."""
        # Check the declared size before h5py allocates it.
        identity = self.inner.attrs.get_id(name)
        size = math.prod(identity.shape)
        if len(identity.shape) != 1 or size > MAX_NAMES or identity.dtype.kind not in "SO":
            raise ValueError(f"its {name} are no names")
        if identity.get_storage_size() > MAX_TEXT or size * identity.dtype.itemsize > MAX_TEXT:
            raise ValueError(f"its {name} are too many")
        found = np.ravel(self.inner.attrs[name]).tolist()
        return [one.decode() if isinstance(one, bytes) else str(one) for one in found]

    def sizes(self) -> tuple[int, int]:
        """Count all arrays and numbers of a file.

        Refuses links, external data, and datasets that would be larger in memory than in the file.
        """
        import h5py

        arrays = elements = objects = 0
        stack = [(self.inner, 0)]
        while stack:
            parent, depth = stack.pop()
            for name in parent:
                objects += 1
                if objects > MAX_NAMES or depth > _GROUPS_DEEP:
                    raise ValueError("it has too many parts")
                one = _member(parent, name)
                if isinstance(one, h5py.Group):
                    stack.append((one, depth + 1))
                elif one.dtype.kind in "biuf":
                    _check_array(one, name)
                    # Compressed or unallocated data could expand to any size.
                    if one.size * one.dtype.itemsize > one.id.get_storage_size():
                        raise ValueError(f"{name!r:.60} takes more room than it has in the file")
                    arrays, elements = arrays + 1, elements + one.size
        return arrays, elements


def _member(parent: Any, name: str) -> Any:
    """Follow a path component by component, along hard links only."""
    import h5py

    for part in name.split("/"):
        if part in ("", ".", ".."):
            raise ValueError(f"{name!r:.60} is no name in it")
        # Do not resolve the link before its type is known.
        link = parent.get(part, getlink=True) if isinstance(parent, h5py.Group) else None
        if link is None:
            raise ValueError(f"{name!r:.60} is not in it")
        if not isinstance(link, h5py.HardLink):
            raise ValueError(f"{name!r:.60} is a link in it, maybe to another file")
        parent = parent[part]
    return parent


def _check_array(found: Any, name: str) -> None:
    if found.external or found.is_virtual:
        raise ValueError(f"{name!r:.60} lies in another file")
    if found.dtype.kind not in "biuf" or found.dtype.itemsize > 16 or found.shape is None:
        raise ValueError(f"{name!r:.60} holds no numbers")
