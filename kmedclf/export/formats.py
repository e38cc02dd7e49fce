"""The formats: how each is written, and run again to compare it with the estimator."""

from __future__ import annotations

import kmedclf.utils.tensorflow_loaded  # noqa: F401

import json
import tempfile
import zipfile
from abc import ABC, abstractmethod
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar

import keras
import numpy as np
import tensorflow as tf

from kmedclf.export.graph import OUTPUTS
from kmedclf.training import network

NAMES = "kmedclf.json"
"""File of the class names, where a format is a folder or an archive."""


class Traced:
    """A model as one graph of TensorFlow, for any number of images."""

    def __init__(self, model: keras.Model) -> None:
        self.model = model
        self.module = tf.Module()
        self.module.weights = [variable.value for variable in model.variables]
        given = model.inputs[0]
        spec = tf.TensorSpec((None, *given.shape[1:]), given.dtype, name="images")
        self.module.serve = tf.function(
            lambda images: model(images, training=False), input_signature=[spec], autograph=False
        )

    @cached_property
    def concrete(self) -> Any:
        """The concrete function, traced apart from the caller's settings of Keras."""
        return network.traced(self.module.serve.get_concrete_function)


class Format(ABC):
    """A format of files."""

    name: ClassVar[str]
    suffix: ClassVar[str] = ""  # none: a folder

    @abstractmethod
    def write(self, model: keras.Model, metadata: dict[str, Any], place: Path) -> None:
        """Write a model of `kmedclf.export.graph`."""

    @abstractmethod
    def run(self, place: Path, images: np.ndarray) -> dict[str, np.ndarray]:
        """Run a written model, as its users would."""


class Onnx(Format):
    """ONNX, for onnxruntime and many others; class names are in the model's metadata."""

    name = "onnx"
    suffix = ".onnx"
    opset: ClassVar[int] = 18

    def write(self, model: keras.Model, metadata: dict[str, Any], place: Path) -> None:
        """Convert by tf2onnx."""
        import onnx
        import tf2onnx

        serve = Traced(model).module.serve
        convert = partial(tf2onnx.convert.from_function, serve, serve.input_signature)
        more: dict[str, Any] = {"Erfc": (_erfc, [])}
        proto, _ = network.traced(partial(convert, opset=self.opset, custom_op_handlers=more))
        proto.producer_name = "kmedclf"
        onnx.helper.set_model_props(
            proto, {name: json.dumps(value) for name, value in metadata.items()}
        )
        onnx.save_model(proto, place)

    def run(self, place: Path, images: np.ndarray) -> dict[str, np.ndarray]:
        """Run by onnxruntime, on the CPU."""
        import onnxruntime

        session = onnxruntime.InferenceSession(place, providers=["CPUExecutionProvider"])
        return dict(zip(OUTPUTS, session.run(list(OUTPUTS), {"images": images}), strict=True))


def _erfc(graph: Any, node: Any, name: str, _: Any) -> None:
    """Write erfc(x), of "gelu", as 1 - erf(x): ONNX has no such operation."""
    erf = graph.make_node("Erf", node.input)
    one = graph.make_const(f"{name}_one", np.array(1, np.float32))
    node.type = "Sub"
    graph.replace_inputs(node, [one.output[0], erf.output[0]])


class SavedModel(Format):
    """TensorFlow's SavedModel, a folder; class names are in ``assets.extra``."""

    name = "saved_model"

    def write(self, model: keras.Model, metadata: dict[str, Any], place: Path) -> None:
        """Save the graph with the weights."""
        traced = Traced(model)
        tf.saved_model.save(traced.module, place, {"serving_default": traced.concrete})
        extra = place / "assets.extra"  # TensorFlow's name for files that it only carries along
        extra.mkdir()
        (extra / NAMES).write_text(json.dumps(metadata, indent=1) + "\n", encoding="utf-8")

    def run(self, place: Path, images: np.ndarray) -> dict[str, np.ndarray]:
        """Load the folder, and call its signature."""
        loaded = tf.saved_model.load(place)
        outputs = loaded.signatures["serving_default"](images=tf.constant(images))
        return {name: one.numpy() for name, one in outputs.items()}


class LiteRT(Format):
    """LiteRT, formerly TensorFlow Lite; class names are in a zip archive behind the model."""

    name = "litert"
    suffix = ".tflite"

    def write(self, model: keras.Model, metadata: dict[str, Any], place: Path) -> None:
        """Convert by TensorFlow, and append the class names."""
        with tempfile.TemporaryDirectory() as folder:  # names of inputs come from its signature
            SavedModel().write(model, metadata, Path(folder))
            place.write_bytes(tf.lite.TFLiteConverter.from_saved_model(folder).convert())
        # As the metadata of TensorFlow Lite does with files of labels: interpreters read the
        # beginning of the file, zip programs the end.
        with zipfile.ZipFile(place, "a") as archive:
            archive.writestr(NAMES, json.dumps(metadata, indent=1) + "\n")

    def run(self, place: Path, images: np.ndarray) -> dict[str, np.ndarray]:
        """Run by the interpreter of ai-edge-litert."""
        from ai_edge_litert.interpreter import Interpreter

        runner = Interpreter(model_path=str(place)).get_signature_runner()
        return dict(runner(images=images))


class Keras(Format):
    """Keras' own format; class names are in the settings of the layer ``label``."""

    name = "keras"
    suffix = ".keras"

    def write(self, model: keras.Model, metadata: dict[str, Any], place: Path) -> None:
        """Save by Keras."""
        model.save(place)

    def run(self, place: Path, images: np.ndarray) -> dict[str, np.ndarray]:
        """Load and call."""
        outputs = keras.saving.load_model(place, compile=False, safe_mode=True)(
            images, training=False
        )
        return {name: keras.ops.convert_to_numpy(one) for name, one in outputs.items()}


FORMATS: dict[str, Format] = {one.name: one for one in (Onnx(), SavedModel(), LiteRT(), Keras())}
