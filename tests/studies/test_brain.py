"""The study of brain slices: copies, folds, and what its page says of them."""

import re
from itertools import chain

import numpy as np
import pytest

from kmedclf import recipes, studies
from kmedclf.datasets import make_brain_slices, sources
from kmedclf.evaluation import Report
from kmedclf.evaluation.compare import pair_of
from kmedclf.studies import brain, subsets

SIDE = 24
TABLES = (brain.IMBALANCE, brain.STOPS, brain.LOSSES, brain.OPTIMIZERS, brain.BATCHES,
          brain.REGULARISATION, brain.TRANSFER)  # fmt: skip


def arrays_of(copies=True):
    """Draw slices of single heads; some are put into training again, mirrored or as they are."""
    arrays = {}
    for seed, (split, n) in enumerate({"train": 60, "val": 20, "test": 24}.items()):
        rng = np.random.default_rng(seed)
        X = rng.integers(0, 256, (n, SIDE, SIDE), np.uint8)  # alike in nothing
        arrays[f"{split}_images"], arrays[f"{split}_labels"] = X, np.arange(n) % 4
    if copies:
        train, test = arrays["train_images"], arrays["test_images"]
        train[1] = train[5]  # identical, of one class
        train[2] = train[6][:, ::-1]
        arrays["val_images"][3] = np.clip(train[7].astype(int) + 3, 0, 255)
        test[0] = train[8][::-1]
        test[4] = test[8]  # identical, in the test alone
    return arrays


def write(path, **given):
    np.savez(path, **arrays_of(**given), class_names=np.array(["a", "b", "c", "d"]))
    return str(path)


@pytest.fixture
def data(tmp_path):
    return sources.read_data(write(tmp_path / "a.npz"))


def test_copies_are_those_of_the_audit(data):
    found = subsets.Copies.of(data)
    assert found.n_pool == 80
    together = [{1, 5}, {2, 6}, {7, 63}]
    assert [set(np.flatnonzero(found.groups == found.groups[min(one)])) for one in together] == (
        together
    )
    assert set(np.flatnonzero(found.grouped)) == set().union(*together)
    assert np.flatnonzero(found.test).tolist() == [0]
    rows = np.array([1, 2, 3, 63])
    assert found.copied(rows, np.array([5])).tolist() == [True, False, False, False]
    assert found.copied(rows, np.array([6, 7])).tolist() == [False, True, False, True]


def test_folds_keep_copies_together_or_count_them(data):
    found = subsets.Copies.of(data)
    twins = {1: 5, 2: 6, 7: 63}
    other = {**twins, **{b: a for a, b in twins.items()}}
    for grouped in (False, True):
        several = found.folds(data, 4, 0, grouped=grouped)
        assert sorted(np.concatenate([one.rows for one in several])) == list(range(80))
        for one in several:
            held = set(one.rows.tolist())
            copied = [row in other and other[row] not in held for row in one.rows]
            np.testing.assert_array_equal(one.copied["val"], copied)
            np.testing.assert_array_equal(
                one.data.splits["val"][1], subsets.pool(data)[1][one.rows]
            )
            counted = one.data.description["n_copies_of_train"]
            assert counted == {"val": sum(copied), "test": int(8 not in held)}
            if grouped:
                assert counted["val"] == 0


def test_the_report_is_followed_row_by_row(tmp_path):
    lab = studies.get("brain").open(
        write(tmp_path / "a.npz"), tmp_path / "out", parameters={"weights": None}
    )
    assert [len(one) for one in TABLES] == [3, 2, 4, 6, 3, 4, 2]
    assert len(brain.FOLDS_REPORTED) == len(brain.SETS_REPORTED) == len(brain.SETS) == 5
    assert brain.network(lab, **brain.SHORT).epochs == 10
    for one in chain(*TABLES[:-1]):
        network = brain.network(lab, **one.changes)
        used = recipes.parameters(network)
        assert (used["epochs"], network.depth, network.weights) == (20, 18, "imagenet")
        assert {name: used[name] for name in one.changes} == one.changes
        assert one.reported != brain.NOTHING or one.words == "learning rate 0.01"
    means = np.array([[float(x) for x in one[:4]] for one in brain.FOLDS_REPORTED])
    for column, said in zip(means.T, brain.MEAN_REPORTED, strict=False):
        mean, deviation = map(float, said.split(" ± "))
        assert column.mean() == pytest.approx(mean, abs=1e-4)
        assert column.std() == pytest.approx(deviation, abs=1e-4)  # ddof 0, as said


def test_statements_are_about_trainings_of_the_study():
    folders = {brain._folder(one.words, one.changes) for one in chain(*TABLES)}
    folders |= {f"augment-{k}-{name}" for k, name in enumerate(brain.SETS, 1)}
    for one in brain.CLAIMS:
        assert one.first in folders
        assert isinstance(one.second, int) or one.second in folders
    assert brain._folder("early stopping", brain.STOPPING) == "early-stopping"  # in two tables


