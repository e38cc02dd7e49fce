"""One page of each kind, all with names that would break out of a careless one."""

import json
import re

import numpy as np
from PIL import Image
from sklearn.dummy import DummyClassifier

from kmedclf import studies
from kmedclf.datasets import audit, sources
from kmedclf.evaluation import (
    compare,
    evaluate_predictions,
    plots,
    write_comparison_page,
    write_page,
)
from kmedclf.pages.search import write_search_page
from kmedclf.serve.abstention import Abstention
from kmedclf.serve.model import ServedModel
from kmedclf.serve.page import page_of
from kmedclf.serve.uploads import Limits
from kmedclf.studies.study import PAGE, write

NAMES = [
    "plain",
    "quo\"te' <b>bold</b>",
    "</script><script>alert(1)</script>",
    "żółć é",
    "خلية دم",
]
HOSTILE_NAMES = ["<script>alert(1)</script>", "a | b <img src=x>", "[click](http://x) `c` *d*"]
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


def data_of(path):
    text = path.read_text(encoding="utf-8")
    return json.loads(re.search(r'id="data">(.*?)</script>', text, re.S)[1])


def write_report(folder):
    path = folder / "report.html"
    write_page(
        path,
        report_of(class_names=NAMES),
        X=images(120),
        history=HISTORY,
        best_epoch=2,
        parameters={"filters": 8, "name": "<i>&\"'", "units": 3},
        chosen=["filters", "name"],
        links={NAMES[1]: "network/report.html"},
        environment={"versions": {"keras": "3"}, "list": [1, 2]},
        title='A "title" <h1>',
    )
    return path


def write_hundred_classes(folder):
    report = report_of(n=300, k=100, class_names=NAMES + [f"class {i}" for i in range(95)])
    write_page(folder / "report.html", report, X=images(300))
    return folder / "report.html"


def write_labels(folder):
    generator = np.random.default_rng(0)
    y = generator.integers(0, 2, (60, 5))
    proba = np.clip(0.5 * y + generator.uniform(0, 0.5, y.shape), 0, 1)
    report = evaluate_predictions(y, proba, class_names=NAMES, n_bootstrap=50)
    write_page(folder / "labels.html", report, history=HISTORY, best_epoch=2, title=NAMES[1])
    return folder / "labels.html"


def write_files(folder):
    """Write a report whose images are files with names as bad as those of the classes."""
    paths = []
    for i, image in enumerate(images(30)):
        paths.append(folder / "images" / f"<b>bold {i % 3}" / f"<script>alert({i}).png")
        paths[-1].parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(paths[-1])
    write_page(folder / "report.html", report_of(n=30, class_names=NAMES), X=paths)
    return folder / "report.html"


def comparison():
    reports = {"<b>bold</b>": report_of(seed=0), "two": report_of(seed=1, skill=3)}
    return compare(
        reports, dataset="bloodmnist", parameters={"two": 1234}, protocol="28 px <b>bold</b>",
        caveat="Not comparable: <b>bold</b>.",
    )  # fmt: skip


def write_comparison(folder):
    write_comparison_page(folder / "comparison.html", comparison(), title=NAMES[1])
    return folder / "comparison.html"


def write_audit(folder):
    X, y = images(60), np.arange(60) % 5
    X[40], X[41], y[41] = X[0], X[1, ::-1], (y[1] + 1) % 5
    splits = np.repeat(["train", NAMES[2]], 30)
    found = audit(X, y, splits=splits, groups=np.arange(60) % 31, class_names=NAMES)
    found.write_page(folder / "audit.html", X, title=NAMES[1])
    return folder / "audit.html"


def write_study(folder):
    report = report_of(class_names=NAMES)
    section = studies.Section(
        title=NAMES[1],
        method=f"{NAMES[2]}\n\nA second paragraph of words.",
        findings=NAMES,
        tables=[studies.Table(NAMES[1], ["Class", *NAMES], [[NAMES[2], *NAMES], ["x", *range(5)]])],
        figures=[studies.Figure.of("a", NAMES[1], plots.per_class(report))],
        comparison=comparison(),
        pages={f"Report of {NAMES[4]}": "network/report.html"},
    )
    data = sources.Data({}, tuple(NAMES), {"name": NAMES[2], "n": {NAMES[1]: 3}})
    write(studies.Lab(data, folder), NAMES[1], [section, section])
    return folder / PAGE


def search_results(folder):
    """Write what a search of two stages leaves in its folder."""
    names, n = [NAMES[2], NAMES[1], "none", "basic"], 4
    results = {
        "stage": ["data"] * 4 + ["kernels"] * 4,
        "param_augment": [*names, *["basic"] * 4],
        "param_filters": [8] * 4 + [4, 8, 16, None],
        "params": [{"augment": name, "filters": 8} for name in names]
        + [{"augment": "basic", "filters": f} for f in (4, 8, 16, None)],
        "split0_test_score": [0.5, 0.51, 0.6, 0.7, 0.6, 0.7, 0.8, None],
        "split1_test_score": [0.52, 0.5, 0.62, 0.72, 0.62, 0.72, 0.84, None],
        "mean_test_score": [0.51, 0.505, 0.61, 0.71, 0.61, 0.71, 0.82, None],
        "std_test_score": [0.01, 0.005, 0.01, 0.01, 0.01, 0.01, 0.02, None],
    }
    curve = {"val_accuracy": [0.4, 0.6, 0.7], "loss": [2, 1, 0.5]}
    settings = {"network": "CNNClassifier", "data": NAMES[1], "engine": "staged", "folds": 2}
    for name, content in (
        ("search", settings), ("results", results), ("curves", [[curve, curve]] * 2 * n),
    ):  # fmt: skip
        (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")


def write_search(folder):
    search_results(folder)
    write_search_page(folder, folder / "report.html")
    return folder / "report.html"


def write_app(folder):
    """Write the page of `kmedclf app`, which is served otherwise."""
    y = np.arange(30) % 5
    served = ServedModel(
        DummyClassifier().fit(np.zeros((30, 1)), y),
        NAMES,
        Abstention(0.5, f"A reason {NAMES[1]}."),
        reports={"test": report_of(class_names=NAMES)},
    )
    text, _ = page_of(served, Limits(2**20, 8))
    (folder / "app.html").write_text(text, encoding="utf-8")
    return folder / "app.html"


PAGES = {
    "app": write_app,
    "search": write_search,
    "report": write_report,
    "100 classes": write_hundred_classes,
    "files": write_files,
    "labels": write_labels,
    "comparison": write_comparison,
    "audit": write_audit,
    "study": write_study,
}
