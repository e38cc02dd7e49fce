"""X as files: an estimator makes of files what it makes of arrays of the same images."""

import os
import pickle
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers import ENGINE, ROUNDED, data, make, run, same
from image_samples import LOSSLESS, save
from sklearn.model_selection import (
    GridSearchCV,
    StratifiedKFold,
    cross_val_predict,
    cross_validate,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import kmedclf
from kmedclf.evaluation import evaluate
from kmedclf.search import StagedSearchCV

X, y = data()
WORDS = np.array(["blast", "basophil", "platelet"])[y]


def write(folder, images, kind="png"):
    """Write images, and give their paths as an array of strings."""
    folder.mkdir(parents=True, exist_ok=True)
    name = "{}" if kind == "no suffix" else f"{{}}.{kind}"
    return np.array([str(save(folder / name.format(i), one)) for i, one in enumerate(images)])


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    """Files of the images X."""
    return write(tmp_path_factory.mktemp("images"), X)


def net(**params):
    return make("MLPClassifier", **{"image_size": 8, **params})


@pytest.mark.parametrize("name", ENGINE)
def test_files_and_arrays_give_the_same_network(name, paths):
    size = make(name, epochs=1).set_params(image_size=8)
    files, arrays = size.fit(paths, WORDS), make(name, epochs=1).fit(X, WORDS)
    assert same(files, arrays)
    assert files.image_shape_ == (8, 8, 3)
    assert (files.skipped_, arrays.skipped_) == ([], None)
    for fitted in (files, arrays):  # either kind, whatever it was fitted on
        proba, of_arrays = fitted.predict_proba(paths), arrays.predict_proba(X)
        np.testing.assert_allclose(proba, of_arrays, rtol=0, atol=1e-5 if name in ROUNDED else 0)
        np.testing.assert_array_equal(fitted.predict(list(paths[:1])), arrays.predict(X[:1]))
    assert files.score(paths, WORDS) == arrays.score(X, WORDS)


@pytest.mark.parametrize("kind", LOSSLESS)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_lossless_format(tmp_path, kind, channels):
    if (kind, channels) == ("gif", 3):
        pytest.skip("a palette holds 256 colours")
    files = write(tmp_path, X[..., :channels], kind)
    assert same(net(channels=channels).fit(files, y), net().fit(X[..., :channels], y))


def test_sixteen_bits_and_mixed_depths(tmp_path, paths):
    deep = X[..., :1].astype(np.uint16) * 257
    files = write(tmp_path, deep)
    fitted = net(channels=1).fit(files, y)
    assert same(fitted, net().fit(deep, y))
    mixed = [*files[:24], *write(tmp_path / "eight", X[..., :1])[24:]]
    np.testing.assert_array_equal(fitted.predict_proba(mixed), fitted.predict_proba(deep))
    assert net(channels=1).fit(mixed, y)._scale == fitted._scale  # as deep as the deepest
    eight = net(channels=1).fit(write(tmp_path / "eight", X[..., :1]), y)
    np.testing.assert_array_equal(eight.predict_proba(files), eight.predict_proba(X[..., :1]))


@pytest.mark.parametrize(
    "form",
    [
        list,
        lambda paths: [Path(path) for path in paths],
        lambda paths: paths.astype(object),
        lambda paths: np.array([Path(path) for path in paths]),
        lambda paths: paths[:, None],
        lambda paths: paths.astype(np.dtypes.StringDType()),
        pd.Series,
        lambda paths: pd.Series([Path(path) for path in paths]),
        lambda paths: pd.DataFrame({"path": paths}),
        lambda paths: [os.path.relpath(path) for path in paths],
    ],
)
def test_paths_in_any_form(paths, form):
    fitted = net().fit(form(paths), y)
    assert same(fitted, net().fit(paths, y))
    np.testing.assert_array_equal(fitted.predict_proba(form(paths)), fitted.predict_proba(paths))


def test_validation_data_weights_and_order(paths):
    weight = np.linspace(0.5, 2, len(y))
    options = {"early_stopping": True, "min_epochs": 1}
    arrays = net(**options).fit(X, y, weight, X_val=X[:9], y_val=y[:9])
    files = net(**options).fit(paths, y, weight, X_val=list(paths[:9]), y_val=y[:9])
    mixed = net(**options).fit(paths, y, weight, X_val=X[:9], y_val=y[:9])
    order = np.random.default_rng(0).permutation(len(y))
    shuffled = net(**options).fit(
        paths[order], y[order], weight[order], X_val=paths[:9], y_val=y[:9]
    )
    for one in (files, mixed, shuffled):
        assert same(one, arrays)
        assert one.history_ == arrays.history_
    groups, options = np.arange(len(y)) // 2, {**options, "validation_fraction": 0.3}
    on_files = net(**options).fit(paths, y, groups=groups)
    assert same(on_files, net(**options).fit(X, y, groups=groups))


def test_going_on_with_other_files(paths):
    parts = net().partial_fit(paths[:24], y[:24], classes=[0, 1, 2]).partial_fit(paths[24:], y[24:])
    arrays = net().partial_fit(X[:24], y[:24], classes=[0, 1, 2]).partial_fit(X[24:], y[24:])
    assert same(parts, arrays)
    warm = net(warm_start=True)
    assert same(warm.fit(paths, y).fit(X, y), net(epochs=4).fit(X, y))


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_scikit_learn_takes_paths(paths, n_jobs, as_many_threads):
    grid = {"batch_size": [16, 48]}
    options = {"cv": StratifiedKFold(2), "n_jobs": n_jobs, "error_score": "raise"}
    on_files = GridSearchCV(net(), grid, **options).fit(paths, WORDS)
    on_arrays = GridSearchCV(net(), grid, **options).fit(X, WORDS)
    assert same(on_files.best_estimator_, on_arrays.best_estimator_)
    np.testing.assert_array_equal(*(
        search.cv_results_["mean_test_score"] for search in (on_files, on_arrays)
    ))  # fmt: skip
    results = cross_validate(net(), list(paths), WORDS, **options)
    assert np.all(np.isfinite(results["test_score"]))
    piped = make_pipeline(FunctionTransformer(lambda files: files), net()).fit(paths, WORDS)
    assert same(piped[-1], net().fit(X, WORDS))
    proba = [cross_val_predict(net(), Z, WORDS, cv=2, method="predict_proba") for Z in (paths, X)]
    np.testing.assert_array_equal(*proba)


def test_our_searches_and_reports_take_paths(paths):
    stages = [{"batch_size": [16, 48]}, {"image_size": [8, 4]}]
    search = StagedSearchCV(net(), stages, cv=2).fit(paths, WORDS)
    assert len(search.stage_results_) == 2
    fitted = net().fit(paths, WORDS)
    of_files, of_arrays = evaluate(fitted, paths, WORDS), evaluate(fitted, X, WORDS)
    assert len(of_files.paths) == len(paths)
    assert replace(of_files, paths=()) == of_arrays
    assert evaluate(fitted, list(paths), WORDS, exclude=np.arange(48) < 8).n == 40


def test_fits_are_remembered_by_their_pixels(tmp_path, paths):
    def entries():
        return len(sorted((tmp_path / "fits").rglob("*.kmedclf-fit")))

    def fit(files):
        return net(memory=str(tmp_path / "fits")).fit(files, y)

    first = fit(paths)
    moved = [shutil.copy(path, tmp_path / f"moved {Path(path).name}") for path in paths]
    assert same(fit(moved), first)
    bitmaps = write(tmp_path / "bitmaps", X, "bmp")
    assert same(fit(bitmaps), first)
    assert entries() == 1
    changed = X[0].copy()
    changed[0, 0, 0] ^= 1
    save(Path(bitmaps[0]), changed)
    fit(bitmaps)
    assert entries() == 2


def test_predicting_after_pickle_save_and_in_another_process(tmp_path, paths):
    fitted = net().fit(paths, WORDS)
    expected = fitted.predict_proba(X)
    fitted.save(tmp_path / "model.kmedclf")
    for other in (pickle.loads(pickle.dumps(fitted)), kmedclf.load(tmp_path / "model.kmedclf")):
        np.testing.assert_array_equal(other.predict_proba(paths), expected)
        assert other.skipped_ == []
    code = (
        "import kmedclf, numpy as np\n"
        f"fitted = kmedclf.load({str(tmp_path / 'model.kmedclf')!r})\n"
        f"print(fitted.predict_proba({paths[:3].tolist()!r}).tolist())"
    )
    np.testing.assert_allclose(eval(run(code).splitlines()[-1]), expected[:3], atol=1e-6)


def test_threads(paths):
    fitted = [net(random_state=seed, cache="memory") for seed in range(4)]
    threads = [threading.Thread(target=one.fit, args=(paths, y)) for one in fitted]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed, one in enumerate(fitted):
        assert same(one, net(random_state=seed).fit(X, y))
