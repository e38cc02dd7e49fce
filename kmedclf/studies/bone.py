"""Bone fractures: five architectures over lists of hyperparameters, with minutes and accuracy."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import kmedclf
from kmedclf import evaluation, recipes, runs
from kmedclf.datasets import sources
from kmedclf.evaluation import plots
from kmedclf.evaluation.compare import p_text
from kmedclf.evaluation.wording import Epochs, count
from kmedclf.studies import words as words_of
from kmedclf.studies.dataset import Reported, distribution
from kmedclf.studies.section import Choice, Figure, Section, Table, score, spread
from kmedclf.studies.study import Study, Workspace
from kmedclf.utils.text import clock

SHARED: dict[str, Any] = {
    "optimizer": "sgd", "momentum": 0.9, "batch_size": 32, "epochs": 10, "augment": False,
    "early_stopping": False,
    "recipe": "reference",  # "auto" is "transfer" from ImageNet weights: other schedule and loss
}  # fmt: skip
ADAM: dict[str, Any] = {"optimizer": "adam", "momentum": 0.0}
TRAININGS = {"alexnet": 5, "resnet": 2}
"""Trainings of the best row, as the report trained its best rows again."""

COUNTED: Reported = {"train + val": (4480, 4383), "test": (360, 240)}
"""Images of the report, in the order of `PATTERNS`."""
PATTERNS = ("^fractur", "^(no|un)")
"""Fractured and not, as `kmedclf.studies.dataset.places` finds them in other data."""


class Row(NamedTuple):
    """A row of the report's tables: parameters, minutes on its GPU, and test accuracy."""

    parameters: dict[str, Any]
    minutes: int
    accuracy: float


def _rows(names: Sequence[str], *rows: Sequence[Any]) -> tuple[Row, ...]:
    """Read rows of values of ``names``, minutes and per cent."""
    return tuple(
        Row(dict(zip(names, row, strict=False)), row[-2], round(row[-1] / 100, 3)) for row in rows
    )


_TRAINING = ("batch_size", "epochs", "learning_rate")
ALEXNET = _rows(
    _TRAINING,
    (32, 15, 0.001, 7, 61.0), (32, 15, 0.002, 6, 67.5), (32, 15, 0.005, 7, 67.7),
    (32, 15, 0.01, 6, 59.0), (32, 30, 0.0002, 12, 45.2), (32, 30, 0.0005, 12, 67.5),
    (32, 30, 0.001, 12, 65.8), (32, 30, 0.002, 12, 62.0), (64, 15, 0.002, 6, 62.7),
    (64, 15, 0.005, 6, 65.2), (64, 15, 0.01, 7, 42.7), (64, 30, 0.0002, 14, 60.0),
    (64, 30, 0.0005, 11, 54.8), (64, 30, 0.001, 12, 66.5), (64, 30, 0.002, 12, 67.7),
    (64, 30, 0.005, 12, 60.0), (128, 15, 0.002, 5, 53.7), (128, 15, 0.005, 5, 67.2),
    (128, 15, 0.01, 5, 53.8), (128, 30, 0.001, 12, 55.5), (128, 30, 0.002, 11, 67.5),
    (128, 30, 0.005, 12, 62.5), (128, 30, 0.01, 12, 61.5),
)  # fmt: skip
RESNET = _rows(
    ("batch_size", "learning_rate", "epochs"),
    (32, 0.001, 15, 12, 67.2), (64, 0.001, 15, 10, 65.8), (32, 0.002, 15, 11, 62.2),
    (64, 0.002, 15, 10, 73.2), (32, 0.005, 15, 11, 84.7), (64, 0.005, 15, 10, 67.3),
    (32, 0.01, 15, 10, 72.8), (64, 0.01, 15, 10, 62.3), (32, 0.001, 30, 23, 63.5),
    (64, 0.001, 30, 20, 67.3), (32, 0.002, 30, 23, 72.5), (64, 0.002, 30, 20, 68.7),
    (32, 0.005, 30, 22, 67.8), (64, 0.005, 30, 20, 68.3),
)  # fmt: skip
DENSENET = _rows(
    ("block_config", "learning_rate"),
    ((6, 12, 24, 16), 0.001, 7, 60.2), ((6, 12, 24, 16), 0.01, 7, 73.8),
    ((6, 12, 24, 16), 0.1, 7, 78.3), ((6, 12, 32, 24), 0.001, 9, 60.7),
    ((6, 12, 32, 24), 0.01, 9, 64.5), ((6, 12, 32, 24), 0.1, 9, 79.8),
    ((8, 16, 40, 32), 0.001, 12, 68.2), ((8, 16, 40, 32), 0.01, 12, 69.7),
    ((8, 16, 40, 32), 0.1, 12, 83.5),
)  # fmt: skip
EFFICIENTNET = _rows(
    ("variant", "learning_rate"),
    ("b0", 0.001, 7, 71.2), ("b0", 0.0001, 7, 79.3), ("b1", 0.001, 7, 72.0),
    ("b1", 0.0001, 7, 74.8), ("b2", 0.001, 8, 65.3), ("b2", 0.0001, 8, 65.2),
)  # fmt: skip
VIT = _rows(
    ("num_layers", "patch_size", "learning_rate", "epochs"),
    (12, 32, 0.001, 100, 72, 60.3), (12, 32, 0.0001, 70, 47, 52.7),
    (6, 16, 0.0001, 70, 81, 70.7), (6, 16, 0.0001, 50, 58, 65.3),
    (24, 64, 0.0001, 50, 34, 61.3), (24, 64, 0.0001, 30, 20, 68.8),
)  # fmt: skip

