"""The report page: what is in the file, and how it behaves in a browser."""

import json
import re
import shutil
import subprocess
import time

import numpy as np
import pytest

from kmedclf.evaluation import (
    compare,
    evaluate_predictions,
    write_comparison_page,
    write_page,
)

NAMES = ["plain", "quo\"te' <b>bold</b>", "</script><script>alert(1)</script>", "żółć é", "خلية دم"]
HISTORY = {"accuracy": [0.2, 0.5], "loss": [2.0, 1.0], "val_accuracy": [0.3, 0.4],
           "val_loss": [1.9, 1.2]}  # fmt: skip


def report_of(n=120, k=5, skill=1.5, seed=0, **options):
    generator = np.random.default_rng(seed)
    y, logits = np.arange(n) % k, generator.normal(size=(n, k))
    logits[np.arange(n), y] += skill
    proba = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return evaluate_predictions(y, proba, n_bootstrap=50, **options)


def images(n, side=28):
    """Soft blobs, which are no easier to compress than cells."""
    generator = np.random.default_rng(0)
    coarse = generator.integers(0, 256, (n, side // 4, side // 4, 3)).repeat(4, 1).repeat(4, 2)
    return (coarse * 0.8 + generator.integers(0, 50, coarse.shape)).astype(np.uint8)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_page(
        path,
        report_of(class_names=NAMES),
        X=images(120),
        history=HISTORY,
        best_epoch=2,
        parameters={"filters": 8, "name": "<i>&\"'"},
        environment={"versions": {"keras": "3"}, "list": [1, 2]},
        title='A "title" <h1>',
    )
    return path


def data_of(path):
    text = path.read_text(encoding="utf-8")
    return json.loads(re.search(r'id="data">(.*?)</script>', text, re.S)[1])


def test_page_needs_nothing_else(page):
    text = page.read_text(encoding="utf-8")
    assert not re.findall(r"""(?:src|href)=["']?(?!data:)[^"'> ]""", text)
    assert "http" not in re.sub(r"http-equiv", "", text)
    assert "default-src 'none'" in text


def test_names_are_escaped(page):
    text = page.read_text(encoding="utf-8")
    assert "alert(1)</script>" not in text
    assert "<b>bold" not in text
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


@pytest.fixture(scope="module")
def chrome(tmp_path_factory):
    webdriver = pytest.importorskip("selenium.webdriver")
    programs = shutil.which("chromium"), shutil.which("chromedriver")
    if not all(programs):
        pytest.skip("chromium and chromedriver are not on the PATH")
    options = webdriver.ChromeOptions()
    options.binary_location = programs[0]
    for argument in (
        "headless", "no-sandbox", "disable-gpu", "no-first-run", "disable-background-networking",
        "disable-component-update", "disable-sync", "window-size=1200,1000",
        f"user-data-dir={tmp_path_factory.mktemp('chrome')}",
    ):  # fmt: skip
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(programs[1]))
    yield driver
    driver.quit()


def opened(chrome, path):
    chrome.get_log("browser")
    chrome.get(path.as_uri())
    return chrome


def find(chrome, selector):
    return chrome.find_elements("css selector", selector)


@pytest.mark.browser
@pytest.mark.parametrize("by", ["click", "keyboard"])
def test_a_cell_shows_its_images(chrome, page, by):
    opened(chrome, page)
    report = report_of()
    for button in find(chrome, "[data-cell]")[:8]:
        i, j = map(int, button.get_attribute("data-cell").split(","))
        button.click() if by == "click" else button.send_keys("\n")
        cards = find(chrome, "#images figure")
        count = report.confusion[i, j]
        assert len(cards) == (min(count, 20) if i == j else count)
        heading = chrome.find_element("id", "shown")
        assert heading.is_displayed()
        assert NAMES[i] in heading.text
        assert chrome.switch_to.active_element == heading  # where the keyboard goes on
        assert [one.get_attribute("data-cell") for one in find(chrome, "[aria-pressed=true]")] == [
            f"{i},{j}"
        ]
        shown = cards[0].find_element("css selector", "img")
        assert shown.get_property("naturalWidth") == 28
        first = int(shown.get_attribute("alt").removeprefix("Image "))
        assert f"{report.proba[first].max():.3f}" in cards[0].text
    assert not chrome.get_log("browser")


@pytest.mark.browser
def test_a_heading_sorts_its_table(chrome, page):
    opened(chrome, page)
    report = report_of(class_names=NAMES)
    button = next(one for one in find(chrome, "#classes ~ div .sort") if one.text == "Recall")
    table = button.find_element("xpath", "ancestor::table")

    def order():
        heads = table.find_elements("css selector", "tbody th")
        return [NAMES.index(one.text) for one in heads]

    recalls = [one.recall.value for one in report.per_class]
    button.click()
    assert [recalls[i] for i in order()] == sorted(recalls)
    head = button.find_element("xpath", "..")
    assert head.get_attribute("aria-sort") == "ascending"
    button.send_keys("\n")
    assert [recalls[i] for i in order()] == sorted(recalls, reverse=True)
    assert head.get_attribute("aria-sort") == "descending"
    assert not chrome.get_log("browser")


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "comparison.html"
    reports = {"<b>one</b>": report_of(seed=0), "two": report_of(seed=1, skill=3)}
    table = compare(reports, dataset="bloodmnist", parameters={"two": 1234}, protocol="28 px")
    write_comparison_page(path, table)
    return path


def test_comparison_page_is_safe_and_whole(comparison):
    text = comparison.read_text(encoding="utf-8")
    assert "<b>one" not in text
    assert "1,234" in text
    assert "ResNet-18, published" in text
    assert "McNemar" in text
    assert "http" not in re.sub(r"http-equiv", "", text)


@pytest.mark.browser
@pytest.mark.parametrize("which", ["page", "comparison"])
def test_a_telephone_does_not_scroll_sideways(chrome, which, request):
    size = {"width": 375, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    opened(chrome, request.getfixturevalue(which))
    for button in find(chrome, "[data-cell]")[:1]:
        button.click()
    widths = chrome.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
    chrome.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert widths == [375, 375]


@pytest.fixture(scope="module")
def axe(tmp_path_factory):
    npm, folder = shutil.which("npm"), tmp_path_factory.mktemp("axe")
    if npm is None:
        pytest.skip("npm, which fetches axe-core, is not on the PATH")
    done = subprocess.run(
        [npm, "pack", "axe-core@4", "--silent"], cwd=folder, capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"npm pack axe-core failed: {done.stderr.strip()[-200:]}")
    shutil.unpack_archive(next(folder.glob("*.tgz")), folder)
    return (folder / "package" / "axe.min.js").read_text(encoding="utf-8")


@pytest.mark.browser
@pytest.mark.parametrize("which", ["page", "comparison"])
def test_axe_finds_no_grave_violation(chrome, axe, which, request):
    opened(chrome, request.getfixturevalue(which))
    for button in find(chrome, "[data-cell]")[1:2]:
        button.click()
    chrome.execute_script(axe)
    found = chrome.execute_async_script("axe.run().then(arguments[0])")["violations"]
    grave = [one for one in found if one["impact"] in ("serious", "critical")]
    assert not grave, json.dumps(grave, indent=1)[:3000]


@pytest.mark.browser
def test_a_page_of_a_whole_test_set_is_small_and_opens_quickly(chrome, tmp_path):
    path = tmp_path / "large.html"
    report = report_of(n=3421, k=8)
    assert 0.3 < report.accuracy < 0.8
    write_page(path, report, X=images(3421))
    assert path.stat().st_size < 8_000_000
    start = time.perf_counter()
    opened(chrome, path)
    assert time.perf_counter() - start < 2
