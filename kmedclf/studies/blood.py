"""Blood cells: the four items of an assignment on BloodMNIST, from a perceptron to a small ResNet.

Set-up, search winners and reference scores come from one report on it; see `REPORTED`.
"""

from __future__ import annotations

import numpy as np
from sklearn.model_selection import StratifiedKFold

import kmedclf
from kmedclf import datasets, evaluation, recipes, runs
from kmedclf.evaluation import plots
from kmedclf.evaluation.compare import p_text
from kmedclf.evaluation.published import protocol_of
from kmedclf.evaluation.wording import count, percent
from kmedclf.studies import words as words_of
from kmedclf.studies.section import Figure, Section, Table
from kmedclf.studies.study import Study, Workspace

DATASET = "bloodmnist"
KERNELS = {"kernel_size": [3, 5, 7], "filters": [8, 16, 32, 64, 128]}

REPORTED = {"mlp": 0.7992, "cnn": 0.9073, "resnet": 0.9547}
"""Test accuracy of each network in the reproduced report, one run each."""

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


def perceptron(lab: Workspace, mlp: kmedclf.MLPClassifier | None = None) -> Section:
    """Item (a): a multilayer perceptron with one hidden layer."""
    run = lab.train("mlp", mlp or kmedclf.MLPClassifier(random_state=lab.seed))
    X, y = lab.data.splits["train"]
    labels = {split: one for split, (_, one) in lab.data.splits.items()}
    occurring, anywhere = (
        lab.data.names_of(np.unique(one).tolist())
        for one in (y, np.concatenate(list(labels.values())))
    )
    used = recipes.parameters(run.estimator)
    pixels = "in [0, 1]" if X.dtype.kind in "uU" else "as they are"
    more = [
        words
        for name, words in (("batch_norm", "batch norm"), ("dropout", f"dropout {used['dropout']}"))
        if used[name]
    ]
    own = lab.results["mlp"]["parameters"].keys() <= {"random_state", "verbose", "image_size"}
    won = "These choices won a staged search on BloodMNIST; 'kmedclf search mlp' is one."
    return Section(
        title="(a) A multilayer perceptron",
        method=(
            f"Pixels {pixels}, flattened; one hidden layer of {used['units']} neurons "
            f"({', '.join([used['activation'], *more])}); softmax. "
            f"{words_of.training(run.estimator, lab.data)}" + (f"\n\n{won}" if own else "")
        ),
        findings=_findings(run, "mlp", lab),
        tables=[_classes(run)],
        figures=[
            Figure.of(
                "samples", "One image of each class.", plots.samples(X, y, class_names=occurring)
            ),
            Figure.of(
                "counts",
                "Images of each class and split.",
                plots.class_counts(labels, class_names=anywhere),
            ),
            *_figures(run, "mlp"),
        ],
        pages=_page("mlp"),
    )


def kernels(lab: Workspace, grid: dict[str, list[int]] = KERNELS) -> Section:
    """Item (b): accuracy by number and size of kernels."""
    cnn = kmedclf.CNNClassifier(
        epochs=50, n_iter_no_change=10, min_epochs=10, random_state=lab.seed
    )
    search = lab.search(cnn, [grid], cv=StratifiedKFold(3), subset=("first", 0.4))
    results = search.cv_results_
    means, stds = results["mean_test_score"], results["std_test_score"]
    found = {
        (one["kernel_size"], one["filters"]): _mean(mean, std)
        for one, mean, std in zip(results["params"], means, stds, strict=True)
    }
    sizes, numbers = (sorted({key[i] for key in found}) for i in (0, 1))
    best = search.best_index_
    words = "{filters} kernels of {kernel_size} pixels".format(**results["params"][best])
    # Several combinations may share the highest mean.
    equal = int(np.sum(means == means[best]))
    folds = f"{search.n_splits_} folds"
    tables = [
        Table(
            f"Accuracy over {folds}, mean ± standard deviation (ddof 0)",
            ["Kernel size", *(f"{n} kernels" for n in numbers)],
            [[f"{size} px", *(found[size, n] for n in numbers)] for size in sizes],
        )
    ]
    # The reported scores are those of the full grid on all images.
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
    share = "all" if search.subset is None else f"the first {percent(search.subset[1])}"
    used = recipes.parameters(search.estimator)
    split = f"The validation images are {share} of the validation split; the folds are only scored."
    return Section(
        title="(b) Number and size of kernels",
        method=(
            f"One convolution, {used['activation']}, {used['pooling']}-pooling of "
            f"{used['pool_size']}, softmax: every combination of kernel size and number of "
            f"kernels, each in {folds}, stratified, of {share} of the training images. "
            f"{words_of.training(search.estimator, lab.data)} "
            + (split if "val" in lab.data.splits else "")
        ).strip(),
        findings=[
            f"The highest mean accuracy, {means[best]:.4f} ± {stds[best]:.4f}, is that of {words}"
            + (f" and of {count(equal - 1, 'other')}." if equal > 1 else ".")
        ],
        tables=tables,
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
            f"{used['filters']} kernels of {used['kernel_size']} pixels, {used['activation']}, "
            f"{used['pooling']}-pooling of {used['pool_size']}, softmax. "
            f"{words_of.training(run.estimator, lab.data)}"
        ),
        findings=_findings(run, "cnn", lab),
        tables=[_classes(run), *_mistakes(run)],
        figures=[*_figures(run, "cnn"), *_wrong(run, "cnn", lab)],
        pages=_page("cnn"),
    )


