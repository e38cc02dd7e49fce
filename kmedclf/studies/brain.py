"""Brain MRI: folds scored on one test set, then one training choice after the other.

The report that is reproduced has six parts; each is an item, or several. Two items are ours:
`copies` measures what copies of training images are worth, and `discussion` tests the report's
statements on the networks that were trained here. The file is long because the figures of the
report's tables stand in it, beside the trainings that they are of.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

import kmedclf
from kmedclf import recipes, runs
from kmedclf.base import ImageClassifier
from kmedclf.datasets import sources
from kmedclf.evaluation import Report, evaluate_predictions, plots
from kmedclf.evaluation.compare import Pair, holm, p_text, pair_of
from kmedclf.evaluation.scores import Estimate
from kmedclf.evaluation.wording import count
from kmedclf.studies import subsets
from kmedclf.studies import words as words_of
from kmedclf.studies.section import Choice, Figure, Section, Table, spread
from kmedclf.studies.study import Study, Workspace
from kmedclf.utils.text import clock

DESCRIBED = {
    "basic": "flips in both directions, rotation by up to 15 degrees",
    "intensity": "colour jitter",
    "distortion": "perspective and affine map with probability 0.5 each, resized crop",
    "blur": "Gaussian on 5 × 5 pixels",
}
"""Augmentations of the report, as its tables name them."""

N_FOLDS = 5
SCORES = ("precision_macro", "recall_macro", "f1_macro", "accuracy", "auc_macro")
MARK = " †"
"""Stands beside every score on a split that holds copies of training images."""

BASE: dict[str, Any] = {
    "epochs": 20, "batch_size": 32, "optimizer": "sgd", "learning_rate": 0.001, "momentum": 0.9,
    "early_stopping": False, "augment": False,
    "recipe": "reference",  # "auto" is "transfer" from ImageNet weights: other schedule and loss
}  # fmt: skip
SHORT: dict[str, Any] = {"epochs": 10}
"""The first part of the report trains for 10 epochs, the others for 20."""
ADAM: dict[str, Any] = {"optimizer": "adam", "momentum": 0.0}
RMSPROP: dict[str, Any] = {"optimizer": "rmsprop", "momentum": 0.0}
FOCAL: dict[str, Any] = {"loss": "focal", "focal_alpha": 1.0}
BEST_FOCAL: dict[str, Any] = {**FOCAL, "focal_gamma": 3.0}
STOPPING: dict[str, Any] = {
    "early_stopping": True, "monitor": "loss", "n_iter_no_change": 3, "tol": 0.1,
    "tol_mode": "relative", "min_epochs": 1,
}  # fmt: skip
EFFICIENTNET: dict[str, Any] = {
    "batch_size": 16, "class_weight": "balanced", "augment": ["mirror", "rotate"],
}  # fmt: skip


class Reported(NamedTuple):
    """What the report prints for a training; "–" where it prints nothing."""

    precision: str = "–"
    recall: str = "–"
    f1: str = "–"
    accuracy: str = "–"
    auc: str = "–"
    val: str = "–"
    time: str = "–"


NOTHING = Reported()


class Variant(NamedTuple):
    """A training: its name, how it differs from `BASE`, and what the report has for it."""

    words: str
    changes: dict[str, Any]
    reported: Reported = NOTHING


FOLDS_REPORTED = (
    Reported("0.8179", "0.7230", "0.6928", "0.7360"),
    Reported("0.8421", "0.7439", "0.7190", "0.7538"),
    Reported("0.8398", "0.7552", "0.7355", "0.7640"),
    Reported("0.8384", "0.7341", "0.7118", "0.7437"),
    Reported("0.8336", "0.7550", "0.7325", "0.7614"),
)
MEAN_REPORTED = Reported("0.8344 ± 0.0087", "0.7422 ± 0.0124", "0.7183 ± 0.0155", "0.7518 ± 0.0106")
FIRST = FOLDS_REPORTED[0]
ROUNDED = Reported("0.81", "0.72", "0.69", "0.73", "0.90", "0.95")
"""The same fold in the tables of the report's fifth part."""

SETS = ("basic", "intensity", "distortion", "blur", "basic")
"""Augmentation of each fold."""
SETS_REPORTED = (
    Reported("0.8479", "0.7681", "0.7433", "0.7686", "0.9097"),
    Reported("0.8020", "0.6636", "0.6455", "0.6853", "0.9228"),
    Reported("0.8178", "0.6946", "0.6793", "0.7157", "0.9073"),
    Reported("0.7889", "0.6732", "0.6472", "0.6929", "0.8994"),
    Reported("0.8257", "0.7622", "0.7326", "0.7640", "0.9445"),
)
AUC_REPORTED = (
    ("0.7888", "0.9501", "0.9623", "0.9375"),
    ("0.7928", "0.9499", "0.9696", "0.9790"),
    ("0.7472", "0.9469", "0.9676", "0.9673"),
    ("0.8039", "0.9521", "0.9533", "0.8881"),
    ("0.8576", "0.9518", "0.9788", "0.9899"),
)
"""AUC of glioma, meningioma, no tumour and pituitary tumour on each fold."""
CLASSES = "gmnp"
"""Initials of these classes."""

IMBALANCE = (
    Variant("loss weighted by class", {"class_weight": "balanced"},
           Reported("0.8468", "0.7682", "0.7515", "0.7766")),
    Variant("minority augmented",
            {"oversample": "augment", "augment": ["mirror", "crop", "rotate"]},
           Reported("0.8548", "0.7811", "0.7620", "0.7892")),
    Variant("minority duplicated", {"oversample": "duplicate"},
           Reported("0.8384", "0.7547", "0.7242", "0.7614")),
)  # fmt: skip
STOPPED = Variant("early stopping", STOPPING,
                 Reported("0.8278", "0.7448", "0.7072", "0.7538", time="4:18"))  # fmt: skip
