"""`kmedclf.evaluation.compare`: tables, paired tests, published numbers."""

import json

import numpy as np
import pytest
from scipy.stats import binom

from kmedclf.evaluation import compare, evaluate_predictions
from kmedclf.evaluation.compare import holm, mcnemar
from kmedclf.evaluation.published import protocol_of, published


def reports_of(skills, n=300, k=3):
    generator = np.random.default_rng(0)
    y, found = generator.integers(k, size=n), {}
    for name, skill in skills.items():
        logits = generator.normal(size=(n, k))
        logits[np.arange(n), y] += skill
        proba = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        found[name] = evaluate_predictions(y, proba, n_bootstrap=100)
    return found


REPORTS = reports_of({"poor": 0.5, "good": 3.0, "fair": 1.5})


def test_models_come_best_first_with_what_they_cost():
    table = compare(REPORTS, parameters={"good": 123_456}, seconds={"fair": 12.34})
    assert [one.name for one in table.models] == ["good", "fair", "poor"]
    assert [one.parameters for one in table.models] == [123_456, None, None]
    assert table.extras == {"parameters": "Parameters", "seconds": "Training, s"}
    text = table.to_markdown()
    assert "123,456" in text
    assert "12.3" in text
    assert str(REPORTS["good"].scores["accuracy"]) in text


def test_pairs_count_what_only_one_got_right():
    table = compare(REPORTS)
    assert len(table.pairs) == 3
    for one in table.pairs:
        first, second = REPORTS[one.first].right, REPORTS[one.second].right
        assert one.only_first == np.sum(first & ~second)
        assert one.only_second == np.sum(second & ~first)
        accuracies = [REPORTS[name].accuracy for name in (one.first, one.second)]
        assert one.difference.value == pytest.approx(accuracies[0] - accuracies[1])
        assert one.difference.low <= one.difference.value <= one.difference.high
        assert one.p == mcnemar(one.only_first, one.only_second)
        assert one.p_holm >= one.p


@pytest.mark.parametrize(("b", "c"), [(5, 1), (0, 8), (30, 12), (400, 350), (1, 1)])
def test_mcnemar_is_the_exact_binomial_test(b, c):
    expected = min(1.0, 2 * binom.cdf(min(b, c), b + c, 0.5))
    assert mcnemar(b, c) == pytest.approx(expected, rel=1e-9)
    assert mcnemar(b, c) == mcnemar(c, b)


def test_models_that_agree_do_not_differ():
    report = REPORTS["fair"]
    (pair,) = compare({"a": report, "b": report}).pairs
    assert (pair.only_first, pair.only_second, pair.p, pair.p_holm) == (0, 0, 1.0, 1.0)
    assert pair.difference == (0.0, None, None)


def test_mcnemar_keeps_its_level():
    """Of 2,000 pairs of equal models at most 5 % + 2 sd differ "significantly"."""
    generator = np.random.default_rng(0)
    ps = [mcnemar(b, 40 - b) for b in generator.binomial(40, 0.5, size=2000)]
    assert np.mean(np.array(ps) < 0.05) <= 0.06


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([0.04]) == [0.04]
    assert holm([]) == []


def test_comparison_is_plain_data():
    content = compare(REPORTS, dataset="bloodmnist", protocol="28 px").to_dict()
    assert json.loads(json.dumps(content, allow_nan=False)) == content
    assert content["protocol"] == "28 px"
    assert content["models"][0]["scores"]["accuracy"]["value"] == REPORTS["good"].accuracy


# ResNet-18 at 28 pixels and the best of seven methods, from the table of MedMNIST v2
MEDMNIST = {
    "pathmnist": (0.907, 0.911), "dermamnist": (0.735, 0.768), "octmnist": (0.743, 0.776),
    "pneumoniamnist": (0.854, 0.946), "retinamnist": (0.524, 0.531), "breastmnist": (0.863, 0.863),
    "bloodmnist": (0.958, 0.966), "tissuemnist": (0.676, 0.703), "organamnist": (0.935, 0.951),
    "organcmnist": (0.900, 0.920), "organsmnist": (0.782, 0.813), "chestmnist": (0.947, 0.948),
}  # fmt: skip


