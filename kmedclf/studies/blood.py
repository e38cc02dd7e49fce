"""Blood cells: the four items of an assignment on BloodMNIST, from a perceptron to a small ResNet.

Set-up, search winners and reference scores come from one report on it and from the code that it
publishes; see `REPORTED`. All items share these figures, and the ways to set them beside ours: that
is why they are one long file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import binomtest
from sklearn.model_selection import StratifiedKFold

import kmedclf
from kmedclf import datasets, evaluation, recipes, runs
from kmedclf.datasets import sources
from kmedclf.evaluation import Estimate, plots
from kmedclf.evaluation.compare import holm, mcnemar, p_text
from kmedclf.evaluation.published import Published, protocol_of
from kmedclf.evaluation.wording import count, percent
from kmedclf.runs.searches import effects
from kmedclf.search import SearchSpace
from kmedclf.studies import words as words_of
from kmedclf.studies.dataset import NAMES
from kmedclf.studies.section import Choice, Figure, Section, Table
from kmedclf.studies.study import Study, Workspace
from kmedclf.training.heads import computed_class_weights

DATASET = "bloodmnist"
CLASSES = datasets.info(DATASET).class_names
KERNELS = {"kernel_size": [3, 5, 7], "filters": [8, 16, 32, 64, 128]}
SEARCHED: dict[str, Any] = {"epochs": 50, "n_iter_no_change": 10, "min_epochs": 10}
"""How the candidates of the report's searches train; its final trainings are the defaults."""


class Reported(NamedTuple):
    """What the report has of a network: one run on BloodMNIST's official splits at 28 pixels."""

    accuracy: float
    classes: tuple[float, ...]  # accuracy of each class, in BloodMNIST's order
    n_params: int
    epochs: int  # trained, early stopping included


REPORTED = {
    "mlp": Reported(
        0.7992, (0.5205, 0.9247, 0.7878, 0.6615, 0.6749, 0.5599, 0.9204, 0.9915), 302_216, 71
    ),
    "cnn": Reported(
        0.9073, (0.7992, 0.9792, 0.9293, 0.8238, 0.8848, 0.7923, 0.9339, 1.0), 176_648, 70
    ),
    "resnet": Reported(
        0.9547, (0.8730, 0.9872, 0.9743, 0.9378, 0.9383, 0.8732, 0.9715, 0.9957), 1_957_768, 58
    ),
}
"""Test accuracies and sizes of the report's three networks."""

REPORTED_LONGER = 0.9608
"""Test accuracy of the deeper network after a longer training; only the report's code has it."""

_MEANS = {
    3: (0.8277, 0.8405, 0.8574, 0.8687, 0.8783),
    5: (0.8248, 0.8488, 0.8591, 0.8706, 0.8555),
    7: (0.8426, 0.8499, 0.8451, 0.8547, 0.8641),
}
REPORTED_KERNELS = {
    (size, number): mean
    for size, means in _MEANS.items()
    for number, mean in zip(KERNELS["filters"], means, strict=True)
}
"""Mean accuracy over three folds in that report, by size and number of kernels."""

REPORTED_MEANS: dict[str, dict[tuple[Any, ...], float]] = {
    "neurons": {(64,): 0.6153, (128,): 0.7548, (256,): 0.7439, (512,): 0.7330, (1024,): 0.7259},
    "kernels": REPORTED_KERNELS,
}
"""Mean accuracies in the report of the candidates of a stage, by their values in its order."""

REPORTED_WINNERS: dict[str, dict[str, Any]] = {
    "mlp": {
        "augment": True, "class_weight": None, "units": 128, "optimizer": "sgd",
        "activation": "relu", "batch_size": 16,
    },
    "cnn": {
        "augment": True, "class_weight": None, "kernel_size": 3, "filters": 128, "pool_size": 2,
        "pooling": "max", "optimizer": "adam", "activation": "relu", "batch_size": 16,
    },
}  # fmt: skip
"""What won the report's staged searches; they are the defaults of these networks."""

PARAMETERS = {
    "augment": "Augmentation", "class_weight": "Class weights", "units": "Neurons",
    "kernel_size": "Kernel size", "filters": "Kernels", "pool_size": "Pooling window",
    "pooling": "Pooling", "optimizer": "Optimizer", "activation": "Activation",
    "batch_size": "Batch size",
}  # fmt: skip


