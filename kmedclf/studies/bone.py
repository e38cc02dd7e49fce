"""Bone fractures: five architectures over lists of hyperparameters, with minutes and accuracy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import numpy as np

import kmedclf
from kmedclf import recipes, runs
from kmedclf.evaluation import plots
from kmedclf.evaluation.compare import amount
from kmedclf.studies.lab import Lab
from kmedclf.studies.section import Figure, Section, Table
from kmedclf.studies.study import Study
from kmedclf.studies.tables import HEAD, cells, clock, spread

SHARED: dict[str, Any] = {
    "optimizer": "sgd", "momentum": 0.9, "batch_size": 32, "epochs": 10, "augment": False,
    "early_stopping": False,
}  # fmt: skip
N_REPEATS = 5

Rows = Sequence[dict[str, Any]]


def _grid(**values: Sequence[Any]) -> Rows:
    return [dict(zip(values, row, strict=True)) for row in product(*values.values())]


ALEXNET = _grid(batch_size=(32, 64, 128), epochs=(15, 30), learning_rate=(0.0002, 0.001, 0.01))
RESNET = _grid(batch_size=(32, 64), epochs=(15, 30), learning_rate=(0.001, 0.005, 0.01))
DENSENET = _grid(
    block_config=((6, 12, 24, 16), (6, 12, 32, 24), (8, 16, 40, 32)),
    learning_rate=(0.001, 0.01, 0.1),
)
EFFICIENTNET = _grid(variant=("b0", "b1", "b2"), learning_rate=(0.001, 0.0001))
VIT: Rows = [
    {"num_layers": layers, "patch_size": patch, "epochs": epochs, "learning_rate": rate}
    for layers, patch, epochs, rate in (
        (6, 16, 30, 0.001), (6, 32, 30, 0.001), (12, 16, 30, 0.0001), (12, 32, 100, 0.001),
        (24, 32, 30, 0.0001), (24, 64, 100, 0.0001),
    )
]  # fmt: skip

REPORTED = {
    "alexnet": "best 0.677 of 23 rows",
    "resnet": "best 0.847 of 14 rows",
    "densenet": "0.602 0.738 0.783 / 0.607 0.645 0.798 / 0.682 0.697 0.835, rows as here",
    "efficientnet": "0.712 0.793 / 0.720 0.748 / 0.653 0.652, rows as here",
    "vit": "best 0.707 of 6 rows",
}


def alexnet(lab: Lab) -> Section:
    """AlexNet over batches, epochs and rates; the best one again, with other seeds."""
    made = _train(lab, "alexnet", kmedclf.AlexNetClassifier, ALEXNET)
    section = _section(lab, "AlexNet", "alexnet", made, ALEXNET)
    return _with_repeats(lab, section, kmedclf.AlexNetClassifier, made, ALEXNET)


def resnet(lab: Lab) -> Section:
    """ResNet-50 over batches, epochs and rates."""
    made = _train(lab, "resnet", _resnet50, RESNET)
    return _section(lab, "ResNet-50", "resnet", made, RESNET)


def densenet(lab: Lab) -> Section:
    """DenseNet over blocks and rates."""
    made = _train(lab, "densenet", kmedclf.DenseNetClassifier, DENSENET)
    return _section(lab, "DenseNet", "densenet", made, DENSENET)


def efficientnet(lab: Lab) -> Section:
    """EfficientNet over variants and rates."""
    made = _train(lab, "efficientnet", kmedclf.EfficientNetClassifier, EFFICIENTNET)
    return _section(lab, "EfficientNet", "efficientnet", made, EFFICIENTNET)


def vit(lab: Lab) -> Section:
    """Vision transformer over layers and patches."""
    side = min(lab.data.description["image_shape"][:2])  # no patch is larger
    rows = [{**row, "patch_size": min(row["patch_size"], side)} for row in VIT]
    made = _train(lab, "vit", _transformer, rows)
    return _section(lab, "Vision transformer", "vit", made, rows)


def _resnet50(**parameters: Any) -> kmedclf.DeepResNetClassifier:
    return kmedclf.DeepResNetClassifier(depth=50, **parameters)


def _transformer(**parameters: Any) -> kmedclf.ViTClassifier:
    return kmedclf.ViTClassifier(**{**parameters, "optimizer": "adam", "momentum": 0.0})


def _train(
    lab: Lab, name: str, make: Callable[..., Any], rows: Rows
) -> dict[str, tuple[dict[str, Any], runs.Run]]:
    """Train one network a row; rows that the lab's own parameters make the same are one."""
    made = {}
    for row in lab.some(rows):
        est = lab.prepared(make(**{**SHARED, **row}, random_state=lab.seed))
        found = {one: getattr(est, one) for one in row}
        folder = "-".join([name, *(_short(value) for value in found.values())])
        if folder not in made:
            made[folder] = (found, lab.train(folder, est, page=False))
    return made


