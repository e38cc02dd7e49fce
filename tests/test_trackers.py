"""What trackers of experiments are told: curves for TensorBoard."""

import pickle

import keras
import numpy as np
import pytest
from helpers import data, make
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from kmedclf import trackers
from kmedclf.search import StagedSearchCV

X, y = data()
HELD = {"X_val": X[:16], "y_val": y[:16]}


def curves(folder):
    """Read the curves that TensorBoard would show of a folder: epochs and values by name."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder), size_guidance={"tensors": 0}).Reload()
    read = {}
    for tag in found.Tags()["tensors"]:
        events = found.Tensors(tag)
        if tag.startswith("epoch_"):
            values = [np.frombuffer(one.tensor_proto.tensor_content, np.float32)[0]
                      if one.tensor_proto.tensor_content else one.tensor_proto.float_val[0]
                      for one in events]  # fmt: skip
            read[tag] = [one.step for one in events], values
    return read


@pytest.mark.parametrize("cls", [keras.callbacks.TensorBoard, trackers.TensorBoard])
def test_tensorboard_shows_every_epoch(cls, tmp_path):
    estimator = make("MLPClassifier", epochs=3, callbacks=[cls(tmp_path)]).fit(X, y, **HELD)
    (train,) = tmp_path.rglob("train")
    steps, losses = curves(train)["epoch_loss"]
    assert steps == [0, 1, 2]
    np.testing.assert_allclose(losses, estimator.history_["loss"], rtol=1e-6)
    accuracy = curves(train.with_name("validation"))["epoch_accuracy"][1]
    np.testing.assert_allclose(accuracy, estimator.history_["val_accuracy"], rtol=1e-6)


@pytest.mark.parametrize(
    "search",
    [
        lambda estimator, grid: GridSearchCV(estimator, grid, cv=2),
        lambda estimator, grid: StagedSearchCV(estimator, grid, cv=2),
    ],
    ids=["GridSearchCV", "StagedSearchCV"],
)
def test_every_fit_of_a_search_has_a_folder(search, tmp_path):
    estimator = make("MLPClassifier", callbacks=[trackers.TensorBoard(tmp_path)])
    found = search(estimator, {"units": [2, 4]}).fit(X, y)
    names = {folder.name for folder in tmp_path.iterdir()}
    assert {name.split("units=")[1].split(",")[0] for name in names} == {"2", "4"}
    fits = sorted(tmp_path.glob("*/*"))
    assert len(fits) == 5  # two candidates, two folds, the best one on all rows
    for fit in fits:
        assert curves(fit / "train")["epoch_loss"][0] == [0, 1]
    last = clone(found.best_estimator_).fit(X, y)
    assert len(list(tmp_path.glob("*/*"))) == 6
    pickle.loads(pickle.dumps(last))


def test_folders_have_names_that_every_system_takes(tmp_path):
    estimator = make("MLPClassifier", callbacks=[trackers.TensorBoard(tmp_path / "logs")])
    estimator.set_params(class_weight={0: 2.0, 1: 0.5, 2: 1.0}, optimizer="sgd").fit(X, y)
    (folder,) = (tmp_path / "logs").iterdir()
    assert folder.name.startswith("MLPClassifier_class_weight=_0_2.0,_1_0.5,_2_1.0_,")
    assert len(folder.name) <= trackers.LONGEST_NAME


def test_callbacks_are_given_the_estimator():
    class Notes(keras.callbacks.Callback):
        def set_estimator(self, estimator):
            self.units = estimator.units

    callback = Notes()
    estimator = make("MLPClassifier", units=3, callbacks=[callback]).fit(X, y)
    assert callback.units == 3
    clone(estimator).set_params(units=5)
    assert callback.units == 3


def test_mlflow_is_asked_for_in_one_sentence(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "mlflow", None)
    with pytest.raises(ImportError, match=r"pip install 'kmedclf\[mlflow\]'"):
        trackers.log_to_mlflow(make("MLPClassifier").fit(X, y))
