"""Save and load a fitted estimator without pickle: one zip of weight arrays and JSON.

Loading runs no code from the file and sets only attributes that the estimator's class has. The
class must be one of kmedclf's, or one that the user has already imported.
"""

from __future__ import annotations

import kmedclf.utils.tensorflow_loaded  # noqa: F401

import functools
import importlib
import inspect
import json
import os
import platform
import re
import warnings
from dataclasses import fields
from importlib.metadata import version
from typing import Any

import keras
import numpy as np
from sklearn import model_selection
from sklearn.utils.validation import check_is_fitted

from kmedclf.persistence import fitted_state
from kmedclf.persistence.safe_keras import decode_layer
from kmedclf.training import network
from kmedclf.training.heads import HEADS
from kmedclf.training.network import Spec
from kmedclf.training.program import check_weights, frozen
from kmedclf.utils import annotated, archives

FORMAT = 1
CONTENT = "estimator.json"
_SMALL = ("classes_", "n_features_in_", "_seen")
"""What a build function is told about the data."""

DEPTH = 60
"""Maximum nesting depth of values; an ensemble of ensembles has about a dozen."""

HOMES = ("kmedclf.models", "kmedclf.build_function", "kmedclf.ensemble", "kmedclf.calibration",
         "kmedclf.auto")  # fmt: skip
"""Modules of the package's estimators, imported before the class of a file is looked up."""


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that a result depends on."""
    packages = ("kmedclf", "tensorflow", "keras", "scikit-learn", "numpy")
    return {"python": platform.python_version(), **{name: _version(name) for name in packages}}


# Reading a package's metadata takes milliseconds, and every remembered fit asks for all of them.
_version = functools.cache(version)


class SaveMixin:
    """What lets a fitted estimator write itself to a file."""

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save to a single file, without pickle; `kmedclf.load` reads it.

        The file is replaced only once it is complete. ``callbacks``, ``cache``, ``memory`` and
        every parameter that is a path are not saved; for ``weights``, only that there were some.

        Parameters
        ----------
        path : str or path-like
            File to write; by convention ``*.kmedclf``.

        Raises
        ------
        TypeError
            If a parameter cannot be represented in JSON, such as a RandomState, or a member is no
            estimator of kmedclf.
        ValueError
            If the weights are not finite, or the fitted attributes were changed so that `load`
            would refuse them.
        """
        check_is_fitted(self)
        arrays: list[np.ndarray] = []
        content = {"format": FORMAT, "versions": versions(), **_encode_estimator(self, arrays)}
        archives.write(path, CONTENT, content, arrays)


def load(path: str | os.PathLike[str], *, model: Any = None) -> Any:
    """Load an estimator from the file that its `save` wrote.

    The file may come from an untrusted source: nothing in it is executed, it can set only
    attributes of its class, it cannot refer to other files, and its weights are finite and match
    its network. Loading takes at most twice the memory of the arrays.

    Parameters
    ----------
    path : str or path-like
        The file.
    model : callable or keras.Model, optional
        The build function of a `kmedclf.KerasImageClassifier`, also of one in an ensemble. It is
        called with the parameters in the file: numbers, text, lists and dicts.

    Returns
    -------
    ImageClassifier, EnsembleClassifier or CalibratedClassifier
        The fitted estimator, of the class that was saved. ``callbacks``, ``cache``, ``memory`` and
        every parameter that is a path have their defaults. ``weights`` that came from a file or
        preset are "elsewhere": the model can predict and continue training, but needs the path
        again to be fitted from scratch.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is not a regular file, or not a complete file of kmedclf, or needs a ``model``. If
        the estimator's class has not been imported, the error is also an ImportError.

    Warns
    -----
    RuntimeWarning
        If ``model`` builds other layers than those that were saved.
    """
    with archives.reading(path, CONTENT, "kmedclf model file") as archive:
        content = archive.content
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            found = content.get("format") if isinstance(content, dict) else None
            raise archives.Refused(
                f"{path} must be a kmedclf model of format {FORMAT}. Got format {found!r:.40} "
                "instead."
            )
        if set(content) != {"format", "versions", "class", "state"}:
            raise ValueError("it has other parts than a model")
        estimator = _Decoder(archive, path, model).estimator(content, 0)
        archive.check_all_read()
    return estimator


def _encode_estimator(estimator: Any, arrays: list[np.ndarray]) -> dict[str, Any]:
    cls = type(estimator)
    if hasattr(estimator, "_spec"):
        check_weights(estimator.weights_, cls.__name__)
    with annotated.plain_parameters(estimator):
        try:
            fitted_state.check(estimator)
        except ValueError as error:
            raise ValueError(
                f"{cls.__name__} can only be saved as 'fit' leaves it ({str(error).rstrip('.')})."
            ) from error
        state = {
            name: fitted_state.portable(cls, name, value) for name, value in vars(estimator).items()
        }
        encoded = {
            name: _encode(value, arrays, name)
            for name, value in state.items()
            if value is not None or name not in fitted_state.local_parameters(cls)
        }
    return {"class": _name(cls), "state": encoded}