def _short(value: Any) -> str:
    return "x".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _section(
    lab: Lab, title: str, name: str, made: dict[str, tuple[dict[str, Any], runs.Run]], rows: Rows
) -> Section:
    best = _best(made)
    run = made[best][1]
    start = "random" if run.estimator.weights is None else "pretrained"
    head = [*(one.replace("_", " ").capitalize() for one in rows[0] if one != "epochs"),
            "Parameters", *HEAD]  # fmt: skip
    body = [
        [*(_short(value) for one, value in found.items() if one != "epochs"),
         amount(one_run.estimator.n_params_), *cells(one_run)]
        for found, one_run in made.values()
    ]  # fmt: skip
    return Section(
        title=title,
        method=(
            f"{recipes.parameters(run.estimator)['optimizer']}, batches of 32 and 10 epochs unless "
            "told otherwise; no augmentation; the last epoch's weights. Optimizer and, but for "
            "blocks and variants, the rows are choices made here, within the report's lists. Best "
            f"row's start: {start} weights."
        ),
        findings=[
            f"Best of {len(made)} rows by validation accuracy: {best}, test accuracy "
            f"{run.reports['test'].scores['accuracy']}. Chosen on the test images the best would "
            f"be {max(one.reports['test'].accuracy for _, one in made.values()):.3f}, too good by "
            "what is luck.",
            *_confidence(run),
            f"In the report that is reproduced: {REPORTED[name]}.",
        ],
        tables=[Table(title, head, body)],
        figures=_figures(name, run),
    )


def _best(made: dict[str, tuple[dict[str, Any], runs.Run]]) -> str:
    """Choose by validation accuracy, or by that of training where nothing validates."""

    def worth(folder: str) -> float:
        run = made[folder][1]
        return run.reports["val"].accuracy if "val" in run.reports else run.estimator.history_[
            "accuracy"
        ][-1]  # fmt: skip

    return max(made, key=worth)


def _confidence(run: runs.Run) -> list[str]:
    """Say how sure right and wrong predictions were."""
    lines = []
    for kind in ("right", "wrong"):
        one = run.reports["test"].certainty[kind]
        if one.images and one.median is not None:
            lines.append(
                f"Its {one.images:,} {kind} predictions have a median probability of "
                f"{one.median:.3f}, quartiles {one.quartile_1:.3f} and {one.quartile_3:.3f}."
            )
    return lines


def _with_repeats(
    lab: Lab,
    section: Section,
    make: Callable[..., Any],
    made: dict[str, tuple[dict[str, Any], runs.Run]],
    rows: Rows,
) -> Section:
    """Add the best row trained again under other seeds."""
    best = _best(made)
    again = [made[best][1]]
    for number in range(1, len(lab.some(range(N_REPEATS)))):
        est = make(**{**SHARED, **made[best][0]}, random_state=lab.seed + number)
        again.append(lab.train(f"{best}-repeat-{number}", est, page=False))
    body = [[str(lab.seed + number), *cells(run)] for number, run in enumerate(again)]
    accuracy = [run.reports["test"].accuracy for run in again]
    mean_time = clock(float(np.mean([run.seconds for run in again])))
    body.append(["mean ± std", spread(accuracy), *[""] * (len(HEAD) - 2), mean_time])
    return Section(
        title=section.title,
        method=section.method,
        findings=[
            *section.findings,
            f"{best} trained {len(again)} times, nothing but the seed changed: test accuracy "
            f"{spread(accuracy)}.",
        ],
        tables=[*section.tables, Table("The best row again", ["Seed", *HEAD], body)],
        figures=section.figures,
    )


def _figures(name: str, run: runs.Run) -> list[Figure]:
    report, est = run.reports["test"], run.estimator
    return [
        Figure.of(f"{name}-history", "Training of the best row.", plots.history(est.history_)),
        Figure.of(
            f"{name}-confusion", "Confusion matrix, test images.", plots.confusion_matrix(report)
        ),
    ]


STUDY = Study(
    name="bone",
    title="Bone fractures: five architectures, row by row",
    data="synthetic",
    items=(alexnet, resnet, densenet, efficientnet, vit),
)
