"""Tables of images: columns, labels, groups, and what is wrong in them."""

import numpy as np
import pytest

from kmedclf import datasets

ROWS = [("x/1.png", "melanoma", "p2"), ("2.png", "nevus", "p1"), ("/abs/3.png", "melanoma", "p2")]


def write(folder, rows, header=("image", "label", "patient"), separator=",", encoding="utf-8"):
    path = folder / "table.csv"
    lines = [separator.join(row) for row in (header, *rows)]
    path.write_text("\n".join(lines) + "\n", encoding=encoding)
    return path


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_columns_become_paths_labels_and_groups(tmp_path, separator, encoding):
    path = write(tmp_path, ROWS, separator=separator, encoding=encoding)
    found = datasets.load_csv(path, group="patient")
    assert found.paths.tolist() == [f"{tmp_path}/x/1.png", f"{tmp_path}/2.png", "/abs/3.png"]
    np.testing.assert_array_equal(found.y, [0, 1, 0])
    assert found.class_names == ("melanoma", "nevus")
    assert found.groups.tolist() == ["p2", "p1", "p2"]


def test_columns_folder_and_suffix_can_be_named(tmp_path):
    path = write(tmp_path, [("a", "1", "x")], header=("id", "grade", "else"))
    found = datasets.load_csv(path, image="id", label="grade", folder="/images", suffix=".jpg")
    assert found.paths.tolist() == ["/images/a.jpg"]
    assert found.groups is None


def test_numbers_are_sorted_as_numbers(tmp_path):
    rows = [(f"{i}.png", label, "p") for i, label in enumerate(["10", "2", "-1"])]
    found = datasets.load_csv(write(tmp_path, rows))
    assert found.class_names == ("-1", "2", "10")
    np.testing.assert_array_equal(found.y, [2, 1, 0])


def test_several_columns_are_labels_of_their_own(tmp_path):
    rows = [("1.png", "0", "1.0"), ("2.png", "1", "1")]
    found = datasets.load_csv(
        write(tmp_path, rows, header=("image", "mass", "edema")), label=["edema", "mass"]
    )
    np.testing.assert_array_equal(found.y, [[1, 0], [1, 1]])
    assert found.class_names == ("edema", "mass")


@pytest.mark.parametrize(
    ("rows", "options", "sentence"),
    [
        (ROWS, {"label": "diagnosis"}, "'label' parameter of load_csv must name a column of"),
        (ROWS, {"group": "id"}, "'image', 'label', 'patient'. Got 'id' instead."),
        ([], {}, "must hold a row for every image. It holds none."),
        ([*ROWS, ("4.png", "", "p")], {}, "Line 5 of"),
        (ROWS, {"label": ["label"]}, "must hold 0 or 1 in 'label'. Got 'melanoma' instead."),
    ],
)
def test_wrong_tables_are_one_sentence(tmp_path, rows, options, sentence):
    with pytest.raises(ValueError, match=r"\.$") as caught:
        datasets.load_csv(write(tmp_path, rows), **options)
    assert sentence in str(caught.value)


def test_a_missing_table(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no file"):
        datasets.load_csv(tmp_path / "none.csv")