STOPS = (
    STOPPED,
    Variant("step schedule", {"lr_schedule": "step", "lr_step": 5, "lr_factor": 0.1},
           Reported("0.8418", "0.7409", "0.7145", "0.7538", time="6:29")),
)  # fmt: skip
LOSSES = (
    Variant("focal, alpha 1, gamma 2", {**FOCAL, "focal_gamma": 2.0},
           Reported("0.81", "0.68", "0.65", "0.69", "0.91", "0.91")),
    Variant("focal, alpha 1, gamma 3", BEST_FOCAL,
           Reported("0.83", "0.75", "0.72", "0.75", "0.92", "0.96")),
    Variant("focal, alpha 1, gamma 4", {**FOCAL, "focal_gamma": 4.0},
           Reported("0.83", "0.71", "0.69", "0.73", "0.92", "0.96")),
    Variant("focal, alpha 0.25, gamma 2", {**FOCAL, "focal_alpha": 0.25, "focal_gamma": 2.0},
           Reported("0.81", "0.69", "0.66", "0.71", "0.89", "0.96")),
)  # fmt: skip
OPTIMIZERS = (
    Variant("adam", ADAM, Reported("0.83", "0.74", "0.71", "0.75", "0.94", "0.97")),
    Variant("rmsprop", RMSPROP, Reported("0.80", "0.77", "0.73", "0.76", "0.89", "0.93")),
    Variant("sgd, focal", BEST_FOCAL, Reported("0.83", "0.75", "0.72", "0.75", "0.92", "0.96")),
    Variant("adam, focal", {**ADAM, **BEST_FOCAL},
           Reported("0.83", "0.77", "0.73", "0.77", "0.92", "0.95")),
    Variant("rmsprop, focal", {**RMSPROP, **BEST_FOCAL},
           Reported("0.76", "0.71", "0.68", "0.73", "0.90", "0.92")),
    Variant("learning rate 0.01", {"learning_rate": 0.01}),
)  # fmt: skip
BATCHES = (
    Variant("batches of 16", {"batch_size": 16},
           Reported("0.85", "0.76", "0.74", "0.77", "0.95", "0.98", "7:16")),
    Variant("batches of 64", {"batch_size": 64},
           Reported("0.83", "0.75", "0.73", "0.76", "0.93", "0.97", "6:38")),
    Variant("batches of 128", {"batch_size": 128},
           Reported("0.82", "0.74", "0.71", "0.75", "0.91", "0.95", "6:20")),
)  # fmt: skip
# PyTorch's decay adds that share of a weight to its gradient; a penalty's gradient is twice it.
REGULARISATION = (
    Variant("L2, decay 0.01", {"l2": 0.005},
           Reported("0.81", "0.71", "0.68", "0.72", "0.91", "0.95")),
    Variant("L2, decay 0.0001", {"l2": 0.00005},
           Reported("0.82", "0.70", "0.67", "0.71", "0.92", "0.97")),
    Variant("dropout 0.3", {"dropout": 0.3},
           Reported("0.78", "0.67", "0.64", "0.69", "0.91", "0.95")),
    Variant("early stopping", STOPPING,
           Reported("0.82", "0.74", "0.70", "0.75", "0.90", "0.98")),
)  # fmt: skip
TRANSFER = (
    Variant("whole EfficientNet", {"trainable": "all"},
           Reported("0.84", "0.76", "0.74", "0.77", val="0.98")),
    Variant("its head alone", {"trainable": "head"},
           Reported("0.73", "0.59", "0.56", "0.60", val="0.90")),
)  # fmt: skip


class Trained(NamedTuple):
    """A run, the fold that it was trained on, and the fold's number."""

    run: runs.Run
    fold: subsets.Fold
    number: int

    @property
    def report(self) -> Report:
        """Scores on the test images."""
        return self.of("test")

    def of(self, split: str) -> Report:
        """Scores on a split."""
        report = self.run.reports[split]
        assert isinstance(report, Report)
        return report

    @property
    def estimator(self) -> Any:
        """The fitted network."""
        return self.run.estimator


# -- the items -------------------------------------------------------------------------------------


def images(lab: Workspace) -> Section:
    """Count the images of each class, and those that are copies."""
    found, data = _copies(lab), lab.data
    names = _class_names(data)
    labels = {split: np.ravel(y) for split, (_, y) in data.splits.items()}
    clean = labels["test"][~found.test]
    every = np.unique(np.concatenate(list(labels.values())))
    rows = [
        [split, *(str(int(np.sum(y == label))) for label in every), f"{len(y):,}"]
        for split, y in {**labels, "test, near copies left out": clean}.items()
    ]
    left_out = data.description.get("copies_left_out")
    return Section(
        title="Images",
        method=(
            (
                "Identical images were kept, as in the report."
                if left_out is None
                else f"{_are(left_out, 'image')} left out, identical to one in an earlier split or "
                "earlier in the same; --keep-copies keeps them, as the report did."
            )
            + " Near copies are what kmedclf.datasets.audit finds: images whose details "
            "correlate by 0.95 or more after turning, mirroring and moving, as those of "
            "neighbouring slices do. Slices of one patient that are further apart are not found, "
            "and no patients are known: what is said of copies is the least of it."
        ),
        findings=[
            f"Test images that are near copies of images to fold: {int(found.test.sum()):,} of "
            f"{len(labels['test']):,}.",
            f"Images to fold that are near copies of others to fold: "
            f"{int(found.grouped.sum()):,} of {found.n_pool:,}.",
        ],
        tables=[Table("Images of each class", ["Split", *names, "all"], rows)],
        figures=[Figure.of("classes", "Images of each class in each split.",
                           plots.class_counts(labels, class_names=names))],
    )  # fmt: skip


def folds(lab: Workspace) -> Section:
    """Train on each of five folds, and score all networks on the same test images."""
    made = _trained(lab)
    rows = []
    for one, reported in zip(made, FOLDS_REPORTED, strict=False):
        rows += _rows(f"fold {one.number}", one, reported)
    rows += _mean_rows(made)
    data = made[0].fold.data
    accuracy = [one.report.scores["accuracy"] for one in made]
    return Section(
        title="Folds",
        method=(
            f"All images but the test images, in {N_FOLDS} stratified folds{_of_all(made)}: each "
            f"validates one training. {_network_words(made[0].estimator, data)} Every fold's "
            f"network is scored on the same {count(data.description['n']['test'], 'test image')}. "
            "Standard deviations are those of the folds, ddof 0: how far the networks differ, not "
            "how far the test images are chance. The report's folds are not of the same images."
            f" {_mark_words(made)}"
        ),
        choices=[
            lab.choice("Size of images", "×".join(map(str, made[0].estimator.image_shape_[:2])),
                       "The report does not say it; ImageNet's networks take 224×224.",
                       "image_size"),
        ],
        findings=[
            f"Test accuracy {_spread(accuracy, _mark(made, 'test'))} over "
            f"{count(len(made), 'fold')}{_flattered(made)}.",
            *_fit_words(made),
            *_hardest(made),
            *words_of.collapsed({str(one.number): one.run for one in made}, "fold"),
        ],
        tables=[Table("Every fold on the test images", _head("Fold"), rows)],
        figures=[_curves("folds", "Training of every fold.",
                         {f"fold {one.number}": one for one in made})],
    )  # fmt: skip


