"""The audit finds what was planted, and nothing in what is innocent."""

import json
import re

import numpy as np
import pytest

from kmedclf.datasets import audit, make_blood_cells, similarity
from kmedclf.evaluation import evaluate

N = 60
TURNS = {
    "left-right": lambda x: x[:, ::-1],
    "upside down": lambda x: x[::-1],
    "quarter": np.rot90,
    "half": lambda x: np.rot90(x, 2),
    "three quarters": lambda x: np.rot90(x, 3),
    "transposed": lambda x: x.swapaxes(0, 1),
    "anti-transposed": lambda x: np.rot90(x.swapaxes(0, 1), 2),
}
CHANGES = {
    **TURNS,
    "moved": lambda x: np.roll(x, (1, -1), axis=(0, 1)),
    "brighter": lambda x: np.clip(x * 1.1, 0, 255).astype(np.uint8),
    "darker": lambda x: (x * 0.9).astype(np.uint8),
    "noisy": lambda x: np.clip(
        x + np.random.default_rng(0).normal(0, 3, x.shape), 0, 255
    ).astype(np.uint8),
    "all": lambda x: (np.roll(np.rot90(x[::-1]), 1, axis=0) * 0.9).astype(np.uint8),
}  # fmt: skip


@pytest.fixture
def cells():
    """Give 60 different cells: 30 to train on, 10 to validate, 20 to test."""
    X, y = make_blood_cells(N, random_state=3)
    return X, y, np.repeat(["train", "val", "test"], [30, 10, 20])


def jpeg(image):
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=70)
    return np.asarray(Image.open(buffer))


def near(found):
    return {pair[:2] for pair in found.near}


def test_different_cells_are_clean(cells):
    X, y, splits = cells
    found = audit(X, y, splits=splits)
    assert found.ok
    assert (found.identical, found.near, found.two_labels, found.blank) == ((), (), (), ())
    assert not found.leaked.any()
    assert found.splits == ("train", "val", "test")
    assert found.balance.sum() == N
    np.testing.assert_array_equal(found.balance.sum(axis=0), np.bincount(y))


def test_identical_images_are_found(cells):
    X, y, splits = cells
    X[[7, 35, 50]], y[[7, 35, 50]] = X[2], y[2]
    found = audit(X, y, splits=splits)
    assert found.identical == ((2, 7, 35, 50),)
    assert np.flatnonzero(found.leaked).tolist() == [35, 50]
    assert not found.near
    assert found.leaks() == [("val", 10, 1), ("test", 20, 1)]


@pytest.mark.parametrize("change", [*CHANGES, "jpeg"])
@pytest.mark.parametrize("kind", ["uint8", "grey", "float"])
def test_changed_copies_are_found(change, kind, cells):
    X, y, splits = cells
    X[45] = jpeg(X[5]) if change == "jpeg" else CHANGES[change](X[5])
    y[45] = y[5]
    X = {"uint8": X, "grey": X[..., 1], "float": X / 255}[kind]
    found = audit(X, y, splits=splits)
    assert near(found) == {(5, 45)}
    assert np.flatnonzero(found.leaked).tolist() == [45]
    assert not audit(X, y, splits=splits, near=False).near


def test_copies_of_another_size_are_found_and_odd(cells):
    X, y, _ = cells
    images = [*X, X[4].repeat(2, axis=0).repeat(2, axis=1)]
    found = audit(images, [*y, y[4]])
    assert near(found) == {(4, N)}
    assert found.odd == (N,)
    assert [n for _, n in found.shapes] == [N, 1]
    assert f"1 image has another shape than most, {found.shapes[0][0]} ({N})." in str(found)


@pytest.mark.parametrize("shape", [(16, 16), (28, 28), (40, 24), (64, 64, 3)])
def test_noise_is_not_alike(shape):
    X = np.random.default_rng(0).integers(0, 256, (300, *shape), np.uint8)
    assert not audit(X, np.zeros(300)).near


def test_order_of_the_images_does_not_matter(cells):
    X, y, splits = cells
    for i, change in enumerate(CHANGES.values()):
        X[20 + i] = change(X[i])
    order = np.random.default_rng(0).permutation(N)
    before = audit(X, y, splits=splits)
    after = audit(X[order], y[order], splits=splits[order])
    assert {frozenset(order[list(pair)].tolist()) for pair in near(after)} == set(
        map(frozenset, near(before))
    )
    np.testing.assert_array_equal(after.leaked, before.leaked[order])
    assert after.balance.tolist() == before.balance.tolist()


def test_verdict_on_a_pair_does_not_depend_on_others(cells):
    X, y, _ = cells
    X[1] = X[0, ::-1]
    alone, among = audit(X[:2], y[:2]), audit(X, y)
    assert alone.near[0].similarity == pytest.approx(among.near[0].similarity, abs=1e-4)


def test_blocks_of_images_give_the_same_pairs(cells, monkeypatch):
    X, y, _ = cells
    X[30:42] = np.stack([change(x) for change, x in zip(CHANGES.values(), X, strict=False)])
    whole = near(audit(X, y))
    monkeypatch.setattr(similarity, "BLOCK", 7)
    monkeypatch.setattr(similarity, "PAIRS", 3)
    assert near(audit(X, y)) == whole != set()


