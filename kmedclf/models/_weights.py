"""Pretrained weights: published files, presets of keras-hub, the user's own files and models."""

from __future__ import annotations

import functools
import hashlib
import math
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kmedclf.persistence import fitted_state
from kmedclf.persistence.safe_keras import SafeGroup, check_model
from kmedclf.utils import archives
from kmedclf.utils.download import download

SUFFIXES = (".kmedclf", ".safetensors", ".keras", ".h5")


MOST_POSITIONS = 2**22
"""Maximum size of position embeddings before resampling: a grid of 74 × 74."""


@dataclass(frozen=True)
class Published:
    """A published file of ImageNet weights."""

    name: str  # file name in the cache
    url: str  # "" if nobody offers the file: `how` says what makes it
    md5: str | None = None
    how: str = ""


@dataclass(frozen=True)
class Variable:
    """A variable to load: path in the network, shape, and grid of patches if it has positions."""

    path: str
    shape: tuple[int, ...]
    grid: tuple[int, int] | None = None
    torch_names: tuple[str, ...] = ()  # its layer's in PyTorch's files, if not its own


def cache_folder() -> Path:
    """Return the folder of published files, which is Keras' own; it is not created."""
    return Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser() / "models"


def find(weights: str, published: Published | None, owner: str) -> str:
    """Resolve a ``weights`` parameter to a path or the name of a preset; download if needed.

    ``published`` is the file that "imagenet" stands for. If a download fails, the message says
    which file to put where.
    """
    if weights == "imagenet":
        if published is None:
            raise ValueError(
                f"The 'weights' parameter of {owner} must be the path of a file for a network of "
                "these parameters: no ImageNet weights are published for it. Got 'imagenet' "
                "instead."
            )
        return str(_fetched(published, owner))
    path = Path(weights).expanduser()
    if path.is_file() or path.is_dir():
        return str(path)
    if path.exists():
        raise ValueError(
            f"The 'weights' parameter of {owner} must be None, 'imagenet', the name of a preset, "
            f"or the path of a file or a preset. Got {weights!r}, a device or pipe, instead."
        )
    if path.suffix in SUFFIXES or len(path.parts) > 1:
        raise FileNotFoundError(
            f"The 'weights' parameter of {owner} must be None, 'imagenet', the name of a preset, "
            f"or the path of a file or a preset. Got {weights!r}, which does not exist, instead."
        )
    return weights


def _fetched(published: Published, owner: str) -> Path:
    target = cache_folder() / published.name
    if not target.is_file():
        mirror = os.environ.get("KMEDCLF_MIRROR")
        if not mirror and not published.url:
            raise FileNotFoundError(
                f"The ImageNet weights of {owner}, {published.name}, are not in {target.parent}, "
                f"and nobody offers them as a file without pickle; {published.how}, and put them "
                "there under that name."
            )
        address = f"{mirror.rstrip('/')}/{published.name}" if mirror else published.url
        check = f", check that its md5 is {published.md5}" if published.md5 else ""
        how = published.how or f"get them from {published.url}"
        try:
            download(address, target, published.md5)
        except (OSError, ValueError) as error:
            raise FileNotFoundError(
                f"The ImageNet weights of {owner}, {published.name}, are not in {target.parent} "
                f"and could not be downloaded ({type(error).__name__} from {address}); "
                f"{how}{check}, and put them there under that name."
            ) from error
    return target


def identity(found: str) -> str:
    """Return an identifier of the weights: the content's hash, or the preset's name."""
    path = Path(found)
    if path.is_dir():
        path = path / "model.weights.h5"
    if not path.is_file():
        return found
    # Size and time are part of the cache key, so that a changed file is hashed again.
    stat = path.stat()
    return _sha256(str(path), stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=64)
