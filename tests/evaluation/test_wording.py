"""What pages and console say of a run, against what ran."""

import dataclasses
import html
import itertools
import json
import re

import numpy as np
import pytest
from cli_helpers import invoke

import kmedclf
from kmedclf import recipes, runs, studies
from kmedclf.datasets import audit, make_blood_cells, make_chest_findings, sources
from kmedclf.evaluation import (
    compare,
    evaluate_predictions,
    mean_std,
    plots,
    write_comparison_page,
    write_page,
)
from kmedclf.evaluation.wording import brackets, epochs_of, interval_words, percent, verdict
from kmedclf.runs.page import write_run_page
from kmedclf.search import SearchSpace
from kmedclf.studies import bone, words


def visible(path):
    """Give the words of a page, without the list of parameters and what is embedded."""
    text = path.read_text(encoding="utf-8")
    text = text[text.index("<main") : text.index("</main>")]
    text = re.sub(r"<dl class=\"pairs\">.*?</dl>|<script.*?</script>", " ", text, flags=re.S)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", text)).split())


def data_of(several=False, val=True, n_test=12, one_class=False, side=8):
    """Make a small data set, with or without what a sentence may claim of it."""
    draw = make_chest_findings if several else make_blood_cells
    splits = {}
    for seed, (split, n) in enumerate({"train": 40, "val": 12, "test": n_test}.items()):
        X, y = draw(n, side, random_state=seed)
        splits[split] = X, y if several else (y * 0 + (np.arange(n) % 2) if one_class else y % 3)
    if one_class:  # nothing to learn: images of the test are all alike
        splits["test"][0][:] = splits["test"][0][:1]
    if not val:
        del splits["val"]
    names = tuple(f"finding {i}" for i in range(splits["test"][1].shape[1])) if several else "abc"
    description = {"name": "made", "source": "made", "size": 8, "file": None, "sha256": None}
    description |= {"image_shape": [8, 8, 3], "n": {k: len(y) for k, (_, y) in splits.items()}}
    return sources.Data(splits, tuple(names), description)


KINDS = {
    "plain": ({}, {}),
    "without val": ({"val": False}, {}),
    "without val, no stop": ({"val": False}, {"early_stopping": False}),
    "no stop": ({}, {"early_stopping": False}),
    "last weights": ({}, {"restore_best": False}),
    "by loss": ({}, {"monitor": "loss"}),
    "one epoch": ({}, {"epochs": 1}),
    "recipe": ({}, {"recipe": "fast", "units": 4, "epochs": 3}),
    "two images": ({"n_test": 2}, {}),
    "one image": ({"n_test": 1}, {}),
    "one class predicted": ({"one_class": True}, {}),
    "labels": ({"several": True}, {}),
    "labels, without val": ({"several": True, "val": False}, {"early_stopping": False}),
}


@pytest.fixture(scope="module", params=KINDS)
def made(request, tmp_path_factory):
    """Train a network of each kind: its data, its folder, the run, its page's words."""
    of_data, parameters = KINDS[request.param]
    data, folder = data_of(**of_data), tmp_path_factory.mktemp("run") / "run"
    given = {"units": 4, "epochs": 3, "min_epochs": 1, "learning_rate": 0.1, "random_state": 0}
    run = runs.train(kmedclf.MLPClassifier(**{**given, **parameters}), data, folder)
    return data, folder, run, visible(write_run_page(folder, data=data))


def test_validation_is_named_where_there_is_some(made):
    _, _, run, text = made
    history = run.estimator.history_
    assert ("validation" in text) == any(name.startswith("val_") for name in history)


def test_the_weights_are_those_of_the_epoch_that_is_said(made):
    data, _, run, text = made
    est = run.estimator
    used = recipes.parameters(est)
    epochs = epochs_of(est.history_, est.best_epoch_, used)
    assert str(epochs) in text
    assert epochs.n == len(est.history_["loss"])
    said_best = re.search(r"best validation (\w+) in epoch (\d+) of (\d+), whose weights", text)
    assert ("the weights are the last one's" in text) != bool(said_best)
    if said_best:
        curve = est.history_[f"val_{said_best[1]}"]
        best = max(curve) if said_best[1] == "accuracy" else min(curve)
        assert curve[int(said_best[2]) - 1] == best
        assert (said_best[1], int(said_best[3])) == (used["monitor"], len(curve))
    if "val" in data.splits and not data.splits["val"][1].ndim > 1:
        kept = est.history_["val_accuracy"][epochs.kept - 1]
        assert est.score(*data.splits["val"]) == pytest.approx(kept, abs=1e-6)