def images(lab: Workspace) -> Section:
    """Show the images: samples, counts of each class and split, and class weights."""
    X, y = lab.data.splits["train"]
    labels = {NAMES.get(split, split): one for split, (_, one) in lab.data.splits.items()}
    everywhere = np.unique(np.concatenate(list(labels.values())))
    names = lab.data.names_of(everywhere.tolist())
    occurring, counts = np.unique(y, return_counts=True)
    weights = computed_class_weights("inverse", counts)
    table = _counts(
        labels, dict(zip(everywhere.tolist(), names, strict=True)),
        dict(zip(occurring.tolist(), weights.tolist(), strict=True)),
    )  # fmt: skip
    of_train = lab.data.names_of(occurring.tolist())
    return Section(
        title="The images",
        method=(
            "The report uses BloodMNIST at 28 × 28 pixels and its official splits: 17,092 images "
            "of cells, 11,959 for training, 1,712 for validation and 3,421 for the test. As the "
            "classes are not of one size, it proposes class weights proportional to 1 / number of "
            "images, which here sum to 1. The staged searches of this study try them"
            + (
                "."
                if "class_weight" in lab.parameters
                else "; no other item uses them, as in the report."
            )
        ),
        findings=[
            f"The largest class of the training images, {of_train[int(np.argmax(counts))]}, has "
            f"{counts.max() / counts.min():.1f} times as many as the smallest, "
            f"{of_train[int(np.argmin(counts))]}."
            if counts.max() > counts.min()
            else "All classes have the same number of training images."
        ],
        tables=[table],
        figures=[
            Figure.of(
                "samples", "One image of each class.", plots.samples(X, y, class_names=of_train)
            ),
            Figure.of(
                "counts", "Images of each class and split.",
                plots.class_counts(labels, class_names=names),
            ),
            Figure.of(
                "weights", "Training images of each class, and its weight where weights are used.",
                plots.class_weights(y, weights.tolist(), class_names=of_train),
            ),
        ],
    )  # fmt: skip


def _counts(
    labels: dict[str, np.ndarray], names: dict[Any, str], weights: dict[Any, float]
) -> Table:
    """Count the images of each class and split; name and weight are given by label."""
    rows = [
        [
            name,
            *(f"{np.sum(one == label):,}" for one in labels.values()),
            f"{weights[label]:.4f}" if label in weights else "–",
        ]
        for label, name in names.items()
    ]
    total = ["all", *(f"{len(one):,}" for one in labels.values()), "1.0000"]
    return Table("Images of each class", ["Class", *labels, "Class weight"], [*rows, total])


def perceptron(lab: Workspace, mlp: kmedclf.MLPClassifier | None = None) -> Section:
    """Item (a): a multilayer perceptron with one hidden layer."""
    run = lab.train("mlp", mlp or kmedclf.MLPClassifier(random_state=lab.seed))
    X = lab.data.splits["train"][0]
    used = recipes.parameters(run.estimator)
    pixels = "in [0, 1]" if X.dtype.kind in "uU" else "as they are"
    own = lab.results["mlp"]["parameters"].keys() <= {"random_state", "verbose", "image_size"}
    won = (
        "These choices won the report's staged search, which the item perceptron_search of this "
        "study repeats."
    )
    values = int(np.prod(run.estimator.image_shape_))
    return Section(
        title="(a) A multilayer perceptron",
        method=(
            f"Pixels {pixels}, flattened to {values:,} values; one hidden layer of "
            f"{used['units']} neurons ({', '.join([used['activation'], *_additions(used)])}); "
            f"softmax over {len(run.class_names)} classes. "
            f"{words_of.training(run.estimator, lab.data)}" + (f"\n\n{won}" if own else "")
        ),
        choices=_choices(run, lab),
        findings=_findings(run, "mlp", lab),
        tables=[_classes(run, "mlp", lab), *_mistakes(run)],
        figures=[*_figures(run, "mlp"), *_wrong(run, "mlp", lab)],
        pages=_page("mlp"),
    )


def kernels(lab: Workspace, grid: dict[str, list[int]] = KERNELS) -> Section:
    """Item (b): accuracy by number and size of kernels."""
    cnn = kmedclf.CNNClassifier(**SEARCHED, random_state=lab.seed)
    search = lab.search(cnn, [grid], cv=StratifiedKFold(3), subset=("first", 0.4))
    results = search.cv_results_
    means, stds = results["mean_test_score"], results["std_test_score"]
    found = {
        (one["kernel_size"], one["filters"]): (mean, std)
        for one, mean, std in zip(results["params"], means, stds, strict=True)
    }
    sizes, numbers = (sorted({key[i] for key in found}) for i in (0, 1))
    beside = _has_blood_cells(lab) and found.keys() <= REPORTED_KERNELS.keys()
    rows = []
    for size in sizes:
        rows.append([f"{size} px", *(_mean(*found[size, n]) for n in numbers)])
        if beside:
            reported = (f"{REPORTED_KERNELS[size, n]:.4f}" for n in numbers)
            rows.append([f"{size} px, report", *reported])
    folds = f"{search.n_splits_} folds"
    chart = plots.effect(results, "filters", by="kernel_size", log_x=True)
    used = recipes.parameters(search.estimator)
    return Section(
        title="(b) Number and size of kernels",
        method=(
            f"One convolution, {', '.join([used['activation'], *_additions(used)])}, "
            f"{_pooled(used)}, softmax: every combination of kernel size and number of kernels, "
            f"each in {folds}, stratified, of {_share(search)} of the training images. "
            f"{words_of.training(search.estimator, lab.data)} {_validated(search, lab)} "
            f"{_searched_anyway(lab, grid)}"
        ).strip(),
        choices=_begun(lab, "cnn", "Parameters that are not searched here"),
        findings=_of_kernels(found, sizes, numbers, beside),
        tables=[
            Table(
                f"Accuracy over {folds}, mean ± standard deviation (ddof 0)",
                ["Kernel size", *(f"{n} kernels" for n in numbers)],
                rows,
            )
        ],
        figures=[
            Figure.of(
                "kernels", f"Mean and standard deviation of the accuracy over {folds}.", chart
            )
        ],
    )