def copies(lab: Workspace) -> Section:
    """Train the folds with copies as the report had them, left out, and kept together."""
    ways = _ways(lab)
    head = ["", "Images to fold", "Copies in validation", "Validation", "Copies in test", "Test",
            "Test without copies", "the same, balanced"]  # fmt: skip
    every = [one for made in ways.values() for one in made]
    marked = (
        f"{MARK.strip()} stands beside scores on images with near copies among the training "
        "images, as many as the column before it says."
    )
    curves = [
        _curves(f"copies-{k}", f"Training with {words}.", {f"fold {m.number}": m for m in made})
        for k, (words, made) in enumerate(ways.items(), 1)
        if made[0].fold.data.description != _folds(lab)[0].data.description  # drawn already
    ]
    return Section(
        title="Copies",
        method=(
            f"The folds with the same training, and copies treated in {len(ways)} ways: "
            f"{'; '.join(ways)}. Copies that are kept together are in one fold, so that nothing "
            "validates a network that it was trained on a copy of; slices of one patient that are "
            "less alike may still be on both sides. "
            + (marked if _mark(every, "test") or _mark(every, "val") else _mark_words(every))
        ),
        findings=[*_out_of_fold(ways), *_collapsed_ways(ways)],
        tables=[Table("What copies are worth: means and standard deviations of the folds", head,
                      [_way_row(words, made) for words, made in ways.items()])],
        figures=curves,
    )  # fmt: skip


def imbalance(lab: Workspace) -> Section:
    """Weight or oversample the smaller classes."""
    section, made = _compared(lab, "Imbalance", FIRST, IMBALANCE)
    names = [one.name for one in made[BASE_WORDS].report.per_class]
    rows = [
        [
            words,
            *(
                _with_interval(one.recall, _mark([trained], "test"))
                for one in trained.report.per_class
            ),
        ]
        for words, trained in made.items()
    ]
    table = Table("Recall of each class, 95 % interval", ["Choice", *names], rows)
    # The report compares its weighted loss with the best fold of its first part as well.
    best = max(_trained(lab), key=lambda one: one.report.accuracy)
    weighted = list(made.items())[1]
    with_best = _tests([(*weighted, f"fold {best.number}, the best of the first part", best)])
    findings = [*section.findings, *with_best]
    return replace(section, tables=[*section.tables, table], findings=findings)


def augmentation(lab: Workspace) -> Section:
    """Augment each fold in a different way, and show the AUC of every class."""
    plain, made = {}, {}
    for number, fold in enumerate(_folds(lab), 1):
        chosen = SETS[number - 1]
        one = Trained(
            _run(lab, f"augment-{number}-{chosen}", network(lab, augment=chosen), fold.data),
            fold,
            number,
        )
        words = words_of.as_named(chosen, {"augment": chosen}, one.estimator)
        made[f"fold {number}, {words}"] = one
        plain[f"fold {number}, without"] = _base(lab, fold, number)
    rows, each = [], []
    for (words, one), (other_words, other) in zip(made.items(), plain.items(), strict=True):
        k = one.number - 1
        rows += _rows(other_words, other, FOLDS_REPORTED[k])
        rows += _rows(words, one, SETS_REPORTED[k])
        aucs = [f"{_number(found.auc)}{_mark([one], 'test')}" for found in one.report.per_class]
        initials = "".join(found.name[:1] for found in one.report.per_class).casefold()
        each.append([words, *aucs])
        if initials == CLASSES:
            each.append(["in the report", *AUC_REPORTED[k]])
    names = [found.name for found in one.report.per_class]
    ests = [trained.estimator for trained in made.values()]
    tests = [
        (first, one, "without a set", other)
        for (first, one), other in zip(made.items(), plain.values(), strict=True)
    ]
    return Section(
        title="Augmentation",
        method=(
            "Each set on a fold of its own, as in the report, so that sets and folds cannot be "
            f"told apart{_twice(ests)}. {_sets(ests)} All else is alike: "
            f"{_trained_words(next(iter(plain.values())))} "
            f"{_mark_words(list(made.values()))}"
        ),
        choices=_augmented_choices(lab, plain, made),
        findings=[*_tests(tests), *_collapsed({**plain, **made})],
        tables=[
            Table("Augmentation sets", _head("Fold and set"), rows),
            Table("AUC of each class", ["Fold and set", *names], each),
        ],
        figures=[
            _curves("augmented", "Training with each set.", made),
            _curves("not-augmented", "Training of the same folds without.", plain),
        ],
    )


def _augmented_choices(
    lab: Workspace, plain: Mapping[str, Trained], made: Mapping[str, Trained]
) -> list[Choice]:
    n = len(next(iter(plain.values())).estimator.history_["loss"])
    used = {str(one.estimator.augment) for one in made.values()}
    choices = [
        lab.choice("Compared with", f"the same fold without a set, {count(n, 'epoch')}",
                   "The report compares with its folds of the first part, of 10 epochs.", "epochs"),
        lab.choice("Normalisation", "in every training, by ImageNet's mean and deviation",
                   "The report names it in its set of intensities."),
    ]  # fmt: skip
    if "distortion" in used:
        choices.append(lab.choice(
            "Affine map", "turn and shear up to 10 degrees, shift up to 10 %, scale 0.9 to 1.1",
            "The report gives its probability alone, 0.5.",
        ))  # fmt: skip
    return choices


def _twice(ests: list[Any]) -> str:
    names = [str(est.augment) for est in ests]
    again = len(set(names)) < len(names)
    return "; the same set on two folds shows how much is the folds'" if again else ""


def _sets(ests: list[Any]) -> str:
    names = dict.fromkeys(str(est.augment) for est in ests)
    known = [f"{one}: {DESCRIBED[one]}" for one in names if one in DESCRIBED]
    return words_of.sentences(f"{'; '.join(known)}.") if known else ""


def stopping(lab: Workspace) -> Section:
    """Compare early stopping and learning rate schedules, with times."""
    return _compared(lab, "Stopping and schedule", FIRST._replace(time="6:20"), STOPS)[0]


