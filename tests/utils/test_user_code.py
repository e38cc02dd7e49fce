"""Descriptions of a user's code change with all that it does, and with nothing else."""

import functools
import importlib.util
import shutil

import pytest
from helpers import run

from kmedclf.utils import user_code

MODULE = """
import keras
import numpy as np
from kmedclf import ImageClassifier
from kmedclf.models import CNNClassifier
TABLE = {"width": [3, 4], "mean": np.zeros(2)}
def scaled(x, by=2.0):
    return by * x
def outer(x):
    return [scaled(one) for one in x]
def decorated(function):
    def inner(x):
        return function(x) + 1
    return inner
@decorated
def shifted(x):
    return x
class Rotation(keras.layers.RandomRotation):
    def call(self, x):
        return outer(x)
class Net(ImageClassifier):
    \"\"\"A network.\"\"\"
    width: int = TABLE["width"][0]
    def features(self, x):
        return self._double(shifted(x), Rotation) * TABLE["mean"]
    @staticmethod
    def _double(x, *others):
        return outer(x)
    @property
    def name(self):
        return "a"
"""
CHANGES = {
    "a default": ("by=2.0", "by=3.0"),
    "a function that a function calls": ("by * x", "by + x"),
    "a value of the module": ("[3, 4]", "[3, 5]"),
    "an array of the module": ("np.zeros(2)", "np.ones(2)"),
    "a decorator": ("function(x) + 1", "function(x) + 2"),
    "what is decorated": ("    return x\nclass", "    return -x\nclass"),
    "a static method": ("        return outer(x)\n    @prop", "        return x\n    @prop"),
    "a property": ('"a"', '"b"'),
    "a layer of the user's": ("RandomRotation)", "RandomZoom)"),
    "a base": ("class Net(ImageClassifier)", "class Net(CNNClassifier)"),
}
COMMENTS = {
    "a comment": ("return by * x", "return by * x  # twice"),
    "a docstring": ("A network.", "The network."),
}


def described(source, folder, name="of_a_user"):
    path = folder / f"{name}.py"
    path.write_text(source)
    shutil.rmtree(folder / "__pycache__", ignore_errors=True)  # knows seconds
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return user_code.described(module.Net)


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_whatever_the_code_does_differently_is_seen(change, tmp_path):
    assert change[0] in MODULE
    assert described(MODULE.replace(*change), tmp_path) != described(MODULE, tmp_path)


@pytest.mark.parametrize("change", COMMENTS.values(), ids=COMMENTS)
def test_what_changes_nothing_is_not(change, tmp_path):
    assert change[0] in MODULE
    assert described(MODULE.replace(*change), tmp_path) == described(MODULE, tmp_path)


def test_installed_packages_are_named_only():
    from kmedclf.models import CNNClassifier

    assert user_code.described(CNNClassifier) == ["kmedclf.models.cnn.CNNClassifier"]
    assert len(user_code.described(functools.partial(sorted, key=len), {"a": {1, 2}})) < 15


REDEFINED = """

import keras
from helpers import data
from kmedclf import ImageClassifier

SOURCE = '''
def activated(x):
    return keras.ops.{name}(x)
class Net(ImageClassifier):
    def features(self, x):
        return activated(keras.layers.Dense(4)(keras.layers.Flatten()(x)))
'''
def fit(name):  # as typed into a prompt: there is no source to read
    space = {"keras": keras, "ImageClassifier": ImageClassifier, "__name__": "__main__"}
    exec(SOURCE.format(name=name), space)
    net = space["Net"](epochs=1, early_stopping=False, random_state=0)
    return net.set_params(memory={folder!r}).fit(*data()).predict_proba(data()[0])
first = fit("relu")
print((fit("tanh") != first).any(), (fit("relu") == first).all())
"""


def test_a_network_typed_anew_is_trained_anew(tmp_path):
    code = REDEFINED.replace("{folder!r}", repr(str(tmp_path)))
    assert run(code).split() == ["True", "True"]
    assert len(list(tmp_path.rglob("*.kmedclf-fit"))) == 2
