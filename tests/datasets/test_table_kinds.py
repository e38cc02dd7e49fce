"""Tables as spreadsheets and people write them: right, refused, or said."""

import numpy as np
import pytest
from image_samples import picture, save

from kmedclf import CNNClassifier, datasets
from kmedclf.datasets import sources, tables


def write(folder, text, encoding="utf-8"):
    path = folder / "table.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("quote", ["", '"'])
def test_marks_ends_and_quotes(tmp_path, encoding, end, quote):
    rows = [("image", "label"), ("1.png", "Müller"), ("2.png", "b")]
    text = end.join(";".join(f"{quote}{cell}{quote}" for cell in row) for row in rows) + end * 2
    found = datasets.load_csv(write(tmp_path, text, encoding))
    assert found.class_names == ("Müller", "b")
    assert found.paths.tolist() == [f"{tmp_path}/1.png", f"{tmp_path}/2.png"]


def test_latin_1_is_refused_until_it_is_named(tmp_path):
    path = write(tmp_path, "image,label\n1.png,Müller\n2.png,b\n", "latin-1")
    with pytest.raises(
        ValueError, match=r"must be text in utf-8.* encoding='latin-1'\.$"
    ) as caught:
        datasets.load_csv(path)
    assert str(path) in str(caught.value)
    assert datasets.load_csv(path, encoding="latin-1").class_names == ("Müller", "b")
    with pytest.raises(ValueError, match="There is no encoding 'klingon'"):
        datasets.load_csv(path, encoding="klingon")


def test_blanks_are_cut_off_and_said(tmp_path):
    path = write(tmp_path, "image , label\n1.png,cat\n2.png, cat\n3.png,cat \n4.png,dog\t\n")
    with pytest.warns(UserWarning, match=r"^2 cells of .* such as 'cat ' in line 4\.$"):
        found = datasets.load_csv(path)
    assert found.class_names == ("cat", "dog")
    np.testing.assert_array_equal(found.y, [0, 0, 0, 1])


def test_labels_that_differ_by_case_are_said(tmp_path):
    path = write(tmp_path, "image,label\n1.png,Cat\n2.png,cat\n")
    with pytest.warns(UserWarning, match="labels 'Cat' and 'cat', which differ by case only"):
        datasets.load_csv(path)


@pytest.mark.parametrize("other", ["1.png", "./1.png", "x/../1.png"])
def test_an_image_has_one_label_and_group(tmp_path, other):
    path = write(tmp_path, f"image,label,p,m\n1.png,a,p1,0\n{other},a,p1,0\n2.png,b,p2,1\n")
    with pytest.warns(UserWarning, match=r"lists 1 of its 3 images more than once, .* in line 3\."):
        found = datasets.load_csv(path, group="p")
    assert len(found.y) == 3
    for columns, options in (
        ("b,p1,0", {}),
        ("a,p2,0", {"group": "p"}),
        ("a,p1,1", {"label": ["m"]}),
    ):
        write(tmp_path, f"image,label,p,m\n1.png,a,p1,0\n2.png,b,p2,1\n{other},{columns}\n")
        with pytest.raises(ValueError, match=r"in line 2 and '.*' in line 4\.$") as caught:
            datasets.load_csv(path, **options)
        assert f"{path} must give {tmp_path}/" in str(caught.value)


def test_classes_are_in_the_same_order_in_every_process(tmp_path):
    found = datasets.load_csv(write(tmp_path, "image,label\n1,1\n2,01\n3,001\n4,0\n"))
    assert found.class_names == ("0", "001", "01", "1")
    long = "9" * 4096
    assert (
        datasets.load_csv(write(tmp_path, f"image,label\n1,{long}\n2,-1\n")).class_names[0] == "-1"
    )


REFUSED = {
    "image,label\n1.png,a,b\n": "Line 2 of {} must have 2 cells. Got 3.",
    "image,label\n1.png\n": "Line 2 of {} must hold a value in 'label'.",
    "image,label\n1.png,  \n": "Line 2 of {} must hold a value in 'label'.",
    "image,label,label\n1.png,a,b\n": "{} must have one column 'label'. It has several.",
    "image,label\n1.png,a\0\n": "Line 2 of {} must be text.",
    "image,label\n1.png," + "a" * 200_000 + "\n": "{} is not a table that can be read",
    "image,label\n1.png," + "a" * 4097: "Line 2 of {} must have at most 4,096 characters",
    "image,label\n" + "a" * (1 << 21): "Line 2 of {} must have fewer than",
    "": "must name a column of {}, which has none.",
    "image,label\n\n\n": "{} must hold a row for every image. It holds none.",
    b"image,label\n1.png,\xff\n": "{} must be text in utf-8.",
    b"\xff\xfeimage": "{} must be text in utf-16.",
}  # fmt: skip


@pytest.mark.parametrize("text", REFUSED, ids=range(len(REFUSED)))
def test_broken_tables_are_one_sentence(tmp_path, text):
    path = write(tmp_path, text)
    with pytest.raises(ValueError, match=r"\.$") as caught:
        datasets.load_csv(path)
    assert REFUSED[text].replace("{}", str(path)) in str(caught.value)


def test_empty_cells_at_the_end_are_fine(tmp_path):
    path = write(tmp_path, "image;label\n1.png;a;;\n2.png;b;;\n")
    assert datasets.load_csv(path).class_names == ("a", "b")


def test_a_table_of_gigabytes_is_refused_at_once(tmp_path):
    path = write(tmp_path, "image,label\n")
    with path.open("r+b") as file:
        file.truncate(tables.MOST_BYTES + 1)
    with pytest.raises(ValueError, match="must have at most 268,435,456 bytes"):
        datasets.load_csv(path)


def test_missing_files_are_refused_before_training(tmp_path):
    save(tmp_path / "1.png", picture())
    files = datasets.load_csv(write(tmp_path, "image,label\n1.png,a\n2.png,b\n"))
    with pytest.raises(FileNotFoundError, match=rf"There is no file {tmp_path}/2\.png\."):
        CNNClassifier(image_size=8, filters=2, epochs=1).fit(files.paths, files.y)


def test_tables_of_groups_are_read_alike(tmp_path):
    images = [str(tmp_path / name) for name in ("a/1.png", "b/2.png")]
    path = write(tmp_path, "path;group\na/1.png;p1\nb/2.png;p2\n", "utf-8-sig")
    assert sources._of_table(path, tmp_path, images).tolist() == ["p1", "p2"]
    for text, sentence in {
        "path,group\na/1.png,p1\na/1.png,p2\n": "one group. Got 'p1', and 'p2' in line 3.",
        "path,group\na/1.png,\n": "must hold a value in 'group'",
        "path,patient\na/1.png,p\n": "must have the columns path and group",
        b"path,group\n\xff,p\n": "must be text in utf-8",
    }.items():
        with pytest.raises(ValueError, match=r"\.$") as caught:
            sources._of_table(write(tmp_path, text), tmp_path, images)
        assert sentence in str(caught.value)
