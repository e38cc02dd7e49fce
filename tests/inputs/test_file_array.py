"""Decoded images that are kept: shared by fits, bounded, and never wrong."""

import os
from pathlib import Path

import numpy as np
import pytest
from helpers import data, make, same
from image_samples import save

from kmedclf.inputs import file_array, image_files
from kmedclf.inputs.file_array import OVERHEAD, DiskStore, MemoryStore
from tests.inputs.test_path_input import write

X, y = data()
IMAGE = X[0].nbytes


@pytest.fixture
def paths(tmp_path):
    return write(tmp_path / "images", X)


@pytest.fixture(params=["memory", "disk"])
def cache(request, tmp_path):
    return "memory" if request.param == "memory" else tmp_path / "cache"


def net(**params):
    return make("MLPClassifier", **{"image_size": 8, **params})


def reads(monkeypatch):
    """Count the files that are decoded from now on."""
    from kmedclf.inputs import file_array

    seen = []

    def read(path, form):
        seen.append(path)
        return image_files.read(path, form)

    monkeypatch.setattr(file_array, "read", read)
    return seen


def test_each_file_is_decoded_once_for_all_fits(paths, cache, monkeypatch):
    seen = reads(monkeypatch)
    first = net(cache=cache).fit(paths, y)
    second = net(cache=cache, random_state=1, epochs=3).fit(paths[::2], y[::2])
    assert sorted(seen) == sorted(paths)
    first.predict(paths)
    assert len(seen) == 48
    assert same(first, net().fit(X, y))
    assert same(second, net(random_state=1, epochs=3).fit(X[::2], y[::2]))
    first.set_params(image_size=4).fit(paths, y)
    assert len(seen) == 96  # of another size


def test_a_file_that_has_changed_is_decoded_again(paths, cache):
    net(cache=cache).fit(paths, y)
    changed = X.copy()
    changed[3] = 255 - changed[3]
    save(Path(paths[3]), changed[3])
    os.utime(paths[3], ns=(1, 1))
    assert same(net(cache=cache).fit(paths, y), net().fit(changed, y))


def test_what_does_not_fit_is_decoded_each_time(paths, tmp_path, monkeypatch):
    limit = 20 * (IMAGE + OVERHEAD)
    seen = reads(monkeypatch)
    folder = tmp_path / "small"
    fitted = net(cache=folder, cache_limit=limit, epochs=3).fit(paths, y)
    assert 48 + 3 * 28 <= len(seen) <= 48 + 3 * 29
    assert sum(path.stat().st_size for path in folder.rglob("*.npy")) <= limit
    assert same(fitted, net(epochs=3).fit(X, y))


@pytest.mark.parametrize("kind", [MemoryStore, DiskStore])
def test_old_images_give_way_to_new_ones(kind, tmp_path):
    def store():
        one = kind() if kind is MemoryStore else kind(tmp_path)
        one.limit = 10 * (
            IMAGE + (0 if kind is MemoryStore else OVERHEAD)
        )  # with the file's header
        return one

    keys = [bytes([i]) * 16 for i in range(30)]
    first = store()
    for key in keys[:20]:
        first.put(key, X[0], 1)
    kept = [key for key in keys if first.get(key, 1) is not None]
    assert kept == keys[: len(kept)]
    assert len(kept) == 10
    second = first if kind is MemoryStore else store()
    for key in keys[20:]:
        second.put(key, X[1], 2)
    assert all(second.get(key, 2) is not None for key in keys[20:])
    assert second.size <= second.limit


def test_a_damaged_entry_is_decoded_again(paths, tmp_path):
    folder = tmp_path / "cache"
    expected = net(cache=folder).fit(paths, y)
    for number, entry in enumerate(sorted(folder.rglob("*.npy"))):
        entry.write_bytes(entry.read_bytes()[: number * 4])
    assert same(net(cache=folder).fit(paths, y), expected)
    assert not list(folder.rglob("*.part"))


def test_workers_share_a_folder(paths, tmp_path, as_many_threads):
    from sklearn.model_selection import GridSearchCV

    grid = {"batch_size": [16, 48]}
    search = GridSearchCV(net(cache=tmp_path / "cache"), grid, cv=2, n_jobs=2).fit(paths, y)
    assert len(list((tmp_path / "cache").rglob("*.npy"))) == 48
    assert same(search.best_estimator_, net(**search.best_params_).fit(X, y))


def test_limits_may_be_written_with_units():
    store = file_array.Store.of("memory", "2M", "Net")
    assert store.limit == 2 * 1024**2
    np.testing.assert_equal(file_array.Store.of(None, "1K", "Net").get(b"", 0), None)
