"""Several labels an image on the command line, from files and from tables."""

import csv

import numpy as np
from cli_helpers import invoke, read, refused
from helpers import make
from PIL import Image

from kmedclf import datasets
from kmedclf.datasets import make_chest_findings, sources
from kmedclf.datasets.synthetic import FINDINGS


def write_npz(path, order=(0, 1, 2, 3)):
    content = {"class_names": np.array(FINDINGS)[list(order)]}
    for seed, (split, n) in enumerate({"train": 60, "val": 24, "test": 30}.items()):
        X, y = make_chest_findings(n, 12, random_state=seed)
        content |= {f"{split}_images": X, f"{split}_labels": y[:, list(order)]}
    np.savez(path, **content)
    return path


def test_a_file_is_trained_evaluated_reported_predicted_and_compared(tmp_path):
    npz, one, two = write_npz(tmp_path / "many.npz"), tmp_path / "one", tmp_path / "two"
    assert datasets.info(npz).task == "multilabel"
    options = ("--epochs", 2, "-p", "units=8")
    for folder in (one, two):
        done = invoke("train", "mlp", "--data", npz, "--out", folder, *options)
        assert done.exit_code == 0, done.output
    assert "Average precision, macro" in done.stdout
    before = read(one / "evaluation-test.json")
    assert before["class_names"] == list(FINDINGS)
    assert set(read(one / "metrics.json")["val"]) > {"auc_macro", "subset_accuracy"}

    # The same labels in another order are found by their names.
    other = write_npz(tmp_path / "other.npz", order=(3, 1, 0, 2))
    assert invoke("evaluate", one, "--data", other).exit_code == 0
    after = read(one / "evaluation-test.json")
    assert after["scores"] == before["scores"]
    strange = write_npz(tmp_path / "strange.npz", order=(0, 1, 2))
    assert "must have the labels of the run" in refused("evaluate", one, "--data", strange)

    assert invoke("evaluate", one, "--data", npz).exit_code == 0
    assert invoke("report", one).exit_code == 0
    assert "Found" in (one / "report.html").read_text(encoding="utf-8")
    compared = invoke("compare", one, two, "--out", tmp_path / "both.html")
    assert compared.exit_code == 0, compared.output
    assert "more labels" in compared.stdout

    X, _ = datasets.load(npz, "test")
    for i in range(3):
        Image.fromarray(X[i]).save(tmp_path / f"{i}.png")
    out = tmp_path / "predictions.csv"
    images = [tmp_path / f"{i}.png" for i in range(3)]
    assert invoke("predict", one, *images, "--proba", "--out", out).exit_code == 0
    rows = list(csv.DictReader(out.read_text(encoding="utf-8").splitlines()))
    assert list(rows[0]) == ["path", "prediction", *FINDINGS]
    for row in rows:
        expected = [name for name in FINDINGS if float(row[name]) > 0.5]
        assert row["prediction"] == "|".join(expected)


def test_a_table_of_labels_is_read_and_learnt(tmp_path):
    X, y = make_chest_findings(24, 8, random_state=0)
    with (tmp_path / "films.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["image", *FINDINGS])
        for i, (image, labels) in enumerate(zip(X, y, strict=True)):
            Image.fromarray(image).save(tmp_path / f"{i}.png")
            table.writerow([f"{i}.png", *labels])
    films = datasets.load_csv(tmp_path / "films.csv", label=FINDINGS)
    np.testing.assert_array_equal(films.y, y)
    assert films.class_names == FINDINGS
    model = make("MLPClassifier", image_size=8, channels=1).fit(films.paths, films.y)
    np.testing.assert_allclose(model.predict_proba(films.paths), model.predict_proba(X), atol=1e-6)


def test_synthetic_findings_are_known_by_name():
    assert "synthetic-findings" in invoke("datasets").stdout
    data = sources.read_data("synthetic-findings", 8, only="val")
    X, y = data.splits["val"]
    assert (X.shape[1:], y.shape) == ((8, 8), (len(X), len(FINDINGS)))
    assert data.names_of(range(4)) == list(FINDINGS)
    assert data.description["name"] == "synthetic findings"
