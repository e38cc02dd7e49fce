"""MODEL_CARD.md and CHECKLIST.md of a run: what a reader must know, as far as the run knows it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from kmedclf.evaluation.scores import SCORES
from kmedclf.evaluation.wording import brackets, count, epochs_of, verdict
from kmedclf.utils.archives import read_json
from kmedclf.utils.files import write_text

CARD, CHECKLIST = "MODEL_CARD.md", "CHECKLIST.md"
OPEN = "**for you to fill in**"


def write(folder: Path, reports: Mapping[str, Any]) -> None:
    """Write both files into the folder of a run, from its JSON files and its reports."""
    parameters, environment, history = (
        read_json(folder / f"{name}.json") for name in ("parameters", "environment", "history")
    )
    facts = _facts(parameters, environment, history, reports)
    write_text(folder / CARD, _card(facts, parameters, environment, reports))
    write_text(folder / CHECKLIST, _checklist(facts))


def are_in(folder: Path) -> bool:
    """Whether the folder of a run has both files."""
    return all((folder / name).is_file() for name in (CARD, CHECKLIST))


def escaped(value: Any) -> str:
    """Write a value as text of one line of Markdown: names are strangers' text."""
    text = " ".join(str(value).split())
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_{}\[\]|#~])", r"\\\1", text)


def _facts(
    parameters: Mapping[str, Any],
    environment: Mapping[str, Any],
    history: Mapping[str, Any],
    reports: Mapping[str, Any],
) -> dict[str, str]:
    """Return what the run knows, in sentences, by the names that the checklist uses."""
    data, used = environment["data"], parameters["used"]
    names = list(map(escaped, data["class_names"]))
    numbers = ", ".join(f"{escaped(split)} {n:,}" for split, n in data["n"].items())
    groups = (
        "No group is in two parts; groups were found by the '--groups' of the training."
        if data.get("groups")
        else f"Images; groups, such as patients, were not given to the training: {OPEN}."
    )
    first = next(iter(reports.values()), None)
    output = "A probability for each class; the most probable one is predicted."
    if first is not None and not first.exclusive:
        output = "A probability for each label; a label is predicted above its threshold."
    if "temperature" in environment:
        output += " Probabilities are calibrated on the validation images, with the temperature "
        output += f"{environment['temperature']:.3g}."
    left_out = _left_out(environment)
    facts = {
        "data": f"{escaped(data['name'])}; {numbers} images. {left_out}",
        "skipped": left_out,
        "classes": f"The labels of the data: {', '.join(names)}. How they came about: {OPEN}.",
        "splits": f"{numbers} images. {left_out} Patients: {OPEN}.",
        "groups": groups,
        "disjoint": f"{groups} {_leaks(environment)}",
        "network": f"{environment['n_params']:,} weights, images of {_shape(data)}; model.kmedclf "
        "and parameters.json hold all.",
        "software": ", ".join(f"{k} {v}" for k, v in environment["versions"].items()) + ".",
        "weights": f"Weights {escaped(used.get('weights'))}."
        if used.get("weights")
        else f"At random, from the seed {escaped(used.get('random_state'))}.",
        "availability": f"kmedclf {environment['versions'].get('kmedclf', '')}; the model is "
        f"model.kmedclf. Where others find it: {OPEN}.",
        "output": output,
        "input_errors": "Files that are no image are refused by name; poor quality is not noticed: "
        f"{OPEN}.",
    }
    more = _of_mixture if "leaderboard" in history else _of_network
    facts |= more(parameters, environment, history)
    return facts if first is None else facts | _facts_of(environment, reports, first)


def _left_out(environment: Mapping[str, Any]) -> str:
    """Say how many files could not be read, as far as the run knows it."""
    if "skipped" not in environment:
        return f"Left out: {OPEN}."
    found = ", ".join(f"{escaped(split)} {n:,}" for split, n in environment["skipped"].items())
    if not found:
        return "No image was left out."
    return f"Some were left out, as their files cannot be read: {found}."


def _shape(data: Mapping[str, Any]) -> str:
    return " × ".join(map(str, data["image_shape"]))


def _chosen(parameters: Mapping[str, Any]) -> list[tuple[str, str]]:
    """List the parameters that differ from their defaults and shape the result."""
    return [
        (escaped(name), escaped(parameters["parameters"].get(name)))
        for name in parameters.get("chosen", ())
        if name not in ("checkpoint", "memory", "callbacks", "verbose")
    ]


def _not_by_default(parameters: Mapping[str, Any]) -> str:
    chosen = ", ".join(f"{name} {value}" for name, value in _chosen(parameters))
    return f"Not by default: {chosen or 'nothing'}."


