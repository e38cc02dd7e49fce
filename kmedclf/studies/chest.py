"""Chest X-rays: three networks, and the leak from mirroring before the split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

import kmedclf
from kmedclf import evaluation, recipes, runs
from kmedclf.datasets import sources
from kmedclf.evaluation import plots
from kmedclf.studies import subsets
from kmedclf.studies import words as words_of
from kmedclf.studies.dataset import NAMES, Reported, counts, distribution, places
from kmedclf.studies.section import Choice, Figure, Section, Table, score
from kmedclf.studies.study import Study, Workspace
from kmedclf.utils.text import clock

SHARED: dict[str, Any] = {
    "optimizer": "adam", "learning_rate": 0.001, "batch_size": 32, "early_stopping": False,
    "augment": "mirror",
    "recipe": "reference",  # "auto" is "transfer" from ImageNet weights: other schedule and loss
}  # fmt: skip

PATTERNS = ("covid", "normal", "vir")
"""The report's classes, as `kmedclf.studies.dataset.places` finds them in other data."""
COUNTED: Reported = {
    "train + val + test": (590, 936, 866), "train": (416, 647, 611), "val": (90, 136, 132),
    "test": (84, 153, 123),
}  # fmt: skip
"""Images of the report, each with its mirror image, in the order of `PATTERNS`."""


HEAD = ["Test accuracy, 95 % interval", "F1, macro", "AUC, macro", "Validation", "Epochs", "min:s"]
"""Heads of the columns of `_cells`."""


class Published(NamedTuple):
    """What the report says of a network: accuracy; precision, recall and F1; test images."""

    accuracy: float
    by_class: tuple[tuple[float, float, float], ...]  # in the order of PATTERNS
    macro: tuple[float, float, float]
    weighted: tuple[float, float, float]
    support: tuple[int, int, int] = (84, 153, 123)


REPORTED = {
    "baseline": Published(
        0.89, ((0.82, 0.89, 0.86), (0.93, 0.93, 0.93), (0.89, 0.84, 0.86)),
        (0.88, 0.89, 0.88), (0.89, 0.89, 0.89),
    ),
    "resnet": Published(
        0.97, ((0.98, 0.96, 0.97), (0.99, 0.98, 0.98), (0.96, 0.98, 0.97)),
        (0.97, 0.97, 0.97), (0.98, 0.97, 0.98),
    ),
    "vit": Published(
        0.90, ((0.98, 0.96, 0.97), (0.88, 0.88, 0.88), (0.85, 0.87, 0.86)),
        (0.91, 0.90, 0.91), (0.90, 0.90, 0.90), (50, 69, 61),
    ),
}  # fmt: skip

ON_OTHERS = "the report tested its transformer on 180 images, the two others on 360"
CAVEAT = (
    "The report tested its transformer on 180 images and the two others on 360: its number stands "
    "in the same table, but cannot be compared with theirs."
)


def networks(seed: int) -> dict[str, Any]:
    """Build the three networks."""
    shared = {**SHARED, "random_state": seed}
    return {
        "baseline": kmedclf.ConvNetClassifier(
            filters=(8, 16), kernel_size=3, padding=1, batch_norm="all", pool_size=2,
            global_pooling="max", epochs=30, **shared,
        ),
        "resnet": kmedclf.DeepResNetClassifier(depth=18, epochs=30, **shared),
        "vit": _transformer(**shared),
    }  # fmt: skip


def _cells(run: runs.Run) -> list[Any]:
    """Return the columns that every network of a study has."""
    return [
        str(run.reports["test"].scores["accuracy"]),
        score(run, "f1_macro"),
        score(run, "auc_macro"),
        score(run, split="val"),
        str(len(run.estimator.history_["loss"])),
        clock(run.seconds),
    ]


def _transformer(**parameters: Any) -> kmedclf.ViTClassifier:
    return kmedclf.ViTClassifier(**{**SHARED, "weights": "imagenet", "epochs": 10, **parameters})


# -- items -----------------------------------------------------------------------------------------


def images(lab: Workspace) -> Section:
    """Count the images of each class in each split, and show one of each class."""
    return distribution(
        lab,
        COUNTED,
        PATTERNS,
        method=(
            "The report's images are X-rays of chests: covid, normal, or pneumonia by another "
            "virus. It had 1,196 and counts each of them twice, once mirrored; here every image is "
            "counted once."
        ),
        choices=_drawn(lab.data),
    )


