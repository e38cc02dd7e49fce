"""An interrupted fit goes on from its checkpoint, bit for bit, or is refused in one sentence."""

import json
import zipfile

import keras
import numpy as np
import pytest
from helpers import data, make, same
from sklearn.model_selection import GridSearchCV

from kmedclf.persistence import checkpoint

X, y = data()


class StopsBefore(keras.callbacks.Callback):
    """Raises when an epoch begins, or with ``batch`` in the middle of it."""

    only_watches = True

    def __init__(self, epoch, error=KeyboardInterrupt):
        super().__init__()
        self.epoch, self.error = epoch, error

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.epoch:
            raise self.error


class StopsWithin(StopsBefore):
    def on_epoch_begin(self, epoch, logs=None):
        self.now = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.now, batch) == (self.epoch, 1):
            raise self.error


@pytest.fixture
def file(tmp_path):
    return tmp_path / "fit.checkpoint"


def interrupt(estimator, file, stop, *given, **more):
    """Fit until the callback stops it, and check that its checkpoint stays."""
    estimator.set_params(checkpoint=file, callbacks=[stop])
    with pytest.raises(stop.error) as error:
        estimator.fit(*given, **more)
    return getattr(error.value, "__notes__", [])


def check_equal(one, other):
    assert same(one, other)
    assert one.history_ == other.history_
    assert one.best_epoch_ == other.best_epoch_
    assert same(one._optimizer_state, other._optimizer_state)


EARLY = {"early_stopping": True, "min_epochs": 3, "n_iter_no_change": 1, "monitor": "loss"}
KINDS = {
    "plain": ("MLPClassifier", {"dropout": 0.5}),
    "early": ("MLPClassifier", {**EARLY, "optimizer": "adam", "epochs": 9}),
    "last": ("MLPClassifier", {**EARLY, "restore_best": False, "stop_against": "previous"}),
    "plateau": ("CNNClassifier", {"lr_schedule": "plateau", "lr_patience": 1, "mixup": 0.3}),
    "cycle": ("CNNClassifier", {"lr_schedule": "one_cycle", "optimizer": "adamw"}),
    "low": ("CNNClassifier", {"precision": "mixed_float16", "optimizer": "adam"}),
    "statistics": ("ResNetClassifier", {**EARLY, "augment": "dihedral", "optimizer": "muon"}),
    "user": ("TinyNet", {"validation_split": 0.25, "class_weight": "balanced"}),
}
QUICK = ("early", "plateau", "statistics")


@pytest.mark.parametrize(
    "kind", [one if one in QUICK else pytest.param(one, marks=pytest.mark.slow) for one in KINDS]
)
def test_a_fit_stopped_after_any_epoch_goes_on_bit_for_bit(file, kind):
    name, given = KINDS[kind]
    given = {"epochs": 4, "batch_size": 16, "warm_start": True, "augment": True, **given}
    whole = make(name, **given).fit(X, y)
    for epoch in range(1, len(whole.history_["loss"])):
        notes = interrupt(make(name, **given), file, StopsBefore(epoch), X, y)
        assert notes[0].startswith(f"Epoch {epoch} of {name} is kept in {file}")
        check_equal(make(name, checkpoint=file, **given).fit(X, y), whole)
        assert not file.exists()


def test_a_fit_may_be_stopped_again_and_again_and_within_an_epoch(file):
    given = {"epochs": 4, "batch_size": 16, "warm_start": True, "optimizer": "adam"}
    held = {"X_val": X[:12], "y_val": y[:12]}
    whole = make("MLPClassifier", **given).fit(X, y, **held)
    for epoch in (1, 2, 3):
        interrupt(make("MLPClassifier", **given), file, StopsWithin(epoch), X, y, **held)
    check_equal(make("MLPClassifier", checkpoint=file, **given).fit(X, y, **held), whole)


def test_an_error_of_another_kind_keeps_the_epochs_too(file):
    notes = interrupt(make("MLPClassifier", epochs=3), file, StopsBefore(2, OSError), X, y)
    assert len(notes) == 1
    assert len(checkpoint.read(file).snapshot.history["loss"]) == 2


def test_nothing_is_kept_before_the_first_epoch_and_after_the_last(file):
    assert interrupt(make("MLPClassifier", epochs=3), file, StopsBefore(0), X, y) == []
    assert not file.exists()
    make("MLPClassifier", epochs=3, checkpoint=file).fit(X, y)
    assert list(file.parent.iterdir()) == []


