"""What a run says of itself to others: its model card, its checklist, its page."""

import re

import numpy as np
import pytest
import yaml
from page_parts import HOSTILE_NAMES

from kmedclf import AutoClassifier, MLPClassifier, runs
from kmedclf.datasets import make_blood_cells, sources
from kmedclf.runs.page import write_run_page


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Train on classes with hostile names; one test image is a training image as well."""
    folder = tmp_path_factory.mktemp("cards")
    arrays = {"class_names": np.array(HOSTILE_NAMES)}
    for seed, (split, n) in enumerate({"train": 30, "val": 12, "test": 15}.items()):
        X, _ = make_blood_cells(n, 8, random_state=seed)
        arrays |= {f"{split}_images": X, f"{split}_labels": np.arange(n) % 3}
    arrays["test_images"][4] = arrays["train_images"][7]
    np.savez(folder / "set.npz", **arrays)
    model = MLPClassifier(units=4, epochs=2, random_state=0)
    runs.train(model, sources.read_data(str(folder / "set.npz")), folder / "run")
    return folder / "run"


def test_a_model_card_has_the_hubs_headings_and_the_scores(run):
    text = (run / "MODEL_CARD.md").read_text("utf-8")
    front = yaml.safe_load(text.split("---")[1])
    assert front["pipeline_tag"] == "image-classification"
    accuracy = runs.read_run(run).reports["test"].scores["accuracy"]
    (metrics,) = [
        {one["type"]: one["value"] for one in result["metrics"]}
        for result in front["model-index"][0]["results"]
        if result["dataset"]["split"] == "test"
    ]
    assert metrics["accuracy"] == pytest.approx(accuracy.value, abs=1e-4)
    headings = re.findall(r"^## (.*)$", text, re.M)
    for name in ("Model Details", "Uses", "Bias, Risks, and Limitations", "Training Details",
                 "How to Get Started with the Model", "Evaluation", "Citation"):  # fmt: skip
        assert name in headings
    assert f"| Accuracy | {accuracy} |" in text
    assert "- **units:** 4" in text
    assert "Only 15 images" in text  # its limits
    assert str(run.parent) not in text


def test_a_checklist_has_every_item_and_is_honest_about_what_it_does_not_know(run):
    claim, tripod = (run / "CHECKLIST.md").read_text("utf-8").split("## TRIPOD")
    items = [re.findall(r"^\| (\d+[a-g]?) \|(.*)\|$", part, re.M) for part in (claim, tripod)]
    assert [number for number, _ in items[0]] == [str(i) for i in range(1, 45)]
    assert len({re.sub(r"\D", "", number) for number, _ in items[1]}) == 27
    known = dict(items[0])
    assert "train 30, val 12, test 15" in known["19"]
    assert known["44"].endswith("**for you to fill in** ")
    assert "Only 15 images" in known["40"]


SAID = {
    "network": (
        lambda: MLPClassifier(units=4, epochs=2, random_state=0, verbose=0),
        {},
        ["None: one network", "epoch 1 of 2|epoch 2 of 2|2 epochs", "images per second"],
    ),
    "calibrated": (
        lambda: MLPClassifier(units=4, epochs=2, random_state=0),
        {"calibrate": True},
        ["calibrated on the validation images, with the temperature"],
    ),
    "mixture": (
        lambda: AutoClassifier(4, random_state=0),
        {},
        ["linear models and neural networks", r"(alone|mean of) ?.*pixels|pixels .* alone"],
    ),
}
"""What is trained, how, and what its card or checklist must say."""


@pytest.mark.parametrize("kind", SAID)
def test_both_say_nothing_that_is_not_so(run, kind, tmp_path):
    make, options, said = SAID[kind]
    data = sources.read_data(str(run.parent / "set.npz"))
    if kind == "mixture":  # which draws its own
        del data.splits["val"]
    runs.train(make(), data, tmp_path / "run", **options)
    both = "".join((tmp_path / "run" / name).read_text("utf-8")
                   for name in ("MODEL_CARD.md", "CHECKLIST.md"))  # fmt: skip
    for pattern in said:
        assert re.search(pattern, both), pattern
    for wrong in (r"\b0 epochs", r"\b0\.0 images", r"(?<!\.)\.\.(?!\.)", r"\bFalse\b",
                  "None(?!: one network)"):  # fmt: skip
        assert not re.search(wrong, both), re.search(f".*{wrong}.*", both)
    assert ("None: one network" in both) == (kind != "mixture")
    assert ("a neural network in Keras" in both) == (kind != "mixture")


def test_names_are_text_in_both(run):
    for name in ("MODEL_CARD.md", "CHECKLIST.md"):
        text = (run / name).read_text("utf-8")
        assert "<script" not in text
        assert "<img" not in text
        assert "[click](" not in text
        assert len({line.count("|") - line.count("\\|") for line in text.splitlines()
                    if re.match(r"\| \d+", line)}) <= 1  # fmt: skip


def test_both_tell_which_images_the_training_has_seen(run):
    card, checklist = (
        (run / name).read_text("utf-8") for name in ("MODEL_CARD.md", "CHECKLIST.md")
    )
    leaks = "Images that are also training images, pixel by pixel: test 1, val 0."
    assert leaks in card
    assert leaks in checklist
    assert "1 of these images is a training image as well" in card.split("## Bias")[1]


def test_the_page_of_a_run_tells_leaks_and_what_was_chosen(run):
    page = write_run_page(run, explain=False).read_text("utf-8")
    assert "1 of these images is a training image as well" in page
    first, defaults = page[page.index('id="parameters"') :].split("<details>")
    assert "<dt>units</dt>" in first
    assert "<dt>batch size</dt>" in defaults
