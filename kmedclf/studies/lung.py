"""Lung X-rays: nine experiments with four convolutions, an ablation of batch norm and dropout."""

from __future__ import annotations

from typing import Any, NamedTuple

import kmedclf
from kmedclf import runs
from kmedclf.evaluation import plots
from kmedclf.studies.lab import Lab
from kmedclf.studies.section import Figure, Section, Table
from kmedclf.studies.study import Study
from kmedclf.studies.tables import clock, one_class_only, score, verdict


class Experiment(NamedTuple):
    """What changes, in words and parameters, and test, validation and training accuracy reported.

    The report had 21,165 X-rays and ran each experiment once.
    """

    words: str
    parameters: dict[str, Any]
    reported: tuple[float, float, float]


FIRST: dict[str, Any] = {
    "filters": (128, 64, 32, 32), "kernel_size": (8, 4, 3, 3), "padding": 2, "batch_norm": "none",
}  # fmt: skip
SECOND: dict[str, Any] = {
    "filters": (16, 32, 64, 128), "kernel_size": (10, 6, 3, 3), "padding": (0, 2, 2, 2),
    "activation": ("linear", "relu", "relu", "relu"), "pool_size": (1, 2, 2, 2),
    "batch_norm": "none",
}  # fmt: skip
NORMED = {**SECOND, "batch_norm": "all"}
DROPPED = {**SECOND, "dropout": 0.25}
STOPPED: dict[str, Any] = {
    "early_stopping": True, "n_iter_no_change": 3, "tol": 0.001, "min_epochs": 1,
}  # fmt: skip

EXPERIMENTS = (
    Experiment("fewer kernels layer by layer, all padded", FIRST, (0.479, 0.481, 0.482)),
    Experiment("more kernels layer by layer", SECOND, (0.485, 0.490, 0.480)),
    Experiment(
        "2 + batch norm, first layer", {**SECOND, "batch_norm": "first"}, (0.596, 0.593, 0.580)
    ),
    Experiment("2 + batch norm, all layers", NORMED, (0.838, 0.823, 0.956)),
    Experiment("4 + early stopping", {**NORMED, **STOPPED}, (0.828, 0.823, 0.956)),
    Experiment("2 + dropout .25, all layers", DROPPED, (0.481, 0.481, 0.479)),
    Experiment("6 + early stopping", {**DROPPED, **STOPPED}, (0.481, 0.482, 0.479)),
    Experiment(
        "6 + batch norm, first layer", {**DROPPED, "batch_norm": "first"}, (0.683, 0.674, 0.671)
    ),
    Experiment(
        "8 + batch norm, all layers, early stopping",
        {**NORMED, **DROPPED, "batch_norm": "all", **STOPPED},
        (0.782, 0.777, 0.794),
    ),
)
PAIRS = {"batch norm": [(2, 3), (2, 4), (6, 8)], "dropout": [(2, 6), (3, 8), (5, 9)]}
"""Experiments that differ in nothing but batch norm, or dropout."""


def network(parameters: dict[str, Any], seed: int) -> kmedclf.ConvNetClassifier:
    """Make the network of an experiment, with what all experiments share."""
    shared: dict[str, Any] = {
        "global_pooling": "none", "optimizer": "adam", "learning_rate": 0.01, "epochs": 20,
        "batch_size": 32, "early_stopping": False, "augment": False, "random_state": seed,
    }  # fmt: skip
    return kmedclf.ConvNetClassifier(**{**shared, **parameters})


def ablation(lab: Lab) -> Section:
    """Train all nine, and say what batch norm and dropout did."""
    made, rows = {}, []
    for number, one in enumerate(EXPERIMENTS, 1):
        run = lab.train(f"experiment-{number}", network(one.parameters, lab.seed), page=False)
        train = run.estimator.score(*lab.data.splits["train"])
        made[number] = run
        rows.append(
            [str(number), one.words, str(run.reports["test"].scores["accuracy"]),
             score(run, split="val"), f"{train:.4f}", str(len(run.estimator.history_["loss"])),
             clock(run.seconds)]
        )  # fmt: skip
    head = ["#", "Change", "Test, 95 % interval", "Validation", "Training", "Epochs", "min:s"]
    curves = plots.folds([run.estimator.history_ for run in made.values()], names=list("123456789"))
    return Section(
        title="Nine experiments",
        method=(
            "Four layers of convolution, batch normalisation (where there is any), ReLU, "
            "max-pooling of 2 and dropout (where there is any); flattened; softmax. Cross entropy, "
            "learning rate 0.01, 20 epochs unless told otherwise, batches of 32. Experiment 1 "
            "has 128, 64, 32, 32 kernels of 8, 4, 3, 3 pixels; the others 16, 32, 64, 128 of 10, "
            "6, 3, 3, the first layer without ReLU and pooling. Early stopping waits 3 epochs for "
            "a validation accuracy 0.001 higher, and keeps the best epoch; without it the last "
            "epoch's weights stand.\n\n"
            "The report that is reproduced leaves open the optimizer, the size of images and "
            "pooling windows, the head, where batch norm stands, and the tolerance: Adam, the size "
            "of these images and what is said above are choices made here. Four of its nine "
            "networks had about the accuracy of naming the largest class always."
        ),
        findings=[*_collapsed(made), *_verdicts(made)],
        tables=[Table("Accuracy of one run each", head, rows), _reported()],
        figures=[Figure.of("curves", "Training of all nine.", curves)],
    )


def _collapsed(made: dict[int, runs.Run]) -> list[str]:
    found = {number: one_class_only(run) for number, run in made.items()}
    numbers = [str(number) for number, name in found.items() if name is not None]
    if not numbers:
        return ["No network takes all test images for one class."]
    which = f"Experiment{'s' if len(numbers) > 1 else ''} {', '.join(numbers)}"
    several = "s" if len(numbers) == 1 else ""
    return [f"{which} take{several} all test images for one class."]


def _verdicts(made: dict[int, runs.Run]) -> list[str]:
    return [
        f"{what.capitalize()}: "
        + verdict(f"experiment {without}", made[without], f"experiment {with_it}", made[with_it])
        for what, pairs in PAIRS.items()
        for without, with_it in pairs
    ]


def _reported() -> Table:
    rows = [
        [str(number), one.words, *(f"{value:.3f}" for value in one.reported)]
        for number, one in enumerate(EXPERIMENTS, 1)
    ]
    head = ["#", "Change", "Test", "Validation", "Training"]
    return Table("In the report that is reproduced, on its 21,165 X-rays", head, rows)


STUDY = Study(
    name="lung",
    title="Lung X-rays: what batch norm and dropout do to four convolutions",
    data="synthetic",
    items=(ablation,),
    shares={"test": 0.1, "val": 0.2},
)