def test_short_epochs_are_written_together_and_the_last_one_when_it_is_stopped(file):
    written = set()

    class Watches(StopsBefore):
        def on_epoch_begin(self, epoch, logs=None):
            super().on_epoch_begin(epoch)
            if file.exists():
                written.add(file.stat().st_mtime_ns)

    interrupt(make("MLPClassifier", epochs=50), file, Watches(40), X, y)
    assert 1 <= len(written) < 40
    assert len(checkpoint.read(file).snapshot.history["loss"]) == 40


def test_a_fit_without_a_seed_goes_on_with_its_own(file):
    given = {"epochs": 3, "random_state": None, "validation_split": 0.2}
    interrupt(make("MLPClassifier", **given), file, StopsBefore(2), X, y)
    seed = checkpoint.read(file).seed
    one = make("MLPClassifier", checkpoint=file, **given).fit(X, y)
    assert same(one, make("MLPClassifier", **{**given, "random_state": seed}).fit(X, y))
    assert not same(one, make("MLPClassifier", **given).fit(X, y))


def test_a_warm_start_goes_on(file):
    given = {"epochs": 2, "warm_start": True}
    whole = make("MLPClassifier", **given).fit(X, y).fit(X, y)
    one = make("MLPClassifier", **given).fit(X, y)
    interrupt(one, file, StopsBefore(3), X, y)
    check_equal(one.set_params(callbacks=None).fit(X, y), whole)
    assert not file.exists()


CHANGED = X.copy()
CHANGED[0, 0, 0] ^= 1
CHANGES = [
    ({"learning_rate": 0.5}, X, y, r"parameters \(learning_rate\)"),
    ({"epochs": 9, "units": 5}, X, y, r"parameters \(epochs, units\)"),
    ({"random_state": 1}, X, y, r"parameters \(random_state\)"),
    ({"class_weight": "balanced"}, X, y, r"parameters \(class_weight\)"),
    ({"augment": "mirror"}, X, y, r"parameters \(augment\)"),
    ({}, CHANGED, y, "data"),
    ({}, X, y[::-1], "data"),
    ({}, X[1:], y[1:], "data"),
]


def test_other_parameters_and_data_are_refused_and_the_file_stays(file):
    given = {"epochs": 3, "augment": False}
    interrupt(make("MLPClassifier", **given), file, StopsBefore(1), X, y)
    before = file.read_bytes()
    for params, images, labels, words in CHANGES:
        other = make("MLPClassifier", **{**given, "checkpoint": file, **params})
        with pytest.raises(ValueError, match=f"of one with other {words}; restore them") as error:
            other.fit(images, labels)
        assert str(error.value).count("\n") == 0
        assert file.read_bytes() == before
    with pytest.raises(ValueError, match="other class"):
        make("CNNClassifier", checkpoint=file, **given).fit(X, y)
    file.unlink()
    make("MLPClassifier", **{**given, "checkpoint": file, "learning_rate": 0.5}).fit(X, y)


def rewritten(file, change):
    """Change what a checkpoint says of itself."""
    with zipfile.ZipFile(file) as archive:
        parts = {one: archive.read(one) for one in archive.namelist()}
    content = json.loads(parts["checkpoint.json"])
    change(content)
    with zipfile.ZipFile(file, "w") as archive:
        for name, part in {**parts, "checkpoint.json": json.dumps(content)}.items():
            archive.writestr(name, part)


def test_other_versions_are_refused_and_another_machine_is_said(file):
    given = {"epochs": 3, "warm_start": True}
    interrupt(make("MLPClassifier", **given), file, StopsBefore(1), X, y)
    rewritten(file, lambda one: one["identity"]["versions"].update(keras="2.0"))
    with pytest.raises(ValueError, match=r"with other versions \(keras\)"):
        make("MLPClassifier", checkpoint=file, **given).fit(X, y)
    rewritten(file, lambda one: one["identity"]["versions"].update(keras=keras.__version__))
    rewritten(file, lambda one: one["identity"]["machine"].update(threads=99))
    with pytest.warns(RuntimeWarning, match="another CPU or number of threads"):
        one = make("MLPClassifier", checkpoint=file, **given).fit(X, y)
    check_equal(one, make("MLPClassifier", **given).fit(X, y))


class Scales(keras.layers.Layer):
    def call(self, images):
        return images * 0.5


def test_code_that_was_changed_is_refused(file, monkeypatch):
    interrupt(make("MLPClassifier", epochs=3, augment=Scales()), file, StopsBefore(1), X, y)
    monkeypatch.setattr(Scales, "call", lambda self, images: images * 0.25)
    with pytest.raises(ValueError, match="other code"):
        make("MLPClassifier", epochs=3, augment=Scales(), checkpoint=file).fit(X, y)