def approaches(lab: Workspace) -> Section:
    """Train and compare all three networks."""
    made = {name: lab.train(name, est) for name, est in networks(lab.seed).items()}
    reports = {name: run.reports["test"] for name, run in made.items()}
    rows = [[name, *_cells(run), f"{REPORTED[name].accuracy:.2f}",
             f"{sum(REPORTED[name].support)}"] for name, run in made.items()]  # fmt: skip
    found = evaluation.compare(
        reports,
        parameters={name: run.estimator.n_params_ for name, run in made.items()},
        seconds={name: run.seconds for name, run in made.items()},
    )
    ests = [run.estimator for run in made.values()]
    return Section(
        title="Three approaches",
        method=(
            f"{_networks(made)}\n\n"
            + words_of.sentences(
                _side(lab.data),
                words_of.shared(ests, lab.data),
                words_of.each(lambda one: words_of.stopping(one, lab.data), ests),
                _start(made),
            )
        ),
        choices=_choices(lab, made),
        tables=[
            Table(
                f"Test images; {ON_OTHERS}",
                ["Network", *HEAD, "Report: accuracy", "Report: test images"],
                rows,
            ),
            *(_classes(name, run) for name, run in made.items()),
        ],
        figures=_figures(made),
        findings=[CAVEAT, *_beside(made), *words_of.collapsed(made)],
        comparison=found,
        pages={f"Report page of {name}": f"{name}/report.html" for name in made},
    )


def leak(lab: Workspace) -> Section:
    """Mirror before the split, as the report may have done, and show the effect."""
    leaking, twins = mirrored_before_split(lab.data, lab.seed)
    honest, leaked = {}, {}
    for name in lab.some(list(REPORTED)):
        honest[name] = lab.train(name, networks(lab.seed)[name])
        # The mirror images are in the pool already.
        est = networks(lab.seed)[name].set_params(augment=False)
        leaked[name] = lab.train(f"{name}-leak", est, leaking, page=False)
    return Section(
        title="Mirroring before the split: a leak",
        method=(
            "The report doubled its images by mirroring, and then split them at random, as far as "
            f"it says. Here {', '.join(leaked)} are trained in that way, too: all images and their "
            f"mirror images in one pool of {2 * _n_images(lab.data):,}, of which 15 % of each "
            "class validate and 15 % test. A test image whose mirror image was trained on is no "
            "unseen image."
        ),
        findings=[
            f"{twins.sum():,} of {len(twins):,} test images have their mirror image in training.",
            *(_with_and_without(name, leaked[name], honest[name]) for name in leaked),
            *words_of.collapsed({f"{name}-leak": run for name, run in leaked.items()}),
        ],
        tables=[_leaks(leaked, honest, twins), _pool(leaking)],
    )


def _n_images(data: sources.Data) -> int:
    return sum(len(y) for _, y in data.splits.values())


def _with_and_without(name: str, leaked: runs.Run, honest: runs.Run) -> str:
    found = [str(run.reports["test"].scores["accuracy"]) for run in (leaked, honest)]
    return (
        f"{name}: test accuracy {found[0]} with the leak, {found[1]} without it; the test images "
        f"are not the same. {_augmented('With the leak', leaked)} {_augmented('Without', honest)}"
    )


def _augmented(which: str, run: runs.Run) -> str:
    words = words_of.augmentation(run.estimator)
    return f"{which}: {words[0].lower()}{words[1:]}"


def _leaks(
    leaked: Mapping[str, runs.Run], honest: Mapping[str, runs.Run], twins: np.ndarray
) -> Table:
    """Compare test images whose mirror image was trained on with the others."""
    rows = []
    for name, run in leaked.items():
        right = run.reports["test"].right
        parts = [f"{right[mask].mean():.4f}" if mask.any() else "–" for mask in (twins, ~twins)]
        both = [str(one.reports["test"].scores["accuracy"]) for one in (run, honest[name])]
        rows.append([name, *parts, *both, f"{REPORTED[name].accuracy:.2f}"])
    head = ["Network", "Mirror image in training", "Other test images", "All, with the leak",
            "Without the leak", "Report"]  # fmt: skip
    return Table("Accuracy with the leak, and without it", head, rows)


def _drawn(data: sources.Data) -> list[Choice]:
    """Say how splits were drawn, if any was."""
    seed = data.description.get("split_seed")
    if seed is None:
        return []
    own = "the test images are the set's own; validation images "
    which = own if "validation_drawn" in data.description else ""
    return [
        Choice(
            "How splits are drawn",
            f"{which}at random within each class, seed {seed}",
            "The report draws 70, 15 and 15 %, and does not say how.",
        )
    ]