def test_contradicting_labels_are_found(cells):
    X, _, splits = cells
    y = np.zeros(N, int)
    X[9], y[9] = X[3], 1
    X[11], y[11] = X[6, ::-1], 1
    found = audit(X, y, splits=splits)
    assert {pair[:2] for pair in found.two_labels} == {(3, 9), (6, 11)}
    assert not found.leaked.any()
    assert not found.ok


def test_contradictions_of_many_labels(cells):
    X, _, _ = cells
    Y = np.zeros((N, 3), int)
    Y[:, 0] = 1
    X[8] = X[1]
    Y[8] = [1, 0, 1]
    found = audit(X, Y, class_names=["a", "b", "c"])
    assert found.two_labels == ((1, 8, 1.0),)
    assert found.labels[8] == "a + c"
    assert found.balance.tolist() == [[N, 0, 1]]


def test_groups_that_straddle_splits(cells):
    X, y, splits = cells
    patients = [f"p{i // 2}" for i in range(N)]
    assert audit(X, y, splits=splits, groups=patients).ok
    patients[59] = "p0"
    found = audit(X, y, splits=splits, groups=patients)
    assert found.straddling == ("p0",)
    assert not found.ok


def test_leaks_go_to_the_later_split_only(cells):
    X, y, splits = cells
    X[0] = X[55, ::-1]  # the first one in test, the second in train
    splits = splits[::-1]
    assert np.flatnonzero(audit(X, y, splits=splits).leaked).tolist() == [0]
    names = np.where(splits == "train", "b", "a")
    assert np.flatnonzero(audit(X, y, splits=names).leaked).tolist() == [55]  # "a" comes first


def test_blank_images_are_no_pairs(cells):
    X, y, _ = cells
    X[10], X[20] = 0, [200, 10, 90]
    found = audit(X.astype(np.float32), y)
    assert (found.blank, found.near) == ((10, 20), ())
    holes = X.astype(np.float32)
    holes[33, 4, 4] = np.nan
    assert audit(holes, y).blank == (10, 20, 33)
    assert audit([*X, np.zeros((0, 28, 3))], [*y, 0]).blank == (10, 20, N)


def test_text_and_dict(cells):
    X, y, splits = cells
    X[40] = X[0]
    found = audit(X, y, splits=splits, class_names=[f"class {i}" for i in np.unique(y)])
    text = str(found)
    assert re.search(r"Groups of identical images +1 +1 +\d", text)
    assert "1 of 20 images of test is also in an earlier split." in text
    plain = json.loads(json.dumps(found.to_dict()))
    assert plain["identical"] == [[0, 40]]
    assert plain["leaked"] == [40]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"X": np.zeros((3, 4))}, r"'X' parameter of audit must be of shape .* Got \(3, 4\)"),
        ({"X": [np.zeros(4)] * 3}, "'X' parameter of audit must hold images of shape"),
        ({"X": np.zeros((0, 4, 4)), "y": []}, "must hold images. Got none"),
        ({"y": [0]}, "'y' parameter of audit must hold one entry for each of 3 images"),
        ({"splits": ["a"]}, "'splits' parameter of audit must hold one entry"),
        ({"groups": [1, 2, 3]}, "'groups' parameter of audit needs 'splits'"),
        ({"similarity": 1.5}, r"'similarity' parameter of audit must be in \(0, 1\]. Got 1.5"),
        ({"class_names": ["a"]}, "'class_names' parameter .* each of 2 classes. Got 1"),
    ],
)
def test_errors_are_sentences(change, sentence):
    given = {"X": np.zeros((3, 4, 4)), "y": [0, 0, 1], **change}
    with pytest.raises(ValueError, match=sentence):
        audit(**given)


class Memory:
    """A classifier that knows the images it has seen, and takes all others for the first class."""

    classes_ = np.array([0, 1])

    def __init__(self, X, y):
        self.seen = {x.tobytes(): label for x, label in zip(X, y, strict=True)}

    def predict(self, X):
        return np.array([self.seen.get(x.tobytes(), 0) for x in X])

    def predict_proba(self, X):
        return np.eye(2)[self.predict(X)]


def test_scores_without_leaked_images(cells):
    X, y, splits = cells
    y = np.arange(N) % 2
    X[50:60] = X[:10]
    train, test = splits == "train", splits == "test"
    model = Memory(X[train], y[train])
    leaked = audit(X, y, splits=splits).leaked[test]
    everything = evaluate(model, X[test], y[test], n_bootstrap=0)
    honest = evaluate(model, X[test], y[test], exclude=leaked, n_bootstrap=0)
    assert (everything.scores["accuracy"].value, everything.n) == (0.75, 20)
    assert (honest.scores["accuracy"].value, honest.n) == (0.5, 10)
    assert honest.notes[0] == "10 of 20 images were excluded."
    for bad in (leaked[1:], leaked.astype(int), np.full(20, True)):
        with pytest.raises(ValueError, match="'exclude' parameter of evaluate must"):
            evaluate(model, X[test], y[test], exclude=bad)
