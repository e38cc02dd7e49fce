"""Chest X-rays: three networks, and the leak from mirroring before the split."""

from __future__ import annotations

from typing import Any

import numpy as np

import kmedclf
from kmedclf import evaluation, runs
from kmedclf.datasets import sources
from kmedclf.evaluation import plots
from kmedclf.studies import subsets
from kmedclf.studies import words as words_of
from kmedclf.studies.section import HEAD, Figure, Section, Table, cells
from kmedclf.studies.study import Study, Workspace

SHARED: dict[str, Any] = {
    "optimizer": "adam", "learning_rate": 0.001, "lr_schedule": "plateau", "lr_patience": 3,
    "batch_size": 32, "early_stopping": True, "min_epochs": 1, "n_iter_no_change": 30,
    "augment": "mirror",
}  # fmt: skip
REPORTED = {
    "baseline": (0.89, ((0.82, 0.89, 0.86), (0.93, 0.93, 0.93), (0.89, 0.84, 0.86))),
    "resnet": (0.97, ((0.98, 0.96, 0.97), (0.99, 0.98, 0.98), (0.96, 0.98, 0.97))),
    "vit": (0.90, ((0.98, 0.96, 0.97), (0.88, 0.88, 0.88), (0.85, 0.87, 0.86))),
}
"""Accuracy, then precision, recall, F1 of covid, normal, virus; "vit" on 180 other images."""
CLASSES = ("covid", "normal", "virus")


def networks(seed: int) -> dict[str, Any]:
    """Build the three networks."""
    shared = {**SHARED, "random_state": seed}
    return {
        "baseline": kmedclf.ConvNetClassifier(
            filters=(8, 16), kernel_size=3, padding=1, batch_norm="all", pool_size=2,
            global_pooling="max", epochs=30, **shared,
        ),
        "resnet": kmedclf.DeepResNetClassifier(depth=18, epochs=30, **shared),
        "vit": kmedclf.ViTClassifier(epochs=10, **shared),
    }  # fmt: skip


def approaches(lab: Workspace) -> Section:
    """Train and compare all three networks."""
    made = {name: lab.train(name, est) for name, est in networks(lab.seed).items()}
    reports = {name: run.reports["test"] for name, run in made.items()}
    rows = [[name, *cells(run), f"{REPORTED[name][0]:.2f}"] for name, run in made.items()]
    comparison = evaluation.compare(
        reports,
        parameters={name: run.estimator.n_params_ for name, run in made.items()},
        seconds={name: run.seconds for name, run in made.items()},
    )
    figures = []
    ests = [run.estimator for run in made.values()]
    for name, run in made.items():
        est = run.estimator
        curves = plots.history(est.history_, best_epoch=est.best_epoch_)
        figures += [
            Figure.of(f"{name}-history", f"Training of {name}: {words_of.epochs(est)}.", curves),
            Figure.of(
                f"{name}-confusion",
                f"Confusion matrix of {name}, test images.",
                plots.confusion_matrix(reports[name]),
            ),
        ]
    return Section(
        title="Three approaches",
        method=(
            f"{_networks(made)}\n\n"
            + words_of.sentences(
                words_of.shared(ests, lab.data),
                words_of.each(lambda one: words_of.stopping(one, lab.data), ests),
            )
            + " In the report the transformer was pretrained."
        ),
        findings=words_of.collapsed(made),
        tables=[
            Table("Test images", ["Network", *HEAD, "Reported"], rows),
            *(_classes(name, run) for name, run in made.items()),
            _reported(),
        ],
        figures=figures,
        comparison=comparison,
        pages={f"Report page of {name}": f"{name}/report.html" for name in made},
    )


def _networks(made: dict[str, runs.Run]) -> str:
    """Describe the three networks by their parameters."""
    baseline, resnet, vit = (made[name].estimator for name in ("baseline", "resnet", "vit"))
    kernels = words_of.shown(baseline.filters)
    starts = [f"{name} from {words_of.start(run.estimator)}" for name, run in made.items()]
    return (
        f"baseline: convolutions of {kernels} kernels, batch norm {baseline.batch_norm}, "
        f"{baseline.activation}, pooling of {words_of.shown(baseline.pool_size)}, then "
        f"{baseline.global_pooling} over the image; resnet: ResNet-{resnet.depth}; vit: a vision "
        f"transformer of {vit.num_layers} layers; {', '.join(starts)}."
    )


def leak(lab: Workspace) -> Section:
    """Mirror before the split, as the report may have done, and show the effect."""
    honest = lab.train("baseline", networks(lab.seed)["baseline"])
    leaking, twins = mirrored_before_split(lab.data, lab.seed)
    # The mirror images are in the pool already.
    est = networks(lab.seed)["baseline"].set_params(augment=False)
    run = lab.train("baseline-leak", est, leaking, page=False)
    report = run.reports["test"]
    right = report.right
    parts = [
        (words, f"{int(mask.sum()):,}", f"{right[mask].mean():.4f}" if mask.any() else "–")
        for words, mask in (("with their mirror image in training", twins), ("others", ~twins))
    ]
    return Section(
        title="Mirroring before the split: a leak",
        method=(
            "The report doubled its images by mirroring, and then split them at random, as far as "
            "it says. Here the baseline is trained in that way, too: all images and their "
            "mirror images in one pool, 15 % each to validate and to test. A test image whose "
            "mirror image was trained on is no unseen image."
        ),
        findings=[
            f"{twins.sum():,} of {len(twins):,} test images have their mirror image in training.",
            f"Test accuracy {report.scores['accuracy']} with the leak, "
            f"{honest.reports['test'].scores['accuracy']} without it; the test images are not the "
            f"same. {_augmented('With the leak', run)} {_augmented('Without', honest)}",
            *words_of.collapsed({"baseline-leak": run}),
        ],
        tables=[Table("With the leak", ["Test images", "Number", "Accuracy"], parts)],
    )


def _augmented(which: str, run: runs.Run) -> str:
    words = words_of.augmentation(run.estimator)
    return f"{which}: {words[0].lower()}{words[1:]}"


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


def _classes(name: str, run: runs.Run) -> Table:
    report = run.reports["test"]
    rows: list[list[Any]] = [
        [one.name, one.support, one.precision, one.recall, one.f1] for one in report.per_class
    ]
    for kind in ("macro", "weighted"):
        means = [report.scores[f"{what}_{kind}"] for what in ("precision", "recall", "f1")]
        rows.append([f"{kind} average", report.n, *means])
    return Table(f"Classes, {name}", ["Class", "Images", "Precision", "Recall", "F1"], rows)


def _reported() -> Table:
    rows = [
        [name, each, *(f"{value:.2f}" for value in values)]
        for name, (_, by_class) in REPORTED.items()
        for each, values in zip(CLASSES, by_class, strict=True)
    ]
    head = ["Network", "Class", "Precision", "Recall", "F1"]
    return Table("In the report that is reproduced", head, rows)


STUDY = Study(
    name="chest",
    title="Chest X-rays: two convolutions, a residual network, a transformer",
    data="synthetic",
    items=(approaches, leak),
    shares={"test": 0.15, "val": 0.15},
)
