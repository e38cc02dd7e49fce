"""The page of a study in a browser: what it shows is in sight."""

import numpy as np
import pytest

from kmedclf import MLPClassifier, studies
from kmedclf.datasets import make_blood_cells
from kmedclf.evaluation import plots
from kmedclf.studies import bone, chest
from kmedclf.studies.study import write
from tests.pages.test_pages_in_browser import chrome, find, opened  # noqa: F401

pytestmark = pytest.mark.browser
NAMES = ["Covid", "Normal", "Viral Pneumonia"]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Write a page with the widest tables of the studies, and curves beside a matrix."""
    folder = tmp_path_factory.mktemp("study")
    arrays = {"class_names": np.array(NAMES)}
    for seed, (split, n) in enumerate({"train": 60, "val": 30, "test": 60}.items()):
        X, _ = make_blood_cells(n, 8, random_state=seed)
        arrays |= {f"{split}_images": X, f"{split}_labels": np.arange(n) % 3}
    np.savez(folder / "a.npz", **arrays)
    lab = studies.get("chest").open(str(folder / "a.npz"), folder / "out", quick=True)
    run = lab.train("mlp", MLPClassifier(units=4, epochs=2, random_state=0), page=False)
    trained = [
        [bone.Trained(row, row.parameters, f"{key}-{n}", run) for n, row in enumerate(one.rows)]
        for key, one in bone.ARCHITECTURES.items()
    ]
    tables = [bone._table(key, rows) for key, rows in zip(bone.ARCHITECTURES, trained, strict=True)]
    report, est = run.reports["test"], run.estimator
    section = studies.Section(
        "Title",
        "Method.",
        tables=[*tables, chest._classes("resnet", run)],
        figures=[
            studies.Figure.of("a", "Curves.", plots.history(est.history_)),
            studies.Figure.of("b", "A matrix.", plots.confusion_matrix(report)),
        ],
        findings=["A finding."],
        choices=[lab.choice("Rate", "0.1", "Usual.")],
    )
    write(lab, "title", [bone.images(lab), section])
    return folder / "out" / "index.html"


def test_every_column_is_in_sight_at_1100_pixels(chrome, page):  # noqa: F811
    chrome.set_window_size(1100, 900)
    opened(chrome, page)
    parts = find(chrome, ".scroll")
    assert len(parts) == 1 + len(bone.ARCHITECTURES) + 1
    for part in parts:
        widths = [int(part.get_attribute(name)) for name in ("scrollWidth", "clientWidth")]
        assert widths[0] <= widths[1], part.text[:80]


def test_letters_of_figures_have_one_size(chrome, page):  # noqa: F811
    chrome.set_window_size(1100, 900)
    opened(chrome, page)
    scales = chrome.execute_script(
        "return [...document.querySelectorAll('.plates svg')].map("
        "(one) => one.clientWidth / one.viewBox.baseVal.width)"
    )
    assert len(scales) == 4
    assert max(scales) - min(scales) < 0.01  # a pixel is half a per cent


def test_a_section_is_in_the_order_of_an_answer(chrome, page):  # noqa: F811
    text = find(opened(chrome, page), "section.item")[1].text
    parts = ["Method", "Left open by the report", "AlexNet, row by row", "Figures", "Findings"]
    assert [text.index(part) for part in parts] == sorted(text.index(part) for part in parts)