def convolutions(lab: Workspace, cnn: kmedclf.CNNClassifier | None = None) -> Section:
    """Item (c): a simple convolutional network, and five of its mistakes."""
    run = lab.train("cnn", cnn or kmedclf.CNNClassifier(random_state=lab.seed))
    used = recipes.parameters(run.estimator)
    return Section(
        title="(c) A simple convolutional network",
        method=(
            f"{used['filters']} kernels of {used['kernel_size']} pixels, "
            f"{', '.join([used['activation'], *_additions(used)])}, {_pooled(used)}, softmax. "
            f"{words_of.training(run.estimator, lab.data)}"
        ),
        choices=_choices(run, lab),
        findings=_findings(run, "cnn", lab),
        tables=[_classes(run, "cnn", lab), *_mistakes(run)],
        figures=[*_figures(run, "cnn"), *_wrong(run, "cnn", lab)],
        pages=_page("cnn"),
    )


def residual(lab: Workspace, resnet: kmedclf.ResNetClassifier | None = None) -> Section:
    """Item (d): a deeper network, and a comparison of all three."""
    run = lab.train("resnet", resnet or kmedclf.ResNetClassifier(random_state=lab.seed))
    used = recipes.applied(run.estimator)
    dense = f"{used.dense_units} neurons ({used.activation}); " if used.dense_units else ""
    found = {
        "mlp": lab.train("mlp", kmedclf.MLPClassifier(random_state=lab.seed)),
        "cnn": lab.train("cnn", kmedclf.CNNClassifier(random_state=lab.seed)),
        "resnet": run,
    }
    comparison = _comparison(found, lab)
    order = _order([(one.name, one.scores["accuracy"].value) for one in comparison.models])
    return Section(
        title="(d) A deeper network, and the comparison",
        method=(
            f"Zero padding of one pixel; {used.stem_filters} kernels of "
            f"{used.stem_kernel_size} pixels, batch normalisation, {used.activation}"
            f"{', max-pooling of 3' if used.stem_pooling else ''}; {used.blocks} "
            f"residual blocks of {used.layers_per_block} convolutions of 3 × 3, each block "
            "halving the image and doubling the kernels, with a 1 × 1 convolution as shortcut; "
            f"global average pooling; {dense}softmax. "
            f"{words_of.training(run.estimator, lab.data)}\n\n"
            "As in the report, the parameters of this network were not searched for, as that takes "
            "long; 'kmedclf search resnet' searches them."
        ),
        choices=[*_choices(run, lab), *_of_deeper(run, lab)],
        findings=[
            *_findings(run, "resnet", lab),
            f"In order of test accuracy: {order}.",
            *_verdicts(comparison),
            *_class_by_class(found),
            *_restless(found),
            *_near_misses(found),
        ],
        tables=[_classes(run, "resnet", lab), *_mistakes(run), _side_by_side(found, lab)],
        figures=[*_figures(run, "resnet"), *_wrong(run, "resnet", lab)],
        comparison=comparison,
        pages=_page("resnet"),
    )


def longer(lab: Workspace) -> Section:
    """Item (d), continued: the deeper network again, without an early stop."""
    short = lab.train("resnet", kmedclf.ResNetClassifier(random_state=lab.seed))
    long = kmedclf.ResNetClassifier(epochs=200, min_epochs=200, random_state=lab.seed)
    run = lab.train("resnet-longer", long)
    pair = {"resnet": short, "resnet, longer": run}
    verdict = _verdicts(
        evaluation.compare({name: one.reports["test"] for name, one in pair.items()})
    )
    before, after = (len(one.estimator.history_["loss"]) for one in (short, run))
    lines = _of_run(run)
    if _has_blood_cells(lab):
        lines.append(f"In the report's code: {REPORTED_LONGER:.4f}, one run.")
    return Section(
        title="(d), continued: a longer training",
        method=(
            "The report finds the curve of the deeper network restless, and concludes that early "
            "stopping does not suit it and that more epochs may be better. Its text has no such "
            "run, but its code has. Network and seed are those of item (d). "
            f"{words_of.training(run.estimator, lab.data)}"
        ),
        choices=[
            *_choices(run, lab),
            *_of_deeper(run, lab),
            lab.choice(
                "Length", count(recipes.parameters(run.estimator)["epochs"], "epoch"),
                "Its length is not named; 200 epochs are the limit of the other trainings.",
                "epochs",
            )
        ],
        findings=[
            *lines,
            f"The training of item (d) had {count(before, 'epoch')}, this one {after:,}.",
            *verdict,
        ],
        tables=[_classes(run, None, lab)],
        figures=_figures(run, "resnet-longer")[1:],
        pages=_page("resnet-longer"),
    )  # fmt: skip