def _of_network(
    parameters: Mapping[str, Any], environment: Mapping[str, Any], history: Mapping[str, Any]
) -> dict[str, str]:
    """Say how one network was trained."""
    used, name = parameters["used"], escaped(parameters["estimator"])
    known = {"early_stopping", "restore_best", "monitor"} <= used.keys()
    epochs = epochs_of(history["history"], history["best_epoch"], used if known else None)
    took = f"{environment['seconds']} seconds"
    if environment.get("images_per_second"):
        took += f", {environment['images_per_second']} images per second"
    return {
        "kind": f"Deep learning: {name}, a neural network in Keras.",
        "model": f"a Keras network with {environment['n_params']:,} weights",
        "preprocessing": f"Images at {environment['data']['size']} pixels; normalisation "
        f"{_setting(used, 'normalize')}; augmentation {_setting(used, 'augment')}.",
        "regime": _setting(used, "precision"),
        "training": f"{str(epochs).capitalize()}. {_not_by_default(parameters)}",
        "duration": f"{took}; {epochs}.",
        "selection": f"{str(epochs).capitalize()}.",
        "ensemble": "None: one network.",
        "explained": "By Grad-CAM maps on the page of 'kmedclf report', if there are convolutions.",
        "imbalance": f"Class weights {_setting(used, 'class_weight')}, oversampling "
        f"{_setting(used, 'oversample')}.",
    }


def _setting(used: Mapping[str, Any], name: str) -> str:
    """Return a parameter in words; one that the network does not have is left to the reader."""
    if name not in used:
        return OPEN
    value = used[name]
    return "none" if value is None or value is False else escaped(value)


def _of_mixture(
    parameters: Mapping[str, Any], environment: Mapping[str, Any], history: Mapping[str, Any]
) -> dict[str, str]:
    """Say what an AutoClassifier mixed, and how it chose."""
    board = history["leaderboard"]
    used = [row for row in board[2:] if row["weight"]]
    members = ", ".join(f"{escaped(row['name'])} (weight {row['weight']:.2f})" for row in used)
    mixed = f"The candidate {members} alone" if len(used) == 1 else f"A weighted mean of {members}"
    each = "Each candidate has its own, by its name in 'kmedclf.recipes' and the portfolio of "
    each += f"{escaped(parameters['estimator'])}: {OPEN}."
    return {
        "kind": f"Machine learning: {escaped(parameters['estimator'])}, which chose among linear "
        f"models and neural networks in Keras. {mixed}.",
        "model": f"a classifier with {environment['n_params']:,} weights. {mixed}",
        "preprocessing": f"Images at {environment['data']['size']} pixels. {each}",
        "regime": each,
        "training": f"{len(board) - 2} candidates in {environment['seconds']:.0f} seconds; "
        f"history.json has what became of each. {_not_by_default(parameters)}",
        "duration": f"{environment['seconds']} seconds for {len(board) - 2} candidates.",
        "selection": "Weights of the candidates by their log loss on training images that each was "
        "not trained on; the row 'ensemble, nested' of the report says what that choice is worth.",
        "ensemble": f"{mixed}. A network scored in folds is the mean of its models of all folds.",
        "explained": f"Not by kmedclf: {OPEN}.",
        "imbalance": each,
    }


def _facts_of(
    environment: Mapping[str, Any], reports: Mapping[str, Any], first: Any
) -> dict[str, str]:
    """Say what the reports of a run know, the first of them in detail."""
    low = min(one.support for one in first.per_class)
    said = _remarks(environment, reports)
    warned = [escaped(one.text) for one in said if one.kind == "warning"]
    score = "recall" if first.exclusive else "auc"
    return {
        "metrics": f"{', '.join(SCORES[name] for name in first.headline)}; all in metrics.json. "
        f"Why these: {OPEN}.",
        "uncertainty": f"{brackets(first)} Models are compared by 'kmedclf compare'.".strip(),
        "precision": f"{count(first.n, 'image')}, the rarest class {low:,}; "
        f"{escaped(said[0].text)}",
        "scores": " ".join(
            f"{escaped(split)}: accuracy {one.scores['accuracy']}, n = {one.n:,}."
            for split, one in reports.items()
        ),
        "per_class": "; ".join(
            f"{escaped(one.name)} {score} {getattr(one, score)}, n = {one.support:,}"
            for one in first.per_class
        )
        + ".",
        "mistakes": f"{_wrong(first)} Each is on the page of 'kmedclf report'; why: {OPEN}.",
        "limits": " ".join([*warned, f"Tested on {count(first.n, 'image')} of the same source as "
                            f"the training images; others: {OPEN}."]),
    }  # fmt: skip


def _remarks(environment: Mapping[str, Any], reports: Mapping[str, Any]) -> list[Any]:
    """Say what the scores of the first split mean, leaks included."""
    for split, report in reports.items():
        return verdict(report, environment.get("twins", {}).get(split))
    return []