# -- words -----------------------------------------------------------------------------------------


def _networks(made: Mapping[str, runs.Run]) -> str:
    """Describe the three networks by their parameters."""
    baseline, resnet, vit = (made[name].estimator for name in ("baseline", "resnet", "vit"))
    layers = len(baseline.filters) if isinstance(baseline.filters, tuple | list) else 1
    norm = {"all": "every one", "first": "the first", "none": "none"}
    way = baseline.global_pooling
    pooled = "no pooling" if way == "none" else f"{way}-pooling"
    return (
        f"baseline: {layers} convolutions of {words_of.shown(baseline.filters)} kernels of "
        f"{words_of.shown(baseline.kernel_size)} pixels, padding "
        f"{words_of.shown(baseline.padding)}, {baseline.activation} and max-pooling of "
        f"{words_of.shown(baseline.pool_size)} behind each, batch norm in "
        f"{norm[baseline.batch_norm]}; then "
        f"{pooled} over the whole image, and a dense layer of one neuron for each class; "
        f"{baseline.n_params_:,} parameters.\n\n"
        f"resnet: ResNet-{resnet.depth}, four stages of blocks with a shortcut around each, every "
        "stage but the first halving the image and doubling the kernels; the average over the "
        f"image; a dense layer; {resnet.n_params_:,} parameters.\n\n"
        f"vit: a vision transformer of {vit.num_layers} layers, {vit.n_params_:,} parameters."
    )


def _side(data: sources.Data) -> str:
    height, width = data.description["image_shape"][:2]
    other = "" if (height, width) == (224, 224) else "; the report's have 224 × 224"
    return f"Images of {height} × {width} pixels{other}."


def _start(made: Mapping[str, runs.Run]) -> str:
    starts = [f"{name} from {words_of.start(run.estimator)}" for name, run in made.items()]
    words = f"Starts: {', '.join(starts)}."
    if made["vit"].estimator.weights is None:
        words += " The report's transformer was pretrained, and got a new head: a difference."
    return words


def _choices(lab: Workspace, made: Mapping[str, runs.Run]) -> list[Choice]:
    """Mark what the report leaves open."""
    ests = [run.estimator for run in made.values()]
    epochs = [f"{name} {run.estimator.epochs}" for name, run in made.items()]
    schedules = dict.fromkeys(str(recipes.parameters(est)["lr_schedule"] or "none") for est in ests)
    rate = (
        "that of Adam, which scales each step by its gradients; no schedule"
        if list(schedules) == ["none"]
        else f"schedule {' or '.join(schedules)}"
    )
    kept = any(recipes.parameters(est)["early_stopping"] for est in ests)
    return [
        lab.choice(
            "Adaptive rate", rate,
            "The slide lists it below Adam, and names no schedule; -p lr_schedule=plateau is the "
            "other reading.",
            "lr_schedule", "optimizer",
        ),
        lab.choice(
            "Batches", words_of.each(words_of.batches, ests), "The report names no size.",
            "batch_size",
        ),
        lab.choice(
            "Epochs", ", ".join(epochs),
            "The report trains its ResNet for 30 and its transformer for 10, and names no number "
            "for its baseline.",
            "epochs",
        ),
        lab.choice(
            "Weights that are tested",
            "those of the best epoch" if kept else "those of the last epoch",
            "The report names no early stopping.", "early_stopping", "restore_best",
        ),
        lab.choice(
            "Trained part of vit", str(made["vit"].estimator.trainable),
            "The report speaks of fine-tuning and a new head; -p trainable=head trains that alone.",
            "trainable",
        ),
        lab.choice(
            "Start of the ResNet", words_of.start(made["resnet"].estimator),
            "The report speaks of pretraining for its transformer only.", "weights",
        ),
    ]  # fmt: skip


def _beside(made: Mapping[str, runs.Run]) -> list[str]:
    """Put the order of the networks beside the report's."""
    ours = sorted(made, key=lambda name: -made[name].reports["test"].accuracy)
    numbers = [f"{name} {made[name].reports['test'].accuracy:.3f}" for name in ours]
    return [f"In order of test accuracy: {', '.join(numbers)}; in the report: resnet 0.97, "
            "vit 0.90, baseline 0.89."]  # fmt: skip


# -- data ------------------------------------------------------------------------------------------


