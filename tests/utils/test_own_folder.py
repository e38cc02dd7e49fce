"""Caches in folders that users name: what lies there already is theirs, whatever it is called."""

import io
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from helpers import data, make, same

from kmedclf.inputs.file_array import DiskStore
from kmedclf.utils.own_folder import TAG, OwnFolder
from tests.inputs.test_path_input import write

X, y = data(24)
STORES = "kmedclf-images-v1", "kmedclf-fits-v1"
HEX = "0123456789abcdef" * 2


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    return write(tmp_path_factory.mktemp("images"), X)


def _npy():
    buffer = io.BytesIO()
    np.save(buffer, X[0])
    return buffer.getvalue()


NAMES = [
    "thesis.txt", "ab/scores.npy", f"{HEX[:2]}/{HEX}.npy", f"{HEX}.npy", "01/x.npy",
    f"01/{HEX}.NPY", f"ff/{HEX}0.npy", f".{HEX}.npy.123.456.part", "01/.x.npy.0123456789ab.part",
    f"{HEX}-1.kmedclf-fit", "m.kmedclf", "x-1.kmedclf-fit", "01/notes", "fit.json",
    "joblib/kmedclf/memory/_train/0/output.pkl", ".hidden", "é.npy", "kmedclf-images-v0/01/x.npy",
]  # fmt: skip


def plant(folder, outside):
    """Put files, folders and links of all names into a folder."""
    for name in NAMES:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_npy())
        os.utime(path, (1, 1))  # the oldest: what a store would remove first
    for where in (".", "01", "23"):
        (folder / where).mkdir(exist_ok=True)
        (folder / where / f"f{HEX[1:]}.npy").symlink_to(outside / "linked.npy")
        (folder / where / f"e{HEX[1:]}.npy").mkdir()
        (folder / where / f"d{HEX[1:]}-2.kmedclf-fit").mkdir()
        (folder / where / f"c{HEX[1:]}-3.kmedclf-fit").symlink_to(outside / "linked.npy")
        os.mkfifo(folder / where / f"b{HEX[1:]}.npy")


def looked_at(*folders):
    """All that lies in folders: names, kinds, content and times."""
    found = {}
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            kind = path.lstat()
            content = path.read_bytes() if path.is_file() else None
            found[str(path)] = kind.st_mode, content, kind.st_mtime_ns if path.is_file() else 0
    return found


def net(folder, **params):
    base = {"epochs": 1, "units": 4, "jit_compile": False, "image_size": 8}
    return make("MLPClassifier", **{**base, "cache": folder, "memory": str(folder), **params})


@pytest.mark.parametrize("made", [True, False], ids=["in it", "beside it"])
def test_what_is_not_ours_stays(made, paths, tmp_path):
    cache, outside = tmp_path / "cache", tmp_path / "outside"
    outside.mkdir()
    cache.mkdir()
    (outside / "linked.npy").write_bytes(_npy())
    plant(cache, outside)
    if made:
        net(cache).fit(paths[:4], y[:4])
        for name in STORES:
            assert (cache / name / TAG).is_file()
            plant(cache / name, outside)
    before = looked_at(cache, outside)
    ours = {
        str(path)
        for path in cache.rglob("*")
        if made and OwnFolder(path.parents[1], path.parent.name, b"").is_own()
    }
    small = {"cache_limit": 5 * (X[0].nbytes + 200), "memory_limit": 4000}
    for seed in range(3):
        fitted = net(cache, random_state=seed, **small).fit(paths, y)
        fitted.predict(paths[::-1])
    DiskStore(cache)  # that of another process, which does not know what this one has used
    store = DiskStore(cache)
    store.limit = 1
    store.put(bytes(16), X[0], 1)
    after = looked_at(cache, outside)
    gone = {path for path in before if after.get(path) != before[path]}
    ours |= {one for one in gone if one.startswith(str(cache / STORES[0])) and _marked(before[one])}
    assert gone <= ours, sorted(gone - ours)
    assert same(fitted, net(None, memory=None, random_state=2).fit(X, y))


