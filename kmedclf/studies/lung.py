"""Lung X-rays: nine experiments with four convolutions, an ablation of batch norm and dropout."""

from __future__ import annotations

from typing import Any, NamedTuple

import kmedclf
from kmedclf import recipes, runs
from kmedclf.evaluation import compare, plots
from kmedclf.evaluation.compare import holm, p_text
from kmedclf.evaluation.report import Report
from kmedclf.studies import words as words_of
from kmedclf.studies.dataset import distribution
from kmedclf.studies.section import Choice, Figure, Section, Table, score
from kmedclf.studies.study import Study, Workspace
from kmedclf.utils.text import clock


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
BOTH = {**DROPPED, "batch_norm": "all"}
STOPPED: dict[str, Any] = {
    "early_stopping": True, "stop_against": "previous", "n_iter_no_change": 1, "tol": 0.05,
    "min_epochs": 1,
}  # fmt: skip

EXPERIMENTS = (
    Experiment("fewer kernels layer by layer, padded", FIRST, (0.47856, 0.4811, 0.4815)),
    Experiment("more kernels layer by layer", SECOND, (0.485, 0.48955, 0.47956)),
    Experiment(
        "2 + batch norm, first layer", {**SECOND, "batch_norm": "first"}, (0.5962, 0.59319, 0.58015)
    ),
    Experiment("2 + batch norm, all layers", NORMED, (0.8375, 0.82305, 0.95619)),
    Experiment("4 + early stopping", {**NORMED, **STOPPED}, (0.82775, 0.82305, 0.95555)),
    Experiment("2 + dropout .25, all layers", DROPPED, (0.4811, 0.48115, 0.47857)),
    Experiment("6 + early stopping", {**DROPPED, **STOPPED}, (0.4811, 0.48155, 0.47857)),
    Experiment("6 + batch norm, all layers", BOTH, (0.68282, 0.6744, 0.67087)),
    Experiment("8 + early stopping", {**BOTH, **STOPPED}, (0.78187, 0.77704, 0.79433)),
)
PAIRS = {
    "the layers": [(1, 2)],
    "batch norm": [(2, 3), (3, 4), (6, 8)],
    "dropout": [(2, 6), (4, 8), (5, 9)],
    "early stopping": [(4, 5), (6, 7), (8, 9)],
}
"""Pairs of experiments that differ by one change."""

REPORTED_COUNTS = {"train + val + test": (3616, 6012, 10192, 1345)}
"""Images of each class in the report, in the order of `PATTERNS`."""
PATTERNS = ("covid", "opacity", "normal", "vir")
"""The report's classes, as `kmedclf.studies.dataset.places` finds them in other data."""


def network(parameters: dict[str, Any], seed: int) -> kmedclf.ConvNetClassifier:
    """Build the network of an experiment, with the parameters all experiments share."""
    shared: dict[str, Any] = {
        "global_pooling": "none", "optimizer": "adam", "learning_rate": 0.01, "epochs": 20,
        "batch_size": 32, "early_stopping": False, "augment": False, "random_state": seed,
    }  # fmt: skip
    return kmedclf.ConvNetClassifier(**{**shared, **parameters})


def images(lab: Workspace) -> Section:
    """Show the images, and count those of each class."""
    return distribution(
        lab,
        REPORTED_COUNTS,
        PATTERNS,
        method=(
            "The report has 21,165 X-rays: 10,192 without finding, 6,012 with lung opacity, 3,616 "
            "of COVID and 1,345 of viral pneumonia, parted at random into 70 % for training, 20 % "
            "for validation and 10 % for the test. Here a folder without splits of its own is "
            "parted so, each class alike."
        ),
    )


def ablation(lab: Workspace) -> Section:
    """Train all nine networks, and describe the effect of what changes between them."""
    made = {
        number: lab.train(f"experiment-{number}", network(one.parameters, lab.seed), page=False)
        for number, one in enumerate(EXPERIMENTS, 1)
    }
    ests = [run.estimator for run in made.values()]
    own = {n: run.estimator.score(*lab.data.splits["train"]) for n, run in made.items()}
    return Section(
        title="Nine experiments",
        method=(
            "Layers of convolution, batch normalisation (where there is any), activation, pooling "
            "and dropout (where there is any); the head; softmax. "
            f"Experiment 1 has {_layers(ests[0])}; the others have {_layers(ests[1])}.\n\n"
            + words_of.sentences(words_of.shared(ests, lab.data), *_stops(lab, made))
            + "\n\nThe report describes experiment 9 as 8 with batch norm in each layer, which its "
            "8 already has; what else it says of 9 is about early stopping, and that is what 9 "
            "adds here."
        ),
        choices=_choices(lab, made),
        findings=[
            *_fits(made, own),
            *(_collapsed(made) or ["No network takes all test images for one class."]),
            "In the report four of the nine networks, 1, 2, 6 and 7, had about the share of its "
            "largest class, .48.",
            *_stopped(made),
            *_verdicts(made),
        ],
        tables=[_table(made, own)],
        figures=_figures(made),
    )


