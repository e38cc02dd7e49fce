"""Brain MRI: folds scored on one test set, then one training choice after the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import kmedclf
from kmedclf import recipes, runs
from kmedclf.datasets import sources
from kmedclf.evaluation import plots
from kmedclf.studies import subsets
from kmedclf.studies import words as words_of
from kmedclf.studies.section import HEAD, Figure, Section, Table, cells, clock, score, spread
from kmedclf.studies.study import Study, Workspace

N_FOLDS = 5
SCORES = {
    "precision_macro": "Precision, macro", "recall_macro": "Recall, macro",
    "f1_macro": "F1, macro", "accuracy": "Accuracy", "auc_macro": "AUC, macro",
}  # fmt: skip

BASE: dict[str, Any] = {
    "epochs": 10, "batch_size": 32, "optimizer": "sgd", "learning_rate": 0.001, "momentum": 0.9,
    "early_stopping": False, "augment": False,
}  # fmt: skip
ADAM: dict[str, Any] = {"optimizer": "adam", "momentum": 0.0}
RMSPROP: dict[str, Any] = {"optimizer": "rmsprop", "momentum": 0.0}
FOCAL: dict[str, Any] = {"loss": "focal", "focal_alpha": 1.0}
STOPPING: dict[str, Any] = {
    "early_stopping": True, "monitor": "loss", "n_iter_no_change": 3, "tol": 0.1,
    "tol_mode": "relative", "min_epochs": 1,
}  # fmt: skip

SETS = ("basic", "intensity", "distortion", "blur", "basic")
"""Augmentation of each fold."""
SETS_REPORTED = (0.7686, 0.6853, 0.7157, 0.6929, 0.7640)

Choices = Mapping[str, tuple[dict[str, Any], float]]
"""Maps a name to parameters that differ from `BASE` and the reported accuracy."""

IMBALANCE: Choices = {
    "loss weighted by class": ({"class_weight": "balanced"}, 0.7766),
    "minority duplicated": ({"oversample": "duplicate"}, 0.7614),
    "minority augmented": (
        {"oversample": "augment", "augment": ["mirror", "crop", "rotate"]}, 0.7892,
    ),
}  # fmt: skip
STOPS: Choices = {
    "no stop, no schedule": ({}, 0.7360),
    "early stopping": (STOPPING, 0.7538),
    "step schedule": ({"lr_schedule": "step", "lr_step": 5, "lr_factor": 0.1}, 0.7538),
}
LOSSES: Choices = {
    "cross entropy": ({}, 0.73),
    "focal, alpha 1, gamma 2": ({**FOCAL, "focal_gamma": 2.0}, 0.69),
    "focal, alpha 1, gamma 3": ({**FOCAL, "focal_gamma": 3.0}, 0.75),
    "focal, alpha 1, gamma 4": ({**FOCAL, "focal_gamma": 4.0}, 0.73),
    "focal, alpha 0.25, gamma 2": ({"loss": "focal", "focal_gamma": 2.0}, 0.71),
}
OPTIMIZERS: Choices = {
    "sgd": ({}, 0.73),
    "adam": (ADAM, 0.75),
    "rmsprop": (RMSPROP, 0.76),
    "sgd, focal": ({**FOCAL, "focal_gamma": 3.0}, 0.75),
    "adam, focal": ({**ADAM, **FOCAL, "focal_gamma": 3.0}, 0.77),
    "rmsprop, focal": ({**RMSPROP, **FOCAL, "focal_gamma": 3.0}, 0.73),
}
BATCHES: Choices = {
    "batches of 32": ({}, 0.73),
    "batches of 16": ({"batch_size": 16}, 0.77),
    "batches of 64": ({"batch_size": 64}, 0.76),
    "batches of 128": ({"batch_size": 128}, 0.75),
}
REGULARISATION: Choices = {
    "none": ({}, 0.73),
    "dropout 0.3": ({"dropout": 0.3}, 0.69),
    "L2 0.01": ({"l2": 0.01}, 0.72),
    "L2 0.0001": ({"l2": 0.0001}, 0.71),
    "early stopping": (STOPPING, 0.75),
}


def network(lab: Workspace, **changes: Any) -> kmedclf.DeepResNetClassifier:
    """Build the ResNet-18 that all items but the last one train."""
    own = {"stem": _stem(lab), "random_state": lab.seed}
    return kmedclf.DeepResNetClassifier(**{**BASE, **own, **changes})


def folds(lab: Workspace) -> Section:
    """Train on each of five folds, and score all networks on the same test images."""
    made = _trained(lab)
    rows = [
        [f"fold {number}", *(score(run, name) for name in SCORES), score(run, split="val"),
         clock(run.seconds)]
        for number, run in made.items()
    ]  # fmt: skip
    found = {
        name: [float(run.reports["test"].scores[name].value or 0) for run in made.values()]
        for name in SCORES
        if all(run.reports["test"].scores[name].value is not None for run in made.values())
    }
    val = [run.reports["val"].accuracy for run in made.values()]
    seconds = [run.seconds for run in made.values()]
    means = [spread(found[name]) if name in found else "–" for name in SCORES]
    rows.append(["mean ± std", *means, spread(val), clock(sum(seconds) / len(seconds))])
    rows.append(["reported", ".8344 ± .0087", ".7422 ± .0124", ".7183 ± .0155", ".7518 ± .0106",
                 "–", "–", "–"])  # fmt: skip
    est, n = made[1].estimator, lab.data.description
    curves = plots.folds([run.estimator.history_ for run in made.values()])
    return Section(
        title="Folds",
        method=(
            f"All images but the test images, in {N_FOLDS} stratified folds{_of_all(made)}: each "
            f"validates one training. {_words(est, _folds(lab)[0])} Every fold's network is scored "
            "on the same "
            f"{n['n']['test']:,} test images. Standard deviations are those of the folds, ddof 0: "
            "how far the networks differ, not how far the test images are chance.\n\n"
            f"{n.get('copies_left_out', 0):,} images were left out before, as they are pixel for "
            "pixel in an earlier split or earlier in their own. The report that is reproduced "
            "started from weights of ImageNet and left its copies in."
        ),
        findings=[
            f"Test accuracy {spread(found['accuracy'])} over {len(made)} folds.",
            *words_of.collapsed({str(number): run for number, run in made.items()}, "fold"),
        ],
        tables=[Table("Every fold on the test images", ["", *SCORES.values(), "Validation, "
                "accuracy", "min:s"], rows)],
        figures=[Figure.of("folds", "Training of every fold.", curves)],
    )  # fmt: skip


def imbalance(lab: Workspace) -> Section:
    """Weight or oversample the smaller classes."""
    return _compared(lab, "Imbalance", "imbalance", {"as it is": ({}, 0.7360), **IMBALANCE})


def augmentation(lab: Workspace) -> Section:
    """Augment each fold in a different way, and show the AUC of every class."""
    rows, ests = [], []
    for number, data in enumerate(_folds(lab)):
        name = f"augment-{number + 1}-{SETS[number]}"
        run = lab.train(name, network(lab, augment=SETS[number]), data, page=False)
        ests.append(run.estimator)
        words = words_of.as_named(SETS[number], {"augment": SETS[number]}, run.estimator)
        each = [str(one.auc).partition(" ")[0] for one in run.reports["test"].per_class]
        rows.append([words, str(number + 1), *cells(run), *each,
                     f"{SETS_REPORTED[number]:.4f}"])  # fmt: skip
    names = [f"AUC, {one.name}" for one in run.reports["test"].per_class]
    return Section(
        title="Augmentation",
        method=(
            "Each set on a fold of its own, as in the report, so that sets and folds cannot be "
            f"told apart{_twice(ests)}. {_sets(ests)}"
        ).strip(),
        tables=[Table("Augmentation sets", ["Set", "Fold", *HEAD, *names, "Reported"], rows)],
    )


def _twice(ests: list[Any]) -> str:
    names = [str(est.augment) for est in ests]
    again = len(set(names)) < len(names)
    return "; the same set on two folds shows how much is the folds'" if again else ""


def _sets(ests: list[Any]) -> str:
    names = dict.fromkeys(str(est.augment) for est in ests)
    known = [f"{one}: {words_of.DESCRIBED[one]}" for one in names if one in words_of.DESCRIBED]
    return f"{'; '.join(known)}." if known else ""


def stopping(lab: Workspace) -> Section:
    """Compare early stopping and learning rate schedules, with times."""
    return _compared(lab, "Stopping and schedule", "stop", STOPS)


def losses(lab: Workspace) -> Section:
    """Compare cross entropy and focal loss."""
    return _compared(lab, "Loss", "loss", LOSSES)


def optimizers(lab: Workspace) -> Section:
    """Compare three optimizers with two losses."""
    return _compared(lab, "Optimizer", "optimizer", OPTIMIZERS)


def batches(lab: Workspace) -> Section:
    """Compare batch sizes, with times."""
    return _compared(lab, "Size of the batches", "batch", BATCHES)


def regularisation(lab: Workspace) -> Section:
    """Compare dropout, L2 and early stopping."""
    return _compared(lab, "Regularisation", "regular", REGULARISATION)


def transfer(lab: Workspace) -> Section:
    """Train a whole EfficientNet, or only its head."""
    rows = []
    _, data = _weakest(lab)
    for trainable, reported in (("all", 0.77), ("head", 0.60)):
        changes: dict[str, Any] = {
            "batch_size": 16, "epochs": 20, "class_weight": "balanced", "trainable": trainable,
            "augment": ["flips", "rotate"], "stem": _stem(lab), "random_state": lab.seed,
        }  # fmt: skip
        est = kmedclf.EfficientNetClassifier(**{**BASE, **changes})
        run = lab.train(f"efficientnet-{trainable}", est, data, page=False)
        rows.append([trainable, *cells(run), f"{reported:.2f}"])
    est = run.estimator
    random = est.weights is None
    wanted = {"variant": "b0", "width": None, "depth": None, "class_weight": "balanced",
              "augment": ["flips", "rotate"]}  # fmt: skip
    words = "EfficientNet-B0, loss weighted by class, flips and rotation"
    return Section(
        title="Head alone against the whole network",
        method=f"{words_of.as_named(words, _those_of(wanted), est)}. {_start(random)}",
        findings=["A head alone on random weights says little of transfer."] if random else [],
        tables=[Table("What is trained", ["Trained", *HEAD, "Reported"], rows)],
    )


def _stem(lab: Workspace) -> str:
    """Choose the report's ImageNet stem, unless the images are too small for it."""
    return "imagenet" if min(lab.data.description["image_shape"][:2]) >= 32 else "small"