HEADS = {
    "batch_size": "Batch", "epochs": "Epochs", "learning_rate": "Rate",
    "block_config": "Blocks", "variant": "Variant", "num_layers": "Layers", "patch_size": "Patch",
}  # fmt: skip
"""Heads of the columns of hyperparameters."""


class Architecture(NamedTuple):
    """An architecture of the report: its title, how to make it, its rows.

    ``drawn`` is the position of the row whose curves and confusion matrix the report shows.
    """

    title: str
    words: str
    make: Callable[..., Any]
    rows: Sequence[Row]
    drawn: int


def _alexnet(**parameters: Any) -> kmedclf.AlexNetClassifier:
    return kmedclf.AlexNetClassifier(**{"weights": "imagenet", **SHARED, **parameters})


def _resnet50(**parameters: Any) -> kmedclf.DeepResNetClassifier:
    start = {"depth": 50, "weights": "imagenet"}
    return kmedclf.DeepResNetClassifier(**{**start, **SHARED, **parameters})


def _densenet(**parameters: Any) -> kmedclf.DenseNetClassifier:
    return kmedclf.DenseNetClassifier(**{**SHARED, **parameters})


def _efficientnet(**parameters: Any) -> kmedclf.EfficientNetClassifier:
    start = {"weights": "imagenet"}
    return kmedclf.EfficientNetClassifier(**{**start, **SHARED, **ADAM, **parameters})


def _transformer(**parameters: Any) -> kmedclf.ViTClassifier:
    return kmedclf.ViTClassifier(**{**SHARED, **ADAM, **parameters})


ARCHITECTURES = {
    "alexnet": Architecture(
        "AlexNet",
        "Five convolutions and three max-poolings, then two wide dense layers with dropout.",
        _alexnet, ALEXNET, 2,
    ),
    "resnet": Architecture(
        "ResNet-50",
        "Blocks of convolutions, each with a shortcut around it that is added to its output.",
        _resnet50, RESNET, 4,
    ),
    "densenet": Architecture(
        "DenseNet",
        "Blocks in which every layer gets the outputs of all layers before it; the numbers of "
        "layers in the blocks vary.",
        _densenet, DENSENET, 8,
    ),
    "efficientnet": Architecture(
        "EfficientNet",
        "Bottlenecks of depthwise convolutions that weigh their channels; variants differ in width "
        "and depth.",
        _efficientnet, EFFICIENTNET, 1,
    ),
    "vit": Architecture(
        "Vision transformer",
        "An image is cut into patches, which a transformer reads as a sentence.",
        _transformer, VIT, 5,
    ),
}  # fmt: skip


class Trained(NamedTuple):
    """A row of the report, as it was trained here: its parameters, its folder and its run."""

    row: Row
    found: dict[str, Any]
    name: str
    run: runs.Run


# -- items -----------------------------------------------------------------------------------------


