"""What is in the pages: report, comparison, audit, study."""

import csv
import html
import io
import re
from urllib.parse import unquote

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
        rows = cells.get(f"{i},{j}", [])
        assert len(rows) == (min(count, 20) if i == j else count)
        for row in rows:
            entry = data_of(page)["images"][str(row)]
            assert (report.true_index[row], report.pred_index[row]) == (i, j)
            assert (entry["t"], entry["p"]) == ([i], [j])
            assert {i, j} <= {column for column, _ in entry["s"]}
            for column, share in entry["s"]:
                assert share == pytest.approx(report.proba[row, column], abs=5.1e-4)
    assert data_of(page)["order"] == report.surest_mistakes(report.n)


def test_page_shows_numbers_parameters_and_environment(page):
    text = page.read_text(encoding="utf-8")
    report = report_of(class_names=NAMES)
    number, interval = str(report.scores["accuracy"]).split(" ", 1)
    assert f'<span class="value">{number}</span> <span class="interval">{interval}</span>' in text
    assert '<dt>filters</dt><dd dir="auto">8</dd>' in text
    assert '<dt>Keras</dt><dd dir="auto">3</dd>' in text
    assert text.count('<svg class="chart"') == 8
    assert "data:image/png" not in text
    defaults = text[text.index("<details>") : text.index("</details>")]
    assert "<dt>units</dt>" in defaults
    assert "<dt>filters</dt>" not in defaults


def test_downloads_hold_all_predictions(page):
    report = report_of(class_names=NAMES)
    link = re.search(r'download="predictions.csv" href="data:text/csv;charset=utf-8,([^"]*)"',
                     page.read_text(encoding="utf-8"))[1]  # fmt: skip
    head, *rows = csv.reader(io.StringIO(unquote(html.unescape(link))))
    assert head == ["image", "true", "predicted", *(f"p {name}" for name in NAMES)]
    assert len(rows) == report.n
    for i, row in enumerate(rows):
        assert row[:3] == [str(i), NAMES[report.true_index[i]], NAMES[report.pred_index[i]]]
        np.testing.assert_allclose([float(one) for one in row[3:]], report.proba[i], atol=5.1e-4)


def test_letters_of_charts_have_one_size(page):
    sizes = re.findall(r'<text[^>]* font-size="([^"]+)"', page.read_text(encoding="utf-8"))
    assert set(sizes) == {"9"}


def test_terms_are_explained_where_they_are_used(page, tmp_path):
    text = page.read_text(encoding="utf-8")
    assert "<dt>Brier score</dt>" in text
    assert "<dt>Kappa</dt>" not in text  # no grades
    for name, words in re.findall(r'<li><a href="#([\w-]+)">(.*?)</a></li>', text):
        assert f'<h2 id="{name}"' in text, words


def test_a_search_says_who_won_and_where_more_may_lie(tmp_path):
    text = PAGES["search"](tmp_path).read_text(encoding="utf-8")
    assert "The winner scored 0.8200 ± 0.0200" in text
    assert "more than one standard deviation ahead" in text
    assert "The best value of filters is the last one that was tried" in text
    assert "1 candidate failed." in text
    assert '<dt>filters</dt><dd dir="auto">16</dd>' in text
    assert text.count('<svg class="chart"') == 3  # two effects, learning curves


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

    from PIL import Image

    path = tmp_path / "report.html"
    write_page(path, report_of(n=30), X=images(30, side=128))
    shown = data_of(path)
    for number in shown["order"][:3]:  # there is room for the surest mistakes
        entry = shown["images"][str(number)]
        sizes = {one: Image.open(io.BytesIO(base64.b64decode(entry[one]))).size for one in "il"}
        assert sizes == {"i": (88, 88), "l": (128, 128)}


def test_comparison_page_is_whole(tmp_path):
    text = PAGES["comparison"](tmp_path).read_text(encoding="utf-8")
    for part in ("1,234", "ResNet-18, published", "McNemar", "Not comparable"):
        assert part in text