def perceptron_search(lab: Workspace) -> Section:
    """Item (a), continued: the staged search for the perceptron."""
    mlp = kmedclf.MLPClassifier(**SEARCHED, random_state=lab.seed)
    return _staged(lab, "mlp", mlp, "(a), continued: the search for the perceptron")


def convolutions_search(lab: Workspace) -> Section:
    """Items (b) and (c), continued: the staged search for the simple convolutional network."""
    cnn = kmedclf.CNNClassifier(**SEARCHED, random_state=lab.seed)
    title = "(b) and (c), continued: the search for the simple convolutional network"
    return _staged(lab, "cnn", cnn, title)


# -- items (a), (c) and (d): one network ------------------------------------------------------


def _has_blood_cells(lab: Workspace) -> bool:
    """Check whether the report's figures may stand beside these: real cells of its classes."""
    return tuple(lab.data.class_names) == CLASSES and not _is_drawn(lab)


def _is_drawn(lab: Workspace) -> bool:
    return lab.data.description["source"] in sources.DRAWN


def _choices(run: runs.Run, lab: Workspace) -> list[Choice]:
    """List what the report leaves open of a network."""
    used = recipes.parameters(run.estimator)
    rate = used["learning_rate"]
    taken = f"Keras' default for {used['optimizer']}" if rate is None else f"{rate:g}"
    return [lab.choice("Learning rate", taken, "The report names none.", "learning_rate")]


def _of_deeper(run: runs.Run, lab: Workspace) -> list[Choice]:
    """List what the report leaves open of the deeper network, which it did not search."""
    used = recipes.parameters(run.estimator)
    return [
        lab.choice("Optimizer", used["optimizer"], "The report names none for this network.",
                   "optimizer"),
        lab.choice("Batches", words_of.batches(run.estimator),
                   "The report names no size for this network.", "batch_size"),
    ]  # fmt: skip


def _additions(used: Mapping[str, Any]) -> list[str]:
    """Name what the report's networks of one layer do not have, if there is any of it."""
    said = {
        "batch norm": used["batch_norm"],
        f"dropout {used['dropout']}": used["dropout"],
        f"images normalised ({used['normalize']})": used["normalize"],
    }
    return [words for words, there in said.items() if there]


def _pooled(used: Mapping[str, Any]) -> str:
    if used["pooling"].startswith("global"):
        return f"{used['pooling'].replace('_', ' ')} pooling"
    return f"{used['pooling']}-pooling of {used['pool_size']}"


def _of_run(run: runs.Run) -> list[str]:
    """Say accuracy, size, epochs and time of a run."""
    report, est = run.reports["test"], run.estimator
    accuracy = report.scores["accuracy"]
    return [
        f"Test accuracy {accuracy}"
        + ("" if accuracy.low is None else f" ({percent(report.confidence)} interval)")
        + f", n = {report.n:,}.",
        *report.warnings,
        f"{est.n_params_:,} trainable parameters; {words_of.epochs(est)}; {run.seconds:.0f} s.",
    ]


def _findings(run: runs.Run, name: str, lab: Workspace) -> list[str]:
    lines = [*_of_run(run), *_of_classes(run), *_of_ranks(run)]
    if _has_blood_cells(lab):
        one = REPORTED[name]
        lines.append(
            f"In the report that is reproduced: {one.accuracy:.4f}, {one.n_params:,} trainable "
            f"parameters, {one.epochs} epochs; one run on the 3,421 test images of BloodMNIST."
        )
    return lines


def _of_classes(run: runs.Run) -> list[str]:
    """Name the classes that are easiest and hardest, and the most frequent confusion."""
    report = run.reports["test"]
    known = [one for one in report.per_class if one.recall.value is not None]
    if len(known) < 2:
        return []
    best, worst = (pick(known, key=lambda one: one.recall.value) for pick in (max, min))
    if best.recall.value == worst.recall.value:
        return [f"All classes have the accuracy {best.recall.value:.3f}."]
    lines = [
        f"The easiest class is {best.name}, accuracy {best.recall}; the hardest {worst.name}, "
        f"{worst.recall}."
    ]
    wrong = report.confusion - np.diag(np.diag(report.confusion))
    i, j = np.unravel_index(int(wrong.argmax()), wrong.shape)
    names = report.class_names
    lines.append(
        f"The most frequent confusion: {wrong[i, j]} of {report.confusion[i].sum()} images of "
        f"{names[i]} are taken for {names[j]}."
    )
    return lines


def _of_ranks(run: runs.Run) -> list[str]:
    """Say how close the mistakes are: the rank of the true class."""
    report = run.reports["test"]
    wrong, second = report.n - int(report.rank_counts[0]), int(report.rank_counts[1])
    if not wrong:
        return ["No test image is classified wrongly."]
    return [
        f"Of the {wrong:,} test images whose true class is not the first choice, it is the second "
        f"for {_proportion(second, wrong)}."
    ]


def _proportion(k: int, n: int) -> Estimate:
    """Estimate a share, with its exact binomial 95 % interval."""
    low, high = binomtest(k, n).proportion_ci()
    return Estimate(k / n, float(low), float(high))