def _choices(lab: Workspace, made: dict[int, runs.Run]) -> list[Choice]:
    """List what the report leaves open, and what ran."""
    est = made[1].estimator
    stopped = recipes.parameters(made[5].estimator)
    kept = "best" if stopped["restore_best"] else "last"
    side = " × ".join(map(str, est.image_shape_[:2]))
    return [
        lab.choice(
            "Optimizer", str(est.optimizer), "The report names a learning rate, but no optimizer.",
            "optimizer",
        ),
        Choice("Size of the images", f"{side} pixels", "It is not named."),
        lab.choice("Pooling windows", words_of.shown(est.pool_size), "They are not named.",
                   "pool_size"),
        lab.choice(
            "Head", _head(est),
            "In the report a multilayer perceptron follows the layers; its size is not named.",
            "global_pooling",
        ),
        Choice("Batch norm", "before the activation", "Its place is not named."),
        lab.choice(
            "Tolerance of early stopping", f"{stopped['tol']:g}",
            "The report compares the last epoch with the one before it, within a tolerance that "
            "it does not name. By its words its rule ended experiments 5 and 7 no earlier than 4 "
            "and 6.",
            "tol",
        ),
        lab.choice("Weights after early stopping", f"those of the {kept} epoch",
                   "They are not named.", "restore_best"),
    ]  # fmt: skip


def _head(est: kmedclf.ConvNetClassifier) -> str:
    """Describe what follows the last layer."""
    pooled = "flattened" if est.global_pooling == "none" else f"{est.global_pooling} of the image"
    dense = (
        "" if est.dense_units is None else f", dense layers of {words_of.shown(est.dense_units)}"
    )
    return f"the last layer {pooled}{dense}, softmax"


def _table(made: dict[int, runs.Run], own: dict[int, float]) -> Table:
    """List the accuracies of all experiments, the report's behind each."""
    rows = []
    for (number, run), one in zip(made.items(), EXPERIMENTS, strict=True):
        test, val, train = (f"{value:.3f}" for value in one.reported)
        words = words_of.as_named(one.words, one.parameters, run.estimator)
        rows.append(
            [str(number), words, str(run.reports["test"].scores["accuracy"]), test,
             score(run, split="val"), val, f"{own[number]:.4f}", train,
             str(len(run.estimator.history_["loss"])), clock(run.seconds)]
        )  # fmt: skip
    head = ["#", "Change", "Test, 95 % interval", "report", "Validation", "report", "Training",
            "report", "Epochs", "min:s"]  # fmt: skip
    return Table("Accuracy of one run each, and in the report, on its 21,165 X-rays", head, rows)


def _figures(made: dict[int, runs.Run]) -> list[Figure]:
    histories = {
        f"{number}: {one.words}": made[number].estimator.history_
        for number, one in enumerate(EXPERIMENTS, 1)
    }
    return [
        Figure.of(
            "curves", "Accuracy and loss of each experiment, epoch by epoch, on common scales.",
            plots.small_multiples(list(histories.values()), names=list(histories)),
        ),
    ]  # fmt: skip


def _fits(made: dict[int, runs.Run], own: dict[int, float]) -> list[str]:
    """Name the best experiment, and how far training and test are apart."""
    reports: dict[int, Report] = {number: run.reports["test"] for number, run in made.items()}
    best = max(reports, key=lambda number: reports[number].accuracy)
    high = {number: report.scores["accuracy"].high for number, report in reports.items()}
    above = [n for n, end in high.items() if end is not None and own[n] > end]
    there = [
        number
        for number, one in enumerate(EXPERIMENTS, 1)
        if one.reported[2] - one.reported[0] > 0.1
    ]
    return [
        f"The highest test accuracy, {reports[best].scores['accuracy']}, is that of experiment "
        f"{best}; in the report it is .838, that of experiment 4.",
        f"Training accuracy is above the 95 % interval of the test accuracy in {_named(above)}. In "
        f"the report it is above the test accuracy by more than .1 in {_named(there)}.",
    ]


def _named(numbers: list[int]) -> str:
    listed = ", ".join(map(str, numbers))
    plural = "s" if len(numbers) > 1 else ""
    return f"experiment{plural} {listed}" if numbers else "no experiment"


def _stopped(made: dict[int, runs.Run]) -> list[str]:
    """Say which trainings early stopping ended."""
    used = {n: recipes.parameters(run.estimator) for n, run in made.items()}
    lasted = {
        n: len(run.estimator.history_["loss"])
        for n, run in made.items()
        if used[n]["early_stopping"]
    }
    if not lasted:
        return []
    ended = {n: epochs for n, epochs in lasted.items() if epochs < used[n]["epochs"]}
    if not ended:
        return ["Early stopping ended none of the trainings before their last epoch."]
    listed = ", ".join(f"that of experiment {n} after epoch {epoch}" for n, epoch in ended.items())
    return [f"Early stopping ended trainings before their last epoch: {listed}."]


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
    """Test each pair that differs in one thing; p is corrected for the number of pairs."""
    pairs = [(what, a, b) for what, several in PAIRS.items() for a, b in several]
    found = [
        compare({str(n): made[n].reports["test"] for n in (a, b)}).pairs[0] for _, a, b in pairs
    ]
    lines = []
    for (what, a, b), one, p in zip(pairs, found, holm([one.p for one in found]), strict=True):
        told = "differ" if p < 0.05 else "cannot be told apart on these images"
        scores = [f"{made[n].reports['test'].accuracy:.3f}" for n in (a, b)]
        lines.append(
            f"{what.capitalize()}: experiments {a} and {b} {told}, accuracy {scores[0]} and "
            f"{scores[1]}; {one.first} minus {one.second} {one.difference} (McNemar's p with "
            f"Holm's correction for {len(pairs)} pairs: {p_text(p)})."
        )
    return lines


STUDY = Study(
    name="lung",
    title="Lung X-rays: what batch norm and dropout do to four convolutions",
    data="synthetic",
    items=(images, ablation),
    shares={"test": 0.1, "val": 0.2},
)