def _compared(lab: Workspace, title: str, name: str, choices: Choices) -> Section:
    """Train on the weakest fold, with one choice changed at a time."""
    rows, made = [], {}
    number, data = _weakest(lab)
    # Several folds may share the lowest accuracy.
    scores = [one.reports["test"].accuracy for one in _trained(lab).values()]
    lowest = "the one" if scores.count(min(scores)) == 1 else "the first of those"
    keys = {key for changes, _ in choices.values() for key in changes}
    for words, (changes, reported) in lab.some(list(choices.items())):
        planned = recipes.parameters(network(lab, **changes))
        # Do not train the unchanged network a second time.
        folder = _plain_name(f"{name}-{words}") if changes else f"fold-{number}"
        run = lab.train(folder, network(lab, **changes), data, page=False)
        named = words_of.as_named(words, {key: planned[key] for key in sorted(keys)}, run.estimator)
        rows.append([named, *cells(run), f"{reported:.4g}"])
        made[words] = run
    n_folds = len(_folds(lab))
    return Section(
        title=title,
        method=(
            f"On fold {number}, of the {n_folds} trained {lowest} with the lowest test accuracy, "
            "as in the report; all else as for that fold. One run each."
        ),
        findings=words_of.collapsed(made),
        tables=[Table(title, ["Choice", *HEAD, "Reported"], rows)],
    )