def _classes(run: runs.Run, name: str | None, lab: Workspace) -> Table:
    """List the accuracy of each class, with the report's beside it if it has this network."""
    report = run.reports["test"]
    beside = REPORTED[name] if name and _has_blood_cells(lab) else None
    of_class = dict(zip(CLASSES, beside.classes, strict=True)) if beside else {}
    rows: list[list[Any]] = [["all", report.n, report.scores["accuracy"], ""]]
    rows += [[one.name, one.support, one.recall, one.precision] for one in report.per_class]
    if beside:
        for row in rows:
            reported = beside.accuracy if row[0] == "all" else of_class[row[0]]
            row.insert(3, f"{reported:.4f}")
    more = ["Report"] if beside else []
    head = ["Class", "Test images", "Accuracy, 95 % interval", *more, "Precision, 95 % interval"]
    return Table("Accuracy of each class", head, rows)


def _figures(run: runs.Run, name: str) -> list[Figure]:
    report, est = run.reports["test"], run.estimator
    drawn = "The network, each box with its output's shape and its parameters."
    if isinstance(est, kmedclf.CNNClassifier):
        drawn += (
            " Its order is the item's; where the numbers stay the same, bias and activation are "
            "computed behind the pooling, on fewer pixels."
        )
    if isinstance(est, kmedclf.ResNetClassifier):
        drawn += (
            " A shortcut's convolution of stride 2 is computed as a pooling of single pixels of "
            "stride 2 and a convolution, with the same numbers."
        )
    return [
        Figure.of(f"{name}-network", drawn, plots.network(est)),
        Figure.of(
            f"{name}-history",
            f"Training: {words_of.epochs(est)}.",
            plots.history(est.history_, best_epoch=est.best_epoch_),
        ),
        Figure.of(
            f"{name}-confusion", "Confusion matrix, test images.", plots.confusion_matrix(report)
        ),
    ]


def _wrong(run: runs.Run, name: str, lab: Workspace) -> list[Figure]:
    report = run.reports["test"]
    words = "Rank of the true class where it is not 1, as a share of all test images."
    ranks = Figure.of(f"{name}-ranks", words, plots.ranks(report))
    if report.right.all():
        return [ranks]
    panel = plots.mistakes(report, lab.data.splits["test"][0], n=5)
    return [ranks, Figure.of(f"{name}-mistakes", f"{_how_many(report)}.", panel)]


def _how_many(report: evaluation.Report) -> str:
    """Say which mistakes are shown."""
    wrong = int(np.sum(~report.right))
    numbers = ("The one mistake", "Both mistakes", "All three mistakes", "All four mistakes")
    return f"{(*numbers, 'Five mistakes')[min(wrong, 5) - 1]}, the surest first"


def _mistakes(run: runs.Run) -> list[Table]:
    """List up to five mistakes, one a column: expected class and all estimated probabilities."""
    report = run.reports["test"]
    if report.right.all():
        return []
    shown = report.surest_mistakes(5)
    rows: list[list[Any]] = [
        ["expected class", *(report.class_names[report.true_index[i]] for i in shown)],
        ["its rank", *(int(report.ranks[i]) for i in shown)],
    ]
    rows += [
        [f"probability of {name}", *(f"{report.proba[i, k]:.4f}" for i in shown)]
        for k, name in enumerate(report.class_names)
    ]
    return [Table(_how_many(report), ["", *(f"Test image {i}" for i in shown)], rows)]


def _page(name: str) -> dict[str, str]:
    return {f"Report page of {name}: all scores, every mistake": f"{name}/report.html"}


# -- item (b) ----------------------------------------------------------------------------------


def _mean(mean: float, std: float) -> str:
    return f"{mean:.4f} ± {std:.4f}" if np.isfinite(mean) else "failed"


Means = Mapping[tuple[int, int], tuple[float, float]]


def _of_kernels(
    found: Means, sizes: Sequence[int], numbers: Sequence[int], beside: bool
) -> list[str]:
    """Say which kernels are best, and how the best size moves with their number."""
    known = {key: one for key, one in found.items() if np.isfinite(one[0])}
    if len(known) < len(found):
        return [f"{len(found) - len(known)} of {count(len(found), 'combination')} failed."]
    size, number = max(known, key=lambda key: known[key][0])
    mean, std = known[size, number]
    near = sum(one[0] >= mean - std for one in known.values()) - 1
    reported = max(REPORTED_KERNELS, key=REPORTED_KERNELS.__getitem__)
    lines = [
        f"The highest mean accuracy, {mean:.4f} ± {std:.4f}, is that of {number} kernels of "
        f"{size} pixels"
        + (
            f"; in the report it is {REPORTED_KERNELS[reported]:.4f}, that of {reported[1]} "
            f"kernels of {reported[0]} pixels."
            if beside
            else "."
        ),
        f"Of the {len(known) - 1} other combinations {near} come within one standard deviation "
        "of it.",
    ]
    if len(sizes) > 1 and len(numbers) > 1:
        lines += [_best_sizes(known, sizes, numbers, beside)]
    return lines


