"""Remembered fits: loaded if everything is the same, and only then."""

import numpy as np
import pytest
from helpers import data, make, same
from sklearn.base import clone

from kmedclf.training import loop

X, y = data()


def entries(folder):
    return sorted(folder.rglob("*.kmedclf-fit"))


def remembered(folder, **params):
    return make("MLPClassifier", **{"epochs": 1, "memory": str(folder), **params})


@pytest.mark.parametrize("early_stopping", [False, True])
def test_the_same_fit_is_loaded(tmp_path, early_stopping):
    one, other = (remembered(tmp_path, early_stopping=early_stopping).fit(X, y) for _ in range(2))
    assert len(entries(tmp_path)) == 1
    assert same(one, other)
    assert one.history_ == other.history_
    np.testing.assert_array_equal(one.predict_proba(X), other.predict_proba(X))


def test_what_changes_the_result_changes_the_entry(tmp_path):
    changed = X.copy()
    changed[0, 0, 0] ^= 1
    remembered(tmp_path).fit(X, y)
    remembered(tmp_path).fit(changed, y)
    remembered(tmp_path).fit(X, y[::-1])
    remembered(tmp_path).fit(X, y, np.linspace(1, 2, len(X)))
    remembered(tmp_path).fit(X, y, X_val=X[:8], y_val=y[:8])
    remembered(tmp_path).fit(X, y, X_val=changed[:8], y_val=y[:8])
    remembered(tmp_path, random_state=5).fit(X, y)
    remembered(tmp_path, learning_rate=0.5).fit(X, y)
    assert len(entries(tmp_path)) == 8


@pytest.mark.parametrize(
    ("name", "held_out"),
    [("CNNClassifier", {"X_val": X[:20], "y_val": y[:20]}), ("TinyNet", {})],
)
def test_a_longer_fit_goes_on_from_a_shorter_one(tmp_path, monkeypatch, name, held_out):
    trained, train = [], loop.train

    def watched(task, callbacks=()):
        trained.append(task.schedule.epochs)
        return train(task, callbacks)

    monkeypatch.setattr(loop, "train", watched)
    for epochs in (2, 1, 5, 9):
        plain = make(name, epochs=epochs, optimizer="adam", augment=True)
        one = clone(plain).set_params(memory=str(tmp_path), warm_start=True).fit(X, y, **held_out)
        whole = plain.fit(X, y, **held_out)
        assert same(one, whole)
        assert one.history_ == whole.history_
        assert one.best_epoch_ == whole.best_epoch_
    assert trained == [2, 2, 1, 1, 3, 5, 4, 9]


@pytest.mark.parametrize("params", [{"lr_schedule": "cosine"}, {"early_stopping": True}])
def test_a_longer_fit_starts_anew_where_it_begins_otherwise(tmp_path, params):
    plain = make("MLPClassifier", augment=False, jit_compile=False, **params)
    for epochs in (1, 4):
        one = clone(plain).set_params(epochs=epochs, memory=str(tmp_path), warm_start=True)
        assert same(one.fit(X, y), clone(plain).set_params(epochs=epochs).fit(X, y))


def test_without_a_seed_nothing_is_kept(tmp_path):
    remembered(tmp_path, random_state=None).fit(X, y)
    assert entries(tmp_path) == []


def test_a_damaged_entry_is_trained_again_with_a_warning(tmp_path):
    one = remembered(tmp_path).fit(X, y)
    (entry,) = entries(tmp_path)
    entry.write_bytes(entry.read_bytes()[:100])
    with pytest.warns(RuntimeWarning, match="trained again"):
        other = remembered(tmp_path).fit(X, y)
    assert same(one, other)
    assert same(one, remembered(tmp_path).fit(X, y))  # and is whole again, without a warning


def test_the_store_is_bounded_and_the_oldest_go_first(tmp_path):
    remembered(tmp_path).fit(X, y)
    (first,) = entries(tmp_path)
    size = first.stat().st_size
    for seed in range(10, 14):
        remembered(tmp_path, random_state=seed, memory_limit=int(2.5 * size)).fit(X, y)
    assert 1 <= len(entries(tmp_path)) <= 2
    assert not first.exists()