def residual(lab: Workspace, resnet: kmedclf.ResNetClassifier | None = None) -> Section:
    """Item (d): a deeper network, and a comparison of all three."""
    run = lab.train("resnet", resnet or kmedclf.ResNetClassifier(random_state=lab.seed))
    used = recipes.applied(run.estimator)
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
    order = _order([(one.name, one.scores["accuracy"].value) for one in comparison.models])
    return Section(
        title="(d) A deeper network, and the comparison",
        method=(
            f"Zero padding of one pixel; {used.stem_filters} kernels of "
            f"{used.stem_kernel_size} pixels, batch normalisation, ReLU; {used.blocks} "
            f"residual blocks of {used.layers_per_block} convolutions of 3 × 3, each block "
            "halving the image and doubling the kernels, with a 1 × 1 convolution as shortcut; "
            f"global average pooling; {used.dense_units} neurons (ReLU); softmax. "
            f"{words_of.training(run.estimator, lab.data)}"
        ),
        findings=[
            *_findings(run, "resnet", lab),
            f"In order of test accuracy: {order}.",
            *_verdicts(comparison),
        ],
        tables=[_classes(run), *_mistakes(run)],
        figures=[*_figures(run, "resnet"), *_wrong(run, "resnet", lab)],
        comparison=comparison,
        pages=_page("resnet"),
    )


def _verdicts(comparison: evaluation.Comparison) -> list[str]:
    """Say for every pair of networks whether the test set shows a difference."""
    return [
        f"{one.first} and {one.second} "
        + ("differ" if one.p_holm < 0.05 else "cannot be told apart on these images")
        + f" (accuracy {one.difference} apart; McNemar's p with Holm's correction: "
        f"{p_text(one.p_holm)})."
        for one in comparison.pairs
    ]


def _mean(mean: float, std: float) -> str:
    return f"{mean:.4f} ± {std:.4f}" if np.isfinite(mean) else "failed"


def _order(found: list[tuple[str, float | None]]) -> str:
    """Join names with "<", or "=" for ties, the best one last."""
    text, before = "", None
    for name, value in reversed(found):
        text += f" {'=' if value == before else '<'} {name}" if text else name
        before = value
    return text


def _findings(run: runs.Run, name: str, lab: Workspace) -> list[str]:
    report, est = run.reports["test"], run.estimator
    accuracy = report.scores["accuracy"]
    rank = f"{report.rank_counts[:2].sum() / report.n:.3f}"
    lines = [
        f"Test accuracy {accuracy}"
        + ("" if accuracy.low is None else f" ({percent(report.confidence)} interval)")
        + f", n = {report.n:,}.",
        *report.warnings,
        f"{est.n_params_:,} trainable parameters; {words_of.epochs(est)}; {run.seconds:.0f} s.",
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
            f"Training: {words_of.epochs(est)}.",
            plots.history(est.history_, best_epoch=est.best_epoch_),
        ),
        Figure.of(
            f"{name}-confusion", "Confusion matrix, test images.", plots.confusion_matrix(report)
        ),
    ]


def _wrong(run: runs.Run, name: str, lab: Workspace) -> list[Figure]:
    report = run.reports["test"]
    ranks = Figure.of(f"{name}-ranks", "Rank of the true class.", plots.ranks(report))
    if report.right.all():
        return [ranks]
    panel = plots.mistakes(report, lab.data.splits["test"][0], n=5)
    return [Figure.of(f"{name}-mistakes", f"{_how_many(report)}.", panel), ranks]


def _how_many(report: evaluation.Report) -> str:
    """Say which mistakes are shown."""
    wrong = int(np.sum(~report.right))
    numbers = ("The one mistake", "Both mistakes", "All three mistakes", "All four mistakes")
    return f"{(*numbers, 'Five mistakes')[min(wrong, 5) - 1]}, the surest first"


def _mistakes(run: runs.Run) -> list[Table]:
    """List up to five mistakes: expected class and predicted probabilities."""
    report = run.reports["test"]
    if report.right.all():
        return []
    rows = []
    for i in report.surest_mistakes(5):
        likely = np.argsort(-report.proba[i], kind="stable")[:3]
        chances = ", ".join(f"{report.class_names[k]} {report.proba[i, k]:.3f}" for k in likely)
        rows.append([i, report.class_names[report.true_index[i]], chances, report.ranks[i]])
    head = ["Test image", "Expected", "Estimated probabilities", "Rank of the expected class"]
    return [Table(_how_many(report), head, rows)]


def _page(name: str) -> dict[str, str]:
    return {f"Report page of {name}: all scores, every mistake": f"{name}/report.html"}


STUDY = Study(
    name="blood",
    title="Blood cells: a perceptron, a simple and a deeper convolutional network",
    data=DATASET,
    class_names=datasets.info(DATASET).class_names,
    items=(perceptron, kernels, convolutions, residual),
)