def test_brackets_are_explained_where_there_are_any(made):
    _, _, run, text = made
    report = run.reports["test"]
    assert ("Brackets hold" in text) == bool(re.search(r"\d\.\d{3} \[", text))
    assert ("bootstrap resamples of the images" in text) == (report.n > 1)
    assert (", with intervals" in text) == any(
        getattr(one, "auc" if not report.exclusive else "recall").low is not None
        or one.recall.low is not None
        for one in report.per_class
    )


def test_numbers_of_images_are_those_of_the_data(made):
    data, _, run, text = made
    n = len(data.splits["test"][1])
    assert run.reports["test"].n == n
    assert (f"{n} image, " if n == 1 else f"{n} images, ") in text
    assert "1 images" not in text.replace("11 images", "")


def test_few_images_and_one_class_are_said_before_the_scores(made):
    data, _, run, text = made
    report, y = run.reports["test"], data.splits["test"][1]
    head = text[: text.index("Labels" if y.ndim > 1 else "Confusion matrix")]
    assert ("Only " in head) == (len(y) < 30)
    if y.ndim == 1:
        alone = len(np.unique(report.y_pred)) == 1 and len(np.unique(y)) > 1
        assert ("tell the classes apart" in head) == alone
        share = np.bincount(y).max() / len(y)
        worse = not alone and len(np.unique(y)) > 1 and report.accuracy <= share
        assert ("is no better than that" in head) == worse
    assert all(warning in str(report) for warning in report.warnings)


def test_undefined_scores_are_said_to_be(made):
    _, _, run, text = made
    report = run.reports["test"]
    values = [one.value for one in report.scores.values()]
    values += [value.value for one in report.per_class for value in one[3:]]
    assert text.count("undefined") >= values.count(None)
    if None not in values:
        assert "undefined" not in text


def test_one_class_is_predicted_in_one_of_the_kinds():
    """So that the sentence about it is tested at all."""
    report = evaluate_predictions([0, 1, 1], [[0.9, 0.1]] * 3, n_bootstrap=0)
    assert "All 3 images are predicted as 0" in report.warnings[0]
    labels = evaluate_predictions([[0, 1], [1, 1]], np.full((2, 2), 0.1), n_bootstrap=0)
    assert "No label is predicted for any of the 2 images" in labels.warnings[0]
    fine = evaluate_predictions(np.arange(60) % 2, np.eye(2)[np.arange(60) % 2] * 0.8 + 0.1)
    assert fine.warnings == ()


@pytest.mark.parametrize(
    ("history", "best", "used", "words_"),
    [
        ({"loss": [1, 2]}, 2, None, "2 epochs, the weights are the last one's"),
        ({"loss": [1]}, 1, None, "1 epoch, the weights are the last one's"),
        (
            {"loss": [1, 2], "val_loss": [1, 2], "val_accuracy": [1, 0]},
            1,
            None,
            "validation was best in epoch 1 of 2",
        ),
        # fit on without validation images: whose epochs the curve has, nobody knows
        (
            {"loss": [1, 2, 3], "val_loss": [1, 2], "val_accuracy": [1, 0]},
            3,
            None,
            "3 epochs, the weights are the last one's",
        ),
    ],
)
def test_epochs_are_told_from_the_history(history, best, used, words_, tmp_path):
    assert str(epochs_of(history, best, used)) == words_
    full = {"accuracy": [0.5] * len(history["loss"]), **history}
    write_page(
        tmp_path / "page.html",
        evaluate_predictions([0, 1], [[0.9, 0.1], [0.2, 0.8]]),
        history=full,
        best_epoch=best,
    )
    assert words_ in visible(tmp_path / "page.html")
    drawn = [line.get_label() for line in plots.history(full, best_epoch=best).axes[0].lines]
    assert ("validation" in drawn) == ("validation was" in words_)
    assert any("best epoch" in str(label) for label in drawn) == ("best" in words_)