def images(lab: Workspace) -> Section:
    """Count the images of each class in each split, and show some."""
    drawn = "validation_drawn" in lab.data.description
    how = "at random within each class"
    return distribution(
        lab,
        COUNTED,
        PATTERNS,
        method="The report's images are X-rays of bones, with or without a fracture.",
        choices=[Choice("How the 20 % are drawn", how, "The report does not say.")] * drawn,
        findings=[
            "The report prints the percentages of its test classes the wrong way round: 360 of 600 "
            "are 60 %.",
            *_turned(lab.data),
        ],
    )


def alexnet(lab: Workspace) -> Section:
    """AlexNet over batch sizes, epochs and rates; the best one repeated with other seeds."""
    return _with_repeats(lab, "alexnet", _section(lab, "alexnet"))


def resnet(lab: Workspace) -> Section:
    """ResNet-50 over batch sizes, epochs and rates; the best one repeated with another seed."""
    return _with_repeats(lab, "resnet", _section(lab, "resnet"))


def densenet(lab: Workspace) -> Section:
    """DenseNet over blocks and rates."""
    return _section(lab, "densenet")


def efficientnet(lab: Workspace) -> Section:
    """EfficientNet over variants and rates."""
    return _section(lab, "efficientnet")


def vit(lab: Workspace) -> Section:
    """Vision transformer over layers, patch sizes, rates and epochs."""
    return _section(lab, "vit")


def comparison(lab: Workspace) -> Section:
    """Compare the best row of every architecture."""
    best = {key: _best(_trained(lab, key)) for key in ARCHITECTURES}
    named = {ARCHITECTURES[key].title: one.run for key, one in best.items()}
    names = next(iter(named.values())).reports["test"].class_names
    rows = [
        [ARCHITECTURES[key].title, one.name, f"{_most(ARCHITECTURES[key].rows).accuracy:.3f}",
         str(one.run.reports["test"].scores["accuracy"]), *_recalls(one.run), *_medians(one.run),
         clock(one.run.seconds)]
        for key, one in best.items()
    ]  # fmt: skip
    found = evaluation.compare(
        {title: run.reports["test"] for title, run in named.items()},
        parameters={title: run.estimator.n_params_ for title, run in named.items()},
        seconds={title: run.seconds for title, run in named.items()},
    )
    return Section(
        title="The architectures compared",
        method=(
            f"The best row of each architecture, chosen by {_worth(best['vit'].run)[1]}, on the "
            "same test images. The report also tried a ResNet of its medical library and dropped "
            "it, as its GPU ran out of memory even for ResNet-18 with batches of 15; it has no "
            "number."
        ),
        tables=[
            Table(
                "Best row of each architecture",
                ["Architecture", "Row", "Report: best", "Test accuracy",
                 *(f"Found, {name}" for name in names),
                 "Median probability, right", "Median probability, wrong", "min:s"],
                rows,
            )
        ],
        findings=[
            f"In order of test accuracy: {_order(named)}. In the report DenseNet is best, 0.835, "
            "if one ResNet-50's 0.847 is left out, which had AlexNet's trouble when it was trained "
            "again.",
            *_pairs(found),
            *words_of.collapsed(named),
        ],
        comparison=found,
    )  # fmt: skip


# -- training --------------------------------------------------------------------------------------


def _trained(lab: Workspace, key: str) -> list[Trained]:
    """Train the rows of an architecture; rows that the user's parameters make equal are one."""
    made, ran = [], {}
    for row in lab.some(ARCHITECTURES[key].rows):
        est = ARCHITECTURES[key].make(**_fitting(lab, row.parameters), random_state=lab.seed)
        # Prepare first: parameters of the user may override those of the row.
        est = lab.prepared(est)
        found = {one: getattr(est, one) for one in row.parameters}
        name = "-".join([key, *(_short(value) for value in found.values())])
        if name not in ran:
            ran[name] = lab.train(name, est, page=False)
        made.append(Trained(row, found, name, ran[name]))
    return made