def _best_sizes(found: Means, sizes: Sequence[int], numbers: Sequence[int], beside: bool) -> str:
    """Name the best size for each number of kernels."""
    ours = [max(sizes, key=lambda size: found[size, n][0]) for n in numbers]
    there = (
        [max(sizes, key=lambda size: REPORTED_KERNELS[size, n]) for n in numbers] if beside else []
    )
    reported = f", in the report {_listed(there)}" if beside else ""
    depends = "depends" if len(set(ours)) > 1 else "does not depend"
    return (
        f"Here the best size {depends} on the number of kernels: of {_listed(numbers)} kernels it "
        f"is {_listed(ours)} pixels{reported}."
    )


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))


def _share(search: Any) -> str:
    return "all" if search.subset is None else f"the first {percent(search.subset[1])}"


def _validated(search: Any, lab: Workspace) -> str:
    if "val" not in lab.data.splits:
        return ""
    return (
        f"The validation images are {_share(search)} of the validation split; the folds are only "
        "scored."
    )


def _searched_anyway(lab: Workspace, names: Mapping[str, Any]) -> str:
    """Name the parameters that the user gave for all networks, but that are searched here."""
    given = [name for name in names if name in lab.parameters]
    if not given:
        return ""
    return f"What was given for {' and '.join(given)} does not hold here, where it is searched."


# -- item (d): comparisons ----------------------------------------------------------------------


def _comparison(found: Mapping[str, runs.Run], lab: Workspace) -> evaluation.Comparison:
    """Compare the three networks, with the published results and the report's own networks."""
    protocol, caveat = protocol_of(lab.data.description, "test", DATASET)
    comparison = evaluation.compare(
        {name: one.reports["test"] for name, one in found.items()},
        parameters={name: one.estimator.n_params_ for name, one in found.items()},
        seconds={name: one.seconds for name, one in found.items()},
        images_per_second={name: one.images_per_second for name, one in found.items()},
        dataset=DATASET,
        protocol=protocol,
        caveat=caveat,
    )
    own = [
        Published(
            f"Report's {name}", one.accuracy, "28 px", "official splits", "the reproduced report"
        )
        for name, one in REPORTED.items()
    ]
    return replace(comparison, published=(*comparison.published, *own))


def _verdicts(comparison: evaluation.Comparison) -> list[str]:
    """Say for every pair of networks whether the test set shows a difference."""
    holm_words = " with Holm's correction" if len(comparison.pairs) > 1 else ""
    return [
        f"{one.first} and {one.second} "
        + ("differ" if one.p_holm < 0.05 else "cannot be told apart on these images")
        + f" (accuracy {one.difference} apart; McNemar's p{holm_words}: "
        f"{p_text(one.p_holm)})."
        for one in comparison.pairs
    ]


def _order(found: list[tuple[str, float | None]]) -> str:
    """Join names with "<", or "=" for ties, the best one last."""
    text, before = "", None
    for name, value in reversed(found):
        text += f" {'=' if value == before else '<'} {name}" if text else name
        before = value
    return text


STEPS = (("mlp", "cnn"), ("cnn", "resnet"))
"""Pairs of networks that the report compares class by class."""


def _class_p(one: evaluation.Report, two: evaluation.Report) -> list[float]:
    """Test for each class whether two networks err equally often on its images, Holm's p."""
    values = []
    for k in range(len(one.classes)):
        mine = one.true_index == k
        a, b = one.right[mine], two.right[mine]
        values.append(mcnemar(int(np.sum(a & ~b)), int(np.sum(b & ~a))))
    return holm(values)


def _side_by_side(found: Mapping[str, runs.Run], lab: Workspace) -> Table:
    """List the accuracy of each class for all networks, and the tests between them."""
    reports = {name: one.reports["test"] for name, one in found.items()}
    p = [_class_p(reports[a], reports[b]) for a, b in STEPS]
    beside = _has_blood_cells(lab)
    rows: list[list[Any]] = []
    first = next(iter(reports.values()))
    for k, name in enumerate(first.class_names):
        recalls = [one.per_class[k].recall.value for one in reports.values()]
        row: list[Any] = [name, *("–" if one is None else f"{one:.3f}" for one in recalls)]
        if beside:
            row += [f"{REPORTED[one].classes[CLASSES.index(name)]:.3f}" for one in reports]
        rows.append([*row, *(p_text(one[k]) for one in p)])
    own = [f"report's {name}" for name in reports] if beside else []
    tests = [f"p, {a} and {b}" for a, b in STEPS]
    return Table(
        "Accuracy of each class in all networks; McNemar's p with Holm's correction for the "
        "number of classes",
        ["Class", *reports, *own, *tests],
        rows,
    )