def test_copies_are_kept_on_request(tmp_path):
    path = write(tmp_path / "a.npz")
    given = {"parameters": {"weights": None}}
    study = studies.get("brain")
    lab = study.open(path, tmp_path / "out", **given)
    assert lab.data.description["n"] == {"train": 59, "val": 20, "test": 23}
    assert lab.as_found.description["n"] == {"train": 60, "val": 20, "test": 24}
    kept = study.open(path, tmp_path / "kept", keep_copies=True, **given)
    assert kept.data.description["n"] == lab.as_found.description["n"]
    with pytest.raises(ValueError, match="--keep-copies must go with a study that leaves"):
        studies.get("lung").open(path, tmp_path / "lung", keep_copies=True)


def test_without_its_weights_it_says_what_else_can_be_done(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setenv("KMEDCLF_MIRROR", (tmp_path / "none").as_uri())
    with pytest.raises(FileNotFoundError, match=r"resnet18\.tv_in1k.* -p weights=null"):
        studies.get("brain").open(write(tmp_path / "a.npz"), tmp_path / "out")


def ran(tmp_path, items, copies=True, **given):
    """Run items, small and short: the workspace and the sections by name."""
    study = studies.get("brain")
    tmp_path.mkdir(exist_ok=True)
    path = write(tmp_path / "a.npz", copies=copies)
    lab = study.open(path, tmp_path / "out", quick=True, parameters={"epochs": 1}, **given)
    return lab, {item.__name__: item(lab) for item in study.only(items).items}


def text_of(section):
    return " ".join([section.method, *section.findings])


@pytest.mark.slow
def test_scores_on_copies_are_marked_beside_the_number(tmp_path):
    _, made = ran(tmp_path / "with", ["images", "folds", "stopping", "discussion"])
    folds = made["folds"].tables[0]
    for row in folds.rows:
        head = dict(zip(folds.head, row, strict=True))
        ours = row[0] != "in the report"
        for name in ("Precision", "Recall", "F1", "Accuracy, 95 % interval"):
            assert (" †" in head[name]) == ours
        assert "†" not in head["Accuracy without copies"]
    assert "1 of the 23 test images" in text_of(made["folds"])
    assert "near copies of images to fold: 1 of 23." in text_of(made["images"])
    _, plain = ran(tmp_path / "without", ["folds"], copies=False)
    assert "†" not in str(plain["folds"])
    assert "No test or validation image here is a near copy" in text_of(plain["folds"])


@pytest.mark.slow
def test_sentences_of_a_comparison_are_those_of_its_reports(tmp_path):
    lab, made = ran(tmp_path, ["stopping", "imbalance", "discussion"])
    reports = {
        name: Report.from_json(lab.out / name / "evaluation-test.json") for name in lab.results
    }
    weakest = min(("fold-1", "fold-2"), key=lambda name: reports[name].accuracy)
    assert f"On fold {weakest[-1]}, of the 2 trained" in text_of(made["stopping"])
    for folder, words in (("early-stopping", "early stopping"), ("step-schedule", "step schedule")):
        pair = pair_of("a", "b", reports[folder], reports[weakest], 1000, 0)
        said = next(one for one in made["stopping"].findings if f"{words} against" in one.lower())
        assert f"test accuracy {reports[folder].accuracy:.3f}" in said
        assert float(re.search(r"difference ([+-][\d.]+)", said)[1]) == pytest.approx(
            pair.difference.value, abs=6e-4
        )
    best = max(("fold-1", "fold-2"), key=lambda name: reports[name].accuracy)
    assert (
        f"against fold {best[-1]}, the best of the first part: test accuracy"
        in (made["imbalance"].findings[-1])
    )
    (table,) = made["discussion"].tables
    trained = [one for one in brain.CLAIMS if one.first in lab.results]
    assert [row[1] for row in table.rows] == [one.words for one in trained]
    assert len(trained) == 4
    assert f"not trained here: {len(brain.CLAIMS) - 4}." in text_of(made["discussion"])


@pytest.mark.slow
@pytest.mark.parametrize("keep_copies", [True, False])
def test_the_folds_with_and_without_copies_stand_side_by_side(keep_copies, tmp_path):
    lab, made = ran(tmp_path, ["images", "folds", "copies"], keep_copies=keep_copies)
    assert ("were kept, as in the report" in made["images"].method) == keep_copies
    (table,) = made["copies"].tables
    assert [row[1] for row in table.rows] == ["80", "79", "79"]
    assert [row[2] == "0.0 %" for row in table.rows] == [False, False, True]
    own = {True: ("fold-1-without-copies", "fold-1"), False: ("fold-1", "fold-1-as-found")}
    assert set(own[keep_copies]) < set(lab.results)
    assert lab.results["fold-1"]["n"]["test"] == (24 if keep_copies else 23)


def test_random_data_have_no_patients_to_tell():
    """The drawn slices do: neighbours of one head, which random folds put on both sides."""
    X, y = make_brain_slices(120, 64, random_state=0)
    splits = {"train": (X[:100], y[:100]), "test": (X[100:], y[100:])}
    data = sources.Data(splits, ("g", "m", "n", "p"), {"n": {}, "name": "drawn"})
    found = subsets.Copies.of(data)
    loose, tight = (found.folds(data, 5, 0, grouped=one) for one in (False, True))
    assert sum(one.copied["val"].sum() for one in loose) > 20
    assert sum(one.copied["val"].sum() for one in tight) == 0
