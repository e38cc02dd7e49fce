"""The best classifier in the time there is: what it returns, keeps, refuses and leaves out."""

import contextlib
import io
import time

import numpy as np
import pandas as pd
import pytest
from helpers import data
from PIL import Image
from sklearn.base import clone
from sklearn.exceptions import FitFailedWarning
from sklearn.model_selection import cross_validate
from sklearn.utils.estimator_checks import parametrize_with_checks

import kmedclf
from kmedclf import AutoClassifier, datasets

X, y = data(60)
WORDS = np.array(["é", "b", "c"])[y]
TWO = """
candidates:
- {name: pixels, estimator: PixelClassifier, parameters: {side: 8}}
- name: mlp
  estimator: MLPClassifier
  parameters: {units: 8, epochs: 4, early_stopping: false, learning_rate: 0.05}
"""
BAD = """
- {name: bad, estimator: CNNClassifier, parameters: {kernel_size: 50}}
"""


@pytest.fixture(scope="module")
def portfolio(tmp_path_factory):
    """A portfolio of two small candidates, and one with a third that fails."""
    folder = tmp_path_factory.mktemp("portfolio")
    (folder / "two.yaml").write_text(TWO)
    (folder / "bad.yaml").write_text(TWO + BAD)
    (folder / "one.yaml").write_text(TWO[: TWO.index("- name: mlp")])
    return folder


def make(portfolio, name="two", **params):
    params = {"time_limit": 120, "random_state": 0, **params}
    return AutoClassifier(portfolio=portfolio / f"{name}.yaml", **params)


@pytest.fixture(scope="module")
def fitted(portfolio):
    return make(portfolio).fit(X, WORDS)