def losses(lab: Workspace) -> Section:
    """Compare cross entropy and focal loss."""
    return _compared(lab, "Loss", ROUNDED, LOSSES)[0]


def optimizers(lab: Workspace) -> Section:
    """Compare three optimizers with two losses, and a larger learning rate."""
    section, made = _compared(lab, "Optimizer", ROUNDED, OPTIMIZERS)
    return replace(section, findings=[*section.findings, *_steadiness(made)])


def batches(lab: Workspace) -> Section:
    """Compare batch sizes, with times."""
    return _compared(lab, "Size of the batches", ROUNDED._replace(time="6:55"), BATCHES)[0]


def regularisation(lab: Workspace) -> Section:
    """Compare dropout, L2 and early stopping."""
    return _compared(lab, "Regularisation", ROUNDED, REGULARISATION)[0]


def transfer(lab: Workspace) -> Section:
    """Train a whole EfficientNet, or only its head."""
    weakest = _weakest(lab)
    made: dict[str, Trained] = {}
    rows = []
    wanted = {"variant": "b0", "width": None, "depth": None, **EFFICIENTNET}
    for words, changes, reported in TRANSFER:
        est = kmedclf.EfficientNetClassifier(**{**BASE, **EFFICIENTNET, **_own(lab), **changes})
        run = _run(lab, _folder(words, changes), est, weakest.fold.data)
        words = words_of.as_named(words, changes, run.estimator)
        made[words] = Trained(run, weakest.fold, weakest.number)
        rows += _rows(words, made[words], reported)
    est, data = run.estimator, weakest.fold.data
    (whole, one), (head, other) = made.items()
    described = "EfficientNet-B0, loss weighted by class, mirroring and rotation"
    return Section(
        title="Head alone against the whole network",
        method=(
            f"{words_of.as_named(described, _those_of(wanted), est)}; on fold {weakest.number}, as "
            f"the comparisons before. {words_of.training(est, data)} {_start(est)} "
            f"{_mark_words(list(made.values()))}"
        ),
        choices=[
            lab.choice("Fold", f"{weakest.number}", "The report names none here."),
            lab.choice("Balance", _weighted(est), "The report speaks of balanced classes.",
                       "class_weight"),
        ],
        findings=[
            *_tests([(head, other, whole, one)]),
            *(["A head alone on random weights says little of transfer."]
              if est.weights is None else []),
            *_collapsed(made),
        ],
        tables=[Table("What is trained", _head("Trained"), rows)],
        figures=[_curves("transfer", "Training of both.", made)],
    )  # fmt: skip


def _weighted(est: Any) -> str:
    weights = est.class_weight
    return "a class weighs n / (k × count)" if weights == "balanced" else f"weights {weights}"


def _those_of(wanted: dict[str, Any]) -> dict[str, Any]:
    """Replace None by the default values of EfficientNet."""
    usual = kmedclf.EfficientNetClassifier().get_params()
    return {name: usual[name] if value is None else value for name, value in wanted.items()}


# -- what the report says, tested ------------------------------------------------------------------


class Claim(NamedTuple):
    """A statement of the report: two trainings by their folders, and both accuracies there.

    ``second`` is a folder, or the number of the fold whose longer training is compared with, 0 for
    the weakest one.
    """

    part: str
    words: str
    first: str
    second: str | int
    there: tuple[float, float]


CLAIMS = (
    Claim("2.1", "A loss weighted by class is better", "loss-weighted-by-class", 0,
          (0.7766, 0.736)),
    Claim("2.2", "Augmented copies are better", "minority-augmented", 0, (0.7892, 0.736)),
    Claim("2.2, 5.5", "Duplicates are worse; in 5.5: better", "minority-duplicated", 0,
          (0.7614, 0.736)),
    Claim("3, 5.5", "Flips and rotation are better", "augment-1-basic", 1, (0.7686, 0.736)),
    Claim("3", "Changed intensities are worse", "augment-2-intensity", 2, (0.6853, 0.7538)),
    Claim("3", "Distortions are worse", "augment-3-distortion", 3, (0.7157, 0.764)),
    Claim("3", "Blur (no statement)", "augment-4-blur", 4, (0.6929, 0.7437)),
    Claim("3, 5.5", "Flips and rotation are better", "augment-5-basic", 5, (0.764, 0.7614)),
    Claim("4.1", "Early stopping is better", "early-stopping", 0, (0.7538, 0.736)),
    Claim("4.2", "A step schedule is better; in 5.5: no change", "step-schedule", 0,
          (0.7538, 0.736)),
    Claim("5.1", "Focal loss of gamma 3 is better", "focal-alpha-1-gamma-3", 0, (0.75, 0.73)),
    Claim("5.2", "Adam is better than SGD", "adam", 0, (0.75, 0.73)),
    Claim("5.2", "RMSprop is better than SGD", "rmsprop", 0, (0.76, 0.73)),
    Claim("5.2", "Adam with focal loss is like SGD with it", "adam-focal", "focal-alpha-1-gamma-3",
          (0.77, 0.75)),
    Claim("5.2", "RMSprop with focal loss is worse than SGD with it", "rmsprop-focal",
          "focal-alpha-1-gamma-3", (0.73, 0.75)),
    Claim("5.3", "Batches of 16 are better", "batches-of-16", 0, (0.77, 0.73)),
    Claim("5.3", "Larger batches are worse; 64 in its table: better", "batches-of-64", 0,
          (0.76, 0.73)),
    Claim("5.3", "Larger batches are worse; 128 in its table: better", "batches-of-128", 0,
          (0.75, 0.73)),
    Claim("5.4", "L2 is worse, decay 0.01", "L2-decay-0.01", 0, (0.72, 0.73)),
    Claim("5.4", "L2 is worse, decay 0.0001", "L2-decay-0.0001", 0, (0.71, 0.73)),
    Claim("5.4", "Dropout is worse", "dropout-0.3", 0, (0.69, 0.73)),
    Claim("6", "A head alone is worse than the whole network", "its-head-alone",
          "whole-EfficientNet", (0.60, 0.77)),
    Claim("6.1", "The whole EfficientNet is about the ResNet's best", "whole-EfficientNet",
          "minority-augmented", (0.77, 0.7892)),
)  # fmt: skip
ALPHA = 0.05