@pytest.mark.parametrize(
    ("share", "text"), [(0.95, "95 %"), (0.975, "97.5 %"), (0.999, "99.9 %"), (0.5, "50 %")]
)
def test_coverage_is_not_rounded(share, text):
    assert percent(share) == text
    y = np.arange(40) % 2
    proba = np.random.default_rng(0).dirichlet([1, 1], 40)
    report = evaluate_predictions(y, proba, confidence=share, n_bootstrap=50)
    for words_ in (str(report), brackets(report), interval_words(report)):
        assert text in words_
    plain = evaluate_predictions(y, proba, confidence=share, n_bootstrap=0)
    assert "interval" not in f"{plain} {brackets(plain)} {interval_words(plain)}"


def test_a_mean_over_fewer_reports_says_so():
    whole = evaluate_predictions([0, 1], [[0.9, 0.1], [0.2, 0.8]], n_bootstrap=0)
    part = evaluate_predictions([0], [[0.9, 0.1]], n_bootstrap=0)
    lines = {line[:27].strip(): line for line in str(mean_std([whole, part])).splitlines()}
    assert lines["AUC, macro"].endswith("of the 1 that define it")
    assert "that define it" not in lines["Accuracy"]
    assert "that define it" not in str(mean_std([part, part]))


def test_other_decisions_than_the_most_probable_class_are_said():
    y, proba = [0, 1, 0], [[0.6, 0.4], [0.55, 0.45], [0.9, 0.1]]
    given = evaluate_predictions(y, proba, y_pred=[0, 1, 0], n_bootstrap=0)
    assert "1 of 3 predictions are not the most probable class" in " ".join(given.notes)
    own = evaluate_predictions(y, proba, n_bootstrap=0)
    limit = evaluate_predictions(y, proba, pos_label=1, threshold=0.42, n_bootstrap=0)
    assert "most probable" not in " ".join([*own.notes, *limit.notes])


def test_studies_refuse_data_of_several_labels(tmp_path):
    with pytest.raises(ValueError, match=r"must have one label an image\. .*findings has"):
        studies.get("lung").open("synthetic-findings", tmp_path / "out", quick=True)
    assert not list(tmp_path.iterdir())


