"""One training on several devices gives what one device gives, to rounding.

Logical CPUs stand for GPUs. TensorFlow divides the CPU before it is first used, so that each number
of devices has a process of its own.
"""

import json

import numpy as np
import pytest
import tensorflow as tf
from helpers import data, make, run
from sklearn.base import clone

import kmedclf
from kmedclf.training import strategy

HEAD = """
import json, sys
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
one = tf.config.LogicalDeviceConfiguration()
tf.config.set_logical_device_configuration(cpu, [one] * {n})
import numpy as np
from helpers import data, make, same
from kmedclf.training import cache
X, y = data(50)
found = {{}}
"""
CURVES = """
KINDS = {kinds}
for name, (network, given) in KINDS.items():
    given = {{"epochs": 3, "batch_size": 16, "augment": "mirror", **given}}
    both = [make(network, strategy=on, **given).fit(X, y) for on in (None, "mirrored")]
    found[name] = [
        [one.history_, [float(np.abs(w).sum()) for w in one.weights_], one.best_epoch_]
        for one in both
    ]
    assert all(isinstance(w, np.ndarray) for w in both[1].weights_)
    assert same(both[1], make(network, strategy="mirrored", **given).fit(X, y))  # bit for bit
"""
KINDS = {
    "mlp": ("MLPClassifier", {"optimizer": "adam", "l2": 0.01}),
    "cnn": ("CNNClassifier", {"optimizer": "sgd", "momentum": 0.9, "lr_schedule": "one_cycle"}),
    "early": ("MLPClassifier", {"early_stopping": True, "monitor": "loss", "min_epochs": 1,
                                "n_iter_no_change": 1, "epochs": 6, "class_weight": "balanced"}),
}  # fmt: skip
IMPORTS = """
from pathlib import Path
import keras, tempfile
import kmedclf
"""
QUICK = """
# dropout draws differ between devices, and batches that callbacks watch are shared, too
class Watches(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        pass
given = {"epochs": 2, "batch_size": 16, "dropout": 0.5, "strategy": "mirrored"}
one = make("MLPClassifier", **given).fit(X, y)
other = make("MLPClassifier", callbacks=[Watches()], **given).fit(X, y)
found["watched"] = [one.history_["loss"], other.history_["loss"]]
found["undropped"] = make("MLPClassifier", **{**given, "dropout": 0.0}).fit(X, y).history_["loss"]
# images on disk come through tf.data
np.save(path := Path(tempfile.mkdtemp(), "X.npy"), X)
given, disk = {"epochs": 2, "batch_size": 16, "augment": "mirror"}, np.load(path, mmap_mode="r")
streamed = [make("MLPClassifier", strategy=on, **given).fit(disk, y) for on in (None, "mirrored")]
found["streamed"] = [one.history_["loss"] for one in streamed]
# the operations are where they should be
with cache.borrow(one._spec) as program:
    graphs = [g.graph for key, g in program._graphs.items() if key[0] == "_train_step"]
    found["placed"] = [sorted({op.device for op in g.get_operations() if op.type == "MatMul"})
                       for g in graphs]
# partial_fit goes on; a saved model is one for any machine
one.partial_fit(X, y)
found["partial"] = len(one.history_["loss"])
path = Path(tempfile.mkdtemp(), "model.kmedclf")
one.save(path)
found["path"] = str(path)
found["proba"] = one.predict_proba(X[:4]).tolist()
"""
MORE = """
# batch normalisation: each device its own part, moving statistics their mean
bn = make("ResNetClassifier", epochs=1, batch_size=50, augment=False, strategy=["CPU:0", "CPU:1"])
whole = make("ResNetClassifier", epochs=1, batch_size=50, augment=False)
bn.fit(X, y); whole.fit(X, y)
model = bn.model_
moving = [i for i, v in enumerate(model.weights) if v.name == "moving_mean"]
found["moving"] = [[float(one.weights_[moving[0]].mean()) for one in (bn, whole)]]
found["moving"].append(float(np.abs(bn.weights_[moving[0]] - whole.weights_[moving[0]]).max()))
# mixed precision, scaled losses
low = make("CNNClassifier", epochs=2, precision="mixed_float16", strategy="mirrored").fit(X, y)
found["low"] = low.history_["loss"]
# an instance of Keras' strategy, in a search as well
from sklearn.model_selection import cross_val_score
by = make("MLPClassifier", strategy=tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]), epochs=1)
found["instance"] = dict(by.fit(X, y)._spec.options)["strategy"].devices
try:
    found["cv"] = cross_val_score(by, X, y, cv=2, error_score="raise").tolist()
except Exception as error:
    found["cv"] = f"{type(error).__name__}: {error}"
"""
TAIL = "\nprint('FOUND' + json.dumps(found))\n"


