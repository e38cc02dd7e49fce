"""`kmedclf.evaluation.plots`: what is drawn, and that nothing else changes."""

import inspect

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from kmedclf import CNNClassifier, ResNetClassifier
from kmedclf.datasets import make_blood_cells
from kmedclf.evaluation import compare, evaluate_predictions, plots
from kmedclf.evaluation.plots.images import picture
from kmedclf.pages.gallery import shrunk

mpl.use("agg")
WEIRD = ["a $x$", 'b"<', "żółć", "d_{i}^2", "e" * 60]
HISTORY = {"accuracy": [0.2, 0.5], "loss": [2.0, 1.0], "val_accuracy": [0.3, 0.4],
           "val_loss": [1.9, 1.2]}  # fmt: skip


def report_of(k=5, n=200, names=None, **options):
    generator = np.random.default_rng(0)
    y, logits = generator.integers(k, size=n), generator.normal(size=(n, k))
    logits[np.arange(n), y] += 1.5
    proba = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return evaluate_predictions(y, proba, class_names=names, n_bootstrap=30, **options)


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def cnn():
    X, y = make_blood_cells(40, random_state=0)
    return CNNClassifier(filters=2, epochs=1, early_stopping=False, random_state=0).fit(X, y)


REPORT = report_of(names=WEIRD)
X = np.random.default_rng(0).integers(0, 256, (200, 8, 8, 3), dtype=np.uint8)
LABELS = {"train": np.arange(50) % 5, "test": np.arange(20) % 5}
CV = {
    "param_filters": np.ma.array([8, 8, 16, 16]),
    "param_kernel_size": np.ma.array([3, 5, 3, 5]),
    "split0_test_score": np.array([0.1, 0.2, 0.3, 0.4]),
    "split1_test_score": np.array([0.3, 0.4, 0.5, np.nan]),
}
CHARTS = {
    "accuracies": lambda ax: plots.accuracies(
        compare({"a": REPORT, "b": REPORT}, dataset="bloodmnist"), ax=ax
    ),
    "class_counts": lambda ax: plots.class_counts(LABELS, class_names=WEIRD, ax=ax),
    "confidence": lambda ax: plots.confidence(REPORT, ax=ax),
    "confusion_matrix": lambda ax: plots.confusion_matrix(REPORT, ax=ax),
    "effect": lambda ax: plots.effect(CV, "filters", by="kernel_size", log_x=True, ax=ax),
    "per_class": lambda ax: plots.per_class(REPORT, ax=ax),
    "precision_recall": lambda ax: plots.precision_recall(REPORT, ax=ax),
    "ranks": lambda ax: plots.ranks(REPORT, ax=ax),
    "reliability": lambda ax: plots.reliability(REPORT, ax=ax),
    "roc": lambda ax: plots.roc(REPORT, ax=ax),
    "mean_roc": lambda ax: plots.mean_roc(compare({"a": REPORT, "b_$": REPORT}), ax=ax),
    "learning_curve": lambda ax: plots.learning_curve(HISTORY, "loss", best_epoch=2, ax=ax),
}
PANELS = {
    "class_weights": lambda fig: plots.class_weights(
        LABELS["train"], np.ones(5), class_names=WEIRD, fig=fig
    ),
    "folds": lambda fig: plots.folds([HISTORY, HISTORY], fig=fig),
    "history": lambda fig: plots.history(HISTORY, best_epoch=2, fig=fig),
    "mistakes": lambda fig: plots.mistakes(REPORT, X, fig=fig),
    "small_multiples": lambda fig: plots.small_multiples(
        [HISTORY] * 7, names=["a", "a very long title of a training", *"cdefg"], fig=fig
    ),
    "samples": lambda fig: plots.samples(X, REPORT.true_index, class_names=WEIRD, fig=fig),
}
OF_MODELS = {"network"}
IN_TEST_GRADCAM = {"explanations", "gradcam", "gradcam_map"}


def test_every_figure_is_tested():
    assert set(CHARTS) | set(PANELS) | OF_MODELS | IN_TEST_GRADCAM == set(plots.__all__)