def _folds(lab: Workspace) -> list[sources.Data]:
    return list(lab.some(subsets.folds(lab.data, N_FOLDS, lab.seed)))


def _trained(lab: Workspace) -> dict[int, runs.Run]:
    return {
        number: lab.train(f"fold-{number}", network(lab), data, page=False)
        for number, data in enumerate(_folds(lab), 1)
    }


def _weakest(lab: Workspace) -> tuple[int, sources.Data]:
    """Return the number and the data of the fold with the lowest test accuracy."""
    made = _trained(lab)
    number = min(made, key=lambda number: made[number].reports["test"].accuracy)
    return number, _folds(lab)[number - 1]


def _plain_name(words: str) -> str:
    return words.replace(",", "").replace(" ", "-")


def _words(est: kmedclf.DeepResNetClassifier, data: sources.Data) -> str:
    return (
        f"ResNet-{est.depth}, {est.n_params_:,} parameters. {words_of.training(est, data)} "
        f"{_start(est.weights is None)}"
    )


def _of_all(made: Mapping[int, runs.Run]) -> str:
    """Say so if not all folds were trained."""
    return "" if len(made) == N_FOLDS else f", of which the first {len(made)} are trained"


def _those_of(wanted: dict[str, Any]) -> dict[str, Any]:
    """Replace None by the default values of EfficientNet."""
    usual = kmedclf.EfficientNetClassifier().get_params()
    return {name: usual[name] if value is None else value for name, value in wanted.items()}


def _start(random: bool) -> str:
    return "From random weights." if random else "From weights trained elsewhere."


STUDY = Study(
    name="brain",
    title="Brain MRI: folds on one test set, and what training can change",
    data="synthetic",
    items=(
        folds, imbalance, augmentation, stopping, losses, optimizers, batches, regularisation,
        transfer,
    ),
    unique=True,
)  # fmt: skip