def child(n, code):
    return json.loads(run(HEAD.format(n=n) + code + TAIL).partition("FOUND")[2])


@pytest.fixture(scope="module")
def by_two():
    return child(2, IMPORTS + CURVES.format(kinds={"early": KINDS["early"]}) + QUICK)


@pytest.fixture(scope="module")
def by_four():
    return child(4, IMPORTS + CURVES.format(kinds=KINDS) + MORE)


def check_curves(found):
    for name, ((one, sums, best), (other, other_sums, other_best)) in found.items():
        assert one.keys() == other.keys()
        for key in one:
            np.testing.assert_allclose(other[key], one[key], rtol=2e-5, atol=2e-6, err_msg=name)
        np.testing.assert_allclose(other_sums, sums, rtol=1e-4, atol=1e-4, err_msg=name)
        assert best == other_best


def test_two_devices_give_the_curves_and_weights_of_one(by_two):
    check_curves({"early": by_two["early"]})


@pytest.mark.slow
def test_four_devices_give_the_curves_and_weights_of_one(by_four):
    check_curves({name: by_four[name] for name in KINDS})


@pytest.mark.slow
def test_moving_statistics_are_means_over_the_devices(by_four):
    (shared, whole), distance = by_four["moving"]
    assert shared == pytest.approx(whole, rel=1e-3)  # the mean of the means of two halves
    assert distance < 1e-3


def test_batches_that_callbacks_watch_are_shared_too(by_two):
    np.testing.assert_allclose(*by_two["watched"], rtol=1e-4)
    assert by_two["watched"][0] != by_two["undropped"]


def test_images_from_disk_are_shared_too(by_two):
    np.testing.assert_allclose(*by_two["streamed"], rtol=1e-5)


@pytest.mark.slow
def test_mixed_precision_learns(by_four):
    assert np.isfinite(by_four["low"]).all()
    assert by_four["low"][1] < by_four["low"][0]


def test_each_device_multiplies_its_part(by_two):
    devices = {one.rpartition("device:")[2] for graph in by_two["placed"] for one in graph}
    assert {"CPU:0", "CPU:1"} <= devices


def test_a_model_of_two_devices_predicts_and_trains_on_one(by_two):
    model = kmedclf.load(by_two["path"])
    X, y = data(50)
    np.testing.assert_allclose(model.predict_proba(X[:4]), by_two["proba"], rtol=1e-5, atol=1e-7)
    assert by_two["partial"] == 3
    assert len(model.partial_fit(X, y).history_["loss"]) == 4


@pytest.mark.slow
def test_an_instance_of_mirrored_strategy_names_its_devices(by_four):
    assert by_four["instance"] == ["CPU:0", "CPU:1"]
    assert len(by_four["cv"]) == 2, by_four["cv"]


def test_one_device_is_no_strategy():
    X, y = data()
    kind = make("MLPClassifier", epochs=1)
    plain = clone(kind).fit(X, y)
    for given in ("mirrored", ["CPU:0"], ("/device:cpu:0",)):
        one = clone(kind).set_params(strategy=given).fit(X, y)
        assert one._spec == plain._spec


WRONG = [
    (["CPU:7"], "must name devices of TensorFlow, each once: CPU:0"),
    (["CPU:0", "CPU:0"], "each once"),
    ([], "Got none instead"),
    ("mirror", "The 'strategy' parameter of MLPClassifier must be"),
    (tf.distribute.experimental.CentralStorageStrategy, "Got a CentralStorageStrategy instead"),
]


@pytest.mark.parametrize(("given", "words"), WRONG, ids=lambda one: str(one)[:20])
def test_what_is_no_device_is_refused(given, words):
    X, y = data()
    given = given() if isinstance(given, type) else given
    with pytest.raises(ValueError, match=words):
        make("MLPClassifier", strategy=given).fit(X, y)


def test_parts_of_a_batch_are_refused_where_they_cannot_be(monkeypatch):
    X, y = data()
    two = strategy.Sharing(("CPU:0", "CPU:1"))
    monkeypatch.setattr(strategy.Sharing, "of", lambda given, name: two)
    with pytest.raises(ValueError, match="at least the number of devices that share a batch, 2"):
        make("MLPClassifier", batch_size=1).fit(X, y)
    with pytest.raises(ValueError, match="'accumulate_steps' parameter of MLPClassifier must be 1"):
        make("MLPClassifier", accumulate_steps=2).fit(X, y)