# -- console ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Give two data sets on disk: one with validation images and one without."""
    return written(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def larger_files(tmp_path_factory):
    """Give the same at 16 pixels, which the largest kernels of the studies fit in."""
    return written(tmp_path_factory.mktemp("data"), side=16)


def written(root, side=8):
    found = {}
    for name, keep in (("val", True), ("noval", False), ("other", True)):
        data = data_of(val=keep, side=side)
        arrays = {}
        for split, (X, y) in data.splits.items():
            arrays |= {f"{split}_images": 255 - X if name == "other" else X, f"{split}_labels": y}
        found[name] = root / f"{name}.npz"
        np.savez(found[name], **arrays)
    return found


def train(source, out, *more):
    done = invoke("train", "mlp", "--data", source, "--out", out, "-p", "units=4", "--epochs", 2,
                  "-p", "min_epochs=1", *more)  # fmt: skip
    assert done.exit_code == 0, done.output
    return " ".join(done.output.split())


@pytest.mark.parametrize("name", ["val", "noval"])
@pytest.mark.parametrize("stop", [True, False])
def test_train_says_whose_weights_are_kept(name, stop, files, tmp_path):
    text = train(files[name], tmp_path / "run", "-p", f"early_stopping={str(stop).lower()}")
    assert ("validation" in text) == (name == "val" or stop)
    kept = re.search(r"in epoch (\d) of 2, whose weights are kept", text)
    assert bool(kept) != ("the weights are the last one's" in text)
    if kept and not stop:  # it is the last one as well
        assert kept[1] == "2"
    assert stop <= bool(kept)
    assert ("val, n = 12" in text) == (name == "val")


def test_a_page_is_of_the_data_that_were_scored(files, tmp_path):
    """After 'kmedclf evaluate' on other images, these are named and shown, not those trained on."""
    train(files["val"], tmp_path / "run")
    done = invoke("evaluate", tmp_path / "run", "--data", files["other"], "--split", "test")
    assert done.exit_code == 0, done.output
    done = invoke("report", tmp_path / "run", "--plain")
    assert done.exit_code == 0, done.output
    text = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert '<h1 dir="auto">MLPClassifier on other, test split' in text
    assert "<dt>Scored on: Data set</dt>" in text
    # images of other files with the same labels are shown, and it is said that they are others
    done = invoke("report", tmp_path / "run", "--plain", "--data", files["val"])
    assert done.exit_code == 0, done.output
    assert "they may not be the same" in visible(tmp_path / "run" / "report.html")
    # other labels are refused
    arrays = dict(np.load(files["val"]))
    arrays["test_labels"] = arrays["test_labels"][::-1]
    np.savez(tmp_path / "wrong.npz", **arrays)
    done = invoke("report", tmp_path / "run", "--plain", "--data", tmp_path / "wrong.npz")
    assert done.exit_code == 2
    assert "--data must be the 12 images that evaluation-test.json" in " ".join(done.output.split())


def test_a_comparison_says_what_differs(files, tmp_path):
    for name in ("val", "other"):
        train(files[name], tmp_path / name)
    done = invoke("compare", tmp_path / "val", tmp_path / "other", "--out", tmp_path / "c.html")
    assert done.exit_code == 0, done.output
    page = visible(tmp_path / "c.html")
    for text in (" ".join(done.output.split()), page):
        assert "were scored on different files" in text
        assert "val, test split" in text
        assert "other, test split" in text
    assert "the same for all models" not in page
    done = invoke("compare", tmp_path / "val", tmp_path / "val")
    assert done.exit_code == 2
    assert "must be different folders" in " ".join(done.output.split())


def test_a_comparison_of_one_kind_has_one_protocol_and_no_brackets_without_resamples(tmp_path):
    y, proba = np.arange(40) % 2, np.random.default_rng(0).dirichlet([1, 1], 40)
    plain = evaluate_predictions(y, proba, n_bootstrap=0)
    found = compare({"a": plain, "b": plain}, protocol="8 px", n_bootstrap=0)
    assert found.protocol == "8 px"
    write_comparison_page(tmp_path / "c.html", found)
    assert "Brackets" not in visible(tmp_path / "c.html") + found.to_markdown()
    assert 'aria-label="Accuracy of each model."' in (tmp_path / "c.html").read_text(
        encoding="utf-8"
    )
    weighted = evaluate_predictions(y, proba, sample_weight=np.arange(40) + 1.0)
    notes = compare({"a": weighted, "b": weighted}).notes
    assert "differences and tests count every image once" in " ".join(notes)


@pytest.mark.parametrize("near", [True, False])
@pytest.mark.parametrize("groups", [None, np.arange(20) // 2])
def test_an_audit_says_what_it_did_not_look_for(near, groups, tmp_path):
    X, y = make_blood_cells(20, 12, random_state=0)
    found = audit(X, y, near=near, groups=groups, splits=["train", "test"] * 10)
    found.write_page(tmp_path / "audit.html", X)
    counts = dict(found.to_dict(), **{name: n for name, n, *_ in found.findings()})
    assert (counts["Pairs of nearly identical images"] is None) == (not near)
    assert (counts["Groups in several splits"] is None) == (groups is None)
    for text in (str(found), visible(tmp_path / "audit.html")):
        assert ("Nearly identical images were not looked for" in text) == (not near)
        assert ("were not given" in text) == (groups is None)


# -- studies ---------------------------------------------------------------------------------


@pytest.mark.parametrize("val", [True, False])
@pytest.mark.parametrize("stop", [True, False])
@pytest.mark.parametrize("best", [True, False])
@pytest.mark.parametrize("monitor", ["accuracy", "loss"])
def test_the_words_of_a_training_are_those_of_its_parameters(val, stop, best, monitor):
    data = data_of(val=val)
    est = kmedclf.CNNClassifier(
        early_stopping=stop, restore_best=best, monitor=monitor, epochs=7, n_iter_no_change=2,
        min_epochs=1, augment=["mirror", "blur"] if best else False, loss="focal" if stop else
        "crossentropy", learning_rate=0.5, lr_schedule="plateau", lr_patience=4, batch_size=5,
    )  # fmt: skip
    text = words.training(est, data)
    assert ("stops when" in text) == stop
    assert ("weights of the best epoch" in text) == (stop and best)
    assert ("last one's weights stand" in text) == (not stop)
    assert (f"validation {monitor} has not" in text) == stop
    assert ("no validation split" in text) == (not val)
    assert ("nothing validates" in text) == (not val and not stop)
    assert ("10 % of what is trained on validates" in text) == (not val and stop)
    watched = "validation" if val or stop else "training"
    assert f"after 4 epochs without a better {watched} {monitor}" in text
    assert ("Focal loss" in text) == stop
    assert ("mirrored" in text) == best
    assert "7 epochs" in text
    assert "batches of 5" in text


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"tol": 0.05}, "is lower by more than 0.05 than in the epoch before,"),
        ({"n_iter_no_change": 2}, "is lower than in the epoch before 2 times in a row,"),
        ({"monitor": "loss", "tol": 0.1, "tol_mode": "relative"},
         "loss is higher by more than 10 % than in the epoch before,"),
        ({"min_epochs": 3}, "before, not before epoch 3, and"),
        ({"min_epochs": 9}, "runs for 7 epochs, never stops early, and ends with the weights of "
         "the epoch of best validation accuracy."),
        ({"min_epochs": 9, "restore_best": False}, "and ends with the weights of the last epoch."),
        ({"stop_against": "best"}, "has not risen for 1 epoch, and"),
    ],
)  # fmt: skip
def test_the_words_of_early_stopping_are_those_of_its_parameters(given, said):
    parameters = {"epochs": 7, "n_iter_no_change": 1, "min_epochs": 1, "stop_against": "previous"}
    est = kmedclf.CNNClassifier(**{**parameters, **given})
    assert said in words.stopping(est, data_of())