def discussion(lab: Workspace) -> Section:
    """Test what the report says of its networks, on those that were trained here."""
    found = [(claim, *made) for claim in CLAIMS if (made := _claim_pair(lab, claim)) is not None]
    corrected = holm([pair.p for _, pair, _, _ in found])
    rows, verdicts = [], []
    for (claim, pair, clean, mark), p in zip(found, corrected, strict=True):
        there = claim.there[0] - claim.there[1]
        same = pair.difference.value * there > 0  # type: ignore[operator]
        verdicts.append("not told apart" if p >= ALPHA else "the same" if same else "the opposite")
        rows.append([claim.part, claim.words, f"{there:+.3f}", _signed(pair.difference, mark),
                     _signed(Estimate(clean)), p_text(p), verdicts[-1]])  # fmt: skip
    n = {one: verdicts.count(one) for one in ("the same", "the opposite", "not told apart")}
    missing = len(CLAIMS) - len(found)
    return Section(
        title="Discussion",
        method=(
            "Statements of the report about pairs of its trainings, and the same pairs here: the "
            "difference of their test accuracies, McNemar's exact test and Holm's correction for "
            f"all pairs of the table, at {ALPHA:g}. {_copies_words(found)}\n\n"
            "Three things make such differences look surer than they are. One training each: "
            "another seed alone moves an accuracy. Test images count as independent, which slices "
            "of one patient are not. And the fold of most comparisons was chosen for its low test "
            "accuracy, as in the report: a low score seldom repeats. Where the report's text and "
            "its tables differ, the figures are those of its tables."
        ),
        findings=[
            (
                f"{count(len(found), 'statement')} tested: here "
                + ", ".join(f"{number} {verdict}" for verdict, number in n.items()) + "."
                if found
                else "Nothing to discuss: the items that train the pairs were not asked for."
            ),
            *([f"Pairs of the report that were not trained here: {missing}."] if missing else []),
        ],
        tables=[Table("Statements of the report", ["Part", "Statement", "There", "Here, 95 % "
                "interval", "Without copies", "p, Holm", "Here it is"], rows)] if rows else [],
    )  # fmt: skip


def _copies_words(found: Sequence[tuple[Any, ...]]) -> str:
    if not any(mark for *_, mark in found):
        return ""
    return (
        f"{MARK.strip()} stands beside differences on images with near copies among the training "
        "images; without copies leaves these out."
    )


def _claim_pair(lab: Workspace, claim: Claim) -> tuple[Pair, float | None, str] | None:
    """Compare the trainings of a claim, if both ran, on all test images and without copies.

    The last is the mark of the first.
    """
    several = _folds(lab)
    second = claim.second
    number = second if isinstance(second, int) and second else _known_weakest(lab)
    if number is None or number > len(several):
        return None
    if isinstance(second, int):
        second = next((one for one in _base_names(number) if one in lab.results), "")
    if claim.first not in lab.results or second not in lab.results:
        return None
    one, two = (
        Report.from_json(lab.out / name / "evaluation-test.json") for name in (claim.first, second)
    )
    pair = pair_of(claim.first, second, one, two, 1000, 0)
    kept = ~several[number - 1].copied["test"]
    clean = float(one.right[kept].mean() - two.right[kept].mean()) if kept.any() else None
    return pair, clean, "" if kept.all() else MARK


def _known_weakest(lab: Workspace) -> int | None:
    """Return the weakest fold, without training one."""
    names = [f"fold-{number}" for number in range(1, len(_folds(lab)) + 1)]
    return _weakest(lab).number if all(name in lab.results for name in names) else None


# -- trainings -------------------------------------------------------------------------------------


def network(lab: Workspace, **changes: Any) -> kmedclf.DeepResNetClassifier:
    """Build the ResNet-18 that all items but the last one train."""
    return kmedclf.DeepResNetClassifier(**{**BASE, **_own(lab), **changes})


def _own(lab: Workspace) -> dict[str, Any]:
    """Return the parameters that the data decide, and the start."""
    # The report's ImageNet stem, unless the images are too small for it
    small = min(lab.data.description["image_shape"][:2]) < 32
    return {
        "stem": "small" if small else "imagenet",
        "weights": "imagenet",
        "random_state": lab.seed,
    }


def _run(lab: Workspace, name: str, est: ImageClassifier, data: sources.Data) -> runs.Run:
    return lab.train(name, est, data, page=False)


def _copies(lab: Workspace) -> subsets.Copies:
    return lab.once("copies", lambda: subsets.Copies.of(lab.data))


def _folds(lab: Workspace) -> list[subsets.Fold]:
    def cut() -> list[subsets.Fold]:
        return _copies(lab).folds(lab.data, N_FOLDS, lab.seed)

    return list(lab.some(lab.once("folds", cut)))


def _trained(lab: Workspace) -> list[Trained]:
    return [
        Trained(_run(lab, f"fold-{number}", network(lab, **SHORT), fold.data), fold, number)
        for number, fold in enumerate(_folds(lab), 1)
    ]


def _weakest(lab: Workspace) -> Trained:
    """Return the fold with the lowest test accuracy; of several, the first."""
    number = lab.once(
        "weakest", lambda: min(_trained(lab), key=lambda one: one.report.accuracy).number
    )
    fold = _folds(lab)[number - 1]
    return Trained(_run(lab, f"fold-{number}", network(lab, **SHORT), fold.data), fold, number)


def _base_names(number: int) -> tuple[str, str]:
    """Return the folders of a fold's longer training, and of the first one if that is as long."""
    return f"fold-{number}-longer", f"fold-{number}"


def _trains_longer(lab: Workspace) -> bool:
    """Say whether the later parts train longer than the first; not if the user set the epochs."""
    short, longer = (
        recipes.parameters(lab.prepared(network(lab, **changes))) for changes in (SHORT, {})
    )
    return short != longer


def _base(lab: Workspace, fold: subsets.Fold, number: int) -> Trained:
    """Train a fold as the later parts of the report do; the same run, if that is no longer."""
    name = _base_names(number)[not _trains_longer(lab)]
    return Trained(_run(lab, name, network(lab), fold.data), fold, number)


BASE_WORDS = "as it is"


