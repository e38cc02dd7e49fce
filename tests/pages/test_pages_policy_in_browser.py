"""The policy of the pages in a browser: our code runs, and no other."""

import re

import page_parts as pages
import pytest

from tests.pages.test_pages_are_safe import HOSTILE
from tests.pages.test_pages_in_browser import chrome, find, opened  # noqa: F401

pytestmark = pytest.mark.browser

WATCH = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) => {
  window.violations.push(event.effectiveDirective + " " + event.sample);
});
"""


@pytest.fixture(scope="module")
def watched(chrome):  # noqa: F811
    """Watch for violations from the first line of every page on."""
    found = chrome.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": WATCH})
    yield chrome
    chrome.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", found)


@pytest.fixture(params=pages.PAGES)
def hostile(request, tmp_path, monkeypatch):
    monkeypatch.setattr(pages, "NAMES", HOSTILE)
    return pages.PAGES[request.param](tmp_path)


def facts(browser):
    return browser.execute_script("return [window.violations, window.pwned ?? null]")


def test_every_page_works_under_its_policy(watched, hostile):
    opened(watched, hostile)
    width, alphas = watched.execute_script(
        "return [getComputedStyle(document.querySelector('main')).maxWidth,"
        "[...document.querySelectorAll('.matrix td[class]')].map("
        "(one) => getComputedStyle(one).backgroundColor)]"
    )
    assert width == "1088px"  # our style is in force
    if alphas:
        assert len(set(alphas)) > 1
        assert all("0, 114, 178" in one for one in alphas)
    for button in find(watched, "[data-cell]")[:6]:
        watched.execute_script("arguments[0].click()", button)  # headings that stick may cover it
        bar = watched.execute_script(
            "return getComputedStyle(document.querySelector('.shares li i')).width"
        )
        assert bar.endswith("px")
        assert find(watched, "#images figure")
    for button in find(watched, ".sort")[:12]:
        button.click()
        assert button.find_element("xpath", "..").get_attribute("aria-sort") == "ascending"
    assert facts(watched) == [[], None]
    assert not watched.get_log("browser")


@pytest.mark.parametrize(
    ("code", "directive"),
    [
        ("<script>window.pwned = 1</script>", "script-src-elem"),
        ("<img src='data:,' onerror='window.pwned = 1'>", "script-src-attr"),
        ("<i style='position:fixed;inset:0'>x</i>", "style-src-attr"),
        ("<style>main { display: none }</style>", "style-src-elem"),
    ],
)
def test_code_in_a_name_would_not_run_even_if_it_were_not_escaped(
    watched, tmp_path, code, directive
):
    path = pages.PAGES["report"](tmp_path)
    text = path.read_text(encoding="utf-8")
    assert text.count("<bdi>plain</bdi>") >= 1
    path.write_text(text.replace("<bdi>plain</bdi>", code), encoding="utf-8")
    opened(watched, path)
    violations, pwned = facts(watched)
    assert pwned is None
    assert [one.split(" ")[0] for one in violations] == [directive]
    assert watched.execute_script("return document.querySelector('main').offsetHeight") > 500


def test_a_card_names_its_file(watched, tmp_path):
    opened(watched, pages.PAGES["files"](tmp_path))
    find(watched, "[data-cell]")[0].click()
    names = [one.text for one in find(watched, "#images .file")]
    assert names
    assert all(re.fullmatch(r"<b>bold \d/<script>alert\(\d+\)\.png", name) for name in names)
