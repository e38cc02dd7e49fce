"""Saving and loading: the same predictions, no pickle, no half file."""

import io
import json
import zipfile

import numpy as np
import pytest
from helpers import ALL, ENGINE, beside, data, make, run, same

import kmedclf
from kmedclf import persistence

X, y = data()

every_estimator = pytest.mark.parametrize("name", ALL)


@every_estimator
def test_round_trip(name, tmp_path):
    estimator = make(name, class_weight={0: 2.0}, augment=["mirror"], learning_rate=0.05)
    estimator.fit(X, y).save(tmp_path / "model.kmedclf")
    loaded = kmedclf.load(tmp_path / "model.kmedclf")
    assert type(loaded) is type(estimator)
    assert loaded.get_params() == estimator.get_params()
    np.testing.assert_array_equal(loaded.predict_proba(X), estimator.predict_proba(X))
    assert loaded.history_ == estimator.history_
    public = {name for name in vars(estimator) if name.endswith("_")}
    assert public <= set(vars(loaded))
    np.testing.assert_array_equal(loaded.model_.predict(X, verbose=0),
                                  estimator.model_.predict(X, verbose=0))  # fmt: skip


def fitted_on_names(name):
    return make(name).fit(X, np.array(["a", "b", "c"])[y])


@pytest.fixture(scope="module")
def predicted_elsewhere(tmp_path_factory):
    """Load models in another process, which takes seconds to start: all at once."""
    folder, done = tmp_path_factory.mktemp("models"), set()

    def predicted(name):
        if name not in done:
            names = beside(name)
            for one in names:
                fitted_on_names(one).save(folder / f"{one}.kmedclf")
            run(f"""
import kmedclf, numpy as np
from helpers import data, get
for name in {names}:
    get(name)
    loaded = kmedclf.load({str(folder)!r} + f"/{{name}}.kmedclf")
    np.save({str(folder)!r} + f"/{{name}}.npy", loaded.predict_proba(data()[0]))
""")
            done.update(names)
        return np.load(folder / f"{name}.npy")

    return predicted


@every_estimator
def test_in_another_process(name, predicted_elsewhere):
    np.testing.assert_array_equal(predicted_elsewhere(name), fitted_on_names(name).predict_proba(X))


LABELS = {
    "int": np.array([3, 7, 40]),
    "int8": np.array([3, 7, 40], np.int8),
    "str": np.array(["é", "b", "c c"]),
    "object": np.array(["a", "bb", "c"], object),
    "bool": np.array([False, True, False]),
    "float": np.array([0.5, 1.0, 7.0]).round(),
}


@pytest.mark.parametrize("kind", LABELS)
def test_labels_of_any_type(kind, tmp_path):
    estimator = make("MLPClassifier").fit(X, LABELS[kind][y])
    estimator.save(tmp_path / "m.kmedclf")
    loaded = kmedclf.load(tmp_path / "m.kmedclf")
    assert loaded.classes_.dtype == estimator.classes_.dtype
    assert [type(a) for a in loaded.classes_] == [type(a) for a in estimator.classes_]
    np.testing.assert_array_equal(loaded.predict(X), estimator.predict(X))


@pytest.mark.parametrize("name", ENGINE)
@pytest.mark.parametrize("warm_start", [False, True])
def test_training_goes_on_after_loading(name, warm_start, tmp_path):
    estimator = make(name, warm_start=warm_start, optimizer="adam").fit(X, y)
    estimator.save(tmp_path / "m.kmedclf")
    loaded = kmedclf.load(tmp_path / "m.kmedclf")
    assert same(loaded.partial_fit(X, y), estimator.partial_fit(X, y))
    assert len(loaded.history_["loss"]) == 3
    assert same(loaded.fit(X, y), estimator.fit(X, y))


def test_columns_are_remembered(tmp_path):
    import pandas as pd

    frame = pd.DataFrame(X.reshape(48, -1) / 255).add_prefix("p")
    estimator = make("MLPClassifier", image_shape=(8, 8, 3)).fit(frame, y)
    estimator.save(tmp_path / "m.kmedclf")
    loaded = kmedclf.load(tmp_path / "m.kmedclf")
    np.testing.assert_array_equal(loaded.predict(frame), estimator.predict(frame))
    with pytest.raises(ValueError, match="feature names"):
        loaded.predict(frame[frame.columns[::-1]])


