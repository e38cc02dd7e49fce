"""What is in a page besides its numbers: no foreign code, and nobody's folders."""

import base64
import getpass
import hashlib
import html.parser
import json
import re
from pathlib import Path

import numpy as np
import page_parts as pages
import pandas as pd
import pytest
from cli_helpers import invoke
from PIL import Image

import kmedclf
from kmedclf import runs, studies
from kmedclf.datasets import make_blood_cells, sources
from kmedclf.pages import report as page_module
from kmedclf.pages import without_folders
from kmedclf.studies.study import write as write_study
from kmedclf.utils.files import places_below

HOSTILE = [
    '"><script>window.pwned=1</script>',
    "</script><script>window.pwned=2</script>",
    "<img src=x onerror=window.pwned=3>",
    "line\nbreak\u2028</title></style><svg onload=window.pwned=4>",
    "{{ 7*7 }}' onmouseover='window.pwned=5' style='color:red",
]
ALLOWED = set(
    "a aside b bdi body button caption clippath dd defs details dialog div dl dt figcaption figure "
    "footer g h1 h2 h3 head header html image img input label li link main meta nav noscript "
    "p path rect script section span strong style summary svg table tbody td text th thead title "
    "tr tspan ul use".split()
)


class Parsed(html.parser.HTMLParser):
    """The elements of a page, and the text of those that are code."""

    def __init__(self, path):
        super().__init__()
        self.elements, self.code, self.inside = [], [], None
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self.inside = (tag, dict(attrs)) if tag in ("script", "style") else None

    def handle_endtag(self, tag):
        self.inside = None

    def handle_data(self, data):
        if self.inside:
            self.code.append((*self.inside, data))

    @property
    def policy(self):
        (found,) = [a for t, a in self.elements if "http-equiv" in a]
        parts = (part.strip().split(" ") for part in found["content"].split(";"))
        return {name: values for name, *values in parts}


@pytest.fixture(scope="module")
def every(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pages, "NAMES", HOSTILE)
        made = {
            name: Parsed(make(tmp_path_factory.mktemp("page")))
            for name, make in pages.PAGES.items()
        }
    return made


@pytest.fixture(params=pages.PAGES)
def hostile(request, every):
    return every[request.param]


def test_every_template_is_among_the_pages(every):
    folder = Path(page_module.__file__).parent / "templates"
    templates = {
        path.stem
        for path in folder.glob("*.html")
        if 'extends "base.html"' in path.read_text(encoding="utf-8")
    }
    found = {
        attrs["class"] for one in every.values() for tag, attrs in one.elements if tag == "main"
    }
    assert found == templates


def test_names_become_no_elements_and_no_attributes(hostile):
    for tag, attrs in hostile.elements:
        assert tag in ALLOWED
        assert not [name for name in attrs if name.startswith("on") or name == "style"], attrs
        if tag in ("img", "image"):
            assert attrs.get("src", attrs.get("href")).startswith("data:image/")
    scripts = [attrs for tag, attrs in hostile.elements if tag == "script"]
    assert len([one for one in scripts if one.get("type") != "application/json"]) == 1
    assert len([tag for tag, _ in hostile.elements if tag == "style"]) == 1


def test_only_our_own_code_is_allowed_by_its_hash(hostile):
    policy = hostile.policy
    assert policy["default-src"] == ["'none'"]
    assert policy["base-uri"] == policy["form-action"] == ["'none'"]
    assert "unsafe" not in str(policy)
    code = {tag: text for tag, attrs, text in hostile.code if attrs.get("type") is None}
    assert code.keys() == {"script", "style"}
    for tag, text in code.items():
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert policy[f"{tag}-src"] == [f"'sha256-{digest}'"]
        assert "pwned" not in text


def test_embedded_data_keep_names_whole(hostile):
    for _, attrs, text in hostile.code:
        if attrs.get("type") == "application/json":
            assert json.loads(text)["names"][:5] == HOSTILE
            assert "<" not in text


SECRET = "jane-doe-ward-7"


@pytest.fixture(scope="module")
def secret(tmp_path_factory):
    """Give a data set as a file and as a folder, and two runs on it, in a telling place."""
    root = tmp_path_factory.mktemp("pages") / SECRET / "a b"
    root.mkdir(parents=True)
    arrays = {}
    for seed, (split, n) in enumerate({"train": 24, "val": 12, "test": 12}.items()):
        X, y = make_blood_cells(n, 12, random_state=seed)
        arrays |= {f"{split}_images": X, f"{split}_labels": y % 3}
        for i, (image, label) in enumerate(zip(X, y % 3, strict=True)):
            path = root / "set" / split / "abc"[label] / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
    arrays["val_images"][0] = arrays["train_images"][0]
    np.savez(root / "set.npz", **arrays)
    for name, source, size in (("npz", root / "set.npz", None), ("folder", root / "set", 12)):
        model = kmedclf.MLPClassifier(
            units=4, epochs=1, random_state=0, memory=str(root / "memory")
        )
        runs.train(model, sources.read_data(str(source), size), root / f"run-{name}")
    return root


