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
from kmedclf.evaluation.wording import kept_value
from kmedclf.studies import words as words_of
from kmedclf.studies.section import HEAD, Figure, Section, Table, cells, clock, spread
from kmedclf.studies.study import Study, Workspace

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


def alexnet(lab: Workspace) -> Section:
    """AlexNet over batch sizes, epochs and rates; the best one repeated with other seeds."""
    made = _train(lab, "alexnet", kmedclf.AlexNetClassifier, ALEXNET)
    section = _section(lab, "AlexNet", "alexnet", made, ALEXNET)
    return _with_repeats(lab, section, kmedclf.AlexNetClassifier, made, ALEXNET)


def resnet(lab: Workspace) -> Section:
    """ResNet-50 over batch sizes, epochs and rates."""
    made = _train(lab, "resnet", _resnet50, RESNET)
    return _section(lab, "ResNet-50", "resnet", made, RESNET)


def densenet(lab: Workspace) -> Section:
    """DenseNet over blocks and rates."""
    made = _train(lab, "densenet", kmedclf.DenseNetClassifier, DENSENET)
    return _section(lab, "DenseNet", "densenet", made, DENSENET)


def efficientnet(lab: Workspace) -> Section:
    """EfficientNet over variants and rates."""
    made = _train(lab, "efficientnet", kmedclf.EfficientNetClassifier, EFFICIENTNET)
    return _section(lab, "EfficientNet", "efficientnet", made, EFFICIENTNET)


def vit(lab: Workspace) -> Section:
    """Vision transformer over layers and patch sizes."""
    # A patch must not be larger than the image.
    side = min(lab.data.description["image_shape"][:2])
    rows = [{**row, "patch_size": min(row["patch_size"], side)} for row in VIT]
    made = _train(lab, "vit", _transformer, rows)
    return _section(lab, "Vision transformer", "vit", made, rows)


def _resnet50(**parameters: Any) -> kmedclf.DeepResNetClassifier:
    return kmedclf.DeepResNetClassifier(depth=50, **parameters)


def _transformer(**parameters: Any) -> kmedclf.ViTClassifier:
    return kmedclf.ViTClassifier(**{**parameters, "optimizer": "adam", "momentum": 0.0})


def _train(
    lab: Workspace, name: str, make: Callable[..., Any], rows: Rows
) -> dict[str, tuple[dict[str, Any], runs.Run]]:
    """Train one network per row; rows that become equal through the lab's parameters are one."""
    made = {}
    for row in lab.some(rows):
        # Prepare first: parameters of the user may override those of the row.
        est = lab.prepared(make(**{**SHARED, **row}, random_state=lab.seed))
        found = {one: getattr(est, one) for one in row}
        folder = "-".join([name, *(_short(value) for value in found.values())])
        if folder not in made:
            made[folder] = (found, lab.train(folder, est, page=False))
    return made


def _short(value: Any) -> str:
    return "x".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _section(
    lab: Workspace,
    title: str,
    name: str,
    made: dict[str, tuple[dict[str, Any], runs.Run]],
    rows: Rows,
) -> Section:
    best = _best(made)
    run = made[best][1]
    ests = [one.estimator for _, one in made.values()]
    named = "The row" if len(made) == 1 else "Best row"
    own = not lab.parameters and not lab.quick
    choices = (
        "Optimizer and, but for blocks and variants, the rows are choices made here, within the "
        "report's lists."
    )
    reported = REPORTED[name]
    if len(made) < len(rows) or not own:
        reported = reported.replace("rows as here", "its own rows")
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
            words_of.sentences(
                "; ".join(words_of.each(one, ests) for one in (words_of.loss, _optimizer))
                + f"; {words_of.each(words_of.batches, ests)}.",
                words_of.each(words_of.augmentation, ests),
                words_of.each(lambda one: words_of.stopping(one, lab.data), ests),
                choices if own else "",
                f"{named}'s start: {words_of.start(run.estimator)}.",
            )
        ),
        findings=[
            _chosen(made, best),
            *words_of.collapsed({folder: one for folder, (_, one) in made.items()}),
            *_confidence(run),
            f"In the report that is reproduced: {reported}.",
        ],
        tables=[Table(title, head, body)],
        figures=_figures(name, run),
    )


def _chosen(made: dict[str, tuple[dict[str, Any], runs.Run]], best: str) -> str:
    """Say how the best row was chosen, and what selection on the test set would have given."""
    accuracy = made[best][1].reports["test"].scores["accuracy"]
    if len(made) == 1:
        return f"The only row, {best}: test accuracy {accuracy}."
    _, by = _worth(made[best][1])
    found = [_worth(one)[0] for _, one in made.values()]
    first = ", the first of equals" if found.count(max(found)) > 1 else ""
    most = max(one.reports["test"].accuracy for _, one in made.values())
    words = f"Best of {len(made)} rows by {by}{first}: {best}, test accuracy {accuracy}. "
    if most > made[best][1].reports["test"].accuracy:
        words += (
            f"Chosen on the test images the best would be {most:.3f}, too good by what is luck."
        )
    else:
        words += "No other row is better on the test images."
    return words


def _worth(run: runs.Run) -> tuple[float, str]:
    """Return the score to choose a row by, and its name: validation accuracy if there is one."""
    if "val" in run.reports:
        return run.reports["val"].accuracy, "validation accuracy"
    history, epochs = run.estimator.history_, words_of.epochs(run.estimator)
    if epochs.validated:
        part = "validation accuracy, on a part of the training images"
        return kept_value(history["val_accuracy"], epochs), part
    return kept_value(history["accuracy"], epochs), "training accuracy, as nothing validates"


def _best(made: dict[str, tuple[dict[str, Any], runs.Run]]) -> str:
    return max(made, key=lambda folder: _worth(made[folder][1])[0])


def _optimizer(est: Any) -> str:
    """Name the optimizer only, as learning rates are in the table."""
    return str(recipes.parameters(est)["optimizer"])


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


def _with_repeats(
    lab: Workspace,
    section: Section,
    make: Callable[..., Any],
    made: dict[str, tuple[dict[str, Any], runs.Run]],
    rows: Rows,
) -> Section:
    """Add repetitions of the best row with other seeds."""
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
        tables=[
            *section.tables,
            Table(f"{best} again, standard deviation with ddof 0", ["Seed", *HEAD], body),
        ],
        figures=section.figures,
    )


def _figures(name: str, run: runs.Run) -> list[Figure]:
    report, est = run.reports["test"], run.estimator
    return [
        Figure.of(
            f"{name}-history",
            f"Training of that row: {words_of.epochs(est)}.",
            plots.history(est.history_, best_epoch=est.best_epoch_),
        ),
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