class _NotImported(archives.Refused, ImportError):
    """The class of an estimator has not been imported."""


def _name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _find(name: str, path: str | os.PathLike[str]) -> type[Any]:
    # Importing registers the package's own classes; a file never causes any other import.
    for module in HOMES:
        importlib.import_module(module)
    known = list(fitted_state.roots())
    for cls in known:
        known += cls.__subclasses__()
    # Newest first, in case a module was reloaded.
    for cls in reversed(known):
        if _name(cls) == name:
            return cls
    if not isinstance(name, str) or not re.fullmatch(r"[\w.<>]{1,200}", name) or "." not in name:
        raise ValueError("it names no class")
    module, _, cls_name = name.rpartition(".")
    raise _NotImported(
        f"{path} holds a {cls_name}; import it first (from {module} import {cls_name})."
    )


def _encode(value: Any, arrays: list[np.ndarray], name: str) -> Any:
    """Convert a value to JSON; append its arrays to ``arrays``."""
    if isinstance(value, np.ndarray):
        # Labels may be Python strings in an object array.
        arrays.append(np.array(value.tolist()) if value.dtype == object else value)
        return {"array": len(arrays) - 1, "object": value.dtype == object}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Spec):
        return {"spec": _encode(fitted_state.portable_spec(value), arrays, name)}
    if isinstance(value, list):
        return [_encode(item, arrays, name) for item in value]
    if isinstance(value, tuple):
        return {"tuple": _encode(list(value), arrays, name)}
    if isinstance(value, dict):
        return {"dict": [[_encode(part, arrays, name) for part in item] for item in value.items()]}
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, keras.layers.Layer):
        return {"layer": _encode_layer(value, name)}
    if isinstance(value, fitted_state.roots()):
        return {"estimator": _encode_estimator(value, arrays)}
    if type(value) in _splitters().values():
        state = {key: _encode(one, arrays, name) for key, one in vars(value).items()}
        return {"splitter": type(value).__name__, "state": state}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(
        f"The {name!r} of an estimator must be a plain value to be saved. Got {value!r} instead."
    )


def _encode_layer(layer: keras.layers.Layer, name: str) -> str:
    try:
        text = json.dumps(keras.saving.serialize_keras_object(layer))
        # Fail now, not in load.
        decode_layer(text)
    except (TypeError, ValueError, NotImplementedError) as error:
        raise TypeError(
            f"The {name!r} of an estimator must hold layers of Keras, or layers registered with "
            f"keras.saving.register_keras_serializable, to be saved. Got {layer!r} instead."
        ) from error
    return text


def _splitters() -> dict[str, type]:
    """Return scikit-learn's splitters by name; their attributes are plain values."""
    names = [name for name in model_selection.__all__ if name.endswith(("Fold", "Split", "Out"))]
    return {name: getattr(model_selection, name) for name in names}


