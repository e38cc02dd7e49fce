"""The inner split by groups: every class is trained on, and no more held out than must be."""

import time

import numpy as np
import pytest
from helpers import NAMES, data, make
from scipy.sparse import csr_array
from sklearn.model_selection import StratifiedShuffleSplit

from kmedclf import EnsembleClassifier
from kmedclf.inputs.images import Images, Rows
from kmedclf.training.group_split import EXACT, TOLERANCE, NoSplitError, split
from kmedclf.training.heads import HEADS
from kmedclf.training.rows import Split

X, y = data()


def drawn(seed, most=9):
    """Draw a layout of groups and classes, marks (n, k): exclusive or not, even or not."""
    rng = np.random.default_rng(seed)
    n_groups, k = rng.integers(2, most + 1), rng.integers(2, 6)
    size = np.maximum(1, rng.pareto(rng.choice([0.8, 3]), n_groups) * 4).astype(int)
    group = rng.permutation(np.repeat(np.arange(n_groups), np.minimum(size, 200)))
    if rng.random() < 0.5:  # classes that some groups lack
        marks = rng.integers(0, k, n_groups)[group][:, None] == np.arange(k)
    elif rng.random() < 0.5:
        share = rng.dirichlet(np.ones(k))
        marks = rng.choice(k, len(group), p=share)[:, None] == np.arange(k)
    else:
        marks = rng.random((len(group), k)) < rng.random(k) ** 2
    return marks, group, float(rng.choice([0.1, 0.2, 1 / 3, 0.5]))


def judged(marks, group, fraction, held):
    """Judge sets of groups (m, g): by how much the wanted number is missed; inf if a class goes."""
    count = np.zeros((group.max() + 1, marks.shape[1]), int)
    np.add.at(count, group, marks.astype(int))
    left = (held @ count < count.sum(axis=0)) | (count.sum(axis=0) == 0)
    rows = held @ np.bincount(group)
    wanted = fraction * len(group)
    missed = np.maximum(np.abs(rows - wanted) - TOLERANCE * wanted, 0)
    return np.where(left.all(axis=1) & (rows > 0), missed.round(9), np.inf)


def of_all(n):
    return np.arange(1, 2**n)[:, None] >> np.arange(n) & 1


@pytest.mark.parametrize("block", range(8))
def test_as_near_as_groups_allow(block):
    for seed in range(50 * block, 50 * block + 50):
        marks, group, fraction = drawn(seed)
        best = judged(marks, group, fraction, of_all(group.max() + 1)).min()
        if np.isinf(best):
            with pytest.raises(NoSplitError):
                split(marks, group, fraction, seed)
            continue
        train, held = split(marks, group, fraction, seed)
        assert sorted([*train, *held]) == list(range(len(group)))
        assert not set(group[train]) & set(group[held])
        assert (marks[train].any(axis=0) == marks.any(axis=0)).all()
        mine = np.isin(np.arange(group.max() + 1), group[held]).astype(int)[None]
        assert judged(marks, group, fraction, mine)[0] == best, seed


def test_as_near_where_there_are_more_groups_than_sets_can_be_tried():
    for seed in range(60):
        marks, group, fraction = drawn(seed, 15)
        if group.max() < EXACT:
            continue
        best = judged(marks, group, fraction, of_all(group.max() + 1)).min()
        if np.isfinite(best):
            train, held = split(marks, group, fraction, seed)
            mine = np.isin(np.arange(group.max() + 1), group[held]).astype(int)[None]
            assert judged(marks, group, fraction, mine)[0] <= best + 1, seed
            assert (marks[train].any(axis=0) == marks.any(axis=0)).all()


def test_classes_have_their_share_where_groups_are_many():
    rng = np.random.default_rng(0)
    label = rng.choice(4, 4000, p=[0.7, 0.2, 0.08, 0.02])
    group = rng.integers(0, 300, 4000)
    marks = label[:, None] == np.arange(4)
    for seed in range(5):
        _, held = split(marks, group, 0.1, seed)
        assert len(held) / 4000 == pytest.approx(0.1, rel=TOLERANCE)
        np.testing.assert_allclose(marks[held].sum(axis=0) / marks.sum(axis=0), 0.1, atol=0.03)