@pytest.fixture(scope="module")
def shared_pages(secret):
    """Give pages of every kind, made by the commands where there is one."""
    for name in ("npz", "folder"):
        done = invoke("report", secret / f"run-{name}", "--plain")
        assert done.exit_code == 0, done.output
    runs_of = [secret / "run-npz", secret / "run-folder"]
    for command in (
        ("compare", *runs_of[:1], "--out", secret / "comparison.html"),
        ("audit", "--data", secret / "set.npz", "--out", secret / "audit-npz.html"),
        ("audit", "--data", secret / "set", "--out", secret / "audit-folder.html"),
    ):
        done = invoke(*command)
        assert done.exit_code == 0, done.output
    given = {"weights": str(secret / "weights.h5"), "memory": str(secret / "memory")}
    lab = studies.Lab.open(str(secret / "set.npz"), secret / "study", parameters=given)
    write_study(lab, "A study", [])
    return sorted(secret.glob("**/*.html"))


def test_pages_to_share_name_no_folder_and_no_user(shared_pages, secret):
    assert len(shared_pages) == 6
    for path in shared_pages:
        text = path.read_text(encoding="utf-8")
        assert SECRET not in text, path
        assert str(Path.home()) not in text
        assert not re.search(rf"[/\\]{re.escape(getpass.getuser())}[/\\]", text)
    folder = (secret / "run-folder" / "report.html").read_text(encoding="utf-8")
    shown = json.loads(re.search(r'id="data">(.*?)</script>', folder, re.S)[1])
    files = {entry["f"] for entry in shown["images"].values()}
    assert files
    assert all(re.fullmatch(r"test/[abc]/\d+\.png", name) for name in files)
    stored = json.loads((secret / "run-folder" / "evaluation-test.json").read_text("utf-8"))
    assert len(stored["paths"]) == 12
    assert files <= set(stored["paths"])
    assert json.loads((secret / "run-npz" / "evaluation-test.json").read_text())["paths"] == []
    assert "set.npz" in (secret / "run-npz" / "report.html").read_text(encoding="utf-8")


def test_json_beside_keeps_the_paths(secret):
    """Whoever goes on on the same machine needs them."""
    environment = json.loads((secret / "run-npz" / "environment.json").read_text("utf-8"))
    assert environment["data"]["source"] == str(secret / "set.npz")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/data/jane doe/x.npz", "x.npz"),
        ("~/x/y.h5", "y.h5"),
        (str(Path.home()), "~"),
        ("C:\\Users\\jane\\a.npz", "a.npz"),
        ("\\\\server\\share\\x.npz", "x.npz"),
        ("file:///data/jane/x", "x"),
        ("<Memory(location=/data/jane/joblib)>", "<Memory(location=joblib)>"),
        ("[PosixPath('/data/jane doe/x')]", "[PosixPath('x')]"),
        (Path("/data/jane/x"), "x"),
        ("images/s, and/or 1/2", "images/s, and/or 1/2"),
        ("0.738 / 0.607", "0.738 / 0.607"),
        ("https://example.org/a/b", "https://example.org/a/b"),
        (r"patient(\d+)/", r"patient(\d+)/"),
        (None, "None"),
        (0.5, "0.5"),
    ],
)
def test_values_are_shown_without_folders(text, shown):
    assert without_folders(text) == shown


def test_files_are_named_below_their_common_folder(tmp_path):
    both = [tmp_path / "a" / "1.png", str(tmp_path / "b" / "1.png")]
    assert places_below(both) == places_below(pd.Series(both, index=[7, 8])) == [
        "a/1.png", "b/1.png",
    ]  # fmt: skip
    assert places_below(both, tmp_path.parent)[0] == f"{tmp_path.name}/a/1.png"
    assert places_below([tmp_path / "a" / "1.png"]) == ["1.png"]
    assert places_below(np.zeros((2, 3))) is None


def test_names_that_are_no_text_do_not_stop_a_page(tmp_path):
    report = pages.report_of(k=2, class_names=["caf\udce9", "b"])
    page_module.write_page(tmp_path / "page.html", report)
    assert "caf\\udce9" in (tmp_path / "page.html").read_text(encoding="utf-8")
