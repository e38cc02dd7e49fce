"""Save and load a fitted estimator without pickle: one zip of weight arrays and JSON.

Loading runs no code from the file. The estimator's class must be known already: one of ours, or one
the user has imported.
"""

from __future__ import annotations

import io
import json
import os
import platform
import zipfile
from dataclasses import fields
from functools import partial
from importlib.metadata import version
from typing import Any

import keras
import numpy as np
from sklearn import model_selection

from kmedclf.divergence import check_weights
from kmedclf.files import written_beside
from kmedclf.network import Spec, python_random_kept

FORMAT = 1


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that a result depends on."""
    packages = ("kmedclf", "tensorflow", "keras", "scikit-learn", "numpy")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


def save(estimator: Any, path: str | os.PathLike[str]) -> None:
    """Write a fitted estimator to a file, beside it first and then in its place.

    Parameters
    ----------
    estimator : ImageClassifier, EnsembleClassifier or CalibratedClassifier
        The fitted estimator, with the estimators in it; callbacks are not saved.
    path : str or path-like
        The file.

    Raises
    ------
    TypeError
        If a parameter is no plain value, such as a RandomState.
    """
    arrays: list[np.ndarray] = []
    content = {"format": FORMAT, "versions": versions(), **_encode_estimator(estimator, arrays)}
    with written_beside(path) as beside, zipfile.ZipFile(beside, "w") as archive:
        archive.writestr("estimator.json", json.dumps(content, indent=1))
        for number, array in enumerate(arrays):
            buffer = io.BytesIO()
            np.save(buffer, array, allow_pickle=False)
            archive.writestr(f"{number}.npy", buffer.getvalue())


def load(path: str | os.PathLike[str]) -> Any:
    """Read what `save` wrote.

    Parameters
    ----------
    path : str or path-like
        The file.

    Returns
    -------
    ImageClassifier, EnsembleClassifier or CalibratedClassifier
        The fitted estimator, of the class that was saved.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is not a whole one of ours.
    ImportError
        If the estimator's class has not been imported.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            content = json.loads(archive.read("estimator.json"))
            read = [name for name in archive.namelist() if name.endswith(".npy")]
            arrays = {name: np.load(io.BytesIO(archive.read(name))) for name in read}
    except (zipfile.BadZipFile, KeyError, ValueError, EOFError) as error:
        raise ValueError(f"{path} is not a whole kmedclf model file ({error}).") from error
    if content.get("format") != FORMAT:
        raise ValueError(
            f"{path} must be a kmedclf model of format {FORMAT}. Got format "
            f"{content.get('format')} instead."
        )
    return _decode_estimator(content, arrays, path)


def _encode_estimator(estimator: Any, arrays: list[np.ndarray]) -> dict[str, Any]:
    state = {name: value for name, value in vars(estimator).items() if name != "callbacks"}
    _check_finite(estimator)
    encoded = {name: _encode(value, arrays, name) for name, value in state.items()}
    return {"class": _name(type(estimator)), "state": encoded}


def _decode_estimator(content: dict[str, Any], arrays: dict[str, np.ndarray], path: Any) -> Any:
    cls = _find(content["class"], path)
    estimator = object.__new__(cls)
    for name, value in content["state"].items():
        setattr(estimator, name, _decode(value, arrays, cls, path))
    _check_finite(estimator)
    return estimator


def _check_finite(estimator: Any) -> None:
    weights = vars(estimator).get("weights_")
    if isinstance(weights, list):  # of a network; those of an ensemble are shares
        arrays = [one for one in weights if isinstance(one, np.ndarray)]
        check_weights(arrays, type(estimator).__name__)


def _roots() -> tuple[type, ...]:
    """Give the classes whose subclasses, and no others, can be saved."""
    from kmedclf.base import ImageClassifier
    from kmedclf.calibration import CalibratedClassifier
    from kmedclf.ensemble import EnsembleClassifier

    return ImageClassifier, EnsembleClassifier, CalibratedClassifier


def _name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _find(name: str, path: str | os.PathLike[str]) -> type[Any]:
    import kmedclf.models  # noqa: F401  (makes our own classes known)

    known = list(_roots())
    for cls in known:
        known += cls.__subclasses__()
    for cls in reversed(known):  # the newest, should a module have been reloaded
        if _name(cls) == name:
            return cls
    module, _, cls_name = name.rpartition(".")
    raise ImportError(
        f"{path} holds a {cls_name}; import it first (from {module} import {cls_name})."
    )


def _encode(value: Any, arrays: list[np.ndarray], name: str) -> Any:
    """Turn a value into JSON, putting arrays aside."""
    if isinstance(value, np.ndarray):
        # Labels may be Python strings in an object array
        arrays.append(np.array(value.tolist()) if value.dtype == object else value)
        return {"array": len(arrays) - 1, "object": value.dtype == object}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Spec):
        plain = {field.name: getattr(value, field.name) for field in fields(Spec)}
        return {"spec": _encode({**plain, "estimator": None}, arrays, name)}
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
    if isinstance(value, _roots()):
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
        _decode_layer(text)  # will have to be possible
    except (TypeError, ValueError, NotImplementedError) as error:
        raise TypeError(
            f"The {name!r} of an estimator must hold layers of Keras, or such as are registered by "
            f"keras.saving.register_keras_serializable, to be saved. Got {layer!r} instead."
        ) from error
    return text


def _decode_layer(text: str) -> keras.layers.Layer:
    with python_random_kept():
        return keras.saving.deserialize_keras_object(json.loads(text), safe_mode=True)


def _splitters() -> dict[str, type]:
    """Give scikit-learn's splitters: they hold plain values only."""
    names = [name for name in model_selection.__all__ if name.endswith(("Fold", "Split", "Out"))]
    return {name: getattr(model_selection, name) for name in names}


def _decode(value: Any, arrays: dict[str, np.ndarray], cls: type, path: Any) -> Any:
    decode = partial(_decode, arrays=arrays, cls=cls, path=path)
    if isinstance(value, list):
        return [decode(item) for item in value]
    if not isinstance(value, dict):
        return value
    if "array" in value:
        array = arrays[f"{value['array']}.npy"]
        return array.astype(object) if value["object"] else array
    if "tuple" in value:
        return tuple(decode(value["tuple"]))
    if "layer" in value:
        return _decode_layer(value["layer"])
    if "spec" in value:
        return Spec(**{**decode(value["spec"]), "estimator": cls})
    if "estimator" in value:
        return _decode_estimator(value["estimator"], arrays, path)
    if "splitter" in value:
        kind = _splitters()[value["splitter"]]
        splitter: Any = object.__new__(kind)
        vars(splitter).update({key: decode(one) for key, one in value["state"].items()})
        return splitter
    return dict(decode(value["dict"]))