def test_published_numbers_stand_beside_with_resolution_and_protocol():
    table = compare(REPORTS, dataset="bloodmnist")
    assert {(one.model, one.resolution): one.accuracy for one in table.published} == {
        ("ResNet-18", "28 px"): 0.958,
        ("ResNet-18", "224 px, enlarged from 28"): 0.963,
        ("ResNet-50", "28 px"): 0.956,
        ("ResNet-50", "224 px, enlarged from 28"): 0.950,
        ("auto-sklearn", "28 px"): 0.878,
        ("AutoKeras", "28 px"): 0.961,
        ("Google AutoML Vision", "28 px"): 0.966,
    }
    text = table.to_markdown()
    assert "| ResNet-50, published | 28 px; official splits; MedMNIST v2 | 0.956 |" in text
    assert compare(REPORTS, dataset="my own").published == ()


@pytest.mark.parametrize("name", MEDMNIST)
def test_published_numbers_are_those_of_the_table(name):
    rows = published(name)
    assert (rows[0].model, rows[0].resolution, rows[0].accuracy) == (
        "ResNet-18", "28 px", MEDMNIST[name][0]
    )  # fmt: skip
    assert max(one.accuracy for one in rows) == MEDMNIST[name][1]
    assert {(one.protocol, one.source) for one in rows} == {("official splits", "MedMNIST v2")}
    assert published(name.upper()) == rows


def described(name, n, size=28):
    return {"name": name, "image_shape": [size, size, 3], "n": n}


BLOOD = {"train": 11959, "val": 1712, "test": 3421}


def test_the_whole_official_set_is_comparable():
    words = protocol_of(described("bloodmnist", BLOOD), "test", "bloodmnist")
    assert words == ("28 px; official splits", "")
    assert protocol_of(described("own", {"test": 5}), "test", None) == (
        "28 px; own, test split",
        "",
    )


@pytest.mark.parametrize(
    ("data", "split"),
    [
        (described("bloodmnist", BLOOD), "val"),
        (described("bloodmnist", {**BLOOD, "train": 911}), "test"),
        (described("part_of_it", {"train": 911, "val": 199, "test": 201}), "test"),
        (described("synthetic blood cells", BLOOD), "test"),
        ({"name": "files", "n": {"train": 9, "test": 9}}, "test"),
    ],
)
def test_anything_else_is_said_to_be_not_comparable(data, split):
    protocol, caveat = protocol_of(data, split, "bloodmnist")
    assert "official" not in protocol
    assert f"{data['name']}, {split} split" in protocol
    assert caveat.startswith("Not comparable")
    assert f"{data['n'][split]:,} images" in caveat
    assert "3,421 test images" in caveat
    table = compare(REPORTS, dataset="bloodmnist", protocol=protocol, caveat=caveat)
    assert caveat in table.to_markdown()
    assert compare(REPORTS, caveat=caveat).caveat == ""  # nothing published, nothing to compare


def test_bars_in_names_do_not_break_the_table():
    text = compare({"a|b": REPORTS["good"]}).to_markdown()
    assert r"| a\|b |" in text
    assert "McNemar" not in text


def test_reports_of_other_images_are_refused():
    other = reports_of({"x": 1.0}, n=299)["x"]
    with pytest.raises(ValueError, match="Got different labels for 'good' and 'x'"):
        compare({"good": REPORTS["good"], "x": other})
    with pytest.raises(ValueError, match=r"must hold a report\. Got none"):
        compare({})


@pytest.mark.parametrize("given", [{"good": [REPORTS["good"]] * 3}, [REPORTS["good"]] * 3])
def test_a_report_for_each_seed_is_no_report_of_a_model(given):
    with pytest.raises(TypeError, match=r"to one report\. Got a list .*mean_std averages"):
        compare(given)