def test_the_seed_alone_decides():
    marks, group, _ = drawn(3, 40)
    group = np.concatenate([group, np.arange(60) + group.max() + 1])
    marks = np.concatenate([marks, np.ones((60, marks.shape[1]), bool)])
    first, again, other = (split(marks, group, 0.3, seed)[1] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(("n_groups", "k"), [(50, 8), (20_000, 14), (100_000, 8), (3_000, 300)])
def test_is_fast(n_groups, k):
    rng = np.random.default_rng(0)
    label = rng.integers(0, k, 100_000)
    marks = csr_array((np.ones(100_000), (np.arange(100_000), label)))
    group = np.unique(rng.integers(0, n_groups, 100_000), return_inverse=True)[1]
    start = time.process_time()
    split(marks, group, 0.1, 0)
    assert time.process_time() - start < 5


# -- through fit -----------------------------------------------------------------------------------


def of_issue():
    """Make 500 images of three colours; 20 of the last class are of one patient, 40 others are."""
    rng = np.random.default_rng(0)
    label = np.repeat(["a", "b", "c"], [240, 240, 20])
    patient = np.concatenate([rng.integers(0, 40, 480), np.full(20, 99)])
    images = rng.integers(0, 60, (500, 8, 8, 3))
    images[np.arange(500), :, :, np.unique(label, return_inverse=True)[1]] += 150
    return images.astype(np.uint8), label, patient


@pytest.mark.parametrize("seed", range(2))
def test_a_class_of_one_patient_is_learnt(seed):
    images, label, patient = of_issue()
    model = make("CNNClassifier", epochs=20, early_stopping=True, random_state=seed)
    model.set_params(learning_rate=0.02, augment=False, class_weight="balanced")
    model.fit(images, label, groups=patient)
    assert (model.predict(images)[label == "c"] == "c").mean() == 1


@pytest.mark.parametrize("several", [False, True])
def test_a_large_patient_is_trained_on(several):
    patient = np.concatenate([np.zeros(300, int), np.arange(200) // 10 + 1])
    label = np.random.default_rng(0).integers(0, 2, (500, 3) if several else 500)
    images = Images(np.zeros((500, 1, 1, 1), np.uint8), 1.0)
    kind = "f4" if several else np.int32
    rows = Rows(images, np.arange(500), label.astype(kind), np.ones(500, np.float32))
    head = HEADS["sigmoid" if several else "softmax"]
    train, held = Split(0.1, patient, 0)(rows, head, "It")
    assert len(held) == 50
    assert 0 not in patient[held.index]
    assert not set(patient[held.index]) & set(patient[train.index])


def test_every_label_of_several_is_trained_on():
    rng = np.random.default_rng(0)
    patient = np.repeat(np.arange(30), 5)
    label = (rng.random((150, 4)) < 0.3).astype("f4")
    label[:, 3] = patient == 7
    rows = Rows(Images(np.zeros((150, 1, 1, 1), np.uint8), 1.0), np.arange(150), label,
                np.ones(150, np.float32))  # fmt: skip
    for seed in range(10):
        train, held = Split(0.2, patient, seed)(rows, HEADS["sigmoid"], "It")
        assert train.y.any(axis=0).all()
        assert len(held) == 30


GROUPS = np.arange(48) // 4
BAD = {
    "each class a group": (y, ["class", "'early_stopping", "group 0 only"]),
    "one group": (y * 0, ["one group", "48 images", "X_val"]),
    "None": ([None, *GROUPS[1:]], ["'groups'", "None at 0"]),
    "NaN": ([*GROUPS[:-1], np.nan], ["'groups'", "nan at 47"]),
    "an array with None": (np.array([*"ab" * 23, "c", None]), ["'groups'", "None at 47"]),
    "an array with NaN": (np.where(GROUPS == 3, np.nan, GROUPS), ["'groups'", "nan at 12"]),
    "a table": (np.stack([GROUPS, GROUPS], axis=1), ["'groups'", "(48, 2)"]),
    "too few": (GROUPS[:7], ["'groups'", "48", "7"]),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("name", ["MLPClassifier", "CNNClassifier"])
def test_groups_that_cannot_be_used_are_refused(name, case):
    groups, words = BAD[case]
    with pytest.raises(ValueError, match=name) as error:
        make(name, early_stopping=True).fit(X, y, groups=groups)
    message = str(error.value)
    assert all(word.strip("'") in message for word in words), message
    assert message.count(". ") <= 1
    assert "\n" not in message


def test_groups_are_checked_by_all_that_take_them():
    for name in NAMES:
        if name in ("MLPClassifier", "TinyNet"):
            with pytest.raises(ValueError, match=r"'groups' of .* Got None at 0"):
                make(name).fit(X, y, groups=[None] * 48)
    ensemble = EnsembleClassifier([("mlp", make("MLPClassifier"))])
    with pytest.raises(ValueError, match=r"'groups' of .* Got None at 0"):
        ensemble.fit(X, y, groups=[None] * 48)


@pytest.mark.parametrize(
    "kind",
    [list, np.array, lambda g: np.array([f"p{i}" for i in g]), lambda g: g[:, None],
     lambda g: np.array([*g[:-1], "x"], object), lambda g: (g / 2).tolist()],
)  # fmt: skip
def test_groups_of_any_kind(kind):
    model = make("MLPClassifier", early_stopping=True, validation_fraction=0.25)
    assert "val_loss" in model.fit(X, y, groups=kind(GROUPS)).history_


def test_what_groups_force_is_said():
    with pytest.warns(UserWarning, match=r"holds out 50% of the images for early stopping"):
        make("MLPClassifier", early_stopping=True).fit(X, y, groups=np.arange(48) % 2)


def test_without_groups_the_split_is_scikit_learns():
    label = np.random.default_rng(0).integers(0, 3, 200).astype(np.int32)
    images = Images(np.zeros((200, 1, 1, 1), np.uint8), 1.0)
    rows = Rows(images, np.arange(200), label, np.ones(200, np.float32))
    for seed in range(5):
        found = Split(0.15, None, seed)(rows, HEADS["softmax"], "It")
        expected = next(
            StratifiedShuffleSplit(1, test_size=0.15, random_state=seed).split(label, label)
        )
        for part, index in zip(found, expected, strict=True):
            np.testing.assert_array_equal(part.index, index)


def test_without_groups_no_class_is_lost_either():
    label = np.repeat([0, 1], [18, 2])
    model = make("MLPClassifier", early_stopping=True, validation_fraction=0.9)
    with pytest.raises(ValueError, match=r"train on every class: none of class 1 would be left"):
        model.fit(X[:20], label)
