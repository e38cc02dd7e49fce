"""Blood cells: the four items of an assignment on BloodMNIST, from a perceptron to a small ResNet.

Set-up, search winners and earlier figures are those of one report on it; see `REPORTED`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.model_selection import StratifiedKFold

import kmedclf
from kmedclf import datasets, evaluation, recipes, runs
from kmedclf.evaluation import plots
from kmedclf.evaluation.compare import p_text
from kmedclf.evaluation.published import protocol_of
from kmedclf.studies.lab import Lab
from kmedclf.studies.section import Figure, Section, Table
from kmedclf.studies.study import Study

DATASET = "bloodmnist"
KERNELS = {"kernel_size": [3, 5, 7], "filters": [8, 16, 32, 64, 128]}

REPORTED = {"mlp": 0.7992, "cnn": 0.9073, "resnet": 0.9547}
"""Test accuracy of each network in the report that is reproduced: one run each."""

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


def perceptron(lab: Lab, mlp: kmedclf.MLPClassifier | None = None) -> Section:
    """Item (a): a multilayer perceptron with one hidden layer."""
    mlp = mlp or kmedclf.MLPClassifier(random_state=lab.seed)
    run = lab.train("mlp", mlp)
    X, y = lab.data.splits["train"]
    names = lab.data.class_names
    labels = {split: one for split, (_, one) in lab.data.splits.items()}
    return Section(
        title="(a) A multilayer perceptron",
        method=(
            f"Pixels in [0, 1], flattened; one hidden layer of {mlp.units} neurons "
            f"({mlp.activation}); softmax. {_training(mlp)}\n\n"
            "These choices won a staged search on BloodMNIST; 'kmedclf search mlp' is one."
        ),
        findings=_findings(run, "mlp", lab),
        tables=[_classes(run)],
        figures=[
            Figure.of(
                "samples", "One image of each class.", plots.samples(X, y, class_names=names)
            ),
            Figure.of(
                "counts",
                "Images of each class and split.",
                plots.class_counts(labels, class_names=names),
            ),
            *_figures(run, "mlp"),
        ],
        pages=_page("mlp"),
    )


def kernels(lab: Lab, grid: dict[str, list[int]] = KERNELS) -> Section:
    """Item (b): how accuracy moves with the number of kernels and their size."""
    cnn = kmedclf.CNNClassifier(
        epochs=50, n_iter_no_change=10, min_epochs=10, random_state=lab.seed
    )
    search = lab.search(cnn, [grid], cv=StratifiedKFold(3), subset=("first", 0.4))
    results = search.cv_results_
    means, stds = results["mean_test_score"], results["std_test_score"]
    found = {
        (one["kernel_size"], one["filters"]): f"{mean:.4f} ± {std:.4f}"
        for one, mean, std in zip(results["params"], means, stds, strict=True)
    }
    sizes, numbers = (sorted({key[i] for key in found}) for i in (0, 1))
    best = int(np.argmax(means))
    words = "{filters} kernels of {kernel_size} pixels".format(**results["params"][best])
    tables = [
        Table(
            "Accuracy over three folds, mean ± standard deviation",
            ["Kernel size", *(f"{n} kernels" for n in numbers)],
            [[f"{size} px", *(found[size, n] for n in numbers)] for size in sizes],
        )
    ]
    if found.keys() <= REPORTED_KERNELS.keys() and not lab.quick:
        tables.append(
            Table(
                "The same in the report that is reproduced, on the whole of BloodMNIST",
                tables[0].head,
                [
                    [f"{size} px", *(f"{REPORTED_KERNELS[size, n]:.4f}" for n in numbers)]
                    for size in sizes
                ],
            )
        )
    chart = plots.effect(results, "filters", by="kernel_size", log_x=True)
    share = "all" if search.subset is None else "the first 40 %"
    return Section(
        title="(b) Number and size of kernels",
        method=(
            "One convolution, ReLU, max-pooling of 2, softmax: every combination of kernel size "
            f"and number of kernels, each in three stratified folds of {share} of the training "
            f"images. {_training(search.estimator)} That validation set is {share} of the "
            "validation split; the folds are only scored."
        ),
        findings=[
            f"The highest mean accuracy, {means[best]:.4f} ± {stds[best]:.4f}, is that of {words}."
        ],
        tables=tables,
        figures=[
            Figure.of("kernels", "Mean and standard deviation of the accuracy over folds.", chart)
        ],
    )


def convolutions(lab: Lab, cnn: kmedclf.CNNClassifier | None = None) -> Section:
    """Item (c): the best simple convolutional network, and five images that it gets wrong."""
    cnn = cnn or kmedclf.CNNClassifier(random_state=lab.seed)
    run = lab.train("cnn", cnn)
    return Section(
        title="(c) The best simple convolutional network",
        method=(
            f"{cnn.filters} kernels of {cnn.kernel_size} pixels, {cnn.activation}, "
            f"{cnn.pooling}-pooling of {cnn.pool_size}, softmax. {_training(cnn)}"
        ),
        findings=_findings(run, "cnn", lab),
        tables=[_classes(run), _mistakes(run)],
        figures=[*_figures(run, "cnn"), *_wrong(run, "cnn", lab)],
        pages=_page("cnn"),
    )


def residual(lab: Lab, resnet: kmedclf.ResNetClassifier | None = None) -> Section:
    """Item (d): a deeper network, and all three compared."""
    resnet = resnet or kmedclf.ResNetClassifier(random_state=lab.seed)
    run = lab.train("resnet", resnet)
    found = {
        "mlp": lab.train("mlp", kmedclf.MLPClassifier(random_state=lab.seed)),
        "cnn": lab.train("cnn", kmedclf.CNNClassifier(random_state=lab.seed)),
        "resnet": run,
    }
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
    order = " < ".join(one.name for one in reversed(comparison.models))
    return Section(
        title="(d) A deeper network, and the comparison",
        method=(
            f"Zero padding of one pixel; {resnet.stem_filters} kernels of "
            f"{resnet.stem_kernel_size} pixels, batch normalisation, ReLU; {resnet.blocks} "
            f"residual blocks of {resnet.layers_per_block} convolutions of 3 × 3, each block "
            "halving the image and doubling the kernels, with a 1 × 1 convolution as shortcut; "
            f"global average pooling; {resnet.dense_units} neurons (ReLU); softmax. "
            f"{_training(resnet)}"
        ),
        findings=[
            *_findings(run, "resnet", lab),
            f"In order of test accuracy: {order}.",
            *_verdicts(comparison),
        ],
        tables=[_classes(run), _mistakes(run)],
        figures=[*_figures(run, "resnet"), *_wrong(run, "resnet", lab)],
        comparison=comparison,
        pages=_page("resnet"),
    )


def _verdicts(comparison: evaluation.Comparison) -> list[str]:
    """Say of every two networks whether the test images tell them apart."""
    return [
        f"{one.first} and {one.second} "
        + ("differ" if one.p_holm < 0.05 else "cannot be told apart on these images")
        + f" (accuracy {one.difference} apart; McNemar's p with Holm's correction: "
        f"{p_text(one.p_holm)})."
        for one in comparison.pairs
    ]


def _training(est: Any) -> str:
    """Say how a network is trained, from its parameters."""
    est = recipes.applied(est)
    turns = "Training images are flipped and turned at random. " if est.augment is not False else ""
    return (
        f"Cross entropy; {est.optimizer} in batches of {est.batch_size}, at most {est.epochs} "
        f"epochs. {turns}Training stops when the validation accuracy has not risen for "
        f"{est.n_iter_no_change} epochs, not before epoch {est.min_epochs}, and ends with the "
        "weights of the best epoch."
    )


def _findings(run: runs.Run, name: str, lab: Lab) -> list[str]:
    report, est = run.reports["test"], run.estimator
    accuracy = report.scores["accuracy"]
    rank = f"{report.rank_counts[:2].sum() / report.n:.3f}"
    lines = [
        f"Test accuracy {accuracy} (95 % bootstrap interval), n = {report.n:,}.",
        f"{est.n_params_:,} trainable parameters; best epoch {est.best_epoch_} of "
        f"{len(est.history_['loss'])}; {run.seconds:.0f} s.",
        f"The true class is the first or second choice for {rank} of the test images.",
    ]
    if lab.data.description["name"] == DATASET:
        lines.append(f"In the report that is reproduced: {REPORTED[name]:.4f}, one run.")
    return lines


def _classes(run: runs.Run) -> Table:
    report = run.reports["test"]
    rows = [[one.name, one.support, one.recall, one.precision] for one in report.per_class]
    return Table("Accuracy of each class", ["Class", "Images", "Accuracy", "Precision"], rows)


def _figures(run: runs.Run, name: str) -> list[Figure]:
    report, est = run.reports["test"], run.estimator
    return [
        Figure.of(f"{name}-network", "The network.", plots.network(est)),
        Figure.of(
            f"{name}-history",
            "Training, with the epoch that was kept.",
            plots.history(est.history_, best_epoch=est.best_epoch_),
        ),
        Figure.of(
            f"{name}-confusion", "Confusion matrix, test images.", plots.confusion_matrix(report)
        ),
    ]


def _wrong(run: runs.Run, name: str, lab: Lab) -> list[Figure]:
    report = run.reports["test"]
    panel = plots.mistakes(report, lab.data.splits["test"][0], n=5)
    return [
        Figure.of(f"{name}-mistakes", "Five mistakes, the surest first.", panel),
        Figure.of(f"{name}-ranks", "Rank of the true class.", plots.ranks(report)),
    ]


def _mistakes(run: runs.Run) -> Table:
    """List five mistakes, the surest first: expected class and estimated probabilities."""
    report = run.reports["test"]
    rows = []
    for i in report.surest_mistakes(5):
        likely = np.argsort(-report.proba[i], kind="stable")[:3]
        chances = ", ".join(f"{report.class_names[k]} {report.proba[i, k]:.3f}" for k in likely)
        rows.append([i, report.class_names[report.true_index[i]], chances, report.ranks[i]])
    head = ["Test image", "Expected", "Estimated probabilities", "Rank of the expected class"]
    return Table("Five mistakes, the surest first", head, rows)


def _page(name: str) -> dict[str, str]:
    return {f"Report page of {name}: all scores, every mistake": f"{name}/report.html"}


STUDY = Study(
    name="blood",
    title="Blood cells: a perceptron, a simple and a deeper convolutional network",
    data=DATASET,
    class_names=datasets.info(DATASET).class_names,
    items=(perceptron, kernels, convolutions, residual),
)