@every_estimator
def test_nothing_in_the_file_is_pickled(name, tmp_path):
    make(name).fit(X, np.array(["a", "b", "c"], object)[y]).save(tmp_path / "m.kmedclf")
    with zipfile.ZipFile(tmp_path / "m.kmedclf") as archive:
        assert archive.testzip() is None
        for member in archive.namelist():
            if member.endswith(".json"):
                content = json.loads(archive.read(member))
                assert content["versions"]["kmedclf"] == kmedclf.__version__
            else:
                np.load(io.BytesIO(archive.read(member)), allow_pickle=False)


def test_small(tmp_path):
    estimator = make("CNNClassifier", filters=64).fit(*data(48, 28))
    estimator.save(tmp_path / "m.kmedclf")
    weights = sum(weight.nbytes for weight in estimator.weights_)
    assert (tmp_path / "m.kmedclf").stat().st_size < 1.2 * weights


def test_a_class_that_is_not_imported_is_named(tmp_path):
    make("TinyNet").fit(X, y).save(tmp_path / "m.kmedclf")
    code = f"""
import kmedclf
try:
    kmedclf.load({str(tmp_path / "m.kmedclf")!r})
except ImportError as error:
    print(error)
"""
    assert "import it first (from mynets import TinyNet)" in run(code)


@pytest.mark.parametrize("kept", [0.0, 0.1, 0.5, 0.95])
def test_a_cut_file(kept, tmp_path):
    path = tmp_path / "m.kmedclf"
    make("MLPClassifier").fit(X, y).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(ValueError, match=r"m\.kmedclf is not a whole kmedclf model file"):
        kmedclf.load(path)


@pytest.mark.parametrize("where", np.linspace(0.02, 0.9, 12))
def test_a_damaged_file(where, tmp_path):
    path = tmp_path / "m.kmedclf"
    make("MLPClassifier").fit(X, y).save(path)
    content = bytearray(path.read_bytes())
    at = int(where * len(content))
    content[at : at + 40] = bytes(255 - byte for byte in content[at : at + 40])
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is not a whole kmedclf model file"):
        kmedclf.load(path)


def test_other_files(tmp_path):
    with pytest.raises(FileNotFoundError):
        kmedclf.load(tmp_path / "none.kmedclf")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("a.txt", "a")
    with pytest.raises(ValueError, match="is not a whole kmedclf model file"):
        kmedclf.load(tmp_path / "other.zip")
    with zipfile.ZipFile(tmp_path / "next.kmedclf", "w") as archive:
        archive.writestr("estimator.json", json.dumps({"format": persistence.FORMAT + 1}))
    with pytest.raises(ValueError, match=r"must be a kmedclf model of format \d+\. Got"):
        kmedclf.load(tmp_path / "next.kmedclf")


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "m.kmedclf"
    good = make("MLPClassifier").fit(X, y)
    good.save(path)
    before = path.read_bytes()
    bad = make("MLPClassifier", random_state=np.random.RandomState(0)).fit(X, y)
    with pytest.raises(TypeError, match=r"'random_state' .* must be a plain value"):
        bad.save(path)

    def full(*_, **__):
        raise OSError("No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(OSError, match="No space"):
        good.save(path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["m.kmedclf"]


def test_what_is_not_fitted_is_not_saved(tmp_path):
    from sklearn.exceptions import NotFittedError

    with pytest.raises(NotFittedError):
        make("MLPClassifier").save(tmp_path / "m.kmedclf")
    assert not list(tmp_path.iterdir())


def test_callbacks_stay_behind(tmp_path):
    import keras

    callbacks = [keras.callbacks.Callback()]
    make("MLPClassifier", callbacks=callbacks).fit(X, y).save(tmp_path / "m.kmedclf")
    loaded = kmedclf.load(tmp_path / "m.kmedclf")
    assert loaded.callbacks is None
    assert "MLPClassifier" in repr(loaded)
    loaded.fit(X, y)
