"""Lung X-rays: nine experiments with four convolutions, an ablation of batch norm and dropout."""

from __future__ import annotations

from typing import Any, NamedTuple

import kmedclf
from kmedclf import runs
from kmedclf.evaluation import plots
from kmedclf.studies import words as words_of
from kmedclf.studies.section import Figure, Section, Table, clock, score, verdict
from kmedclf.studies.study import Study, Workspace


class Experiment(NamedTuple):
    """A change, in words and parameters, and the reported test, validation and training accuracy.

    The report used 21,165 X-rays and ran each experiment once.
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
"""Pairs of experiments that differ only in batch norm, or only in dropout."""


def network(parameters: dict[str, Any], seed: int) -> kmedclf.ConvNetClassifier:
    """Build the network of an experiment, with the parameters all experiments share."""
    shared: dict[str, Any] = {
        "global_pooling": "none", "optimizer": "adam", "learning_rate": 0.01, "epochs": 20,
        "batch_size": 32, "early_stopping": False, "augment": False, "random_state": seed,
    }  # fmt: skip
    return kmedclf.ConvNetClassifier(**{**shared, **parameters})


def ablation(lab: Workspace) -> Section:
    """Train all nine networks, and describe the effect of batch norm and dropout."""
    made, rows = {}, []
    for number, one in enumerate(EXPERIMENTS, 1):
        run = lab.train(f"experiment-{number}", network(one.parameters, lab.seed), page=False)
        train = run.estimator.score(*lab.data.splits["train"])
        made[number] = run
        words = words_of.as_named(one.words, one.parameters, run.estimator)
        rows.append(
            [str(number), words, str(run.reports["test"].scores["accuracy"]),
             score(run, split="val"), f"{train:.4f}", str(len(run.estimator.history_["loss"])),
             clock(run.seconds)]
        )  # fmt: skip
    head = ["#", "Change", "Test, 95 % interval", "Validation", "Training", "Epochs", "min:s"]
    curves = plots.folds([run.estimator.history_ for run in made.values()], names=list("123456789"))
    ests = [run.estimator for run in made.values()]
    own = not lab.parameters and not lab.quick
    return Section(
        title="Nine experiments",
        method=(
            "Layers of convolution, batch normalisation (where there is any), activation, pooling "
            "and dropout (where there is any); the head; softmax. "
            f"Experiment 1 has {_layers(ests[0])}; the others have {_layers(ests[1])}.\n\n"
            + words_of.sentences(words_of.shared(ests, lab.data), *_stops(lab, made))
            + "\n\nThe report that is reproduced leaves open the optimizer, the size of images and "
            "pooling windows, the head, where batch norm stands, and the tolerance"
            + (": what is said above of these is a choice made here. " if own else ". ")
            + "Four of its nine networks had about the accuracy of naming the largest class always."
        ),
        findings=[
            *(_collapsed(made) or ["No network takes all test images for one class."]),
            *_verdicts(made),
        ],
        tables=[Table("Accuracy of one run each", head, rows), _reported()],
        figures=[Figure.of("curves", "Training of all nine.", curves)],
    )


def _collapsed(made: dict[int, runs.Run]) -> list[str]:
    return words_of.collapsed({str(number): run for number, run in made.items()}, "experiment")


def _layers(est: kmedclf.ConvNetClassifier) -> str:
    """Describe the layers of a network by its parameters."""
    n_layers = len(est.filters) if isinstance(est.filters, tuple | list) else 1
    named = {"activation": est.activation, "pooling windows": est.pool_size,
             "padding": est.padding}  # fmt: skip
    more = ", ".join(f"{name} {words_of.shown(value)}" for name, value in named.items())
    return (
        f"{n_layers} layers of {words_of.shown(est.filters)} kernels of "
        f"{words_of.shown(est.kernel_size)} pixels, {more}"
    )


def _stops(lab: Workspace, made: dict[int, runs.Run]) -> list[str]:
    """List the stopping rules, each with its experiments."""
    ways: dict[str, list[str]] = {}
    for number, run in made.items():
        ways.setdefault(words_of.stopping(run.estimator, lab.data), []).append(str(number))
    if len(ways) == 1:
        return list(ways)
    return [f"Experiments {', '.join(numbers)}: {way}" for way, numbers in ways.items()]


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