def _marked(found):
    return found[1] is not None and found[1].endswith((b"kmedclf-image-v1", b"kmedclf-fit-v1\n"))


def test_a_store_removes_its_own_oldest(paths, tmp_path):
    """Else the test above would be passed by a store that removes nothing."""
    cache = tmp_path / "cache"
    net(cache).fit(paths[:12], y[:12])
    store = DiskStore(cache)
    store.limit = store.size
    assert store.size == 12 * (X[0].nbytes + 144)
    for number in range(12):
        store.put(bytes([number]) * 16, X[0], 1)
    assert store.size <= store.limit
    assert len(list(cache.rglob("*.npy"))) == 12
    fits = {"cache": None, "memory_limit": 4000, "epochs": 1}
    for seed in range(4):
        net(cache, random_state=seed, **fits).fit(X, y)
    assert len(list(cache.rglob("*.kmedclf-fit"))) < 4


@pytest.mark.parametrize("name", STORES)
def test_a_folder_of_that_name_which_is_not_ours(name, paths, tmp_path):
    (tmp_path / name / "01").mkdir(parents=True)
    (tmp_path / name / "01" / f"{HEX}.npy").write_bytes(_npy())
    (tmp_path / name / TAG).write_text(
        "Signature: 8a477f597d28d172789f06886806bc55\n# of another\n"
    )
    before = looked_at(tmp_path)
    with pytest.raises(FileExistsError, match="was not made by kmedclf"):
        net(tmp_path, **({"memory": None} if name == STORES[0] else {"cache": None})).fit(paths, y)
    assert looked_at(tmp_path) == before


def test_threads_make_it_together(tmp_path):
    for number in range(40):  # each round is a race of its own
        folders = [OwnFolder(tmp_path / str(number), "own", b"") for _ in range(12)]
        with ThreadPoolExecutor(len(folders)) as pool:
            for made in [pool.submit(one.make) for one in folders]:
                made.result()
        assert all(one.is_own() for one in folders)
        assert os.listdir(tmp_path / str(number)) == ["own"]


@pytest.mark.slow  # three processes that load TensorFlow
def test_processes_share_and_evict_together(paths, tmp_path):
    """Each with room for a quarter of the images and one fit: all come to the same weights."""
    import subprocess
    import sys

    code = f"""
import numpy as np, sys
from helpers import make, data
paths = {list(map(str, paths))!r}
y = data(24)[1]
for seed in (0, 1):
    one = make("MLPClassifier", epochs=2, units=4, jit_compile=False, image_size=8,
               random_state=seed, cache={str(tmp_path)!r}, cache_limit=6 * 400,
               memory={str(tmp_path)!r}, memory_limit=4000)
    one.fit(paths, y).predict(paths)
np.save(sys.argv[1], one.weights_[0])
"""
    here = str(Path(__file__).parents[1])
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([here, os.environ["PYTHONPATH"]])}
    env["TF_CPP_MIN_LOG_LEVEL"] = "3"
    started = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", code, str(tmp_path / f"w{number}.npy")], env=env
        )
        for number in range(3)
    ]
    assert [one.wait(240) for one in started] == [0, 0, 0]
    expected = net(None, memory=None, epochs=2, random_state=1).fit(X, y)
    for number in range(3):
        np.testing.assert_array_equal(np.load(tmp_path / f"w{number}.npy"), expected.weights_[0])
    assert not list(tmp_path.rglob("*.part"))


def test_a_cache_of_another_process_may_vanish(paths, tmp_path):
    import shutil

    one = net(tmp_path / "cache", memory=None).fit(paths, y)
    shutil.rmtree(tmp_path / "cache")
    two = net(tmp_path / "cache", memory=None, epochs=2).fit(paths, y)
    assert same(two, net(None, memory=None, epochs=2).fit(X, y))
    one.predict(paths)
    assert (tmp_path / "cache" / STORES[0] / TAG).is_file()