def _compared(
    lab: Workspace, title: str, first: Reported, choices: Sequence[Variant]
) -> tuple[Section, dict[str, Trained]]:
    """Train on the weakest fold, with one choice changed at a time."""
    weakest = _weakest(lab)
    base = _base(lab, weakest.fold, weakest.number)
    made, rows = {BASE_WORDS: base}, []
    if _trains_longer(lab):
        rows += _rows(f"{BASE_WORDS}, {_epochs(base)}", base)
        rows += _rows(f"as in the folds, {_epochs(weakest)}", weakest, first)
    else:
        rows += _rows(BASE_WORDS, base, first)
    keys = {key for choice in choices for key in choice.changes}
    for words, changes, reported in lab.some(choices):
        planned = recipes.parameters(network(lab, **changes))
        run = _run(lab, _folder(words, changes), network(lab, **changes), weakest.fold.data)
        words = words_of.as_named(words, {key: planned[key] for key in sorted(keys)}, run.estimator)
        made[words] = Trained(run, weakest.fold, weakest.number)
        rows += _rows(words, made[words], reported)
    tests = [(words, one, BASE_WORDS, base) for words, one in made.items() if one is not base]
    section = Section(
        title=title,
        method=f"{_on_the_weakest(lab, weakest, base)} {_mark_words([base])}",
        choices=_choices(lab, weakest, made),
        findings=[*_tests(tests), *_collapsed(made)],
        tables=[Table(title, _head("Choice"), rows)],
        figures=[_curves(title.replace(" ", "-").lower(), "Training of every choice.", made)],
    )
    return section, made


def _folder(words: str, changes: dict[str, Any]) -> str:
    """Name the folder of a training; the same training in another table has one folder."""
    tables = (IMBALANCE, STOPS, LOSSES, OPTIMIZERS, BATCHES, REGULARISATION, TRANSFER)
    every = [choice for table in tables for choice in table]
    words = next(one.words for one in every if one.changes == changes)
    return words.replace(",", "").replace(" ", "-")


def _ways(lab: Workspace) -> dict[str, list[Trained]]:
    """Train the folds of the data with their copies, without, and with copies kept together."""
    found = lab.as_found or lab.data
    kept = "copies_left_out" not in lab.data.description
    clean = subsets.without_copies(found) if kept else lab.data
    ways = {}
    if clean.description["copies_left_out"]:
        own = "" if kept else "-as-found"
        ways["copies as found, random folds"] = _all_folds(lab, "as found", found, own)
    own = "-without-copies" if kept and clean.description["copies_left_out"] else ""
    ways["identical images left out, random folds"] = _all_folds(lab, "clean", clean, own)
    ways["identical images left out, copies kept together"] = _all_folds(
        lab, "clean", clean, "-together", grouped=True
    )
    return ways


def _all_folds(
    lab: Workspace, what: str, data: sources.Data, ending: str, *, grouped: bool = False
) -> list[Trained]:
    found = lab.once(f"copies, {what}", lambda: subsets.Copies.of(data))
    several = lab.some(found.folds(data, N_FOLDS, lab.seed, grouped=grouped))
    return [
        Trained(_run(lab, f"fold-{number}{ending}", network(lab, **SHORT), fold.data), fold, number)
        for number, fold in enumerate(several, 1)
    ]


# -- tables ----------------------------------------------------------------------------------------


def _head(first: str) -> list[str]:
    return [first, "Precision", "Recall", "F1", "Accuracy, 95 % interval", "AUC",
            "Accuracy without copies", "Validation", "Epochs", "min:s"]  # fmt: skip


def _rows(words: str, one: Trained, reported: Reported = NOTHING) -> list[list[str]]:
    """Return the row of a training, and below it that of the report, if there is one."""
    scores, mark = one.report.scores, _mark([one], "test")
    precision, recall, f1, _, auc = (f"{_number(scores.get(name))}{mark}" for name in SCORES)
    ours = [
        words, precision, recall, f1, _with_interval(scores["accuracy"], mark), auc,
        _number(_clean(one)),
        f"{_number(one.of('val').scores['accuracy'])}{_mark([one], 'val')}",
        str(len(one.estimator.history_["loss"])), clock(one.run.seconds),
    ]  # fmt: skip
    if reported == NOTHING:
        return [ours]
    return [ours, ["in the report", *reported[:5], "–", reported.val, "–", reported.time]]


def _mean_rows(made: Sequence[Trained]) -> list[list[str]]:
    mark = _mark(made, "test")
    means = [_spread([one.report.scores.get(name) for one in made], mark) for name in SCORES]
    val = _spread([one.of("val").scores["accuracy"] for one in made], _mark(made, "val"))
    seconds = sum(one.run.seconds for one in made) / len(made)
    return [
        ["mean ± std", *means, _spread([_clean(one) for one in made]),
         val, "–", clock(seconds)],
        ["in the report", *MEAN_REPORTED[:5], "–", "–", "–", "–"],
    ]  # fmt: skip


def _way_row(words: str, made: Sequence[Trained]) -> list[str]:
    n = [one.fold.data.description["n"] for one in made]
    val = np.concatenate([one.fold.copied["val"] for one in made])
    test = np.concatenate([one.fold.copied["test"] for one in made])
    return [
        words,
        f"{n[0]['train'] + n[0]['val']:,}",
        f"{100 * val.mean():.1f} %",
        _spread([one.of("val").scores["accuracy"] for one in made], _mark(made, "val")),
        f"{100 * test.mean():.1f} %",
        _spread([one.report.scores["accuracy"] for one in made], _mark(made, "test")),
        _spread([_clean(one) for one in made]),
        _spread([_clean(one, "balanced_accuracy") for one in made]),
    ]


def _number(found: Estimate | None) -> str:
    return "–" if found is None or found.value is None else f"{found.value:.3f}"


def _with_interval(found: Estimate, mark: str) -> str:
    """Format a score; the mark stands beside the number, before its interval."""
    number, bracket, interval = str(found).partition(" [")
    return f"{number}{mark}{bracket}{interval}"


def _signed(found: Estimate, mark: str = "") -> str:
    if found.value is None:
        return "–"
    ends = "" if found.low is None else f" [{found.low:+.3f}, {found.high:+.3f}]"
    return f"{found.value:+.3f}{mark}{ends}"


def _spread(found: Sequence[Estimate | None], mark: str = "") -> str:
    values = [one.value for one in found if one is not None and one.value is not None]
    if len(values) < len(found):
        return "–"
    mean, _, deviation = spread(values, 3).partition(" ")
    return f"{mean}{mark} {deviation}"


def _clean(one: Trained, name: str = "accuracy") -> Estimate | None:
    """Score a training on the test images that are no copies of what it was trained on."""
    report, kept = one.report, ~one.fold.copied["test"]
    if kept.all() or not kept.any():
        return report.scores.get(name) if kept.any() else None
    return _scored(report, kept).scores.get(name)