def _class_by_class(found: Mapping[str, runs.Run]) -> list[str]:
    """Count the classes in which a network is ahead, and those where a test shows it."""
    lines = []
    for first, second in STEPS:
        one, two = (found[name].reports["test"] for name in (first, second))
        gaps = [
            (a.recall.value, b.recall.value, a.name)
            for a, b in zip(one.per_class, two.per_class, strict=True)
            if a.recall.value is not None and b.recall.value is not None
        ]
        ahead = sum(b > a for a, b, _ in gaps)
        behind = [name for a, b, name in gaps if b <= a]
        shown = sum(p < 0.05 for p in _class_p(one, two))
        lines.append(
            f"{second} is more accurate than {first} in {ahead} of {len(gaps)} classes"
            + (f", not in {', '.join(behind)}" if behind else "")
            + f"; a paired test shows a difference in {shown} of them all (McNemar's p with Holm's "
            "correction below 0.05)."
        )
    return lines


def _restless(found: Mapping[str, runs.Run]) -> list[str]:
    """Say how far the validation accuracy moves from epoch to epoch."""
    moves = {}
    for name, run in found.items():
        curve = run.estimator.history_.get("val_accuracy", ())
        if len(curve) > 1:
            moves[name] = float(np.mean(np.abs(np.diff(curve))))
    if len(moves) < len(found):
        return []
    listed = ", ".join(f"{name} {one:.3f}" for name, one in moves.items())
    return [f"From one epoch to the next the validation accuracy moves by, on average: {listed}."]


def _near_misses(found: Mapping[str, runs.Run]) -> list[str]:
    """Say for each network how many mistakes have the true class in the second or third place."""
    shares = []
    for name, run in found.items():
        counts = run.reports["test"].rank_counts
        if wrong := int(counts[1:].sum()):
            shares.append(f"{name} {_proportion(int(counts[1:3].sum()), wrong)}")
    if not shares:
        return []
    return [
        "Among the images whose true class is not the first choice, it is the second or third for "
        f"these shares: {'; '.join(shares)} (exact binomial 95 % intervals)."
    ]


# -- the staged searches -----------------------------------------------------------------------


def _staged(lab: Workspace, name: str, estimator: Any, title: str) -> Section:
    """Search stage by stage as the report did, and set its winners beside those found."""
    space = SearchSpace.load(name)
    sampled = {"search": "random", "n_iter": 2, "random_state": lab.seed} if lab.quick else {}
    search = lab.search(
        estimator,
        [stage.grids() for stage in space.stages],
        cv=StratifiedKFold(3),
        subset=("first", space.subset),
        **sampled,
    )
    stages = list(zip(space.stages, search.stage_results_, strict=True))
    n = len(search.cv_results_["params"])
    folds = f"{search.n_splits_} folds"
    tried = (
        "two combinations are tried, drawn at random (--quick)"
        if lab.quick
        else ("all combinations are tried")
    )
    return Section(
        title=title,
        method=(
            f"A grid of all parameters would be too large. They are searched in "
            f"{count(len(stages), 'stage')}, one after the other; the winners of a stage are "
            f"carried into the next. Of each stage {tried}: {n} in all, "
            f"each in {folds}, stratified, of {_share(search)} of the training images; the highest "
            f"mean accuracy wins. {words_of.stopping(search.estimator, lab.data)} "
            f"{_validated(search, lab)} "
            f"{_searched_anyway(lab, dict.fromkeys(n for s, _ in stages for n in s.names))}\n\n"
            "What wins here does not change the networks of the other items. As in the report the "
            "search is part of the study, unless --only names other items."
        ),
        choices=_begun(lab, name, "Parameters whose stage is still to come"),
        findings=[line for stage, one in stages for line in _of_stage(name, stage, one, lab)],
        tables=[_winners(name, stages), *(_candidates(*one, folds, lab) for one in stages)],
        figures=[
            Figure.of(
                f"{name}-effect-{key}",
                f"Effect of {_named(key.split('-'))}: mean and standard deviation of the accuracy "
                "over the folds of all candidates with the same value.",
                drawn,
            )
            for key, drawn in effects(search).items()
        ],
    )


def _begun(lab: Workspace, name: str, what: str) -> list[Choice]:
    why = "The report does not say what its search began with."
    return [Choice(what, _begun_with(name, lab), why)]


def _begun_with(name: str, lab: Workspace) -> str:
    """Say which values parameters have before their stage."""
    given = [one for one in REPORTED_WINNERS[name] if one in lab.parameters]
    if given:
        return f"the network's defaults, but {', '.join(given)} as given for this run"
    if lab.quick:
        return "the network's defaults, bounded by --quick"
    return "the network's defaults, which won in the report"


def _named(names: Sequence[str]) -> str:
    return " and ".join(PARAMETERS[name].lower() for name in names)


def _shown(name: str, value: Any) -> str:
    """Write a candidate's value in words."""
    if name == "class_weight":
        return "no" if value is None else "yes"
    if isinstance(value, bool):
        return "yes" if value else "no"
    kinds = {"global_max": "max of the whole image", "global_average": "mean of the whole image",
             "average": "mean"}  # fmt: skip
    return kinds.get(value, str(value)) if isinstance(value, str) else str(value)