def test_code_that_pickle_does_not_find_is_told_apart(file):
    def layer(factor):
        class Local(Scales):
            def call(self, images):
                return images * factor

        return Local()

    interrupt(make("MLPClassifier", epochs=3, augment=layer(0.5)), file, StopsBefore(1), X, y)
    with pytest.raises(ValueError, match=r"parameters \(augment\)"):
        make("MLPClassifier", epochs=3, augment=layer(0.25), checkpoint=file).fit(X, y)
    make("MLPClassifier", epochs=3, augment=layer(0.5), checkpoint=file).fit(X, y)
    assert not file.exists()


WRONG = [
    lambda one: one.pop("seed"),
    lambda one: one.update(n_weights=2),
    lambda one: one.update(n_weights=-1),
    lambda one: one.update(first=5),
    lambda one: one.update(history={"loss": ["x"]}),
    lambda one: one.update(stopping=[1]),
    lambda one: one.update(has_best=True, n_optimizer=0),
    lambda one: one["identity"].pop("code"),
]


def test_what_is_no_whole_checkpoint_is_refused_and_stays(file, tmp_path):
    given = {"epochs": 3, "checkpoint": file}
    interrupt(make("MLPClassifier", epochs=3), file, StopsBefore(1), X, y)
    whole = file.read_bytes()
    for change in WRONG:
        file.write_bytes(whole)
        rewritten(file, change)
        with pytest.raises(ValueError, match=r"checkpoint|kept weights"):
            make("MLPClassifier", **given).fit(X, y)
    for content in (whole[:200], b"PK", b"a letter", b""):
        file.write_bytes(content)
        with pytest.raises((ValueError, FileExistsError), match=r"fit\.checkpoint"):
            make("MLPClassifier", **given).fit(X, y)
        assert file.read_bytes() == content
    with pytest.raises(FileNotFoundError, match="There is no folder"):
        make("MLPClassifier", epochs=3, checkpoint=tmp_path / "none" / "x").fit(X, y)


@pytest.mark.filterwarnings("ignore:.*epoch.*is restored:RuntimeWarning")
def test_a_fit_that_diverges_leaves_no_checkpoint(file):
    one = make("MLPClassifier", epochs=5, learning_rate=1e30, checkpoint=file)
    with pytest.raises(ValueError, match="diverged"):
        one.fit(X, y)
    assert not file.exists()


def test_callbacks_that_may_remember_are_named(file):
    class Remembers(keras.callbacks.Callback):
        pass

    interrupt(make("MLPClassifier", epochs=3), file, StopsBefore(1), X, y)
    with pytest.warns(RuntimeWarning, match="goes on after epoch 1; Remembers"):
        make("MLPClassifier", epochs=3, callbacks=[Remembers()], checkpoint=file).fit(X, y)


def test_a_search_with_memory_goes_on_within_a_fit(file, tmp_path):
    def search(**more):
        one = make("MLPClassifier", epochs=3, memory=tmp_path / "fits", **more)
        grid = {"learning_rate": [0.1, 0.2], "checkpoint": [file]}
        return GridSearchCV(one, grid, cv=2, error_score="raise", refit=False)

    class StopsInThird(StopsBefore):
        fits = 0

        def on_epoch_begin(self, epoch, logs=None):
            StopsInThird.fits += not epoch
            if StopsInThird.fits == 3:
                super().on_epoch_begin(epoch)

    with pytest.raises(KeyboardInterrupt):
        search(callbacks=[StopsInThird(2)]).fit(X, y)
    assert file.exists()
    found = search().fit(X, y)
    assert not file.exists()
    plain = GridSearchCV(make("MLPClassifier", epochs=3), {"learning_rate": [0.1, 0.2]}, cv=2)
    expected = plain.fit(X, y).cv_results_["mean_test_score"]
    np.testing.assert_array_equal(found.cv_results_["mean_test_score"], expected)


def test_a_disk_that_is_full_costs_the_checkpoint_and_not_the_fit(file, monkeypatch):
    def full(*given, **more):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("kmedclf.utils.archives.zipfile.ZipFile", full)
    with pytest.warns(RuntimeWarning, match="trains on without its checkpoint") as caught:
        one = make("MLPClassifier", epochs=4, checkpoint=file).fit(X, y)
    assert len(caught) == 1
    assert same(one, make("MLPClassifier", epochs=4).fit(X, y))
    assert list(file.parent.iterdir()) == []


@pytest.mark.slow
def test_a_fit_of_two_parts_goes_on_in_either(file):
    given = {"epochs": 5, "head_epochs": 2, "warm_start": True, "optimizer": "adam"}
    whole = make("ViTClassifier", **given).fit(X, y)
    for epoch in range(1, 5):
        interrupt(make("ViTClassifier", **given), file, StopsBefore(epoch), X, y)
        check_equal(make("ViTClassifier", checkpoint=file, **given).fit(X, y), whole)
