"""The pages of documentation in a browser."""

import functools
import http.server
import subprocess
import sys
import threading

import pytest
from helpers import ROOT

from tests.pages.test_pages_in_browser import chrome, find  # noqa: F401

pytestmark = pytest.mark.browser
BUILT = ROOT / "docs" / "_build" / "html"
PAGES = ["index.html", "choosing.html", "comparison.html", "api/kmedclf.CNNClassifier.html"]


class Quiet(http.server.SimpleHTTPRequestHandler):
    """A server of files that logs nothing."""

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def address():
    """Build what is out of date, and serve it on this machine: search reads pages by HTTP."""
    pytest.importorskip("sphinx", reason="the extra 'docs' is not installed")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", ROOT / "docs", BUILT]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    handler = functools.partial(Quiet, directory=BUILT)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def wide(chrome):  # noqa: F811
    chrome.set_window_size(1280, 900)
    return chrome


def test_the_front_page_shows_its_picture_and_leads_on(wide, address):
    wide.get(f"{address}/index.html")
    (picture,) = find(wide, ".bd-article img")
    assert picture.get_property("naturalWidth") >= 1000
    targets = {one.get_attribute("href") for one in find(wide, ".bd-article a")}
    for page in ("start/student", "start/clinician", "start/researcher", "choosing"):
        assert f"{address}/{page}.html" in targets


def test_the_search_finds_a_class(wide, address):
    from selenium.webdriver.support.ui import WebDriverWait

    wide.get(f"{address}/search.html?q=CNNClassifier")
    found = WebDriverWait(wide, 20).until(lambda _: find(wide, "#search-results li a"))
    assert any("kmedclf.CNNClassifier" in one.get_attribute("href") for one in found)


@pytest.mark.parametrize("page", PAGES)
def test_no_page_scrolls_sideways_on_a_phone(chrome, address, page):  # noqa: F811
    size = {"width": 375, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        chrome.get(f"{address}/{page}")
        root = "return document.documentElement."
        assert chrome.execute_script(root + "clientWidth") == 375
        assert chrome.execute_script(root + "scrollWidth") <= 375
    finally:
        chrome.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_dark_is_dark(wide, address):
    dark = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    wide.execute_cdp_cmd("Emulation.setEmulatedMedia", dark)
    try:
        wide.get(f"{address}/choosing.html")
        colour = "return getComputedStyle(document.{}).{}.match(/\\d+/g).map(Number)"
        assert max(wide.execute_script(colour.format("body", "backgroundColor"))[:3]) < 60
        assert min(wide.execute_script(colour.format("body", "color"))[:3]) > 150
    finally:
        wide.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