class _Decoder:
    """Builds estimators from an open archive; ``path`` is for messages.

    ``model`` is the user's build function, for the estimators that need one.
    """

    def __init__(self, archive: archives.Archive, path: Any, model: Any = None) -> None:
        self._archive, self._path, self._model = archive, path, model

    def estimator(self, content: Any, depth: int) -> Any:
        """Build an estimator with its constructor, then set and check its fitted attributes."""
        if not isinstance(content, dict) or not {"class", "state"} <= set(content):
            raise ValueError("an estimator in it has no class or no state")
        cls, state = _find(content["class"], self._path), content["state"]
        if not isinstance(state, dict):
            raise ValueError("the state of an estimator in it has no names")
        parameters, learnt = fitted_state.check_names(cls, list(state))
        # Check shapes first: the file must not make us allocate more than its network needs.
        free = getattr(cls, "takes_any_parameter", False)
        if "_spec" in learnt and not free:
            self._check_shapes(cls, state, self.value(state["_spec"], cls, 0))
        local = fitted_state.local_parameters(cls)
        values = {
            name: fitted_state.portable(cls, name, self.value(state[name], cls, depth + 1))
            for name in parameters
        }
        # A local parameter of None means that it was not saved: use the default.
        estimator = cls(
            **{name: one for name, one in values.items() if one is not None or name not in local}
        )
        if free:
            self._give_model(estimator, state, depth)
            learnt = [name for name in learnt if name not in ("_spec", *_SMALL)]
        for name in learnt:
            setattr(estimator, name, self.value(state[name], cls, depth + 1))
        fitted_state.check(estimator)
        # As after fit, weights are read-only.
        if hasattr(estimator, "_spec"):
            frozen(estimator.weights_)
        return estimator

    def _give_model(self, estimator: Any, state: dict[str, Any], depth: int) -> None:
        """Give the user's build function to an estimator, and call it for the network."""
        name = type(estimator).__name__
        if self._model is None:
            raise archives.Refused(
                f"{self._path} holds a {name}, whose build function no file can hold; give it, as "
                "in load(path, model=build)."
            )
        estimator.model = self._model
        for small in _SMALL:
            setattr(estimator, small, self.value(state.get(small), type(estimator), depth + 1))
            if not fitted_state.kinds(type(estimator))[small](getattr(estimator, small)):
                raise ValueError(f"the {small} of {name} must be of the kind that fit gives it")
        saved = self.value(state.get("_spec"), type(estimator), 0)
        if not isinstance(saved, Spec):
            raise ValueError(f"the {name} in it has no network")
        fitted_state.check_spec(saved, type(estimator))
        estimator._spec = estimator._spec_of(saved.image_shape, HEADS[saved.head])
        self._check_shapes(type(estimator), state, estimator._spec)
        if saved.architecture[0][1] != estimator._spec.architecture[0][1].digest:
            warnings.warn(
                f"{self._path} holds the weights of a {name} with other layers than its 'model' "
                "builds now, or than this version of Keras describes in the same words; the shapes "
                "of the weights agree.",
                RuntimeWarning,
                stacklevel=4,
            )

    def _check_shapes(self, cls: type[Any], state: dict[str, Any], spec: Any) -> None:
        """Compare the weights' shapes with the network's before any weight is read."""
        listed = state.get("weights_")
        if not isinstance(spec, Spec) or not isinstance(listed, list):
            raise ValueError(f"the {cls.__name__} in it has no network or no weights")
        fitted_state.check_spec(spec, cls)
        entries = [self._archive.entry(one["array"]) for one in listed]
        found = [(one.shape, one.dtype) for one in entries]
        fitted_state.check_shapes(cls, network.shapes(spec, [one.shape for one in entries]), found)

    def value(self, value: Any, cls: type, depth: int) -> Any:
        """Convert JSON back to a value."""
        if depth > DEPTH:
            raise ValueError("it is nested too deeply")
        if isinstance(value, list):
            return [self.value(item, cls, depth + 1) for item in value]
        if not isinstance(value, dict):
            return value
        match value:
            case {"array": number, "object": bool(as_object), **rest} if not rest:
                return self._array(number, as_object)
            case {"tuple": list(items), **rest} if not rest:
                return tuple(self.value(items, cls, depth + 1))
            case {"dict": list(items), **rest} if not rest:
                return dict(self.value(items, cls, depth + 1))
            case {"layer": text, **rest} if not rest:
                return decode_layer(text)
            case {"spec": described, **rest} if not rest:
                return self._spec(self.value(described, cls, depth + 1), cls)
            case {"estimator": content, **rest} if not rest:
                return self.estimator(content, depth + 1)
            case {"splitter": str(name), "state": dict(state), **rest} if not rest:
                return self._splitter(name, self.value({"dict": list(map(list, state.items()))},
                                                       cls, depth + 1))  # fmt: skip
        raise ValueError("it holds a value of no known kind")

    def _array(self, number: Any, as_object: bool) -> np.ndarray:
        if not as_object:
            return self._archive.array(number)
        # Look at the entry only: conversion to Python strings multiplies the memory.
        entry = self._archive.entry(number)
        if len(entry.shape) != 1 or entry.shape[0] > fitted_state.MOST_TEXTS:
            raise ValueError("an array of Python's texts in it is too large")
        return self._archive.array(number).astype(object)

    def _spec(self, described: Any, cls: type) -> Spec:
        if not isinstance(described, dict) or not set(described) <= {f.name for f in fields(Spec)}:
            raise ValueError("the network in it is not described as it must be")
        spec = Spec(**{**described, "estimator": cls})
        # Checked before `portable_spec`, which unpacks the pairs.
        pairs = spec.architecture, spec.options
        if not all(isinstance(one, tuple) and all(map(_is_pair, one)) for one in pairs):
            raise ValueError("the network in it is not described as it must be")
        return Spec(**{**fitted_state.portable_spec(spec), "estimator": cls})

    @staticmethod
    def _splitter(name: str, state: dict[str, Any]) -> Any:
        cls = _splitters()[name]
        wanted = set(inspect.signature(cls).parameters)
        splitter = cls(**{key: one for key, one in state.items() if key in wanted})
        if not set(state) <= set(vars(splitter)):
            raise ValueError(f"a {name} in it has more than it should")
        return splitter


def _is_pair(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str)