def _winners(name: str, stages: Sequence[tuple[Any, dict[str, Any]]]) -> Table:
    """List the parameters with their options and winners, as the report's table does."""
    rows = []
    for number, (stage, found) in enumerate(stages, 1):
        won = found["cv_results"]["params"][found["best_index"]]
        for parameter in stage.names:
            values = [v for grid in stage.grids() for v in grid.get(parameter, ())]
            reported = REPORTED_WINNERS[name][parameter]
            unused = parameter == "pool_size" and "global" in won["pooling"]
            rows.append(
                [
                    f"{number}, {stage.name}",
                    PARAMETERS[parameter],
                    ", ".join(_shown(parameter, v) for v in dict.fromkeys(values)),
                    "–" if unused else _shown(parameter, won[parameter]),
                    _shown(parameter, reported),
                ]
            )
    head = ["Stage", "Parameter", "Options", "Won here", "Won in the report"]
    return Table("Parameters, in the order of the search", head, rows)


def _reported_mean(stage: Any, params: Mapping[str, Any], lab: Workspace) -> float | None:
    """Find the mean accuracy of a candidate in the report, if it is known."""
    means = REPORTED_MEANS.get(stage.name, {}) if _has_blood_cells(lab) else {}
    return means.get(tuple(params[name] for name in stage.names))


def _candidates(stage: Any, found: dict[str, Any], folds: str, lab: Workspace) -> Table:
    """List all candidates of a stage with their mean accuracy, the report's beside."""
    results = found["cv_results"]
    columns = zip(
        results["params"], results["mean_test_score"], results["std_test_score"], strict=True
    )
    rows = []
    for place, (params, mean, std) in enumerate(columns):
        values = [
            "–" if name == "pool_size" and "global" in params["pooling"]
            else _shown(name, params[name])
            for name in stage.names
        ]  # fmt: skip
        reported = _reported_mean(stage, params, lab)
        won = "won" if place == found["best_index"] else ""
        rows.append([*values, _mean(mean, std), reported, won])
    known = any(row[-2] is not None for row in rows)
    cells = [
        [*row[:-2], *(["–" if row[-2] is None else f"{row[-2]:.4f}"] if known else []), row[-1]]
        for row in rows
    ]
    head = [PARAMETERS[name] for name in stage.names]
    more = ["Report, mean"] if known else []
    title = f"Stage {stage.name}: accuracy over {folds}, mean ± standard deviation (ddof 0)"
    return Table(title, [*head, "Accuracy", *more, ""], cells)


def _of_stage(name: str, stage: Any, found: dict[str, Any], lab: Workspace) -> list[str]:
    """Say what won a stage, how clearly, and how the report's winner did."""
    results, best = found["cv_results"], found["best_index"]
    means, stds = results["mean_test_score"], results["std_test_score"]
    won = results["params"][best]
    near = int(np.sum(means >= means[best] - stds[best])) - 1
    others = count(len(means) - 1, "other combination")
    lines = [
        f"Stage {stage.name}: {_combination(stage, won)} won, {_mean(means[best], stds[best])}; "
        f"{near} of {others} came within one standard deviation."
    ]
    wanted = {one: REPORTED_WINNERS[name][one] for one in stage.names}
    rows = [i for i, one in enumerate(results["params"]) if wanted.items() <= one.items()]
    if rows and rows[0] != best:
        i = rows[0]
        folds = [key for key in results if key.startswith("split") and key.endswith("_test_score")]
        ahead = sum(bool(results[key][best] > results[key][i]) for key in folds)
        lines.append(
            f"Stage {stage.name}: what won in the report, {_combination(stage, wanted)}, had "
            f"{_mean(means[i], stds[i])}; the winner here was ahead of it in {ahead} of "
            f"{len(folds)} folds."
        )
    elif rows:
        lines[0] = f"{lines[0][:-1]}; it is what won in the report."
    lines += _of_weights(stage, results)
    return lines


def _combination(stage: Any, params: Mapping[str, Any]) -> str:
    unused = "global" in str(params.get("pooling", ""))
    return ", ".join(
        f"{PARAMETERS[name].lower()} {_shown(name, params[name])}"
        for name in stage.names
        if not (unused and name == "pool_size")
    )


def _of_weights(stage: Any, results: Mapping[str, Any]) -> list[str]:
    """Say what class weights did, with and without augmentation."""
    if "class_weight" not in stage.names:
        return []
    means = {
        (one["augment"], one["class_weight"]): mean
        for one, mean in zip(results["params"], results["mean_test_score"], strict=True)
    }
    changes = [
        f"{means[augment, 'inverse'] - means[augment, None]:+.4f} {words} augmentation"
        for augment, words in ((True, "with"), (False, "without"))
        if {(augment, "inverse"), (augment, None)} <= means.keys()
    ]
    return (
        [f"Class weights changed the mean accuracy by {' and '.join(changes)}."] if changes else []
    )


STUDY = Study(
    name="blood",
    title="Blood cells: a perceptron, a simple and a deeper convolutional network",
    data=DATASET,
    class_names=CLASSES,
    items=(
        images, perceptron, kernels, convolutions, residual, longer, perceptron_search,
        convolutions_search,
    ),
)  # fmt: skip