@pytest.mark.parametrize("name", CHARTS)
def test_charts_draw_where_they_are_told(name):
    fig, ax = plt.subplots()
    assert CHARTS[name](ax) is ax
    assert len(plt.get_fignums()) == 1
    assert isinstance(CHARTS[name](None), Axes)
    fig.canvas.draw()  # names that look like formulas would fail here


@pytest.mark.parametrize("name", PANELS)
def test_panels_draw_where_they_are_told(name):
    fig = plt.figure(layout="constrained")
    part = fig.subfigures(1, 2)[0]
    assert PANELS[name](part) is part
    assert isinstance(PANELS[name](None), Figure)
    fig.canvas.draw()


@pytest.mark.parametrize("name", [*CHARTS, *PANELS])
def test_the_users_style_stays_as_it_is(name):
    """Neither do we change rcParams, nor does a style of the user's change our figures."""
    draw = {**CHARTS, **PANELS}[name]

    def pixels():
        drawn = draw(None)
        figure = drawn if isinstance(drawn, Figure) else drawn.figure
        figure.canvas.draw()
        return np.asarray(figure.canvas.buffer_rgba()).copy()

    plain = pixels()
    with mpl.rc_context({"lines.linewidth": 9, "axes.facecolor": "black", "font.size": 30}):
        before = dict(mpl.rcParams)
        np.testing.assert_array_equal(pixels(), plain)
        assert dict(mpl.rcParams) == before


def test_every_function_documents_its_parameters():
    for name in plots.__all__:
        function = getattr(plots, name)
        for parameter in inspect.signature(function).parameters:
            assert parameter in function.__doc__.partition("Returns")[0], (name, parameter)


def test_effect_draws_means_and_spreads_over_folds():
    ax = plots.effect(CV, "filters")
    line = ax.lines[0]
    assert line.get_xdata().tolist() == [8, 16]
    first, second = [0.1, 0.3, 0.2, 0.4], [0.3, 0.5, 0.4]  # a fold that failed is left out
    assert line.get_ydata().tolist() == pytest.approx([np.mean(first), np.mean(second)])
    (bars,) = ax.containers[0][2]
    lengths = [np.ptp(segment[:, 1]) / 2 for segment in bars.get_segments()]
    assert lengths == pytest.approx([np.std(first), np.std(second)])


def test_effect_reads_a_search_over_a_pipeline():
    generator = np.random.default_rng(0)
    data, y = generator.normal(size=(60, 3)), np.arange(60) % 2
    pipeline = make_pipeline(StandardScaler(), LogisticRegression())
    grid = {"logisticregression__C": [0.1, 10.0], "logisticregression__solver": ["lbfgs", "saga"]}
    search = GridSearchCV(pipeline, grid, cv=3).fit(data, y)
    assert plots.effect(search.cv_results_, "C", log_x=True).get_xlabel() == "C"
    ax = plots.effect(search.cv_results_, "solver", by="C")
    assert [text.get_text() for text in ax.get_xticklabels()] == ["lbfgs", "saga"]
    with pytest.raises(ValueError, match="must be one that was searched, logisticregression__C,"):
        plots.effect(search.cv_results_, "filters")


def test_ranks_are_shares_of_all_images():
    ax = plots.ranks(REPORT)
    shares = [bar.get_height() for bar in ax.patches]
    assert shares == pytest.approx((REPORT.rank_counts[1:] / REPORT.n).tolist())


def test_confusion_matrix_shows_counts_and_shares():
    ax = plots.confusion_matrix(REPORT)
    texts = [text.get_text() for text in ax.texts]
    counts = [str(count) for count in REPORT.confusion.ravel() if count]
    assert texts[::2] == counts
    rates = REPORT.confusion / REPORT.confusion.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(ax.images[0].get_array(), rates)


def test_history_marks_the_best_epoch():
    figure = plots.history(HISTORY, best_epoch=2)
    labels = [text.get_text() for ax in figure.axes for text in ax.get_legend().get_texts()]
    assert "best epoch 2: 0.400" in labels
    assert "best epoch 2: 1.200" in labels
    plots.history({"accuracy": [0.1], "loss": [1.0]}, best_epoch=1)  # without validation