def test_predicts(fitted):
    proba = fitted.predict_proba(X)
    assert proba.shape == (60, 3)
    np.testing.assert_allclose(proba.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(fitted.predict(X), fitted.classes_[proba.argmax(axis=1)])
    assert fitted.score(X, WORDS) > 0.5


def test_leaderboard_says_what_was_tried_and_what_it_is_worth(fitted):
    board = pd.DataFrame(fitted.leaderboard_).set_index("name")
    assert set(board.index[2:]) == {"pixels", "mlp"}
    assert board.weight[2:].sum() == pytest.approx(1)
    nested, optimistic = board.index[:2]
    # The mixture was chosen by this loss: it is never worse than the best candidate's.
    assert board.log_loss[optimistic] <= board.log_loss[2:].min() + 1e-6
    assert board.log_loss[nested] >= board.log_loss[optimistic]
    for name in ("accuracy", "log_loss"):
        assert (board[f"{name}_low"] <= board[name]).all()
        assert (board[f"{name}_high"] >= board[name]).all()
    found = fitted.classes_[fitted.oof_proba_.argmax(axis=1)] == WORDS[fitted.oof_rows_]
    assert board.accuracy[nested] == pytest.approx(found.mean())
    assert "optimistic" in fitted.verdict()


def test_saved_and_loaded(fitted, tmp_path):
    fitted.save(tmp_path / "auto.kmedclf")
    loaded = kmedclf.load(tmp_path / "auto.kmedclf")
    np.testing.assert_array_equal(loaded.predict_proba(X), fitted.predict_proba(X))
    assert loaded.leaderboard_ == fitted.leaderboard_
    assert loaded.notes_ == fitted.notes_
    assert loaded.portfolio is None  # a file names no path


def together(auto, groups):
    """Say whether no group is in two folds."""
    parts = {(group, part) for group, part in zip(groups, auto.oof_parts_, strict=True)}
    return len(parts) == len(set(groups)) and len(set(auto.oof_parts_)) == 5


def test_copies_of_a_picture_are_in_one_fold(portfolio):
    """Labels drawn by chance are learnt by heart, but no copy tells what they are elsewhere."""
    labels = np.random.default_rng(0).integers(2, size=30)
    noise = np.random.default_rng(1).integers(0, 256, (30, 32, 32, 3))
    Z = (X[:30].repeat(4, axis=1).repeat(4, axis=2) + noise) // 2
    Z = np.concatenate([Z, Z[:, :, ::-1], Z])  # a mirror image is a near copy
    auto = make(portfolio, "one").fit(Z.astype(np.uint8), np.tile(labels, 3))
    assert "copies" in " ".join(auto.notes_)
    assert together(auto, np.arange(90) % 30)
    assert auto.leaderboard_[0]["accuracy"] < 0.8


def test_groups_are_in_one_fold(portfolio):
    groups = np.arange(60) // 5
    auto = make(portfolio, "one").fit(X, y, groups=groups)
    assert together(auto, groups)


def test_several_labels(portfolio, tmp_path):
    Z, labels = datasets.make_chest_findings(48, 16, random_state=0)
    auto = make(portfolio).fit(Z, labels)
    assert auto.predict(Z).shape == labels.shape
    assert np.isin(auto.predict(Z), (0, 1)).all()
    auto.save(tmp_path / "auto.kmedclf")
    loaded = kmedclf.load(tmp_path / "auto.kmedclf")
    np.testing.assert_array_equal(loaded.predict_proba(Z), auto.predict_proba(Z))


def test_files(portfolio, tmp_path):
    paths = [str(tmp_path / f"{i}.png") for i in range(60)]
    for path, image in zip(paths, X, strict=True):
        Image.fromarray(image).save(path)
    auto = make(portfolio, "one").fit(paths, y)
    assert auto.predict_proba(paths[:3]).shape == (3, 3)
    with pytest.raises(FileNotFoundError, match=r"no\.png"):
        auto.predict(["no.png"])


def test_inside_cross_validation(portfolio):
    found = cross_validate(make(portfolio, "one"), X, y, cv=2, error_score="raise")
    assert (found["test_score"] > 0.5).all()


def test_a_bad_candidate_costs_only_itself(portfolio):
    with pytest.warns(FitFailedWarning, match="kernel_size"):
        auto = make(portfolio, "bad").fit(X, y)
    row = next(row for row in auto.leaderboard_ if row["name"] == "bad")
    assert row["status"].startswith("failed: ")
    assert row["log_loss"] is None
    assert row["weight"] == 0
    assert auto.predict(X).shape == (60,)


def test_time_leaves_all_but_the_first_out(portfolio):
    auto = make(portfolio, time_limit=0.01).fit(X, y)
    statuses = {row["name"]: row["status"] for row in auto.leaderboard_[2:]}
    assert statuses["pixels"] == "all folds"
    assert statuses["mlp"].startswith("left out: ")


class Interrupting(io.StringIO):
    """A terminal whose user stops as soon as the first candidate is done."""

    def write(self, text):
        if text.startswith("pixels: all folds"):
            raise KeyboardInterrupt
        return super().write(text)


def test_an_interruption_keeps_the_best_so_far(portfolio):
    auto = make(portfolio, verbose=1)
    with contextlib.redirect_stdout(Interrupting()), pytest.warns(UserWarning, match="so far"):
        auto.fit(X, y)
    assert [row["status"] for row in auto.leaderboard_[2:]] == ["all folds", "not tried"]
    assert auto.predict(X).shape == (60,)


def test_a_fit_goes_on_from_memory(portfolio, tmp_path):
    first = make(portfolio, memory=tmp_path).fit(X, y)
    fits = sorted(tmp_path.rglob("*.kmedclf-fit"))
    assert len(fits) == 5  # one a fold
    times = [path.stat().st_mtime_ns for path in fits]
    again = make(portfolio, memory=tmp_path).fit(X, y)
    assert sorted(tmp_path.rglob("*.kmedclf-fit")) == fits
    assert [path.stat().st_mtime_ns for path in fits] == times
    np.testing.assert_array_equal(again.predict_proba(X), first.predict_proba(X))


def test_two_images_a_class(portfolio):
    rows = np.concatenate([np.flatnonzero(y == k)[:2] for k in range(3)])
    auto = make(portfolio).fit(X[rows], y[rows])
    assert set(auto.oof_parts_) == {0, 1}
    assert auto.predict_proba(X).shape == (60, 3)


def test_one_image_of_a_class(portfolio):
    rows = np.r_[np.flatnonzero(y == 0)[:9], np.flatnonzero(y == 1)[:9], np.flatnonzero(y == 2)[:1]]
    auto = make(portfolio).fit(X[rows], y[rows])
    assert any("single image" in note for note in auto.notes_)
    assert list(auto.classes_) == [0, 1, 2]


def test_what_is_refused(portfolio, tmp_path):
    with pytest.raises(ValueError, match="at least 2 classes"):
        make(portfolio).fit(X, np.zeros(60, int))
    with pytest.raises(FileNotFoundError, match=r"none\.safetensors"):
        make(portfolio, weights=tmp_path / "none.safetensors").fit(X, y)
    with pytest.raises(ValueError, match="'time_limit' parameter of AutoClassifier"):
        make(portfolio, time_limit=0).fit(X, y)
    (tmp_path / "no.yaml").write_text("a: 1")
    with pytest.raises(ValueError, match="'candidates'"):
        AutoClassifier(portfolio=tmp_path / "no.yaml").fit(X, y)


def test_sensitivity_sets_a_threshold(portfolio):
    auto = make(portfolio, "one", sensitivity=1.0).fit(X, y == 1)
    held = auto.oof_proba_[y[auto.oof_rows_] == 1]
    assert auto.classifier_.threshold_ <= held[:, 1].max()
    assert auto.predict(X).dtype == bool


def test_clone_is_unfitted(fitted):
    other = clone(fitted)
    assert other.get_params() == fitted.get_params()
    assert not hasattr(other, "classifier_")


@parametrize_with_checks(
    [AutoClassifier(time_limit=0.01, random_state=0)],
    expected_failed_checks=lambda estimator: {
        "check_sample_weight_equivalence_on_dense_data": "folds are drawn from the rows there are",
    },
)
@pytest.mark.slow
def test_sklearn(estimator, check):
    check(estimator)


@pytest.mark.slow
def test_a_hundred_thousand_images_on_disk(tmp_path):
    """A minute gives an answer; the images are read from disk, in few of them at a time."""
    n = 100_000
    few, labels = datasets.make_blood_cells(2_000, 28, random_state=0)
    Z = np.lib.format.open_memmap(tmp_path / "X.npy", "w+", np.uint8, (n, *few.shape[1:]))
    for at in range(0, n, 2_000):
        Z[at : at + 2_000] = np.roll(few, at // 2_000, axis=(1 + at // 2_000 % 2))
    Z = np.load(tmp_path / "X.npy", mmap_mode="r")
    began = time.perf_counter()
    auto = AutoClassifier(time_limit=60, random_state=0).fit(Z, np.tile(labels, n // 2_000))
    assert time.perf_counter() - began < 90  # 60 s, a busy machine and the first compilation
    assert len(auto.oof_rows_) == 10_000
    assert auto.leaderboard_[0]["accuracy"] > 0.5


@pytest.mark.parametrize(("most", "tried"), [(60, True), (59, False)])
def test_candidates_that_need_few_images_are_tried_on_few(most, tried, tmp_path, monkeypatch):
    monkeypatch.setattr("kmedclf.auto.portfolio.FEW", most)
    path = tmp_path / "few.yaml"
    path.write_text(
        "candidates:\n- {name: pixels, estimator: PixelClassifier}\n"
        "- {name: again, estimator: PixelClassifier, needs: [few]}\n"
    )
    names = [row["name"] for row in AutoClassifier(5, portfolio=path).fit(X, y).leaderboard_]
    assert ("again" in names) == tried


def test_with_weights_it_probes_their_features(portfolio, tmp_path):
    small = {"variant": "lite0", "width": 0.1, "depth": 0.1}
    net = kmedclf.EfficientNetClassifier(**small, epochs=1, early_stopping=False, random_state=0)
    net.fit(X, y).save(tmp_path / "net.kmedclf")
    probe = "- {name: probe, estimator: EfficientNetProbe, needs: [weights, images],\n"
    probe += "   parameters: {width: 0.1, depth: 0.1, side: 16}}\n"
    (tmp_path / "probe.yaml").write_text("candidates:\n" + probe)
    auto = AutoClassifier(120, portfolio=tmp_path / "probe.yaml", weights=tmp_path / "net.kmedclf")
    auto.fit(X, y).save(tmp_path / "auto.kmedclf")
    loaded = kmedclf.load(tmp_path / "auto.kmedclf")
    np.testing.assert_array_equal(loaded.predict_proba(X), auto.predict_proba(X))
    with pytest.raises(ValueError, match="set again"):
        clone(loaded).fit(X, y)