def test_a_choice_that_was_overridden_is_named_as_what_ran():
    est = kmedclf.CNNClassifier(optimizer="adam", filters=4)
    assert words.as_named("sgd", {"optimizer": "sgd"}, est) == "sgd, but optimizer adam"
    assert words.as_named("adam", {"optimizer": "adam"}, est) == "adam"
    assert (
        words.as_named("a", {"filters": [4, 4]}, kmedclf.ConvNetClassifier(filters=(4, 4))) == "a"
    )


def quick(tmp_path, study, source, only, **given):
    lab = studies.get(study).open(str(source), tmp_path, quick=True, parameters=given)
    items = studies.get(study).only(only).items
    return lab, {item.__name__: item(lab) for item in items}


@pytest.mark.parametrize("name", ["val", "noval"])
def test_bones_best_row_is_chosen_by_what_there_was(name, files, tmp_path):
    lab, sections = quick(tmp_path, "bone", files[name], ["alexnet"], epochs=1)
    text = " ".join([sections["alexnet"].method, *sections["alexnet"].findings])
    assert "rows by validation accuracy" in text
    assert "nothing validates" not in text
    assert ("validation_drawn" in lab.data.description) == (name == "noval")
    rows = {k: one for k, one in lab.results.items() if "repeat" not in k}
    run = {k: runs.read_run(tmp_path / k) for k in rows}
    worth = {k: one.reports["val"].accuracy for k, one in run.items()}
    best = re.search(r"(alexnet-\S+), test accuracy (\S+)", text)
    assert worth[best[1]] == max(worth.values())
    assert float(best[2]) == pytest.approx(run[best[1]].reports["test"].accuracy, abs=5e-4)


def test_bone_says_what_chose_where_a_part_of_the_training_images_validates(files):
    def made(history, reports):
        est = kmedclf.AlexNetClassifier()
        est.history_, est.best_epoch_ = history, 1
        return runs.Run(est, [], reports, 1.0, 1)

    curves = {"loss": [1, 1], "accuracy": [0.1, 0.9], "val_loss": [1, 2], "val_accuracy": [0.4, 0]}
    assert bone._worth(made(curves, {})) == (
        0.4, "validation accuracy, on a part of the training images"
    )  # fmt: skip
    del curves["val_loss"], curves["val_accuracy"]
    assert bone._worth(made(curves, {}))[0] == 0.9


def test_blood_names_the_classes_that_the_images_are_of(tmp_path):
    """A class that training lacks must not shift the names of those behind it."""
    data = data_of()
    X, y = data.splits["train"]
    data.splits["train"] = X[y != 1], y[y != 1]
    with pytest.raises(ValueError, match=r"must hold 2 names, one for each label of y\. Got 3"):
        plots.samples(*data.splits["train"], class_names=data.class_names)
    assert data.names_of(np.unique(data.splits["train"][1]).tolist()) == ["a", "c"]


