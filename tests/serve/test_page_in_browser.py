"""The page of `kmedclf app` in a browser: a file is dropped, its answer seen."""

import base64

import numpy as np
import pytest
from image_samples import save
from selenium.webdriver.support.ui import WebDriverWait

import kmedclf
from tests.pages.test_pages_in_browser import axe, chrome, find  # noqa: F401
from tests.serve.test_page import page

pytestmark = pytest.mark.browser

DROP = """
const [target, name, text] = arguments;
const bytes = Uint8Array.from(atob(text), (one) => one.charCodeAt(0));
const data = new DataTransfer();
data.items.add(new File([bytes], name));
for (const kind of ["dragover", "drop"]) {
  const how = { bubbles: true, cancelable: true, dataTransfer: data };
  target.dispatchEvent(new DragEvent(kind, how));
}
"""


@pytest.fixture(scope="module")
def client(run_folder):
    with page(run_folder) as found:
        yield found


@pytest.fixture
def opened(chrome, client):  # noqa: F811
    chrome.get_log("browser")
    chrome.get(f"http://127.0.0.1:{client.port}/")
    return chrome


def answered(chrome, n):  # noqa: F811
    WebDriverWait(chrome, 60).until(lambda one: len(find(one, ".answer[data-done]")) == n)
    return find(chrome, ".answer")  # the last one first


def test_dropped_files_are_answered(opened, run_folder, tmp_path):
    images, _ = kmedclf.datasets.make_blood_cells(3, 8, random_state=9)
    paths = [str(save(tmp_path / f"{i}.png", one)) for i, one in enumerate(images)]
    opened.find_element("id", "files").send_keys("\n".join(paths))
    answered(opened, 3)
    dicom = base64.b64encode(save(tmp_path / "3.dcm", images[0]).read_bytes()).decode()
    opened.execute_script(DROP, opened.find_element("css selector", "h1"), "3.dcm", dicom)
    cards = answered(opened, 4)
    assert opened.current_url.startswith("http://127.0.0.1")  # the drop was no navigation
    assert [find(one, "h3")[0].text for one in cards] == ["3.dcm", "2.png", "1.png", "0.png"]
    proba = kmedclf.load(run_folder / "model.kmedclf").predict_proba(images)
    for card, row in zip(cards[::-1], proba[[0, 1, 2, 0]], strict=True):
        shown = [one.text for one in find(card, ".bars .share")]
        assert shown == [f"{share:.3f}" for share in np.sort(row)[::-1]]
        full = find(card, ".bars b")[0].size["width"]
        widths = [one.size["width"] / full for one in find(card, ".bars i")]
        np.testing.assert_allclose(widths, np.sort(row)[::-1], atol=0.02)
        said = find(card, ".said")[0].text
        assert said == "Unsure" or "cell" in said
        assert all(one.get_property("naturalWidth") for one in find(card, "img"))
    assert any(find(card, ".over") for card in cards)
    assert not opened.get_log("browser")
    opened.find_element("id", "clear").click()
    assert not find(opened, ".answer")


def test_a_file_that_is_no_image_is_refused_in_its_card(opened, tmp_path):
    (tmp_path / "notes.txt").write_text("no image")
    opened.find_element("id", "files").send_keys(str(tmp_path / "notes.txt"))
    (card,) = answered(opened, 1)
    assert find(card, ".problem")[0].text == (
        "notes.txt is not an image that can be read (no known format)."
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_telephone_shows_it_without_scrolling_sideways(opened, axe, tmp_path, scheme):  # noqa: F811
    images, _ = kmedclf.datasets.make_blood_cells(1, 8, random_state=9)
    size = {"width": 375, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    path = save(tmp_path / f"{'long' * 20}.png", images[0])
    opened.find_element("id", "files").send_keys(str(path))
    answered(opened, 1)
    widths = opened.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
    opened.execute_script(axe)
    found = opened.execute_async_script("axe.run().then(arguments[0])")["violations"]
    opened.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert widths == [375, 375]
    assert not [one for one in found if one["impact"] in ("serious", "critical")]


def test_a_page_of_a_stranger_gets_nothing(opened, client):
    """A script of another origin: the port of the other service is one."""
    port = client.port
    opened.get("data:text/html,<title>stranger</title>")
    code = """
const done = arguments[arguments.length - 1];
fetch(arguments[0], { method: "POST", body: "{}", mode: "no-cors" })
  .then((one) => done(one.type), (error) => done(String(error)));
"""
    assert opened.execute_async_script(code, f"http://127.0.0.1:{port}/predict") in (
        "opaque", "TypeError: Failed to fetch",
    )  # fmt: skip
    opened.get(f"http://127.0.0.1:{port}/health")
    assert "ok" in opened.page_source
