"""Where the images of a study come from, what is drawn without them, and what validates."""

import numpy as np
import pytest
from PIL import Image

import kmedclf
from kmedclf import studies
from kmedclf.datasets import make_blood_cells, sources
from kmedclf.studies import bone
from kmedclf.studies.public_sets import PUBLIC
from kmedclf.studies.study import write

OTHERS = [
    (study, other.drawn)
    for study in studies.NAMES
    for other in PUBLIC.values()
    if other.drawn not in ("synthetic", PUBLIC[study].drawn)
]


@pytest.fixture
def npz(tmp_path):
    """40 training and 12 test images of two classes, without a validation split."""
    arrays = {}
    for seed, (split, n) in enumerate({"train": 40, "test": 12}.items()):
        X, _ = make_blood_cells(n, 8, random_state=seed)
        arrays |= {f"{split}_images": X, f"{split}_labels": np.arange(n) % 2}
    np.savez(tmp_path / "a.npz", **arrays)
    return str(tmp_path / "a.npz")


def folder_of(root, splits, side=8):
    """Write folders of two classes; images are numbered, and turned copies named as such."""
    for split, n in splits.items():
        for name in ("fractured", "not fractured"):
            place = root / split / name
            place.mkdir(parents=True)
            for i in range(n):
                image = Image.fromarray(np.full((side, side), 10 * i, np.uint8))
                image.save(place / (f"{i // 2}-rotated1.png" if i % 2 else f"{i // 2}.png"))
    return root


def test_every_study_names_its_images():
    assert set(PUBLIC) == set(studies.NAMES)
    for name, one in PUBLIC.items():
        assert one.drawn in sources.DRAWN
        assert one.address.startswith("https://")
        assert PUBLIC[name].source_of(name, "synthetic") == one.drawn
        assert PUBLIC[name].source_of(name, one.drawn) == one.drawn
        assert PUBLIC[name].source_of(name, "bloodmnist") == "bloodmnist"


@pytest.mark.parametrize(("study", "source"), OTHERS)
def test_synthetic_images_of_another_kind_are_refused(study, source, tmp_path):
    own = PUBLIC[study].drawn
    with pytest.raises(ValueError, match=f"images of its own kind, such as {own}. Got '{source}'"):
        studies.get(study).open(source, tmp_path / "out", quick=True)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("study", ["chest", "bone"])
def test_a_study_without_data_draws_its_own_kind_and_says_so(study, tmp_path):
    lab = studies.get(study).open(None, tmp_path, quick=True)
    assert lab.data.description["source"] == PUBLIC[study].drawn
    assert lab.data.description["image_shape"] == [64, 64]
    write(lab, "title", [])
    text = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "Synthetic images, drawn in place of the report's" in text
    assert PUBLIC[study].address in text


def test_images_of_the_user_are_not_called_synthetic(npz, tmp_path):
    lab = studies.get("chest").open(npz, tmp_path / "out", quick=True)
    write(lab, "title", [])
    text = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert "Synthetic images" not in text
    assert PUBLIC["chest"].address in text


@pytest.mark.parametrize("study", ["lung", "chest", "brain", "bone"])
def test_files_are_read_at_the_side_of_the_report(study, tmp_path):
    root = str(folder_of(tmp_path / "data", {"train": 2, "test": 2}))
    assert PUBLIC[study].side_of(root, None, quick=False) == 224
    assert PUBLIC[study].side_of(root, None, quick=True) == 64
    assert PUBLIC[study].side_of(root, 96, quick=False) == 96
    assert PUBLIC[study].side_of("bloodmnist", None, quick=False) is None


def test_bone_takes_its_public_layout(tmp_path):
    """The set calls its test images val; a fifth of the others validates, class by class."""
    root = folder_of(tmp_path / "data", {"train": 20, "val": 5})
    opened = [
        studies.get("bone").open(str(root), tmp_path / "out", quick=True, seed=seed).data
        for seed in (0, 0, 1)
    ]
    data = opened[0]
    assert data.description["n"] == {"train": 32, "val": 8, "test": 10}
    assert all("/val/" in path for path in data.splits["test"][0])
    assert np.bincount(data.splits["val"][1]).tolist() == [4, 4]
    assert not set(data.splits["val"][0]) & set(data.splits["train"][0])
    assert set(data.splits["val"][0]) == set(opened[1].splits["val"][0])
    assert set(data.splits["val"][0]) != set(opened[2].splits["val"][0])


