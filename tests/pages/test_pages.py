"""What is in the pages: report, comparison, audit, study."""

import re

import numpy as np
import pytest
from page_parts import NAMES, PAGES, data_of, images, report_of

from kmedclf.evaluation import evaluate_predictions, write_page


def test_pages_need_nothing_else(any_page):
    text = any_page.read_text(encoding="utf-8")
    assert set(re.findall(r"""(?:src|href)=["']?(?!data:|#)([^"'> ]+)""", text)) <= {
        "network/report.html"  # to which the page of a study leads
    }
    assert "http" not in re.sub(r"http-equiv", "", text)
    assert "default-src 'none'" in text


def test_names_are_safe_in_all_pages(any_page):
    text = any_page.read_text(encoding="utf-8")
    assert "alert(1)</script>" not in text
    assert "<b>bold" not in text
    assert "bold" in text


def test_names_are_whole_in_the_report(page):
    text = page.read_text(encoding="utf-8")
    assert 'A "title" <h1>' not in text
    assert "خلية دم" in text
    assert data_of(page)["names"] == NAMES


def test_page_holds_all_mistakes_and_few_right_ones(page):
    report, cells = report_of(), data_of(page)["cells"]
    for (i, j), count in np.ndenumerate(report.confusion):
        entries = cells.get(f"{i},{j}", [])
        assert len(entries) == (min(count, 20) if i == j else count)
        for index, _, shares in entries:
            assert (report.true_index[index], report.pred_index[index]) == (i, j)
            assert {i, j} <= {column for column, _ in shares}
            for column, share in shares:
                assert share == pytest.approx(report.proba[index, column], abs=5.1e-4)


def test_page_shows_numbers_parameters_and_environment(page):
    text = page.read_text(encoding="utf-8")
    report = report_of(class_names=NAMES)
    number, interval = str(report.scores["accuracy"]).split(" ", 1)
    assert f'<span class="value">{number}</span> <span class="interval">{interval}</span>' in text
    assert '<dt>filters</dt><dd dir="auto">8</dd>' in text
    assert '<dt>versions.keras</dt><dd dir="auto">3</dd>' in text
    assert text.count("data:image/png;base64,") == 6


@pytest.mark.parametrize(
    "report",
    [
        evaluate_predictions([1], [[0.2, 0.8]]),
        evaluate_predictions([0, 1, 0], [[0.9, 0.1], [0.4, 0.6], [0.8, 0.2]], pos_label=1),
        report_of(n=200, k=30),
        report_of(k=3, n=30, skill=50),
    ],
)
def test_any_report_makes_a_page(report, tmp_path):
    path = tmp_path / "report.html"
    write_page(path, report)
    assert "<noscript>" not in path.read_text(encoding="utf-8")  # no images, no browser for them
    write_page(path, report, X=images(report.n))
    assert [one.name for one in tmp_path.iterdir()] == ["report.html"]


def test_wrong_number_of_images_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"the 120 images of the report\. Got 3 instead"):
        write_page(tmp_path / "report.html", report_of(), X=images(3))
    assert not list(tmp_path.iterdir())


def test_large_images_become_thumbnails(tmp_path):
    import base64
    import io

    from PIL import Image

    path = tmp_path / "report.html"
    write_page(path, report_of(n=30), X=images(30, side=128))
    for entries in data_of(path)["cells"].values():
        for _, picture, _ in entries:
            assert Image.open(io.BytesIO(base64.b64decode(picture))).size == (64, 64)


def test_comparison_page_is_whole(tmp_path):
    text = PAGES["comparison"](tmp_path).read_text(encoding="utf-8")
    for part in ("1,234", "ResNet-18, published", "McNemar", "Not comparable"):
        assert part in text