def _leaks(environment: Mapping[str, Any]) -> str:
    """Say how many scored images the training has seen, as far as that was looked for."""
    found = environment.get("twins")
    if not found:
        return f"Not looked for: 'kmedclf audit' finds them. Found: {OPEN}."
    counted = ", ".join(f"{escaped(split)} {n:,}" for split, n in found.items())
    return (
        f"Images that are also training images, pixel by pixel: {counted}. Mirrored, moved or "
        f"neighbouring ones, by 'kmedclf audit': {OPEN}."
    )


def _wrong(report: Any) -> str:
    n = int((report.right < 1).sum())
    return f"{count(n, 'image')} of {report.n:,} {'is' if n == 1 else 'are'} wrong."


def _checklist(facts: Mapping[str, str]) -> str:
    """Write the items of both guidelines; leave open what the run does not know."""
    lines = ["# Reporting checklist", ""]
    lines += [f"Filled in as far as the run knows; the rest is marked {OPEN}. The items are in our",
              "own words: submit the journal's own form, and cite the guideline.", ""]  # fmt: skip
    for guideline in yaml.safe_load((Path(__file__).parent / "checklist.yaml").read_text("utf-8")):
        lines += [f"## {guideline['title']}", "", guideline["source"], ""]
        lines += ["| item | what to report | this run |", "|---|---|---|"]
        for number, what, *fact in guideline["items"]:
            known = facts.get(fact[0]) if fact else None
            lines.append(f"| {number} | {what} | {known or OPEN} |")
        lines.append("")
    return "\n".join(lines)


def _card(
    facts: Mapping[str, str],
    parameters: Mapping[str, Any],
    environment: Mapping[str, Any],
    reports: Mapping[str, Any],
) -> str:
    """Fill the model card in, under Hugging Face's headings."""
    import jinja2

    data, used = environment["data"], parameters["used"]
    first = next(iter(reports.values()), None)
    remarks = _remarks(environment, reports)
    text = (Path(__file__).parent / "model_card.md").read_text("utf-8")
    # Values are Markdown already; those of strangers' text are escaped where they are put in
    template = jinja2.Environment(trim_blocks=True, undefined=jinja2.StrictUndefined).from_string(
        text
    )
    multilabel = first is not None and not first.exclusive
    return template.render(
        front=yaml.safe_dump(
            _front(parameters["estimator"], data, reports), sort_keys=False, allow_unicode=True
        ),
        estimator=escaped(parameters["estimator"]),
        data={**data, "name": escaped(data["name"])},
        verdict=[escaped(one.text) for one in remarks],
        limits=[escaped(one.text) for one in remarks if one.kind == "warning"]
        + ["Tested on images of the same source as the training images only."],
        environment={
            **environment,
            "versions": {"kmedclf": "", **environment["versions"]},
            "processor": escaped(environment.get("processor", "")),
            "platform": escaped(environment.get("platform", "")),
        },
        shape=_shape(data),
        multilabel=multilabel,
        kind="any number" if multilabel else "one",
        names=[escaped(name) for name in data["class_names"]],
        weights=escaped(used.get("weights") or "none, trained from the start"),
        splits=facts["splits"].removesuffix(f" Patients: {OPEN}."),
        groups=facts["groups"],
        leaks=_leaks(environment),
        facts=facts,
        chosen=_chosen(parameters),
        metrics=facts.get("metrics", OPEN),
        reports=[(escaped(split), _scores(one)) for split, one in reports.items()],
        device=escaped(environment.get("device", "CPU")),
        hours=f"{environment['seconds'] / 3600:.2g}",
        versions=facts["software"].removesuffix("."),
    )


def _scores(report: Any) -> dict[str, Any]:
    """Return what the card says of one split."""
    return {
        "n": f"{report.n:,}",
        "rows": [(SCORES[name], value) for name, value in report.scores.items()],
        "per_class": _rows(report),
    }


def _rows(report: Any) -> list[tuple[str, ...]]:
    both = ("recall", "precision") if report.exclusive else ("auc", "recall")
    return [
        (escaped(one.name), f"{one.support:,}", *(str(getattr(one, name)) for name in both))
        for one in report.per_class
    ]


def _front(estimator: str, data: Mapping[str, Any], reports: Mapping[str, Any]) -> dict[str, Any]:
    """Return the front matter that Hugging Face's hub reads."""
    results = [
        {
            "task": {"type": "image-classification"},
            "dataset": {"name": str(data["name"]), "type": str(data["name"]), "split": split},
            "metrics": [
                {"type": name, "value": round(float(one.scores[name].value), 4)}
                for name in one.headline
                if one.scores[name].value is not None
            ],
        }
        for split, one in reports.items()
    ]
    return {
        "library_name": "keras",
        "pipeline_tag": "image-classification",
        "tags": ["kmedclf", "medical-imaging", "image-classification"],
        "model-index": [{"name": estimator, "results": results}],
    }