def test_turned_copies_in_validation_are_counted(tmp_path):
    root = folder_of(tmp_path / "data", {"train": 20, "val": 5})
    lab = studies.get("bone").open(str(root), tmp_path / "out", quick=True)
    seen = {(p.parent.name, p.stem.split("-")[0]) for p in map(tmp_path.joinpath,
            lab.data.splits["train"][0])}  # fmt: skip
    val = [tmp_path.joinpath(path) for path in lab.data.splits["val"][0]]
    n = sum((path.parent.name, path.stem.split("-")[0]) in seen for path in val)
    assert n
    section = bone.images(lab)
    assert f"{n} of 8 validation images are turned copies" in " ".join(section.findings)
    told = {(row[0], row[1]): row[2] for row in section.tables[0].rows}
    assert told["validation", "fractured"] == "4"
    assert told["training, validation", "fractured"] == "20"


def test_what_cannot_be_read_says_where_the_images_are(tmp_path):
    (tmp_path / "archive").mkdir()
    for source in (tmp_path / "archive", tmp_path / "none.npz"):
        with pytest.raises((FileNotFoundError, ValueError)) as caught:
            studies.get("bone").open(str(source), tmp_path / "out")
        assert PUBLIC["bone"].where() in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_an_own_validation_split_is_kept(tmp_path):
    root = folder_of(tmp_path / "data", {"train": 8, "val": 3, "test": 4})
    data = studies.get("bone").open(str(root), tmp_path / "out", quick=True).data
    assert data.description["n"] == {"train": 16, "val": 6, "test": 8}
    assert "validation_drawn" not in data.description


# -- pretrained starts -----------------------------------------------------------------------------


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """Keep published weights in an empty folder, with nothing to download them from."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setenv("KMEDCLF_MIRROR", "http://127.0.0.1:9")
    monkeypatch.setattr("kmedclf.utils.download.RETRIES", 0)
    return tmp_path / "keras" / "models"


@pytest.mark.parametrize(("study", "item"), [("bone", "alexnet"), ("chest", "approaches")])
def test_weights_are_looked_for_before_anything_is_trained(study, item, npz, weights, tmp_path):
    chosen = studies.get(study).only([item])
    with pytest.raises(FileNotFoundError, match=r"weights=null starts from random ones"):
        chosen.open(npz, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())
    # Without the weights on request, in a quick study, and for items that need none
    assert chosen.open(npz, tmp_path / "out", parameters={"weights": None})
    assert chosen.open(npz, tmp_path / "out", quick=True)
    assert studies.get(study).only(["images"]).open(npz, tmp_path / "out")


def test_weights_that_are_there_are_the_start(npz, weights, tmp_path):
    weights.mkdir(parents=True)
    (weights / "alexnet.safetensors").touch()
    lab = studies.get("bone").only(["alexnet"]).open(npz, tmp_path / "out")
    make = bone.ARCHITECTURES["alexnet"].make
    assert lab.prepared(make()).weights == "imagenet"
    random = (
        studies.get("bone")
        .only(["alexnet"])
        .open(npz, tmp_path / "out", parameters={"weights": None})
    )
    assert random.prepared(make()).weights is None
    quick = studies.get("bone").open(npz, tmp_path / "out", quick=True)
    assert quick.prepared(make()).weights is None  # a smaller network than the published one
    assert quick.prepared(kmedclf.MLPClassifier()).units == 16


def test_choices_say_who_made_them(npz, tmp_path):
    study = studies.get("bone")
    own = study.open(npz, tmp_path / "a", quick=True).choice("Rate", "0.1", "Usual.", "momentum")
    given = study.open(npz, tmp_path / "b", quick=True, parameters={"momentum": 0.5}).choice(
        "Rate", "0.5", "Usual.", "momentum"
    )
    assert own == ("Rate", "0.1", "Usual.")
    assert given == ("Rate", "0.5", "Given for this run.")
    lab = study.open(npz, tmp_path / "c", quick=True)
    section = studies.Section("Title", "Method.", choices=[own])
    write(lab, "title", [section])
    text = (tmp_path / "c" / "index.html").read_text(encoding="utf-8")
    assert 'class="choices"' in text
    for where in (text, str(section)):
        assert "Left open by the report, chosen here" in where
    assert "- Rate: 0.1. Usual." in str(section)
