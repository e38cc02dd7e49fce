"""What the studies of bones and chests put beside the numbers of their reports."""

import dataclasses

import numpy as np
import pytest

from kmedclf import MLPClassifier, ViTClassifier, studies
from kmedclf.datasets import make_blood_cells
from kmedclf.datasets.synthetic_xrays import XRAYS
from kmedclf.studies import bone, chest, dataset, lung

NAMES = ["Covid", "Normal", "Viral Pneumonia"]


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    arrays = {"class_names": np.array(NAMES)}
    for seed, (split, n) in enumerate({"train": 45, "test": 15}.items()):
        X, _ = make_blood_cells(n, 8, random_state=seed)
        arrays |= {f"{split}_images": X, f"{split}_labels": np.arange(n) % 3}
    np.savez(folder / "a.npz", **arrays)
    return studies.get("chest").open(str(folder / "a.npz"), folder / "out", quick=True)


@pytest.fixture(scope="module")
def several(lab):
    """Train the same network with two seeds."""
    made = [MLPClassifier(units=4, epochs=2, random_state=seed) for seed in (0, 1)]
    return [lab.train(f"mlp-{seed}", est, page=False) for seed, est in enumerate(made)]


def test_every_row_of_the_report_is_shown_and_the_trained_ones_beside(several):
    rows = bone.ALEXNET
    made = [bone.Trained(rows[2], {**rows[2].parameters, "epochs": 2}, "a", several[0])]
    table = bone._table("alexnet", made)
    assert len(table.rows) == 23
    assert '"2 for 15" is 2 here and 15 in the report' in table.title
    shown = table.rows[2]
    assert shown[:5] == ["32", "2 for 15", "0.005", "7", "0.677"]
    assert shown[6] == str(several[0].reports["test"].scores["accuracy"])
    assert shown[7] == f"{several[0].reports['val'].accuracy:.4f}"
    for n, row in enumerate(table.rows):
        assert len(row) == len(table.head)
        assert (row[5:] == ["–"] * 5) == (n != 2)


def test_nothing_is_smaller_than_in_the_report_unless_the_study_is_quick(lab, tmp_path):
    source = lab.data.description["source"]
    whole = studies.get("bone").open(source, tmp_path, parameters={"weights": None})
    assert whole.data.description["n"] == {"train": 36, "val": 9, "test": 15}
    made = [(one.make, row) for one in bone.ARCHITECTURES.values() for row in one.rows]
    assert len(whole.some(made)) == 23 + 14 + 9 + 6 + 6
    for make, row in made:
        wanted = {**make(**row.parameters).get_params(), "weights": None}
        assert whole.prepared(make(**row.parameters)).get_params() == wanted
        quick = lab.prepared(make(**row.parameters)).get_params()
        assert quick["epochs"] == 3
        assert quick["weights"] is None


def test_the_matrix_of_several_trainings_is_the_sum_of_theirs(several):
    reports = [run.reports["test"] for run in several]
    np.testing.assert_array_equal(
        bone._pooled(reports).confusion, sum(report.confusion for report in reports)
    )


def test_right_and_wrong_predictions_are_all_counted(several):
    report = several[0].reports["test"]
    table = bone._certainty(bone.Trained(bone.ALEXNET[0], {}, "a", several[0]))
    assert [int(row[1]) for row in table.rows] == [report.right.sum(), (~report.right).sum()]
    sure = report.proba.max(axis=1)[~report.right]
    assert table.rows[1][3] == f"{np.median(sure):.3f}"


@pytest.mark.parametrize(
    ("names", "order"),
    [
        (["Covid", "Normal", "Viral Pneumonia"], [0, 1, 2]),
        (["COVID-19", "normal", "virus"], [0, 1, 2]),
        (["Normal", "Virus", "covid"], [1, 2, 0]),
        (["a", "b", "c"], None),
        (["Covid", "Normal"], None),
        (["Covid", "Covid 2", "Normal"], None),
    ],
)
def test_classes_are_found_by_their_names(names, order):
    assert dataset.places(names, chest.PATTERNS) == order


def test_the_reports_counts_stand_beside_its_own_classes(lab):
    """Folders of a user may have other names, and so another order."""
    section = chest.images(dataclasses.replace(
        lab, data=dataclasses.replace(lab.data, class_names=("Normal", "Virus", "covid"))
    ))  # fmt: skip
    whole = [row for row in section.tables[0].rows if "validation" in row[0] and "," in row[0]]
    assert [(row[1], row[4]) for row in whole] == [
        ("Normal", "936"), ("Virus", "866"), ("covid", "590"),
    ]  # fmt: skip
    for study in (bone, lung):
        assert dataset.places(XRAYS[study.STUDY.name].class_names, study.PATTERNS) == list(
            range(len(study.PATTERNS))
        )
    assert dataset.places(["fractured", "unfractured"], bone.PATTERNS) == [0, 1]


@pytest.mark.parametrize("name", chest.REPORTED)
def test_scores_of_every_class_stand_beside_the_reports(name, several):
    report, published = several[0].reports["test"], chest.REPORTED[name]
    table = chest._classes(name, several[0])
    assert f"{sum(published.support)} test images" in table.title
    for k, one in enumerate(report.per_class):
        row = table.rows[k]
        assert row[:3] == [one.name, str(one.support), str(published.support[k])]
        assert row[3::2] == [str(one.precision), str(one.recall), str(one.f1)]
        assert row[4::2] == [f"{value:.2f}" for value in published.by_class[k]]
    assert [row[0] for row in table.rows[3:]] == ["accuracy", "macro average", "weighted average"]
    assert table.rows[3][-1] == f"{published.accuracy:.2f}"


def test_the_reports_numbers_agree_with_themselves():
    counted = chest.COUNTED
    parts = [counted[split] for split in ("train", "val", "test")]
    assert tuple(map(sum, zip(*parts, strict=True))) == counted["train + val + test"]
    assert sum(counted["train + val + test"]) == 2 * 1196
    for one in chest.REPORTED.values():
        means = [np.mean([row[k] for row in one.by_class]) for k in range(3)]
        assert np.abs(np.subtract(means, one.macro)).max() < 0.0101  # all are rounded
    assert sum(chest.REPORTED["vit"].support) == 180
    assert chest.REPORTED["baseline"].support == counted["test"]


@pytest.mark.parametrize("given", [{}, {"lr_schedule": "plateau"}])
def test_the_adaptive_rate_is_what_ran(given, lab, several, tmp_path):
    changed = studies.get("chest").open(
        lab.data.description["source"], tmp_path, quick=True, parameters=given
    )
    ests = [changed.prepared(est) for est in chest.networks(0).values()]
    made = {
        name: several[0].__class__(est, [], {}, 1.0, 1)
        for name, est in zip(chest.REPORTED, ests, strict=True)
    }
    assert isinstance(made["vit"].estimator, ViTClassifier)
    rate = chest._choices(changed, made)[0]
    assert rate.what == "Adaptive rate"
    assert ("no schedule" in rate.taken) == (not given)
    assert ("plateau" in rate.taken) == bool(given)
    assert (rate.why == "Given for this run.") == bool(given)