def _fitting(lab: Workspace, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Bound patches by the side of the images."""
    side = min(lab.data.description["image_shape"][:2])
    return {
        name: min(value, side) if name == "patch_size" else value
        for name, value in parameters.items()
    }


def _short(value: Any) -> str:
    return "x".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _worth(run: runs.Run) -> tuple[float, str]:
    """Return the score to choose a row by, and its name: validation accuracy if there is one."""
    if "val" in run.reports:
        return run.reports["val"].accuracy, "validation accuracy"
    history, epochs = run.estimator.history_, words_of.epochs(run.estimator)
    if epochs.validated:
        part = "validation accuracy, on a part of the training images"
        return _kept_value(history["val_accuracy"], epochs), part
    return _kept_value(history["accuracy"], epochs), "training accuracy, as nothing validates"


def _kept_value(values: Sequence[float], epochs: Epochs) -> float:
    """Return the value of a curve in the epoch whose weights were kept, or in the last one."""
    return float(np.asarray(values, dtype=float)[(epochs.kept or epochs.n) - 1])


def _best(made: Sequence[Trained]) -> Trained:
    return max(made, key=lambda one: _worth(one.run)[0])


def _most(rows: Sequence[Row]) -> Row:
    return max(rows, key=lambda row: row.accuracy)


# -- sections --------------------------------------------------------------------------------------


def _section(lab: Workspace, key: str) -> Section:
    one = ARCHITECTURES[key]
    made = _trained(lab, key)
    best = _best(made)
    shown = _shown(one, made, best)
    ests = [each.run.estimator for each in made]
    n_params = sorted({est.n_params_ for est in ests})
    weights = " to ".join(dict.fromkeys((f"{n_params[0]:,}", f"{n_params[-1]:,}")))
    left = f" The first {len(made)} of the report's {len(one.rows)} rows are trained."
    return Section(
        title=one.title,
        method=(
            f"{one.words} {weights} parameters.{left if len(made) < len(one.rows) else ''}\n\n"
            + words_of.sentences(
                f"{words_of.each(words_of.loss, ests)}; {words_of.each(_optimizer, ests)}; "
                f"{words_of.each(words_of.batches, ests)}.",
                words_of.each(words_of.augmentation, ests),
                words_of.each(lambda est: words_of.stopping(est, lab.data), ests),
                f"The networks start from {words_of.each(words_of.start, ests)}.",
                _other_start(key, ests),
            )
        ),
        choices=_choices(lab, key, ests),
        tables=[_table(key, made), *map(_certainty, shown.values())],
        figures=_figures(key, shown),
        findings=[
            _chosen(made, best),
            *_beside(one, made),
            *_found(best.run),
            *_curves(best),
            *_confidence(best.run),
            *words_of.collapsed({each.name: each.run for each in made}),
        ],
    )


PRETRAINED = ("alexnet", "resnet")
"""Architectures that the report says start from pretrained weights."""


def _other_start(key: str, ests: Sequence[Any]) -> str:
    if key in PRETRAINED and any(est.weights is None for est in ests):
        return "The report's networks were pretrained: a difference."
    return ""


def _choices(lab: Workspace, key: str, ests: Sequence[Any]) -> list[Choice]:
    """Mark what the report leaves open."""
    shape = lab.data.description["image_shape"]
    adam = key in ("efficientnet", "vit")
    usual = "Its rates are those usual with Adam." if adam else "Its rates are those usual with it."
    listed = [
        lab.choice(
            "Optimizer", words_of.each(_optimizer, ests), f"The report names none. {usual}",
            "optimizer", "momentum",
        ),
        lab.choice(
            "Loss", words_of.each(words_of.loss, ests), "The report names none.",
            "loss", "label_smoothing", "focal_gamma", "focal_alpha",
        ),
        Choice(
            "Images", f"{shape[0]} × {shape[1]} pixels",
            "The report names no size" + _why_224(shape[0]),
        ),
        lab.choice(
            "Augmentation", words_of.each(words_of.augmentation, ests).rstrip("."),
            "The report names none.", "augment",
        ),
        lab.choice(
            "Weights that are tested",
            "those of the best epoch" if any(recipes.parameters(one)["early_stopping"]
                                             for one in ests) else "those of the last epoch",
            "The report names no early stopping.", "early_stopping", "restore_best",
        ),
    ]  # fmt: skip
    if key not in PRETRAINED:
        why = (
            "The report speaks of pretraining on medical images, and names no weights; its library "
            "loads ImageNet weights into EfficientNet unless told otherwise, and has none for "
            "these networks of the two others."
        )
        if key == "efficientnet" and lab.quick:
            why += " Networks of a quick study are too small for published weights."
        listed.append(lab.choice("Start", words_of.each(words_of.start, ests), why, "weights"))
    return listed + (_sizes(lab, ests) if key == "vit" else [])


def _sizes(lab: Workspace, ests: Sequence[Any]) -> list[Choice]:
    """Mark what the report leaves open of its transformer."""
    widths = [f"{est.hidden_dim} wide, {est.num_heads} heads, {est.mlp_dim} neurons"
              for est in ests]  # fmt: skip
    return [
        lab.choice(
            "Width", " or ".join(dict.fromkeys(widths)),
            "The report names none; 768, 12 and 3,072 are those of ViT-B.",
            "hidden_dim", "num_heads", "mlp_dim",
        ),
        lab.choice(
            "Batches", words_of.each(words_of.batches, ests), "The report names no size.",
            "batch_size",
        ),
    ]  # fmt: skip


def _why_224(side: int) -> str:
    return "; published weights were trained at 224." if side == 224 else "."


def _optimizer(est: Any) -> str:
    """Name the optimizer and its momentum; learning rates are in the table."""
    used = recipes.parameters(est)
    momentum = used["momentum"] if used["optimizer"] == "sgd" else 0
    return str(used["optimizer"]) + (f", momentum {momentum:g}" if momentum else "")


def _table(key: str, made: Sequence[Trained]) -> Table:
    """Put every row of the report beside the same row here."""
    head = [
        *(HEADS[name] for name in made[0].row.parameters),
        "Report: min", "Report: accuracy", "Here: min:s", "Here: test accuracy", "Validation",
        "F1, macro", "AUC, macro",
    ]  # fmt: skip
    trained = {id(one.row): one for one in made}
    rows = [_cells(row, trained.get(id(row))) for row in ARCHITECTURES[key].rows]
    title = f"{ARCHITECTURES[key].title}, row by row"
    other = next((cell for row in rows for cell in row if " for " in cell), "")
    if other:
        used, there = other.split(" for ")
        title += f'; "{other}" is {used} here and {there} in the report'
    return Table(title, head, rows)


def _cells(row: Row, one: Trained | None) -> list[str]:
    """Fill a row of the report's table; dashes if it was not trained here."""
    found = row.parameters if one is None else one.found
    listed = [_as_run(row.parameters[name], value) for name, value in found.items()]
    listed += [str(row.minutes), f"{row.accuracy:.3f}"]
    if one is None:
        return [*listed, *["–"] * 5]
    run = one.run
    return [
        *listed, clock(run.seconds), str(run.reports["test"].scores["accuracy"]),
        score(run, split="val"), score(run, "f1_macro"), score(run, "auc_macro"),
    ]  # fmt: skip


def _as_run(reported: Any, value: Any) -> str:
    """Show the value that was used, and the report's if it is another."""
    same = tuple(np.ravel(reported)) == tuple(np.ravel(value))
    return (
        words_of.shown(value) if same else f"{words_of.shown(value)} for {words_of.shown(reported)}"
    )


def _chosen(made: Sequence[Trained], best: Trained) -> str:
    """Say how the best row was chosen, and what selection on the test set would have given."""
    accuracy = best.run.reports["test"].scores["accuracy"]
    distinct = {one.name: one.run for one in made}
    if len(distinct) == 1:
        return f"The only row, {best.name}: test accuracy {accuracy}."
    _, by = _worth(best.run)
    found = [_worth(run)[0] for run in distinct.values()]
    first = ", the first of equals" if found.count(max(found)) > 1 else ""
    most = max(run.reports["test"].accuracy for run in distinct.values())
    words = f"Best of {len(distinct)} rows by {by}{first}: {best.name}, test accuracy {accuracy}. "
    if most > best.run.reports["test"].accuracy:
        return words + (
            f"Chosen on the test images the best would be {most:.3f}, which is too good: the same "
            "images would choose and judge."
        )
    return words + "No other row is better on the test images."


def _beside(one: Architecture, made: Sequence[Trained]) -> list[str]:
    """Compare with the report's rows."""
    most = _most(one.rows)
    setting = ", ".join(
        f"{HEADS[name].lower()} {words_of.shown(value)}" for name, value in most.parameters.items()
    )
    words = f"The report's best of {len(one.rows)} rows: {most.accuracy:.3f} ({setting})."
    same = [each for each in made if each.row is most]
    if same:
        words += f" Here that row has {same[0].run.reports['test'].accuracy:.3f}."
    higher = sum(each.run.reports["test"].accuracy > each.row.accuracy for each in made)
    return [words, f"{higher} of {count(len(made), 'row')} are above the report's number here."]


def _recalls(run: runs.Run) -> list[str]:
    return [str(one.recall) for one in run.reports["test"].per_class]


def _found(run: runs.Run) -> list[str]:
    """Say how many images of each class are found."""
    parts = [f"{one.recall} of {one.name}" for one in run.reports["test"].per_class]
    return [f"Its share of each class that is found: {', '.join(parts)}."]


def _curves(best: Trained) -> list[str]:
    """Describe the end of the curves: plateau, and the losses of training and validation."""
    history = best.run.estimator.history_
    if "val_accuracy" not in history or len(history["accuracy"]) < 2:
        return []
    last = history["val_accuracy"][-5:]
    return [
        f"In its last {len(last)} epochs validation accuracy lies between {min(last):.3f} and "
        f"{max(last):.3f}; in the last one the loss is {history['loss'][-1]:.3f} in training and "
        f"{history['val_loss'][-1]:.3f} in validation."
    ]


def _confidence(run: runs.Run) -> list[str]:
    """Describe the probabilities of right and wrong predictions."""
    lines = []
    for kind in ("right", "wrong"):
        one = run.reports["test"].certainty[kind]
        if one.images and one.median is not None:
            lines.append(
                f"Its {one.images:,} {kind} predictions have a median probability of "
                f"{one.median:.3f}, quartiles {one.quartile_1:.3f} and {one.quartile_3:.3f}."
            )
    return lines


def _medians(run: runs.Run) -> list[str]:
    found = [run.reports["test"].certainty[kind].median for kind in ("right", "wrong")]
    return ["–" if one is None else f"{one:.3f}" for one in found]


def _certainty(one: Trained) -> Table:
    """List how sure the right and the wrong predictions of a row are."""
    report = one.run.reports["test"]
    rows = []
    for kind, mask in (("right", report.right), ("wrong", ~report.right)):
        found, sure = report.certainty[kind], report.proba.max(axis=1)[mask]
        quartiles = ["–" if q is None else f"{q:.3f}" for q in found[2:]]
        rows.append([kind, f"{found.images:,}", *quartiles,
                     f"{np.mean(sure > 0.9):.3f}" if len(sure) else "–"])  # fmt: skip
    head = ["Predictions", "Images", "First quartile", "Median", "Third quartile", "Above 0.9"]
    return Table(f"Probability of the predicted class, {one.name}", head, rows)


def _shown(one: Architecture, made: Sequence[Trained], best: Trained) -> dict[str, Trained]:
    """Choose the rows to draw: the best one, and the one of the report's figures."""
    drawn = [each for each in made if each.row is one.rows[one.drawn] and each.name != best.name]
    return {"best row": best} | ({"row of the report's figures": drawn[0]} if drawn else {})


def _figures(key: str, shown: Mapping[str, Trained]) -> list[Figure]:
    listed = []
    for which, (words, one) in enumerate(shown.items()):
        report, est = one.run.reports["test"], one.run.estimator
        listed += [
            Figure.of(
                f"{key}-history-{which}",
                f"Training of {one.name}, the {words}: {words_of.epochs(est)}.",
                plots.history(est.history_, best_epoch=est.best_epoch_),
            ),
            Figure.of(
                f"{key}-confusion-{which}",
                f"Confusion matrix of {one.name}, test images.",
                plots.confusion_matrix(report),
            ),
        ]
    best = shown["best row"]
    return [
        *listed,
        Figure.of(
            f"{key}-certainty",
            f"Probability of the predicted class, right and wrong predictions of {best.name}.",
            plots.confidence(best.run.reports["test"]),
        ),
    ]


def _with_repeats(lab: Workspace, key: str, section: Section) -> Section:
    """Add repetitions of the best row with other seeds, and their common confusion matrix."""
    best = _best(_trained(lab, key))
    again = [best.run]
    for number in range(1, len(lab.some(range(TRAININGS[key])))):
        est = ARCHITECTURES[key].make(**best.found, random_state=lab.seed + number)
        again.append(lab.train(f"{best.name}-repeat-{number}", est, page=False))
    reports = [run.reports["test"] for run in again]
    names = [f"Found, {name}" for name in reports[0].class_names]
    body = [
        [str(lab.seed + number), str(run.reports["test"].scores["accuracy"]),
         score(run, split="val"), *_recalls(run), clock(run.seconds)]
        for number, run in enumerate(again)
    ]  # fmt: skip
    accuracy = [report.accuracy for report in reports]
    recalls = np.array([[one.recall.value or 0 for one in each.per_class] for each in reports])
    body.append(["mean ± std", spread(accuracy), "–", *map(spread, recalls.T),
                 clock(float(np.mean([run.seconds for run in again])))])  # fmt: skip
    title = f"{best.name}, {len(again)} trainings, standard deviation with ddof 0"
    return Section(
        title=section.title,
        method=section.method,
        choices=section.choices,
        findings=[
            *section.findings,
            f"{best.name} trained {len(again)} times, nothing but the seed changed: test accuracy "
            f"{spread(accuracy)}, from {min(accuracy):.3f} to {max(accuracy):.3f}.",
        ],
        tables=[
            *section.tables,
            Table(title, ["Seed", "Test accuracy", "Validation", *names, "min:s"], body),
        ],
        figures=[
            *section.figures,
            Figure.of(
                f"{key}-confusion-repeats",
                f"Confusion matrix of {len(again)} trainings together; every test image counts "
                f"{len(again)} times.",
                plots.confusion_matrix(_pooled(reports)),
            ),
        ],
    )


def _pooled(reports: Sequence[evaluation.Report]) -> evaluation.Report:
    """Put the predictions of several networks on the same images into one report."""
    first = reports[0]
    found = evaluation.evaluate_predictions(
        np.concatenate([np.array(one.classes)[one.true_index] for one in reports]),
        np.concatenate([one.proba for one in reports]),
        classes=list(first.classes),
        class_names=list(first.class_names),
        n_bootstrap=0,
    )
    assert isinstance(found, evaluation.Report)
    return found


def _order(named: Mapping[str, runs.Run]) -> str:
    """Join names with their accuracies, the best one first."""
    found = sorted(named.items(), key=lambda one: -one[1].reports["test"].accuracy)
    return ", ".join(f"{name} {run.reports['test'].accuracy:.3f}" for name, run in found)


def _pairs(found: evaluation.Comparison) -> list[str]:
    """Say which architectures the test images tell apart."""
    apart = [one for one in found.pairs if one.p_holm < 0.05]
    if not apart:
        return [
            "The test images tell no two of them apart (McNemar's test with Holm's correction for "
            f"{count(len(found.pairs), 'comparison')})."
        ]
    return [
        f"{one.first} and {one.second} differ: accuracy {one.difference} apart (McNemar's p with "
        f"Holm's correction: {p_text(one.p_holm)})."
        for one in apart
    ]


def _turned(data: sources.Data) -> list[str]:
    """Count validation images whose original, or another turn of it, is trained on, by name.

    The public set names turned copies "7-rotated1-rotated2.jpg".
    """
    if "val" not in data.splits or data.splits["val"][0].dtype.kind != "U":
        return []
    val, train = (Counter(map(_origin, data.splits[split][0])) for split in ("val", "train"))
    n = sum(times for name, times in val.items() if name in train)
    if not n:
        return []
    return [
        f"{n:,} of {sum(val.values()):,} validation images are turned copies of training images, "
        "by their names: validation accuracy flatters."
    ]


def _origin(path: str) -> tuple[str, str]:
    """Return the class of a file, and its name without what says how it was turned."""
    place = Path(path)
    return place.parent.name, re.sub(r"(-rotated\d+)+$", "", place.stem)


_PRETRAINED: dict[str, tuple[Callable[[], Any], ...]] = {
    "alexnet": (_alexnet,),
    "resnet": (_resnet50,),
    "efficientnet": tuple(
        partial(_efficientnet, variant=variant) for variant in ("b0", "b1", "b2")
    ),
}
STUDY = Study(
    name="bone",
    title="Bone fractures: five architectures, row by row",
    data="synthetic",
    items=(images, alexnet, resnet, densenet, efficientnet, vit, comparison),
    validation=0.2,
    test="val",
    pretrained={
        **_PRETRAINED,
        "comparison": tuple(make for several in _PRETRAINED.values() for make in several),
    },
)
