"""How the pages behave in a browser."""

import json
import shutil
import subprocess
import time

import pytest
from page_parts import NAMES, images, report_of

from kmedclf.evaluation import write_page

pytestmark = pytest.mark.browser


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


@pytest.mark.parametrize("by", ["click", "keyboard"])
def test_a_cell_shows_its_images(chrome, page, by):
    opened(chrome, page)
    report = report_of()
    for button in find(chrome, "[data-cell]")[:8]:
        i, j = map(int, button.get_attribute("data-cell").split(","))
        button.click() if by == "click" else button.send_keys("\n")
        cards = find(chrome, "#images figure")
        count = report.confusion[i, j]
        assert len(cards) == (min(count, 20) if i == j else min(count, 24))
        heading = chrome.find_element("id", "shown")
        assert heading.is_displayed()
        assert NAMES[i] in heading.text
        assert chrome.switch_to.active_element == heading  # where the keyboard goes on
        assert [one.get_attribute("data-cell") for one in find(chrome, "[aria-pressed=true]")] == [
            f"{i},{j}"
        ]
        shown = cards[0].find_element("css selector", "img")
        assert shown.get_property("naturalWidth") == 28
        first = int(shown.get_attribute("alt").split()[1].rstrip(","))
        assert f"{report.proba[first].max():.3f}" in cards[0].text
    assert not chrome.get_log("browser")


def test_a_picture_is_enlarged_and_the_next_one_is_a_key_away(chrome, page):
    opened(chrome, page)
    surest = report_of().surest_mistakes(2)
    dialog = chrome.find_element("id", "enlarged")
    assert not dialog.is_displayed()
    find(chrome, "#images button")[0].send_keys("\n")
    assert dialog.is_displayed()
    for number in surest:
        assert f"Image {number}" in dialog.text
        chrome.switch_to.active_element.send_keys("\ue014")  # the right arrow
    chrome.switch_to.active_element.send_keys("\ue00c")  # Escape
    assert not dialog.is_displayed()
    assert not chrome.get_log("browser")


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


def test_a_telephone_does_not_scroll_sideways(chrome, any_page):
    size = {"width": 375, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    opened(chrome, any_page)
    for button in find(chrome, "[data-cell]")[:1]:
        button.click()
    widths = chrome.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
    chrome.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert widths == [375, 375]
    assert not chrome.get_log("browser")


def test_axe_finds_no_grave_violation(chrome, axe, any_page):
    opened(chrome, any_page)
    for button in find(chrome, "[data-cell]")[1:2]:
        button.click()
    chrome.execute_script(axe)
    found = chrome.execute_async_script("axe.run().then(arguments[0])")["violations"]
    grave = [one for one in found if one["impact"] in ("serious", "critical")]
    assert not grave, json.dumps(grave, indent=1)[:3000]


def test_a_page_of_a_whole_test_set_is_small_and_opens_quickly(chrome, tmp_path):
    path = tmp_path / "large.html"
    report = report_of(n=3421, k=8)
    assert 0.3 < report.accuracy < 0.8
    write_page(path, report, X=images(3421))
    assert path.stat().st_size < 8_000_000
    start = time.perf_counter()
    opened(chrome, path)
    assert time.perf_counter() - start < 2