def _scored(report: Report, kept: np.ndarray) -> Report:
    found = evaluate_predictions(
        report.y_true[kept], report.proba[kept], classes=report.classes, n_bootstrap=0
    )
    assert isinstance(found, Report)
    return found


def _mark(made: Sequence[Trained], split: str) -> str:
    return MARK if any(one.fold.copied[split].any() for one in made) else ""


# -- sentences -------------------------------------------------------------------------------------


def _mark_words(made: Sequence[Trained]) -> str:
    """Say what the mark beside a score means, and how many images it is about."""
    said = [
        f"{_range([int(one.fold.copied[split].sum()) for one in made])} of the "
        f"{_range([len(one.fold.copied[split]) for one in made])} {name} images"
        for split, name in (("test", "test"), ("val", "validation"))
        if _mark(made, split)
    ]
    if not said:
        return "No test or validation image here is a near copy of a training image."
    return (
        f"{MARK.strip()} stands beside scores on images with near copies among the training "
        f"images: {' and '.join(said)}."
    )


def _range(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _are(n: int, what: str) -> str:
    return f"{count(n, what)} {'is' if n == 1 else 'are'}"


def _flattered(made: Sequence[Trained]) -> str:
    if not _mark(made, "test"):
        return ""
    copied = _range([int(one.fold.copied["test"].sum()) for one in made])
    clean = _spread([_clean(one) for one in made])
    n = made[0].report.n
    return (
        f", with {copied} of the {n:,} test images near copies of training images; "
        f"{clean} without these"
    )


def _fit_words(made: Sequence[Trained]) -> list[str]:
    """Compare training and validation in the last epoch, the report's sign of overfitting."""
    ends = {
        name: float(np.mean([one.estimator.history_[name][-1] for one in made]))
        for name in ("accuracy", "val_accuracy", "loss", "val_loss")
    }
    return [
        f"In the last epoch, accuracy is {ends['accuracy']:.3f} in training and "
        f"{ends['val_accuracy']:.3f}{_mark(made, 'val')} in validation, and the loss "
        f"{ends['loss']:.3f} and {ends['val_loss']:.3f} (means of the folds)."
    ]


def _hardest(made: Sequence[Trained]) -> list[str]:
    """Name the class that is recognised least often."""
    recalls = {
        found.name: [one.report.per_class[k].recall.value for one in made]
        for k, found in enumerate(made[0].report.per_class)
    }
    known = {name: values for name, values in recalls.items() if None not in values}
    if len(known) < 2:
        return []
    name = min(known, key=lambda one: float(np.mean(known[one])))  # type: ignore[arg-type]
    found = spread(known[name], 3)  # type: ignore[arg-type]
    return [f"The class that is recognised least often is {name}, recall {found}"
            f"{_mark(made, 'test')}."]  # fmt: skip


Tested = tuple[str, Trained, str, Trained]


def _tests(several: Sequence[Tested]) -> list[str]:
    """Test pairs of trainings on the test images, with Holm's correction, in sentences."""
    pairs = [pair_of(a, b, one.report, two.report, 1000, 0) for a, one, b, two in several]
    corrected = holm([pair.p for pair in pairs])
    holms = f", Holm's correction for {len(pairs)}" if len(pairs) > 1 else ""
    return [
        f"{words_of.sentences(a)} against {b}: test accuracy {_marked(one)} and {_marked(two)}, "
        f"difference {_signed(pair.difference)}, p {p_text(p)} (McNemar{holms}): they "
        f"{'differ' if p < ALPHA else 'cannot be told apart on these images'}."
        for (a, one, b, two), pair, p in zip(several, pairs, corrected, strict=True)
    ]


def _marked(one: Trained) -> str:
    return f"{_number(one.report.scores['accuracy'])}{_mark([one], 'test')}"


def _steadiness(made: Mapping[str, Trained]) -> list[str]:
    """Say how much validation moves from epoch to epoch, and when it is near its best."""
    curves = {words: one.estimator.history_["val_accuracy"] for words, one in made.items()}
    curves = {words: np.asarray(one) for words, one in curves.items() if len(one) > 1}
    if not curves:
        return []
    moves = [f"{words} {np.abs(np.diff(one)).mean():.3f}" for words, one in curves.items()]
    first = [
        f"{words} {int(np.argmax(one >= 0.98 * one.max())) + 1}" for words, one in curves.items()
    ]
    return [
        f"From one epoch to the next, accuracy in validation moves by (means): {'; '.join(moves)}.",
        f"It first reaches 98 % of its best in epoch: {'; '.join(first)}.",
    ]


def _collapsed(made: Mapping[str, Trained]) -> list[str]:
    said = words_of.collapsed({words: one.run for words, one in made.items()})
    return [words_of.sentences(one) for one in said]


def _collapsed_ways(ways: Mapping[str, Sequence[Trained]]) -> list[str]:
    return _collapsed(
        {f"{words}, fold {one.number}": one for words, made in ways.items() for one in made}
    )


def _out_of_fold(ways: Mapping[str, list[Trained]]) -> list[str]:
    """Compare random folds with copies kept together, image by image of those to fold."""
    (_, random), (_, together) = list(ways.items())[-2:]
    # A quick study trains some of the folds
    several = (np.concatenate([one.fold.rows for one in made]) for made in (random, together))
    rows = np.intersect1d(next(several), next(several))
    one, two = (_joint(made, rows) for made in (random, together))
    if not len(rows) or one.classes != two.classes:
        return []
    copied = _joint_mask(random, rows)
    said = []
    for words, kept in (
        (f"Of the {len(rows):,} images to fold, each scored by the network that it validates",
         np.ones(len(rows), bool)),
        (f"Of the {int(copied.sum()):,} of them that had a near copy in training in random folds",
         copied),
        (f"Of the {int((~copied).sum()):,} others", ~copied),
    ):  # fmt: skip
        if not kept.any():
            continue
        a, b = _scored(one, kept), _scored(two, kept)
        mark = MARK if copied[kept].any() else ""
        pair = pair_of("random", "together", a, b, 1000, 0)
        said.append(
            f"{words}: {a.accuracy:.3f}{mark} right with random folds and {b.accuracy:.3f} with "
            f"copies kept together, difference {_signed(pair.difference)}, "
            f"p {p_text(pair.p)} (McNemar)."
        )
    return said


def _joint(made: Sequence[Trained], rows: np.ndarray) -> Report:
    """Join the validations of several folds into one report of the images ``rows``."""
    reports = [one.of("val") for one in made]
    where = np.concatenate([one.fold.rows for one in made])
    order = np.searchsorted(where, rows, sorter=np.argsort(where))
    order = np.argsort(where)[order]
    found = evaluate_predictions(
        np.concatenate([one.y_true for one in reports])[order],
        np.concatenate([one.proba for one in reports])[order],
        classes=reports[0].classes,
        n_bootstrap=0,
    )
    assert isinstance(found, Report)
    return found


def _joint_mask(made: Sequence[Trained], rows: np.ndarray) -> np.ndarray:
    where = np.concatenate([one.fold.rows for one in made])
    copied = np.concatenate([one.fold.copied["val"] for one in made])
    return copied[np.argsort(where)[np.searchsorted(np.sort(where), rows)]]


def _on_the_weakest(lab: Workspace, weakest: Trained, base: Trained) -> str:
    scores = [lab.results[f"fold-{n}"]["scores"]["test"]["accuracy"]["value"]
              for n in range(1, len(_folds(lab)) + 1)]  # fmt: skip
    lowest = "the one" if scores.count(min(scores)) == 1 else "the first of those"
    return (
        f"On fold {weakest.number}, of the {len(scores)} trained {lowest} with the lowest test "
        f"accuracy. What a row does not name is as here: {_trained_words(base)} One training each."
    )


def _trained_words(one: Trained) -> str:
    """Describe a training behind a colon."""
    words = words_of.training(one.estimator, one.fold.data)
    return words[:1].lower() + words[1:]


class Open(NamedTuple):
    """What the report leaves open of trainings with certain parameters, and their names."""

    when: Callable[[dict[str, Any]], bool]
    what: str
    taken: str
    why: str
    names: tuple[str, ...] = ()


OPEN = (
    Open(lambda used: used["class_weight"] == "balanced", "Weights of classes",
         "a class weighs n / (k × count)", "The report does not say how it computes them.",
         ("class_weight",)),
    Open(lambda used: used["oversample"] == "augment", "What is augmented", "the copies alone",
         "The report says images.", ("oversample",)),
    Open(lambda used: "crop" in str(used["augment"]), "Crop", "80 to 100 % of the area",
         "The report gives a scale in its third part alone.", ("augment",)),
    Open(lambda used: all(used.get(name) == value for name, value in STOPPING.items())
         and used["restore_best"], "Early stopping",
         "a loss is compared with the best so far, whose weights stay",
         "The report speaks of the difference between epochs, and not of weights."),
    Open(lambda used: used["optimizer"] != "sgd", "The rest of an optimizer", "Keras' defaults",
         "The report gives learning rates alone.", ("optimizer",)),
    Open(lambda used: used["learning_rate"] == 0.01, "Larger learning rate", "0.01",
         "The report says that a larger one did worse, and gives no figures.",
         ("learning_rate",)),
    Open(lambda used: used["loss"] == "focal" and used["focal_gamma"] == 3
         and used["optimizer"] != "sgd", "Focal loss", "gamma 3",
         "It was the report's best, whatever is best here.", ("loss", "focal_gamma")),
    Open(lambda used: used["l2"] > 0, "Decay",
         "that share of a kernel is added to its gradient", "So does the decay of PyTorch.",
         ("l2",)),
    Open(lambda used: used["dropout"] > 0, "Dropout", "before the last layer",
         "The report gives a probability alone.", ("dropout",)),
)  # fmt: skip


def _choices(lab: Workspace, weakest: Trained, made: Mapping[str, Trained]) -> list[Choice]:
    """Mark what the report leaves open of the trainings that are compared."""
    base = made[BASE_WORDS]
    used = [recipes.parameters(one.estimator) for one in made.values()]
    found = [lab.choice("Fold", f"{weakest.number}, the weakest by test accuracy",
                        "The report says so of its fourth and fifth part.")]  # fmt: skip
    if _trains_longer(lab):
        found.append(lab.choice(
            "Compared with", f"{BASE_WORDS}, {_epochs(base)}",
            "The report's row has the scores of its fold after 10 epochs but, where it gives one, "
            "about the time of 20.", "epochs",
        ))  # fmt: skip
    found += [
        lab.choice(one.what, one.taken, one.why, *one.names)
        for one in OPEN
        if any(map(one.when, used))
    ]
    return found


def _epochs(one: Trained) -> str:
    return count(len(one.estimator.history_["loss"]), "epoch")


def _curves(name: str, words: str, made: Mapping[str, Trained]) -> Figure:
    drawn = plots.small_multiples(
        [one.estimator.history_ for one in made.values()], names=list(made)
    )
    return Figure.of(name, words, drawn)


def _class_names(data: sources.Data) -> list[str]:
    every = np.unique(np.concatenate([np.ravel(y) for _, y in data.splits.values()]))
    return data.names_of(every.tolist())


def _network_words(est: kmedclf.DeepResNetClassifier, data: sources.Data) -> str:
    return (
        f"ResNet-{est.depth}, {est.n_params_:,} parameters. {words_of.training(est, data)} "
        f"{_start(est)}"
    )


def _of_all(made: Sequence[Trained]) -> str:
    """Say so if not all folds were trained."""
    return "" if len(made) == N_FOLDS else f", of which the first {len(made)} are trained"


def _start(est: Any) -> str:
    words = f"From {words_of.start(est)}."
    if est.weights is None:
        words += (
            " The report started from ImageNet weights, for which its learning rate and epochs "
            "are: its scores are not to be compared with these."
        )
    return words


STUDY = Study(
    name="brain",
    title="Brain MRI: folds on one test set, and what training can change",
    data="synthetic-brains",
    items=(
        images, folds, copies, imbalance, augmentation, stopping, losses, optimizers, batches,
        regularisation, transfer, discussion,
    ),
    unique=True,
    pretrained={
        **{
            item.__name__: (lambda: kmedclf.DeepResNetClassifier(weights="imagenet"),)
            for item in (
                folds, copies, imbalance, augmentation, stopping, losses, optimizers, batches,
                regularisation, transfer,
            )
        },
        "transfer": (
            lambda: kmedclf.DeepResNetClassifier(weights="imagenet"),
            lambda: kmedclf.EfficientNetClassifier(weights="imagenet"),
        ),
    },
)  # fmt: skip