@pytest.mark.parametrize(("first", "scale"), [(2.0, "linear"), (4000.0, "log")])
def test_one_bad_start_hides_no_other_loss(first, scale):
    histories = [{"accuracy": [0.1] * 4, "loss": [one, 1.4, 1.2, 0.0]} for one in (1.5, first)]
    assert plots.folds(histories).axes[1].get_yscale() == scale


def test_mistakes_are_the_surest_ones():
    figure = plots.mistakes(REPORT, X, n=3)
    sure = np.where(REPORT.right, 0, REPORT.proba.max(axis=1))
    titles = [ax.get_title("left") for ax in figure.axes[1::2]]
    for title, index in zip(titles, np.argsort(-sure, kind="stable")[:3], strict=True):
        assert title.startswith(f"image {index}: ")
        assert title.endswith(f"rank {REPORT.ranks[index]} of {len(REPORT.classes)}")
    perfect = evaluate_predictions([0, 1], [[0.9, 0.1], [0.2, 0.8]], n_bootstrap=0)
    assert "No image" in plots.mistakes(perfect, X[:2]).texts[0].get_text()


@pytest.mark.parametrize("k", [2, 30, 100])
def test_any_number_of_classes(k):
    report = report_of(k=k, n=300)
    for draw in (plots.confusion_matrix, plots.per_class, plots.ranks, plots.roc,
                 plots.precision_recall, plots.reliability):  # fmt: skip
        draw(report).figure.canvas.draw()


def test_one_image_and_absent_classes():
    report = evaluate_predictions([0], [[0.6, 0.3, 0.1]])
    for draw in (plots.confusion_matrix, plots.per_class, plots.ranks, plots.reliability):
        draw(report).figure.canvas.draw()
    assert "undefined" in [text.get_text() for text in plots.per_class(report).texts]
    with pytest.raises(ValueError, match="Curves must have images of two classes"):
        plots.roc(report)


def test_diagram_names_layers_shapes_and_parameters(cnn):
    texts = [text.get_text() for text in plots.network(cnn).texts]
    # the order of the assignment, although bias and activation are computed behind the pooling
    assert "conv 3×3, 2 · relu" in texts
    assert "26 × 26 × 2    56 parameters" in texts
    assert "max-pool 2×2 · flatten" in texts
    assert "338" in texts
    assert "dense 8 · softmax" in texts


def test_diagram_of_a_network_with_shortcuts():
    data, y = make_blood_cells(16, random_state=0)
    options = {"stem_filters": 2, "epochs": 1, "early_stopping": False, "random_state": 0}
    model = ResNetClassifier(**options).fit(data, y)
    ax = plots.network(model.model_)
    texts = [text.get_text() for text in ax.texts]
    assert texts.count("sum · relu") == 2
    assert any("conv 1×1" in text for text in texts)
    arrows = [text for text in ax.texts if not text.get_text()]
    boxes = len(ax.patches)
    assert len(arrows) == boxes - 1 + 2  # each of the two sums has one way in more
    total = model.n_params_ + model.n_non_trainable_params_
    found = [text.split("    ")[1] for text in texts if text.endswith(" parameters")]
    assert sum(int(one.split()[0].replace(",", "")) for one in found) == total


@pytest.mark.parametrize(
    "image",
    [
        X[0],
        X[0, ..., 0],
        X[0, ..., :1],
        X[0].ravel(),
        X[0, ..., 0].ravel(),
        X[0] / 255,
        X[0] / 10.0 - 5,
        X[0].astype(np.uint16) * 257,
        X[0] > 100,
    ],
)
def test_any_image_becomes_a_picture(image):
    made = picture(image)
    assert made.shape == (8, 8, 3)
    assert made.dtype == np.uint8
    assert made.max() > 200
    assert shrunk(image, 4).size == (4, 4)


def test_files_and_flat_images_of_a_given_shape(tmp_path):
    path = tmp_path / "one.png"
    Image.fromarray(X[0]).save(path)
    np.testing.assert_array_equal(picture(path), X[0])
    np.testing.assert_array_equal(picture(str(path)), X[0])
    assert picture(X[0].ravel(), (4, 16, 3)).shape == (4, 16, 3)
    assert picture(X[0].ravel()[:7]).shape == (1, 7, 3)