def _sha256(path: str, size: int, mtime: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@functools.lru_cache(maxsize=2)
def read(
    found: str, content: str, variables: tuple[Variable, ...], owner: str
) -> dict[str, np.ndarray]:
    """Read the values of variables, given in the order of the network's layers, by path.

    ``content`` is the `identity` of the file; it is part of the key of this cache.
    """
    suffix = Path(found).suffix if Path(found).is_file() else ""
    if suffix not in ("", *SUFFIXES):
        raise ValueError(
            f"The 'weights' parameter of {owner} must be a file of one of the kinds "
            f"{', '.join(SUFFIXES)}. Got {found!r} instead."
        )
    try:
        if suffix == ".safetensors":
            values = _from_torch(found, variables)
        elif suffix == ".kmedclf":
            values = _from_kmedclf(found, variables)
        else:
            reader = {".h5": _from_h5, ".keras": _from_keras, "": _from_preset}[suffix]
            values = reader(found, variables)
        for one in variables:
            if one.path not in values:
                raise _Other(f"which lacks {one.path}")
        return {one.path: _shaped(values[one.path], one) for one in variables}
    except _Other as error:
        raise _not_of_this_network(owner, found, str(error)) from error
    except (ImportError, MemoryError):
        raise
    # The file is untrusted: libraries raise errors of many types.
    except Exception as error:
        # Errors that name the file are ours, and have a full message.
        if isinstance(error, ValueError) and found in str(error):
            raise
        what = " ".join(str(error).split())[:300].rstrip(".")
        raise ValueError(
            f"The 'weights' parameter of {owner} must be a file to take weights from: {found} is "
            f"not a whole {suffix or 'preset'} file ({what})."
        ) from error


class _Other(ValueError):
    """The weights belong to another network."""


def _not_of_this_network(owner: str, found: str, what: str) -> ValueError:
    return ValueError(
        f"The 'weights' parameter of {owner} must hold the weights of the network that the other "
        f"parameters describe. Got {found}, {what}."
    )


def _shaped(given: np.ndarray, variable: Variable) -> np.ndarray:
    """Reshape a value to a variable's shape; resample the positions of patches."""
    _check_size(given.shape, variable)
    value: np.ndarray = np.asarray(given, dtype=np.float32)
    if not fitted_state.is_finite(value):
        raise _Other(f"where {variable.path} is not finite")
    if variable.grid is not None and value.size != np.prod(variable.shape):
        value = value.reshape(1, -1, value.shape[-1])  # (1, 1 + side², d)
        side = int((value.shape[1] - 1) ** 0.5)
        patches: Any = value[:, 1 : 1 + side**2].reshape(1, side, side, -1)
        patches = keras.ops.image.resize(patches, variable.grid, interpolation="bicubic")
        patches = np.asarray(patches).reshape(1, -1, value.shape[-1])
        value = np.concatenate([value[:, :1], patches], axis=1)
    if value.squeeze().shape != tuple(n for n in variable.shape if n != 1):
        raise _wrong_shape(value.shape, variable)
    return value.reshape(variable.shape)


def _check_size(shape: tuple[int, ...], variable: Variable) -> None:
    """Refuse a value of the wrong size before it is read."""
    size, most = math.prod(shape), math.prod(variable.shape)
    if variable.grid is not None and size != most:  # positions will be resampled
        most = max(most, MOST_POSITIONS)
        if len(shape) < 2 or shape[-1] != variable.shape[-1] or size > most or not size:
            raise _wrong_shape(shape, variable)
    elif size != most:
        raise _wrong_shape(shape, variable)


def _wrong_shape(shape: tuple[int, ...], variable: Variable) -> _Other:
    return _Other(f"where {variable.path} has the shape {tuple(shape)} and not {variable.shape}")


class _Tensors:
    """Tensors of a safetensors file, read lazily."""

    def __init__(self, file: Any) -> None:
        self._file, self._names = file, set(file.keys())

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._names:
            raise _Other(f"which lacks {name}")
        return np.asarray(self._file.get_tensor(name))


def _from_torch(found: str, variables: tuple[Variable, ...]) -> dict[str, np.ndarray]:
    """Read weights with the names and layouts of torchvision and timm."""
    from safetensors import SafetensorError, safe_open

    with archives.open_regular(found, "safetensors file") as (file, size):
        # Check the size of the JSON header before safetensors parses it.
        header = int.from_bytes(file.read(8), "little")
        if header > min(size - 8, archives.MAX_JSON):
            raise ValueError(f"{found} is not a whole safetensors file (its header is too long).")
        file.most = archives.MAX_JSON
        archives.parse(file.read(header))
    try:
        with safe_open(found, "numpy") as opened:
            tensors = _Tensors(opened)
            return {one.path: _torch_value(tensors, one) for one in variables}
    except SafetensorError as error:
        raise ValueError(f"{found} is not a whole safetensors file ({error}).") from error


def _torch_value(tensors: _Tensors, variable: Variable) -> np.ndarray:
    layer, _, kind = variable.path.rpartition("/")
    if layer == "tokens":
        return tensors[kind]
    names = {"kernel": "weight", "gamma": "weight", "moving_mean": "running_mean",
             "beta": "bias", "bias": "bias", "moving_variance": "running_var"}  # fmt: skip
    block, _, part = layer.rpartition("/")
    # timm stores query, key and value in one matrix.
    if part in ("query", "key", "value"):
        whole = tensors[f"{block}.qkv.{names[kind]}"]
        value = np.split(whole, 3)[("query", "key", "value").index(part)]
    elif part == "attention_output":
        value = tensors[f"{block}.proj.{names[kind]}"]
    else:
        known = variable.torch_names or (layer,)
        found = [name for name in known if f"{name}.{names[kind]}" in tensors]
        value = tensors[f"{(found or known)[0]}.{names[kind]}"]
    if value.ndim == 4:
        return value.transpose(2, 3, 1, 0)  # (out, in, h, w) to (h, w, in, out)
    value = value.T
    return value.reshape(variable.shape) if value.size == np.prod(variable.shape) else value


def _from_kmedclf(found: str, variables: tuple[Variable, ...]) -> dict[str, np.ndarray]:
    from kmedclf.persistence import load

    return {one.path: np.asarray(one) for one in load(found).network_.variables}


def _from_h5(found: str, variables: tuple[Variable, ...]) -> dict[str, np.ndarray]:
    """Read a weights file of keras.applications, layer by layer in the network's order."""
    with SafeGroup.opened(found) as file:
        group = file.group("model_weights") if "model_weights" in file.inner else file
        if "layer_names" not in group.inner.attrs:
            raise ValueError(
                f"{found} must be a weights file as of keras.applications, with its layers' "
                "names. Got one without them; save the whole model as a .keras file instead."
            )
        names = (
            (layer, weight)
            for layer in group.texts("layer_names")
            if not layer.startswith("normalization")  # the network normalises pixels itself
            for weight in group.group(layer).texts("weight_names")
        )
        values = {}
        for variable, (layer, weight) in zip(variables, names, strict=False):
            dataset = group.group(layer).dataset(weight)
            _check_size(dataset.shape, variable)
            values[variable.path] = np.asarray(dataset)
        return values


def _from_keras(found: str, variables: tuple[Variable, ...]) -> dict[str, np.ndarray]:
    """Read a Keras file, after checking its configuration and weights."""
    archives.check_regular(found, "Keras file")
    with zipfile.ZipFile(found) as archive:
        infos = {one.filename: one for one in archive.infolist()}
        known = {"metadata.json", "config.json", "model.weights.h5"}
        if not {"config.json", "model.weights.h5"} <= set(infos) <= known:
            raise ValueError(f"{found} must hold a configuration and weights, and nothing else.")
        for one in archive.infolist():
            # Keras stores without compression; a compressed entry could expand to any size.
            if one.compress_type != zipfile.ZIP_STORED or one.file_size > os.path.getsize(found):
                raise ValueError(f"{found} must be as Keras writes it, not compressed.")
            if one.filename != "model.weights.h5" and one.file_size > archives.MAX_JSON:
                raise ValueError(f"The {one.filename} in {found} is too large.")
        if len(archive.infolist()) != len(infos):
            raise ValueError(f"{found} must hold each file once.")
        config = archives.parse(archive.read("config.json"))
        with (
            archive.open("model.weights.h5") as weights,
            SafeGroup.opened(weights) as file,
        ):
            check_model(config, *file.sizes())
    return _by_order(keras.models.load_model(found, compile=False, safe_mode=True), variables)


def _from_preset(found: str, variables: tuple[Variable, ...]) -> dict[str, np.ndarray]:
    try:
        import keras_hub
    except ImportError as error:
        raise ImportError(
            f"The preset {found!r} needs keras-hub; install it with pip install 'kmedclf[hub]'."
        ) from error
    if os.path.isdir(found):
        _check_preset(Path(found))
    return _by_order(keras_hub.models.Backbone.from_preset(found), variables)


def _check_preset(folder: Path) -> None:
    """Check the files of a preset before keras-hub reads them."""
    for path in folder.iterdir():
        if not path.is_dir():
            archives.check_regular(path, "file of a preset")
        if path.suffix == ".json" and path.stat().st_size > archives.MAX_JSON:
            raise ValueError(f"{path} is too large to describe a preset.")
    config = archives.parse((folder / "config.json").read_bytes())
    with SafeGroup.opened(str(folder / "model.weights.h5")) as file:
        check_model(config, *file.sizes())


def _by_order(model: keras.Model, variables: tuple[Variable, ...]) -> dict[str, np.ndarray]:
    return dict(zip((one.path for one in variables), _in_order(model), strict=False))


def _in_order(model: keras.Model) -> list[np.ndarray]:
    values = []
    for layer in model.layers:
        weights = [] if isinstance(layer, keras.layers.Normalization) else list(layer.weights)
        # keras-hub stores the class token before the patches' kernel and bias.
        if hasattr(layer, "class_token"):
            weights[:3] = [*weights[1:3], weights[0]]
        values += [np.asarray(weight) for weight in weights]
    return values