def mirrored_before_split(data: sources.Data, seed: int) -> tuple[sources.Data, np.ndarray]:
    """Double all images by mirroring, then split into 70 % train, 15 % val and 15 % test.

    Also returns which test images have their mirror image in "train", bool of shape (n_test,).
    """
    X = np.concatenate([_pixels(X, data) for X, _ in data.splits.values()])
    y = np.concatenate([y for _, y in data.splits.values()])
    # An image and its mirror image have the same origin.
    X, y, origin = np.concatenate([X, X[:, :, ::-1]]), np.tile(y, 2), np.tile(np.arange(len(y)), 2)
    shares = {"test": 0.15, "val": 0.15}
    rows = subsets.shared_out(y, shares, seed)
    splits = {split: (X[index], y[index]) for split, index in rows.items()}
    found = subsets.resplit(data, splits, leak="mirrored before the split", split_seed=seed)
    return found, np.isin(origin[rows["test"]], origin[rows["train"]])


def _pixels(X: np.ndarray, data: sources.Data) -> np.ndarray:
    """Read the images if they are files."""
    if X.dtype.kind != "U":
        return X
    from kmedclf.inputs.file_array import FileArray
    from kmedclf.inputs.image_files import Form

    side = data.parameters["image_size"]
    return FileArray(list(X), Form(side, side, 3))[np.arange(len(X))]


# -- tables and figures ----------------------------------------------------------------------------


def _classes(name: str, run: runs.Run) -> Table:
    """Put precision, recall and F1 of each class beside the report's."""
    report, published = run.reports["test"], REPORTED[name]
    order = places([one.name for one in report.per_class], PATTERNS)
    rows: list[list[Any]] = []
    for number, one in enumerate(report.per_class):
        k = None if order is None else order[number]
        there = None if k is None else published.by_class[k]
        n = "–" if k is None else str(published.support[k])
        rows.append(_row(one.name, one.support, n, (one.precision, one.recall, one.f1), there))
    total = "–" if order is None else str(sum(published.support))
    accuracy = "–" if order is None else f"{published.accuracy:.2f}"
    rows.append(
        [
            "accuracy",
            str(report.n),
            total,
            "–",
            "–",
            "–",
            "–",
            str(report.scores["accuracy"]),
            accuracy,
        ]
    )
    for kind in ("macro", "weighted"):
        means = [report.scores[f"{what}_{kind}"] for what in ("precision", "recall", "f1")]
        there = None if order is None else getattr(published, kind)
        rows.append(_row(f"{kind} average", report.n, total, means, there))
    head = ["Class", "Images", "Report: images", "Precision", "Report", "Recall", "Report", "F1",
            "Report"]  # fmt: skip
    theirs = sum(published.support)
    return Table(f"Classes, {name}; the report's numbers are of {theirs} test images", head, rows)


def _row(
    name: str, n: int, published_n: str, scores: Sequence[Any], there: Sequence[float] | None
) -> list[str]:
    told = ["–"] * 3 if there is None else [f"{value:.2f}" for value in there]
    pairs = [text for pair in zip(map(str, scores), told, strict=True) for text in pair]
    return [name, str(n), published_n, *pairs]


def _pool(leaking: sources.Data) -> Table:
    """Count the images of the doubled pool beside those of the report."""
    rows = []
    order = places(leaking.class_names, PATTERNS)
    for split in ("train", "val", "test"):
        for k, (name, n) in enumerate(
            zip(leaking.class_names, counts(leaking, split), strict=True)
        ):
            there = "–" if order is None else str(COUNTED[split][order[k]])
            rows.append([NAMES[split], name, f"{n:,}", there])
    return Table(
        "Images with their mirror images", ["Split", "Class", "Images", "Report: images"], rows
    )


def _figures(made: Mapping[str, runs.Run]) -> list[Figure]:
    figures = []
    for name, run in made.items():
        est = run.estimator
        curves = plots.history(est.history_, best_epoch=est.best_epoch_)
        figures += [
            Figure.of(f"{name}-history", f"Training of {name}: {words_of.epochs(est)}.", curves),
            Figure.of(
                f"{name}-confusion",
                f"Confusion matrix of {name}, test images.",
                plots.confusion_matrix(run.reports["test"]),
            ),
        ]
    network = plots.network(made["baseline"].estimator)
    return [*figures, Figure.of("baseline-network", "The baseline.", network)]


STUDY = Study(
    name="chest",
    title="Chest X-rays: two convolutions, a residual network, a transformer",
    data="synthetic",
    items=(images, approaches, leak),
    shares={"test": 0.15, "val": 0.15},
    validation=0.15 / 0.85,
    pretrained={"approaches": (_transformer,), "leak": (_transformer,)},
)