CASES = [
    *itertools.product(studies.NAMES, ["val", "noval"], [{}]),
    *itertools.product(["bone", "brain", "lung"], ["noval"], [{"early_stopping": True}]),
    ("brain", "val", {"optimizer": "adam", "augment": "mirror"}),
    ("blood", "noval", {"early_stopping": False, "loss": "focal"}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("study", "name", "given"), CASES, ids=str)
def test_every_study_says_what_it_did(study, name, given, larger_files, tmp_path):
    items = {"bone": ["alexnet", "efficientnet"], "brain": ["folds", "augmentation", "optimizers"]}
    given = {"epochs": 2, **given}
    lab, sections = quick(tmp_path / "out", study, larger_files[name], items.get(study), **given)
    ran = {k: runs.read_run(tmp_path / "out" / k) for k in lab.results}
    text = " ".join(f"{one.method} {' '.join(one.findings)}" for one in sections.values())
    text = text.replace("the validation split", "")
    used = [recipes.parameters(one.estimator) for one in ran.values()]
    validated = any("val_loss" in one.estimator.history_ for one in ran.values())
    if not validated:
        assert not re.search(r"validation (accuracy|loss)|validates one", text)
    if any(one["early_stopping"] for one in used):
        assert "stops when" in text or "never stops early" in text
    else:
        assert "stops when" not in text
        assert "best epoch" not in text
    assert ("focal" in text.lower()) == any(one["loss"] == "focal" for one in used)
    if not any(one["optimizer"] == "sgd" for one in used):
        assert not re.search(r"\bsgd\b(?!, but)", str([t.rows for s in sections.values()
                                                       for t in s.tables]))  # fmt: skip
    one_class = {k for k, one in ran.items() if words.one_class_only(one)}
    assert ("for one class" in text or "tell the classes apart" in text) == bool(one_class) or (
        study == "lung" and "No network takes all" in text and not one_class
    )
    found = json.loads(json.dumps({k: dataclasses.asdict(v)["findings"] for k, v in
                                   sections.items()}, default=str))  # fmt: skip
    assert found


# -- verdicts: each sentence where its condition holds, and not where it does not ------------------


def predicted(pairs, k=3, sure=0.9):
    """Make a report of (true, predicted, images), each prediction with one probability."""
    true, pred = (np.repeat([p[i] for p in pairs], [p[2] for p in pairs]) for i in (0, 1))
    proba = np.full((len(true), k), (1 - sure) / (k - 1))
    proba[np.arange(len(true)), pred] = sure
    return evaluate_predictions(true, proba, n_bootstrap=200, class_names=list("abc")[:k])


FINE = [(i, i, 90) for i in range(3)] + [(i, (i + 1) % 3, 10) for i in range(3)]
HARD = [(0, 0, 95), (1, 1, 95), (2, 2, 50), (2, 0, 45), (0, 1, 5), (1, 0, 5)]
NEVER = [(0, 0, 90), (1, 1, 90), (2, 0, 20)]
FEW = [(0, 0, 5), (1, 1, 5), (2, 2, 5), (0, 1, 2)]
RARE = [(0, 0, 290), (1, 0, 8), (2, 0, 2), (0, 1, 2), (1, 1, 4)]
CONSTANT = [(0, 0, 60), (1, 0, 40)]


@pytest.mark.parametrize(
    ("words_", "kind", "holds", "not_"),
    [
        ("It is better than always naming the same class", "good", FINE, CONSTANT),
        ("It is not shown to be better than always naming a", "warning", RARE, FINE),
        ("c (20 images) is never predicted", "warning", NEVER, FINE),
        ("Too few images to tell more than", "warning", FEW, FINE),
        ("As far as these images tell, it lies", "plain", FINE, FEW),
        ("c is the hardest class: 50 of its 95 images are found", "plain", HARD, FINE),
        ("the missed are most often taken for a", "plain", HARD, FINE),
        ("No class is clearly harder", "plain", FINE, HARD),
        ("Only 17 images", "warning", FEW, FINE),
        ("All 100 images are predicted as a", "warning", CONSTANT, NEVER),
        ("The probabilities are right on average", "good", FINE, HARD),
        ("The network is too sure of itself", "warning", HARD, FINE),
    ],
)
def test_a_sentence_stands_where_its_condition_holds(words_, kind, holds, not_):
    said = predicted(holds).verdict
    assert [one.kind for one in said if words_ in one.text] == [kind], said
    assert words_ not in " ".join(one.text for one in predicted(not_).verdict)
    kinds = [one.kind for one in said[1:]]
    assert kinds == sorted(kinds, key=["warning", "good", "plain"].index)


def test_copies_of_training_images_are_told_if_they_were_looked_for():
    report = predicted(FINE)
    told = {n: " ".join(one.text for one in verdict(report, n)) for n in (None, 0, 1, 12)}
    assert "training image" not in told[None]
    assert "None of the images is identical" in told[0]
    assert "1 of these images is a training image as well" in told[1]
    assert "12 of these images are training images as well" in told[12]


def test_labels_get_a_verdict():
    generator = np.random.default_rng(0)
    y = generator.integers(0, 2, (200, 3))
    y[:, 2] = generator.random(200) < 0.1
    proba = np.clip(0.4 * y + generator.uniform(0, 0.6, y.shape), 0, 1)
    proba[:, 1], proba[:, 2] = generator.random(200), proba[:, 2] * 0.4
    report = evaluate_predictions(y, proba, class_names=["a", "b", "c"], n_bootstrap=100)
    said = " ".join(one.text for one in report.verdict)
    assert "better than by chance: b." in said
    assert "Never predicted, though there: c." in said


def test_a_comparison_says_who_wins_and_when_nobody_can_tell():
    good, bad = predicted(FINE), predicted([*HARD[:2], (2, 0, 95), *HARD[4:]])
    same = [(0, 0, 100), (1, 1, 100), (2, 2, 100)]
    level = {"a": predicted([*same[:2], (2, 2, 98), (2, 0, 2)]), "b": predicted(same)}
    texts = {
        "a wins": compare({"a": predicted(same), "b": predicted(NEVER_OF_EQUAL)}),
        "right for the very same images": compare({"a": good, "b": good}),
        "differ in 2 images: too few for any test": compare(level),
        "there is no other model": compare({"a": bad}),
    }
    for words_, found in texts.items():
        said = " ".join(one.text for one in found.verdict)
        assert words_ in said
        assert [other for other in texts if other in said] == [words_]
    assert "these 300 images cannot tell it from a" in compare(level).verdict[0].text


NEVER_OF_EQUAL = [(0, 0, 100), (1, 1, 100), (2, 0, 100)]


def test_an_audit_says_what_is_serious():
    X, y = make_blood_cells(40, 12, random_state=0)
    splits = np.repeat(["train", "test"], 20)
    clean = audit(X, y, splits=splits, groups=splits)
    assert [one.kind for one in clean.verdict] == ["good"]
    X = X.copy()
    X[30], X[3] = X[2], 7
    y = y.copy()
    y[30] = (y[2] + 1) % 8
    said = " ".join(
        one.text for one in audit(X, y, splits=splits, groups=np.arange(40) % 30).verdict
    )
    for words_ in (
        "Leak found: 1 of 40 images", "Leak found: 10 groups",
        "1 pair shows one picture", "1 image shows nothing",
    ):  # fmt: skip
        assert words_ in said


def test_notebooks_show_results_in_short_and_escaped():
    name = "<script>alert(1)</script>"
    report = evaluate_predictions(
        [0, 1] * 40, [[0.8, 0.2], [0.3, 0.7]] * 40, class_names=[name, "b"]
    )
    X, y = make_blood_cells(16, 12, random_state=0)
    found = audit(X, y % 2, splits=[name, "b"] * 8, class_names=[name, "b"])
    for one in (report, compare({name: report, "b": report}), found):
        text = one._repr_html_()
        assert "<script" not in text
        assert html.escape(name) in text
        assert len(text) < 5000
        assert len(repr(one)) < 250
        assert "array" not in repr(one)
    space = SearchSpace.load("cnn")._repr_html_()
    assert all(word in space for word in ("kernel_size", "3, 5, 7", "CNNClassifier"))
